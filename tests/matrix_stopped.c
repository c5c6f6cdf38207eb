/* SPDX-License-Identifier: MIT */
/*
 * matrix_stopped.c - rows of the propagation matrix: jobs that are not run or asked to stop, and what
 * domains do about those that break.
 */
#include "domains.h"
#include "matrix.h"

static void nop(void *unused)
{
    (void)unused;
}

/* ---------------------------------------------------------------------------------------- not run */

void job_expired(struct scene *s)
{
    coir_domain *d = domain_open(s->rt, NULL, NULL);
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit_until(d, &c, job_panic, NULL, 1), COIR_OK);
    waiter_waits(s, &c);
    domain_close(d);
}

void job_canceled_unstarted(struct scene *s)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_submit(s->rt, &c, job_panic, NULL), COIR_OK);
    waiter_waits(s, &c);
}

void job_canceled_blocked(struct scene *s)
{
    struct blocked b = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &c, job_block, &b), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    waiter_waits(s, &c);
    peer_saw(s, "its sleep %s", short_name(b.status));
}

struct chain {
    coir_counter first, second;
    coir_fn *fn; /* of the first */
};

static void spawn_second(void *arg)
{
    struct chain *c = (struct chain *)arg;

    CHECK_EQ(coir_spawn_after(&c->first, &c->second, nop, NULL), COIR_OK);
}

void job_after_a_broken_one(struct scene *s)
{
    struct chain c = {COIR_COUNTER_INIT, COIR_COUNTER_INIT, NULL};
    coir_counter done = COIR_COUNTER_INIT;

    coir_counter_add(&c.first, 1);
    CHECK_EQ(coir_submit(s->rt, &done, spawn_second, &c), COIR_OK);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(coir_submit(s->rt, &c.first, job_panic, NULL), COIR_OK);
    coir_counter_done(&c.first, COIR_DONE);
    waiter_waits(s, &c.second);
    peer_saw(s, "other %s", outcome_name(coir_wait(&c.first)));
}

/* ------------------------------------------------------------------------------------------ domains */

/* A job of the domain that has not started when the domain is canceled: it comes after another. */
void job_of_canceled_domain(struct scene *s)
{
    coir_domain *d = domain_open(s->rt, NULL, NULL);
    struct chain c = {COIR_COUNTER_INIT, COIR_COUNTER_INIT, NULL};
    struct blocked b = {0, 0};
    coir_counter sleeper = COIR_COUNTER_INIT;

    coir_counter_add(&c.first, 1);
    CHECK_EQ(domain_run(d, spawn_second, &c, NULL), COIR_DONE);
    CHECK_EQ(coir_domain_submit(d, &sleeper, job_block, &b), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_domain_cancel(d), COIR_OK);
    coir_counter_done(&c.first, COIR_DONE);
    waiter_waits(s, &c.second);
    CHECK_EQ(coir_wait(&sleeper), COIR_DONE);
    peer_saw(s, "blocked job %s", short_name(b.status));
    peer_saw(s, "submit %s", short_name(coir_domain_submit(d, &sleeper, nop, NULL)));
    domain_close(d);
}

void job_of_tripped_domain(struct scene *s)
{
    coir_domain_options o = domain_options("trips");
    coir_domain *d, *sibling = domain_open(s->rt, NULL, NULL);
    coir_counter c = COIR_COUNTER_INIT;

    o.panics_max = 1;
    o.probe_ns = 3600 * COIR_SEC;
    d = domain_open(s->rt, NULL, &o);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_domain_submit(d, &c, nop, NULL), COIR_OK);
    waiter_waits(s, &c);
    peer_saw(s, "sibling domain %s", outcome_name(domain_run(sibling, nop, NULL, NULL)));
    domain_close(d);
    domain_close(sibling);
}

struct full {
    coir_domain *d;
    coir_counter c;
    int status;
};

static void submit_to_full(void *arg)
{
    struct full *f = (struct full *)arg;

    f->status = coir_domain_submit(f->d, &f->c, job_panic, NULL);
}

void job_in_its_submitter(struct scene *s)
{
    coir_domain_options o = domain_options("full");
    struct full f = {NULL, COIR_COUNTER_INIT, -1};
    struct hold h = {0, 0};
    coir_counter holder = COIR_COUNTER_INIT, submitter = COIR_COUNTER_INIT;

    o.jobs_max = 1;
    o.full = COIR_FULL_RUN;
    f.d = domain_open(s->rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(f.d, &holder, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_submit(s->rt, &submitter, submit_to_full, &f), COIR_OK);
    CHECK_EQ(coir_wait(&submitter), COIR_DONE);
    waiter_waits(s, &f.c);
    peer_saw(s, "submit %s", short_name(f.status));
    run_set(&h.go);
    CHECK_EQ(coir_wait(&holder), COIR_DONE);
    domain_close(f.d);
}
