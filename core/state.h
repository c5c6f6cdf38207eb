/* SPDX-License-Identifier: MIT */
/*
 * state.h - what a worker and a runtime are. Fields only, and who the caller is; find.c takes work,
 * worker.c runs it, runtime.c opens and closes.
 */
#ifndef COIR_STATE_H
#define COIR_STATE_H

#include <pthread.h>

#include "cpus.h"
#include "deque.h"
#include "fiber.h"
#include "inject.h"
#include "life.h"
#include "park.h"
#include "record.h"
#include "stack.h"
#include "timer.h"

#define POLL_TURNS 61    /* prime, so that it beats with no regular pattern of work */

/* What the loop does about the fiber it left, on arrival. */
enum left { LEFT_NOTHING, LEFT_LOOP, LEFT_PARKING, LEFT_READY, LEFT_BROKEN, LEFT_CLEANED };

struct counter;
struct lab_ops;
struct scope;

struct worker {
    struct carrier carrier;   /* first: fiber_switch hands it over */
    struct coir_runtime *runtime;
    struct fiber *current;    /* the fiber that runs */
    struct fiber *spare;      /* a suspended loop to go on with when current blocks, or NULL */
    bool note_waits;          /* fibers note when they park */
    bool metered;             /* runtime->metered, at hand */
    bool plain;               /* neither metered nor is a fence needed, and it is no fork's */
    struct fiber *reserve;    /* a suspended loop for runtime->clean_up when there is no other */
    enum left left;           /* what to do with carrier.left */
    unsigned index;
    unsigned fibers_left;     /* of this round's budget: fibers before jobs get their turn */

    /* Any of these, and a yield has more to do than to take the next fiber: one word, which it compares. */
    _Alignas(8) unsigned io_queued; /* operations prepared and not yet given to the kernel */
    uint16_t jobs_left;       /* of this round's budget: jobs before fibers get theirs */
    bool searching;           /* counted as searching in runtime->park */
    bool look_outside;        /* the next turn looks at timers, I/O and the injector first */

    bool io_urgent;           /* among io_queued is one that a peer waits for */
    unsigned looks;           /* around, since it last found something */
    bool rings_rest;          /* rings move so fast that it looks at them seldom */
    unsigned ring_looks;      /* looks since that was last decided */
    uint64_t rings_moved;     /* fibers pushed to rings between those of them that followed each other */
    uint64_t rings_pushed;    /* fibers ever pushed to rings, as last seen */
    uint64_t poll_at;         /* the tick at which it looks at timers, I/O and the injector again */
    uint64_t batch_poll_at;   /* ended[COIR_DONE] at which a batch does */
    uint64_t yield_poll_at;   /* switches at which a yield does */
    int64_t looked_at;        /* coir_now() when it last did and read the clock */
    unsigned looks_untimed;   /* looks since then */
    bool io_used;             /* an operation has begun since then */
    bool brisk;               /* turns have been short of late */
    int64_t cached;           /* so many ready fibers are in the cache yet, as turns are that short; 0: none may be */
    int64_t turns_seen_at;    /* coir_now() when that was last decided */
    uint64_t turns_seen;      /* tick and switches then */
    uint64_t moved_seen;      /* these and jobs */
    int64_t lend_until;       /* jobs have been long of late: till then what is injected is lent */
    int64_t busy_since;       /* the first such look since its deque was seen empty, or its other end served; 0: it is
                                 empty */
    struct {
        unsigned index;
        uint64_t moved;       /* turns and switches */
        int64_t since;        /* looked_at */
    } peer;                   /* the worker it has an eye on while it is busy (find_held_up) */
    struct {
        unsigned index;
        uint64_t turn;        /* its own, when it saw the deque so */
        struct deque_view view;
    } lender;                 /* the same between injected jobs (find_left_behind) */
    unsigned claims_seen;     /* looks at fibers that others have claimed and not run */
    const char *hostcall;     /* the host's code that runs now and must not suspend, or NULL */
    bool watching;            /* it is who watches in runtime->park */
    bool polling;             /* fibers it readies are its own to run: it wakes others itself */
    uint64_t random;          /* where to start stealing */
    uint64_t job_ids;         /* ids given out */
    struct {
        int64_t at;           /* 0: never */
        uint64_t turns, switches;
    } checked;                /* the last coir_checkpoint, for metrics.checkpoint */
    uint64_t fp;              /* the thread's floating-point control words as it started */
    struct stack_cache stacks;
    struct scope *scopes;     /* records of deadlines that nobody carries now (scope.c) */
    unsigned scope_count;     /* of them */
    void *io;                 /* the I/O row's state of this worker, or NULL */
    struct probe *probe;      /* what a signal shall find out about it, or NULL (probe.c) */
    struct fiber home;        /* the thread's own stack */
    pthread_t thread;
    _Atomic clockid_t meter;  /* of what processors do for the thread; 0: none */
    bool has_thread;          /* thread was started */
    int start_status;         /* what its start met; read after runtime->started */

    /* Figures; one writer. */
    _Atomic uint64_t spawned, ended[COIR_PANICKED + 1], swallowed, unobserved;
    _Atomic uint64_t dropped, parks, unparks, switches, steals, sleeps, contained, tainted, wipes;
    _Atomic uint64_t tick;    /* turns of the loop, of runs outside a batch, and direct switches but for most yields */
    _Atomic uint64_t busy_tick; /* tick while it runs, 0 while it sleeps: is it stuck in a job? */

    _Atomic uint32_t asked;   /* enum ask, for the job that runs; see worker_ask */

    struct parker parker;
    _Atomic int64_t asleep_since; /* 0: it is awake, or nobody counts */
    _Atomic uint64_t slept;   /* ns, before that; a figure */
    struct {
        uint64_t turns;       /* and switches */
        int64_t awake, ran;   /* ns */
    } seen;                   /* as who watches saw them last (idle.c) */
    struct timers timers;
    struct ring ring;
    struct deque deque;
};

_Static_assert(offsetof(struct worker, io_urgent) - offsetof(struct worker, io_queued) == 8, "a yield compares one word");

/* What the I/O row gives the loop; all are called on a worker, outside any job. */
struct io_ops {
    bool (*poll)(struct worker *w);  /* readies what has completed; true: something was */
    void (*flush)(struct worker *w); /* gives prepared operations to the kernel */
    void (*flush_late)(struct worker *w); /* the same, and poll, if they have been prepared for long */
    /* Sleeps like park_sleep, but completions end it too. Returns as park_sleep. */
    bool (*sleep)(struct worker *w, int64_t deadline);
};

struct coir_runtime {
    struct host host;
    coir_options options;      /* defaults filled in */
    uint32_t number;           /* from 1, in the order of opening */
    uint32_t born;             /* life.h */
    bool metered;              /* there are metrics callbacks */
    coir_metrics metrics;      /* a copy; all NULL if there are none */
    struct worker **worker;    /* worker_count of them */
    unsigned worker_count;
    int64_t spin_ns;           /* 0: sleep at once */
    unsigned cpus;             /* that its workers may use */
    int64_t watched_at;        /* when park.limit was set last; who watches (idle.c) */
    _Atomic int64_t watched_until; /* and when it will be again */
    const struct io_ops *io;   /* NULL: no I/O row */
    void *io_shared;           /* its state of this runtime */
    void *offload;             /* the offload row's state of this runtime */
    uint64_t signals;          /* that its fibers have asked for; guarded by signals.c */
    struct stall *stall;       /* who watches it, or NULL (stall.c) */
    _Atomic uint64_t stalls;   /* a figure */
    _Atomic int64_t stalled_since; /* the earliest of those that go on; 0: none does */
    _Atomic int64_t stall_least; /* the shortest stall limit that is open (stall_limit.c); 0: nobody watches */
    uint64_t stall_least_of;   /* domains that have it; domains_lock */

    const struct lab_ops *lab; /* decides what its one worker does next (lab.c); NULL: nobody does */

    /* Set by rows above, called by rows below them. */
    void (*run)(struct fiber *self, const struct work *item); /* a job in its boundary */
    void (*idle)(struct coir_runtime *rt); /* a worker found nothing to do while draining */
    void (*stall_sooner)(struct coir_runtime *rt); /* stall_least has become less; NULL: nobody watches */
    void (*all_idle)(struct coir_runtime *rt); /* the last worker goes to sleep; NULL: nobody cares */
    void (*drop_pending)(struct coir_runtime *rt); /* ends canceled work that waits for other work, or to be tried again */
    /* Asks the supervisors in a domain and below it to stop; d NULL: all. */
    void (*stop_supervisors)(struct coir_runtime *rt, struct coir_domain *d);
    /* Settles what the job of a BROKEN fiber owes, and sets its sp to where it goes on. May suspend.
     * NULL: no fault is contained. */
    void (*clean_up)(struct fiber *self, struct fiber *broken);
    /* Installs handlers for more bits of enum coir_fault. NULL: its workers are not prepared. */
    int (*want_faults)(struct coir_runtime *rt, unsigned also);
    unsigned faults_wanted;    /* signals it has handlers for, bits; fault.c's lock */
    cpu_set_t allowed;         /* the CPUs of its opener, if options.pin */

    _Alignas(COIR_CACHE_LINE) _Atomic bool stopping; /* workers go home */
    _Atomic bool canceling;    /* every job is canceled; those not started end so */
    _Atomic bool draining;     /* coir_close watches the books */
    _Atomic bool known;        /* its handle has been given out, so anybody may submit */
    _Atomic bool signaled;     /* a thread that is no worker of it has let one of its fibers go */
    _Atomic uint32_t books;    /* futex: bumped when the books may balance */
    _Atomic bool closing;      /* one coir_close at a time */
    _Atomic unsigned started;  /* workers that run */
    _Atomic uint64_t ended_outside; /* jobs ended (all CANCELED) by threads that are no workers */
    _Atomic uint64_t dropped_outside; /* of those: because the runtime closes */
    _Atomic uint64_t job_ids;  /* ids given out by threads that are no workers */
    _Alignas(COIR_CACHE_LINE) _Atomic unsigned visitors; /* threads that are no workers and are about to wake something */
    struct coir_runtime *next_open; /* in the list of all that are open (state.c) */
    char name[12];             /* options.name, copied */

    struct lock pending_lock;  /* guards the list */
    struct after *pending;     /* work that waits for other work (spawn.c) */
    _Atomic uint64_t pending_count; /* of it; options.jobs_max at most; written under the lock */

    struct lock domains_lock;  /* guards the tree below */
    struct coir_domain *domains; /* those that have no parent (scope.h) */
    struct coir_pool *pools;     /* all of them */

    struct records records;

    struct stacks stacks;
    struct inject inject;
    struct park park;
};

#define FAULT_OVERFLOW (1u << 31) /* beside the bits of enum coir_fault */

/* What these options contain. */
static inline unsigned faults_contained(enum coir_faults faults, unsigned also)
{
    return faults == COIR_FAULTS_CONTAIN ? FAULT_OVERFLOW | also : 0;
}

/* Where threads that are no workers may run, though a pinned one starts them; NULL: where it may. */
static inline const cpu_set_t *runtime_allowed(const struct coir_runtime *rt)
{
    return rt->options.pin ? &rt->allowed : NULL;
}

/* Whether this process is a fork of the one that opened the runtime: nobody runs its jobs here. */
static inline bool runtime_forked(const struct coir_runtime *rt)
{
    return life_forked(rt->born);
}

/* The worker of this thread, or NULL. Only for functions that do not suspend in between: after a
 * suspend the fiber may be on another thread, and a compiler may have kept the address. A worker is empty in
 * a fork, so what forked in a job goes on as a plain thread. */
extern __thread struct worker *worker_tls;
static inline struct worker *worker_here(void)
{
    struct worker *w = worker_tls;

    return w && LIKELY(w->current != NULL) ? w : NULL;
}

/* What a call that needs a fiber says where there is none. */
int status_outside(void);

/* The same for functions that suspend. */
struct worker *worker_self(void);

/* Anyone: what moves between any two jobs: a job of a batch makes no turn, but ends. */
static inline uint64_t worker_turns(struct worker *w)
{
    uint64_t turns = tally_read(&w->tick);

    for (int o = 0; o <= COIR_PANICKED; o++)
        turns += tally_read(&w->ended[o]);
    return turns;
}

/* One more turn; w is the caller's. */
static inline uint64_t worker_turn(struct worker *w)
{
    uint64_t turn = tally_read(&w->tick) + 1;

    atomic_store_explicit(&w->tick, turn, memory_order_relaxed); /* a figure */
    return turn;
}

/* It is looked outside now. Turns, batches and switches count apart: so few of each are made meanwhile. */
static inline void worker_put_off_look(struct worker *w)
{
    w->poll_at = tally_read(&w->tick) + POLL_TURNS;
    w->batch_poll_at = tally_read(&w->ended[COIR_DONE]) + POLL_TURNS;
    w->yield_poll_at = tally_read(&w->switches) + POLL_TURNS - 1; /* the look is a turn itself */
}

/* What coir_checkpoint is asked to do. */
enum ask {
    ASK_LOOK = 1, /* a cancel may have come */
    ASK_YIELD = 2, /* others have waited long */
    ASK_MEASURE = 4 /* metrics.checkpoint wants to know each */
};

/* Anyone. ASKED: a canceler sets its flag, then asks each worker (both seq_cst). A job that it does not
 * find running was queued or parked then, and whoever resumes a fiber asks itself to look: by a plain store, so
 * that who puts an ask down passes a fence, behind which the flags of asks that were written over are seen. */
static inline void worker_ask(struct worker *w, enum ask what)
{
    atomic_fetch_or_explicit(&w->asked, what, memory_order_seq_cst); /* ASKED */
}

/* The worker that runs `self`, which is the caller. */
static inline struct worker *worker_of(const struct fiber *self)
{
    return (struct worker *)(void *)self->carrier;
}

/* The calling fiber, or NULL on a plain thread. */
static inline struct fiber *fiber_self(void)
{
    struct worker *w = worker_self();

    return w ? w->current : NULL;
}

/* The same for functions that do not ask for their thread again once they have suspended: see worker_here. */
static inline struct fiber *fiber_here(void)
{
    struct worker *w = worker_here();

    return w ? w->current : NULL;
}

/* The runtime this thread works for, as a worker, one of its offload threads, or in a call of its domains;
 * or NULL. */
struct coir_runtime *runtime_here(void);
/* A plain thread does the work of a runtime (NULL: no more). Returns whose it did before. On a worker,
 * which does its own runtime's, nothing. */
struct coir_runtime *runtime_adopt_thread(struct coir_runtime *rt);

/* A flag of struct coir_runtime, set by runtime.c (CLOSE). */
static inline bool runtime_flag(_Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed); /* CLOSE */
}

/* Whether the caller is one of its workers. */
static inline bool runtime_is_here(const struct coir_runtime *rt)
{
    return worker_here() && worker_here()->runtime == rt;
}

/* Lines that are written by whoever queues a fiber here from outside, and by a worker that sleeps or wakes: another processor
 * has them, so they are fetched all at once. */
static inline void runtime_fetch_queues(struct coir_runtime *rt)
{
    __builtin_prefetch(&rt->inject.lock, 1);
    __builtin_prefetch(&rt->inject.fibers, 1);
    __builtin_prefetch(&rt->park.counts, 1);
    __builtin_prefetch(&rt->park.lock, 1);
}

/* VISIT. A foreign thread that lets a job go on may find the runtime closed before it has finished
 * its wake-up. So it registers while the job still holds the runtime open, and coir_close waits
 * for it: leaving (release) is its last access, which the closer reads (acquire). Who submits is held by the
 * injector's lock instead (inject.c); who puts a domain into the tree or takes one out registers before, and the
 * tree's lock tells the closer. */
static inline bool runtime_visit(struct coir_runtime *rt)
{
    if (LIKELY(runtime_is_here(rt)))
        return false;
    atomic_fetch_add_explicit(&rt->visitors, 1, memory_order_relaxed); /* the job keeps it open */
    return true;
}

/* The same for one that lets a fiber go. It leaves word of it: a runtime that has rested may be woken again. */
static inline bool runtime_visit_to_wake(struct coir_runtime *rt)
{
    if (LIKELY(runtime_is_here(rt)))
        return false;
    runtime_fetch_queues(rt);
    if (!atomic_load_explicit(&rt->signaled, memory_order_relaxed))       /* a hint */
        atomic_store_explicit(&rt->signaled, true, memory_order_relaxed); /* a hint */
    return runtime_visit(rt);
}

/* The runtimes of the process that are open. */
void runtime_register(struct coir_runtime *rt);
void runtime_unregister(struct coir_runtime *rt);

/* How many runtimes of the process have a list of pending work (after.c) that is not empty. */
extern _Atomic unsigned runtimes_pending;

/* In a fork, before it opens a runtime of its own: its parent's are none of its own. */
void runtime_forget_all(void);

/* Calls visit(rt, arg) for each runtime that is open; none can close meanwhile. It must not suspend. */
void runtime_each_open(void (*visit)(struct coir_runtime *rt, void *arg), void *arg);

/* The same for a process that dies: gives up if the list is being used. False: it was. */
bool runtime_try_each_open(void (*visit)(struct coir_runtime *rt, void *arg), void *arg);

static inline void runtime_leave(struct coir_runtime *rt, bool visiting)
{
    if (visiting)
        atomic_fetch_sub_explicit(&rt->visitors, 1, memory_order_release); /* VISIT */
}

#endif
