/* SPDX-License-Identifier: MIT */
/*
 * line.h - lines for a descriptor, built without libc's help: async-signal-safe, but for
 * line_print. What does not fit is cut.
 */
#ifndef COIR_LINE_H
#define COIR_LINE_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base.h"

struct line {
    char bytes[512];
    size_t length;
};

static inline void line_say(struct line *t, const char *s)
{
    while (*s && t->length < sizeof t->bytes)
        t->bytes[t->length++] = *s++;
}

/* In base 10, or 16 with 0x before it. */
static inline void line_number(struct line *t, uint64_t n, unsigned base)
{
    char digit[24];
    int i = (int)sizeof digit;

    digit[--i] = '\0';
    do {
        digit[--i] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    line_say(t, base == 16 ? "0x" : "");
    line_say(t, &digit[i]);
}

/* Both at once: a word and a number after it. */
static inline void line_count(struct line *t, const char *word, uint64_t n)
{
    line_say(t, word);
    line_number(t, n, 10);
}

/* False: the descriptor took less. A handler that interrupts it may have come without SA_RESTART. */
static inline bool line_write(int fd, const char *at, size_t left)
{
    while (left > 0) {
        ssize_t n = write(fd, at, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        left -= (size_t)n;
    }
    return true;
}

/* Writes the line and begins a new one. False: it could not be written. */
static inline bool line_flush(struct line *t, int fd)
{
    size_t length = t->length;

    t->length = 0;
    return line_write(fd, t->bytes, length);
}

/* Writes one formatted line; the newline is added. Not dprintf: glibc's leaks where writing fails. */
static inline __attribute__((format(printf, 2, 3))) bool line_print(int fd, const char *format, ...)
{
    struct line t;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t.bytes, sizeof t.bytes - 1, format, args);
    va_end(args);
    t.length = n < 0 ? 0 : (size_t)n < sizeof t.bytes - 2 ? (size_t)n : sizeof t.bytes - 2;
    for (size_t i = 0; i < t.length; i++)
        t.bytes[i] = printable(t.bytes[i]);
    line_say(&t, "\n");
    return line_flush(&t, fd);
}

#endif
