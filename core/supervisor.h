/* SPDX-License-Identifier: MIT */
/*
 * supervisor.h - supervisors. The calls are public (coir.h).
 */
#ifndef COIR_SUPERVISOR_H
#define COIR_SUPERVISOR_H

#include "state.h"

/* Asks the supervisors in a domain and below it to stop; NULL: all of the runtime. runtime->stop_supervisors. */
void supervisor_ask_all(struct coir_runtime *rt, struct coir_domain *d);

#endif
