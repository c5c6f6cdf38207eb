/* SPDX-License-Identifier: MIT */
/*
 * store.c - a hash table in shards, each with a lock of its own.
 *
 * Owns: every entry, and the only locks of coir-kv that commands meet.
 *
 * A shard is locked for a lookup and a change of pointers: entries are made before the lock is
 * taken and freed after it is given back (but for an expired one that a lookup meets). Nothing in
 * between suspends, so a plain mutex is right although its callers are fibers; nothing panics, so
 * no panic leaves a shard locked.
 *
 * The upper bits of a key's hash choose the shard, the lower bits the slot. The hash is seeded
 * per store, so that a client cannot choose keys that meet in one slot.
 *
 * Invariants
 *   S1  An entry is in the chain of slot hash & mask of its shard, and a key in one entry at most.
 *   S2  count is the number of entries in the chains.
 */
#include "store.h"

#include "coir.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define SHARD_BITS 6
#define SHARDS (1 << SHARD_BITS)
#define SLOTS_MIN 16
#define SWEEP_SLOTS 64 /* slots of each shard that one sweep looks at */

struct entry {
    struct entry *next;
    uint64_t hash;
    int64_t expires;
    size_t key_length, value_length;
    char data[]; /* key, then value */
};

struct table {
    struct entry **slot; /* mask + 1 chains */
    size_t mask, count;
};

struct shard {
    pthread_mutex_t lock; /* protects the rest */
    struct table table;
    size_t sweep; /* slot that the next sweep begins with */
} __attribute__((aligned(64)));

struct store {
    uint64_t seed[2];
    struct shard shard[SHARDS];
};

/* ---------------------------------------------------------------------------------- hashing */

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Eight bytes at a time; each multiplication folds its upper half back in. */
static uint64_t hash_of(const struct store *s, struct bytes key)
{
    uint64_t hash = s->seed[0] ^ key.length;

    for (size_t i = 0; i < key.length; i += 8) {
        uint64_t word = 0;

        memcpy(&word, key.data + i, key.length - i < 8 ? key.length - i : 8);
        hash = mix(hash ^ word, s->seed[1]);
    }
    return mix(hash ^ s->seed[1], UINT64_C(0x9e3779b97f4a7c15));
}

/* ---------------------------------------------------------------------------------- entries */

static struct bytes key_of(const struct entry *e)
{
    return (struct bytes){e->data, e->key_length};
}

static struct bytes value_of(const struct entry *e)
{
    return (struct bytes){e->data + e->key_length, e->value_length};
}

static bool expired(const struct entry *e)
{
    return e->expires != STORE_KEEPS && e->expires <= coir_now();
}

/* An entry with room for value_length bytes of value, which the caller fills. */
static struct entry *make(uint64_t hash, struct bytes key, size_t value_length, int64_t expires)
{
    struct entry *e = malloc(sizeof *e + key.length + value_length);

    if (!e)
        return NULL;
    *e = (struct entry){
        .hash = hash, .expires = expires, .key_length = key.length, .value_length = value_length};
    memcpy(e->data, key.data, key.length);
    return e;
}

static void free_chain(struct entry *e)
{
    while (e) {
        struct entry *next = e->next;

        free(e);
        e = next;
    }
}

/* ----------------------------------------------------------------- tables (shard lock held) */

static bool table_init(struct table *t, size_t slots)
{
    *t = (struct table){.slot = calloc(slots, sizeof(struct entry *)), .mask = slots - 1};
    return t->slot;
}

static void table_free(struct table *t)
{
    for (size_t i = 0; t->slot && i <= t->mask; i++)
        free_chain(t->slot[i]);
    free(t->slot);
}

static struct entry *unlink_entry(struct table *t, struct entry **link)
{
    struct entry *e = *link;

    *link = e->next;
    t->count--;
    return e;
}

/* The link to the entry of this key, NULL if there is none. An expired one is freed on the way. */
static struct entry **find(struct table *t, struct bytes key, uint64_t hash)
{
    struct entry **link = &t->slot[hash & t->mask];

    while (*link && !((*link)->hash == hash && bytes_equal(key_of(*link), key)))
        link = &(*link)->next;
    if (*link && expired(*link))
        free(unlink_entry(t, link));
    else if (*link)
        return link;
    return NULL;
}

/* Doubles the slots. Without memory for that the chains get longer, and that is all. */
static void grow(struct table *t)
{
    struct table wide;

    if (!table_init(&wide, 2 * (t->mask + 1)))
        return;
    for (size_t i = 0; i <= t->mask; i++) {
        for (struct entry *e = t->slot[i], *next; e; e = next) {
            struct entry **head = &wide.slot[e->hash & wide.mask];

            next = e->next;
            e->next = *head;
            *head = e;
        }
    }
    wide.count = t->count;
    free(t->slot);
    *t = wide;
}

/* Puts e in the place of the entry at link, which is returned; NULL: e is new. */
static struct entry *put(struct table *t, struct entry **link, struct entry *e)
{
    struct entry *old = link ? unlink_entry(t, link) : NULL;

    if (!link) {
        if (t->count > t->mask)
            grow(t);
        link = &t->slot[e->hash & t->mask];
    }
    e->next = *link;
    *link = e;
    t->count++;
    return old;
}

/* ------------------------------------------------------------------------------------ shards */

static struct table *lock(struct store *s, uint64_t hash)
{
    struct shard *shard = &s->shard[hash >> (64 - SHARD_BITS)];

    pthread_mutex_lock(&shard->lock);
    return &shard->table;
}

static void unlock(struct store *s, uint64_t hash)
{
    pthread_mutex_unlock(&s->shard[hash >> (64 - SHARD_BITS)].lock);
}

struct store *store_open(void)
{
    struct store *s = aligned_alloc(_Alignof(struct store), sizeof *s);

    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&s->shard[i].lock, NULL);
        if (!table_init(&s->shard[i].table, SLOTS_MIN)) {
            store_close(s);
            return NULL;
        }
    }
    /* At most 256 bytes are never interrupted. An even factor would lose bits of the key. */
    if (getrandom(s->seed, sizeof s->seed, 0) != sizeof s->seed)
        abort();
    s->seed[1] |= 1;
    return s;
}

void store_close(struct store *s)
{
    for (size_t i = 0; i < SHARDS; i++)
        table_free(&s->shard[i].table);
    free(s);
}

bool store_get(struct store *s, struct bytes key, store_visit *visit, void *arg)
{
    uint64_t hash = hash_of(s, key);
    struct entry **link = find(lock(s, hash), key, hash);

    if (link)
        visit(arg, value_of(*link));
    unlock(s, hash);
    return link;
}

enum store_status store_set(struct store *s, struct bytes key, struct bytes value, int64_t expires,
                            enum store_condition condition)
{
    uint64_t hash = hash_of(s, key);
    struct entry *e = make(hash, key, value.length, expires), **link;
    struct table *t;
    bool wanted;

    if (!e)
        return STORE_NO_MEMORY;
    memcpy(e->data + key.length, value.data, value.length);
    t = lock(s, hash);
    link = find(t, key, hash);
    wanted = condition == STORE_ALWAYS || (condition == STORE_IF_PRESENT) == (link != NULL);
    if (wanted)
        e = put(t, link, e);
    unlock(s, hash);
    free(e);
    return wanted ? STORE_OK : STORE_REFUSED;
}

static enum store_status sum_of(const struct entry *e, int64_t delta, int64_t *sum)
{
    int64_t value = 0;

    if (e && !bytes_integer(value_of(e), &value))
        return STORE_NOT_INTEGER;
    return __builtin_add_overflow(value, delta, sum) ? STORE_OVERFLOW : STORE_OK;
}

enum store_status store_add(struct store *s, struct bytes key, int64_t delta, int64_t *sum)
{
    uint64_t hash = hash_of(s, key);
    struct entry *e = make(hash, key, BYTES_INTEGER_MAX, STORE_KEEPS), **link;
    enum store_status status;
    struct table *t;

    if (!e)
        return STORE_NO_MEMORY;
    t = lock(s, hash);
    link = find(t, key, hash);
    status = sum_of(link ? *link : NULL, delta, sum);
    if (status == STORE_OK) {
        e->value_length = bytes_from_integer(e->data + key.length, *sum);
        if (link)
            e->expires = (*link)->expires;
        e = put(t, link, e);
    }
    unlock(s, hash);
    free(e);
    return status;
}

bool store_delete(struct store *s, struct bytes key)
{
    uint64_t hash = hash_of(s, key);
    struct table *t = lock(s, hash);
    struct entry **link = find(t, key, hash);
    struct entry *e = link ? unlink_entry(t, link) : NULL;

    unlock(s, hash);
    free(e);
    return link;
}

bool store_expire(struct store *s, struct bytes key, int64_t expires)
{
    uint64_t hash = hash_of(s, key);
    struct entry **link = find(lock(s, hash), key, hash);

    if (link)
        (*link)->expires = expires;
    unlock(s, hash);
    return link;
}

bool store_expires(struct store *s, struct bytes key, int64_t *expires)
{
    uint64_t hash = hash_of(s, key);
    struct entry **link = find(lock(s, hash), key, hash);

    if (link)
        *expires = (*link)->expires;
    unlock(s, hash);
    return link;
}

/* ---------------------------------------------------------------------------- the whole store */

enum store_status store_clear(struct store *s)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct table empty, old;

        if (!table_init(&empty, SLOTS_MIN))
            return STORE_NO_MEMORY;
        pthread_mutex_lock(&s->shard[i].lock);
        old = s->shard[i].table;
        s->shard[i].table = empty;
        pthread_mutex_unlock(&s->shard[i].lock);
        table_free(&old);
    }
    return STORE_OK;
}

size_t store_count(struct store *s)
{
    size_t count = 0;

    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&s->shard[i].lock);
        count += s->shard[i].table.count;
        pthread_mutex_unlock(&s->shard[i].lock);
    }
    return count;
}

/* Moves the expired entries of one slot over to *dead. */
static void sweep_slot(struct table *t, struct entry **link, struct entry **dead)
{
    while (*link) {
        if (expired(*link)) {
            struct entry *e = unlink_entry(t, link);

            e->next = *dead;
            *dead = e;
        } else {
            link = &(*link)->next;
        }
    }
}

void store_sweep(struct store *s)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &s->shard[i];
        struct entry *dead = NULL;

        pthread_mutex_lock(&shard->lock);
        for (size_t n = 0; n < SWEEP_SLOTS && n <= shard->table.mask; n++, shard->sweep++)
            sweep_slot(&shard->table, &shard->table.slot[shard->sweep & shard->table.mask], &dead);
        pthread_mutex_unlock(&shard->lock);
        free_chain(dead);
    }
}
