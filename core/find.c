/* SPDX-License-Identifier: MIT */
/*
 * find.c - the order in which a worker takes work.
 *
 * New jobs run newest first, for fork-join; ready fibers oldest first, for fairness between
 * requests. They take turns in rounds of a small budget, so neither starves the other; the
 * injector, timers and I/O are looked at every POLL_TURNS turns even when there is other work.
 *
 * SLEEP (park.c): the look at every queue after park_announce is find_quietly.
 */
#include "find.h"

#include "hostcall.h"

#define ROUND_JOBS 16    /* new jobs, then fibers, before the others get their turn */
#define ROUND_FIBERS 16
#define INJECT_BATCH 32  /* injected jobs taken at once; thieves share them */
#define STEAL_BATCH 32   /* jobs stolen at once */
#define ASK_LOOKS 32     /* looks around of an idle worker that an owner has to answer it; some microseconds */
#define CLAIM_LOOKS 32   /* looks at what others have claimed, before it is wrested; microseconds */
#define BUSY_LOOKS 16 /* then the oldest job of its own has its turn */

static struct fiber *fiber_at(struct link *e)
{
    return CONTAINER_OF(e, struct fiber, stack.link);
}

/* Of a long queue the next fibers are fetched ahead: their stacks have left the cache, and a switch
 * would wait for line after line. */
static inline void look_ahead(struct ring *r)
{
    struct link *far = ring_peek(r, FIBER_AHEAD_HEADER), *near;

    if (far && (near = ring_peek(r, FIBER_AHEAD_STACK))) {
        fiber_prefetch_header(fiber_at(far));
        fiber_prefetch_stack(fiber_at(near));
    }
}

/* SLEEP: who has looked at the queues while the owner claimed may have seen nothing, and slept. */
struct fiber *find_ready(struct worker *w)
{
    int64_t claimed = w->ring.claimed;
    struct link *e;

    look_ahead(&w->ring);
    e = ring_take(&w->ring);
    if (w->ring.claimed != claimed && ring_kept(&w->ring))
        park_notify(&w->runtime->park);
    return e ? fiber_at(e) : NULL;
}

static void fence_all(const void *park)
{
    park_fence_all(park); /* FORCE, ring.c */
}

struct fiber *find_ready_of(struct worker *victim)
{
    struct link *e = ring_steal(&victim->ring);

    e = e ? e : ring_wrest(&victim->ring, fence_all, &victim->runtime->park);
    return e ? fiber_at(e) : NULL;
}

struct fiber *find_any_ready(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    struct fiber *f = find_ready(w);
    struct link *e = f ? NULL : inject_take_fiber(&rt->inject);

    f = e ? fiber_at(e) : f;
    for (unsigned i = 0; !f && i < rt->worker_count; i++)
        f = find_ready_of(rt->worker[i]);
    return f;
}

/* Own queues, in rounds. */
static bool find_local(struct worker *w, struct next *n)
{
    for (int round = 0; round < 2; round++) {
        if (w->jobs_left && !deque_empty(&w->deque) && deque_pop(&w->deque, &n->work)) {
            w->jobs_left--;
            return n->has_work = true;
        }
        if (w->fibers_left && (n->fiber = find_ready(w))) {
            w->fibers_left--;
            return true;
        }
        w->jobs_left = ROUND_JOBS;
        w->fibers_left = ROUND_FIBERS;
    }
    return false;
}

/* A batch of injected work: the oldest to run now, the rest where thieves find it. Not inlined: the
 * batch would lie in the loop's frame, below every parked job. */
static NOINLINE bool find_injected(struct worker *w, struct next *n)
{
    struct link *e = inject_take_fiber(&w->runtime->inject);
    struct work batch[INJECT_BATCH];
    size_t count;

    if (e) {
        n->fiber = fiber_at(e);
        return true;
    }
    count = inject_take(&w->runtime->inject, batch, deque_empty(&w->deque) ? INJECT_BATCH : 1);
    for (size_t i = count; i > 1; i--)
        deque_push(&w->deque, &batch[i - 1]); /* an empty deque has room for a batch */
    n->work = batch[0];
    return n->has_work = count > 0;
}

static uint64_t next_random(struct worker *w)
{
    w->random ^= w->random << 13; /* xorshift64 (Marsaglia, 2003) */
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

static enum steal steal(struct deque *d, struct work *items, size_t max, size_t *n, uint64_t *asked)
{
    enum steal s;

    do
        s = deque_steal(d, items, max, n, asked);
    while (s == STEAL_LOST);
    return s;
}

/* The owner has had its time to answer. */
static COLD enum steal steal_unanswered(struct coir_runtime *rt, struct deque *d, struct work *items,
                                        size_t max, size_t *n, uint64_t asked)
{
    park_fence_all(&rt->park); /* FORCE, deque.c */
    deque_open(d, asked);
    return steal(d, items, max, n, &asked);
}

bool find_take_from(struct coir_runtime *rt, struct deque *d, struct work *item)
{
    uint64_t asked;
    size_t n;
    enum steal s = steal(d, item, 1, &n, &asked);

    while (s == STEAL_ASKED)
        s = steal_unanswered(rt, d, item, 1, &n, asked);
    return s == STEAL_OK;
}

/* What the owner has claimed it will run in no time, unless it is in a long job: then it is wrested. */
static struct fiber *steal_fiber(struct worker *w, struct worker *victim)
{
    struct link *e;

    if (ring_empty(&victim->ring))
        return NULL;
    if ((e = ring_steal(&victim->ring)))
        return fiber_at(e);
    if (++w->claims_seen % CLAIM_LOOKS && w->runtime->spin_ns)
        return NULL;
    return find_ready_of(victim);
}

/* The oldest job and some of the others: small jobs would otherwise cost the two workers a cache line
 * each. What is not run at once can be stolen again. Not inlined: as find_injected. */
static NOINLINE bool steal_jobs(struct worker *w, struct deque *victim, struct next *n)
{
    struct work batch[STEAL_BATCH];
    size_t count;
    uint64_t asked;
    enum steal s = steal(victim, batch, STEAL_BATCH, &count, &asked);

    if (s == STEAL_ASKED && (w->looks >= ASK_LOOKS || !w->runtime->spin_ns)) {
        w->looks = 0;
        s = steal_unanswered(w->runtime, victim, batch, STEAL_BATCH, &count, asked);
    }
    if (s != STEAL_OK)
        return false;
    n->work = batch[0];
    for (size_t i = 1; i < count; i++)
        deque_push(&w->deque, &batch[i]); /* it was empty: there is room */
    return n->has_work = true;
}

/* A ready fiber, or jobs. */
static bool steal_from(struct worker *w, struct worker *victim, struct next *n)
{
    if ((n->fiber = steal_fiber(w, victim)))
        return true;
    return !deque_empty(&victim->deque) && steal_jobs(w, &victim->deque, n);
}

static bool find_stolen(struct worker *w, struct next *n)
{
    struct coir_runtime *rt = w->runtime;
    unsigned count = rt->worker_count, first;

    if (count == 1)
        return false;
    first = (unsigned)(next_random(w) % count);
    for (unsigned i = 0; i < count; i++) {
        struct worker *victim = rt->worker[(first + i) % count];

        if (victim != w && steal_from(w, victim, n)) {
            tally(&w->steals, 1);
            return true;
        }
    }
    return false;
}

bool find_events(struct worker *w, bool all)
{
    struct coir_runtime *rt = w->runtime;
    int64_t now = coir_now();
    bool any = false;

    if (UNLIKELY(w->metered))
        hostcall_tick(w);
    w->polling = true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (all || rt->worker[i] == w)
            any |= timers_expire(&rt->worker[i]->timers, now) > 0;
    if (rt->io)
        any |= rt->io->poll(w);
    w->polling = false;
    if (any && ring_several(&w->ring))
        park_notify(&rt->park);
    return any;
}

struct fiber *find_without_loop(struct worker *w)
{
    struct fiber *f = find_any_ready(w);

    if (f || !w->look_outside)
        return f;
    w->look_outside = false;
    if (w->runtime->io && w->io_queued)
        w->runtime->io->flush(w);
    return find_events(w, true) ? find_any_ready(w) : NULL;
}

/* Newest first would leave the oldest for ever while new jobs keep coming, were there no thief; and it may be
 * one of a batch from the injector. */
bool find_starved(struct worker *w)
{
    w->busy_looks = deque_empty(&w->deque) ? 0 : w->busy_looks + 1;
    return w->busy_looks >= BUSY_LOOKS;
}

static bool find_oldest(struct worker *w, struct next *n)
{
    if (!find_starved(w) || !deque_pop_oldest(&w->deque, &n->work))
        return false;
    w->busy_looks = 0;
    return n->has_work = true;
}

bool find_next(struct worker *w, struct next *n)
{
    *n = (struct next){0};
    if (UNLIKELY(worker_turn(w) >= w->poll_at || w->look_outside)) {
        if (w->runtime->lab)
            return w->runtime->lab->find(w, n);
        w->look_outside = false;
        w->poll_at = tally_read(&w->tick) + POLL_TURNS;
        atomic_store_explicit(&w->busy_tick, tally_read(&w->tick) | 1, memory_order_relaxed); /* a hint */
        find_events(w, false);
        if (find_oldest(w, n) || (!inject_empty(&w->runtime->inject) && find_injected(w, n)))
            return true;
    }
    if (find_local(w, n) || find_injected(w, n) || find_stolen(w, n))
        return true;
    return find_events(w, true) && find_local(w, n);
}

bool find_promising(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    if (!inject_empty(&rt->inject))
        return true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (!ring_empty(&rt->worker[i]->ring) || deque_lends(&rt->worker[i]->deque))
            return true;
    return ++w->looks >= ASK_LOOKS && find_quietly(rt);
}

bool find_quietly(struct coir_runtime *rt)
{
    if (!inject_empty(&rt->inject))
        return true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (!ring_empty(&rt->worker[i]->ring) || !deque_empty(&rt->worker[i]->deque))
            return true;
    return false;
}
