/* SPDX-License-Identifier: MIT */
/*
 * stack.h - guarded stacks: one arena, a shared depot, and a cache for each worker. See stack.c.
 */
#ifndef COIR_STACK_H
#define COIR_STACK_H

#include "mem.h"
#include "ring.h"

/* Lies at the top of its stack, inside the larger header of the row above. */
struct stack {
    struct link link;  /* in a cache or the depot */
    char *low;         /* lowest usable address; the guard ends here */
    uint32_t index;    /* which of the arena's stacks */
};

struct stacks {
    const struct host *host;
    size_t usable;       /* bytes of a stack without its guard, header included */
    size_t page;         /* bytes of a page */
    size_t guard;        /* bytes of the guard below it */
    size_t header;       /* bytes that the row above keeps at the top */
    size_t limit;        /* stacks that may exist */
    size_t warm;         /* idle stacks in the depot whose memory is kept */
    size_t cache_max;    /* stacks a worker keeps; past it, half go to the depot */
    size_t per_chunk;    /* stacks that are committed together */
    char *arena;         /* address space of all stacks; NULL: chunks come from the host */
    char **chunk;        /* base of each chunk, or NULL */
    uint32_t *cold;      /* indices of stacks whose memory was given back */
    bool guard_by_advice; /* MADV_GUARD_INSTALL works; else mprotect splits the mapping */

    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards all below, and chunk and cold */
    struct list depot;          /* stacks that no worker's cache holds */
    size_t cold_count;
    _Atomic size_t created;     /* stacks that ever existed; readable without the lock */
    _Atomic size_t depot_count; /* depot.count, readable without the lock */
    _Atomic bool sticky;        /* advice does not empty the memory of some chunk; readable without the lock */
    _Atomic bool missed;        /* since the last flush a stack was wanted in vain; readable without the lock */
};

/* Stacks that one worker keeps for itself, last in, first out. */
struct stack_cache {
    struct list list; /* used as a stack of links */
};

/* header: bytes at the top for the row above, zeroed when a stack is new or was cold.
 * Returns COIR_OK, COIR_ENOMEM. Says through the host's log what could not be had. */
int stacks_init(struct stacks *s, const struct host *host, const coir_options *options,
                size_t header);
void stacks_fini(struct stacks *s);

/* So many does each worker need: its loop stands on one, a spare waits beside it for the first job that
 * blocks, and where faults are handled there is a reserve. */
static inline size_t stacks_of_worker(const coir_options *options)
{
    return options->faults != COIR_FAULTS_NONE ? 3 : 2;
}

/* At open: makes what the workers need, and what options.prefault asks for. COIR_OK, COIR_ENOMEM: not what they need. */
int stacks_prepare(struct stacks *s, const coir_options *options);

/* NULL: the limit, or the system's memory, is reached. */
struct stack *stack_take(struct stacks *s, struct stack_cache *cache);
void stack_give(struct stacks *s, struct stack_cache *cache, struct stack *stack);
void stack_cache_flush(struct stacks *s, struct stack_cache *cache);

/* From a worker without work: flushes its cache if others want for stacks. */
void stack_cache_share(struct stacks *s, struct stack_cache *cache);

/* Gives back the memory of a few stacks that lie idle in the depot. Returns whether there is more. */
bool stacks_trim(struct stacks *s);

/* Makes whole pages of a stack zero; they are given back if the system takes them. */
void stacks_empty(struct stacks *s, char *low, size_t bytes);

/* The i-th stack, i < created; its memory may have been given back (then it reads as zero). */
struct stack *stack_at(struct stacks *s, size_t i);

/* The stack that an address lies in, or in whose guard; NULL: in none. Async-signal-safe. */
struct stack *stack_around(struct stacks *s, uintptr_t address);

/* Whether an address lies in the guard of this stack. Async-signal-safe. */
static inline bool stack_guards(const struct stacks *s, const struct stack *stack, uintptr_t address)
{
    return (uintptr_t)stack->low - address - 1 < s->guard;
}

#endif
