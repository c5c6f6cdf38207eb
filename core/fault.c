/* SPDX-License-Identifier: MIT */
/*
 * fault.c - one process-wide, reference-counted handler for the signals of faults.
 *
 * A fault is a stack overflow if the kernel raised it (si_code > 0) for an address in the guard of
 * the fiber that runs on this very thread: in any other guard it is a wild pointer. An overflow is
 * contained if the job's policy says so (contain.c), else reported, and the process aborts. Other
 * faults are contained where they were opted in. The rest goes to the handler that was there before;
 * with none, the default action is restored and the instruction runs again, so the core shows it; what did not
 * come of that instruction is raised once more.
 * Never contained: what was sent and not raised, faults of plain threads, of the scheduler and of any
 * other code of this library.
 *
 * The handler runs on the worker's alternate stack and uses nothing of libc that locks or allocates. It
 * reads the worker's thread-local (initial-exec: no allocation) and the fiber it runs.
 */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "contain.h"
#include "text.h"

#define GUARD ((size_t)65536)
#define RESCUE_BYTES ((size_t)65536)
#define REACH ((size_t)16384) /* bytes below the stack pointer that code probes before it moves it */
#define STRIDE ((size_t)64 << 20) /* bytes of a frame that was not probed, at most */
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* One signal that may be ours. */
struct caught {
    int number;
    unsigned bit;              /* enum coir_fault */
    unsigned users;            /* runtimes that want it */
    struct sigaction previous; /* what it was before the first of them */
    bool under;                /* somebody's handler lies on ours, and may chain to it */
};

static struct caught caught[] = {
    {.number = SIGSEGV, .bit = COIR_FAULT_SEGV}, {.number = SIGBUS, .bit = COIR_FAULT_BUS},
    {.number = SIGFPE, .bit = COIR_FAULT_FPE},   {.number = SIGILL, .bit = COIR_FAULT_ILL},
    {.number = SIGABRT, .bit = COIR_FAULT_ABORT},
};
#define SIGNALS (sizeof caught / sizeof *caught)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the table, but from handlers */

void fault_forget_all(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static const struct caught *caught_by(int number)
{
    for (size_t i = 0; i < SIGNALS; i++)
        if (caught[i].number == number)
            return &caught[i];
    return NULL;
}

static unsigned bit_of(int number)
{
    return caught_by(number)->bit;
}

/* What the kernel needs on a stack to call a handler there, at most: the red zone, too. */
static size_t signal_frame_bytes(void)
{
    size_t told = getauxval(AT_MINSIGSTKSZ);

    return (told ? told : 5120) + 256;
}

/* ------------------------------------------------------------------------------- the handler */

/* What is contained in this job. Its domain's word is constant while a job is in it. */
static unsigned policy(const struct coir_runtime *rt, const struct job *j)
{
    return j->scope ? j->scope->domain->contained
                    : faults_contained(rt->options.faults, rt->options.faults_also);
}

/* The fiber that runs on this very thread; NULL: none does. */
static struct fiber *fiber_of(const struct worker *w)
{
    return w && w->current && w->current != &w->home ? w->current : NULL;
}

/* By code that has come near the guard, or gone beyond in one stride: from farther up it is a wild pointer. */
static bool hits_guard(const struct worker *w, const struct fiber *f, const siginfo_t *info, uintptr_t sp)
{
    return (info->si_signo == SIGSEGV || info->si_signo == SIGBUS) &&
           stack_guards(&w->runtime->stacks, &f->stack, (uintptr_t)info->si_addr) &&
           (uintptr_t)f->stack.low + REACH - sp < STRIDE;
}

/* A handler without an alternate stack was to be called. The kernel dropped its signal and raised this one. */
static bool has_no_room(const struct fiber *f, const siginfo_t *info, uintptr_t sp)
{
    return info->si_signo == SIGSEGV && info->si_code == SI_KERNEL && !info->si_addr &&
           sp - (uintptr_t)f->stack.low < signal_frame_bytes();
}

static bool is_at_end(const struct worker *w, const struct fiber *f, const siginfo_t *info, uintptr_t sp)
{
    return f && info->si_code > 0 && (hits_guard(w, f, info, sp) || has_no_room(f, info, sp));
}

/* The fiber that has no stack left, or NULL. A switch says who runs next before it leaves the stack it comes from, so
 * then the stack pointer tells. */
static const struct fiber *overflown(struct worker *w, const siginfo_t *info, uintptr_t sp)
{
    const struct fiber *f = fiber_of(w);

    if (!f || is_at_end(w, f, info, sp))
        return f;
    f = (const struct fiber *)(void *)stack_around(&w->runtime->stacks, sp);
    return is_at_end(w, f, info, sp) ? f : NULL;
}

/* On its stack, or in the guard of it: what went beyond may have written to the neighbour's. */
static bool is_on_stack(const struct worker *w, uintptr_t sp)
{
    uintptr_t low = (uintptr_t)w->current->stack.low - w->runtime->stacks.guard;

    return sp >= low && sp < (uintptr_t)w->current;
}

/* Memory that went bad the kernel tells of whenever it finds out. */
static bool is_late(const siginfo_t *info)
{
    return info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO;
}

/* Raised by what the thread did, or by its abort(): whether that sent it contain.c will see. */
static bool is_own(const siginfo_t *info)
{
    if (info->si_signo == SIGABRT)
        return info->si_code == SI_TKILL && info->si_pid == getpid();
    return info->si_code > 0 && !is_late(info);
}

/* Whether to leave the handler for contain.c, which has the last word. */
static bool is_to_contain(const struct worker *w, const siginfo_t *info, const void *context,
                          bool overflow)
{
    const struct fiber *f = fiber_of(w);

    return f && f->job && is_own(info) && is_on_stack(w, arch_context_sp(context)) &&
           !text_is_ours(arch_context_pc(context)) &&
           (policy(w->runtime, f->job) & (overflow ? FAULT_OVERFLOW : bit_of(info->si_signo)));
}

/* As without us. What is raised here is blocked until the handler has returned. */
static void die_of(const siginfo_t *info)
{
    signal(info->si_signo, SIG_DFL);
    if (info->si_code <= 0 || info->si_code == SI_KERNEL || is_late(info)) /* else it faults again */
        raise(info->si_signo);
}

/* Not ours: what was there before decides. What the kernel raised it does not let anybody ignore. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = &caught_by(number)->previous;

    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
    } else if (before->sa_handler == SIG_DFL || info->si_code > 0) {
        die_of(info);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    struct worker *w = worker_here();
    uintptr_t sp = arch_context_sp(context);
    const struct fiber *end = overflown(w, info, sp);
    struct fault f = {number, (uintptr_t)info->si_addr, end != NULL, end ? end : fiber_of(w)};

    if (f.overflow && !f.address)
        f.address = sp;
    contain_check_walk(w, sp);
    if (is_to_contain(w, info, context, f.overflow) && contain_redirect(context, &f))
        return;
    if (!f.overflow) {
        pass_on(number, info, context);
        return;
    }
    fault_report(w, &f, NULL);
    fault_abort();
}

/* -------------------------------------------------------------------------------- open, close */

static int install(struct caught *c)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigfillset(&ours.sa_mask);
    if (c->users == 0 && !(c->under && signal_handled(c->number)) && sigaction(c->number, &ours, &c->previous) != 0)
        return -errno;
    c->users++;
    return COIR_OK;
}

/* Handlers that somebody installed on top of ours stay: they chain to code that is still there. While one is there ours is
 * not installed again (signal_handled). */
static void restore(struct caught *c)
{
    struct sigaction now;

    if (--c->users > 0)
        return;
    c->under = sigaction(c->number, NULL, &now) == 0 && now.sa_sigaction != on_fault;
    if (!c->under)
        sigaction(c->number, &c->previous, NULL);
}

/* Adds what is not there yet. */
static int want(struct coir_runtime *rt, unsigned bits)
{
    int status = COIR_OK;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < SIGNALS && status == COIR_OK; i++) {
        if (!(bits & ~rt->faults_wanted & caught[i].bit))
            continue;
        status = install(&caught[i]);
        if (status == COIR_OK)
            rt->faults_wanted |= caught[i].bit;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

/* A domain may contain what the runtime only reports, so both prepare for it. */
int fault_open(struct coir_runtime *rt)
{
    int status;

    if (rt->options.faults == COIR_FAULTS_NONE)
        return COIR_OK;
    if (rt->clean_up)
        contain_open();
    rt->want_faults = want;
    status = want(rt, COIR_FAULT_SEGV | COIR_FAULT_BUS | rt->options.faults_also); /* overflows: the two */
    if (status != COIR_OK)
        fault_close(rt);
    return status;
}

void fault_close(struct coir_runtime *rt)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < SIGNALS; i++)
        if (rt->faults_wanted & caught[i].bit)
            restore(&caught[i]);
    rt->faults_wanted = 0;
    pthread_mutex_unlock(&lock);
}

/* --------------------------------------------------------------------------- stacks of a thread */

static size_t alt_bytes(void)
{
    size_t least = 4 * (size_t)getauxval(AT_MINSIGSTKSZ);

    return least > 65536 ? (least + 65535) & ~(size_t)65535 : 65536;
}

/* This thread's alternate stack for handlers and its rescue stack for what comes after them, each above
 * a guard. */
static __thread char *stacks;

static size_t stacks_bytes(void)
{
    return 2 * GUARD + alt_bytes() + RESCUE_BYTES;
}

int fault_thread_open(const struct host *host)
{
    stack_t ss = {.ss_size = alt_bytes()};

    stacks = mmap(NULL, stacks_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED) {
        stacks = NULL;
        host_log(host, COIR_LOG_ERROR, "no memory for a worker's alternate signal stack");
        return COIR_ENOMEM;
    }
    ss.ss_sp = stacks + GUARD;
    mprotect(stacks, GUARD, PROT_NONE);
    mprotect(stacks + GUARD + alt_bytes(), GUARD, PROT_NONE);
    sigaltstack(&ss, NULL);
    contain_use_stack(stacks + stacks_bytes() - RESCUE_BYTES, RESCUE_BYTES);
    return COIR_OK;
}

void fault_thread_close(void)
{
    stack_t off = {.ss_flags = SS_DISABLE};

    if (!stacks)
        return;
    contain_use_stack(NULL, 0);
    sigaltstack(&off, NULL);
    fiber_forget_stack(stacks, stacks + stacks_bytes()); /* nobody returned from there; its place will be others' */
    munmap(stacks, stacks_bytes());
    stacks = NULL;
}
