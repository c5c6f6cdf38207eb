/* SPDX-License-Identifier: MIT */
/*
 * mutex.h - what a coir_mutex is, for the condition, which gives one up while it waits.
 */
#ifndef COIR_MUTEX_H
#define COIR_MUTEX_H

#include "waitq.h"

/* All zero is a valid, unlocked mutex. */
struct mutex {
    struct held held;        /* the holder's */
    _Atomic uint64_t state;  /* the holder's identity | WOKEN | POISONED | WAITERS | LOCK */
    struct waitq queue;      /* LOCK */
    uint32_t policy;         /* enum coir_mutex_policy */
};

_Static_assert(sizeof(struct mutex) == sizeof(coir_mutex), "coir.h reserves it");
_Static_assert(offsetof(struct mutex, held) == 0, "held.h");
_Static_assert(_Alignof(struct mutex) <= _Alignof(coir_mutex), "coir.h aligns enough");

static inline struct mutex *mutex_of(coir_mutex *m)
{
    return (struct mutex *)(void *)m;
}

/* Whether the caller holds it. */
bool mutex_is_held(struct mutex *m);

#endif
