/* SPDX-License-Identifier: MIT */
/*
 * charge.h - memory that a domain's jobs account for. The calls are public (coir.h).
 */
#ifndef COIR_CHARGE_H
#define COIR_CHARGE_H

#include "domain.h"

/* The domain is about to go: what is still charged to it itself is reported, and taken off those above. Returns
 * how many bytes. */
uint64_t charge_end(struct coir_domain *d);

#endif
