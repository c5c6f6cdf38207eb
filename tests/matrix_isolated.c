/* SPDX-License-Identifier: MIT */
/*
 * matrix_isolated.c - rows of the propagation matrix: what breaks in an isolated child. Others are who called.
 */
#include "matrix.h"

#include "isolators.h"

static coir_isolator *isolator, *impatient; /* the latter for what never ends */

void isolated_open(void)
{
    coir_isolator_options o = iso_options(2);

    isolator = iso_open(&o);
    o.time_ns = 5 * COIR_MS;
    impatient = iso_open(&o);
}

void isolated_close(void)
{
    CHECK_EQ(coir_isolator_close(impatient), COIR_OK);
    CHECK_EQ(coir_isolator_close(isolator), COIR_OK);
}

struct caller {
    struct scene *s;
    coir_isolator *iso;
    iso_break_fn *fn;
    int passes_on; /* what broke in the child breaks its caller as well */
};

static void call_next(struct scene *s)
{
    size_t bytes = 0;
    char out[1];

    peer_saw(s, "next call %s", outcome_name(coir_isolate(isolator, iso_echo, NULL, 0, out, &bytes, NULL)));
}

static void call_in_job(void *arg)
{
    struct caller *c = arg;
    coir_failure f = {0};
    int outcome = iso_breaks(c->iso, c->fn, &f, COIR_NEVER);

    peer_saw(c->s, "call %s", outcome_name(outcome));
    if (outcome > COIR_DONE && !SANITIZED) /* there it may say so by an exit of its own */
        CHECK_EQ(f.location, COIR_AT_ISOLATED);
    call_next(c->s);
    coir_require(!c->passes_on, "%s", f.message);
}

static void calls(struct scene *s, iso_break_fn *fn)
{
    waiter_runs(s, call_in_job, &(struct caller){s, isolator, fn, 0});
}

/* A signal; a sanitizer's report ends in an exit instead. */
void isolated_crash(struct scene *s)
{
    calls(s, SANITIZED ? iso_panic : iso_segv);
}

void isolated_crash_passed_on(struct scene *s)
{
    waiter_runs(s, call_in_job, &(struct caller){s, isolator, SANITIZED ? iso_panic : iso_segv, 1});
}

void isolated_panic(struct scene *s)
{
    calls(s, iso_panic);
}

void isolated_exit(struct scene *s)
{
    calls(s, iso_exit);
}

void isolated_hang(struct scene *s)
{
    waiter_runs(s, call_in_job, &(struct caller){s, impatient, iso_wait, 0});
}

static void call_until_canceled(void *arg)
{
    struct caller *c = arg;

    peer_saw(c->s, "call %s", outcome_name(iso_breaks(c->iso, c->fn, NULL, COIR_NEVER)));
}

static void call_next_in_job(void *s)
{
    call_next(s);
}

/* Its own next call may or may not find its answer without a wait that the cancel would end; another's does. */
void isolated_caller_canceled(struct scene *s)
{
    struct caller c = {s, isolator, iso_wait, 0};
    coir_counter counter = COIR_COUNTER_INIT, next = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &counter, call_until_canceled, &c), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_counter_cancel(&counter), COIR_OK);
    waiter_waits(s, &counter);
    CHECK_EQ(coir_submit(s->rt, &next, call_next_in_job, s), COIR_OK);
    CHECK_EQ(coir_wait(&next), COIR_DONE);
}
