/* SPDX-License-Identifier: MIT */
/*
 * worker.c - the scheduler's loop.
 *
 * Owns: the order in which a worker takes work, and the protocol of every switch.
 * Does not know what a job does: runtime->run runs one.
 *
 * A job starts as a plain call of the loop, on the loop's stack. If it blocks, the stack (loop, job
 * and all) is parked, and the worker goes on with a ready fiber or with the loop of a spare stack.
 * When a loop takes a ready fiber it leaves its own stack behind, suspended in the middle of its
 * work: that is the next spare. So a wait that blocks costs two switches, a job that does not
 * block costs none, and no stack is ever set up twice.
 *
 * Order. New jobs run newest first, for fork-join; ready fibers oldest first, for fairness between
 * requests. They take turns in rounds of a small budget, so neither starves the other; the
 * injector, timers and I/O are looked at every POLL_TURNS turns even when there is other work.
 *
 * Switch protocol. Whoever switches says in worker->left what shall become of the fiber it leaves;
 * the destination does it on arrival, when nothing runs on that stack any more. Before that nobody
 * can resume it, for it is not READY.
 *
 * SLEEP (park.c): the look at every queue after park_announce is find_quietly.
 */
#include "worker.h"

#include <sched.h>

#define POLL_TURNS 61    /* prime, so that it beats with no regular pattern of work */
#define ROUND_JOBS 16    /* new jobs, then fibers, before the others get their turn */
#define ROUND_FIBERS 16
#define INJECT_BATCH 32  /* injected jobs taken at once; thieves share them */
#define STEAL_BATCH 32   /* jobs stolen at once */
#define PREFETCH_HEADER 12
#define PREFETCH_STACK 6
#define IO_BATCH 32      /* prepared I/O operations that are given to the kernel at once */
#define OTHERS_SLACK_NS (100 * COIR_US)
#define WATCH_BUSY_NS (COIR_MS / 2)  /* for each worker of the runtime */
#define WATCH_IDLE_NS (10 * COIR_MS)

__thread struct worker *worker_tls;

/* Not inlined, and opaque to the optimizer: see worker_here. */
NOINLINE struct worker *worker_self(void)
{
    __asm__ volatile("");
    return worker_tls;
}

static bool flag(_Atomic bool *b)
{
    return atomic_load_explicit(b, memory_order_acquire); /* CLOSE: runtime.c sets them */
}

/* --------------------------------------------------------------------------------- switching */

static void loop_entry(void *passed, void *arg);

static struct fiber *fiber_of(struct stack *s)
{
    return CONTAINER_OF(s, struct fiber, stack);
}

/* A suspended loop, fresh or from the cache; NULL: no stack left. */
static struct fiber *take_loop(struct worker *w)
{
    struct stack *s = stack_take(&w->runtime->stacks, &w->stacks);

    if (!s)
        return NULL;
    if (!fiber_of(s)->sp)
        fiber_prepare(fiber_of(s), w->runtime, loop_entry);
    return fiber_of(s);
}

/* Does what was asked about the fiber that was left. */
static void arrive(struct worker *w)
{
    struct fiber *left = w->carrier.left;

    switch (w->left) {
    case LEFT_NOTHING:
        break;
    case LEFT_LOOP:
        fiber_set(left, FIBER_RUNNING, FIBER_IDLE);
        if (!w->spare)
            w->spare = left;
        else
            stack_give(&w->runtime->stacks, &w->stacks, &left->stack);
        break;
    case LEFT_PARKING:
        if (!fiber_publish(left))
            worker_ready(left);
        break;
    case LEFT_READY:
        fiber_set(left, FIBER_RUNNING, FIBER_READY);
        ring_push(&w->ring, &left->stack.link);
        break;
    }
}

/* Leaves `self` for `to`; returns when somebody resumes `self`. */
static struct worker *switch_to(struct worker *w, struct fiber *self, struct fiber *to, enum left left)
{
    w->left = left;
    w->current = to;
    tally(&w->switches, 1);
    w = (struct worker *)(void *)fiber_switch(&w->carrier, self, to);
    arrive(w);
    return w;
}

static struct fiber *take_spare(struct worker *w)
{
    struct fiber *f = w->spare;

    w->spare = NULL;
    return f;
}

/* -------------------------------------------------------------------------------- finding work */

/* What a turn of the loop does next: at most one of the two. */
struct next {
    struct fiber *fiber; /* to resume */
    bool has_work;
    struct work work;    /* to run */
};

static bool take_fiber(struct next *n, struct link *e)
{
    n->fiber = e ? CONTAINER_OF(e, struct fiber, stack.link) : NULL;
    return e != NULL;
}

/* The oldest ready fiber. Of a long queue the next ones are fetched ahead: their stacks have left the
 * cache, and a switch would wait for line after line. */
static bool take_ready(struct worker *w, struct next *n)
{
    struct link *far = ring_peek(&w->ring, PREFETCH_HEADER), *near;

    if (far) {
        near = ring_peek(&w->ring, PREFETCH_STACK);
        fiber_prefetch_header(CONTAINER_OF(far, struct fiber, stack.link));
        if (near)
            fiber_prefetch_stack(CONTAINER_OF(near, struct fiber, stack.link));
    }
    return take_fiber(n, ring_take(&w->ring));
}

/* Own queues, in rounds. */
static bool find_local(struct worker *w, struct next *n)
{
    for (int round = 0; round < 2; round++) {
        if (w->jobs_left && deque_pop(&w->deque, &n->work)) {
            w->jobs_left--;
            return n->has_work = true;
        }
        if (w->fibers_left && take_ready(w, n)) {
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
    struct work batch[INJECT_BATCH];
    size_t count;

    if (take_fiber(n, inject_take_fiber(&w->runtime->inject)))
        return true;
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

static bool steal_job(struct worker *victim, struct work *work)
{
    enum steal s;

    do
        s = deque_steal(&victim->deque, work);
    while (s == STEAL_LOST);
    return s == STEAL_OK;
}

/* A ready fiber, or the oldest job and up to half of the others: small jobs would otherwise cost
 * the two workers a cache line each. What is not run at once can be stolen again. */
static bool steal_from(struct worker *w, struct worker *victim, struct next *n)
{
    struct work more;

    if (!ring_empty(&victim->ring) && take_fiber(n, ring_steal(&victim->ring)))
        return true;
    if (deque_empty(&victim->deque) || !steal_job(victim, &n->work))
        return false;
    for (unsigned i = 1; i < STEAL_BATCH && i < deque_count(&victim->deque); i++) {
        if (!steal_job(victim, &more))
            break;
        deque_push(&w->deque, &more); /* it was empty: there is room */
    }
    return n->has_work = true;
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

/* Fires timers and readies completed I/O. Own timers, or all of them when idle. */
static bool poll_events(struct worker *w, bool all)
{
    struct coir_runtime *rt = w->runtime;
    int64_t now = coir_now();
    bool any = false;

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

static bool find(struct worker *w, struct next *n)
{
    *n = (struct next){0};
    if (UNLIKELY(++w->tick % POLL_TURNS == 0 || w->look_outside)) {
        w->look_outside = false;
        atomic_store_explicit(&w->busy_tick, w->tick | 1, memory_order_relaxed); /* a hint */
        poll_events(w, false);
        if (!inject_empty(&w->runtime->inject) && find_injected(w, n))
            return true;
    }
    if (find_local(w, n) || find_injected(w, n) || find_stolen(w, n))
        return true;
    return poll_events(w, true) && find_local(w, n);
}

/* Whether anything is runnable anywhere, by looking only. */
static bool work_in_sight(struct coir_runtime *rt)
{
    if (!inject_empty(&rt->inject))
        return true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (!ring_empty(&rt->worker[i]->ring) || !deque_empty(&rt->worker[i]->deque))
            return true;
    return false;
}

/* Before the worker turns to what it found: others learn what is left, the kernel what is queued. */
static void before_running(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    if (w->searching) {
        w->searching = false;
        if (park_search_end(&rt->park) && work_in_sight(rt))
            park_notify(&rt->park);
    }
    if (w->io_queued && (w->io_queued >= IO_BATCH || ring_empty(&w->ring)))
        rt->io->flush(w);
}

/* -------------------------------------------------------------------------------------- sleeping */

/*
 * When to wake up by itself. A worker that is stuck in a long job comes neither for its timers nor for
 * its completions, so every sleeper watches: it sleeps until the earliest deadline of all (others'
 * with some slack, for their owner is the first to fire them), and if there is I/O it looks in now
 * and then, more often while another worker is busy. A runtime without I/O and timers sleeps soundly.
 */
static int64_t wake_up_time(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    int64_t now = coir_now(), earliest = COIR_NEVER, watch;
    bool busy = false;

    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct worker *other = rt->worker[i];
        int64_t t = timers_earliest(&other->timers);

        if (other != w && t != COIR_NEVER)
            t = (t > now ? t : now) + OTHERS_SLACK_NS;
        earliest = t < earliest ? t : earliest;
        busy |= other != w &&
                atomic_load_explicit(&other->busy_tick, memory_order_relaxed) != 0; /* a hint */
    }
    if (rt->worker_count == 1 || !(rt->io || earliest != COIR_NEVER))
        return earliest;
    watch = now + (busy ? WATCH_BUSY_NS : WATCH_IDLE_NS) * rt->worker_count;
    return watch < earliest ? watch : earliest;
}

static void sleep_announced(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    int64_t deadline = wake_up_time(w);

    tally(&w->sleeps, 1);
    if (rt->io && rt->io->sleep)
        w->searching = rt->io->sleep(w, deadline);
    else
        w->searching = park_sleep(&rt->park, &w->parker, deadline);
}

/* Nothing was found: looks around for a while, then sleeps until there is work. */
static void idle(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    int64_t until = rt->spin_ns < COIR_SEC ? coir_now() + rt->spin_ns : COIR_NEVER;
    unsigned turns = 0;

    if (rt->io && w->io_queued)
        rt->io->flush(w);
    fence_full(); /* BOOKS: what this worker ended comes before the look at draining */
    if (flag(&rt->draining))
        rt->idle(rt);
    if (!w->searching)
        park_search_begin(&rt->park);
    w->searching = true;
    while (rt->spin_ns && !flag(&rt->stopping)) {
        if (work_in_sight(rt) || poll_events(w, true))
            return;
        if (coir_now() >= until)
            break;
        spin_pause(&turns);
    }
    atomic_store_explicit(&w->busy_tick, 0, memory_order_relaxed); /* a hint */
    while (!FIBER_KEEPS_STACKS && !flag(&rt->draining) && !work_in_sight(rt) &&
           stacks_trim(&rt->stacks))
        ;
    park_announce(&rt->park, &w->parker, true);
    w->searching = false;
    if (work_in_sight(rt) || flag(&rt->stopping)) /* SLEEP: the last look */
        w->searching = park_retract(&rt->park, &w->parker);
    else
        sleep_announced(w);
    atomic_store_explicit(&w->busy_tick, w->tick | 1, memory_order_relaxed); /* a hint */
}

/* ---------------------------------------------------------------------------------- the loop */

/* Leaves this loop's stack for a fiber, or for home; comes back when the worker needs a loop again. */
static void leave_loop(struct worker *w, struct fiber *self, struct fiber *to)
{
    switch_to(w, self, to, LEFT_LOOP);
    fiber_resume(self);
}

/* Never returns: a loop that is suspended goes on where it was, on any worker. */
static void loop(struct fiber *self)
{
    for (;;) {
        struct worker *w = worker_of(self);
        struct next n;

        if (UNLIKELY(flag(&w->runtime->stopping))) {
            leave_loop(w, self, &w->home);
        } else if (!find(w, &n)) {
            idle(w);
        } else {
            before_running(w);
            if (n.fiber)
                leave_loop(w, self, n.fiber);
            else
                w->runtime->run(self, &n.work);
        }
    }
}

static void loop_entry(void *passed, void *arg)
{
    struct fiber *self = arg;

    fiber_arrive(self, passed);
    arrive(passed);
    fiber_resume(self);
    if (!self->carrier->share_fp) /* a new stack begins with the words of whoever needed it */
        arch_fp_set(worker_of(self)->fp);
    loop(self);
}

bool worker_prepare(struct worker *w)
{
    w->spare = take_loop(w);
    return w->spare != NULL;
}

void worker_forget_fiber(struct fiber *f, void *unused)
{
    (void)unused;
    fiber_forget(f);
}

NOINLINE void worker_main(struct worker *w)
{
    worker_tls = w;
    fiber_adopt_thread(&w->home, &w->carrier);
    w->current = &w->home;
    w->fp = arch_fp_get();
    atomic_store_explicit(&w->busy_tick, 1, memory_order_relaxed); /* a hint: awake from the start */
    switch_to(w, &w->home, take_spare(w), LEFT_NOTHING);
    worker_tls = NULL;
}

/* ------------------------------------------------------------------------------ park and yield */

/* A ready fiber if it is the fibers' turn, else NULL: the loop decides. */
static struct fiber *next_directly(struct worker *w)
{
    struct next n = {0};
    bool jobs = !deque_empty(&w->deque);

    if (UNLIKELY(++w->tick % POLL_TURNS == 0)) {
        w->look_outside = true;
        return NULL;
    }
    if (jobs && (w->jobs_left || !w->fibers_left))
        return NULL;
    if (take_ready(w, &n) && jobs)
        w->fibers_left--;
    return n.fiber;
}

bool worker_park_begin(struct fiber *self, uint64_t *generation, const char *what, const void *on)
{
    struct worker *w = worker_of(self);
    struct next n = {0};

    if (UNLIKELY(!w->spare) && !(w->spare = take_loop(w))) {
        /* The last resort is a ready fiber: any suspended stack will do to go on with. */
        if (!take_fiber(&n, ring_take(&w->ring)))
            return false;
        w->spare = n.fiber;
    }
    self->waits_for = what;
    self->waits_on = on;
    *generation = fiber_park_begin(self);
    return true;
}

/* The wait ended before the switch: a fiber that was held for it goes back to its queue. */
static void release_spare(struct worker *w)
{
    struct fiber *spare = w->spare;

    if (fiber_is(spare, FIBER_IDLE))
        return;
    w->spare = NULL;
    worker_ready(spare);
}

enum wake worker_park(struct fiber *self)
{
    struct worker *w = worker_of(self);

    if (LIKELY(fiber_is(self, FIBER_PARKING))) {
        struct fiber *to = w->spare && !fiber_is(w->spare, FIBER_IDLE) ? NULL : next_directly(w);

        if (!to)
            to = take_spare(w);
        before_running(w);
        tally(&w->parks, 1);
        w = switch_to(w, self, to, LEFT_PARKING);
        tally(&w->unparks, 1);
    } else {
        release_spare(w);
    }
    self->waits_for = NULL;
    return fiber_resume(self);
}

void worker_ready(struct fiber *f)
{
    struct worker *w = worker_here();
    struct coir_runtime *rt = f->runtime;

    if (LIKELY(w && w->runtime == rt)) {
        ring_push(&w->ring, &f->stack.link);
        if (w->polling)
            return;
    } else {
        inject_push_fiber(&rt->inject, &f->stack.link);
    }
    park_notify(&rt->park);
}

void worker_yield(struct fiber *self)
{
    struct worker *w = worker_of(self);
    struct fiber *to;

    w->jobs_left = deque_count(&w->deque); /* all of them are runnable now */
    to = next_directly(w);
    if (!to && (w->jobs_left || w->look_outside))
        to = w->spare || (w->spare = take_loop(w)) ? take_spare(w) : NULL;
    if (!to)
        return; /* nothing else is runnable here */
    before_running(w);
    switch_to(w, self, to, LEFT_READY);
    fiber_resume(self);
}

bool worker_others_wait(struct worker *w)
{
    if (++w->tick % POLL_TURNS == 0)
        poll_events(w, false);
    return !ring_empty(&w->ring) || !inject_empty(&w->runtime->inject);
}

/* ----------------------------------------------------------------------------------- new work */

/* More than the deque has room for: the injector takes the rest, or all is refused. */
static int push_many(struct worker *w, struct work item, size_t stride, size_t n)
{
    size_t room = deque_room(&w->deque), here = n < room ? n : room;
    struct work rest = item;
    int status = COIR_OK;

    rest.arg = (char *)item.arg + here * stride;
    if (here < n)
        status = inject_push(&w->runtime->inject, &rest, stride, n - here, false);
    if (status == COIR_OK)
        deque_push_many(&w->deque, &item, stride, here);
    return status;
}

int worker_push(struct worker *w, const struct work *first, size_t stride, size_t n)
{
    tally(&w->spawned, n); /* BOOKS, runtime.c: before anybody can end it */
    if (UNLIKELY(n != 1 || !deque_push(&w->deque, first))) {
        int status = push_many(w, *first, stride, n);

        if (status != COIR_OK) {
            tally(&w->spawned, -n);
            return status;
        }
    }
    park_notify(&w->runtime->park);
    return COIR_OK;
}

void worker_each_fiber(struct coir_runtime *rt, void (*visit)(struct fiber *f, void *arg), void *arg)
{
    size_t created = atomic_load_explicit(&rt->stacks.created, memory_order_acquire); /* SEEN */

    for (size_t i = 0; i < created; i++)
        visit(fiber_of(stack_at(&rt->stacks, i)), arg);
}
