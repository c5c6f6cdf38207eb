/* SPDX-License-Identifier: MIT */
/*
 * map_words.h - what a node of a map says to people, column by column. See map_words.c.
 */
#ifndef COIR_MAP_WORDS_H
#define COIR_MAP_WORDS_H

#include "map.h"

enum map_column {
    MAP_IS,
    MAP_STATE,
    MAP_TAKES,    /* who goes with it */
    MAP_FAILURES, /* before that: budgets, as LEFT/OF */
    MAP_JOBS,
    MAP_PLACES,
    MAP_STACKS,
    MAP_MEMORY,
    MAP_POLICIES, /* its rules and its past */
    MAP_COLUMNS
};

extern const char *const map_heading[MAP_COLUMNS];

/* "": nothing to say. */
struct map_cell {
    char text[320];
};

void map_say(const struct map *m, uint32_t n, struct map_cell cell[MAP_COLUMNS]);

enum map_health {
    MAP_WELL,
    MAP_HURT,  /* it is tripped, or being started again */
    MAP_ENDS,  /* it is canceled, closing, stopping, or not there */
    MAP_STUCK  /* it does not end */
};
enum map_health map_health(const struct map_node *n);

#endif
