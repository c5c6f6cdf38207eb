/* SPDX-License-Identifier: MIT */
/*
 * schedule.c - threads as contexts of one OS thread, and who takes the next step.
 *
 * An operation that others can notice calls schedule_point first. Threads switch to each other
 * directly. Thread 0 runs setup, waits for the others, and runs check; when it is done, or when
 * something fails anywhere, control returns to schedule_run and the stacks are abandoned.
 */
#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arch.h"

#define STACK_BYTES (64 << 10)

struct machine machine = {.width = STEP};

static _Alignas(64) char stack[THREADS][STACK_BYTES];
static void *home; /* schedule_run's stack pointer */

static void switch_to(struct thread *from, struct thread *to)
{
    machine.self = to;
    local_exchange(from->index, to->index);
    arch_switch_shared(&from->sp, to->sp, NULL);
}

static void leave(void)
{
    machine.running = false;
    arch_switch_shared(&machine.self->sp, home, NULL);
    __builtin_trap(); /* abandoned */
}

void schedule_fail(const char *format, ...)
{
    va_list args;

    if (!machine.failure[0]) {
        va_start(args, format);
        vsnprintf(machine.failure, sizeof machine.failure, format, args);
        va_end(args);
    }
    TRACE_EVENT("%s", machine.failure);
    leave();
    __builtin_trap();
}

void schedule_abandon(void)
{
    machine.abandoned = true;
    leave();
    __builtin_trap();
}

int explore_thread(void)
{
    return machine.self->index;
}

void explore_broken(const char *file, int line, const char *text)
{
    schedule_fail("%s:%d: not true: %s", file, line, text);
}

/* ----------------------------------------------------------------------------------------- steps */

/* Whether other threads may go first. */
static bool is_open(void)
{
    if (!machine.running)
        return false;
    if (++machine.steps > STEPS_MAX)
        schedule_fail("an execution does not end: %d steps", STEPS_MAX);
    return machine.ready != 1u << machine.self->index && choice_may_preempt();
}

/* True: others have gone first. */
static bool yield_to(unsigned next)
{
    struct thread *t = machine.self;

    if (next == (unsigned)t->index)
        return false;
    switch_to(t, &machine.thread[next]);
    return true;
}

void schedule_point(void)
{
    if (is_open())
        yield_to(choice_thread(machine.ready, machine.self->index));
}

/* If nothing that others did when they went first has to do with the step, it might as well have come before all
 * that: then the switch was one before the thread's next step, and that execution is searched, too. So might a look at
 * a store that was there before. */
static void step_apart(const struct step *step)
{
    int t = machine.self->index;
    unsigned against = usage_against(step->usage, t, step->writes), barriers = machine.barriers;
    const struct message *next = place_next_message();

    machine.fresh = NULL;
    if (!yield_to(choice_before(step, machine.ready)))
        return;
    machine.fresh = barriers == machine.barriers ? next : NULL;
    if (machine.fresh && against == usage_against(step->usage, t, step->writes))
        schedule_abandon();
}

void schedule_step(const struct step *step)
{
    struct usage *u = step->usage;
    bool open = is_open();

    machine.fresh = NULL;
    if (!machine.running)
        return;
    if (!usage_by(u, step->writes)) {
        if (open)
            choice_none();
    } else if (open && step->apart && choice_is_search()) {
        step_apart(step);
    } else if (open) {
        yield_to(choice_thread(machine.ready, machine.self->index));
        machine.fresh = NULL; /* others have had theirs */
    }
    usage_count(u, step->writes);
}

static const char *what_it_does(const struct thread *t)
{
    switch (t->state) {
    case THREAD_SPINS: return "spins";
    case THREAD_SLEEPS: return "sleeps";
    default: return "has ended";
    }
}

static void deadlock(void)
{
    char text[256] = "";
    size_t n = 0;

    for (int i = 1; i < THREADS; i++)
        if (machine.scenario->thread[i - 1] && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s thread %d %s", n ? "," : "", i,
                                  what_it_does(&machine.thread[i]));
    schedule_fail("nobody can go on:%s", text);
}

void schedule_block(void)
{
    struct thread *t = machine.self;
    unsigned next;

    if (!machine.ready)
        deadlock();
    next = choice_thread(machine.ready, -1);
    if (next != (unsigned)t->index)
        switch_to(t, &machine.thread[next]);
}

/* --------------------------------------------------------------------------------------- threads */

static void run_thread(void *passed, void *arg)
{
    struct thread *t = arg;

    (void)passed;
    machine.scenario->thread[t->index - 1]();
    explore_leave_frames();
    t->state = THREAD_DONE;
    machine.ready &= ~(1u << t->index);
    if (!machine.ready) {
        for (int i = 1; i < THREADS; i++)
            if (machine.thread[i].state != THREAD_DONE)
                deadlock();
        switch_to(t, &machine.thread[0]);
    }
    schedule_block();
    __builtin_trap(); /* abandoned */
}

static void prepare(struct thread *t, arch_entry_fn *entry)
{
    struct arch_record *record;

    t->sp = arch_prepare(stack[t->index] + STACK_BYTES, entry, t, &record);
}

/* They know what setup has done. */
static void start_threads(void)
{
    struct thread *main = &machine.thread[0];

    main->now.at[0]++;
    for (int i = 1; i < THREADS; i++) {
        struct thread *t = &machine.thread[i];

        if (!machine.scenario->thread[i - 1]) {
            t->state = THREAD_DONE;
            continue;
        }
        view_copy(&t->now, &main->now);
        t->now.at[i] = 1;
        t->state = THREAD_READY;
        machine.ready |= 1u << i;
        prepare(t, run_thread);
    }
}

static void join_threads(void)
{
    for (int i = 1; i < THREADS; i++)
        view_join(&machine.thread[0].now, &machine.thread[i].now);
}

static void run_scenario(void *passed, void *arg)
{
    (void)passed;
    (void)arg;
    machine.scenario->setup();
    start_threads();
    choice_start();
    machine.running = true;
    schedule_block();
    machine.running = false;
    join_threads();
    if (machine.scenario->check)
        machine.scenario->check();
    leave();
}

static void reset(void)
{
    place_reset();
    view_clear(&machine.sc);
    system_reset();
    local_reset();
    machine.ready = 0;
    machine.steps = 0;
    machine.failure[0] = '\0';
    machine.running = machine.abandoned = false;
    for (int i = 0; i < THREADS; i++) {
        struct thread *t = &machine.thread[i];

        t->state = THREAD_DONE;
        view_clear(&t->now);
        t->index = i;
        t->has_unfenced = t->has_released = t->impatient = false;
        t->last = NULL;
    }
    machine.thread[0].now.at[0] = 1;
}

bool schedule_run(const struct scenario *s)
{
    machine.execution++;
    if (machine.scenario != s)
        place_forget();
    machine.scenario = s;
    reset();
    machine.self = &machine.thread[0];
    prepare(&machine.thread[0], run_scenario);
    arch_switch_shared(&home, machine.thread[0].sp, NULL);
    if (machine.abandoned)
        race_take_back();
    return machine.abandoned || !machine.failure[0];
}
