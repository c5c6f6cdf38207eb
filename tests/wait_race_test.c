/* SPDX-License-Identifier: MIT */
/*
 * wait_race_test.c - the moment a counter settles, attacked (counter.c, C1 to C3): its memory is
 * scribbled over as soon as a wait has returned, and deadlines pass just then.
 */
#include "run.h"
#include "threads.h"

enum { SCRIBBLE = 0xa5 };

/* A counter's memory between two uses: nobody may write to it. */
static void scribble(coir_counter *c)
{
    memset(c, SCRIBBLE, sizeof *c);
}

static int is_scribble(const coir_counter *c)
{
    const unsigned char *byte = (const unsigned char *)c;

    for (size_t i = 0; i < sizeof *c; i++)
        if (byte[i] != SCRIBBLE)
            return 0;
    return 1;
}

static void nop(void *unused)
{
    (void)unused;
}

static void block(void *unused)
{
    (void)unused;
    coir_yield();
}

typedef int wait_fn(coir_counter *c);

static int wait_plain(coir_counter *c)
{
    return coir_wait(c);
}

static int wait_parked(coir_counter *c)
{
    return coir_wait_until(c, coir_now() + 1000 * COIR_SEC);
}

static int wait_any(coir_counter *c)
{
    static coir_counter never = COIR_COUNTER_INIT;
    coir_counter *both[] = {&never, c};
    size_t which;
    int outcome;

    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    outcome = coir_wait_any(both, 2, COIR_NEVER, &which);
    CHECK_EQ(which, 1);
    return outcome;
}

static int wait_impatiently(coir_counter *c)
{
    int outcome;

    do
        outcome = coir_wait_until(c, coir_now() + 1000);
    while (outcome == COIR_ETIMEDOUT);
    return outcome;
}

static wait_fn *const ways[] = {wait_plain, wait_parked, wait_any, wait_impatiently};

static int rounds;

/* One round's counter lies in memory that the next but one round looks at first. */
static void attack(coir_runtime *rt, wait_fn *wait)
{
    coir_counter c[2];

    scribble(&c[0]);
    scribble(&c[1]);
    for (int i = 0; check_round(i, rounds); i++) {
        coir_counter *now = &c[i % 2];

        if (!CHECK(is_scribble(now)))
            return;
        coir_counter_init(now);
        CHECK_EQ(coir_submit(rt, now, i % 3 ? nop : block, NULL), COIR_OK);
        if (i % 5 == 0 && coir_current())
            CHECK_EQ(coir_spawn(now, i % 2 ? nop : block, NULL), COIR_OK);
        CHECK_EQ(wait(now), COIR_DONE);
        scribble(now);
    }
    CHECK(is_scribble(&c[0]) && is_scribble(&c[1]));
}

static void attack_in_fiber(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        attack(coir_current(), ways[i]);
}

static void a_fibers_counter_may_go_right_after_the_wait(void)
{
    rounds = MANY(20000);
    run_on(1, attack_in_fiber, NULL);
    run_on(2, attack_in_fiber, NULL);
}

static void a_threads_counter_may_go_right_after_the_wait(void)
{
    coir_runtime *rt = run_open(2);

    rounds = MANY(5000);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        attack(rt, ways[i]);
    run_close(rt);
}

/* ----------------------------------------------------------------- deadline against completion */

struct duel {
    coir_counter counter;
    int64_t at;      /* when both happen */
    int timed_out;
};

static void settle_at(void *arg)
{
    struct duel *d = arg;

    while (coir_now() < d->at)
        ; /* another worker waits meanwhile */
    coir_counter_done(&d->counter, COIR_DONE);
}

/* A unit by hand keeps the waiter from running the job in place. */
static void fight(struct duel *d, int64_t delay)
{
    coir_counter job = COIR_COUNTER_INIT;
    int outcome;

    coir_counter_init(&d->counter);
    coir_counter_add(&d->counter, 1);
    d->at = coir_now() + delay;
    CHECK_EQ(coir_spawn(&job, settle_at, d), COIR_OK);
    outcome = coir_wait_until(&d->counter, d->at);
    if (outcome == COIR_ETIMEDOUT) {
        d->timed_out++;
        outcome = coir_wait(&d->counter);
    }
    CHECK_EQ(outcome, COIR_DONE);
    scribble(&d->counter);
    CHECK_EQ(coir_wait(&job), COIR_DONE);
    CHECK(is_scribble(&d->counter));
}

static void fight_often(void *unused)
{
    int fights = MANY(100000);
    struct duel d = {.timed_out = 0};

    (void)unused;
    for (int i = 0; check_round(i, fights); i++)
        fight(&d, i % 50 * 40);
    CHECK(SLOW || (d.timed_out > 0 && d.timed_out < fights)); /* both have won */
}

static void a_deadline_races_the_completion(void)
{
    run_on(2, fight_often, NULL);
}

static void *fight_thread(void *arg)
{
    coir_runtime *rt = arg;
    struct duel d = {.timed_out = 0};

    for (int i = 0; check_round(i, MANY(5000)); i++) {
        coir_counter job = COIR_COUNTER_INIT;

        coir_counter_init(&d.counter);
        coir_counter_add(&d.counter, 1);
        d.at = coir_now() + i % 100 * 1000;
        CHECK_EQ(coir_submit(rt, &job, settle_at, &d), COIR_OK);
        if (coir_wait_until(&d.counter, d.at) == COIR_ETIMEDOUT)
            CHECK_EQ(coir_wait(&d.counter), COIR_DONE);
        scribble(&d.counter);
        CHECK_EQ(coir_wait(&job), COIR_DONE);
        CHECK(is_scribble(&d.counter));
    }
    return NULL;
}

static void a_threads_deadline_races_the_completion(void)
{
    coir_runtime *rt = run_open(1);

    fight_thread(rt);
    run_close(rt);
}

/* ------------------------------------------------------------------------- several at a time */

static coir_counter gate, arrived;
static int impatient; /* waits that timed out */

/* Half of the waiters leave by their deadline while the counter settles. */
static void come_and_go(void *deadline)
{
    int64_t until = *(int64_t *)deadline;

    coir_counter_done(&arrived, COIR_DONE);
    if (coir_wait_until(&gate, until) == COIR_ETIMEDOUT) {
        run_count(&impatient);
        CHECK_EQ(coir_wait(&gate), COIR_FAILED);
    }
}

static void crowd(void *unused)
{
    (void)unused;
    for (int i = 0; check_round(i, MANY(2000)) || (!__atomic_load_n(&impatient, __ATOMIC_RELAXED) && i < 1000000); i++) {
        coir_counter c = COIR_COUNTER_INIT;
        int64_t soon = coir_now() + i % 20 * 1000, later = soon + 5000;

        coir_counter_init(&gate);
        coir_counter_init(&arrived);
        coir_counter_add(&gate, 1);
        coir_counter_add(&arrived, 8);
        CHECK_EQ(coir_spawn_many(&c, come_and_go, &soon, 0, 4), COIR_OK);
        CHECK_EQ(coir_spawn_many(&c, come_and_go, &later, 0, 4), COIR_OK);
        CHECK_EQ(coir_wait(&arrived), COIR_DONE);
        coir_counter_done(&gate, COIR_FAILED);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        scribble(&gate);
    }
}

static void waiters_come_and_go_while_a_counter_settles(void)
{
    impatient = 0;
    run_on(2, crowd, NULL);
    CHECK(impatient > 0);
}

/* Plain threads wait for one counter in rounds; a word tells them that the next has begun. */
static struct {
    coir_counter counter;
    int round, returned;
} rally;

static void spin(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

static void *wait_each_round(void *seed)
{
    uint64_t random = (uintptr_t)seed;

    for (int round = 1; round <= rounds; round++) {
        while (__atomic_load_n(&rally.round, __ATOMIC_ACQUIRE) < round)
            sched_yield();
        spin((unsigned)(random_next(&random) % 800));
        CHECK_EQ(coir_wait(&rally.counter), COIR_DONE);
        __atomic_add_fetch(&rally.returned, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* A wait without a deadline that finds its counter on the way to be settled must look again. */
static void a_threads_wait_without_deadline_never_times_out(void)
{
    struct threads all = {.count = 0};
    uint64_t random = 5;

    rounds = MANY(20000);
    for (uintptr_t seed = 1; seed <= 3; seed++)
        threads_add(&all, wait_each_round, (void *)seed);
    for (int round = 1; check_round(round, rounds + 1); round++) {
        coir_counter_init(&rally.counter);
        coir_counter_add(&rally.counter, 1);
        __atomic_store_n(&rally.returned, 0, __ATOMIC_RELAXED); /* carried by the next line */
        __atomic_store_n(&rally.round, round, __ATOMIC_RELEASE);
        spin((unsigned)(random_next(&random) % 1500));
        coir_counter_done(&rally.counter, COIR_DONE);
        while (__atomic_load_n(&rally.returned, __ATOMIC_ACQUIRE) < 3)
            sched_yield();
    }
    __atomic_store_n(&rally.round, rounds, __ATOMIC_RELEASE); /* if it ended early: what is left, at once */
    threads_join(&all);
}

CHECK_MAIN(CASE(a_fibers_counter_may_go_right_after_the_wait),
           CASE(a_threads_counter_may_go_right_after_the_wait),
           CASE(a_deadline_races_the_completion), CASE(a_threads_deadline_races_the_completion),
           CASE(waiters_come_and_go_while_a_counter_settles),
           CASE(a_threads_wait_without_deadline_never_times_out))
