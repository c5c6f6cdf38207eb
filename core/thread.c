/* SPDX-License-Identifier: MIT */
/*
 * thread.c - a plain thread waits for counters by blocking.
 *
 * Owns: the list of all threads of the process that do so. A runtime that closes while jobs still run
 * knows which counters these owe, and looks in the list for who waits for them. To wait costs a
 * system call anyway, so the list is no burden; the good path of no other thread touches it.
 *
 * The word only ends the sleep: a node's counter orders what it tells, and the list's lock `canceled`.
 */
#include "thread.h"

#include "life.h"

struct thread {
    struct counter *const *counter;
    size_t count;
    _Atomic uint32_t word;       /* a futex: not 0 ends the sleep */
    bool canceled;               /* lock; by thread_wake */
    struct thread *next, *prev;  /* lock */
};

/* Its node at one counter. */
struct seat {
    struct wait_node node;
    struct thread *thread;
};

static struct lock lock; /* guards the list and what is in it */
static struct thread *threads;

static void enlist(struct thread *t)
{
    lock_take(&lock);
    t->prev = NULL;
    t->next = threads;
    if (t->next)
        t->next->prev = t;
    threads = t;
    lock_drop(&lock);
}

/* Afterwards nobody cancels it. */
static void delist(struct thread *t)
{
    lock_take(&lock);
    if (t->prev)
        t->prev->next = t->next;
    else
        threads = t->next;
    if (t->next)
        t->next->prev = t->prev;
    lock_drop(&lock);
}

void thread_forget_all(void)
{
    lock = (struct lock){0};
    threads = NULL;
}

static void let_go(struct thread *t)
{
    atomic_fetch_add_explicit(&t->word, 1, memory_order_relaxed); /* orders nothing */
    futex_wake(&t->word, 1);
}

static void on_settled(struct wait_node *node, int outcome)
{
    struct seat *s = CONTAINER_OF(node, struct seat, node);

    (void)outcome;
    let_go(s->thread);
    wait_node_release(node); /* the last use: word and node are in the waiter's frame */
}

/* Takes a seat at each counter until one turns out to have settled. Returns how many seats. */
static size_t sit_down(struct thread *t, struct seat *seat)
{
    size_t n = 0;

    atomic_store_explicit(&t->word, 0, memory_order_relaxed); /* nobody else knows it yet */
    for (; n < t->count; n++) {
        seat[n] = (struct seat){{.settled = on_settled}, t};
        if (!counter_enlist(t->counter[n], &seat[n].node)) {
            atomic_fetch_add_explicit(&t->word, 1, memory_order_relaxed); /* own: do not sleep */
            break;
        }
    }
    return n;
}

static int first_settled(const struct thread *t, struct seat *seat, size_t seats, size_t *which)
{
    for (*which = 0; *which < t->count; ++*which) {
        int outcome = wait_node_look(t->counter[*which], *which < seats ? &seat[*which].node : NULL);

        if (outcome >= 0)
            return outcome;
    }
    return -1;
}

/* Blocks once. -1: the deadline, a cancel, or one of the counters was not quite settled yet. */
static int wait_once(struct thread *t, int64_t deadline, size_t *which)
{
    struct seat seat[COIR_WAIT_ANY_MAX];
    size_t seats = sit_down(t, seat);

    enlist(t);
    while (!atomic_load_explicit(&t->word, memory_order_relaxed)) { /* orders nothing */
        if (deadline != COIR_NEVER && coir_now() >= deadline)
            break;
        futex_wait(&t->word, 0, deadline);
    }
    delist(t);
    for (size_t i = 0; i < seats; i++)
        counter_delist(t->counter[i], &seat[i].node);
    return first_settled(t, seat, seats, which);
}

int thread_wait(struct counter *const *c, size_t n, int64_t deadline, size_t *which)
{
    struct thread t = {.counter = c, .count = n};
    int outcome;

    if (life_is_over())
        return COIR_EFORKED; /* whoever owes them runs in another process */
    do
        outcome = wait_once(&t, deadline, which);
    while (outcome == -1 && !t.canceled && (deadline == COIR_NEVER || coir_now() < deadline));
    return outcome != -1 ? outcome : t.canceled ? COIR_ECANCELED : COIR_ETIMEDOUT;
}

static bool waits_for(const struct thread *t, bool (*owed)(const struct counter *c, void *arg), void *arg)
{
    for (size_t i = 0; i < t->count; i++)
        if (owed(t->counter[i], arg))
            return true;
    return false;
}

size_t thread_wake(bool (*owed)(const struct counter *c, void *arg), void *arg)
{
    size_t woken = 0;

    lock_take(&lock);
    for (struct thread *t = threads; t; t = t->next)
        if (!t->canceled && waits_for(t, owed, arg)) {
            t->canceled = true;
            let_go(t);
            woken++;
        }
    lock_drop(&lock);
    return woken;
}
