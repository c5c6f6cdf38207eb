/* SPDX-License-Identifier: MIT */
/*
 * supervisor_request.h - what others ask a supervisor to do. See supervisor_request.c.
 */
#ifndef COIR_SUPERVISOR_REQUEST_H
#define COIR_SUPERVISOR_REQUEST_H

#include "supervised.h"

/* Does what the message asks for, and answers. Its own job. */
void request_serve(struct coir_supervisor *s, struct mail *m);

/* Refuses those that have come and those to come. */
void request_refuse_all(struct coir_supervisor *s);

/* A root supervisor is in the tree from now on: asks it, if those who ask it have looked before. Domains locked. */
void supervisor_ask_late(struct coir_supervisor *s);

/* Asks the supervisors in a domain and below it to stop; NULL: all of the runtime. runtime->stop_supervisors. */
void supervisor_ask_all(struct coir_runtime *rt, struct coir_domain *d);

#endif
