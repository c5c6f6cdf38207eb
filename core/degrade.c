/* SPDX-License-Identifier: MIT */
/*
 * degrade.c - an optional part of a request, and what is done in its place.
 *
 * The part is a job of its own, so that a deadline can cancel it wherever it blocks. It is waited for in any
 * case: it works on the caller's memory. The fallback is no job: it is not optional.
 */
#include "wait.h"

static int canceled_at(coir_counter *c)
{
    wait_cancel((struct counter *)(void *)c, COIR_CANCEL_OWNER);
    wait_join((struct counter *)(void *)c);
    return counter_look((struct counter *)(void *)c);
}

/* Runs fn until the deadline. An outcome, or COIR_ECANCELED. */
static int attempt(coir_fn *fn, void *arg, int64_t deadline)
{
    coir_counter c = COIR_COUNTER_INIT;
    int status, outcome;

    if (coir_spawn(&c, fn, arg) != COIR_OK)
        return COIR_CANCELED; /* no room: the reason to do without what is optional */
    status = coir_wait_until(&c, deadline);
    if (status >= 0) {
        coir_counter_init(&c);
        return status;
    }
    outcome = canceled_at(&c);
    coir_counter_init(&c); /* it has settled, and is this frame's no more */
    if (outcome == COIR_DONE || outcome == COIR_PANICKED)
        return outcome; /* done all the same, or broken before it saw the cancel */
    return status == COIR_ECANCELED ? status : status == COIR_ETIMEDOUT ? COIR_EXPIRED : COIR_CANCELED;
}

int coir_degrade(coir_fn *fn, void *arg, int64_t deadline, coir_fn *fallback)
{
    struct fiber *self = fiber_self();
    int outcome;

    if (!fn)
        return COIR_EINVAL;
    if (!self || !self->job)
        return status_outside();
    if (self->runtime->options.panic == COIR_PANIC_ABORT)
        return COIR_EPOLICY;
    if (coir_canceled())
        return COIR_ECANCELED;
    outcome = coir_now() >= deadline ? COIR_EXPIRED : attempt(fn, arg, deadline);
    if (outcome == COIR_CANCELED && coir_canceled())
        return COIR_ECANCELED; /* the request itself is to stop */
    if (outcome > COIR_DONE && fallback)
        fallback(arg);
    return outcome;
}
