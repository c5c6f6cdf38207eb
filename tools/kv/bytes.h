/* SPDX-License-Identifier: MIT */
/*
 * bytes.h - a view of bytes that somebody else owns: what arguments, keys and values are.
 *
 * Any byte may occur in a view, zero too; there is no terminator.
 */
#ifndef KV_BYTES_H
#define KV_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct bytes {
    const char *data;
    size_t length;
};

#define BYTES_INTEGER_MAX 20 /* characters of the longest int64_t, "-9223372036854775808" */

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* Whether the bytes are this word, whatever the case of its letters. */
static inline bool bytes_are(struct bytes b, const char *word)
{
    return b.length == strlen(word) && strncasecmp(b.data, word, b.length) == 0;
}

/* Reads a decimal integer in its one canonical form: "7", "-7", "0"; not "+7", "07", "-0", "". */
static inline bool bytes_integer(struct bytes b, int64_t *value)
{
    size_t sign = b.length > 1 && b.data[0] == '-';
    int64_t n = 0;

    if (b.length == sign || b.length > BYTES_INTEGER_MAX)
        return false;
    if (b.data[sign] == '0' && b.length > 1)
        return false;
    for (size_t i = sign; i < b.length; i++) {
        int digit = b.data[i] - '0';

        if (digit < 0 || digit > 9)
            return false;
        /* Counted downwards: the most negative integer has no positive twin. */
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, digit, &n))
            return false;
    }
    if (!sign && n == INT64_MIN)
        return false;
    *value = sign ? n : -n;
    return true;
}

/* Writes the integer into text, without terminator; returns how many characters. */
static inline size_t bytes_from_integer(char text[BYTES_INTEGER_MAX], int64_t value)
{
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char digits[BYTES_INTEGER_MAX], *first = digits + sizeof digits;
    size_t length;

    do
        *--first = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--first = '-';
    length = (size_t)(digits + sizeof digits - first);
    memcpy(text, first, length);
    return length;
}

#endif
