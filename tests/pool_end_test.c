/* SPDX-License-Identifier: MIT */
/*
 * pool_end_test.c - how pools end: drain, budgets, retries that wait, cancels, receipts that add up, domains
 * and runtimes that close around them.
 */
#include "pools.h"
#include "threads.h"

static coir_pool_receipt close_with(coir_pool *p, int64_t drain_ns, int expected)
{
    coir_pool_receipt r;

    CHECK_EQ(coir_pool_close(p, drain_ns, &r), expected);
    pool_adds_up(&r.pool);
    return r;
}

/* Closes with a budget that passes; on a busy machine the cancel's own budget may, too: then again. */
static coir_pool_receipt close_now(coir_pool *p)
{
    coir_pool_receipt r;
    int status;

    do
        status = coir_pool_close(p, 0, &r);
    while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
    pool_adds_up(&r.pool);
    CHECK_EQ(r.pool.pending, 0);
    return r;
}

static void until_attempts(coir_pool *p, uint64_t n)
{
    while (pool_stats(p).attempts < n || pool_stats(p).pending == 0)
        sched_yield();
}

static void a_drain_lets_queue_and_retries_end(void)
{
    static struct job_message job[50];
    coir_pool_options o = pool_options("drain");
    coir_runtime *rt = run_open(2);
    coir_pool_receipt r;
    coir_pool *p;

    memset(job, 0, sizeof job);
    o.attempts_max = 3;
    o.backoff_ns = 5 * COIR_MS;
    p = pool_open(rt, &o);
    for (int i = 0; i < 50; i++) {
        job[i].fails = i % 5; /* two of five are hopeless */
        CHECK_EQ(coir_pool_submit(p, &job[i].m), COIR_OK);
    }
    r = close_with(p, -1, COIR_OK);
    CHECK_EQ(r.pool.submitted, 50);
    CHECK_EQ(r.pool.done, 30);
    CHECK_EQ(r.pool.dead, 20);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(job[i].ended, 1);
    run_close(rt);
}

static void a_close_during_the_backoff_gives_back_at_once(void)
{
    struct job_message job = {.fails = 9};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("backoff");
    coir_runtime *rt = run_open(1);
    coir_pool_receipt r;
    coir_failure f;
    coir_pool *p;

    o.attempts_max = 3;
    o.backoff_ns = o.backoff_max_ns = 3600 * COIR_SEC;
    p = pool_open(rt, &o);
    job.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &job.m), COIR_OK);
    until_attempts(p, 1);
    r = close_now(p);
    CHECK_EQ(r.pool.returned, 1);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_SHUTDOWN);
    CHECK_EQ(job.m.end, COIR_MESSAGE_RETURNED);
    CHECK_EQ(job.m.attempts, 1);
    CHECK(job.m.failure.id != 0); /* why it had failed is still known */
    CHECK(job.handled == 1 && job.dead == 0 && job.ended == 1);
    run_close(rt);
}

static void past_the_budget_handlers_are_canceled_and_the_queue_is_returned(void)
{
    struct job_message blocked = {.block = 1}, last = {.block = 1}, queued = {.m = {0}};
    coir_pool_options o = pool_options("budget");
    coir_runtime *rt = run_open(2);
    coir_pool_receipt r;
    coir_pool *p;

    o.workers = 2;
    o.attempts_max = 2;
    p = pool_open(rt, &o);
    last.m.attempts = 1;
    CHECK_EQ(coir_pool_submit(p, &blocked.m), COIR_OK);
    CHECK_EQ(coir_pool_submit(p, &last.m), COIR_OK);
    run_until(&blocked.started);
    run_until(&last.started);
    CHECK_EQ(coir_pool_submit(p, &queued.m), COIR_OK);
    r = close_now(p);
    CHECK_EQ(r.pool.returned, 2);
    CHECK_EQ(r.pool.dead, 1); /* it was its last attempt */
    CHECK_EQ(last.m.end, COIR_MESSAGE_DEAD);
    CHECK_EQ(blocked.m.end, COIR_MESSAGE_RETURNED);
    CHECK_EQ(queued.m.end, COIR_MESSAGE_RETURNED);
    CHECK_EQ(queued.handled, 0);
    run_close(rt);
}

static void a_handler_that_does_not_end_is_named_and_the_pool_stays(void)
{
    struct job_message held = {.m = {0}}, late = {.m = {0}};
    coir_pool_options o = pool_options("stuck");
    coir_runtime *rt = run_open(2);
    coir_pool_receipt r;
    coir_pool *p;

    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    r = close_with(p, 0, COIR_ETIMEDOUT);
    CHECK_EQ(r.pool.pending, 1);
    CHECK_EQ(r.domain.stuck_count, 1);
    CHECK_STR(r.domain.stuck[0].name, "stuck");
    CHECK(coir_pool_submit(p, &late.m) != COIR_OK);
    run_set(&held.go);
    r = close_now(p);
    CHECK_EQ(r.pool.done, 1);
    CHECK_EQ(r.pool.submitted, 1);
    run_close(rt);
}

/* Nobody is canceled, unless the machine is so busy that its workers do not come to end. */
static void an_idle_pool_needs_no_budget(void)
{
    coir_pool_options o = pool_options("idle");
    coir_runtime *rt = run_open(2);

    o.workers = 3;
    for (int i = 0; i < 100; i++) {
        coir_pool *p = pool_open(rt, &o);
        int64_t begin = coir_now();
        coir_pool_receipt r = close_now(p);

        CHECK(r.domain.phase_ns[COIR_PHASE_CANCEL] == 0 || coir_now() - begin >= 100 * COIR_MS);
    }
    run_close(rt);
}

struct submitting {
    coir_pool *pool;
    struct job_message job;
    int started, status;
};

static void submit_one(void *arg)
{
    struct submitting *s = arg;

    run_set(&s->started);
    s->status = coir_pool_submit(s->pool, &s->job.m);
}

static void a_caller_that_handles_is_waited_for(void)
{
    struct job_message held = {.m = {0}};
    struct submitting s = {.job.hold = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("outside");
    coir_runtime *rt = run_open(3);
    coir_pool_receipt r;
    coir_pool *p;

    o.queue_max = 1;
    o.full = COIR_FULL_RUN;
    s.pool = p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_submit(rt, &c, submit_one, &s), COIR_OK);
    run_until(&s.job.started); /* in that job, which is none of the pool's */
    run_set(&held.go);
    r = close_with(p, 0, COIR_ETIMEDOUT);
    CHECK(r.pool.pending >= 1);
    CHECK_EQ(r.domain.stuck_count, r.pool.pending);
    run_set(&s.job.go);
    CHECK_EQ(close_now(p).pool.done, 2);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(s.job.ended, 1);
    run_close(rt);
}

/* Whatever else would wait for the handler says so, too. */
static void close_it(coir_message *m)
{
    coir_pool *p = *(coir_pool **)m->context;

    if (m->key == 0) {
        pool_do(m);
        return;
    }
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_EDEADLK);
    CHECK_EQ(coir_domain_close(coir_pool_domain(p), -1, NULL), COIR_EDEADLK);
}

static void a_handler_cannot_close_its_pool(void)
{
    struct job_message job = {.m.key = 1};
    coir_pool_options o = pool_options("own");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.handle = close_it;
    o.ended = NULL;
    o.context = &p;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    pool_close(p);
    run_close(rt);
}

/* The pool is full, so who submits handles: a fiber, then this thread. */
static void nor_if_it_runs_in_its_submitter(void)
{
    struct job_message held = {.m = {0}}, mine = {.m.key = 1};
    struct submitting s = {.job.m.key = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("own");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.handle = close_it;
    o.queue_max = 1;
    o.full = COIR_FULL_RUN;
    o.context = &p;
    s.pool = p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_submit(rt, &c, submit_one, &s), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_pool_submit(p, &mine.m), COIR_OK);
    CHECK(s.job.ended == 1 && mine.ended == 1);
    run_set(&held.go);
    CHECK_EQ(pool_close(p).done, 3);
    run_close(rt);
}

/* ------------------------------------------------------------- who waits for a message's end */

struct waiting {
    coir_counter c;
    int told, outcome;
};

static void *wait_for_the_end(void *arg)
{
    struct waiting *w = arg;

    while ((w->outcome = coir_wait(&w->c)) == COIR_ECANCELED)
        run_set(&w->told);
    return NULL;
}

/* Closes until the one who waits has been told. by_runtime: the runtime's close tells, not the pool's. */
static void who_waits_is_told(int by_runtime)
{
    struct job_message held = {.m = {0}};
    struct waiting w = {.outcome = -1};
    struct threads all = {.count = 0};
    coir_pool_options o = pool_options("stuck");
    coir_runtime *rt = run_open(2);
    coir_pool *p = pool_open(rt, &o);
    coir_receipt r;

    held.m.counter = &w.c;
    pool_hold_one(p, &held);
    threads_add(&all, wait_for_the_end, &w);
    while (!__atomic_load_n(&w.told, __ATOMIC_ACQUIRE))
        CHECK_EQ(by_runtime ? coir_close(rt, 0, &r) : coir_pool_close(p, 0, NULL), COIR_ETIMEDOUT);
    run_set(&held.go);
    threads_join(&all);
    CHECK_EQ(w.outcome, COIR_DONE);
    if (!by_runtime)
        close_now(p);
    run_close(rt);
}

static void who_waits_for_a_message_whose_handler_is_stuck_is_told(void)
{
    who_waits_is_told(0);
    who_waits_is_told(1);
}

static void a_cancel_of_a_message_reaches_its_handler(void)
{
    coir_pool_options o = pool_options("cancel");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.attempts_max = 3;
    p = pool_open(rt, &o);
    for (int i = 0; i < 3; i++) { /* the worker notices each */
        struct job_message blocked = {.block = 1};
        coir_counter c = COIR_COUNTER_INIT;

        blocked.m.counter = &c;
        CHECK_EQ(coir_pool_submit(p, &blocked.m), COIR_OK);
        run_until(&blocked.started);
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_CANCELED);
        CHECK(blocked.handled == 1 && blocked.m.end == COIR_MESSAGE_RETURNED);
    }
    CHECK_EQ(close_with(p, -1, COIR_OK).pool.returned, 3);
    run_close(rt);
}

static void wait_for_itself(coir_message *m)
{
    CHECK_EQ(coir_wait(m->counter), COIR_EDEADLK);
}

static void a_handler_that_waits_for_its_own_message_is_told(void)
{
    struct job_message job = {.m = {0}};
    coir_pool_options o = pool_options("own");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.handle = wait_for_itself;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    pool_close(p);
    run_close(rt);
}

/* -------------------------------------------------------------------------------------- cancel */

static void who_waits_for_a_place_is_told(int by_cancel)
{
    struct job_message held = {.m = {0}};
    struct submitting s = {.status = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("places");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.queue_max = 1;
    o.full = COIR_FULL_WAIT;
    s.pool = p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_submit(rt, &c, submit_one, &s), COIR_OK);
    run_until(&s.started);
    if (by_cancel) {
        CHECK_EQ(coir_domain_cancel(coir_pool_domain(p)), COIR_OK);
        run_set(&held.go);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(s.status, COIR_ECANCELED);
    } else {
        close_with(p, 0, COIR_ETIMEDOUT);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK(s.status == COIR_ESHUTDOWN);
        run_set(&held.go);
    }
    close_now(p);
    CHECK_EQ(s.job.ended, 0);
    run_close(rt);
}

static void a_close_tells_who_waits_for_a_place(void)
{
    who_waits_for_a_place_is_told(0);
}

static void a_canceled_pool_gives_all_back(void)
{
    struct job_message blocked = {.block = 1}, queued = {.m = {0}}, late = {.m = {0}};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("cancel");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.attempts_max = 2;
    p = pool_open(rt, &o);
    blocked.m.counter = queued.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &blocked.m), COIR_OK);
    CHECK_EQ(coir_pool_submit(p, &queued.m), COIR_OK);
    run_until(&blocked.started);
    CHECK_EQ(coir_domain_cancel(coir_pool_domain(p)), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(coir_pool_submit(p, &late.m), COIR_ECANCELED);
    CHECK_EQ(close_now(p).pool.returned, 2);
    run_close(rt);
    who_waits_for_a_place_is_told(1);
}

static void a_canceled_message_is_not_begun(void)
{
    struct job_message held = {.m = {0}}, queued = {.m = {0}};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("message");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    queued.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &queued.m), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    run_set(&held.go);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(queued.handled, 0);
    CHECK_EQ(close_with(p, -1, COIR_OK).pool.returned, 1);
    run_close(rt);
}

/* --------------------------------------------------------------- what closes around a pool */

static void the_domain_above_and_the_runtime_end_a_pool(void)
{
    for (int by_runtime = 0; by_runtime <= 1; by_runtime++) {
        struct job_message blocked = {.block = 1}, queued = {.m = {0}}, delayed = {.fails = 9};
        coir_domain_options d = {.size = sizeof d};
        coir_pool_options o = pool_options("around");
        coir_runtime *rt = run_open(2);
        int status;

        o.attempts_max = 2;
        o.backoff_ns = o.backoff_max_ns = 3600 * COIR_SEC;
        CHECK_EQ(coir_domain_open(rt, NULL, &d, &o.parent), COIR_OK);
        coir_pool *p = pool_open(rt, &o);
        CHECK_EQ(coir_pool_submit(p, &delayed.m), COIR_OK);
        until_attempts(p, 1);
        CHECK_EQ(coir_pool_submit(p, &blocked.m), COIR_OK);
        run_until(&blocked.started);
        CHECK_EQ(coir_pool_submit(p, &queued.m), COIR_OK);
        do
            status = by_runtime ? coir_close(rt, 0, NULL) : coir_domain_close(o.parent, 0, NULL);
        while (status == COIR_ETIMEDOUT);
        CHECK_EQ(status, COIR_OK);
        CHECK_EQ(blocked.m.end, COIR_MESSAGE_RETURNED);
        CHECK_EQ(queued.m.end, COIR_MESSAGE_RETURNED);
        CHECK_EQ(delayed.m.end, COIR_MESSAGE_RETURNED);
        CHECK(blocked.ended == 1 && queued.ended == 1 && delayed.ended == 1);
        if (!by_runtime)
            run_close(rt);
    }
}

static void open_and_use(void *arg)
{
    struct job_message job = {.panics = 1};
    coir_pool_options o = pool_options("inside");
    coir_pool *p;

    (void)arg;
    o.attempts_max = 2;
    p = pool_open(coir_current(), &o);
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    pool_close(p);
}

static void a_fiber_may_open_use_and_close_one(void)
{
    run_on(1, open_and_use, NULL);
    run_on(3, open_and_use, NULL);
}

CHECK_MAIN(CASE(a_drain_lets_queue_and_retries_end), CASE(a_close_during_the_backoff_gives_back_at_once),
           CASE(past_the_budget_handlers_are_canceled_and_the_queue_is_returned),
           CASE(a_handler_that_does_not_end_is_named_and_the_pool_stays),
           CASE(an_idle_pool_needs_no_budget),
           CASE(a_caller_that_handles_is_waited_for), CASE(a_handler_cannot_close_its_pool),
           CASE(nor_if_it_runs_in_its_submitter),
           CASE(who_waits_for_a_message_whose_handler_is_stuck_is_told),
           CASE(a_cancel_of_a_message_reaches_its_handler),
           CASE(a_handler_that_waits_for_its_own_message_is_told), CASE(a_close_tells_who_waits_for_a_place),
           CASE(a_canceled_pool_gives_all_back), CASE(a_canceled_message_is_not_begun),
           CASE(the_domain_above_and_the_runtime_end_a_pool), CASE(a_fiber_may_open_use_and_close_one))
