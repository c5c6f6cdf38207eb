/* SPDX-License-Identifier: MIT */
/*
 * find.c - the order in which a worker takes work.
 *
 * New jobs run newest first, for fork-join; ready fibers oldest first, for fairness between
 * requests. They take turns in rounds of a small budget, so neither starves the other; the
 * injector, timers and I/O are looked at every POLL_TURNS turns even when there is other work.
 */
#include "find.h"

#include "hostcall.h"

#define ROUND_JOBS 16    /* new jobs, then fibers, before the others get their turn */
#define ROUND_FIBERS 16
#define INJECT_BATCH 32  /* injected jobs taken at once, at most; thieves share them */
#define INJECT_SHARE 8   /* each of several workers takes such a part of its share of them */
#define STEAL_BATCH 32   /* jobs stolen at once */
#define ASK_LOOKS 32     /* looks around of an idle worker that an owner has to answer it; some microseconds */
#define CLAIM_LOOKS 32   /* looks at what others have claimed, before it is wrested; microseconds */
#define RING_LOOKS 64    /* looks around of an idle worker in which it is seen how fast rings move; some microseconds */
#define RING_FAST 8      /* fibers pushed meanwhile, for each worker */
#define HELD_UP_NS (50 * COIR_MS) /* a worker that has not moved is in a long job; longer than the system keeps it waiting */
#define BEHIND_TURNS 3   /* of one worker; another that has not come to what it lends meanwhile leaves it behind */
#define LONG_NS (4 * COIR_US)    /* jobs, and turns without any, take so long on average: beside that it costs little to lend them */
#define LEND_NS (10 * COIR_MS)   /* after some of these, for they may be a few among short ones */
#define BUSY_NS (COIR_MS / 2) /* with jobs of its own all the while, then the oldest has its turn */
#define BRISK_TURNS 32   /* of which it is seen how long they take */
#define BRISK_NS (COIR_MS / 2) /* all of them, if they are short */
#define SWIFT_NS 32      /* one of them, if fibers do little more than yield */
#define CACHED_FIBERS 2048 /* of these a megabyte of cache keeps what a switch touches, and as much besides */
#define UNTIMED_LOOKS 16 /* one of them reads the clock even if nothing wants to know the time */

/* SLEEP: who has looked at the queues while the owner claimed, or moved some from the list to the ring, may have seen
 * nothing, and slept. */
NOINLINE struct fiber *find_ready_slowly(struct worker *w)
{
    struct link *e;

    if (ring_is_clear(&w->ring))
        return NULL;
    e = ring_take_slowly(&w->ring);
    if (ring_kept(&w->ring) || !ring_empty(&w->ring))
        park_notify(&w->runtime->park);
    return e ? find_fiber_of(e) : NULL;
}

struct fiber *find_ready_beside_jobs(struct worker *w)
{
    struct fiber *f = w->jobs_left || !w->fibers_left ? NULL : find_ready(w);

    if (f)
        w->fibers_left--;
    return f;
}

static void fence_all(const void *park)
{
    park_fence_all(park); /* FORCE, ring.c */
}

struct fiber *find_ready_of(struct worker *victim)
{
    struct link *e = ring_steal(&victim->ring);

    e = e ? e : ring_wrest(&victim->ring, fence_all, &victim->runtime->park);
    return e ? find_fiber_of(e) : NULL;
}

struct fiber *find_any_ready(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    struct fiber *f = find_ready(w);
    struct link *e = f ? NULL : inject_take_fiber(&rt->inject);

    f = e ? find_fiber_of(e) : f;
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

/* What is taken together waits for its taker, who may be in a long job or lose its processor; and a long queue waits for the
 * lock. So of several workers each takes a part of what is there, as in factoring (Hummel, Schonberg, Flynn 1992). */
static size_t injected_batch(const struct coir_runtime *rt)
{
    unsigned sharers = rt->worker_count < rt->cpus ? rt->worker_count : rt->cpus;
    size_t n = rt->worker_count > 1 ? inject_count(&rt->inject) / (sharers * INJECT_SHARE) + 1 : INJECT_BATCH;

    return n < INJECT_BATCH ? n : INJECT_BATCH;
}

/* A batch of injected work: the oldest to run now, the rest where thieves find it. Not inlined: the
 * batch would lie in the loop's frame, below every parked job. */
static NOINLINE bool find_injected(struct worker *w, struct next *n)
{
    struct link *e = inject_take_fiber(&w->runtime->inject);
    struct work batch[INJECT_BATCH];
    size_t count;

    if (e) {
        n->fiber = find_fiber_of(e);
        fiber_prefetch_header(n->fiber);
        return true;
    }
    count = inject_take(&w->runtime->inject, batch, deque_empty(&w->deque) ? injected_batch(w->runtime) : 1);
    for (size_t i = count; i > 1; i--)
        deque_push(&w->deque, &batch[i - 1]); /* an empty deque has room for a batch */
    if (count > 1 && w->looked_at < w->lend_until)
        deque_lend_all(&w->deque);
    if (count > 1)
        park_notify(&w->runtime->park); /* SLEEP: who looked while they were in neither queue may sleep */
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
        return find_fiber_of(e);
    if (++w->claims_seen % CLAIM_LOOKS && find_may_spin(w))
        return NULL;
    return find_ready_of(victim);
}

/* The oldest job and some of the others: small jobs would otherwise cost the two workers a cache line
 * each. What is not run at once can be stolen again. Not inlined: as find_injected. */
static NOINLINE bool steal_jobs(struct worker *w, struct deque *victim, bool held_up, struct next *n)
{
    struct work batch[STEAL_BATCH];
    size_t count, max = deque_room(&w->deque) < STEAL_BATCH ? 1 : STEAL_BATCH;
    uint64_t asked;
    enum steal s = steal(victim, batch, max, &count, &asked);

    if (s == STEAL_ASKED && (held_up || w->looks >= ASK_LOOKS || !find_may_spin(w))) {
        w->looks = 0;
        s = steal_unanswered(w->runtime, victim, batch, max, &count, asked);
    }
    if (s != STEAL_OK)
        return false;
    n->work = batch[0];
    for (size_t i = 1; i < count; i++)
        deque_push(&w->deque, &batch[i]); /* there is room */
    if (count > 1)
        park_notify(&w->runtime->park); /* SLEEP: as in find_injected */
    return n->has_work = true;
}

/* A ready fiber, or jobs. */
static bool steal_from(struct worker *w, struct worker *victim, struct next *n)
{
    if ((n->fiber = steal_fiber(w, victim)))
        return true;
    return !deque_empty(&victim->deque) && steal_jobs(w, &victim->deque, false, n);
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

static uint64_t moved(struct worker *w)
{
    return worker_turns(w) + tally_read(&w->switches);
}

/* A fiber that hands what it has to do to others' turns relies on these being short. Jobs that are long, and none are where
 * there are no more than turns, hold up what was taken from the injector with them. */
static void see_turns(struct worker *w, int64_t now)
{
    uint64_t turn = tally_read(&w->tick) + tally_read(&w->switches), turns = turn - w->turns_seen;
    uint64_t all = moved(w) - w->moved_seen;
    int64_t ns = now - w->turns_seen_at;

    if (turns < BRISK_TURNS && ns < BRISK_NS)
        return;
    w->brisk = ns < BRISK_NS; /* else that few turns, or a batch, were long */
    w->cached = (uint64_t)ns < turns * SWIFT_NS ? CACHED_FIBERS : 0;
    if (all > turns && (uint64_t)ns > all * LONG_NS)
        w->lend_until = now + LEND_NS;
    w->moved_seen += all;
    w->turns_seen = turn;
    w->turns_seen_at = now;
}

/* To read the clock is half of the look of a fiber that yields. */
static bool is_time_wanted(struct worker *w)
{
    return w->metered || w->io_used || timers_earliest(&w->timers) != COIR_NEVER || !deque_is_empty(&w->deque) ||
           ++w->looks_untimed >= UNTIMED_LOOKS;
}

static int64_t see_time(struct worker *w)
{
    int64_t now = coir_now();

    w->looked_at = now;
    w->looks_untimed = 0;
    w->io_used = false;
    see_turns(w, now);
    if (UNLIKELY(w->metered))
        hostcall_tick(w);
    return now;
}

bool find_events(struct worker *w, bool all)
{
    struct coir_runtime *rt = w->runtime;
    int64_t now = all || is_time_wanted(w) ? see_time(w) : 0;
    bool any = false;

    w->polling = true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (all || rt->worker[i] == w)
            any |= timers_expire(&rt->worker[i]->timers, now) > 0;
    if (rt->io)
        any |= rt->io->poll(w);
    w->polling = false;
    if (any && ring_count(&w->ring) > 1)
        park_notify(&rt->park);
    return any;
}

bool find_what_is_due(struct worker *w)
{
    w->look_outside = false;
    if (w->runtime->io && w->io_queued)
        w->runtime->io->flush(w);
    return find_events(w, true);
}

struct fiber *find_without_loop(struct worker *w)
{
    struct fiber *f = find_any_ready(w);

    if (f || !w->look_outside)
        return f;
    return find_what_is_due(w) ? find_any_ready(w) : NULL;
}

/* Newest first would leave the oldest for ever while new jobs keep coming, were there no thief; and it may be
 * one of a batch from the injector. By the clock: the oldest job of a recursion is its largest, and what it opens
 * stays open beside the rest. After so many turns, which of small jobs were some microseconds, fib(32) had 956
 * stacks at once, by the clock 60. */
bool find_starved(struct worker *w)
{
    if (deque_empty(&w->deque))
        w->busy_since = 0;
    else if (!w->busy_since)
        w->busy_since = w->looked_at;
    return w->busy_since && w->looked_at - w->busy_since >= BUSY_NS;
}

static bool find_oldest(struct worker *w, struct next *n)
{
    if (!find_starved(w) || !deque_pop_oldest(&w->deque, &n->work, 1))
        return false;
    w->busy_since = w->looked_at;
    return n->has_work = true;
}

struct worker *find_held_up(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    unsigned i = w->peer.index;
    struct worker *peer = rt->worker[i];

    if (rt->worker_count == 1 || w->looked_at - w->peer.since < HELD_UP_NS)
        return NULL;
    if (peer != w && moved(peer) == w->peer.moved && !(ring_empty(&peer->ring) && deque_empty(&peer->deque)))
        return peer;
    i = (i + 1) % rt->worker_count;
    w->peer.index = i;
    w->peer.moved = moved(rt->worker[i]);
    w->peer.since = w->looked_at;
    return NULL;
}

/* From a worker that has not come to it: a fiber, or jobs, which run before what is here. */
static bool find_behind(struct worker *w, struct next *n)
{
    struct worker *peer = find_held_up(w);

    if (!peer || !((n->fiber = find_ready_of(peer)) || steal_jobs(w, &peer->deque, true, n)))
        return false;
    tally(&w->steals, 1);
    return true;
}

static void look_at_next_lender(struct worker *w)
{
    unsigned count = w->runtime->worker_count, i = (w->lender.index + 1) % count;

    w->lender.index = i == w->index ? (i + 1) % count : i;
    w->lender.turn = tally_read(&w->tick);
    deque_see(&w->runtime->worker[w->lender.index]->deque, &w->lender.view);
}

/* What another has taken from the injector before what is there now, and does not come to: it is in a long job, or without a
 * processor. It is lent, so to take it disturbs nobody; and what is short is not, so it is not looked at again and again. */
static bool find_left_behind(struct worker *w, struct next *n)
{
    struct coir_runtime *rt = w->runtime;
    struct deque *d = &rt->worker[w->lender.index]->deque;

    if (rt->worker_count == 1 || inject_empty(&rt->inject) || tally_read(&w->tick) - w->lender.turn < BEHIND_TURNS)
        return false;
    if (deque_has_stayed(d, &w->lender.view) && steal_jobs(w, d, false, n)) {
        deque_see(d, &w->lender.view); /* the rest has stayed for as long */
        tally(&w->steals, 1);
        return true;
    }
    look_at_next_lender(w);
    return false;
}

bool find_next(struct worker *w, struct next *n)
{
    *n = (struct next){0};
    if (UNLIKELY(worker_turn(w) >= w->poll_at || w->look_outside)) {
        if (w->runtime->lab)
            return w->runtime->lab->find(w, n);
        w->look_outside = false;
        worker_put_off_look(w);
        atomic_store_explicit(&w->busy_tick, tally_read(&w->tick) | 1, memory_order_relaxed); /* a hint */
        find_events(w, false);
        if (find_oldest(w, n) || find_behind(w, n) || (!inject_empty(&w->runtime->inject) && find_injected(w, n)))
            return true;
    }
    if (find_local(w, n) || find_left_behind(w, n) || find_injected(w, n) || find_stolen(w, n))
        return true;
    return find_events(w, true) && find_local(w, n);
}

/* A look at a ring takes lines from an owner that fills and empties it, and looks without a pause take most of what such
 * an owner does. So where rings move fast while somebody looks, they are left alone for as many looks. */
static bool rings_promise(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    bool first = !w->looks, over = ++w->ring_looks >= RING_LOOKS, any = false;
    uint64_t pushed = 0;

    if (w->rings_rest && !first && !over)
        return false;
    for (unsigned i = 0; i < rt->worker_count; i++) {
        pushed += ring_pushed(&rt->worker[i]->ring);
        any |= !ring_empty(&rt->worker[i]->ring);
    }
    if (first)
        w->looks++; /* what has moved since it was idle last does not count */
    else
        w->rings_moved += pushed - w->rings_pushed;
    w->rings_pushed = pushed;
    any &= over || !w->rings_rest;
    if (over) {
        w->rings_rest = w->rings_moved > RING_FAST * rt->worker_count;
        w->rings_moved = w->ring_looks = 0;
    }
    return any;
}

/* Jobs whose owner has been asked for them count when it has not answered for a while. */
static bool deques_promise(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct deque *d = &rt->worker[i]->deque;

        if (w->looks < ASK_LOOKS ? deque_lends(d) : !deque_empty(d))
            return true;
    }
    return false;
}

bool find_promising(struct worker *w)
{
    if (!inject_empty(&w->runtime->inject) || rings_promise(w) || deques_promise(w))
        return true;
    w->looks++;
    return false;
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
