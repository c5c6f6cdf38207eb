/* SPDX-License-Identifier: MIT */
/*
 * lab_time_test.c - timers in experiments (coir_lab_run): deadlines, cancels and events at times that a seed has
 * chosen, against what must happen then. In an experiment time jumps when nothing can run, so whoever wakes does so
 * at once, and in order. A seed that fails is printed; given as SEED in the environment it runs alone.
 */
#include "run.h"
#include "threads.h"

#include <stdbool.h>
#include <time.h>

#define SEEDS (MANY(600) + 20)
#define WAITERS 24
#define TICK (10 * COIR_MS) /* what wakes one is so far from what wakes another */

enum what { SLEEPS, WAITS_FOR_EVENT, WHATS };

/* One that waits until a deadline, and what else may end the wait: its cancel, or its event. */
struct waiter_plan {
    struct plan *plan;
    enum what what;
    int64_t deadline, cut; /* cut: when it is canceled, or its event set */
    coir_counter job;
    coir_event event;
    int status;
    int64_t woke;
};

struct plan {
    uint64_t seed;
    struct waiter_plan waiter[WAITERS];
    struct waiter_plan *order[WAITERS]; /* as they woke */
    int woken;
};

static void wait_until(void *arg)
{
    struct waiter_plan *w = arg;

    w->status = w->what == SLEEPS ? coir_sleep_until(w->deadline) : coir_event_wait_until(&w->event, w->deadline);
    w->woke = coir_now();
    w->plan->order[w->plan->woken++] = w;
}

static void cut_off(void *arg)
{
    struct waiter_plan *w = arg;

    CHECK_EQ(coir_sleep_until(w->cut), COIR_OK);
    CHECK_EQ(w->what == SLEEPS ? coir_counter_cancel(&w->job) : coir_event_set(&w->event), COIR_OK);
}

static int64_t due(const struct waiter_plan *w)
{
    return w->cut < w->deadline ? w->cut : w->deadline;
}

static void wait_all(void *arg)
{
    struct plan *p = arg;
    coir_counter cutters = COIR_COUNTER_INIT;
    int64_t begin = coir_now() + COIR_SEC;
    uint64_t seed = p->seed + 1;

    for (int i = 0; i < WAITERS; i++) {
        struct waiter_plan *w = &p->waiter[i];

        *w = (struct waiter_plan){.plan = p, .what = (enum what)(random_next(&seed) % WHATS)};
        w->deadline = begin + (int64_t)(random_next(&seed) % 1000) * 2 * TICK; /* some at the same time */
        w->cut = begin + (int64_t)(random_next(&seed) % 2000) * 2 * TICK + TICK;
        coir_event_init(&w->event);
        CHECK_EQ(coir_spawn(&w->job, wait_until, w), COIR_OK);
        CHECK_EQ(coir_spawn(&cutters, cut_off, w), COIR_OK);
    }
    CHECK_EQ(coir_wait(&cutters), COIR_DONE);
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(coir_wait(&p->waiter[i].job), COIR_DONE);
}

/* Whether it woke for the right reason, in time, and not before another who was due earlier. */
static bool is_right(const struct plan *p)
{
    static const int cut_short[] = {[SLEEPS] = COIR_ECANCELED, [WAITS_FOR_EVENT] = COIR_OK};
    static const int in_time[] = {[SLEEPS] = COIR_OK, [WAITS_FOR_EVENT] = COIR_ETIMEDOUT};
    bool right = CHECK_EQ(p->woken, WAITERS);

    for (int i = 0; i < p->woken; i++) {
        const struct waiter_plan *w = p->order[i];

        right &= CHECK_EQ(w->status, (w->cut < w->deadline ? cut_short : in_time)[w->what]);
        right &= CHECK(w->woke >= due(w) && w->woke < due(w) + TICK / 2);
        right &= i == 0 || CHECK(due(p->order[i - 1]) <= due(w));
    }
    return right;
}

static void waits_end_when_they_must_and_in_order(void)
{
    coir_options o = run_options(0);
    const char *one = getenv("SEED");
    static struct plan p;

    o.stacks_max = 256;
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 0; check_round((long)seed, SEEDS); seed++) {
        coir_lab lab = {.size = sizeof lab, .seed = seed};

        p = (struct plan){.seed = seed};
        if (CHECK_EQ(coir_lab_run(&lab, &o, wait_all, &p, NULL), COIR_DONE) & is_right(&p) && !one)
            continue;
        fprintf(stderr, "    SEED=%llu\n", (unsigned long long)seed);
        return;
    }
}

/* ------------------------------------------------------------------------------- a quarantine's time */

static void panics_if_marked(coir_message *m)
{
    if (m->idempotency)
        coir_panic("poisoned");
}

static void buried(coir_message *m)
{
    (void)m;
}

static int send_one(coir_pool *p, uint64_t poison)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_message m = {.key = 7, .idempotency = poison, .counter = &c};

    CHECK_EQ(coir_pool_submit(p, &m), COIR_OK);
    CHECK(coir_wait(&c) >= 0);
    return m.end;
}

static void outwait_quarantine(void *unused)
{
    coir_quarantine_options q = {.size = sizeof q, .strikes_max = 1, .expiry_ns = 60 * COIR_SEC};
    coir_pool_options o = {.size = sizeof o, .handle = panics_if_marked, .dead = buried, .queue_max = 4, .attempts_max = 1};
    coir_pool *p = NULL;

    (void)unused;
    CHECK_EQ(coir_quarantine_open(coir_current(), &q, &o.quarantine), COIR_OK);
    CHECK_EQ(coir_pool_open(coir_current(), &o, &p), COIR_OK);
    CHECK_EQ(send_one(p, 1), COIR_MESSAGE_DEAD);
    CHECK_EQ(coir_sleep_until(coir_now() + 3600 * COIR_SEC), COIR_OK);
    CHECK_EQ(send_one(p, 0), COIR_MESSAGE_DONE);
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    CHECK_EQ(coir_quarantine_close(o.quarantine), COIR_OK);
}

static void a_quarantine_expires_in_virtual_time(void)
{
    coir_lab lab = {.size = sizeof lab, .seed = 1};
    coir_options o = run_options(0);

    CHECK_EQ(coir_lab_run(&lab, &o, outwait_quarantine, NULL, NULL), COIR_DONE);
}

/* ----------------------------------------------------------------------------------- where time ends */

static int run_seed(coir_fn *fn, void *arg, coir_lab_report *r)
{
    coir_lab lab = {.size = sizeof lab, .seed = 1};
    coir_options o = run_options(0);

    return coir_lab_run(&lab, &o, fn, arg, r);
}

/* Waits for what never comes; canceled, it still waits for a time, as a clean-up may. */
static void wait_on_when_canceled(void *ended)
{
    coir_counter gate = COIR_COUNTER_INIT;
    int64_t began;

    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_wait(&gate), COIR_ECANCELED);
    began = coir_now();
    while (coir_now() < began + 3600 * COIR_SEC)
        (void)!coir_wait_until(&gate, coir_now() + COIR_SEC);
    coir_counter_done(&gate, COIR_DONE);
    *(bool *)ended = true;
}

static void time_passes_for_who_is_canceled_at_the_end(void)
{
    bool ended = false;

    CHECK_EQ(run_seed(wait_on_when_canceled, &ended, NULL), COIR_EDEADLK);
    CHECK(ended);
}

static int64_t real_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * COIR_SEC + t.tv_nsec;
}

/* Canceled, it needs more of the machine's time than coir_close gives to what was canceled. */
static void end_slowly_when_canceled(void *ended)
{
    coir_counter gate = COIR_COUNTER_INIT;
    int64_t end;

    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_wait(&gate), COIR_ECANCELED);
    for (end = real_now() + 400 * COIR_MS; real_now() < end;)
        coir_yield();
    coir_counter_done(&gate, COIR_DONE);
    *(bool *)ended = true;
}

static void who_is_canceled_at_the_end_may_be_slow(void)
{
    bool ended = false;

    CHECK_EQ(run_seed(end_slowly_when_canceled, &ended, NULL), COIR_EDEADLK);
    CHECK(ended);
}

/* 146 years, and then 292. */
static void sleep_for_ages(void *status)
{
    CHECK_EQ(coir_sleep_until(COIR_NEVER / 2), COIR_OK);
    CHECK(coir_now() > COIR_NEVER / 2 && coir_now() < COIR_NEVER / 2 + COIR_SEC);
    *(int *)status = coir_sleep_until(COIR_NEVER - 1);
    CHECK(coir_now() < COIR_NEVER / 2 + COIR_SEC);
}

static void a_deadline_that_never_comes_is_none(void)
{
    coir_lab_report r;
    int status = COIR_OK;

    CHECK_EQ(run_seed(sleep_for_ages, &status, &r), COIR_EDEADLK);
    CHECK_EQ(status, COIR_ECANCELED);
    CHECK(r.ns > COIR_NEVER / 2 - 2 * COIR_SEC && r.ns < COIR_NEVER / 2);
}

#define YEAR_NS (INT64_C(365) * 86400 * COIR_SEC)

static void run_late(void *ran)
{
    run_count(ran);
}

#define LATE 500

static void run_one_by_one(void *ran)
{
    while (*(int *)ran < LATE) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, run_late, ran), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
}

static void a_job_may_be_a_year_late(void)
{
    coir_lab lab = {.size = sizeof lab, .seed = 1, .delay_ppm = 1000000, .delay_ns = YEAR_NS};
    coir_options o = run_options(0);
    coir_lab_report r;
    int ran = 0;

    CHECK_EQ(coir_lab_run(&lab, &o, run_late, &ran, &r), COIR_DONE);
    CHECK_EQ(ran, 1);
    CHECK(r.ns < YEAR_NS + COIR_SEC);
    CHECK_EQ(coir_lab_run(&lab, &o, run_one_by_one, &ran, &r), COIR_DONE);
    CHECK_EQ(ran, LATE);
    CHECK(r.ns > COIR_NEVER / 4 && r.ns < COIR_NEVER / 2); /* the last ones are on time */
    lab.delay_ns++;
    CHECK_EQ(coir_lab_run(&lab, &o, run_late, &ran, &r), COIR_ERANGE);
    CHECK_EQ(ran, LATE);
}

/* ---------------------------------------------------------------------------- while something can run */

static void raise_flag_later(void *flag)
{
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    *(bool *)flag = true;
}

static void yield_until_raised(void *flag)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, raise_flag_later, flag), COIR_OK);
    while (!*(bool *)flag)
        coir_yield();
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

struct relay {
    bool flag;
    coir_counter all;
};

/* A chain of jobs, each of which is the next one's parent. */
static void pass_on_until_raised(void *arg)
{
    struct relay *r = arg;

    if (!r->flag)
        CHECK_EQ(coir_spawn(&r->all, pass_on_until_raised, r), COIR_OK);
}

static void relay_until_raised(void *arg)
{
    struct relay *r = arg;

    CHECK_EQ(coir_spawn(&r->all, raise_flag_later, &r->flag), COIR_OK);
    CHECK_EQ(coir_spawn(&r->all, pass_on_until_raised, r), COIR_OK);
    CHECK_EQ(coir_wait(&r->all), COIR_DONE);
}

static void who_sleeps_wakes_though_others_run_all_the_time(void)
{
    struct relay relay = {.flag = false};
    coir_lab_report r;
    bool flag = false;

    CHECK_EQ(run_seed(yield_until_raised, &flag, &r), COIR_DONE);
    CHECK(flag && r.ns >= COIR_MS && r.ns < COIR_SEC);
    CHECK_EQ(run_seed(relay_until_raised, &relay, &r), COIR_DONE);
    CHECK(relay.flag && r.ns >= COIR_MS && r.ns < COIR_SEC);
}

CHECK_MAIN(CASE(a_quarantine_expires_in_virtual_time), CASE(waits_end_when_they_must_and_in_order),
           CASE(time_passes_for_who_is_canceled_at_the_end), CASE(who_is_canceled_at_the_end_may_be_slow),
           CASE(a_deadline_that_never_comes_is_none), CASE(a_job_may_be_a_year_late),
           CASE(who_sleeps_wakes_though_others_run_all_the_time))
