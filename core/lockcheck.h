/* SPDX-License-Identifier: MIT */
/*
 * lockcheck.h - pthread mutexes that are held across a suspend: looked for in debug builds only. See
 * lockcheck.c.
 */
#ifndef COIR_LOCKCHECK_H
#define COIR_LOCKCHECK_H

#include "state.h"

#ifdef COIR_DEBUG
/* Weak: a debug build without lockcheck.c looks for nothing. */
__attribute__((weak)) void lockcheck_look(struct worker *w, const char *what);

/* The fiber that runs on w, the caller, is about to suspend, or might if others could run. */
static inline void lockcheck_suspend(struct worker *w, const char *what)
{
    if (lockcheck_look)
        lockcheck_look(w, what);
}
#else
static inline void lockcheck_suspend(struct worker *w, const char *what)
{
    (void)w;
    (void)what;
}
#endif

#endif
