/* SPDX-License-Identifier: MIT */
/*
 * resp.h - the little of RESP2 that a load generator needs: where a reply ends, and requests
 * made once as text with holes for the key numbers.
 */
#ifndef RESP_H
#define RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_COMMANDS 6
#define RESP_KEYS_MAX 10 /* of one request: MSET's, as redis-benchmark does */

/* A command that the mix may hold. */
struct resp_command {
    const char *name;
    const char *words;
    char reply;  /* first byte of the reply that is no error */
    bool echoes; /* the reply is the last word */
};

extern const struct resp_command resp_command[RESP_COMMANDS];

/* A request as it is sent. */
struct resp_request {
    char *text;
    size_t length;
    size_t last;                  /* offset of the last word */
    size_t key_at[RESP_KEYS_MAX]; /* offsets of the key numbers */
    unsigned keys;
};

/* Makes a request of the words of a line. Returns false when memory is out. */
bool resp_request_init(struct resp_request *r, const char *line, uint64_t value_bytes);

/* Writes a key number into its hole. */
void resp_set_key(char *hole, uint64_t key);

/* Length of the first reply in text; 0: incomplete; -1: no RESP, or an array, which no command of
 * ours is answered by. */
int64_t resp_reply(const char *text, size_t length);

#endif
