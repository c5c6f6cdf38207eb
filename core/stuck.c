/* SPDX-License-Identifier: MIT */
/*
 * stuck.c - names the jobs that a domain's close could not end, and ends the waits for them.
 *
 * As receipt.c does it for a whole runtime: a job that never returns cannot be stopped, and its counter
 * stays owed; who waits for it from elsewhere gets COIR_ECANCELED and may wait again.
 *
 * Who is owed what is read from the domain's list of running jobs, under its lock. A job leaves the list
 * before it releases its counter's unit. So a counter that is found there is owed at that moment, and
 * nobody is told in error, whatever other counter lies at an address that had been noted. A filter
 * spares most waiters the walk: a domain may have many jobs, and the process many that wait.
 */
#include "stuck.h"

#include <stdio.h>

#include "thread.h"
#include "wait.h"

#define FILTER_WORDS 64 /* of 64 bits */

/* ------------------------------------------------------------------------------- naming */

static void name_job(coir_stuck *s, const struct job *j)
{
    const struct counter *owed = j->serving ? j->serves : j->owed_to;

    *s = (coir_stuck){.job = j->id, .fn = j->fn, .owed_to = (const coir_counter *)(const void *)owed};
    snprintf(s->name, sizeof s->name, "%s", j->name ? j->name : "");
}

/* Tree claimed. The jobs that are in the lists now: they cannot end while the lock is held. */
static void name_jobs(struct coir_domain *d, coir_domain_receipt *r)
{
    lock_take(&d->lock);
    for (struct member *m = d->members; m && r->stuck_count < COIR_STUCK_MAX; m = m->next)
        name_job(&r->stuck[r->stuck_count++], CONTAINER_OF(m, struct job, member));
    lock_drop(&d->lock);
    for (struct coir_domain *child = d->child; child; child = child->next)
        name_jobs(child, r);
}

/* Fills in what a parked fiber waits for, if it carries one of those jobs innermost. */
static void name_wait(struct fiber *f, void *arg)
{
    coir_domain_receipt *r = arg;
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    for (unsigned i = 0; f->job && i < r->stuck_count; i++)
        if (r->stuck[i].job && r->stuck[i].job == job_proper(f->job)->id) {
            r->stuck[i].waits_for = f->waits_for;
            r->stuck[i].waits_on = f->waits_on;
        }
    if (!fiber_publish(f))
        worker_ready(f);
}

/* ------------------------------------------------------------------------------- telling */

struct tell {
    struct coir_domain *domain;
    uint64_t filter[FILTER_WORDS]; /* a bit for each counter that was owed when it was written */
    size_t told;
};

static uint64_t bit_of(const void *counter, size_t *word)
{
    uint64_t hash = (uint64_t)(uintptr_t)counter * UINT64_C(0x9e3779b97f4a7c15);

    *word = (size_t)(hash >> 58);
    return UINT64_C(1) << (hash >> 52 & 63);
}

static void note_in_filter(struct tell *t, const struct counter *c)
{
    size_t word;
    uint64_t bit = bit_of(c, &word);

    t->filter[word] |= bit;
}

static void note_owed(struct coir_domain *d, struct tell *t)
{
    lock_take(&d->lock);
    for (const struct member *m = d->members; m; m = m->next) {
        const struct job *j = CONTAINER_OF(m, struct job, member);

        note_in_filter(t, j->owed_to);
        if (j->serving)
            note_in_filter(t, j->serves);
    }
    lock_drop(&d->lock);
    for (struct coir_domain *child = d->child; child; child = child->next)
        note_owed(child, t);
}

static bool owes(struct coir_domain *d, const struct counter *c)
{
    bool found = false;

    lock_take(&d->lock);
    for (const struct member *m = d->members; m && !found; m = m->next)
        found = job_owes(CONTAINER_OF(m, struct job, member), c);
    lock_drop(&d->lock);
    for (struct coir_domain *child = d->child; child && !found; child = child->next)
        found = owes(child, c);
    return found;
}

static bool is_owed(const struct counter *c, void *arg)
{
    struct tell *t = arg;
    size_t word;

    uint64_t bit = bit_of(c, &word);

    return (t->filter[word] & bit) && owes(t->domain, c);
}

static void tell_fibers(struct coir_runtime *rt, void *arg)
{
    struct tell *t = arg;

    t->told += wait_wake_owed(rt, is_owed, t);
}

void stuck_name(struct coir_domain *d, coir_domain_receipt *r)
{
    struct tell t = {.domain = d};

    name_jobs(d, r);
    worker_each_fiber(d->rt, name_wait, r);
    note_owed(d, &t);
    runtime_each_open(tell_fibers, &t);
    r->told += t.told + thread_wake(is_owed, &t); /* a closing runtime sums them up */
}
