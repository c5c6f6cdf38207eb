/* SPDX-License-Identifier: MIT */
/*
 * state.h - what a worker and a runtime are. Fields only, and who the caller is; find.c takes work,
 * worker.c runs it, runtime.c opens and closes.
 */
#ifndef COIR_STATE_H
#define COIR_STATE_H

#include <pthread.h>

#include "deque.h"
#include "fiber.h"
#include "inject.h"
#include "park.h"
#include "stack.h"
#include "timer.h"

/* What the loop does about the fiber it left, on arrival. */
enum left { LEFT_NOTHING, LEFT_LOOP, LEFT_PARKING, LEFT_READY };

struct counter;

struct worker {
    struct carrier carrier;   /* first: fiber_switch hands it over */
    struct coir_runtime *runtime;
    struct fiber *current;    /* the fiber that runs */
    struct fiber *spare;      /* a suspended loop to go on with when current blocks, or NULL */
    enum left left;           /* what to do with carrier.left */
    unsigned index;
    uint64_t tick;            /* turns of the loop and direct switches */
    unsigned jobs_left;       /* of this round's budget: jobs before fibers get their turn */
    unsigned fibers_left;     /* and fibers before jobs get theirs */
    unsigned io_queued;       /* operations prepared and not yet given to the kernel */
    bool searching;           /* counted as searching in runtime->park */
    bool look_outside;        /* the next turn looks at timers, I/O and the injector first */
    bool polling;             /* fibers it readies are its own to run: it wakes others itself */
    uint64_t random;          /* where to start stealing */
    uint64_t job_ids;         /* ids given out */
    uint64_t fp;              /* the thread's floating-point control words as it started */
    struct stack_cache stacks;
    void *io;                 /* the I/O row's state of this worker, or NULL */
    struct fiber home;        /* the thread's own stack */
    pthread_t thread;
    bool has_thread;          /* thread was started */
    int start_status;         /* what its start met; read after runtime->started */

    /* Figures; one writer. */
    _Atomic uint64_t spawned, ended[COIR_PANICKED + 1], panics, swallowed, unobserved;
    _Atomic uint64_t dropped, parks, unparks, switches, steals, sleeps;
    _Atomic uint64_t busy_tick; /* tick while it runs, 0 while it sleeps: is it stuck in a job? */

    struct parker parker;
    struct timers timers;
    struct ring ring;
    struct deque deque;
};

/* What the I/O row gives the loop; all are called on a worker, outside any job. */
struct io_ops {
    bool (*poll)(struct worker *w);  /* readies what has completed; true: something was */
    void (*flush)(struct worker *w); /* gives prepared operations to the kernel */
    /* Sleeps like park_sleep, but completions end it too. Returns as park_sleep. */
    bool (*sleep)(struct worker *w, int64_t deadline);
};

struct coir_runtime {
    struct host host;
    coir_options options;      /* defaults filled in */
    struct worker **worker;    /* worker_count of them */
    unsigned worker_count;
    int64_t spin_ns;           /* 0: sleep at once */
    const struct io_ops *io;   /* NULL: no I/O row */
    void *io_shared;           /* its state of this runtime */
    void *offload;             /* the offload row's state of this runtime */

    /* Set by rows above, called by rows below them. */
    void (*run)(struct fiber *self, const struct work *item); /* runs one job, in its boundary */
    void (*idle)(struct coir_runtime *rt); /* a worker found nothing to do while draining */
    void (*drop_pending)(struct coir_runtime *rt); /* ends canceled work that waits for other work */

    _Alignas(COIR_CACHE_LINE) _Atomic bool stopping; /* workers go home */
    _Atomic bool canceling;    /* every job is canceled; those not started end so */
    _Atomic bool draining;     /* coir_close watches the books */
    _Atomic uint32_t books;    /* futex: bumped when the books may balance */
    _Atomic bool closing;      /* one coir_close at a time */
    _Atomic unsigned started;  /* workers that run */
    _Atomic uint64_t ended_outside; /* jobs ended (all CANCELED) by threads that are no workers */
    _Atomic uint64_t dropped_outside; /* of those: because the runtime closes */
    _Atomic unsigned visitors; /* threads that are no workers and are about to wake something */
    struct coir_runtime *next_open; /* in the list of all that are open (state.c) */
    char name[12];             /* options.name, copied */

    struct lock pending_lock;  /* guards the list */
    struct after *pending;     /* work that waits for other work (spawn.c) */

    struct lock domains_lock;  /* guards the tree below */
    struct coir_domain *domains; /* those that have no parent (scope.h) */

    struct stacks stacks;
    struct inject inject;
    struct park park;
};

/* The worker of this thread, or NULL. Only for functions that do not suspend in between: after a
 * suspend the fiber may be on another thread, and a compiler may have kept the address. */
extern __thread struct worker *worker_tls;
static inline struct worker *worker_here(void)
{
    return worker_tls;
}

/* The same for functions that suspend. */
struct worker *worker_self(void);

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

/* The runtime this thread works for, as a worker or one of its offload threads, or NULL. */
struct coir_runtime *runtime_here(void);
void runtime_adopt_thread(struct coir_runtime *rt); /* an offload thread says so */

/* A flag of struct coir_runtime, set by runtime.c (CLOSE). */
static inline bool runtime_flag(_Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_acquire); /* CLOSE */
}

/* VISIT. A foreign thread that lets a job go on may find the runtime closed before it has finished
 * its wake-up. So it registers while the job still holds the runtime open, and coir_close waits
 * for it: leaving (release) is its last access, which the closer reads (acquire). */
static inline bool runtime_visit(struct coir_runtime *rt)
{
    if (LIKELY(worker_here() && worker_here()->runtime == rt))
        return false;
    atomic_fetch_add_explicit(&rt->visitors, 1, memory_order_relaxed); /* the job keeps it open */
    return true;
}

/* The runtimes of the process that are open. */
void runtime_register(struct coir_runtime *rt);
void runtime_unregister(struct coir_runtime *rt);

/* Calls visit(rt) for each runtime that is open; none can close meanwhile. It must not suspend. */
void runtime_each_open(void (*visit)(struct coir_runtime *rt));

static inline void runtime_leave(struct coir_runtime *rt, bool visiting)
{
    if (visiting)
        atomic_fetch_sub_explicit(&rt->visitors, 1, memory_order_release); /* VISIT */
}

#endif
