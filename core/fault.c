/* SPDX-License-Identifier: MIT */
/*
 * fault.c - one process-wide, reference-counted handler for SIGSEGV and SIGBUS.
 *
 * A fault is a stack overflow if the kernel raised it (si_code > 0) for an address in the guard of
 * the fiber that runs on this very thread: in any other guard it is a wild pointer. An overflow is
 * reported and the process aborts. Every other fault goes to the handler that was there before; with
 * none, the default action is restored and the instruction runs again, so the core shows it.
 *
 * The handler runs on the worker's alternate stack and uses write(2) and nothing else of libc. It
 * reads the worker's thread-local (initial-exec: no allocation) and the fiber it runs.
 */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define ALT_GUARD ((size_t)65536)
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

static const int signals[] = {SIGSEGV, SIGBUS};
#define SIGNALS (sizeof signals / sizeof *signals)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards users and previous */
static unsigned users;
static struct sigaction previous[SIGNALS];
static bool under[SIGNALS]; /* somebody's handler lies on ours, and may chain to it */

/* ------------------------------------------------------------------- writing without libc's help */

struct text {
    char bytes[512];
    size_t length;
};

static void say(struct text *t, const char *s)
{
    while (*s && t->length < sizeof t->bytes)
        t->bytes[t->length++] = *s++;
}

static void say_number(struct text *t, uint64_t n, unsigned base)
{
    char digit[24];
    int i = (int)sizeof digit;

    digit[--i] = '\0';
    do {
        digit[--i] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    say(t, base == 16 ? "0x" : "");
    say(t, &digit[i]);
}

/* ------------------------------------------------------------------------------- the handler */

static unsigned depth_of(const struct job *j)
{
    unsigned n = 0;

    for (; j; j = j->outer)
        n += !j->is_try;
    return n;
}

static void report_overflow(struct worker *w, uintptr_t address)
{
    struct fiber *f = w->current;
    struct job *j = f->job;
    struct text t = {.length = 0};

    while (j && j->is_try && j->outer)
        j = j->outer;
    say(&t, "coir: stack overflow: fiber ");
    say_number(&t, f->stack.index, 10);
    say(&t, " on worker ");
    say_number(&t, w->index, 10);
    say(&t, ", job ");
    if (j && j->name)
        say(&t, j->name);
    else
        say(&t, "function ");
    if (j && !j->name)
        say_number(&t, (uint64_t)(uintptr_t)j->fn, 16);
    say(&t, ", fault at ");
    say_number(&t, address, 16);
    say(&t, ", stack of ");
    say_number(&t, f->bytes, 10);
    say(&t, " bytes, ");
    say_number(&t, depth_of(f->job), 10);
    say(&t, " jobs deep\n");
    if (write(STDERR_FILENO, t.bytes, t.length) < 0)
        return; /* nobody to tell; the core tells */
}

static bool is_overflow(const struct worker *w, const siginfo_t *info)
{
    return w && w->current && w->current != &w->home && info->si_code > 0 &&
           stack_guards(&w->runtime->stacks, &w->current->stack, (uintptr_t)info->si_addr);
}

/* Not ours: what was there before decides. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = NULL;

    for (size_t i = 0; i < SIGNALS; i++)
        if (signals[i] == number)
            before = &previous[i];
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
    } else if (info->si_code <= 0) {
        if (before->sa_handler == SIG_DFL) { /* sent by somebody: die of it, as without us */
            signal(number, SIG_DFL);
            raise(number);
        }
    } else {
        signal(number, SIG_DFL); /* the instruction faults again, and the core shows it */
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    struct worker *w = worker_here();

    if (!is_overflow(w, info)) {
        pass_on(number, info, context);
        return;
    }
    report_overflow(w, (uintptr_t)info->si_addr);
    signal(SIGABRT, SIG_DFL);
    abort();
}

/* -------------------------------------------------------------------------------- open, close */

int fault_open(struct coir_runtime *rt)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int status = COIR_OK;

    if (rt->options.faults == COIR_FAULTS_NONE)
        return COIR_OK;
    sigfillset(&ours.sa_mask);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; users == 0 && i < SIGNALS; i++)
        if (!under[i] && sigaction(signals[i], &ours, &previous[i]) != 0)
            status = -errno;
    users += status == COIR_OK;
    pthread_mutex_unlock(&lock);
    return status;
}

/* Handlers that somebody installed on top of ours stay: they chain to code that is still there. Ours is
 * then not installed again, or the two would chain to each other for ever. */
void fault_close(struct coir_runtime *rt)
{
    if (rt->options.faults == COIR_FAULTS_NONE)
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; users == 1 && i < SIGNALS; i++) {
        struct sigaction now;

        under[i] = sigaction(signals[i], NULL, &now) == 0 && now.sa_sigaction != on_fault;
        if (!under[i])
            sigaction(signals[i], &previous[i], NULL);
    }
    users--;
    pthread_mutex_unlock(&lock);
}

static size_t alt_bytes(void)
{
    size_t least = 4 * (size_t)getauxval(AT_MINSIGSTKSZ);

    return least > 65536 ? (least + 65535) & ~(size_t)65535 : 65536;
}

static __thread char *alt; /* this thread's alternate stack, with its guard below */

int fault_thread_open(const struct host *host)
{
    stack_t ss = {.ss_size = alt_bytes()};

    alt = mmap(NULL, ALT_GUARD + ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (alt == MAP_FAILED) {
        alt = NULL;
        host_log(host, COIR_LOG_ERROR, "no memory for a worker's alternate signal stack");
        return COIR_ENOMEM;
    }
    mprotect(alt, ALT_GUARD, PROT_NONE);
    ss.ss_sp = alt + ALT_GUARD;
    sigaltstack(&ss, NULL);
    return COIR_OK;
}

void fault_thread_close(void)
{
    stack_t off = {.ss_flags = SS_DISABLE};

    if (!alt)
        return;
    sigaltstack(&off, NULL);
    munmap(alt, ALT_GUARD + alt_bytes());
    alt = NULL;
}
