/* SPDX-License-Identifier: MIT */
/*
 * strategy.c - who is started and stopped when a child ends: restart types, strategies, intensity, backoff.
 *
 * Owns: the decisions. How one child is started and stopped is in supervised.c. All runs on the supervisor's job.
 *
 * The order of things is OTP's, where a test can tell: a restart is counted when it is tried, not when it is
 * due; one whose start fails is tried again behind the mail that has come meanwhile, counts again then, and
 * not at all if another restart has been faster to start this child; children that broke while their
 * group is being stopped are stopped, and do not count; a group is started whole, with transient
 * children that had ended normally, and without temporary ones.
 *
 * A backoff lies between the stop of a group and its start, so the siblings of a broken child are not
 * left running with it gone. OTP has none; with a backoff of 0 nothing lies there. A child that is added
 * meanwhile is started anew with the group; if the one whose backoff it is is removed, the next waits in its place.
 */
#include "strategy.h"

#include <stdio.h>

#include "wait.h"

static void set_why(struct coir_supervisor *s, const struct child *c, bool stuck)
{
    if (stuck)
        snprintf(s->why, sizeof s->why, "supervisor %s: child %s does not end, though it is canceled", s->name,
                 c->spec.name);
    else
        snprintf(s->why, sizeof s->why, "supervisor %s: more than %u restarts in %u s; child %s: %s", s->name,
                 s->intensity.max, s->intensity.seconds, c->spec.name,
                 c->last.id ? c->last.message : coir_status_name(c->outcome));
}

void strategy_give_up(struct child *c, bool stuck)
{
    struct coir_supervisor *s = c->owner;

    s->stuck |= stuck;
    s->stopping = true;
    if (!s->why[0])
        set_why(s, c, stuck);
}

/* -------------------------------------------------------------------------------- due children */

static void append_due(struct child *c)
{
    struct coir_supervisor *s = c->owner;

    c->next_due = NULL;
    if (s->last_due)
        s->last_due->next_due = c;
    else
        s->first_due = c;
    s->last_due = c;
}

static void on_due(struct timer *t)
{
    append_due(CONTAINER_OF(t, struct child, due));
}

static struct child *take_due(struct coir_supervisor *s)
{
    struct child *c = s->first_due;

    if (c)
        s->first_due = c->next_due;
    if (!s->first_due)
        s->last_due = NULL;
    return c;
}

static void remove_due(struct child *c)
{
    struct coir_supervisor *s = c->owner;
    struct child **at = &s->first_due, *before = NULL;

    for (; *at && *at != c; at = &before->next_due)
        before = *at;
    if (!*at)
        return;
    *at = c->next_due;
    if (s->last_due == c)
        s->last_due = before;
}

/* It is not to be started any more, or at once. */
static void unschedule(struct child *c)
{
    if (c->state != COIR_CHILD_WAITING)
        return;
    timer_cancel(&c->owner->due, &c->due);
    remove_due(c);
    c->recount = false;
    child_set_state(c, COIR_CHILD_ENDED);
}

static int64_t next_delay(struct child *c)
{
    struct coir_supervisor *s = c->owner;

    s->random = s->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth, MMIX */
    return backoff_delay(&s->backoff, c->tries++, s->random >> 16);
}

static void wait_for_turn(struct child *c, int64_t delay)
{
    child_set_state(c, COIR_CHILD_WAITING);
    c->due.deadline = time_after(coir_now(), delay);
    c->due.fire = on_due;
    if (delay)
        timer_arm(&c->owner->due, &c->due);
    else
        append_due(c);
}

int64_t strategy_next_due(struct coir_supervisor *s)
{
    return s->first_due ? 0 : timers_earliest(&s->due);
}

/* -------------------------------------------------------------------------------------- starts */

/* False: it did not start. Then the supervisor gives up, or stops, or will try it again. */
static bool try_start(struct child *c)
{
    int status = child_start(c);

    if (status == COIR_ETIMEDOUT) {
        strategy_give_up(c, true);
    } else if (status != COIR_OK && !supervisor_must_stop(c->owner)) {
        c->recount = true;
        wait_for_turn(c, next_delay(c));
    }
    return status == COIR_OK;
}

static bool is_grouped(const struct coir_supervisor *s)
{
    return s->strategy == COIR_ONE_FOR_ALL || s->strategy == COIR_REST_FOR_ONE;
}

static struct child *first_of_group(struct child *c)
{
    return c->owner->strategy == COIR_ONE_FOR_ALL ? c->owner->first : c;
}

/* Those that go with c, the last first; c stays. */
static void stop_group(struct child *c)
{
    struct coir_supervisor *s = c->owner;
    const struct child *end = first_of_group(c)->prev;
    struct child *before;

    for (struct child *k = s->last; k != end && !s->stopping; k = before) {
        before = k->prev;
        unschedule(k);
        if (!child_stop(k))
            strategy_give_up(k, true);
        else if (k != c && k->spec.restart == COIR_TEMPORARY)
            strategy_forget(k);
    }
}

/* From the first of its group on, until one does not start. */
static void start_group(struct child *c)
{
    struct child *k = is_grouped(c->owner) ? first_of_group(c) : c;

    if (!is_grouped(c->owner)) {
        try_start(k);
        return;
    }
    while (k && !supervisor_must_stop(c->owner) && try_start(k))
        k = k->next;
}

/* False: this restart is one too many. */
static bool count(struct child *c)
{
    struct coir_supervisor *s = c->owner;
    bool allowed;

    c->recount = false;
    lock_take(&s->tree->lock);
    allowed = intensity_allows(&s->intensity, s->clock());
    s->restarts += allowed;
    lock_drop(&s->tree->lock);
    if (!allowed)
        strategy_give_up(c, false);
    return allowed;
}

/* -------------------------------------------------------------------------------- what happens */

static void restart(struct child *c)
{
    int64_t delay;

    if (!count(c))
        return;
    if (is_grouped(c->owner))
        stop_group(c);
    if (supervisor_must_stop(c->owner))
        return;
    delay = next_delay(c);
    if (delay)
        wait_for_turn(c, delay);
    else
        start_group(c);
}

/* A child that waits for its whole group goes: the first of those that are not up waits in its place. */
static void hand_over(struct child *c)
{
    struct child *heir = c->recount ? c->next : first_of_group(c);
    int64_t left = c->due.deadline - coir_now();

    while (heir && (heir == c || heir->domain))
        heir = heir->next;
    if (!heir || heir->state == COIR_CHILD_WAITING)
        return;
    heir->recount = c->recount;
    wait_for_turn(heir, left > 0 ? left : 0);
}

void strategy_forget(struct child *c)
{
    struct coir_runtime *rt = c->owner->rt;

    if (c->state == COIR_CHILD_WAITING && is_grouped(c->owner))
        hand_over(c);
    unschedule(c);
    child_unlink(c);
    mem_free(&rt->host, c);
}

void strategy_ended(struct child *c)
{
    struct coir_supervisor *s = c->owner;
    bool broke = c->outcome != COIR_DONE;

    if (coir_now() - c->since >= s->intensity.seconds * COIR_SEC)
        c->tries = 0;
    if (!child_reap(c)) {
        strategy_give_up(c, true);
        return;
    }
    if (supervisor_must_stop(s))
        return;
    if (c->spec.restart == COIR_PERMANENT || (c->spec.restart == COIR_TRANSIENT && broke))
        restart(c);
    else if (c->spec.restart == COIR_TEMPORARY || s->strategy == COIR_DYNAMIC)
        strategy_forget(c);
}

/* Its backoff is over. What of its group is up by now is started anew: its start had failed, or children have been
 * added meanwhile. */
static void start_again(struct child *c)
{
    if (c->recount && !count(c))
        return;
    if (is_grouped(c->owner))
        stop_group(c);
    if (!supervisor_must_stop(c->owner))
        start_group(c);
}

/* One: what has come meanwhile goes first, OTP does it so. */
void strategy_start_due(struct coir_supervisor *s)
{
    struct child *c;

    timers_expire(&s->due, coir_now());
    c = take_due(s);
    if (c)
        start_again(c);
}

/* -------------------------------------------------------------------------------- all of them */

int strategy_start_all(struct coir_supervisor *s, struct child **failed)
{
    for (struct child *c = s->first; c; c = c->next) {
        int status = supervisor_must_stop(s) ? COIR_ECANCELED : child_start(c);

        if (status != COIR_OK) {
            *failed = c;
            return status;
        }
    }
    return COIR_OK;
}

/* The request goes to all before the first is waited for, and one look at all stacks cancels those that
 * have no budget. */
static void ask_all(struct coir_supervisor *s)
{
    for (struct child *c = s->last; c; c = c->prev) {
        child_ask(c);
        if (c->domain && c->spec.shutdown_ns == 0)
            atomic_store_explicit(&c->domain->canceled, true, memory_order_seq_cst); /* ASK, fiber.c */
    }
    if (s->first)
        wait_wake_canceled(s->rt);
}

void strategy_stop_all(struct coir_supervisor *s)
{
    s->stopping = true;
    if (s->strategy == COIR_DYNAMIC)
        ask_all(s);
    for (struct child *c = s->last; c; c = c->prev) {
        unschedule(c);
        if (!child_stop(c))
            strategy_give_up(c, true);
    }
}
