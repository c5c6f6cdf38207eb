/* SPDX-License-Identifier: MIT */
/*
 * contain_defer_test.c - the deferred handlers of a job that overflowed: they run on another stack
 * while the job's frames are whole, as its own, and even if no stack is to be had.
 */
#include "containable.h"
#include "job.h"

static void run_contained(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = containing(workers);

    register_containable();
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

static int outcome_of(coir_fn *fn, void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, fn, arg), COIR_OK);
    return coir_wait(&c);
}

/* ------------------------------------------------------------------------- whole frames, in order */

enum { WORDS = 40, LEVELS = 30 };

/* What a level of the recursion leaves in its frame for its handler. */
struct level {
    int number;
    int *next;            /* number of the handler that shall run next */
    const struct fiber *fiber; /* on which the job ran */
    volatile uint64_t word[WORDS];
};

static bool is_on(const struct fiber *f, const void *address)
{
    return (uintptr_t)address - (uintptr_t)f->bottom < f->bytes;
}

static void look_at_level(void *arg)
{
    const struct level *l = arg;
    char here;

    CHECK(is_on(l->fiber, l));
    CHECK(!is_on(l->fiber, &here));
    CHECK_EQ(l->number, *l->next);
    --*l->next;
    for (int i = 0; i < WORDS; i++)
        if (!CHECK_EQ(l->word[i], (uint64_t)l->number * 1000 + (uint64_t)i))
            break;
    if (l->number % 3 == 0)
        coir_yield();
    if (l->number % 5 == 0)
        CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
}

static CONTAINABLE void descend(int number, int *next)
{
    volatile signed char start = 0;
    struct level l = {.number = number, .next = next};

    for (int i = 0; i < WORDS; i++)
        l.word[i] = (uint64_t)number * 1000 + (uint64_t)i;
    l.fiber = worker_self()->current;
    (void)!coir_defer(look_at_level, &l);
    *next = number;
    if (number < LEVELS)
        descend(number + 1, next);
    else
        recurse(&start, NULL, NULL);
    __asm__ volatile("" : : "r"(&l) : "memory"); /* not a tail call */
}

static CONTAINABLE void descend_from_first(void *next)
{
    descend(0, next);
}

static void levels(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(400); i++) {
        int next = -7;

        CHECK_EQ(outcome_of(descend_from_first, &next), COIR_PANICKED);
        CHECK_EQ(next, -1);
    }
}

static void handlers_run_elsewhere_while_the_frames_are_whole(void)
{
    run_contained(1, levels, NULL);
    run_contained(2, levels, NULL);
    run_contained(4, levels, NULL);
}

/* ------------------------------------------------------------------------- identity of a handler */

static struct job *job_here(void)
{
    return job_proper(*job_slot());
}

struct identity {
    struct job *job;
    uint64_t id;
    coir_counter *counter; /* in the job's frame, spawned on */
    int ran, child_ran;
};

static void count_child(void *arg)
{
    run_count(&((struct identity *)arg)->child_ran);
}

static void check_identity(void *arg)
{
    coir_counter mine = COIR_COUNTER_INIT;
    struct identity *i = arg;

    CHECK_EQ(job_here(), i->job);
    CHECK_EQ(coir_job_id(), i->id);
    CHECK_EQ(coir_canceled(), 0);
    CHECK_EQ(coir_spawn(&mine, count_child, i), COIR_OK); /* in this frame, which is on another stack */
    CHECK_EQ(coir_wait(&mine), COIR_DONE);
    CHECK_EQ(coir_wait(i->counter), COIR_CANCELED); /* settled before the handlers run */
    CHECK_EQ(coir_spawn(i->counter, count_child, i), COIR_OK); /* canceled for good */
    CHECK_EQ(coir_wait(i->counter), COIR_CANCELED);
    i->ran++;
}

static CONTAINABLE void overflow_as_somebody(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct identity *i = arg;

    i->job = job_here();
    i->id = coir_job_id();
    i->counter = &c;
    (void)!coir_defer(check_identity, i);
    (void)!coir_spawn(&c, count_child, i);
    overflow(NULL);
}

static void check_handler_is_the_job(void *unused)
{
    struct identity i = {0};

    (void)unused;
    CHECK_EQ(outcome_of(overflow_as_somebody, &i), COIR_PANICKED);
    CHECK_EQ(i.ran, 1);
    CHECK_EQ(i.child_ran, 1);
    CHECK_EQ(coir_try(overflow_as_somebody, &i, NULL), COIR_PANICKED);
    CHECK_EQ(i.ran, 2);
}

static void a_handler_is_the_job(void)
{
    run_contained(1, check_handler_is_the_job, NULL);
}

/* What a handler spawns on a counter of the job's frames and leaves: they are still whole. */
struct leaving {
    coir_counter *counter;
    int started, ended;
};

static void ends_late(void *arg)
{
    struct leaving *l = arg;

    run_count(&l->started);
    CHECK_EQ(coir_sleep_until(coir_now() + 3600 * COIR_SEC), COIR_ECANCELED);
    run_count(&l->ended);
}

static void spawn_and_leave(void *arg)
{
    struct leaving *l = arg;

    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_spawn(l->counter, ends_late, l), COIR_OK);
    while (__atomic_load_n(&l->started, __ATOMIC_RELAXED) < 5)
        coir_yield();
}

static CONTAINABLE void overflow_above_a_counter(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct leaving *l = arg;

    l->counter = &c;
    (void)!coir_defer(spawn_and_leave, l);
    overflow(NULL);
}

static void leave_children(void *unused)
{
    coir_failure f;

    (void)unused;
    for (int i = 0; i < 10; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        struct leaving l = {NULL, 0, 0};

        CHECK_EQ(coir_spawn(&c, overflow_above_a_counter, &l), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        CHECK_EQ(l.ended, 5);
        CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
    }
}

static void what_handlers_leave_on_the_job_s_counters_ends_before_its_frames(void)
{
    run_contained(1, leave_children, NULL);
    run_contained(2, leave_children, NULL);
}

/* Counters on many stacks. The lowest of these stacks is given up, a handler that waits takes the spare
 * one, and so the next handler runs on the lowest. Its job, on the highest, has overflowed: all
 * others lie between the two, and are neither's. */
enum { STACKS = 8, SLOW_ONE = STACKS - 2, LAST = STACKS - 1 };

struct bystander {
    struct bystander *all; /* STACKS of them */
    coir_counter *counter; /* in its frame */
    coir_counter gate;
    coir_fn *handler;      /* it shall overflow, and this shall run then */
};

static void nop(void *unused)
{
    (void)unused;
}

static void spawn_on_bystanders(void *arg)
{
    struct bystander *all = arg;

    CHECK((uintptr_t)&arg < (uintptr_t)all[1].counter);
    for (int i = 1; i < SLOW_ONE; i++)
        CHECK_EQ(coir_spawn(all[i].counter, nop, NULL), COIR_OK);
}

static void wait_at_gate(void *arg)
{
    struct bystander *all = arg;

    CHECK_EQ(coir_wait(&all[0].gate), COIR_DONE);
}

static CONTAINABLE void stand_by(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct bystander *b = arg;

    coir_counter_add(&c, 1);
    b->counter = &c;
    (void)!coir_wait_until(&b->gate, COIR_NEVER);
    if (b->handler && coir_defer(b->handler, b->all) == COIR_OK)
        overflow(NULL);
    coir_counter_done(&c, COIR_DONE);
    (void)!coir_wait(&c);
}

static void let_go(struct bystander *b, coir_counter *c, int outcome)
{
    coir_counter_done(&b->gate, COIR_DONE);
    CHECK_EQ(coir_wait(c), outcome);
}

static void stand_around(void *unused)
{
    struct bystander b[STACKS] = {[SLOW_ONE] = {.handler = wait_at_gate},
                                  [LAST] = {.handler = spawn_on_bystanders}};
    coir_counter c[STACKS] = {COIR_COUNTER_INIT};

    (void)unused;
    for (int i = 0; i < STACKS; i++) {
        b[i].all = b;
        coir_counter_add(&b[i].gate, 1);
        CHECK_EQ(coir_spawn(&c[i], stand_by, &b[i]), COIR_OK);
        coir_yield();
    }
    let_go(&b[0], &c[0], COIR_DONE);
    coir_counter_add(&b[0].gate, 1);
    coir_counter_done(&b[SLOW_ONE].gate, COIR_DONE);
    coir_yield();
    let_go(&b[LAST], &c[LAST], COIR_PANICKED);
    let_go(&b[0], &c[SLOW_ONE], COIR_PANICKED);
    for (int i = 1; i < SLOW_ONE; i++)
        let_go(&b[i], &c[i], COIR_DONE);
}

static void a_handler_takes_no_counter_for_its_job_s_that_is_not(void)
{
    run_contained(1, stand_around, NULL);
}

/* ---------------------------------------------------------------------- handlers that fail, too */

static void count(void *n)
{
    ++*(int *)n;
}

static void panic_in_handler(void *n)
{
    count(n);
    coir_panic("in a handler");
}

static CONTAINABLE void overflow_in_handler(void *n)
{
    (void)!coir_defer(count, n); /* of the handler's own boundary */
    overflow(NULL);
}

static CONTAINABLE void overflow_with_bad_handlers(void *n)
{
    (void)!coir_defer(count, n);
    (void)!coir_defer(panic_in_handler, n);
    (void)!coir_defer(overflow_in_handler, n);
    (void)!coir_defer(count, n);
    for (int i = 0; i < COIR_DEFER_INLINE; i++) /* more than there is room for in the record */
        (void)!coir_defer(count, n);
    overflow(NULL);
}

static void bad_handlers(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f;
        int n = 0;

        CHECK_EQ(coir_spawn(&c, overflow_with_bad_handlers, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        CHECK_EQ(n, 4 + COIR_DEFER_INLINE);
        CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW); /* the first failure stays */
    }
}

static void handlers_that_fail_keep_no_other_from_running(void)
{
    run_contained(1, bad_handlers, NULL);
    run_contained(3, bad_handlers, NULL);
}

/* ---------------------------------------------------------------------------- no stack to be had */

struct crowd {
    coir_runtime *rt;
    coir_counter gate;
    int parked, handled;
};

static void stand_in_the_way(void *arg)
{
    struct crowd *c = arg;

    run_count(&c->parked);
    (void)!coir_wait_until(&c->gate, COIR_NEVER);
}

static void count_handled(void *arg)
{
    run_count(&((struct crowd *)arg)->handled);
}

static CONTAINABLE void overflow_in_crowd(void *arg)
{
    (void)!coir_defer(count_handled, arg);
    overflow(NULL);
}

/* Parks fibers until no more can park, then overflows: the reserve is all there is. */
static void fill_and_overflow(void *arg)
{
    coir_counter all = COIR_COUNTER_INIT;
    struct crowd *c = arg;
    coir_stats s;

    coir_counter_add(&c->gate, 1);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(coir_spawn(&all, stand_in_the_way, c), COIR_OK);
        coir_yield();
    }
    CHECK_EQ(coir_stats_read(c->rt, &s), COIR_OK);
    CHECK_EQ(s.stacks, s.stacks_limit);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(coir_try(overflow_in_crowd, c, NULL), COIR_PANICKED);
        CHECK_EQ(coir_spawn(&all, stand_in_the_way, c), COIR_OK); /* would take the reserve if it could */
        coir_yield();
    }
    CHECK_EQ(c->handled, 10);
    coir_counter_done(&c->gate, COIR_DONE);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(outcome_of(overflow_in_crowd, c), COIR_PANICKED);
    CHECK_EQ(c->handled, 20);
}

static void handlers_run_when_every_stack_is_taken(void)
{
    struct crowd c = {.gate = COIR_COUNTER_INIT};
    coir_counter first = COIR_COUNTER_INIT;
    coir_options o = containing(1);

    o.stacks_max = 8;
    register_containable();
    CHECK_EQ(coir_open(&o, &c.rt), COIR_OK);
    CHECK_EQ(coir_submit(c.rt, &first, fill_and_overflow, &c), COIR_OK);
    CHECK_EQ(coir_wait(&first), COIR_DONE);
    run_close(c.rt);
}

/* ------------------------------------------------------------------------- close and cancel */

static void wait_for_ever_in_handler(void *arg)
{
    int *flags = arg; /* it runs; its sleep was canceled */

    run_set(&flags[0]);
    flags[1] = coir_sleep_until(coir_now() + 3600 * COIR_SEC) == COIR_ECANCELED;
}

static CONTAINABLE void overflow_with_slow_handler(void *arg)
{
    (void)!coir_defer(wait_for_ever_in_handler, arg);
    overflow(NULL);
}

static void a_close_ends_what_a_handler_waits_for(void)
{
    coir_options o = containing(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt receipt;
    coir_runtime *rt;
    int flags[2] = {0, 0};

    register_containable();
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, overflow_with_slow_handler, flags), COIR_OK);
    run_until(&flags[0]);
    while (coir_close(rt, COIR_MS, &receipt) == COIR_ETIMEDOUT)
        ; /* the machine is busy */
    CHECK(flags[1]);
    CHECK_EQ(receipt.running, 0);
    CHECK_EQ(receipt.ended[COIR_PANICKED], 1);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
}

static void cancel_slow_handler(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int flags[2] = {0, 0};

    (void)unused;
    CHECK_EQ(coir_spawn(&c, overflow_with_slow_handler, flags), COIR_OK);
    run_until(&flags[0]);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK(flags[1]);
}

static void a_cancel_reaches_the_handlers(void)
{
    run_contained(1, cancel_slow_handler, NULL);
    run_contained(2, cancel_slow_handler, NULL);
}

CHECK_MAIN(CASE(handlers_run_elsewhere_while_the_frames_are_whole), CASE(a_handler_is_the_job),
           CASE(a_handler_takes_no_counter_for_its_job_s_that_is_not),
           CASE(what_handlers_leave_on_the_job_s_counters_ends_before_its_frames),
           CASE(handlers_that_fail_keep_no_other_from_running),
           CASE(handlers_run_when_every_stack_is_taken), CASE(a_close_ends_what_a_handler_waits_for),
           CASE(a_cancel_reaches_the_handlers))
