/* SPDX-License-Identifier: MIT */
/*
 * domain_record_test.c - where a failure happened and in which domain: jobs, handlers, finalizers,
 * obligations, on workers and on plain threads; whose hooks, callbacks and policy they meet.
 */
#include "child.h"
#include "domains.h"

static struct seen {
    uint64_t hooked, panicked[COIR_LOCATIONS];
} seen;

static void add(uint64_t *n)
{
    __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static void on_panicked(void *arg, const coir_failure *f)
{
    CHECK(arg == &seen);
    add(&seen.panicked[f->location]);
}

static void on_hook(const coir_failure *f, void *arg)
{
    CHECK(arg == &seen && f->id != 0);
    add(&seen.hooked);
}

static const coir_metrics all = {.size = sizeof all, .arg = &seen, .panicked = on_panicked};

static coir_runtime *open_seen(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = NULL;

    memset(&seen, 0, sizeof seen);
    o.metrics = &all;
    o.panic_hook = on_hook;
    o.panic_hook_arg = &seen;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static coir_domain *open_told(coir_runtime *rt)
{
    coir_domain_options o = domain_options("told");

    return domain_open(rt, NULL, &o);
}

/* The newest failure that is kept. */
static coir_failure newest(coir_runtime *rt)
{
    coir_failure f = {};
    uint64_t cursor = 0;

    while (coir_failure_next(rt, &cursor, &f) == COIR_OK)
        ;
    return f;
}

static void check_kept(coir_runtime *rt, int location, int kind, const char *domain)
{
    coir_failure f = newest(rt);
    char name[64];

    CHECK_EQ(f.location, location);
    CHECK_EQ(f.kind, kind);
    CHECK(f.runtime != 0);
    CHECK_EQ(coir_failure_domain(rt, f.id, name, sizeof name), COIR_OK);
    CHECK_STR(name, domain);
}

static void panics_in_a_handler(void *unused)
{
    CHECK_EQ(coir_defer(job_panic, unused), COIR_OK);
}

static void fails(void *unused)
{
    (void)unused;
    (void)!coir_fail(7, "planned");
}

static void where_a_job_fails_is_kept_with_its_domain(void)
{
    coir_runtime *rt = open_seen();
    coir_domain *d = open_told(rt);
    coir_counter c = COIR_COUNTER_INIT;
    char name[3] = "";

    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    check_kept(rt, COIR_AT_JOB, COIR_KIND_PANIC, "told");
    CHECK_EQ(domain_run(d, panics_in_a_handler, NULL, NULL), COIR_PANICKED);
    check_kept(rt, COIR_AT_DEFER, COIR_KIND_PANIC, "told");
    CHECK_EQ(domain_run(d, fails, NULL, NULL), COIR_FAILED);
    check_kept(rt, COIR_AT_JOB, COIR_KIND_FAIL, "told");
    CHECK_EQ(coir_failure_domain(rt, newest(rt).id, name, sizeof name), COIR_OK);
    CHECK_STR(name, "to");
    CHECK_EQ(coir_failure_domain(rt, 0, name, sizeof name), COIR_ENOENT);
    CHECK_EQ(coir_failure_domain(rt, newest(rt).id, name, 0), COIR_EINVAL);
    CHECK_EQ(coir_failure_domain(rt, newest(rt).id, NULL, 3), COIR_EINVAL);
    CHECK_EQ(coir_failure_domain(NULL, newest(rt).id, name, 3), COIR_EINVAL);
    CHECK_EQ(coir_submit(rt, &c, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    check_kept(rt, COIR_AT_JOB, COIR_KIND_PANIC, "");
    domain_close(d);
    run_close(rt);
}

struct closing {
    coir_domain *domain;
    coir_domain_receipt receipt;
};

static void closes(void *arg)
{
    struct closing *k = arg;

    CHECK_EQ(coir_domain_close(k->domain, -1, &k->receipt), COIR_OK);
}

static void panics_in_a_try(void *unused)
{
    CHECK_EQ(coir_try(job_panic, unused, NULL), COIR_PANICKED);
}

/* On a plain thread, and on a fiber. */
static void finalizers_are_a_location_of_their_own_on_whatever_closes(void)
{
    for (int on_fiber = 0; on_fiber < 2; on_fiber++) {
        coir_runtime *rt = open_seen();
        struct closing k = {open_told(rt), {}};
        coir_counter c = COIR_COUNTER_INIT;
        coir_stats s;

        CHECK_EQ(coir_domain_finalizer(k.domain, job_panic, NULL), COIR_OK);
        CHECK_EQ(coir_domain_finalizer(k.domain, panics_in_a_try, NULL), COIR_OK);
        CHECK_EQ(coir_domain_finalizer(k.domain, panics_in_a_handler, NULL), COIR_OK);
        if (on_fiber) {
            CHECK_EQ(coir_submit(rt, &c, closes, &k), COIR_OK);
            CHECK_EQ(coir_wait(&c), COIR_DONE);
        } else {
            closes(&k);
        }
        CHECK_EQ(k.receipt.finalizer_panics, 2);
        check_kept(rt, COIR_AT_FINALIZER, COIR_KIND_PANIC, "told");
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
        CHECK_EQ(s.panics_at[COIR_AT_FINALIZER], 2);
        CHECK_EQ(s.panics_at[COIR_AT_DEFER], 1);
        CHECK_EQ(s.records, 3);
        CHECK_EQ(seen.panicked[COIR_AT_FINALIZER], 2);
        CHECK_EQ(seen.panicked[COIR_AT_DEFER], 1);
        CHECK_EQ(seen.hooked, 3);
        run_close(rt);
        CHECK_EQ(coir_try(job_panic, NULL, NULL), COIR_PANICKED); /* and this thread is nobody's again */
        CHECK_EQ(seen.hooked, 3);
    }
}

static void leaks_one(void *arg)
{
    coir_obligation leaked;

    (void)arg;
    CHECK_EQ(coir_obligation_take(NULL, "permit", &leaked), COIR_OK);
}

static void leaks_are_kept_where_they_were_taken(void)
{
    coir_runtime *rt = open_seen();
    coir_domain *d = open_told(rt);
    coir_failure f;
    coir_stats s;

    CHECK_EQ(domain_run(d, leaks_one, NULL, NULL), COIR_DONE);
    f = newest(rt);
    check_kept(rt, COIR_AT_OBLIGATION, COIR_KIND_LEAK, "told");
    CHECK_EQ(f.outcome, COIR_FAILED);
    CHECK(f.job != 0 && f.line != 0 && strstr(f.file, "domain_record_test.c"));
    CHECK_STR(f.message, "\"permit\" not discharged before its job ended");
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.failures_at[COIR_AT_OBLIGATION], 1);
    CHECK_EQ(s.failures_of[COIR_KIND_LEAK], 1);
    CHECK_EQ(s.panics_at[COIR_AT_OBLIGATION], 0);
    domain_close(d);
    run_close(rt);
}

/* A job in its caller's place, on a plain thread. */
static coir_domain *open_full(coir_runtime *rt, struct hold *h)
{
    coir_domain_options o = domain_options("told");
    coir_domain *d;

    o.jobs_max = 1;
    o.full = COIR_FULL_RUN;
    d = domain_open(rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(d, NULL, job_hold, h), COIR_OK);
    run_until(&h->started);
    return d;
}

static void a_job_on_a_plain_thread_fails_in_its_runtime(void)
{
    coir_runtime *rt = open_seen();
    struct hold h = {0, 0};
    coir_domain *d = open_full(rt, &h);
    coir_failure f, kept;

    CHECK_EQ(domain_run(d, job_panic, NULL, &f), COIR_PANICKED);
    CHECK_EQ(f.location, COIR_AT_JOB);
    CHECK_EQ(f.worker, -1);
    CHECK_EQ(coir_failure_find(rt, f.id, &kept), COIR_OK);
    check_kept(rt, COIR_AT_JOB, COIR_KIND_PANIC, "told");
    CHECK_EQ(seen.hooked, 1);
    CHECK_EQ(domain_run(d, panics_in_a_try, NULL, NULL), COIR_DONE);
    check_kept(rt, COIR_AT_JOB, COIR_KIND_PANIC, "told");
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

static void panics_in_place_under_abort(void *unused)
{
    coir_options o = run_options(1);
    struct hold h = {0, 0};
    coir_runtime *rt;

    o.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    (void)!domain_run(open_full(rt, &h), job_panic, unused, NULL);
}

static void panics_in_a_finalizer_under_abort(void *unused)
{
    coir_options o = run_options(1);
    coir_runtime *rt;
    coir_domain *d;

    o.defer_panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(d, job_panic, unused), COIR_OK);
    (void)!coir_domain_close(d, -1, NULL);
}

static void plain_threads_have_the_runtimes_policy_while_they_run_its_calls(void)
{
    CHILD_DIES(panics_in_place_under_abort, NULL, SIGABRT, "options.panic", "planned");
    CHILD_DIES(panics_in_a_finalizer_under_abort, NULL, SIGABRT, "options.defer_panic", "planned");
}

static void prints_a_finalizer(void *unused)
{
    coir_runtime *rt = open_seen();
    struct closing k = {open_told(rt), {}};

    (void)unused;
    CHECK_EQ(coir_domain_finalizer(k.domain, job_panic, NULL), COIR_OK);
    closes(&k);
    CHECK_EQ(coir_failure_print(rt, newest(rt).id, STDERR_FILENO), COIR_OK);
    raise(SIGKILL);
}

static void people_are_told_the_domain(void)
{
    CHILD_DIES(prints_a_finalizer, NULL, SIGKILL, ": panic in finalizer of domain told at ");
}

CHECK_MAIN(CASE(where_a_job_fails_is_kept_with_its_domain),
           CASE(finalizers_are_a_location_of_their_own_on_whatever_closes),
           CASE(leaks_are_kept_where_they_were_taken),
           CASE(a_job_on_a_plain_thread_fails_in_its_runtime),
           CASE(plain_threads_have_the_runtimes_policy_while_they_run_its_calls),
           CASE(people_are_told_the_domain))
