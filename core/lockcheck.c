/* SPDX-License-Identifier: MIT */
/*
 * lockcheck.c - finds pthread mutexes that a job holds while it suspends; libcoir-debug.a only.
 *
 * A fiber that suspends with a pthread mutex may resume on another thread, which does not own it; and
 * whoever wants it meanwhile blocks a worker, perhaps the one that should run the holder. So
 * that is a bug even where it has gone well.
 *
 * The program's calls of pthread_mutex_* come here, since its own symbols go before libc's, and go on to
 * libc's. Of what is locked on a worker inside a job the place is noted; a suspend looks whether
 * something is left. What lies in the list when a job suspends was locked by that job, for another runs
 * on its worker only after a suspend, when all that was found has been told and is not looked at again.
 *
 * Owns: the list of mutexes that jobs hold, under one spin lock. An entry goes by the mutex's address, on
 * whatever thread it is unlocked. Not seen: what libc locks within itself, C11's mtx_lock, rwlocks.
 */
#include "lockcheck.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backtrace.h"
#include "text.h"

#define FRAMES 16
#define HELD_MAX 256  /* mutexes that are watched at a time; more are not */
#define PLACES_MAX 64 /* that are told */

struct taken {
    struct taken *next;
    const void *mutex;
    const struct worker *by;
    unsigned depth;   /* recursive mutexes: how often */
    bool told;
    unsigned frames;
    void *pc[FRAMES]; /* where it was locked, innermost first */
};

/* Where a mutex was taken, and where its holder suspended. */
struct place {
    const void *taken, *suspended;
};

static struct {
    struct lock lock;         /* guards all but count */
    _Atomic unsigned count;   /* of held */
    struct taken *held, *unused;
    unsigned fresh;           /* items never used begin here */
    struct taken item[HELD_MAX];
    struct place place[PLACES_MAX];
    unsigned places;
} books;

static __thread bool inside; /* what is locked on our own behalf is not watched */

/* ------------------------------------------------------------------------------- what is held */

/* Lock held. What points to the entry of a mutex, or to NULL. */
static struct taken **find(const void *mutex)
{
    struct taken **at = &books.held;

    while (*at && (*at)->mutex != mutex)
        at = &(*at)->next;
    return at;
}

/* Lock held. NULL: so many are not watched. */
static struct taken *new_item(void)
{
    struct taken *t = books.unused;

    if (t)
        books.unused = t->next;
    else if (books.fresh < HELD_MAX)
        t = &books.item[books.fresh++];
    return t;
}

static void count(int by)
{
    atomic_fetch_add_explicit(&books.count, (unsigned)by, memory_order_relaxed); /* own entries, or a hint */
}

static void add(const struct taken *as)
{
    struct taken *t;

    lock_take(&books.lock);
    t = *find(as->mutex);
    if (t) {
        t->depth++;
    } else if ((t = new_item())) {
        *t = *as;
        t->next = books.held;
        books.held = t;
        count(1);
    }
    lock_drop(&books.lock);
}

/* Locked by a job on this worker: notes where. frame: of the function that the job has called. */
static NOINLINE void note(const void *mutex, const void *frame)
{
    struct worker *w = worker_here();
    struct taken t = {.mutex = mutex, .by = w, .depth = 1};

    if (!w || w->current == &w->home || inside)
        return;
    inside = true;
    t.frames = backtrace_capture(t.pc, FRAMES, frame);
    inside = false;
    add(&t);
}

/* About to be unlocked, by whomever. all: it is destroyed. */
static void forget(const void *mutex, bool all)
{
    struct taken **at, *t;

    if (atomic_load_explicit(&books.count, memory_order_relaxed) == 0) /* own entries are seen */
        return;
    lock_take(&books.lock);
    at = find(mutex);
    t = *at;
    if (t && (all || --t->depth == 0)) {
        *at = t->next;
        t->next = books.unused;
        books.unused = t;
        count(-1);
    }
    lock_drop(&books.lock);
}

/* ------------------------------------------------------------------------------------ reports */

/* Lock held. Whether this pair of places is told now, and so for the first time. */
static bool is_news(const void *taken, const void *suspended)
{
    for (unsigned i = 0; i < books.places; i++)
        if (books.place[i].taken == taken && books.place[i].suspended == suspended)
            return false;
    if (books.places == PLACES_MAX)
        return false;
    books.place[books.places++] = (struct place){taken, suspended};
    return true;
}

static void log_frames(const struct host *host, const char *what, void *const *pc, unsigned n)
{
    char name[256];

    while (n > 1 && text_is_ours((uintptr_t)pc[n - 1]))
        n--; /* how coir called the job */
    for (unsigned i = 0; i < n; i++) {
        text_name((uintptr_t)pc[i] - 1, name, sizeof name); /* the next line may be another function's */
        host_log(host, COIR_LOG_ERROR, "lockcheck:   %s #%u %p %s", what, i, pc[i], name);
    }
}

static void report(struct worker *w, const char *what, const struct taken *t, void *const *pc, unsigned n)
{
    const struct host *host = &w->runtime->host;
    const char *policy = getenv("COIR_LOCKCHECK");

    host_log(host, COIR_LOG_ERROR, "lockcheck: pthread mutex %p is held across a suspend (%s)", t->mutex,
             what ? what : "unknown");
    log_frames(host, "taken", t->pc, t->frames);
    log_frames(host, "suspends", pc, n);
    if (policy && strcmp(policy, "abort") == 0)
        fatal("pthread mutex %p is held across a suspend", t->mutex);
}

/* A mutex of this worker's that has not been told of, copied out; it is told then. */
static bool take_untold(const struct worker *w, const void *suspended, struct taken *copy, bool *news)
{
    struct taken *t;

    lock_take(&books.lock);
    for (t = books.held; t && (t->by != w || t->told);)
        t = t->next;
    if (t) {
        t->told = true;
        *copy = *t;
        *news = is_news(t->frames ? t->pc[0] : NULL, suspended);
    }
    lock_drop(&books.lock);
    return t;
}

void lockcheck_look(struct worker *w, const char *what)
{
    void *pc[2 * FRAMES];
    unsigned n, ours = 0;
    struct taken t;
    bool news;

    if (inside || atomic_load_explicit(&books.count, memory_order_relaxed) == 0) /* own entries are seen */
        return;
    inside = true;
    n = backtrace_capture(pc, 2 * FRAMES, __builtin_frame_address(0));
    while (ours < n && text_is_ours((uintptr_t)pc[ours]))
        ours++;
    while (take_untold(w, ours < n ? pc[ours] : NULL, &t, &news))
        if (news)
            report(w, what, &t, pc + ours, n - ours);
    inside = false;
}

/* ---------------------------------------------------------------------------- instead of libc's */

#define SHOWN __attribute__((visibility("default")))

/* libc's function of this name. */
static void *next(_Atomic(void *) *known, const char *name)
{
    void *fn = atomic_load_explicit(known, memory_order_relaxed); /* the same for all who ask */

    if (fn)
        return fn;
    fn = dlsym(RTLD_NEXT, name);
    if (!fn)
        fatal("lockcheck: there is no other %s; is the program linked statically?", name);
    atomic_store_explicit(known, fn, memory_order_relaxed); /* the same for all who ask */
    return fn;
}

#define NEXT(function)                                                                             \
    ({                                                                                             \
        static _Atomic(void *) known;                                                              \
        (__typeof__(&function))next(&known, #function);                                            \
    })

static int locked(pthread_mutex_t *m, int status, const void *frame)
{
    if (status == 0 || status == EOWNERDEAD)
        note(m, frame);
    return status;
}

SHOWN int pthread_mutex_lock(pthread_mutex_t *m)
{
    return locked(m, NEXT(pthread_mutex_lock)(m), __builtin_frame_address(0));
}

SHOWN int pthread_mutex_trylock(pthread_mutex_t *m)
{
    return locked(m, NEXT(pthread_mutex_trylock)(m), __builtin_frame_address(0));
}

SHOWN int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
    return locked(m, NEXT(pthread_mutex_timedlock)(m, until), __builtin_frame_address(0));
}

SHOWN int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    return locked(m, NEXT(pthread_mutex_clocklock)(m, clock, until), __builtin_frame_address(0));
}

/* Forgotten first: afterwards the entry might be that of the next who locks it. */
SHOWN int pthread_mutex_unlock(pthread_mutex_t *m)
{
    forget(m, false);
    return NEXT(pthread_mutex_unlock)(m);
}

SHOWN int pthread_mutex_destroy(pthread_mutex_t *m)
{
    forget(m, true);
    return NEXT(pthread_mutex_destroy)(m);
}
