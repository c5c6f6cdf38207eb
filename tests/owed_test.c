/* SPDX-License-Identifier: MIT */
/*
 * owed_test.c - what a job owes when it ends (job.c, B1 and B2): children end before the frames
 * that they owe go, and each job releases exactly one unit, on every way out.
 */
#include "run.h"

#include <stdbool.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

static void on_workers(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    run_on(4, fn, NULL);
}

static void count(void *n)
{
    run_count(n);
}

static int cleaned; /* frames so far */

/* --------------------------------------------------------------------------------- children */

#define CHILDREN 20

struct parent {
    int touched[CHILDREN];
    int frame_gone;
    int depth;
};

/* Writes to the parent's frame until told, and once more after that. */
static void touch(void *cell)
{
    int *mine = cell;

    *mine = 1;
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    CHECK_EQ(*mine, 1);
    coir_yield();
    *mine = 2;
}

static void check_touched(struct parent *p)
{
    for (int i = 0; i < CHILDREN; i++)
        CHECK(p->touched[i] == 2 || p->touched[i] == 0); /* 0: never started */
    run_count(&cleaned);
}

static void raise_beside_children(void *unused)
{
    struct parent p CLEANUP(check_touched) = {.depth = 0};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, touch, p.touched, sizeof p.touched[0], CHILDREN), COIR_OK);
    coir_yield();
    coir_panic("with children");
}

static void wait_for_parents(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    cleaned = 0;
    for (int i = 0; i < MANY(200) + 1; i++)
        CHECK_EQ(coir_spawn(&c, raise_beside_children, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(cleaned, MANY(200) + 1);
}

static void children_end_before_the_frames_they_owe_go(void)
{
    on_workers(wait_for_parents);
}

/* Each level waits for a child of its own; all of them look at the panicking job's frame. */
static void descend(void *arg)
{
    struct parent *p = arg;
    coir_counter c = COIR_COUNTER_INIT;

    if (run_count(&p->depth) < 10) {
        CHECK_EQ(coir_spawn(&c, descend, p), COIR_OK);
        coir_yield();
        CHECK(coir_wait(&c) >= COIR_DONE);
    } else {
        CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    }
    coir_yield();
    CHECK_EQ(p->frame_gone, 0);
}

static void leave_frame(struct parent *p)
{
    p->frame_gone = 1;
}

static void raise_above_tree(void *unused)
{
    struct parent p CLEANUP(leave_frame) = {.depth = 0};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, descend, &p), COIR_OK);
    while (__atomic_load_n(&p.depth, __ATOMIC_RELAXED) < 10)
        coir_yield();
    coir_panic("with grandchildren");
}

static void wait_for_tree(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 20; i++)
        CHECK_EQ(coir_spawn(&c, raise_above_tree, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
}

static void childrens_children_end_as_well(void)
{
    on_workers(wait_for_tree);
}

/* --------------------------------------------------------------------------- owed at the return */

static void finish_late(void *cell)
{
    CHECK_EQ(coir_sleep_until(coir_now() + 100 * COIR_US), COIR_ECANCELED);
    run_count(cell);
}

static void return_owing(void *ended)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_spawn(&c, finish_late, ended), COIR_OK);
    coir_yield(); /* they sleep */
}

static void wait_for_owing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int ended = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, return_owing, &ended), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_OWED);
    CHECK_EQ(f.outcome, COIR_PANICKED);
    CHECK_EQ(ended, 5); /* they had ended when the job had */
}

static void a_job_that_returns_while_it_is_owed_has_panicked(void)
{
    run_on(1, wait_for_owing, NULL);
}

static void block_twice(void *unused)
{
    (void)unused;
    coir_yield();
    coir_yield();
}

/* Two counters in the frame: one is waited for in vain, the other not at all. */
static void owe_two(void *ended)
{
    coir_counter c = COIR_COUNTER_INIT, d = COIR_COUNTER_INIT;

    run_count(ended);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_spawn(&c, block_twice, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&d, block_twice, NULL), COIR_OK);
    }
    CHECK_EQ(coir_wait_until(&d, 0), COIR_ETIMEDOUT);
}

static void wait_for_many_owing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int jobs = MANY(600), ended = 0; /* each cancels its children, which looks at every stack */

    (void)unused;
    for (int i = 0; i < jobs; i++)
        CHECK_EQ(coir_spawn(&c, owe_two, &ended), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(ended, jobs);
}

static void nothing_is_corrupted_by_jobs_that_return_owing(void)
{
    run_on(1, wait_for_many_owing, NULL); /* with one worker the children cannot be done in time */
}

/* ---------------------------------------------------------------------------- owed by hand as well */

static void end_when_canceled(void *ended)
{
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    run_count(ended);
}

enum how { GUARD_PANICS, GUARD_RETURNS };

struct guarded {
    coir_counter done;
    enum how how;
    int ended; /* children */
};

/* The unit by hand keeps the counter from settling while there is more to spawn. */
static void end_under_guard(void *arg)
{
    struct guarded *g = arg;
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 1);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_spawn(&c, end_when_canceled, &g->ended), COIR_OK);
    coir_yield(); /* they sleep */
    if (g->how == GUARD_PANICS)
        coir_panic("while it spawns");
}

static void check_guarded(enum how how, int kind)
{
    static struct guarded g;
    coir_runtime *rt = run_open(1);
    coir_failure f;

    g = (struct guarded){.how = how};
    CHECK_EQ(coir_submit(rt, &g.done, end_under_guard, &g), COIR_OK);
    if (!CHECK_EQ(coir_wait_until(&g.done, coir_now() + 5000 * COIR_MS), COIR_PANICKED))
        return; /* no close would end either */
    if (CHECK_EQ(coir_counter_failure(&g.done, &f), COIR_OK))
        CHECK_EQ(f.kind, kind);
    CHECK_EQ(g.ended, 5);
    run_close(rt);
}

static void a_panic_waits_for_jobs_and_not_for_a_hand(void)
{
    check_guarded(GUARD_PANICS, COIR_KIND_PANIC);
}

static void so_does_a_return(void)
{
    check_guarded(GUARD_RETURNS, COIR_KIND_OWED);
}

static void try_under_guard(void *rt)
{
    coir_counter c = COIR_COUNTER_INIT;
    int ended = 0;

    coir_counter_add(&c, 1);
    CHECK_EQ(coir_submit(rt, &c, end_when_canceled, &ended), COIR_OK);
    coir_panic("on a plain thread");
}

static void so_does_a_plain_thread(void)
{
    coir_runtime *rt = run_open(1);

    CHECK_EQ(coir_try(try_under_guard, rt, NULL), COIR_PANICKED);
    run_close(rt);
}

/* A cleanup finds what is owed by hand as it was. */
static void release_guard(coir_counter *c)
{
    CHECK_EQ(coir_wait_until(c, 0), COIR_ETIMEDOUT);
    coir_counter_done(c, COIR_DONE);
    CHECK_EQ(coir_wait_until(c, 0), COIR_ETIMEDOUT);
    coir_counter_done(c, COIR_DONE);
    CHECK_EQ(coir_wait_until(c, 0), COIR_CANCELED);
    run_count(&cleaned);
}

static void panic_under_cleanup(void *ended)
{
    coir_counter c CLEANUP(release_guard) = COIR_COUNTER_INIT;

    coir_counter_add(&c, 2);
    CHECK_EQ(coir_spawn(&c, end_when_canceled, ended), COIR_OK);
    coir_yield();
    coir_panic("under a guard");
}

static void guard_with_cleanup(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int ended = 0;

    (void)unused;
    cleaned = 0;
    CHECK_EQ(coir_spawn(&c, panic_under_cleanup, &ended), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(cleaned, 1);
}

static void a_cleanup_releases_what_is_owed_by_hand(void)
{
    run_on(1, guard_with_cleanup, NULL);
}

/* Others wait for the counter meanwhile: a job, and one that has not started. */
struct watched {
    coir_counter waiter, pending;
    coir_counter *watched;
    bool waits;
    int ran; /* jobs */
};

static void wait_for_watched(void *arg)
{
    struct watched *w = arg;

    w->waits = true;
    CHECK_EQ(coir_wait(w->watched), COIR_CANCELED);
}

static void panic_while_watched(void *arg)
{
    struct watched *w = arg;
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 1);
    w->watched = &c;
    CHECK_EQ(coir_spawn(&c, count, &w->ran), COIR_OK);
    CHECK_EQ(coir_spawn(&w->waiter, wait_for_watched, w), COIR_OK);
    CHECK_EQ(coir_spawn_after(&c, &w->pending, count, &w->ran), COIR_OK);
    while (!w->waits || !w->ran)
        coir_yield();
    coir_panic("while others wait");
}

static void watch_guarded(void *unused)
{
    struct watched w = {.waits = false};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, panic_while_watched, &w), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_wait(&w.pending), COIR_CANCELED);
    CHECK_EQ(coir_wait(&w.waiter), COIR_DONE);
    CHECK_EQ(w.ran, 1);
}

static void whoever_waits_for_such_a_counter_is_told(void)
{
    run_on(1, watch_guarded, NULL);
}

/* Children release units by hand while their parent's panic waits for them. */
struct hands {
    coir_counter c;
    int started;
};

static void release_when_canceled(void *arg)
{
    struct hands *h = arg;

    coir_counter_add(&h->c, 1);
    run_count(&h->started);
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    coir_counter_done(&h->c, COIR_DONE);
    coir_counter_add(&h->c, 1);
    coir_yield();
    coir_counter_done(&h->c, COIR_DONE);
    coir_counter_done(&h->c, COIR_DONE);
}

static void check_released(struct hands *h)
{
    CHECK_EQ(coir_wait_until(&h->c, 0), COIR_ETIMEDOUT);
    coir_counter_done(&h->c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&h->c, 0), COIR_CANCELED); /* not one unit too many or too few */
    run_count(&cleaned);
}

static void panic_beside_hands(void *unused)
{
    struct hands h CLEANUP(check_released) = {.started = 0};

    (void)unused;
    coir_counter_add(&h.c, 5);
    CHECK_EQ(coir_spawn_many(&h.c, release_when_canceled, &h, 0, 4), COIR_OK);
    while (__atomic_load_n(&h.started, __ATOMIC_RELAXED) < 4)
        coir_yield();
    coir_panic("beside hands");
}

static void wait_for_hands(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int jobs = MANY(200) + 1;

    (void)unused;
    cleaned = 0;
    for (int i = 0; i < jobs; i++)
        CHECK_EQ(coir_spawn(&c, panic_beside_hands, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(cleaned, jobs);
}

static void children_release_by_hand_until_they_end(void)
{
    on_workers(wait_for_hands);
}

/* ------------------------------------------------------------------------------------ balance */

static int panicked; /* jobs that were going to */

/* Returns or panics, at once or after blocking, with and without children. */
static void end_somehow(void *number)
{
    unsigned i = (unsigned)(uintptr_t)number;
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    if (i % 2)
        coir_yield();
    if (i % 3 == 0)
        CHECK_EQ(coir_spawn_many(&c, count, &n, 0, 3), COIR_OK);
    if (i % 7 == 0)
        CHECK_EQ(coir_sleep_until(coir_now() + 1000), COIR_OK);
    if (i % 5 == 0) {
        run_count(&panicked);
        coir_panic("job %u", i);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, i % 3 == 0 ? 3 : 0);
}

static void end_many(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats before, after;
    int jobs = MANY(20000);

    (void)unused;
    panicked = 0;
    CHECK_EQ(coir_stats_read(coir_current(), &before), COIR_OK);
    for (int i = 0; i < jobs; i++)
        CHECK_EQ(coir_spawn(&c, end_somehow, (void *)(uintptr_t)i), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(panicked, (jobs + 4) / 5);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_PANICKED); /* not one unit too many or too few */
    CHECK_EQ(coir_stats_read(coir_current(), &after), COIR_OK);
    CHECK_EQ(after.ended[COIR_PANICKED] - before.ended[COIR_PANICKED], panicked);
    CHECK_EQ(after.panics - before.panics, panicked);
    CHECK_EQ(after.unobserved, 0);
}

static void each_job_releases_one_unit_on_every_way_out(void)
{
    on_workers(end_many);
}

CHECK_MAIN(CASE(children_end_before_the_frames_they_owe_go), CASE(childrens_children_end_as_well),
           CASE(a_job_that_returns_while_it_is_owed_has_panicked),
           CASE(nothing_is_corrupted_by_jobs_that_return_owing),
           CASE(a_panic_waits_for_jobs_and_not_for_a_hand), CASE(so_does_a_return), CASE(so_does_a_plain_thread),
           CASE(a_cleanup_releases_what_is_owed_by_hand), CASE(whoever_waits_for_such_a_counter_is_told),
           CASE(children_release_by_hand_until_they_end), CASE(each_job_releases_one_unit_on_every_way_out))
