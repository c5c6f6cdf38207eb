/* SPDX-License-Identifier: MIT */
/*
 * supervisor_open_test.c - supervisors and pools that are opened where jobs do not start: past a deadline, canceled, in
 * domains that are full or tripped; and what they inherit. In experiments (coir_lab_run), whose clock lets nobody come late.
 */
#include "supervisors.h"

#define SEEDS (MANY(20) + 2)

static void experiment(coir_fn *fn, unsigned panic_ppm)
{
    coir_options o = run_options(0);

    o.stacks_max = 256;
    for (uint64_t seed = 0; check_round((long)seed, SEEDS); seed++) {
        coir_lab lab = {.size = sizeof lab, .seed = seed, .panic_ppm = panic_ppm};
        int outcome = coir_lab_run(&lab, &o, fn, NULL, NULL);

        CHECK(outcome == COIR_DONE || (panic_ppm && outcome == COIR_PANICKED));
    }
}

static void pass(int64_t ns)
{
    CHECK_EQ(coir_sleep_until(coir_now() + ns), COIR_OK);
}

/* Runs fn(arg) in a domain, to start within ns. */
static int runs_within(coir_domain *d, coir_fn *fn, void *arg, int64_t ns)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit_until(d, &c, fn, arg, ns == COIR_NEVER ? ns : coir_now() + ns), COIR_OK);
    return coir_wait(&c);
}

static struct {
    coir_domain *around;
    int live, starts;
    int64_t deadline;
} seen;

static void begin(const coir_domain_options *o)
{
    memset(&seen, 0, sizeof seen);
    seen.around = domain_open(coir_current(), NULL, o);
}

static void stays(void *unused)
{
    (void)unused;
    seen.live++;
    seen.starts++;
    seen.deadline = coir_deadline();
    coir_child_ready();
    (void)!coir_child_stop_wait();
    seen.live--;
}

static const coir_child_spec staying = {.size = sizeof staying, .name = "stays", .fn = stays, .tells_ready = 1,
                                        .shutdown_ns = COIR_SEC};

static int opens(const coir_child_spec *c, coir_counter *end, coir_supervisor **s)
{
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 1);

    o.max_restarts = 3;
    return coir_supervisor_open(coir_current(), seen.around, &o, end, s);
}

/* It serves: it answers, and its end is told. */
static void serves(coir_supervisor *s, coir_counter *end)
{
    CHECK_EQ(coir_supervisor_remove(s, 99), COIR_ENOENT);
    CHECK_EQ(coir_wait_until(end, coir_now() + COIR_SEC), COIR_ETIMEDOUT);
    CHECK_EQ(seen.live, 1);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_wait(end), COIR_DONE);
    CHECK_EQ(seen.live, 0);
}

/* ------------------------------------------------------------------------- while the first starts */

static void starts_late(void *unused)
{
    pass(10 * COIR_SEC);
    stays(unused);
}

static void trips(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(seen.around, &c, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    stays(unused);
}

static void opens_and_serves(void *fn)
{
    coir_child_spec c = staying;
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    c.fn = (coir_fn *)fn;
    if (CHECK_EQ(opens(&c, &end, &s), COIR_OK))
        serves(s, &end);
}

static void opens_while_time_passes(void *unused)
{
    (void)unused;
    begin(NULL);
    CHECK_EQ(runs_within(seen.around, opens_and_serves, (void *)starts_late, 5 * COIR_SEC), COIR_DONE);
}

static void its_callers_deadline_may_pass(void)
{
    experiment(opens_while_time_passes, 0);
}

static void opens_while_it_trips(void *unused)
{
    coir_domain_options o = domain_options("around");

    (void)unused;
    o.panics_max = 1;
    begin(&o);
    opens_and_serves((void *)trips);
}

static void the_domain_around_may_trip(void)
{
    experiment(opens_while_it_trips, 0);
}

static void cancels(void *end)
{
    CHECK_EQ(coir_counter_cancel(end), COIR_OK);
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
}

static void opens_and_is_canceled(void *unused)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec c = staying;
    coir_supervisor *s;

    (void)unused;
    begin(NULL);
    c.fn = cancels;
    c.arg = &end;
    CHECK_EQ(opens(&c, &end, &s), COIR_ECANCELED);
    CHECK(s == NULL);
    CHECK(coir_wait(&end) >= 0);
    CHECK_EQ(opens(&staying, &end, &s), COIR_ECANCELED); /* the request stays */
    CHECK(coir_wait(&end) >= 0);
    CHECK_EQ(seen.starts, 0);
}

static void a_cancel_of_its_end_ends_the_open(void)
{
    experiment(opens_and_is_canceled, 0);
}

/* ----------------------------------------------------------------------------- that never begins */

static void opens_too_late(void *unused)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    (void)unused;
    pass(10 * COIR_SEC);
    CHECK_EQ(opens(&staying, &end, &s), COIR_ETIMEDOUT);
    CHECK(s == NULL);
    CHECK(coir_wait(&end) >= 0);
    CHECK_EQ(seen.starts, 0);
}

static void opens_past_a_deadline(void *unused)
{
    (void)unused;
    begin(NULL);
    CHECK_EQ(runs_within(seen.around, opens_too_late, NULL, 5 * COIR_SEC), COIR_DONE);
}

static void past_its_callers_deadline_nothing_is_opened(void)
{
    experiment(opens_past_a_deadline, 0);
}

static void opens_with_mishaps(void *unused)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_failure f;
    coir_supervisor *s;
    int status;

    (void)unused;
    begin(NULL);
    status = opens(&staying, &end, &s);
    if (status == COIR_OK) {
        CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
        CHECK(coir_wait(&end) >= 0);
    } else if (CHECK_EQ(status, COIR_ECHILD)) {
        CHECK(coir_wait(&end) >= COIR_FAILED);
        CHECK_EQ(coir_counter_failure(&end, &f), COIR_OK);
        CHECK_EQ(seen.starts, 0);
    }
}

static void a_panic_in_place_of_its_job_is_told(void)
{
    experiment(opens_with_mishaps, 400000);
}

/* ----------------------------------------------------------------------------- in a full domain */

static void no_message(coir_message *m)
{
    (void)m;
}

static void opens_in_full(enum coir_full full)
{
    coir_domain_options o = domain_options("full");
    coir_pool_options po = {.size = sizeof po, .handle = no_message, .dead = no_message, .workers = 2,
                            .queue_max = 4, .attempts_max = 1};
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;
    coir_pool *p;

    o.jobs_max = 1;
    o.full = full;
    begin(&o);
    po.parent = seen.around;
    CHECK_EQ(coir_pool_open(coir_current(), &po, &p), COIR_EAGAIN);
    CHECK_EQ(opens(&staying, &end, &s), COIR_EAGAIN); /* the supervisor has the place, and its child none */
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_EQ(seen.starts, 0);
    po.workers = 1;
    CHECK_EQ(coir_pool_open(coir_current(), &po, &p), COIR_OK);
    CHECK_EQ(opens(&staying, &end, &s), COIR_EAGAIN);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
}

static void opens_in_full_domains(void *unused)
{
    (void)unused;
    opens_in_full(COIR_FULL_RUN);
    opens_in_full(COIR_FULL_WAIT);
    opens_in_full(COIR_FULL_REFUSE);
}

static void in_a_full_domain_it_is_refused_whatever_that_does_with_jobs(void)
{
    experiment(opens_in_full_domains, 0);
}

/* ------------------------------------------------------------------------------- what it inherits */

static void spawns(coir_message *m)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)m;
    seen.deadline = coir_deadline();
    CHECK_EQ(coir_spawn(&c, job_count, &seen.starts), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void sends_late(void *unused)
{
    coir_pool_options po = {.size = sizeof po, .handle = spawns, .dead = no_message, .queue_max = 4, .attempts_max = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_message m = {.counter = &c};
    coir_pool *p;

    (void)unused;
    po.parent = seen.around;
    CHECK_EQ(coir_pool_open(coir_current(), &po, &p), COIR_OK);
    pass(10 * COIR_SEC);
    CHECK_EQ(coir_pool_submit(p, &m), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(seen.deadline, COIR_NEVER);
    CHECK_EQ(seen.starts, 1);
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
}

static void breaks_once(void *unused)
{
    if (!seen.starts++) {
        coir_child_ready();
        pass(10 * COIR_SEC);
        coir_panic("planned");
    }
    stays(unused);
}

static void breaks_late(void *unused)
{
    coir_child_spec c = staying;
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    (void)unused;
    c.fn = breaks_once;
    CHECK_EQ(opens(&c, &end, &s), COIR_OK);
    pass(20 * COIR_SEC);
    CHECK_EQ(seen.deadline, COIR_NEVER);
    serves(s, &end);
}

static void opens_where_jobs_have_a_deadline(void *unused)
{
    coir_domain_options o = domain_options("hurried");

    (void)unused;
    o.deadline_ns = 5 * COIR_SEC;
    begin(&o);
    sends_late(NULL);
    begin(&o);
    CHECK_EQ(runs_within(domain_open(coir_current(), NULL, NULL), sends_late, NULL, 5 * COIR_SEC), COIR_DONE);
    begin(&o);
    breaks_late(NULL);
}

static void a_default_deadline_is_for_what_is_submitted(void)
{
    experiment(opens_where_jobs_have_a_deadline, 0);
}

CHECK_MAIN(CASE(its_callers_deadline_may_pass), CASE(the_domain_around_may_trip),
           CASE(a_cancel_of_its_end_ends_the_open), CASE(past_its_callers_deadline_nothing_is_opened),
           CASE(a_panic_in_place_of_its_job_is_told),
           CASE(in_a_full_domain_it_is_refused_whatever_that_does_with_jobs),
           CASE(a_default_deadline_is_for_what_is_submitted))
