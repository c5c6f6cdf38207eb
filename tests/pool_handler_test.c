/* SPDX-License-Identifier: MIT */
/*
 * pool_handler_test.c - core/retry.c, core/pool.c: what handlers and callbacks leave behind or break, workers that
 * are replaced, options.
 */
#include "pools.h"

/* -------------------------------------------------------------------------------- handlers */

static void leave_a_lock(coir_message *m)
{
    static coir_mutex mutex;

    (void)m;
    CHECK(coir_mutex_lock(&mutex) != COIR_EDEADLK); /* no attempt finds it held by its worker */
}

static int destroyed;

static void destroy(void *value)
{
    run_count(&destroyed);
    if (value == (void *)&destroyed)
        coir_panic("in the destructor");
}

static const coir_local key = COIR_LOCAL_INIT(destroy);

static void leave_a_value(coir_message *m)
{
    coir_obligation forgotten;
    char name[] = "of the message";

    CHECK_STR(job_proper(*job_slot())->name, "leave");
    CHECK_EQ(coir_job_name(name), COIR_OK);
    CHECK(coir_local_get(&key) == NULL); /* none of an earlier message */
    CHECK_EQ(coir_local_set(&key, m->key ? (void *)&destroyed : (void *)m), COIR_OK);
    CHECK_EQ(coir_obligation_take(NULL, "forgotten", &forgotten), COIR_OK);
    if (m->key == 2)
        coir_fail(COIR_EIO, "planned");
}

static void what_an_attempt_leaves_ends_with_it(void)
{
    struct job_message job = {.m = {0}}, worse = {.m.key = 1}, worst = {.m.key = 2};
    coir_pool_options o = pool_options("leave");
    coir_runtime *rt = run_open(1);
    coir_domain_stats s;
    coir_pool *p;

    destroyed = 0;
    o.handle = leave_a_value;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    job.m.attempts = 0;
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    CHECK_EQ(pool_run(p, &worse), COIR_PANICKED);
    CHECK_STR(worse.m.failure.message, "in the destructor");
    CHECK_EQ(pool_run(p, &worst), COIR_PANICKED); /* it had failed before */
    CHECK_STR(worst.m.failure.message, "in the destructor");
    CHECK_EQ(destroyed, 4);
    CHECK_EQ(coir_domain_stats_read(coir_pool_domain(p), &s), COIR_OK);
    CHECK_EQ(s.obligations_leaked, 4);
    pool_close(p);
    o.handle = leave_a_lock;
    p = pool_open(rt, &o);
    job.m.attempts = 0;
    CHECK_EQ(pool_run(p, &job), COIR_PANICKED);
    CHECK(strstr(job.m.failure.message, "held a lock") != NULL);
    CHECK_EQ(job.m.failure.kind, COIR_KIND_HELD);
    job.m.attempts = 0;
    CHECK_EQ(pool_run(p, &job), COIR_PANICKED);
    pool_close(p);
    run_close(rt);
}

/* Past the budget; again where the machine is too busy for what is canceled to end. */
static void close_now(coir_pool *p, coir_pool_receipt *r)
{
    int status;

    do
        status = coir_pool_close(p, 0, r);
    while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
}

static struct left_running {
    coir_counter c; /* in nobody's frames: the handler's end does not wait for it */
    int started, canceled, go;
} left_running;

static void ignore_the_cancel(void *unused)
{
    (void)unused;
    run_set(&left_running.started);
    if (coir_sleep_until(coir_now() + 3600 * COIR_SEC) == COIR_ECANCELED)
        run_set(&left_running.canceled);
    run_until(&left_running.go);
}

static void leave_it_running(coir_message *m)
{
    (void)m;
    CHECK_EQ(coir_spawn(&left_running.c, ignore_the_cancel, NULL), COIR_OK);
    run_until(&left_running.started);
}

static void what_a_handler_has_left_running_has_the_rest_of_the_budget(void)
{
    for (int64_t budget = 0; budget <= COIR_MS; budget += COIR_MS) {
        struct job_message job = {.m = {0}};
        coir_pool_options o = pool_options("left");
        coir_runtime *rt = run_open(2);
        coir_pool_receipt r;
        coir_pool *p;

        left_running = (struct left_running){.c = COIR_COUNTER_INIT};
        o.handle = leave_it_running;
        p = pool_open(rt, &o);
        CHECK_EQ(pool_run(p, &job), COIR_DONE);
        CHECK_EQ(coir_pool_close(p, budget, &r), COIR_ETIMEDOUT);
        run_until(&left_running.canceled);
        CHECK(r.pool.done == 1 && r.pool.pending == 0);
        CHECK(r.domain.running >= 1 && r.domain.stuck_count >= 1);
        run_set(&left_running.go);
        close_now(p, &r);
        CHECK_EQ(r.pool.done, 1);
        CHECK_EQ(coir_wait(&left_running.c), COIR_DONE);
        run_close(rt);
    }
}

static void count_run(void *n)
{
    run_count(n);
}

/* A domain above would be tripped by a single job that panics. */
static void panics_of_messages_count_at_their_pool_alone(void)
{
    coir_domain_options above = {.size = sizeof above, .name = "above", .panics_max = 1};
    struct job_message poison = {.panics = 9};
    coir_pool_options o = pool_options("bulkhead");
    coir_runtime *rt = run_open(1);
    coir_counter sibling = COIR_COUNTER_INIT;
    coir_domain_stats s;
    coir_domain *d;
    coir_pool *p;
    int ran = 0;

    CHECK_EQ(coir_domain_open(rt, NULL, &above, &d), COIR_OK);
    o.parent = d;
    o.attempts_max = 3;
    o.failures_max = 3;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &poison), COIR_PANICKED);
    CHECK_EQ(pool_stats(p).trips, 1);
    CHECK_EQ(coir_domain_stats_read(d, &s), COIR_OK);
    CHECK(s.state == COIR_DOMAIN_OPEN && s.trips == 0);
    CHECK_EQ(coir_domain_submit(d, &sibling, count_run, &ran), COIR_OK);
    CHECK_EQ(coir_wait(&sibling), COIR_DONE);
    pool_close(p);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

static void panic_back(coir_message *m)
{
    (void)m;
    coir_panic("in a callback");
}

/* Whoever calls them; and it is not for options.defer_panic, which is for clean-ups. */
static void callbacks_that_panic_are_counted_and_the_message_ends(void)
{
    struct job_message held = {.m = {0}}, job = {.fails = 9}, returned = {.m = {0}};
    coir_options ro = run_options(2);
    coir_pool_options o = pool_options("callback");
    coir_pool_receipt r;
    coir_runtime *rt;
    coir_stats all;
    coir_pool *p;

    ro.defer_panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_open(&ro, &rt), COIR_OK);
    o.dead = o.ended = panic_back;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &job), COIR_FAILED);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_pool_submit(p, &returned.m), COIR_OK);
    CHECK_EQ(coir_pool_close(p, 0, &r), COIR_ETIMEDOUT); /* it calls back for what is returned */
    CHECK_EQ(returned.m.end, COIR_MESSAGE_RETURNED);
    CHECK_EQ(r.pool.callback_panics, 3);
    run_set(&held.go);
    CHECK_EQ(coir_stats_read(rt, &all), COIR_OK);
    CHECK_EQ(all.panics_at[COIR_AT_FINALIZER], 0);
    CHECK(all.panics_at[COIR_AT_JOB] >= 3);
    close_now(p, &r);
    CHECK_EQ(r.pool.callback_panics, 4);
    CHECK_EQ(r.pool.worker_restarts, 0);
    run_close(rt);
}

static coir_mutex left_locked;

static void leave_things(coir_message *m)
{
    coir_obligation forgotten;

    CHECK(coir_local_get(&key) == NULL); /* none of the sink's call, which leaves one, too */
    CHECK_EQ(coir_job_name("of the callback"), COIR_OK);
    CHECK_EQ(coir_local_set(&key, m->key == 1 ? (void *)&destroyed : (void *)m), COIR_OK);
    CHECK_EQ(coir_obligation_take(NULL, "forgotten", &forgotten), COIR_OK);
    if (m->key == 2)
        CHECK_EQ(coir_mutex_lock(&left_locked), COIR_OK);
}

static void find_nothing(coir_message *m)
{
    CHECK_STR(job_proper(*job_slot())->name, "tidy");
    CHECK(coir_local_get(&key) == NULL);
    if (m->key == 0)
        coir_fail(COIR_EIO, "planned");
}

/* None of it is the next message's affair, or the worker's. */
static void what_a_callback_leaves_ends_with_it(void)
{
    coir_pool_options o = pool_options("tidy");
    coir_runtime *rt = run_open(1);
    coir_domain_stats s;
    coir_pool_receipt r;
    coir_pool *p;

    destroyed = 0;
    o.handle = find_nothing;
    o.dead = o.ended = leave_things;
    p = pool_open(rt, &o);
    for (int key = 0; key < 4; key++) {
        struct job_message job = {.m.key = (uint64_t)key};

        CHECK_EQ(pool_run(p, &job), key ? COIR_DONE : COIR_FAILED);
        CHECK_EQ(coir_domain_stats_read(coir_pool_domain(p), &s), COIR_OK);
        CHECK(destroyed == key + 2 && s.obligations_leaked == (uint64_t)key + 2); /* the first has two callbacks */
    }
    CHECK_EQ(coir_mutex_lock_until(&left_locked, coir_now() + 10 * COIR_SEC), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_unlock(&left_locked), COIR_OK);
    CHECK_EQ(coir_pool_close(p, -1, &r), COIR_OK);
    CHECK_EQ(r.pool.callback_panics, 2); /* a destructor's, and over the lock */
    CHECK(r.pool.worker_restarts == 0 && r.domain.ended[COIR_PANICKED] == 0);
    run_close(rt);
}

__attribute__((noinline)) static unsigned char deeper(unsigned n)
{
    volatile unsigned char frame[512];

    frame[0] = (unsigned char)n;
    return (unsigned char)(n == 0 ? frame[0] : deeper(n + 1) + frame[0]);
}

static void overflow(coir_message *m)
{
    if (m->key)
        deeper(1);
}

static void a_handler_that_overflows_its_stack_ends_its_attempt(void)
{
    struct job_message bad = {.m.key = 1}, good = {.m = {0}};
    coir_options ro = run_options(1);
    coir_pool_options o = pool_options("overflow");
    coir_runtime *rt;
    coir_pool *p;

    ro.faults = COIR_FAULTS_CONTAIN;
    CHECK_EQ(coir_contain_object((const void *)(uintptr_t)overflow), COIR_OK);
    CHECK_EQ(coir_open(&ro, &rt), COIR_OK);
    o.handle = overflow;
    o.attempts_max = 3;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_PANICKED);
    CHECK_EQ(bad.m.failure.kind, COIR_KIND_STACK_OVERFLOW);
    CHECK_EQ(bad.m.attempts, 3);
    CHECK_EQ(pool_run(p, &good), COIR_DONE);
    pool_close(p);
    run_close(rt);
    CHECK_EQ(coir_contain_remove((const void *)(uintptr_t)overflow), COIR_OK);
}

/* ----------------------------------------------------------------------------------- open */

static void options_are_checked(void)
{
    coir_runtime *rt = run_open(1);
    coir_pool_options good = pool_options("options"), o;
    coir_options ro = run_options(1);
    coir_pool *p = NULL;

#define REFUSED(status, change) \
    (o = good, change, CHECK_EQ(coir_pool_open(rt, &o, &p), status), CHECK(p == NULL))
    REFUSED(COIR_EINVAL, o.size = 3);
    REFUSED(COIR_EINVAL, o.handle = NULL);
    REFUSED(COIR_EPOLICY, o.dead = NULL);
    REFUSED(COIR_ERANGE, o.queue_max = 0);
    REFUSED(COIR_ERANGE, o.queue_max = SIZE_MAX);
    REFUSED(COIR_ERANGE, o.attempts_max = 0);
    REFUSED(COIR_ERANGE, o.workers = 4097);
    REFUSED(COIR_ERANGE, o.full = 9);
    REFUSED(COIR_ERANGE, o.failures_max = 1025);
    REFUSED(COIR_ERANGE, o.backoff_ns = -1);
    REFUSED(COIR_ERANGE, o.backoff_max_ns = -1);
    REFUSED(COIR_ERANGE, o.full_wait_ns = -1);
    REFUSED(COIR_ERANGE, o.deadline_ns = -1);
    REFUSED(COIR_ERANGE, o.failures_window_ns = -1);
    REFUSED(COIR_ERANGE, o.probe_ns = -1);
    CHECK_EQ(coir_pool_open(NULL, &good, &p), COIR_EINVAL);
    CHECK_EQ(coir_pool_open(rt, NULL, &p), COIR_EINVAL);
    CHECK_EQ(coir_pool_open(rt, &good, NULL), COIR_EINVAL);
    CHECK_EQ(coir_pool_submit(NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_pool_close(NULL, 0, NULL), COIR_EINVAL);
    CHECK_EQ(coir_pool_stats_read(NULL, NULL), COIR_EINVAL);
    CHECK(coir_pool_domain(NULL) == NULL);
    run_close(rt);
    ro.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_open(&ro, &rt), COIR_OK);
    CHECK_EQ(coir_pool_open(rt, &good, &p), COIR_EPOLICY);
    run_close(rt);
}

static void no_pool_below_a_domain_that_is_tripped_or_canceled(void)
{
    coir_domain_options d = {.size = sizeof d, .panics_max = 1, .probe_ns = 3600 * COIR_SEC};
    coir_pool_options o = pool_options("below");
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool *p;

    CHECK_EQ(coir_domain_open(rt, NULL, &d, &o.parent), COIR_OK);
    CHECK_EQ(coir_domain_submit(o.parent, &c, panic_job, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_pool_open(rt, &o, &p), COIR_EAGAIN);
    CHECK(p == NULL);
    CHECK_EQ(coir_domain_cancel(o.parent), COIR_OK);
    CHECK_EQ(coir_pool_open(rt, &o, &p), COIR_ECANCELED);
    CHECK_EQ(coir_domain_close(o.parent, -1, NULL), COIR_OK);
    run_close(rt);
}

/* Waits until its retry, or the end of another message's probe, an hour later; it may not have come there yet. */
static void cancel_it(coir_pool *p, struct job_message *job)
{
    coir_counter c = COIR_COUNTER_INIT;

    job->m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &job->m), COIR_OK);
    while (job->fails && !pool_stats(p).attempts)
        sched_yield();
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 10 * COIR_SEC), COIR_CANCELED);
    CHECK_EQ(job->m.end, COIR_MESSAGE_RETURNED);
}

static void a_message_that_waits_to_be_tried_again_can_be_canceled(void)
{
    coir_pool_options o = pool_options("waits");
    coir_runtime *rt = run_open(1);
    struct job_message job;
    coir_pool *p;

    o.attempts_max = 2;
    o.backoff_ns = o.backoff_max_ns = 3600 * COIR_SEC;
    for (int i = 0; i < MANY(20) + 1; i++) {
        job = (struct job_message){.fails = 9};
        p = pool_open(rt, &o);
        cancel_it(p, &job);
        CHECK(job.handled == 1 && job.ended == 1);
        CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    }
    run_close(rt);
}

static void so_can_one_that_waits_for_the_breaker(void)
{
    struct job_message failed = {.fails = 9}, probe = {.m = {0}}, held = {.m = {0}};
    coir_pool_options o = pool_options("held");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.workers = 2;
    o.failures_max = 1;
    o.probe_ns = COIR_MS;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &failed), COIR_FAILED);
    pool_hold_one(p, &probe);
    cancel_it(p, &held);
    CHECK_EQ(held.handled, 0);
    run_set(&probe.go);
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    run_close(rt);
}

struct closer {
    coir_counter c;
    int64_t took;
};

static void close_canceled(void *arg)
{
    struct closer *closer = arg;
    struct job_message blocked = {.block = 1};
    coir_pool_options o = pool_options("canceled closer");
    coir_pool *p = pool_open(coir_current(), &o);
    int64_t begin;

    CHECK_EQ(coir_pool_submit(p, &blocked.m), COIR_OK);
    run_until(&blocked.started);
    CHECK_EQ(coir_counter_cancel(&closer->c), COIR_OK);
    begin = coir_now();
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    closer->took = coir_now() - begin;
}

/* Its worker is the handler's, too. Any one round shows it: others may find the machine busy. */
static void a_canceled_closer_lets_the_handlers_run(void)
{
    struct closer closer;
    coir_runtime *rt = run_open(1);
    int64_t least = COIR_NEVER;

    for (int i = 0; i < 20 && least >= 50 * COIR_MS; i++) {
        coir_counter_init(&closer.c);
        CHECK_EQ(coir_submit(rt, &closer.c, close_canceled, &closer), COIR_OK);
        CHECK_EQ(coir_wait(&closer.c), COIR_DONE);
        least = closer.took < least ? closer.took : least;
    }
    CHECK(least < 50 * COIR_MS); /* of the 100 that it would have spun for */
    run_close(rt);
}

CHECK_MAIN(CASE(what_an_attempt_leaves_ends_with_it),
           CASE(what_a_handler_has_left_running_has_the_rest_of_the_budget),
           CASE(panics_of_messages_count_at_their_pool_alone),
           CASE(callbacks_that_panic_are_counted_and_the_message_ends), CASE(what_a_callback_leaves_ends_with_it),
           CASE(a_handler_that_overflows_its_stack_ends_its_attempt), CASE(options_are_checked),
           CASE(no_pool_below_a_domain_that_is_tripped_or_canceled),
           CASE(a_message_that_waits_to_be_tried_again_can_be_canceled), CASE(so_can_one_that_waits_for_the_breaker),
           CASE(a_canceled_closer_lets_the_handlers_run))
