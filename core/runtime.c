/* SPDX-License-Identifier: MIT */
/*
 * runtime.c - opening a runtime, closing it with a receipt, and its figures.
 *
 * Owns: the worker threads, the order of start and stop. BOOKS: see books.c.
 *
 * CLOSE. The flags tell of nothing but themselves (relaxed): what is done beside them goes by an edge of its
 * own, the injector's lock, park's, BOOKS or ASK.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "after.h"
#include "books.h"
#include "batch.h"
#include "contain.h"
#include "cpus.h"
#include "drain.h"
#include "dump.h"
#include "fault.h"
#include "hostcall.h"
#include "idle.h"
#include "io.h"
#include "local.h"
#include "obligation.h"
#include "offload.h"
#include "options.h"
#include "pool_queue.h"
#include "probe.h"
#include "receipt.h"
#include "runtime.h"
#include "signals.h"
#include "spawn.h"
#include "stall.h"
#include "supervisor_request.h"
#include "thread.h"
#include "wait.h"

#define CANCEL_BUDGET_NS (100 * COIR_MS)

/* -------------------------------------------------------------------------------------- start */

static void announce_started(struct coir_runtime *rt)
{
    atomic_fetch_add_explicit(&rt->started, 1, memory_order_acq_rel); /* START */
    atomic_fetch_add_explicit(&rt->books, 1, memory_order_release);   /* START */
    futex_wake(&rt->books, 1);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct coir_runtime *rt = w->runtime;
    int old;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    io_worker_start(w);
    if (rt->options.worker_start)
        rt->options.worker_start(w->index, rt->options.worker_start_arg);
    announce_started(rt);
    worker_main(w);
    fault_thread_close();
    return NULL;
}

/* By itself: to name another thread takes a file of /proc. */
static void name_thread(const struct worker *w)
{
    char name[16];

    snprintf(name, sizeof name, "%.11s/%u", w->runtime->options.name, w->index);
    pthread_setname_np(pthread_self(), name);
}

static void *thread_entry(void *arg)
{
    struct worker *w = arg;
    struct coir_runtime *rt = w->runtime;

    name_thread(w);
    atomic_store_explicit(&w->meter, thread_meter(), memory_order_relaxed); /* a hint */
    if (rt->options.faults != COIR_FAULTS_NONE || rt->options.stall_ns)
        w->start_status = fault_thread_open(&rt->host); /* handlers need more than a fiber may have left */
    stall_thread_open(w);
    if (w->start_status == COIR_OK)
        return thread_main(w);
    announce_started(rt);
    return NULL;
}

static int start_thread(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    pthread_attr_t attributes;
    sigset_t before;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    thread_block_signals(&before);
    error = pthread_create(&w->thread, &attributes, thread_entry, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        host_log(&rt->host, COIR_LOG_ERROR, "worker %u could not be started: %s", w->index,
                 strerror(error));
        return COIR_EAGAIN;
    }
    w->has_thread = true;
    if (rt->options.pin && cpus_pin(w->thread, w->index) != COIR_OK)
        host_log(&rt->host, COIR_LOG_WARNING, "worker %u could not be pinned", w->index);
    return COIR_OK;
}

static int add_worker(struct coir_runtime *rt, struct worker *w, unsigned i)
{
    w->runtime = rt;
    w->index = i;
    w->random = 0x9e3779b97f4a7c15u * (i + 1);
    w->note_waits = rt->options.park_times || rt->options.deadlock != COIR_DEADLOCK_NONE;
    w->metered = rt->metered;
    w->plain = !w->metered && rt->park.asymmetric;
    w->look_outside = rt->lab != NULL;
    timers_init(&w->timers);
    deque_init(&w->deque, rt->park.asymmetric);
    ring_init(&w->ring, rt->park.asymmetric);
    rt->worker[i] = w;
    rt->worker_count = i + 1;
    return worker_prepare(w) ? COIR_OK : COIR_ENOMEM;
}

static int start_workers(struct coir_runtime *rt)
{
    unsigned n = rt->options.workers, started;
    struct worker *all = life_alloc(n * sizeof *all);
    int status = all ? COIR_OK : COIR_ENOMEM;

    if (all && rt->options.prefault)
        memset(all, 0, n * sizeof *all); /* as it is: only thieves and time move a queue on to pages not touched yet */
    for (unsigned i = 0; i < n && status == COIR_OK; i++)
        status = add_worker(rt, &all[i], i);
    for (unsigned i = 0; i < n && status == COIR_OK; i++)
        status = start_thread(rt->worker[i]);
    if (status != COIR_OK)
        return status;
    do {
        uint32_t seen = atomic_load_explicit(&rt->books, memory_order_acquire); /* START */

        started = atomic_load_explicit(&rt->started, memory_order_acquire); /* START */
        if (started < n)
            futex_wait(&rt->books, seen, COIR_NEVER);
    } while (started < n);
    for (unsigned i = 0; i < n && status == COIR_OK; i++)
        status = rt->worker[i]->start_status;
    return status;
}

/* Ends the threads that run and frees the workers that exist. */
static void stop_workers(struct coir_runtime *rt)
{
    atomic_store_explicit(&rt->stopping, true, memory_order_relaxed); /* CLOSE */
    park_wake_all(&rt->park); /* who lists itself after this has its lock, and sees the flag */
    for (unsigned i = 0; i < rt->worker_count; i++) {
        if (rt->worker[i]->has_thread)
            pthread_join(rt->worker[i]->thread, NULL);
        scope_free_kept(rt->worker[i]);
    }
    worker_each_fiber(rt, worker_forget_fiber, NULL);
    if (rt->worker_count)
        life_free(rt->worker[0], rt->options.workers * sizeof *rt->worker[0]);
}

static void free_runtime(struct coir_runtime *rt)
{
    struct host host = rt->host;

    records_fini(&rt->records);
    mem_free(&host, rt->worker);
    mem_free(&host, rt);
}

static const struct job_ops wait_ops = {
    .cancel = wait_cancel, .join = wait_join,
    .end_locals = local_end_all, .end_awaited = after_end_awaited, .leak = obligation_leak_job};

/* What only some jobs need. Each is closed before those above it. */
static const struct part {
    int (*open)(struct coir_runtime *rt);
    void (*close)(struct coir_runtime *rt);
} parts[] = {
    {fault_open, fault_close}, {io_open, io_close}, {offload_open, offload_close}, {stall_open, stall_close}};

#define PARTS (sizeof parts / sizeof *parts)

static void tear_down(struct coir_runtime *rt, size_t opened)
{
    while (opened-- > 0)
        parts[opened].close(rt);
    inject_fini(&rt->inject);
    stacks_fini(&rt->stacks);
}

static int open_parts(struct coir_runtime *rt)
{
    for (size_t i = 0; i < PARTS; i++) {
        int status = parts[i].open(rt);

        if (status == COIR_OK)
            continue;
        tear_down(rt, i);
        return status;
    }
    return COIR_OK;
}

static void choose_ways(struct coir_runtime *rt)
{
    rt->spin_ns = rt->options.spin_ns < 0 ? 0 : rt->options.spin_ns;
    rt->run = rt->lab ? rt->lab->run : rt->metered ? job_run_metered : job_run;
    rt->drop_pending = pool_drop_pending;
    rt->stop_supervisors = supervisor_ask_all;
    if (rt->options.faults != COIR_FAULTS_NONE && rt->options.panic != COIR_PANIC_ABORT)
        rt->clean_up = contain_clean_up;
    atomic_store_explicit(&job_ops, &wait_ops, memory_order_relaxed); /* constant */
    atomic_store_explicit(&fatal_details, dump_all, memory_order_relaxed); /* constant */
}

static int set_up(struct coir_runtime *rt)
{
    int status = stacks_init(&rt->stacks, &rt->host, &rt->options, sizeof(struct fiber));

    if (status != COIR_OK)
        return status;
    park_init(&rt->park, rt->options.workers);
    idle_open(rt, cpus_usable());
    if (rt->options.pin)
        cpus_allowed(&rt->allowed);
    inject_init(&rt->inject, &rt->host, rt->options.jobs_max);
    choose_ways(rt);
    status = open_parts(rt);
    if (status != COIR_OK)
        return status;
    status = stacks_prepare(&rt->stacks, &rt->options);
    if (status == COIR_OK)
        status = start_workers(rt);
    if (status == COIR_OK)
        status = stall_start(rt);
    if (status == COIR_OK) {
        atomic_store_explicit(&rt->known, true, memory_order_relaxed); /* CLOSE */
        runtime_register(rt);
        return COIR_OK;
    }
    stop_workers(rt);
    tear_down(rt, PARTS);
    return status;
}

static void on_idle(struct coir_runtime *rt)
{
    atomic_fetch_add_explicit(&rt->books, 1, memory_order_release); /* BOOKS */
    futex_wake(&rt->books, 1);
}

static int allocate(const coir_options *options, const coir_metrics *metrics,
                    struct coir_runtime **out)
{
    static _Atomic uint32_t opened;
    struct host host;
    struct coir_runtime *rt;

    host_init(&host, options);
    hostcall_guard_log(&host);
    rt = mem_alloc(&host, sizeof *rt);
    if (!rt)
        return COIR_ENOMEM;
    rt->host = host;
    rt->born = life_begin();
    rt->number = atomic_fetch_add_explicit(&opened, 1, memory_order_relaxed) + 1; /* unique, no more */
    records_init(&rt->records, &rt->host, options->records);
    rt->options = *options;
    snprintf(rt->name, sizeof rt->name, "%s", options->name); /* at most 11 bytes, checked */
    rt->options.name = rt->name;
    rt->metered = options->metrics != NULL;
    rt->metrics = *metrics;
    rt->options.metrics = rt->metered ? &rt->metrics : NULL; /* the caller's may go */
    rt->idle = on_idle;
    rt->worker = mem_alloc(&host, options->workers * sizeof(struct worker *));
    if (!rt->worker) {
        mem_free(&host, rt);
        return COIR_ENOMEM;
    }
    *out = rt;
    return COIR_OK;
}

/* Whether what is asked for can be had together, and here. */
static int check_support(const struct host *host, const coir_options *o)
{
    if (arch_shadow_stack()) {
        host_log(host, COIR_LOG_ERROR, "shadow stacks are enabled in this process; fibers need "
                 "one for each stack, which coir does not provide");
        return COIR_ENOTSUP;
    }
    if (o->panic == COIR_PANIC_ABORT && o->faults == COIR_FAULTS_CONTAIN) {
        host_log(host, COIR_LOG_ERROR, "options.faults asks for containment, options.panic forbids it");
        return COIR_EPOLICY;
    }
    return COIR_OK;
}

/* This process is a fork of one with runtimes. What all runtimes share is as that had it at the fork: lists
 * of what is none of ours, locks whose holders are not here. */
static void forget_parent(void)
{
    runtime_forget_all();
    thread_forget_all();
    fault_forget_all();
    io_forget_all();
    signals_forget_all();
    probe_forget_all();
}

int runtime_open(const coir_options *options, const struct lab_ops *lab, coir_runtime **runtime)
{
    struct host host;
    coir_metrics metrics;
    coir_options o;
    int status;

    if (!runtime)
        return COIR_EINVAL;
    *runtime = NULL;
    if (life_is_over())
        forget_parent();
    if (worker_here())
        return COIR_EPERM; /* it could not be closed from there either */
    status = options_copy(options, &o);
    if (status == COIR_OK)
        status = options_copy_metrics(o.metrics, &metrics);
    if (status != COIR_OK)
        return status;
    host_init(&host, &o);
    hostcall_guard_log(&host);
    status = options_check(&host, &o);
    if (status == COIR_OK)
        status = check_support(&host, &o);
    if (status != COIR_OK)
        return status;
    options_fill(&o);
    status = allocate(&o, &metrics, runtime);
    if (status != COIR_OK)
        return status;
    (*runtime)->lab = lab;
    status = set_up(*runtime);
    if (status != COIR_OK) {
        free_runtime(*runtime);
        *runtime = NULL;
    }
    return status;
}

int coir_open(const coir_options *options, coir_runtime **runtime)
{
    return runtime_open(options, NULL, runtime);
}

/* -------------------------------------------------------------------------------------- close */

/* Waits until nothing is unfinished; false: the deadline came first. */
static bool drain(struct coir_runtime *rt, int64_t deadline)
{
    uint64_t ended[COIR_PANICKED + 1];

    for (;;) {
        uint32_t seen = atomic_load_explicit(&rt->books, memory_order_acquire); /* BOOKS */

        fence_full(); /* BOOKS */
        if (books_unfinished(rt, ended) == 0)
            return true;
        if (coir_now() >= deadline)
            return false;
        futex_wait(&rt->books, seen, deadline);
    }
}

/* Threads that woke the last jobs may still be on their way out. */
static void await_visitors(struct coir_runtime *rt)
{
    unsigned turns = 0;

    while (atomic_load_explicit(&rt->visitors, memory_order_acquire)) /* VISIT */
        spin_pause(&turns);
}

static void set_draining(struct coir_runtime *rt, bool on)
{
    inject_close(&rt->inject, on);
    atomic_store_explicit(&rt->draining, on, memory_order_relaxed); /* CLOSE */
    if (on)
        park_wake_all(&rt->park); /* workers that sleep look at the flag */
}

/* Cancels everything, and gives it a little time. */
static bool cancel_all(struct coir_runtime *rt, coir_receipt *receipt)
{
    int64_t end = coir_now() + CANCEL_BUDGET_NS;

    hostcall_cancel_requested(rt, COIR_CANCEL_CLOSE);
    atomic_store_explicit(&rt->canceling, true, memory_order_seq_cst); /* ASK, fiber.c; CLOSE */
    domain_turn_away_all(rt, COIR_ESHUTDOWN);
    receipt->canceled += wait_wake_canceled(rt);
    spawn_drop_queued(rt);
    if (drain(rt, end - CANCEL_BUDGET_NS / 2))
        return true;
    receipt->canceled += wait_wake_all(rt); /* waits that their counter alone would have ended */
    spawn_drop_queued(rt);
    return drain(rt, end);
}

static int64_t deadline_after(int64_t begin, int64_t ns)
{
    return ns < 0 ? COIR_NEVER : time_after(begin, ns);
}

int coir_close(coir_runtime *rt, int64_t drain_ns, coir_receipt *receipt)
{
    int64_t begin = coir_now();
    coir_receipt own;
    uint64_t dropped;
    bool drained;

    if (!rt)
        return COIR_EINVAL;
    if (!receipt)
        receipt = &own;
    memset(receipt, 0, sizeof *receipt);
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (worker_here())
        return COIR_EPERM;
    if (atomic_exchange_explicit(&rt->closing, true, memory_order_acquire)) /* CLOSE */
        return COIR_EBUSY;
    dropped = books_dropped(rt);

    set_draining(rt, true);
    rt->stop_supervisors(rt, NULL);
    drained = (drain(rt, deadline_after(begin, drain_ns)) || cancel_all(rt, receipt)) &&
              drain_domains(rt, deadline_after(coir_now(), drain_ns < 0 ? -1 : CANCEL_BUDGET_NS),
                            receipt);
    if (!drained)
        receipt_name_left(rt, receipt);
    receipt->running = books_unfinished(rt, receipt->ended);
    receipt->dropped = books_dropped(rt) - dropped;
    receipt->drain_ns = coir_now() - begin;
    hostcall_drained(rt, receipt->drain_ns, drained ? COIR_OK : COIR_ETIMEDOUT);
    if (!drained) {
        atomic_store_explicit(&rt->closing, false, memory_order_release); /* CLOSE */
        return COIR_ETIMEDOUT;
    }
    runtime_unregister(rt);
    await_visitors(rt);
    stall_stop(rt);
    stop_workers(rt);
    signals_close(rt);
    tear_down(rt, PARTS);
    free_runtime(rt);
    return COIR_OK;
}

int coir_run(const coir_options *options, coir_fn *fn, void *arg)
{
    coir_counter first = COIR_COUNTER_INIT;
    coir_runtime *rt;
    int status, outcome;

    if (!fn)
        return COIR_EINVAL;
    status = coir_open(options, &rt);
    if (status != COIR_OK)
        return status;
    atomic_store_explicit(&rt->known, false, memory_order_relaxed); /* CLOSE; coir_current gives it out */
    status = coir_submit(rt, &first, fn, arg);
    outcome = status == COIR_OK ? coir_wait(&first) : status;
    status = coir_close(rt, -1, NULL);
    return status == COIR_OK ? outcome : status;
}
