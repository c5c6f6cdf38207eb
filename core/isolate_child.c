/* SPDX-License-Identifier: MIT */
/*
 * isolate_child.c - a child of an isolator: its limits, and one call after the other.
 *
 * Everything here runs in a process of one thread whose memory nobody else depends on. What it tells its
 * parent is believed only as far as that checks it.
 *
 * Memory is limited relative to what there is at the start: the program's own mappings may be of any size.
 * RLIMIT_DATA is the limit; what it misses, shared mappings, RLIMIT_AS bounds at twice as much. At the same bound
 * they would cancel each other: Linux lets mprotect turn reserved memory (malloc has some for each thread) into
 * data past RLIMIT_DATA when RLIMIT_AS is spent as well.
 *
 * Processor time has two limits, too. A timer of the process's own clock is set for each call, and is precise;
 * but its signal can be blocked. RLIMIT_CPU cannot, but counts whole seconds of the child's life and cannot be
 * raised again; so it is set once, high, and a child that comes near it is replaced.
 */
#include "isolate_child.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "boundary.h"

struct child {
    const struct isolate_plan *plan;
    int end;             /* of its slot's socket */
    uint32_t generation;
    char *in, *out;      /* of its slot's memory */
    timer_t clock;       /* valid if there is a limit to a call's processor time */
};

/* -------------------------------------------------------------------------------------- limits */

static int64_t cpu_used(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

/* What cannot be had must not be thought to hold: emulators accept limits and forget them. */
static int set_limit(int resource, uint64_t value)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value}, got;

    if (getrlimit((__rlimit_resource_t)resource, &got) != 0)
        return COIR_ENOTSUP;
    if (got.rlim_max < value)
        return COIR_OK; /* it is lower already */
    if (setrlimit((__rlimit_resource_t)resource, &limit) != 0 ||
        getrlimit((__rlimit_resource_t)resource, &got) != 0 || got.rlim_max != value)
        return COIR_ENOTSUP;
    return COIR_OK;
}

/* Bytes of address space, and of those data. */
static bool read_size(uint64_t *all, uint64_t *data)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned long pages, writable;
    FILE *f = fopen("/proc/self/statm", "re");
    bool read = f && fscanf(f, "%lu %*u %*u %*u %*u %lu", &pages, &writable) == 2;

    if (f)
        fclose(f);
    if (!read)
        return false;
    *all = pages * page;
    *data = writable * page;
    return true;
}

static int limit_memory(uint64_t more)
{
    uint64_t all, data;
    int status;

    if (more == COIR_UNLIMITED)
        return COIR_OK;
    if (!read_size(&all, &data))
        return COIR_ENOTSUP;
    status = set_limit(RLIMIT_DATA, data + more);
    return status == COIR_OK ? set_limit(RLIMIT_AS, all + 2 * more) : status;
}

static int limit_cpu(struct child *c)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGXCPU};
    int64_t ns = c->plan->options.cpu_ns;

    if (ns == COIR_NEVER)
        return COIR_OK;
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &c->clock) != 0)
        return COIR_ENOTSUP;
    return set_limit(RLIMIT_CPU, ((uint64_t)isolate_cpu_life(c->plan) + (uint64_t)ns) / COIR_SEC + 1);
}

static int filter_syscalls(const struct isolate_plan *p)
{
    struct sock_fprog program = {.len = (unsigned short)p->filter_count, .filter = p->filter};

    if (p->filter && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return COIR_ENOSYS;
    return COIR_OK;
}

/* --------------------------------------------------------------------------------------- start */

/* Handlers and streams are the parent's: they are not for a child to run or to flush. */
static void leave(int status, void *unused)
{
    (void)unused;
    _exit(status);
}

static void close_others(const struct isolate_plan *p, uint32_t slot)
{
    close(p->orders);
    if (p->parent >= 0)
        close(p->parent);
    for (uint32_t i = 0; i < p->options.children; i++)
        if (i != slot)
            close(p->end[i]);
}

static int map_memory(struct child *c, uint32_t slot)
{
    const struct isolate_plan *p = c->plan;
    size_t bytes = isolate_slot_bytes(p);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->memory, (off_t)(slot * bytes));

    close(p->memory);
    if (memory == MAP_FAILED)
        return COIR_ENOMEM;
    c->in = memory;
    c->out = c->in + p->in_bytes;
    return COIR_OK;
}

static int set_up(struct child *c, uint32_t slot)
{
    static const struct rlimit no_core = {0, 0};
    const struct isolate_plan *p = c->plan;
    sigset_t none;
    int status = map_memory(c, slot);

    close_others(p, slot);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_NAME, "coir/isolated");
    if (on_exit(leave, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return COIR_ENOMEM;
    if (status == COIR_OK)
        status = limit_cpu(c);
    if (status == COIR_OK)
        status = limit_memory(p->options.memory_bytes);
    return status == COIR_OK ? filter_syscalls(p) : status;
}

/* --------------------------------------------------------------------------------------- calls */

static void tell(const struct child *c, struct isolate_notice *n)
{
    n->generation = c->generation;
    if (send(c->end, n, sizeof *n, MSG_NOSIGNAL) != sizeof *n)
        _exit(0); /* the template sees it, and tells the parent */
}

struct running {
    const struct child *child;
    struct isolate_call call;
    size_t bytes; /* that the function has returned */
};

static void run(void *arg)
{
    struct running *r = arg;

    r->bytes = r->call.fn(r->child->in, r->call.in_bytes, r->child->out, r->call.out_room);
}

static void set_clock(const struct child *c)
{
    int64_t ns = c->plan->options.cpu_ns;
    struct itimerspec timer = {.it_value = {.tv_sec = ns / COIR_SEC, .tv_nsec = ns % COIR_SEC}};

    if (ns != COIR_NEVER)
        timer_settime(c->clock, 0, &timer, NULL);
}

static void put_failure(struct isolate_notice *n, const coir_failure *f)
{
    n->failure_kind = f->kind;
    n->code = f->code;
    if (f->file)
        snprintf(n->text, sizeof n->text, "%s:%d: %s", f->file, f->line, f->message);
    else
        snprintf(n->text, sizeof n->text, "%s", f->message);
}

static void serve(const struct child *c, const struct isolate_call *call)
{
    struct running r = {.child = c, .call = *call};
    struct isolate_notice n = {.kind = NOTICE_DONE, .number = call->number};
    coir_failure f;

    set_clock(c);
    n.outcome = job_try_whole(run, &r, &f);
    n.bytes = r.bytes;
    n.worn = c->plan->options.cpu_ns != COIR_NEVER && cpu_used() > isolate_cpu_life(c->plan);
    if (n.outcome != COIR_DONE)
        put_failure(&n, &f);
    tell(c, &n);
}

/* The next call; false: there will be none. Whoever is killed while it waits shall not take a call along: so it
 * looks, and takes it when it runs again. */
static bool next_call(const struct child *c, struct isolate_call *call)
{
    ssize_t seen;

    do
        seen = recv(c->end, call, sizeof *call, MSG_PEEK);
    while (seen < 0 && errno == EINTR);
    return seen == sizeof *call && recv(c->end, call, sizeof *call, 0) == seen;
}

void isolate_child(const struct isolate_plan *p, uint32_t slot, uint32_t generation, uint32_t unread,
                   pid_t template)
{
    struct child c = {.plan = p, .end = p->end[slot], .generation = generation};
    struct isolate_notice ready = {.kind = NOTICE_READY, .unread = unread};
    struct isolate_call call;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != template)
        _exit(0); /* it has ended before that was said */
    ready.status = set_up(&c, slot);
    tell(&c, &ready);
    if (ready.status != COIR_OK)
        _exit(0);
    while (next_call(&c, &call))
        serve(&c, &call);
    _exit(0);
}
