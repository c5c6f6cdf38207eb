/* SPDX-License-Identifier: MIT */
/*
 * cpus.h - which processors this process may use, how many of them its quota pays for, which signals its
 * workers take, and how much memory there is for it.
 */
#ifndef COIR_CPUS_H
#define COIR_CPUS_H

#include <pthread.h>
#include <signal.h>

#include "base.h"

/* min(CPU affinity, cgroup quota rounded up); 1 or more. */
unsigned cpus_usable(void);

/* Whether so many threads may run at once. */
bool cpus_suffice(unsigned threads);

/* min(the machine's memory, the cgroup's limit), in bytes. */
uint64_t memory_usable(void);

/* vm.max_map_count. */
uint64_t mappings_max(void);

/* Binds the thread to the i-th CPU it may run on, counted round. Returns COIR_OK or a status. */
int cpus_pin(pthread_t thread, unsigned i);

/* Blocks, for threads about to be created, the signals that are meant for the process and so for the
 * host's threads; faults and profiling stay. */
void thread_block_signals(sigset_t *before);

#endif
