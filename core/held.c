/* SPDX-License-Identifier: MIT */
/*
 * held.c - the list of a plain thread: what it holds there nobody can settle for it.
 */
#include "held.h"

/* Aligned as a job's record is: the bits below are free for flags beside an identity. */
static __thread struct {
    _Alignas(16) struct held *held;
} thread;

NOINLINE struct held **held_by_thread(void)
{
    return &thread.held;
}
