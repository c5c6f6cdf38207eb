/* SPDX-License-Identifier: MIT */
/*
 * drain.h - how domains close. coir_domain_close is public (coir.h).
 */
#ifndef COIR_DRAIN_H
#define COIR_DRAIN_H

#include "domain.h"

/* The right to close d, for who has more to end there: until domain_let_go nobody else closes it or one above.
 * False: somebody else has it, and it may be gone when this returns. */
bool domain_hold(struct coir_domain *d);
void domain_let_go(struct coir_domain *d);

/* coir_domain_close by who holds it, and still does after another status than COIR_OK. COIR_EBUSY: a domain below is
 * being closed, and was so for the whole time. */
int domain_close_held(struct coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt);

/* Closes all domains of a runtime that is draining and whose jobs have ended. False: a job that
 * runs on a plain thread, or somebody else's close, has not ended by the deadline; its domain stays, and
 * all others are closed. The receipt gets what was canceled and told, and the names of those jobs. */
bool drain_domains(struct coir_runtime *rt, int64_t deadline, coir_receipt *receipt);

#endif
