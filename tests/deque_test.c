/* SPDX-License-Identifier: MIT */
/*
 * deque_test.c - core/deque.c: order, bounds, and that no item is lost or doubled.
 *
 * D3 is attacked by one owner and three thieves, once with bursts of items and once with a single
 * item that all of them want. x86 and qemu reorder too little to show a missing fence of PUB; they
 * do show LAST: without the fence in pop, or with a pop that takes the last item without the CAS,
 * the_contested_last_item_goes_to_one fails.
 */
#include "deque.h"
#include "threads.h"

#define THIEVES 3

static struct deque d;

static void noop(void *arg)
{
    (void)arg;
}

/* Item number i, in each of its four words. */
static struct work item_of(uintptr_t i)
{
    return (struct work){(coir_fn *)(i + 1), (void *)(i ^ 0x5555), (void *)~i, (void *)(i * 3)};
}

/* The number, or -1 if the words are of different items. */
static intptr_t number_of(const struct work *item)
{
    uintptr_t i = (uintptr_t)item->fn - 1;

    return (uintptr_t)item->arg == (i ^ 0x5555) && (uintptr_t)item->owed == ~i &&
                   (uintptr_t)item->scope == i * 3
               ? (intptr_t)i
               : -1;
}

static bool push(uintptr_t i)
{
    struct work item = item_of(i);

    return deque_push(&d, &item);
}

/* The number of the popped item; -1: empty. */
static intptr_t pop(void)
{
    struct work item;

    return deque_pop(&d, &item) ? number_of(&item) : -1;
}

static intptr_t steal(void)
{
    struct work item;

    return deque_steal(&d, &item) == STEAL_OK ? number_of(&item) : -1;
}

static void reset_at(int64_t index)
{
    memset(&d, 0, sizeof d);
    d.top = d.bottom = d.top_seen = index;
}

/* ---------------------------------------------------------------------------------- one thread */

static void pop_returns_the_newest_item(void)
{
    reset_at(0);
    for (uintptr_t i = 0; i < 100; i++)
        CHECK(push(i));
    for (intptr_t i = 99; i >= 0; i--)
        CHECK_EQ(pop(), i);
}

static void steal_returns_the_oldest_item(void)
{
    reset_at(0);
    for (uintptr_t i = 0; i < 100; i++)
        CHECK(push(i));
    for (intptr_t i = 0; i < 100; i++)
        CHECK_EQ(steal(), i);
}

static void an_empty_deque_gives_nothing(void)
{
    struct work item;

    reset_at(0);
    for (int round = 0; round < 3; round++) {
        CHECK(!deque_pop(&d, &item));
        CHECK_EQ(deque_steal(&d, &item), STEAL_EMPTY);
        CHECK(!deque_pop_owed(&d, NULL, NULL, &item));
        CHECK(deque_empty(&d));
        CHECK_EQ(deque_count(&d), 0);
        CHECK_EQ(deque_room(&d), DEQUE_CAP);
        CHECK(push(7));
        CHECK(!deque_empty(&d));
        CHECK_EQ(pop(), 7);
    }
}

static void push_fails_when_full_and_loses_nothing(void)
{
    reset_at(0);
    for (uintptr_t i = 0; i < DEQUE_CAP; i++)
        CHECK(push(i));
    CHECK(!push(DEQUE_CAP));
    CHECK_EQ(deque_room(&d), 0);
    CHECK_EQ(deque_count(&d), DEQUE_CAP);
    CHECK_EQ(steal(), 0);
    CHECK(push(DEQUE_CAP));
    CHECK(!push(DEQUE_CAP + 1));
    for (intptr_t i = DEQUE_CAP; i >= 1; i--)
        CHECK_EQ(pop(), i);
    CHECK_EQ(pop(), -1);
}

static void room_and_count_add_up_to_the_capacity(void)
{
    reset_at(0);
    for (uintptr_t i = 0; i < 1000; i++) {
        CHECK_EQ(deque_count(&d), i);
        CHECK_EQ(deque_room(&d), DEQUE_CAP - i);
        CHECK(push(i));
    }
}

static void pop_owed_takes_only_its_own(void)
{
    int mine, other;
    struct work a = {noop, NULL, &mine, NULL}, b = {noop, NULL, &other, NULL}, got;

    reset_at(0);
    CHECK(deque_push(&d, &b));
    CHECK(deque_push(&d, &a));
    CHECK(!deque_pop_owed(&d, &other, NULL, &got));
    CHECK(deque_pop_owed(&d, &mine, NULL, &got));
    CHECK_EQ(got.owed, &mine);
    CHECK(!deque_pop_owed(&d, &mine, NULL, &got));
    CHECK_EQ(deque_count(&d), 1);
}

/* The slot below the bottom still holds the words of an item that is gone. */
static void pop_owed_does_not_take_a_stale_slot(void)
{
    int mine;
    struct work a = {noop, NULL, &mine, NULL}, got;

    reset_at(0);
    CHECK(deque_push(&d, &a));
    CHECK_EQ(deque_steal(&d, &got), STEAL_OK);
    CHECK(!deque_pop_owed(&d, &mine, NULL, &got));
    CHECK_EQ(deque_count(&d), 0);
    CHECK_EQ(deque_room(&d), DEQUE_CAP);
}

static void order_is_kept_when_indices_wrap_around(int64_t start)
{
    uintptr_t next = 0, oldest = 0;

    reset_at(start);
    for (int round = 0; round < 5 * DEQUE_CAP; round++) {
        CHECK(push(next++));
        CHECK(push(next++));
        CHECK_EQ(pop(), next - 1);
        next--;
        if (round >= DEQUE_CAP / 2)
            CHECK_EQ(steal(), oldest++);
    }
    CHECK_EQ(deque_count(&d), DEQUE_CAP / 2);
    while (next > oldest)
        CHECK_EQ(pop(), --next);
    CHECK(deque_empty(&d));
}

static void slots_are_reused_in_order(void)
{
    order_is_kept_when_indices_wrap_around(0);
    order_is_kept_when_indices_wrap_around(DEQUE_CAP - 1);
    order_is_kept_when_indices_wrap_around(INT64_C(1) << 40);
}

/* -------------------------------------------------------------------------------- many threads */

static _Atomic bool over;       /* the owner pushes no more */
static _Atomic uint8_t *taken;  /* times each item was returned */
static _Atomic uint64_t stolen;
static uintptr_t pushed;        /* the owner's */

static void book(intptr_t i)
{
    if (CHECK(i >= 0)) /* all words of one item */
        atomic_fetch_add_explicit(&taken[i], 1, memory_order_relaxed);
}

static void *steal_until_over(void *unused)
{
    struct work item;
    unsigned turns = 0;

    while (!atomic_load_explicit(&over, memory_order_acquire) || !deque_empty(&d)) {
        if (deque_steal(&d, &item) == STEAL_OK) {
            book(number_of(&item));
            atomic_fetch_add_explicit(&stolen, 1, memory_order_relaxed);
        } else {
            spin_pause(&turns);
        }
    }
    return unused;
}

/* The owner: pushes bursts of up to `most` items and pops as many; the last ones it leaves. */
static void push_and_pop(size_t items, uint64_t most)
{
    uint64_t seed = 42;
    intptr_t i;

    while (pushed < items) {
        uint64_t burst = random_next(&seed) % most + 1;

        while (burst-- > 0 && pushed < items && push(pushed))
            pushed++;
        if (pushed == items)
            return;
        if (random_next(&seed) % 4 == 0)
            continue;
        for (burst = random_next(&seed) % most + 1; burst > 0 && (i = pop()) >= 0; burst--)
            book(i);
    }
}

static void run_owner_and_thieves(size_t items, uint64_t most)
{
    struct threads thieves = {.count = 0};
    size_t wrong = 0;

    reset_at(DEQUE_CAP - 5);
    taken = calloc(items, 1);
    pushed = 0;
    stolen = 0;
    over = false;
    for (int i = 0; i < THIEVES; i++)
        threads_add(&thieves, steal_until_over, NULL);
    push_and_pop(items, most);
    atomic_store_explicit(&over, true, memory_order_release);
    threads_join(&thieves);
    for (size_t i = 0; i < items; i++)
        wrong += taken[i] != 1;
    CHECK_EQ(wrong, 0);
    CHECK(stolen > 0); /* else nothing was contested */
    free((void *)taken);
}

static void every_item_is_taken_exactly_once(void) /* D3 */
{
    run_owner_and_thieves(CHECK_SCALE(8000000), 64);
}

static void the_contested_last_item_goes_to_one(void) /* D3, LAST */
{
    run_owner_and_thieves(CHECK_SCALE(4000000), 1);
}

static void a_full_deque_loses_nothing_to_thieves(void) /* D3, REUSE */
{
    run_owner_and_thieves(CHECK_SCALE(4000000), 3 * DEQUE_CAP);
}

CHECK_MAIN(CASE(pop_returns_the_newest_item),
           CASE(steal_returns_the_oldest_item),
           CASE(an_empty_deque_gives_nothing),
           CASE(push_fails_when_full_and_loses_nothing),
           CASE(room_and_count_add_up_to_the_capacity),
           CASE(pop_owed_takes_only_its_own),
           CASE(pop_owed_does_not_take_a_stale_slot),
           CASE(slots_are_reused_in_order),
           CASE(every_item_is_taken_exactly_once),
           CASE(the_contested_last_item_goes_to_one),
           CASE(a_full_deque_loses_nothing_to_thieves))
