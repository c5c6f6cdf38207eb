// SPDX-License-Identifier: MIT

// go.go - Go: goroutines, channels, WaitGroups, panic and recover.
//
// At its best: as many processors (GOMAXPROCS) as the row has workers, the collector at four times
// the default distance, no timer or lock of ours in the way. Go cannot bind a goroutine to a
// processor, and a wake-up within a processor is no wake-up: for wake/parked each side is locked to a
// thread of its own. There is no polling mode, so no wake/polling.
//
// Command line and output as in peer.h. The open loop is in go_tail.go.
package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	batch     = 1000
	fibCalls  = 7049155 // of fib, to compute fib(32)
	parked    = 100000
	stackHeld = 10000
)

// ---------------------------------------------------------------------------- spawn and yield

func spawnAndJoin(p *peer, each uint64, processors int) {
	runtime.GOMAXPROCS(processors)
	rounds := (p.n + each - 1) / each
	start := int64(0)
	for i := uint64(0); i <= rounds; i++ {
		if i == 1 { // the first round makes the stacks
			start = now()
		}
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

// The greatest fib of at most n calls, which are 2 * fib(k + 1) - 1.
func forkJoin(p *peer) {
	runtime.GOMAXPROCS(p.size)
	k, is, next := 1, 1, 1
	for uint64(2*(is+next)-1) <= p.n {
		k, is, next = k+1, next, is+next
	}
	start := now()
	if fib(k) != is {
		panic("fib came out wrong")
	}
	p.ns = now() - start
	p.done = uint64(2*next - 1)
}

func goDeeper(levels int) {
	if levels <= 1 {
		return
	}
	var below sync.WaitGroup
	below.Add(1)
	go func() {
		goDeeper(levels - 1)
		below.Done()
	}()
	below.Wait()
}

func depth(p *peer) {
	runtime.GOMAXPROCS(1)
	goDeeper(p.size)
	times := p.n/uint64(p.size) + 1
	start := now()
	for i := uint64(0); i < times; i++ {
		goDeeper(p.size)
	}
	p.ns = now() - start
	p.done = times * uint64(p.size)
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

// -------------------------------------------------------------------------- from hand to hand

// As in handoff_perf.c: on one worker a pair of goroutines, on more four pairs.
func pairs(processors int) uint64 {
	if processors < 2 {
		return 1
	}
	return 4
}

func handMutex(p *peer) {
	runtime.GOMAXPROCS(p.size)
	crowd := 2 * pairs(p.size)
	turns := p.n/crowd + 1
	var all sync.WaitGroup
	var mutex sync.Mutex
	all.Add(int(crowd))
	start := now()
	for i := uint64(0); i < crowd; i++ {
		go func() {
			for j := uint64(0); j < turns; j++ {
				mutex.Lock()
				runtime.Gosched()
				mutex.Unlock()
			}
			all.Done()
		}()
	}
	all.Wait()
	p.ns = now() - start
	p.done = turns * crowd
}

func handChannel(p *peer) {
	runtime.GOMAXPROCS(p.size)
	turns := p.n/pairs(p.size) + 1
	room := 1
	if p.size > 1 {
		room = 128
	}
	queue := make(chan uint64, room)
	var all sync.WaitGroup
	all.Add(int(2 * pairs(p.size)))
	start := now()
	for i := uint64(0); i < pairs(p.size); i++ {
		go func() {
			for j := uint64(0); j < turns; j++ {
				queue <- j
			}
			all.Done()
		}()
		go func() {
			for j := uint64(0); j < turns; j++ {
				<-queue
			}
			all.Done()
		}()
	}
	all.Wait()
	p.ns = now() - start
	p.done = turns * pairs(p.size)
}

// -------------------------------------------------------------------------------------- timers

var armed []*time.Timer

// As in timer_perf.c.
func rearm(p *peer) {
	runtime.GOMAXPROCS(1)
	x := uint64(88172645463325252)
	hours := func() time.Duration {
		return time.Hour + time.Duration(random(&x)%uint64(time.Hour))
	}
	for len(armed) < 1000000 {
		armed = append(armed, time.AfterFunc(hours(), func() {}))
	}
	start := now()
	for i := uint64(0); i < p.n; i++ {
		armed[random(&x)%uint64(len(armed))].Reset(hours())
	}
	p.ns = now() - start
}

func oversleep(p *peer) {
	runtime.GOMAXPROCS(1)
	late := make([]int64, p.n)
	start := now()
	for i := range late {
		deadline := now() + 200000
		time.Sleep(200 * time.Microsecond)
		late[i] = now() - deadline
	}
	p.ns = now() - start
	p99 := []int64{} // of parts of 200, as in timer_perf.c
	for part := late; len(part) >= 200; part = part[200:] {
		median(part[:200]) // sorts them
		p99 = append(p99, part[198])
	}
	p.figure = median(late)
	p.p99, p.p999 = median(p99), float64(late[len(late)*999/1000])
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

func nothing(int) {}

var called = nothing // not known to the compiler where it is called

func guardedCalls(p *peer) {
	runtime.GOMAXPROCS(1)
	start := now()
	for i := uint64(0); i < p.n; i++ {
		catch(called, 0)
	}
	p.ns = now() - start
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

var rows = []row{
	{"spawn/#", spawn, 0},
	{"fanout/#", fanOut, 0},
	{"fib/#", forkJoin, fibCalls},
	{"yield/#", yield, 1000000},
	{"depth/#", depth, 0},
	{"wake/parked", pingPong, 0},
	{"handoff/mutex/#", handMutex, 0},
	{"handoff/channel/#", handChannel, 0},
	{"timer/rearm", rearm, 1000000},
	{"timer/late", oversleep, 1000},
	{"submit/#", submit, 0},
	{"tail/#", func(p *peer) { tail(p, load{1, false}) }, jobs},
	{"tail/2/#", func(p *peer) { tail(p, load{2, false}) }, jobs},
	{"tail/mixed/#", func(p *peer) { tail(p, load{1, true}) }, mixedJobs},
	{"tail/mixed/2/#", func(p *peer) { tail(p, load{2, true}) }, mixedJobs},
	{"memory/parked", weigh, parked},
	{"memory/cold", makeNew, stackHeld},
	{"happy/try", guardedCalls, 0},
	{"panic/#", fallBare, 0},
	{"panic/#/cleanup", fallTidily, 0},
}
