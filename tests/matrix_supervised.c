/* SPDX-License-Identifier: MIT */
/*
 * matrix_supervised.c - rows of the propagation matrix: supervised children, links and monitors. The waiter
 * is who waits for the supervisor's end.
 */
#include "matrix.h"
#include "supervisors.h"

enum { KIDS = 2 };

/* Two children, a and b, and their supervisor. */
struct nursery {
    struct story story;
    struct kid kids[KIDS];
    coir_child_spec specs[KIDS];
    coir_supervisor_options options;
    coir_supervisor *top;
    coir_counter end;
};

static void nursery_make(struct nursery *n, enum coir_strategy strategy)
{
    *n = (struct nursery){.story = STORY_INIT};
    for (int i = 0; i < KIDS; i++) {
        n->kids[i].name = i ? "b" : "a";
        n->kids[i].story = &n->story;
        n->specs[i] = kid_spec(&n->kids[i]);
    }
    n->options = supervisor_options(strategy, n->specs, KIDS);
}

static void nursery_open(struct nursery *n, struct scene *s)
{
    n->top = supervisor_open(s->rt, &n->options, &n->end);
}

static void nursery_close(struct nursery *n)
{
    CHECK_EQ(coir_supervisor_close(n->top, -1, NULL), COIR_OK);
}

/* Stops it, and notes what its waiter saw, and what had happened to the children until then. */
static void nursery_ends(struct nursery *n, struct scene *s)
{
    char until[sizeof n->story.text];

    await_state(n->top, "a", COIR_CHILD_RUNNING);
    await_state(n->top, "b", COIR_CHILD_RUNNING);
    snprintf(until, sizeof until, "%s", n->story.text);
    until[strlen(until) - 1] = '\0';
    peer_saw(s, "%s", until);
    CHECK_EQ(coir_supervisor_stop(n->top), COIR_OK);
    waiter_waits(s, &n->end);
    nursery_close(n);
}

/* The story of a supervisor that has ended. */
static void peer_saw_story(struct nursery *n, struct scene *s)
{
    n->story.text[strlen(n->story.text) - 1] = '\0';
    peer_saw(s, "%s", n->story.text);
}

/* ------------------------------------------------------------------------------- one that breaks */

void child_panics(struct scene *s)
{
    struct nursery n;

    nursery_make(&n, COIR_ONE_FOR_ONE);
    nursery_open(&n, s);
    kid_end(&n.kids[0], 1);
    kid_await(&n.kids[0], 2);
    nursery_ends(&n, s);
}

void child_of_a_group_panics(struct scene *s)
{
    struct nursery n;

    nursery_make(&n, COIR_ONE_FOR_ALL);
    nursery_open(&n, s);
    kid_end(&n.kids[0], 1);
    kid_await(&n.kids[1], 2);
    nursery_ends(&n, s);
}

void child_panics_in_a_restart(struct scene *s)
{
    struct nursery n;

    nursery_make(&n, COIR_ONE_FOR_ONE);
    nursery_open(&n, s);
    n.kids[0].fails = 2;
    kid_end(&n.kids[0], 1);
    kid_await(&n.kids[0], 2);
    await_state(n.top, "a", COIR_CHILD_RUNNING);
    peer_saw(s, "%d restarts", (int)child_info(n.top, "top").restarts);
    nursery_ends(&n, s);
}

void child_panics_in_its_start(struct scene *s)
{
    struct nursery n;

    nursery_make(&n, COIR_ONE_FOR_ONE);
    n.kids[1].fails = 1;
    peer_saw(s, "open %s", short_name(coir_supervisor_open(s->rt, NULL, &n.options, &n.end, &n.top)));
    waiter_waits(s, &n.end);
    peer_saw_story(&n, s);
}

void child_panics_too_often(struct scene *s)
{
    struct nursery n;

    nursery_make(&n, COIR_ONE_FOR_ONE);
    n.options.max_restarts = 1;
    nursery_open(&n, s);
    for (int i = 1; i <= 2; i++) {
        kid_await(&n.kids[0], i);
        kid_end(&n.kids[0], 1);
    }
    waiter_waits(s, &n.end);
    peer_saw_story(&n, s);
    nursery_close(&n);
}

/* -------------------------------------------------------------------------------- one that is stuck */

struct deaf {
    struct hold hold;
    coir_child_spec spec;
};

/* Ends when it is let go, whatever it is asked. */
static void deaf_make(struct deaf *d)
{
    *d = (struct deaf){.spec = {.size = sizeof d->spec, .name = "deaf", .fn = job_hold, .cancel_ns = COIR_MS}};
    d->spec.arg = &d->hold;
    d->spec.shutdown_ns = COIR_MS;
}

void child_that_does_not_end(struct scene *s)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor_options o;
    coir_supervisor *top;
    struct deaf d;
    int status;

    deaf_make(&d);
    o = supervisor_options(COIR_ONE_FOR_ONE, &d.spec, 1);
    top = supervisor_open(s->rt, &o, &end);
    run_until(&d.hold.started);
    CHECK_EQ(coir_supervisor_stop(top), COIR_OK);
    waiter_waits(s, &end);
    peer_saw(s, "close %s", short_name(coir_supervisor_close(top, 0, NULL)));
    run_set(&d.hold.go);
    do
        status = coir_supervisor_close(top, -1, NULL); /* its budgets are short for a busy machine */
    while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
}

/* ------------------------------------------------------------------------------------------- trees */

static void nest(struct nursery *below, coir_child_spec *as_child, unsigned max_restarts)
{
    nursery_make(below, COIR_ONE_FOR_ONE);
    below->options.max_restarts = max_restarts;
    below->options.name = "below";
    *as_child = (coir_child_spec){.size = sizeof *as_child, .name = "below", .supervisor = &below->options};
}

void supervisor_below_gives_up(struct scene *s)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor_options o;
    coir_supervisor *top;
    coir_child_spec c;
    struct nursery n;

    nest(&n, &c, COIR_RESTARTS_NONE);
    o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    top = supervisor_open(s->rt, &o, &end);
    kid_end(&n.kids[0], 1);
    kid_await(&n.kids[1], 2);
    await_state(top, "below", COIR_CHILD_RUNNING);
    peer_saw(s, "its parent saw %s, and starts it again", outcome_name(child_info(top, "below").last.outcome));
    CHECK_EQ(coir_supervisor_stop(top), COIR_OK);
    waiter_waits(s, &end);
    CHECK_EQ(coir_supervisor_close(top, -1, NULL), COIR_OK);
}

static void child_that_breaks_at_once(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_child_ready(), COIR_OK);
    coir_panic("planned");
}

void root_supervisor_gives_up(struct scene *s)
{
    coir_options runtime = run_options(s->workers);
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = child_that_breaks_at_once, .tells_ready = 1};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);

    o.max_restarts = 1;
    peer_saw(s, "coir_supervisor_run %s", outcome_name(coir_supervisor_run(&runtime, &o)));
}

/* --------------------------------------------------------------------------------- links, monitors */

static void panics_when_let_go(void *hold)
{
    job_hold(hold);
    coir_panic("planned");
}

void linked_job(struct scene *s)
{
    coir_counter breaks = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;
    struct blocked b = {0, 0};
    struct hold h = {0, 0};
    coir_link link;

    CHECK_EQ(coir_submit(s->rt, &other, job_block, &b), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_submit(s->rt, &breaks, panics_when_let_go, &h), COIR_OK);
    CHECK_EQ(coir_link_counters(&link, &breaks, &other), COIR_OK);
    run_set(&h.go);
    waiter_waits(s, &breaks);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    peer_saw(s, "linked job's sleep %s", short_name(b.status));
    CHECK_EQ(coir_unlink(&link), COIR_OK);
}

void monitored_job(struct scene *s)
{
    coir_counter watched = COIR_COUNTER_INIT, told = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_failure f = {0};
    coir_monitor m;

    CHECK_EQ(coir_submit(s->rt, &watched, panics_when_let_go, &h), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m, &watched, &told), COIR_OK);
    run_set(&h.go);
    waiter_waits(s, &watched);
    peer_saw(s, "monitor %s", outcome_name(coir_wait(&told)));
    CHECK_EQ(coir_counter_failure(&told, &f), COIR_OK);
    peer_saw(s, "told \"%s\"", f.message);
    CHECK_EQ(coir_monitor_end(&m), COIR_ENOENT);
}
