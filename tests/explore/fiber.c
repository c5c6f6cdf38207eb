/* SPDX-License-Identifier: MIT */
/*
 * fiber.c - explores the states of core/fiber.c: one waker wins, nobody resumes a stack that is still
 * in use (STACK), no notice and no cancel is missed (ASK).
 *
 * The stack is one plain variable, written by who runs on it and by who leaves it: two at a time
 * are a data race. Queues are core/inject.c's; leaving and resuming are as in worker.c.
 */
#include "fiber.h"

#include <string.h>

#include "counter.h"
#include "explore.h"
#include "inject.h"

static struct fiber f;
static int stack;                 /* the thread that runs on it, or 0 */
static struct inject ready;
static struct host host;
static struct counter counter;    /* its cancel flag */
static struct link stop;          /* queued: the worker may go */
static _Atomic uint64_t handed;   /* generation of the latest wait, given to wakers, plus 1 */
static uint64_t first_generation;

static int resumes;               /* of the fiber; its own, like what follows */
static enum wake reason[2];       /* of each wait */

static void setup(void)
{
    memset(&f, 0, sizeof f);
    memset(&ready, 0, sizeof ready);
    memset(&counter, 0, sizeof counter);
    memset(&stop, 0, sizeof stop);
    memset(reason, 0, sizeof reason);
    inject_init(&ready, &host, 8);
    resumes = 0;
    stack = 1;
    first_generation = 5;
    atomic_store_explicit(&f.state, fiber_word(first_generation, WAKE_NONE, FIBER_RUNNING),
                          memory_order_relaxed);
    atomic_store_explicit(&handed, 0, memory_order_relaxed);
    counter_owe(&counter, 1);
}

/* --------------------------------------------------------------------------------------- the fiber */

static struct link *next_ready(void)
{
    struct link *e;
    unsigned turns = 0;

    while (!(e = inject_take_fiber(&ready)))
        spin_pause(&turns);
    return e;
}

static void queue(void)
{
    inject_push_fiber(&ready, &f.stack.link);
}

/* The fiber runs again, on this thread. */
static void resumed(int thread)
{
    MUST(stack == 0 || stack == thread);
    stack = thread;
    MUST(resumes < 2);
    reason[resumes++] = fiber_resume(&f);
}

static uint64_t begin(void)
{
    uint64_t generation;

    stack = 1;
    generation = fiber_park_begin(&f);
    MUST(generation == first_generation + (uint64_t)resumes);
    atomic_store_explicit(&handed, generation + 1, memory_order_release);
    return generation;
}

/* True: the stack was left, and is another's business from now on. */
static bool leave(void)
{
    if (!fiber_is(&f, FIBER_PARKING)) {
        resumed(1);
        return false;
    }
    stack = 0;
    if (!fiber_publish(&f))
        queue();
    return true;
}

/* Waits, on the one worker that there is. */
static void wait(void)
{
    begin();
    if (!leave())
        return;
    MUST(next_ready() == &f.stack.link);
    resumed(1);
}

static void wait_twice(void)
{
    wait();
    wait();
}

/* Waits, and goes on on another worker unless it is told at once. */
static void wait_and_move(void)
{
    begin();
    if (!leave())
        inject_push_fiber(&ready, &stop);
}

static void work_3(void)
{
    if (next_ready() == &f.stack.link)
        resumed(3);
}

/* Waits, but not if its counter is canceled already. */
static void wait_unless_canceled(void)
{
    uint64_t generation = begin();

    if (counter_canceled(&counter))
        fiber_wake(&f, generation, WAKE_CANCEL);
    if (leave()) {
        MUST(next_ready() == &f.stack.link);
        resumed(1);
    }
}

/* Lets others have the stack's worker; goes on when it is its turn again. */
static void yield_1(void)
{
    stack = 0;
    fiber_set(&f, FIBER_RUNNING, FIBER_READY);
    queue();
}

/* ------------------------------------------------------------------------------------------ wakers */

static uint64_t handed_generation(uint64_t least)
{
    uint64_t generation;
    unsigned turns = 0;

    while ((generation = atomic_load_explicit(&handed, memory_order_acquire)) < least + 1)
        spin_pause(&turns);
    return generation - 1;
}

static bool wake(uint64_t generation, enum wake why)
{
    bool won = fiber_wake(&f, generation, why);

    if (won)
        queue();
    return won;
}

static void wake_by_event_2(void)
{
    wake(handed_generation(first_generation), WAKE_EVENT);
}

static void wake_by_timeout_3(void)
{
    wake(handed_generation(first_generation), WAKE_TIMEOUT);
}

/* Of the first wait; it may come during the second. */
static void wake_by_late_timeout_3(void)
{
    handed_generation(first_generation);
    wake(first_generation, WAKE_TIMEOUT);
}

static void wake_both_waits_2(void)
{
    handed_generation(first_generation);
    wake(first_generation, WAKE_EVENT);
    handed_generation(first_generation + 1);
    wake(first_generation + 1, WAKE_EVENT);
}

static int note; /* the only waker's, then the fiber's */

static void setup_note(void)
{
    setup();
    note = 0;
}

static void write_and_wake_2(void)
{
    uint64_t generation = handed_generation(first_generation);

    note = 1;
    wake(generation, WAKE_EVENT);
}

static void wait_and_read(void)
{
    wait();
    MUST(note == 1);
    note = 2;
}

/* ---------------------------------------------------------------------------------------- cancelers */

/* Looks at the stack of a parked fiber; wakes it if it is canceled. */
static void visit(void)
{
    uint64_t generation;

    if (!fiber_claim_parked(&f, &generation))
        return;
    MUST(stack == 0);
    if (counter_canceled(&counter))
        fiber_wake(&f, generation, WAKE_CANCEL);
    if (!fiber_publish(&f))
        queue();
}

static void cancel(void)
{
    counter_cancel(&counter);
    visit();
}

static void visit_3(void)
{
    visit();
}

/* -------------------------------------------------------------------------------------------- checks */

static void check_running(void)
{
    MUST(fiber_is(&f, FIBER_RUNNING));
    MUST(inject_empty(&ready));
}

static void check_one_won(void)
{
    check_running();
    MUST(resumes == 1);
    MUST(reason[0] == WAKE_EVENT || reason[0] == WAKE_TIMEOUT || reason[0] == WAKE_CANCEL);
}

static void check_event(void)
{
    check_running();
    MUST(resumes == 1 && reason[0] == WAKE_EVENT);
}

static void check_late(void)
{
    check_running();
    MUST(resumes == 2 && reason[1] == WAKE_EVENT);
}

static void check_canceled(void)
{
    check_running();
    MUST(resumes == 1 && reason[0] == WAKE_CANCEL);
}

static void check_yielded(void)
{
    check_running();
    MUST(resumes == 1 && reason[0] == WAKE_NONE && stack == 3);
}

EXPLORE_MAIN(
    {.name = "one_waker_wins", setup, {wait, wake_by_event_2, wake_by_timeout_3}, check_one_won},
    {.name = "the_woken_sees_what_its_waker_wrote", setup_note, {wait_and_read, write_and_wake_2},
     check_event},
    {.name = "a_late_waker_finds_its_wait_gone", setup,
     {wait_twice, wake_both_waits_2, wake_by_late_timeout_3}, check_late},
    {.name = "a_stack_that_moves_has_been_left", setup, {wait_and_move, wake_by_event_2, work_3},
     check_event},
    {.name = "a_yielded_stack_has_been_left", setup, {yield_1, NULL, work_3}, check_yielded},
    {.name = "a_claimed_stack_may_be_read", setup, {wait, wake_by_event_2, visit_3}, check_event},
    {.name = "two_cancelers_take_turns", setup, {wait_unless_canceled, cancel, visit_3},
     check_canceled},
    {.name = "a_cancel_is_not_missed", setup, {wait_unless_canceled, cancel}, check_canceled},
    {.name = "a_cancel_races_an_event", setup, {wait_unless_canceled, cancel, wake_by_event_2},
     check_one_won})
