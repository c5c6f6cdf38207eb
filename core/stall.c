/* SPDX-License-Identifier: MIT */
/*
 * stall.c - watches the workers from a thread of its own, if options ask for it.
 *
 * Why a thread: sleeping workers look in on busy ones, but when a stall hurts most nobody sleeps.
 *
 * A stall costs the job that stalls nothing until it is looked at. A worker counts its turns, its jobs
 * that ended and its switches anyway, and one of these moves between any two jobs and at every suspension: if all are
 * the same as a while ago, and the worker is not asleep, it has been in one job all that time. After
 * half of the job's limit it is asked to yield (coir_checkpoint), after all of it it is named, with an
 * answer of its own (probe.c). What is queued behind it can be stolen, as always.
 *
 * The limit is the domain's, or options.stall_ns. How often to look tells the shortest that is open
 * (stall_limit.c); whether a job has come to its own tells its record, read while it runs (peek.c), and in
 * the end the job itself. So a job of a patient domain gets no signal for the sake of others.
 *
 * Deadlocks are looked for when the last worker sleeps, and each second, if a fiber has parked since.
 */
#include "stall.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cpus.h"
#include "deadlock.h"
#include "hostcall.h"
#include "probe.h"
#include "stall_limit.h"
#include "wait.h"

#define LOOK_MAX_NS (100 * COIR_MS)   /* between two looks at the workers, at most */
#define LOOKS_PER_STALL 4
#define ANSWER_NS COIR_SEC            /* a worker has this long to say where it is: others may have its processor */
#define DEADLOCK_NS COIR_SEC          /* between two looks for deadlocks, if no idle worker asks */
#define DEADLOCK_MIN_NS (10 * COIR_MS) /* and if one does */
#define DEADLOCK_SHARE 20             /* no more than one part in so many of the time is spent on it */

/* What is known of one worker. */
struct watched {
    struct progress at;
    int64_t since;   /* it has been there */
    bool asked, named, stalled; /* the last: it was named while it ran a job */
    struct probe probe;
};

/* What has been said of a runtime in which nothing can run. */
enum told { TOLD_NOTHING, TOLD_REST, TOLD_MISSING };

struct stall {
    struct coir_runtime *rt;
    int signal;              /* 0: stalls are not watched */
    bool has_thread;
    pthread_t thread;
    _Atomic uint32_t word;   /* a futex: bumped to end a sleep */
    _Atomic bool stopping;
    _Atomic bool all_idle;   /* the last worker has gone to sleep since the last look */

    int64_t looked, next_look; /* for deadlocks: when, and not before; this and what follows is the thread's own */
    uint64_t parks;          /* of all workers, at that look */
    uint64_t told;           /* the cycles that were logged last */
    int64_t unowed_since;    /* waits that nobody can end, with these parks; 0: none */
    enum told unowed_told;   /* of these waits */
    uint64_t rest_told;      /* the waits that were told as rest last */
    struct watched worker[]; /* one for each */
};

/* ------------------------------------------------------------------------------------ in words */

/* "name+0x12 in file", as far as it is known. */
static void describe(uintptr_t pc, char *text, size_t bytes)
{
    Dl_info info;

    if (!dladdr((void *)pc, &info) || !info.dli_fname)
        snprintf(text, bytes, "?");
    else if (info.dli_sname)
        snprintf(text, bytes, "%s+0x%zx in %s", info.dli_sname, (size_t)(pc - (uintptr_t)info.dli_saddr),
                 info.dli_fname);
    else
        snprintf(text, bytes, "%s+0x%zx", info.dli_fname, (size_t)(pc - (uintptr_t)info.dli_fbase));
}

static const char *or_unnamed(const char *name)
{
    return name && *name ? name : "unnamed";
}

static void log_job(struct stall *s, enum coir_log_level level, const char *what, const coir_job_info *j)
{
    char fn[256], since[64] = "", place[256] = "?";

    describe((uintptr_t)j->fn, fn, sizeof fn);
    if (j->place)
        describe((uintptr_t)j->place - 1, place, sizeof place); /* the next line may be another's */
    if (j->since)
        snprintf(since, sizeof since, ", since %lld ms", (long long)((coir_now() - j->since) / COIR_MS));
    host_log(&s->rt->host, level, "%s: job %llu (%s, %s) waits for %s %p at %s%s", what,
             (unsigned long long)j->job, or_unnamed(j->name), fn, j->waits_for, j->waits_on, place, since);
}

/* ------------------------------------------------------------------------------------- stalls */

static void log_stall(struct stall *s, struct worker *w, const coir_job_info *j, int64_t ns)
{
    coir_job_info told = *j;
    char fn[256];

    told.worker = (int)w->index;
    describe((uintptr_t)j->fn, fn, sizeof fn);
    hostcall_stuck(s->rt, &told, ns);
    host_log(&s->rt->host, COIR_LOG_WARNING,
             "stall: worker %u is in job %llu (%s, %s), which has not suspended for %lld ms", w->index,
             (unsigned long long)j->job, or_unnamed(j->name), fn, (long long)(ns / COIR_MS));
    atomic_fetch_add_explicit(&s->rt->stalls, 1, memory_order_relaxed); /* a figure */
    s->worker[w->index].stalled = true;
}

static void log_frames(struct stall *s, const struct probe *p)
{
    char place[384];

    for (unsigned i = 0; i < p->frames; i++) {
        describe(p->pc[i] - (i > 0), place, sizeof place); /* a return address may be another line's */
        host_log(&s->rt->host, COIR_LOG_WARNING, "stall:   #%u %p %s", i, (void *)p->pc[i], place);
    }
}

/* The worker did not answer: what can be seen from outside. */
static void name_silent(struct stall *s, struct worker *w, const struct watched *v, int64_t ns)
{
    struct peek p;

    if (!peek_worker(w, &p) || !progress_same(p.at, v->at))
        return;
    log_stall(s, w, &(coir_job_info){.job = p.job[0].id, .fn = p.job[0].fn}, ns);
    host_log(&s->rt->host, COIR_LOG_WARNING, "stall:   no backtrace: its thread takes no signal now");
}

/* It may have gone on meanwhile: then it is not named. False: another job of its stack has gone on, whose
 * limit is longer. */
static bool name(struct stall *s, struct worker *w, const struct watched *v)
{
    int64_t now = coir_now(), ns = now - v->since;
    const struct probe *p = w->probe;

    if (!probe_ask(w, s->signal, now + ANSWER_NS)) {
        name_silent(s, w, v, ns);
    } else if (p->fn && progress_same(p->at, v->at)) {
        if (ns < p->stall_ns)
            return false;
        log_stall(s, w, &(coir_job_info){.job = p->job, .name = p->name, .fn = p->fn}, ns);
        log_frames(s, p);
    }
    return true;
}

/* The limit of the job that the worker is in; the runtime's own, if it has gone on. */
static int64_t limit_of(struct worker *w, const struct watched *v)
{
    struct peek p;

    if (!peek_worker(w, &p) || !progress_same(p.at, v->at))
        return w->runtime->options.stall_ns;
    return p.job[0].stall_ns;
}

static void look_at(struct stall *s, struct worker *w, struct watched *v)
{
    struct progress at = peek_progress(w);
    int64_t now = coir_now(), limit;
    bool awake = atomic_load_explicit(&w->busy_tick, memory_order_relaxed) != 0; /* a hint */

    if (!awake || !progress_same(at, v->at)) {
        v->at = at;
        v->since = now;
        v->asked = v->named = v->stalled = false;
        return;
    }
    if (v->named || now - v->since < stall_limit_least(s->rt) / 2)
        return;
    limit = limit_of(w, v);
    if (!v->asked && now - v->since >= limit / 2) {
        v->asked = true;
        worker_ask(w, ASK_YIELD);
    }
    if (now - v->since >= limit)
        v->named = name(s, w, v);
}

/* ----------------------------------------------------------------------------------- deadlocks */

static uint64_t sum_parks(struct coir_runtime *rt)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < rt->worker_count; i++)
        sum += tally_read(&rt->worker[i]->parks);
    return sum;
}

/* The same cycles are told once, though other fibers park and the look is repeated; or the other waits. */
static uint64_t signature(const coir_deadlock *d, bool cycles)
{
    uint64_t sum = cycles ? d->cycles : d->unowed;

    for (unsigned i = 0; i < d->count; i++)
        if (!d->waits[i].cycle != cycles)
            sum = sum * 31 + d->waits[i].job.job;
    return sum;
}

static void tell_cycles(struct stall *s, const coir_deadlock *d)
{
    if (signature(d, true) == s->told && d->failed == 0)
        return;
    s->told = signature(d, true);
    host_log(&s->rt->host, COIR_LOG_WARNING, "deadlock: %llu cycle%s, %llu fiber%s can never go on%s",
             (unsigned long long)d->cycles, plural(d->cycles), (unsigned long long)d->stuck, plural(d->stuck),
             d->failed ? "; the newest wait of each is failed" : "");
    for (unsigned i = 0; i < d->count; i++)
        if (d->waits[i].cycle)
            log_job(s, COIR_LOG_WARNING, "deadlock", &d->waits[i].job);
}

/* If something outside may submit to the runtime, or has been seen to let its fibers go, it may rest. */
static enum told worth_telling(const struct stall *s)
{
    bool outside = (runtime_flag(&s->rt->known) && !runtime_flag(&s->rt->draining)) ||
                   atomic_load_explicit(&s->rt->signaled, memory_order_relaxed); /* a hint */

    return outside ? TOLD_REST : TOLD_MISSING;
}

static void log_unowed(struct stall *s, const coir_deadlock *d)
{
    bool outside = s->unowed_told == TOLD_REST;
    enum coir_log_level level = outside ? COIR_LOG_INFO : COIR_LOG_WARNING;

    host_log(&s->rt->host, level, "nothing can run: %llu fiber%s for %s", (unsigned long long)d->unowed,
             d->unowed == 1 ? " waits" : "s wait",
             outside ? "something outside of this runtime" : "what nobody is known to give");
    for (unsigned i = 0; i < d->count; i++)
        if (!d->waits[i].cycle)
            log_job(s, level, "nothing can run", &d->waits[i].job);
}

/* A plain thread may be about to signal; one that has not for a second is worth a line. */
static void tell_unowed(struct stall *s, const coir_deadlock *d, int64_t now)
{
    if (d->unowed == 0) {
        s->unowed_since = 0;
        return;
    }
    s->unowed_since = s->unowed_since ? s->unowed_since : now;
    if (s->unowed_told >= worth_telling(s) || now - s->unowed_since < DEADLOCK_NS)
        return;
    s->unowed_told = worth_telling(s);
    if (s->unowed_told == TOLD_REST && s->rest_told == signature(d, false))
        return; /* the same jobs wait for the next request */
    s->rest_told = signature(d, false);
    log_unowed(s, d);
}

static void look_for_deadlocks(struct stall *s)
{
    struct coir_runtime *rt = s->rt;
    uint64_t parks = sum_parks(rt);
    int64_t now = coir_now(), spent;
    bool news = parks != s->parks; /* else there is no new cycle, but all that ran may have come to rest */
    struct deadlock_names names;
    coir_deadlock d;

    s->looked = now;
    if (news) {
        s->unowed_since = 0;
        s->unowed_told = TOLD_NOTHING;
    } else if (s->unowed_told && s->unowed_told >= worth_telling(s)) {
        return;
    }
    switch (deadlock_check(rt, news && rt->options.deadlock == COIR_DEADLOCK_FAIL_NEWEST, &d, &names)) {
    case COIR_ENOMEM:
        host_log(&rt->host, COIR_LOG_WARNING, "no memory to look for deadlocks");
        return; /* and try again */
    case COIR_EDEADLK:
        if (news)
            tell_cycles(s, &d);
    }
    s->parks = parks;
    tell_unowed(s, &d, now);
    spent = (coir_now() - now) * DEADLOCK_SHARE;
    s->next_look = now + (spent > DEADLOCK_MIN_NS ? spent : DEADLOCK_MIN_NS);
}

static void wake(struct stall *s)
{
    atomic_fetch_add_explicit(&s->word, 1, memory_order_release); /* WORD */
    futex_wake(&s->word, 1);
}

/* Somebody has opened a domain whose limit is shorter than all others. */
static void on_sooner(struct coir_runtime *rt)
{
    wake(rt->stall);
}

/* A worker that is idle, the last of them. */
static void on_all_idle(struct coir_runtime *rt)
{
    struct stall *s = rt->stall;

    if (atomic_exchange_explicit(&s->all_idle, true, memory_order_relaxed)) /* a hint, told once */
        return;
    wake(s);
}

/* ------------------------------------------------------------------------------------ the thread */

static int64_t look_interval(const struct stall *s)
{
    int64_t ns = s->signal ? stall_limit_least(s->rt) / LOOKS_PER_STALL : COIR_SEC;

    return s->signal && ns > LOOK_MAX_NS ? LOOK_MAX_NS : ns;
}

/* When a look for deadlocks is due. */
static int64_t deadlock_due(struct stall *s)
{
    if (s->rt->options.deadlock == COIR_DEADLOCK_NONE)
        return COIR_NEVER;
    if (atomic_load_explicit(&s->all_idle, memory_order_relaxed)) /* a hint */
        return s->next_look;
    return s->next_look > s->looked + DEADLOCK_NS ? s->next_look : s->looked + DEADLOCK_NS;
}

static void look_at_all(struct stall *s)
{
    int64_t earliest = 0;

    for (unsigned i = 0; s->signal && i < s->rt->worker_count; i++) {
        struct watched *v = &s->worker[i];

        look_at(s, s->rt->worker[i], v);
        if (v->stalled && (!earliest || v->since < earliest))
            earliest = v->since;
    }
    atomic_store_explicit(&s->rt->stalled_since, earliest, memory_order_relaxed); /* a figure */
}

static void *watch(void *arg)
{
    struct stall *s = arg;

    while (!atomic_load_explicit(&s->stopping, memory_order_acquire)) { /* WORD */
        uint32_t seen = atomic_load_explicit(&s->word, memory_order_acquire); /* WORD */
        int64_t until = coir_now() + look_interval(s), due = deadlock_due(s);

        if (due <= coir_now()) {
            atomic_store_explicit(&s->all_idle, false, memory_order_relaxed); /* a hint */
            look_for_deadlocks(s);
            continue;
        }
        if (!atomic_load_explicit(&s->stopping, memory_order_acquire)) /* WORD */
            futex_wait(&s->word, seen, due < until ? due : until);
        look_at_all(s);
    }
    return NULL;
}

int stall_open(struct coir_runtime *rt)
{
    const coir_options *o = &rt->options;
    struct stall *s;
    int status = COIR_OK;

    if (!o->stall_ns && o->deadlock == COIR_DEADLOCK_NONE)
        return COIR_OK;
    s = mem_alloc(&rt->host, sizeof *s + o->workers * sizeof *s->worker);
    if (!s)
        return COIR_ENOMEM;
    s->rt = rt;
    if (o->stall_ns) {
        s->signal = o->stall_signal ? o->stall_signal : SIGURG;
        status = probe_open(s->signal);
    }
    if (status != COIR_OK) {
        host_log(&rt->host, COIR_LOG_ERROR, "options.stall_signal %d cannot be had: %s", s->signal,
                 strerror(-status));
        mem_free(&rt->host, s);
        return status;
    }
    atomic_store_explicit(&rt->stall_least, o->stall_ns, memory_order_relaxed); /* nobody looks yet */
    rt->stall_sooner = on_sooner;
    rt->all_idle = o->deadlock != COIR_DEADLOCK_NONE ? on_all_idle : NULL;
    rt->stall = s;
    return COIR_OK;
}

void stall_thread_open(struct worker *w)
{
    struct stall *s = w->runtime->stall;

    if (!s || !s->signal)
        return;
    w->probe = &s->worker[w->index].probe;
    probe_thread_open(s->signal);
}

int stall_start(struct coir_runtime *rt)
{
    struct stall *s = rt->stall;
    char name[16];
    sigset_t before;
    int error;

    if (!s)
        return COIR_OK;
    thread_block_signals(&before);
    error = pthread_create(&s->thread, NULL, watch, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        host_log(&rt->host, COIR_LOG_ERROR, "the watcher could not be started: %s", strerror(error));
        return COIR_EAGAIN;
    }
    s->has_thread = true;
    snprintf(name, sizeof name, "%.9s/watch", rt->options.name);
    pthread_setname_np(s->thread, name);
    return COIR_OK;
}

void stall_stop(struct coir_runtime *rt)
{
    struct stall *s = rt->stall;

    if (!s || !s->has_thread)
        return;
    atomic_store_explicit(&s->stopping, true, memory_order_release); /* WORD */
    wake(s);
    pthread_join(s->thread, NULL);
    s->has_thread = false;
}

/* No worker runs any more. */
void stall_close(struct coir_runtime *rt)
{
    struct stall *s = rt->stall;

    if (!s)
        return;
    if (s->signal)
        probe_close(s->signal);
    mem_free(&rt->host, s);
    rt->stall = NULL;
}

/* ------------------------------------------------------------------------------------ checkpoint */

/* For the metrics: how long ago the same job has asked, unless it has suspended since. */
static void measure(struct worker *w)
{
    struct progress at = peek_progress(w), last = {w->checked.turns, w->checked.switches};
    int64_t now = coir_now();

    worker_ask(w, ASK_MEASURE); /* next time, too */
    if (w->checked.at && progress_same(at, last))
        hostcall_checkpoint(w, now - w->checked.at);
    w->checked.at = now;
    w->checked.turns = at.turns;
    w->checked.switches = at.switches;
}

static COLD int heed(struct worker *w)
{
    uint32_t asked = atomic_exchange_explicit(&w->asked, 0, memory_order_seq_cst); /* ASKED */
    struct fiber *self = w->current;
    bool canceled;

    fence_full(); /* ASKED: what arrive wrote over asks no more, but its flag is seen by jobs that start later */
    canceled = self->job && job_canceled(w->runtime, self->job);
    if (UNLIKELY(w->runtime->metrics.checkpoint != NULL) && self->job)
        measure(w);
    if (!canceled && asked & ASK_YIELD && self->job) {
        w->look_outside = true; /* those who have waited long may be in the injector, or wait for a deadline */
        worker_yield(worker_of(self));
        canceled = job_canceled(self->runtime, self->job);
    }
    if (canceled)
        worker_ask(worker_of(self), ASK_LOOK); /* whoever asks next on this worker may be canceled too */
    return canceled ? COIR_ECANCELED : COIR_OK;
}

int coir_checkpoint(void)
{
    struct worker *w = worker_here();

    if (LIKELY(!w || !atomic_load_explicit(&w->asked, memory_order_relaxed))) /* ASKED, heed orders */
        return COIR_OK;
    return heed(w);
}
