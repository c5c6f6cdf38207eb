/* SPDX-License-Identifier: MIT */
/*
 * job.h - the record of a running job: who is owed its end, what it must clean up.
 *
 * Identity belongs to the job, not to the fiber: a fiber may carry a waiter and, on the same stack,
 * a child of it that runs in place. The jobs of a stack form a chain, innermost first.
 */
#ifndef COIR_JOB_H
#define COIR_JOB_H

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

/*
 * Lives in the frame below which the job's own frames lie, so it outlives them all.
 *
 * Every job pays for what is written here when it starts and looked at when it returns. So what comes and goes
 * while all is well (locks, counters) is a list whose head says by itself whether there is something to
 * settle; what comes once is a flag, and what belongs to it is valid only while the flag is set; these
 * flags are one word. A job starts by clearing seven words and returns by looking at three; if these are zero the
 * record is as it was when it was opened, and serves the next of a batch (batch.c). So whoever writes what a job
 * clears when it starts also sets a flag, but for the lists.
 *
 * Flags are bytes and not bits: setting one is a store to a place of its own, which loses none beside
 * it. They need no atomics. The job's own thread writes them, or whoever holds its fiber while that
 * does not run (contain.c), and holding orders the two. Who has neither (peek.c, dump.c, handlers of
 * signals) reads is_try alone, which stays what it was when the job started.
 */
struct job {
    _Alignas(16) coir_fn *fn; /* for reports; its address is an identity, with bits for flags (holder.h) */
    void *arg;
    struct counter *owed_to;  /* who is owed this job's end; NULL: nobody, or a coir_try */
    struct scope *scope;      /* domain and deadline; a coir_try's is its job's; NULL: none */
    struct job *outer;        /* the job (or thread) below on this stack, or NULL */
    uint64_t born;            /* state of its fiber when it started; not a coir_try's */

    /* Cleared when it starts, down to `wreck`. */
    struct held *held;        /* locks taken inside this boundary and not unlocked */
    struct counter *owned;    /* counters in its frames that it spawned on; linked by next_owned */
    union {
        uint64_t touched;     /* some of these: */
        struct {
            union {
                uint32_t ends_slowly; /* some of these, there is more to do than to return: */
                struct {
                    bool defers;  /* there are deferred handlers: defer_count and more are valid */
                    bool keeps;   /* job_keep has been called: `locals` to awaited_from are valid */
                    bool failed;  /* it has called coir_fail: `code` is valid */
                    bool raising; /* a panic or an exception is on its way to this boundary */
                };
            };
            bool known;       /* it has an id or a name */
            bool told;        /* COIR_ECANCELED has been returned once */
            bool obliged;     /* obligations have been bound to it */
            bool serving;     /* a message of a pool, or as a root supervisor: `serves` is valid */
        };
    };
    uint64_t id;              /* 0: not asked for yet */
    const char *name;         /* coir_job_name, or NULL */
    bool is_try;              /* a coir_try: same job, a boundary of its own */
    bool is_defer;            /* that coir_try runs a deferred handler */
    bool whole;               /* of an is_try: nobody around it unlocks what it leaves locked */
    bool outside;             /* of an is_try: a job of its own all the same, which a plain thread runs */
    bool between;             /* a pool's job, which handles no message now: what a callback leaves ends with the callback */
    bool apart;               /* outer is on another stack: a clean-up after it */
    bool masked;              /* a domain's finalizer, or a callback of its pool; its name is the domain's: cancels
                                 do not reach it */

    struct wreck *wreck;      /* its fiber's or its own; what is in it is this job's once job_wreck has been called */

    /* Valid while their flag is set. */
    struct local *locals;     /* its coir_local values, newest first */
    _Atomic uint32_t awaited; /* work that waits for counters in its frames (after.c); runtime->pending_lock */
    uintptr_t awaited_from;   /* no such counter has been below */
    struct defer_block *more; /* further handlers, or NULL */
    uint32_t defer_count;     /* inline handlers in use */
    int code;                 /* of its coir_fail */

    /* Of a job of a domain. */
    struct member member;     /* in the domain's list; scope->domain->lock */
    struct obligation *obligations; /* bound to it; scope->domain->lock */
    struct counter *serves;   /* owed what it does, beside its end; changed under scope->domain->lock */
    int64_t stall_ns;         /* the domain's, for those who must not follow scope (peek.c) */

    struct eh_globals eh;     /* C++ exception globals at its entry; coir_try's only, else zero */

    uintptr_t raised_at;      /* an address below its frames; once a panic or exception is raised. apart:
                                 below outer's */
    struct defer handler[COIR_DEFER_INLINE];
};

/* One that brings its own. */
struct full_job {
    struct job job;
    struct wreck wreck;
};

_Static_assert(offsetof(struct job, known) == offsetof(struct job, ends_slowly) + sizeof(uint32_t) &&
                   offsetof(struct job, id) == offsetof(struct job, touched) + sizeof(uint64_t),
               "the words cover their flags");

/* Where the calling thread or fiber keeps its innermost job. */
struct job **job_slot(void);

/* The C++ runtime's books of what runs here; NULL: there is no such runtime. */
static inline struct eh_globals *exceptions_here(void)
{
    const struct worker *w = worker_tls; /* a fork's is empty: NULL */

    return w ? w->carrier.eh : thread_exceptions();
}

/* Whether the job, its domain, one that waits for it on this stack, or the runtime is asked to stop. */
bool job_canceled(struct coir_runtime *rt, const struct job *j);

uint64_t job_id(struct job *j);

/* The same for one that is no coir_try, by a thread that holds its parked fiber. */
uint64_t job_id_held(struct coir_runtime *rt, struct job *j);

/* Where it is written what becomes of the running job j: j's from now on, until it has ended. It has been given an id,
 * or has a flag set, so that its end is not taken for a mere return. */
static inline struct wreck *job_wreck(struct job *j)
{
    j->wreck->job = j;
    return j->wreck;
}

/* Whether c is owed its end, or that of the message it handles, or of the supervisor it is. */
static inline bool job_owes(const struct job *j, const struct counter *c)
{
    return j->owed_to == c || (j->serving && j->serves == c);
}

/* What the calling job does, a message or a supervisor, is owed to c; NULL: no more. It is a job of d. */
void job_serve(struct coir_domain *d, struct counter *c);

/* Whether it is a coir_try: a boundary inside another job, or on a plain thread. */
static inline bool job_is_inner(const struct job *j)
{
    return j->is_try && !j->outside;
}

static inline bool job_stack_counts(const struct fiber *self)
{
    return UNLIKELY(self->job && self->job->scope && self->job->scope->domain->stacks_at);
}

/* As worker_park_begin and worker_park, for a fiber that may run a job: its domain may limit how many of its
 * jobs are parked. must: nothing but what is waited for can end the wait, so that does not refuse it. */
static inline bool job_park_begin(struct fiber *self, uint64_t *generation, const char *what,
                                  const void *on, bool must)
{
    if (job_stack_counts(self) && !scope_take_stack(self->job->scope, must))
        return false;
    if (LIKELY(worker_park_begin(self, generation, what, on)))
        return true;
    if (job_stack_counts(self))
        scope_give_stack(self->job->scope);
    return false;
}

static inline enum wake job_park(struct fiber *self)
{
    enum wake why = worker_park(self);

    if (job_stack_counts(self))
        scope_give_stack(self->job->scope);
    return why;
}

/* The job itself, for one that is a coir_try inside it. */
struct job *job_proper(struct job *j);

/* The boundary of the running job in whose frames an address lies; NULL: none. frame: as below. */
struct job *job_around(struct job *j, uintptr_t address, uintptr_t frame);

/* Remembers that the running job spawns on c if c lies in the job's frames, so that these are not torn
 * down under the children. frame: an address below those frames. */
static inline void job_adopt(struct job *j, struct counter *c, uintptr_t frame);

/* The wait for c is over: forgets it. */
void job_disown_slowly(struct job *j, struct counter *c);

static inline void job_disown(struct job *j, struct counter *c)
{
    if (UNLIKELY(!j || j->owned != c)) {
        job_disown_slowly(j, c);
        return;
    }
    j->owned = c->next_owned;
    counter_set_owner(c, NULL);
}

/* Where the counter is not in the frames of the innermost boundary. */
void job_adopt_slowly(struct job *j, struct counter *c, uintptr_t frame);

static inline void job_own(struct job *j, struct counter *c)
{
    counter_set_owner(c, j);
    c->next_owned = j->owned;
    j->owned = c;
}

static inline void job_adopt(struct job *j, struct counter *c, uintptr_t frame)
{
    if (LIKELY((uintptr_t)c >= frame && (uintptr_t)c < (uintptr_t)j))
        job_own(j, c);
    else
        job_adopt_slowly(j, c, frame);
}

/* Whether j owes c by plain stores: c is local and j's. */
static inline bool job_owes_mine(const struct job *j, struct counter *c)
{
    return j && counter_owner(c) == j && counter_is_local(c);
}

/* n more are owed to c; j (NULL: nobody's) remembers that it has spawned on it, by one compare when it does
 * so already. */
static inline void job_owe(struct job *j, struct counter *c, uint64_t n, uintptr_t frame)
{
    if (j && UNLIKELY(counter_owner(c) != j))
        job_adopt(j, c, frame);
    if (!job_owes_mine(j, c) || UNLIKELY(!counter_owe_mine(c, n)))
        counter_owe(c, n);
}

/* Before others than its owner may have to do with the end of a local counter: its owner shares it, or
 * anybody if it has none. */
void job_share_local(struct counter *c);

static inline void job_share(struct counter *c)
{
    if (counter_is_local(c))
        job_share_local(c);
}

/* Whether c is one that j (or the job around this coir_try) spawned on in its frames. */
bool job_owns(const struct job *j, struct counter *c);

/* A fresh failure record, without words, for the job (or the boundary) that runs; NULL: for none. */
void job_failure(struct job *j, coir_failure *f, int outcome, enum coir_kind kind);

/* The name of the domain whose job, or whose finalizer, runs here; "": none. */
const char *job_domain(const struct job *j);

/* A panic that the job's record describes has begun: it is kept, counted and told to the hook and the log;
 * from then on the job is raising. Does not return if the policy is to abort. text: the whole message. frame: of
 * the function whose callers make the backtrace, if it is asked for; NULL: has none. */
void job_panicked(struct job *j, const char *text, const void *frame);
void job_faulted(struct job *j, const char *text, const struct trace *walked); /* the same of a fault */

/* A panic has ended, at its boundary or before: the frames it has passed belong to its record. */
void job_keep_trace(struct job *j);

/* It has more to end than locks and handlers from now on. */
static inline void job_keep(struct job *j)
{
    if (j->keeps)
        return;
    j->locals = NULL;
    atomic_store_explicit(&j->awaited, 0, memory_order_relaxed); /* nobody else knows of it yet */
    j->awaited_from = UINTPTR_MAX;
    j->keeps = true;
}

/* Whether it has spawned work that waits for counters of its frames. */
static inline bool job_is_awaited(const struct job *j)
{
    return j->keeps && atomic_load_explicit(&j->awaited, memory_order_acquire); /* AWAITED */
}

/* Frames go, from this address on, but are whole: so does all work that waits for counters there. */
void job_end_awaited(struct job *j, uintptr_t frame);

/* The job has called coir_fail, and ended; a panic that was swallowed since has written over the record.
 * COIR_FAILED. */
int job_failed(struct job *j);

/* It has returned, and no frame is left to unwind; but what it left behind is a panic. COIR_PANICKED. */
int job_panicked_at_return(struct job *j, enum coir_kind kind, const char *text);

/* What the row of waits does for this one; set by coir_open, the same for all runtimes. */
struct job_ops {
    void (*cancel)(struct counter *c, enum coir_cancel cause); /* asks its jobs to stop */
    void (*join)(struct counter *c);   /* waits for it, uninterrupted */
    int (*end_locals)(struct job *j, int outcome); /* destroys what the job keeps; its outcome then */
    /* Drops work that waits for counters in its frames; true: there was some. from: those on from there, whoever has
     * spawned it; 0: what job_is_awaited tells of. */
    bool (*end_awaited)(struct job *j, uintptr_t from);
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

/* Frames below `end` go, and are whole still: locks and holds that lie in them are let go. */
void job_leave_locks(struct job *j, uintptr_t end);

/* A counter that the job owns is not where it was: its frame has gone. Aborts. */
__attribute__((noreturn, cold)) void job_lost_counter(void);

/* Cancels and waits for what the job still owns. frame: as above. */
void job_settle_owned(struct job *j, uintptr_t frame);

/* Even: libstdc++ takes any class with the lowest bit set for a rethrown exception of its own, and
 * follows a pointer before its header: std::terminate would fault (a noexcept frame of clang's). */
#define JOB_EXCEPTION_CLASS UINT64_C(0x434f4952504e4300) /* "COIRPNC\0" */

#endif
