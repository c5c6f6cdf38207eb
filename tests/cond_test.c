/* SPDX-License-Identifier: MIT */
/*
 * cond_test.c - a signal finds who waits; none is lost to who gives up; the mutex is held, or not, as
 * said.
 */
#include "domains.h"
#include "threads.h"

static coir_mutex mutex;
static coir_cond cond;

static void renew(void)
{
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_POISON), COIR_OK);
    coir_cond_init(&cond);
}

static void one_caller(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_cond_signal(&cond), COIR_OK); /* nobody: it is gone */
    CHECK_EQ(coir_cond_broadcast(&cond), COIR_OK);
    CHECK_EQ(coir_cond_wait(&cond, &mutex), COIR_EPERM);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_cond_wait_until(&cond, &mutex, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_cond_wait_until(&cond, &mutex, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK); /* it was held */
}

static void a_wait_that_times_out_holds_the_mutex(void)
{
    renew();
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

static void bad_input_is_refused(void)
{
    coir_cond_init(NULL);
    CHECK_EQ(coir_cond_signal(NULL), COIR_EINVAL);
    CHECK_EQ(coir_cond_broadcast(NULL), COIR_EINVAL);
    CHECK_EQ(coir_cond_wait(NULL, &mutex), COIR_EINVAL);
    CHECK_EQ(coir_cond_wait(&cond, NULL), COIR_EINVAL);
    CHECK_EQ(coir_cond_wait_until(NULL, NULL, 0), COIR_EINVAL);
}

/* ------------------------------------------------------------- a bounded buffer of two conditions */

static struct {
    coir_cond room, items;
    int held;                       /* by the mutex */
    int made, taken;                /* by the mutex */
    int rounds, limit;
} buffer;

static void make(void *unused)
{
    (void)unused;
    for (int i = 0; i < buffer.rounds; i++) {
        CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
        while (buffer.held == buffer.limit)
            CHECK_EQ(coir_cond_wait(&buffer.room, &mutex), COIR_OK);
        buffer.held++;
        buffer.made++;
        CHECK_EQ(coir_cond_signal(&buffer.items), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void take(void *unused)
{
    (void)unused;
    for (int i = 0; i < buffer.rounds; i++) {
        CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
        while (buffer.held == 0) {
            int status = coir_cond_wait_until(&buffer.items, &mutex,
                                              i % 3 ? COIR_NEVER : coir_now() + 20000);
            CHECK(status == COIR_OK || (i % 3 == 0 && status == COIR_ETIMEDOUT));
        }
        CHECK(buffer.held > 0 && buffer.held <= buffer.limit);
        buffer.held--;
        buffer.taken++;
        CHECK_EQ(coir_cond_signal(&buffer.room), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void *make_on_thread(void *unused)
{
    make(unused);
    return NULL;
}

static void *take_on_thread(void *unused)
{
    take(unused);
    return NULL;
}

static void no_signal_is_lost(void)
{
    struct threads all = {.count = 0};
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    renew();
    memset(&buffer, 0, sizeof buffer);
    buffer.rounds = MANY(2000);
    buffer.limit = 3;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_submit(rt, &c, make, NULL), COIR_OK);
        CHECK_EQ(coir_submit(rt, &c, take, NULL), COIR_OK);
    }
    threads_add(&all, make_on_thread, NULL);
    threads_add(&all, take_on_thread, NULL);
    threads_join(&all);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    CHECK_EQ(buffer.made, 4 * buffer.rounds);
    CHECK_EQ(buffer.taken, buffer.made);
}

/* Two take turns, and each signals the moment the other may be between its unlock and its wait. */
static int turn;

static void alternate(void *self)
{
    int me = *(int *)self;

    for (int i = 0; i < buffer.rounds; i++) {
        CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
        while (turn != me)
            CHECK_EQ(coir_cond_wait(&cond, &mutex), COIR_OK);
        turn = !me;
        CHECK_EQ(coir_cond_signal(&cond), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void *alternate_on_thread(void *self)
{
    alternate(self);
    return NULL;
}

static void no_signal_comes_before_the_wait(void)
{
    static int numbers[] = {0, 1};
    struct threads all = {.count = 0};
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    renew();
    buffer.rounds = MANY(20000);
    CHECK_EQ(coir_submit(rt, &c, alternate, &numbers[0]), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, alternate, &numbers[1]), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_submit(rt, &c, alternate, &numbers[0]), COIR_OK);
    threads_add(&all, alternate_on_thread, &numbers[1]);
    threads_join(&all);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ cancel */

static int waiting, told, canceled;

static void wait_to_be_told(void *unused)
{
    int status;

    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    run_count(&waiting);
    status = coir_cond_wait(&cond, &mutex);
    if (status == COIR_ECANCELED) {
        CHECK(coir_mutex_unlock(&mutex) != COIR_OK); /* it is not held */
        run_count(&canceled);
    } else if (CHECK_EQ(status, COIR_OK)) {
        run_count(&told);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void await_waiting(int n)
{
    while (__atomic_load_n(&waiting, __ATOMIC_RELAXED) < n)
        coir_yield();
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK); /* so they have unlocked it, and wait */
}

static void cancel_one_waiter(void *unused)
{
    coir_counter first = COIR_COUNTER_INIT, second = COIR_COUNTER_INIT;

    (void)unused;
    waiting = told = canceled = 0;
    CHECK_EQ(coir_spawn(&first, wait_to_be_told, NULL), COIR_OK);
    await_waiting(1);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&second, wait_to_be_told, NULL), COIR_OK);
    await_waiting(2);
    CHECK_EQ(coir_counter_cancel(&first), COIR_OK);
    CHECK_EQ(coir_wait(&first), COIR_DONE); /* although the mutex is held here */
    CHECK_EQ(canceled, 1);
    CHECK_EQ(coir_cond_signal(&cond), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_wait(&second), COIR_DONE);
    CHECK_EQ(told, 1);
}

static void cancel_while_it_is_free(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    waiting = told = canceled = 0;
    CHECK_EQ(coir_spawn(&c, wait_to_be_told, NULL), COIR_OK);
    await_waiting(1);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(canceled, 1);
}

static void a_canceled_waiter_leaves_without_the_mutex(void)
{
    renew();
    run_on(1, cancel_while_it_is_free, NULL);
    run_on(2, cancel_while_it_is_free, NULL);
    run_on(1, cancel_one_waiter, NULL);
    run_on(2, cancel_one_waiter, NULL);
}

/* The first has been signaled and waits for the mutex when it is canceled: the second is told. */
static void cancel_a_signaled_waiter(void *unused)
{
    coir_counter first = COIR_COUNTER_INIT, second = COIR_COUNTER_INIT;

    (void)unused;
    waiting = told = canceled = 0;
    CHECK_EQ(coir_spawn(&first, wait_to_be_told, NULL), COIR_OK);
    await_waiting(1);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&second, wait_to_be_told, NULL), COIR_OK);
    await_waiting(2);
    CHECK_EQ(coir_cond_signal(&cond), COIR_OK);
    for (int i = 0; i < 20; i++)
        coir_yield(); /* the first runs into the mutex */
    CHECK_EQ(coir_counter_cancel(&first), COIR_OK);
    CHECK_EQ(coir_wait(&first), COIR_DONE);
    CHECK_EQ(canceled, 1);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_wait(&second), COIR_DONE);
    CHECK_EQ(told, 1);
}

static void a_signal_is_passed_on_by_who_must_leave(void)
{
    renew();
    run_on(1, cancel_a_signaled_waiter, NULL);
}

/* The parent panics with the mutex; its child waits on the condition, and must not need the mutex. */
static void panic_over_a_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    waiting = canceled = 0;
    CHECK_EQ(coir_spawn(&c, wait_to_be_told, NULL), COIR_OK);
    await_waiting(1);
    coir_panic("with the mutex of a child's condition");
}

static void a_panicking_parent_does_not_strand_a_waiter(void)
{
    coir_options o = run_options(2);

    renew();
    CHECK_EQ(coir_run(&o, panic_over_a_waiter, NULL), COIR_PANICKED);
    CHECK_EQ(canceled, 1);
}

/* The same when the child has been signaled, and the parent's own wait has the last stack of their domain. */
static void panic_over_a_signaled_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    waiting = told = canceled = 0;
    CHECK_EQ(coir_spawn(&c, wait_to_be_told, NULL), COIR_OK);
    await_waiting(1);
    CHECK_EQ(coir_cond_signal(&cond), COIR_OK);
    coir_panic("with the mutex, and the stack, that a child waits for");
}

static void a_canceled_waiter_leaves_though_no_stack_is_left(void)
{
    coir_domain_options o = domain_options("one stack");
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d;

    o.stacks_max = 1;
    d = domain_open(rt, NULL, &o);
    renew();
    CHECK_EQ(coir_domain_submit(d, &c, panic_over_a_signaled_waiter, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK(domain_stats(d).denied > 0);
    CHECK_EQ(canceled, 1);
    domain_close(d);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ poison */

static void wait_for_poison(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    run_count(&waiting);
    CHECK_EQ(coir_cond_wait(&cond, &mutex), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_clear(&mutex, "tested"), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void signal_and_panic(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_cond_broadcast(&cond), COIR_OK);
    coir_panic("after the signal");
}

static void poison_under_a_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT, bad = COIR_COUNTER_INIT;

    (void)unused;
    waiting = 0;
    CHECK_EQ(coir_spawn(&c, wait_for_poison, NULL), COIR_OK);
    await_waiting(1);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&bad, signal_and_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&bad), COIR_PANICKED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_waiter_learns_that_the_mutex_is_poisoned(void)
{
    renew();
    run_on(1, poison_under_a_waiter, NULL);
    run_on(2, poison_under_a_waiter, NULL);
}

/* --------------------------------------------------------------------------------- broadcast */

static void tell_all(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < MANY(300); i++) {
        waiting = told = 0;
        CHECK_EQ(coir_spawn_many(&c, wait_to_be_told, NULL, 0, 8), COIR_OK);
        await_waiting(8);
        CHECK_EQ(coir_cond_broadcast(&cond), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(told, 8);
    }
}

static void broadcast_tells_all(void)
{
    renew();
    run_on(2, tell_all, NULL);
}

/* ---------------------------------------------------------------------- inside of a coir_try */

static void waits_then_panics(void *mutex)
{
    static coir_cond never = COIR_COND_INIT;

    CHECK_EQ(coir_cond_wait_until(&never, mutex, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    coir_panic("with a lock of its caller");
}

static void lock_outside(void *unused)
{
    coir_mutex m = COIR_MUTEX_INIT;

    (void)unused;
    CHECK_EQ(coir_mutex_lock(&m), COIR_OK);
    CHECK_EQ(coir_try(waits_then_panics, &m, NULL), COIR_PANICKED);
    CHECK_EQ(coir_mutex_try_lock(&m), COIR_EDEADLK); /* it is held, by the caller */
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&m), COIR_OK); /* nor has the panic poisoned it */
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
}

static void a_mutex_stays_with_who_has_locked_it(void)
{
    run_on(1, lock_outside, NULL);
    lock_outside(NULL);
}

CHECK_MAIN(CASE(a_mutex_stays_with_who_has_locked_it),
           CASE(a_wait_that_times_out_holds_the_mutex), CASE(bad_input_is_refused),
           CASE(no_signal_is_lost), CASE(no_signal_comes_before_the_wait),
           CASE(a_canceled_waiter_leaves_without_the_mutex),
           CASE(a_signal_is_passed_on_by_who_must_leave),
           CASE(a_panicking_parent_does_not_strand_a_waiter),
           CASE(a_canceled_waiter_leaves_though_no_stack_is_left),
           CASE(a_waiter_learns_that_the_mutex_is_poisoned), CASE(broadcast_tells_all))
