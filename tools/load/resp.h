/* SPDX-License-Identifier: MIT */
/*
 * resp.h - the little of RESP2 that a load generator needs: where a reply ends, and requests
 * made once as text with holes for the key numbers.
 */
#ifndef RESP_H
#define RESP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define RESP_LINE_MAX 65536                /* bytes of a line; longer is no RESP */
#define RESP_BULK_MAX (INT64_C(512) << 20) /* bytes of a bulk string, the protocol's limit */
#define RESP_ITEMS_MAX (INT64_C(1) << 20)  /* items of an array */
#define RESP_DEPTH_MAX 8                   /* arrays in arrays */
#define RESP_KEY_DIGITS 12
#define RESP_MSET_KEYS 10 /* as redis-benchmark does */

/* A request as it is sent, and what its reply looks like. */
struct resp_request {
    char *text;
    size_t length;
    size_t key_at[RESP_MSET_KEYS]; /* offsets of the key numbers, RESP_KEY_DIGITS each */
    unsigned keys;
    char reply;           /* first byte of the reply that is no error */
    int64_t reply_length; /* of all of it; 0: any */
};

/* ---------------------------------------------------------------------------------- replies */

/* Length of the line at text with its CRLF; 0: incomplete; -1: not a RESP line. */
static inline int64_t resp_line(const char *text, size_t length)
{
    const char *end = memchr(text, '\n', length < RESP_LINE_MAX ? length : RESP_LINE_MAX);

    if (!end)
        return length < RESP_LINE_MAX ? 0 : -1;
    return end - text >= 2 && end[-1] == '\r' ? end - text + 1 : -1;
}

/* The number between the type byte and the CRLF of a line. */
static inline bool resp_number(const char *line, int64_t line_length, int64_t *number)
{
    char *end;

    if (line[1] != '-' && (line[1] < '0' || line[1] > '9'))
        return false;
    *number = strtoll(line + 1, &end, 10);
    return end == line + line_length - 2;
}

static inline int64_t resp_reply_at(const char *text, size_t length, unsigned depth);

/* Length of an array whose first line is given; 0 and -1 as resp_reply. */
static inline int64_t resp_array(const char *text, size_t length, int64_t line, int64_t items,
                                 unsigned depth)
{
    int64_t at = line;

    if (items < -1 || items > RESP_ITEMS_MAX || depth == RESP_DEPTH_MAX)
        return -1;
    for (int64_t i = 0; i < items; i++) {
        int64_t item = resp_reply_at(text + at, length - (size_t)at, depth + 1);

        if (item <= 0)
            return item;
        at += item;
    }
    return at;
}

static inline int64_t resp_reply_at(const char *text, size_t length, unsigned depth)
{
    int64_t line = length ? resp_line(text, length) : 0;
    int64_t number = 0;

    if (length && !memchr("+-:$*", text[0], 5))
        return -1;
    if (line <= 0 || text[0] == '+' || text[0] == '-')
        return line;
    if (!resp_number(text, line, &number))
        return -1;
    if (text[0] == ':')
        return line;
    if (text[0] == '*')
        return resp_array(text, length, line, number, depth);
    if (number == -1)
        return line;
    if (number < 0 || number > RESP_BULK_MAX)
        return -1;
    if ((int64_t)length < line + number + 2)
        return 0;
    return memcmp(text + line + number, "\r\n", 2) == 0 ? line + number + 2 : -1;
}

/* Length of the first reply in text; 0: incomplete; -1: not RESP. */
static inline int64_t resp_reply(const char *text, size_t length)
{
    return resp_reply_at(text, length, 0);
}

/* --------------------------------------------------------------------------------- requests */

/* Writes an argument, a key of the given family, and notes where its number goes. */
static inline void resp_put_key(struct resp_request *r, FILE *out, const char *family)
{
    fprintf(out, "$%zu\r\n%s:", strlen(family) + 1 + RESP_KEY_DIGITS, family);
    r->key_at[r->keys++] = (size_t)ftell(out);
    fprintf(out, "%0*d\r\n", RESP_KEY_DIGITS, 0);
}

static inline void resp_put_value(FILE *out, uint64_t bytes)
{
    fprintf(out, "$%llu\r\n", (unsigned long long)bytes);
    for (uint64_t i = 0; i < bytes; i++)
        putc('x', out);
    fputs("\r\n", out);
}

static inline void resp_put_request(struct resp_request *r, FILE *out, enum load_command command,
                                    uint64_t value_bytes)
{
    switch (command) {
    case LOAD_PING:
        fputs("*1\r\n$4\r\nPING\r\n", out);
        break;
    case LOAD_GET:
        fputs("*2\r\n$3\r\nGET\r\n", out);
        resp_put_key(r, out, "key");
        break;
    case LOAD_SET:
        fputs("*3\r\n$3\r\nSET\r\n", out);
        resp_put_key(r, out, "key");
        resp_put_value(out, value_bytes);
        break;
    case LOAD_INCR:
        fputs("*2\r\n$4\r\nINCR\r\n", out);
        resp_put_key(r, out, "counter");
        break;
    case LOAD_MSET:
        fprintf(out, "*%d\r\n$4\r\nMSET\r\n", 1 + 2 * RESP_MSET_KEYS);
        for (int i = 0; i < RESP_MSET_KEYS; i++) {
            resp_put_key(r, out, "key");
            resp_put_value(out, value_bytes);
        }
        break;
    case LOAD_ECHO:
        fputs("*2\r\n$4\r\nECHO\r\n", out);
        r->reply_length = ftell(out);
        resp_put_value(out, value_bytes);
        r->reply_length = ftell(out) - r->reply_length;
        break;
    case LOAD_COMMANDS:
        break;
    }
}

static inline bool resp_finish(FILE *out)
{
    bool good = !ferror(out);

    return fclose(out) == 0 && good;
}

/* Makes the request of a command. Returns false when memory is out. */
static inline bool resp_request_init(struct resp_request *r, enum load_command command,
                                     uint64_t value_bytes)
{
    static const char reply[] = {
        [LOAD_PING] = '+', [LOAD_GET] = '$',  [LOAD_SET] = '+',
        [LOAD_INCR] = ':', [LOAD_MSET] = '+', [LOAD_ECHO] = '$',
    };
    FILE *out;

    memset(r, 0, sizeof *r);
    r->reply = reply[command];
    out = open_memstream(&r->text, &r->length);
    if (!out)
        return false;
    resp_put_request(r, out, command, value_bytes);
    return resp_finish(out);
}

/* Makes a request of the words of a line. Returns false when memory is out. */
static inline bool resp_request_of_words(struct resp_request *r, const char *line)
{
    size_t words = 0;
    FILE *out;

    memset(r, 0, sizeof *r);
    for (const char *at = line + strspn(line, " "); *at; at += strspn(at, " ")) {
        at += strcspn(at, " ");
        words++;
    }
    out = open_memstream(&r->text, &r->length);
    if (!out)
        return false;
    fprintf(out, "*%zu\r\n", words);
    for (const char *at = line + strspn(line, " "); *at; at += strspn(at, " ")) {
        size_t word = strcspn(at, " ");

        fprintf(out, "$%zu\r\n%.*s\r\n", word, (int)word, at);
        at += word;
    }
    return resp_finish(out);
}

/* Writes a key number into its hole. */
static inline void resp_set_key(char *hole, uint64_t key)
{
    for (int i = RESP_KEY_DIGITS - 1; i >= 0; i--, key /= 10)
        hole[i] = (char)('0' + key % 10);
}

#endif
