/* SPDX-License-Identifier: MIT */
/*
 * trees.c - see trees.h.
 *
 * A job has two counters in its frame, each local or not as its seed says. It does some operations on them, and leaves as
 * its seed says, which its parent knows: well, failed, or by a panic while it is still owed. Whoever is asked to stop
 * sees outcomes that nobody could foresee, and panics: that settles what it is owed.
 */
#include "trees.h"

#include <stddef.h>

struct trees trees;

#define COUNTERS 2
#define OPERATIONS 6
#define LEAVES 5

struct job {
    coir_counter counter[COUNTERS];
    int worst[COUNTERS]; /* of what it was owed since it was made */
    uint32_t dice;
    unsigned depth;
};

static uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * UINT32_C(0x7feb352d);
    x = (x ^ x >> 15) * UINT32_C(0x846ca68b);
    return x ^ x >> 16;
}

static uint32_t throw_of(struct job *j, uint32_t sides)
{
    j->dice = mix(j->dice + 1);
    return j->dice % sides;
}

/* ---------------------------------------------------------------------------------------- jobs */

void *trees_of(uint32_t seed, unsigned depth)
{
    return (void *)((uintptr_t)seed << 4 | depth); /* NOLINT(performance-no-int-to-ptr) */
}

int trees_outcome(uint32_t seed)
{
    uint32_t side = mix(seed ^ UINT32_C(0x5eed)) % 12;

    return side == 0 ? COIR_PANICKED : side == 1 ? COIR_FAILED : COIR_DONE;
}

static void leave(void *unused)
{
    (void)unused;
    __atomic_sub_fetch(&trees.inside, 1, __ATOMIC_RELAXED);
}

static void enter(void)
{
    __atomic_add_fetch(&trees.inside, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&trees.begun, 1, __ATOMIC_RELAXED);
    coir_require(coir_defer(leave, NULL) == COIR_OK, "a first handler was refused");
}

static void leaf(void *yields)
{
    enter();
    for (uintptr_t n = (uintptr_t)yields; n; n--)
        coir_yield();
}

static void break_off(void *yields)
{
    leaf(yields);
    coir_panic("as planned");
}

/* Of a job that was asked to stop, or whose parent was, anything may be. */
static void stop_if_asked(void)
{
    if (coir_canceled())
        coir_panic("asked to stop");
}

static void expect(int outcome, int foreseen)
{
    if (outcome == foreseen)
        return;
    stop_if_asked();
    __atomic_add_fetch(&trees.unlike, 1, __ATOMIC_RELAXED);
}

/* A spawn may be refused if it is. */
static void owed(struct job *j, unsigned i, int status, int outcome)
{
    expect(status, COIR_OK);
    if (status == COIR_OK && outcome > j->worst[i])
        j->worst[i] = outcome;
}

/* ---------------------------------------------------------------------------------- operations */

static void make_anew(struct job *j, unsigned i)
{
    if (throw_of(j, 3))
        coir_counter_init_local(&j->counter[i]);
    else
        coir_counter_init(&j->counter[i]);
    j->worst[i] = COIR_DONE;
}

static void wait_for(struct job *j, unsigned i)
{
    expect(coir_wait(&j->counter[i]), j->worst[i]);
    make_anew(j, i);
}

static void wait_shortly(struct job *j, unsigned i)
{
    int outcome = coir_wait_until(&j->counter[i], coir_now() + throw_of(j, 20) * COIR_US);

    if (outcome == COIR_ETIMEDOUT)
        return;
    expect(outcome, j->worst[i]);
    make_anew(j, i);
}

/* A tree, or where they must end, a leaf. */
static coir_fn *child_of(struct job *j, void **arg, int *outcome)
{
    uint32_t seed = throw_of(j, UINT32_MAX);

    if (j->depth) {
        *arg = trees_of(seed, j->depth - 1);
        *outcome = trees_outcome(seed);
        return trees_grow;
    }
    *arg = (void *)(uintptr_t)(seed % 3); /* NOLINT(performance-no-int-to-ptr) */
    *outcome = seed % 8 ? COIR_DONE : COIR_PANICKED;
    if (seed % 8)
        return leaf;
    return seed % 16 && trees.fault ? trees.fault : break_off;
}

static void spawn(struct job *j, unsigned i)
{
    void *arg;
    int outcome;
    coir_fn *fn = child_of(j, &arg, &outcome);

    owed(j, i, coir_spawn(&j->counter[i], fn, arg), outcome);
}

static void spawn_leaves(struct job *j, unsigned i)
{
    owed(j, i, coir_spawn_many(&j->counter[i], leaf, NULL, 0, throw_of(j, LEAVES)), COIR_DONE);
}

/* What is owed to the other one comes after all of this one. */
static void spawn_after(struct job *j, unsigned i)
{
    void *arg;
    int outcome;
    coir_fn *fn = child_of(j, &arg, &outcome);

    if (j->worst[i] != COIR_DONE)
        outcome = COIR_CANCELED;
    owed(j, !i, coir_spawn_after(&j->counter[i], &j->counter[!i], fn, arg), outcome);
    wait_for(j, i);
}

static void fork_off(struct job *j)
{
    void *arg;
    int outcome;
    coir_fn *fn = child_of(j, &arg, &outcome);

    expect(coir_fork2(leaf, NULL, fn, arg), outcome);
}

static void fork_and_break(void *child)
{
    struct job *j = child;
    void *arg;
    int outcome;
    coir_fn *fn = child_of(j, &arg, &outcome);

    expect(coir_fork2(break_off, NULL, fn, arg), outcome);
}

static void try_child(struct job *j)
{
    void *arg;
    int outcome;
    coir_fn *fn = child_of(j, &arg, &outcome);

    if (fn == trees.fault) /* a fault ends the whole job */
        return;
    expect(coir_try(fn, arg, NULL), outcome);
    stop_if_asked();
}

static void try_fork(struct job *j)
{
    struct job part = {.dice = throw_of(j, UINT32_MAX), .depth = j->depth};

    expect(coir_try(fork_and_break, &part, NULL), COIR_PANICKED);
    stop_if_asked();
}

static void one_operation(struct job *j)
{
    unsigned i = throw_of(j, COUNTERS);

    switch (throw_of(j, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        spawn(j, i);
        break;
    case 4:
        spawn_leaves(j, i);
        break;
    case 5:
        spawn_after(j, i);
        break;
    case 6:
        wait_for(j, i);
        break;
    case 7:
        wait_shortly(j, i);
        break;
    case 8:
        fork_off(j);
        break;
    case 9:
        try_child(j);
        break;
    case 10:
        try_fork(j);
        break;
    default:
        coir_yield();
    }
}

void trees_grow(void *tree)
{
    uint32_t seed = (uint32_t)((uintptr_t)tree >> 4);
    struct job j = {.dice = seed, .depth = (uintptr_t)tree & 15};
    int outcome = trees_outcome(seed);

    enter();
    for (unsigned i = 0; i < COUNTERS; i++)
        make_anew(&j, i);
    for (uint32_t n = throw_of(&j, OPERATIONS); n; n--)
        one_operation(&j);
    if (outcome == COIR_PANICKED)
        coir_panic("as planned");
    for (unsigned i = 0; i < COUNTERS; i++)
        wait_for(&j, i);
    if (outcome == COIR_FAILED)
        coir_fail(COIR_EIO, "as planned");
}
