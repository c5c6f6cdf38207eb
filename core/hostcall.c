/* SPDX-License-Identifier: MIT */
/*
 * hostcall.c - calls of the host's code at places where nothing may suspend or panic.
 *
 * Such code is trusted, and checked where that costs nothing: while it runs the worker's spare
 * stack is put away, so that a park comes to the slow path of worker_park_begin, which knows
 * better; a yield is found out on return by the fiber's generation; a panic asks hostcall_name.
 */
#include "hostcall.h"

static __thread const char *thread_call; /* of a thread that is no worker */

/* What is put away during a call. Calls nest: a hook may spawn, and spawning is measured. */
struct hostcall {
    struct worker *worker;
    struct fiber *spare;
    uint64_t generation;
    const char *outer;
};

const char *hostcall_name(void)
{
    struct worker *w = worker_here();

    return w ? w->hostcall : thread_call;
}

static void begin(struct hostcall *h, const char *name)
{
    struct worker *w = worker_here();

    *h = (struct hostcall){.worker = w, .outer = hostcall_name()};
    if (!w) {
        thread_call = name;
        return;
    }
    h->spare = w->spare;
    h->generation = fiber_generation(w->current);
    w->spare = NULL;
    w->hostcall = name;
}

static void end(const struct hostcall *h, const char *name)
{
    struct worker *w = worker_self();

    if (w != h->worker || (w && fiber_generation(w->current) != h->generation))
        fatal("%s must not suspend", name);
    if (!w) {
        thread_call = h->outer;
        return;
    }
    w->spare = h->spare;
    w->hostcall = h->outer;
}

void hostcall_panic_hook(struct coir_runtime *rt, const coir_failure *f)
{
    static const char name[] = "the panic hook";
    struct hostcall h;

    if (!rt || !rt->options.panic_hook)
        return;
    begin(&h, name);
    rt->options.panic_hook(f, rt->options.panic_hook_arg);
    end(&h, name);
}

static void call_log(const struct host *h, enum coir_log_level level, const char *text)
{
    static const char name[] = "the log callback";
    struct hostcall call;

    begin(&call, name);
    h->log(level, text, h->log_arg);
    end(&call, name);
}

void hostcall_guard_log(struct host *h)
{
    h->call_log = call_log;
}

/* ------------------------------------------------------------------------------------- metrics */

#define METRIC(rt, callback, ...)                                                                  \
    do {                                                                                           \
        static const char name[] = "the metrics callback \"" #callback "\"";                       \
        const coir_metrics *m = &(rt)->metrics;                                                    \
        struct hostcall h;                                                                         \
                                                                                                   \
        if (m->callback) {                                                                         \
            begin(&h, name);                                                                       \
            m->callback(m->arg, __VA_ARGS__);                                                      \
            end(&h, name);                                                                         \
        }                                                                                          \
    } while (0)

void hostcall_spawned(struct coir_runtime *rt, size_t jobs)
{
    METRIC(rt, spawned, jobs);
}

void hostcall_completed(struct coir_runtime *rt, int outcome, int64_t ns)
{
    METRIC(rt, completed, outcome, ns);
}

void hostcall_cancel_requested(struct coir_runtime *rt, enum coir_cancel cause)
{
    METRIC(rt, cancel_requested, (int)cause);
}

void hostcall_drained(struct coir_runtime *rt, int64_t ns, int status)
{
    METRIC(rt, drained, ns, status);
}

void hostcall_deadline_set(struct coir_runtime *rt, int64_t deadline)
{
    if (deadline != COIR_NEVER)
        METRIC(rt, deadline_set, deadline);
}

void hostcall_deadline_exceeded(struct coir_runtime *rt, int64_t deadline)
{
    METRIC(rt, deadline_exceeded, deadline);
}

void hostcall_panicked(struct coir_runtime *rt, const coir_failure *f)
{
    if (rt)
        METRIC(rt, panicked, f);
}

void hostcall_domain_opened(struct coir_runtime *rt, const char *domain)
{
    METRIC(rt, domain_opened, domain);
}

void hostcall_domain_closed(struct coir_runtime *rt, const char *domain)
{
    METRIC(rt, domain_closed, domain);
}

void hostcall_domain_drained(struct coir_runtime *rt, const char *domain, int64_t ns, int status)
{
    METRIC(rt, domain_drained, domain, ns, status);
}

void hostcall_domain_tripped(struct coir_runtime *rt, const char *domain, uint64_t failure)
{
    METRIC(rt, domain_tripped, domain, failure);
}

void hostcall_obligation_taken(struct coir_runtime *rt, const char *what)
{
    METRIC(rt, obligation_taken, what);
}

void hostcall_obligation_discharged(struct coir_runtime *rt, const char *what)
{
    METRIC(rt, obligation_discharged, what);
}

void hostcall_obligation_leaked(struct coir_runtime *rt, const char *what)
{
    METRIC(rt, obligation_leaked, what);
}

void hostcall_deadline_warned(struct coir_runtime *rt, int64_t deadline)
{
    METRIC(rt, deadline_warned, deadline);
}

void hostcall_checkpoint(struct worker *w, int64_t ns)
{
    METRIC(w->runtime, checkpoint, w->index, ns);
}

void hostcall_stuck(struct coir_runtime *rt, const coir_job_info *job, int64_t ns)
{
    METRIC(rt, stuck, job, ns);
}

void hostcall_tick(struct worker *w)
{
    METRIC(w->runtime, tick, w->index, deque_count(&w->deque));
}
