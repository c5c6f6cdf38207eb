// SPDX-License-Identifier: MIT

// go_frame.go - the frame of Go's driver: rows, command line, clock. As peer.h.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"time"
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

// ------------------------------------------------------------------------------- command line

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
