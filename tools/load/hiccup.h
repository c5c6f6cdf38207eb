/* SPDX-License-Identifier: MIT */
/*
 * hiccup.h - how long this machine keeps a thread waiting that only wants to run.
 *
 * A tail that the meter shows as well comes from the machine (other processes, the hypervisor,
 * power states) and not from the server under test.
 */
#ifndef HICCUP_H
#define HICCUP_H

#include <pthread.h>

#include "histogram.h"
#include "load.h"

struct hiccup {
    pthread_t thread;
    const struct load_clock *clock; /* measures from its start to its end, or until it is stopped */
    struct histogram gaps;
};

/* The meter's thread; it burns a core. The argument is a struct hiccup. */
void *hiccup_run(void *hiccup);

#endif
