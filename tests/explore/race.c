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
#include <string.h>

#define WORD 4
#define WHOLE 0xf /* its bytes, as bits */
#define PAIR (2 * WORD)
#define TABLE_BITS 12
#define TABLE (1u << TABLE_BITS)
#define FILL_MAX (int)(TABLE / 2)
#define FRAMES_BYTES (12 << 10) /* below a frame: what its calls have had */
#define ACCESSES_MAX 100000 /* of one execution; more is an endless loop */

/* Programs lie in the lowest 4 GiB (-no-pie). */
typedef uint32_t code_address;

struct word {
    stamp wrote;          /* clock of its last write, by `writer` */
    uint8_t writer;
    uint8_t written;      /* bytes of it, as bits, that were */
    stamp read[THREADS];  /* clock of each thread's last read */
    code_address wrote_at;
};

/* Neighbours are mostly touched together. A look at them is a cache line. */
struct pair {
    _Alignas(64) uintptr_t address;
    uint32_t execution;
    bool freed[2];
    struct word word[2];
    uint64_t was; /* before the first touch */
};

static struct pair table[TABLE];
static code_address read_at[TABLE][2][THREADS]; /* of their words */
static uint32_t filled_in; /* the execution that the following is about */
static int filled; /* pairs of the table */
static int accesses;
static struct pair *touched[FILL_MAX]; /* by this execution */
static uintptr_t touched_at[FILL_MAX]; /* their addresses */

static void start_execution(void)
{
    filled_in = machine.execution;
    filled = accesses = 0;
}

/* Where the pair of an address is or may be put. */
static struct pair *find_pair(uintptr_t address)
{
    uintptr_t first = address & ~(uintptr_t)(PAIR - 1);
    size_t i = (first / PAIR * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TABLE_BITS);

    while (table[i].execution == machine.execution && table[i].address != first)
        i = (i + 1) % TABLE;
    return &table[i];
}

static void add_pair(struct pair *p, uintptr_t address)
{
    uintptr_t first = address & ~(uintptr_t)(PAIR - 1);

    *p = (struct pair){.address = first, .execution = machine.execution, .was = *(const uint64_t *)first,
                       .freed = {place_is_freed(first), place_is_freed(first + WORD)}};
    if (filled == FILL_MAX)
        schedule_fail("an execution touches more than %d pairs of words", FILL_MAX);
    touched_at[filled] = first;
    touched[filled++] = p;
}

static struct pair *pair_of(uintptr_t address)
{
    struct pair *p = find_pair(address);

    if (p->execution != machine.execution)
        add_pair(p, address);
    return p;
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

/* By whom ever. */
static inline bool is_read(const struct word *w)
{
    uint64_t clocks;

    _Static_assert(sizeof clocks == sizeof w->read, "of all threads");
    memcpy(&clocks, w->read, sizeof clocks);
    return clocks;
}

/* A word of a pair. written: bytes of it, as bits; 0: it is read. */
static inline void touch(struct pair *p, int half, uint8_t written, code_address pc)
{
    const struct thread *t = machine.self;
    struct word *w = &p->word[half];
    code_address *at = read_at[p - table][half];
    stamp now = t->now.at[t->index];

    if (p->freed[half])
        schedule_fail("thread %d touches freed memory at %s", t->index, source_of(pc));
    if (w->wrote > t->now.at[w->writer])
        race(written ? "writes" : "reads", pc, "write", w->writer, w->wrote_at);
    if (written) {
        for (int i = 0; i < THREADS && is_read(w); i++)
            if (w->read[i] > t->now.at[i] && i != t->index)
                race("writes", pc, "read", i, at[i]);
        w->wrote = now;
        w->writer = (uint8_t)t->index;
        w->written = written;
        w->wrote_at = pc;
    } else if (w->read[t->index] != now) {
        w->read[t->index] = now;
        at[t->index] = pc;
    }
}

static inline void touch_both(struct pair *p, bool write, code_address pc)
{
    touch(p, 0, write ? WHOLE : 0, pc);
    touch(p, 1, write ? WHOLE : 0, pc);
}

/* The words of a pair that lie in [from, to). */
static inline void touch_pair(struct pair *p, uintptr_t from, uintptr_t to, bool write, code_address pc)
{
    if (p->address >= from && p->address + PAIR <= to) {
        touch_both(p, write, pc);
        return;
    }
    for (int half = 0; half < 2; half++) {
        uintptr_t w = p->address + (uintptr_t)half * WORD;

        if (w < to && from < w + WORD)
            touch(p, half, write ? part(w, from, to) : 0, pc);
    }
}

static __attribute__((noinline)) void touch_parts(uintptr_t from, uintptr_t to, bool write, code_address pc)
{
    for (uintptr_t a = from & ~(uintptr_t)(PAIR - 1); a < to; a += PAIR)
        touch_pair(pair_of(a), from, to, write, pc);
}

/* Most accesses are of one whole word, or of both of a pair. */
static inline __attribute__((always_inline)) bool touch_whole(uintptr_t address, size_t bytes, bool write, code_address pc)
{
    struct pair *p;

    if ((bytes != WORD && bytes != PAIR) || address % bytes)
        return false;
    p = pair_of(address);
    if (bytes == WORD)
        touch(p, address / WORD % 2, write ? WHOLE : 0, pc);
    else
        touch_both(p, write, pc);
    return true;
}

static inline __attribute__((always_inline)) void race_access(uintptr_t address, size_t bytes, bool write, const void *pc)
{
    if (!machine.running || local_has(address))
        return;
    if (filled_in != machine.execution)
        start_execution();
    if (write && (bytes > PLACE_GRAIN || place_may_be_at(address)))
        place_overwritten(address, bytes);
    if (++accesses > ACCESSES_MAX)
        schedule_fail("an execution does not end: endless loop at %s",
                      source_of((uintptr_t)pc));
    if (!touch_whole(address, bytes, write, (code_address)(uintptr_t)pc))
        touch_parts(address, address + bytes, write, (code_address)(uintptr_t)pc);
}

static void check_set_up(const struct word *w, uint8_t bytes, const struct site *site)
{
    const struct thread *t = machine.self;

    if (w->wrote > t->now.at[w->writer] && (w->written & bytes))
        schedule_fail("data race: thread %d's %s of %s at %s:%d, and nothing orders that after thread "
                      "%d's write at %s", t->index, site->operation, site->place, site->file,
                      site->line, w->writer, source_of(w->wrote_at));
}

/* An atomic object that was written by plain code, to set it up. */
void race_atomic(uintptr_t address, unsigned bytes, const struct site *site)
{
    const struct pair *p;

    if (!machine.running || filled_in != machine.execution)
        return;
    p = find_pair(address); /* it is aligned: one pair has all of it */
    if (p->execution != machine.execution)
        return;
    for (int half = 0; half < 2; half++)
        check_set_up(&p->word[half], part(p->address + (uintptr_t)half * WORD, address, address + bytes),
                     site);
}

/* Clocks are not 0. */
static bool is_touched(const struct word *w)
{
    return w->wrote || is_read(w);
}

static void write_pair(struct pair *p, uintptr_t from, size_t bytes, code_address pc)
{
    for (int half = 0; half < 2; half++)
        if (p->address + (uintptr_t)half * WORD - from < bytes && is_touched(&p->word[half]))
            touch(p, half, WHOLE, pc);
}

/* All that has been touched of some memory is written, as by who frees it. */
static void write_all(uintptr_t from, size_t bytes, code_address pc)
{
    int n = filled_in == machine.execution ? filled : 0;

    for (int i = 0; i < n; i++)
        if (touched_at[i] + PAIR - 1 - from < bytes + PAIR - 1)
            write_pair(touched[i], from, bytes, pc);
}

void explore_free(const volatile void *memory, size_t bytes)
{
    uintptr_t from = (uintptr_t)memory;

    if (!machine.running)
        return;
    write_all(from, bytes, (code_address)(uintptr_t)__builtin_return_address(0));
    place_free(from, bytes);
    for (int i = 0; filled_in == machine.execution && i < filled; i++)
        for (int half = 0; half < 2; half++)
            touched[i]->freed[half] |= touched_at[i] + (uintptr_t)half * WORD - from < bytes;
}

/* All is as it was when the threads started. */
void race_take_back(void)
{
    for (int i = 0; filled_in == machine.execution && i < filled; i++)
        if (touched[i]->word[0].wrote | touched[i]->word[1].wrote)
            memcpy((void *)touched[i]->address, &touched[i]->was, sizeof touched[i]->was);
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
