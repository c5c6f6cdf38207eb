/* SPDX-License-Identifier: MIT */
/*
 * retry.h - attempts at a message: whether one may be made, what came of it, when the next is due. See retry.c.
 */
#ifndef COIR_RETRY_H
#define COIR_RETRY_H

#include "breaker.h"
#include "boundary.h"
#include "quarantine.h"

/* The rules of a pool; constant once it is open, but for the breaker and what is atomic. */
struct retry {
    const struct host *host;
    const char *name;           /* of the pool, for the log */
    coir_message_fn *handle;
    unsigned attempts_max;
    int64_t backoff_ns, backoff_max_ns;
    coir_quarantine *quarantine; /* NULL: none */
    uint64_t type;
    struct breaker breaker;     /* failures_max 0: never opens */
    _Atomic uint64_t random;    /* state of the jitter */
    _Atomic uint64_t attempts, retries; /* figures */
};

enum verdict {
    VERDICT_DONE,
    VERDICT_DEAD,
    VERDICT_EXPIRED,
    VERDICT_QUARANTINED,
    VERDICT_AGAIN,  /* not before *due */
    VERDICT_HOLD    /* not before the breaker's probe is back, or *due */
};

/* The calling job is a pool's from now on: it makes attempts, and what a handler or a callback leaves ends with the call. */
void retry_serve(void);

/* Makes one attempt, if it may be made now. The calling job is the pool's. deadline: the message's. */
enum verdict retry_attempt(struct retry *r, coir_message *m, int64_t deadline, int64_t *due);

/* What the counter of a message that has ended is told: its last failure, if that is why; else why it was not done. */
int retry_outcome(const coir_message *m, coir_failure *f);

/* Calls the sink or `ended` of the pool whose domain is d. If the calling job is a pool's, between messages, it goes on without what is
 * left; else that is the affair of whoever closes the pool, or submits to it. The outcome. */
int retry_call_back(struct retry *r, coir_message_fn *fn, coir_message *m, const struct coir_domain *d);

/* The pause after so many attempts. */
int64_t retry_backoff(struct retry *r, unsigned attempts);

/* Whether the probe is out, so that messages are to be held. */
bool retry_is_probing(struct retry *r);

#endif
