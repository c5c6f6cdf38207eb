/* SPDX-License-Identifier: MIT */
/*
 * place.c - where atomic objects are, from their first use in an execution on until their memory is freed
 * or used anew.
 */
#include "machine.h"

#include <string.h>

#define TABLE 256  /* a power of two; STAMPS is less */
#define POOL 2048  /* messages of one execution */
#define FREED_MAX 8
#define LINES 1024 /* a power of two */

static struct {
    uintptr_t address;
    uint32_t execution;
    struct place *place;
} table[TABLE];

static struct place place[STAMPS];
static struct message pool[POOL];
static struct {
    uintptr_t from, to;
} freed[FREED_MAX];
static int freed_count;
static uint32_t used_line[LINES]; /* execution in which a cache line held an atomic object */

void place_reset(void)
{
    machine.places = THREADS;
    machine.messages = 0;
    freed_count = 0;
}

struct message *place_message(void)
{
    if (machine.messages == POOL)
        schedule_fail("an execution has more than %d stores", POOL);
    return &pool[machine.messages++];
}

/* The value that the memory held when the object was first used. */
static void read_initial(struct place *p)
{
    struct message *m = place_message();

    m->value = 0;
    memcpy(&m->value, (const void *)p->address, p->bytes);
    m->at = 0;
    m->carries = m->rmw = false;
    m->by = 0;
    p->message[0] = m;
    p->count = 1;
}

static uint32_t *line_of(uintptr_t address)
{
    return &used_line[address / 64 % LINES];
}

bool place_is_freed(uintptr_t address)
{
    for (int i = 0; i < freed_count; i++)
        if (freed[i].from <= address && address < freed[i].to)
            return true;
    return false;
}

static struct place *new_place(uintptr_t address, unsigned bytes)
{
    struct place *p = &place[machine.places];

    if (machine.places == STAMPS)
        schedule_fail("a scenario has more than %d atomic objects", STAMPS - THREADS);
    p->address = address;
    p->bytes = (uint8_t)bytes;
    p->id = (uint8_t)machine.places++;
    p->spinners = 0;
    p->freed = place_is_freed(address);
    *line_of(address) = machine.execution;
    memset(p->used, 0, sizeof p->used);
    read_initial(p);
    return p;
}

/* Where an address is or may be put. */
static size_t entry_of(uintptr_t address)
{
    size_t i = (address * UINT64_C(0x9e3779b97f4a7c15)) >> 56;

    while (table[i].execution == machine.execution && table[i].address != address)
        i = (i + 1) % TABLE;
    return i;
}

struct place *place_of(uintptr_t address, unsigned bytes)
{
    size_t i = entry_of(address);

    if (table[i].execution != machine.execution || !table[i].place) {
        table[i].execution = machine.execution;
        table[i].address = address;
        table[i].place = new_place(address, bytes);
    }
    return table[i].place;
}

bool place_is_known(uintptr_t address)
{
    size_t i = entry_of(address);

    return table[i].execution == machine.execution && table[i].place;
}

/* --------------------------------------------------------------------------------- life of memory */

/* Every access by others must come before this, in the order that happens-before gives. */
static void check_last_use(const struct place *p)
{
    const struct thread *t = machine.self;

    for (int i = 0; i < THREADS; i++)
        if (i != t->index && p->used[i] > t->now.at[i])
            schedule_fail("memory is freed or used anew, and nothing orders thread %d's last atomic "
                          "access before that", i);
}

static void forget(struct place *p)
{
    for (int i = 0; i < TABLE; i++)
        if (table[i].place == p)
            table[i].place = NULL;
    p->address = 0;
}

/* Plain code writes: an atomic object that was there is no more, and one that is used there from now on
 * begins with what was written. So frames may be used again and again. */
void place_overwritten(uintptr_t from, size_t bytes)
{
    bool used = bytes > 1024;

    for (uintptr_t line = from / 64; !used && line <= (from + bytes - 1) / 64; line++)
        used = *line_of(line * 64) == machine.execution;
    if (!used)
        return;
    for (int i = THREADS; i < machine.places; i++)
        if (place[i].address >= from && place[i].address < from + bytes) {
            check_last_use(&place[i]);
            forget(&place[i]);
        }
}

void place_free(uintptr_t from, size_t bytes)
{
    if (freed_count == FREED_MAX)
        schedule_fail("a scenario frees more than %d times", FREED_MAX);
    freed[freed_count].from = from;
    freed[freed_count++].to = from + bytes;
    for (int i = THREADS; i < machine.places; i++)
        if (place[i].address >= from && place[i].address < from + bytes) {
            check_last_use(&place[i]);
            place[i].freed = true;
        }
}
