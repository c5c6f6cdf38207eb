/* SPDX-License-Identifier: MIT */
/*
 * waitq_test.c - what all calls have in common that wait at a primitive: deadlines, cancels, a closing
 * runtime, want of stacks, and what a debugger is told.
 */
#include "run.h"
#include "threads.h"

#include "worker.h"

/* What everybody waits for in vain: held by the main thread, or never given. */
static struct {
    coir_mutex mutex;
    coir_rwlock rwlock;
    coir_semaphore semaphore;
    coir_event event;
    coir_cond cond;
    coir_once once;
    coir_channel empty, full;
} never;

static int wait_mutex(int64_t deadline)
{
    return coir_mutex_lock_until(&never.mutex, deadline);
}

static int wait_read(int64_t deadline)
{
    coir_read hold = COIR_READ_INIT;

    return coir_rwlock_read_lock_until(&never.rwlock, &hold, deadline);
}

static int wait_write(int64_t deadline)
{
    return coir_rwlock_write_lock_until(&never.rwlock, deadline);
}

static int wait_semaphore(int64_t deadline)
{
    return coir_semaphore_acquire_until(&never.semaphore, deadline);
}

static int wait_event(int64_t deadline)
{
    return coir_event_wait_until(&never.event, deadline);
}

static int wait_cond(int64_t deadline)
{
    coir_mutex own = COIR_MUTEX_INIT;
    int status, unlocked;

    CHECK_EQ(coir_mutex_lock(&own), COIR_OK);
    status = coir_cond_wait_until(&never.cond, &own, deadline);
    unlocked = coir_mutex_unlock(&own);
    CHECK_EQ(unlocked, status == COIR_ECANCELED ? COIR_EINVAL : COIR_OK);
    return status;
}

static void unwanted(void *unused)
{
    (void)unused;
    CHECK_NEVER("the once is being called by another");
}

static int wait_once(int64_t deadline)
{
    return coir_once_call_until(&never.once, unwanted, NULL, deadline);
}

static int wait_send(int64_t deadline)
{
    int x = 0;

    return coir_channel_send_until(&never.full, &x, deadline);
}

static int wait_recv(int64_t deadline)
{
    int x;

    return coir_channel_recv_until(&never.empty, &x, deadline);
}

static int wait_select(int64_t deadline)
{
    int in = 0, out;
    coir_case cases[] = {{&never.full, &in, COIR_SEND}, {&never.empty, &out, COIR_RECV}};

    return coir_select(cases, 2, deadline, NULL);
}

static const struct call {
    int (*wait)(int64_t deadline);
    const char *what; /* a parked fiber waits for, as a debugger shows it */
    const void *on;   /* NULL: some place in its frame */
} calls[] = {
    {wait_mutex, "mutex", &never.mutex},
    {wait_read, "rwlock to read", &never.rwlock},
    {wait_write, "rwlock to write", &never.rwlock},
    {wait_semaphore, "semaphore", &never.semaphore},
    {wait_event, "event", &never.event},
    {wait_cond, "condition", &never.cond},
    {wait_once, "once", &never.once},
    {wait_send, "channel to send", &never.full},
    {wait_recv, "channel to receive", &never.empty},
    {wait_select, "select", NULL},
};

enum { CALLS = sizeof calls / sizeof calls[0] };

static int in_once, end_once;

static void stay(void *unused)
{
    (void)unused;
    run_set(&in_once);
    run_until(&end_once);
}

static void *call_once(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_once_call(&never.once, stay, NULL), COIR_OK);
    return NULL;
}

/* Runs the case while the main thread, and one in the once, keep everything from everybody. */
static void in_vain(void (*run)(void))
{
    struct threads all = {.count = 0};
    int x = 0;

    memset(&never, 0, sizeof never);
    in_once = end_once = 0;
    CHECK_EQ(coir_mutex_lock(&never.mutex), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&never.rwlock), COIR_OK);
    CHECK_EQ(coir_channel_init(&never.empty, sizeof x, 1, NULL), COIR_OK);
    CHECK_EQ(coir_channel_init(&never.full, sizeof x, 1, NULL), COIR_OK);
    CHECK_EQ(coir_channel_send(&never.full, &x), COIR_OK);
    threads_add(&all, call_once, NULL);
    run_until(&in_once);
    run();
    CHECK_EQ(coir_mutex_unlock(&never.mutex), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&never.rwlock), COIR_OK);
    run_set(&end_once);
    threads_join(&all);
    CHECK_EQ(coir_channel_fini(&never.empty), COIR_OK); /* nobody is left in a queue */
    CHECK_EQ(coir_channel_fini(&never.full), COIR_OK);
}

/* ---------------------------------------------------------------------------------- deadlines */

static void let_deadlines_pass(void *unused)
{
    const int64_t past[] = {INT64_MIN, -1, 0, 1, coir_now()};

    (void)unused;
    for (int i = 0; i < CALLS; i++) {
        int64_t deadline = coir_now() + COIR_MS;

        for (int p = 0; p < 5; p++)
            CHECK_EQ(calls[i].wait(past[p]), COIR_ETIMEDOUT);
        CHECK_EQ(calls[i].wait(deadline), COIR_ETIMEDOUT);
        CHECK(coir_now() >= deadline);
    }
}

static void wait_for_deadlines(void)
{
    for (int i = 0; i < CALLS; i++) {
        if (calls[i].wait == wait_mutex || calls[i].wait == wait_read || calls[i].wait == wait_write)
            CHECK_EQ(calls[i].wait(0), COIR_EDEADLK); /* the main thread holds them */
        else
            CHECK_EQ(calls[i].wait(coir_now() + COIR_MS), COIR_ETIMEDOUT);
    }
    run_on(1, let_deadlines_pass, NULL);
    run_on(2, let_deadlines_pass, NULL);
}

static void every_call_has_a_deadline(void)
{
    in_vain(wait_for_deadlines);
}

/* ------------------------------------------------------------------------------------ cancels */

static struct {
    const struct call *call;
    int status, entered;
    struct fiber *fiber;
} waiter;

static void wait_in_vain(void *unused)
{
    (void)unused;
    waiter.fiber = fiber_self();
    run_set(&waiter.entered);
    waiter.status = waiter.call->wait(COIR_NEVER);
    CHECK_EQ(waiter.call->wait(COIR_NEVER), waiter.status); /* every such call is told */
}

static void await_parked(coir_runtime *rt)
{
    coir_stats s;

    run_until(&waiter.entered);
    do
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    while (s.parked < 1);
}

static void cancel_each(void)
{
    for (int i = 0; i < CALLS; i++) {
        coir_runtime *rt = run_open(1);
        coir_counter c = COIR_COUNTER_INIT;

        memset(&waiter, 0, sizeof waiter);
        waiter.call = &calls[i];
        CHECK_EQ(coir_submit(rt, &c, wait_in_vain, NULL), COIR_OK);
        if (i % 2)
            await_parked(rt);
        else
            run_until(&waiter.entered); /* perhaps before it parks */
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(waiter.status, COIR_ECANCELED);
        run_close(rt);
    }
}

static void every_call_is_canceled(void)
{
    in_vain(cancel_each);
}

static void close_on_each(void)
{
    for (int i = 0; i < CALLS; i++) {
        coir_runtime *rt = run_open(1);
        coir_receipt receipt;

        memset(&waiter, 0, sizeof waiter);
        waiter.call = &calls[i];
        CHECK_EQ(coir_submit(rt, NULL, wait_in_vain, NULL), COIR_OK);
        await_parked(rt);
        run_close_past(rt, 0, &receipt);
        CHECK_EQ(receipt.canceled, 1);
        CHECK_EQ(waiter.status, COIR_ECANCELED);
    }
}

static void a_closing_runtime_ends_every_call(void)
{
    in_vain(close_on_each);
}

/* ----------------------------------------------------------------------------------- debugging */

/* As a canceler does: a parked fiber that is claimed may be read. */
static void look_at_each(void)
{
    for (int i = 0; i < CALLS; i++) {
        coir_runtime *rt = run_open(1);
        coir_counter c = COIR_COUNTER_INIT;
        uint64_t generation;

        memset(&waiter, 0, sizeof waiter);
        waiter.call = &calls[i];
        CHECK_EQ(coir_submit(rt, &c, wait_in_vain, NULL), COIR_OK);
        await_parked(rt);
        while (!fiber_claim_parked(waiter.fiber, &generation))
            sched_yield();
        CHECK_STR(waiter.fiber->waits_for, calls[i].what);
        CHECK(!calls[i].on || waiter.fiber->waits_on == calls[i].on);
        if (!fiber_publish(waiter.fiber))
            worker_ready(waiter.fiber);
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        run_close(rt);
    }
}

static void a_fiber_says_what_it_waits_for(void)
{
    in_vain(look_at_each);
}

/* ------------------------------------------------------------------------------ want of stacks */

static struct {
    int ended, refused; /* atomic */
} few;

static void wait_briefly(void *unused)
{
    int status = waiter.call->wait(coir_now() + COIR_MS);

    (void)unused;
    CHECK(status == COIR_ETIMEDOUT || status == COIR_ENOMEM);
    if (status == COIR_ENOMEM)
        run_count(&few.refused);
    run_count(&few.ended);
}

static void wait_on_few(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, wait_briefly, NULL, 0, 50), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void run_out_of_stacks(void)
{
    for (int i = 0; i < CALLS; i++) {
        coir_options o = run_options(1);

        memset(&few, 0, sizeof few);
        waiter.call = &calls[i];
        o.stacks_max = 3;
        CHECK_EQ(coir_run(&o, wait_on_few, NULL), COIR_DONE);
        CHECK_EQ(few.ended, 50);
        CHECK(few.refused > 0);
    }
}

static void every_call_says_when_no_stack_is_left(void)
{
    in_vain(run_out_of_stacks);
}

/* A waiter of a mutex may have been woken, and find no stack to go on waiting: others are still served. */
static coir_mutex mutex;
static int inside, locked;

static void contend(void *seed)
{
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;

    for (int i = 0; i < MANY(2000); i++) {
        int status = coir_mutex_lock(&mutex);

        if (status == COIR_ENOMEM) {
            run_count(&few.refused);
            continue;
        }
        CHECK_EQ(status, COIR_OK);
        CHECK_EQ(run_count(&inside), 1);
        if (random_next(&random) % 4 == 0)
            coir_yield();
        __atomic_sub_fetch(&inside, 1, __ATOMIC_RELAXED);
        locked++;
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void *contend_on_thread(void *seed)
{
    contend(seed);
    return NULL;
}

static void no_waiter_of_a_mutex_is_forgotten_for_want_of_stacks(void)
{
    for (size_t stacks = 1; stacks < 6; stacks++) {
        struct threads all = {.count = 0};
        coir_options o = run_options(2);
        coir_counter c = COIR_COUNTER_INIT;
        coir_runtime *rt;

        memset(&few, 0, sizeof few);
        locked = 0;
        o.stacks_max = stacks;
        CHECK_EQ(coir_open(&o, &rt), COIR_OK);
        for (uintptr_t i = 0; i < 20; i++)
            CHECK_EQ(coir_submit(rt, &c, contend, (void *)i), COIR_OK);
        threads_add(&all, contend_on_thread, (void *)100);
        threads_add(&all, contend_on_thread, (void *)101);
        threads_join(&all);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        run_close(rt);
        CHECK_EQ(locked + few.refused, 22 * MANY(2000));
        CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

/* ------------------------------------------------------------------------- foreign wake-ups */

static struct {
    coir_semaphore ask, answer;
    int rounds;
} talk;

/* The wake-up by this thread may be the last thing before the fiber's runtime is closed. */
static void *answer(void *unused)
{
    (void)unused;
    for (int i = 0; i < talk.rounds; i++) {
        CHECK_EQ(coir_semaphore_acquire(&talk.ask), COIR_OK);
        CHECK_EQ(coir_semaphore_release(&talk.answer, 1), COIR_OK);
    }
    return NULL;
}

static void ask(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_semaphore_release(&talk.ask, 1), COIR_OK);
    CHECK_EQ(coir_semaphore_acquire(&talk.answer), COIR_OK);
}

static void a_runtime_may_close_behind_a_foreign_wake_up(void)
{
    struct threads all = {.count = 0};

    memset(&talk, 0, sizeof talk);
    talk.rounds = MANY(1000);
    threads_add(&all, answer, NULL);
    for (int i = 0; i < talk.rounds; i++)
        run_on(1, ask, NULL);
    threads_join(&all);
}

CHECK_MAIN(CASE(every_call_has_a_deadline), CASE(every_call_is_canceled),
           CASE(a_closing_runtime_ends_every_call), CASE(a_fiber_says_what_it_waits_for),
           CASE(every_call_says_when_no_stack_is_left),
           CASE(no_waiter_of_a_mutex_is_forgotten_for_want_of_stacks),
           CASE(a_runtime_may_close_behind_a_foreign_wake_up))
