/* SPDX-License-Identifier: MIT */
/*
 * resp.c - RESP2: an incremental parser of requests, and the writers of replies.
 *
 * A request is "*COUNT\r\n" and COUNT times "$LENGTH\r\n" LENGTH bytes "\r\n", or one line of
 * words.
 *
 * Invariants
 *   R1  Every byte is looked at a bounded number of times, however the stream is cut into calls.
 *   R2  Unquoting never writes beyond the place it reads.
 */
#include "resp.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER_BYTES_MAX 32 /* of "*COUNT\r\n"; no sound number is longer */
#define PRINT_BYTES_MAX 400

_Static_assert(REQUEST_BYTES_MAX < UINT32_MAX / 2, "a span has 32 bits");
_Static_assert(REQUEST_INLINE_BYTES_MAX / 2 <= REQUEST_ARGUMENTS_MAX, "a line is within limits");

/* -------------------------------------------------------------------------------- integers */

bool bytes_integer(struct bytes b, int64_t *value)
{
    size_t sign = b.length > 1 && b.data[0] == '-';
    int64_t n = 0;

    if (b.length == 0 || (b.data[sign] == '0' && b.length > 1))
        return false;
    for (size_t i = sign; i < b.length; i++) {
        int digit = b.data[i] - '0';

        /* Counted downwards: the most negative integer has no positive twin. */
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_sub_overflow(n, digit, &n))
            return false;
    }
    if (!sign && n == INT64_MIN)
        return false;
    *value = sign ? n : -n;
    return true;
}

size_t bytes_from_integer(char text[BYTES_INTEGER_MAX], int64_t value)
{
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char digits[BYTES_INTEGER_MAX], *end = digits + sizeof digits, *first = end;

    do
        *--first = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--first = '-';
    memcpy(text, first, (size_t)(end - first));
    return (size_t)(end - first);
}

/* -------------------------------------------------------------------------------- requests */

static enum parse broken(struct request *r, const char *error)
{
    snprintf(r->error, sizeof r->error, "%s", error);
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
static enum parse read_number(struct request *r, size_t length, int64_t max, const char *error,
                              int64_t *number)
{
    const char *line = r->data + r->at;
    size_t there = length - r->at < HEADER_BYTES_MAX ? length - r->at : HEADER_BYTES_MAX;
    const char *end = memchr(line, '\n', there);

    if (!end && there < HEADER_BYTES_MAX)
        return PARSE_MORE;
    if (!end || end - line < 3 || end[-1] != '\r' ||
        !bytes_integer((struct bytes){line + 1, (size_t)(end - line) - 2}, number) || *number > max)
        return broken(r, error);
    r->at += (size_t)(end - line) + 1;
    return PARSE_DONE;
}

static enum parse parse_bulk_header(struct request *r, size_t length)
{
    int64_t bytes = 0;
    enum parse step;

    if (r->at == length)
        return PARSE_MORE;
    if (r->data[r->at] != '$') {
        unsigned char got = (unsigned char)r->data[r->at];

        snprintf(r->error, sizeof r->error, "expected '$', got '%c'", isprint(got) ? got : '?');
        return PARSE_BROKEN;
    }
    step = read_number(r, length, REQUEST_ARGUMENT_BYTES_MAX, "invalid bulk length", &bytes);
    if (step != PARSE_DONE)
        return step;
    if (bytes < 0)
        return broken(r, "invalid bulk length");
    r->bulk_end = r->at + (size_t)bytes;
    return r->bulk_end > REQUEST_BYTES_MAX ? broken(r, "too big request") : PARSE_DONE;
}

static enum parse parse_bulk(struct request *r, size_t length)
{
    const char *end = r->data + r->bulk_end;
    size_t begin = r->at;

    if (length < r->bulk_end + 2)
        return PARSE_MORE;
    if (end[0] != '\r' || end[1] != '\n')
        return broken(r, "expected CRLF after bulk");
    r->at = r->bulk_end + 2;
    r->bulk_end = 0;
    r->missing--;
    return add_span(r, begin, r->at - 2 - begin);
}

static enum parse parse_array(struct request *r, size_t length)
{
    enum parse step = PARSE_DONE;
    int64_t count = 0;

    if (r->at == 0) {
        step = read_number(r, length, REQUEST_ARGUMENTS_MAX, "invalid multibulk length", &count);
        r->missing = count > 0 ? (size_t)count : 0;
    }
    while (step == PARSE_DONE && r->missing > 0)
        step = r->bulk_end ? parse_bulk(r, length) : parse_bulk_header(r, length);
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

/* Takes the word at *in to out, without its quotes; returns its end, NULL: a quote is amiss. */
static char *unquote(const char **in, const char *end, char *out)
{
    char quote = '\0';

    while (*in < end && (quote || !isspace((unsigned char)**in))) {
        char c = *(*in)++, next = *in < end ? **in : '\0';

        if (quote && c == '\\' && *in < end && (quote == '"' || next == quote)) {
            *out++ = quote == '"' ? unescape(in, end) : *(*in)++;
        } else if (quote && c == quote) {
            quote = '\0';
            if (*in < end && !isspace((unsigned char)next))
                return NULL;
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
        } else {
            *out++ = c;
        }
    }
    return quote ? NULL : out;
}

static enum parse split_words(struct request *r, char *line, const char *end)
{
    enum parse step = PARSE_DONE;
    const char *in = line;

    while (step == PARSE_DONE) {
        char *word, *word_end;

        while (in < end && isspace((unsigned char)*in))
            in++;
        if (in == end)
            break;
        word = line + (in - line);
        word_end = unquote(&in, end, word);
        if (!word_end)
            return broken(r, "unbalanced quotes in request");
        step = add_span(r, (size_t)(word - line), (size_t)(word_end - word));
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

    if (r->complete)
        r->at = r->count = 0;
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
        b->failed = !data;
        if (!data)
            return NULL;
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

static void print(struct buffer *b, const char *format, va_list values)
{
    char *to = buffer_reserve(b, PRINT_BYTES_MAX);
    int length = to ? vsnprintf(to, PRINT_BYTES_MAX, format, values) : 0;

    b->used += length < PRINT_BYTES_MAX ? (size_t)length : PRINT_BYTES_MAX - 1;
}

void buffer_print(struct buffer *b, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    print(b, format, values);
    va_end(values);
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

static void append_text(struct buffer *out, const char *text)
{
    buffer_append(out, (struct bytes){text, strlen(text)});
}

static void append_number(struct buffer *out, char type, int64_t number)
{
    char *to = buffer_reserve(out, 1 + BYTES_INTEGER_MAX + 2);
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
    append_text(out, "+");
    append_text(out, text);
    append_text(out, "\r\n");
}

void reply_error(struct buffer *out, const char *format, ...)
{
    va_list values;
    size_t begin;

    append_text(out, "-");
    begin = out->used;
    va_start(values, format);
    print(out, format, values);
    va_end(values);
    for (size_t i = begin; i < out->used; i++)
        if (out->data[i] == '\r' || out->data[i] == '\n')
            out->data[i] = ' ';
    append_text(out, "\r\n");
}

void reply_integer(struct buffer *out, int64_t value)
{
    append_number(out, ':', value);
}

void reply_bulk(struct buffer *out, struct bytes value)
{
    append_number(out, '$', (int64_t)value.length);
    buffer_append(out, value);
    append_text(out, "\r\n");
}

void reply_null(struct buffer *out)
{
    append_text(out, "$-1\r\n");
}

void reply_array(struct buffer *out, size_t n)
{
    append_number(out, '*', (int64_t)n);
}
