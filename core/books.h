/* SPDX-License-Identifier: MIT */
/*
 * books.h - sums over what the workers and the injector have counted. See books.c.
 */
#ifndef COIR_BOOKS_H
#define COIR_BOOKS_H

#include "state.h"

/* Jobs that have ended, by outcome and (the result) in all. */
uint64_t books_ended(struct coir_runtime *rt, uint64_t by_outcome[COIR_PANICKED + 1]);

uint64_t books_accepted(struct coir_runtime *rt);

/* Jobs that have been accepted and have not ended; 0 is exact (BOOKS). by_outcome: those that have. */
uint64_t books_unfinished(struct coir_runtime *rt, uint64_t by_outcome[COIR_PANICKED + 1]);

/* Queued jobs that any close has dropped. */
uint64_t books_dropped(struct coir_runtime *rt);

#endif
