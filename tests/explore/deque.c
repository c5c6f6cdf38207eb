/* SPDX-License-Identifier: MIT */
/*
 * deque.c - explores core/deque.c: D3, each pushed item is returned by exactly one pop or steal, and
 * what was written before its push is seen behind it (PUB).
 */
#include "deque.h"

#include <linux/membarrier.h>
#include <string.h>

#include "explore.h"

#define ITEMS 8

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

static void fence_all(void)
{
    if (!d.asymmetric)
        fence_full();
    else
        MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
}

/* As find.c does for an owner that does not answer. */
static enum steal steal_some(struct work *loot, size_t max, size_t *n)
{
    uint64_t asked;
    enum steal s = deque_steal(&d, loot, max, n, &asked);

    if (s == STEAL_ASKED) {
        fence_all();
        deque_open(&d, asked);
        s = deque_steal(&d, loot, max, n, &asked);
    }
    return s;
}

static void steal(int thread, size_t max)
{
    struct work loot[ITEMS];
    size_t n;

    if (steal_some(loot, max, &n) != STEAL_OK)
        return;
    MUST(n >= 1 && n <= max);
    for (size_t i = 0; i < n; i++)
        took(thread, &loot[i]);
}

static void steal_2(void)
{
    steal(2, 1);
}

static void steal_3(void)
{
    steal(3, 1);
}

static void steal_twice_2(void)
{
    steal(2, 1);
    steal(2, 1);
}

static void steal_some_2(void)
{
    steal(2, ITEMS);
}

/* Asks only, and takes what is lent. */
static void ask_3(void)
{
    struct work w;
    uint64_t asked;
    size_t n;

    if (deque_steal(&d, &w, 1, &n, &asked) == STEAL_OK)
        took(3, &w);
}

static void setup_empty(void)
{
    memset(got, 0, sizeof got);
    memset(payload, 0, sizeof payload);
    memset(pushed, 0, sizeof pushed);
    deque_init(&d, syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
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

/* When it last popped somebody had asked: it has pushed so many since that bottom is to come to that floor. */
static void setup_floor_ahead(void)
{
    setup_empty();
    d.floor = 2;
}

/* Somebody has asked. */
static void ask(void)
{
    struct work w;
    uint64_t asked;
    size_t n;

    MUST(deque_steal(&d, &w, 1, &n, &asked) == STEAL_ASKED);
}

static void setup_two_asked(void)
{
    setup_two();
    ask();
}

/* Six, of which three are lent. */
static void setup_lent(void)
{
    setup_empty();
    for (int i = 0; i < 6; i++)
        push(i);
    ask();
    deque_answer(&d);
}

/* Three, all lent, and so is what is left of them after each pop. */
static void setup_all_lent(void)
{
    setup_empty();
    for (int i = 0; i < 3; i++)
        push(i);
    deque_lend_all(&d);
}

/* What is left is popped; then each item has been taken once. */
static void check_exactly_once(void)
{
    while (pop())
        ;
    MUST(deque_empty(&d) && deque_count(&d) == 0 && deque_room(&d) == DEQUE_CAP);
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

static void pop_push_pop_push_again(void)
{
    pop();
    push(3);
    pop();
    push(4);
}

/* Down to what is lent, takes that back, and lends again what has come into its place. */
static void pop_four_push_two_lend(void)
{
    for (int i = 0; i < 4; i++)
        pop();
    push(6);
    push(7);
    deque_answer(&d);
}

static void pop_oldest_pop_push(void)
{
    struct work w;

    if (deque_pop_oldest(&d, &w, 1))
        took(1, &w);
    pop();
    push(2);
}

static void pop_two_oldest_pop_push(void)
{
    struct work w[2];
    size_t n = deque_pop_oldest(&d, w, 2);

    for (size_t i = 0; i < n; i++)
        took(1, &w[i]);
    pop();
    push(6);
}

static void answer_pop_pop(void)
{
    deque_answer(&d);
    pop();
    pop();
}

/* Empty, and known to be: a pop finds nothing only if all has been taken. */
/* The second time somebody may have asked, or all may have gone. */
static void lend_all_pop_push_lend_all_pop(void)
{
    deque_lend_all(&d);
    pop();
    push(2);
    deque_lend_all(&d);
    pop();
}

static void push_pop_until_empty(void)
{
    push(0);
    while (pop())
        ;
    MUST(deque_empty(&d));
    push(1);
}

static bool pop_like(void *owed, struct work *w)
{
    *w = (struct work){.owed = owed};
    return deque_pop_like(&d, w);
}

static void pop_only_what_is_owed(void)
{
    struct work w;

    push(0);
    push(1);
    MUST(!pop_like(&debt[0], &w));
    if (pop_like(&debt[1], &w)) {
        MUST(w.arg == &payload[1]);
        took(1, &w);
    }
    if (pop_like(&debt[0], &w)) {
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
    size_t n;

    if (steal_some(&w, 1, &n) == STEAL_OK)
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
    atomic_store_explicit(&d.window, 0, memory_order_relaxed);
    atomic_store_explicit(&d.bottom, DEQUE_CAP - 1, memory_order_relaxed);
    d.full = DEQUE_CAP - 1;
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
    unsigned count = deque_count(&d);
    int stolen = DEQUE_CAP + pushed[OLD + 1] - (int)count;
    struct work w;

    MUST(count <= DEQUE_CAP && deque_room(&d) == DEQUE_CAP - count);
    for (int i = 0; i < OLD; i++)
        MUST(got[2][i] + got[3][i] == (i < stolen));
    for (int i = OLD + pushed[OLD + 1]; i >= OLD; i--)
        MUST(deque_pop(&d, &w) && w.arg == &payload[i]);
    memset(d.slot, 0, OLD * sizeof d.slot[0]);
}

/* With membarrier and, as .fence, without it. */
#define BOTH(text, ...)         \
    {.name = text, __VA_ARGS__}, \
    {.name = text ".fence", __VA_ARGS__, .no_membarrier = true}

EXPLORE_MAIN(
    BOTH("one_item_has_one_taker", setup_one, {pop_once, steal_2, steal_3}, check_exactly_once),
    BOTH("pushed_and_popped_under_a_thief", setup_empty, {push_push_pop_pop, steal_twice_2},
         check_exactly_once),
    BOTH("a_pop_at_the_floor_is_seen_whole", setup_floor_ahead, {push_push_pop_pop, steal_twice_2},
         check_exactly_once),
    BOTH("two_items_two_thieves", setup_two, {pop_once, steal_2, steal_3}, check_exactly_once),
    BOTH("pushed_and_popped_under_two_thieves", setup_empty,
         {push_push_pop_pop, steal_2, steal_3}, check_exactly_once),
    BOTH("an_item_behind_a_pop_is_seen_whole", setup_one, {pop_push_pop_push, steal_twice_2},
         check_exactly_once),
    BOTH("empty_is_true_for_the_owner", setup_empty, {push_pop_until_empty, steal_2, steal_3},
         check_exactly_once),
    BOTH("an_answer_meets_an_opener", setup_two_asked, {answer_pop_pop, steal_2, ask_3},
         check_exactly_once),
    BOTH("a_pop_meets_an_opener", setup_two_asked, {pop_push_pop_push, steal_2},
         check_exactly_once),
    BOTH("what_is_taken_back_is_not_stolen", setup_lent,
         {pop_four_push_two_lend, steal_some_2, ask_3}, check_exactly_once),
    BOTH("all_that_is_lent_has_one_taker", setup_all_lent, {pop_push_pop_push_again, steal_some_2, ask_3}, check_exactly_once),
    BOTH("all_is_lent_under_thieves", setup_two, {lend_all_pop_push_lend_all_pop, steal_2, ask_3}, check_exactly_once),
    BOTH("the_oldest_has_one_taker", setup_two, {pop_oldest_pop_push, steal_2, steal_3},
         check_exactly_once),
    BOTH("several_of_the_oldest_have_one_taker", setup_lent, {pop_two_oldest_pop_push, steal_some_2, ask_3},
         check_exactly_once),
    BOTH("only_what_is_owed_is_popped", setup_empty, {pop_only_what_is_owed, steal_2, steal_3},
         check_exactly_once),
    BOTH("many_are_pushed_in_one_step", setup_empty,
         {push_many, steal_of_many_2, steal_of_many_3}, check_many),
    BOTH("a_full_deque_reuses_stolen_slots", setup_full,
         {push_into_full, steal_twice_2, steal_3}, check_full))
