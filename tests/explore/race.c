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
#define WHOLE 0xf /* its bytes, as bits */
#define TABLE_BITS 13
#define TABLE (1u << TABLE_BITS)
#define FILL_MAX (int)(TABLE / 2)
#define FRAMES_BYTES (12 << 10) /* below a frame: what its calls have had */
#define ACCESSES_MAX 100000 /* of one execution; more is an endless loop */

/* Programs lie in the lowest 4 GiB (-no-pie). */
typedef uint32_t code_address;

struct word {
    uintptr_t address;
    uint32_t execution;
    stamp wrote;          /* clock of its last write, by `writer` */
    uint8_t writer;
    uint8_t written;      /* bytes of it, as bits, that were */
    bool freed;
    stamp read[THREADS];  /* clock of each thread's last read */
    code_address wrote_at;
    code_address read_at[THREADS];
};

static struct word table[TABLE];
static uint32_t filled_in; /* the execution that the following is about */
static int filled; /* words of the table */
static int accesses;
static struct word *touched[FILL_MAX]; /* by this execution */

static void start_execution(void)
{
    filled_in = machine.execution;
    filled = accesses = 0;
}

/* Where a word is or may be put. */
static struct word *find_word(uintptr_t address)
{
    size_t i = (address / WORD * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TABLE_BITS);

    while (table[i].execution == machine.execution && table[i].address != address)
        i = (i + 1) % TABLE;
    return &table[i];
}

/* NULL: nobody has touched it. */
static struct word *known_word(uintptr_t address)
{
    struct word *w = find_word(address);

    return w->execution == machine.execution ? w : NULL;
}

static struct word *word_of(uintptr_t address)
{
    struct word *w = find_word(address);

    if (w->execution != machine.execution) {
        *w = (struct word){.address = address, .execution = machine.execution,
                           .freed = place_is_freed(address)};
        if (filled == FILL_MAX)
            schedule_fail("an execution touches more than %d words", FILL_MAX);
        touched[filled++] = w;
    }
    return w;
}

static void race(const char *what, code_address pc, const char *with, int other, code_address other_pc)
{
    char here[128], there[128];

    snprintf(here, sizeof here, "%s", source_of(pc));
    snprintf(there, sizeof there, "%s", source_of(other_pc));
    schedule_fail("data race: thread %d %s at %s, and nothing orders that after thread %d's %s at %s",
                  machine.self->index, what, here, other, with, there);
}

/* Bytes of the word at w, as bits, that lie in [from, to). */
static uint8_t part(uintptr_t w, uintptr_t from, uintptr_t to)
{
    uint8_t bits = 0;

    if (w >= from && w + WORD <= to)
        return WHOLE;
    for (unsigned i = 0; i < WORD; i++)
        if (w + i >= from && w + i < to)
            bits |= (uint8_t)(1u << i);
    return bits;
}

/* written: bytes of it, as bits; 0: it is read. */
static void touch(struct word *w, uint8_t written, code_address pc)
{
    const struct thread *t = machine.self;

    if (w->freed)
        schedule_fail("thread %d touches freed memory at %s", t->index, source_of(pc));
    if (w->wrote > t->now.at[w->writer])
        race(written ? "writes" : "reads", pc, "write", w->writer, w->wrote_at);
    if (written) {
        for (int i = 0; i < THREADS; i++)
            if (w->read[i] > t->now.at[i] && i != t->index)
                race("writes", pc, "read", i, w->read_at[i]);
        w->wrote = t->now.at[t->index];
        w->writer = (uint8_t)t->index;
        w->written = written;
        w->wrote_at = pc;
    } else {
        w->read[t->index] = t->now.at[t->index];
        w->read_at[t->index] = pc;
    }
}

void race_access(uintptr_t address, size_t bytes, bool write, const void *pc)
{
    if (!machine.running || local_has(address))
        return;
    if (filled_in != machine.execution)
        start_execution();
    if (write)
        place_overwritten(address, bytes);
    if (++accesses > ACCESSES_MAX)
        schedule_fail("an execution does not end: endless loop at %s",
                      source_of((uintptr_t)pc));
    for (uintptr_t a = address & ~(uintptr_t)(WORD - 1); a < address + bytes; a += WORD)
        touch(word_of(a), write ? part(a, address, address + bytes) : 0, (code_address)(uintptr_t)pc);
}

/* An atomic object that was written by plain code, to set it up. */
void race_atomic(uintptr_t address, unsigned bytes, const struct site *site)
{
    const struct thread *t = machine.self;

    if (!machine.running || filled_in != machine.execution)
        return;
    for (uintptr_t a = address & ~(uintptr_t)(WORD - 1); a < address + bytes; a += WORD) {
        const struct word *w = known_word(a);

        if (w && w->wrote > t->now.at[w->writer] && (w->written & part(a, address, address + bytes)))
            schedule_fail("data race: thread %d's %s of %s at %s:%d, and nothing orders that after thread "
                          "%d's write at %s", t->index, site->operation, site->place, site->file,
                          site->line, w->writer, source_of(w->wrote_at));
    }
}

/* All that has been touched of some memory is written, as by who frees it. */
static void write_all(uintptr_t from, size_t bytes, code_address pc)
{
    for (int i = 0; filled_in == machine.execution && i < filled; i++)
        if (touched[i]->address - from < bytes)
            touch(touched[i], WHOLE, pc);
}

void explore_free(const volatile void *memory, size_t bytes)
{
    uintptr_t from = (uintptr_t)memory;

    if (!machine.running)
        return;
    write_all(from, bytes, (code_address)(uintptr_t)__builtin_return_address(0));
    place_free(from, bytes);
    for (int i = 0; filled_in == machine.execution && i < filled; i++)
        touched[i]->freed |= touched[i]->address - from < bytes;
}

/* Words below this frame that nobody has touched are left alone. */
__attribute__((noinline)) void explore_leave_frames(void)
{
    uintptr_t from = (uintptr_t)__builtin_frame_address(0) - FRAMES_BYTES;

    place_overwritten(from, FRAMES_BYTES);
    write_all(from, FRAMES_BYTES, (code_address)(uintptr_t)__builtin_return_address(0));
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
