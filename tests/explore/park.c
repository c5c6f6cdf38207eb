/* SPDX-License-Identifier: MIT */
/*
 * park.c - explores core/park.c: no wake-up is lost (SLEEP, ALONE, SEARCH, WATCH), each token arrives once (TOKEN).
 *
 * A lost wake-up is a deadlock here: nobody sleeps with a deadline unless that is the subject, or it watches. Work
 * is published by a relaxed store, the weakest that a queue could use, so nothing but the fences under
 * test orders it; the queues themselves are in two scenarios of their own.
 */
#include "park.h"

#include <string.h>

#include "explore.h"
#include "inject.h"

static struct park p;
static struct parker self[1 + EXPLORE_THREADS]; /* by thread */

/* Work: items up to `published`, of which `claimed` are taken. */
static _Atomic long published, claimed;
static _Atomic bool stopping;

static struct deque d;
static struct inject q;
static struct host host;

static bool take_item(void)
{
    long n = atomic_load_explicit(&claimed, memory_order_relaxed);

    while (n < atomic_load_explicit(&published, memory_order_relaxed))
        if (atomic_compare_exchange_strong_explicit(&claimed, &n, n + 1, memory_order_relaxed,
                                                    memory_order_relaxed))
            return true;
    return false;
}

static bool items_in_sight(void)
{
    return atomic_load_explicit(&claimed, memory_order_relaxed) <
           atomic_load_explicit(&published, memory_order_relaxed);
}

static bool take_from_deque(void)
{
    struct work w;
    uint64_t asked;
    size_t n;
    enum steal s = deque_steal(&d, &w, 1, &n, &asked);

    if (s == STEAL_ASKED) {
        park_fence_all(&p);
        deque_open(&d, asked);
        s = deque_steal(&d, &w, 1, &n, &asked);
    }
    return s == STEAL_OK;
}

static bool deque_in_sight(void)
{
    return !deque_empty(&d);
}

static bool take_from_injector(void)
{
    struct work w;

    return inject_take(&q, &w, 1) == 1;
}

static bool injector_in_sight(void)
{
    return !inject_empty(&q);
}

/* ALONE: as find.c does it, a worker that has passed no fence looks under the lock. */
static bool injector_in_sight_surely(void)
{
    return !inject_empty_surely(&q);
}

static bool (*take)(void) = take_item;
static bool (*in_sight)(void) = items_in_sight;

/* ---------------------------------------------------------------------- workers, as worker.c does it */

static bool stopped(void)
{
    return atomic_load_explicit(&stopping, memory_order_acquire);
}

/* Announce, look, retract or sleep. Returns whether it counts as searching. */
static bool idle(int thread, bool searching)
{
    bool alone;

    if (!searching)
        park_search_begin(&p);
    alone = park_announce(&p, &self[thread], true);
    if ((alone && injector_in_sight_surely()) || in_sight() || stopped()) {
        if (!park_retract(&p, &self[thread]))
            park_search_begin(&p);
        return true;
    }
    return park_sleep(&p, &self[thread], COIR_NEVER);
}

/* Ends the search; the last searcher passes the waking on if there is more. */
static void found(bool searching)
{
    if (searching && park_search_end(&p) && in_sight())
        park_notify(&p);
}

/* Takes one item, or goes when asked to. Its parker goes with it. */
static void work_once(int thread)
{
    bool searching = false;

    while (!stopped()) {
        if (take()) {
            found(searching);
            break;
        }
        searching = idle(thread, searching);
    }
    explore_free(&self[thread], sizeof self[thread]);
}

static void work_2(void)
{
    work_once(2);
}

static void work_3(void)
{
    work_once(3);
}

/* ------------------------------------------------------------------------- who watches, as idle.c does it */

static int seen; /* by who watches */

static bool begins_to_watch(unsigned self)
{
    if (!park_is_full(&p, self) || !park_watch_begin(&p))
        return false;
    seen++;
    return true;
}

/* Announces, looks, retracts or sleeps; who watches does so whatever it has seen. It counts as searching before and
 * afterwards. Returns whether it was woken. */
static bool idle_or_watch(int thread, bool watching)
{
    bool in_vain, woken;

    park_announce(&p, &self[thread], true);
    in_vain = in_sight() && !watching && !(watching = begins_to_watch(0));
    if (in_vain)
        woken = park_retract(&p, &self[thread]);
    else
        woken = park_sleep(&p, &self[thread], watching ? coir_now() + 1 : COIR_NEVER);
    if (watching) {
        seen++;
        park_watch_end(&p);
    }
    if (!woken)
        park_search_begin(&p);
    return woken && !in_vain;
}

/* Takes one item, and is stuck in it. Who is woken as one more than may be awake watches first, and so does who begins. */
static void watch_or_work_once(int thread)
{
    bool woken = true;

    park_search_begin(&p);
    for (;;) {
        if (woken && begins_to_watch(1))
            idle_or_watch(thread, true);
        if (take())
            break;
        woken = idle_or_watch(thread, false);
    }
    found(true);
    explore_free(&self[thread], sizeof self[thread]);
}

static void watch_2(void)
{
    watch_or_work_once(2);
}

static void watch_3(void)
{
    watch_or_work_once(3);
}

/* -------------------------------------------------------------------------------------- publishers */

static void publish(void)
{
    long n = atomic_load_explicit(&published, memory_order_relaxed);

    atomic_store_explicit(&published, n + 1, memory_order_relaxed);
    park_notify(&p);
}

static void publish_twice(void)
{
    publish();
    publish();
}

/* What is published at once is passed on by the worker that was woken. */
static void publish_two_at_once(void)
{
    atomic_store_explicit(&published, 2, memory_order_relaxed);
    park_notify(&p);
}

/* As runtime.c does it. */
static void stop(void)
{
    atomic_store_explicit(&stopping, true, memory_order_release);
    fence_full();
    park_wake_all(&p);
}

static void push_to_deque(void)
{
    MUST(deque_push(&d, &(struct work){0}));
    park_notify(&p);
}

/* As spawn.c does it. */
static void push_to_injector(void)
{
    struct parker *sleeper;

    MUST(inject_submit(&q, &(struct work){0}, 0, 1, &p, &sleeper) == COIR_OK);
    if (sleeper)
        park_hand(sleeper);
}

/* ---------------------------------------------------------------------------------- set up and check */

static void setup(void)
{
    memset(&p, 0, sizeof p);
    memset(self, 0, sizeof self);
    memset(&q, 0, sizeof q);
    park_init(&p, 0);
    inject_init(&q, &host, 8);
    take = take_item;
    in_sight = items_in_sight;
}

static void setup_deque(void)
{
    setup();
    deque_init(&d, p.asymmetric);
    take = take_from_deque;
    in_sight = deque_in_sight;
}

static void setup_injector(void)
{
    setup();
    take = take_from_injector;
    in_sight = injector_in_sight;
}

static void setup_alone(void)
{
    setup_injector();
    p.workers = 1;
}

static void setup_two(void)
{
    setup();
    p.workers = 2;
}

/* The publisher is a worker that is stuck, and so many may be awake as are in that case. */
static void setup_watch(void)
{
    setup();
    p.workers = 3;
    park_set_limit(&p, 1);
    seen = 0;
}

static void setup_watch_one(void)
{
    setup_watch();
    p.workers = 2;
}

static void check_at_rest(void)
{
    MUST(atomic_load_explicit(&p.counts, memory_order_relaxed) == 0);
    MUST(!p.sleepers);
}

/* Whoever was asked to stop while it searched takes its count along. */
static void check_stopped(void)
{
    MUST(park_sleeping(atomic_load_explicit(&p.counts, memory_order_relaxed)) == 0);
    MUST(!p.sleepers);
}

/* ---------------------------------------------------------------------------- deadlines and kicks */

/* Sleeps once, until a deadline at the latest; then its parker goes. */
static void sleep_a_while(void)
{
    park_announce(&p, &self[2], false);
    if (in_sight() ? park_retract(&p, &self[2]) : park_sleep(&p, &self[2], coir_now() + 1))
        park_search_end(&p);
    explore_free(&self[2], sizeof self[2]);
}

/* The same, and then publishes by program order alone. */
static void sleep_then_publish(void)
{
    sleep_a_while();
    publish();
}

static void wake_one(void)
{
    park_wake_one(&p);
}

static _Atomic uint32_t kicked; /* a futex */
static int kicks;               /* the kicker's, then the sleeper's who has seen the kick */

static void kick(struct parker *s)
{
    MUST(s == &self[2]);
    kicks++;
    atomic_store_explicit(&kicked, 1, memory_order_release);
    futex_wake(&kicked, 1);
}

static void setup_away(void)
{
    setup();
    self[2].kick = kick;
    kicks = 0;
}

/* As io_epoll.c does it: who was woken while away waits for the kick. */
static void sleep_away(int64_t deadline)
{
    bool away, woken;

    park_announce(&p, &self[2], false);
    if (in_sight()) {
        if (park_retract(&p, &self[2]))
            park_search_end(&p);
        return;
    }
    away = parker_go_away(&self[2]);
    while (away && !atomic_load_explicit(&kicked, memory_order_relaxed)) {
        futex_wait(&kicked, 0, deadline);
        if (coir_now() >= deadline)
            break;
    }
    woken = park_retract(&p, &self[2]);
    if (away && woken) {
        unsigned turns = 0;

        while (!atomic_load_explicit(&kicked, memory_order_acquire))
            spin_pause(&turns);
        MUST(++kicks == 2);
    } else {
        MUST(!woken || !away);
    }
    if (woken)
        park_search_end(&p);
}

static void sleep_away_for_ever(void)
{
    sleep_away(COIR_NEVER);
    explore_free(&self[2], sizeof self[2]);
}

static void sleep_away_a_while(void)
{
    sleep_away(coir_now() + 1);
    explore_free(&self[2], sizeof self[2]);
}

/* What the waker has written is seen by the woken, whether or not it has seen the work. */
static int note;

static void wake_with_a_note(void)
{
    note = 1;
    park_wake_one(&p);
}

static void read_the_note(void)
{
    park_announce(&p, &self[2], false);
    if (parker_woken(&self[2]))
        MUST(note == 1);
    if (park_sleep(&p, &self[2], coir_now() + 1)) {
        MUST(note == 1);
        park_search_end(&p);
    }
}

static void setup_note(void)
{
    setup();
    note = 0;
}

/* With membarrier and, as .fence, without it. */
#define BOTH(text, ...)         \
    {.name = text, __VA_ARGS__}, \
    {.name = text ".fence", __VA_ARGS__, .no_membarrier = true}

EXPLORE_MAIN(
    BOTH("a_lone_sleeper_misses_nothing", setup, {publish, work_2}, check_at_rest),
    BOTH("a_searcher_passes_on_what_it_was_left", setup, {publish_twice, work_2, work_3},
         check_at_rest),
    BOTH("two_items_at_once_wake_two", setup, {publish_two_at_once, work_2, work_3},
         check_at_rest),
    BOTH("nobody_sleeps_through_the_end", setup, {stop, work_2, work_3},
         check_stopped),
    BOTH("work_in_a_deque_is_seen", setup_deque, {push_to_deque, work_2}, check_at_rest),
    BOTH("work_in_the_injector_is_seen", setup_injector, {push_to_injector, work_2},
         check_at_rest),
    BOTH("who_sleeps_alone_sees_the_injector", setup_alone, {push_to_injector, work_2}, check_at_rest),
    BOTH("who_sleeps_last_is_seen_by_who_wakes", setup_two, {sleep_then_publish, work_3}, check_at_rest),
    BOTH("who_sleeps_last_is_seen_by_who_is_woken", setup_two, {sleep_then_publish, work_3, wake_one},
         check_at_rest),
    BOTH("who_watches_sees_what_nobody_is_woken_for", setup_watch_one, {publish, watch_2}, check_at_rest),
    BOTH("who_has_watched_passes_on_what_it_was_left", setup_watch, {publish_twice, watch_2, watch_3}, check_at_rest, .less = 1),
    BOTH("a_deadline_races_the_waker", setup, {publish, sleep_a_while}, check_at_rest),
    BOTH("a_sleeper_away_is_kicked_once", setup_away, {publish, sleep_away_for_ever},
         check_at_rest),
    BOTH("a_deadline_races_the_kick", setup_away, {publish, sleep_away_a_while}, check_at_rest),
    BOTH("a_token_carries_what_came_before", setup_note, {wake_with_a_note, read_the_note},
         check_at_rest))
