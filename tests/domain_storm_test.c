/* SPDX-License-Identifier: MIT */
/*
 * domain_storm_test.c - domains that open, fill, trip, expire, are canceled and closed at random, by
 * fibers and threads, while a model keeps the books: what was admitted is what ended, each job with
 * the outcome that its counter tells, and all that a domain counted reaches its parent.
 */
#include "domains.h"
#include "threads.h"

#define ROUNDS MANY(300)
#define STORMS 4 /* fibers, and half as many threads */

/* The model: what the jobs themselves and those who wait for them have seen. */
struct model {
    int done, panicked;  /* jobs that ran to that end */
    int accepted, refused; /* what submit and spawn said */
    int told[COIR_PANICKED + 1]; /* one counter for each submitted job */
};

struct storm {
    coir_runtime *rt;
    coir_domain *top;
    struct model *m;
    uint64_t seed;
};

static void accepted(struct model *m, int status)
{
    if (status == COIR_OK)
        run_count(&m->accepted);
    else
        run_count(&m->refused);
}

static void runs(void *arg)
{
    run_count(&((struct model *)arg)->done);
}

static void panics(void *arg)
{
    run_count(&((struct model *)arg)->panicked);
    coir_panic("planned");
}

static void spawns_and_blocks(void *arg)
{
    struct model *m = arg;
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 3; i++)
        accepted(m, coir_spawn(&c, runs, m));
    (void)!coir_sleep_until(coir_now() + 20 * COIR_US);
    while (coir_wait(&c) < COIR_DONE)
        ; /* canceled, and so are they; who returns while they still run has panicked */
    run_count(&m->done);
}

static const struct {
    coir_fn *fn;
    int until; /* of 16 */
} kinds[] = {{runs, 8}, {panics, 10}, {spawns_and_blocks, 16}};

static coir_fn *any_kind(uint64_t *seed)
{
    int r = (int)(random_next(seed) % 16), k = 0;

    while (r >= kinds[k].until)
        k++;
    return kinds[k].fn;
}

static coir_domain *any_domain(struct storm *s, coir_domain *parent)
{
    uint64_t r = random_next(&s->seed);
    coir_domain_options o = domain_options("storm");

    o.jobs_max = r % 5;
    o.full = o.jobs_max ? (enum coir_full)(r / 5 % 3) : COIR_FULL_REFUSE;
    o.full_wait_ns = 50 * COIR_US;
    o.panics_max = (unsigned)(r / 16 % 4);
    o.panics_window_ns = COIR_SEC;
    o.probe_ns = 20 * COIR_US;
    o.deadline_ns = r / 64 % 3 ? 0 : (int64_t)(r / 256 % 100) * COIR_US;
    return domain_open(s->rt, parent, &o);
}

#define JOBS 12

static void one_round(struct storm *s)
{
    coir_domain *d = any_domain(s, s->top), *child = any_domain(s, d);
    coir_counter c[JOBS] = {COIR_COUNTER_INIT};
    uint64_t r = random_next(&s->seed);
    int status[JOBS];

    for (int i = 0; i < JOBS; i++) {
        status[i] = coir_domain_submit(i % 3 ? child : d, &c[i], any_kind(&s->seed), s->m);
        accepted(s->m, status[i]);
        if (r % 8 == 0 && i == JOBS / 2)
            CHECK_EQ(coir_domain_cancel(r % 16 ? child : d), COIR_OK);
    }
    if (r % 3 == 0)
        domain_close_after(child, (int64_t)(r / 16 % 50) * COIR_US, NULL);
    if (r % 3 == 1)
        domain_stats(s->top);
    for (int i = 0; r % 2 && i < JOBS; i++)
        if (status[i] == COIR_OK)
            run_count(&s->m->told[coir_wait(&c[i])]);
    domain_close_after(d, (int64_t)(r / 1024 % 50) * COIR_US, NULL);
    for (int i = 0; r % 2 == 0 && i < JOBS; i++)
        if (status[i] == COIR_OK)
            run_count(&s->m->told[coir_wait(&c[i])]);
}

static void storm(void *arg)
{
    for (int i = 0; i < ROUNDS; i++)
        one_round(arg);
}

static void *storm_on_a_thread(void *arg)
{
    storm(arg);
    return NULL;
}

static void check_books(coir_domain *top, const struct model *m)
{
    coir_domain_stats s = domain_stats(top);
    uint64_t told = 0;

    domain_balances(top);
    CHECK_EQ(s.admitted, m->accepted);
    CHECK_EQ(s.ended[COIR_DONE], m->done);
    CHECK_EQ(s.ended[COIR_PANICKED], m->panicked);
    CHECK_EQ(s.ended[COIR_FAILED], 0);
    CHECK(s.skipped <= s.ended[COIR_CANCELED]);
    for (int o = 0; o <= COIR_PANICKED; o++) {
        CHECK((uint64_t)m->told[o] <= s.ended[o]);
        told += (uint64_t)m->told[o];
    }
    CHECK(told <= s.admitted);
    CHECK(s.ended[COIR_EXPIRED] && s.skipped && s.trips && s.refused); /* the storm had it all */
    CHECK(s.ended[COIR_CANCELED] > s.skipped);
}

static void run_storm(unsigned workers)
{
    coir_runtime *rt = run_open(workers);
    coir_domain *top = domain_open(rt, NULL, NULL);
    struct model m = {0};
    struct storm s[STORMS + STORMS / 2];
    coir_counter c = COIR_COUNTER_INIT;
    struct threads t = {0};

    for (int i = 0; i < STORMS + STORMS / 2; i++) {
        s[i] = (struct storm){rt, top, &m, (uint64_t)i * 7919 + 13};
        if (i < STORMS)
            CHECK_EQ(coir_submit(rt, &c, storm, &s[i]), COIR_OK);
        else
            threads_add(&t, storm_on_a_thread, &s[i]);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    threads_join(&t);
    check_books(top, &m);
    domain_close(top);
    run_close(rt);
}

static void the_books_balance_on_one_worker(void)
{
    run_storm(1);
}

static void the_books_balance_on_two_workers(void)
{
    run_storm(2);
}

static void the_books_balance_on_many_workers(void)
{
    run_storm(5);
}

/* ------------------------------------------------------------------------------- no memory */

static struct supply {
    int calls, blocks, fail_at;
} supply;

static void *supply_alloc(size_t bytes, void *arg)
{
    void *memory = NULL;

    (void)arg;
    if (run_count(&supply.calls) != supply.fail_at)
        memory = malloc(bytes);
    if (memory)
        run_count(&supply.blocks);
    return memory;
}

static void supply_free(void *memory, void *arg)
{
    (void)arg;
    __atomic_sub_fetch(&supply.blocks, 1, __ATOMIC_RELAXED);
    free(memory);
}

static int ok(int status)
{
    CHECK(status == COIR_OK || status == COIR_ENOMEM);
    return status == COIR_OK;
}

static void spawns_three(void *n)
{
    for (int i = 0; i < 3; i++)
        if (ok(coir_spawn(NULL, job_count, n)))
            __atomic_sub_fetch((int *)n, 1, __ATOMIC_RELAXED);
    run_count(n);
}

/* Each accepted job and finalizer takes one from n, and gives it back when it runs. */
static void use_all_that_allocates(coir_runtime *rt)
{
    coir_domain *d = NULL, *child = NULL;
    coir_counter c = COIR_COUNTER_INIT;
    coir_obligation o;
    int n = 0, taken = 0;

    if (!ok(coir_domain_open(rt, NULL, NULL, &d)))
        return;
    if (!ok(coir_domain_open(rt, d, NULL, &child)))
        child = d;
    for (int i = 0; i < 4; i++) {
        if (ok(coir_domain_submit_until(child, &c, spawns_three, &n, coir_now() + 1000 * COIR_SEC)))
            __atomic_sub_fetch(&n, 1, __ATOMIC_RELAXED);
        if (ok(coir_domain_finalizer(child, job_count, &n)))
            __atomic_sub_fetch(&n, 1, __ATOMIC_RELAXED);
    }
    for (int i = 0; i < 70; i++)
        taken += ok(coir_obligation_take(d, "memory", &o));
    CHECK(coir_wait(&c) == COIR_DONE);
    CHECK_EQ(domain_stats(d).obligations_held, taken);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(n, 0);
}

static void any_allocation_may_fail_and_none_is_lost(void)
{
    coir_options options = run_options(1);
    coir_runtime *rt;
    int fail_at = 0, failed;

    options.alloc = supply_alloc;
    options.free = supply_free;
    do {
        supply = (struct supply){0};
        CHECK_EQ(coir_open(&options, &rt), COIR_OK);
        supply.fail_at = fail_at ? supply.calls + fail_at : 0;
        use_all_that_allocates(rt);
        failed = !fail_at || supply.calls >= supply.fail_at;
        supply.fail_at = 0;
        run_close(rt);
        CHECK_EQ(supply.blocks, 0);
        fail_at++;
    } while (failed && CHECK(fail_at < 1000));
    CHECK(fail_at > 12);
}

CHECK_MAIN(CASE(the_books_balance_on_one_worker), CASE(the_books_balance_on_two_workers),
           CASE(the_books_balance_on_many_workers),
           CASE(any_allocation_may_fail_and_none_is_lost))
