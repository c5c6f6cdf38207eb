/* SPDX-License-Identifier: MIT */
/*
 * quarantine_file.h - the slots of a quarantine, in a file or in memory. See quarantine_file.c.
 */
#ifndef COIR_QUARANTINE_FILE_H
#define COIR_QUARANTINE_FILE_H

#include "base.h"

#define TABLE_SLOTS_MIN 16
#define TABLE_SLOTS_MAX (1u << 20)
#define ENTRY_LEVEL_MAX 6 /* the expiry is doubled so often at most: 64 times */

enum slot_state { SLOT_EMPTY, SLOT_TRACKED, SLOT_QUARANTINED, SLOT_PROBING };

/* What a slot says. */
struct entry {
    uint64_t generation, type, key;
    int64_t until;     /* wall clock: from then on it may be probed */
    int64_t last;      /* wall clock: last attempt or strike */
    uint32_t strikes;
    uint16_t in_flight; /* attempts that have begun and not ended */
    uint8_t state;     /* enum slot_state */
    uint8_t level;     /* the expiry has been doubled so often */
    int32_t code;      /* of the last strike, as in coir_failure: code, line, kind */
    uint32_t line;     /* cut to 24 bits */
    uint8_t kind;
};

/* One thread at a time. */
struct table {
    int fd;                /* -1: in memory only */
    struct header *header; /* the mapping; NULL: none */
    size_t bytes;
    struct slot *slot;
    uint64_t slots;        /* TABLE_SLOTS_MIN or more; those of the file, if it has been made before */
    uint64_t torn;         /* slots that were lost */
};

/* path NULL: memory. COIR_OK, or a status; table_close in either case. */
int table_open(struct table *t, const char *path, uint64_t wanted);

/* Writes all to the disk. COIR_OK, COIR_EIO. */
int table_close(struct table *t);

/* What slot i says; if it is torn, it is counted and emptied first. */
void table_read(struct table *t, uint64_t i, struct entry *e);

/* e->generation is the one that was read. */
void table_write(struct table *t, uint64_t i, struct entry *e);
void table_clear(struct table *t, uint64_t i, uint64_t generation);

#endif
