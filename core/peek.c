/* SPDX-License-Identifier: MIT */
/*
 * peek.c - reads the jobs of a stack that somebody else runs, without stopping it.
 *
 * What is read may change under the reader: it is checked before it is followed (a job's record lies
 * in its fiber's stack, which stays mapped), and believed only if the worker has made no turn and no
 * switch meanwhile, for these lie between any two jobs. Of a job that is stuck all is exact. Of one that
 * is about to begin, or on a weakly ordered machine has just begun, the words may be those of the job before it in
 * its batch: so nothing here is followed by those who get it, only compared and shown.
 */
#include "peek.h"

#define UNSANITIZED __attribute__((no_sanitize("address"), no_sanitize("thread")))

/* The record, if the address is one that a job of this fiber can have. */
UNSANITIZED static const volatile struct job *checked(const volatile struct fiber *f, uintptr_t address)
{
    uintptr_t low = (uintptr_t)f->bottom, bytes = f->bytes;

    if (address % _Alignof(struct job) || address < low || bytes < sizeof(struct job) ||
        address - low > bytes - sizeof(struct job))
        return NULL;
    return (const volatile struct job *)address;
}

UNSANITIZED static void note(struct peek *p, const volatile struct job *j,
                                 int64_t stall_ns)
{
    unsigned i = p->depth < PEEK_JOBS ? p->depth : PEEK_JOBS - 1;

    p->job[i] = (struct peek_job){j->fn, j->name, j->id, j->owed_to, j->serving ? j->serves : NULL,
                                   j->scope ? j->stall_ns : stall_ns};
    p->depth++;
}

UNSANITIZED bool peek_worker(struct worker *w, struct peek *p)
{
    const volatile struct worker *seen = w;
    const volatile struct fiber *f;
    const volatile struct job *j;
    uintptr_t above = 0;

    p->depth = 0;
    p->at = peek_progress(w);
    atomic_thread_fence(memory_order_acquire); /* the progress is read first */
    f = seen->current;
    p->fiber = (const struct fiber *)f;
    if (!f || f == &seen->home)
        return false;
    for (j = checked(f, (uintptr_t)f->job); j && (uintptr_t)j > above; j = checked(f, (uintptr_t)j->outer)) {
        if (!j->is_try)
            note(p, j, seen->runtime->options.stall_ns);
        above = (uintptr_t)j; /* outer records lie higher: the walk ends */
    }
    atomic_thread_fence(memory_order_acquire); /* and last */
    return p->depth > 0 && progress_same(p->at, peek_progress(w));
}

/* Of a fiber that nobody runs, or the caller's own, exact; else thrown away (balance.c). */
UNSANITIZED unsigned peek_jobs(const struct fiber *fiber)
{
    const volatile struct fiber *f = fiber;
    const volatile struct job *j;
    uintptr_t above = 0;
    unsigned n = 0;

    for (j = checked(f, (uintptr_t)f->job); j && (uintptr_t)j > above; j = checked(f, (uintptr_t)j->outer)) {
        n += !j->is_try;
        above = (uintptr_t)j;
    }
    return n;
}

/* The same of a worker that sleeps, or the caller's own. */
UNSANITIZED unsigned peek_kept(struct worker *w)
{
    const volatile struct worker *seen = w;
    struct fiber *spare = seen->spare;

    return (unsigned)seen->stacks.list.count + (spare && fiber_is(spare, FIBER_IDLE)) + (seen->reserve != NULL);
}
