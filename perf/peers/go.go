// SPDX-License-Identifier: MIT

// go.go - Go: goroutines, channels, WaitGroups, panic and recover.
//
// At its best: as many processors (GOMAXPROCS) as the row has workers, the collector at four times
// the default distance, no timer or lock of ours in the way. Go cannot bind a goroutine to a
// processor, and a wake-up within a processor is no wake-up: for wake/parked each side is locked to a
// thread of its own. There is no polling mode, so no wake/polling.
//
// Command line and output as in peer.h.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	batch     = 1000
	fibCalls  = 7049155 // of fib, to compute fib(32)
	jobNs     = 1000    // from here to lead: as in work.h
	jobs      = 60000
	warm      = 6000
	leadNs    = 2000000
	parked    = 100000
	stackHeld = 10000
)

// A call of a row, as struct peer.
type peer struct {
	n, done   uint64
	size      int
	ns        int64
	figure    float64
	p99, p999 float64
}

type row struct {
	name string
	run  func(p *peer)
	n    uint64
}

var began = time.Now()

func now() int64 { return int64(time.Since(began)) }

func median(sample []int64) float64 {
	sort.Slice(sample, func(i, j int) bool { return sample[i] < sample[j] })
	return float64(sample[len(sample)/2])
}

// ---------------------------------------------------------------------------- spawn and yield

func spawnAndJoin(p *peer, each uint64, processors int) {
	runtime.GOMAXPROCS(processors)
	rounds := (p.n + each - 1) / each
	start := now()
	for i := uint64(0); i < rounds; i++ {
		var all sync.WaitGroup
		all.Add(int(each))
		for j := uint64(0); j < each; j++ {
			go all.Done()
		}
		all.Wait()
	}
	p.ns = now() - start
	p.done = rounds * each
}

func spawn(p *peer)  { spawnAndJoin(p, batch, p.size) }
func fanOut(p *peer) { spawnAndJoin(p, uint64(p.size), 1) }

func fib(n int) int {
	if n < 2 {
		return n
	}
	var left int
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		left = fib(n - 1)
		done.Done()
	}()
	right := fib(n - 2)
	done.Wait()
	return left + right
}

func forkJoin(p *peer) {
	runtime.GOMAXPROCS(p.size)
	start := now()
	if fib(32) != 2178309 {
		panic("fib(32) came out wrong")
	}
	p.ns = now() - start
}

func yield(p *peer) {
	runtime.GOMAXPROCS(1)
	fibers := uint64(p.size)
	rounds := p.n/fibers + 1
	var all sync.WaitGroup
	var arrived, ended uint64 // one processor, and no preemption between two of these
	var start int64
	all.Add(p.size)
	for i := 0; i < p.size; i++ {
		go func() {
			arrived++
			if arrived == fibers {
				start = now()
			}
			for arrived < fibers {
				runtime.Gosched()
			}
			for j := uint64(0); j < rounds; j++ {
				runtime.Gosched()
			}
			ended++
			if ended == fibers {
				p.ns = now() - start
			}
			all.Done()
		}()
	}
	all.Wait()
	p.done = rounds * fibers
}

// ----------------------------------------------------------------------------- there and back

func pingPong(p *peer) {
	runtime.GOMAXPROCS(2)
	ping, pong := make(chan int), make(chan int)
	sample := make([]int64, p.n)
	over := make(chan bool)
	go func() {
		runtime.LockOSThread()
		for ball := range ping {
			pong <- ball
		}
	}()
	go func() {
		runtime.LockOSThread()
		start := now()
		before := start
		for i := range sample {
			ping <- i
			<-pong
			after := now()
			sample[i] = after - before
			before = after
		}
		p.ns = before - start
		close(ping)
		over <- true
	}()
	<-over
	p.figure = median(sample)
}

// ------------------------------------------------------------------------------- from outside

func submit(p *peer) {
	runtime.GOMAXPROCS(2)
	queue := make(chan func(), 1024)
	each := p.n/2 + 1
	var producers, workers sync.WaitGroup
	start := now()
	workers.Add(p.size)
	for i := 0; i < p.size; i++ {
		go func() {
			for job := range queue {
				job()
			}
			workers.Done()
		}()
	}
	producers.Add(2)
	for i := 0; i < 2; i++ {
		go func() {
			for j := uint64(0); j < each; j++ {
				queue <- func() {}
			}
			producers.Done()
		}()
	}
	producers.Wait()
	close(queue)
	workers.Wait()
	p.ns = now() - start
	p.done = each * 2
}

// ---------------------------------------------------------------------------------- open loop

type job struct{ due, sojourn int64 }

func schedule(percent int) []job {
	all := make([]job, jobs)
	at, gap := float64(now()+leadNs), jobNs*100.0/float64(percent)
	x := uint64(88172645463325252) // xorshift64, as in work.h
	for i := range all {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		at -= gap * math.Log((float64(x>>11)+0.5)*0x1p-53)
		all[i].due = int64(at)
	}
	return all
}

func do(j *job) {
	end := now() + jobNs
	for now() < end {
	}
	j.sojourn = now() - j.due
}

func tail(p *peer) {
	runtime.GOMAXPROCS(2)
	queue := make(chan func(), 65536)
	all := schedule(p.size)
	over := make(chan bool)
	start := now()
	go func() {
		for f := range queue {
			f()
		}
		over <- true
	}()
	for i := range all {
		mine := &all[i]
		for now() < mine.due {
		}
		queue <- func() { do(mine) }
	}
	close(queue)
	<-over
	p.ns = now() - start
	counted := make([]int64, 0, jobs-warm)
	for _, j := range all[warm:] {
		counted = append(counted, j.sojourn)
	}
	p.figure = median(counted)
	p.p99 = float64(counted[len(counted)*99/100])
	p.p999 = float64(counted[len(counted)*999/1000])
}

// ------------------------------------------------------------------------------------- memory

// Resident memory and page tables, bytes.
func memory() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	sum := 0.0
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			kb, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			sum += kb * 1024
		}
	}
	return sum
}

func park(p *peer, bytes bool) {
	runtime.GOMAXPROCS(1)
	gate := make(chan bool)
	var arrived, all sync.WaitGroup
	arrived.Add(int(p.n))
	all.Add(int(p.n))
	before := memory()
	start := now()
	for i := uint64(0); i < p.n; i++ {
		go func() {
			arrived.Done()
			<-gate
			all.Done()
		}()
	}
	arrived.Wait()
	p.ns = now() - start
	if bytes {
		p.figure = (memory() - before) / float64(p.n)
	}
	close(gate)
	all.Wait()
}

func weigh(p *peer)   { park(p, true) }
func makeNew(p *peer) { park(p, false) }

// -------------------------------------------------------------------------------------- panic

var held int

//go:noinline
func goDown(frames int) {
	if frames > 1 {
		goDown(frames - 1)
	} else {
		panic("the bottom is reached")
	}
	held++
}

//go:noinline
func goDownTidily(frames int) {
	defer func() { held-- }()
	if frames > 1 {
		goDownTidily(frames - 1)
	} else {
		panic("the bottom is reached")
	}
	held++
}

//go:noinline
func catch(down func(int), frames int) {
	defer func() { _ = recover() }()
	down(frames)
}

func fall(p *peer, down func(int)) {
	runtime.GOMAXPROCS(1)
	start := now()
	for i := uint64(0); i < p.n; i++ {
		catch(down, p.size)
	}
	p.ns = now() - start
}

func fallBare(p *peer)   { fall(p, goDown) }
func fallTidily(p *peer) { fall(p, goDownTidily) }

// ------------------------------------------------------------------------------- command line

var rows = []row{
	{"spawn/#", spawn, 0},
	{"fanout/#", fanOut, 0},
	{"fib/#", forkJoin, fibCalls},
	{"yield/#", yield, 0},
	{"wake/parked", pingPong, 0},
	{"submit/#", submit, 0},
	{"tail/#", tail, jobs},
	{"memory/parked", weigh, parked},
	{"memory/cold", makeNew, stackHeld},
	{"panic/#", fallBare, 0},
	{"panic/#/cleanup", fallTidily, 0},
}

func find(name string) (*row, int) {
	for i := range rows {
		before, after, hash := strings.Cut(rows[i].name, "#")
		if !hash && rows[i].name == name {
			return &rows[i], 0
		}
		if !hash || !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after) ||
			len(name) < len(before)+len(after) {
			continue
		}
		size, err := strconv.Atoi(name[len(before) : len(name)-len(after)])
		if err == nil && size > 0 {
			return &rows[i], size
		}
	}
	return nil, 0
}

func measure(r *row, size int, n uint64, ns int64) peer {
	units := n
	if units == 0 {
		units = 1
	}
	for {
		p := peer{n: units, done: units, size: size}
		r.run(&p)
		if n != 0 || p.ns >= ns {
			return p
		}
		if p.ns < ns/10 {
			units *= 8
		} else {
			units *= 2
		}
	}
}

func main() {
	name := flag.String("row", "", "")
	ms := flag.Int64("ms", 100, "")
	n := flag.Uint64("n", 0, "")
	list := flag.Bool("rows", false, "")
	flag.Parse()
	if *list {
		for _, r := range rows {
			fmt.Println(r.name)
		}
		return
	}
	r, size := find(*name)
	if r == nil {
		fmt.Fprintln(os.Stderr, "no such row; see --rows")
		os.Exit(2)
	}
	if *n == 0 {
		*n = r.n
	}
	debug.SetGCPercent(400)
	p := measure(r, size, *n, *ms*1000000)
	if p.figure == 0 {
		p.figure = float64(p.ns) / float64(p.done)
	}
	fmt.Printf("%s %.6g\n", *name, p.figure)
	if p.p99 > 0 {
		fmt.Printf("%s/p99 %.6g\n%s/p999 %.6g\n", *name, p.p99, *name, p.p999)
	}
}
