/* SPDX-License-Identifier: MIT */
/*
 * ring_test.c - core/ring.c: oldest first, also through the overflow list, and nothing is lost or
 * doubled; what the owner has claimed can be wrested from it.
 */
#include "park.h"
#include "ring.h"
#include "threads.h"

#define THIEVES 3
#define ITEMS_MAX (100000 + 2 * RING_CAP)

struct item {
    struct link link;
    _Atomic unsigned taken; /* how often since it was pushed */
};

static struct ring r;
static struct item items[ITEMS_MAX];

static long index_of(struct link *e)
{
    return e ? CONTAINER_OF(e, struct item, link) - items : -1;
}

static void push(long i)
{
    ring_push(&r, &items[i].link);
}

static struct park park;

static void fence(const void *arg)
{
    park_fence_all(arg);
}

static struct link *wrest(void)
{
    return ring_wrest(&r, fence, &park);
}

static void reset(void)
{
    memset(&r, 0, sizeof r);
    memset(items, 0, sizeof items);
    park_init(&park, 0);
    ring_init(&r, park.asymmetric);
}

/* ---------------------------------------------------------------------------------- one thread */

static void take_and_steal_return_the_oldest(void)
{
    for (int by_thief = 0; by_thief < 2; by_thief++) {
        reset();
        for (long i = 0; i < RING_CAP; i++)
            push(i);
        for (long i = 0; i < RING_CAP; i++)
            CHECK_EQ(index_of(by_thief ? ring_steal(&r) : ring_take(&r)), i);
        CHECK_EQ(ring_take(&r), NULL);
        CHECK_EQ(ring_steal(&r), NULL);
        CHECK_EQ(wrest(), NULL);
    }
}

/* Where nobody can have the owner pass a fence. */
static void one_at_a_time_is_claimed_without_membarrier(void)
{
    reset();
    ring_init(&r, false);
    for (long i = 0; i < 20; i++)
        push(i);
    for (long i = 0; i < 20; i++) {
        CHECK_EQ(index_of(ring_take(&r)), i);
        CHECK_EQ(wrest(), NULL);
    }
    CHECK(ring_empty(&r));
}

/* Of 20 the owner claims 10, and takes the first. */
static void what_the_owner_has_claimed_can_be_wrested(void)
{
    reset();
    if (!park.asymmetric)
        return;
    CHECK_EQ(wrest(), NULL);
    for (long i = 0; i < 20; i++)
        push(i);
    CHECK_EQ(wrest(), NULL); /* nothing is claimed */
    CHECK_EQ(index_of(ring_take(&r)), 0);
    CHECK_EQ(index_of(wrest()), 9);
    CHECK_EQ(index_of(ring_take(&r)), 1);
    for (long i = 10; i < 20; i++)
        CHECK_EQ(index_of(ring_steal(&r)), i);
    CHECK_EQ(ring_steal(&r), NULL);
    CHECK(!ring_empty(&r));
    for (long i = 8; i > 1; i--)
        CHECK_EQ(index_of(wrest()), i);
    CHECK_EQ(wrest(), NULL);
    CHECK(ring_empty(&r));
    CHECK_EQ(ring_take(&r), NULL);
    push(20);
    CHECK_EQ(index_of(ring_take(&r)), 20);
}

/* The owner has not taken anything since: the ring is as wide as before. */
static void stolen_slots_are_used_again(void)
{
    reset();
    for (long i = 0; i < 2 * RING_CAP; i++) {
        push(i);
        CHECK_EQ(index_of(ring_steal(&r)), i);
        CHECK_EQ(r.over.count, 0);
    }
}

static void empty_and_several_tell_the_truth(void)
{
    reset();
    CHECK(ring_empty(&r));
    CHECK(ring_count(&r) <= 1);
    push(0);
    CHECK(!ring_empty(&r));
    CHECK(ring_count(&r) <= 1);
    push(1);
    CHECK(ring_count(&r) > 1);
    ring_take(&r);
    ring_take(&r);
    CHECK(ring_empty(&r));
}

static void overflow_keeps_everything_in_order(void) /* R2 */
{
    reset();
    for (long i = 0; i < ITEMS_MAX; i++)
        push(i);
    for (long i = 0; i < ITEMS_MAX; i++)
        CHECK_EQ(index_of(ring_take(&r)), i);
    CHECK(ring_empty(&r));
}

static void thieves_empty_the_overflow_in_order(void) /* R2 */
{
    reset();
    for (long i = 0; i < ITEMS_MAX; i++)
        push(i);
    for (long i = 0; i < ITEMS_MAX; i++)
        CHECK_EQ(index_of(ring_steal(&r)), i);
    CHECK(ring_empty(&r));
}

/* Pushes while part of the elements is in the ring and part in the list: none may pass another. */
static void a_push_does_not_overtake_the_overflow(void) /* R2 */
{
    const uint64_t most = 2 * RING_CAP;
    uint64_t seed = 7;
    long in = 0, out = 0;

    reset();
    while (out < ITEMS_MAX) {
        long pushes = (long)(random_next(&seed) % most), takes = (long)(random_next(&seed) % most);

        for (; pushes > 0 && in < ITEMS_MAX; pushes--)
            push(in++);
        for (; takes > 0 && out < in; takes--, out++)
            if (!CHECK_EQ(index_of(ring_take(&r)), out))
                return;
    }
    CHECK(ring_empty(&r));
}

static void indices_wrap_around(void)
{
    reset();
    r.head = r.tail = r.next = r.kept = r.claimed = (INT64_C(1) << 40) - 3;
    for (long i = 0; i < 4 * RING_CAP; i++) {
        push(i % 100);
        CHECK_EQ(index_of(ring_take(&r)), i % 100);
    }
}

/* -------------------------------------------------------------------------------- many threads */

static _Atomic bool over; /* the owner pushes no more */
static _Atomic uint64_t stolen, wrested;

static bool book(struct link *e)
{
    if (e)
        atomic_fetch_add_explicit(&CONTAINER_OF(e, struct item, link)->taken, 1, memory_order_release);
    return e;
}

static void *steal_until_over(void *unused)
{
    unsigned turns = 0;

    while (!atomic_load_explicit(&over, memory_order_acquire) || !ring_empty(&r)) {
        if (book(ring_steal(&r)))
            atomic_fetch_add_explicit(&stolen, 1, memory_order_relaxed);
        else if (turns % 16 == 15 && book(wrest()))
            atomic_fetch_add_explicit(&wrested, 1, memory_order_relaxed);
        else
            spin_pause(&turns);
    }
    return unused;
}

/* The owner pushes each item `rounds` times, bursts of up to `most` at once, and takes some itself.
 * Taken exactly `round` times, it may be pushed again: a lost one hangs, a doubled one shows. The
 * last ones are left to the thieves. */
static void push_and_take(unsigned rounds, uint64_t most)
{
    uint64_t seed = 99;

    for (unsigned round = 0; round < rounds; round++)
        for (long i = 0; i < ITEMS_MAX;) {
            uint64_t burst = random_next(&seed) % most + 1;

            for (; burst > 0 && i < ITEMS_MAX; burst--, i++) {
                while (atomic_load_explicit(&items[i].taken, memory_order_acquire) < round)
                    book(ring_take(&r));
                push(i);
            }
            if (round == rounds - 1 && i == ITEMS_MAX)
                return;
            for (burst = random_next(&seed) % most; burst > 0 && book(ring_take(&r)); burst--)
                ;
        }
}

static void fight(unsigned rounds, uint64_t most)
{
    struct threads thieves = {.count = 0};
    size_t wrong = 0;

    reset();
    over = false;
    for (int i = 0; i < THIEVES; i++)
        threads_add(&thieves, steal_until_over, NULL);
    push_and_take(rounds, most);
    atomic_store_explicit(&over, true, memory_order_release);
    threads_join(&thieves);
    for (size_t i = 0; i < ITEMS_MAX; i++)
        wrong += items[i].taken != rounds;
    CHECK_EQ(wrong, 0);
    CHECK(ring_empty(&r));
}

/* Until the thieves have won in either way. */
static void run_owner_and_thieves(unsigned rounds, uint64_t most)
{
    stolen = wrested = 0;
    for (int i = 0; i < 100 && (!stolen || (park.asymmetric && !wrested)); i++)
        fight(rounds, most);
    CHECK(stolen > 0);
    CHECK(wrested > 0 || !park.asymmetric);
}

static void every_element_is_taken_exactly_once(void) /* R3 */
{
    run_owner_and_thieves(CHECK_SCALE(40), 32);
}

static void nothing_is_lost_in_the_overflow(void) /* R3 */
{
    run_owner_and_thieves(CHECK_SCALE(40), 3 * RING_CAP);
}

CHECK_MAIN(CASE(take_and_steal_return_the_oldest),
           CASE(one_at_a_time_is_claimed_without_membarrier),
           CASE(what_the_owner_has_claimed_can_be_wrested),
           CASE(stolen_slots_are_used_again),
           CASE(empty_and_several_tell_the_truth),
           CASE(overflow_keeps_everything_in_order),
           CASE(thieves_empty_the_overflow_in_order),
           CASE(a_push_does_not_overtake_the_overflow),
           CASE(indices_wrap_around),
           CASE(every_element_is_taken_exactly_once),
           CASE(nothing_is_lost_in_the_overflow))
