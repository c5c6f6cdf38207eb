/* SPDX-License-Identifier: MIT */
/*
 * isolate_compose_test.c - isolated calls below what contains, restarts and retries: coir_degrade, supervisors,
 * pools, domains.
 */
#include "isolators.h"
#include "pools.h"
#include "supervisors.h"

/* Runs fn(iso) as a job of a runtime with one worker. */
static void with(coir_fn *fn)
{
    coir_isolator_options o = iso_options(2);
    coir_isolator *iso = iso_open(&o);

    run_on(1, fn, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* A call that breaks, as the end of the job that made it. */
struct part {
    coir_isolator *iso;
    iso_break_fn *fn;
    int calls, crashes; /* the first so many calls break; atomic */
    int fell_back;
};

static void call_or_fail(void *arg)
{
    struct part *p = arg;
    coir_failure f;
    int outcome;

    if (run_count(&p->calls) > p->crashes)
        return;
    outcome = iso_breaks(p->iso, p->fn, &f, coir_deadline());
    if (outcome > COIR_DONE)
        coir_fail(f.code ? f.code : COIR_ECHILD, "%s", f.message);
    else if (outcome != COIR_DONE)
        coir_fail(outcome, "%s", coir_status_text(outcome));
}

static void fall_back(void *arg)
{
    run_count(&((struct part *)arg)->fell_back);
}

static void degrade(void *iso)
{
    struct part crashes = {.iso = iso, .fn = iso_segv, .crashes = 1}, hangs = {.iso = iso, .fn = iso_wait, .crashes = 1};

    CHECK_EQ(coir_degrade(call_or_fail, &crashes, COIR_NEVER, fall_back), COIR_FAILED);
    CHECK_EQ(crashes.fell_back, 1);
    CHECK_EQ(coir_degrade(call_or_fail, &hangs, iso_within(20 * COIR_MS), fall_back), COIR_EXPIRED);
    CHECK_EQ(hangs.fell_back, 1);
    iso_works(iso);
}

static void a_part_whose_child_crashes_or_hangs_falls_back(void)
{
    with(degrade);
}

static void call_or_panic(void *arg)
{
    struct part *p = arg;
    coir_failure f;

    coir_child_ready();
    coir_require(run_count(&p->calls) > p->crashes || iso_breaks(p->iso, p->fn, &f, COIR_NEVER) == COIR_DONE,
                 "%s", f.message);
}

static void supervise(void *iso)
{
    struct part p = {.iso = iso, .fn = iso_abort, .crashes = 3};
    coir_child_spec child = {.size = sizeof child, .name = "caller", .fn = call_or_panic, .arg = &p,
                             .restart = COIR_TRANSIENT, .tells_ready = 1};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &child, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s = supervisor_open(coir_current(), &o, &end);

    while (__atomic_load_n(&p.calls, __ATOMIC_RELAXED) < 4)
        coir_yield();
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_EQ(p.calls, 4); /* three starts whose call crashed, and one that ended well */
    iso_works(iso);
}

static void a_supervised_child_is_started_again_after_a_crash(void)
{
    with(supervise);
}

static void hang_supervised(void *iso)
{
    struct part p = {.iso = iso, .fn = iso_wait, .crashes = 1};
    coir_child_spec child = {.size = sizeof child, .name = "caller", .fn = call_or_panic, .arg = &p,
                             .restart = COIR_TEMPORARY, .tells_ready = 1};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &child, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s = supervisor_open(coir_current(), &o, &end);

    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK); /* interrupts its wait */
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    iso_works(iso);
}

static void a_supervisor_that_stops_interrupts_the_call(void)
{
    with(hang_supervised);
}

struct letter {
    coir_message m; /* first */
    struct part part;
    int dead;
};

static void handle(coir_message *m)
{
    call_or_fail(&((struct letter *)(void *)m)->part);
}

static void bury(coir_message *m)
{
    ((struct letter *)(void *)m)->dead++;
}

static int post(coir_pool *p, struct letter *l)
{
    coir_counter c = COIR_COUNTER_INIT;

    l->m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &l->m), COIR_OK);
    return coir_wait(&c);
}

static void run_pool(void *iso)
{
    struct letter once = {.part = {.iso = iso, .fn = iso_segv, .crashes = 1}},
                  poison = {.part = {.iso = iso, .fn = iso_segv, .crashes = 9}};
    coir_pool_options o = pool_options("isolated");
    coir_pool *p;

    o.handle = handle;
    o.dead = bury;
    o.ended = NULL;
    o.attempts_max = 3;
    p = pool_open(coir_current(), &o);
    CHECK_EQ(post(p, &once), COIR_DONE);
    CHECK_EQ(once.part.calls, 2);
    CHECK_EQ(post(p, &poison), COIR_FAILED);
    CHECK_EQ(poison.part.calls, 3);
    CHECK_EQ(poison.dead, 1);
    pool_close(p);
}

static void a_message_whose_child_crashes_is_retried_then_dead(void)
{
    with(run_pool);
}

static void hang_in_domain(void *iso)
{
    struct part p = {.iso = iso, .fn = iso_wait, .crashes = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d = NULL;
    coir_stats s;

    CHECK_EQ(coir_domain_open(coir_current(), NULL, NULL, &d), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, call_or_fail, &p), COIR_OK);
    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    } while (s.parked == 0);
    domain_close_after(d, 0, NULL);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    iso_works(iso);
}

static void a_domain_that_closes_interrupts_the_call(void)
{
    with(hang_in_domain);
}

CHECK_MAIN(CASE(a_part_whose_child_crashes_or_hangs_falls_back), CASE(a_supervised_child_is_started_again_after_a_crash),
           CASE(a_supervisor_that_stops_interrupts_the_call), CASE(a_message_whose_child_crashes_is_retried_then_dead),
           CASE(a_domain_that_closes_interrupts_the_call))
