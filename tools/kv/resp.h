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
#include <strings.h>

#define REQUEST_ARGUMENTS_MAX 65536
#define REQUEST_ARGUMENT_BYTES_MAX (8u << 20)
#define REQUEST_BYTES_MAX (16u << 20)
#define REQUEST_INLINE_BYTES_MAX (64u << 10)

/* ----------------------------------------------------------------------------------- bytes */

/* A view of bytes that somebody else owns. Any byte may occur; there is no terminator. */
struct bytes {
    const char *data;
    size_t length;
};

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* Whether the bytes are this word, whatever the case of its letters. */
static inline bool bytes_are(struct bytes b, const char *word)
{
    return b.length == strlen(word) && strncasecmp(b.data, word, b.length) == 0;
}

#define BYTES_INTEGER_MAX 20 /* characters of the longest int64_t, "-9223372036854775808" */

/* Reads a decimal integer in its one canonical form: "7", "-7", "0"; not "+7", "07", "-0", "". */
bool bytes_integer(struct bytes b, int64_t *value);

/* Writes the integer into text, without terminator; returns how many characters. */
size_t bytes_from_integer(char text[BYTES_INTEGER_MAX], int64_t value);

/* -------------------------------------------------------------------------------- requests */

enum parse {
    PARSE_MORE,  /* the bytes so far are a sound beginning */
    PARSE_DONE,  /* a whole request is there */
    PARSE_BROKEN /* request.error says why; nothing after this point can be understood */
};

/*
 * A request being read; once complete, its arguments. All zero is valid.
 *
 * Arguments are offsets, since the bytes may move between two calls of request_parse. Their array
 * grows with the arguments that have arrived, never with the number that was announced.
 */
struct request {
    const char *data; /* the bytes, as of the last request_parse */
    size_t at;        /* bytes understood; of a complete request: its length */
    size_t missing;   /* arguments still to come */
    size_t bulk_end;  /* of the argument that begins at `at`; 0: its header comes first */
    bool complete;
    struct span {
        uint32_t at, length; /* in bytes from the beginning of the request */
    } * span;                /* owned; count of room are in use */
    size_t count, room;
    char error[32]; /* set with PARSE_BROKEN */
};

/*
 * Goes on with a request, or begins the next one after PARSE_DONE.
 *
 *   data       the first byte of the request. What was there in the call before must still be
 *              there, though the address may differ. Quoted words of inline commands are
 *              unquoted in place.
 *
 * A complete request of no arguments (an empty line, "*0") asks for nothing.
 */
enum parse request_parse(struct request *request, char *data, size_t length);

static inline struct bytes request_argument(const struct request *r, size_t i)
{
    return (struct bytes){r->data + r->span[i].at, r->span[i].length};
}

void request_free(struct request *request);

/* --------------------------------------------------------------------------------- replies */

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

void reply_status(struct buffer *out, const char *text);
/* The text begins with a code in capitals, such as ERR. Line breaks in it become spaces. */
__attribute__((format(printf, 2, 3))) void reply_error(struct buffer *out, const char *format, ...);
void reply_integer(struct buffer *out, int64_t value);
void reply_bulk(struct buffer *out, struct bytes value);
void reply_null(struct buffer *out);
/* n replies must follow. */
void reply_array(struct buffer *out, size_t n);

#endif
