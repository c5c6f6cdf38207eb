/* SPDX-License-Identifier: MIT */
/*
 * inject_test.c - core/inject.c: order, the limit, all or nothing also without memory, and that
 * nothing is lost between several producers and consumers.
 */
#include "inject.h"
#include "threads.h"

#define SPARE_MAX 16   /* J3 */
#define CHUNK_LEAST 100 /* items a chunk holds at least */

static struct inject q;
static struct host host;
static struct park park; /* nobody sleeps here */

static void noop(void *arg)
{
    (void)arg;
}

/* ------------------------------------------------------------------------- a host that can fail */

static long blocks;     /* allocated and not freed */
static long fail_at;    /* this allocation fails, counted from 1; 0: none */
static bool fail_after; /* and all that follow */

static void *host_alloc(size_t bytes, void *arg)
{
    (void)arg;
    if (fail_at > 0 && --fail_at == 0) {
        fail_at = fail_after;
        return NULL;
    }
    blocks++;
    return malloc(bytes);
}

static void host_free(void *memory, void *arg)
{
    (void)arg;
    blocks -= memory != NULL;
    free(memory);
}

static void open_queue(size_t work_max)
{
    coir_options options = {.alloc = host_alloc, .free = host_free};

    host_init(&host, &options);
    memset(&q, 0, sizeof q);
    fail_at = 0;
    fail_after = false;
    inject_init(&q, &host, work_max);
}

static void close_queue(void)
{
    inject_fini(&q);
    CHECK_EQ(blocks, 0);
}

static int push_items(const struct work *first, size_t n, bool outside)
{
    struct parker *sleeper;

    return outside ? inject_submit(&q, first, 1, n, &park, &sleeper) : inject_push(&q, first, 1, n);
}

/* Pushes the items first, first + 1, ... */
static int push(size_t first, size_t n, bool outside)
{
    struct work item = {noop, (void *)first, NULL, NULL};

    return push_items(&item, n, outside);
}

/* Takes and checks that the items first, first + 1, ... come, n of them and no more. */
static void expect(size_t first, size_t n)
{
    struct work got[7];
    size_t count, taken = 0;

    while ((count = inject_take(&q, got, 7)) > 0)
        for (size_t i = 0; i < count; i++, taken++)
            if (!CHECK_EQ(got[i].arg, first + taken))
                return;
    CHECK_EQ(taken, n);
    CHECK(inject_empty(&q));
}

/* ---------------------------------------------------------------------------------- one thread */

static void items_come_out_in_order(void)
{
    open_queue(100000);
    CHECK_EQ(push(0, 1, true), COIR_OK);
    CHECK_EQ(push(1, 999, true), COIR_OK);
    CHECK_EQ(push(1000, 1, false), COIR_OK);
    expect(0, 1001);
    CHECK_EQ(push(5, 3, true), COIR_OK);
    expect(5, 3);
    close_queue();
}

static void fibers_come_out_in_order(void)
{
    struct link e[100];

    open_queue(1);
    for (int i = 0; i < 100; i++)
        inject_push_fiber(&q, &e[i]);
    CHECK(!inject_empty(&q));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(inject_take_fiber(&q), &e[i]);
    CHECK_EQ(inject_take_fiber(&q), NULL);
    CHECK(inject_empty(&q));
    close_queue();
}

static void the_limit_is_exact_and_refuses_all_or_nothing(void) /* J1 */
{
    open_queue(1000);
    CHECK_EQ(push(0, 1001, true), COIR_EAGAIN);
    CHECK_EQ(push(0, 1000, true), COIR_OK);
    CHECK_EQ(push(1000, 1, true), COIR_EAGAIN);
    CHECK_EQ(push(1000, SIZE_MAX, false), COIR_EAGAIN);
    expect(0, 1000);
    CHECK_EQ(push(0, 999, true), COIR_OK);
    CHECK_EQ(push(999, 2, true), COIR_EAGAIN);
    CHECK_EQ(push(999, 1, true), COIR_OK);
    expect(0, 1000);
    close_queue();
}

static void admitted_work_passes_the_limit(void)
{
    struct work item = {noop, (void *)10, NULL, NULL};

    open_queue(10);
    CHECK_EQ(push(0, 10, true), COIR_OK);
    CHECK(inject_push_anyway(&q, &item));
    CHECK_EQ(push(11, 1, true), COIR_EAGAIN);
    expect(0, 11);
    close_queue();
}

/* The oldest of a full deque go first, no more than the limit has room for, or memory. */
static void a_full_deque_is_relieved_of_its_oldest(void)
{
    static struct deque d;
    struct work item = {noop, NULL, NULL, NULL};
    size_t moved;

    open_queue(CHUNK_LEAST + CHUNK_LEAST / 2);
    deque_init(&d, false);
    for (uintptr_t i = 0; i < DEQUE_CAP; i++) {
        item.arg = (void *)i;
        CHECK(deque_push(&d, &item));
    }
    fail_at = 1;
    CHECK_EQ(inject_relieve(&q, &d), COIR_ENOMEM);
    CHECK_EQ(deque_room(&d), 0);
    CHECK_EQ(inject_relieve(&q, &d), COIR_OK);
    moved = deque_room(&d);
    CHECK(moved >= CHUNK_LEAST);
    while (deque_push(&d, &item))
        ;
    CHECK_EQ(inject_relieve(&q, &d), COIR_OK);
    CHECK_EQ(moved + deque_room(&d), CHUNK_LEAST + CHUNK_LEAST / 2);
    CHECK_EQ(inject_relieve(&q, &d), COIR_EAGAIN);
    expect(0, CHUNK_LEAST + CHUNK_LEAST / 2);
    close_queue();
}

static void a_closed_queue_refuses_work_from_outside_only(void)
{
    open_queue(10);
    CHECK_EQ(push(0, 1, true), COIR_OK);
    inject_close(&q, true);
    CHECK_EQ(push(1, 1, true), COIR_ESHUTDOWN);
    CHECK_EQ(push(1, 1, false), COIR_OK);
    inject_close(&q, false);
    CHECK_EQ(push(2, 1, true), COIR_OK);
    CHECK_EQ(inject_accepted(&q), 2);
    expect(0, 3);
    close_queue();
}

/* Fails the n-th allocation, n = 1, 2, ..., until a run passes. */
static void fail_each_allocation(bool persistent)
{
    bool failed = true;

    for (long n = 1; failed && CHECK(n < 100); n++) {
        open_queue(100000);
        CHECK_EQ(push(0, 10, true), COIR_OK);
        fail_at = n;
        fail_after = persistent;
        failed = push(10, 5000, true) == COIR_ENOMEM;
        fail_at = 0;
        if (failed) {
            CHECK_EQ(q.work_count, 10);
            CHECK_EQ(push(10, 5000, true), COIR_OK);
        }
        expect(0, 5010);
        close_queue();
    }
}

static void no_memory_refuses_all_or_nothing(void) /* J2 */
{
    fail_each_allocation(false);
    fail_each_allocation(true);
}

static void admitted_work_says_when_there_is_no_memory(void)
{
    struct work item = {noop, (void *)0, NULL, NULL};

    open_queue(10);
    fail_at = 1;
    CHECK(!inject_push_anyway(&q, &item));
    CHECK(inject_empty(&q));
    CHECK(inject_push_anyway(&q, &item));
    expect(0, 1);
    close_queue();
}

static void memory_goes_back_to_the_host(void) /* J3 */
{
    open_queue(1000000);
    CHECK_EQ(push(0, 1000000, true), COIR_OK);
    CHECK(blocks > SPARE_MAX);
    expect(0, 1000000);
    CHECK(blocks <= SPARE_MAX);
    close_queue();
}

static void memory_of_a_refused_push_goes_back_too(void) /* J3 */
{
    open_queue(1000000);
    fail_at = 1000;
    CHECK_EQ(push(0, 1000 * 4096 / sizeof(struct work), true), COIR_ENOMEM);
    CHECK(blocks <= SPARE_MAX);
    CHECK(inject_empty(&q));
    close_queue();
}

static void a_queue_in_use_allocates_nothing(void)
{
    open_queue(1000);
    CHECK_EQ(push(0, 1, true), COIR_OK);
    expect(0, 1);
    fail_at = 1;
    fail_after = true;
    for (size_t i = 0; i < 10000; i++) {
        CHECK_EQ(push(i, CHUNK_LEAST, i % 2), COIR_OK);
        expect(i, CHUNK_LEAST);
    }
    close_queue();
}

/* -------------------------------------------------------------------------------- many threads */

#define PRODUCERS 2
#define CONSUMERS 2

static size_t each; /* items of each producer */
static _Atomic size_t taken;
static _Atomic uint64_t sum;
static _Atomic size_t fibers_taken;
static struct link *fibers; /* PRODUCERS * each */

/* Item i of producer p has fn = p + 1 and arg = i. */
static void *produce(void *number)
{
    uintptr_t p = (uintptr_t)number;
    uint64_t seed = p + 1;
    unsigned turns = 0;

    for (size_t i = 0; i < each;) {
        size_t n = random_next(&seed) % 50 + 1;
        struct work item = {(coir_fn *)(p + 1), (void *)i, NULL, NULL};

        n = n < each - i ? n : each - i;
        if (push_items(&item, n, p % 2) != COIR_OK) {
            spin_pause(&turns);
            continue;
        }
        for (size_t k = 0; k < n; k++)
            inject_push_fiber(&q, &fibers[p * each + i + k]);
        i += n;
    }
    return NULL;
}

/* Each consumer meets the items of each producer in their order. */
static void *consume(void *unused)
{
    size_t next[PRODUCERS] = {0}, got = 0, n;
    struct work item[16];
    unsigned turns = 0;

    while (atomic_load(&taken) < PRODUCERS * each || atomic_load(&fibers_taken) < PRODUCERS * each) {
        n = inject_take(&q, item, 16);
        for (size_t i = 0; i < n; i++) {
            size_t p = (uintptr_t)item[i].fn - 1, number = (uintptr_t)item[i].arg;

            CHECK(number >= next[p]);
            next[p] = number + 1;
            got += number + 1;
        }
        atomic_fetch_add(&taken, n);
        if (inject_take_fiber(&q))
            atomic_fetch_add(&fibers_taken, 1);
        else if (n == 0)
            spin_pause(&turns);
    }
    atomic_fetch_add(&sum, got);
    return unused;
}

static void nothing_is_lost_between_producers_and_consumers(void)
{
    struct threads threads = {.count = 0};

    open_queue(5000); /* producers meet the limit, too */
    each = CHECK_SCALE(1000000);
    fibers = calloc(PRODUCERS * each, sizeof *fibers);
    taken = fibers_taken = 0;
    sum = 0;
    for (uintptr_t p = 0; p < PRODUCERS; p++)
        threads_add(&threads, produce, (void *)p);
    for (int i = 0; i < CONSUMERS; i++)
        threads_add(&threads, consume, NULL);
    threads_join(&threads);
    CHECK_EQ(taken, PRODUCERS * each);
    CHECK_EQ(sum, PRODUCERS * (each * (each + 1) / 2));
    CHECK_EQ(inject_accepted(&q), each); /* the odd producer is outside */
    CHECK(blocks <= SPARE_MAX + 1);
    free(fibers);
    close_queue();
}

CHECK_MAIN(CASE(items_come_out_in_order),
           CASE(fibers_come_out_in_order),
           CASE(the_limit_is_exact_and_refuses_all_or_nothing),
           CASE(admitted_work_passes_the_limit),
           CASE(a_full_deque_is_relieved_of_its_oldest),
           CASE(a_closed_queue_refuses_work_from_outside_only),
           CASE(no_memory_refuses_all_or_nothing),
           CASE(admitted_work_says_when_there_is_no_memory),
           CASE(memory_goes_back_to_the_host),
           CASE(memory_of_a_refused_push_goes_back_too),
           CASE(a_queue_in_use_allocates_nothing),
           CASE(nothing_is_lost_between_producers_and_consumers))
