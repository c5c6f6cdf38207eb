/* SPDX-License-Identifier: MIT */
/*
 * pool_storm_test.c - pools without memory, and all that they can do at random: the books balance.
 */
#include "pools.h"

/* ----------------------------------------------------------------------------- no memory */

static struct supply {
    int calls, blocks, fail_at, for_ever;
} supply;

static void *supply_alloc(size_t bytes, void *arg)
{
    int call = __atomic_add_fetch(&supply.calls, 1, __ATOMIC_RELAXED);
    void *memory;

    (void)arg;
    if (supply.fail_at && (supply.for_ever ? call >= supply.fail_at : call == supply.fail_at))
        return NULL;
    memory = malloc(bytes);
    if (memory)
        __atomic_add_fetch(&supply.blocks, 1, __ATOMIC_RELAXED);
    return memory;
}

static void supply_free(void *memory, void *arg)
{
    (void)arg;
    __atomic_sub_fetch(&supply.blocks, 1, __ATOMIC_RELAXED);
    free(memory);
}

/* Opens, uses and closes; every step may find no memory. */
static void use_starved(coir_runtime *rt)
{
    static struct job_message job[20];
    coir_pool_options o = pool_options("starved");
    coir_counter c = COIR_COUNTER_INIT;
    coir_quarantine *q = NULL;
    coir_pool *p = NULL;
    int status;

    memset(job, 0, sizeof job);
    status = coir_quarantine_open(rt, NULL, &q);
    CHECK(status == (q ? COIR_OK : COIR_ENOMEM));
    o.quarantine = q;
    o.workers = 2;
    o.attempts_max = 2;
    status = coir_pool_open(rt, &o, &p);
    CHECK(status == COIR_OK ? p != NULL : status == COIR_ENOMEM && !p);
    for (int i = 0; p && i < 20; i++) {
        job[i].m.counter = &c;
        job[i].m.key = (uint64_t)i;
        job[i].panics = i % 4;
        CHECK_EQ(coir_pool_submit(p, &job[i].m), COIR_OK); /* needs none */
    }
    CHECK_EQ(coir_wait(&c), p ? COIR_PANICKED : COIR_DONE);
    if (p)
        CHECK_EQ(pool_close(p).done, 10);
    if (q)
        CHECK_EQ(coir_quarantine_close(q), COIR_OK);
}

static int run_starved(void)
{
    coir_options o = run_options(2);
    coir_runtime *rt;
    int status;

    o.alloc = supply_alloc;
    o.free = supply_free;
    status = coir_open(&o, &rt);
    CHECK(status == COIR_OK || status == COIR_ENOMEM);
    if (status == COIR_OK) {
        use_starved(rt);
        run_close(rt);
    }
    CHECK_EQ(supply.blocks, 0);
    return supply.calls < supply.fail_at;
}

static void any_allocation_may_fail(void)
{
    for (int for_ever = 0; for_ever <= 1; for_ever++) {
        int at = 0, last;

        do {
            supply = (struct supply){.fail_at = ++at, .for_ever = for_ever};
            last = run_starved();
        } while (!last && at < 1000);
        CHECK(last && at > 5);
    }
}

/* ------------------------------------------------------------------------------ at random */

enum { STORM = 400 };
static struct storm {
    struct job_message job;
    coir_counter c;
} storm[STORM];

static void one_storm(unsigned seed)
{
    coir_pool_options o = pool_options("storm");
    coir_runtime *rt = run_open(3);
    coir_quarantine *q = NULL;
    coir_pool_receipt r;
    uint64_t accepted = 0;
    coir_pool *p;
    int status;

    memset(storm, 0, sizeof storm);
    CHECK_EQ(coir_quarantine_open(rt, NULL, &q), COIR_OK);
    o.quarantine = q;
    o.workers = 1 + seed % 4;
    o.queue_max = 20;
    o.full = (enum coir_full)(seed % 3);
    o.attempts_max = 1 + seed % 3;
    o.failures_max = seed % 2 ? 50 : 0;
    o.probe_ns = 100 * COIR_US;
    o.deadline_ns = seed % 5 == 0 ? COIR_MS : 0;
    p = pool_open(rt, &o);
    for (unsigned i = 0; i < STORM; i++) {
        struct job_message *j = &storm[i].job;

        j->m.key = i % 7;
        j->m.counter = &storm[i].c;
        j->panics = i % 7 == 3 ? 9 : (i ^ seed) % 11 == 0;
        j->fails = (i + seed) % 13 == 0 ? 2 : 0;
        status = coir_pool_submit(p, &j->m);
        CHECK(status == COIR_OK || status == COIR_EAGAIN);
        accepted += status == COIR_OK;
        if (status != COIR_OK)
            j->m.counter = NULL;
    }
    do
        status = coir_pool_close(p, seed % 2 ? -1 : 0, &r);
    while (status == COIR_ETIMEDOUT); /* so busy may the machine be */
    CHECK_EQ(status, COIR_OK);
    pool_adds_up(&r.pool);
    CHECK_EQ(r.pool.submitted, accepted);
    CHECK_EQ(r.pool.pending, 0);
    for (unsigned i = 0; i < STORM; i++) {
        struct job_message *j = &storm[i].job;

        CHECK_EQ(j->ended, j->m.counter != NULL);
        CHECK_EQ(j->dead, j->m.end == COIR_MESSAGE_DEAD || j->m.end == COIR_MESSAGE_QUARANTINED);
        if (j->m.counter)
            CHECK_EQ(coir_wait(&storm[i].c) == COIR_DONE, j->m.end == COIR_MESSAGE_DONE);
    }
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    run_close(rt);
}

static void whatever_happens_the_books_balance(void)
{
    for (unsigned seed = 0; seed < (unsigned)MANY(120); seed++)
        one_storm(seed);
}

CHECK_MAIN(CASE(any_allocation_may_fail), CASE(whatever_happens_the_books_balance))
