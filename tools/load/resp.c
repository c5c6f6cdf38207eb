/* SPDX-License-Identifier: MIT */
/*
 * resp.c - see resp.h. In the words of a command, KEY at the end of one stands for a number that
 * each request draws, VALUE alone for a value.
 */
#include "resp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65536          /* a longer line is no RESP */
#define BULK_MAX (INT64_C(512) << 20) /* bytes of a bulk string, the protocol's limit */
#define KEY_DIGITS 12

#define KEY "\1"
#define VALUE "\2"
#define PAIR " key:" KEY " " VALUE

const struct resp_command resp_command[RESP_COMMANDS] = {
    {"ping", "PING", '+', false},
    {"get", "GET key:" KEY, '$', false},
    {"set", "SET" PAIR, '+', false},
    {"incr", "INCR counter:" KEY, ':', false},
    {"mset", "MSET" PAIR PAIR PAIR PAIR PAIR PAIR PAIR PAIR PAIR PAIR, '+', false},
    {"echo", "ECHO " VALUE, '$', true},
};

/* --------------------------------------------------------------------------------- requests */

static void put_word(struct resp_request *r, FILE *out, const char *word, int length,
                     uint64_t value_bytes)
{
    bool key = word[length - 1] == KEY[0] && r->keys < RESP_KEYS_MAX;

    r->last = (size_t)ftell(out);
    if (length == 1 && word[0] == VALUE[0]) {
        fprintf(out, "$%" PRIu64 "\r\n", value_bytes);
        for (uint64_t i = 0; i < value_bytes; i++)
            putc('x', out);
    } else if (key) {
        fprintf(out, "$%d\r\n%.*s", length - 1 + KEY_DIGITS, length - 1, word);
        r->key_at[r->keys++] = (size_t)ftell(out);
        fprintf(out, "%0*d", KEY_DIGITS, 0);
    } else {
        fprintf(out, "$%d\r\n%.*s", length, length, word);
    }
    fputs("\r\n", out);
}

/* The next word of a line; NULL: there is none. */
static const char *next_word(const char *at)
{
    at += strspn(at, " ");
    return *at ? at : NULL;
}

bool resp_request_init(struct resp_request *r, const char *line, uint64_t value_bytes)
{
    unsigned words = 0;
    FILE *out;
    bool good;

    memset(r, 0, sizeof *r);
    out = open_memstream(&r->text, &r->length);
    if (!out)
        return false;
    for (const char *at = line; (at = next_word(at)); at += strcspn(at, " "))
        words++;
    fprintf(out, "*%u\r\n", words);
    for (const char *at = line; (at = next_word(at)); at += strcspn(at, " "))
        put_word(r, out, at, (int)strcspn(at, " "), value_bytes);
    good = !ferror(out);
    return fclose(out) == 0 && good;
}

void resp_set_key(char *hole, uint64_t key)
{
    for (int i = KEY_DIGITS - 1; i >= 0; i--, key /= 10)
        hole[i] = (char)('0' + key % 10);
}

/* ---------------------------------------------------------------------------------- replies */

/* Length of the line at text with its CRLF; 0: incomplete; -1: not a RESP line. */
static int64_t line_length(const char *text, size_t length)
{
    const char *end = memchr(text, '\n', length < LINE_MAX_BYTES ? length : LINE_MAX_BYTES);

    if (!end)
        return length < LINE_MAX_BYTES ? 0 : -1;
    return end - text >= 2 && end[-1] == '\r' ? end - text + 1 : -1;
}

/* The number between the type byte and the CRLF of a line. */
static bool line_number(const char *line, int64_t length, int64_t *number)
{
    char *end;

    if (line[1] != '-' && (line[1] < '0' || line[1] > '9'))
        return false;
    *number = strtoll(line + 1, &end, 10);
    return end == line + length - 2;
}

int64_t resp_reply(const char *text, size_t length)
{
    int64_t line, number;

    if (length == 0)
        return 0;
    if (!memchr("+-:$", text[0], 4))
        return -1;
    line = line_length(text, length);
    if (line <= 0 || text[0] == '+' || text[0] == '-')
        return line;
    if (!line_number(text, line, &number))
        return -1;
    if (text[0] == ':' || number == -1)
        return line;
    if (number < 0 || number > BULK_MAX)
        return -1;
    if ((int64_t)length < line + number + 2)
        return 0;
    return memcmp(text + line + number, "\r\n", 2) == 0 ? line + number + 2 : -1;
}
