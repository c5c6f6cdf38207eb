/* SPDX-License-Identifier: MIT */
/*
 * drain.h - how domains close. coir_domain_close is public (coir.h).
 */
#ifndef COIR_DRAIN_H
#define COIR_DRAIN_H

#include "domain.h"

/* Closes all domains of a runtime that is draining and whose jobs have ended. False: a job that
 * runs on a plain thread, or somebody else's close, has not ended by the deadline; its domain stays, and
 * all others are closed. The receipt gets what was canceled and told, and the names of those jobs. */
bool drain_domains(struct coir_runtime *rt, int64_t deadline, coir_receipt *receipt);

#endif
