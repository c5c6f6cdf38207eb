/* SPDX-License-Identifier: MIT */
/*
 * domain_policy_test.c - what a domain decides for itself about faults, and what it may not ask for in a
 * runtime that aborts or has no handlers.
 */
#include "child.h"
#include "containable.h"
#include "domains.h"

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static CONTAINABLE void run_nonsense(void *unused)
{
    (void)unused;
#ifdef __x86_64__
    __asm__ volatile("ud2");
#else
    __asm__ volatile(".inst 0");
#endif
}

static coir_runtime *open_with(enum coir_faults faults, unsigned also)
{
    coir_options o = run_options(2);
    coir_runtime *rt = NULL;

    register_containable();
    o.faults = faults;
    o.faults_also = also;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static coir_domain *open_policy(coir_runtime *rt, coir_domain *parent, enum coir_faults faults,
                                unsigned also)
{
    coir_domain_options o = domain_options("policy");

    o.faults = faults;
    o.faults_also = also;
    return domain_open(rt, parent, &o);
}

/* ------------------------------------------------------------------------------------ contained */

static int deferred;

static void count_deferred(void *unused)
{
    (void)unused;
    run_count(&deferred);
}

/* With all that a job can owe when the fault comes: it ends on another stack. */
static CONTAINABLE void owe_and_overflow(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)!coir_defer(count_deferred, NULL);
    (void)!coir_spawn_many(&c, job_count, n, 0, 10);
    overflow(NULL);
}

static void a_domain_contains_what_its_runtime_only_reports(void)
{
    coir_runtime *rt = open_with(COIR_FAULTS_REPORT, 0);
    coir_domain *d = open_policy(rt, NULL, COIR_FAULTS_CONTAIN, COIR_FAULT_SEGV | COIR_FAULT_ILL),
                *below = open_policy(rt, d, COIR_FAULTS_NONE, 0);
    coir_failure f;
    int n = 0;

    deferred = 0;
    for (int i = 0; i < 50; i++) {
        coir_domain *at = i % 2 ? d : below;

        CHECK_EQ(domain_run(at, overflow, NULL, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
        CHECK_EQ(domain_run(at, owe_and_overflow, &n, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
        CHECK_EQ(domain_run(at, touch_wild, NULL, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_FAULT);
        CHECK_EQ(domain_run(at, run_nonsense, NULL, &f), COIR_PANICKED);
    }
    CHECK_EQ(deferred, 50);
    domain_balances(d);
    domain_close(d);
    run_close(rt);
}

static CONTAINABLE void try_overflow(void *unused)
{
    coir_failure f;

    CHECK_EQ(coir_try(overflow, unused, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
}

static void a_boundary_inside_a_job_has_its_domains_policy(void)
{
    coir_runtime *rt = open_with(COIR_FAULTS_REPORT, 0);
    coir_domain *d = open_policy(rt, NULL, COIR_FAULTS_CONTAIN, 0);

    CHECK_EQ(domain_run(d, try_overflow, NULL, NULL), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- reported */

static void run_in(enum coir_faults runtime, enum coir_faults above, enum coir_faults own, coir_fn *fn)
{
    coir_runtime *rt = open_with(runtime, runtime == COIR_FAULTS_CONTAIN ? COIR_FAULTS_ALSO_ALL : 0);
    coir_domain *d = open_policy(rt, NULL, above, 0);

    (void)domain_run(open_policy(rt, d, own, 0), fn, NULL, NULL);
}

static void reports_below_contain(void *unused)
{
    (void)unused;
    run_in(COIR_FAULTS_CONTAIN, COIR_FAULTS_NONE, COIR_FAULTS_REPORT, overflow);
}

static void reports_below_a_domain(void *unused)
{
    (void)unused;
    run_in(COIR_FAULTS_REPORT, COIR_FAULTS_CONTAIN, COIR_FAULTS_REPORT, overflow);
}

static void inherits_report(void *unused)
{
    (void)unused;
    run_in(COIR_FAULTS_CONTAIN, COIR_FAULTS_REPORT, COIR_FAULTS_NONE, overflow);
}

static void contains_overflows_alone(void *unused)
{
    (void)unused;
    run_in(COIR_FAULTS_CONTAIN, COIR_FAULTS_NONE, COIR_FAULTS_CONTAIN, touch_wild);
}

/* Beside a domain that contains. */
static void outside_every_domain(void *unused)
{
    coir_runtime *rt = open_with(COIR_FAULTS_REPORT, 0);
    coir_counter c = COIR_COUNTER_INIT;

    open_policy(rt, NULL, COIR_FAULTS_CONTAIN, COIR_FAULTS_ALSO_ALL);
    CHECK_EQ(coir_submit(rt, &c, overflow, unused), COIR_OK);
    (void)!coir_wait(&c);
}

/* The job that runs in place is contained, its caller is not. */
struct nested {
    coir_domain *inner;
    int outcome;
};

static CONTAINABLE void submits_in_place_and_overflows(void *arg)
{
    struct nested *n = arg;
    coir_counter c = COIR_COUNTER_INIT;

    if (coir_domain_submit(n->inner, &c, overflow, NULL) == COIR_OK)
        n->outcome = coir_wait(&c);
    if (n->outcome != COIR_PANICKED)
        _exit(7);
    overflow(NULL);
}

static void a_fault_is_its_own_jobs(void *unused)
{
    coir_runtime *rt = open_with(COIR_FAULTS_REPORT, 0);
    coir_domain_options o = domain_options("in place");
    struct hold h = {0, 0};
    struct nested n = {NULL, 0};

    (void)unused;
    o.jobs_max = 1;
    o.full = COIR_FULL_RUN;
    o.faults = COIR_FAULTS_CONTAIN;
    n.inner = domain_open(rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(n.inner, NULL, job_hold, &h), COIR_OK);
    run_until(&h.started);
    (void)domain_run(open_policy(rt, NULL, COIR_FAULTS_REPORT, 0), submits_in_place_and_overflows, &n,
                     NULL);
}

static void other_policies_end_the_process(void)
{
    CHILD_DIES(reports_below_contain, NULL, SIGABRT, "stack overflow");
    CHILD_DIES(reports_below_a_domain, NULL, SIGABRT, "stack overflow");
    CHILD_DIES(inherits_report, NULL, SIGABRT, "stack overflow");
    CHILD_DIES(contains_overflows_alone, NULL, SIGSEGV, "");
    CHILD_DIES(outside_every_domain, NULL, SIGABRT, "stack overflow");
    CHILD_DIES(a_fault_is_its_own_jobs, NULL, SIGABRT, "stack overflow");
}

/* ------------------------------------------------------------------------------------- handlers */

static bool has_handler(int number)
{
    struct sigaction now;

    CHECK_EQ(sigaction(number, NULL, &now), 0);
    return now.sa_handler != SIG_DFL;
}

static void handlers_come_with_the_first_that_asks_and_go_with_the_runtime(void)
{
    coir_runtime *rt = open_with(COIR_FAULTS_REPORT, 0), *other = open_with(COIR_FAULTS_REPORT, 0);
    coir_domain *d;

    CHECK(!has_handler(SIGFPE) && !has_handler(SIGILL));
    d = open_policy(rt, NULL, COIR_FAULTS_CONTAIN, COIR_FAULT_FPE);
    CHECK(has_handler(SIGFPE) && !has_handler(SIGILL));
    domain_close(d);
    for (int i = 0; i < 3; i++)
        domain_close(open_policy(rt, NULL, COIR_FAULTS_CONTAIN, COIR_FAULT_FPE));
    open_policy(other, NULL, COIR_FAULTS_CONTAIN, COIR_FAULT_FPE | COIR_FAULT_ILL);
    CHECK(has_handler(SIGFPE) && has_handler(SIGILL));
    run_close(rt);
    CHECK(has_handler(SIGFPE) && has_handler(SIGILL) && has_handler(SIGSEGV));
    run_close(other);
    CHECK(!has_handler(SIGFPE) && !has_handler(SIGILL) && !has_handler(SIGSEGV));
}

/* ------------------------------------------------------------------------------------- refusals */

static int try_open(coir_runtime *rt, const coir_domain_options *o)
{
    coir_domain *d = (coir_domain *)1;
    int status = coir_domain_open(rt, NULL, o, &d);

    CHECK((status == COIR_OK) == (d != NULL));
    if (d)
        domain_close(d);
    return status;
}

static void what_the_runtime_cannot_give_is_refused(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options o = domain_options("refused");

    o.faults = COIR_FAULTS_CONTAIN;
    CHECK_EQ(try_open(rt, &o), COIR_ENOTSUP);
    o.faults = COIR_FAULTS_REPORT;
    CHECK_EQ(try_open(rt, &o), COIR_ENOTSUP);
    o.faults_also = COIR_FAULT_SEGV;
    CHECK_EQ(try_open(rt, &o), COIR_EINVAL);
    o.faults = COIR_FAULTS_CONTAIN;
    o.faults_also = COIR_FAULTS_ALSO_ALL + 1;
    CHECK_EQ(try_open(rt, &o), COIR_ERANGE);
    o.faults = (enum coir_faults)3;
    o.faults_also = 0;
    CHECK_EQ(try_open(rt, &o), COIR_ERANGE);
    run_close(rt);
}

static void what_needs_containment_is_refused_under_abort(void)
{
    coir_options options = run_options(1);
    coir_runtime *rt = NULL;
    coir_domain_options o = domain_options("abort");

    options.panic = COIR_PANIC_ABORT;
    options.faults = COIR_FAULTS_REPORT;
    CHECK_EQ(coir_open(&options, &rt), COIR_OK);
    o.faults = COIR_FAULTS_CONTAIN;
    CHECK_EQ(try_open(rt, &o), COIR_EPOLICY);
    o.faults = COIR_FAULTS_REPORT;
    CHECK_EQ(try_open(rt, &o), COIR_OK);
    o.panics_max = 1;
    CHECK_EQ(try_open(rt, &o), COIR_EPOLICY);
    o.panics_max = 0;
    o.probe_late_ns = -1;
    CHECK_EQ(try_open(rt, &o), COIR_ERANGE);
    run_close(rt);
}

CHECK_MAIN(CASE(a_domain_contains_what_its_runtime_only_reports),
           CASE(a_boundary_inside_a_job_has_its_domains_policy), CASE(other_policies_end_the_process),
           CASE(handlers_come_with_the_first_that_asks_and_go_with_the_runtime),
           CASE(what_the_runtime_cannot_give_is_refused),
           CASE(what_needs_containment_is_refused_under_abort))
