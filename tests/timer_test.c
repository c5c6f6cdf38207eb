/* SPDX-License-Identifier: MIT */
/*
 * timer_test.c - core/timer.c: deadlines fire in order and once, earliest is true, and a canceled
 * timer is out of everybody's hands.
 *
 * T2 is attacked by threads that expire while another cancels: the node is overwritten as soon as
 * timer_cancel has returned. With fire called after the lock was dropped,
 * a_canceled_timer_is_left_alone fails.
 */
#include "threads.h"
#include "timer.h"

#define TIMERS 10000

struct entry {
    struct timer timer;
    bool armed; /* by the model */
};

static struct timers heap;
static struct entry entry[TIMERS];
static uint64_t seed = 11;

/* What fired since the last look. */
static long fired;
static int64_t latest; /* deadline of the last that fired */

static void on_fire(struct timer *t)
{
    struct entry *e = CONTAINER_OF(t, struct entry, timer);

    CHECK(e->armed);
    CHECK(t->deadline >= latest);
    e->armed = false;
    latest = t->deadline;
    fired++;
}

static void reset(void)
{
    memset(&heap, 0, sizeof heap);
    memset(entry, 0, sizeof entry);
    timers_init(&heap);
    fired = 0;
    latest = INT64_MIN;
}

static void arm(size_t i, int64_t deadline)
{
    entry[i].timer.deadline = deadline;
    entry[i].timer.fire = on_fire;
    entry[i].armed = true;
    timer_arm(&heap, &entry[i].timer);
}

static void cancel(size_t i)
{
    timer_cancel(&heap, &entry[i].timer);
    entry[i].armed = false;
}

/* Fires all that is due; an expiry is bounded, so it takes several. */
static long expire(int64_t now)
{
    long before = fired, sum = 0;
    unsigned n;

    latest = INT64_MIN;
    while ((n = timers_expire(&heap, now)) > 0)
        sum += n;
    CHECK_EQ(fired - before, sum);
    return sum;
}

/* The model's earliest deadline of the first n entries. */
static int64_t model_earliest(size_t n)
{
    int64_t earliest = COIR_NEVER;

    for (size_t i = 0; i < n; i++)
        if (entry[i].armed && entry[i].timer.deadline < earliest)
            earliest = entry[i].timer.deadline;
    return earliest;
}

/* How many of the model are due. */
static long model_due(size_t n, int64_t now)
{
    long due = 0;

    for (size_t i = 0; i < n; i++)
        due += entry[i].armed && entry[i].timer.deadline <= now;
    return due;
}

/* ---------------------------------------------------------------------------------- one thread */

static void an_empty_heap_has_nothing_to_fire(void)
{
    reset();
    CHECK_EQ(timers_earliest(&heap), COIR_NEVER);
    CHECK_EQ(timers_expire(&heap, COIR_NEVER - 1), 0);
}

static void a_timer_fires_once_and_not_before_its_time(void)
{
    reset();
    arm(0, 100);
    CHECK_EQ(expire(99), 0);
    CHECK_EQ(expire(100), 1);
    CHECK_EQ(expire(COIR_NEVER - 1), 0);
    cancel(0); /* of no effect */
    arm(0, 50);
    CHECK_EQ(timers_earliest(&heap), 50);
    CHECK_EQ(expire(50), 1);
}

static void timers_of_one_deadline_all_fire(void)
{
    reset();
    for (size_t i = 0; i < 1000; i++)
        arm(i, 5);
    CHECK_EQ(expire(5), 1000);
    CHECK_EQ(timers_earliest(&heap), COIR_NEVER);
}

static void random_deadlines_fire_in_order_without_the_canceled(void) /* T1 */
{
    int64_t now = 0;
    long due;

    reset();
    for (size_t i = 0; i < TIMERS; i++)
        arm(i, (int64_t)(random_next(&seed) % 1000000));
    for (int step = 0; step < 200; step++) {
        for (int k = 0; k < 40; k++)
            cancel(random_next(&seed) % TIMERS);
        for (int k = 0; k < 20; k++) {
            size_t i = random_next(&seed) % TIMERS;

            if (!entry[i].armed)
                arm(i, now + (int64_t)(random_next(&seed) % 1000000));
        }
        now += 6000;
        due = model_due(TIMERS, now);
        CHECK_EQ(expire(now), due);
    }
    due = model_due(TIMERS, COIR_NEVER - 1);
    CHECK_EQ(expire(COIR_NEVER - 1), due);
    CHECK_EQ(timers_earliest(&heap), COIR_NEVER);
}

static void earliest_is_true_after_each_operation(void) /* T3 */
{
    enum { FEW = 200 };
    int64_t now = 0;

    reset();
    for (int step = 0; step < CHECK_SCALE(20000); step++) {
        size_t i = random_next(&seed) % FEW;

        if (random_next(&seed) % 16 == 0)
            expire(now += 500);
        else if (entry[i].armed)
            cancel(i);
        else
            arm(i, now + (int64_t)(random_next(&seed) % 10000));
        if (!CHECK_EQ(timers_earliest(&heap), model_earliest(FEW)))
            return;
    }
}

/* -------------------------------------------------------------------------------- many threads */

static _Atomic bool over;
static _Atomic long fires;       /* since the round began */
static _Atomic int in_fire;      /* on_race runs */

static void on_race(struct timer *t)
{
    atomic_store_explicit(&in_fire, 1, memory_order_relaxed);
    for (int64_t i = t->deadline % 64; i > 0; i--)
        arch_relax();
    atomic_fetch_add_explicit(&fires, 1, memory_order_relaxed);
    atomic_store_explicit(&in_fire, 0, memory_order_relaxed);
}

static void on_left_alone(struct timer *t)
{
    (void)t;
    CHECK_NEVER("a canceled timer fired");
}

static void *expire_until_over(void *unused)
{
    while (!atomic_load_explicit(&over, memory_order_relaxed))
        if (timers_expire(&heap, COIR_NEVER - 1) == 0)
            arch_relax();
    return unused;
}

/* Arms a timer that is due at once, cancels it after a while; true: it was canceled in time. */
static bool arm_and_cancel(struct timer *t)
{
    bool canceled;

    atomic_store_explicit(&fires, 0, memory_order_relaxed);
    *t = (struct timer){.deadline = (int64_t)(random_next(&seed) % 1000), .fire = on_race};
    timer_arm(&heap, t);
    for (uint64_t i = random_next(&seed) % 64; i > 0; i--)
        arch_relax();
    timer_cancel(&heap, t);
    CHECK_EQ(atomic_load_explicit(&in_fire, memory_order_relaxed), 0);
    canceled = atomic_load_explicit(&fires, memory_order_relaxed) == 0;
    memset(t, 0xaa, sizeof *t);
    t->fire = on_left_alone;
    return canceled;
}

static void a_canceled_timer_is_left_alone(void) /* T2 */
{
    struct threads threads = {.count = 0};
    struct timer timer[16]; /* a frame's: overwritten, and left for a while */
    long canceled = 0, rounds = CHECK_SCALE(1000000);

    reset();
    over = false;
    threads_add(&threads, expire_until_over, NULL);
    threads_add(&threads, expire_until_over, NULL);
    for (long i = 0; i < rounds || canceled == 0 || canceled == i; i++) { /* both ends of the race */
        canceled += arm_and_cancel(&timer[i % 16]);
        CHECK(fires <= 1);
    }
    atomic_store(&over, true);
    threads_join(&threads);
    CHECK_EQ(timers_earliest(&heap), COIR_NEVER);
}

CHECK_MAIN(CASE(an_empty_heap_has_nothing_to_fire),
           CASE(a_timer_fires_once_and_not_before_its_time),
           CASE(timers_of_one_deadline_all_fire),
           CASE(random_deadlines_fire_in_order_without_the_canceled),
           CASE(earliest_is_true_after_each_operation),
           CASE(a_canceled_timer_is_left_alone))
