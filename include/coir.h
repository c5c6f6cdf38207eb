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
 *               COIR_NEVER is the deadline that does not pass; with a past one a call does what it can
 *               without waiting, else gives COIR_ETIMEDOUT.
 *   Ownership   "borrowed" memory stays the caller's and must stay valid as long as is said.
 *   Suspends    a function that suspends may resume on another thread. Do not hold a pthread
 *               mutex across it, and do not keep errno, pthread_self() or a thread-local address.
 *               A program linked to libcoir-debug.a instead of libcoir.a logs such mutexes: where one
 *               was locked and where its holder first suspends, once for each of 64 pairs of places. With
 *               COIR_LOCKCHECK=abort in the environment it aborts there. Neither mtx_lock nor
 *               programs that are linked statically are watched.
 *   Signals     no function here may be called from a signal handler unless it says so.
 *   Jumps       longjmp must not leave a job, a coir_try or another callback: the record of that call would
 *               stay where its frame was. Within one of them it is as in any C.
 *   Forks       a process forked while runtimes are open has their memory, not their threads. What touches
 *               them there (a runtime or anything that belongs to one, a call that needs a fiber, a wait) gets
 *               COIR_EFORKED, a job that returns there ends the process. It may open runtimes of its own, from
 *               its first thread; waits are then told no more that they are for its parent's. Needs Linux 4.14.
 *   NULL        a NULL pointer gives COIR_EINVAL unless a meaning is stated.
 *   C++         usable as it is. A catch (...) inside a job that does not rethrow swallows a
 *               panic, and the jobs spawned on counters of the frames it left are then the
 *               program's duty. A panic that it raises instead, or an exception that reaches the boundary,
 *               takes the swallowed one's place, which cannot be rethrown then (std::terminate).
 *               A catch (...) that a panic comes to in a catch of an exception, or in a coir_try that a catch
 *               has called, is std::terminate, even if it would rethrow: the C++ runtime handles no foreign
 *               exception beside another one. Destructors are not concerned.
 *   ASan        a program built with -fsanitize=address links the library as it is: stacks, switches, panics
 *               and what jobs hold are made known to it. With detect_stack_use_after_return (clang 15 and later have
 *               it on: ASAN_OPTIONS turns it off) variables of frames lie elsewhere: no counter or lock
 *               is then known to lie in a frame, and what is promised for those, at a panic or a return, does not
 *               hold. In a process that exits while a runtime with options.alloc is open its leak checker may
 *               stop at the guard of a stack. Other sanitizers are told nothing.
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
    X(COIR_EPERM, -1, "not allowed from this thread")                                             \
    X(COIR_EINTR, -4, "interrupted")                                                              \
    X(COIR_ENOENT, -2, "no such record")                                                          \
    X(COIR_EIO, -5, "input or output error")                                                      \
    X(COIR_EBADF, -9, "not an open descriptor")                                                   \
    X(COIR_ECHILD, -10, "a child did not start")                                                  \
    X(COIR_EAGAIN, -11, "the queue is at its limit; try later")                                   \
    X(COIR_ENOMEM, -12, "out of memory, address space or stacks")                                 \
    X(COIR_EACCES, -13, "permission denied")                                                      \
    X(COIR_EBUSY, -16, "in use")                                                                  \
    X(COIR_EINVAL, -22, "invalid argument")                                                       \
    X(COIR_EMFILE, -24, "too many open descriptors")                                              \
    X(COIR_ENOSPC, -28, "no space left on the device")                                            \
    X(COIR_EPIPE, -32, "the peer no longer reads")                                                \
    X(COIR_ERANGE, -34, "an option is out of its range")                                          \
    X(COIR_EDEADLK, -35, "the wait could never end")                                              \
    X(COIR_ENOSYS, -38, "not available on this system")                                           \
    X(COIR_ENOTSOCK, -88, "not a socket")                                                         \
    X(COIR_ENOTSUP, -95, "not supported in this process")                                         \
    X(COIR_EADDRINUSE, -98, "address already in use")                                             \
    X(COIR_EADDRNOTAVAIL, -99, "address not available")                                           \
    X(COIR_ENETUNREACH, -101, "network unreachable")                                              \
    X(COIR_ECONNABORTED, -103, "connection aborted")                                              \
    X(COIR_ECONNRESET, -104, "connection reset by peer")                                          \
    X(COIR_ENOBUFS, -105, "no memory for buffers in the kernel")                                  \
    X(COIR_ENOTCONN, -107, "not connected")                                                       \
    X(COIR_ESHUTDOWN, -108, "the runtime or domain closes")                                       \
    X(COIR_ETIMEDOUT, -110, "deadline passed")                                                    \
    X(COIR_ECONNREFUSED, -111, "connection refused")                                              \
    X(COIR_EHOSTUNREACH, -113, "no route to host")                                                \
    X(COIR_ECANCELED, -125, "canceled")                                                           \
    X(COIR_EPOISONED, -130, "a panic has left it half changed")                                   \
    X(COIR_EFORKED, -1000, "this process is a fork of the one that opened it")                     \
    X(COIR_EIMBALANCE, -1002, "the runtime's books do not balance")                               \
    X(COIR_EPOLICY, -1001, "options.panic forbids it: it needs panics to be contained")           \
    X(COIR_ECLOSED, -4096, "the channel is closed")

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
    COIR_KIND_OWED,     /* a job returned while jobs (or, beside them, a hand) still owed, or waited for, a counter of its frame */
    COIR_KIND_SKIPPED,  /* canceled before it started, or its domain has tripped */
    COIR_KIND_SHUTDOWN, /* dropped because the runtime closed */
    COIR_KIND_DEPENDENCY, /* a job it was spawned after did not end as COIR_DONE */
    COIR_KIND_DONE,     /* ended by coir_counter_done with an outcome other than COIR_DONE */
    COIR_KIND_FAIL,     /* coir_fail */
    COIR_KIND_HELD,     /* a job returned while it held a lock, or over a link or monitor in its frame */
    COIR_KIND_STACK_OVERFLOW, /* a contained stack overflow */
    COIR_KIND_FAULT,    /* a contained fault of another kind */
    COIR_KIND_EXPIRED,  /* its deadline passed before it started */
    COIR_KIND_LEAK,     /* an obligation was not discharged in time */
    COIR_KIND_ISOLATED  /* an isolated call ended its child: a signal, a limit, an exit */
};

#define COIR_KINDS (COIR_KIND_ISOLATED + 1)

/* Where a failure happened: in which of the calls that a boundary contains. */
enum coir_location {
    COIR_AT_JOB = 0,   /* the job's function, a callback of a pool, or a coir_try in one */
    COIR_AT_DEFER,     /* a finalizer: a coir_defer handler, a coir_local destructor */
    COIR_AT_CLEANUP,   /* a finalizer: a cleanup or destructor that an unwinding panic runs */
    COIR_AT_OFFLOAD,   /* a coir_offload call, on its own thread */
    COIR_AT_THREAD,    /* a plain thread: coir_try, coir_counter_done */
    COIR_AT_SCHEDULER, /* never ran: skipped or dropped by the scheduler */
    COIR_AT_FINALIZER, /* the clean-up of a domain that closes, phase finalize: a coir_domain_finalizer */
    COIR_AT_OBLIGATION, /* where an obligation was taken that leaked; job: who took it */
    COIR_AT_ISOLATED   /* an isolated call, in its child; job: who waited for it */
};

#define COIR_LOCATIONS (COIR_AT_ISOLATED + 1)

#define COIR_MESSAGE_BYTES 72

/*
 * A failure record: what broke, where and when. Plain data, copied out to the caller. Longer
 * texts and backtraces are kept by the runtime: see coir_failure_find.
 */
typedef struct coir_failure {
    uint64_t id;      /* unique in the process; 0: no failure */
    uint64_t job;     /* id of the job that failed; 0: not a job (coir_try on a plain thread) */
    int64_t time;     /* coir_now() when it failed */
    const char *file; /* of the coir_panic or coir_fail; NULL: unknown */
    int line;         /* of the coir_panic or coir_fail; 0: unknown */
    int kind;         /* enum coir_kind */
    int outcome;      /* enum coir_outcome */
    int worker;       /* index of the worker it happened on; -1: a plain thread */
    char message[COIR_MESSAGE_BYTES]; /* terminated; cut to fit */
    int64_t wall;      /* nanoseconds of CLOCK_REALTIME when it failed, to the kernel's tick */
    int code;          /* of the coir_fail; COIR_KIND_ISOLATED: the exit status of a child that is FAILED, the
                          signal of one that is PANICKED (0: it was ended for another reason); else 0 */
    int location;      /* enum coir_location */
    uint32_t resumes;  /* how often the job had been resumed: waits that ended, and yields */
    uint32_t runtime;  /* number of the runtime, from 1 in the order of opening; 0: none */
    uint64_t backtrace; /* its id if one was captured (it is the failure's), else 0 */
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
 * Name of an enum coir_kind, and of an enum coir_location: the enumerator's own, in lower case, for logs and
 * for labels of metrics.
 *
 * Returns     a static string such as "stack_overflow" or "finalizer"; "?" if unknown
 * Call from   anywhere, signal handlers too
 */
COIR_API const char *coir_kind_name(int kind);
/* Otherwise as coir_kind_name. */
COIR_API const char *coir_location_name(int location);

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
    COIR_FAULTS_REPORT,   /* a stack overflow prints one report, then the process aborts; domains may
                             ask for more (coir_domain_options) */
    COIR_FAULTS_CONTAIN   /* a stack overflow ends its job only; see "contained faults" */
};

/* Other faults that can be contained; bits. */
enum coir_fault {
    COIR_FAULT_SEGV = 1, /* SIGSEGV that is no stack overflow */
    COIR_FAULT_BUS = 2,  /* SIGBUS */
    COIR_FAULT_FPE = 4,  /* SIGFPE: on x86-64, integer division by zero */
    COIR_FAULT_ILL = 8,  /* SIGILL: on x86-64, __builtin_trap */
    COIR_FAULT_ABORT = 16 /* abort() and failed asserts, called by containable code itself */
};
#define COIR_FAULTS_ALSO_ALL 31

enum coir_io {
    COIR_IO_AUTO = 0, /* io_uring where the kernel allows it, else epoll */
    COIR_IO_URING,    /* io_uring, or coir_open fails with COIR_ENOSYS */
    COIR_IO_EPOLL
};

/* What a panic does: one decision for all jobs of a runtime. */
enum coir_panic_policy {
    COIR_PANIC_UNWIND = 0, /* unwinds to the innermost boundary; whoever waits is told */
    COIR_PANIC_ABORT /* reports, then aborts before anything unwinds: the core shows the frames */
};

/* Who asked jobs to stop. */
enum coir_cancel {
    COIR_CANCEL_ASKED = 0, /* coir_counter_cancel */
    COIR_CANCEL_PASSED_ON, /* a canceled job waits for them */
    COIR_CANCEL_OWNER,     /* the job whose frames they are owed to panics, or did not wait */
    COIR_CANCEL_CLOSE,     /* coir_close, past its budget: everything */
    COIR_CANCEL_DOMAIN,    /* coir_domain_cancel */
    COIR_CANCEL_DOMAIN_CLOSE /* coir_domain_close, or coir_close for an open domain, past its budget */
};

/* What can be said of a job that has not ended. */
typedef struct coir_job_info {
    uint64_t job;      /* its id; 0: it runs, and has none yet (coir_job_id gives one) */
    const char *name;  /* as given to coir_job_name, NULL if not; the job's memory: valid while it lives */
    coir_fn *fn;       /* what it runs */
    int worker;        /* that runs it; -1: none does, it waits */
    const char *waits_for; /* such as "counter", "sleep", "recv", "worker"; NULL: it runs */
    const void *waits_on;  /* the counter or other object, to compare with; NULL: none */
    int64_t since;     /* coir_now() when it began to wait; 0: not noted (options.park_times or .deadlock) */
    const void *place; /* where the program called what it waits in, a return address; NULL: not known */
} coir_job_info;

/*
 * What a runtime tells as it happens, for a program's own metrics. Zero it, set size to
 * sizeof(coir_metrics), set what you want; NULL is not called. Called on whatever thread it happens
 * on, several at a time. A callback must be short, and neither suspend nor panic (both abort, by
 * name); of coir it may call only coir_now and the names of statuses. Figures that need no callback
 * are in coir_stats.
 */
typedef struct coir_metrics {
    size_t size; /* sizeof(coir_metrics) as the caller knows it; required */
    void *arg;   /* the first argument of each */

    /* Jobs were accepted. May come after a job of them has completed already. */
    void (*spawned)(void *arg, size_t jobs);

    /* A job ended, before its waiters learn it. ns: since it began, waits included; -1: never ran. */
    void (*completed)(void *arg, int outcome, int64_t ns);

    /* A job of this runtime, or its closing, asked jobs to stop. cause: enum coir_cancel. */
    void (*cancel_requested)(void *arg, int cause);

    /* A coir_close has drained, or given up: COIR_OK or COIR_ETIMEDOUT. */
    void (*drained)(void *arg, int64_t ns, int status);

    /* A fiber blocks until a deadline at the latest, in a wait for counters, I/O or offload; and it has passed. Or
     * a job is submitted to a domain with a deadline; and has ended EXPIRED. */
    void (*deadline_set)(void *arg, int64_t deadline);
    void (*deadline_exceeded)(void *arg, int64_t deadline);

    /* Something panicked; failure->location and ->kind are the labels. After the panic hook. */
    void (*panicked)(void *arg, const coir_failure *failure);

    /* A worker looks at its timers and I/O: every 61st turn, and all the time while it spins idly.
     * queued: jobs in its own queue. */
    void (*tick)(void *arg, unsigned worker, size_t queued);

    /* A domain was opened; has been closed for good. The name is valid for the call. */
    void (*domain_opened)(void *arg, const char *domain);
    void (*domain_closed)(void *arg, const char *domain);

    /* A close of a domain has drained, or given up: COIR_OK, COIR_ETIMEDOUT or COIR_ENOMEM. ns: without
     * finalizers. */
    void (*domain_drained)(void *arg, const char *domain, int64_t ns, int status);

    /* A domain has reached its panic threshold, with this failure. */
    void (*domain_tripped)(void *arg, const char *domain, uint64_t failure);

    /* An obligation was taken, discharged, not discharged in time. what: as it was given. */
    void (*obligation_taken)(void *arg, const char *what);
    void (*obligation_discharged)(void *arg, const char *what);
    void (*obligation_leaked)(void *arg, const char *what);

    /* A job of a domain starts when less than a quarter of the time until its deadline is left. */
    void (*deadline_warned)(void *arg, int64_t deadline);

    /* A job has called coir_checkpoint again, ns after the last time, without having suspended since. Not
     * NULL: each coir_checkpoint reads the clock. */
    void (*checkpoint)(void *arg, unsigned worker, int64_t ns);

    /* A job has not suspended for its domain's stall_ns, else options.stall_ns, or more: ns. Once for each; from
     * the watcher's thread. */
    void (*stuck)(void *arg, const coir_job_info *job, int64_t ns);
} coir_metrics;

/* What is done about jobs that wait for each other in a circle; see coir_deadlock_check. */
enum coir_deadlock_policy {
    COIR_DEADLOCK_NONE = 0, /* nobody looks, but coir_deadlock_check does */
    COIR_DEADLOCK_REPORT,   /* cycles are logged; and, when nothing has been able to run for a second, the
                               waits that only something outside could end, once: at level WARNING if
                               nothing outside may submit (in coir_close, and in coir_run until coir_current is
                               called) and nothing outside has ever ended a wait of this runtime; else,
                               as this is how a server rests, INFO */
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
    unsigned pin;       /* 1: worker i is bound to the i-th CPU that the thread that opens may use; threads of
                           coir_offload and for signals may use all of these */
    size_t stack_bytes; /* per fiber, without guard; 0: 64 KiB; 16 KiB to 64 MiB, rounded up to a page */
    size_t stacks_max;  /* fibers that can be parked at once, and one for each worker; 0: 1,000,000; at most 16 M */
    size_t prefault;    /* stacks that are made, and their first page touched, at open, as are the workers' own
                           queues (0.2 MiB each); 0: none */
    size_t jobs_max;    /* jobs that may be queued and not started, beside 2,048 in each worker's own queue, and as
                           many that may wait for others (coir_spawn_after); 0: 1,048,576 */
    int64_t spin_ns;    /* an idle worker looks for work this long before it sleeps, while no more are awake than
                           may run at once; 0: 50 us; negative: sleeps at once; COIR_NEVER: never sleeps (poll mode) */
    unsigned share_fp;  /* 1: fibers share their thread's floating-point control words (MXCSR, x87
                           control word, FPCR); 0: each fiber keeps its own, as the ABI says. The flags of x87
                           exceptions are nobody's own: whoever has them trap (feenableexcept) may be hit by
                           one that another fiber has left, in long double arithmetic */
    unsigned offload_threads; /* threads for coir_offload, started when first needed; 0: 4; at most 256 */
    enum coir_faults faults;
    enum coir_io io;

    /* Called for every allocation of the runtime, fibers' stacks included (a block of many), but for what is
     * mapped: its workers with their queues (0.2 MiB each), tables beside the stacks (4 bytes for each of
     * stacks_max, and 8 for a block), stacks of its threads and of handlers (faults, stall_ns), rings of io_uring,
     * and the tables of isolators and quarantines. The memory need not be zeroed; it is aligned as malloc's. NULL:
     * the system's. Both or neither. Called from any thread, not from signal handlers; must not call back into
     * coir. */
    void *(*alloc)(size_t bytes, void *alloc_arg);
    void (*free)(void *memory, void *alloc_arg);
    void *alloc_arg;

    /* Called with one line of text, without newline: panics as they happen, limits met, choices
     * made at open. NULL: errors and warnings go to standard error. Called in normal context
     * from any thread; one that suspends or panics aborts by name. */
    void (*log)(enum coir_log_level level, const char *text, void *log_arg);
    void *log_arg;

    /* Called on each worker thread before it runs its first job. NULL: nothing. Must return. */
    void (*worker_start)(unsigned worker, void *worker_start_arg);
    void *worker_start_arg;

    const char *name; /* workers are named NAME/0, NAME/1, ...; at most 11 bytes; NULL: "coir" */

    /* Under COIR_PANIC_ABORT a panic, or a foreign exception that reaches a boundary, ends the
     * process, and what needs containment (coir_try) refuses with COIR_EPOLICY. coir_fail works. */
    enum coir_panic_policy panic;
    enum coir_panic_policy defer_panic; /* the same for coir_defer handlers and finalizers of domains alone:
                                           what was not cleaned up may be worse than a job that broke */
    unsigned records; /* failures kept for coir_failure_find; 0: COIR_RECORDS, the most. Up to 0.7 KB each,
                         allocated as failures come */
    unsigned park_times; /* 1: waits note when they began, for coir_dump; a clock reading each */
    unsigned quiet;      /* 1: panics are not logged as they happen; else treated as ever */

    unsigned backtrace; /* 1: panics keep a backtrace (coir_failure_print) */

    /* Called first whenever something panics, on the panicking stack while every frame is whole,
     * before anything unwinds or aborts. It reports; it cannot stop the panic. It must return, and
     * neither suspend nor panic: both abort, by name. NULL: nothing. Panics of a coir_try on a plain
     * thread belong to no runtime and call no hook. */
    void (*panic_hook)(const coir_failure *failure, void *panic_hook_arg);
    void *panic_hook_arg;

    /* Borrowed for coir_open. NULL: none, which costs one branch for each spawn. */
    const coir_metrics *metrics;
    size_t prefault_bytes; /* of each stack that is touched; 0: a page; at most stack_bytes. A panic needs
                              about 12 KiB. A wipe between domains (share_stacks) gives it back */
    unsigned faults_also; /* bits of enum coir_fault that are contained, too; only with
                             COIR_FAULTS_CONTAIN, else COIR_EINVAL */
    /* Watching. Each starts one more thread, NAME/watch, which sleeps most of the time. */
    int64_t stall_ns; /* a job that does not suspend for longer is logged, once, with its place, while it
                         runs; 0: nobody watches; at least 1 ms; COIR_NEVER: only jobs of domains whose
                         stall_ns says so */
    int stall_signal; /* with stall_ns: tells a worker to say where it is; 0: SIGURG. A handler is
                         installed, chained to the one before, and taken away at close. System calls
                         of a job that is logged may end with EINTR. */
    enum coir_deadlock_policy deadlock; /* checked when all workers are idle, and every second */
    unsigned share_stacks; /* 1: jobs may find on their stack what jobs of other domains have left there; 0: it is
                              wiped between them; see "domains" */
} coir_options;

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
    coir_job_info left[COIR_LEFT_MAX]; /* of `running`, the first that were found; and jobs of domains that a
                                          plain thread runs (COIR_FULL_RUN; worker -1), which `running`,
                                          as `ended`, leaves out: the runtime has not accepted them */
} coir_receipt;

/*
 * Opens a runtime: reserves stacks, starts the workers.
 *
 *   options    borrowed for the call; NULL: all defaults
 *   runtime    receives the handle; NULL is stored on failure
 *
 * Returns     COIR_OK; COIR_EINVAL (a size wrong, one of alloc and free missing); COIR_ERANGE (an
 *             option out of its range; the log names it); COIR_ENOMEM; COIR_EAGAIN (a thread
 *             could not be started); COIR_ENOSYS (the asked I/O is not to be had);
 *             COIR_ENOTSUP (shadow stacks are enabled in this process); COIR_EPOLICY (options.panic
 *             forbids what options.faults asks for); COIR_EPERM on a worker
 * Call from   a plain thread. Any number of runtimes may live in one process.
 * Suspends    no; blocks until every worker runs
 */
COIR_API COIR_MUST_USE int coir_open(const coir_options *options, coir_runtime **runtime);

/*
 * Closes a runtime: refuses new submissions, drains, and past the budget cancels what is left.
 *
 *   runtime    ended by COIR_OK; stays valid after any other status, for another close
 *   drain_ns   how long work may go on by itself; negative: for ever
 *   receipt    filled on COIR_OK and COIR_ETIMEDOUT, else all zero; untouched on COIR_EINVAL; NULL: not wanted
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
    uint64_t panics;   /* panics raised, those ended by coir_try too; the sum of panics_at */
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
    uint64_t failures_at[COIR_LOCATIONS]; /* failures of any outcome, by location */
    uint64_t failures_of[COIR_KINDS];     /* the same, by kind */
    uint64_t panics_at[COIR_LOCATIONS];   /* those that are panics, by location */
    uint64_t held_back; /* log lines of failures not written: over ten a second for their place */
    uint64_t records;  /* failures kept for coir_failure_find since open */
    uint64_t records_lost; /* failures that could not be kept: no memory */
    uint64_t contained; /* faults contained; counted in panics, too */
    uint64_t tainted;  /* of those, not stack overflows: memory may have been written by mistake */
    uint64_t stalls;   /* jobs that did not suspend for longer than their stall_ns */
    int64_t stalled_ns; /* one of them still does not: for so long, if there are several the longest; 0: none */
    uint64_t wipes;    /* stacks of workers wiped between jobs of two domains */
} coir_stats;

/*
 * Reads the figures of a runtime.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 * Cost        a few loads per worker
 */
COIR_API int coir_stats_read(coir_runtime *runtime, coir_stats *stats);

/* What the books of a runtime say, and what was found there. */
typedef struct coir_books {
    uint64_t accepted, ended; /* jobs, since open */
    uint64_t queued;      /* jobs found in queues, those that wait for other work included */
    uint64_t started;     /* jobs found on stacks: they run, or wait */
    uint64_t stacks, stacks_used, stacks_kept; /* in existence; found in use; found kept for later */
    char what[192];       /* what does not balance, for people; "": all does */
} coir_books;

/*
 * Checks the books of a runtime: accepted == ended + queued + started; each stack is in use or kept; no domain
 * has fewer jobs in flight than it has admitted and not ended, nor more obligations held than taken.
 *
 *   books      filled, but for COIR_EINVAL; exact with COIR_OK. NULL: not wanted
 *
 * An imbalance is a fault in coir, or memory that was overwritten: nothing that the runtime says is to be trusted
 * from then on. It is looked for at a quiet moment only: all workers sleep but the caller's, and no other thread
 * is in a call. So there is no false alarm under load, nor an answer: ask again later. Who asks for a decision
 * may ask twice: a plain thread that is stopped inside of a call for long may look like one unit too few.
 *
 * Returns     COIR_OK; COIR_EAGAIN (no quiet moment was found, or the runtime closes); COIR_EIMBALANCE; COIR_EINVAL
 * Call from   any thread while the runtime is open
 * Suspends    no
 * Cost        looks at every stack, a few times if there is no quiet moment at first
 */
COIR_API int coir_books_check(coir_runtime *runtime, coir_books *books);

/*
 * Writes what every worker and fiber of a runtime does: its state, its job, what it waits for, and
 * with options.park_times how long. For people: one line each, at most 1,000 fibers, the others
 * counted. The report of an abort contains the same for every open runtime.
 *
 *   fd         borrowed for the call; not closed
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_EIO (fd took less)
 * Call from   anywhere while the runtime is open, signal handlers too. It looks without stopping
 *             anybody, so a fiber that runs meanwhile may be shown half in its next state.
 * Suspends    no
 * Cost        a look at every stack
 */
COIR_API int coir_dump(coir_runtime *runtime, int fd);

/* ----------------------------------------------------------------------- stalls and deadlocks */

#define COIR_DEADLOCK_MAX 16

/* What coir_deadlock_check has found. */
typedef struct coir_deadlock {
    uint64_t cycles;  /* of jobs that wait for each other */
    uint64_t stuck;   /* fibers, and pieces of work spawned after others, that can never go on: the cycles,
                         and all who wait for them */
    uint64_t unowed;  /* fibers that wait for what no job of this runtime owes: a counter, a lock that a
                         plain thread holds, a permit, an element, an event, a signal. Counted only if
                         nothing in the runtime can run: then a plain thread must signal, or nobody will */
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
 * A cycle is found while other parts of the runtime run. Followed are counters, mutexes, both sides of
 * reader-writer locks (also readers held up by a writer who waits), a coir_once that is being called, and
 * work that waits for other work (coir_spawn_after). What may be ended from elsewhere is none: a wait
 * with a deadline or for I/O. Nobody holds a semaphore, channel, event or condition, so these are in no cycle:
 * two jobs that each wait for an element of the other are `unowed`, when nothing else runs. A cancel could
 * still end what is reported.
 *
 * Returns     COIR_OK (no cycle); COIR_EDEADLK (a cycle, or more); COIR_EINVAL; COIR_ENOMEM
 * Call from   any thread while the runtime is open
 * Suspends    no
 * Cost        walks over all stacks twice, holding one parked fiber at a time; not for the fast path
 */
COIR_API int coir_deadlock_check(coir_runtime *runtime, coir_deadlock *report);

/*
 * Lets a long computation be interrupted: yields if somebody asked for that, and tells of a cancel.
 * Put it into loops that do not suspend. With stall_ns (coir_options, coir_domain_options) a job that does
 * so is asked to yield after half that time, and so never counts as stalled.
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
 * or freed at once, if nobody else is in a wait for it still. The outcome stays until coir_counter_init.
 *
 * A counter that is a local variable of a job, and that this job has spawned on, is known to the
 * job: a panic waits first for the jobs that owe it, and a return while it is owed is a panic. So this very job must
 * wait for it, or coir_counter_init it, before it leaves the block in which the variable lives. What is owed by hand
 * is not waited for: see coir_counter_add.
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
 * Instead of COIR_COUNTER_INIT, for a counter in the frames of a job that alone waits for it: what this job
 * spawns on it, and runs in place while it waits, then costs no atomic operation. Otherwise it is a
 * counter like any other, and altogether so from the first wait on that others are needed for, until it is
 * made anew. Somebody else who waits for it is let go no sooner than that job has waited, or has ended.
 */
#define COIR_COUNTER_LOCAL {{COIR_COUNTER_LOCAL_BIT}}
#define COIR_COUNTER_LOCAL_BIT 64 /* for the line above */

/* The same for memory that is none yet, without clearing what is for failures only: five words. */
static inline void coir_counter_init_local(coir_counter *counter)
{
    counter->opaque[0] = COIR_COUNTER_LOCAL_BIT;
    counter->opaque[1] = counter->opaque[2] = counter->opaque[3] = counter->opaque[4] = 0;
}

/*
 * Makes a counter new: nothing owed, outcome DONE, no failure. No job may owe it.
 */
COIR_API void coir_counter_init(coir_counter *counter);

/*
 * Adds n to what is owed, by hand: a guard around work that is not a job. Each unit is released
 * by one coir_counter_done.
 *
 *   n          1 or more; anything else, or 2^24 owed by hand, is a panic (an abort on a plain thread outside
 *              coir_try)
 *
 * A panic that takes the counter's frame does not wait for these units, which a cleanup may release, or nobody; who waits
 * for the counter of a job that has spawned on it is told when the jobs have ended, COIR_CANCELED at best. So where
 * another thread is to release one, a cleanup has to wait for the counter, or it lies in no such frame.
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
 *             COIR_ETIMEDOUT; COIR_ECANCELED (the caller is canceled: it is told once, here or by a call that
 *             waits so inside, such as coir_pool_open, and none of its later waits on counters is
 *             interrupted; or the runtime of these jobs could not close because of them);
 *             COIR_EDEADLK (the counter is owed the end of the calling job, or of one that waits for it
 *             on this stack; or options.deadlock chose this wait); COIR_ENOMEM (no stack left to park on)
 * Call from   a fiber (parks) or a plain thread (blocks)
 * Suspends    yes
 * Ordering    all that the jobs did happens before the return
 * Cost        one load if nothing is owed, else two switches, or none: a fiber whose worker has nothing else to do
 *             looks for two microseconds before it parks (not where workers do not spin); never allocates
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
 *             (its worker's queue and options.jobs_max are full, or its domain is); COIR_ECANCELED (its domain
 *             is canceled); COIR_ENOMEM. On failure nothing is owed.
 * Call from   a fiber
 * Suspends    no
 * Ordering    what the caller did before happens before fn
 * Cost        an atomic operation, none with a local counter; never allocates while the worker's queue has
 *             room
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
 * Calls here(here_arg), and there(there_arg) as a job that runs elsewhere meanwhile, if another worker has
 * nothing to do, or else in place when `here` has returned. Returns when both have ended.
 *
 * `here` is a plain call of the calling job: a panic of it is the caller's own, and cancels `there` and waits
 * for it first. So does a C++ exception, which the caller may catch. `there` is contained as any job.
 *
 * Returns     the outcome of `there`, COIR_DONE..COIR_PANICKED. Or, if neither was called: COIR_EPERM on a
 *             plain thread, COIR_EINVAL (a function is NULL), COIR_EAGAIN, COIR_ECANCELED and COIR_ENOMEM as
 *             coir_spawn. COIR_ECANCELED, COIR_EDEADLK and COIR_ENOMEM as coir_wait cannot come: the
 *             counter is the call's own, so it waits until `there` has settled
 * Call from   a fiber
 * Suspends    yes
 * Ordering    what the caller did before happens before both; both happen before the return
 * Cost        no atomic operation, if nobody takes `there`; never allocates while the worker's queue has room
 */
COIR_API COIR_MUST_USE int coir_fork2(coir_fn *here, void *here_arg, coir_fn *there, void *there_arg);

/*
 * Starts fn(arg) when everything owed to `after` has settled as COIR_DONE; otherwise the job ends
 * CANCELED (kind DEPENDENCY) without running.
 *
 *   after      borrowed until the job has started or ended
 *   done       owed one unit until the job has ended; NULL: nobody waits
 *
 * If `after` lies in a frame that a panic takes, a job's of any runtime or a plain thread's, the job ends CANCELED
 * (kind DEPENDENCY) as well, before the panic's first cleanup. If it lies in one of the calling job, whose return (or
 * that of a coir_try in it) takes it, that is a panic (kind OWED).
 *
 * Returns     as coir_spawn; COIR_EINVAL also if `done` is `after`; COIR_EAGAIN also when options.jobs_max jobs
 *             wait for others
 * Call from   a fiber
 * Suspends    no
 * Cost        allocates one small record
 */
COIR_API int coir_spawn_after(coir_counter *after, coir_counter *done, coir_fn *fn, void *arg);

/*
 * Starts a job from outside: fn(arg) will run on some worker, oldest first.
 *
 *   runtime    a coir_close may run meanwhile; it must not end it before the call returns, unless the job is
 *              accepted, which keeps it open
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
 * canceled and waited for first, but not what is owed there by hand. The counter it is owed to becomes
 * PANICKED. Under options.panic COIR_PANIC_ABORT none of this happens: the process aborts with a report.
 *
 * The message is formatted as printf does. Outside a boundary, while a cleanup of an earlier panic
 * runs, or with a frame without unwind tables in the way, the process aborts with a report. A noexcept
 * frame in the way ends it by std::terminate: the report names the frame, then the program's own
 * terminate handler is called.
 *
 * Call from   a job, or below coir_try on any thread
 * Suspends    yes, if jobs are owed to its frames
 */
#define coir_panic(...) \
    coir_panic_stuck(coir_panic_raise(coir_panic_begin(__FILE__, __LINE__, __VA_ARGS__)))

/*
 * Panics unless the condition holds: coir_require(condition), or coir_require(condition, format,
 * ...) with a literal format and 14 arguments at most. Without one the message is "required: " and the
 * condition's text.
 */
#define coir_require(...) \
    COIR_REQUIRE_PICK(__VA_ARGS__, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, 1, )(#__VA_ARGS__, __VA_ARGS__)

/* Which of the two it is; a pedantic compiler wants an argument, if an empty one, where ... is. */
#define COIR_REQUIRE_PICK(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, which, ...) COIR_REQUIRE_##which
#define COIR_REQUIRE_1(text, condition) COIR_REQUIRE_OR(condition, text, "")
#define COIR_REQUIRE_N(text, condition, ...) COIR_REQUIRE_OR(condition, "", __VA_ARGS__)
#define COIR_REQUIRE_OR(condition, text, ...)                                                     \
    ((condition) ? (void)0                                                                        \
                 : coir_panic_stuck(coir_panic_raise(                                             \
                       coir_require_begin(__FILE__, __LINE__, text, " " __VA_ARGS__))))

/* coir_panic as a function, for bindings of other languages. file is borrowed for ever. */
COIR_API __attribute__((noreturn, cold, format(printf, 3, 4))) void
coir_panic_at(const char *file, int line, const char *format, ...);

/* The parts of coir_panic, which calls them in the caller's own frame: a frame of ours would be one more to unwind.
 * This one keeps and reports the failure, and waits for what is owed; returns what is to be raised. */
COIR_API __attribute__((cold, format(printf, 3, 4))) void *
coir_panic_begin(const char *file, int line, const char *format, ...);

/* The same for coir_require; the first character of format is not printed. */
COIR_API __attribute__((cold, format(printf, 4, 5))) void *
coir_require_begin(const char *file, int line, const char *condition, const char *format, ...);

/*
 * Unwinds to the boundary.
 *
 * Returns     only if the unwinder gives up: its reason
 */
COIR_API __attribute__((cold)) int coir_panic_raise(void *panic);

/* Ends the process with a report then. */
COIR_API __attribute__((noreturn, cold)) void coir_panic_stuck(int reason);

/*
 * Runs fn(arg) inside a boundary of its own: the place to put at the edge of foreign code.
 *
 *   failure    filled on COIR_FAILED and COIR_PANICKED; NULL: not wanted
 *
 * coir_defer and coir_fail inside fn belong to this boundary; handlers run before the return. The
 * floating-point control words stay as fn has left them, as at a C++ catch; at the end of a job they are reset.
 * A C++ exception or a panic that the caller handles may be rethrown in fn: both end PANICKED, if the caller rethrows it, too.
 *
 * Returns     COIR_DONE; COIR_FAILED (coir_fail was called); COIR_PANICKED; COIR_EINVAL; COIR_EPOLICY
 *             (fn was not called: the caller's runtime aborts on panics)
 * Call from   a fiber or a plain thread
 * Suspends    only if fn does
 * Cost        a call; nothing more while nobody panics
 */
COIR_API COIR_MUST_USE int coir_try(coir_fn *fn, void *arg, coir_failure *failure);

#define COIR_DEFER_INLINE 8

/*
 * Runs fn(arg) when the job (or the innermost coir_try) ends, however it ends; last in, first out.
 *
 *   arg        must not lie in the frames of the job's function: a return has left them by then
 *
 * The first COIR_DEFER_INLINE of a boundary cannot fail. A handler that panics makes the job end
 * PANICKED, one that calls coir_fail makes it end FAILED at least; the other handlers still run.
 *
 * Returns     COIR_OK; COIR_ENOMEM (after the first 8); COIR_EPERM outside a boundary; COIR_EINVAL
 */
COIR_API COIR_MUST_USE int coir_defer(coir_fn *fn, void *arg);

/* ----------------------------------------------------------------------------------- failure */

/*
 * Says that the calling job (or the innermost coir_try) has failed: when its function returns, it
 * ends FAILED instead of DONE. The caller returns by itself, as with any error:
 *
 *     if (read_all(file) < 0)
 *         return coir_fail(COIR_EIO, "cannot read %s", name);
 *
 * The message is formatted as printf does; file and line are recorded. The first call of a boundary
 * counts. A panic after it, or one that a cleanup calls it for, outranks it: the outcome and the record
 * are then the panic's. In a C++ catch that ends a panic it counts, but for its message.
 *
 *   code       for who waits, in coir_failure.code; not 0 (a panic): it would read as success
 *
 * Returns     code; COIR_EPERM outside a boundary: nothing can be told to fail there
 * Call from   a job, or below coir_try on any thread; cleanups too
 * Suspends    no
 * Cost        about a microsecond; nothing is unwound
 */
#define coir_fail(code, ...) coir_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__)

/*
 * What coir_fail calls, for bindings of other languages. file is borrowed for ever.
 *
 * Returns     as coir_fail
 */
COIR_API __attribute__((cold, format(printf, 4, 5))) int
coir_fail_at(const char *file, int line, int code, const char *format, ...);

#define COIR_RECORDS 4096   /* failures that a runtime keeps at most; the newest overwrites the oldest */
#define COIR_TEXT_BYTES 256 /* of a kept message */

/*
 * A kept failure by id. A runtime keeps panics, each coir_fail, and what coir_counter_done is given;
 * jobs that were skipped or dropped are known to their counters only.
 *
 * Returns     COIR_OK; COIR_ENOENT (of another runtime, overwritten, or there was no memory to keep it);
 *             COIR_EINVAL
 * Call from   any thread while the runtime is open
 * Cost        looks at up to options.records ids
 */
COIR_API int coir_failure_find(coir_runtime *runtime, uint64_t id, coir_failure *failure);

/*
 * Goes through the kept failures, oldest first.
 *
 *   cursor     0 at first; moved on by each call. Kept, it finds later what is new since.
 *
 * Returns     COIR_OK; COIR_ENOENT when there is none after the cursor, for now; COIR_EINVAL
 * Call from   any thread while the runtime is open; several may, each with a cursor of its own
 */
COIR_API int coir_failure_next(coir_runtime *runtime, uint64_t *cursor, coir_failure *failure);

/*
 * The message of a kept failure at its full length, up to COIR_TEXT_BYTES with the terminator.
 *
 *   text       receives it, terminated, cut to bytes
 *
 * Returns     as coir_failure_find
 */
COIR_API int coir_failure_text(coir_runtime *runtime, uint64_t id, char *text, size_t bytes);

/*
 * The domain of a kept failure: of its job, or of the finalizer or obligation that it is about.
 *
 *   name       receives it, terminated, cut to bytes; "" outside every domain
 *
 * Returns     as coir_failure_find
 */
COIR_API int coir_failure_domain(coir_runtime *runtime, uint64_t id, char *name, size_t bytes);

#define COIR_BACKTRACE_MAX 32 /* frames of a backtrace */

/*
 * The backtrace of a kept failure: return addresses, from the caller of coir_panic to the boundary that contains
 * it; of a contained fault from the instruction that faulted (a byte past its start), or the caller of abort. Under
 * options.backtrace every panic has one, but for one found at a return (COIR_KIND_OWED), when the frames have gone.
 * It is there when the panic has reached its boundary; before that if a panic hook or metrics ask, which costs a walk
 * of its own.
 *
 *   pc         receives at most n of them
 *
 * Returns     how many there are, up to COIR_BACKTRACE_MAX; or as coir_failure_find
 */
COIR_API int coir_failure_frames(coir_runtime *runtime, uint64_t id, void **pc, size_t n);

/*
 * Writes all that is kept of a failure, for people: what, where, when, the whole message, and the
 * backtrace with the names that the dynamic linker knows (export them with -rdynamic).
 *
 *   fd         borrowed for the call; not closed
 *
 * Returns     as coir_failure_find; COIR_EIO (fd took less)
 * Call from   any thread while the runtime is open, the panic hook too
 */
COIR_API int coir_failure_print(coir_runtime *runtime, uint64_t id, int fd);

/* ------------------------------------------------------------------------------------ locks */

/*
 * What the calls below have in common, unless one says otherwise.
 *
 *   Memory      the caller's; all zero is a valid initial state; nothing is allocated, also while
 *               waiting. It may go when nobody uses the object any more. Who was let go by a call
 *               of another (an unlock, a release, a set) may free the object at once, though that
 *               call has not returned yet.
 *   Callers     fibers (they park) and plain threads (they block)
 *   Deadline    X_until gives up with COIR_ETIMEDOUT; X is X_until with COIR_NEVER
 *   Cancel      a call that has to wait returns COIR_ECANCELED if its job is, or gets, canceled; each
 *               such call does, and not only the first, as with coir_wait
 *   Both        a call that is granted what it waits for while it is being timed out or canceled has
 *               been granted it: nothing is lost
 *   Stacks      a fiber that has to wait when no stack is left to go on with gets COIR_ENOMEM
 *   Identity    locks are held by a job, not by its thread: it may suspend and resume elsewhere.
 *               coir_try shares its job's identity; a child that runs in place has its own. A
 *               plain thread is its own identity, and must not end while it holds a lock.
 *   Ordering    what was done before an unlock, release, set or send happens before the return of
 *               the call that it lets go on
 */

/* What COIR_X_INIT of an object below stands for. */
#ifdef __cplusplus
#define COIR_ZERO {}
#else
#define COIR_ZERO {{0}}
#endif

/*
 * A mutex.
 *
 * Poisoning. A panic that unwinds a frame in which the mutex is held, up to the boundary (the job's or
 * coir_try's) inside which it was locked, poisons it; if no cleanup has unlocked it on the way, it is
 * unlocked at the boundary, or if it lies itself in the frames that go, with its frame (by a foreign
 * exception, before these go). It is poisoned as the panic is raised, so also if a foreign catch swallows
 * that later. Every lock of a poisoned mutex returns COIR_EPOISONED *with the mutex
 * held*: unlock it and pass the error on; or make sure that what it guards is whole, or make it so,
 * and coir_mutex_clear. A job that returns while it holds a mutex ends PANICKED (kind HELD), and
 * the mutex is poisoned too. What a coir_try still holds when it returns is its job's from then on; but if it
 * holds a lock that lies in the frames it leaves, it ends PANICKED so, too.
 *
 * Fairness. A mutex that is free may be taken by anyone who comes, before a waiter that has been woken
 * has got to it: else each contended unlock would cost all others a context switch. But a waiter
 * loses at most once: then it is at the head of the queue, and the next unlock hands the mutex over
 * to it. So the one at the head waits for at most two unlocks after it got there, plus
 * what comes in between its wake-up and its run; the others follow in the order they came.
 */
typedef struct coir_mutex {
    uint64_t opaque[7];
} coir_mutex;
#define COIR_MUTEX_INIT COIR_ZERO

enum coir_mutex_policy {
    COIR_MUTEX_POISON = 0, /* as above */
    COIR_MUTEX_ABORT       /* a panic while it is held aborts the process with a report */
};

/*
 * Makes a mutex new: unlocked, not poisoned. Nobody may be using it.
 *
 *   policy     enum coir_mutex_policy
 *
 * Returns     COIR_OK; COIR_EINVAL (no such policy)
 */
COIR_API int coir_mutex_init(coir_mutex *mutex, int policy);

/*
 * Locks.
 *
 * Returns     COIR_OK; COIR_EPOISONED (it is held, too); COIR_EDEADLK (the caller holds it already, or
 *             a job that waits below on its stack does; or options.deadlock chose this wait);
 *             COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if another holds it
 * Cost        one compare-and-swap if it is free
 */
COIR_API COIR_MUST_USE int coir_mutex_lock_until(coir_mutex *mutex, int64_t deadline);
/* coir_mutex_lock_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_mutex_lock(coir_mutex *mutex);

/*
 * Locks if that needs no wait.
 *
 * Returns     COIR_OK; COIR_EPOISONED (it is held, too); COIR_EBUSY; COIR_EDEADLK (the caller holds it)
 * Suspends    no
 */
COIR_API COIR_MUST_USE int coir_mutex_try_lock(coir_mutex *mutex);

/*
 * Unlocks. Several mutexes may be unlocked in any order. A poisoned one stays so.
 *
 * Returns     COIR_OK; COIR_EPERM (another holds it); COIR_EINVAL (nobody holds it)
 * Suspends    no
 * Cost        one compare-and-swap if nobody waits
 */
COIR_API int coir_mutex_unlock(coir_mutex *mutex);

/*
 * Ends the poisoning of a mutex that the caller holds.
 *
 *   reason     why what it guards is whole again; goes to the log; not empty
 *
 * Returns     COIR_OK; COIR_ENOENT (not poisoned); COIR_EPERM (the caller does not hold it);
 *             COIR_EINVAL
 */
COIR_API int coir_mutex_clear(coir_mutex *mutex, const char *reason);

/*
 * A condition: waits until what a mutex guards has changed. Wake-ups are never spurious, but another
 * may have been faster to the mutex: test in a loop. Waiters are told in the order they came.
 */
typedef struct coir_cond {
    uint64_t opaque[3];
} coir_cond;
#define COIR_COND_INIT COIR_ZERO

/*
 * Makes a condition new. Nobody may be waiting.
 */
COIR_API void coir_cond_init(coir_cond *cond);

/*
 * Unlocks the mutex and waits for a signal, in one step; then locks the mutex again.
 *
 *   mutex      held by the caller
 *
 * Returns     with the mutex held: COIR_OK; COIR_ETIMEDOUT; COIR_EPOISONED (signaled or timed out, and
 *             the mutex is poisoned by now). With the mutex *not* held: COIR_ECANCELED; COIR_EDEADLK
 *             (options.deadlock chose its wait for the mutex); a signal that
 *             was on its way to the caller goes to the next waiter. Having done nothing: COIR_EPERM
 *             (the caller does not hold the mutex); COIR_ENOMEM; COIR_EINVAL
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_cond_wait_until(coir_cond *cond, coir_mutex *mutex, int64_t deadline);
/* coir_cond_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_cond_wait(coir_cond *cond, coir_mutex *mutex);

/*
 * Lets the waiter go on that has waited longest, or (broadcast) all that wait now. Nobody: nothing.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   fibers and threads, with or without the mutex
 * Suspends    no
 */
COIR_API int coir_cond_signal(coir_cond *cond);
/* Otherwise as coir_cond_signal. */
COIR_API int coir_cond_broadcast(coir_cond *cond);

#define COIR_SEMAPHORE_MAX UINT32_C(0x7fffffff)

/*
 * A counting semaphore: permits, 0 to COIR_SEMAPHORE_MAX. A permit belongs to nobody: any job may
 * release what another acquired, and a panic releases none (coir_defer does).
 *
 * Fairness. First come, first served: a released permit goes straight to the first waiter.
 */
typedef struct coir_semaphore {
    uint64_t opaque[3];
} coir_semaphore;
#define COIR_SEMAPHORE_INIT COIR_ZERO /* no permits */

/*
 * Makes a semaphore new. Nobody may be using it.
 *
 * Returns     COIR_OK; COIR_ERANGE (more permits than COIR_SEMAPHORE_MAX)
 */
COIR_API int coir_semaphore_init(coir_semaphore *semaphore, uint32_t permits);

/*
 * Takes one permit.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if there is none
 * Cost        one compare-and-swap if there is one
 */
COIR_API COIR_MUST_USE int coir_semaphore_acquire_until(coir_semaphore *semaphore, int64_t deadline);
/* coir_semaphore_acquire_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_semaphore_acquire(coir_semaphore *semaphore);

/*
 * Takes one permit if there is one.
 *
 * Returns     COIR_OK, COIR_EBUSY
 */
COIR_API COIR_MUST_USE int coir_semaphore_try_acquire(coir_semaphore *semaphore);

/*
 * Gives n permits.
 *
 * Returns     COIR_OK; COIR_ERANGE (there would be more than COIR_SEMAPHORE_MAX; none is given)
 * Suspends    no
 * Cost        one compare-and-swap if nobody waits
 */
COIR_API int coir_semaphore_release(coir_semaphore *semaphore, uint32_t n);

/*
 * An event: not set at first; set lets all waits return, until it is reset.
 */
typedef struct coir_event {
    uint64_t opaque[3];
} coir_event;
#define COIR_EVENT_INIT COIR_ZERO

/*
 * Makes an event new: not set. Nobody may be using it.
 */
COIR_API void coir_event_init(coir_event *event);

/*
 * Sets the event; all who wait return. Set already: nothing changes.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Suspends    no
 */
COIR_API int coir_event_set(coir_event *event);

/*
 * Makes the event not set, for waits to come. Those that were let go return all the same.
 *
 * Returns     COIR_OK, COIR_EINVAL
 */
COIR_API int coir_event_reset(coir_event *event);

/*
 * Whether the event is set.
 *
 * Returns     1 or 0
 */
COIR_API int coir_event_is_set(coir_event *event);

/*
 * Waits until the event is set.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if it is not set
 * Cost        one load if it is
 */
COIR_API COIR_MUST_USE int coir_event_wait_until(coir_event *event, int64_t deadline);
/* coir_event_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_event_wait(coir_event *event);

/*
 * Calls a function once, whoever comes first. If it panics or fails, that is all: the once is poisoned.
 */
typedef struct coir_once {
    uint64_t opaque[3];
} coir_once;
#define COIR_ONCE_INIT COIR_ZERO

/*
 * Calls fn(arg), in a boundary of its own (coir_try), if nobody has; else waits until it has ended.
 *
 *   deadline   until when to wait for another's call; the caller's own is not cut short
 *
 * Returns     COIR_OK: fn has returned; COIR_EPOISONED: it has panicked, or called coir_fail, in the
 *             caller's own call or an earlier one; COIR_EDEADLK (from inside of fn; or options.deadlock chose this wait); COIR_ETIMEDOUT; COIR_ECANCELED;
 *             COIR_ENOMEM; COIR_EINVAL (fn NULL)
 * Suspends    while another calls, or if fn does
 * Cost        one load when fn has ended
 */
COIR_API COIR_MUST_USE int coir_once_call_until(coir_once *once, coir_fn *fn, void *arg,
                                                int64_t deadline);
/* coir_once_call_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_once_call(coir_once *once, coir_fn *fn, void *arg);

/*
 * A reader-writer lock. Only the write side poisons: a panic of a reader just releases. A job that
 * returns while it holds either side ends PANICKED (kind HELD).
 *
 * Fairness. First come, first served: the lock goes to the writer that has waited longest, or to all
 * readers that wait before the next writer. Nobody overtakes a waiter.
 */
typedef struct coir_rwlock {
    uint64_t opaque[7];
} coir_rwlock;
#define COIR_RWLOCK_INIT COIR_ZERO

/* One reader's hold on one lock, usually a local variable; all zero before its first use. */
typedef struct coir_read {
    uint64_t opaque[5];
} coir_read;
#define COIR_READ_INIT COIR_ZERO

/*
 * Makes a lock new: free, not poisoned. Nobody may be using it.
 *
 *   policy     enum coir_mutex_policy, of the write side
 *
 * Returns     COIR_OK; COIR_EINVAL (no such policy)
 */
COIR_API int coir_rwlock_init(coir_rwlock *rwlock, int policy);

/*
 * Locks to read. A job may read twice, with two holds.
 *
 *   hold       borrowed until the unlock
 *
 * Returns     COIR_OK; COIR_EPOISONED (held, too); COIR_EDEADLK (the caller, or a job below it on its
 *             stack, writes; or reads, while a writer waits; or options.deadlock chose this wait); COIR_EBUSY (the hold is in use);
 *             COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if a writer is in, or anybody waits
 * Cost        one compare-and-swap if not
 */
COIR_API COIR_MUST_USE int coir_rwlock_read_lock_until(coir_rwlock *rwlock, coir_read *hold,
                                                       int64_t deadline);
/* coir_rwlock_read_lock_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_rwlock_read_lock(coir_rwlock *rwlock, coir_read *hold);

/*
 * Locks to read if that needs no wait.
 *
 * Returns     COIR_OK; COIR_EPOISONED (held, too); COIR_EBUSY (also: the hold is in use); COIR_EDEADLK
 */
COIR_API COIR_MUST_USE int coir_rwlock_read_try_lock(coir_rwlock *rwlock, coir_read *hold);

/*
 * Ends one hold.
 *
 * Returns     COIR_OK; COIR_EINVAL (the hold is not on this lock); COIR_EPERM (it is another job's)
 */
COIR_API int coir_rwlock_read_unlock(coir_rwlock *rwlock, coir_read *hold);

/*
 * Locks to write.
 *
 * Returns     COIR_OK; COIR_EPOISONED (held, too); COIR_EDEADLK (the caller, or a job below it on its
 *             stack, reads or writes; or options.deadlock chose this wait); COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if anybody is in
 */
COIR_API COIR_MUST_USE int coir_rwlock_write_lock_until(coir_rwlock *rwlock, int64_t deadline);
/* coir_rwlock_write_lock_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_rwlock_write_lock(coir_rwlock *rwlock);

/*
 * Locks to write if that needs no wait.
 *
 * Returns     COIR_OK; COIR_EPOISONED (held, too); COIR_EBUSY; COIR_EDEADLK
 */
COIR_API COIR_MUST_USE int coir_rwlock_write_try_lock(coir_rwlock *rwlock);

/*
 * Unlocks what the caller writes under.
 *
 * Returns     COIR_OK; COIR_EPERM (readers or another writer are in); COIR_EINVAL (nobody is)
 */
COIR_API int coir_rwlock_write_unlock(coir_rwlock *rwlock);

/*
 * Ends the poisoning, by one who writes.
 *
 *   reason     as for coir_mutex_clear
 *
 * Returns     COIR_OK; COIR_ENOENT (not poisoned); COIR_EPERM (the caller does not write); COIR_EINVAL
 */
COIR_API int coir_rwlock_clear(coir_rwlock *rwlock, const char *reason);

/* --------------------------------------------------------------------------------- channels */

/*
 * A bounded channel: a queue of elements of one size, for any number of senders and receivers. What is
 * said above of memory, callers, deadlines and cancels holds here too, but a channel needs
 * coir_channel_init.
 *
 * An element that was sent is received once, in the order sent; a panic, a deadline or a cancel of either
 * side neither loses nor doubles one: a call that does not return COIR_OK has sent, or received,
 * nothing. Who waits is served in the order they came. Elements are copied under a spin lock, so
 * they should be small: send a pointer to what is large.
 */
typedef struct coir_channel {
    uint64_t opaque[12];
} coir_channel;

/*
 * Makes a channel.
 *
 *   element_bytes  of each element, 1 or more
 *   capacity       elements it holds before senders wait, 1 or more
 *   ring           memory for capacity elements, borrowed until coir_channel_fini; NULL: allocated, from
 *                  the allocator of the caller's runtime (and then freed before that is closed), on a
 *                  plain thread from malloc
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ERANGE (capacity 0, or too many bytes); COIR_ENOMEM
 */
COIR_API COIR_MUST_USE int coir_channel_init(coir_channel *channel, size_t element_bytes,
                                             size_t capacity, void *ring);

/*
 * Ends a channel that nobody uses any more; what is in it is dropped.
 *
 * Returns     COIR_OK; COIR_EBUSY (somebody waits: close it first, and let them return); COIR_EINVAL
 */
COIR_API int coir_channel_fini(coir_channel *channel);

/*
 * Sends a copy of an element.
 *
 *   element    borrowed for the call
 *
 * Returns     COIR_OK; COIR_ECLOSED; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if the channel is full
 */
COIR_API COIR_MUST_USE int coir_channel_send_until(coir_channel *channel, const void *element,
                                                   int64_t deadline);
/* coir_channel_send_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_channel_send(coir_channel *channel, const void *element);

/*
 * Sends if that needs no wait.
 *
 * Returns     COIR_OK; COIR_EAGAIN (full); COIR_ECLOSED
 */
COIR_API COIR_MUST_USE int coir_channel_try_send(coir_channel *channel, const void *element);

/*
 * Receives an element.
 *
 *   element    receives the copy; unchanged unless COIR_OK is returned
 *
 * Returns     COIR_OK; COIR_ECLOSED (and all that was sent has been received); COIR_ETIMEDOUT;
 *             COIR_ECANCELED; COIR_ENOMEM
 * Suspends    if the channel is empty
 */
COIR_API COIR_MUST_USE int coir_channel_recv_until(coir_channel *channel, void *element,
                                                   int64_t deadline);
/* coir_channel_recv_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_channel_recv(coir_channel *channel, void *element);

/*
 * Receives if that needs no wait.
 *
 * Returns     COIR_OK; COIR_EAGAIN (empty); COIR_ECLOSED
 */
COIR_API COIR_MUST_USE int coir_channel_try_recv(coir_channel *channel, void *element);

/*
 * Closes a channel: sends fail from now on, those that wait too; receivers get what is in it, and then
 * COIR_ECLOSED.
 *
 * Returns     COIR_OK; COIR_ECLOSED (it was closed already); COIR_EINVAL
 * Suspends    no
 */
COIR_API int coir_channel_close(coir_channel *channel);

#define COIR_SELECT_MAX 64

enum coir_op { COIR_SEND = 1, COIR_RECV };

/* One of the operations that a select offers. */
typedef struct coir_case {
    coir_channel *channel; /* NULL: this case is left out */
    void *element;         /* to send (read only), or where to receive */
    int op;                /* enum coir_op */
} coir_case;

/*
 * Does one of several operations: the first that is possible.
 *
 *   cases      n of them, borrowed for the call; the same channel may be in several
 *   n          1 to COIR_SELECT_MAX
 *   deadline   0 (or any past one): does not wait
 *   which      receives the index of the case that was done, or whose channel is closed; NULL: not
 *              wanted; unchanged otherwise
 *
 * If several are possible one is chosen at random. A closed channel counts as possible.
 *
 * Returns     COIR_OK: that operation was done, and no other; COIR_ECLOSED; COIR_ETIMEDOUT;
 *             COIR_ECANCELED; COIR_ENOMEM; COIR_EINVAL; COIR_EDEADLK (all left out, no deadline)
 * Suspends    if none is possible
 */
COIR_API COIR_MUST_USE int coir_select(coir_case *cases, size_t n, int64_t deadline, size_t *which);

/* ------------------------------------------------------------------------- versions, job's own */

/*
 * A cell: the current version of a value that is replaced as a whole, never changed in place. Readers
 * see the old one or the new one, never half a change, wait for nobody, and keep what they got for as
 * long as they like; so a panic in the middle of building the next version harms nobody.
 *
 * A version is the caller's object with a coir_cell_version in it. Who publishes it gives it away; it is
 * destroyed once, when it has been replaced and the last reader has released it, by whoever does the last
 * of these, on its thread.
 */
typedef struct coir_cell_version {
    uint64_t opaque[2];
} coir_cell_version;

typedef struct coir_cell {
    uint64_t opaque[2];
} coir_cell;
#define COIR_CELL_INIT COIR_ZERO /* empty, and nothing is destroyed */

/*
 * Makes a cell.
 *
 *   first      NULL: empty until the first publish
 *   destroy    called once for each version; must not suspend while a lock is held that readers take;
 *              NULL: nothing
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ERANGE (the address of the version needs more than 48 bits: the cell is empty,
 *             and the version stays the caller's)
 */
COIR_API int coir_cell_init(coir_cell *cell, coir_cell_version *first,
                            void (*destroy)(coir_cell_version *version));

/*
 * Empties a cell that nobody reads or publishes to any more. References stay valid.
 */
COIR_API void coir_cell_fini(coir_cell *cell);

/*
 * The current version, with a reference to it. A job that may panic should coir_defer the release.
 *
 * Returns     the version, to be given to coir_cell_release; NULL: the cell is empty
 * Call from   any thread
 * Suspends    no
 * Ordering    what was written to the version before it was published happens before the return
 * Cost        one atomic addition; wait-free but for one step in 32,768 reads
 */
COIR_API coir_cell_version *coir_cell_read(coir_cell *cell);

/*
 * Gives back one reference. The version may be destroyed in the call. NULL: nothing.
 */
COIR_API void coir_cell_release(coir_cell_version *version);

/*
 * Makes `next` the current version, whatever was.
 *
 *   next       the cell's from now on; never published before
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ERANGE (as coir_cell_init; it stays the caller's)
 * Suspends    no
 */
COIR_API int coir_cell_publish(coir_cell *cell, coir_cell_version *next);

/*
 * Makes `next` the current version if `expected` still is: what was copied from has not changed.
 *
 *   expected   the caller has a reference to it; NULL: the cell is empty
 *
 * Returns     COIR_OK; COIR_EAGAIN (another was faster; next stays the caller's, read and build anew);
 *             COIR_EINVAL; COIR_ERANGE
 */
COIR_API int coir_cell_replace(coir_cell *cell, const coir_cell_version *expected,
                               coir_cell_version *next);

/*
 * A key to values that jobs keep for themselves; usually a static variable, its address is its name.
 * The value belongs to the job, wherever it runs; coir_try shares its job's, a spawned job begins
 * without.
 */
typedef struct coir_local {
    coir_fn *destroy; /* called with each job's value, if it is not NULL, when the job ends, after its
                         deferred handlers; NULL: nothing. A panic in it makes the job end PANICKED, a
                         coir_fail FAILED at least. */
} coir_local;
#define COIR_LOCAL_INIT(destroy) {destroy}

/*
 * Sets the calling job's value. The one before is not destroyed.
 *
 *   key        borrowed until the job has ended
 *   value      NULL: none
 *
 * Returns     COIR_OK; COIR_EPERM outside of a job; COIR_ENOMEM; COIR_EINVAL
 * Suspends    no
 * Cost        allocates a small record for the first value of a key in a job
 */
COIR_API COIR_MUST_USE int coir_local_set(const coir_local *key, void *value);

/*
 * The calling job's value.
 *
 * Returns     the value; NULL: none, or not in a job
 */
COIR_API void *coir_local_get(const coir_local *key);

/* -------------------------------------------------------------------------- contained faults */

/*
 * With options.faults = COIR_FAULTS_CONTAIN, a job that overflows its stack ends PANICKED (kind
 * STACK_OVERFLOW), as if it had panicked there: the jobs that it spawned on counters of its frames are
 * canceled and waited for, its coir_defer handlers run (on another stack, while its frames are still
 * whole), whoever waits for it is told, and a coir_try around the place catches it. What differs from a
 * panic: no cleanups run, neither __attribute__((cleanup)) nor C++ destructors. What they would
 * have released stays taken: memory, locks of other libraries, an exception that was being handled. Use
 * coir_defer for what must be released.
 *
 * A job that is stopped inside malloc cannot be ended there: its thread would hang in the next one. So a
 * fault is contained only if all code between it and the boundary is registered as containable
 * by the calls below; otherwise the process aborts, and the report names the function in the
 * way. Register what you can vouch for: code that holds no lock of its own, and leaves no data of others
 * half written, wherever it is stopped. coir's own code never counts as containable; between a supervised
 * child's function and its boundary there is none that stands in the way.
 *
 * Never contained: faults on plain threads and in coir itself, signals that somebody sent, faults while a
 * panic or a C++ exception unwinds. Handlers that were there before are chained to. They are not where containing was
 * begun and is refused, SIGABRT that somebody sent to a job's thread included: there is a report, and the process ends
 * by SIGABRT, whoever handles that. A signal whose handler has no alternate stack (SA_ONSTACK) and finds no room on a
 * fiber's is lost, and counts as an overflow there.
 *
 * options.faults_also contains other faults in the same way (kind FAULT). After one of these nobody
 * can promise that memory is what it should be: coir_stats.tainted counts them, the log recommends
 * to drain and restart. Only another address space contains native corruption.
 *
 * Compile with -fstack-clash-protection, or a large frame may step over the guard, and with
 * unwind tables (-fasynchronous-unwind-tables; the default on most systems).
 */

/*
 * Registers the code from start up to end as containable, for all runtimes of the process.
 *
 * Returns     COIR_OK; COIR_EINVAL (not a range); COIR_ENOMEM (256 ranges have been known, since the
 *             process began; one that was taken back and comes again counts once)
 * Call from   any thread
 */
COIR_API COIR_MUST_USE int coir_contain_text(const void *start, const void *end);

/*
 * Registers all code of the object (the program, or a shared library) that an address lies in: give
 * the address of one of your functions. An object that brings an allocator of its own, or other
 * code with locks, must register parts of itself by coir_contain_text instead.
 *
 * Returns     COIR_OK; COIR_EINVAL (no object there); COIR_ENOTSUP (the object is libc, defines
 *             malloc, or is a program linked statically); COIR_ENOMEM
 * Call from   any thread
 */
COIR_API COIR_MUST_USE int coir_contain_object(const void *address_in_object);

/*
 * Takes back the registration of every range that holds the address; before dlclose, for one.
 *
 * Returns     COIR_OK; COIR_ENOENT
 * Call from   any thread, while no job runs that code
 */
COIR_API int coir_contain_remove(const void *address);

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
 * Jobs follow each other on stacks. What those of one domain leave there is wiped before a job, a finalizer or a
 * coir_offload call of another gets the stack, however they ended; jobs outside every domain count as a domain of
 * their own. That is a system call, some 0.7 us, for each change from one to another on a stack; jobs of the same
 * domain pay one compare. share_stacks, of a domain or of the runtime, spares it. Not wiped: registers; the heap; a plain
 * thread's stack, when it runs jobs (COIR_FULL_RUN) or finalizers itself; isolated children between calls.
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
    enum coir_full full;   /* other than COIR_FULL_REFUSE only with jobs_max, else COIR_EINVAL */
    int64_t full_wait_ns;  /* COIR_FULL_WAIT: at most so long; 0: until the job's deadline */
    int64_t deadline_ns;   /* each submitted job must start within this time; 0: as the parent */
    unsigned panics_max;   /* so many panicked jobs within the window trip it; 0: they count in the
                              nearest domain above that has a threshold; at most 1024 */
    int64_t panics_window_ns; /* 0: 10 s */
    int64_t probe_ns;      /* from the trip until one job is let through to probe; doubled after each
                              probe that panics, up to 64 times; 0: 1 s */
    enum coir_faults faults; /* what a stack overflow of its jobs does; 0: as in the parent, then as
                                in options.faults, which must not be COIR_FAULTS_NONE for others */
    unsigned faults_also;  /* bits of enum coir_fault that are contained, too; only with
                              COIR_FAULTS_CONTAIN, else COIR_EINVAL */
    int64_t probe_late_ns; /* a probe that takes longer counts as one that panicked, whatever becomes of
                              it, so that another can be sent; 0: 10 s; COIR_NEVER: however long */
    uint64_t memory_max;   /* bytes that coir_domain_charge lets its jobs, and those of domains below, account
                              for; 0: no limit */
    size_t stacks_max;     /* jobs, those of domains below included, that may be parked in a wait at once: each
                              keeps a stack. A further wait returns COIR_ENOMEM, as when the runtime has no
                              stack left, and can be made again. A wait for jobs that the caller has
                              spawned itself on a counter of its frames counts, but is not refused; nor are
                              those of idle pool workers and supervisors. 0: no limit */
    int64_t stall_ns;      /* a job of it that does not suspend for longer is logged, once, while it runs, in
                              the place of options.stall_ns, which must not be 0; 0: as the parent; at
                              least 1 ms; COIR_NEVER: its jobs never are */
    unsigned share_stacks; /* 1: what the jobs of this domain and those of the parent (NULL: those outside every
                              domain) leave on a stack they may see of each other; 0: it is wiped between them */
} coir_domain_options;

/*
 * Opens a domain.
 *
 *   parent     NULL: the runtime
 *   options    borrowed for the call; NULL: all defaults, that is a region without limits
 *   domain     receives the handle; NULL is stored on failure
 *
 * faults replaces what the runtime's options say for jobs of this domain, and of those below that ask for
 * nothing. A runtime is prepared for it by options.faults, REPORT or more: signal stacks must be there
 * when its workers start. Handlers for faults_also are installed by the first domain that asks
 * for them, and stay until the runtime closes. A finalizer has the policy of the job that closes.
 *
 * Returns     COIR_OK; COIR_EINVAL (size wrong, parent of another runtime, a policy that could never act: full
 *             without jobs_max, faults_also without faults); COIR_ERANGE (a negative time, a stall_ns below 1 ms,
 *             a number too large, full, faults or share_stacks unknown; or the parent lies below 127 others,
 *             which is as deep as they go); COIR_ENOMEM; COIR_ESHUTDOWN (the parent or the
 *             runtime is closing); COIR_EPOLICY (options.panic is COIR_PANIC_ABORT: panics_max could
 *             never count, nor a fault be contained); COIR_ENOTSUP (faults, but options.faults is NONE;
 *             stall_ns, but options.stall_ns is 0)
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
 * it must not need a fiber, and coir_stats and coir_metrics, which tell of workers' jobs, do not count it, but
 * for its panics. It counts in the domain, which can go past its limit by as many jobs as it has callers. Where it cannot be run in place (a fiber of another runtime, less than half of the stack
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
 * Cost        about coir_submit and a lock at start and end; with a deadline two looks at the clock, and a record, which is
 *             allocated unless the calling worker has one left of an earlier job
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
 * panics is reported and counted (COIR_AT_FINALIZER); the others still run (but under COIR_PANIC_ABORT).
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
    uint64_t memory;    /* bytes charged now */
    uint64_t stacks;    /* jobs parked now; counted with stacks_max only */
    uint64_t denied;    /* charges and waits refused for memory_max and stacks_max */
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
    uint64_t told;      /* waits for jobs of `running`, wherever: they got COIR_ECANCELED */
    uint64_t memory_leaked; /* bytes still charged when their domain was finalized, since it was opened */
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
 * budget (100 ms) is given. Half of it later waits of its fibers that a cancel does not end are
 * interrupted, and jobs that are still queued end CANCELED, though their worker be stuck. Then, if a job
 * still runs, everybody who waits for it, inside the domain or not, gets COIR_ECANCELED: the counter is
 * still owed, wait again before its memory goes. Who waits from then on waits for the job's end, or for the
 * next close. A finalizer that a supervisor below is running, for a child that has ended, is waited for and interrupted as
 * a job is. Domains below are finalized before those above. coir_close does the same to all that are open then.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT while a job still runs (the receipt names some); COIR_EINVAL;
 *             COIR_EDEADLK from a job of the domain; COIR_EBUSY while it, or one above or below, is being
 *             closed (nothing has changed; but where a supervisor below was ending a child as the call began, it may
 *             come late: then the domain is closed to outsiders and supervisors in it have been asked to stop, so close
 *             it again); COIR_ENOMEM (no stack left to park on); COIR_EPERM (that of a supervisor's child: see
 *             coir_supervisor_remove)
 * Call from   a fiber or a plain thread
 * Suspends    yes
 * Ordering    everything the jobs did happens before the finalizers and the return
 */
COIR_API COIR_MUST_USE int coir_domain_close(coir_domain *domain, int64_t drain_ns,
                                             coir_domain_receipt *receipt);

/* --------------------------------------------------------------------- memory of a domain */

/*
 * Accounts for memory that is used for a domain's work, before it is taken. coir does not look at malloc:
 * whoever knows what a request costs says so, and is told in time when the domain has had its share.
 * Whatever is charged must be discharged before the domain closes; the rest is logged and reported in
 * the receipt (memory_leaked), and taken off the domains above.
 *
 *   domain     NULL: the calling job's
 *   bytes      0 is legal
 *
 * Returns     COIR_OK; COIR_ENOMEM (memory_max of the domain or of one above; nothing is charged);
 *             COIR_EPERM (domain NULL outside every domain); COIR_ESHUTDOWN (the domain is closing and
 *             the caller is no job in it)
 * Call from   any thread while the domain lives
 * Cost        one atomic operation for each level, and four
 */
COIR_API COIR_MUST_USE int coir_domain_charge(coir_domain *domain, size_t bytes);

/*
 * The memory has been given back. Not bound to whoever charged it, nor to the amounts of single charges.
 *
 *   domain     the one it was charged to; NULL: the calling job's
 *
 * Returns     COIR_OK; COIR_ERANGE (more than is charged to this very domain; nothing has changed);
 *             COIR_EPERM (domain NULL outside every domain)
 * Call from   any thread while the domain lives
 * Cost        as coir_domain_charge
 */
COIR_API int coir_domain_discharge(coir_domain *domain, size_t bytes);

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
 * coir_obligation_detach). One that is not has leaked: it is logged with the place that took it, counted, and
 * kept as a failure (kind LEAK, FAILED; whoever took it ends as it would have).
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

/* ------------------------------------------------------------------------------ supervision */

/*
 * A supervisor starts children, and starts them again when they break. It is a job in a domain of its own;
 * each child is a job in a domain below, a new one for each start, so all that a child has spawned
 * ends with it, before it is started again. Children may be supervisors: a tree.
 *
 * Words are Erlang/OTP's, and so is the behaviour, unless something else is said: tests/otp_test.py runs
 * the same crashes through OTP's own supervisor.
 */
typedef struct coir_supervisor coir_supervisor;

enum coir_strategy {
    COIR_ONE_FOR_ONE = 0, /* the child that broke is started again */
    COIR_ONE_FOR_ALL,     /* the others are stopped, the last first; then all are started, in order */
    COIR_REST_FOR_ONE,    /* the same with those that were started after it */
    COIR_DYNAMIC          /* as one_for_one, but it begins with no children (coir_supervisor_add), forgets
                             those that are not started again, and stops all at once (OTP: simple_one_for_one) */
};

/* Which children are started again. Normal is COIR_DONE, all other outcomes are abnormal. */
enum coir_restart {
    COIR_PERMANENT = 0, /* whatever their outcome */
    COIR_TRANSIENT,     /* after an abnormal end; after a normal one it is kept as ENDED */
    COIR_TEMPORARY      /* never: it is removed when it ends, or is stopped because another broke */
};

struct coir_supervisor_options;

/*
 * A child. Zero it, set size, name, and fn or supervisor. Sizes as in coir_options.
 *
 * It has started when it runs; with tells_ready, when it calls coir_child_ready: one that ends before has
 * not started. A supervisor as a child has started when its children have.
 *
 * To stop it: it is asked (coir_child_stopping); when shutdown_ns have passed its domain is canceled
 * (coir_domain_cancel); when cancel_ns more have passed it is stuck: the supervisor gives up, since
 * nobody can end it and nothing may take its place.
 */
typedef struct coir_child_spec {
    size_t size;         /* sizeof(coir_child_spec) as the caller knows it; required */
    const char *name;    /* of one supervisor's children each has another; borrowed while the child is known;
                            COIR_DYNAMIC: NULL is "child", and names need not differ */
    coir_fn *fn;         /* what it runs; NULL if it is a supervisor */
    void *arg;
    const struct coir_supervisor_options *supervisor; /* borrowed, with all that it names, while the child is
                                                         known; NULL: it runs fn */
    enum coir_restart restart;
    unsigned tells_ready; /* 1: fn calls coir_child_ready */
    int64_t start_ns;    /* so long it may take to start; 0: 30 s, and a supervisor as long as its children may */
    int64_t shutdown_ns; /* 0: canceled at once, and a supervisor given as long as its children may take;
                            COIR_NEVER: never canceled */
    int64_t cancel_ns;   /* so long it may take to end when it is canceled; 0: 5 s */
} coir_child_spec;

#define COIR_RESTARTS_MAX 65536
#define COIR_RESTARTS_NONE (COIR_RESTARTS_MAX + 1) /* for max_restarts: the first restart is one too many */

/* Options of a supervisor. Zero it and set size, max_restarts and max_seconds; a zero field means its
 * default, but there is none for these: how much failing is too much must be said. Sizes as in
 * coir_options. */
typedef struct coir_supervisor_options {
    size_t size;             /* sizeof(coir_supervisor_options) as the caller knows it; required */
    const char *name;        /* for people; borrowed while the supervisor is known; NULL: "supervisor" */
    enum coir_strategy strategy;
    unsigned max_restarts;   /* restart intensity: more than so many restarts ... */
    unsigned max_seconds;    /* ... within so many seconds, and it gives up. A restart whose start fails counts.
                                In whole seconds of the clock, as OTP. At most 1,000,000 */
    const coir_child_spec *children; /* started in this order; copied */
    size_t children_count;
    int64_t backoff_ns;      /* a child is started again so long after it broke; 0: at once */
    int64_t backoff_max_ns;  /* doubled with each restart up to this, until the child has run for max_seconds;
                                0: it stays backoff_ns */
    unsigned backoff_jitter; /* percent of it, 0 to 100, of which a random part is taken off */
} coir_supervisor_options;

/*
 * Opens a supervisor and starts its children, in order.
 *
 *   domain     its domain's parent; NULL: the runtime
 *   options    borrowed for the call, but see names and supervisors in it
 *   end        owed one unit until the supervisor has ended; NULL: nobody waits. COIR_DONE: it was asked to
 *              stop. PANICKED: it gave up, for its restarts or a child that is stuck; the failure names the
 *              child. FAILED: a child did not start (COIR_ECHILD). CANCELED: it was, before it began.
 *   supervisor receives the handle; NULL is stored on failure
 *
 * If a child does not start, those before it are stopped, the last first. It is not tried again:
 * restarts are for children that have started once.
 *
 * The handle is ended by coir_supervisor_close, or with its domain's parent or the runtime. Deadlines of the
 * caller are inherited by all children, so open it outside of requests; deadline_ns of the domain is not. Nobody may
 * close the domain or the runtime during the call.
 *
 * Returns     COIR_OK; COIR_EINVAL (a size wrong, a name missing or twice, fn and supervisor or neither,
 *             children of a COIR_DYNAMIC, domain of another runtime); COIR_ERANGE (max_restarts or
 *             max_seconds not given, or a field out of its range; here or in a supervisor below);
 *             COIR_EPOLICY (options.panic is ABORT); COIR_ECHILD (a child did not start: then `end` has settled
 *             and has the failure); COIR_ETIMEDOUT (one that did not start is stuck; it stays in the domain. Or the
 *             caller's deadline has passed); COIR_ENOMEM; COIR_EAGAIN (a domain is full, whatever its `full` says);
 *             COIR_ECANCELED (the caller is, the domain, or `end`); COIR_ESHUTDOWN. Nothing is owed then.
 * Call from   a fiber or a plain thread
 * Suspends    yes, until the last child has started
 * Ordering    what the caller did before happens before the children
 */
COIR_API COIR_MUST_USE int coir_supervisor_open(coir_runtime *runtime, coir_domain *domain,
                                                const coir_supervisor_options *options,
                                                coir_counter *end, coir_supervisor **supervisor);

/*
 * Asks a supervisor to stop: its children are stopped, the last first, and it ends as COIR_DONE.
 *
 * coir_close and coir_domain_close begin with this for all supervisors in what they close. A supervisor
 * whose job is canceled stops too, without granting shutdown budgets.
 *
 * Returns     COIR_OK (also if it has stopped); COIR_EINVAL
 * Call from   any thread while the handle is valid; its own children too
 * Suspends    no
 */
COIR_API int coir_supervisor_stop(coir_supervisor *supervisor);

/*
 * Stops a supervisor, waits for its end, and frees it.
 *
 *   supervisor ended by COIR_OK; stays valid after any other status, for another close. NULL: COIR_EINVAL.
 *   budget_ns  when it has passed, everything left is canceled; negative: what the children's budgets come to
 *   receipt    as for coir_domain_close: it names children that are stuck; NULL: not wanted
 *
 * Returns     as coir_domain_close; COIR_EDEADLK from a child or a job below one; COIR_EPERM: it is a
 *             child, its supervisor's to remove
 * Call from   a fiber or a plain thread
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_supervisor_close(coir_supervisor *supervisor, int64_t budget_ns,
                                                 coir_domain_receipt *receipt);

/*
 * Opens a runtime, runs a supervisor until it ends, closes the runtime: main() of a server. A child that waits for
 * SIGTERM (coir_signal_wait) and calls coir_supervisor_stop(coir_supervisor_current()) ends it well.
 *
 *   options    of the runtime; NULL: all defaults
 *   root       of the supervisor
 *
 * Returns     COIR_DONE, that is 0, if it was asked to stop, also by a child that has started before others have; its
 *             other outcomes, if it gave up; a status of coir_open or coir_supervisor_open; COIR_ETIMEDOUT: a child is stuck (and the runtime stays open).
 *             As an exit status, all but COIR_DONE tell whoever supervises the process to start it again.
 * Call from   a plain thread
 */
COIR_API COIR_MUST_USE int coir_supervisor_run(const coir_options *options,
                                               const coir_supervisor_options *root);

/*
 * The supervisor of the child that the calling job is, or belongs to.
 *
 * Returns     its handle, valid until the job ends; NULL: none
 */
COIR_API coir_supervisor *coir_supervisor_current(void);

/*
 * Adds a child behind all others and starts it.
 *
 *   spec       copied; see the fields
 *   child      receives its id, unique in this supervisor; NULL: not wanted
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ERANGE; COIR_EBUSY (the name is another's); COIR_ECHILD (it did not
 *             start: it is not kept); COIR_ENOMEM; COIR_EAGAIN (a domain is full); COIR_ESHUTDOWN (the
 *             supervisor stops); COIR_ECANCELED (the caller is); COIR_EDEADLK (from a child of it that has
 *             not started yet); COIR_ETIMEDOUT (it did not start and is stuck: the supervisor gives up)
 * Call from   any thread; its children that have started, too
 * Suspends    until the child has started. The supervisor does one thing at a time.
 */
COIR_API COIR_MUST_USE int coir_supervisor_add(coir_supervisor *supervisor, const coir_child_spec *spec,
                                               uint64_t *child);

/*
 * Stops a child and removes it.
 *
 * Returns     COIR_OK; COIR_ENOENT; COIR_EDEADLK (the caller is in it, or in a child that has not started yet);
 *             COIR_ESHUTDOWN; COIR_ECANCELED; COIR_EINVAL; COIR_ETIMEDOUT (it is stuck, and the
 *             supervisor gives up)
 * Call from   any thread; its other children too
 * Suspends    until it has ended
 */
COIR_API COIR_MUST_USE int coir_supervisor_remove(coir_supervisor *supervisor, uint64_t child);

/*
 * Says that the calling child has started: the next one may be.
 *
 * Returns     COIR_OK; COIR_EPERM outside of a child's domain
 * Call from   any job of the child; only the first call counts
 * Suspends    no
 */
COIR_API int coir_child_ready(void);

/*
 * Whether the calling child has been asked to stop, and has shutdown_ns from then to do so.
 *
 * Returns     1 or 0; 0 outside of a child's domain
 * Call from   any job of the child
 */
COIR_API int coir_child_stopping(void);

/*
 * Waits until the calling child is asked to stop.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ENOMEM; COIR_EPERM outside of a child's domain
 * Call from   any job of the child
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_child_stop_wait_until(int64_t deadline);
/* coir_child_stop_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_child_stop_wait(void);

enum coir_child_state {
    COIR_CHILD_ENDED = 0, /* it ended by itself, or never started, and is not to be started for now */
    COIR_CHILD_STARTING,
    COIR_CHILD_RUNNING,
    COIR_CHILD_WAITING,   /* it broke, and waits for its backoff */
    COIR_CHILD_STOPPING,
    COIR_CHILD_STUCK      /* it does not end */
};

/* What is known of a child, or of a supervisor: a copy. */
typedef struct coir_child_info {
    uint64_t id;         /* unique in its supervisor; 0: the supervisor that was asked for */
    const coir_supervisor *of; /* whose child it is: to compare with; NULL: the root */
    char name[COIR_STUCK_NAME_BYTES]; /* cut to fit */
    unsigned depth;      /* below the supervisor that was asked for */
    int state;           /* enum coir_child_state */
    int restart;         /* enum coir_restart */
    int strategy;        /* enum coir_strategy of a supervisor; -1: it is none */
    unsigned children;   /* of a supervisor */
    uint64_t starts;     /* starts that were tried, the first included, since it was added */
    uint64_t failures;   /* of its ends and starts: abnormal, and not caused by its supervisor */
    uint64_t restarts;   /* of a supervisor: restarts it has made, of all its children */
    int64_t since;       /* coir_now() when it came into this state */
    coir_failure last;   /* its last failure; id 0: none so far, or one without a record */
} coir_child_info;

/*
 * Calls visit for a supervisor and all below it, each before its children, these in the order of their start.
 *
 *   visit      may suspend, panic, and call what it likes but coir_supervisor_close
 *
 * The tree may change meanwhile: who is there from the call's begin to its end is shown once.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread while the handle is valid
 * Cost        a lock and a copy for each
 */
COIR_API int coir_supervisor_visit(coir_supervisor *supervisor,
                                   void (*visit)(void *arg, const coir_child_info *info), void *arg);

/*
 * The same, as lines for people: the tree with states, restarts and last failures.
 *
 *   line       called with each, without newline
 *
 * Returns     COIR_OK, COIR_EINVAL
 */
COIR_API int coir_supervisor_print(coir_supervisor *supervisor,
                                   void (*line)(void *arg, const char *text), void *arg);

/* ---------------------------------------------------------------------- the map of failure domains */

/*
 * Shows who fails with whom: the tree of domains, supervisors, their children and pools, as lines for people, a node
 * each. Of each: its state; whom it takes along when it fails; how many failures it has left before it does (panics
 * of a domain, restarts of a supervisor, failed attempts of a pool, within their window); jobs in flight; places,
 * stacks and memory that are left; its policies, where they differ from those above; and the locks that its parked
 * jobs hold, with those whose policy is to abort.
 *
 *   line       called with each, without newline; may suspend, panic, and call what it likes but coir_close
 *
 * It is a copy of one moment: what opens, closes or is started again meanwhile is shown as it was then.
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ENOMEM
 * Call from   any thread while the runtime is open; its fibers too
 * Cost        a copy of all of it under the lock that opening and closing a domain takes, and a look at every stack;
 *             12 KiB of stack, and up to 20 more where domains are 128 deep
 */
COIR_API int coir_map_print(coir_runtime *runtime, void (*line)(void *arg, const char *text), void *arg);

/*
 * The same as a graph for Graphviz, coloured by state: dot -Tsvg. Otherwise as coir_map_print.
 */
COIR_API int coir_map_dot(coir_runtime *runtime, void (*line)(void *arg, const char *text), void *arg);

/* --------------------------------------------------------------------------- link, monitor */

/*
 * A link between two counters: if what is owed to one settles as anything but COIR_DONE, the other is
 * canceled (coir_counter_cancel): they die together. Lives in the caller's memory. One that lies in a frame of
 * the calling job is known to it, as a lock that it holds: what takes the frame, a panic or a contained
 * fault, ends the link first; a return over it is a panic (kind HELD); and it is this job's to end.
 */
typedef struct coir_link {
    uint64_t opaque[20];
} coir_link;

/*
 * Links two counters.
 *
 *   link       borrowed until coir_unlink has returned
 *   a, b       both are to be owed something by now, else they count as settled with their outcome; their
 *              memory may not go before coir_unlink has returned, and neither may be initialized
 *
 * Returns     COIR_OK; COIR_EINVAL (also: a is b)
 * Call from   any thread
 * Suspends    no
 */
COIR_API COIR_MUST_USE int coir_link_counters(coir_link *link, coir_counter *a, coir_counter *b);

/*
 * Ends a link. After the return it cancels nobody.
 *
 * Returns     COIR_OK (again, or if it was refused or is all zero, too); COIR_EPERM (it lies in another job's frame); COIR_EINVAL
 * Call from   any thread
 * Suspends    only while a cancel by this very link is under way
 */
COIR_API int coir_unlink(coir_link *link);

/*
 * A monitor: tells of the end of what is owed to one counter by another. Lives in the caller's memory, as a
 * link does.
 */
typedef struct coir_monitor {
    uint64_t opaque[10];
} coir_monitor;

/*
 * Makes `told` owe one unit until `watched` has settled: it is released with the outcome and the first
 * failure of `watched`. So one counter can be told by any number, be waited for with a deadline, and be
 * what other work is spawned after; who is told neither waits nor is canceled.
 *
 *   monitor    borrowed until coir_monitor_end has returned, or, unless it lies in a frame of a job, until `told`
 *              has been waited for
 *   watched    its memory may not go, nor be initialized, before that
 *
 * Returns     COIR_OK; COIR_EINVAL (also: the same counter)
 * Call from   any thread
 * Suspends    no
 */
COIR_API COIR_MUST_USE int coir_monitor_counter(coir_monitor *monitor, coir_counter *watched,
                                                coir_counter *told);

/*
 * Ends a monitor: if it has not told yet, its unit is released as COIR_DONE.
 *
 * Returns     COIR_OK; COIR_ENOENT (it has told, has ended, was refused or is all zero); COIR_EPERM (it lies in
 *             another job's frame); COIR_EINVAL
 * Call from   any thread
 */
COIR_API int coir_monitor_end(coir_monitor *monitor);
/* ------------------------------------------------------------------------------------ pools */

/*
 * A quarantine: a small table of inputs that break their jobs, for pools. An input is (type, key): which
 * jobs, and 64 bits that name what they are given, such as an id or a hash.
 *
 * So many panics of an input within the expiry (strikes_max), and it is quarantined: pools refuse it. When the
 * expiry has passed one attempt is let through to probe. If that succeeds all is forgotten; if it panics,
 * the expiry is doubled, up to 64 times. Only panics count: coir_fail says that something else is broken.
 *
 * With a path the table is a file that is mapped, and survives the death of the process at any point,
 * kill -9 included. An attempt is noted before it is made: inputs that were being handled when the process
 * died have a strike more afterwards. So what crashes the process is quarantined, too; others that were handled
 * beside it are cleared by their first success. A slot that was being written is lost, and counted as torn.
 * Power loss may take the last changes; coir_quarantine_close writes all to the disk.
 *
 * One process has the file at a time, with any number of threads; it must not be changed by others.
 */
typedef struct coir_quarantine coir_quarantine;

/* Zero it and set size; a zero field means its default. Sizes as in coir_options. */
typedef struct coir_quarantine_options {
    size_t size;           /* sizeof(coir_quarantine_options) as the caller knows it; required */
    const char *path;      /* of the file, made if there is none; NULL: in memory only */
    size_t slots;          /* inputs it can hold, of 64 bytes each; 16 to 1,048,576; 0: 1,024. A file that
                              exists keeps what it has */
    unsigned strikes_max;  /* 0: 3 */
    int64_t expiry_ns;     /* 0: an hour; at most a year */
} coir_quarantine_options;

/*
 * Opens a quarantine.
 *
 *   runtime    whose allocator and log it uses; closed after it
 *   options    borrowed for the call; NULL: all defaults
 *   quarantine receives the handle; NULL is stored on failure
 *
 * A file that has been cut off is made whole again, and what is missing counted as torn.
 *
 * Returns     COIR_OK; COIR_EINVAL (not such a file, or no regular file); COIR_ENOTSUP (a file of another
 *             version); COIR_EBUSY (another process, or handle, has it; or a fork that outlives, without an exec, one
 *             that did not close it); COIR_EACCES (read-only); COIR_ENOENT
 *             (no such directory); COIR_ENOSPC; COIR_EIO; COIR_ERANGE (an option); COIR_ENOMEM; -errno of open
 * Call from   any thread
 * Suspends    no; reads and writes the file
 */
COIR_API COIR_MUST_USE int coir_quarantine_open(coir_runtime *runtime,
                                                const coir_quarantine_options *options,
                                                coir_quarantine **quarantine);

/*
 * Closes a quarantine. Its file stays.
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_EBUSY (a pool uses it: it stays open); COIR_EIO (closed, but the disk
 *             did not take all)
 * Suspends    no; waits for the disk
 */
COIR_API int coir_quarantine_close(coir_quarantine *quarantine);

/* What is known against an input. */
typedef struct coir_quarantined {
    uint64_t type;      /* coir_quarantine_type of the pool's */
    uint64_t key;
    int64_t until;      /* nanoseconds of CLOCK_REALTIME: from then on it may be probed; 0: not quarantined */
    int64_t last;       /* the same clock: its last panic */
    uint32_t strikes;   /* panics that count, and processes that died over it */
    unsigned in_flight; /* attempts being made */
    int quarantined;    /* 1 or 0 */
    int kind;           /* enum coir_kind of the last strike; COIR_KIND_FAULT: the process died */
    int code, line;     /* of the last strike, as in coir_failure */
} coir_quarantined;

/*
 * Goes through the inputs that have strikes, quarantined or not yet.
 *
 *   cursor     0 at first; moved on by each call
 *
 * Returns     COIR_OK; COIR_ENOENT when there is none left; COIR_EINVAL
 * Call from   any thread
 */
COIR_API int coir_quarantine_next(coir_quarantine *quarantine, uint64_t *cursor, coir_quarantined *entry);

/*
 * Forgets all that is known against an input: by hand, when its cause has been removed.
 *
 *   type       as in the pool's options
 *
 * Returns     COIR_OK; COIR_ENOENT (nothing is known); COIR_EINVAL
 * Call from   any thread
 */
COIR_API int coir_quarantine_release(coir_quarantine *quarantine, const char *type, uint64_t key);

/*
 * The 64 bits that stand for a type in the table, the same in every process.
 *
 * Returns     its hash (FNV-1a)
 */
COIR_API uint64_t coir_quarantine_type(const char *type);

/* Figures of a quarantine, since open unless said otherwise. */
typedef struct coir_quarantine_stats {
    uint64_t slots, used; /* now; used: tracked or quarantined */
    uint64_t quarantined; /* now */
    uint64_t torn;        /* slots that were lost: torn, damaged or cut off */
    uint64_t crashes;     /* inputs that were in flight when the process before died */
    uint64_t crowded;     /* attempts that could not be noted: no slot was to be had */
    uint64_t probes;
} coir_quarantine_stats;

/*
 * Reads the figures of a quarantine.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 * Cost        looks at every slot
 */
COIR_API int coir_quarantine_stats_read(coir_quarantine *quarantine, coir_quarantine_stats *stats);

/*
 * A pool handles messages: a bounded queue of them, and workers that call one function for each. A message
 * whose attempt fails is tried again after a pause; what cannot be done is given to a dead-letter sink. Every
 * message that was accepted ends exactly once, and the receipt of the close adds up.
 *
 * An attempt is a call of options.handle in a boundary of its own, so a worker outlives its messages. If it
 * returns, the message is DONE. If it calls coir_fail or panics, the attempt has failed: the next one
 * comes after a backoff, which doubles each time and is drawn from its upper half, so that those who
 * failed together do not come back together. Values of coir_local and a coir_job_name end with the attempt,
 * obligations it has taken and not discharged have leaked, and returning while it holds a lock is a panic.
 *
 * Work that is tried again must be idempotent: see coir_once_table.
 *
 * What an attempt breaks is the pool's affair: it counts for failures_max and the quarantine, and not for panics_max of
 * a domain above, whose other jobs have no part in it.
 *
 * The workers are jobs in a domain of the pool's own. They end when the pool is closed or that domain is
 * canceled; so close a pool before its domain's parent and the runtime, which else wait for the workers as
 * long as they are told to wait for jobs. When the domain closes the pool ends with it.
 */
typedef struct coir_pool coir_pool;
typedef struct coir_message coir_message;
typedef void coir_message_fn(coir_message *message);

/* How a message has ended. */
enum coir_message_end {
    COIR_MESSAGE_NEW = 0,     /* not in a pool */
    COIR_MESSAGE_PENDING,     /* in a pool */
    COIR_MESSAGE_DONE,        /* handled. Its counter gets DONE */
    COIR_MESSAGE_DEAD,        /* no attempts left, or the last one said so; dead-letter sink; FAILED or PANICKED */
    COIR_MESSAGE_EXPIRED,     /* an attempt could not begin before its deadline; EXPIRED */
    COIR_MESSAGE_QUARANTINED, /* refused, its input is quarantined; dead-letter sink; CANCELED */
    COIR_MESSAGE_RETURNED     /* given back by a close or a cancel, not done; CANCELED */
};

/*
 * A message: put one into your own struct. Zero it, set key and what you need. From a submit that returns
 * COIR_OK it belongs to the pool until it ends. It is the caller's again when options.ended is called with
 * it, or, without that, when its counter settles; the pool does not touch it afterwards.
 */
struct coir_message {
    uint64_t key;           /* names the input, for the quarantine */
    uint64_t idempotency;   /* names the effect, for coir_once_table; pools do not look at it */
    int64_t deadline;       /* no attempt begins after it; 0: the pool's default */
    coir_counter *counter;  /* owed one unit until the message has ended; NULL: nobody waits. Its cancel reaches
                               the handler, as a job's, and no further attempt begins */
    uint32_t attempts;      /* begun so far. A submit keeps it: one that comes back keeps its count. Zero it, and
                               final, before the message carries something else */
    uint32_t final;         /* set to 1 by a handler that fails: do not try again */
    int end;                /* enum coir_message_end */
    coir_failure failure;   /* of the last attempt that failed; id 0: none has */
    void *context;          /* of the pool's options; set by the submit */
    uint64_t opaque[14];
};

/* Options of a pool. Zero it and set size; a zero field means its default. Sizes as in coir_options. */
typedef struct coir_pool_options {
    size_t size;           /* sizeof(coir_pool_options) as the caller knows it; required */
    const char *name;      /* for people; copied, cut to 31 bytes; NULL: "pool" */
    const char *type;      /* of the input, for the quarantine; NULL: the name. Not kept */
    coir_domain *parent;   /* of the pool's domain; NULL: the runtime */

    coir_message_fn *handle; /* required */
    /* The dead-letter sink; required. message->failure and attempts say why. Called once for each message
     * that ends DEAD or QUARANTINED. */
    coir_message_fn *dead;
    /* Called once for each message, however it has ended (message->end), after the sink; it may free the
     * message, or submit it again. NULL: nothing. Both are called in boundaries of their own, by a worker or
     * by who closes the pool; one that panics is counted. What a call leaves ends with it, as an attempt's; but
     * values and obligations that who closes is left with are his. */
    coir_message_fn *ended;
    void *context;         /* for the three, in message->context */

    unsigned workers;      /* messages handled at once; 0: 1; at most 4096 */
    size_t queue_max;      /* messages in the pool: queued, handled, waiting for a retry; 1 to 2^32; required */
    enum coir_full full;   /* what coir_pool_submit does when it is full. COIR_FULL_RUN: the first attempt is
                              made by the caller */
    int64_t full_wait_ns;  /* COIR_FULL_WAIT: at most so long; 0: no limit but the call's deadline */
    int64_t deadline_ns;   /* for messages without a deadline: from the submit; 0: none */

    unsigned attempts_max; /* 1 or more; required */
    int64_t backoff_ns;    /* before the second attempt, at most; doubled for each further one; 0: 10 ms */
    int64_t backoff_max_ns; /* 0: 10 s */

    unsigned failures_max; /* so many failed attempts within the window open the circuit breaker: messages wait
                              until one of them has probed it; 0: no breaker; at most 1024 */
    int64_t failures_window_ns; /* 0: 10 s */
    int64_t probe_ns;      /* from the opening to the probe; doubled after each that fails, up to 64 times; 0: 1 s */

    coir_quarantine *quarantine; /* borrowed until the pool has closed; may serve several; NULL: none */
} coir_pool_options;

/*
 * Opens a pool and starts its workers, which inherit no deadline.
 *
 *   options    borrowed for the call
 *   pool       receives the handle; NULL is stored on failure
 *
 * Returns     COIR_OK; COIR_EINVAL (a size wrong, no handle, parent of another runtime); COIR_EPOLICY (no
 *             dead-letter sink; or options.panic of the runtime forbids it); COIR_ERANGE (queue_max or
 *             attempts_max 0, another option out of its range); COIR_ENOMEM; COIR_EAGAIN (no room for
 *             its workers among the jobs, whatever a full domain above does else, or one is tripped);
 *             COIR_ECANCELED (a domain above, or the caller, is canceled); COIR_ESHUTDOWN (a domain above, or the
 *             runtime, is being closed)
 * Call from   a fiber or a plain thread
 * Suspends    until each worker runs
 */
COIR_API COIR_MUST_USE int coir_pool_open(coir_runtime *runtime, const coir_pool_options *options,
                                          coir_pool **pool);

/*
 * Gives a message to a pool.
 *
 *   deadline   of the wait for a place, with COIR_FULL_WAIT
 *
 * With COIR_FULL_RUN and a full pool the first attempt is made before the call returns, on the caller's
 * stack, by a job of the pool's domain; retries are the workers'. Where that is not possible (a fiber of another
 * runtime, less than half of the stack left, a domain above is at its limit) the call returns COIR_EAGAIN.
 *
 * Returns     COIR_OK; COIR_EAGAIN (full, or still full after full_wait_ns); COIR_ETIMEDOUT; COIR_ECANCELED
 *             (the pool's domain is canceled, or the caller while it waited); COIR_ESHUTDOWN (the pool
 *             closes); COIR_EBUSY (the message is in a pool already); COIR_ENOMEM (no stack left to park
 *             on); COIR_EINVAL. Unless it is COIR_OK the message stays the caller's.
 * Call from   any thread. A handler that waits for a place in its own pool holds one meanwhile: give it
 *             a deadline.
 * Suspends    only with COIR_FULL_WAIT and COIR_FULL_RUN
 * Ordering    what the caller did before happens before the handler
 * Cost        a short lock and, if a worker is idle, its wake-up; never allocates
 */
COIR_API COIR_MUST_USE int coir_pool_submit_until(coir_pool *pool, coir_message *message, int64_t deadline);
/* coir_pool_submit_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_pool_submit(coir_pool *pool, coir_message *message);

/*
 * The domain that the pool's workers are in: to cancel it, or for its figures.
 *
 * Returns     the handle; NULL if pool is NULL
 */
COIR_API coir_domain *coir_pool_domain(coir_pool *pool);

/* Figures of a pool since it was opened. When nothing moves they are exact:
 * submitted is the sum of done, dead, expired, quarantined, returned and pending. */
typedef struct coir_pool_stats {
    uint64_t submitted;   /* messages accepted */
    uint64_t done, dead, expired, quarantined, returned; /* ended, by enum coir_message_end */
    uint64_t pending;     /* not ended */
    uint64_t refused;     /* messages not accepted because the pool was full */
    uint64_t attempts, retries; /* begun; of those, not the first of their message */
    uint64_t callback_panics; /* of the sink and of options.ended */
    uint64_t worker_restarts; /* workers that broke outside an attempt, and were replaced */
    uint64_t trips;       /* times the breaker opened */
    int breaker;          /* COIR_DOMAIN_OPEN (calls pass), COIR_DOMAIN_TRIPPED or COIR_DOMAIN_HALF_OPEN */
} coir_pool_stats;

/*
 * Reads the figures of a pool.
 *
 * Returns     COIR_OK, COIR_EINVAL
 * Call from   any thread
 */
COIR_API int coir_pool_stats_read(coir_pool *pool, coir_pool_stats *stats);

/* What became of a pool's messages, filled by coir_pool_close. */
typedef struct coir_pool_receipt {
    coir_pool_stats pool; /* pending: messages whose handlers had not ended when the call returned */
    coir_domain_receipt domain; /* of the workers; names handlers that did not end */
} coir_pool_receipt;

/*
 * Closes a pool: refuses new messages, lets those in it end, retries included, and gives back what is left
 * when the budget has passed.
 *
 *   pool       ended by COIR_OK; stays valid after any other status, for another close
 *   drain_ns   how long its messages, and jobs that their handlers have left running, may go on by themselves;
 *              negative: for ever
 *   receipt    filled on COIR_OK and COIR_ETIMEDOUT; NULL: not wanted
 *
 * When the budget has passed, or the caller is canceled, messages that are not being handled end RETURNED
 * and the workers are canceled; an attempt that fails from then on is not tried again, and its message
 * ends RETURNED, or DEAD if it was its last.
 *
 * Returns     COIR_OK; COIR_ETIMEDOUT while a handler, or a job that one has spawned, still runs; COIR_EINVAL;
 *             COIR_EDEADLK from a handler of the pool; COIR_EBUSY while it, or a domain above or below, is being
 *             closed; COIR_ENOMEM (no stack left to park on)
 * Call from   a fiber or a plain thread
 * Suspends    yes
 * Ordering    everything the handlers did happens before the return
 */
COIR_API COIR_MUST_USE int coir_pool_close(coir_pool *pool, int64_t drain_ns, coir_pool_receipt *receipt);

/*
 * A table of calls that were made: each key is called once, and its result remembered, for the last
 * keys_max keys. With it a message that is delivered twice has its effect once, as long as its first
 * delivery is not longer ago than that, and this process lives.
 */
typedef struct coir_once_table coir_once_table;

/*
 * Opens a table.
 *
 *   keys_max   results remembered; 1 to 16,777,216; 80 to 88 bytes each, allocated here
 *
 * Returns     COIR_OK; COIR_EINVAL; COIR_ERANGE; COIR_ENOMEM
 * Call from   any thread
 */
COIR_API COIR_MUST_USE int coir_once_table_open(coir_runtime *runtime, size_t keys_max,
                                                coir_once_table **table);

/*
 * Closes a table, before its runtime.
 *
 * Returns     COIR_OK; COIR_EBUSY (a call is being made, or waited for); COIR_EINVAL
 */
COIR_API int coir_once_table_close(coir_once_table *table);

/* A call whose result is remembered. */
typedef int64_t coir_result_fn(void *arg);

/*
 * Calls fn(arg), in a boundary of its own, unless that was done under this key: then its result is given.
 * Who comes while another calls waits for that. A call that fails (coir_fail) or panics is not remembered:
 * the next one calls again, one of those who wait first of all.
 *
 *   result     receives what fn returned, now or then; NULL: not wanted; unchanged unless COIR_DONE
 *   deadline   until when to wait for another's call; the caller's own is not cut short
 *
 * Returns     COIR_DONE; COIR_FAILED, COIR_PANICKED (of the caller's own call); COIR_EAGAIN (keys_max calls
 *             are being made); COIR_EDEADLK (from inside of fn under this key); COIR_ETIMEDOUT;
 *             COIR_ECANCELED; COIR_ENOMEM; COIR_EINVAL; COIR_EPOLICY (as coir_try)
 * Call from   a fiber or a plain thread
 * Suspends    while another calls, or if fn does
 * Cost        a short lock and a look-up
 */
COIR_API COIR_MUST_USE int coir_once_table_call_until(coir_once_table *table, uint64_t key,
                                                      coir_result_fn *fn, void *arg, int64_t *result,
                                                      int64_t deadline);
/* coir_once_table_call_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_once_table_call(coir_once_table *table, uint64_t key, coir_result_fn *fn,
                                                void *arg, int64_t *result);

/*
 * Does an optional part of a request, or its substitute: if fn(arg) fails, panics, is not done by the
 * deadline or cannot be started, fallback(arg) is called instead, and the request goes on.
 *
 *   arg        the caller's; fn has ended when fallback is called, and when the call returns
 *   deadline   fn is canceled then (see coir_counter_cancel) and waited for: how late the fallback may
 *              come is how long fn goes on after its cancel. If it returns then, it has been done all the
 *              same: who gives up calls coir_fail. One that has passed: fn is not called.
 *   fallback   called in the caller's own boundary; NULL: nothing
 *
 * Returns     COIR_DONE: fn has. Else fallback has been called, because of COIR_FAILED, COIR_PANICKED,
 *             COIR_EXPIRED (the deadline), COIR_CANCELED (fn was canceled otherwise, or not to be started).
 *             Or, without a fallback: COIR_ECANCELED (the caller is); COIR_EPOLICY (options.panic forbids
 *             it); COIR_EPERM on a plain thread; COIR_EINVAL
 * Call from   a fiber
 * Suspends    yes
 * Cost        a job and two switches
 */
COIR_API COIR_MUST_USE int coir_degrade(coir_fn *fn, void *arg, int64_t deadline, coir_fn *fallback);

/* --------------------------------------------------------------------------- isolated calls */

/*
 * Calls in child processes, for code that may crash natively: after a wild write only another address space
 * can promise anything. A child that crashes, runs past a limit or exits is an outcome here, and is replaced.
 *
 * An isolator keeps children that wait for calls. They are forked, now and later, from a process of one thread
 * that is itself forked when the isolator opens, the template: so they have the memory of that moment (code,
 * and data as it was), whatever has happened to their parent since, and no lock is held in them. Open it
 * early, in a process that has one thread. What a child changes is seen by nobody, but by later calls in the same
 * child; what a call gets and returns are bytes.
 *
 * A child has: standard input, output and error, and no other descriptor; signals at their defaults, but
 * SIGHUP, SIGINT and SIGTERM ignored (its parent decides when it ends); the template's session; no core file;
 * no new privileges. exit() ends it without handlers and without flushing streams. If its parent, the
 * template or coir_isolator_close ends, so does the child, by SIGKILL. It may start threads; between calls
 * it must not rely on them. Processes that it forks are killed when it ends, whatever they do about
 * it, and before another takes its place (or a second later, if that is not enough); and, at any time, those whose own
 * parent has ended. By /proc's lists of children (CONFIG_PROC_CHILDREN, as in Debian's kernels; not in emulators).
 */
typedef struct coir_isolator coir_isolator;

/* Bytes of no limit, for memory_bytes. */
#define COIR_UNLIMITED UINT64_MAX

enum coir_syscalls {
    COIR_SYSCALLS_ALL = 0, /* no filter */
    COIR_SYSCALLS_COMPUTE  /* memory, time, threads' locks, signals to itself, read and write on what is open; any
                              other system call is SIGSYS. Not to be had where coir is built without
                              libseccomp. */
};

/* Options of an isolator. Zero it and set size; a zero field means its default. Sizes as in coir_options. */
typedef struct coir_isolator_options {
    size_t size;          /* sizeof(coir_isolator_options) as the caller knows it; required */
    unsigned children;    /* as many calls can be made at once; 0: 1; at most 128 */
    unsigned calls_max;   /* a child is replaced after so many calls; 1: each has a new one; 0: 1,000 */
    size_t input_max;     /* bytes that a call may be given; 0: 64 KiB; at most 1 GiB */
    size_t output_max;    /* bytes that a call may return; 0: 64 KiB; at most 1 GiB */
    uint64_t memory_bytes; /* that a child may take beyond what it has at its start, then allocations fail
                              (RLIMIT_DATA; twice as much with what is mapped shared, RLIMIT_AS); 0: 256 MiB;
                              at most 2^48; COIR_UNLIMITED: no limit */
    int64_t cpu_ns;       /* processor time of a call, then SIGXCPU; 0: 1 s; COIR_NEVER: no limit */
    int64_t time_ns;      /* time of a call, then SIGKILL; 0: 10 s; COIR_NEVER: no limit */
    enum coir_syscalls syscalls;
} coir_isolator_options;

/*
 * Opens an isolator: forks the template and the first children.
 *
 *   options    borrowed for the call; NULL: all defaults
 *   isolator   receives the handle; NULL is stored on failure
 *
 * Returns     COIR_OK; COIR_EINVAL (size wrong, no handle); COIR_ERANGE (an option out of its range); COIR_EBUSY
 *             (the process has other threads: what they hold locked would stay locked in each child);
 *             COIR_ENOSYS (syscalls: built without libseccomp, or the kernel has no filters); COIR_ENOTSUP (a limit
 *             cannot be had, as under an emulator); COIR_EAGAIN (no process could be forked); COIR_ENOMEM;
 *             COIR_EMFILE; COIR_ECHILD (a child ended at its start)
 * Call from   the only thread of the process, before coir_open
 * Suspends    no; blocks until every child waits for calls
 */
COIR_API COIR_MUST_USE int coir_isolator_open(const coir_isolator_options *options,
                                              coir_isolator **isolator);

/*
 * Closes an isolator: its processes end. After those who use it have ended, runtimes too if they were closed
 * first.
 *
 * Returns     COIR_OK; COIR_EBUSY (a call is being made); COIR_EPERM on a worker; COIR_EINVAL; COIR_EFORKED
 * Call from   a plain thread
 * Suspends    no; blocks until they have ended, and what they have forked; not longer than five seconds for one that is
 *             killed and cannot end (a debugger or a device holds it), which is left
 */
COIR_API int coir_isolator_close(coir_isolator *isolator);

/*
 * What is called in a child: a function of the program, or of a library that was loaded before the isolator was
 * opened. It runs in a boundary: coir_panic and coir_fail end it, and nothing but it.
 *
 *   in         the caller's bytes, aligned to a page
 *   out        where it writes its result, at most out_max bytes; aligned so
 *
 * Returns     bytes of out that are the result
 */
typedef size_t coir_isolated_fn(const void *in, size_t in_bytes, void *out, size_t out_max);

/*
 * Calls fn in a child of the isolator and waits for it.
 *
 *   in         copied; NULL if in_bytes is 0
 *   out        receives the result; NULL if none is wanted
 *   out_bytes  in: room at out; out: bytes that were written there, 0 unless COIR_DONE; NULL if out is
 *   failure    filled on COIR_FAILED and COIR_PANICKED; NULL: not wanted. A panic's place is in its message.
 *   deadline   of the wait for a free child and of the call itself
 *
 * A call that is left by its deadline or a cancel is killed with its child. No call is made twice.
 *
 * Returns     COIR_DONE; COIR_FAILED (coir_fail, or the function has called exit: kind ISOLATED, its status in
 *             failure->code); COIR_PANICKED (coir_panic or a foreign exception; or kind ISOLATED: killed by the
 *             signal in failure->code, past time_ns, it returned more bytes than there is room for, or shut the
 *             library's socket down).
 *             Or a status, and there is no result: COIR_ETIMEDOUT; COIR_ECANCELED; COIR_ERANGE (in_bytes is
 *             more than input_max); COIR_EINVAL; COIR_EPERM on a plain thread; COIR_ENOMEM (no stack left to
 *             park on); COIR_EAGAIN, COIR_EMFILE, COIR_ECHILD (a child could not be started; or the template has
 *             been killed, and then every call returns the last); COIR_EFORKED
 * Call from   a fiber of any runtime, under COIR_PANIC_ABORT too: nothing is contained by unwinding here
 * Suspends    yes
 * Cost        two copies and two wake-ups of processes; one that breaks its child, a fork as well
 */
COIR_API COIR_MUST_USE int coir_isolate_until(coir_isolator *isolator, coir_isolated_fn *fn, const void *in,
                                              size_t in_bytes, void *out, size_t *out_bytes,
                                              coir_failure *failure, int64_t deadline);
/* coir_isolate_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_isolate(coir_isolator *isolator, coir_isolated_fn *fn, const void *in,
                                        size_t in_bytes, void *out, size_t *out_bytes, coir_failure *failure);

/* Figures of an isolator since it was opened. */
typedef struct coir_isolator_stats {
    uint64_t calls;    /* made, and over */
    uint64_t broken;   /* of those FAILED or PANICKED */
    uint64_t left;     /* of those ended by their deadline or a cancel */
    uint64_t replaced; /* children that were replaced, for whatever reason */
} coir_isolator_stats;

/*
 * Reads the figures of an isolator.
 *
 * Returns     COIR_OK, COIR_EINVAL, COIR_EFORKED
 * Call from   any thread
 */
COIR_API int coir_isolator_stats_read(coir_isolator *isolator, coir_isolator_stats *stats);

/* ---------------------------------------------------------------------- sockets and blocking */

/*
 * Sockets are plain descriptors, so other code can use them too. All calls here park the fiber
 * and not its worker; on a plain thread they give COIR_EPERM. Results are 0 or more, or a status:
 * COIR_ETIMEDOUT, COIR_ECANCELED, COIR_ENOMEM, COIR_EBADF, or -errno of the system call. An
 * operation that completes while it is being timed out or canceled has completed: no byte is lost.
 * One fiber may receive while another sends on the same descriptor. Several may wait to accept or to receive on it:
 * each gets something of its own, in no promised order. What several send at once may mix.
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
 * Suspends    if the socket's buffer is full; with io_uring also while other fibers are ready, if their turns have
 *             been short of late: then several sends go to the kernel together
 */
COIR_API int64_t coir_socket_send_until(int socket, const void *buffer, size_t bytes,
                                        int64_t deadline);
/* coir_socket_send_until with COIR_NEVER. */
COIR_API int64_t coir_socket_send(int socket, const void *buffer, size_t bytes);

/*
 * Closes a socket. Fibers that wait in one of the calls above on it return with an error or 0; none may begin
 * one once the close has. Who shares the socket by another descriptor, as a process that it was handed to,
 * goes on with it.
 *
 * Returns     COIR_OK; COIR_EBADF
 * Call from   any thread; must be used instead of close() for sockets used with coir
 */
COIR_API int coir_socket_close(int socket);

/*
 * Runs fn(arg) on a thread that may block (getaddrinfo, files), inside a boundary; waits for it. If it still holds a
 * lock of coir's when it returns, that is a panic, as of a job (COIR_KIND_HELD).
 *
 *   deadline   until when it may wait for a free thread; a call that has begun is waited for
 *
 * Returns     COIR_DONE; COIR_FAILED; COIR_PANICKED; COIR_ETIMEDOUT or COIR_ECANCELED (not called);
 *             COIR_ENOMEM; COIR_EAGAIN (no thread could be started); COIR_EPERM on a plain thread
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_offload_until(coir_fn *fn, void *arg, int64_t deadline);
/* coir_offload_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_offload(coir_fn *fn, void *arg);

/* ------------------------------------------------------------------------- signals as values */

/* The bit of a signal, such as COIR_SIGNAL(SIGTERM). */
#define COIR_SIGNAL(number) (UINT64_C(1) << ((number) - 1))

/*
 * Waits for a signal that somebody sends to the process.
 *
 *   signals    one or more COIR_SIGNAL, or-ed. Not those of faults, SIGABRT, SIGKILL, SIGSTOP; nor what runtimes
 *              that are open ask their workers with (options.stall_signal).
 *
 * This call is the opt-in: from the first wait for a signal until the runtime is closed, what the
 * signal did before (end the process, call a handler) does not happen; with the last close it
 * is restored. A signal is given to one fiber, the one that has waited longest; if none waits, the next wait
 * for it gets it at once. Any number that come meanwhile count as one.
 *
 * Returns     the signal's number, 1 or more; COIR_ETIMEDOUT; COIR_ECANCELED; COIR_EINVAL; COIR_EPERM
 *             on a plain thread; COIR_ENOMEM; COIR_EAGAIN (the one thread that signals need could
 *             not be started)
 * Suspends    yes
 */
COIR_API COIR_MUST_USE int coir_signal_wait_until(uint64_t signals, int64_t deadline);
/* coir_signal_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_signal_wait(uint64_t signals);

/* --------------------------------------------------------------- a program as an experiment */

/* What decides in an experiment. Zero it, set size and a seed, set what mishaps you want. */
typedef struct coir_lab {
    size_t size;        /* sizeof(coir_lab) as the caller knows it; required */
    uint64_t seed;      /* any; the same seed, the same run */
    unsigned panic_ppm; /* of a million jobs that start, so many panic instead of running; 0: none */
    unsigned delay_ppm; /* so many start late: others overtake them; 0: none */
    unsigned nomem_ppm; /* of a million allocations by the runtime for a job, so many fail; 0: none */
    int64_t delay_ns;   /* how late they start, at most; 0: 1 ms; at most a year, 365 days */
} coir_lab;

/* What happened in it. */
typedef struct coir_lab_report {
    uint64_t seed, digest; /* two runs whose digests are the same have decided the same all the way */
    uint64_t choices;      /* throws of the dice */
    uint64_t panics, delays, refused; /* mishaps, refused allocations the last */
    int64_t ns;            /* time that passed in it */
} coir_lab_report;

/*
 * Runs a program as an experiment: fn(arg) as the first job of a runtime with one worker, in which a seed
 * decides who runs next, which deadlines are noticed late and what goes wrong. A seed that fails once
 * fails always, on any machine of the same kind.
 *
 *   lab        borrowed for the call
 *   options    as for coir_run; workers must be 0 or 1; spin_ns is not heeded; stall_ns and deadlock, which
 *              watch by real time, must be 0
 *   report     NULL: not wanted; filled unless the call refused to begin
 *
 * Inside, coir_now begins at 1 s and is virtual: a job's look at it takes 1 us, as does each turn, and when nothing can
 * run it jumps to the next deadline, so hours of backoff take no time. Jobs take turns only in calls that
 * suspend: what a race needs in between, ThreadSanitizer finds. While a job waits for something outside (a
 * socket, coir_offload, a signal), time is real and the run is its own; so is one in which other threads
 * submit, or whose program looks at addresses, real time or other chance.
 *
 * The experiment is over when nothing can run and no deadline is left; one after more than 146 years (COIR_NEVER / 2)
 * is none. If jobs still wait then, the log names them, and they are canceled; time passes on for these.
 *
 * Returns     the first job's outcome (COIR_DONE..COIR_PANICKED); COIR_EDEADLK: jobs waited for what could
 *             never come; COIR_EINVAL; COIR_ERANGE (more than a million in a million, a delay that is
 *             negative or above a year, several workers); a status of coir_open. A job that does not end within
 *             10 s of real time after it was canceled then aborts by name.
 * Call from   a plain thread
 */
COIR_API COIR_MUST_USE int coir_lab_run(const coir_lab *lab, const coir_options *options, coir_fn *fn,
                                        void *arg, coir_lab_report *report);

#ifdef __cplusplus
}
#endif

#endif
