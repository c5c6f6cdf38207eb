/* SPDX-License-Identifier: MIT */
/*
 * scarce.h - an allocator for options.alloc that counts what lives and refuses when it is told to.
 */
#ifndef COIR_SCARCE_H
#define COIR_SCARCE_H

#include "run.h"

static struct {
    int refuse; /* 1: there is no memory */
    int live;   /* blocks */
} scarce;

static inline void *scarce_alloc(size_t bytes, void *arg)
{
    void *memory = __atomic_load_n(&scarce.refuse, __ATOMIC_ACQUIRE) ? NULL : malloc(bytes);

    (void)arg;
    __atomic_add_fetch(&scarce.live, memory != NULL, __ATOMIC_RELAXED);
    return memory;
}

static inline void scarce_free(void *memory, void *arg)
{
    (void)arg;
    __atomic_sub_fetch(&scarce.live, 1, __ATOMIC_RELAXED);
    free(memory);
}

static inline coir_options scarce_options(unsigned workers)
{
    coir_options o = run_options(workers);

    o.alloc = scarce_alloc;
    o.free = scarce_free;
    return o;
}

#endif
