/* SPDX-License-Identifier: MIT */
/*
 * scope.h - what a job carries of its domain: admission, deadline, cancel, and the domain's books.
 * See scope.c. What users call is in domain.c, drain.c and obligation.c.
 */
#ifndef COIR_SCOPE_H
#define COIR_SCOPE_H

#include "breaker.h"
#include "counter.h"
#include "state.h"
#include "wipe.h"

struct obligation;

#define DOMAIN_NAME_BYTES 32
#define OBLIGATION_CHUNKS 24 /* the first holds 32, each further one twice as many as the one before */

/* The fourth word of a piece of work; NULL there: the runtime's own, with no limit and no deadline. */
struct scope {
    struct coir_domain *domain;
    int64_t deadline;           /* COIR_NEVER: none, and this is the one inside the domain */
    int64_t warn_at;            /* who starts later has little time left; with a deadline only */
    _Atomic uint64_t carriers;  /* work that carries it, of a record of its own */
    struct scope *next;         /* in its worker's list, while nobody carries it */
};

/* A job that runs, in its domain's list; inside struct job. */
struct member {
    struct member *next, *prev;
};

/* Who waits for a place, in its own frame. */
struct entrant {
    struct entrant *next, *prev;
    struct coir_domain *target; /* what it wants to enter: the domain it waits at, or one below */
    struct counter turn;        /* owed one unit until it is let in or turned away */
    int verdict;                /* then: COIR_OK, or a status */
    bool listed;                /* lock held */
};

/* A function to call when the domain closes. */
struct finalizer {
    struct finalizer *older;
    coir_fn *fn;
    void *arg;
};

/* Promises to be kept before the domain closes; obligation.c. */
struct obligations {
    struct obligation *chunk[OBLIGATION_CHUNKS];
    struct obligation *unused, *unbound; /* lists */
    uint32_t made;                       /* slots in use or unused */
    int64_t second;                      /* of the log's limit */
    unsigned said;                       /* lines in that second */
};

/*
 * What has happened in the domain itself, and in domains below it that are closed.
 *   admitted == ended[0] + ... + ended[COIR_PANICKED] + units owed to jobs, when nothing moves.
 */
struct domain_books {
    uint64_t admitted, refused, trips; /* of closed domains below; its own are counted elsewhere */
    uint64_t ended[COIR_PANICKED + 1];
    uint64_t skipped;  /* of those CANCELED: by a tripped breaker */
    uint64_t finalizer_panics;
    uint64_t taken, held, leaked; /* obligations: ever, open now, not discharged in time */
    uint64_t denied;
    uint64_t memory_leaked; /* bytes still charged when their domain closed */
};

struct coir_domain {
    /* Constant once it is open. */
    struct scope scope;         /* carried by jobs without a deadline */
    struct coir_runtime *rt;
    struct coir_domain *parent;
    struct coir_domain *judge;  /* this or the nearest above that has a threshold: counts the panics */
    uint64_t jobs_max;          /* 0: no limit */
    int full;                   /* enum coir_full */
    unsigned depth;             /* domains above it */
    int64_t full_wait_ns;       /* COIR_FULL_WAIT: at most so long */
    int64_t deadline_ns;        /* from submission; COIR_NEVER: none */
    unsigned contained;         /* faults that end a job of it and not the process: FAULT_OVERFLOW, and
                                   bits of enum coir_fault; read by the handler */
    uint64_t memory_max;        /* bytes; 0: no limit */
    uint64_t stacks_max;        /* jobs that may be parked; 0: no limit */
    struct coir_domain *stacks_at; /* this or the nearest above that has such a limit, or NULL */
    uint64_t tenant;            /* what its jobs are to a stack (wipe.h) */
    char name[DOMAIN_NAME_BYTES];
    int64_t stall_ns;           /* how long its jobs may go on without suspending (stall_limit.c); 0: nobody watches */
    struct child *supervised;   /* whose domain it is (supervised.c), or NULL; set before it has jobs, under
                                   rt->domains_lock */

    /* Read at each job's start, written when something is wrong. */
    _Alignas(COIR_CACHE_LINE) _Atomic bool canceled; /* its jobs and those below are to stop */
    _Atomic bool closing;       /* nothing from outside is admitted */
    struct breaker breaker;

    /* Written by each job. */
    _Alignas(COIR_CACHE_LINE) struct counter jobs; /* one unit for each job, of domains below too */
    _Atomic uint64_t admitted, refused;
    _Atomic uint64_t denied;    /* charges and waits refused for a limit */
    _Atomic uint64_t stacks;    /* jobs parked, those of domains below too; with a limit only */
    _Atomic uint64_t memory;    /* bytes charged, to domains below too */
    _Atomic uint64_t charged;   /* bytes charged to the domain itself */
    _Atomic unsigned visitors;  /* calls from outside that look at the domain without a unit */

    struct lock lock;           /* guards all below */
    struct member *members;     /* jobs that run, of the domain itself */
    struct entrant *first, *last; /* who waits for a place, the first come first */
    struct finalizer *finalizers;
    struct domain_books books;
    struct obligations obligations;

    /* The tree: rt->domains_lock. */
    struct coir_domain *child, *next; /* first child; next sibling, or root of the runtime */
    bool busy;                  /* somebody is closing it */
    bool reaped;                /* of a child that has ended: its supervisor is, or is about to */
    bool still;                 /* who holds it looks at those below without the lock: none of them goes */
    struct coir_domain *also;   /* the next of those that the same caller closes at once; the closer's */
    struct coir_supervisor *supervisor; /* that runs in it (supervisor.c), or NULL */
    struct coir_pool *pool;     /* whose workers it has (pool.c), or NULL */
};

/* What work of this scope is to a stack. */
static inline uint64_t scope_tenant(const struct scope *s)
{
    return s ? s->domain->tenant : TENANT_OUTSIDE;
}

/* Whether it is asked to stop. */
static inline bool scope_canceled(const struct scope *s)
{
    for (struct coir_domain *d = s->domain; d; d = d->parent)
        if (atomic_load_explicit(&d->canceled, memory_order_seq_cst)) /* ASK, fiber.c */
            return true;
    return false;
}

/* VISIT (domain.c): a call from outside looks at the domain without a unit. */
static inline void domain_visit(struct coir_domain *d)
{
    atomic_fetch_add_explicit(&d->visitors, 1, memory_order_seq_cst); /* VISIT */
}

static inline void domain_leave(struct coir_domain *d)
{
    atomic_fetch_sub_explicit(&d->visitors, 1, memory_order_release); /* VISIT: the last access */
}

static inline bool domain_is_closing(struct coir_domain *d)
{
    return atomic_load_explicit(&d->closing, memory_order_seq_cst); /* VISIT */
}

/* Whether d is `in`, or below it. */
static inline bool domain_within(const struct coir_domain *d, const struct coir_domain *in)
{
    while (d && d != in)
        d = d->parent;
    return d != NULL;
}

/* What comes after d in the tree of `top`, each before those below it; NULL: nothing. Tree locked. */
static inline struct coir_domain *domain_after(const struct coir_domain *d, const struct coir_domain *top)
{
    if (d->child)
        return d->child;
    while (d != top && !d->next)
        d = d->parent;
    return d == top ? NULL : d->next;
}

/* Takes one place at this level alone; false: it is full. */
bool domain_take_place(struct coir_domain *d);

/* Gives back n places at each level from d up to, but not including, `end`; NULL: all levels. Places go
 * to those who wait first. The last access to domains that may close then. */
void domain_give_back(struct coir_domain *d, const struct coir_domain *end, uint64_t n);

/* Lock held. */
void domain_enlist(struct coir_domain *d, struct entrant *e);
void domain_delist(struct coir_domain *d, struct entrant *e);

/* Admits n pieces of work that a job of this scope spawns: COIR_OK, COIR_ECANCELED, or COIR_EAGAIN, and
 * then nothing is admitted. */
int scope_admit(struct scope *s, uint64_t n);

/* The queue has refused the n pieces that were admitted last. */
void scope_revoke(struct scope *s, uint64_t n);

/* The scope of a job that has a place at each level: the domain's own, or a record. NULL: no memory. */
struct scope *scope_make(struct coir_domain *d, int64_t deadline);

/* Frees the records that a worker has kept. */
void scope_free_kept(struct worker *w);

/* Whether work may start, and if not, why. */
enum scope_verdict { SCOPE_RUN, SCOPE_CANCELED, SCOPE_EXPIRED, SCOPE_TRIPPED };

/* who: stands for the job until scope_leave. TRIPPED: *by is the domain whose breaker is open. */
enum scope_verdict scope_judge(struct scope *s, const void *who, struct coir_domain **by);

/* Takes back the probes that `who` was to be from d up to, but not including, `end`; NULL: at all levels. For who has
 * not started after all, or goes on for so long that nobody may wait to hear how it went. */
void scope_recall(struct coir_domain *d, const struct coir_domain *end, const void *who);

/* A job of it is about to park: counts its stack at each level that has a limit. False: one is reached, and
 * nothing is counted. must: never refused. */
bool scope_take_stack(struct scope *s, bool must);
void scope_give_stack(struct scope *s);

/* The job starts. */
void scope_enter(struct scope *s, struct member *m);

/* The job has ended; who as in scope_verdict. The last access to the scope and its domain. */
void scope_leave(struct scope *s, struct member *m, const void *who, int outcome, uint64_t record);

/* Work that never started has ended. The last access. */
void scope_drop(struct scope *s, enum scope_verdict why);

#endif
