/* SPDX-License-Identifier: MIT */
/*
 * lab.c - a program as an experiment: one worker, whose order, time and mishaps follow from a seed.
 *
 * Owns: the dice, the clock, and the notion of the end: nothing can run and no deadline is left.
 *
 * What a program sees of chance in a runtime is who runs next, how late a deadline is noticed, what fails
 * and what time it is. Each of these is a throw of the dice here, and each throw goes into a digest. So
 * two runs with the same seed and the same digest did the same; and since nothing else decides, a seed
 * that fails once fails always.
 *
 * Invariants
 *   X1  The dice are thrown on the worker only, from the first job's start until the end.
 *   X2  Between two throws the program runs alone: jobs switch only where they may suspend.
 *   X3  Time stands still but for turns and readings of the clock by jobs (a microsecond each, or a loop that waits
 *       for a time, or for who sleeps, would never end) and when nothing can run: then it is the earliest deadline.
 *
 * Order: the worker is told before each turn to look outside (worker->look_outside), which is where the
 * scheduler asks `find` and where it neither switches directly nor goes on with the jobs of a batch. And no fiber
 * runs its children in place (fiber->in_place).
 *
 * Why not threads that take turns: a preemptive schedule shows races of the program's own shared memory, too,
 * but needs each access to be seen. ThreadSanitizer does that; what fibers add are suspensions.
 */
#include <stdlib.h>
#include <time.h>

#include "books.h"
#include "batch.h"
#include "options.h"
#include "receipt.h"
#include "runtime.h"
#include "wait.h"

#define BEGIN_NS COIR_SEC        /* what the clock says at first: deadlines of 0 are in the past */
#define LAST_NS (COIR_NEVER / 2) /* what is due after 146 years never is: the clock would overflow */
#define READING_NS COIR_US       /* what a job's look at the clock takes */
#define TURN_NS COIR_US          /* what a turn takes */
#define OUTSIDE_NS (50 * COIR_US) /* between looks at what goes on outside, in real time */
#define CANCELED_NS (10 * COIR_SEC) /* of real time for jobs that were canceled at the end: the machine may be busy */
#define MILLION 1000000
#define CANDIDATES 8             /* ready fibers, and jobs of the deque, that the dice choose from */
#define DELAY_NS COIR_MS
#define DELAY_MAX_NS (INT64_C(365) * 86400 * COIR_SEC)

enum event { LAB_PICK = 1, LAB_ROTATE, LAB_TIMERS, LAB_PANIC, LAB_DELAY, LAB_DELAY_NS, LAB_NOMEM, LAB_TIME,
             LAB_DRAW };

struct lab {
    struct lab_ops ops; /* first: what the runtime knows of it */
    coir_lab set;       /* defaults filled in */
    coir_lab_report report;
    uint64_t random;
    int64_t now;
    bool begun, over;
    coir_counter end;   /* one unit, released when the experiment is over */
    coir_counter first; /* owed by the first job */
    void *(*alloc)(size_t bytes, void *arg); /* the caller's, or the system's */
    void (*free)(void *memory, void *arg);
    void *alloc_arg;
};

static struct lab *lab_of(const struct worker *w)
{
    return (struct lab *)(void *)w->runtime->lab;
}

/* -------------------------------------------------------------------------------------- dice */

/* FNV-1a, a word at a time (Fowler, Noll, Vo, 1991). */
static void note(struct lab *l, enum event event, uint64_t value)
{
    l->report.digest = (l->report.digest ^ (value << 4 | event)) * UINT64_C(0x100000001b3);
}

/* 0 to n - 1; 0 after the end. SplitMix64 (Steele, Lea, Flood, 2014): any seed will do. */
static uint64_t choose(struct lab *l, enum event event, uint64_t n)
{
    uint64_t z;

    if (l->over)
        return 0;
    z = l->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z = (z ^ z >> 31) % n;
    note(l, event, z);
    l->report.choices++;
    return z;
}

/* For a select, a jitter: what the library leaves to chance. */
static uint64_t lab_draw(struct worker *w, uint64_t n)
{
    return choose(lab_of(w), LAB_DRAW, n);
}

static bool strikes(struct lab *l, enum event event, unsigned ppm)
{
    return ppm && !l->over && choose(l, event, MILLION) < ppm;
}

/* -------------------------------------------------------------------------------------- clock */

static int64_t lab_now(void)
{
    struct worker *w = worker_here();

    if (!w) { /* the thread has left its loop */
        thread_clock = NULL;
        return coir_now();
    }
    if (w->current->job)
        lab_of(w)->now += READING_NS;
    return lab_of(w)->now;
}

static void pass_time(struct lab *l, int64_t until)
{
    l->now = until > l->now ? until : l->now;
    if (!l->over)
        note(l, LAB_TIME, (uint64_t)l->now);
}

/* -------------------------------------------------------------------------------------- order */

enum source { NEWEST, OLDEST, READY, INJECTED };

/* One of the ready fibers; those before it go behind. False: who closes the runtime has taken it meanwhile. */
static bool pick_ready(struct lab *l, struct worker *w, struct next *n)
{
    uint64_t count = (uint64_t)ring_count(&w->ring);
    struct link *e;

    count = count < 1 ? 1 : count < CANDIDATES ? count : CANDIDATES; /* it may all be in the list */
    for (uint64_t behind = choose(l, LAB_ROTATE, count); behind && (e = ring_take(&w->ring)); behind--)
        ring_push(&w->ring, e);
    n->fiber = find_ready(w);
    return n->fiber != NULL;
}

/* One of the oldest jobs; those before it become the newest. */
static bool pick_old(struct lab *l, struct worker *w, struct next *n)
{
    uint64_t count = deque_count(&w->deque);
    uint64_t ahead = choose(l, LAB_ROTATE, count < CANDIDATES ? count : CANDIDATES);

    for (; ahead && deque_pop_oldest(&w->deque, &n->work, 1); ahead--)
        deque_push(&w->deque, &n->work);
    return n->has_work = deque_pop_oldest(&w->deque, &n->work, 1);
}

static bool pick_injected(struct worker *w, struct next *n)
{
    struct link *e = inject_take_fiber(&w->runtime->inject);

    if (e) {
        n->fiber = CONTAINER_OF(e, struct fiber, stack.link);
        return true;
    }
    return n->has_work = inject_take(&w->runtime->inject, &n->work, 1) > 0;
}

static bool pick(struct lab *l, struct worker *w, struct next *n)
{
    enum source source[4];
    unsigned count = 0;

    if (!deque_empty(&w->deque)) {
        source[count++] = NEWEST;
        source[count++] = OLDEST;
    }
    if (!ring_empty(&w->ring))
        source[count++] = READY;
    if (!inject_empty(&w->runtime->inject))
        source[count++] = INJECTED;
    if (!count)
        return false;
    if (!l->begun) { /* by the first job, alone; how often the worker has looked for it before is chance */
        atomic_store_explicit(&w->tick, 0, memory_order_relaxed); /* own write */
        worker_put_off_look(w);
    } else {
        l->now += TURN_NS;
    }
    l->begun = true;
    switch (source[choose(l, LAB_PICK, count)]) {
    case NEWEST:
        return n->has_work = deque_pop(&w->deque, &n->work);
    case OLDEST:
        return pick_old(l, w, n);
    case READY:
        return pick_ready(l, w, n);
    case INJECTED:
        return pick_injected(w, n);
    }
    return false;
}

/* Deadlines that have passed are noticed now or later, as by a worker that is busy. */
static bool lab_find(struct worker *w, struct next *n)
{
    struct lab *l = lab_of(w);

    thread_clock = lab_now;
    w->look_outside = true;
    if (l->begun && !choose(l, LAB_TIMERS, 2))
        find_events(w, false);
    return pick(l, w, n) || (find_events(w, true) && pick(l, w, n));
}

/* ---------------------------------------------------------------------------------------- end */

/* Whether a fiber waits for something that no job and no deadline of this runtime brings about. One that is READY
 * though nothing is queued has been let go by another thread, which is about to queue it. */
static void look_outside(struct fiber *f, void *found)
{
    const char *what = f->waits_for;

    if (fiber_is(f, FIBER_READY) ||
        (fiber_is(f, FIBER_PARKED) && !f->sleeper && what && what != wait_for_counter && what != wait_for_any &&
         what != wait_for_frame && what != wait_for_time))
        *(bool *)found = true;
}

/* Time passes: all that can run has run. After the end, too, for jobs that were canceled and wait until a time. */
static bool lab_idle(struct worker *w)
{
    const struct timespec pause = {.tv_nsec = OUTSIDE_NS};
    int64_t earliest = timers_earliest(&w->timers);
    struct lab *l = lab_of(w);
    bool outside = false;

    if (earliest > LAST_NS)
        earliest = COIR_NEVER;
    if (!l->begun || (l->over && earliest == COIR_NEVER))
        return false;
    worker_each_fiber(w->runtime, look_outside, &outside);
    if (outside) {
        nanosleep(&pause, NULL);
        pass_time(l, l->now + OUTSIDE_NS);
        return true;
    }
    if (earliest != COIR_NEVER) {
        pass_time(l, earliest);
        return true;
    }
    l->over = true;
    l->report.ns = l->now - BEGIN_NS;
    coir_counter_done(&l->end, COIR_DONE);
    return false;
}

/* ------------------------------------------------------------------------------------ mishaps */

/* A job whose turn has come, but which others overtake. */
struct late {
    coir_fn *fn;
    void *arg;
    int64_t ns;
};

static void run_late(void *arg)
{
    struct late *late = arg;
    int64_t begin = time_after(coir_now(), late->ns);

    if (begin <= LAST_NS)               /* else the mishap would be a deadlock */
        (void)!coir_sleep_until(begin); /* canceled, or no stack: then it starts now */
    late->fn(late->arg);
}

static void panic_instead(void *arg)
{
    struct lab *l = arg;

    coir_panic("lab: planned by seed %llu, panic %llu", (unsigned long long)l->set.seed,
               (unsigned long long)l->report.panics);
}

static void lab_run(struct fiber *self, const struct work *item)
{
    struct worker *w = worker_of(self);
    struct lab *l = lab_of(w);
    struct work work = *item;
    struct late late;

    if (strikes(l, LAB_PANIC, l->set.panic_ppm)) {
        l->report.panics++;
        work.fn = panic_instead;
        work.arg = l;
    } else if (strikes(l, LAB_DELAY, l->set.delay_ppm)) {
        l->report.delays++;
        late = (struct late){work.fn, work.arg,
                             (int64_t)choose(l, LAB_DELAY_NS, (uint64_t)l->set.delay_ns)};
        work.fn = run_late;
        work.arg = &late;
    }
    (w->metered ? job_run_metered : job_run)(self, &work);
}

/* What a job asks for is refused now and then; not what the runtime needs to be opened and closed. */
static void *lab_alloc(size_t bytes, void *arg)
{
    struct worker *w = worker_here();
    struct lab *l = arg;

    if (w && lab_of(w) == l && w->current->job && strikes(l, LAB_NOMEM, l->set.nomem_ppm)) {
        l->report.refused++;
        return NULL;
    }
    return l->alloc ? l->alloc(bytes, l->alloc_arg) : malloc(bytes);
}

static void lab_free(void *memory, void *arg)
{
    struct lab *l = arg;

    if (l->free)
        l->free(memory, l->alloc_arg);
    else
        free(memory);
}

/* ---------------------------------------------------------------------------------------- run */

static int set_up(struct lab *l, const coir_lab *set, const coir_options *options, coir_options *o)
{
    int status = options_copy_lab(set, &l->set);

    if (status == COIR_OK)
        status = options_copy(options, o);
    if (status != COIR_OK)
        return status;
    if (l->set.panic_ppm > MILLION || l->set.delay_ppm > MILLION || l->set.nomem_ppm > MILLION ||
        l->set.delay_ns < 0 || l->set.delay_ns > DELAY_MAX_NS || o->workers > 1)
        return COIR_ERANGE;
    if (o->stall_ns || o->deadlock) /* they watch by real time */
        return COIR_EINVAL;
    l->set.delay_ns = l->set.delay_ns ? l->set.delay_ns : DELAY_NS;
    l->random = l->report.seed = l->set.seed;
    l->report.digest = UINT64_C(0xcbf29ce484222325); /* FNV's offset basis */
    l->now = BEGIN_NS;
    l->ops = (struct lab_ops){lab_find, lab_idle, lab_run, lab_draw};
    o->size = sizeof *o;
    o->workers = 1;
    o->spin_ns = -1;
    if (l->set.nomem_ppm) {
        l->alloc = o->alloc;
        l->free = o->free;
        l->alloc_arg = o->alloc_arg;
        o->alloc = lab_alloc;
        o->free = lab_free;
        o->alloc_arg = l;
    }
    return COIR_OK;
}

/* Nothing can run, and jobs have not ended. */
static void tell_stuck(struct lab *l, struct coir_runtime *rt)
{
    coir_receipt r = {0};

    receipt_name_left(rt, &r);
    host_log(&rt->host, COIR_LOG_ERROR, "lab: nothing can run any more (seed %llu); waiting are:",
             (unsigned long long)l->set.seed);
    for (unsigned i = 0; i < r.left_count; i++)
        host_log(&rt->host, COIR_LOG_ERROR, "lab:   job %llu (%s) for %s %p", (unsigned long long)r.left[i].job,
                 r.left[i].name ? r.left[i].name : "unnamed", r.left[i].waits_for, r.left[i].waits_on);
}

/* Until nothing can run any more. One submit is all that comes from outside. */
static int experiment(struct lab *l, struct coir_runtime *rt, coir_fn *fn, void *arg)
{
    uint64_t ended[COIR_PANICKED + 1];
    int status;

    atomic_store_explicit(&rt->known, false, memory_order_relaxed); /* CLOSE; as in coir_run */
    coir_counter_add(&l->end, 1);
    status = coir_submit(rt, &l->first, fn, arg);
    if (status != COIR_OK)
        return status;
    (void)!coir_wait(&l->end); /* one unit, DONE */
    if (books_unfinished(rt, ended) == 0)
        return coir_wait(&l->first);
    tell_stuck(l, rt);
    return COIR_EDEADLK;
}

/* As coir_close. What was canceled may take more than one budget: it takes the machine's time, though none of the experiment's. */
static int close_runtime(struct coir_runtime *rt, bool stuck)
{
    int64_t end = coir_now() + CANCELED_NS;
    int status;

    do
        status = coir_close(rt, stuck ? 0 : -1, NULL);
    while (status == COIR_ETIMEDOUT && coir_now() < end);
    return status;
}

int coir_lab_run(const coir_lab *lab, const coir_options *options, coir_fn *fn, void *arg,
                 coir_lab_report *report)
{
    struct lab l = {0};
    coir_options o;
    coir_runtime *rt;
    int status, closed;

    if (!lab || !fn)
        return COIR_EINVAL;
    status = set_up(&l, lab, options, &o);
    if (status == COIR_OK)
        status = runtime_open(&o, &l.ops, &rt);
    if (status != COIR_OK)
        return status;
    status = experiment(&l, rt, fn, arg);
    closed = close_runtime(rt, status == COIR_EDEADLK);
    if (closed != COIR_OK) /* then the runtime uses our frame for ever */
        fatal("lab: a job that cannot go on does not end when it is canceled (seed %llu)",
              (unsigned long long)l.set.seed);
    if (report)
        *report = l.report;
    return status;
}
