/* SPDX-License-Identifier: MIT */
/*
 * life.h - whether this process opened what a handle stands for, or is a fork of the one that did. See
 * life.c.
 */
#ifndef COIR_LIFE_H
#define COIR_LIFE_H

#include "base.h"

/* Something is opened here: the number to remember this process by, never 0. A fork has forgotten it. */
uint32_t life_begin(void);

/* Zeroed memory that is empty in a fork, in whole pages; NULL: none. */
void *life_alloc(size_t bytes);
void life_free(void *memory, size_t bytes);

/* The same, made once in a process and kept: *at, which is NULL at first. For what a fork must not inherit, such as a lock
 * that another thread may hold at the time. `instead`, zeroed: if there is no such memory. */
void *life_memory(_Atomic(void *) *at, size_t bytes, void *instead);

/* The word that life_begin returned last; a fork finds 0 in it. Constant once life_begin has been called. */
extern _Atomic(_Atomic uint32_t *) life_word;

static inline uint32_t life_now(void)
{
    const _Atomic uint32_t *word = atomic_load_explicit(&life_word, memory_order_relaxed); /* constant */

    return word ? atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)word, memory_order_relaxed) : 0; /* LIFE */
}

/* Whether this process is a fork of the one that life_begin returned `since` to. */
static inline bool life_forked(uint32_t since)
{
    return life_now() != since;
}

/* Whether it is a fork of a process that had opened something, and has opened nothing itself. */
static inline bool life_is_over(void)
{
    return atomic_load_explicit(&life_word, memory_order_relaxed) && life_now() == 0; /* constant */
}

#endif
