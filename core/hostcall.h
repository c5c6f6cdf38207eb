/* SPDX-License-Identifier: MIT */
/*
 * hostcall.h - calls of the host's code that must neither suspend nor panic. See hostcall.c.
 */
#ifndef COIR_HOSTCALL_H
#define COIR_HOSTCALL_H

#include "state.h"

/* From now on who logs through h is checked: the callback must neither suspend nor panic. */
void hostcall_guard_log(struct host *h);

/* Calls the runtime's panic hook, if there is one. rt NULL: nothing. */
void hostcall_panic_hook(struct coir_runtime *rt, const coir_failure *f);

/* The callbacks of options.metrics; nothing if they are NULL. Hot callers ask metered first. */
void hostcall_spawned(struct coir_runtime *rt, size_t jobs);
void hostcall_completed(struct coir_runtime *rt, int outcome, int64_t ns);
void hostcall_cancel_requested(struct coir_runtime *rt, enum coir_cancel cause);
void hostcall_drained(struct coir_runtime *rt, int64_t ns, int status);
void hostcall_deadline_set(struct coir_runtime *rt, int64_t deadline); /* COIR_NEVER: none was */
void hostcall_deadline_exceeded(struct coir_runtime *rt, int64_t deadline);
void hostcall_panicked(struct coir_runtime *rt, const coir_failure *f); /* rt NULL: nothing */
void hostcall_tick(struct worker *w);
void hostcall_domain_opened(struct coir_runtime *rt, const char *domain);
void hostcall_domain_closed(struct coir_runtime *rt, const char *domain);
void hostcall_domain_drained(struct coir_runtime *rt, const char *domain, int64_t ns, int status);
void hostcall_domain_tripped(struct coir_runtime *rt, const char *domain, uint64_t failure);
void hostcall_obligation_taken(struct coir_runtime *rt, const char *what);
void hostcall_obligation_discharged(struct coir_runtime *rt, const char *what);
void hostcall_obligation_leaked(struct coir_runtime *rt, const char *what);
void hostcall_deadline_warned(struct coir_runtime *rt, int64_t deadline);
void hostcall_checkpoint(struct worker *w, int64_t ns);
void hostcall_stuck(struct coir_runtime *rt, const coir_job_info *job, int64_t ns);

/* The call of the host's code that this thread is in, for reports; NULL: none. */
const char *hostcall_name(void);

#endif
