/* SPDX-License-Identifier: MIT */
/*
 * resp.c - RESP2: the reader of requests, and the writers of replies.
 *
 * A request is "*COUNT\r\n" and COUNT times "$LENGTH\r\n" LENGTH bytes "\r\n", or one line of
 * words. The reader is plain sequential code: where bytes are missing it calls `more`, which may
 * park the fiber it runs on, so no state of a half-read request has to be kept anywhere else.
 *
 * Invariants
 *   R1  Every byte is looked at a bounded number of times, however the stream is cut.
 *   R2  Unquoting never writes beyond the place it reads.
 */
#include "resp.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define HEADER_BYTES_MAX 32 /* of "*COUNT\r\n"; no sound number is longer */
#define PRINT_BYTES_MAX 400
#define BUFFER_BYTES_MIN 256 /* a reply as most are; a page for each of ten thousand clients is a fault each, too */

_Static_assert(REQUEST_BYTES_MAX < UINT32_MAX / 2, "a span has 32 bits");
_Static_assert(REQUEST_INLINE_BYTES_MAX / 2 <= REQUEST_ARGUMENTS_MAX, "a line is within limits");

/* ----------------------------------------------------------------------- bytes and buffers */

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Without strncasecmp, which is two calls for each request. */
bool bytes_are(struct bytes b, const char *word)
{
    size_t i = 0;

    while (i < b.length && word[i] && lower(b.data[i]) == lower(word[i]))
        i++;
    return i == b.length && !word[i];
}

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
    size_t sign = value < 0, length = sign + 1;

    for (uint64_t more = rest; more >= 10; more /= 10)
        length++;
    text[0] = '-';
    for (size_t i = length; i > sign; rest /= 10)
        text[--i] = (char)('0' + rest % 10);
    return length;
}

char *buffer_reserve(struct buffer *b, size_t n)
{
    size_t room = b->room ? b->room : BUFFER_BYTES_MIN;
    char *data = b->data;

    while (room - b->used < n)
        room *= 2;
    if (room != b->room && !b->failed) {
        data = realloc(b->data, room);
        b->failed = !data;
        b->data = data ? data : b->data;
        b->room = data ? room : b->room;
    }
    return b->failed ? NULL : b->data + b->used;
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

/* -------------------------------------------------------------------------------- requests */

static bool broken(struct request *r, const char *error)
{
    snprintf(r->error, sizeof r->error, "%s", error);
    return false;
}

/* The bytes of the request that have arrived and are not read yet. */
static struct bytes unread(const struct request *r)
{
    if (!r->in.data) /* nothing has: there is nothing to point into */
        return (struct bytes){"", 0};
    return (struct bytes){r->in.data + r->begin + r->at, r->in.used - r->begin - r->at};
}

static inline bool need(struct request *r, size_t n)
{
    while (r->in.used - r->begin - r->at < n)
        if (!r->more(r))
            return false;
    return true;
}

/* Waits for a line of less than max bytes; *length is where its "\n" is. */
static bool need_line(struct request *r, size_t max, const char *error, size_t *length)
{
    struct bytes here = unread(r);
    size_t searched = 0;
    const char *end;

    while (here.length <= searched || !(end = memchr(here.data + searched, '\n', here.length - searched))) {
        searched = here.length;
        if (searched >= max)
            return broken(r, error);
        if (!need(r, searched + 1))
            return false;
        here = unread(r);
    }
    *length = (size_t)(end - here.data);
    return *length < max || broken(r, error);
}

static bool add_span(struct request *r, size_t at, size_t length)
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
    return true;
}

/* "?N\r\n" of up to four digits that is here as a whole. Returns its length; 0: it is not that simple, or not sound. */
static inline size_t short_number(struct bytes line, int64_t *n)
{
    const char *at = line.data + 1, *end = at + 4;

    if (line.length < sizeof "?0000\r\n" - 1 || (at[0] == '0' && at[1] != '\r'))
        return 0;
    for (*n = 0; at < end && *at >= '0' && *at <= '9'; at++)
        *n = 10 * *n + (*at - '0');
    return at > line.data + 1 && at[0] == '\r' && at[1] == '\n' ? (size_t)(at + 2 - line.data) : 0;
}

/* Reads "?NUMBER\r\n"; error is what to say of anything else. */
static bool read_number(struct request *r, int64_t min, int64_t max, const char *error, int64_t *n)
{
    size_t length;
    const char *line;

    if (!need_line(r, HEADER_BYTES_MAX, error, &length))
        return false;
    line = unread(r).data;
    if (length < 3 || line[length - 1] != '\r' ||
        !bytes_integer((struct bytes){line + 1, length - 2}, n) || *n < min || *n > max)
        return broken(r, error);
    r->at += length + 1;
    return true;
}

static size_t bytes_max(const struct request *r)
{
    return r->bytes_max ? r->bytes_max : REQUEST_BYTES_MAX;
}

static bool read_bulk(struct request *r)
{
    size_t length, begin;
    const char *end;
    int64_t n;

    if (!need(r, 1))
        return false;
    if (*unread(r).data != '$') {
        unsigned char got = (unsigned char)*unread(r).data;

        snprintf(r->error, sizeof r->error, "expected '$', got '%c'", isprint(got) ? got : '?');
        return false;
    }
    if (!read_number(r, 0, REQUEST_ARGUMENT_BYTES_MAX, "invalid bulk length", &n))
        return false;
    begin = r->at;
    length = (size_t)n;
    if (begin + length > bytes_max(r))
        return broken(r, "too big request");
    if (!need(r, length + 2))
        return false;
    end = unread(r).data + length;
    if (end[0] != '\r' || end[1] != '\n')
        return broken(r, "expected CRLF after bulk");
    r->at += length + 2;
    return add_span(r, begin, length);
}

/*
 * Reads arguments that are here as a whole, of lengths that are short_number's: nearly all are, and read_bulk takes
 * twice the instructions. What is not as simple as that is left to it. Returns how many are missing still.
 */
static int64_t read_short_bulks(struct request *r, int64_t missing)
{
    size_t limit = bytes_max(r), count = r->count;
    struct bytes here = unread(r);
    const char *first = here.data;

    for (; missing > 0 && count < r->room; missing--) {
        int64_t n = 0;
        size_t head = short_number(here, &n), whole = head + (size_t)n + 2, at = r->at + (size_t)(here.data - first);

        if (!head || here.data[0] != '$' || here.length < whole || at + whole > limit ||
            here.data[whole - 2] != '\r' || here.data[whole - 1] != '\n')
            break;
        r->span[count++] = (struct span){(uint32_t)(at + head), (uint32_t)n};
        here = (struct bytes){here.data + whole, here.length - whole};
    }
    r->count = count;
    r->at += (size_t)(here.data - first);
    return missing;
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

static bool read_words(struct request *r)
{
    size_t length;
    const char *in, *end;
    char *line;

    if (!need_line(r, REQUEST_INLINE_BYTES_MAX + 1, "too big inline request", &length))
        return false;
    r->at = length + 1;
    line = r->in.data + r->begin;
    for (in = line, end = line + length;;) {
        char *word, *word_end;

        while (in < end && isspace((unsigned char)*in))
            in++;
        if (in == end)
            return true;
        word = line + (in - line);
        word_end = unquote(&in, end, word);
        if (!word_end)
            return broken(r, "unbalanced quotes in request");
        if (!add_span(r, (size_t)(word - line), (size_t)(word_end - word)))
            return false;
    }
}

bool request_read(struct request *r)
{
    int64_t missing = 0;
    size_t simple;

    r->begin += r->at;
    r->at = r->count = 0;
    if (!need(r, 1))
        return false;
    if (*unread(r).data != '*')
        return read_words(r);
    simple = short_number(unread(r), &missing);
    r->at = simple;
    if (!simple && !read_number(r, INT64_MIN, REQUEST_ARGUMENTS_MAX, "invalid multibulk length", &missing))
        return false;
    while ((missing = read_short_bulks(r, missing)) > 0 && read_bulk(r))
        missing--;
    return missing <= 0;
}

bool request_waits(struct request *r, size_t keep)
{
    if (r->begin + r->at < r->in.used)
        return true;
    buffer_clear(&r->in, keep);
    r->begin = r->at = r->count = 0;
    if (r->room * sizeof *r->span > keep) {
        free(r->span);
        r->span = NULL;
        r->room = 0;
    }
    return false;
}

void request_free(struct request *r)
{
    buffer_free(&r->in);
    free(r->span);
}

/* --------------------------------------------------------------------------------- replies */

void reply_text(struct buffer *out, const char *text)
{
    buffer_append(out, (struct bytes){text, strlen(text)});
}

void reply_number(struct buffer *out, char type, int64_t number)
{
    char text[1 + BYTES_INTEGER_MAX + 2] = {type};
    size_t length = 1 + bytes_from_integer(text + 1, number);

    memcpy(text + length, "\r\n", 2);
    buffer_append(out, (struct bytes){text, length + 2});
}

void reply_bulk(struct buffer *out, struct bytes value)
{
    char *to = buffer_reserve(out, 1 + BYTES_INTEGER_MAX + 2 + value.length + 2);
    size_t at = 1;

    if (!to)
        return;
    to[0] = '$';
    at += bytes_from_integer(to + 1, (int64_t)value.length);
    memcpy(to + at, "\r\n", 2);
    if (value.length > 0) /* else there may be no data */
        memcpy(to + at + 2, value.data, value.length);
    memcpy(to + at + 2 + value.length, "\r\n", 2);
    out->used += at + 2 + value.length + 2;
}

void reply_error(struct buffer *out, const char *format, ...)
{
    va_list values;
    size_t begin;

    reply_text(out, "-");
    begin = out->used;
    va_start(values, format);
    print(out, format, values);
    va_end(values);
    for (size_t i = begin; i < out->used; i++)
        if (out->data[i] == '\r' || out->data[i] == '\n')
            out->data[i] = ' ';
    reply_text(out, "\r\n");
}
