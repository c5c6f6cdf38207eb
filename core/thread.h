/* SPDX-License-Identifier: MIT */
/*
 * thread.h - plain threads that wait for counters. See thread.c.
 */
#ifndef COIR_THREAD_H
#define COIR_THREAD_H

#include "counter.h"

/* Blocks until one of n <= COIR_WAIT_ANY_MAX counters has settled: its outcome, and its index in
 * *which; COIR_ETIMEDOUT; COIR_ECANCELED (thread_wake). */
int thread_wait(struct counter *const *c, size_t n, int64_t deadline, size_t *which);

/* Ends the waits for counters that `owed` says yes to, as COIR_ECANCELED. Returns how many. `owed` is
 * called under a lock and must not follow the counter, which may have settled this moment. */
size_t thread_wake(bool (*owed)(const struct counter *c, void *arg), void *arg);

void thread_forget_all(void); /* as runtime_forget_all */

#endif
