/* SPDX-License-Identifier: MIT */
/*
 * ring.c - explores core/ring.c: R3, each element is taken exactly once, with what was written
 * before its push (FILL); R2, in the order of the pushes, but for what is wrested; overflow goes to the
 * list and comes back. Wresting with membarrier and, as .fence, without it.
 */
#include "ring.h"

#include <linux/membarrier.h>
#include <string.h>

#include "explore.h"

#define ELEMENTS 6
#define OLD 3 /* elements that a full ring begins with */

struct element {
    struct link link; /* first */
    int payload;
};

static struct ring r;
static struct element element[ELEMENTS];
static int takes[1 + EXPLORE_THREADS];                  /* by thread: how many it has taken */
static int taken[1 + EXPLORE_THREADS][ELEMENTS];        /* and which, in order */
static int pushed;

static void push(int i)
{
    element[i].payload = i + 1;
    ring_push(&r, &element[i].link);
    pushed = i + 1;
}

static bool took(int thread, struct link *link)
{
    struct element *e = (struct element *)(void *)link;

    if (!e)
        return false;
    MUST(e >= element && e < element + ELEMENTS);
    MUST(e->payload == (int)(e - element) + 1);
    e->payload = 0; /* it is the taker's now */
    taken[thread][takes[thread]++] = (int)(e - element);
    return true;
}

static bool take(void)
{
    return took(1, ring_take(&r));
}

static bool steal(int thread)
{
    return took(thread, ring_steal(&r));
}

static void fence(const void *unused)
{
    (void)unused;
    if (r.claim_max > 1)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    else
        fence_full();
}

static void wrest_2(void)
{
    took(2, ring_wrest(&r, fence, NULL));
}

static void wrest_3(void)
{
    took(3, ring_wrest(&r, fence, NULL));
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

static void reset(void)
{
    memset(takes, 0, sizeof takes);
    memset(element, 0, sizeof element);
    memset(&r.over, 0, sizeof r.over);
    r.claimed = r.room = r.clear = 0;
    pushed = 0;
    ring_init(&r, syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
}

static void setup_two(void)
{
    reset();
    push(0);
    push(1);
}

/* The old ones may be taken, the first by the owner, who has claimed it; behind them only one has room in
 * the ring. */
static void setup_full(void)
{
    reset();
    for (int i = 0; i < OLD; i++) {
        struct link *e = &element[i].link;

        element[i].payload = i + 1;
        memcpy(&r.slot[i], &e, sizeof e);
    }
    pushed = OLD;
    r.claimed = 1;
    atomic_store_explicit(&r.kept, 1, memory_order_relaxed);
    atomic_store_explicit(&r.head, 1, memory_order_relaxed);
    atomic_store_explicit(&r.tail, RING_CAP - 1, memory_order_relaxed);
    r.room = RING_CAP;
}

/* Each has been taken once, by each thread in the order of the pushes. */
static void check_taken(int from)
{
    int count[ELEMENTS] = {0};

    for (int t = 1; t <= EXPLORE_THREADS; t++)
        for (int i = 0; i < takes[t]; i++) {
            count[taken[t][i]]++;
            MUST(i == 0 || taken[t][i] > taken[t][i - 1]);
        }
    for (int i = 0; i < from; i++)
        MUST(count[i] <= 1);
    for (int i = from; i < ELEMENTS; i++)
        MUST(count[i] == (i < pushed));
}

static void check_exactly_once(void)
{
    while (take())
        ;
    MUST(ring_empty(&r) && ring_count(&r) == 0);
    check_taken(0);
}

static void push_two_take_one(void)
{
    push(2);
    take();
    push(3);
}

static void push_take_until_empty(void)
{
    push(2);
    while (take())
        ;
    MUST(ring_empty(&r));
    push(3);
}

/* ------------------------------------------------------------------------------------- overflow */

/* One finds room; the others go to the list, or into a slot that a thief has emptied. */
static void push_past_the_end(void)
{
    push(3);
    push(4);
    push(5);
}

static void push_past_the_end_and_take(void)
{
    push(3);
    push(4);
    take();
    push(5);
}

/* The last goes where a thief has taken the second of the old ones, or to the list. */
static void take_and_push_past_the_end(void)
{
    take();
    push(3);
    push(4);
    push(5);
}

/* Past the strangers, which nobody has reached, what was pushed follows in order. */
static void check_full(void)
{
    int64_t head = atomic_load_explicit(&r.head, memory_order_relaxed);
    int64_t tail = atomic_load_explicit(&r.tail, memory_order_relaxed);

    MUST(head - ring_kept(&r) == takes[1] + takes[2] + takes[3] && tail <= head + RING_CAP);
    MUST((size_t)(RING_CAP + pushed - OLD - 1 - tail) == r.over.count);
    for (int64_t i = head; i < OLD; i++)
        MUST(element[i].payload == i + 1);
    if (ring_kept(&r))
        MUST(take());
    atomic_store_explicit(&r.head, RING_CAP - 1, memory_order_relaxed);
    atomic_store_explicit(&r.next, RING_CAP - 1, memory_order_relaxed);
    while (take())
        ;
    MUST(ring_empty(&r));
    check_taken(OLD);
}

/* --------------------------------------------------------------------------- nothing but the list */

/* The ring is empty and the list is not: who takes, takes from the list; the owner refills. */
static void setup_list(void)
{
    reset();
    for (int i = 0; i < 3; i++) {
        element[i].payload = i + 1;
        list_push(&r.over, &element[i].link);
    }
    pushed = 3;
    atomic_store_explicit(&r.over_count, 3, memory_order_relaxed);
}

static void take_and_push(void)
{
    take();
    push(3);
}

/* ---------------------------------------------------------------------------------- what is claimed */

/* One is there, and claimed. */
static void setup_one_claimed(void)
{
    reset();
    for (int i = 0; i < 3; i++)
        push(i);
    MUST(take() && took(1, ring_steal(&r)));
}

/* It looks elsewhere when somebody wrests what it would take: that may come back. What is clear stays so, until
 * it pushes something. */
static void leave_and_push(void)
{
    int64_t i;
    bool clear;

    if (ring_take_claimed(&r, &i))
        took(1, ring_at(&r, i));
    clear = ring_is_clear(&r) && r.clear == atomic_load_explicit(&r.tail, memory_order_relaxed);
    MUST(!clear || (ring_is_clear(&r) && !take()));
    push(3);
    MUST(!clear || !ring_is_clear(&r) || !take());
}

/* Of four the owner has claimed two, and taken the first. */
static void setup_claimed(void)
{
    reset();
    for (int i = 0; i < 4; i++)
        push(i);
    MUST(take());
}

static void take_three(void)
{
    take();
    take();
    take();
}

static void take_push_take(void)
{
    take();
    push(4);
    take();
    push(5);
}

static void check_each_once(void)
{
    int count[ELEMENTS] = {0};

    while (take())
        ;
    MUST(ring_empty(&r) && ring_count(&r) == 0);
    for (int t = 1; t <= EXPLORE_THREADS; t++)
        for (int i = 0; i < takes[t]; i++)
            count[taken[t][i]]++;
    for (int i = 0; i < ELEMENTS; i++)
        MUST(count[i] == (i < pushed));
}

static void push_three_take_one(void)
{
    push(0);
    push(1);
    push(2);
    take();
}

/* SLEEP, for find_ready_slowly: whoever goes to sleep sees what the owner moves from the list, or is seen. */
static _Atomic int sleeping;
static int sees_nothing, notified;

static void setup_list_and_sleeper(void)
{
    setup_list();
    atomic_store_explicit(&sleeping, 0, memory_order_relaxed);
    sees_nothing = notified = 0;
}

static void take_and_notify(void)
{
    take();
    if (ring_kept(&r) || !ring_empty(&r))
        notified = atomic_load_explicit(&sleeping, memory_order_relaxed);
}

static void go_to_sleep(void)
{
    atomic_store_explicit(&sleeping, 1, memory_order_relaxed);
    fence(NULL);
    sees_nothing = ring_empty(&r);
}

static void check_seen(void)
{
    MUST(!sees_nothing || notified || ring_empty(&r));
}

#define WRESTING(text, ...) \
    {.name = text, __VA_ARGS__}, \
    {.name = text ".fence", __VA_ARGS__, .no_membarrier = true}

EXPLORE_MAIN(
    WRESTING("claims_are_taken_or_wrested", setup_claimed, {take_three, wrest_2, wrest_3}, check_each_once),
    WRESTING("claims_are_renewed_beside_thieves", setup_claimed, {take_push_take, wrest_2, steal_3},
             check_each_once),
    WRESTING("what_is_wrested_is_whole", reset, {push_three_take_one, wrest_2, wrest_3}, check_each_once),
    WRESTING("clear_stays_so", setup_one_claimed, {leave_and_push, wrest_2, steal_3}, check_each_once),
    {.name = "each_is_taken_once", setup_two, {push_two_take_one, steal_2, steal_3},
     check_exactly_once},
    {.name = "a_thief_takes_in_order", setup_two, {push_two_take_one, steal_twice_2},
     check_exactly_once},
    {.name = "empty_is_true_for_the_owner", setup_two, {push_take_until_empty, steal_2, steal_3},
     check_exactly_once},
    {.name = "what_does_not_fit_is_kept_in_order", setup_full,
     {push_past_the_end, steal_2, steal_3}, check_full},
    {.name = "an_emptied_slot_is_used_again", setup_full,
     {push_past_the_end_and_take, steal_twice_2}, check_full},
    {.name = "a_stolen_slot_is_used_again", setup_full,
     {take_and_push_past_the_end, steal_2, steal_3}, check_full},
    {.name = "what_leaves_the_list_is_seen", setup_list_and_sleeper, {take_and_notify, go_to_sleep}, check_seen},
    {.name = "the_list_is_shared_and_refilled", setup_list, {take_and_push, steal_2, steal_3},
     check_exactly_once})
