/* SPDX-License-Identifier: MIT */
/*
 * wrap.h - tables that fit a terminal: the last column of a line goes on below itself. C and C++.
 */
#ifndef COIR_TEST_WRAP_H
#define COIR_TEST_WRAP_H

#include <stdio.h>
#include <string.h>

#define WRAP_COLUMNS 140 /* of a line */

/* How much of the text fits, up to a blank; a word longer than that is not cut. */
static inline int wrap_fits(const char *text, int room)
{
    int n = (int)strcspn(text, " ");

    while (text[n]) {
        int next = n + 1 + (int)strcspn(text + n + 1, " ");

        if (next > room)
            break;
        n = next;
    }
    return n;
}

/* Prints the text and a newline; the line has `column` characters already. */
static inline void wrap_print(const char *text, int column)
{
    int n = wrap_fits(text, WRAP_COLUMNS - column);

    printf("%.*s\n", n, text);
    while (text[n]) {
        text += n + 1;
        n = wrap_fits(text, WRAP_COLUMNS - column);
        printf("%*s%.*s\n", column, "", n, text);
    }
    fflush(stdout);
}

#endif
