/* SPDX-License-Identifier: MIT */
/*
 * system.c - what core/ asks of the kernel and of the rows that are not here: futex, membarrier,
 * time, memory, and the pause of a spin loop.
 *
 * The futex compares against the newest store, which the thread knows from then on, and orders nothing
 * else: a program must not learn anything from having slept. A sleeper with a deadline may be the next to run at any time; then its
 * deadline has passed. membarrier makes one thread after the other pass a full fence, and others
 * may run in between.
 *
 * A thread that pauses in a spin loop goes on when what it accessed last has a newer store than it
 * knows, and its next load returns one of those: so stores arrive at last, and every loop that ends
 * at all ends here. A loop that would never end is a deadlock.
 */
#include "machine.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "life.h"
#include "mem.h"

#define ARENA_BYTES (64 << 10)
#define LINE 64

static _Alignas(64) char arena[ARENA_BYTES];
static size_t arena_used;

void system_reset(void)
{
    arena_used = 0;
    machine.now = COIR_SEC;
}

/* ------------------------------------------------------------------------------------- spin loops */

int explore_spin(void)
{
    struct thread *t = machine.self;
    struct place *p = t->last;

    if (!machine.running)
        schedule_fail("a spin loop outside of the threads");
    t->impatient = true;
    if (!p || p->message[p->count - 1]->at > t->now.at[p->id])
        return 0;
    TRACE_EVENT("spins");
    t->state = THREAD_SPINS;
    p->spinners |= (uint8_t)(1u << t->index);
    machine.ready &= ~(1u << t->index);
    schedule_block();
    return 0;
}

/* ------------------------------------------------------------------------------------------ futex */

static void set_time(int64_t now)
{
    struct usage *u = place_usage((uintptr_t)&machine.now);

    usage_by(u, true);
    usage_count(u, true);
    machine.now = now;
}

static long sleep_on(uintptr_t word, uint32_t value, const struct timespec *until)
{
    struct thread *t = machine.self;

    schedule_point();
    if ((uint32_t)memory_newest(t, word, sizeof value) != value || choice_spurious()) {
        TRACE_EVENT("futex wait: returns at once");
        return -1;
    }
    t->state = THREAD_SLEEPS;
    t->word = word;
    t->deadline = until ? until->tv_sec * COIR_SEC + until->tv_nsec : COIR_NEVER;
    if (!until)
        machine.ready &= ~(1u << t->index);
    TRACE_EVENT("futex wait: sleeps");
    schedule_block();
    if (t->state == THREAD_SLEEPS && machine.now < t->deadline)
        set_time(t->deadline);
    TRACE_EVENT("futex wait: %s", t->state == THREAD_SLEEPS ? "deadline" : "woken");
    t->state = THREAD_READY;
    return 0;
}

static unsigned sleepers_on(uintptr_t word)
{
    unsigned found = 0;

    for (int i = 1; i < THREADS; i++)
        if (machine.thread[i].state == THREAD_SLEEPS && machine.thread[i].word == word)
            found |= 1u << i;
    return found;
}

static long wake(uintptr_t word, int n)
{
    unsigned sleepers;

    schedule_point();
    TRACE_EVENT("futex wake");
    while (n-- > 0 && (sleepers = sleepers_on(word))) {
        unsigned i = choice_thread(sleepers, -1); /* all of them sleep: it costs nothing */

        machine.thread[i].state = THREAD_WOKEN;
        machine.ready |= 1u << i;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------- membarrier */

static long membarrier(int command)
{
    if (machine.scenario->no_membarrier)
        return -1;
    if (command != MEMBARRIER_CMD_PRIVATE_EXPEDITED || !machine.running)
        return 0;
    schedule_point();
    TRACE_EVENT("membarrier: begins");
    memory_fence_full(machine.self);
    for (int i = 1; i < THREADS; i++) {
        struct thread *t = &machine.thread[i];

        if (t == machine.self)
            continue;
        schedule_point();
        memory_fence_full(t);
        machine.barriers++;
        TRACE_EVENT("membarrier: thread %d has passed a fence", i);
    }
    memory_fence_full(machine.self);
    return 0;
}

long explore_syscall(long number, ...)
{
    va_list args;
    long result = -1;

    va_start(args, number);
    if (number == SYS_futex) {
        uintptr_t word = (uintptr_t)va_arg(args, void *);
        int operation = va_arg(args, int) & FUTEX_CMD_MASK;
        uint32_t value = va_arg(args, uint32_t);

        result = operation == FUTEX_WAIT_BITSET
                     ? sleep_on(word, value, va_arg(args, const struct timespec *))
                     : wake(word, (int)value);
    } else if (number == SYS_membarrier) {
        result = membarrier(va_arg(args, int));
    } else {
        schedule_fail("system call %ld is not simulated", number);
    }
    va_end(args);
    return result;
}

/* ----------------------------------------------------------------------------- rows that are not here */

/* Nobody forks: the number of this process is 0, and stays. */
_Atomic(_Atomic uint32_t *) life_word;

uint32_t life_begin(void)
{
    return 0;
}

/* Others may let time pass before. */
int64_t coir_now(void)
{
    struct step step = {place_usage((uintptr_t)&machine.now), false, true};

    schedule_step(&step);
    return machine.now;
}

void *mem_alloc(const struct host *h, size_t bytes)
{
    char *block = arena + arena_used;

    (void)h;
    bytes = (bytes + LINE - 1) / LINE * LINE;
    if (arena_used + LINE + bytes > ARENA_BYTES)
        schedule_fail("a scenario allocates more than %d bytes", ARENA_BYTES);
    arena_used += LINE + bytes;
    memcpy(block, &bytes, sizeof bytes);
    return memset(block + LINE, 0, bytes);
}

void mem_free(const struct host *h, void *memory)
{
    const char *block = memory;
    size_t bytes;

    (void)h;
    if (block < arena || block >= arena + sizeof arena)
        return; /* a static object of the scenario's, or none */
    memcpy(&bytes, block - LINE, sizeof bytes);
    explore_free(memory, bytes);
}

void *explore_map(void *at, size_t bytes, int protection, int flags, int fd, long offset)
{
    (void)at;
    (void)protection;
    (void)flags;
    (void)offset;
    return fd < 0 ? mem_alloc(NULL, bytes) : NULL;
}

int explore_unmap(void *at, size_t bytes)
{
    (void)bytes;
    mem_free(NULL, at);
    return 0;
}

void fatal(const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    schedule_fail("%s", text);
}
