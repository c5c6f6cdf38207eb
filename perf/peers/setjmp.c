/* SPDX-License-Identifier: MIT */
/*
 * setjmp.c - setjmp and longjmp over the frames of panic_perf.c: what an error that runs no cleanup,
 * keeps no record and finds no handler would cost, and who does not fail. A floor, not a peer.
 *
 * At its best: _setjmp, which leaves the signal mask alone. Each round arms it anew, as a boundary
 * of its own would have to.
 */
#include <setjmp.h>

#include "peer.h"

static jmp_buf boundary;

static void leave(void)
{
    _longjmp(boundary, 1);
}

/* The empty asm keeps the call from becoming a jump. */
static NOINLINE void go_down(long frames, void (*bottom)(void))
{
    if (frames > 1)
        go_down(frames - 1, bottom);
    else
        bottom();
    __asm__ volatile("");
}

static void fall(struct peer *p)
{
    int64_t start = peer_now();

    for (volatile uint64_t i = 0; i < p->n; i++)
        if (_setjmp(boundary) == 0)
            go_down(p->size, leave);
    p->ns = peer_now() - start;
}

static void nothing(void)
{
    __asm__ volatile("");
}

static void calls(struct peer *p)
{
    void (*volatile called)(void) = nothing;
    int64_t start = peer_now();

    for (volatile uint64_t i = 0; i < p->n; i++)
        if (_setjmp(boundary) == 0)
            called();
    p->ns = peer_now() - start;
}

static const struct peer_row rows[] = {{"panic/#", fall, 0, 0}, {"happy/try", calls, 0, 0}};

PEER_MAIN(rows)
