/* SPDX-License-Identifier: MIT */
/*
 * deque.c - explores core/deque.c: D3, each pushed item is returned by exactly one pop or steal, and
 * what was written before its push is seen behind it (PUB).
 */
#include "deque.h"

#include <string.h>

#include "explore.h"

#define ITEMS 5

static struct deque d;
static int payload[ITEMS];                     /* what an item points to: ITEM written before the push */
static int got[1 + EXPLORE_THREADS][ITEMS];    /* by thread: how often it has taken each item */
static bool pushed[ITEMS];                     /* by the owner */
static char debt[ITEMS];                       /* owed words to tell items by */

static void nothing(void *arg)
{
    (void)arg;
}

static struct work item(int i)
{
    return (struct work){nothing, &payload[i], &debt[i], NULL};
}

static void push(int i)
{
    struct work w = item(i);

    payload[i] = i + 1;
    MUST(deque_push(&d, &w));
    pushed[i] = true;
}

/* An item that a pop or a steal returned: whole, and filled. */
static void took(int thread, const struct work *w)
{
    int i = (int)((int *)w->arg - payload);

    MUST(i >= 0 && i < ITEMS);
    MUST(w->fn == nothing && w->owed == &debt[i]);
    MUST(payload[i] == i + 1);
    payload[i] = i + 1; /* it is the taker's now */
    got[thread][i]++;
}

static bool pop(void)
{
    struct work w;

    if (!deque_pop(&d, &w))
        return false;
    took(1, &w);
    return true;
}

static enum steal steal(int thread)
{
    struct work w;
    enum steal result = deque_steal(&d, &w);

    if (result == STEAL_OK)
        took(thread, &w);
    return result;
}

static void steal_2(void)
{
    steal(2);
}

static void steal_3(void)
{
    steal(3);
}

static void steal_twice_2(void)
{
    steal(2);
    steal(2);
}

static void setup_empty(void)
{
    memset(got, 0, sizeof got);
    memset(payload, 0, sizeof payload);
    memset(pushed, 0, sizeof pushed);
    d.top_seen = 0;
}

static void setup_one(void)
{
    setup_empty();
    push(0);
}

static void setup_two(void)
{
    setup_one();
    push(1);
}

/* What is left is popped; then each item has been taken once. */
static void check_exactly_once(void)
{
    while (pop())
        ;
    MUST(deque_empty(&d) && deque_count(&d) == 0);
    for (int i = 0; i < ITEMS; i++)
        MUST(got[1][i] + got[2][i] + got[3][i] == pushed[i]);
}

/* ------------------------------------------------------------------------------------- the owner */

static void pop_once(void)
{
    pop();
}

static void push_push_pop_pop(void)
{
    push(0);
    push(1);
    pop();
    pop();
}

/* The owner's second pop meets the last item; what it pushes then is behind the bottom of a pop. */
static void pop_push_pop_push(void)
{
    pop();
    push(2);
    pop();
    push(3);
}

/* Empty, and known to be: a pop finds nothing only if all has been taken. */
static void push_pop_until_empty(void)
{
    push(0);
    while (pop())
        ;
    MUST(deque_empty(&d));
    push(1);
}

static void pop_only_what_is_owed(void)
{
    struct work w;

    push(0);
    push(1);
    MUST(!deque_pop_owed(&d, &debt[0], NULL, &w));
    if (deque_pop_owed(&d, &debt[1], NULL, &w)) {
        MUST(w.arg == &payload[1]);
        took(1, &w);
    }
    if (deque_pop_owed(&d, &debt[0], NULL, &w)) {
        MUST(w.arg == &payload[0]);
        took(1, &w);
    }
}

static void push_many(void)
{
    struct work first = item(0);

    first.owed = NULL;
    for (int i = 0; i < 2; i++) {
        payload[i] = i + 1;
        pushed[i] = true;
    }
    MUST(deque_room(&d) >= 2);
    deque_push_many(&d, &first, sizeof payload[0], 2);
    MUST(deque_count(&d) <= 2);
}

/* ---------------------------------------------------------------------------- items without debts */

static void took_of_many(int thread, const struct work *w)
{
    struct work whole = *w;
    int i = (int)((int *)w->arg - payload);

    MUST(i >= 0 && i < ITEMS && !w->owed);
    whole.owed = &debt[i];
    took(thread, &whole);
}

static void steal_of_many(int thread)
{
    struct work w;

    if (deque_steal(&d, &w) == STEAL_OK)
        took_of_many(thread, &w);
}

static void steal_of_many_2(void)
{
    steal_of_many(2);
    steal_of_many(2);
}

static void steal_of_many_3(void)
{
    steal_of_many(3);
}

static void check_many(void)
{
    struct work w;

    while (deque_pop(&d, &w))
        took_of_many(1, &w);
    check_exactly_once();
}

/* ------------------------------------------------------------------------------------ a full deque */

#define OLD 3 /* items that are in it already */

/* Full but for one; the oldest are items 0 to OLD - 1, the rest are strangers that nobody reaches. */
static void setup_full(void)
{
    setup_empty();
    for (int i = 0; i < OLD; i++) {
        payload[i] = i + 1;
        memcpy(&d.slot[i], &(struct work){nothing, &payload[i], &debt[i], NULL}, sizeof(struct work));
    }
    atomic_store_explicit(&d.top, 0, memory_order_relaxed);
    atomic_store_explicit(&d.bottom, DEQUE_CAP - 1, memory_order_relaxed);
}

/* The first of these fits; the other only behind a thief, into the slot that it has emptied. */
static void push_into_full(void)
{
    struct work w = item(OLD + 1);

    push(OLD);
    payload[OLD + 1] = OLD + 2;
    pushed[OLD + 1] = deque_push(&d, &w);
}

static void check_full(void)
{
    int64_t top = atomic_load_explicit(&d.top, memory_order_relaxed);
    int64_t bottom = atomic_load_explicit(&d.bottom, memory_order_relaxed);
    struct work w;

    MUST(bottom - top <= DEQUE_CAP && bottom == DEQUE_CAP + pushed[OLD + 1]);
    for (int i = 0; i < OLD; i++)
        MUST(got[2][i] + got[3][i] == (i < top));
    for (int i = OLD + pushed[OLD + 1]; i >= OLD; i--)
        MUST(deque_pop(&d, &w) && w.arg == &payload[i]);
    memset(d.slot, 0, OLD * sizeof d.slot[0]);
}

EXPLORE_MAIN(
    {.name = "one_item_has_one_taker", setup_one, {pop_once, steal_2, steal_3}, check_exactly_once},
    {.name = "pushed_and_popped_under_a_thief", setup_empty, {push_push_pop_pop, steal_twice_2},
     check_exactly_once},
    {.name = "two_items_two_thieves", setup_two, {pop_once, steal_2, steal_3}, check_exactly_once},
    {.name = "pushed_and_popped_under_two_thieves", setup_empty,
     {push_push_pop_pop, steal_2, steal_3}, check_exactly_once},
    {.name = "an_item_behind_a_pop_is_seen_whole", setup_one, {pop_push_pop_push, steal_twice_2},
     check_exactly_once},
    {.name = "empty_is_true_for_the_owner", setup_empty, {push_pop_until_empty, steal_2, steal_3},
     check_exactly_once},
    {.name = "only_what_is_owed_is_popped", setup_empty, {pop_only_what_is_owed, steal_2, steal_3},
     check_exactly_once},
    {.name = "many_are_pushed_in_one_step", setup_empty,
     {push_many, steal_of_many_2, steal_of_many_3}, check_many},
    {.name = "a_full_deque_reuses_stolen_slots", setup_full,
     {push_into_full, steal_twice_2, steal_3}, check_full})
