/* SPDX-License-Identifier: MIT */
/*
 * poison_test.c - what a panic leaves behind of the locks its job held.
 */
#include "child.h"

static coir_mutex mutex;
static coir_failure failure;

static void renew(void)
{
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_POISON), COIR_OK);
}

/* Runs fn as a job; its outcome, and its record in `failure`. */
static int end_of(coir_fn *fn, void *arg)
{
    coir_options o = run_options(2);
    coir_runtime *rt;
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, fn, arg), COIR_OK);
    outcome = coir_wait(&c);
    memset(&failure, 0, sizeof failure);
    (void)coir_counter_failure(&c, &failure);
    run_close(rt);
    return outcome;
}

static void check_poisoned(void)
{
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_EPOISONED); /* and held: */
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_EDEADLK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_EPOISONED); /* unlocking does not clear it */
    CHECK_EQ(coir_mutex_clear(&mutex, "the test has seen it"), COIR_OK);
    CHECK_EQ(coir_mutex_clear(&mutex, "again"), COIR_ENOENT);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void check_clean(void)
{
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

/* ---------------------------------------------------------------------------------- by a panic */

static void panic_holding(void *unused)
{
    (void)unused;
    CHECK(coir_mutex_lock(&mutex) == COIR_OK);
    coir_panic("in the middle of a change");
}

static void unlock_on_the_way(coir_mutex **m)
{
    CHECK_EQ(coir_mutex_unlock(*m), COIR_OK);
}

static void panic_with_cleanup(void *unused)
{
    __attribute__((cleanup(unlock_on_the_way))) coir_mutex *guard = &mutex;

    (void)unused;
    CHECK_EQ(coir_mutex_lock(guard), COIR_OK);
    coir_panic("a cleanup unlocks");
}

static void unlock_deferred(void *m)
{
    CHECK_EQ(coir_mutex_unlock(m), COIR_OK);
}

static void panic_with_defer(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_defer(unlock_deferred, &mutex), COIR_OK);
    coir_panic("a deferred handler unlocks");
}

static void a_panic_poisons_what_its_job_holds(void)
{
    coir_fn *const ways[] = {panic_holding, panic_with_cleanup, panic_with_defer};

    for (size_t i = 0; i < 3; i++) {
        renew();
        CHECK_EQ(end_of(ways[i], NULL), COIR_PANICKED);
        CHECK_EQ(failure.kind, COIR_KIND_PANIC);
        check_poisoned();
        CHECK_EQ(coir_try(ways[i], NULL, NULL), COIR_PANICKED); /* a plain thread */
        check_poisoned();
    }
}

static void only_panic(void *unused)
{
    (void)unused;
    coir_panic("holds nothing");
}

static void hold_around_a_try(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_try(only_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_mutex_try_lock(&mutex), COIR_EDEADLK); /* still held, by the job */
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK); /* the panic did not leave its holder */
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(coir_try(panic_holding, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_EPOISONED); /* this one did, at the boundary of the try */
    CHECK_EQ(coir_mutex_clear(&mutex, "tested"), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void the_boundary_decides_what_a_panic_leaves(void)
{
    renew();
    hold_around_a_try(NULL);
    CHECK_EQ(end_of(hold_around_a_try, NULL), COIR_DONE);
    check_clean();
}

/* A cleanup that locks and unlocks while a panic unwinds has broken nothing. */
static void lock_in_cleanup(int *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void panic_over_a_cleanup(void *unused)
{
    __attribute__((cleanup(lock_in_cleanup))) int guard = 0;

    (void)unused;
    (void)guard;
    coir_panic("the cleanup locks");
}

static void a_cleanups_own_lock_is_not_poisoned(void)
{
    renew();
    CHECK_EQ(end_of(panic_over_a_cleanup, NULL), COIR_PANICKED);
    check_clean();
}

/* --------------------------------------------------------------------------------- by a return */

static void return_holding(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
}

/* Mutexes at all depths of a frame that will be gone when they are looked at. */
struct deep {
    coir_mutex mutex;
    char between[400];
};

static void lock_deep(struct deep *deep, int n)
{
    for (int i = 0; i < n; i++) {
        memset(&deep[i], 0, sizeof deep[i]);
        CHECK_EQ(coir_mutex_lock(&deep[i].mutex), COIR_OK);
    }
}

static void return_holding_a_local(void *unused)
{
    struct deep deep[10];

    (void)unused;
    lock_deep(deep, 5);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    lock_deep(deep + 5, 5);
}

static void panic_holding_a_local(void *unused)
{
    struct deep deep[10];

    (void)unused;
    lock_deep(deep, 5);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    lock_deep(deep + 5, 5);
    coir_panic("ten mutexes go with the frame");
}

static void a_return_that_holds_is_a_panic(void)
{
    coir_fn *const ways[] = {return_holding, return_holding_a_local};

    for (size_t i = 0; i < 2; i++) {
        renew();
        CHECK_EQ(end_of(ways[i], NULL), COIR_PANICKED);
        CHECK_EQ(failure.kind, COIR_KIND_HELD);
        CHECK_STR(failure.message, "returned while it held a lock");
        check_poisoned();
    }
    CHECK_EQ(end_of(panic_holding_a_local, NULL), COIR_PANICKED);
    check_poisoned();
    CHECK_EQ(coir_try(panic_holding_a_local, NULL, NULL), COIR_PANICKED);
    check_poisoned();
}

static void return_with_defer(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_defer(unlock_deferred, &mutex), COIR_OK);
}

static void a_deferred_unlock_is_in_time(void)
{
    renew();
    CHECK_EQ(end_of(return_with_defer, NULL), COIR_DONE);
    check_clean();
}

/* -------------------------------------------------------------------------------- the waiters */

static int arrived, poisoned;

static void wait_and_clear(void *unused)
{
    int status;

    (void)unused;
    run_count(&arrived);
    status = coir_mutex_lock(&mutex);
    CHECK_EQ(status, COIR_EPOISONED);
    poisoned++;
    if (poisoned == 3)
        CHECK_EQ(coir_mutex_clear(&mutex, "the last of them"), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void panic_when_all_wait(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < 3)
        coir_yield();
    coir_panic("three wait");
}

static void wait_for_a_holder_that_panics(void *unused)
{
    coir_counter waiters = COIR_COUNTER_INIT, holder = COIR_COUNTER_INIT;

    (void)unused;
    arrived = poisoned = 0;
    CHECK_EQ(coir_spawn(&holder, panic_when_all_wait, NULL), COIR_OK);
    while (coir_mutex_try_lock(&mutex) == COIR_OK) {
        CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
        coir_yield();
    }
    CHECK_EQ(coir_spawn_many(&waiters, wait_and_clear, NULL, 0, 3), COIR_OK);
    CHECK_EQ(coir_wait(&waiters), COIR_DONE);
    CHECK_EQ(coir_wait(&holder), COIR_PANICKED);
    CHECK_EQ(poisoned, 3);
}

static void waiters_get_it_from_a_holder_that_panics(void)
{
    renew();
    run_on(1, wait_for_a_holder_that_panics, NULL);
    check_clean();
    run_on(2, wait_for_a_holder_that_panics, NULL);
    check_clean();
}

/* ------------------------------------------------------------------------------------- policy */

static void abort_returning(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_ABORT), COIR_OK);
    (void)end_of(return_holding, NULL);
}

static void the_policy_may_be_to_abort(void)
{
    CHILD_DIES(abort_returning, NULL, SIGABRT, "ended while it held mutex", "policy");
}

/* --------------------------------------------------------------------------------------- the log */

static char said[512];

static void keep_line(enum coir_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level == COIR_LOG_WARNING && strstr(text, "no longer poisoned"))
        snprintf(said, sizeof said, "%s", text);
}

static void clear_it(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_clear(&mutex, "rebuilt from the journal"), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void the_reason_is_logged(void)
{
    coir_options o = run_options(1);

    renew();
    CHECK_EQ(end_of(panic_holding, NULL), COIR_PANICKED);
    o.log = keep_line;
    CHECK_EQ(coir_run(&o, clear_it, NULL), COIR_DONE);
    CHECK(strstr(said, "rebuilt from the journal") != NULL);
}

CHECK_MAIN(CASE(a_panic_poisons_what_its_job_holds), CASE(the_boundary_decides_what_a_panic_leaves),
           CASE(a_cleanups_own_lock_is_not_poisoned), CASE(a_return_that_holds_is_a_panic),
           CASE(a_deferred_unlock_is_in_time), CASE(waiters_get_it_from_a_holder_that_panics),
           CASE(the_policy_may_be_to_abort), CASE(the_reason_is_logged))
