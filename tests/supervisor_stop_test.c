/* SPDX-License-Identifier: MIT */
/*
 * supervisor_stop_test.c - how supervisors end: budgets, children that ignore all, cancels, closes of what is around
 * them, coir_supervisor_run.
 */
#include "supervised.h"
#include "supervisors.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------- budgets */

struct polite {
    int started, canceled, asked;
};

/* Ends when it is asked to, in its own time. */
static void ends_when_asked(void *arg)
{
    struct polite *p = arg;

    run_set(&p->started);
    p->asked = coir_child_stop_wait() == COIR_OK;
    p->canceled = coir_sleep_until(coir_now() + COIR_MS) == COIR_ECANCELED;
}

static void within_its_budget_a_child_is_asked_and_not_canceled(void)
{
    coir_runtime *rt = run_open(2);
    struct polite p = {0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = ends_when_asked, .arg = &p, .shutdown_ns = 50 * COIR_SEC};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    run_until(&p.started);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(p.asked, 1);
    CHECK_EQ(p.canceled, 0);
    run_close(rt);
}

static void past_its_budget_it_is_canceled(void)
{
    coir_runtime *rt = run_open(2);
    struct blocked b = {0, 0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = job_block, .arg = &b, .shutdown_ns = 20 * COIR_MS};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);
    int64_t begin;

    run_until(&b.started);
    begin = coir_now();
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK(coir_now() - begin >= 20 * COIR_MS);
    CHECK_EQ(b.status, COIR_ECANCELED);
    run_close(rt);
}

/* Waits for something else each time it is told to stop. */
static void waits_twice(void *arg)
{
    coir_counter *never = arg;

    CHECK_EQ(coir_wait(never), COIR_ECANCELED);
    CHECK_EQ(coir_wait(never), COIR_ECANCELED);
}

static void waits_that_heed_no_cancel_are_interrupted(void)
{
    static coir_counter never;
    coir_runtime *rt = run_open(2);
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = waits_twice, .arg = &never};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    coir_counter_add(&never, 1);
    s = supervisor_open(rt, &o, &end);
    CHECK_EQ(coir_supervisor_stop(s), COIR_OK);
    CHECK_EQ(coir_wait(&end), COIR_DONE); /* not given up */
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    coir_counter_done(&never, COIR_DONE);
    run_close(rt);
}

/* ------------------------------------------------------------------------- a child that is stuck */

static void stays(void *arg)
{
    coir_job_name("the one that stays");
    job_hold(arg);
}

/* One that stays below two levels, beside one that breaks and takes it along. */
static void a_child_that_ignores_its_cancel_ends_all_above_it(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kid = {.name = "kid", .story = &story}, first = {.name = "first", .story = &story};
    struct hold h = {0, 0};
    coir_child_spec low[2] = {kid_spec(&kid)}, high[2] = {kid_spec(&first)};
    coir_supervisor_options below = supervisor_options(COIR_ONE_FOR_ALL, low, 2);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, high, 2);
    coir_counter end = COIR_COUNTER_INIT;
    coir_domain_receipt r;
    coir_supervisor *s;
    coir_failure f;

    low[1] = (coir_child_spec){.size = sizeof *low, .name = "stuck", .fn = stays, .arg = &h, .cancel_ns = COIR_MS};
    high[1] = (coir_child_spec){.size = sizeof *high, .name = "sub", .supervisor = &below, .cancel_ns = COIR_MS};
    s = supervisor_open(rt, &o, &end);
    run_until(&h.started);
    kid_end(&kid, 1);
    CHECK_EQ(coir_wait(&end), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&end, &f), COIR_OK);
    CHECK(strstr(f.message, "child sub does not end") != NULL);
    CHECK(strstr(story.text, "-first ") != NULL); /* the others were stopped all the same */
    CHECK_EQ(child_info(s, "stuck").state, COIR_CHILD_STUCK);
    CHECK_EQ(child_info(s, "sub").state, COIR_CHILD_STUCK);
    CHECK_EQ(coir_supervisor_close(s, -1, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.stuck_count, 1);
    CHECK_STR(r.stuck[0].name, "the one that stays");
    CHECK(r.stuck[0].fn != NULL);
    run_set(&h.go);
    while (coir_supervisor_close(s, COIR_SEC, &r) == COIR_ETIMEDOUT)
        ;
    CHECK_EQ(r.stuck_count, 0);
    run_close(rt);
}

static void one_that_is_stuck_in_its_start_is_not_started_again(void)
{
    coir_runtime *rt = run_open(2);
    struct hold h = {0, 0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = job_hold, .arg = &h, .tells_ready = 1,
                         .start_ns = COIR_MS, .cancel_ns = COIR_MS};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, NULL, &s), COIR_ETIMEDOUT);
    CHECK(s == NULL);
    run_set(&h.go);
    run_close(rt);
}

/* --------------------------------------------------------------------------- stopped from above */

static void a_canceled_supervisor_grants_no_budgets(void)
{
    coir_runtime *rt = run_open(2);
    struct blocked b = {0, 0};
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = job_block, .arg = &b, .shutdown_ns = COIR_NEVER};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, &end);

    run_until(&b.started);
    CHECK_EQ(coir_counter_cancel(&end), COIR_OK);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_EQ(b.status, COIR_ECANCELED);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* Opens one whose end is owed to its own frame, and panics. */
static void opens_and_panics(void *arg)
{
    coir_child_spec c = kid_spec(arg);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(coir_current(), NULL, &o, &end, &s), COIR_OK);
    coir_panic("planned");
}

static void a_panic_of_the_frame_that_waits_for_it_ends_it_first(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k = {.name = "a", .story = &story};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, opens_and_panics, &k), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_STR(story.text, "+a -a ");
    run_close(rt); /* frees the supervisor */
}

static void closing_the_runtime_stops_trees_in_order(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = {{.name = "a", .story = &story}, {.name = "b", .story = &story}, {.name = "c", .story = &story}};
    coir_child_spec low[2] = {kid_spec(&kids[1]), kid_spec(&kids[2])}, high[2] = {kid_spec(&kids[0])};
    coir_supervisor_options below = supervisor_options(COIR_ONE_FOR_ONE, low, 2);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, high, 2);
    coir_counter end = COIR_COUNTER_INIT;

    high[1] = (coir_child_spec){.size = sizeof *high, .name = "sub", .supervisor = &below};
    supervisor_open(rt, &o, &end);
    run_close(rt);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_STR(story.text, "+a +b +c -c -b -a ");
}

static void closing_without_a_budget_ends_all_the_same(void)
{
    for (int i = 0; i < MANY(100); i++) {
        coir_runtime *rt = run_open(2);
        struct blocked b[2] = {{0, 0}};
        coir_child_spec c[2] = {{.size = sizeof *c, .name = "a", .fn = job_block, .arg = &b[0], .shutdown_ns = COIR_NEVER},
                                {.size = sizeof *c, .name = "b", .fn = job_block, .arg = &b[1], .shutdown_ns = COIR_NEVER}};
        coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 2);
        coir_counter end = COIR_COUNTER_INIT;

        supervisor_open(rt, &o, &end);
        while (coir_close(rt, 0, NULL) == COIR_ETIMEDOUT)
            ;
        CHECK(coir_wait(&end) >= 0);
        CHECK(!b[1].started || b[1].status == COIR_ECANCELED);
    }
}

static void closing_the_domain_around_stops_it_too(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *above = domain_open(rt, d, NULL);
    struct story story = STORY_INIT;
    struct kid kids[2] = {{.name = "a", .story = &story}, {.name = "b", .story = &story}};
    coir_child_spec c[2] = {kid_spec(&kids[0]), kid_spec(&kids[1])};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ALL, c, 2);
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(rt, above, &o, NULL, &s), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_STR(story.text, "+a +b -b -a ");
    run_close(rt);
}

static void ends_with_a_finalizer(void *h)
{
    CHECK_EQ(coir_domain_finalizer(coir_domain_current(), job_hold, h), COIR_OK);
}

static void lets_go(void *arg)
{
    struct hold *h = arg;

    CHECK_EQ(coir_sleep_until(coir_now() + 5 * COIR_MS), COIR_OK); /* the close has begun by now, or will be let in */
    run_set(&h->go);
}

#define BUDGET (50 * COIR_SEC)

/* Its supervisor is ending what a child has left: that is nobody's close. */
static void no_close_is_refused_for_what_a_supervisor_does(bool around)
{
    coir_runtime *rt = run_open(3);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct hold h = {0, 0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = ends_with_a_finalizer, .arg = &h, .restart = COIR_TEMPORARY};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(rt, d, &o, NULL, &s), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_submit(rt, NULL, lets_go, &h), COIR_OK);
    CHECK_EQ(around ? coir_domain_close(d, BUDGET, NULL) : coir_supervisor_close(s, BUDGET, NULL), COIR_OK);
    if (!around)
        CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

static void a_close_waits_for_what_a_supervisor_ends(void)
{
    no_close_is_refused_for_what_a_supervisor_does(true);
    no_close_is_refused_for_what_a_supervisor_does(false);
}

/* ------------------------------------------------------------------------------ asked meanwhile */

struct adder {
    coir_supervisor *s;
    struct kid *kid;
    int status;
};

static void adds(void *arg)
{
    struct adder *a = arg;
    coir_child_spec c = kid_spec(a->kid);

    a->status = coir_supervisor_add(a->s, &c, NULL);
}

static void whoever_comes_while_it_stops_is_turned_away(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid late = {.name = "late", .story = &story};
    struct hold h = {0, 0};
    coir_counter end = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    coir_child_spec spec = {.size = sizeof spec, .name = "a", .fn = job_hold, .arg = &h, .shutdown_ns = COIR_NEVER};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &spec, 1);
    struct adder a = {supervisor_open(rt, &o, &end), &late, 1};

    run_until(&h.started);
    CHECK_EQ(coir_supervisor_stop(a.s), COIR_OK);
    await_state(a.s, "a", COIR_CHILD_STOPPING);
    CHECK_EQ(coir_submit(rt, &c, adds, &a), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(a.status, COIR_ESHUTDOWN);
    CHECK_EQ(coir_supervisor_remove(a.s, 1), COIR_ESHUTDOWN);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_STR(story.text, "");
    CHECK_EQ(coir_supervisor_close(a.s, -1, NULL), COIR_OK);
    run_close(rt);
}

static void removes_the_first(void *s)
{
    CHECK_EQ(coir_supervisor_remove(s, 1), COIR_OK);
}

static void a_caller_that_is_canceled_takes_its_request_back(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid late = {.name = "late", .story = &story};
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, removal = COIR_COUNTER_INIT;
    coir_child_spec spec = {.size = sizeof spec, .name = "a", .fn = job_hold, .arg = &h, .shutdown_ns = COIR_NEVER};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &spec, 1);
    struct adder a = {supervisor_open(rt, &o, NULL), &late, 1};

    run_until(&h.started);
    CHECK_EQ(coir_submit(rt, &removal, removes_the_first, a.s), COIR_OK);
    await_state(a.s, "a", COIR_CHILD_STOPPING); /* the supervisor waits for it, and for nothing else */
    CHECK_EQ(coir_submit(rt, &c, adds, &a), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK(coir_wait(&c) >= 0);
    CHECK(a.status == COIR_ECANCELED || a.status == 1); /* 1: it was canceled before it began */
    run_set(&h.go);
    CHECK_EQ(coir_wait(&removal), COIR_DONE);
    CHECK_STR(story.text, "");
    CHECK_EQ(coir_supervisor_close(a.s, -1, NULL), COIR_OK);
    run_close(rt);
}

static void gives_its_supervisor_away(void *arg)
{
    __atomic_store_n((coir_supervisor **)arg, coir_supervisor_current(), __ATOMIC_RELEASE);
    CHECK_EQ(coir_child_stop_wait(), COIR_OK);
}

static void closing_a_supervisor_below_is_not_allowed(void)
{
    coir_runtime *rt = run_open(2);
    coir_supervisor *sub = NULL;
    coir_child_spec low = {.size = sizeof low, .name = "a", .fn = gives_its_supervisor_away, .arg = &sub};
    coir_supervisor_options below = supervisor_options(COIR_ONE_FOR_ONE, &low, 1);
    coir_child_spec c = {.size = sizeof c, .name = "sub", .supervisor = &below};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    CHECK_EQ(coir_supervisor_stop(NULL), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_close(NULL, 0, NULL), COIR_EINVAL);
    CHECK(child_info(s, "sub").of == s);
    while (!__atomic_load_n(&sub, __ATOMIC_ACQUIRE))
        sched_yield();
    CHECK(child_info(s, "a").of == sub);
    CHECK_EQ(coir_supervisor_close(sub, 0, NULL), COIR_EPERM);
    CHECK_EQ(coir_supervisor_close(s, COIR_SEC, NULL), COIR_OK);
    run_close(rt);
}

/* -------------------------------------------------------------------------- coir_supervisor_run */

static void stops_its_supervisor(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_supervisor_stop(coir_supervisor_current()), COIR_OK);
}

static void the_end_of_a_run_says_how_the_root_ended(void)
{
    coir_options options = run_options(2);
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = stops_its_supervisor};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);

    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_DONE);
    c.fn = job_panic;
    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_PANICKED);
    c.tells_ready = 1;
    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_ECHILD);
    o.max_seconds = 0;
    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_ERANGE);
    options.size = 1;
    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_EINVAL);
}

static void never_starts(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
}

static void a_run_that_is_stopped_before_all_have_started_has_ended_well(void)
{
    coir_options options = run_options(2);
    coir_child_spec c[] = {{.size = sizeof *c, .name = "a", .fn = stops_its_supervisor},
                           {.size = sizeof *c, .name = "b", .fn = never_starts, .tells_ready = 1}};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 2);

    CHECK_EQ(coir_supervisor_run(&options, &o), COIR_DONE);
}

/* Children that broke wait for an hour to be started again. */
static void one_that_waits_can_be_removed_and_its_supervisor_stopped(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[] = {{.name = "a", .story = &story}, {.name = "b", .story = &story}};
    coir_child_spec c[] = {kid_spec(&kids[0]), kid_spec(&kids[1])};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 2);
    coir_supervisor *s;

    o.backoff_ns = 3600 * COIR_SEC;
    s = supervisor_open(rt, &o, NULL);
    kid_end(&kids[0], 1);
    await_state(s, "a", COIR_CHILD_WAITING);
    CHECK_EQ(child_info(s, "b").state, COIR_CHILD_RUNNING);
    CHECK_EQ(coir_supervisor_remove(s, child_info(s, "a").id), COIR_OK);
    kid_end(&kids[1], 1);
    await_state(s, "b", COIR_CHILD_WAITING);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- broken visitors */

static void panic_visit(void *unused, const coir_child_info *info)
{
    (void)unused;
    coir_require(!info->id, "planned: a visitor");
}

static void visit_and_panic(void *s)
{
    CHECK(coir_supervisor_visit(s, panic_visit, NULL) < 0); /* not reached */
}

/* The walk's place lies in the frame that the panic tears down. */
static void a_visitor_that_panics_leaves_nothing_behind(void)
{
    coir_runtime *rt = run_open(1);
    struct story story = STORY_INIT;
    struct kid kid = {.name = "a", .story = &story};
    coir_child_spec c = kid_spec(&kid);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);
    coir_counter visit = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &visit, visit_and_panic, s), COIR_OK);
    CHECK_EQ(coir_wait(&visit), COIR_PANICKED);
    CHECK(!s->tree->cursors);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(one_that_waits_can_be_removed_and_its_supervisor_stopped), CASE(within_its_budget_a_child_is_asked_and_not_canceled), CASE(past_its_budget_it_is_canceled),
           CASE(waits_that_heed_no_cancel_are_interrupted),
           CASE(a_child_that_ignores_its_cancel_ends_all_above_it),
           CASE(one_that_is_stuck_in_its_start_is_not_started_again),
           CASE(a_canceled_supervisor_grants_no_budgets),
           CASE(a_panic_of_the_frame_that_waits_for_it_ends_it_first),
           CASE(closing_the_runtime_stops_trees_in_order), CASE(closing_without_a_budget_ends_all_the_same),
           CASE(closing_the_domain_around_stops_it_too), CASE(a_close_waits_for_what_a_supervisor_ends), CASE(whoever_comes_while_it_stops_is_turned_away),
           CASE(a_caller_that_is_canceled_takes_its_request_back),
           CASE(closing_a_supervisor_below_is_not_allowed), CASE(the_end_of_a_run_says_how_the_root_ended),
           CASE(a_run_that_is_stopped_before_all_have_started_has_ended_well),
           CASE(a_visitor_that_panics_leaves_nothing_behind))
