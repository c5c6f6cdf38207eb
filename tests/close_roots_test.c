/* SPDX-License-Identifier: MIT */
/*
 * close_roots_test.c - a runtime that closes ends all its domains at once: one that cannot end keeps no other
 * from it, and all are asked, drained and canceled within the one budget.
 */
#include "domains.h"
#include "threads.h"

#define ROOTS 3

static struct {
    int opened, closed, cancels, drained[2]; /* of domains: [0] in time, [1] not */
} told;

static void on_closed(void *unused, const char *name)
{
    (void)unused, (void)name;
    run_count(&told.closed);
}

static void on_cancel(void *unused, int cause)
{
    (void)unused;
    if (cause == COIR_CANCEL_DOMAIN_CLOSE)
        run_count(&told.cancels);
}

static void on_drained(void *unused, const char *name, int64_t ns, int status)
{
    (void)unused, (void)name, (void)ns;
    run_count(&told.drained[status != COIR_OK]);
}

/* --------------------------------------------------------------------------------------- roots */

/* A root that runs a job in the caller's place while `filler` fills it. */
struct root {
    coir_domain *d;
    struct hold filler, stuck;
    int finalized;
};

static coir_runtime *rt;
static struct root roots[ROOTS];
static struct threads callers;

static void open_roots(void)
{
    coir_metrics m = {.size = sizeof m, .cancel_requested = on_cancel, .domain_closed = on_closed,
                      .domain_drained = on_drained};
    coir_domain_options limited = domain_options("root");
    coir_options o = run_options(2);

    memset(&told, 0, sizeof told);
    callers.count = 0;
    o.metrics = &m;
    limited.jobs_max = 1;
    limited.full = COIR_FULL_RUN;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    for (int i = 0; i < ROOTS; i++) {
        roots[i] = (struct root){.d = domain_open(rt, NULL, &limited)};
        CHECK_EQ(coir_domain_finalizer(roots[i].d, job_count, &roots[i].finalized), COIR_OK);
    }
}

static void *submit_stuck(void *root)
{
    struct root *r = root;

    CHECK_EQ(coir_domain_submit(r->d, NULL, job_hold, &r->stuck), COIR_OK);
    return NULL;
}

/* From now on a plain thread runs a job of it, and no worker does. */
static void get_stuck(struct root *r)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(r->d, &c, job_hold, &r->filler), COIR_OK);
    run_until(&r->filler.started);
    threads_add(&callers, submit_stuck, r);
    run_until(&r->stuck.started);
    run_set(&r->filler.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void let_go(void)
{
    for (int i = 0; i < ROOTS; i++)
        run_set(&roots[i].stuck.go);
    threads_join(&callers);
}

static int is_stuck(const struct root *r)
{
    return __atomic_load_n(&r->stuck.started, __ATOMIC_ACQUIRE);
}

/* What a close that has timed out has done to each. */
static void check_each(const coir_receipt *receipt, int stuck)
{
    CHECK_EQ(told.closed, ROOTS - stuck);
    CHECK_EQ(told.drained[0], ROOTS - stuck);
    CHECK_EQ(told.drained[1], stuck);
    CHECK_EQ(told.cancels, stuck);
    for (int i = 0; i < ROOTS; i++) {
        CHECK_EQ(roots[i].finalized, !is_stuck(&roots[i]));
        if (is_stuck(&roots[i])) /* asked and canceled; the others are gone */
            CHECK_EQ(coir_domain_submit(roots[i].d, NULL, job_count, NULL), COIR_ESHUTDOWN);
    }
    CHECK_EQ(receipt->running, 0); /* the runtime's own work has ended */
    CHECK_EQ(receipt->left_count, (unsigned)stuck);
    for (unsigned i = 0; i < receipt->left_count; i++) {
        CHECK(receipt->left[i].fn == job_hold);
        CHECK_EQ(receipt->left[i].worker, -1);
    }
}

/* stuck: bits, which of them. Then the next close ends what the first has left, and nothing twice. */
static void close_with(unsigned stuck)
{
    coir_receipt receipt;

    open_roots();
    for (int i = 0; i < ROOTS; i++)
        if (stuck & 1u << i)
            get_stuck(&roots[i]);
    CHECK_EQ(coir_close(rt, 0, &receipt), COIR_ETIMEDOUT);
    check_each(&receipt, __builtin_popcount(stuck));
    let_go();
    CHECK_EQ(coir_close(rt, -1, &receipt), COIR_OK);
    CHECK_EQ(receipt.left_count, 0);
    CHECK_EQ(told.closed, ROOTS);
    CHECK_EQ(told.drained[0], ROOTS);
    for (int i = 0; i < ROOTS; i++)
        CHECK_EQ(roots[i].finalized, 1);
}

static void one_root_that_is_stuck_keeps_no_other_from_its_end(void)
{
    for (int i = 0; i < ROOTS; i++) /* wherever it is in the runtime's list */
        close_with(1u << i);
}

static void several_that_are_stuck_are_all_canceled_and_named(void)
{
    for (unsigned stuck = 3; stuck < 1u << ROOTS; stuck++)
        if (stuck & (stuck - 1))
            close_with(stuck);
}

/* -------------------------------------------------------------------------------- others who close */

static void *close_root(void *root)
{
    struct root *r = root;

    CHECK_EQ(coir_domain_close(r->d, -1, NULL), COIR_OK);
    return NULL;
}

/* The root is busy: a plain thread closes it, and waits for its job. */
static void a_root_that_somebody_else_closes_keeps_no_other_from_its_end(void)
{
    coir_receipt receipt;
    struct threads closer = {.count = 0};
    int unused = 0;

    open_roots();
    get_stuck(&roots[ROOTS - 1]);
    threads_add(&closer, close_root, &roots[ROOTS - 1]);
    while (coir_domain_finalizer(roots[ROOTS - 1].d, job_count, &unused) == COIR_OK)
        sched_yield(); /* until the other one has it */
    CHECK_EQ(coir_close(rt, 0, &receipt), COIR_ETIMEDOUT);
    for (int i = 0; i < ROOTS; i++)
        CHECK_EQ(roots[i].finalized, i < ROOTS - 1);
    let_go();
    threads_join(&closer);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    CHECK_EQ(told.closed, ROOTS);
}

CHECK_MAIN(CASE(one_root_that_is_stuck_keeps_no_other_from_its_end),
           CASE(several_that_are_stuck_are_all_canceled_and_named),
           CASE(a_root_that_somebody_else_closes_keeps_no_other_from_its_end))
