/* SPDX-License-Identifier: MIT */
/*
 * resp.h - RESP2, the Redis protocol: requests come in, replies go out.
 *
 * Knows bytes only: no socket, no command, no fiber.
 */
#ifndef KV_RESP_H
#define KV_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes that somebody else owns. Any byte may occur; there is no terminator. */
struct bytes {
    const char *data;
    size_t length;
};

#define BYTES_INTEGER_MAX 20 /* characters of the longest int64_t, "-9223372036854775808" */

bool bytes_are(struct bytes b, const char *word); /* whatever the case of its letters */

/* Reads a decimal integer in its one canonical form: "7", "-7", "0"; not "+7", "07", "-0", "". */
bool bytes_integer(struct bytes b, int64_t *value);
size_t bytes_from_integer(char text[BYTES_INTEGER_MAX], int64_t value); /* returns its length */

/*
 * Bytes that grow at the end. All zero is valid. Memory that cannot be had sets `failed`, after
 * which nothing is appended: the writer need not look, whoever sends the buffer must.
 */
struct buffer {
    char *data; /* owned */
    size_t used, room;
    bool failed;
};

/* Makes room for n more bytes and returns where they go; NULL if there is no memory. */
char *buffer_reserve(struct buffer *buffer, size_t n);
void buffer_append(struct buffer *buffer, struct bytes bytes);
/* Cuts what is longer than 400 bytes. */
__attribute__((format(printf, 2, 3))) void buffer_print(struct buffer *buffer, const char *format,
                                                        ...);
/* Empties the buffer, and gives back its memory if that is more than `keep` bytes. */
void buffer_clear(struct buffer *buffer, size_t keep);
void buffer_free(struct buffer *buffer);

/* -------------------------------------------------------------------------------- requests */

#define REQUEST_ARGUMENTS_MAX 65536
#define REQUEST_ARGUMENT_BYTES_MAX (8u << 20)
#define REQUEST_BYTES_MAX (16u << 20)
#define REQUEST_INLINE_BYTES_MAX (64u << 10)

/*
 * A stream of requests, and the one read last. All zero but for `more` is valid.
 *
 * Arguments are offsets, since `more` may move the bytes. Their array grows with the arguments
 * that have arrived, as the buffer does with the bytes: never on an announcement.
 */
struct request {
    bool (*more)(struct request *r); /* appends to `in`; may first drop what is before `begin` */
    struct buffer in;                /* owned */
    size_t bytes_max;                /* of a request, 0: REQUEST_BYTES_MAX, the most */
    size_t begin;                    /* of the request, in `in` */
    size_t at;                       /* bytes read of it */
    struct span {
        uint32_t at, length; /* in bytes from begin */
    } * span;                /* owned; count of room are in use */
    size_t count, room;
    char error[32]; /* set when the stream is broken: nothing after this can be understood */
};

/*
 * Reads the next request. One of no arguments (an empty line, "*0") asks for nothing.
 *
 * Returns     false when the stream has ended, because there is no more or because it is broken
 */
bool request_read(struct request *r);

static inline struct bytes request_argument(const struct request *r, size_t i)
{
    return (struct bytes){r->in.data + r->begin + r->span[i].at, r->span[i].length};
}

/* Whether bytes are here that no request has had. If not, the request read last has gone, and
 * memory beyond `keep` is given back. */
bool request_waits(struct request *r, size_t keep);
void request_free(struct request *r);

/* --------------------------------------------------------------------------------- replies */

void reply_text(struct buffer *out, const char *text);            /* "+OK\r\n", "$-1\r\n" */
void reply_number(struct buffer *out, char type, int64_t number); /* ':', or '*': replies follow */
void reply_bulk(struct buffer *out, struct bytes value);
/* The text begins with a code in capitals, such as ERR. Line breaks in it become spaces. */
__attribute__((format(printf, 2, 3))) void reply_error(struct buffer *out, const char *format, ...);

#endif
