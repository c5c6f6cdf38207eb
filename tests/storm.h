/* SPDX-License-Identifier: MIT */
/*
 * storm.h - what the jobs of the storm and those who conduct it share: the kinds, and the books that a
 * model keeps of what must come out. See storm_test.c.
 *
 * Each kind has one outcome, whatever happens around it: once it has begun, it ends so, canceled or
 * not. So the books are exact without knowing any schedule.
 */
#ifndef COIR_STORM_H
#define COIR_STORM_H

#include "run.h"
#include "threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Enumerators, name, outcome, how often it is drawn (all together 1024). */
#define STORM_KINDS(X)                                                                             \
    X(plain, "panic", COIR_PANICKED, 205)                                                          \
    X(frames, "with cleanups", COIR_PANICKED, 120)                                                 \
    X(handlers, "with handlers", COIR_PANICKED, 60)                                                \
    X(handler, "in a handler", COIR_PANICKED, 40)                                                  \
    X(owner, "owning children", COIR_PANICKED, 60)                                                 \
    X(in_place, "after children's", COIR_PANICKED, 50)                                             \
    X(resumed, "after a resume", COIR_PANICKED, 50)                                                \
    X(parked, "after a park", COIR_PANICKED, 40)                                                   \
    X(requires, "coir_require", COIR_PANICKED, 50)                                                 \
    X(tries, "inside coir_try", COIR_DONE, 50)                                                     \
    X(locks, "holding a mutex", COIR_PANICKED, 40)                                                 \
    X(writes, "holding to write", COIR_PANICKED, 30)                                               \
    X(reads, "holding to read", COIR_PANICKED, 20)                                                 \
    X(ties, "over link and monitor", COIR_PANICKED, 15)                                            \
    X(peer, "waited for, lock", COIR_PANICKED, 20)                                                 \
    X(sender, "waited for, channel", COIR_PANICKED, 20)                                            \
    X(selects, "after a select", COIR_PANICKED, 10)                                                \
    X(permit, "holding a permit", COIR_PANICKED, 20)                                               \
    X(once, "inside coir_once", COIR_DONE, 10)                                                     \
    X(after, "before spawn_after", COIR_DONE, 16)                                                  \
    X(local, "in a destructor", COIR_PANICKED, 10)                                                 \
    X(offloads, "offloaded", COIR_DONE, 2)                                                         \
    X(discharges, "with obligation", COIR_PANICKED, 10)                                            \
    X(leaks, "leaking obligation", COIR_PANICKED, 10)                                              \
    X(fails, "none: coir_fail", COIR_FAILED, 20)                                                   \
    X(throws, "C++ throw", COIR_PANICKED, 16)                                                      \
    X(through, "through C++ frames", COIR_PANICKED, 10)                                            \
    X(swallows, "swallowed in C++", COIR_DONE, 6)                                                  \
    X(overflows, "stack overflow", COIR_PANICKED, 4)                                               \
    X(overflow_owner, "overflow, owning", COIR_PANICKED, 4)                                        \
    X(wild, "SIGSEGV", COIR_PANICKED, 4)                                                           \
    X(aborts, "abort()", COIR_PANICKED, 2)

enum {
#define STORM_ENUM(id, name, outcome, weight) STORM_##id,
    STORM_KINDS(STORM_ENUM)
#undef STORM_ENUM
    STORM_KIND_COUNT
};

#define STORM_DECLARE(id, name, outcome, weight) void storm_##id(void *job);
STORM_KINDS(STORM_DECLARE)
#undef STORM_DECLARE

/* What must come out; each a count, atomic. */
struct storm_books {
    long accepted;                /* jobs that a spawn or submit took */
    long ran[COIR_PANICKED + 1];  /* jobs that began, by the outcome of their kind */
    long expired;                 /* jobs whose counter told so */
    long unobserved;              /* jobs that failed and were owed to nobody */
    long raised[STORM_KIND_COUNT]; /* panics, by kind */
    long swallowed;
    long due, done;               /* cleanups, handlers and destructors: to run; run */
    long taken, leaked;           /* obligations */
    long finalizers;              /* that panicked */
    long sent, received;          /* elements of channels, and what was left in them */
    long moved;                   /* jobs that panicked on another worker than they began on */
    long canceled;                /* cancels of counters and of domains */
};

extern struct storm_books storm_books;

/* A job of the storm; of its parent's batch, or of a parent's frame. */
struct storm_job {
    int kind;
    int ran; /* set by the job itself */
    uint64_t seed;

    /* What its handlers use: they run when its frames have gone. */
    coir_obligation obligation;
    coir_channel channel;
    int ring[2];
};

static inline void storm_add(long *n, long more)
{
    __atomic_fetch_add(n, more, __ATOMIC_RELAXED);
}

/* A job that will end like this has begun. */
static inline void storm_began(int outcome)
{
    storm_add(&storm_books.ran[outcome], 1);
}

/* The same for one of a batch. Returns it. */
struct storm_job *storm_begin(void *job);

/* It is about to panic. */
static inline void storm_raises(const struct storm_job *j)
{
    storm_add(&storm_books.raised[j->kind], 1);
}

/* Spawns unless that is refused, as a canceled or full domain does; true: it is owed. */
int storm_spawn(coir_counter *c, coir_fn *fn, void *arg);

/* Handlers, cleanups and destructors. */
static inline void storm_owes(long n)
{
    storm_add(&storm_books.due, n);
}

static inline void storm_paid(void *unused)
{
    (void)unused;
    storm_add(&storm_books.done, 1);
}

/* ------------------------------------------------------------------------------------- the books */

#ifdef CHECK_STRESS
#define STORM_WORKERS 8 /* more than processors */
#else
#define STORM_WORKERS 2
#endif

/* Sanitizers' own memory grows; what coir allocates is counted all the same. */
#define STORM_MEASURED (!SLOW)

struct storm_kind {
    const char *name;
    coir_fn *fn;
    int outcome, weight;
};

extern const struct storm_kind storm_kinds[STORM_KIND_COUNT];

/* Panics of all kinds so far. */
long storm_raised(void);

/* For the options of the runtime: what it tells is counted. */
coir_metrics storm_metrics(void);
void *storm_alloc(size_t bytes, void *unused);
void storm_free(void *memory, void *unused);

/* What is in use when nothing runs. */
struct storm_rest {
    long resident_kib, blocks, bytes;
    coir_stats stats;
};

/* Waits for it. Counters settle before the fiber that ran the last job has gone back. */
struct storm_rest storm_at_rest(coir_runtime *rt);

/* All that must hold after the storm, at rest; and when the runtime has been closed. */
void storm_check(coir_runtime *rt, coir_domain *top, const struct storm_rest *first,
                 const struct storm_rest *last);
void storm_check_closed(void);

void storm_print(const struct storm_rest *first, const struct storm_rest *last, int64_t ns, uint64_t seed);

/* Counters that jobs tie links and monitors to: from now on; all that was tied is gone. */
void storm_tie(void);
void storm_untie(void);

/* One line, while it goes on. */
void storm_tell(const struct storm_rest *now, int64_t ns);

/* Registers the code that may be contained. */
void storm_register(void);

#ifdef __cplusplus
}
#endif

#endif
