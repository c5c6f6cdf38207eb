/* SPDX-License-Identifier: MIT */
/*
 * strategy.h - who is started and stopped when a child ends. See strategy.c.
 */
#ifndef COIR_STRATEGY_H
#define COIR_STRATEGY_H

#include "supervised.h"

/* Starts all children, in order. Else the status of the one that did not start, *failed. */
int strategy_start_all(struct coir_supervisor *s, struct child **failed);

/* Stops all children: the last first; of a COIR_DYNAMIC, at once. */
void strategy_stop_all(struct coir_supervisor *s);

/* A child's job has ended by itself. It, and temporary ones, may be gone afterwards. */
void strategy_ended(struct child *c);

/* Starts a child whose backoff is over, if there is one. */
void strategy_start_due(struct coir_supervisor *s);

/* When it is to be called again; 0: at once; COIR_NEVER. */
int64_t strategy_next_due(struct coir_supervisor *s);

/* The supervisor cannot go on because of this child. */
void strategy_give_up(struct child *c, bool stuck);

/* A child that has ended goes. */
void strategy_forget(struct child *c);

#endif
