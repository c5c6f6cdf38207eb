/* SPDX-License-Identifier: MIT */
/*
 * state.c - which worker, and which runtime, the calling thread belongs to; which are open.
 */
#include "state.h"

static struct lock open_lock; /* guards the list of open runtimes */
static struct coir_runtime *open_list;
_Atomic unsigned runtimes_pending;

__thread struct worker *worker_tls;
static __thread struct coir_runtime *adopted;

/* Not inlined, and opaque to the optimizer: see worker_here. */
NOINLINE struct worker *worker_self(void)
{
    __asm__ volatile("");
    return worker_here();
}

COLD int status_outside(void)
{
    return life_is_over() ? COIR_EFORKED : COIR_EPERM;
}

NOINLINE struct coir_runtime *runtime_here(void)
{
    struct worker *w = worker_tls; /* a fork's is empty: NULL, too */

    if (w)
        return w->runtime;
    return adopted && !runtime_forked(adopted) ? adopted : NULL; /* a fork that was made there works for nobody */
}

struct coir_runtime *runtime_adopt_thread(struct coir_runtime *rt)
{
    struct coir_runtime *before = adopted;

    if (!worker_here())
        adopted = rt;
    return before;
}

void runtime_register(struct coir_runtime *rt)
{
    lock_take(&open_lock);
    rt->next_open = open_list;
    open_list = rt;
    lock_drop(&open_lock);
}

void runtime_forget_all(void)
{
    open_lock = (struct lock){0};
    open_list = NULL;
    atomic_store_explicit(&runtimes_pending, 0, memory_order_relaxed); /* a fork has one thread */
}

void runtime_unregister(struct coir_runtime *rt)
{
    lock_take(&open_lock);
    for (struct coir_runtime **at = &open_list; *at; at = &(*at)->next_open)
        if (*at == rt) {
            *at = rt->next_open;
            break;
        }
    lock_drop(&open_lock);
}

/* The lock is held throughout, so that none of them closes meanwhile. */
static void visit_open(void (*visit)(struct coir_runtime *rt, void *arg), void *arg)
{
    for (struct coir_runtime *rt = open_list; rt; rt = rt->next_open)
        visit(rt, arg);
    lock_drop(&open_lock);
}

void runtime_each_open(void (*visit)(struct coir_runtime *rt, void *arg), void *arg)
{
    lock_take(&open_lock);
    visit_open(visit, arg);
}

bool runtime_try_each_open(void (*visit)(struct coir_runtime *rt, void *arg), void *arg)
{
    for (unsigned turns = 0; turns < 1000;) {
        if (lock_try(&open_lock)) {
            visit_open(visit, arg);
            return true;
        }
        spin_pause(&turns);
    }
    return false;
}
