/* SPDX-License-Identifier: MIT */
/*
 * drain.h - how domains close. coir_domain_close is public (coir.h).
 */
#ifndef COIR_DRAIN_H
#define COIR_DRAIN_H

#include "claim.h"
#include "domain.h"

/* coir_domain_close by who holds it, and still does after another status than COIR_OK. COIR_EBUSY: a domain below is
 * being closed, and was so for the whole time. */
int domain_close_held(struct coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt);

/* Closes all domains of a runtime that is draining and whose jobs have ended. False: a job that
 * runs on a plain thread, or somebody else's close, has not ended by the deadline; its domain stays, and
 * all others are closed. The receipt gets what was canceled and told, and the names of those jobs. */
bool drain_domains(struct coir_runtime *rt, int64_t deadline, coir_receipt *receipt);

#endif
