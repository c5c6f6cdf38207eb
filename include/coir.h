/* SPDX-License-Identifier: MIT */
/*
 * coir.h - the whole public interface of coir, an embeddable fiber runtime.
 *
 * A runtime owns worker threads. A job is a function call that a worker runs inside a panic
 * boundary. A job that blocks becomes a fiber: it keeps the stack it is on, and the worker goes
 * on with another. A counter waits for a set of jobs and carries the worst of their outcomes.
 *
 * Conventions
 *   Status      int; 0 (COIR_OK) or a negative COIR_E*, equal to -errno where one fits. A function
 *               that returns something else as well says so. errno is never used: it belongs to
 *               a thread, and a fiber changes threads.
 *   Time        nanoseconds of coir_now(), which is monotonic. Deadlines are absolute.
 *               COIR_NEVER is the deadline that does not pass; a past one gives COIR_ETIMEDOUT.
 *   Ownership   "borrowed" memory stays the caller's and must stay valid as long as is said.
 *   Suspends    a function that suspends may resume on another thread. Do not hold a pthread
 *               mutex across it, and do not keep errno, pthread_self() or a thread-local address.
 *   Signals     no function here may be called from a signal handler unless it says so.
 *   NULL        a NULL pointer gives COIR_EINVAL unless a meaning is stated.
 *   C++         usable as it is. A catch (...) inside a job that does not rethrow swallows a
 *               panic, and the jobs spawned on counters of the frames it left are then the
 *               program's duty.
 */
#ifndef COIR_H
#define COIR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COIR_VERSION_MAJOR 0
#define COIR_VERSION_MINOR 1
#define COIR_VERSION_PATCH 0

#define COIR_API __attribute__((visibility("default")))
#define COIR_MUST_USE __attribute__((warn_unused_result))

/* ---------------------------------------------------------------------- status and outcome */

/* name, value, text */
#define COIR_STATUS_MAP(X)                                                                        \
    X(COIR_OK, 0, "success")                                                                      \
    X(COIR_EPERM, -1, "not allowed from this thread")                            \
    X(COIR_EINTR, -4, "interrupted")                                                              \
    X(COIR_ENOENT, -2, "no such record")                                                          \
    X(COIR_EIO, -5, "input or output error")                                                      \
    X(COIR_EBADF, -9, "not an open descriptor")                                                   \
    X(COIR_EAGAIN, -11, "the queue is at its limit; try later")                                   \
    X(COIR_ENOMEM, -12, "out of memory, address space or stacks")                                 \
    X(COIR_EACCES, -13, "permission denied")                                                      \
    X(COIR_EBUSY, -16, "in use")                                                                  \
    X(COIR_EINVAL, -22, "invalid argument")                                                       \
    X(COIR_EMFILE, -24, "too many open descriptors")                                              \
    X(COIR_EPIPE, -32, "the peer no longer reads")                                                \
    X(COIR_ERANGE, -34, "an option is out of its range")                                          \
    X(COIR_EDEADLK, -35, "the wait could never end")                                              \
    X(COIR_ENOSYS, -38, "not available on this system")                                           \
    X(COIR_ENOTSUP, -95, "not supported in this process")                                         \
    X(COIR_EADDRINUSE, -98, "address already in use")                                             \
    X(COIR_EADDRNOTAVAIL, -99, "address not available")                                           \
    X(COIR_ECONNABORTED, -103, "connection aborted")                                              \
    X(COIR_ECONNRESET, -104, "connection reset by peer")                                          \
    X(COIR_ENOTCONN, -107, "not connected")                                                       \
    X(COIR_ESHUTDOWN, -108, "the runtime or domain closes")                                           \
    X(COIR_ETIMEDOUT, -110, "deadline passed")                                                    \
    X(COIR_ECONNREFUSED, -111, "connection refused")                                              \
    X(COIR_EHOSTUNREACH, -113, "no route to host")                                                \
    X(COIR_ECANCELED, -125, "canceled")

enum coir_status {
#define COIR_STATUS_VALUE(name, value, text) name = (value),
    COIR_STATUS_MAP(COIR_STATUS_VALUE)
#undef COIR_STATUS_VALUE
};

/* How a job ended, from best to worst; a counter keeps the worst. */
enum coir_outcome {
    COIR_DONE = 0, /* returned */
    COIR_FAILED,   /* ended with an error that its owner can respond to */
    COIR_EXPIRED,  /* its deadline passed before it started */
    COIR_CANCELED, /* canceled before it started, or dropped at shutdown */
    COIR_PANICKED  /* a panic, a foreign exception or a contained fault ended it */
};

/* What a failure record is about. */
enum coir_kind {
    COIR_KIND_NONE = 0,
    COIR_KIND_PANIC,    /* coir_panic, or a failed coir_require */
    COIR_KIND_FOREIGN,  /* an exception of another language reached the boundary */
    COIR_KIND_OWED,     /* a job returned while jobs still owed a counter of its frame */
    COIR_KIND_SKIPPED,  /* canceled before it started, or its domain has tripped */
    COIR_KIND_SHUTDOWN, /* dropped because the runtime closed */
    COIR_KIND_DEPENDENCY, /* a job it was spawned after did not end as COIR_DONE */
    COIR_KIND_DONE,     /* ended by coir_counter_done with an outcome other than COIR_DONE */
    COIR_KIND_EXPIRED   /* its deadline passed before it started */
};

#define COIR_MESSAGE_BYTES 72

/* A failure record: what broke, where and when. Plain data, copied out to the caller. */
typedef struct coir_failure {
    uint64_t id;      /* unique in the process; 0: no failure */
    uint64_t job;     /* id of the job that failed; 0: not a job (coir_try on a plain thread) */
    int64_t time;     /* coir_now() when it failed */
    const char *file; /* of the coir_panic; NULL: unknown */
    int line;         /* of the coir_panic; 0: unknown */
    int kind;         /* enum coir_kind */
    int outcome;      /* enum coir_outcome */
    int worker;       /* index of the worker it happened on; -1: a plain thread */
    char message[COIR_MESSAGE_BYTES]; /* terminated; cut to fit */
} coir_failure;

/*
 * Name of a status or an outcome, for people.
 *
 * Returns     a static string such as "COIR_ETIMEDOUT" or "COIR_PANICKED"; "COIR_E?" if unknown
 * Call from   anywhere, signal handlers too
 */
COIR_API const char *coir_status_name(int status);

/*
 * Text of a status or an outcome, for people.
 *
 * Returns     a static string such as "deadline passed"; "unknown status" if unknown
 * Call from   anywhere, signal handlers too
 */
COIR_API const char *coir_status_text(int status);

/*
 * Version of the library that is linked, "MAJOR.MINOR.PATCH".
 *
 * Call from   anywhere, signal handlers too
 */
COIR_API const char *coir_version(void);

/* ------------------------------------------------------------------------------------- time */

#define COIR_NEVER INT64_MAX

#define COIR_US INT64_C(1000)       /* nanoseconds in a microsecond */
#define COIR_MS INT64_C(1000000)    /* nanoseconds in a millisecond */
#define COIR_SEC INT64_C(1000000000) /* nanoseconds in a second */

/*
 * Monotonic time now (CLOCK_MONOTONIC).
 *
 * Returns     nanoseconds
 * Call from   anywhere, signal handlers too
 * Cost        one vDSO call, about 25 ns
 */
COIR_API int64_t coir_now(void);

/* ------------------------------------------------------------------------- runtime: open, close */

typedef struct coir_runtime coir_runtime;

/* A function that a job runs. arg is whatever was given with it; coir never looks inside. */
typedef void coir_fn(void *arg);

enum coir_faults {
    COIR_FAULTS_NONE = 0, /* no signal handler is installed */
    COIR_FAULTS_REPORT    /* a stack overflow prints one report, then the process aborts */
};

enum coir_io {
    COIR_IO_AUTO = 0, /* io_uring where the kernel allows it, else epoll */
    COIR_IO_URING,    /* io_uring, or coir_open fails with COIR_ENOSYS */
    COIR_IO_EPOLL
};

enum coir_log_level { COIR_LOG_ERROR = 0, COIR_LOG_WARNING, COIR_LOG_INFO };

/*
 * Options of a runtime. Zero the struct, set size to sizeof(coir_options), set what you need: a
 * zero field means its default. A caller built against an older, shorter struct keeps working,
 * and a newer, longer one works if the part this library does not know is zero.
 */
typedef struct coir_options {
    size_t size;        /* sizeof(coir_options) as the caller knows it; required */
    unsigned workers;   /* worker threads; 0: min(CPU affinity, cgroup quota); at most 256 */
    unsigned pin;       /* 1: worker i is bound to the i-th allowed CPU */
    size_t stack_bytes; /* per fiber, without guard; 0: 64 KiB; 16 KiB to 64 MiB, rounded up to a page */
    size_t stacks_max;  /* fibers that can be parked at once; 0: 1,000,000; at most 16 M */
    size_t prefault;    /* stacks whose first page is touched at open; 0: none */
    size_t jobs_max;    /* jobs that may be queued and not started; 0: 1,048,576 */
    int64_t spin_ns;    /* an idle worker looks for work this long before it sleeps; 0: 50 us;
                           negative: sleeps at once; COIR_NEVER: never sleeps (poll mode) */
    unsigned share_fp;  /* 1: fibers share their thread's floating-point control words (MXCSR, x87
                           control word, FPCR); 0: each fiber keeps its own, as the ABI says */
    unsigned offload_threads; /* threads for coir_offload, started when first needed; 0: 4; at most 256 */
    enum coir_faults faults;
    enum coir_io io;

    /* Called for every allocation of the runtime, stacks included (a block of many). The memory
     * need not be zeroed; it is aligned as malloc's. NULL: the system's. Both or neither. Called
     * from any thread, not from signal handlers; must not call back into coir. */
    void *(*alloc)(size_t bytes, void *alloc_arg);
    void (*free)(void *memory, void *alloc_arg);
    void *alloc_arg;

    /* Called with one line of text, without newline: panics as they happen, limits met, choices
     * made at open. NULL: errors and warnings go to standard error. Called in normal context
     * from any thread; must not suspend. */
    void (*log)(enum coir_log_level level, const char *text, void *log_arg);
    void *log_arg;

    /* Called on each worker thread before it runs its first job. NULL: nothing. Must return. */
    void (*worker_start)(unsigned worker, void *worker_start_arg);
    void *worker_start_arg;

    const char *name; /* workers are named NAME/0, NAME/1, ...; at most 11 bytes; NULL: "coir" */
} coir_options;

/* What became of the work, filled by coir_close. */
typedef struct coir_receipt {
    uint64_t ended[COIR_PANICKED + 1]; /* jobs ended, by outcome, since open */
    uint64_t dropped;  /* of those CANCELED: queued jobs dropped by this close */
    uint64_t canceled; /* parked fibers whose wait this close interrupted */
    uint64_t running;  /* jobs still running or parked when the call returned */
    int64_t drain_ns;  /* how long the drain took */
} coir_receipt;

/*
 * Opens a runtime: reserves stacks, starts the workers.
 *
 *   options    borrowed for the call; NULL: all defaults
 *   runtime    receives the handle; NULL is stored on failure
 *
 * Returns     COIR_OK; COIR_EINVAL (size wrong, one of alloc and free missing); COIR_ERANGE (an
 *             option out of its range; the log names it); COIR_ENOMEM; COIR_EAGAIN (a thread
 *             could not be started); COIR_ENOSYS (the asked I/O is not to be had);
 *             COIR_ENOTSUP (shadow stacks are enabled in this process); COIR_EPERM on a worker
 * Call from   a plain thread. Any number of runtimes may live in one process.
 * Suspends    no; blocks until every worker runs
 */
COIR_API COIR_MUST_USE int coir_open(const coir_options *options, coir_runtime **runtime);

/*
 * Closes a runtime: refuses new submissions, drains, and past the budget cancels what is left.
 *
 *   runtime    ended by COIR_OK; stays valid after any other status, for another close
 *   drain_ns   how long work may go on by itself; negative: for ever
 *   receipt    filled in every case but COIR_EINVAL and COIR_EPERM; NULL: not wanted
 *
 * When the budget has passed, queued jobs end CANCELED (kind SHUTDOWN), parked fibers get
 * COIR_ECANCELED from the call they wait in, and one more short budget (100 ms) is given for
 * that. Then, if a job still runs, the fibers that wait for it get COIR_ECANCELED; plain threads go on
 * waiting, and the next close finds what has ended meanwhile.
 *
 * Returns     COIR_OK when all work ended, whatever the outcomes; COIR_ETIMEDOUT while a job
 *             still runs; COIR_EPERM on a worker of any runtime; COIR_EBUSY while another thread closes it
 * Call from   a plain thread, one at a time
 * Ordering    everything the jobs did happens before the return
 */
COIR_API COIR_MUST_USE int coir_close(coir_runtime *runtime, int64_t drain_ns, coir_receipt *receipt);

/*
 * Opens a runtime, runs fn(arg) as its first job, drains without limit, closes.
 *
 * Returns     the first job's outcome (COIR_DONE..COIR_PANICKED), or a status of coir_open
 * Call from   a plain thread
 */
COIR_API COIR_MUST_USE int coir_run(const coir_options *options, coir_fn *fn, void *arg);

/*
 * The runtime whose fiber is calling.
 *
 * Returns     the handle; NULL on a plain thread
 */
COIR_API coir_runtime *coir_current(void);

/* Figures of a runtime since open; each is exact once the runtime is idle. */
typedef struct coir_stats {
    uint64_t spawned;  /* jobs accepted by spawn and submit */
    uint64_t ended[COIR_PANICKED + 1]; /* jobs ended, by outcome */
    uint64_t panics;   /* panics raised, those ended by coir_try too */
    uint64_t swallowed; /* panics that a foreign catch ended */
    uint64_t unobserved; /* failed jobs without a counter: nobody could be told */
    uint64_t parked;   /* fibers parked now */
    uint64_t stacks;   /* stacks in existence */
    uint64_t stacks_limit; /* stacks this process can hold, as found at open */
    uint64_t switches; /* context switches */
    uint64_t steals;   /* jobs and fibers taken from another worker */
    uint64_t sleeps;   /* times a worker went to sleep */
    unsigned workers;
    int io;            /* enum coir_io in use: COIR_IO_URING or COIR_IO_EPOLL */
} coir_stats;

/*
 * Reads the figures of a runtime.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 * Cost        a few loads per worker
 */
COIR_API int coir_stats_read(coir_runtime *runtime, coir_stats *stats);

/* --------------------------------------------------------------------------------- counters */

/*
 * A counter: how many jobs are still owed, the worst outcome, and the first failure.
 *
 * Lives in the caller's memory, usually a local variable; allocates nothing. All zero is valid.
 * It is ended only by a wait that returns an outcome: after COIR_ETIMEDOUT or COIR_ECANCELED jobs
 * still owe it, so wait again before its memory goes. After an outcome the memory may be reused
 * or freed at once. The outcome stays until coir_counter_init.
 *
 * A counter that is a local variable of a job, and that this job has spawned on, is known to the
 * job: a panic settles it first, and a return while it is owed is a panic. So this very job must wait for
 * it, or coir_counter_init it, before it leaves the block in which the variable lives.
 */
typedef struct coir_counter {
    uint64_t opaque[24];
#ifdef __cplusplus
} __attribute__((aligned(16))) coir_counter;
#define COIR_COUNTER_INIT {}
#else
} __attribute__((aligned(16))) coir_counter;
#define COIR_COUNTER_INIT {{0}}
#endif

/*
 * Makes a counter new: nothing owed, outcome DONE, no failure. No job may owe it.
 */
COIR_API void coir_counter_init(coir_counter *counter);

/*
 * Adds n to what is owed, by hand: a guard around work that is not a job. Each unit is released
 * by one coir_counter_done.
 *
 *   n          1 or more; anything else is a panic (an abort on a plain thread outside coir_try)
 *
 * While others wait on the counter, only a job that is itself counted may add.
 */
COIR_API void coir_counter_add(coir_counter *counter, long n);

/*
 * Releases one unit, with an outcome; the last one wakes the waiters and is the last access.
 *
 *   outcome    COIR_DONE..COIR_PANICKED; anything else is a panic
 *
 * Call from   any thread
 * Ordering    what the caller did happens before the return of every wait
 */
COIR_API void coir_counter_done(coir_counter *counter, int outcome);

/*
 * Copies out the first failure of the counter's jobs. Exact after the wait returned an outcome.
 *
 * Returns     COIR_OK; COIR_ENOENT when no job failed
 * Call from   any thread that the wait has returned to
 */
COIR_API int coir_counter_failure(const coir_counter *counter, coir_failure *failure);

/*
 * Asks the jobs of a counter to stop: those not started end CANCELED without running; those that
 * block get COIR_ECANCELED from the call they block in; those that compute may ask coir_canceled.
 * The request passes on to the jobs that they wait for. It stays until coir_counter_init.
 *
 * Returns     COIR_OK, COIR_EINVAL. The jobs are still owed: wait for the counter.
 * Call from   any thread while the counter lives
 * Cost        looks at every stack of the runtime; not for the fast path
 */
COIR_API int coir_counter_cancel(coir_counter *counter);

/*
 * Waits until nothing is owed to the counter.
 *
 *   counter    borrowed for the call
 *   deadline   see COIR_NEVER
 *
 * A wait without deadline may run jobs of this very counter in place, on the caller's stack, as
 * nested calls. If the counter is a local variable that the calling job has spawned on, such a wait
 * passes a cancel of the caller on to the counter's jobs and returns when they have settled.
 *
 * Returns     COIR_DONE..COIR_PANICKED, the worst outcome. Or, with jobs still owed:
 *             COIR_ETIMEDOUT; COIR_ECANCELED (the caller is canceled; its next wait is not
 *             interrupted); COIR_ENOMEM (no stack left to park on)
 * Call from   a fiber (parks) or a plain thread (blocks)
 * Suspends    yes
 * Ordering    all that the jobs did happens before the return
 * Cost        one load if nothing is owed, else two switches; never allocates
 */
COIR_API COIR_MUST_USE int coir_wait_until(coir_counter *counter, int64_t deadline);

/* coir_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_wait(coir_counter *counter);

#define COIR_WAIT_ANY_MAX 64

/*
 * Waits until nothing is owed to at least one of n counters.
 *
 *   counters   borrowed for the call; n pointers, none NULL
 *   n          1 to COIR_WAIT_ANY_MAX
 *   which      receives the index of the lowest counter found complete; NULL: not wanted
 *
 * Returns     the outcome of that counter; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM;
 *             COIR_EINVAL (n out of range). The other counters are still owed.
 * Call from   a fiber or a plain thread
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_wait_any(coir_counter *const *counters, size_t n, int64_t deadline,
                                         size_t *which);

/* ------------------------------------------------------------------------------------- jobs */

/*
 * Starts a job: fn(arg) will run on some worker of the caller's runtime, newest first.
 *
 *   counter    owed one unit until the job has ended; NULL: nobody waits
 *   arg        must stay valid until the job has ended
 *
 * Returns     COIR_OK; COIR_EPERM on a plain thread; COIR_EINVAL (fn NULL); COIR_EAGAIN
 *             (options.jobs_max jobs are queued, or its domain is full); COIR_ECANCELED (its domain
 *             is canceled); COIR_ENOMEM. On failure nothing is owed.
 * Call from   a fiber
 * Suspends    no
 * Ordering    what the caller did before happens before fn
 * Cost        about two atomic operations; never allocates while the worker's queue has room
 */
COIR_API int coir_spawn(coir_counter *counter, coir_fn *fn, void *arg);

/*
 * Starts n jobs: fn(first), fn(first + stride), ... all owed to one counter. All or none.
 *
 *   stride     bytes between the arguments; 0: all get the same
 *
 * Otherwise as coir_spawn; n 0 is COIR_OK.
 */
COIR_API int coir_spawn_many(coir_counter *counter, coir_fn *fn, void *first, size_t stride,
                             size_t n);

/*
 * Starts fn(arg) when everything owed to `after` has settled as COIR_DONE; otherwise the job ends
 * CANCELED (kind DEPENDENCY) without running.
 *
 *   after      borrowed until the job has started or ended
 *   done       owed one unit until the job has ended; NULL: nobody waits
 *
 * Returns     as coir_spawn
 * Call from   a fiber
 * Suspends    no
 * Cost        allocates one small record
 */
COIR_API int coir_spawn_after(coir_counter *after, coir_counter *done, coir_fn *fn, void *arg);

/*
 * Starts a job from outside: fn(arg) will run on some worker, oldest first.
 *
 *   counter    as for coir_spawn
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_EAGAIN (options.jobs_max jobs are queued); COIR_ENOMEM;
 *             COIR_ESHUTDOWN (coir_close has begun). On failure nothing is owed.
 * Call from   any thread, fibers of other runtimes too
 * Suspends    no
 * Ordering    what the caller did before happens before fn
 */
COIR_API int coir_submit(coir_runtime *runtime, coir_counter *counter, coir_fn *fn, void *arg);

/*
 * Lets everything that is runnable on this worker go first. On a plain thread: sched_yield.
 *
 * Suspends    yes
 */
COIR_API void coir_yield(void);

/*
 * Sleeps until the deadline. A plain thread sleeps as well.
 *
 * Returns     COIR_OK when the time has come; COIR_ECANCELED; COIR_ENOMEM (no stack left)
 * Suspends    yes
 */
COIR_API int coir_sleep_until(int64_t deadline);

/*
 * Whether the calling job, its domain, or a job that waits for it on this stack, is asked to stop.
 *
 * Returns     1 or 0; 0 on a plain thread outside every domain
 */
COIR_API int coir_canceled(void);

/*
 * Names the calling job in reports and debuggers.
 *
 *   name       borrowed until the job ends; NULL: none
 *
 * Returns     COIR_OK; COIR_EPERM on a plain thread
 */
COIR_API int coir_job_name(const char *name);

/*
 * Id of the calling job, unique in its runtime; 0 outside a job.
 */
COIR_API uint64_t coir_job_id(void);

/* ------------------------------------------------------------------------------------ panic */

/*
 * Ends the calling job: unwinds its stack to the innermost boundary (the job's, or coir_try's),
 * running __attribute__((cleanup)) handlers of C compiled with -fexceptions, C++ destructors and
 * coir_defer handlers on the way. The jobs that it spawned on counters inside these frames are
 * canceled and waited for first. The counter it is owed to becomes PANICKED.
 *
 * The message is formatted as printf does. Outside a boundary, while a cleanup of an earlier panic
 * runs, or with a frame without unwind tables in the way, the process aborts with a report.
 *
 * Call from   a job, or below coir_try on any thread
 * Suspends    yes, if jobs are owed to its frames
 */
#define coir_panic(...) coir_panic_at(__FILE__, __LINE__, __VA_ARGS__)

/* Panics unless the condition holds. */
#define coir_require(condition, ...)                                                              \
    ((condition) ? (void)0 : coir_panic_at(__FILE__, __LINE__, __VA_ARGS__))

/* What coir_panic calls, for bindings of other languages. file is borrowed for ever. */
COIR_API __attribute__((noreturn, cold, format(printf, 3, 4))) void
coir_panic_at(const char *file, int line, const char *format, ...);

/*
 * Runs fn(arg) inside a boundary of its own: the place to put at the edge of foreign code.
 *
 *   failure    filled on COIR_PANICKED; NULL: not wanted
 *
 * coir_defer inside fn belongs to this boundary and runs before the return.
 *
 * Returns     COIR_DONE; COIR_PANICKED; COIR_EINVAL
 * Call from   a fiber or a plain thread
 * Suspends    only if fn does
 * Cost        a call; nothing more while nobody panics
 */
COIR_API COIR_MUST_USE int coir_try(coir_fn *fn, void *arg, coir_failure *failure);

#define COIR_DEFER_INLINE 8

/*
 * Runs fn(arg) when the job (or the innermost coir_try) ends, however it ends; last in, first out.
 *
 * The first COIR_DEFER_INLINE of a boundary cannot fail. A handler that panics makes the job end
 * PANICKED; the other handlers still run.
 *
 * Returns     COIR_OK; COIR_ENOMEM (after the first 8); COIR_EPERM outside a boundary; COIR_EINVAL
 */
COIR_API COIR_MUST_USE int coir_defer(coir_fn *fn, void *arg);

/* ---------------------------------------------------------------------------------- domains */

/*
 * A domain is a region that jobs run in: it limits how many there are, stops admitting them to a queue
 * that fails, ends them together, and does not close before they have. Domains form a tree. What a
 * job spawns runs in its domain and under its deadline. Jobs outside every domain run in the
 * runtime alone and pay nothing for all this.
 *
 * Limits, cancels and open breakers of a domain hold for the domains below it, too. A job costs two
 * atomic operations for each level, so keep trees shallow.
 *
 * Handles are the caller's: no call on a domain may begin once coir_domain_close is about to return COIR_OK.
 */
typedef struct coir_domain coir_domain;

/* What coir_domain_submit does when a domain, or one above it, is at its limit. The domain that is
 * full decides. coir_spawn never waits: it returns COIR_EAGAIN. */
enum coir_full {
    COIR_FULL_REFUSE = 0, /* returns COIR_EAGAIN */
    COIR_FULL_WAIT,       /* waits for a place, first come first served */
    COIR_FULL_RUN         /* runs the job at once, in the caller */
};

/* Options of a domain. Zero it and set size; a zero field means its default. Sizes as in coir_options. */
typedef struct coir_domain_options {
    size_t size;           /* sizeof(coir_domain_options) as the caller knows it; required */
    const char *name;      /* for people; copied, cut to 31 bytes; NULL: "domain" */
    size_t jobs_max;       /* jobs queued and running, those of domains below included; 0: no limit */
    enum coir_full full;
    int64_t full_wait_ns;  /* COIR_FULL_WAIT: at most so long; 0: until the job's deadline */
    int64_t deadline_ns;   /* each submitted job must start within this time; 0: as the parent */
    unsigned panics_max;   /* so many panicked jobs within the window trip it; 0: they count in the
                              nearest domain above that has a threshold; at most 1024 */
    int64_t panics_window_ns; /* 0: 10 s */
    int64_t probe_ns;      /* from the trip until one job is let through to probe; doubled after each
                              probe that panics, up to 64 times; 0: 1 s */
} coir_domain_options;

/*
 * Opens a domain.
 *
 *   parent     NULL: the runtime
 *   options    borrowed for the call; NULL: all defaults, that is a region without limits
 *   domain     receives the handle; NULL is stored on failure
 *
 * Returns     COIR_OK; COIR_EINVAL (size wrong, parent of another runtime); COIR_ERANGE (a negative
 *             time, panics_max above 1024, full unknown); COIR_ENOMEM; COIR_ESHUTDOWN (the parent or the
 *             runtime is closing)
 * Call from   any thread
 */
COIR_API COIR_MUST_USE int coir_domain_open(coir_runtime *runtime, coir_domain *parent,
                                            const coir_domain_options *options,
                                            coir_domain **domain);

/*
 * Starts a job in a domain: as coir_spawn from a fiber of its runtime, else as coir_submit.
 *
 *   deadline   when it must have started; COIR_NEVER: see below. One that has passed is legal.
 *
 * The job's deadline is the earliest of this one, the calling job's, and the domain's default.
 * It is looked at when the job is taken from its queue: too late, and the job ends EXPIRED (kind EXPIRED)
 * without running. A job that runs is not interrupted; it gives coir_deadline() to the calls it makes.
 *
 * While the domain or one above it is tripped, the job ends CANCELED (kind SKIPPED); the message
 * names the domain and the failure that tripped it. Jobs of a canceled domain end so, too.
 *
 * COIR_FULL_RUN runs the job before the call returns, in a boundary of its own; on a plain thread
 * it must not need a fiber. It counts, so a domain can go past its limit by as many jobs as it has
 * callers. Where it cannot be run in place (a fiber of another runtime, less than half of the stack
 * left) the call returns COIR_EAGAIN.
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_EAGAIN (the limit, full_wait_ns, or options.jobs_max of the
 *             runtime); COIR_ETIMEDOUT (the job's deadline passed while it waited for a place);
 *             COIR_ECANCELED (the domain is canceled, or the caller was while it waited);
 *             COIR_ESHUTDOWN (the domain is closing); COIR_ENOMEM. On failure nothing is owed.
 * Call from   any thread. A job that waits for a place in its own domain holds one meanwhile: give it
 *             a deadline.
 * Suspends    only with COIR_FULL_WAIT (parks a fiber, blocks a thread) and COIR_FULL_RUN
 * Ordering    what the caller did before happens before fn
 * Cost        about coir_submit and a lock at start and end; a job with a deadline allocates a record
 */
COIR_API int coir_domain_submit_until(coir_domain *domain, coir_counter *counter, coir_fn *fn,
                                      void *arg, int64_t deadline);
/* coir_domain_submit_until with COIR_NEVER. */
COIR_API int coir_domain_submit(coir_domain *domain, coir_counter *counter, coir_fn *fn, void *arg);

/*
 * The domain of the calling job.
 *
 * Returns     the handle; NULL outside every domain
 */
COIR_API coir_domain *coir_domain_current(void);

/*
 * When the calling job should have ended: the deadline it was submitted with or has inherited.
 *
 * Returns     nanoseconds; COIR_NEVER if there is none
 */
COIR_API int64_t coir_deadline(void);

/*
 * Asks all jobs of a domain, and of those below it, to stop: see coir_counter_cancel. It stays so:
 * further jobs are refused with COIR_ECANCELED.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 * Cost        looks at every stack of the runtime
 */
COIR_API int coir_domain_cancel(coir_domain *domain);

/*
 * Runs fn(arg) when the domain closes and its jobs have ended; last in, first out.
 *
 * It runs on whoever closes the domain, in a boundary of its own. Cancels do not reach it. One that
 * panics is reported and counted; the others still run.
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ENOMEM; COIR_ESHUTDOWN (the domain is closing)
 * Call from   any thread
 */
COIR_API COIR_MUST_USE int coir_domain_finalizer(coir_domain *domain, coir_fn *fn, void *arg);

enum coir_domain_state {
    COIR_DOMAIN_OPEN = 0,
    COIR_DOMAIN_TRIPPED,   /* jobs are skipped until it is time to probe */
    COIR_DOMAIN_HALF_OPEN, /* one job is out to probe, others are skipped */
    COIR_DOMAIN_CANCELED,
    COIR_DOMAIN_CLOSING
};

/*
 * Figures of a domain and of all below it since it was opened. When nothing moves they are exact:
 * admitted is the sum of all that ended and of those in flight.
 */
typedef struct coir_domain_stats {
    uint64_t admitted;  /* jobs accepted */
    uint64_t ended[COIR_PANICKED + 1]; /* jobs ended, by outcome */
    uint64_t skipped;   /* of those CANCELED: because a domain was tripped */
    uint64_t refused;   /* jobs not accepted, for a limit */
    uint64_t in_flight; /* jobs queued and running */
    uint64_t trips;     /* times a threshold was reached */
    uint64_t finalizer_panics;
    uint64_t obligations;        /* taken */
    uint64_t obligations_held;   /* of those: to be discharged still */
    uint64_t obligations_leaked; /* of those: not discharged in time */
    uint64_t tripped_by; /* id of the failure that tripped the domain itself last; 0: it never was */
    int state;          /* enum coir_domain_state, of the domain itself */
} coir_domain_stats;

/*
 * Reads the figures of a domain.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 */
COIR_API int coir_domain_stats_read(coir_domain *domain, coir_domain_stats *stats);

#define COIR_STUCK_MAX 8
#define COIR_STUCK_NAME_BYTES 32

/* A job that did not end. */
typedef struct coir_stuck {
    uint64_t job;       /* its id; 0: it runs on a plain thread */
    coir_fn *fn;
    char name[COIR_STUCK_NAME_BYTES]; /* coir_job_name, cut to fit; "" if none */
    const coir_counter *owed_to; /* never followed; NULL: nobody waits for it */
    const char *waits_for; /* "counter", "sleep", ...; NULL: it runs, or has been queued only now */
    const void *waits_on;  /* that counter or operation; never followed */
} coir_stuck;

enum coir_phase { COIR_PHASE_DRAIN = 0, COIR_PHASE_CANCEL, COIR_PHASE_FINALIZE };

/* What became of a domain's work, filled by coir_domain_close. Figures include the domains below. */
typedef struct coir_domain_receipt {
    uint64_t ended[COIR_PANICKED + 1]; /* jobs ended, by outcome, since it was opened */
    uint64_t canceled;  /* waits that this close interrupted */
    uint64_t running;   /* jobs that had not ended when the call returned */
    uint64_t finalizers, finalizer_panics; /* run by this close; of those, panicked */
    uint64_t obligations_leaked;           /* since it was opened */
    int64_t phase_ns[COIR_PHASE_FINALIZE + 1]; /* how long each phase took */
    int phase;          /* enum coir_phase, the last one it came to */
    unsigned stuck_count; /* of running: those named below */
    coir_stuck stuck[COIR_STUCK_MAX];
} coir_domain_receipt;

/*
 * Closes a domain and all below it: stops admission from outside, drains, cancels what is left when
 * the budget has passed, runs the finalizers, reports the obligations that nobody discharged.
 *
 *   domain     ended by COIR_OK; stays valid after any other status, for another close
 *   drain_ns   how long its jobs may go on by themselves; they may spawn meanwhile; negative: for ever
 *   receipt    filled on COIR_OK and COIR_ETIMEDOUT; NULL: not wanted
 *
 * When the budget has passed, or the caller is canceled, the domain is canceled and one more short
 * budget (100 ms) is given. Past that, waits of its fibers that a cancel does not end are interrupted.
 * Domains below are finalized before those above. coir_close does the same to all that are open then.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT while a job still runs (the receipt names some); COIR_EINVAL;
 *             COIR_EDEADLK from a job of the domain; COIR_EBUSY while it, or one above or below, is being
 *             closed; COIR_ENOMEM (no stack left to park on)
 * Call from   a fiber or a plain thread
 * Suspends    yes
 * Ordering    everything the jobs did happens before the finalizers and the return
 */
COIR_API COIR_MUST_USE int coir_domain_close(coir_domain *domain, int64_t drain_ns,
                                             coir_domain_receipt *receipt);

/* ------------------------------------------------------------------------------ obligations */

/*
 * Something that must be given back or done: a permit, a lease, a reply. A plain value; copies of it are
 * the same obligation.
 */
typedef struct coir_obligation {
    coir_domain *domain;
    uint64_t id;
} coir_obligation;

/*
 * Takes an obligation in a domain. It must be discharged exactly once: before the domain is closed
 * and, if it is taken by a job of this very domain, before this job ends (or see
 * coir_obligation_detach). One that is not has leaked: it is logged with the place that took it, and counted.
 *
 *   domain     NULL: the calling job's
 *   what       borrowed until it is discharged; a string constant, as a rule
 *   obligation receives it
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_EPERM (domain NULL outside every domain); COIR_ENOMEM;
 *             COIR_ESHUTDOWN (the domain is closing and the caller is no job in it)
 * Call from   any thread
 */
#define coir_obligation_take(domain, what, obligation)                                            \
    coir_obligation_take_at((domain), (what), __FILE__, __LINE__, (obligation))

/*
 * What coir_obligation_take calls, for bindings of other languages. file is borrowed for ever.
 *
 * Returns     as coir_obligation_take
 */
COIR_API COIR_MUST_USE int coir_obligation_take_at(coir_domain *domain, const char *what,
                                                   const char *file, int line,
                                                   coir_obligation *obligation);

/*
 * The promise has been kept.
 *
 * Returns     COIR_OK; COIR_ENOENT (discharged before, or leaked); COIR_EINVAL
 * Call from   any thread while the domain lives
 */
COIR_API COIR_MUST_USE int coir_obligation_discharge(coir_obligation obligation);

/*
 * Hands an obligation on: detach frees it from its job, so that only the domain's end is left to beat;
 * adopt binds it to the calling job, whoever held it.
 *
 * Returns     COIR_OK; COIR_ENOENT (discharged before, or leaked); COIR_EINVAL;
 *             adopt: COIR_EPERM outside a job of the obligation's domain
 * Call from   any thread while the domain lives
 */
COIR_API COIR_MUST_USE int coir_obligation_detach(coir_obligation obligation);
/*
 * The other half: see coir_obligation_detach.
 *
 * Returns     as coir_obligation_detach
 */
COIR_API COIR_MUST_USE int coir_obligation_adopt(coir_obligation obligation);

/* ---------------------------------------------------------------------- sockets and blocking */

/*
 * Sockets are plain descriptors, so other code can use them too. All calls here park the fiber
 * and not its worker; on a plain thread they give COIR_EPERM. Results are 0 or more, or a status:
 * COIR_ETIMEDOUT, COIR_ECANCELED, COIR_ENOMEM, COIR_EBADF, or -errno of the system call. An
 * operation that completes while it is being timed out or canceled has completed: no byte is lost.
 * One fiber may receive while another sends on the same descriptor.
 */

/*
 * Opens a listening TCP socket.
 *
 *   address    numeric IPv4 or IPv6; NULL: 127.0.0.1
 *   port       0: the system picks one, see coir_socket_port
 *   backlog    0: 1024
 *
 * Returns     the descriptor; COIR_EINVAL (address not numeric); COIR_EADDRINUSE; ...
 * Call from   any thread
 */
COIR_API int coir_socket_listen(const char *address, uint16_t port, int backlog);

/*
 * Local port of a socket.
 *
 * Returns     1 to 65535; COIR_EBADF; ...
 * Call from   any thread
 */
COIR_API int coir_socket_port(int socket);

/*
 * Takes the next connection of a listening socket.
 *
 * Returns     the descriptor of the connection, or a status (COIR_EMFILE: the caller should
 *             pause and try again; the connection stays in the backlog)
 * Suspends    yes
 */
COIR_API int coir_socket_accept_until(int listener, int64_t deadline);
/* coir_socket_accept_until with COIR_NEVER. */
COIR_API int coir_socket_accept(int listener);

/*
 * Connects to a TCP peer.
 *
 *   address    numeric IPv4 or IPv6 (resolve names inside coir_offload)
 *
 * Returns     the descriptor; COIR_ECONNREFUSED; COIR_ETIMEDOUT; ...
 * Suspends    yes
 */
COIR_API int coir_socket_connect_until(const char *address, uint16_t port, int64_t deadline);
/* coir_socket_connect_until with COIR_NEVER. */
COIR_API int coir_socket_connect(const char *address, uint16_t port);

/*
 * Receives what is there, at least one byte.
 *
 *   buffer     borrowed for the call
 *
 * Returns     bytes received; 0: the peer has closed, or bytes was 0; or a status
 * Suspends    yes
 */
COIR_API int64_t coir_socket_recv_until(int socket, void *buffer, size_t bytes, int64_t deadline);
/* coir_socket_recv_until with COIR_NEVER. */
COIR_API int64_t coir_socket_recv(int socket, void *buffer, size_t bytes);

/*
 * Sends all of the buffer. No SIGPIPE is raised.
 *
 *   buffer     borrowed for the call
 *
 * Returns     bytes; or fewer, if an error, the deadline or a cancel came after some had gone;
 *             or a status if none had
 * Suspends    if the socket's buffer is full
 */
COIR_API int64_t coir_socket_send_until(int socket, const void *buffer, size_t bytes,
                                        int64_t deadline);
/* coir_socket_send_until with COIR_NEVER. */
COIR_API int64_t coir_socket_send(int socket, const void *buffer, size_t bytes);

/*
 * Closes a socket. Fibers that wait in one of the calls above on it return with an error or 0.
 *
 * Returns     COIR_OK; COIR_EBADF
 * Call from   any thread; must be used instead of close() for sockets used with coir
 */
COIR_API int coir_socket_close(int socket);

/*
 * Runs fn(arg) on a thread that may block (getaddrinfo, files), inside a boundary; waits for it.
 *
 *   deadline   until when it may wait for a free thread; a call that has begun is waited for
 *
 * Returns     COIR_DONE; COIR_PANICKED; COIR_ETIMEDOUT or COIR_ECANCELED (fn was not called);
 *             COIR_ENOMEM; COIR_EAGAIN (no thread could be started); COIR_EPERM on a plain thread
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_offload_until(coir_fn *fn, void *arg, int64_t deadline);
/* coir_offload_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_offload(coir_fn *fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
