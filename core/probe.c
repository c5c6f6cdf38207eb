/* SPDX-License-Identifier: MIT */
/*
 * probe.c - a signal to a worker's thread, whose handler writes down where the thread was.
 *
 * The handler does what is safe there: it reads the jobs of the stack it interrupted and follows frame
 * records, only upwards and only inside that stack, so that code without frame pointers makes the
 * list short but never a fault. Names for the addresses are the asker's business.
 *
 * The handler of a signal is process-wide and reference-counted: several runtimes may use it. What
 * is not our question goes to the handler that was there before.
 *
 * ANSWER  asker stores ASKED (release) -> handler loads it (acquire); handler stores ANSWERED
 *         (release) -> asker loads it (acquire): the answer.
 */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum probe_state { PROBE_IDLE, PROBE_ASKED, PROBE_ANSWERED };

/* What is known of a signal; lock held. */
struct handler {
    unsigned users;
    bool under;               /* somebody's handler lies on ours, and may chain to it */
    struct sigaction previous;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handler handlers[65];

void probe_forget_all(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* --------------------------------------------------------------------------------- the handler */

/* Return addresses of the frames above: each record lies higher than the one before, in this stack. */
__attribute__((no_sanitize("address"))) static void note_frames(struct probe *p, const struct fiber *f,
                                                                const void *context)
{
    uintptr_t low = (uintptr_t)f->bottom, high = low + f->bytes, frame;

    arch_interrupted(context, &p->pc[0], &frame);
    p->frames = 1;
    while (p->frames < PROBE_FRAMES && frame >= low && frame <= high - sizeof(struct arch_record) &&
           frame % sizeof(void *) == 0) {
        const struct arch_record *r = (const struct arch_record *)frame;

        if (!r->pc)
            return;
        p->pc[p->frames++] = (uintptr_t)r->pc;
        low = frame + sizeof *r;
        frame = (uintptr_t)r->link;
    }
}

static void note_job(struct probe *p, struct coir_runtime *rt, struct job *j)
{
    size_t n = 0;

    p->fn = j->fn;
    p->job = job_id_held(rt, j); /* the thread that holds it is this one */
    p->stall_ns = j->scope ? j->stall_ns : rt->options.stall_ns;
    while (j->name && n < sizeof p->name - 1 && j->name[n]) {
        p->name[n] = j->name[n];
        n++;
    }
    p->name[n] = '\0';
}

static void answer(struct worker *w, const void *context)
{
    struct probe *p = w->probe;
    struct fiber *f = w->current;
    struct job *j = f == &w->home ? NULL : f->job;

    while (j && j->is_try && j->outer)
        j = j->outer;
    p->at = peek_progress(w);
    p->fn = NULL;
    p->frames = 0;
    if (j) {
        note_job(p, w->runtime, j);
        note_frames(p, f, context);
    }
    atomic_store_explicit(&p->state, PROBE_ANSWERED, memory_order_release); /* ANSWER */
    futex_wake(&p->state, 1);
}

static bool ignored_by_default(int number)
{
    return number == SIGURG || number == SIGCHLD || number == SIGWINCH || number == SIGCONT;
}

/* Not ours: what was there before decides. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = &handlers[number].previous;

    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
    } else if (before->sa_handler == SIG_DFL && !ignored_by_default(number)) {
        signal(number, SIG_DFL); /* die of it, as without us */
        raise(number);
    }
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct worker *w = worker_here();
    bool ours = w && w->probe && info->si_code == SI_TKILL && info->si_pid == getpid();
    int before = errno;

    if (!ours)
        pass_on(number, info, context);
    else if (atomic_load_explicit(&w->probe->state, memory_order_acquire) == PROBE_ASKED) /* ANSWER */
        answer(w, context); /* else it comes too late */
    errno = before;
}

/* -------------------------------------------------------------------------------- open and close */

int probe_open(int number)
{
    struct sigaction ours = {.sa_sigaction = on_signal,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct handler *h = &handlers[number];
    int status = COIR_OK;

    sigfillset(&ours.sa_mask);
    pthread_mutex_lock(&lock);
    if (h->users == 0 && !(h->under && signal_handled(number)) && sigaction(number, &ours, &h->previous) != 0)
        status = -errno;
    h->users += status == COIR_OK;
    pthread_mutex_unlock(&lock);
    return status;
}

bool probe_uses(int number)
{
    bool uses;

    pthread_mutex_lock(&lock);
    uses = handlers[number].users > 0;
    pthread_mutex_unlock(&lock);
    return uses;
}

/* A handler that somebody installed on top of ours stays, and may chain to ours: see fault.c. */
void probe_close(int number)
{
    struct handler *h = &handlers[number];
    struct sigaction now;

    pthread_mutex_lock(&lock);
    if (--h->users == 0) {
        h->under = sigaction(number, NULL, &now) == 0 && now.sa_sigaction != on_signal;
        if (!h->under)
            sigaction(number, &h->previous, NULL);
    }
    pthread_mutex_unlock(&lock);
}

void probe_thread_open(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ----------------------------------------------------------------------------------------- asking */

bool probe_ask(struct worker *w, int number, int64_t deadline)
{
    struct probe *p = w->probe;
    uint32_t asked = PROBE_ASKED;
    bool answered;

    atomic_store_explicit(&p->state, PROBE_ASKED, memory_order_release); /* ANSWER */
    if (pthread_kill(w->thread, number) != 0)
        return false;
    while (atomic_load_explicit(&p->state, memory_order_acquire) == PROBE_ASKED && /* ANSWER */
           coir_now() < deadline)
        futex_wait(&p->state, PROBE_ASKED, deadline);
    answered = !atomic_compare_exchange_strong_explicit(&p->state, &asked, PROBE_IDLE,
                                                        memory_order_acquire,
                                                        memory_order_acquire); /* ANSWER */
    return answered;
}
