/* SPDX-License-Identifier: MIT */
/*
 * mutex_test.c - one holder at a time, whoever comes, gives up or is canceled; the bound on
 * overtaking; memory that goes with the last unlock. Poisoning is in poison_test.c.
 */
#include "attack.h"

static coir_mutex mutex;

/* -------------------------------------------------------------------------------- one caller */

static void lock_and_unlock(void *unused)
{
    coir_mutex m = COIR_MUTEX_INIT;

    (void)unused;
    CHECK_EQ(coir_mutex_lock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&m), COIR_EDEADLK);
    CHECK_EQ(coir_mutex_lock_until(&m, 0), COIR_EDEADLK);
    CHECK_EQ(coir_mutex_try_lock(&m), COIR_EDEADLK);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_EINVAL);
    CHECK_EQ(coir_mutex_try_lock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_lock_until(&m, 0), COIR_OK); /* free: the deadline does not matter */
    CHECK_EQ(coir_mutex_clear(&m, "it is whole"), COIR_ENOENT);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
}

static void a_holder_is_known(void)
{
    lock_and_unlock(NULL);
    run_on(1, lock_and_unlock, NULL);
}

static void bad_input_is_refused(void)
{
    coir_mutex m = COIR_MUTEX_INIT;

    CHECK_EQ(coir_mutex_init(NULL, COIR_MUTEX_POISON), COIR_EINVAL);
    CHECK_EQ(coir_mutex_init(&m, 2), COIR_EINVAL);
    CHECK_EQ(coir_mutex_init(&m, -1), COIR_EINVAL);
    CHECK_EQ(coir_mutex_init(&m, COIR_MUTEX_ABORT), COIR_OK);
    CHECK_EQ(coir_mutex_lock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_mutex_lock_until(NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_mutex_try_lock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_mutex_unlock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_EINVAL);
    CHECK_EQ(coir_mutex_clear(NULL, "x"), COIR_EINVAL);
    CHECK_EQ(coir_mutex_clear(&m, "x"), COIR_EPERM);
    CHECK_EQ(coir_mutex_lock(&m), COIR_OK);
    CHECK_EQ(coir_mutex_clear(&m, NULL), COIR_EINVAL);
    CHECK_EQ(coir_mutex_clear(&m, ""), COIR_EINVAL);
    CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
}

static void several_at_a_time(void *unused)
{
    static const int order[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}};
    coir_mutex m[3] = {COIR_MUTEX_INIT, COIR_MUTEX_INIT, COIR_MUTEX_INIT};

    (void)unused;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        for (int k = 0; k < 3; k++)
            CHECK_EQ(coir_mutex_lock(&m[k]), COIR_OK);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(coir_mutex_unlock(&m[order[i][k]]), COIR_OK);
    }
}

static void several_are_unlocked_in_any_order(void)
{
    several_at_a_time(NULL);
    run_on(1, several_at_a_time, NULL);
}

/* ----------------------------------------------------------------------------------- identity */

static void find_it_taken(void *expected)
{
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_EBUSY);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_EPERM);
    CHECK_EQ(coir_mutex_clear(&mutex, "not mine"), COIR_EPERM);
    CHECK_EQ(coir_mutex_lock_until(&mutex, coir_now() + COIR_MS), *(int *)expected);
}

static void hold_while_a_child_tries(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int in_place = COIR_EDEADLK, elsewhere = COIR_ETIMEDOUT;

    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&c, find_it_taken, &in_place), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* one worker, no deadline: on this stack */
    CHECK_EQ(coir_spawn(&c, find_it_taken, &elsewhere), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void a_child_in_place_is_somebody_else(void)
{
    run_on(1, hold_while_a_child_tries, NULL);
}

static void unlock_it(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_EDEADLK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void lock_it(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
}

static void try_is_the_same_holder(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_try(unlock_it, NULL, NULL), COIR_DONE);
    CHECK_EQ(coir_try(lock_it, NULL, NULL), COIR_DONE); /* goes to the boundary around it */
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void coir_try_shares_its_jobs_identity(void)
{
    try_is_the_same_holder(NULL);
    run_on(1, try_is_the_same_holder, NULL);
}

/* A job that moves between workers still holds what it holds. */
static void hold_and_move(void *unused)
{
    coir_mutex own = COIR_MUTEX_INIT;

    (void)unused;
    for (int i = 0; i < MANY(200); i++) {
        CHECK_EQ(coir_mutex_lock(&own), COIR_OK);
        for (int k = 0; k < 5; k++)
            coir_yield();
        CHECK_EQ(coir_mutex_unlock(&own), COIR_OK);
    }
}

static void movers(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, hold_and_move, NULL, 0, 20), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_mutex_belongs_to_the_job_not_the_thread(void)
{
    run_on(2, movers, NULL);
}

/* ----------------------------------------------------------------------------------- exclusion */

static struct {
    long plain;          /* written by holders only */
    int inside;
    int rounds;
    int timed_out, canceled, locked; /* atomic */
} work;

static void use(uint64_t *random)
{
    CHECK_EQ(__atomic_add_fetch(&work.inside, 1, __ATOMIC_RELAXED), 1);
    work.plain++;
    if (random_next(random) % 16 == 0)
        coir_yield(); /* a holder may suspend */
    __atomic_sub_fetch(&work.inside, 1, __ATOMIC_RELAXED);
    run_count(&work.locked);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void contend_once(uint64_t *random)
{
    int64_t ns = (int64_t)(random_next(random) % 20000);
    int status = random_next(random) % 2 ? coir_mutex_lock(&mutex)
                                         : coir_mutex_lock_until(&mutex, coir_now() + ns);

    if (status == COIR_OK)
        use(random);
    else if (status == COIR_ETIMEDOUT)
        run_count(&work.timed_out);
    else if (CHECK_EQ(status, COIR_ECANCELED))
        run_count(&work.canceled);
}

static void contend(void *seed)
{
    uint64_t random = attack_seed(seed);

    for (int i = 0; i < work.rounds; i++)
        contend_once(&random);
}

static void only_one_holds_it(void)
{
    memset(&work, 0, sizeof work);
    work.rounds = MANY(3000);
    attack_run((struct attack){.fn = contend, .jobs = 8, .threads = 3, .crowd = 4});
    CHECK_EQ(work.plain, work.locked);
    CHECK(work.locked > 0 && (SLOW || work.timed_out > 0));
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_OK); /* nothing is left of all that */
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

/* ------------------------------------------------------------------------------------ waiting */

static int arrived, status_seen;

static void wait_for_it(void *unused)
{
    (void)unused;
    run_set(&arrived);
    status_seen = coir_mutex_lock(&mutex);
    if (status_seen == COIR_OK)
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void cancel_a_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    arrived = 0;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_for_it, NULL), COIR_OK);
    run_until(&arrived);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ECANCELED);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void a_canceled_waiter_is_told(void)
{
    run_on(1, cancel_a_waiter, NULL);
    run_on(2, cancel_a_waiter, NULL);
}

/* The mutex is in the frames of a job that panics; its child waits for it, is canceled, and ends. */
static void panic_over_a_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    arrived = 0;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_for_it, NULL), COIR_OK);
    run_until(&arrived);
    coir_panic("while a child waits for what this job holds");
}

static void a_panicking_holder_does_not_strand_its_children(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_POISON), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, panic_over_a_waiter, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(status_seen, COIR_ECANCELED);
    run_close(rt);
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_POISON), COIR_OK);
}

/* -------------------------------------------------------------------------------- overtaking */

static int stop, overtakes, waiting;

/* Takes it again as soon as it has unlocked, and never lets the mutex rest. */
static void hog(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
        if (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE))
            overtakes++;
        coir_yield();
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    }
}

static void wait_beside_a_hog(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    stop = overtakes = waiting = 0;
    CHECK_EQ(coir_spawn(&c, hog, NULL), COIR_OK);
    while (coir_mutex_try_lock(&mutex) == COIR_OK) { /* until the hog has it */
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
        coir_yield();
    }
    run_set(&waiting);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK(overtakes <= 2); /* it loses once; one worker, so nothing else comes in between */
    run_set(&stop);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_waiter_loses_once_at_most(void)
{
    run_on(1, wait_beside_a_hog, NULL);
}

static int next_in, entered;

/* Frees it more than once before anybody else runs, and then holds it while they do. */
static void tease(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
        CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    }
    coir_yield();
}

static void enter_in_order(void *number)
{
    __atomic_add_fetch(&entered, 1, __ATOMIC_RELEASE);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(next_in++, (int)(uintptr_t)number);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void queue_up(void *meanwhile)
{
    coir_counter c = COIR_COUNTER_INIT;

    next_in = entered = 0;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    for (uintptr_t i = 0; i < 10; i++) {
        CHECK_EQ(coir_spawn(&c, enter_in_order, (void *)i), COIR_OK);
        while (__atomic_load_n(&entered, __ATOMIC_ACQUIRE) <= (int)i)
            coir_yield();
    }
    if (meanwhile)
        (*(coir_fn **)meanwhile)(NULL);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(next_in, 10);
}

static void waiters_get_it_in_the_order_they_came(void)
{
    run_on(1, queue_up, NULL);
}

static void losers_stay_in_order(void)
{
    coir_fn *meanwhile = tease;

    run_on(1, queue_up, &meanwhile);
}

/* -------------------------------------------------------------------------------- destruction */

/* Memory that goes with the last unlock: a reference count guarded by the mutex itself. */
struct object {
    coir_mutex mutex;
    int references;
};

static void drop_reference(void *arg)
{
    struct object *o = arg;
    int left;

    CHECK_EQ(coir_mutex_lock(&o->mutex), COIR_OK);
    left = --o->references;
    CHECK_EQ(coir_mutex_unlock(&o->mutex), COIR_OK);
    if (left)
        return; /* the object may be gone by now */
    memset(o, SCRIBBLE, sizeof *o);
    for (volatile int i = 0; i < 50; i++)
        ;
    for (size_t i = 0; i < sizeof *o; i++)
        if (!CHECK_EQ(((unsigned char *)o)[i], SCRIBBLE))
            break;
    free(o);
}

static void *drop_on_thread(void *arg)
{
    struct object **o = arg;

    for (int i = 0; i < work.rounds; i++)
        drop_reference(o[i]);
    return NULL;
}

static void the_last_to_unlock_may_free_it(void)
{
    coir_runtime *rt = run_open(2);
    struct threads all = {.count = 0};
    coir_counter c = COIR_COUNTER_INIT;
    int n = work.rounds = MANY(20000);
    struct object **o = calloc((size_t)n, sizeof *o);

    for (int i = 0; i < n; i++) {
        o[i] = calloc(1, sizeof **o);
        o[i]->references = 4;
    }
    threads_add(&all, drop_on_thread, o);
    threads_add(&all, drop_on_thread, o);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(coir_submit(rt, &c, drop_reference, o[i]), COIR_OK);
        CHECK_EQ(coir_submit(rt, &c, drop_reference, o[i]), COIR_OK);
    }
    threads_join(&all);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    free(o);
}

CHECK_MAIN(CASE(a_holder_is_known), CASE(bad_input_is_refused),
           CASE(several_are_unlocked_in_any_order), CASE(a_child_in_place_is_somebody_else),
           CASE(coir_try_shares_its_jobs_identity), CASE(a_mutex_belongs_to_the_job_not_the_thread),
           CASE(only_one_holds_it), CASE(a_canceled_waiter_is_told),
           CASE(a_panicking_holder_does_not_strand_its_children), CASE(a_waiter_loses_once_at_most),
           CASE(waiters_get_it_in_the_order_they_came), CASE(losers_stay_in_order),
           CASE(the_last_to_unlock_may_free_it))
