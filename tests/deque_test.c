/* SPDX-License-Identifier: MIT */
/*
 * deque_test.c - core/deque.c: order, bounds, what is lent, and that no item is lost or doubled.
 *
 * D3 is attacked by one owner and three thieves, once with bursts of items and once with a single
 * item that all of them want, with membarrier and with fences. x86 and qemu reorder too little to show a
 * missing order of PUB; they do show FORCE: without the fence in pop, or in a thief that opens the
 * window, the_contested_last_item_goes_to_one fails.
 */
#include "deque.h"
#include "park.h"
#include "threads.h"

#define THIEVES 3
#define LOOT 8

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

/* Pops the newest item into *got if it is owed to `owed`. */
static bool pop_like(void *owed, struct work *got)
{
    *got = (struct work){.owed = owed};
    return deque_pop_like(&d, got);
}

/* The number of the popped item; -1: empty. */
static intptr_t pop(void)
{
    struct work item;

    return deque_pop(&d, &item) ? number_of(&item) : -1;
}

static struct park park; /* for its fence */

/* Up to max items, as find.c does for an owner that does not answer. */
static enum steal steal_some(struct work *items, size_t max, size_t *n)
{
    uint64_t asked;
    enum steal s = deque_steal(&d, items, max, n, &asked);

    if (s == STEAL_ASKED) {
        park_fence_all(&park);
        deque_open(&d, asked);
        s = deque_steal(&d, items, max, n, &asked);
    }
    return s;
}

static intptr_t steal(void)
{
    struct work item;
    size_t n;

    return steal_some(&item, 1, &n) == STEAL_OK ? number_of(&item) : -1;
}

static void reset_at(uint64_t index)
{
    memset(&d, 0, sizeof d);
    park_init(&park, 0);
    deque_init(&d, park.asymmetric);
    d.window = index << 16;
    d.bottom = d.full = d.floor = (uint32_t)index;
}

/* What a thief learns that only asks. */
static enum steal ask(size_t *n)
{
    struct work items[DEQUE_CAP];
    uint64_t asked;

    return deque_steal(&d, items, DEQUE_CAP, n, &asked);
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
    size_t n;

    reset_at(0);
    for (int round = 0; round < 3; round++) {
        CHECK(!deque_pop(&d, &item));
        CHECK_EQ(ask(&n), STEAL_EMPTY);
        CHECK(!deque_pop_oldest(&d, &item, 1));
        CHECK(!pop_like(NULL, &item));
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

static void pop_like_takes_only_its_own(void)
{
    int mine, other;
    struct work a = {noop, NULL, &mine, NULL}, b = {noop, NULL, &other, NULL}, got;

    reset_at(0);
    CHECK(deque_push(&d, &b));
    CHECK(deque_push(&d, &a));
    CHECK(!pop_like(&other, &got));
    CHECK(pop_like(&mine, &got));
    CHECK_EQ(got.owed, &mine);
    CHECK(!pop_like(&mine, &got));
    CHECK_EQ(deque_count(&d), 1);
}

/* The slot below the bottom still holds the words of an item that is gone. */
static void pop_like_does_not_take_a_stale_slot(void)
{
    int mine;
    struct work a = {noop, NULL, &mine, NULL}, got;

    reset_at(0);
    CHECK(deque_push(&d, &a));
    CHECK(deque_pop_oldest(&d, &got, 1));
    CHECK(!pop_like(&mine, &got));
    CHECK_EQ(deque_count(&d), 0);
    CHECK_EQ(deque_room(&d), DEQUE_CAP);
}

static void order_is_kept_when_indices_wrap_around(uint64_t start)
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
    order_is_kept_when_indices_wrap_around((UINT64_C(1) << 32) - DEQUE_CAP);
    order_is_kept_when_indices_wrap_around((UINT64_C(1) << 48) - DEQUE_CAP);
}

/* -------------------------------------------------------------------------------- what is lent */

static void push_some(uintptr_t n)
{
    for (uintptr_t i = 0; i < n; i++)
        CHECK(push(i));
}

static void a_pop_answers_with_half_of_the_others(void)
{
    size_t n;

    reset_at(0);
    push_some(9);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    CHECK_EQ(pop(), 8);
    CHECK_EQ(ask(&n), STEAL_OK); /* four of eight were lent, half of those are given */
    CHECK_EQ(n, 2);
    for (intptr_t i = 7; i >= 2; i--)
        CHECK_EQ(pop(), i);
    CHECK_EQ(pop(), -1);
}

static void a_push_answers_when_there_are_many(void)
{
    size_t n;

    reset_at(0);
    push_some(1);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    for (uintptr_t i = 1; i < DEQUE_LEND_AT; i++) {
        CHECK(push(i));
        CHECK_EQ(ask(&n), STEAL_ASKED);
    }
    CHECK(push(DEQUE_LEND_AT));
    CHECK_EQ(ask(&n), STEAL_OK);
    CHECK_EQ(n, DEQUE_LEND_AT / 4);
}

static void the_last_item_is_not_lent(void)
{
    size_t n;

    reset_at(0);
    push_some(1);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    CHECK_EQ(pop(), 0);
    CHECK_EQ(ask(&n), STEAL_EMPTY);
    CHECK_EQ(deque_room(&d), DEQUE_CAP);
}

/* In a long job, say. */
static void an_owner_that_does_not_answer_is_not_waited_for(void)
{
    struct work items[DEQUE_CAP];
    size_t n;

    reset_at(0);
    push_some(8);
    CHECK_EQ(steal_some(items, DEQUE_CAP, &n), STEAL_OK);
    CHECK_EQ(n, 2);
    CHECK_EQ(number_of(&items[1]), 1);
    CHECK_EQ(steal(), 2);
    CHECK_EQ(deque_count(&d), 5);
}

static void a_thief_takes_no_more_than_it_wants(void)
{
    struct work items[3];
    size_t n;

    reset_at(0);
    push_some(100);
    CHECK_EQ(steal_some(items, 3, &n), STEAL_OK);
    CHECK_EQ(n, 3);
    CHECK_EQ(number_of(&items[2]), 2);
    CHECK_EQ(pop(), 99);
}

static void what_was_lent_is_taken_back(void)
{
    size_t n;

    reset_at(5);
    push_some(DEQUE_CAP);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    for (intptr_t i = DEQUE_CAP - 1; i >= 0; i--) {
        CHECK_EQ(deque_count(&d), i + 1);
        CHECK_EQ(pop(), i);
    }
    CHECK_EQ(deque_room(&d), DEQUE_CAP);
    push_some(DEQUE_CAP);
    CHECK(!push(0));
}

static void several_of_the_oldest_may_be_popped(void)
{
    struct work item[8];
    size_t n;

    reset_at(0);
    push_some(6);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    deque_answer(&d); /* three are lent */
    CHECK_EQ(deque_pop_oldest(&d, item, 4), 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(number_of(&item[i]), i);
    CHECK_EQ(ask(&n), STEAL_ASKED); /* none is lent any more */
    CHECK_EQ(deque_pop_oldest(&d, item, 8), 2);
    CHECK(number_of(&item[0]) == 4 && number_of(&item[1]) == 5);
    CHECK_EQ(deque_pop_oldest(&d, item, 8), 0);
    CHECK_EQ(pop(), -1);
}

static void the_oldest_may_be_popped_lent_or_not(void)
{
    struct work item;
    size_t n;

    reset_at(0);
    push_some(6);
    CHECK(deque_pop_oldest(&d, &item, 1) && number_of(&item) == 0);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    CHECK(deque_pop_oldest(&d, &item, 1) && number_of(&item) == 1);
    CHECK_EQ(ask(&n), STEAL_ASKED);
    CHECK_EQ(pop(), 5);
    CHECK(deque_pop_oldest(&d, &item, 1) && number_of(&item) == 2);
    CHECK_EQ(pop(), 4);
    CHECK_EQ(pop(), 3);
    CHECK_EQ(pop(), -1);
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
    struct work item[LOOT];
    unsigned turns = 0;
    size_t n;

    while (!atomic_load_explicit(&over, memory_order_acquire) || !deque_empty(&d)) {
        if (steal_some(item, LOOT, &n) != STEAL_OK) {
            spin_pause(&turns);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            book(number_of(&item[i]));
        atomic_fetch_add_explicit(&stolen, n, memory_order_relaxed);
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

static void run_owner_and_thieves(size_t items, uint64_t most, bool asymmetric)
{
    struct threads thieves = {.count = 0};
    size_t wrong = 0;

    reset_at(DEQUE_CAP - 5);
    if (!asymmetric)
        d.asymmetric = park.asymmetric = false;
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
    run_owner_and_thieves(CHECK_SCALE(4000000), 64, true);
    run_owner_and_thieves(CHECK_SCALE(4000000), 64, false);
}

static void the_contested_last_item_goes_to_one(void) /* D3, FORCE */
{
    run_owner_and_thieves(CHECK_SCALE(2000000), 1, true);
    run_owner_and_thieves(CHECK_SCALE(2000000), 1, false);
}

static void a_full_deque_loses_nothing_to_thieves(void) /* D3, REUSE */
{
    run_owner_and_thieves(CHECK_SCALE(4000000), 3 * DEQUE_CAP, true);
}

CHECK_MAIN(CASE(pop_returns_the_newest_item),
           CASE(steal_returns_the_oldest_item),
           CASE(an_empty_deque_gives_nothing),
           CASE(push_fails_when_full_and_loses_nothing),
           CASE(room_and_count_add_up_to_the_capacity),
           CASE(pop_like_takes_only_its_own),
           CASE(pop_like_does_not_take_a_stale_slot),
           CASE(slots_are_reused_in_order),
           CASE(a_pop_answers_with_half_of_the_others),
           CASE(a_push_answers_when_there_are_many),
           CASE(the_last_item_is_not_lent),
           CASE(an_owner_that_does_not_answer_is_not_waited_for),
           CASE(a_thief_takes_no_more_than_it_wants),
           CASE(what_was_lent_is_taken_back),
           CASE(the_oldest_may_be_popped_lent_or_not), CASE(several_of_the_oldest_may_be_popped),
           CASE(every_item_is_taken_exactly_once),
           CASE(the_contested_last_item_goes_to_one),
           CASE(a_full_deque_loses_nothing_to_thieves))
