// SPDX-License-Identifier: MIT

// go_tail.go - Go's open loop: the jobs of work.h, the same ones, handed in at the same times.
//
// At its best: a processor for each server and one for who hands in, which has a thread of its own and
// sleeps in the kernel, since Go's timers are a millisecond coarse.
package main

import (
	"math"
	"runtime"
	"syscall"
	"unsafe"
)

const ( // as in work.h
	jobNs     = 1000
	longNs    = 1000000
	longEvery = 100
	jobs      = 60000
	mixedJobs = 15000
	leadNs    = 2000000
	handInNs  = 50000
)

const sysSchedSetattr = 314 // x86-64

type load struct {
	servers int
	mixed   bool
}

type job struct{ due, handed, ns, sojourn int64 }

func random(x *uint64) uint64 {
	*x ^= *x << 13
	*x ^= *x >> 7
	*x ^= *x << 17
	return *x
}

func schedule(percent int, l load) []job {
	all, mean := make([]job, jobs), float64(jobNs)
	if l.mixed {
		all, mean = make([]job, mixedJobs), jobNs+(longNs-jobNs)/longEvery
	}
	gap := mean * 100 / float64(percent*l.servers)
	at := float64(now() + leadNs)
	x := uint64(88172645463325252)
	for i := range all {
		j := &all[i]
		at -= gap * math.Log((float64(random(&x)>>11)+0.5)*0x1p-53)
		j.due = int64(at)
		j.handed, j.ns = j.due, jobNs
		if l.mixed && random(&x)%longEvery == 0 {
			j.ns = longNs
		}
		if l.servers > 1 {
			j.handed += handInNs - j.due%handInNs
		}
	}
	return all
}

// As work_begin.
func bePrompt() {
	nice, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0) // the system call's: 20 - nice
	a := struct {
		size, policy            uint32
		flags                   uint64
		nice                    int32
		priority                uint32
		slice, deadline, period uint64
	}{size: 48, nice: int32(20 - nice), slice: 100000}
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, 1, 0)
	_, _, _ = syscall.RawSyscall(sysSchedSetattr, 0, uintptr(unsafe.Pointer(&a)), 0)
}

// Goroutines cannot be bound to the other one, but nobody else spins there.
func takeFirstProcessor() {
	var mask [16]uint64
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
	for i, word := range mask {
		mask[i] = 0
		if word != 0 {
			mask = [16]uint64{}
			mask[i] = word & -word
			break
		}
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
}

func await(j *job, sleeps bool) {
	for left := j.handed - now(); left > 0; left = j.handed - now() {
		if sleeps {
			pause := syscall.NsecToTimespec(left)
			_ = syscall.Nanosleep(&pause, nil) // a signal ends it early: the loop goes on
		}
	}
}

func do(j *job) {
	end := now() + j.ns
	for now() < end {
	}
	j.sojourn = now() - j.due
}

func tail(p *peer, l load) {
	runtime.GOMAXPROCS(l.servers + 1)
	runtime.LockOSThread()
	queue, over := make(chan *job, 65536), make(chan bool)
	all := schedule(p.size, l)
	start := now()
	for i := 0; i < l.servers; i++ {
		go func() {
			for j := range queue {
				do(j)
			}
			over <- true
		}()
	}
	if l.servers > 1 {
		bePrompt()
	} else {
		takeFirstProcessor()
	}
	for i := range all {
		await(&all[i], l.servers > 1)
		queue <- &all[i]
	}
	close(queue)
	for i := 0; i < l.servers; i++ {
		<-over
	}
	p.ns = now() - start
	counted := make([]int64, 0, len(all))
	for _, j := range all[len(all)/10:] {
		counted = append(counted, j.sojourn)
	}
	p.figure = median(counted)
	p.p99 = float64(counted[len(counted)*99/100])
	p.p999 = float64(counted[len(counted)*999/1000])
}
