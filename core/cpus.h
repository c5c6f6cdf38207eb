/* SPDX-License-Identifier: MIT */
/*
 * cpus.h - which processors this process may use, how many of them its quota pays for, which signals its
 * workers take, and how much memory there is for it.
 */
#ifndef COIR_CPUS_H
#define COIR_CPUS_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "base.h"

/* min(CPU affinity, cgroup quota rounded up); 1 or more. */
unsigned cpus_usable(void);

/* The clock of what processors do for the calling thread, and what they have done, in ns, for any; 0: it cannot be told. */
clockid_t thread_meter(void);
int64_t thread_used(clockid_t meter);

/* min(the machine's memory, the cgroup's limit), in bytes. */
uint64_t memory_usable(void);

/* vm.max_map_count. */
uint64_t mappings_max(void);

/* Those that the calling thread may run on; none if that cannot be told. */
void cpus_allowed(cpu_set_t *set);

/* Binds the thread to the i-th CPU it may run on, counted round. Returns COIR_OK or a status. */
int cpus_pin(pthread_t thread, unsigned i);

/* Blocks, for threads about to be created, the signals that are meant for the process and so for the
 * host's threads; faults and profiling stay. */
void thread_block_signals(sigset_t *before);

/* Starts a thread that has these blocked, and runs on the CPUs of the set, if it still may on one of them; NULL or
 * otherwise: where its starter does. Returns an errno, 0: none. */
int thread_start(pthread_t *thread, const cpu_set_t *cpus, void *(*main)(void *), void *arg);

#endif
