/* SPDX-License-Identifier: MIT */
/*
 * moving.c - every suspension resumes on another worker, if there is one, and jobs suspend as they begin and as
 * they end. Put between the objects of core/ by their linker (moving.ninja), which are what they are elsewhere.
 *
 * Who asks for its worker before something that may suspend, and uses it afterwards, is nearly always lucky: a fiber mostly
 * comes back to the worker that it left. Here it does not if there is another that has time for it. An owner hands all that is ready to the injector, and takes
 * from there only what others have run last, for as long as one of them may still come for the rest.
 *
 * A runtime of one worker is what it always is.
 */
#include "find.h"
#include "job.h"

#define PATIENCE_NS (COIR_MS / 2) /* then it runs its own: others may be in long jobs */

void __real_worker_yield(struct worker *w);
struct link *__real_inject_take_fiber(struct inject *q);
struct link *__real_ring_take_slowly(struct ring *r);
void *__real_arch_boundary(void (*fn)(void *), void *arg);
_Unwind_Ptr __real__Unwind_GetRegionStart(struct _Unwind_Context *c);

void __wrap_worker_yield(struct worker *w);
struct link *__wrap_inject_take_fiber(struct inject *q);
struct link *__wrap_ring_take_slowly(struct ring *r);
void *__wrap_arch_boundary(void (*fn)(void *), void *arg);
_Unwind_Ptr __wrap__Unwind_GetRegionStart(struct _Unwind_Context *c);

static bool is_alone(const struct coir_runtime *rt)
{
    return rt->worker_count == 1;
}

/* By way of a loop, which looks into the injector. */
void __wrap_worker_yield(struct worker *w)
{
    if (!is_alone(w->runtime))
        w->look_outside = true;
    __real_worker_yield(w);
}

/* The owner's own queue is empty for it. */
struct link *__wrap_ring_take_slowly(struct ring *r)
{
    struct link *e = __real_ring_take_slowly(r);

    for (; e && !is_alone(find_fiber_of(e)->runtime); e = __real_ring_take_slowly(r)) {
        struct coir_runtime *rt = find_fiber_of(e)->runtime;

        inject_push_fiber(&rt->inject, e);
        park_notify(&rt->park);
    }
    return e;
}

static __thread int64_t declines_since; /* 0: it does not */

static bool declines(const struct worker *w, struct link *e)
{
    int64_t now;

    if (!w || is_alone(w->runtime) || find_fiber_of(e)->carrier != &w->carrier)
        return false;
    now = coir_now();
    if (!declines_since)
        declines_since = now;
    return now - declines_since < PATIENCE_NS;
}

struct link *__wrap_inject_take_fiber(struct inject *q)
{
    size_t n = atomic_load_explicit(&q->fiber_count, memory_order_relaxed); /* a bound */
    struct link *e;

    while (n-- > 0 && (e = __real_inject_take_fiber(q))) {
        if (!declines(worker_here(), e)) {
            declines_since = 0;
            return e;
        }
        inject_push_fiber(q, e);
    }
    return NULL;
}

static NOINLINE uint32_t draw(void)
{
    static __thread uint32_t random;

    return (random = random * 1664525 + 1013904223) >> 31; /* Numerical Recipes */
}

/* Where jobs may suspend: not in the host's callbacks, and not in a boundary of the scheduler's own. Now and then, or
 * with two workers who comes and goes is back where it was. */
static NOINLINE void suspend(void)
{
    struct worker *w = worker_self();

    if (w && !is_alone(w->runtime) && !w->hostcall && w->current->job && !job_proper(w->current->job)->is_try && draw())
        __wrap_worker_yield(w);
}

/* Who looks for boundaries on a stack knows them by the name that is ours now. */
_Unwind_Ptr __wrap__Unwind_GetRegionStart(struct _Unwind_Context *c)
{
    _Unwind_Ptr start = __real__Unwind_GetRegionStart(c);

    return start == (_Unwind_Ptr)__real_arch_boundary ? (_Unwind_Ptr)__wrap_arch_boundary : start;
}

struct call {
    void (*fn)(void *);
    void *arg;
};

static NOINLINE void call_before(void *arg)
{
    const struct call *c = arg;
    const struct job *j = *job_slot();

    c->fn(c->arg);
    if (!j->owned && !j->held) /* what lies in the frames that it has left must stay as it is */
        suspend();
}

/* Whether a fault may end the job, which no frame of ours must be in the way of. */
static bool contains_faults(void)
{
    const struct coir_runtime *rt = runtime_here();

    return rt && rt->clean_up;
}

void *__wrap_arch_boundary(void (*fn)(void *), void *arg)
{
    struct call c = {fn, arg};

    suspend();
    return contains_faults() ? __real_arch_boundary(fn, arg) : __real_arch_boundary(call_before, &c);
}
