/* SPDX-License-Identifier: MIT */
/*
 * trees.h - programs that follow from a seed: jobs that spawn, fork, try, wait and fail, each of which knows how
 * everything that it starts has to end.
 */
#ifndef COIR_TREES_H
#define COIR_TREES_H

#include "coir.h"

#include <stdint.h>

/* What a tree has come to; all zero before it. */
struct trees {
    int unlike;  /* outcomes other than foreseen, though nobody was asked to stop */
    int inside;  /* jobs that have begun and whose coir_defer handlers have not run; 0 after it */
    int begun;
    coir_fn *fault; /* a job that a fault ends; NULL: none does */
};

extern struct trees trees;

/* A job, for coir_spawn and its kind, and the argument that makes it the tree of this seed. */
void trees_grow(void *tree);
void *trees_of(uint32_t seed, unsigned depth);

/* How that job ends, if nobody asks it to stop. */
int trees_outcome(uint32_t seed);

#endif
