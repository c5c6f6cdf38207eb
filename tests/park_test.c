/* SPDX-License-Identifier: MIT */
/*
 * park_test.c - core/park.c: no wake-up is lost, none is given twice, and the counts balance.
 *
 * Nobody here sleeps with a time limit unless the limit is what the case is about: a lost wake-up
 * hangs, and the harness names the case. What each of them catches, tried by hand:
 *   no look after park_announce              a_lone_sleeper_misses_nothing hangs
 *   no fence in park_announce (asymmetric)   a_lone_sleeper_misses_nothing hangs
 *   no fence in park_notify (symmetric)      a_lone_sleeper_misses_nothing hangs
 */
#include "park.h"
#include "threads.h"

static struct park p;

/* One mode of the SLEEP fence; the asymmetric one only where the kernel has it. */
static void open_park(bool asymmetric)
{
    memset(&p, 0, sizeof p);
    park_init(&p, 0);
    p.asymmetric &= asymmetric;
}

static void check_at_rest(void)
{
    CHECK_EQ(p.counts, 0);
    CHECK_EQ(p.sleepers, NULL);
}

static void pause_for(uint64_t turns)
{
    while (turns-- > 0)
        arch_relax();
}

/* ------------------------------------------------------------------------------------ one thread */

static void notify_without_sleepers_does_nothing(void)
{
    open_park(true);
    park_notify(&p);
    park_wake_one(&p);
    park_wake_all(&p);
    check_at_rest();
}

static void a_retracted_sleeper_is_not_woken(void)
{
    struct parker self = {0};

    open_park(true);
    park_search_begin(&p);
    park_announce(&p, &self, true);
    CHECK_EQ(park_sleeping(p.counts), 1);
    CHECK_EQ(park_searching(p.counts), 0);
    CHECK(!park_retract(&p, &self));
    check_at_rest();
}

static void a_woken_sleeper_counts_as_searching(void)
{
    struct parker self = {0};

    open_park(true);
    park_announce(&p, &self, false);
    park_notify(&p);
    CHECK(parker_woken(&self));
    CHECK_EQ(park_sleeping(p.counts), 0);
    CHECK_EQ(park_searching(p.counts), 1);
    CHECK(park_sleep(&p, &self, COIR_NEVER));
    CHECK(!park_search_end(&p)); /* nobody sleeps who could be woken */
    check_at_rest();
}

static void a_searcher_spares_the_others_a_wake_up(void)
{
    struct parker self = {0};

    open_park(true);
    park_announce(&p, &self, false);
    park_search_begin(&p);
    park_notify(&p);
    CHECK(!parker_woken(&self));
    CHECK(park_search_end(&p));
    park_notify(&p);
    CHECK(park_retract(&p, &self));
    CHECK(!park_search_end(&p));
    check_at_rest();
}

static void the_latest_sleeper_is_woken_first(void)
{
    struct parker a = {0}, b = {0};

    open_park(true);
    park_announce(&p, &a, false);
    park_announce(&p, &b, false);
    park_wake_one(&p);
    CHECK(parker_woken(&b));
    CHECK(!parker_woken(&a));
    CHECK(!park_retract(&p, &a));
    CHECK(park_retract(&p, &b));
    CHECK(!park_search_end(&p));
    check_at_rest();
}

static void a_deadline_ends_the_sleep(void)
{
    struct parker self = {0};
    int64_t end = coir_now() + COIR_MS;

    open_park(true);
    park_announce(&p, &self, false);
    CHECK(!park_sleep(&p, &self, end));
    CHECK(coir_now() >= end);
    check_at_rest();
}

static int kicks;

static void kick(struct parker *self)
{
    CHECK(parker_woken(self));
    kicks++;
}

static void a_sleeper_is_kicked_once_and_only_where_it_is_away(void)
{
    struct parker self = {.kick = kick};

    open_park(true);
    kicks = 0;
    park_announce(&p, &self, false);
    park_wake_all(&p);
    CHECK(!parker_go_away(&self)); /* woken before */
    CHECK_EQ(kicks, 0);
    CHECK(park_retract(&p, &self));
    CHECK(!park_search_end(&p));

    park_announce(&p, &self, false);
    CHECK(parker_go_away(&self));
    park_wake_all(&p);
    park_wake_all(&p);
    CHECK_EQ(kicks, 1);
    CHECK(park_retract(&p, &self));
    CHECK(!park_search_end(&p));
    check_at_rest();
}

/* ------------------------------------------------------------------------- publisher and sleepers */

/* The queue that is looked at: items up to `published`, of which `claimed` are taken. The publisher does
 * not go on before all of them are done, so no later wake-up makes up for a lost one. It publishes
 * with a plain store, as a deque does: nothing but the fence under test orders it. */
static _Atomic long published, claimed, done;
static _Atomic bool over; /* published like an item */

static bool take_item(void)
{
    long n = atomic_load_explicit(&claimed, memory_order_relaxed);

    while (n < atomic_load_explicit(&published, memory_order_relaxed))
        if (atomic_compare_exchange_weak_explicit(&claimed, &n, n + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool in_sight(void)
{
    return atomic_load_explicit(&claimed, memory_order_relaxed) <
               atomic_load_explicit(&published, memory_order_relaxed) ||
           atomic_load_explicit(&over, memory_order_relaxed);
}

/* As worker.c does it: announce, look, retract or sleep. Returns whether it counts as searching. */
static bool sleep_until_work(struct parker *self, bool searching)
{
    if (!searching)
        park_search_begin(&p);
    park_announce(&p, self, true);
    return in_sight() ? park_retract(&p, self) : park_sleep(&p, self, COIR_NEVER);
}

/* Ends the search; the last searcher passes the waking on if there is more. */
static void found(bool searching)
{
    if (searching && park_search_end(&p) && in_sight())
        park_notify(&p);
}

static void *work_until_over(void *number)
{
    struct parker self = {0};
    uint64_t seed = (uintptr_t)number + 1;
    bool searching = false;

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        if (take_item()) {
            found(searching);
            searching = false;
            atomic_fetch_add_explicit(&done, 1, memory_order_relaxed);
            pause_for(random_next(&seed) % 16);
        } else {
            searching = sleep_until_work(&self, searching);
        }
    }
    found(searching);
    return NULL;
}

static void publish_rounds(long rounds, uint64_t batch)
{
    uint64_t seed = 5;
    long sum = 0;
    unsigned turns;

    for (long i = 0; check_round(i, rounds); i++) {
        sum += (long)(random_next(&seed) % batch) + 1;
        atomic_store_explicit(&published, sum, memory_order_relaxed);
        park_notify(&p);
        turns = 0;
        while (atomic_load_explicit(&done, memory_order_relaxed) < sum)
            spin_pause(&turns);
        pause_for(random_next(&seed) % 32);
    }
}

static void publish_to(uintptr_t sleepers, long rounds, uint64_t batch, bool asymmetric)
{
    struct threads threads = {.count = 0};

    open_park(asymmetric);
    published = claimed = done = 0;
    over = false;
    for (uintptr_t i = 0; i < sleepers; i++)
        threads_add(&threads, work_until_over, (void *)i);
    publish_rounds(rounds, batch);
    atomic_store(&over, true);
    fence_full();
    park_wake_all(&p);
    threads_join(&threads);
    check_at_rest();
}

static void a_lone_sleeper_misses_nothing(void)
{
    publish_to(1, CHECK_SCALE(200000), 1, true);
    publish_to(1, CHECK_SCALE(200000), 1, false);
}

static void searchers_pass_the_waking_on(void)
{
    publish_to(3, CHECK_SCALE(50000), 4, true);
    publish_to(3, CHECK_SCALE(50000), 4, false);
}

/* --------------------------------------------------------------------------- deadlines and wakers */

static _Atomic long tokens; /* sleeps that a waker ended */

static void *sleep_with_deadlines(void *number)
{
    struct parker self = {0};
    uint64_t seed = (uintptr_t)number + 1;

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        park_announce(&p, &self, false);
        if (park_sleep(&p, &self, coir_now() + (int64_t)(random_next(&seed) % (20 * COIR_US)))) {
            park_search_end(&p);
            atomic_fetch_add_explicit(&tokens, 1, memory_order_relaxed);
        }
        CHECK_EQ(self.listed, false);
    }
    return NULL;
}

/* A waker and a deadline may meet: the token is used, or was never given. */
static void a_deadline_and_a_waker_agree_who_was_first(void) /* TOKEN */
{
    struct threads threads = {.count = 0};
    uint64_t seed = 3;

    open_park(true);
    over = false;
    tokens = 0;
    for (uintptr_t i = 0; i < 3; i++)
        threads_add(&threads, sleep_with_deadlines, (void *)i);
    while (atomic_load_explicit(&tokens, memory_order_relaxed) < CHECK_SCALE(20000)) {
        park_wake_one(&p);
        pause_for(random_next(&seed) % 2000);
    }
    atomic_store(&over, true);
    threads_join(&threads);
    check_at_rest();
}

/* --------------------------------------------------------------------------------------- all */

static void *sleep_once(void *unused)
{
    struct parker self = {0};

    park_announce(&p, &self, false);
    CHECK(park_sleep(&p, &self, COIR_NEVER));
    park_search_end(&p);
    return unused;
}

static void wake_all_wakes_all(void)
{
    struct threads threads = {.count = 0};
    unsigned turns = 0;

    for (int round = 0; check_round(round, CHECK_SCALE(400)); round++) {
        open_park(round % 2);
        for (int i = 0; i < 8; i++)
            threads_add(&threads, sleep_once, NULL);
        while (park_sleeping(atomic_load(&p.counts)) < 8)
            spin_pause(&turns);
        park_wake_all(&p);
        threads_join(&threads);
        check_at_rest();
    }
}

CHECK_MAIN(CASE(notify_without_sleepers_does_nothing),
           CASE(a_retracted_sleeper_is_not_woken),
           CASE(a_woken_sleeper_counts_as_searching),
           CASE(a_searcher_spares_the_others_a_wake_up),
           CASE(the_latest_sleeper_is_woken_first),
           CASE(a_deadline_ends_the_sleep),
           CASE(a_sleeper_is_kicked_once_and_only_where_it_is_away),
           CASE(a_lone_sleeper_misses_nothing),
           CASE(searchers_pass_the_waking_on),
           CASE(a_deadline_and_a_waker_agree_who_was_first),
           CASE(wake_all_wakes_all))
