/* SPDX-License-Identifier: MIT */
/*
 * place.c - where atomic objects are, from their first use in an execution on until their memory is freed
 * or used anew.
 */
#include "machine.h"

#include <string.h>

#define TABLE_BITS 10
#define TABLE (1u << TABLE_BITS)
#define ADDRESSES_MAX (TABLE / 2)
#define POOL 2048  /* messages of one execution */
#define FREED_MAX 8

/* An address is kept for all executions of a scenario, to know who has ever used it. */
struct entry {
    struct usage usage;  /* first: place_used */
    uintptr_t address;   /* 0: free */
    uint32_t execution;  /* the one that `place` is about */
    struct place *place; /* or NULL: it has gone in this execution */
};

static struct entry table[TABLE];
static unsigned addresses; /* in it */

uint32_t place_grain[PLACE_GRAINS];
static struct place place[STAMPS];
static struct message pool[POOL];
static struct {
    uintptr_t from, to;
} freed[FREED_MAX];
int place_freed;

void place_forget(void)
{
    memset(table, 0, sizeof table);
    addresses = 0;
}

void place_reset(void)
{
    machine.places = THREADS;
    machine.messages = 0;
    place_freed = 0;
}

struct message *place_message(void)
{
    if (machine.messages == POOL)
        schedule_fail("an execution has more than %d stores", POOL);
    return &pool[machine.messages++];
}

const struct message *place_next_message(void)
{
    return &pool[machine.messages];
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

bool place_lies_in_freed(uintptr_t address)
{
    for (int i = 0; i < place_freed; i++)
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
    if (machine.width < machine.places)
        machine.width += STEP;
    p->spinners = 0;
    p->freed = place_is_freed(address);
    place_grain[address / PLACE_GRAIN % PLACE_GRAINS] = machine.execution;
    memset(p->used, 0, sizeof p->used);
    read_initial(p);
    return p;
}

static struct entry *entry_of(uintptr_t address)
{
    size_t i = (address * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TABLE_BITS);

    while (table[i].address && table[i].address != address)
        i = (i + 1) % TABLE;
    if (!table[i].address && ++addresses > ADDRESSES_MAX)
        schedule_fail("a scenario has atomic objects at more than %d addresses", ADDRESSES_MAX);
    table[i].address = address;
    return &table[i];
}

static bool has_place(const struct entry *e)
{
    return e->execution == machine.execution && e->place;
}

struct place *place_used(struct usage *u, unsigned bytes)
{
    struct entry *e = (struct entry *)(void *)u;

    if (__builtin_expect(!has_place(e), 0)) {
        e->place = new_place(e->address, bytes);
        e->execution = machine.execution;
    }
    return e->place;
}

bool place_is_known(uintptr_t address)
{
    return has_place(entry_of(address));
}

struct usage *place_usage(uintptr_t address)
{
    return &entry_of(address)->usage;
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
    struct entry *e = entry_of(p->address);

    usage_count(&e->usage, true);
    e->place = NULL;
    p->address = 0;
}

/* Plain code writes: an atomic object that was there is no more, and one that is used there from now on
 * begins with what was written. So frames may be used again and again. */
void place_overwritten(uintptr_t from, size_t bytes)
{
    bool used = bytes > 1024;

    for (uintptr_t at = from / PLACE_GRAIN * PLACE_GRAIN; !used && at < from + bytes; at += PLACE_GRAIN)
        used = place_may_be_at(at);
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
    if (place_freed == FREED_MAX)
        schedule_fail("a scenario frees more than %d times", FREED_MAX);
    freed[place_freed].from = from;
    freed[place_freed++].to = from + bytes;
    for (int i = THREADS; i < machine.places; i++)
        if (place[i].address >= from && place[i].address < from + bytes) {
            check_last_use(&place[i]);
            usage_count(place_usage(place[i].address), true);
            place[i].freed = true;
        }
}
