/* SPDX-License-Identifier: MIT */
/*
 * inject.c - explores core/inject.c: each item is taken once and whole, the limit and the close are
 * exact, fibers come out in order.
 */
#include "inject.h"

#include <string.h>

#include "explore.h"

#define ITEMS 4

static struct inject q;
static struct host host;
static struct park park; /* nobody sleeps here */
static struct deque d;
static int payload[ITEMS];
static int pushed[ITEMS]; /* whether it was */
static int got[1 + EXPLORE_THREADS][ITEMS];
static struct link fiber[ITEMS];

static void nothing(void *arg)
{
    (void)arg;
}

static int push(int i, int n, bool outside)
{
    struct work w = {nothing, &payload[i], NULL, NULL};
    struct parker *sleeper;
    int status;

    for (int k = i; k < i + n; k++)
        payload[k] = k + 1;
    status = outside ? inject_submit(&q, &w, sizeof payload[0], (size_t)n, &park, &sleeper)
                     : inject_push(&q, &w, sizeof payload[0], (size_t)n);
    for (int k = i; k < i + n; k++)
        pushed[k] = status == COIR_OK;
    return status;
}

static void took(int thread, const struct work *w)
{
    int i = (int)((int *)w->arg - payload);

    MUST(i >= 0 && i < ITEMS && w->fn == nothing);
    MUST(payload[i] == i + 1);
    payload[i] = i + 1; /* it is the taker's now */
    got[thread][i]++;
}

static size_t take(int thread, size_t max)
{
    struct work w[ITEMS];
    size_t n = inject_take(&q, w, max);

    MUST(n <= max);
    for (size_t k = 0; k < n; k++)
        took(thread, &w[k]);
    return n;
}

static void setup_limit(size_t limit)
{
    memset(&q, 0, sizeof q);
    memset(payload, 0, sizeof payload);
    memset(pushed, 0, sizeof pushed);
    memset(got, 0, sizeof got);
    memset(fiber, 0, sizeof fiber);
    inject_init(&q, &host, limit);
}

static void setup(void)
{
    setup_limit(8);
}

static void setup_two(void)
{
    setup_limit(2);
}

static void push_one_1(void)
{
    MUST(push(0, 1, true) == COIR_OK);
}

static void push_two_2(void)
{
    MUST(push(1, 2, true) == COIR_OK);
}

static void take_3(void)
{
    take(3, ITEMS);
    take(3, 1);
}

static void check_exactly_once(void)
{
    while (take(0, ITEMS))
        ;
    MUST(inject_empty(&q));
    for (int i = 0; i < ITEMS; i++)
        MUST(got[0][i] + got[1][i] + got[2][i] + got[3][i] == pushed[i]);
    inject_fini(&q);
}

/* ---------------------------------------------------------------------------------------- the limit */

static void push_within_1(void)
{
    int status = push(0, 1, true);

    MUST(status == COIR_OK || status == COIR_EAGAIN);
}

static void push_within_2(void)
{
    int status = push(1, 2, true);

    MUST(status == COIR_OK || status == COIR_EAGAIN);
}

static void push_anyway_and_take_3(void)
{
    struct work w = {nothing, &payload[3], NULL, NULL};

    payload[3] = 4;
    MUST(inject_push_anyway(&q, &w));
    pushed[3] = 1;
    take(3, 1);
}

static void check_limit(void)
{
    int outside = pushed[0] + pushed[1] + pushed[2];

    MUST(outside >= 1 && inject_accepted(&q) == (uint64_t)outside);
    check_exactly_once();
}

static void check_limit_of_two(void)
{
    MUST(pushed[0] + pushed[1] + pushed[2] <= 2);
    check_limit();
}

/* ---------------------------------------------------------------------------------------- the close */

static void push_until_closed_1(void)
{
    int status = push(0, 1, true);

    MUST(status == COIR_OK || status == COIR_ESHUTDOWN);
    MUST(push(3, 1, false) == COIR_OK);
}

static void push_until_closed_2(void)
{
    int status = push(1, 2, true);

    MUST(status == COIR_OK || status == COIR_ESHUTDOWN);
}

/* After the close nothing more is accepted, and what was accepted is there to be taken. */
static void close_and_take_3(void)
{
    uint64_t accepted;

    inject_close(&q, true);
    accepted = inject_accepted(&q);
    take(3, ITEMS);
    MUST(inject_accepted(&q) == accepted);
}

static void check_closed(void)
{
    MUST(inject_accepted(&q) == (uint64_t)(pushed[0] + pushed[1] + pushed[2]));
    check_exactly_once();
}

/* --------------------------------------------------------------------------------------- a full deque */

static void setup_deque(size_t limit)
{
    struct work w;
    uint64_t asked;
    size_t n;

    setup_limit(limit);
    memset(&d, 0, sizeof d);
    deque_init(&d, false);
    for (int i = 0; i < 3; i++) {
        payload[i] = i + 1;
        pushed[i] = 1;
        MUST(deque_push(&d, &(struct work){nothing, &payload[i], NULL, NULL}));
    }
    MUST(deque_steal(&d, &w, 1, &n, &asked) == STEAL_ASKED);
    deque_answer(&d); /* the oldest is lent */
}

static void setup_relief(void)
{
    setup_deque(8);
}

static void setup_relief_of_one(void)
{
    setup_deque(1);
}

static void relieve_and_pop_1(void)
{
    struct work w;

    MUST(inject_relieve(&q, &d) == COIR_OK);
    if (deque_pop(&d, &w))
        took(1, &w);
}

static void relieve_1(void)
{
    MUST(inject_relieve(&q, &d) == COIR_OK);
    MUST(atomic_load_explicit(&q.work_count, memory_order_relaxed) <= 1);
}

static void steal_2(void)
{
    struct work w;
    uint64_t asked;
    size_t n;

    if (deque_steal(&d, &w, 1, &n, &asked) == STEAL_OK)
        took(2, &w);
}

static void push_and_take_3(void)
{
    MUST(push(3, 1, true) == COIR_OK);
    take(3, 1);
}

static void check_relieved(void)
{
    struct work w;

    while (deque_pop(&d, &w))
        took(0, &w);
    check_exactly_once();
}

/* ------------------------------------------------------------------------------------------- fibers */

static void push_fibers_1(void)
{
    for (int i = 0; i < 2; i++) {
        payload[i] = i + 1;
        inject_push_fiber(&q, &fiber[i]);
    }
}

static void push_fiber_2(void)
{
    payload[2] = 3;
    inject_push_fiber(&q, &fiber[2]);
}

static void take_fiber(int thread)
{
    struct link *e = inject_take_fiber(&q);
    int i = (int)(e - fiber);

    if (!e)
        return;
    MUST(i >= 0 && i < 3 && payload[i] == i + 1);
    if (i == 1) /* 0 was taken before: in order */
        MUST(thread == 0 ? got[3][0] + got[0][0] == 1 : got[3][0] == 1);
    got[thread][i]++;
}

static void take_fibers_3(void)
{
    take_fiber(3);
    take_fiber(3);
}

static void check_fibers(void)
{
    for (int i = 0; i < 3; i++)
        take_fiber(0);
    MUST(inject_empty(&q));
    for (int i = 0; i < 3; i++)
        MUST(got[0][i] + got[3][i] == 1);
}

EXPLORE_MAIN(
    {.name = "each_item_is_taken_once", setup, {push_one_1, push_two_2, take_3},
     check_exactly_once},
    {.name = "the_limit_is_exact", setup_two, {push_within_1, push_within_2}, check_limit_of_two},
    {.name = "takers_make_room", setup_two, {push_within_1, push_within_2, push_anyway_and_take_3},
     check_limit},
    {.name = "a_close_is_exact", setup, {push_until_closed_1, push_until_closed_2, close_and_take_3},
     check_closed},
    {.name = "a_deque_is_relieved_of_what_nobody_steals", setup_relief,
     {relieve_and_pop_1, steal_2, push_and_take_3},
     check_relieved},
    {.name = "a_relief_keeps_to_the_limit", setup_relief_of_one, {relieve_1, steal_2, take_3}, check_relieved},
    {.name = "fibers_come_out_in_order", setup, {push_fibers_1, push_fiber_2, take_fibers_3},
     check_fibers})
