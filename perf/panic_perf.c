/* SPDX-License-Identifier: MIT */
/*
 * panic_perf.c - claims: coir_panic to the return of coir_try costs at most 0.8 of a C++ throw to
 * its catch over the very same frames, with and without __attribute__((cleanup)) in each, and with a
 * backtrace kept; two workers panic at least 1.6 times as often as one. Ruler: that throw, on the same
 * fiber stack, in turn. Floor: what the unwinder takes for those frames and their cleanups, if nothing is done but that.
 *
 * The panic includes its failure record, message and the rate-limited log.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <unwind.h>

#include "kit.h"

struct descent {
    unsigned frames;
    bool cleanups;
    enum { PANICS, PANICS_TRACED, UNWINDS, THROWS } how; /* traced: its backtrace is kept */
};

struct measuring {
    struct bench *b;
    const struct descent *descent;
};

/* ---------------------------------------------------------------------------------- the frames */

static NOINLINE void panic_here(void)
{
    coir_panic("the bottom is reached");
}

static void tidy(unsigned *held)
{
    __asm__ volatile("" : : "r"(held) : "memory");
}

/* The empty asm keeps the call from becoming a jump. */
static NOINLINE void go_down(unsigned frames, void (*bottom)(void))
{
    if (frames > 1)
        go_down(frames - 1, bottom);
    else
        bottom();
    __asm__ volatile("");
}

static NOINLINE void go_down_tidily(unsigned frames, void (*bottom)(void))
{
    __attribute__((cleanup(tidy))) unsigned held = frames;

    if (frames > 1)
        go_down_tidily(frames - 1, bottom);
    else
        bottom();
    __asm__ volatile("" : : "r"(&held) : "memory");
}

/* Where a bare unwind ends; one at a time. */
static jmp_buf landing;
static uintptr_t landing_frame;

static _Unwind_Reason_Code stop_there(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
                                      struct _Unwind_Exception *e, struct _Unwind_Context *context, void *unused)
{
    (void)version;
    (void)class;
    (void)e;
    (void)unused;
    if (_Unwind_GetCFA(context) >= landing_frame || actions & _UA_END_OF_STACK)
        longjmp(landing, 1);
    return _URC_NO_REASON;
}

static NOINLINE void unwind_here(void)
{
    static struct _Unwind_Exception e;

    e = (struct _Unwind_Exception){0};
    _Unwind_ForcedUnwind(&e, stop_there, NULL);
}

static void descend(void *arg)
{
    const struct descent *d = arg;
    void (*bottom)(void) = d->how == THROWS ? bench_throw : d->how == UNWINDS ? unwind_here : panic_here;

    if (d->cleanups)
        go_down_tidily(d->frames, bottom);
    else
        go_down(d->frames, bottom);
}

/* ------------------------------------------------------------------------------- one at a time */

static void unwind_and_land(const struct descent *d)
{
    landing_frame = (uintptr_t)__builtin_frame_address(0);
    if (setjmp(landing) == 0)
        descend((void *)(uintptr_t)d);
}

/* Whether all ended as they should. */
static bool fail_and_catch(const struct descent *d, uint64_t n)
{
    bool ok = true;

    for (uint64_t i = 0; i < n; i++)
        if (d->how == THROWS)
            bench_catch(descend, (void *)(uintptr_t)d);
        else if (d->how == UNWINDS)
            unwind_and_land(d);
        else
            ok &= coir_try(descend, (void *)(uintptr_t)d, NULL) == COIR_PANICKED;
    return ok;
}

#define SLICE 10 /* falls */

static double slice(struct bench *b, const struct descent *d)
{
    int64_t start = coir_now(), took;

    if (!fail_and_catch(d, SLICE))
        b->error = "a panic was not contained";
    took = coir_now() - start;
    b->ns += took;
    b->done += SLICE;
    return (double)took / SLICE;
}

static double panics(struct bench *b, const void *arg)
{
    return slice(b, arg);
}

static double throws(struct bench *b, const void *arg)
{
    struct descent d = *(const struct descent *)arg;

    d.how = THROWS;
    return slice(b, &d);
}

static void one_worker(void *arg)
{
    struct measuring *m = arg;
    struct bench first = {0};

    panics(&first, m->descent); /* the unwinder's first use of the tables */
    throws(&first, m->descent);
    kit_in_turn(m->b, panics, throws, m->descent);
}

static void falls(struct bench *b, const void *arg)
{
    struct measuring m = {b, arg};
    coir_options options = kit_options(1);

    options.backtrace = m.descent->how == PANICS_TRACED;
    kit_run(b, &options, one_worker, &m);
}

/* --------------------------------------------------------------------------------- two at once */

struct pair {
    struct measuring m;
    _Atomic unsigned ready;
    _Atomic bool failed;
};

/* Waits for the other half without letting its worker go: each of the two holds one. */
static void meet(struct pair *p)
{
    atomic_fetch_add(&p->ready, 1);
    while (atomic_load(&p->ready) < 2)
        sched_yield();
}

static void fall(struct pair *p)
{
    if (!fail_and_catch(p->m.descent, p->m.b->n / 2 + 1))
        atomic_store(&p->failed, true);
}

static void other_half(void *arg)
{
    meet(arg);
    fall(arg);
}

static void two_workers(void *arg)
{
    struct pair *p = arg;
    struct bench *b = p->m.b;
    coir_counter other = COIR_COUNTER_INIT;
    int64_t start;

    if (coir_spawn(&other, other_half, p) != COIR_OK) {
        b->error = "a spawn was refused";
        return;
    }
    meet(p);
    start = coir_now();
    fall(p);
    if (coir_wait(&other) != COIR_DONE || p->failed)
        b->error = "a panic was not contained";
    b->ns = coir_now() - start;
    b->done = b->n / 2 * 2 + 2;
}

static void falls_on_two(struct bench *b, const void *arg)
{
    struct pair p = {.m = {b, arg}};
    coir_options options = kit_options(2);

    kit_run(b, &options, two_workers, &p);
}

#define DESCENT(...) &(const struct descent){__VA_ARGS__}
#define FALL(frames, cleanups, how, name, label)                                                  \
    {"panic/" name, "panic, " label, falls, DESCENT(frames, cleanups, how), 0, BENCH_NS_P50, \
     BENCH_IN_TURN, BENCH_RATIO_AT_MOST, 0.8}
#define BARE(frames, cleanups, name)                                                              \
    {"panic/bare/" name, "floor: bare unwind, " name, falls, DESCENT(frames, cleanups, UNWINDS), 0, BENCH_NS_P50, \
     BENCH_IN_TURN, BENCH_NO_GOAL, 0}

static const struct bench_row rows[] = {
    FALL(1, false, PANICS, "1", "1 frame"),
    FALL(10, false, PANICS, "10", "10 frames"),
    FALL(100, false, PANICS, "100", "100 frames"),
    FALL(1, true, PANICS, "1/cleanup", "1 frame, cleanup in it"),
    FALL(10, true, PANICS, "10/cleanup", "10 frames, cleanup in each"),
    FALL(100, true, PANICS, "100/cleanup", "100 frames, cleanup in each"),
    FALL(1, false, PANICS_TRACED, "1/backtrace", "1 frame, backtrace kept"),
    FALL(10, false, PANICS_TRACED, "10/backtrace", "10 frames, backtrace kept"),
    FALL(100, false, PANICS_TRACED, "100/backtrace", "100 frames, backtrace of 32 kept"),
    BARE(1, false, "1"),
    BARE(10, false, "10"),
    BARE(100, false, "100"),
    BARE(1, true, "1/cleanup"),
    BARE(10, true, "10/cleanup"),
    BARE(100, true, "100/cleanup"),
    {"panic/workers/2", "panics of 10 frames, 2 workers against 1", falls_on_two,
     DESCENT(10, false, PANICS), 0, BENCH_NS, "panic/10", BENCH_SPEEDUP, 1.6},
};

BENCH_SUITE(panic, rows);
