/* SPDX-License-Identifier: MIT */
/*
 * signals.c - signals as values: caught for the fibers that ask, given to one of them.
 *
 * Owns: the process's handler for what was asked for, one thread, and the fibers that wait.
 *
 * The handler sets a bit and posts a semaphore: all else would not be async-signal-safe. The thread gives
 * what has come to the fiber that has waited longest. It has these signals unblocked, so they are
 * caught even if every thread of the host blocks them. A wait is an errand (errand.c).
 *
 * Two locks: `setup` is held while signals are asked for or given up, and while the thread starts or
 * ends; `lock` guards the list of those who wait, and what the thread lets in. setup is taken first.
 *
 * Orderings
 *   CAUGHT  the handler sets the bit, then posts -> the thread has waited for the semaphore and reads
 *           the bits. A wait that begins reads the bits under lock: if the handler sets one after
 *           that, the thread will look at the list again when the wait is in it.
 */
#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>

#include "cpus.h"
#include "life.h"
#include "probe.h"

#define SIGNALS_MAX 64

/* One wait. */
struct wait_signal {
    struct errand errand;
    uint64_t set;
    int number;                     /* that it got, or 0 */
    bool queued;                    /* lock */
    struct wait_signal *next, *prev; /* lock; queued only */
};

struct watched {
    unsigned users;            /* runtimes that have asked for it */
    struct sigaction previous; /* what it was before the first of them */
};

static pthread_mutex_t setup = PTHREAD_MUTEX_INITIALIZER;
static struct watched watched[SIGNALS_MAX + 1]; /* setup */
static unsigned runtimes;                       /* setup: that have asked for something */
static pthread_t thread;                        /* setup: runs while runtimes > 0 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct wait_signal *first, *last; /* lock: the longest waiting first */

static _Atomic uint64_t pending;  /* caught, and not given to anybody */
static uint64_t unblocked, let_in; /* lock: what the thread shall let through, and what it does */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER; /* `let_in` has */
static _Atomic bool stopping;
static sem_t knocks;              /* the thread shall look; never destroyed: a handler may come late */

static uint64_t bit(int number)
{
    return UINT64_C(1) << (number - 1);
}

/* -------------------------------------------------------------------------------- to the fibers */

static void on_signal(int number);

/* In a fork nobody hands it out: there it does what it did before us, or what a handler on top of ours has done. */
static void do_as_before(int number)
{
    struct sigaction now;

    if (sigaction(number, NULL, &now) != 0 || now.sa_handler != on_signal)
        return;
    sigaction(number, &watched[number].previous, NULL);
    raise(number);
}

static void on_signal(int number)
{
    int saved = errno;

    if (life_is_over()) {
        do_as_before(number);
        errno = saved;
        return;
    }
    atomic_fetch_or_explicit(&pending, bit(number), memory_order_relaxed); /* CAUGHT */
    sem_post(&knocks);
    errno = saved;
}

/* Lock held. */
static void unqueue(struct wait_signal *w)
{
    w->queued = false;
    if (w->prev)
        w->prev->next = w->next;
    else
        first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        last = w->prev;
}

/* Lock held. Takes a signal of the set that has come; 0: none has. */
static int take(uint64_t set)
{
    uint64_t come = atomic_load_explicit(&pending, memory_order_relaxed) & set; /* CAUGHT */
    int number = come ? __builtin_ctzll(come) + 1 : 0;

    if (number)
        atomic_fetch_and_explicit(&pending, ~bit(number), memory_order_relaxed); /* lock: one taker */
    return number;
}

/* Lock held. The fiber goes on; its record and even its runtime may be gone afterwards. */
static void end(struct wait_signal *w)
{
    struct coir_runtime *rt = w->errand.fiber->runtime;
    bool visiting = runtime_visit(rt);

    unqueue(w);
    errand_end(&w->errand);
    runtime_leave(rt, visiting);
}

/* Lock held. What comes meanwhile is the next look's, and has knocked: who has waited longer may have been passed. */
static void give_out(void)
{
    uint64_t come = atomic_load_explicit(&pending, memory_order_relaxed); /* CAUGHT */
    struct wait_signal *w, *next;

    for (w = first; w && come; w = next) {
        next = w->next;
        if ((w->number = take(w->set & come)))
            end(w);
    }
}

static void begin_wait(struct errand *e)
{
    struct wait_signal *w = CONTAINER_OF(e, struct wait_signal, errand);

    pthread_mutex_lock(&lock);
    w->queued = true;
    w->next = NULL;
    w->prev = last;
    if (last)
        last->next = w;
    else
        first = w;
    last = w;
    give_out(); /* others may have waited for it longer */
    pthread_mutex_unlock(&lock);
}

static void revoke_wait(struct errand *e)
{
    struct wait_signal *w = CONTAINER_OF(e, struct wait_signal, errand);

    pthread_mutex_lock(&lock);
    if (w->queued)
        end(w);
    pthread_mutex_unlock(&lock);
}

/* ----------------------------------------------------------------------------------- the thread */

static void mask(int how, uint64_t set)
{
    sigset_t signals;

    sigemptyset(&signals);
    for (int i = 1; i <= SIGNALS_MAX; i++)
        if (set & bit(i))
            sigaddset(&signals, i);
    pthread_sigmask(how, &signals, NULL);
}

static void let_through(void)
{
    pthread_mutex_lock(&lock);
    if (let_in != unblocked) {
        mask(SIG_BLOCK, let_in & ~unblocked);
        mask(SIG_UNBLOCK, unblocked);
        let_in = unblocked;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
}

static void *thread_main(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) { /* as of a knock */
        let_through();
        pthread_mutex_lock(&lock);
        give_out();
        pthread_mutex_unlock(&lock);
        sem_wait(&knocks); /* interrupted or not: look */
    }
    return NULL;
}

/* Setup held. */
static int start_thread(const struct coir_runtime *rt)
{
    static bool made;

    if (!made && sem_init(&knocks, 0, 0) != 0)
        return COIR_ENOMEM;
    made = true;
    atomic_store_explicit(&stopping, false, memory_order_relaxed); /* before the thread exists */
    let_in = 0;
    if (thread_start(&thread, runtime_allowed(rt), thread_main, NULL) != 0)
        return COIR_EAGAIN;
    pthread_setname_np(thread, "coir/signals");
    return COIR_OK;
}

/* Setup held. */
static void stop_thread(void)
{
    atomic_store_explicit(&stopping, true, memory_order_relaxed); /* a knock follows */
    sem_post(&knocks);
    pthread_join(thread, NULL);
}

/* --------------------------------------------------------------------------- asking and giving up */

/* Setup held. */
static int watch(int number)
{
    struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct watched *w = &watched[number];

    sigfillset(&ours.sa_mask);
    if (w->users == 0 && probe_uses(number))
        return COIR_EINVAL; /* what workers are asked with would be taken for somebody's signal, and not be answered */
    if (w->users == 0 && sigaction(number, &ours, &w->previous) != 0)
        return COIR_EINVAL; /* the kernel's, or the C library's own */
    w->users++;
    pthread_mutex_lock(&lock);
    unblocked |= bit(number); /* a knock follows */
    pthread_mutex_unlock(&lock);
    return COIR_OK;
}

/* Setup held. Does not return before the thread blocks them: what they did before would happen to it, though
 * every thread of the host may block them. */
static void keep_out(uint64_t set)
{
    pthread_mutex_lock(&lock);
    unblocked &= ~set;
    sem_post(&knocks);
    while (let_in & set)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* Setup held, nobody asks for it any more, and it is kept out. A handler that somebody installed on top
 * of ours stays. */
static void restore(int number)
{
    struct sigaction now;

    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == on_signal)
        sigaction(number, &watched[number].previous, NULL);
    atomic_fetch_and_explicit(&pending, ~bit(number), memory_order_relaxed); /* nobody waits for it */
}

void signals_forget_all(void)
{
    setup = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    first = last = NULL;
    runtimes = 0;
    unblocked = 0; /* there is no thread */
    for (int i = 1; i <= SIGNALS_MAX; i++)
        if (watched[i].users) {
            watched[i].users = 0;
            restore(i);
        }
}

/* Setup held. What the runtime has asked for so far stays asked for. */
static int watch_more(struct coir_runtime *rt, uint64_t set)
{
    int status = COIR_OK;

    if (!rt->signals && runtimes == 0)
        status = start_thread(rt);
    if (status != COIR_OK)
        return status;
    runtimes += !rt->signals;
    for (int i = 1; i <= SIGNALS_MAX && status == COIR_OK; i++)
        if (set & ~rt->signals & bit(i)) {
            status = watch(i);
            rt->signals |= status == COIR_OK ? bit(i) : 0;
        }
    if (!rt->signals && --runtimes == 0)
        stop_thread();
    else
        sem_post(&knocks);
    return status;
}

static int ensure_watched(struct coir_runtime *rt, uint64_t set)
{
    int status = COIR_OK;

    pthread_mutex_lock(&setup);
    if (set & ~rt->signals)
        status = watch_more(rt, set);
    pthread_mutex_unlock(&setup);
    return status;
}

void signals_close(struct coir_runtime *rt)
{
    uint64_t over = 0; /* nobody asks for these any more */

    pthread_mutex_lock(&setup);
    for (int i = 1; i <= SIGNALS_MAX; i++)
        if (rt->signals & bit(i) && --watched[i].users == 0)
            over |= bit(i);
    if (over)
        keep_out(over);
    for (int i = 1; i <= SIGNALS_MAX; i++)
        if (over & bit(i))
            restore(i);
    if (rt->signals && --runtimes == 0)
        stop_thread();
    rt->signals = 0;
    pthread_mutex_unlock(&setup);
}

/* -------------------------------------------------------------------------------- public part */

/* Faults belong to the instruction that caused them, and are nobody's to wait for. */
static bool may_wait_for(uint64_t set)
{
    const uint64_t never = bit(SIGKILL) | bit(SIGSTOP) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) |
                           bit(SIGILL) | bit(SIGTRAP) | bit(SIGABRT) | bit(SIGSYS);

    return set && !(set & never);
}

int coir_signal_wait_until(uint64_t signals, int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct wait_signal w = {.errand = {.begin = begin_wait, .revoke = revoke_wait}, .set = signals};
    int status;

    if (!self)
        return status_outside();
    if (!may_wait_for(signals))
        return COIR_EINVAL;
    status = ensure_watched(self->runtime, signals);
    if (status != COIR_OK)
        return status;
    status = errand_run(self, &w.errand, "signal", deadline);
    return w.number ? w.number : status;
}

int coir_signal_wait(uint64_t signals)
{
    return coir_signal_wait_until(signals, COIR_NEVER);
}
