/* SPDX-License-Identifier: MIT */
/*
 * counter_test.c - core/counter.c with plain threads: units, outcomes, records, waiters, and that
 * nothing of a counter is touched once a wait for it has returned.
 *
 * C1 to C3 are attacked by waiters whose deadlines fall together with the last release, and who
 * overwrite or unmap the counter at once. With a finisher that looks at the list after its decrement,
 * or a delist that takes WAITERS away from a finisher, nothing_touches_a_counter_after_its_wait fails.
 */
#include "counter.h"
#include "threads.h"

#include <sys/mman.h>

static coir_counter *public_of(struct counter *c)
{
    return (coir_counter *)(void *)c;
}

static int64_t soon(uint64_t *seed, int64_t most)
{
    return coir_now() + (int64_t)(random_next(seed) % (uint64_t)most);
}

/* ------------------------------------------------------------------------------------ one thread */

static void a_zero_counter_is_settled(void)
{
    coir_counter c = {{0}};
    coir_failure f;

    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_DONE);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_ENOENT);
}

static void a_wait_past_its_deadline_leaves_the_counter_owed(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 2);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_DONE);
}

static void the_worst_outcome_is_kept(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int worst = COIR_DONE; worst <= COIR_PANICKED; worst++)
        for (int other = COIR_DONE; other <= worst; other++) {
            coir_counter_init(&c);
            coir_counter_add(&c, 3);
            coir_counter_done(&c, other);
            coir_counter_done(&c, worst);
            coir_counter_done(&c, other);
            CHECK_EQ(coir_wait(&c), worst);
            CHECK_EQ(coir_wait(&c), worst);
        }
}

static void the_first_record_is_kept(void)
{
    coir_counter public = COIR_COUNTER_INIT;
    struct counter *c = counter_of(&public);
    coir_failure first = {.id = 1, .line = 11}, second = {.id = 2, .line = 22}, got;

    counter_owe(c, 3);
    counter_fail(c, COIR_FAILED, NULL);
    counter_fail(c, COIR_FAILED, &first);
    counter_fail(c, COIR_PANICKED, &second);
    CHECK_EQ(counter_look(c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&public, &got), COIR_OK);
    CHECK_EQ(got.id, 1);
    CHECK_EQ(got.line, 11);
    coir_counter_init(&public);
    CHECK_EQ(coir_counter_failure(&public, &got), COIR_ENOENT);
    CHECK_EQ(counter_look(c), COIR_DONE);
}

static void add_too_many(void *counter)
{
    coir_counter_add(counter, 1L << 23);
}

static void a_counter_does_not_wrap_around(void)
{
    coir_counter c = COIR_COUNTER_INIT, local;

    CHECK_EQ(coir_try(add_too_many, &c, NULL), COIR_DONE);
    CHECK_EQ(coir_try(add_too_many, &c, NULL), COIR_PANICKED);
    for (long i = 0; i < 1L << 23; i++)
        coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    coir_counter_init_local(&local);
    counter_settle(counter_of(&local), 1); /* of what its owner owes beside the word */
    CHECK_EQ(coir_try(add_too_many, &local, NULL), COIR_DONE);
}

/* What each node was told, before its memory was overwritten: the waiter may be gone by then. */
static int told[3], telling;

static void tell_and_go(struct wait_node *node, int outcome)
{
    CHECK_EQ(node->outcome, outcome);
    told[telling++] = outcome;
    memset(node, 0xaa, sizeof *node);
}

static void a_finisher_uses_no_node_it_has_told(void)
{
    struct counter c = {0};
    struct wait_node node[3];

    telling = 0;
    counter_owe(&c, 1);
    for (int i = 0; i < 3; i++) {
        node[i] = (struct wait_node){.settled = tell_and_go};
        CHECK(counter_enlist(&c, &node[i]));
    }
    CHECK_EQ(counter_look(&c), -1);
    counter_fail(&c, COIR_CANCELED, NULL);
    CHECK_EQ(telling, 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(told[i], COIR_CANCELED);
    CHECK_EQ(counter_look(&c), COIR_CANCELED);
    CHECK(!counter_enlist(&c, &node[0]));
}

static void count_settled(struct wait_node *node, int outcome)
{
    (void)outcome;
    telling++;
    wait_node_release(node);
}

static void a_waiter_leaves_from_anywhere_in_the_list(void)
{
    for (int out = 0; out < 8; out++) { /* each subset leaves */
        struct counter c = {0};
        struct wait_node node[3];
        int left = 0;

        counter_owe(&c, 1);
        telling = 0;
        for (int i = 0; i < 3; i++) {
            node[i] = (struct wait_node){.settled = count_settled};
            CHECK(counter_enlist(&c, &node[i]));
        }
        for (int i = 0; i < 3; i++)
            if (out >> i & 1) {
                counter_delist(&c, &node[i]);
                CHECK(!wait_node_released(&node[i]));
                left++;
            }
        CHECK_EQ(!(c.state & COUNTER_WAITERS), left == 3);
        counter_settle(&c, 1);
        CHECK_EQ(telling, 3 - left);
        CHECK_EQ(counter_look(&c), COIR_DONE);
    }
}

/* What is told before the counter settles: it is there, unsettled, and has its outcome. Then as all others. */
static struct counter *about;

static void tell_twice(struct wait_node *node, int outcome)
{
    CHECK_EQ(counter_look(about), outcome == SETTLING ? -1 : outcome);
    CHECK_EQ(node->outcome, COIR_FAILED);
    CHECK(!counter_try_delist(about, node));
    told[outcome == SETTLING]++;
}

static void late_one(struct wait_node *node, int outcome)
{
    static struct wait_node late;

    if (outcome == SETTLING) {
        late = (struct wait_node){.settled = tell_twice, .foretold = true};
        CHECK(counter_enlist(about, &late)); /* it has not settled */
    }
    tell_twice(node, outcome);
}

static void who_is_foretold_has_the_counter_still(void)
{
    struct wait_node first = {.settled = late_one, .foretold = true}, second = {.settled = count_settled};
    struct counter c = {0};

    about = &c;
    telling = told[0] = told[1] = 0;
    counter_owe(&c, 1);
    CHECK(counter_enlist(&c, &first));
    CHECK(counter_enlist(&c, &second));
    counter_fail(&c, COIR_FAILED, NULL);
    CHECK_EQ(told[1], 2);
    CHECK_EQ(told[0], 2);
    CHECK_EQ(telling, 1);
}

static void a_cancel_request_does_not_keep_a_counter_from_settling(void)
{
    struct counter c = {0};
    struct wait_node node = {.settled = count_settled};

    telling = 0;
    counter_owe(&c, 2);
    counter_cancel(&c);
    CHECK(counter_canceled(&c));
    CHECK_EQ(counter_look(&c), -1);
    CHECK(counter_enlist(&c, &node));
    counter_settle(&c, 2);
    CHECK_EQ(telling, 1);
    CHECK_EQ(counter_look(&c), COIR_DONE);
    CHECK(counter_canceled(&c));
}

/* ------------------------------------------------------------------------------------ finishers */

#define FINISHERS_MAX 2

/* Each takes the counter it is handed and releases one unit, a random moment later. */
struct finisher {
    _Alignas(COIR_CACHE_LINE) _Atomic(struct counter *) task; /* NULL: idle */
    uint64_t seed;
    int outcome;        /* of the unit */
    const coir_failure *failure;
};

static struct finisher finisher[FINISHERS_MAX];
static struct counter stop; /* as a task: the thread ends */

static void *finish_tasks(void *arg)
{
    struct finisher *me = arg;
    unsigned turns = 0;

    for (;;) {
        struct counter *c = atomic_load_explicit(&me->task, memory_order_acquire);

        if (!c) {
            spin_pause(&turns);
            continue;
        }
        if (c == &stop)
            return NULL;
        for (uint64_t i = random_next(&me->seed) % 32; i > 0; i--)
            arch_relax();
        if (me->outcome)
            counter_fail(c, me->outcome, me->failure);
        else
            counter_settle(c, 1);
        atomic_store_explicit(&me->task, NULL, memory_order_release);
    }
}

static int finishers; /* that run */

static void start_finishers(struct threads *threads, int n)
{
    for (finishers = 0; finishers < n; finishers++) {
        finisher[finishers] = (struct finisher){.seed = (uint64_t)finishers + 1};
        threads_add(threads, finish_tasks, &finisher[finishers]);
    }
}

static void hand(struct finisher *f, struct counter *c)
{
    unsigned turns = 0;

    while (atomic_load_explicit(&f->task, memory_order_acquire))
        spin_pause(&turns);
    atomic_store_explicit(&f->task, c, memory_order_release);
}

static void owe_to_finishers(struct counter *c)
{
    counter_owe(c, (uint64_t)finishers);
    for (int i = 0; i < finishers; i++)
        hand(&finisher[i], c);
}

static void stop_finishers(struct threads *threads)
{
    for (int i = 0; i < finishers; i++)
        hand(&finisher[i], &stop);
    threads_join(threads);
}

/* Waits with deadlines that are about to pass, then for good. How often they passed. */
static long wait_impatiently(struct counter *c, uint64_t *seed)
{
    long timeouts = 0;
    int outcome;

    do
        outcome = coir_wait_until(public_of(c), timeouts < 20 ? soon(seed, 200) : COIR_NEVER);
    while (outcome == COIR_ETIMEDOUT && ++timeouts);
    CHECK_EQ(outcome, COIR_DONE);
    return timeouts;
}

static bool is_scribble(const struct counter *c)
{
    for (size_t i = 0; i < sizeof *c; i++)
        if (((const unsigned char *)c)[i] != 0xaa)
            return false;
    return true;
}

/* Overwritten counters lie for a while before they are looked at and used again. */
static void nothing_touches_a_counter_after_its_wait(void) /* C1, C2, C3 */
{
    enum { LYING = 16 };
    static struct counter c[LYING];
    struct threads threads = {.count = 0};
    uint64_t seed = 77;
    long rounds = CHECK_SCALE(100000), timeouts = 0;

    memset(c, 0xaa, sizeof c);
    start_finishers(&threads, 1);
    for (long i = 0; check_round(i, rounds); i++) {
        struct counter *one = &c[i % LYING];

        if (!CHECK(is_scribble(one)))
            break;
        memset(one, 0, sizeof *one);
        owe_to_finishers(one);
        timeouts += wait_impatiently(one, &seed);
        memset(one, 0xaa, sizeof *one);
    }
    stop_finishers(&threads);
    CHECK(timeouts > 0);
}

static void the_memory_may_go_after_the_wait(void) /* C1 */
{
    struct threads threads = {.count = 0};
    uint64_t seed = 78;

    start_finishers(&threads, 2);
    for (long i = 0; check_round(i, CHECK_SCALE(50000)); i++) {
        struct counter *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        owe_to_finishers(c);
        wait_impatiently(c, &seed);
        munmap(c, sizeof *c);
    }
    stop_finishers(&threads);
}

/* Who loses the race for the record leaves it alone; the outcome is the worst in either order. */
static void racing_failures_leave_one_record_and_the_worst_outcome(void) /* C4 */
{
    coir_failure a = {.id = 1, .line = 1, .message = "one"}, b = {.id = 2, .line = 2, .message = "two"}, f;
    struct threads threads = {.count = 0};
    bool is_a;

    start_finishers(&threads, 2);
    finisher[0].outcome = COIR_FAILED;
    finisher[0].failure = &a;
    finisher[1].outcome = COIR_PANICKED;
    finisher[1].failure = &b;
    for (long i = 0; check_round(i, CHECK_SCALE(50000)); i++) {
        struct counter c = {0};

        counter_owe(&c, 2);
        hand(&finisher[i % 2], &c);
        hand(&finisher[1 - i % 2], &c);
        CHECK_EQ(coir_wait(public_of(&c)), COIR_PANICKED);
        CHECK_EQ(coir_counter_failure(public_of(&c), &f), COIR_OK);
        is_a = f.id == 1;
        CHECK_EQ(f.line, is_a ? 1 : 2);
        CHECK_STR(f.message, is_a ? "one" : "two");
    }
    stop_finishers(&threads);
}

/* ----------------------------------------------------------------------------------- many waiters */

#define WAITERS 32

static coir_counter shared;
static _Atomic long ready, done, late;

static void *wait_shared(void *number)
{
    uint64_t seed = (uintptr_t)number + 1;
    int outcome;

    atomic_fetch_add(&ready, 1);
    do {
        outcome = coir_wait_until(&shared, (uintptr_t)number % 2 ? soon(&seed, COIR_MS) : COIR_NEVER);
        atomic_fetch_add(&late, outcome == COIR_ETIMEDOUT);
    } while (outcome == COIR_ETIMEDOUT);
    CHECK_EQ(outcome, COIR_FAILED);
    atomic_fetch_add(&done, 1);
    return NULL;
}

static void all_waiters_get_the_outcome(void)
{
    struct threads threads = {.count = 0};
    unsigned turns = 0;

    for (int round = 0; check_round(round, CHECK_SCALE(100)); round++) {
        coir_counter_init(&shared);
        coir_counter_add(&shared, 3);
        ready = done = 0;
        for (uintptr_t i = 0; i < WAITERS; i++)
            threads_add(&threads, wait_shared, (void *)i);
        while (atomic_load(&ready) < WAITERS)
            spin_pause(&turns);
        coir_counter_done(&shared, COIR_DONE);
        coir_counter_done(&shared, COIR_FAILED);
        CHECK_EQ(atomic_load(&done), 0);
        coir_counter_done(&shared, COIR_DONE);
        threads_join(&threads);
        CHECK_EQ(done, WAITERS);
    }
}

/* ------------------------------------------------------------------------------ several counters */

static void a_wait_for_any_ends_with_the_first(void)
{
    enum { ANY = 8 };
    struct counter c[ANY];
    coir_counter *public[ANY];
    struct threads threads = {.count = 0};
    uint64_t seed = 5;
    size_t which;
    int outcome;

    start_finishers(&threads, 2);
    for (long i = 0; check_round(i, CHECK_SCALE(50000)); i++) {
        size_t lucky = random_next(&seed) % ANY;

        memset(c, 0, sizeof c);
        for (size_t k = 0; k < ANY; k++) {
            counter_owe(&c[k], 1);
            public[k] = public_of(&c[k]);
        }
        hand(&finisher[i % 2], &c[lucky]);
        do
            outcome = coir_wait_any(public, ANY, soon(&seed, 200), &which);
        while (outcome == COIR_ETIMEDOUT);
        CHECK_EQ(outcome, COIR_DONE);
        CHECK_EQ(which, lucky);
        for (size_t k = 0; k < ANY; k++)
            CHECK_EQ(c[k].waiters, NULL);
    }
    stop_finishers(&threads);
}

CHECK_MAIN(CASE(a_zero_counter_is_settled),
           CASE(a_wait_past_its_deadline_leaves_the_counter_owed),
           CASE(the_worst_outcome_is_kept),
           CASE(the_first_record_is_kept),
           CASE(a_counter_does_not_wrap_around),
           CASE(a_finisher_uses_no_node_it_has_told),
           CASE(a_waiter_leaves_from_anywhere_in_the_list),
           CASE(who_is_foretold_has_the_counter_still),
           CASE(a_cancel_request_does_not_keep_a_counter_from_settling),
           CASE(nothing_touches_a_counter_after_its_wait),
           CASE(the_memory_may_go_after_the_wait),
           CASE(racing_failures_leave_one_record_and_the_worst_outcome),
           CASE(all_waiters_get_the_outcome),
           CASE(a_wait_for_any_ends_with_the_first))
