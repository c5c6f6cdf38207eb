/* SPDX-License-Identifier: MIT */
/*
 * store.h - keys and values, binary-safe, in memory; a key may expire.
 *
 * Every function may be called from any thread at any time and never suspends.
 * Times are absolute nanoseconds of coir_now(); STORE_KEEPS as a time means the key stays.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "bytes.h"

#define STORE_KEEPS INT64_MAX

struct store;

enum store_status {
    STORE_OK,
    STORE_REFUSED,     /* the condition did not hold */
    STORE_NOT_INTEGER, /* the value is no decimal integer of 64 bits */
    STORE_OVERFLOW,    /* the sum would not be one */
    STORE_NO_MEMORY
};

enum store_condition { STORE_ALWAYS, STORE_IF_ABSENT, STORE_IF_PRESENT };

/* Returns NULL if there is no memory. */
struct store *store_open(void);
void store_close(struct store *store);

/* Called with a value while its shard is locked: must not suspend, panic or call the store. */
typedef void store_visit(void *arg, struct bytes value);

/* Calls visit(arg, value) if the key is there; returns whether it was. */
bool store_get(struct store *store, struct bytes key, store_visit *visit, void *arg);

enum store_status store_set(struct store *store, struct bytes key, struct bytes value,
                            int64_t expires, enum store_condition condition);

/* Adds to the integer at key, 0 if absent, and keeps its expiry. *sum is set with STORE_OK. */
enum store_status store_add(struct store *store, struct bytes key, int64_t delta, int64_t *sum);

/* The others return whether the key was there. */
bool store_delete(struct store *store, struct bytes key);
bool store_expire(struct store *store, struct bytes key, int64_t expires);
bool store_expires(struct store *store, struct bytes key, int64_t *expires);

/* Removes all keys: STORE_OK, or STORE_NO_MEMORY and every shard is either emptied or untouched. */
enum store_status store_clear(struct store *store);

/* Keys held, those that have expired and were not yet met included. */
size_t store_count(struct store *store);

/* Frees some of the expired keys nobody asks for; a few hundred calls see every key once. */
void store_sweep(struct store *store);

#endif
