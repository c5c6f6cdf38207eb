/* SPDX-License-Identifier: MIT */
/*
 * lockcheck_test.c - libcoir-debug.a names pthread mutexes that are held across a suspend, with both places,
 * once for each pair of them; and nothing else.
 */
#include "child.h"

#include <errno.h>
#include <pthread.h>

/* What the log has said. */
static struct {
    int reports;
    const void *mutex; /* of the last report */
    char what[32];
    uintptr_t taken, suspends; /* innermost frames of the last report */
    int frames;
} told;

static pthread_mutex_t said = PTHREAD_MUTEX_INITIALIZER;

static void listen(enum coir_log_level level, const char *text, void *arg)
{
    void *p;
    unsigned frame;

    (void)arg;
    if (level != COIR_LOG_ERROR || strncmp(text, "lockcheck:", 10) != 0)
        return;
    pthread_mutex_lock(&said); /* a log may lock; that is no business of ours */
    if (sscanf(text, "lockcheck: pthread mutex %p is held across a suspend (%31[^)]", &p, told.what) == 2) {
        run_count(&told.reports);
        told.mutex = p;
    } else if (sscanf(text, "lockcheck: taken #%u %p", &frame, &p) == 2) {
        told.taken = frame ? told.taken : (uintptr_t)p;
        told.frames++;
    } else if (sscanf(text, "lockcheck: suspends #%u %p", &frame, &p) == 2) {
        told.suspends = frame ? told.suspends : (uintptr_t)p;
        told.frames++;
    }
    pthread_mutex_unlock(&said);
}

static coir_options listening(unsigned workers)
{
    coir_options o = run_options(workers);

    memset(&told, 0, sizeof told);
    o.log = listen;
    return o;
}

static pthread_mutex_t mutex, other;
static coir_counter never = COIR_COUNTER_INIT;

#define FN_BYTES 4096 /* no function here is larger */

#define IN(fn, pc) ((pc) - (uintptr_t)(fn) < FN_BYTES)

/* -------------------------------------------------------------------------------- what is found */

__attribute__((noinline)) static void take(void)
{
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);
    __asm__ volatile(""); /* no tail call: it shall be in the list */
}

static void hold_over_yield(void *unused)
{
    (void)unused;
    take();
    coir_yield();
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void hold_over_sleep(void *unused)
{
    (void)unused;
    take();
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void hold_over_wait(void *unused)
{
    (void)unused;
    take();
    CHECK_EQ(coir_wait_until(&never, coir_now() + COIR_US), COIR_ETIMEDOUT);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void hold_over_event(void *unused)
{
    coir_event e = COIR_EVENT_INIT;

    (void)unused;
    take();
    CHECK_EQ(coir_event_wait_until(&e, coir_now() + COIR_US), COIR_ETIMEDOUT);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void hold_over_recv(void *unused)
{
    int listener = coir_socket_listen(NULL, 0, 0);

    (void)unused;
    CHECK(listener >= 0);
    take();
    CHECK_EQ(coir_socket_accept_until(listener, coir_now() + COIR_US), COIR_ETIMEDOUT);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
}

static void a_mutex_held_over_any_suspend_is_named_with_both_places(void)
{
    static const struct {
        coir_fn *fn;
        const char *what;
    } calls[] = {{hold_over_yield, "yield"}, {hold_over_sleep, "sleep"}, {hold_over_wait, "counter"},
                 {hold_over_event, "event"}, {hold_over_recv, "accept"}};

    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        coir_options o = listening(2);

        CHECK_EQ(coir_run(&o, calls[i].fn, NULL), COIR_DONE);
        CHECK_EQ(told.reports, 1);
        CHECK(told.mutex == &mutex);
        CHECK_STR(told.what, calls[i].what);
        CHECK(IN(take, told.taken));
        CHECK(IN(calls[i].fn, told.suspends));
        CHECK(told.frames >= 3); /* take and the job; the job */
    }
}

static int trylock(void)
{
    return pthread_mutex_trylock(&mutex);
}

static int timedlock(void)
{
    struct timespec until = {.tv_sec = INT32_MAX};

    return pthread_mutex_timedlock(&mutex, &until);
}

static int clocklock(void)
{
    struct timespec until = {.tv_sec = INT32_MAX};

    return pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
}

static void hold_however_taken(void *how)
{
    CHECK_EQ((*(int (**)(void))how)(), 0);
    coir_yield();
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void it_does_not_matter_how_the_mutex_was_taken(void)
{
    int (*how[])(void) = {trylock, timedlock, clocklock};

    for (int i = 0; i < 3; i++) {
        coir_options o = listening(1);

        CHECK_EQ(coir_run(&o, hold_however_taken, &how[i]), COIR_DONE);
        CHECK_EQ(told.reports, 1);
    }
}

static void unlock_once_of_two(void *recursive)
{
    CHECK_EQ(pthread_mutex_lock(recursive), 0);
    CHECK_EQ(pthread_mutex_lock(recursive), 0);
    CHECK_EQ(pthread_mutex_unlock(recursive), 0);
    coir_yield();
    CHECK_EQ(pthread_mutex_unlock(recursive), 0);
}

static void a_recursive_mutex_is_held_until_the_last_unlock(void)
{
    pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    coir_options o = listening(1);

    CHECK_EQ(coir_run(&o, unlock_once_of_two, &recursive), COIR_DONE);
    CHECK_EQ(told.reports, 1);
    CHECK(told.mutex == &recursive);
}

static void hold_many_times(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(pthread_mutex_lock(&mutex), 0);
        coir_yield();
        CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
    }
}

static void each_pair_of_places_is_told_once(void)
{
    coir_options o = listening(1);

    CHECK_EQ(coir_run(&o, hold_many_times, NULL), COIR_DONE);
    CHECK_EQ(told.reports, 1);
}

/* --------------------------------------------------------------------------------- what is not */

static int holds, stop;

static void hold_till_told(void *unused)
{
    (void)unused;
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);
    run_set(&holds);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        coir_yield();
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void suspend_and_lock(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(pthread_mutex_lock(&other), 0);
        CHECK_EQ(pthread_mutex_unlock(&other), 0);
        coir_yield();
    }
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
}

static void blame_one_only(void *unused)
{
    coir_counter one = COIR_COUNTER_INIT, innocent = COIR_COUNTER_INIT;

    (void)unused;
    holds = stop = 0;
    CHECK_EQ(coir_spawn(&one, hold_till_told, NULL), COIR_OK);
    run_until(&holds);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_spawn(&innocent, suspend_and_lock, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&innocent), COIR_DONE);
    run_set(&stop);
    CHECK_EQ(coir_wait(&one), COIR_DONE);
}

/* Others run on the worker that the holder has left, and it is unlocked on any. */
static void other_jobs_are_not_blamed(void)
{
    for (unsigned workers = 1; workers < 4; workers++) {
        coir_options o = listening(workers);

        CHECK_EQ(coir_run(&o, blame_one_only, NULL), COIR_DONE);
        CHECK(told.reports <= 1); /* the pair of places may have been told by an earlier round */
        CHECK(told.reports == 0 || told.mutex == &mutex);
    }
}

static void *hold_on_a_thread(void *unused)
{
    (void)unused;
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);
    run_set(&holds);
    run_until(&stop);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
    return NULL;
}

static void behave(void *unused)
{
    coir_mutex own = COIR_MUTEX_INIT;
    pthread_mutex_t gone = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

    (void)unused;
    CHECK_EQ(pthread_mutex_trylock(&mutex), EBUSY);
    coir_yield(); /* a try that failed holds nothing */
    CHECK_EQ(pthread_mutex_lock(&other), 0);
    CHECK_EQ(coir_mutex_lock(&own), COIR_OK); /* need not suspend */
    CHECK_EQ(coir_mutex_unlock(&own), COIR_OK);
    CHECK_EQ(pthread_mutex_unlock(&other), 0);
    CHECK_EQ(pthread_mutex_lock(&gone), 0);
    CHECK_EQ(pthread_mutex_lock(&gone), 0);
    CHECK_EQ(pthread_mutex_unlock(&gone), 0);
    CHECK_EQ(pthread_mutex_unlock(&gone), 0);
    suspend_and_lock(NULL);
}

static void what_threads_hold_and_what_was_unlocked_is_not_told(void)
{
    coir_options o = listening(2);
    pthread_t thread;

    holds = stop = 0;
    CHECK_EQ(pthread_create(&thread, NULL, hold_on_a_thread, NULL), 0);
    run_until(&holds);
    CHECK_EQ(coir_run(&o, behave, NULL), COIR_DONE);
    run_set(&stop);
    pthread_join(thread, NULL);
    CHECK_EQ(told.reports, 0);
}

static void run_with_abort(void *unused)
{
    coir_options o = {};

    (void)unused;
    o.size = sizeof o;
    setenv("COIR_LOCKCHECK", "abort", 1);
    CHECK_EQ(coir_run(&o, hold_over_sleep, NULL), COIR_DONE);
}

static void stay_silent(void *unused)
{
    coir_options o = {};

    (void)unused;
    o.size = sizeof o;
    setenv("COIR_LOCKCHECK", "abort", 1);
    CHECK_EQ(coir_run(&o, suspend_and_lock, NULL), COIR_DONE);
}

static void it_aborts_if_asked_to(void)
{
    CHILD_DIES(run_with_abort, NULL, SIGABRT, "is held across a suspend (sleep)", "taken #0", "suspends #0");
    child_ends(stay_silent, NULL);
}

CHECK_MAIN(CASE(it_aborts_if_asked_to), CASE(a_mutex_held_over_any_suspend_is_named_with_both_places),
           CASE(it_does_not_matter_how_the_mutex_was_taken),
           CASE(a_recursive_mutex_is_held_until_the_last_unlock), CASE(each_pair_of_places_is_told_once),
           CASE(other_jobs_are_not_blamed), CASE(what_threads_hold_and_what_was_unlocked_is_not_told))
