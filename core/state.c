/* SPDX-License-Identifier: MIT */
/*
 * state.c - which worker, and which runtime, the calling thread belongs to.
 */
#include "state.h"

__thread struct worker *worker_tls;
static __thread struct coir_runtime *adopted;

/* Not inlined, and opaque to the optimizer: see worker_here. */
NOINLINE struct worker *worker_self(void)
{
    __asm__ volatile("");
    return worker_tls;
}

NOINLINE struct coir_runtime *runtime_here(void)
{
    struct worker *w = worker_here();

    return w ? w->runtime : adopted;
}

void runtime_adopt_thread(struct coir_runtime *rt)
{
    adopted = rt;
}
