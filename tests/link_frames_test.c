/* SPDX-License-Identifier: MIT */
/*
 * link_frames_test.c - core/link.c: links and monitors in the frames of a job end with them, whatever takes these.
 */
#include "domains.h"

#define DEEP 8192

/* Counters that outlive the jobs that tie them. */
struct ends {
    coir_counter a, b, told;
};

static void owe(struct ends *e)
{
    coir_counter_init(&e->a);
    coir_counter_init(&e->b);
    coir_counter_init(&e->told);
    coir_counter_add(&e->a, 1);
    coir_counter_add(&e->b, 1);
}

/* What was tied to them is gone: the end of `a` reaches nobody, and touches no frame. */
static void settle(struct ends *e)
{
    int n = 0;

    coir_counter_done(&e->a, COIR_PANICKED);
    CHECK_EQ(coir_wait(&e->a), COIR_PANICKED);
    CHECK_EQ(coir_spawn(&e->b, job_count, &n), COIR_OK);
    coir_counter_done(&e->b, COIR_DONE);
    CHECK_EQ(coir_wait(&e->b), COIR_DONE);
    CHECK_EQ(n, 1); /* not skipped: it has not been canceled */
    CHECK_EQ(coir_wait(&e->told), COIR_DONE);
}

/* Writes over all that has gone below the frame whose cleanup it is. */
static __attribute__((noinline)) void scribble(int *cell)
{
    volatile unsigned char stack[DEEP];

    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = (unsigned char)(0x5a + *cell);
}

static __attribute__((noinline)) void tie_and_panic(struct ends *e)
{
    coir_link link;
    coir_monitor m;

    CHECK_EQ(coir_link_counters(&link, &e->a, &e->b), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m, &e->a, &e->told), COIR_OK);
    coir_panic("tied");
}

static void panics_below_a_cleanup(void *ends)
{
    __attribute__((cleanup(scribble), unused)) int cell = 1;

    tie_and_panic(ends);
}

static void tied_jobs_panic(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(1000); i++) {
        coir_counter job = COIR_COUNTER_INIT;
        struct ends e;

        owe(&e);
        CHECK_EQ(coir_spawn(&job, panics_below_a_cleanup, &e), COIR_OK);
        CHECK_EQ(coir_wait(&job), COIR_PANICKED);
        settle(&e);
        owe(&e);
        CHECK_EQ(coir_try(panics_below_a_cleanup, &e, NULL), COIR_PANICKED);
        settle(&e);
    }
}

static void a_panic_ends_what_lies_in_its_frames(void)
{
    run_on(1, tied_jobs_panic, NULL);
    run_on(2, tied_jobs_panic, NULL);
}

/* ------------------------------------------------------------------------- in an outer frame */

static void panics(void *unused)
{
    (void)unused;
    coir_panic("inside of a try");
}

static void ties_in(void *link)
{
    static coir_counter a = COIR_COUNTER_INIT, b = COIR_COUNTER_INIT;

    CHECK_EQ(coir_link_counters(link, &a, &b), COIR_OK);
    coir_panic("the link lies further up");
}

static void one_further_up(void *unused)
{
    struct ends e;
    coir_link link;

    (void)unused;
    owe(&e);
    CHECK_EQ(coir_link_counters(&link, &e.a, &e.b), COIR_OK);
    CHECK_EQ(coir_try(panics, NULL, NULL), COIR_PANICKED);
    coir_counter_done(&e.a, COIR_PANICKED);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    CHECK_EQ(coir_unlink(&link), COIR_OK); /* nothing is left to end */
    CHECK_EQ(coir_spawn(&e.b, job_count, NULL), COIR_OK); /* canceled: it is skipped */
    coir_counter_done(&e.b, COIR_DONE);
    CHECK_EQ(coir_wait(&e.b), COIR_CANCELED);
    CHECK_EQ(coir_try(ties_in, &link, NULL), COIR_PANICKED);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
}

static void one_that_lies_further_up_stays(void)
{
    run_on(1, one_further_up, NULL);
}

/* ------------------------------------------------------------- told in the frames that go */

/* The watched counter settles when all is over: who waited for `told` before would wait for ever. */
static void is_told(void *watched)
{
    coir_counter told = COIR_COUNTER_INIT;
    coir_monitor m;
    int n = 0;

    CHECK_EQ(coir_spawn(&told, job_count, &n), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m, watched, &told), COIR_OK);
    coir_panic("owed by a monitor");
}

static void panics_owed(void *unused)
{
    coir_counter watched = COIR_COUNTER_INIT, job = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_add(&watched, 1);
    CHECK_EQ(coir_spawn(&job, is_told, &watched), COIR_OK);
    CHECK_EQ(coir_wait(&job), COIR_PANICKED);
    coir_counter_done(&watched, COIR_DONE);
    CHECK_EQ(coir_wait(&watched), COIR_DONE);
}

static void a_panic_does_not_wait_for_what_is_watched(void)
{
    run_on(1, panics_owed, NULL);
}

/* The monitor may lie further up, and so stay. */
static struct {
    coir_counter watched;
    coir_monitor *monitor;
} outer;

static void is_told_by_one_further_up(void *unused)
{
    coir_counter told = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&told, job_count, unused), COIR_OK);
    CHECK_EQ(coir_monitor_counter(outer.monitor, &outer.watched, &told), COIR_OK);
    coir_panic("owed by a monitor further up");
}

static void panics_in_a_try(void *unused)
{
    coir_monitor m;

    outer.monitor = &m;
    coir_counter_init(&outer.watched);
    coir_counter_add(&outer.watched, 1);
    CHECK_EQ(coir_try(is_told_by_one_further_up, unused, NULL), COIR_PANICKED);
    CHECK_EQ(coir_monitor_end(&m), COIR_ENOENT);
    coir_counter_done(&outer.watched, COIR_DONE);
    CHECK_EQ(coir_wait(&outer.watched), COIR_DONE);
}

static void nor_is_it_told_by_one_further_up(void)
{
    int n = 0;

    run_on(1, panics_in_a_try, &n);
}

/* --------------------------------------------------------------- a link outlives one of its counters */

static struct {
    coir_counter stays;
    coir_link *link;
    int late; /* it has settled when it is linked */
} survivor;

static void links_and_panics(void *unused)
{
    coir_counter goes[40] = {COIR_COUNTER_INIT};

    CHECK_EQ(coir_spawn(&goes[20], job_count, unused), COIR_OK);
    if (survivor.late)
        coir_yield();
    CHECK_EQ(coir_link_counters(survivor.link, &goes[20], &survivor.stays), COIR_OK);
    coir_panic("with a counter in its frame");
}

/* What was a counter looks as if something were owed to it. */
static __attribute__((noinline)) void settle_over_words(void)
{
    volatile uint64_t words[1200];

    for (int i = 0; i < 1200; i++)
        words[i] = 0x100;
    coir_counter_done(&survivor.stays, COIR_PANICKED);
    for (int i = 0; i < 1200; i++)
        CHECK_EQ(words[i], 0x100);
}

static void outlives_a_counter(void *unused)
{
    coir_link link;

    survivor.link = &link;
    coir_counter_init(&survivor.stays);
    coir_counter_add(&survivor.stays, 1);
    CHECK_EQ(coir_try(links_and_panics, unused, NULL), COIR_PANICKED);
    settle_over_words();
    CHECK_EQ(coir_unlink(&link), COIR_OK);
}

static void a_link_cancels_no_counter_that_a_panic_has_taken(void)
{
    int n = 0;

    for (survivor.late = 0; survivor.late < 2; survivor.late++)
        run_on(1, outlives_a_counter, &n);
}

/* -------------------------------------------------------------------------------- returns */

static void returns_over_a_link(void *ends)
{
    struct ends *e = ends;
    coir_link link;

    CHECK_EQ(coir_link_counters(&link, &e->a, &e->b), COIR_OK);
}

static void returns_over_a_monitor(void *ends)
{
    struct ends *e = ends;
    coir_monitor m;

    CHECK_EQ(coir_monitor_counter(&m, &e->a, &e->told), COIR_OK);
}

static void ends_by_a_handler(void *link)
{
    CHECK_EQ(coir_unlink(link), COIR_OK);
}

static void leaves_it_to_a_handler(void *ends)
{
    struct ends *e = ends;
    coir_link link;

    CHECK_EQ(coir_link_counters(&link, &e->a, &e->b), COIR_OK);
    CHECK_EQ(coir_defer(ends_by_a_handler, &link), COIR_OK);
}

static void return_over(coir_fn *fn, const char *message)
{
    coir_counter job = COIR_COUNTER_INIT;
    coir_failure f = {0};
    struct ends e;

    owe(&e);
    CHECK_EQ(coir_spawn(&job, fn, &e), COIR_OK);
    CHECK_EQ(coir_wait(&job), message ? COIR_PANICKED : COIR_DONE);
    if (message) {
        CHECK_EQ(coir_counter_failure(&job, &f), COIR_OK);
        CHECK_EQ(f.kind, COIR_KIND_HELD);
        CHECK_STR(f.message, message);
    }
    settle(&e);
    owe(&e);
    CHECK_EQ(coir_try(fn, &e, NULL), message ? COIR_PANICKED : COIR_DONE);
    settle(&e);
}

static void all_returns(void *unused)
{
    (void)unused;
    return_over(returns_over_a_link, "returned over a link in its frame");
    return_over(returns_over_a_monitor, "returned over a monitor in its frame");
    return_over(leaves_it_to_a_handler, NULL);
}

static void a_return_over_one_is_a_panic(void)
{
    run_on(1, all_returns, NULL);
}

/* ---------------------------------------------------------------------------------- others */

static void not_mine(void *link)
{
    CHECK_EQ(coir_unlink(link), COIR_EPERM);
}

static void asks_a_child(void *unused)
{
    coir_counter child = COIR_COUNTER_INIT;
    struct ends e;
    coir_link link;

    (void)unused;
    owe(&e);
    CHECK_EQ(coir_link_counters(&link, &e.a, &e.b), COIR_OK);
    CHECK_EQ(coir_spawn(&child, not_mine, &link), COIR_OK);
    CHECK_EQ(coir_wait(&child), COIR_DONE);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    settle(&e);
}

static void one_in_a_frame_is_its_jobs_to_end(void)
{
    run_on(2, asks_a_child, NULL);
}

CHECK_MAIN(CASE(a_panic_ends_what_lies_in_its_frames), CASE(one_that_lies_further_up_stays),
           CASE(a_panic_does_not_wait_for_what_is_watched), CASE(nor_is_it_told_by_one_further_up),
           CASE(a_link_cancels_no_counter_that_a_panic_has_taken), CASE(a_return_over_one_is_a_panic),
           CASE(one_in_a_frame_is_its_jobs_to_end))
