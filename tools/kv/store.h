/* SPDX-License-Identifier: MIT */
/*
 * store.h - keys and values, binary-safe, in memory; a key may expire. One store per process.
 *
 * Every function may be called from any thread at any time, after store_open, and never suspends.
 * Times are absolute nanoseconds of coir_now(); STORE_KEEPS as a time means the key stays.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "resp.h"

#define STORE_KEEPS INT64_MAX

enum store_status {
    STORE_OK,
    STORE_REFUSED,     /* the condition did not hold */
    STORE_NOT_INTEGER, /* the value is no decimal integer of 64 bits */
    STORE_OVERFLOW,    /* the sum would not be one */
    STORE_NO_MEMORY
};

enum store_condition { STORE_ALWAYS, STORE_IF_ABSENT, STORE_IF_PRESENT };

/* Returns STORE_OK or STORE_NO_MEMORY. */
enum store_status store_open(void);

/* Called with a value and its time while its shard is locked: must not suspend, panic or call the
 * store. */
typedef void store_visit(void *arg, struct bytes value, int64_t expires);

/* Visits the key, if it is there; returns whether it was. No visit: NULL. */
bool store_read(struct bytes key, store_visit *visit, void *arg);

enum store_status store_set(struct bytes key, struct bytes value, int64_t expires,
                            enum store_condition condition);

/* Adds to the integer at key, 0 if absent, and keeps its time. *sum is set with STORE_OK. */
enum store_status store_add(struct bytes key, int64_t delta, int64_t *sum);

/* Gives the key a time; one that is past removes it. Returns whether it was there. */
bool store_expire(struct bytes key, int64_t expires);

/*
 * Removes the keys whose time is not after `now`, whether or not somebody asks for them: in the
 * next `slots` slots of each shard, so that many short sweeps see every key. At STORE_KEEPS no key
 * stays. Slots that were made for many keys are kept.
 */
void store_sweep(size_t slots, int64_t now);

/* Keys held, those that have expired and were not yet met included. */
size_t store_count(void);

#endif
