/* SPDX-License-Identifier: MIT */
/*
 * cpus.h - which processors this process may use, and how many of them its quota pays for.
 */
#ifndef COIR_CPUS_H
#define COIR_CPUS_H

#include <pthread.h>

#include "base.h"

/* min(CPU affinity, cgroup quota rounded up); 1 or more. */
unsigned cpus_usable(void);

/* Binds the thread to the i-th CPU it may run on, counted round. Returns COIR_OK or a status. */
int cpus_pin(pthread_t thread, unsigned i);

#endif
