/* SPDX-License-Identifier: MIT */
/*
 * resp.c - RESP2: an incremental parser of requests, and the writers of replies.
 *
 * Owns: the array of argument spans, and what a buffer holds.
 *
 * A request is "*COUNT\r\n" and COUNT times "$LENGTH\r\n" LENGTH bytes "\r\n", or one line of
 * words.
 *
 * Invariants
 *   R1  Every byte is looked at a bounded number of times, however the stream is cut into calls.
 *   R2  at never exceeds REQUEST_BYTES_MAX by more than one header, and fits a span's 32 bits.
 *   R3  Unquoting never writes at or beyond the place it reads.
 */
#include "resp.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER_BYTES_MAX 32 /* of "*COUNT\r\n"; no sound number is longer */
#define ERROR_BYTES_MAX 256

_Static_assert(REQUEST_BYTES_MAX < UINT32_MAX / 2, "a span has 32 bits (R2)");
_Static_assert(REQUEST_INLINE_BYTES_MAX / 2 <= REQUEST_ARGUMENTS_MAX, "a line is within limits");

/* -------------------------------------------------------------------------------- requests */

__attribute__((format(printf, 2, 3))) static enum parse broken(struct request *r,
                                                               const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vsnprintf(r->error, sizeof r->error, format, values);
    va_end(values);
    return PARSE_BROKEN;
}

static enum parse add_span(struct request *r, size_t at, size_t length)
{
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 8;
        struct span *span = realloc(r->span, room * sizeof *span);

        if (!span)
            return broken(r, "out of memory");
        r->span = span;
        r->room = room;
    }
    r->span[r->count++] = (struct span){(uint32_t)at, (uint32_t)length};
    return PARSE_DONE;
}

/* Reads "?NUMBER\r\n" and moves past it; error is what to say of anything else. */
static enum parse read_number(struct request *r, size_t length, const char *error, int64_t *number)
{
    const char *line = r->data + r->at;
    size_t there = length - r->at < HEADER_BYTES_MAX ? length - r->at : HEADER_BYTES_MAX;
    const char *end = memchr(line, '\n', there);

    if (!end)
        return there < HEADER_BYTES_MAX ? PARSE_MORE : broken(r, "%s", error);
    if (end - line < 3 || end[-1] != '\r')
        return broken(r, "%s", error);
    if (!bytes_integer((struct bytes){line + 1, (size_t)(end - line) - 2}, number))
        return broken(r, "%s", error);
    r->at += (size_t)(end - line) + 1;
    return PARSE_DONE;
}

static enum parse parse_count(struct request *r, size_t length)
{
    int64_t count = 0;
    enum parse step = read_number(r, length, "invalid multibulk length", &count);

    if (step != PARSE_DONE)
        return step;
    if (count > REQUEST_ARGUMENTS_MAX)
        return broken(r, "invalid multibulk length");
    r->missing = count > 0 ? (size_t)count : 0;
    return PARSE_DONE;
}

static enum parse parse_bulk_header(struct request *r, size_t length)
{
    int64_t bytes = 0;
    enum parse step;

    if (r->at == length)
        return PARSE_MORE;
    if (r->data[r->at] != '$')
        return broken(r, "expected '$', got '%c'",
                      isprint((unsigned char)r->data[r->at]) ? r->data[r->at] : '?');
    step = read_number(r, length, "invalid bulk length", &bytes);
    if (step != PARSE_DONE)
        return step;
    if (bytes < 0 || bytes > REQUEST_ARGUMENT_BYTES_MAX)
        return broken(r, "invalid bulk length");
    if (r->at + (size_t)bytes > REQUEST_BYTES_MAX)
        return broken(r, "too big request");
    r->bulk_length = (size_t)bytes;
    r->in_bulk = true;
    return PARSE_DONE;
}

static enum parse parse_bulk(struct request *r, size_t length)
{
    const char *end = r->data + r->at + r->bulk_length;
    enum parse step;

    if (length - r->at < r->bulk_length + 2)
        return PARSE_MORE;
    if (end[0] != '\r' || end[1] != '\n')
        return broken(r, "expected CRLF after bulk");
    step = add_span(r, r->at, r->bulk_length);
    r->at += r->bulk_length + 2;
    r->missing--;
    r->in_bulk = false;
    return step;
}

static enum parse parse_array(struct request *r, size_t length)
{
    enum parse step = r->at == 0 ? parse_count(r, length) : PARSE_DONE;

    while (step == PARSE_DONE && r->missing > 0)
        step = r->in_bulk ? parse_bulk(r, length) : parse_bulk_header(r, length);
    return step;
}

/* The byte that "\n", "\x41" or "\"" in double quotes stands for; *in is past the backslash. */
static char unescape(const char **in, const char *end)
{
    static const char names[] = "nrtba", bytes[] = "\n\r\t\b\a";
    const char *escape = (*in)++, *name = strchr(names, *escape);

    if (*escape == 'x' && end - *in >= 2 && isxdigit((unsigned char)escape[1]) &&
        isxdigit((unsigned char)escape[2])) {
        *in += 2;
        return (char)strtol((char[]){escape[1], escape[2], '\0'}, NULL, 16);
    }
    return *escape && name ? bytes[name - names] : *escape;
}

/* Copies what the quotes at in hold to *out; returns the place after them, NULL: no such place. */
static const char *unquote(const char *in, const char *end, char **out)
{
    char quote = *in++;

    while (in < end && *in != quote) {
        bool escape = *in == '\\' && in + 1 < end && (quote == '"' || in[1] == quote);

        if (escape)
            in++;
        *(*out)++ = escape && quote == '"' ? unescape(&in, end) : *in++;
    }
    if (in == end || (++in < end && !isspace((unsigned char)*in)))
        return NULL;
    return in;
}

static enum parse split_words(struct request *r, char *line, const char *end)
{
    enum parse step = PARSE_DONE;
    const char *in = line;

    while (step == PARSE_DONE) {
        char *word, *out;

        while (in < end && isspace((unsigned char)*in))
            in++;
        if (in == end)
            break;
        word = out = line + (in - line);
        while (in && in < end && !isspace((unsigned char)*in)) {
            if (*in == '"' || *in == '\'')
                in = unquote(in, end, &out);
            else
                *out++ = *in++;
        }
        if (!in)
            return broken(r, "unbalanced quotes in request");
        step = add_span(r, (size_t)(word - line), (size_t)(out - word));
    }
    return step;
}

/* Until the line is complete, r->at is how far it was searched for its end (R1). */
static enum parse parse_inline(struct request *r, char *data, size_t length)
{
    const char *end = memchr(data + r->at, '\n', length - r->at);
    size_t line = end ? (size_t)(end - data) : length;

    if (line > REQUEST_INLINE_BYTES_MAX)
        return broken(r, "too big inline request");
    r->at = end ? line + 1 : length;
    return end ? split_words(r, data, end) : PARSE_MORE;
}

enum parse request_parse(struct request *r, char *data, size_t length)
{
    enum parse step;

    if (r->complete) {
        r->at = r->missing = r->count = 0;
        r->in_bulk = r->complete = false;
    }
    r->data = data;
    if (length == 0)
        return PARSE_MORE;
    step = data[0] == '*' ? parse_array(r, length) : parse_inline(r, data, length);
    r->complete = step == PARSE_DONE;
    return step;
}

void request_free(struct request *r)
{
    free(r->span);
    *r = (struct request){0};
}

/* --------------------------------------------------------------------------------- buffers */

char *buffer_reserve(struct buffer *b, size_t n)
{
    size_t room = b->room ? b->room : 4096;
    char *data;

    if (b->failed)
        return NULL;
    while (room - b->used < n)
        room *= 2;
    if (room != b->room) {
        data = realloc(b->data, room);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    return b->data + b->used;
}

void buffer_append(struct buffer *b, struct bytes bytes)
{
    char *to = buffer_reserve(b, bytes.length);

    if (!to || bytes.length == 0)
        return;
    memcpy(to, bytes.data, bytes.length);
    b->used += bytes.length;
}

void buffer_print(struct buffer *b, const char *format, ...)
{
    char text[512];
    va_list values;
    int length;

    va_start(values, format);
    length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (length < 0 || (size_t)length >= sizeof text)
        b->failed = true;
    else
        buffer_append(b, (struct bytes){text, (size_t)length});
}

void buffer_clear(struct buffer *b, size_t keep)
{
    b->used = 0;
    if (b->room > keep)
        buffer_free(b);
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){.failed = b->failed};
}

/* --------------------------------------------------------------------------------- replies */

/* Appends TYPE NUMBER CRLF, and leaves room for `more` bytes so that they cost no second look. */
static void put_number(struct buffer *out, char type, int64_t number, size_t more)
{
    char *to = buffer_reserve(out, 1 + BYTES_INTEGER_MAX + 2 + more);
    size_t digits;

    if (!to)
        return;
    *to = type;
    digits = bytes_from_integer(to + 1, number);
    memcpy(to + 1 + digits, "\r\n", 2);
    out->used += 1 + digits + 2;
}

void reply_status(struct buffer *out, const char *text)
{
    buffer_append(out, (struct bytes){"+", 1});
    buffer_append(out, (struct bytes){text, strlen(text)});
    buffer_append(out, (struct bytes){"\r\n", 2});
}

void reply_error(struct buffer *out, const char *format, ...)
{
    char text[ERROR_BYTES_MAX];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    for (char *c = text; *c; c++)
        if (*c == '\r' || *c == '\n')
            *c = ' ';
    buffer_print(out, "-%s\r\n", text);
}

void reply_integer(struct buffer *out, int64_t value)
{
    put_number(out, ':', value, 0);
}

void reply_bulk(struct buffer *out, struct bytes value)
{
    put_number(out, '$', (int64_t)value.length, value.length + 2);
    buffer_append(out, value);
    buffer_append(out, (struct bytes){"\r\n", 2});
}

void reply_null(struct buffer *out)
{
    buffer_append(out, (struct bytes){"$-1\r\n", 5});
}

void reply_array(struct buffer *out, size_t n)
{
    put_number(out, '*', (int64_t)n, 0);
}
