/* SPDX-License-Identifier: MIT */
/*
 * domain_trip_test.c - a domain past its panic threshold: what is skipped and why, who probes, where a
 * panic counts.
 */
#include "supervisors.h"

static coir_domain_options fragile(const char *name, unsigned panics_max, int64_t probe_ns)
{
    coir_domain_options o = domain_options(name);

    o.panics_max = panics_max;
    o.panics_window_ns = 1000 * COIR_SEC;
    o.probe_ns = probe_ns;
    return o;
}

static void past_its_threshold_a_domain_skips_and_says_why(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = fragile("glass", 3, 1000 * COIR_SEC);
    coir_domain *d = domain_open(rt, NULL, &o), *sibling = domain_open(rt, NULL, NULL);
    coir_failure f, last;
    char why[COIR_MESSAGE_BYTES];
    int n = 0;

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
        CHECK_EQ(domain_run(d, job_panic, NULL, &last), COIR_PANICKED);
    }
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_TRIPPED);
    CHECK_EQ(domain_stats(d).tripped_by, last.id);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(domain_run(d, job_count, &n, &f), COIR_CANCELED);
    CHECK_EQ(n, 0);
    CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
    snprintf(why, sizeof why, "failure %llu has tripped domain glass", (unsigned long long)last.id);
    CHECK_STR(f.message, why);
    CHECK_EQ(domain_stats(d).skipped, 10);
    CHECK_EQ(domain_stats(d).trips, 1);
    CHECK_EQ(domain_run(sibling, job_count, &n, NULL), COIR_DONE);
    domain_close(d);
    domain_close(sibling);
    run_close(rt);
}

static void a_probe_closes_the_breaker_or_opens_it_again(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = fragile("probed", 1, COIR_MS);
    coir_domain *d = domain_open(rt, NULL, &o);
    coir_failure f;
    int n = 0;

    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    until_time(coir_now() + 2 * COIR_MS);
    CHECK_EQ(domain_run(d, job_panic, NULL, &f), COIR_PANICKED); /* the probe */
    CHECK_EQ(domain_stats(d).tripped_by, f.id);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_TRIPPED);
    until_time(coir_now() + 3 * COIR_MS);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(n, 2);
    CHECK_EQ(domain_stats(d).trips, 1);
    domain_close(d);
    run_close(rt);
}

static void while_one_job_probes_others_are_skipped(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = fragile("probed", 1, 1);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct hold probe = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &probe), COIR_OK);
    run_until(&probe.started);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_HALF_OPEN);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_CANCELED);
    run_set(&probe.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

static void a_probe_that_never_ends_is_given_up(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = fragile("stuck", 1, 1);
    coir_domain *d;
    struct hold probe = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    o.probe_late_ns = 1;
    d = domain_open(rt, NULL, &o);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &probe), COIR_OK);
    run_until(&probe.started);
    while (domain_run(d, job_count, &n, NULL) != COIR_DONE)
        ; /* given up, open for a while, then this one probes */
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(n, 2);
    run_set(&probe.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(domain_stats(d).trips, 1);
    domain_close(d);
    run_close(rt);
}

static void panics_count_at_the_nearest_threshold_only(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options top_options = fragile("top", 2, 1000 * COIR_SEC),
                        own_options = fragile("own", 5, 1000 * COIR_SEC);
    coir_domain *top = domain_open(rt, NULL, &top_options), *own = domain_open(rt, top, &own_options),
                *none = domain_open(rt, top, NULL), *below = domain_open(rt, none, NULL);
    int n = 0;

    for (int i = 0; i < 5; i++)
        CHECK_EQ(domain_run(own, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_run(own, job_count, &n, NULL), COIR_CANCELED);
    CHECK_EQ(domain_run(none, job_count, &n, NULL), COIR_DONE); /* a sibling */
    CHECK_EQ(domain_run(top, job_count, &n, NULL), COIR_DONE);  /* a parent */
    CHECK_EQ(domain_run(none, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_run(below, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_stats(top).state, COIR_DOMAIN_TRIPPED);
    CHECK_EQ(domain_run(below, job_count, &n, NULL), COIR_CANCELED);
    CHECK_EQ(domain_run(own, job_count, &n, NULL), COIR_CANCELED);
    CHECK_EQ(n, 2);
    CHECK_EQ(domain_stats(top).ended[COIR_PANICKED], 7);
    domain_close(top);
    run_close(rt);
}

/* The lower breaker lets a probe out, the upper does not: the turn is not lost. */
static void a_probe_that_is_stopped_further_up_is_taken_back(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options upper_options = fragile("upper", 1, 20 * COIR_MS),
                        lower_options = fragile("lower", 1, 1);
    coir_domain *upper = domain_open(rt, NULL, &upper_options),
                *lower = domain_open(rt, upper, &lower_options);
    coir_failure f;
    int n = 0;

    CHECK_EQ(domain_run(lower, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_run(upper, job_panic, NULL, NULL), COIR_PANICKED);
    while (domain_run(lower, job_count, &n, &f) != COIR_DONE)
        CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
    CHECK_EQ(domain_stats(lower).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(domain_stats(upper).state, COIR_DOMAIN_OPEN);
    domain_close(upper);
    run_close(rt);
}

/* Neither lasts for less than it takes a probe to be late: who waited to hear of them would wait for long. */
static void a_supervisor_and_its_children_are_no_probes(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = fragile("around", 1, COIR_MS);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct story story = STORY_INIT;
    struct kid k = {.name = "a", .story = &story};
    coir_child_spec c = kid_spec(&k);
    coir_supervisor_options so = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;
    int n = 0;

    so.backoff_ns = 5 * COIR_MS;
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    until_time(coir_now() + 2 * COIR_MS);
    CHECK_EQ(coir_supervisor_open(rt, d, &so, NULL, &s), COIR_OK); /* through a breaker that would let one through */
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    kid_end(&k, 1);
    kid_await(&k, 2);
    CHECK_EQ(domain_stats(d).trips, 2);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(n, 2);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    domain_close(d);
    run_close(rt);
}

CHECK_MAIN(CASE(past_its_threshold_a_domain_skips_and_says_why),
           CASE(a_probe_closes_the_breaker_or_opens_it_again),
           CASE(while_one_job_probes_others_are_skipped),
           CASE(a_probe_that_never_ends_is_given_up),
           CASE(panics_count_at_the_nearest_threshold_only),
           CASE(a_probe_that_is_stopped_further_up_is_taken_back),
           CASE(a_supervisor_and_its_children_are_no_probes))
