/* SPDX-License-Identifier: MIT */
/*
 * cell_test.c - readers see whole versions, keep them, and each is destroyed once, after its last reader.
 */
#include "run.h"
#include "threads.h"

enum { DEAD = 0x5a5a5a5a };

/* a + b == 1000 in every version. */
struct pair {
    coir_cell_version version;
    int a, b;
};

static int made, destroyed;

static struct pair *pair_of(coir_cell_version *v)
{
    return (struct pair *)(void *)v; /* its first member */
}

static coir_cell_version *make(int a)
{
    struct pair *p = malloc(sizeof *p);

    p->a = a;
    p->b = 1000 - a;
    run_count(&made);
    return &p->version;
}

static void destroy(coir_cell_version *v)
{
    CHECK_EQ(pair_of(v)->a + pair_of(v)->b, 1000); /* destroyed twice it would be dead */
    pair_of(v)->a = pair_of(v)->b = DEAD;
    run_count(&destroyed);
    free(v);
}

/* -------------------------------------------------------------------------------- one caller */

static void versions_live_while_they_are_read(void)
{
    coir_cell cell;
    coir_cell_version *old, *same, *now;

    made = destroyed = 0;
    CHECK_EQ(coir_cell_init(&cell, make(1), destroy), COIR_OK);
    old = coir_cell_read(&cell);
    same = coir_cell_read(&cell);
    CHECK(old == same);
    CHECK_EQ(coir_cell_publish(&cell, make(2)), COIR_OK);
    CHECK_EQ(destroyed, 0);
    now = coir_cell_read(&cell);
    CHECK_EQ(pair_of(now)->a, 2);
    CHECK_EQ(pair_of(old)->a, 1);
    coir_cell_release(same);
    CHECK_EQ(destroyed, 0);
    coir_cell_release(old);
    CHECK_EQ(destroyed, 1);
    coir_cell_release(now);
    CHECK_EQ(destroyed, 1); /* it is current */
    CHECK_EQ(coir_cell_publish(&cell, make(3)), COIR_OK);
    CHECK_EQ(destroyed, 2); /* nobody had it */
    now = coir_cell_read(&cell);
    coir_cell_fini(&cell);
    CHECK(coir_cell_read(&cell) == NULL);
    CHECK_EQ(destroyed, 2);
    coir_cell_release(now);
    CHECK_EQ(destroyed, 3);
}

static void bad_input_is_refused(void)
{
    coir_cell cell = COIR_CELL_INIT;
    coir_cell_version *v, *far = (coir_cell_version *)(UINT64_C(1) << 48);

    CHECK(coir_cell_read(NULL) == NULL);
    CHECK(coir_cell_read(&cell) == NULL);
    CHECK_EQ(coir_cell_init(NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_cell_publish(&cell, NULL), COIR_EINVAL);
    CHECK_EQ(coir_cell_publish(&cell, far), COIR_ERANGE);
    memset(&cell, 0x5a, sizeof cell);
    CHECK_EQ(coir_cell_init(&cell, far, destroy), COIR_ERANGE);
    CHECK(coir_cell_read(&cell) == NULL); /* it is empty, */
    coir_cell_fini(&cell);                /* and has nothing to destroy */
    CHECK_EQ(coir_cell_replace(&cell, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_cell_replace(&cell, NULL, far), COIR_ERANGE);
    CHECK_EQ(coir_cell_init(&cell, NULL, destroy), COIR_OK);
    v = make(1);
    CHECK_EQ(coir_cell_publish(NULL, v), COIR_EINVAL);
    CHECK_EQ(coir_cell_replace(NULL, NULL, v), COIR_EINVAL);
    CHECK_EQ(coir_cell_replace(&cell, NULL, v), COIR_OK);
    v = make(2);
    CHECK_EQ(coir_cell_replace(&cell, NULL, v), COIR_EAGAIN);
    coir_cell_release(NULL);
    coir_cell_fini(NULL);
    coir_cell_fini(&cell);
    free(v);
}

/* The count beside the address overflows into nothing: it is moved in time. */
static void many_may_read_one_version(void)
{
    enum { READS = 300000 };
    coir_cell cell;
    coir_cell_version *v = make(1);

    destroyed = 0;
    CHECK_EQ(coir_cell_init(&cell, v, destroy), COIR_OK);
    for (int i = 0; i < READS; i++)
        if (!CHECK(coir_cell_read(&cell) == v))
            return;
    CHECK_EQ(coir_cell_publish(&cell, make(2)), COIR_OK);
    for (int i = 0; i < READS; i++) {
        CHECK_EQ(destroyed, 0);
        coir_cell_release(v);
    }
    CHECK_EQ(destroyed, 1);
    coir_cell_fini(&cell);
    CHECK_EQ(destroyed, 2);
}

/* ------------------------------------------------------------------------------------- attack */

static coir_cell cell;
static int rounds, published;

static void read_one(uint64_t *random)
{
    coir_cell_version *v = coir_cell_read(&cell);

    CHECK_EQ(pair_of(v)->a + pair_of(v)->b, 1000);
    if (random_next(random) % 4 == 0)
        coir_yield(); /* a reader may keep it while it sleeps */
    CHECK_EQ(pair_of(v)->a + pair_of(v)->b, 1000);
    coir_cell_release(v);
}

static void read_modify_publish(void)
{
    for (;;) {
        coir_cell_version *old = coir_cell_read(&cell), *next = make(pair_of(old)->a + 1);
        int status = coir_cell_replace(&cell, old, next);

        coir_cell_release(old);
        if (status == COIR_OK)
            break;
        CHECK_EQ(status, COIR_EAGAIN);
        destroy(next);
    }
    run_count(&published);
}

static void work(void *seed)
{
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;

    for (int i = 0; i < rounds; i++)
        if (random_next(&random) % 8 == 0)
            read_modify_publish();
        else
            read_one(&random);
}

static void *work_on_thread(void *seed)
{
    work(seed);
    return NULL;
}

static void each_version_is_destroyed_once_and_no_change_is_lost(void)
{
    struct threads all = {.count = 0};
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_cell_version *last;

    made = destroyed = published = 0;
    rounds = MANY(20000);
    CHECK_EQ(coir_cell_init(&cell, make(0), destroy), COIR_OK);
    for (uintptr_t i = 0; i < 6; i++)
        CHECK_EQ(coir_submit(rt, &c, work, (void *)(i + 1)), COIR_OK);
    threads_add(&all, work_on_thread, (void *)100);
    threads_add(&all, work_on_thread, (void *)101);
    threads_join(&all);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    last = coir_cell_read(&cell);
    CHECK_EQ(pair_of(last)->a, published); /* every replacement built on the one before */
    coir_cell_release(last);
    coir_cell_fini(&cell);
    CHECK_EQ(destroyed, made);
}

/* The count beside the address is at its half when several readers come at once: each tries to move it, and
 * who fails must undo what it did. */
enum { HALF = 1 << 15, RACERS = 2 };

static int race_round, racers_done;

static void *read_when_told(void *unused)
{
    (void)unused;
    for (int i = 1; i <= rounds; i++) {
        for (int turn = 1; __atomic_load_n(&race_round, __ATOMIC_ACQUIRE) < i; turn++)
            if (turn % 10000 == 0)
                sched_yield();
        for (int k = 0; k < 16; k++)
            coir_cell_release(coir_cell_read(&cell));
        __atomic_add_fetch(&racers_done, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void readers_race_to_move_the_count(void)
{
    struct threads all = {.count = 0};

    made = destroyed = race_round = racers_done = 0;
    rounds = MANY(20000);
    CHECK_EQ(coir_cell_init(&cell, NULL, destroy), COIR_OK);
    for (int i = 0; i < RACERS; i++)
        threads_add(&all, read_when_told, NULL);
    for (int i = 1; check_round(i, rounds + 1); i++) {
        coir_cell_version *v = make(i);

        CHECK_EQ(coir_cell_publish(&cell, v), COIR_OK);
        __atomic_fetch_add(&cell.opaque[0], HALF, __ATOMIC_RELAXED); /* so many reads, at once */
        __atomic_store_n(&race_round, i, __ATOMIC_RELEASE);
        for (volatile int k = 0; k < i % 100 * 3; k++)
            ; /* about as long as it takes the others to notice */
        for (int k = 0; k < 16; k++)
            coir_cell_release(coir_cell_read(&cell));
        while (__atomic_load_n(&racers_done, __ATOMIC_ACQUIRE) < i * RACERS)
            sched_yield();
        __atomic_fetch_sub(&v->opaque[0], HALF, __ATOMIC_RELAXED); /* their releases */
    }
    __atomic_store_n(&race_round, rounds, __ATOMIC_RELEASE); /* if it ended early: what is left, at once */
    threads_join(&all);
    coir_cell_fini(&cell);
    CHECK_EQ(destroyed, made);
}

CHECK_MAIN(CASE(versions_live_while_they_are_read), CASE(bad_input_is_refused),
           CASE(many_may_read_one_version),
           CASE(each_version_is_destroyed_once_and_no_change_is_lost),
           CASE(readers_race_to_move_the_count))
