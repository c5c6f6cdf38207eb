/* SPDX-License-Identifier: MIT */
/*
 * race.c - plain accesses: who touched what, and whether anything orders the next touch after it.
 *
 * The compiler's thread sanitizer pass calls the functions below at every plain access of core/ and
 * of the scenarios; its runtime is not linked. Memory is looked at in words of four bytes. An access
 * is known to a thread if its clock is in the thread's view (FastTrack; Flanagan and Freund, 2009).
 */
#include "machine.h"

#include <stdio.h>

#define WORD 4
#define TABLE 2048 /* a power of two */
#define FILL_MAX (TABLE / 2)
#define ACCESSES_MAX 100000 /* of one execution; more is an endless loop */

struct word {
    uintptr_t address;
    uint32_t execution;
    stamp wrote;          /* clock of its last write, by `writer` */
    uint8_t writer;
    bool freed;
    stamp read[THREADS];  /* clock of each thread's last read */
    const void *wrote_at; /* in the code */
    const void *read_at[THREADS];
};

static struct word table[TABLE];
static uint32_t filled_in; /* the execution that `filled` is about */
static unsigned filled, accesses;

static void start_execution(void)
{
    filled_in = machine.execution;
    filled = accesses = 0;
}

static struct word *word_of(uintptr_t address)
{
    size_t i = (address / WORD * UINT64_C(0x9e3779b97f4a7c15)) >> 53;
    struct word *w = &table[i];

    while (w->execution == machine.execution && w->address != address) {
        i = (i + 1) % TABLE;
        w = &table[i];
    }
    if (w->execution != machine.execution) {
        *w = (struct word){.address = address, .execution = machine.execution};
        if (++filled > FILL_MAX)
            schedule_fail("an execution touches more than %d words", FILL_MAX);
    }
    return w;
}

static void race(const char *what, const void *pc, const char *with, int other, const void *other_pc)
{
    char here[128], there[128];

    snprintf(here, sizeof here, "%s", source_of(pc));
    snprintf(there, sizeof there, "%s", source_of(other_pc));
    schedule_fail("data race: thread %d %s at %s, and nothing orders that after thread %d's %s at %s",
                  machine.self->index, what, here, other, with, there);
}

static void touch(struct word *w, bool write, const void *pc)
{
    const struct thread *t = machine.self;

    if (w->freed)
        schedule_fail("thread %d touches freed memory at %s", t->index, source_of(pc));
    if (w->wrote > t->now.at[w->writer])
        race(write ? "writes" : "reads", pc, "write", w->writer, w->wrote_at);
    if (write) {
        for (int i = 0; i < THREADS; i++)
            if (w->read[i] > t->now.at[i] && i != t->index)
                race("writes", pc, "read", i, w->read_at[i]);
        w->wrote = t->now.at[t->index];
        w->writer = (uint8_t)t->index;
        w->wrote_at = pc;
    } else {
        w->read[t->index] = t->now.at[t->index];
        w->read_at[t->index] = pc;
    }
}

void race_access(uintptr_t address, size_t bytes, bool write, const void *pc)
{
    if (!machine.running)
        return;
    if (filled_in != machine.execution)
        start_execution();
    if (++accesses > ACCESSES_MAX)
        schedule_fail("an execution does not end: endless loop at %s", source_of(pc));
    for (uintptr_t a = address & ~(uintptr_t)(WORD - 1); a < address + bytes; a += WORD)
        touch(word_of(a), write, pc);
}

void race_free(uintptr_t from, size_t bytes)
{
    const void *pc = __builtin_return_address(0);

    race_access(from, bytes, true, pc);
    for (uintptr_t a = from; a < from + bytes; a += WORD)
        word_of(a)->freed = true;
}

void explore_free(const volatile void *memory, size_t bytes)
{
    memory_free((uintptr_t)memory, bytes);
    race_free((uintptr_t)memory, bytes);
}

/* ------------------------------------------------------------------------- called by the compiler */

#define ACCESS(name, bytes, write)                                                       \
    void name(void *address);                                                            \
    void name(void *address)                                                             \
    {                                                                                    \
        race_access((uintptr_t)address, bytes, write, __builtin_return_address(0));      \
    }

#define RANGE(name, write)                                                               \
    void name(void *address, size_t bytes);                                              \
    void name(void *address, size_t bytes)                                               \
    {                                                                                    \
        race_access((uintptr_t)address, bytes, write, __builtin_return_address(0));      \
    }

ACCESS(__tsan_read1, 1, false)
ACCESS(__tsan_read2, 2, false)
ACCESS(__tsan_read4, 4, false)
ACCESS(__tsan_read8, 8, false)
ACCESS(__tsan_read16, 16, false)
ACCESS(__tsan_write1, 1, true)
ACCESS(__tsan_write2, 2, true)
ACCESS(__tsan_write4, 4, true)
ACCESS(__tsan_write8, 8, true)
ACCESS(__tsan_write16, 16, true)
RANGE(__tsan_read_range, false)
RANGE(__tsan_write_range, true)

void __tsan_init(void);
void __tsan_init(void)
{
}
