/* SPDX-License-Identifier: MIT */
/*
 * system.h - included before every instrumented file: the system calls and the pause of spin loops
 * become the machine's. The headers that declare them come first, so only uses are renamed. What the
 * library does a number of times for speed is done once.
 */
#ifndef EXPLORE_SYSTEM_H
#define EXPLORE_SYSTEM_H

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch.h"
#include "operations.h"

#define syscall explore_syscall
#define mmap explore_map
#define munmap explore_unmap
#define sched_yield explore_spin
#define LOCK_LOOKS 1
#define LOCK_RUN 2
#define LOCK_FAST 1
#define arch_relax explore_spin
#include "base.h" /* its pauses wait for a store of somebody else */
#undef arch_relax
#define arch_relax() ((void)0) /* elsewhere it is between looks that come to an end by themselves */

/* To ask a processor its name is a trap in a virtual machine, and half of an execution. */
#define arch_prefers_loading() false

#define SPIN_TURNS 1
#define STAY_LOOKS 1
#define WINDOW 2

#endif
