/* SPDX-License-Identifier: MIT */
/*
 * domain.h - domains as users see them: open, submit, cancel, figures. The calls are public (coir.h).
 */
#ifndef COIR_DOMAIN_H
#define COIR_DOMAIN_H

#include "job.h"

/* Starts a job of the library's own, which goes on: a pool's worker, a supervisor, its child. Where there is no place
 * it is COIR_EAGAIN, whatever a full domain does else: it could wait, or run in its caller, for ever. And only `deadline`
 * is its: a domain's default is for what is submitted there. */
int domain_start_service(struct coir_domain *d, struct counter *owed, coir_fn *fn, void *arg, int64_t deadline);

/* coir_domain_open with a finalizer: there is no moment at which others can close the domain without it. */
int domain_open_with(struct coir_runtime *rt, struct coir_domain *parent, const coir_domain_options *options,
                     coir_fn *finalizer, void *arg, struct coir_domain **domain);

/* Adds the books of d and of all below it. rt->domains_lock held. */
void domain_sum(struct coir_domain *d, struct domain_books *sum);

/* Adds the books of a domain below that goes. */
void domain_fold(struct coir_domain *into, const struct domain_books *b);

/* Jobs queued and running, those of domains below included. */
uint64_t domain_in_flight(struct coir_domain *d);

/* enum coir_domain_state. */
int domain_state(struct coir_domain *d);

/* Those who wait for a place in d or below get this status. */
void domain_turn_away(struct coir_domain *d, int verdict);

/* The same for all domains of a runtime that cancels everything. */
void domain_turn_away_all(struct coir_runtime *rt, int verdict);

/* Sets the cancel request, tells those who wait; returns how many waits of fibers it interrupted. */
size_t domain_cancel(struct coir_domain *d);

/* Whether the calling job, or one that waits for it on this stack, is in d or below. */
bool domain_holds_caller(const struct coir_domain *d);

#endif
