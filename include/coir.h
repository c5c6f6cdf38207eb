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
    X(COIR_ESHUTDOWN, -108, "the runtime is closing")                                             \
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
    COIR_KIND_SKIPPED,  /* canceled before it started */
    COIR_KIND_SHUTDOWN, /* dropped because the runtime closed */
    COIR_KIND_DEPENDENCY, /* a job it was spawned after did not end as COIR_DONE */
    COIR_KIND_DONE      /* ended by coir_counter_done with an outcome other than COIR_DONE */
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

/* What is done about jobs that wait for each other in a circle; see coir_deadlock_check. */
enum coir_deadlock_policy {
    COIR_DEADLOCK_NONE = 0, /* nobody looks, but coir_deadlock_check does */
    COIR_DEADLOCK_REPORT,   /* cycles are logged, and waits that nothing in an idle runtime can end */
    COIR_DEADLOCK_FAIL_NEWEST /* as well, the wait of each cycle that began last ends: COIR_EDEADLK */
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

    /* Watching. Each starts one more thread, NAME/watch, which sleeps most of the time. */
    int64_t stall_ns; /* a job that does not suspend for longer is logged, once, with its place, while it
                         runs; 0: nobody watches; at least 1 ms */
    int stall_signal; /* with stall_ns: tells a worker to say where it is; 0: SIGURG. A handler is
                         installed, chained to the one before, and taken away at close. System calls
                         of a job that is logged may end with EINTR. */
    enum coir_deadlock_policy deadlock; /* checked when all workers are idle, and every second */
} coir_options;

/* What can be said of a job that has not ended. */
typedef struct coir_job_info {
    uint64_t job;      /* its id; 0: it runs, and has none yet (coir_job_id gives one) */
    const char *name;  /* as given to coir_job_name, NULL if not; the job's memory: valid while it lives */
    coir_fn *fn;       /* what it runs */
    int worker;        /* that runs it; -1: none does, it waits */
    const char *waits_for; /* such as "counter", "sleep", "recv", "worker"; NULL: it runs */
    const void *waits_on;  /* the counter or other object, to compare with; NULL: none */
    int64_t since;     /* coir_now() when it began to wait; 0: not noted (options.deadlock notes it) */
} coir_job_info;

#define COIR_LEFT_MAX 16

/* What became of the work, filled by coir_close. */
typedef struct coir_receipt {
    uint64_t ended[COIR_PANICKED + 1]; /* jobs ended, by outcome, since open */
    uint64_t dropped;  /* of those CANCELED: queued jobs dropped by this close */
    uint64_t canceled; /* parked fibers whose wait this close interrupted */
    uint64_t running;  /* jobs still running or parked when the call returned; ended and running
                          are together all that were accepted */
    int64_t drain_ns;  /* how long the drain took */
    uint64_t told;     /* waits elsewhere, by plain threads and by fibers of other runtimes, for jobs of
                          `running`: they got COIR_ECANCELED */
    uint64_t owed;     /* counters that the jobs of `running` owe */
    unsigned left_count; /* jobs named below */
    coir_job_info left[COIR_LEFT_MAX]; /* of `running`, the first that were found */
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
 * that. Then, if a job still runs, everybody who waits for it gets COIR_ECANCELED (fibers of this and
 * of other runtimes, plain threads), the receipt names it, and the next close finds what has ended
 * meanwhile. Who waits from then on waits for the job's end, or for the next close.
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
    uint64_t stalls;   /* jobs that did not suspend for longer than options.stall_ns */
} coir_stats;

/*
 * Reads the figures of a runtime.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 * Cost        a few loads per worker
 */
COIR_API int coir_stats_read(coir_runtime *runtime, coir_stats *stats);

/* ----------------------------------------------------------------------- stalls and deadlocks */

#define COIR_DEADLOCK_MAX 16

/* What coir_deadlock_check has found. */
typedef struct coir_deadlock {
    uint64_t cycles;  /* of jobs that wait for each other */
    uint64_t stuck;   /* fibers, and pieces of work spawned after others, that can never go on: the cycles,
                         and all who wait for them */
    uint64_t unowed;  /* fibers that wait for a counter that no job of this runtime owes. Counted only
                         if nothing in the runtime can run: then a plain thread must signal, or nobody will */
    uint64_t failed;  /* waits that were ended with COIR_EDEADLK */
    unsigned count;   /* entries of waits */
    struct {
        unsigned cycle; /* from 1; each waits for the next of its cycle, the last for the first; 0: unowed */
        coir_job_info job; /* the innermost of its stack */
    } waits[COIR_DEADLOCK_MAX]; /* the first that were found */
} coir_deadlock;

/*
 * Looks for deadlocks: jobs that can never go on, because each waits for one whose end waits for it.
 *
 *   report     filled by COIR_OK and COIR_EDEADLK; NULL: not wanted
 *
 * A cycle is found while other parts of the runtime run. What may be ended from elsewhere is none: a wait
 * with a deadline, for I/O, or for something whose holder is not known. A cancel could still end
 * what is reported. Work that waits for other work (coir_spawn_after) is followed.
 *
 * Returns     COIR_OK (no cycle); COIR_EDEADLK (a cycle, or more); COIR_EINVAL; COIR_ENOMEM
 * Call from   any thread while the runtime is open
 * Suspends    no
 * Cost        walks over all stacks twice, holding one parked fiber at a time; not for the fast path
 */
COIR_API int coir_deadlock_check(coir_runtime *runtime, coir_deadlock *report);

/*
 * Lets a long computation be interrupted: yields if somebody asked for that, and tells of a cancel.
 * Put it into loops that do not suspend. With options.stall_ns a job that does so is asked to yield
 * after half that time, and so never counts as stalled.
 *
 * Returns     COIR_OK; COIR_ECANCELED if the calling job, or one that waits for it on this stack, is
 *             canceled (as coir_canceled; each further call says so again). On a plain thread COIR_OK.
 * Call from   anywhere but signal handlers
 * Suspends    when asked to
 * Cost        a call, one load and a branch that is not taken
 */
COIR_API int coir_checkpoint(void);

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
 *             COIR_ETIMEDOUT; COIR_ECANCELED (the caller is canceled, and its next wait is not
 *             interrupted; or the runtime of these jobs could not close because of them);
 *             COIR_EDEADLK (the counter is owed the end of the calling job, or of one that waits for it
 *             on this stack; or options.deadlock chose this wait); COIR_ENOMEM (no stack left to park on)
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
 * Returns     the outcome of that counter; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_EDEADLK (as
 *             coir_wait_until, of each of them); COIR_ENOMEM; COIR_EINVAL (n out of range). The
 *             other counters are still owed.
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
 *             (options.jobs_max jobs are queued); COIR_ENOMEM. On failure nothing is owed.
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
 * Whether the calling job, or a job that waits for it on this stack, is asked to stop.
 *
 * Returns     1 or 0; 0 on a plain thread
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
