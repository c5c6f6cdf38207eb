/* SPDX-License-Identifier: MIT */
/*
 * job.c - the record of a running job: who it is, what is said when it fails, what lies in its frames.
 *
 * Owns: ids, failure records, the list of counters that the job must not leave behind. How a job begins
 * and ends is boundary.c's.
 */
#include "job.h"

#include <stdio.h>

#include "hostcall.h"
#include "report.h"

static __thread struct job *thread_job; /* innermost coir_try of a plain thread */

NOINLINE struct job **job_slot(void)
{
    struct worker *w = worker_here();

    return w ? &w->current->job : &thread_job;
}

_Atomic(const struct job_ops *) job_ops;

/* ------------------------------------------------------------------------------- asking a job */

struct job *job_proper(struct job *j)
{
    while (job_is_inner(j) && j->outer)
        j = j->outer;
    return j;
}

uint64_t job_id(struct job *j)
{
    j = job_proper(j);
    if (!j->id && !j->is_try) {
        struct worker *w = worker_here();

        j->id = ++w->job_ids << 9 | w->index;
        j->known = true;
    }
    return j->id;
}

uint64_t job_id_held(struct coir_runtime *rt, struct job *j)
{
    if (!j->id)
        j->id = (atomic_fetch_add_explicit(&rt->job_ids, 1, memory_order_relaxed) + 1) << 9 | /* unique */
                256; /* past all workers */
    j->known = true;
    return j->id;
}

bool job_canceled(struct coir_runtime *rt, const struct job *j)
{
    for (; j; j = j->outer) {
        if (j->masked)
            return false;
        if (job_is_inner(j))
            continue; /* its scope is that of the job around it, which may be masked in between */
        if ((j->owed_to && counter_canceled(j->owed_to)) || (j->scope && scope_canceled(j->scope)) ||
            (j->serving && counter_canceled(j->serves)))
            return true;
    }
    return atomic_load_explicit(&rt->canceling, memory_order_seq_cst); /* ASK, fiber.c */
}

void job_serve(struct coir_domain *d, struct counter *c)
{
    struct job *j = job_proper(*job_slot());

    if (!c && !j->serving)
        return;
    lock_take(&d->lock);
    j->serves = c;
    j->serving = c != NULL;
    lock_drop(&d->lock);
    j->told = false; /* a cancel was of the message, or will be told again */
}

/* In which of the calls that j contains: a finalizer's own boundaries belong to the finalizer. */
static enum coir_location location_of(const struct job *j)
{
    for (; j; j = j->outer) {
        if (j->is_defer)
            return j->masked ? COIR_AT_FINALIZER : COIR_AT_DEFER;
        if (j->raising)
            return COIR_AT_CLEANUP;
        if (j->masked || !job_is_inner(j))
            return COIR_AT_JOB;
    }
    return !worker_here() && runtime_here() ? COIR_AT_OFFLOAD : COIR_AT_THREAD;
}

const char *job_domain(const struct job *j)
{
    const struct scope *s = j ? j->scope : NULL;

    for (; j; j = j->is_try ? j->outer : NULL)
        if (j->masked)
            return j->name;
    return s ? s->domain->name : "";
}

static uint32_t resumes_of(struct job *j)
{
    struct worker *w = worker_here();

    j = j && w ? job_proper(j) : NULL;
    return j && !j->is_try ? (uint32_t)(fiber_generation(w->current) - fiber_generation_of(j->born)) : 0;
}

void job_failure(struct job *j, coir_failure *f, int outcome, enum coir_kind kind)
{
    struct worker *w = worker_here();
    struct coir_runtime *rt = runtime_here();

    record_new(f);
    f->job = j ? job_id(j) : 0;
    f->kind = (int)kind;
    f->outcome = outcome;
    f->worker = w ? (int)w->index : -1;
    f->location = (int)location_of(j);
    f->resumes = resumes_of(j);
    f->runtime = rt ? rt->number : 0;
}

/* The option that says a panic that comes to j's boundary ends the process, or NULL. */
static const char *aborting_option(const struct coir_runtime *rt, const struct job *j)
{
    if (rt && rt->options.panic == COIR_PANIC_ABORT)
        return "panic";
    return rt && rt->options.defer_panic == COIR_PANIC_ABORT && j->is_defer ? "defer_panic" : NULL;
}

static void keep_trace(struct coir_runtime *rt, struct wreck *k, const struct trace *t)
{
    k->failure.backtrace = k->failure.id;
    records_trace(&rt->records, k->failure.id, t->pc, t->count);
}

void job_keep_trace(struct job *j)
{
    struct wreck *k = j->wreck;
    struct coir_runtime *rt;

    if (!k->tracing)
        return;
    k->tracing = false;
    rt = runtime_here();
    if (!rt)
        return; /* a cleanup has forked, and this is the fork */
    keep_trace(rt, k, &k->trace);
}

/* A forced unwind collects them itself, and nobody misses them meanwhile but the host's code, which is told now. */
static void begin_trace(struct coir_runtime *rt, struct job *j, const void *frame)
{
    struct wreck *k = j->wreck;

    k->tracing = rt && frame && rt->options.backtrace;
    if (LIKELY(!k->tracing))
        return;
    trace_begin(&k->trace, frame);
    if (rt->options.panic_hook || rt->metered || k->failure.kind != COIR_KIND_PANIC) {
        trace_walk(&k->trace, j);
        job_keep_trace(j);
    }
}

static ALWAYS_INLINE void tell_panic(struct job *j, const char *text, const void *frame, const struct trace *walked)
{
    struct wreck *k = j->wreck;
    coir_failure *f = &k->failure;
    struct coir_runtime *rt = runtime_here();
    const char *option = aborting_option(rt, j);
    int untold;

    j->raising = true; /* before the host's code runs, which might panic */
    k->watched = false;
    untold = report_keep(rt, f, text, job_domain(j));
    begin_trace(rt, j, frame);
    if (walked && rt && rt->options.backtrace)
        keep_trace(rt, k, walked);
    hostcall_panic_hook(rt, f);
    report_failure(rt, f, text, untold);
    hostcall_panicked(rt, f);
    if (option)
        fatal("a panic aborts (options.%s): %s:%d: %s", option, f->file ? f->file : "?", f->line, text);
}

void job_panicked(struct job *j, const char *text, const void *frame)
{
    tell_panic(j, text, frame, NULL);
}

void job_faulted(struct job *j, const char *text, const struct trace *walked)
{
    tell_panic(j, text, NULL, walked);
}

int job_failed(struct job *j)
{
    coir_failure *f = &j->wreck->failure;

    if (f->kind != COIR_KIND_FAIL) {
        job_failure(j, f, COIR_FAILED, COIR_KIND_FAIL);
        f->code = j->code;
        snprintf(f->message, sizeof f->message, "failed; a panic of it was swallowed");
    }
    return COIR_FAILED;
}

int job_panicked_at_return(struct job *j, enum coir_kind kind, const char *text)
{
    coir_failure *f = &job_wreck(j)->failure;

    job_failure(j, f, COIR_PANICKED, kind);
    snprintf(f->message, sizeof f->message, "%s", text);
    job_panicked(j, f->message, NULL);
    j->raising = false;
    return COIR_PANICKED;
}

/* ---------------------------------------------------------------- counters in the job's frames */

/* The job in whose frames an address lies; frame is an address below them all. A coir_try shares
 * the stack with the job around it; a clean-up has one of its own, and knows where the job's ends. */
struct job *job_around(struct job *j, uintptr_t address, uintptr_t frame)
{
    for (; j; j = j->is_try ? j->outer : NULL) {
        if (address >= frame && address < (uintptr_t)j)
            return j;
        frame = j->apart ? j->raised_at : (uintptr_t)j;
    }
    return NULL;
}

void job_adopt_slowly(struct job *j, struct counter *c, uintptr_t frame)
{
    struct job *owner = job_around(j, (uintptr_t)c, frame);

    if (owner && counter_owner(c) != owner)
        job_own(owner, c);
}

bool job_owns(const struct job *j, struct counter *c)
{
    for (; j; j = j->is_try ? j->outer : NULL)
        if (counter_owner(c) == j)
            return true;
    return false;
}

void job_share_local(struct counter *c)
{
    if (!counter_owner(c) || job_owns(*job_slot(), c))
        counter_share(c);
}

/* By address only: the counter may be memory that was never written (coir_counter_init). */
void job_disown_slowly(struct job *j, struct counter *c)
{
    for (; j; j = j->is_try ? j->outer : NULL)
        for (struct counter **at = &j->owned; *at; at = &(*at)->next_owned)
            if (*at == c) {
                *at = c->next_owned;
                counter_set_owner(c, NULL);
                c->next_owned = NULL;
                return;
            }
}

void job_lost_counter(void)
{
    fatal("a counter left its frame while jobs were spawned on it and before a wait ended it");
}

/* A monitor in the frames that go, or further up, owes units to counters there: who waits for these ends it first. */
static void end_monitors(struct job *j, struct held *list)
{
    struct held *next;

    for (struct held *h = list; h; h = next) {
        const void *owed = h->kind->owed_to ? h->kind->owed_to(h) : NULL;
        const struct counter *c = j->owned;

        next = h->next;
        while (c && c != owed)
            c = c->next_owned;
        if (owed && c)
            h->kind->leave(h, LEAVE_ENDED);
    }
}

void job_settle_owned(struct job *j, uintptr_t frame)
{
    struct counter *c;

    for (struct job *in = j->owned ? j : NULL; in; in = in->is_try ? in->outer : NULL)
        end_monitors(j, in->held);
    for (c = j->owned; c; c = c->next_owned) {
        if ((uintptr_t)c < frame || (uintptr_t)c >= (uintptr_t)j || counter_owner(c) != j)
            job_lost_counter();
        if (counter_is_local(c))
            counter_share(c);
        if (counter_look(c) < 0)
            job_ops_set()->cancel(c, COIR_CANCEL_OWNER);
    }
    while ((c = j->owned)) {
        bool apart = counter_set_apart(c); /* what is owed by hand may be for a cleanup to release, or for nobody */

        job_ops_set()->join(c);
        if (apart)
            counter_put_back(c);
        job_disown(j, c);
    }
}

void job_tell_locks(struct job *j, uintptr_t frame)
{
    for (struct held *h = j->held; h; h = h->next)
        h->kind->leave(h, LEAVE_RAISED);
    j->raised_at = frame;
}

/* Each takes itself out of the list, and may be freed then. */
void job_leave_locks(struct job *j, uintptr_t end)
{
    struct held *next;

    for (struct held *h = j->held; h; h = next) {
        next = h->next;
        if ((uintptr_t)h >= j->raised_at && (uintptr_t)h < end)
            h->kind->leave(h, LEAVE_ENDED);
    }
}

void job_end_awaited(struct job *j, uintptr_t frame)
{
    if (atomic_load_explicit(&runtimes_pending, memory_order_relaxed)) /* what its children have left happened before */
        job_ops_set()->end_awaited(j, frame);
}

void job_raised(struct job *j, uintptr_t frame)
{
    job_tell_locks(j, frame);
    job_settle_owned(j, frame);
    job_end_awaited(j, frame);
}
