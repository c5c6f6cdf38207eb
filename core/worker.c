/* SPDX-License-Identifier: MIT */
/*
 * worker.c - the scheduler's loop.
 *
 * Owns: the protocol of every switch. Which work is next is find.c's, and what to do when there is none idle.c's.
 * Does not know what a job does: runtime->run runs one.
 *
 * A job starts as a plain call of the loop, on the loop's stack. If it blocks, the stack (loop, job
 * and all) is parked, and the worker goes on with a ready fiber or with the loop of a spare stack.
 * When a loop takes a ready fiber it leaves its own stack behind, suspended in the middle of its
 * work: that is the next spare. So a wait that blocks costs two switches, a job that does not
 * block costs none, and no stack is ever set up twice.
 *
 * Switch protocol. Whoever switches says in worker->left what shall become of the fiber it leaves;
 * the destination does it on arrival, when nothing runs on that stack any more. Before that nobody
 * can resume it, for it is not READY.
 */
#include "worker.h"

#include "find.h"
#include "idle.h"
#include "lockcheck.h"
#include "wipe.h"

#define IO_BATCH 16      /* prepared I/O operations that are given to the kernel at once */

/* --------------------------------------------------------------------------------- switching */

static void loop_entry(void *passed, void *arg);
static void clean_up(struct worker *w);

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
    if (!fiber_of(s)->sp) {
        fiber_prepare(fiber_of(s), w->runtime, loop_entry);
        fiber_of(s)->in_place = w->runtime->lab ? UINTPTR_MAX : fiber_of(s)->half; /* there the dice choose among children, too */
    }
    return fiber_of(s);
}

/* A loop is not needed now. */
static void keep_loop(struct worker *w, struct fiber *loop)
{
    fiber_set(loop, FIBER_RUNNING, FIBER_IDLE);
    if (w->left == LEFT_CLEANED && !w->reserve)
        w->reserve = loop;
    else if (!w->spare)
        w->spare = loop;
    else
        stack_give(&w->runtime->stacks, &w->stacks, &loop->stack);
}

static NOINLINE void arrive_rarely(struct worker *w)
{
    struct fiber *left = w->carrier.left;

    if (w->left == LEFT_LOOP || w->left == LEFT_CLEANED)
        keep_loop(w, left);
    else if (w->left == LEFT_BROKEN)
        clean_up(w);
    else if (w->left == LEFT_PARKING && !fiber_publish(left))
        worker_ready(left);
}

static inline bool asked_more(struct worker *w)
{
    return atomic_load_explicit(&w->asked, memory_order_relaxed) != ASK_LOOK; /* own, but for more bits */
}

/* Does what was asked about the fiber that was left. */
static inline void arrive(struct worker *w)
{
    struct fiber *left = w->carrier.left;

    if (asked_more(w))
        atomic_store_explicit(&w->asked, ASK_LOOK, memory_order_relaxed); /* ASKED: for who is resumed */
    if (LIKELY(w->left == LEFT_READY)) {
        fiber_set(left, FIBER_RUNNING, FIBER_READY);
        ring_push(&w->ring, &left->stack.link);
    } else {
        arrive_rarely(w);
    }
}

/* Leaves `self` for `to`; returns when somebody resumes `self`, who must then arrive. Not inlined: with one
 * switch site for all a lease of a fiber is 30 ns less, for returns are predicted. by: the carrier's cross between a loop
 * and a fiber, which never wait in the same function; else its change. */
static NOINLINE struct worker *leave(struct worker *w, struct fiber *self, struct fiber *to, enum left left,
                                     arch_switch_fn *by)
{
    w->left = left;
    w->current = to;
    tally(&w->switches, 1);
    return (struct worker *)(void *)fiber_switch_by(&w->carrier, self, to, by);
}

static ALWAYS_INLINE struct worker *switch_to(struct worker *w, struct fiber *self, struct fiber *to, enum left left,
                                              arch_switch_fn *by)
{
    w = leave(w, self, to, left, by);
    arrive(w);
    return w;
}

static struct fiber *take_spare(struct worker *w)
{
    struct fiber *f = w->spare;

    w->spare = NULL;
    return f;
}

static NOINLINE void tell_others(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    if (w->searching) {
        w->searching = false;
        w->looks = 0;
        if (park_search_end(&rt->park) && find_quietly(rt))
            park_notify(&rt->park);
    }
    if (!w->io_queued)
        return;
    if (w->io_queued >= IO_BATCH || (ring_empty(&w->ring) && (w->io_urgent || !w->brisk)))
        rt->io->flush(w);
    else /* who is there to add more may take their time; what no peer waits for goes when the worker sleeps */
        rt->io->flush_late(w);
}

/* Before the worker turns to what it found: others learn what is left, the kernel what is queued. By `|`, for a compiler
 * makes of || one load with jobs_left, which has just been stored by itself: that waits for the store. */
static inline void before_running(struct worker *w)
{
    if (UNLIKELY(w->searching | w->io_queued))
        tell_others(w);
}

/* ---------------------------------------------------------------------------------- the loop */

/* Leaves this loop's stack for a fiber, or for home; comes back when the worker needs a loop again. */
static void leave_loop(struct worker *w, struct fiber *self, struct fiber *to)
{
    switch_to(w, self, to, LEFT_LOOP, w->carrier.cross);
    fiber_resume(self);
}

/* Never returns: a loop that is suspended goes on where it was, on any worker. */
static void loop(struct fiber *self)
{
    for (;;) {
        struct worker *w = worker_of(self);
        struct next n;

        if (UNLIKELY(runtime_flag(&w->runtime->stopping))) {
            leave_loop(w, self, &w->home);
        } else if (!find_next(w, &n)) {
            idle_wait(w);
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

    self->tenant = self->runtime->host.own_alloc ? TENANT_UNKNOWN : TENANT_NONE;
    fiber_arrive(self, passed);
    arrive(passed);
    fiber_resume(self);
    if (self->carrier->change != arch_switch_shared) /* a new stack begins with the words of whoever needed it */
        arch_fp_set(worker_of(self)->fp);
    loop(self);
}

bool worker_prepare(struct worker *w)
{
    w->spare = take_loop(w);
    if (w->runtime->clean_up)
        w->reserve = take_loop(w);
    return w->spare && (w->reserve || !w->runtime->clean_up);
}

void worker_forget_fiber(struct fiber *f, void *unused)
{
    (void)unused;
    fiber_forget(f);
}

NOINLINE void worker_main(struct worker *w)
{
    fiber_adopt_thread(&w->home, &w->carrier, w->runtime->options.share_fp);
    w->current = &w->home;
    worker_tls = w;
    w->fp = arch_fp_get();
    atomic_store_explicit(&w->busy_tick, 1, memory_order_relaxed); /* a hint: awake from the start */
    switch_to(w, &w->home, take_spare(w), LEFT_NOTHING, w->carrier.change);
    worker_tls = NULL;
}

/* ----------------------------------------------------------------------------- broken fibers */

/* This loop, which has just been taken for it, ends what the broken fiber's job cannot end itself, and
 * makes room for that fiber at once: it may stand on the last stack there is. It waits here for its
 * next use, which may be the same. */
static COLD void clean_up(struct worker *w)
{
    struct fiber *self = w->current;

    do {
        struct fiber *broken = w->carrier.left;

        fiber_resume(self);
        arch_fp_set(w->fp);
        w->runtime->clean_up(self, broken); /* may suspend */
        fiber_set(broken, FIBER_BROKEN, FIBER_READY);
        w = leave(worker_of(self), self, broken, LEFT_CLEANED, self->carrier->change);
    } while (w->left == LEFT_BROKEN);
    arrive(w);
}

void worker_leave_broken(struct fiber *self)
{
    struct worker *w = worker_of(self);
    struct fiber *to = w->spare || (w->spare = take_loop(w)) ? take_spare(w) : w->reserve;

    if (!to)
        fatal("no stack is left to clean up on after a contained fault");
    if (to == w->reserve)
        w->reserve = NULL;
    self->waits_for = "clean-up after a fault";
    self->waits_on = NULL;
    fiber_set(self, FIBER_RUNNING, FIBER_BROKEN);
    switch_to(w, self, to, LEFT_BROKEN, w->carrier.change);
    fatal("a stack was resumed where a fault had ended it");
}

void worker_return_broken(struct worker *w)
{
    struct fiber *self = w->current;

    fiber_arrive(self, &w->carrier);
    arrive(w);
    self->waits_for = NULL;
    fiber_resume(self);
}

/* ------------------------------------------------------------------------------ park and yield */

/* A ready fiber if it is the fibers' turn, else NULL: the loop decides. */
static ALWAYS_INLINE struct fiber *next_directly(struct worker *w, bool jobs)
{
    if (UNLIKELY(worker_turn(w) >= w->poll_at || w->look_outside)) {
        w->look_outside = true;
        return NULL;
    }
    return UNLIKELY(jobs) ? find_ready_beside_jobs(w) : find_ready(w);
}

/* The last resort is a ready fiber: any suspended stack will do to go on with. */
static NOINLINE bool find_spare(struct worker *w)
{
    if (UNLIKELY(w->hostcall != NULL))
        fatal("%s must not suspend", w->hostcall);
    return (w->spare = take_loop(w)) || (w->spare = find_any_ready(w));
}

bool worker_park_begin(struct fiber *self, uint64_t *generation, const char *what, const void *on)
{
    struct worker *w = worker_of(self);

    if (!w->spare && UNLIKELY(!find_spare(w)))
        return false;
    self->waits_for = what;
    self->waits_on = on;
    self->waits_until = COIR_NEVER; /* alarm_arm says otherwise */
    self->waits_since = UNLIKELY(w->note_waits) ? coir_now() : 0;
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

    lockcheck_suspend(w, self->waits_for);
    if (LIKELY(fiber_is(self, FIBER_PARKING))) {
        struct fiber *to = w->spare && !fiber_is(w->spare, FIBER_IDLE) ? NULL : next_directly(w, !deque_empty(&w->deque));
        arch_switch_fn *by = w->carrier.change;

        if (to || !fiber_is(w->spare, FIBER_IDLE))
            before_running(w); /* else the loop does, if it finds something */
        if (!to) {
            to = take_spare(w);
            by = w->carrier.cross;
        }
        tally(&w->parks, 1);
        w = switch_to(w, self, to, LEFT_PARKING, by);
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

/* A loop, if there is anything for it. */
static NOINLINE struct fiber *yield_to_loop(struct worker *w)
{
    if (w->jobs_left || w->look_outside)
        return w->spare || (w->spare = take_loop(w)) ? take_spare(w) : find_without_loop(w);
    return NULL;
}

/* Whether it is time that a yield looks outside. Its switch is its turn: to count it once more would cost a store. */
static ALWAYS_INLINE bool yield_is_due(struct worker *w)
{
    return tally_read(&w->switches) >= w->yield_poll_at;
}

/* Whether a yield has more to do than to take the next ready fiber. */
static ALWAYS_INLINE bool yields_slowly(struct worker *w)
{
    return UNLIKELY(!deque_is_empty(&w->deque)) || UNLIKELY(yield_is_due(w)) ||
           UNLIKELY(w->io_queued || w->jobs_left || w->searching || w->look_outside);
}

/* Who yields and for whom (NULL: nothing else is runnable here); in two registers. */
struct way {
    struct worker *from;
    struct fiber *to;
};

/* It looks around where it is, which spares two switches. */
static void look_in_passing(struct worker *w)
{
    if (w->metered || fiber_stack_is_low(w->current))
        w->look_outside = true;
    else
        worker_look_around(w);
}

static NOINLINE struct way find_slow_way(struct worker *w)
{
    bool jobs = !deque_is_empty(&w->deque);
    struct way way = {w, NULL};

    if ((yield_is_due(w) || tally_read(&w->tick) >= w->poll_at) && !w->look_outside)
        look_in_passing(w);
    w->jobs_left = jobs ? (uint16_t)deque_count(&w->deque) : 0; /* all are runnable now */
    way.to = next_directly(w, jobs);
    if (!way.to)
        way.to = yield_to_loop(w);
    if (way.to)
        before_running(w);
    return way;
}

/* Of its stack only what a switch touches, too, if all that is missing is a claim: of many fibers the rest has left the
 * cache. A yield to nobody is no switch, and counts as a turn. */
static NOINLINE struct way find_way(struct worker *w)
{
    struct way way = {w, NULL};

    if (yields_slowly(w))
        return find_slow_way(w);
    way.to = find_ready_slowly(w);
    if (LIKELY(way.to != NULL) || worker_turn(w) < w->poll_at)
        return way;
    return find_slow_way(w);
}

/* Who was left has not yielded, or something is asked. */
static NOINLINE void go_on_slowly(struct worker *w)
{
    struct fiber *self = w->current;

    arrive(w);
    fiber_resume(self);
}

/* What is usual is done without calls but the switch: so no register is saved, and a switch waits for fewer lines of
 * the stack it leads to. The switch is the same for all, or returns would be mispredicted. */
void worker_yield(struct worker *w)
{
    struct way way = {w, NULL};
    struct fiber *left;
    int64_t t;

    lockcheck_suspend(w, "yield");
    if (yields_slowly(w) || UNLIKELY(!find_claimed(w, w->cached, &way.to))) {
        way = find_way(w);
        if (!way.to)
            return;
    }
    w = leave(way.from, way.from->current, way.to, LEFT_READY, way.from->carrier.change);
    left = w->carrier.left;
    if (UNLIKELY(w->left != LEFT_READY) || UNLIKELY(!ring_has_room(&w->ring, &t)) || UNLIKELY(asked_more(w))) {
        go_on_slowly(w);
        return;
    }
    fiber_set(left, FIBER_RUNNING, FIBER_READY);
    ring_fill(&w->ring, t, &left->stack.link);
    fiber_resume(w->current);
}

COLD void worker_look_around(struct worker *w)
{
    worker_put_off_look(w);
    find_events(w, false);
    if (find_starved(w) || find_held_up(w) || !inject_empty(&w->runtime->inject))
        w->look_outside = true;
}

/* ----------------------------------------------------------------------------------- new work */

/* What the deque has no room for the injector takes, or all is refused. One job stays, and the oldest ones go. */
static int push_many(struct worker *w, struct work item, size_t stride, size_t n)
{
    size_t room = deque_room(&w->deque), here = n < room ? n : room;
    struct work rest = item;
    int status = COIR_OK;

    rest.arg = (void *)((uintptr_t)item.arg + here * stride); /* it may be NULL */
    if (n == 1 && !here)
        status = inject_relieve(&w->runtime->inject, &w->deque);
    else if (here < n)
        status = inject_push(&w->runtime->inject, &rest, stride, n - here);
    if (status == COIR_OK) /* there is room for one now: REUSE, if a thief has made it */
        deque_push_many(&w->deque, &item, stride, n == 1 && deque_room(&w->deque) ? 1 : here);
    return status;
}

int worker_push(struct worker *w, const struct work *first, size_t stride, size_t n)
{
    int status;

    tally(&w->spawned, n); /* BOOKS, runtime.c: before anybody can end it */
    status = push_many(w, *first, stride, n);
    if (status == COIR_OK)
        park_notify(&w->runtime->park);
    else
        tally(&w->spawned, -n);
    return status;
}

void worker_each_fiber(struct coir_runtime *rt, void (*visit)(struct fiber *f, void *arg), void *arg)
{
    /* SEEN: stack.c, which makes stacks meanwhile, is not explored, so no mutant shows that it is needed. */
    size_t created = atomic_load_explicit(&rt->stacks.created, memory_order_acquire);

    for (size_t i = 0; i < created; i++)
        visit(fiber_of(stack_at(&rt->stacks, i)), arg);
}
