/* SPDX-License-Identifier: MIT */
/*
 * job.h - the record of a running job: who is owed its end, what it must clean up.
 *
 * Identity belongs to the job, not to the fiber: a fiber may carry a waiter and, on the same stack,
 * a child of it that runs in place. The jobs of a stack form a chain, innermost first.
 */
#ifndef COIR_JOB_H
#define COIR_JOB_H

#include <unwind.h>

#include "counter.h"
#include "held.h"
#include "scope.h"
#include "worker.h"

struct defer {
    coir_fn *fn;
    void *arg;
};

/* Handlers past the inline ones, newest block first. */
struct defer_block {
    struct defer_block *older;
    unsigned count;
    struct defer handler[COIR_DEFER_INLINE];
};

/* Lives in the frame below which the job's own frames lie, so it outlives them all. */
struct job {
    coir_fn *fn;              /* for reports */
    void *arg;
    struct counter *owed_to;  /* who is owed this job's end; NULL: nobody, or a coir_try */
    struct scope *scope;      /* domain and deadline; a coir_try's is its job's; NULL: none */
    struct job *outer;        /* the job (or thread) below on this stack, or NULL */
    struct counter *owned;    /* counters in its frames that it spawned on; linked by next_owned */
    struct held *held;        /* locks taken inside this boundary and not unlocked */
    struct local *locals;     /* its coir_local values, newest first */
    const char *name;         /* coir_job_name, or NULL */
    uint64_t id;              /* 0: not asked for yet */
    uint32_t defer_count;     /* inline handlers in use */
    int failed;               /* code of its coir_fail; 0: none */
    uint64_t born;            /* generation of its fiber when it started; not a coir_try's */
    bool is_try;              /* a coir_try: same job, a boundary of its own */
    bool is_defer;            /* that coir_try runs a deferred handler */
    bool raising;             /* a panic is on its way to this boundary */
    bool told;                /* COIR_ECANCELED has been returned once */
    bool apart;               /* outer is on another stack: a clean-up after it */
    bool masked;              /* a finalizer: cancels do not reach it */
    bool obliged;             /* obligations have been bound to it; only if it has a scope, as the next two */
    uintptr_t raised_at;      /* an address below its frames; once a panic or exception is raised */
    struct member member;     /* in its domain's list; scope->domain->lock */
    struct obligation *obligations; /* bound to it; scope->domain->lock */
    struct defer_block *more; /* further handlers */
    struct eh_globals eh;     /* C++ exception globals at its entry; coir_try's only, else zero */

    /* Touched by failures only. */
    uintptr_t passing;        /* return address in the frame that its panic is passing */
    const void *caught;       /* what C++ was handling there; only if watched */
    bool watched;             /* terminate.c reports what C++ makes of that panic */
    struct defer handler[COIR_DEFER_INLINE];
    char no_cxx_header[80]; /* zero: some C++ runtimes read the header of their own exceptions here */
    struct _Unwind_Exception exception; /* what travels; outside every frame that it unwinds */
    coir_failure failure;
};

/* Where the calling thread or fiber keeps its innermost job. */
struct job **job_slot(void);

/* Whether the job, its domain, one that waits for it on this stack, or the runtime is asked to stop. */
bool job_canceled(struct coir_runtime *rt, const struct job *j);

uint64_t job_id(struct job *j);

/* The same for one that is no coir_try, by a thread that holds its parked fiber. */
uint64_t job_id_held(struct coir_runtime *rt, struct job *j);

/* The job itself, for one that is a coir_try inside it. */
struct job *job_proper(struct job *j);

/* Remembers that the running job spawns on c if c lies in the job's frames, so that these are not torn
 * down under the children. frame: an address below those frames. */
void job_adopt(struct job *j, struct counter *c, uintptr_t frame);

/* The wait for c is over: forgets it. */
void job_disown(struct job *j, struct counter *c);

/* Whether c is one that j (or the job around this coir_try) spawned on in its frames. */
bool job_owns(const struct job *j, struct counter *c);

/* A fresh failure record, without words, for the job (or the boundary) that runs; NULL: for none. */
void job_failure(struct job *j, coir_failure *f, int outcome, enum coir_kind kind);

/* A panic that the job's record describes has begun: it is kept, counted and told to the hook and the log;
 * from then on the job is raising. Does not return if the policy is to abort. text, frame: as report_keep. */
void job_panicked(struct job *j, const char *text, const void *frame);

/* What the row of waits does for this one; set by coir_open, the same for all runtimes. */
struct job_ops {
    void (*cancel)(struct counter *c, enum coir_cancel cause); /* asks its jobs to stop */
    void (*join)(struct counter *c);   /* waits for it, uninterrupted */
    int (*end_locals)(struct job *j, int outcome); /* destroys what the job keeps; its outcome then */
    void (*leak)(struct job *j);       /* reports the obligations that are bound to it still */
};
extern _Atomic(const struct job_ops *) job_ops;

static inline const struct job_ops *job_ops_set(void)
{
    return atomic_load_explicit(&job_ops, memory_order_relaxed); /* constant since the first open */
}

/* A panic is about to unwind the job; every frame is whole. Locks that it holds are told, and what it
 * still owns is canceled and waited for. frame: an address below its live frames. */
void job_raised(struct job *j, uintptr_t frame);

/* The first half of it, which does not suspend. */
void job_tell_locks(struct job *j, uintptr_t frame);

/* A counter that the job owns is not where it was: its frame has gone. Aborts. */
__attribute__((noreturn, cold)) void job_lost_counter(void);

/* Cancels and waits for what the job still owns. frame: as above. */
void job_settle_owned(struct job *j, uintptr_t frame);

/* Even: to some C++ runtimes an odd class is that of an exception which points to another. */
#define JOB_EXCEPTION_CLASS UINT64_C(0x434f495250414e00) /* "COIRPAN\0" */

#endif
