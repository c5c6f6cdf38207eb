/* SPDX-License-Identifier: MIT */
/*
 * store.c - a hash table in shards, each with a lock of its own.
 *
 * A shard is locked for a lookup and a change of pointers: entries are made before the lock is
 * taken and freed after it is given back (but for an expired one that a lookup meets). Nothing in
 * between suspends, so a plain mutex is right although its callers are fibers; nothing panics, so
 * no panic leaves a shard locked.
 *
 * The upper bits of a key's hash choose the shard, the lower bits the slot. The hash is seeded,
 * so that a client cannot choose keys that meet in one slot.
 */
#include "kv.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define SHARD_BITS 6
#define SHARDS STORE_SHARDS
#define STEP_SLOTS 64 /* of a walk, under one lock */
#define SLOTS_MIN 16
#define BIG (4u << 10) /* bytes of a value that it takes as long to free as a key, roughly */

struct entry {
    struct entry *next;
    uint64_t hash;
    int64_t expires;
    size_t key_length, value_length;
    char data[]; /* key, then value */
};

_Static_assert(SHARDS == 1 << SHARD_BITS, "the upper bits of a hash choose the shard");

static struct shard {
    pthread_mutex_t lock; /* protects the rest */
    struct entry **slot;  /* mask + 1 chains; an entry is in that of hash & mask */
    size_t mask, count;
    size_t swept; /* slots, since the start */
} __attribute__((aligned(64))) shards[SHARDS];

static uint64_t seed[2];

const char *store_open(void)
{
    for (struct shard *s = shards; s < shards + SHARDS; s++) {
        pthread_mutex_init(&s->lock, NULL);
        s->mask = SLOTS_MIN - 1;
        s->slot = calloc(SLOTS_MIN, sizeof *s->slot);
        if (!s->slot)
            return "out of memory";
    }
    /* At most 256 bytes are never interrupted. An even factor would lose bits of the key. */
    if (getrandom(seed, sizeof seed, 0) != sizeof seed)
        abort();
    seed[1] |= 1;
    return NULL;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The bytes of a key of less than eight in a word, each at least once: the length tells such keys apart. */
static uint64_t short_word(struct bytes key)
{
    uint32_t first = 0, last = 0;

    if (key.length >= sizeof first) {
        memcpy(&first, key.data, sizeof first);
        memcpy(&last, key.data + key.length - sizeof last, sizeof last);
    } else if (key.length > 0) {
        memcpy(&first, key.data, 1);
        memcpy(&last, key.data + key.length / 2, 1);
        last = last << 8 | (unsigned char)key.data[key.length - 1];
    }
    return (uint64_t)first << 32 | last;
}

/* Eight bytes at a time, the last of them maybe seen before; each multiplication folds its upper half back in. */
static uint64_t hash_of(struct bytes key)
{
    uint64_t hash = seed[0] ^ key.length, word;

    for (size_t i = 0; i + sizeof word < key.length; i += sizeof word) {
        memcpy(&word, key.data + i, sizeof word);
        hash = mix(hash ^ word, seed[1]);
    }
    if (key.length >= sizeof word)
        memcpy(&word, key.data + key.length - sizeof word, sizeof word);
    else
        word = short_word(key);
    return mix(mix(hash ^ word, seed[1]) ^ seed[1], UINT64_C(0x9e3779b97f4a7c15));
}

/* An entry whose value, of value_length bytes, the caller fills in. */
static struct entry *make(struct bytes key, size_t value_length, int64_t expires)
{
    struct entry *e = malloc(sizeof *e + key.length + value_length);

    if (!e)
        return NULL;
    *e = (struct entry){NULL, hash_of(key), expires, key.length, value_length};
    memcpy(e->data, key.data, key.length);
    return e;
}

static struct bytes value_of(const struct entry *e)
{
    return (struct bytes){e->data + e->key_length, e->value_length};
}

/* ------------------------------------------------------------------- a shard, its lock is held */

static struct shard *lock(uint64_t hash)
{
    struct shard *s = &shards[hash >> (64 - SHARD_BITS)];

    pthread_mutex_lock(&s->lock);
    return s;
}

static struct entry *take(struct shard *s, struct entry **link)
{
    struct entry *e = *link;

    *link = e->next;
    s->count--;
    return e;
}

/* The link to the entry of this key, NULL if there is none. An expired one is freed on the way. */
static struct entry **find(struct shard *s, struct bytes key, uint64_t hash)
{
    for (struct entry **link = &s->slot[hash & s->mask], *e; (e = *link); link = &e->next) {
        if (e->hash != hash || e->key_length != key.length ||
            memcmp(e->data, key.data, key.length) != 0)
            continue;
        if (e->expires == STORE_KEEPS || e->expires > coir_now())
            return link;
        free(take(s, link));
        break;
    }
    return NULL;
}

/* Doubles the slots. Without memory for that the chains get longer, and that is all. */
static void grow(struct shard *s)
{
    size_t mask = 2 * s->mask + 1;
    struct entry **slot = calloc(mask + 1, sizeof *slot);

    if (!slot)
        return;
    for (size_t i = 0; i <= s->mask; i++) {
        for (struct entry *e = s->slot[i], *next; e; e = next) {
            struct entry **head = &slot[e->hash & mask];

            next = e->next;
            e->next = *head;
            *head = e;
        }
    }
    free(s->slot);
    s->slot = slot;
    s->mask = mask;
}

/* Puts e in the place of the entry at link, which is returned; NULL: e is new. */
static struct entry *put(struct shard *s, struct entry **link, struct entry *e)
{
    struct entry *old = link ? take(s, link) : NULL;

    if (!link && s->count > s->mask)
        grow(s);
    if (!link)
        link = &s->slot[e->hash & s->mask];
    e->next = *link;
    *link = e;
    s->count++;
    return old;
}

/* ------------------------------------------------------------------------------------ one key */

bool store_read(struct bytes key, store_visit *visit, void *arg)
{
    uint64_t hash = hash_of(key);
    struct shard *s = lock(hash);
    struct entry **link = find(s, key, hash);

    if (link && visit)
        visit(arg, value_of(*link), (*link)->expires);
    pthread_mutex_unlock(&s->lock);
    return link;
}

const char *store_set(struct bytes key, struct bytes value, int64_t expires,
                      enum store_condition condition, bool *done)
{
    struct entry *e = make(key, value.length, expires), **link;
    struct shard *s;

    if (!e)
        return "out of memory";
    memcpy(e->data + key.length, value.data, value.length);
    s = lock(e->hash);
    link = find(s, key, e->hash);
    *done = condition == STORE_ALWAYS || (condition == STORE_IF_PRESENT) == (link != NULL);
    if (*done)
        e = put(s, link, e);
    pthread_mutex_unlock(&s->lock);
    free(e);
    return NULL;
}

const char *store_add(struct bytes key, int64_t delta, int64_t *sum)
{
    struct entry *e = make(key, BYTES_INTEGER_MAX, STORE_KEEPS), **link;
    const char *error = NULL;
    int64_t value = 0;
    struct shard *s;

    if (!e)
        return "out of memory";
    s = lock(e->hash);
    link = find(s, key, e->hash);
    if (link && !bytes_integer(value_of(*link), &value)) {
        error = NOT_INTEGER;
    } else if (__builtin_add_overflow(value, delta, sum)) {
        error = "increment or decrement would overflow";
    } else {
        e->value_length = bytes_from_integer(e->data + key.length, *sum);
        e->expires = link ? (*link)->expires : STORE_KEEPS;
        e = put(s, link, e);
    }
    pthread_mutex_unlock(&s->lock);
    free(e);
    return error;
}

bool store_expire(struct bytes key, int64_t expires)
{
    uint64_t hash = hash_of(key);
    bool past = expires <= coir_now();
    struct shard *s = lock(hash);
    struct entry **link = find(s, key, hash), *dead = link && past ? take(s, link) : NULL;

    if (link && !past)
        (*link)->expires = expires;
    pthread_mutex_unlock(&s->lock);
    free(dead);
    return link;
}

/* ---------------------------------------------------------------------------- the whole store */

/* Returns how many there were, a big one as several: it takes longer. */
static size_t free_chain(struct entry *e)
{
    size_t n = 0;

    for (struct entry *next; e; e = next) {
        next = e->next;
        n += 1 + e->value_length / BIG;
        free(e);
    }
    return n;
}

static void sweep(struct shard *s, size_t slots, int64_t now)
{
    struct entry *dead = NULL, *e;

    pthread_mutex_lock(&s->lock);
    for (size_t n = 0; n < slots && n <= s->mask; n++) {
        struct entry **link = &s->slot[s->swept++ & s->mask];

        while ((e = *link)) {
            if (e->expires > now) {
                link = &e->next;
            } else {
                take(s, link)->next = dead;
                dead = e;
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
    free_chain(dead);
}

void store_sweep(size_t slots, int64_t now)
{
    for (struct shard *s = shards; s < shards + SHARDS; s++)
        sweep(s, slots, now);
}

/* A shard gets slots as at the start. Without memory for them it keeps its own, and its keys are freed in here. */
void store_flush(struct store_flush *flush)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct entry **fresh = calloc(SLOTS_MIN, sizeof *fresh);
        struct shard *s = &shards[i];

        if (!fresh) {
            sweep(s, SIZE_MAX, STORE_KEEPS);
            continue;
        }
        pthread_mutex_lock(&s->lock);
        flush->slot[i] = s->slot;
        flush->slots[i] = s->mask + 1;
        s->slot = fresh;
        s->mask = SLOTS_MIN - 1;
        s->count = 0;
        pthread_mutex_unlock(&s->lock);
    }
}

size_t store_flush_step(struct store_flush *flush)
{
    size_t i = flush->shard, freed = 0;

    while (i < SHARDS && freed < STEP_SLOTS && flush->next < flush->slots[i])
        freed += 1 + free_chain(flush->slot[i][flush->next++]);
    if (i < SHARDS && flush->next == flush->slots[i]) {
        free(flush->slot[i]);
        flush->shard++;
        flush->next = 0;
    }
    return i < SHARDS ? freed + 1 : 0;
}

/*
 * The slots are those of the first step. A shard that has grown since has what one of them had in several:
 * all whose number is the same, modulo what it was then. One that was flushed since may have fewer, and what
 * several of them had in one.
 */
bool store_step(struct store_walk *walk, store_visit_key *visit, void *arg)
{
    struct shard *s = &shards[walk->shard];
    int64_t now = coir_now();
    bool more = true;

    pthread_mutex_lock(&s->lock);
    walk->slots = walk->slots ? walk->slots : s->mask + 1;
    for (size_t n = 0; more && n < STEP_SLOTS && walk->next < walk->slots; n++, walk->next++)
        for (size_t i = walk->next & s->mask; i <= s->mask; i += walk->slots)
            for (struct entry *e = s->slot[i]; e; e = e->next)
                if ((e->hash & (walk->slots - 1)) == walk->next && e->expires > now)
                    more &= visit(arg, (struct bytes){e->data, e->key_length}, value_of(e));
    pthread_mutex_unlock(&s->lock);
    return walk->next < walk->slots;
}

size_t store_count(void)
{
    size_t count = 0;

    for (struct shard *s = shards; s < shards + SHARDS; s++) {
        pthread_mutex_lock(&s->lock);
        count += s->count;
        pthread_mutex_unlock(&s->lock);
    }
    return count;
}
