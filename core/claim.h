/* SPDX-License-Identifier: MIT */
/*
 * claim.h - the right to close a domain. See claim.c.
 */
#ifndef COIR_CLAIM_H
#define COIR_CLAIM_H

#include "job.h"

/* COIR_OK: d and all below are the caller's, and closed to outsiders. COIR_EAGAIN: closed to outsiders, and held; a supervisor
 * ends a child below. COIR_EBUSY: somebody else is closing it (or one above: then it is busy), or one below.
 * COIR_EPERM: it is a supervised child's. held: it is busy for the caller. */
int claim_domain(struct coir_domain *d, bool held);

/* The same, tree locked, where nobody at all is closing it or one below. */
bool claim_if_free(struct coir_domain *d);

/* After COIR_OK. hold: d itself is kept. */
void claim_give_up(struct coir_domain *d, bool hold);

/* The right to close d, for who has more to end there: until domain_let_go nobody else closes it or one above.
 * False: somebody else has it, and it may be gone when this returns. */
bool domain_hold(struct coir_domain *d);
void domain_let_go(struct coir_domain *d);

/* By who holds d and does not suspend: none of those below goes until it is said that they may. */
void claim_keep_still(struct coir_domain *d, bool still);

/* Takes the tree's lock, for d to leave the tree. */
void claim_lock_tree(struct coir_domain *d);

#endif
