/* SPDX-License-Identifier: MIT */
/*
 * outside_test.c - what a domain runs on plain threads, its finalizers and the jobs of COIR_FULL_RUN,
 * belongs to its runtime: policy, hook, records, figures; and such a job is a job of its own.
 */
#include "child.h"
#include "domains.h"

/* A domain that is full, so that what a plain thread submits runs there. */
struct full {
    coir_runtime *rt;
    coir_domain *d;
    struct hold hold;
    coir_counter held;
};

static int hooked, logged;

static void on_panic(const coir_failure *f, void *unused)
{
    (void)unused;
    CHECK(f->id != 0);
    hooked++;
}

static void on_log(enum coir_log_level level, const char *text, void *unused)
{
    (void)unused;
    logged += level == COIR_LOG_ERROR && strstr(text, "panic") != NULL;
}

static coir_options options(void)
{
    coir_options o = run_options(1);

    o.panic_hook = on_panic;
    o.log = on_log;
    return o;
}

static void fill(struct full *f, const coir_options *o, unsigned panics_max)
{
    coir_domain_options limited = domain_options("full");

    *f = (struct full){0};
    hooked = logged = 0;
    CHECK_EQ(coir_open(o, &f->rt), COIR_OK);
    limited.jobs_max = 1;
    limited.full = COIR_FULL_RUN;
    limited.panics_max = panics_max;
    limited.probe_ns = 1000 * COIR_SEC;
    f->d = domain_open(f->rt, NULL, &limited);
    CHECK_EQ(coir_domain_submit(f->d, &f->held, job_hold, &f->hold), COIR_OK);
    run_until(&f->hold.started);
}

static void empty(struct full *f)
{
    run_set(&f->hold.go);
    CHECK_EQ(coir_wait(&f->held), COIR_DONE);
    domain_close(f->d);
    run_close(f->rt);
}

/* ------------------------------------------------------------------------------- whose panic it is */

static void a_panic_belongs_to_the_domains_runtime(void)
{
    coir_options o = options();
    coir_failure f, kept;
    coir_stats s;
    struct full full;

    fill(&full, &o, 1);
    CHECK_EQ(domain_run(full.d, job_panic, NULL, &f), COIR_PANICKED);
    CHECK_EQ(f.location, COIR_AT_JOB);
    CHECK_EQ(f.worker, -1);
    CHECK(f.runtime != 0);
    CHECK_EQ(hooked, 1);
    CHECK_EQ(logged, 1);
    CHECK_EQ(coir_stats_read(full.rt, &s), COIR_OK);
    CHECK_EQ(s.panics, 1);
    CHECK_EQ(s.panics_at[COIR_AT_JOB], 1);
    CHECK_EQ(domain_stats(full.d).tripped_by, f.id);
    CHECK_EQ(coir_failure_find(full.rt, f.id, &kept), COIR_OK);
    CHECK_STR(kept.message, "planned");
    CHECK_EQ(coir_try(job_panic, NULL, &f), COIR_PANICKED); /* the thread's own again */
    CHECK_EQ(f.runtime, 0);
    CHECK_EQ(f.location, COIR_AT_THREAD);
    empty(&full);
}

static void job_fails(void *unused)
{
    (void)unused;
    coir_fail(7, "not a panic");
}

static void a_finalizers_panic_does_too(void)
{
    coir_options o = options();
    coir_domain_receipt r;
    coir_runtime *rt;
    coir_domain *d;
    coir_stats s;

    hooked = logged = 0;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(d, job_fails, NULL), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(d, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.finalizers, 2);
    CHECK_EQ(r.finalizer_panics, 1);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.panics_at[COIR_AT_FINALIZER], 1);
    CHECK_EQ(s.records, 2);
    CHECK_EQ(hooked, 1);
    CHECK_EQ(logged, 1);
    run_close(rt);
}

static void panics_outside(void *unused)
{
    coir_options o = options();
    struct full full;

    (void)unused;
    o.panic = COIR_PANIC_ABORT;
    o.log = NULL;
    fill(&full, &o, 0);
    (void)!coir_domain_submit(full.d, NULL, job_panic, NULL);
}

static void finalizer_panics_outside(void *unused)
{
    coir_options o = options();
    coir_runtime *rt;
    coir_domain *d;

    (void)unused;
    o.panic = COIR_PANIC_ABORT;
    o.log = NULL;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(d, job_panic, NULL), COIR_OK);
    (void)!coir_domain_close(d, -1, NULL);
}

static void the_policy_to_abort_holds_there(void)
{
    CHILD_DIES(panics_outside, NULL, SIGABRT, "options.panic", "planned");
    CHILD_DIES(finalizer_panics_outside, NULL, SIGABRT, "options.panic", "planned");
}

/* ----------------------------------------------------------------------------- a job of its own */

static void keeps(void *mutex)
{
    CHECK_EQ(coir_mutex_lock(mutex), COIR_OK);
}

static void what_it_holds_at_its_end_is_a_panic(void)
{
    coir_mutex m = COIR_MUTEX_INIT;
    coir_options o = options();
    coir_failure f;
    struct full full;

    fill(&full, &o, 0);
    CHECK_EQ(domain_run(full.d, keeps, &m, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_HELD);
    CHECK_EQ(coir_mutex_try_lock(&m), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
    empty(&full);
}

static void takes(void *unused)
{
    coir_obligation o;

    (void)unused;
    CHECK_EQ(coir_obligation_take(NULL, "lease", &o), COIR_OK);
}

static void submits_taker(void *d)
{
    CHECK_EQ(domain_run(d, takes, NULL, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).obligations_leaked, 1);
}

static void takes_and_submits(void *d)
{
    coir_obligation o;

    CHECK_EQ(coir_obligation_take(NULL, "reply", &o), COIR_OK);
    CHECK_EQ(domain_run(d, takes, NULL, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).obligations_leaked, 2); /* the inner job's, and not the outer one's */
    CHECK_EQ(coir_obligation_discharge(o), COIR_OK);
}

static void what_it_owes_at_its_end_has_leaked(void)
{
    coir_options o = options();
    struct full full;

    fill(&full, &o, 0);
    CHECK_EQ(coir_try(submits_taker, full.d, NULL), COIR_DONE);
    CHECK_EQ(domain_run(full.d, takes_and_submits, full.d, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(full.d).obligations_leaked, 2);
    empty(&full);
}

/* -------------------------------------------------------------------------------------- figures */

static struct {
    long spawned, completed;
} told;

static void on_spawned(void *unused, size_t n)
{
    (void)unused;
    __atomic_add_fetch(&told.spawned, (long)n, __ATOMIC_RELAXED);
}

static void on_completed(void *unused, int outcome, int64_t ns)
{
    (void)unused, (void)outcome, (void)ns;
    __atomic_add_fetch(&told.completed, 1, __ATOMIC_RELAXED);
}

static void submits_two(void *d)
{
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_CANCELED); /* it has tripped */
}

/* In a fiber a job in place counts, run or skipped; on a plain thread neither does. */
static void metrics_balance_whoever_runs_the_job(void)
{
    coir_metrics m = {.size = sizeof m, .spawned = on_spawned, .completed = on_completed};
    coir_options o = options();
    coir_counter c = COIR_COUNTER_INIT;
    struct full full;

    told.spawned = told.completed = 0;
    o.workers = 2;
    o.metrics = &m;
    fill(&full, &o, 1);
    submits_two(full.d);
    CHECK_EQ(told.spawned, 1); /* the one that fills the domain */
    CHECK_EQ(told.completed, 0);
    empty(&full);
    fill(&full, &o, 1);
    CHECK_EQ(coir_submit(full.rt, &c, submits_two, full.d), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    empty(&full);
    CHECK_EQ(told.spawned, 1 + 4);
    CHECK_EQ(told.completed, told.spawned);
}

CHECK_MAIN(CASE(a_panic_belongs_to_the_domains_runtime), CASE(a_finalizers_panic_does_too),
           CASE(the_policy_to_abort_holds_there), CASE(what_it_holds_at_its_end_is_a_panic),
           CASE(what_it_owes_at_its_end_has_leaked), CASE(metrics_balance_whoever_runs_the_job))
