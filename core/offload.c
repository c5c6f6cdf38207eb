/* SPDX-License-Identifier: MIT */
/*
 * offload.c - calls that block, made on threads of their own while the fiber is parked.
 *
 * Owns: the pool's threads and the queue of calls that wait for one. A call is an errand (errand.c)
 * and lies in the fiber's frame, so queueing cannot fail. A thread is started when a call comes and
 * all threads have something to do; they stay until the runtime closes.
 *
 * A call that waits can be revoked; one that has begun is waited for: nobody can stop a thread.
 */
#include "offload.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "boundary.h"
#include "cpus.h"
#include "errand.h"

/* One call. */
struct call {
    struct errand errand;
    struct pool *pool;
    coir_fn *fn;
    void *arg;
    uint64_t tenant;          /* whose call it is (wipe.h) */
    int outcome;              /* when it is over; COIR_ECANCELED, COIR_EAGAIN: not called */
    bool queued;              /* pool->lock */
    struct call *next, *prev; /* pool->lock; queued only */
};

struct pool {
    struct coir_runtime *rt;
    unsigned most;           /* threads there may be */

    pthread_mutex_t lock;    /* guards all below */
    pthread_cond_t wanted;   /* a call came, or stopping */
    struct call *first, *last;
    unsigned waiting;        /* calls queued */
    unsigned idle;           /* threads that wait for a call */
    unsigned threads;
    bool stopping;
    pthread_t thread[];      /* most of them */
};

/* ---------------------------------------------------------------------------------------- queue */

/* All of these with the lock held. */

static void queue_call(struct pool *p, struct call *c)
{
    c->queued = true;
    c->next = NULL;
    c->prev = p->last;
    if (p->last)
        p->last->next = c;
    else
        p->first = c;
    p->last = c;
    p->waiting++;
}

static void unqueue_call(struct pool *p, struct call *c)
{
    c->queued = false;
    if (c->prev)
        c->prev->next = c->next;
    else
        p->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    else
        p->last = c->prev;
    p->waiting--;
}

/* The oldest call; NULL: the pool stops. */
static struct call *next_call(struct pool *p)
{
    struct call *c;

    p->idle++;
    while (!p->first && !p->stopping)
        pthread_cond_wait(&p->wanted, &p->lock);
    p->idle--;
    c = p->first;
    if (c)
        unqueue_call(p, c);
    return c;
}

/* -------------------------------------------------------------------------------------- threads */

/* The lowest address of this thread's stack; NULL: no memory to ask for it. */
static char *lowest_address(void)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t bytes;

    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return NULL;
    pthread_attr_getstack(&attributes, &low, &bytes);
    pthread_attr_destroy(&attributes);
    return low;
}

/* What a call has left on the stack a job of another domain must not see. Nor what a thread that has ended has: the C
 * library keeps its stack for this one. */
static void *thread_main(void *arg)
{
    struct pool *p = arg;
    uint64_t tenant = TENANT_UNKNOWN;
    char *low = NULL;
    struct call *c;
    bool visiting;

    runtime_adopt_thread(p->rt);
    pthread_mutex_lock(&p->lock);
    while ((c = next_call(p))) {
        pthread_mutex_unlock(&p->lock);
        low = low ? low : lowest_address();
        if (low && tenant != c->tenant)
            wipe_for(&p->rt->stacks, low, &tenant, c->tenant);
        c->outcome = low ? job_try_whole(c->fn, c->arg, NULL) : COIR_EAGAIN;
        visiting = runtime_visit(p->rt); /* the job that called may be the last before a close */
        errand_end(&c->errand);
        runtime_leave(p->rt, visiting);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void name_thread(const struct pool *p, pthread_t thread, unsigned i)
{
    char suffix[8], name[16];
    int bytes = snprintf(suffix, sizeof suffix, "/io%u", i % 1000);

    snprintf(name, sizeof name, "%.*s%s", (int)sizeof name - 1 - bytes, p->rt->options.name, suffix);
    pthread_setname_np(thread, name);
}

/* Lock held. */
static void start_thread(struct pool *p)
{
    int error = thread_start(&p->thread[p->threads], runtime_allowed(p->rt), thread_main, p);

    if (error) {
        host_log(&p->rt->host, COIR_LOG_WARNING, "offload thread %u could not be started: %s",
                 p->threads, strerror(error));
        return;
    }
    name_thread(p, p->thread[p->threads], p->threads);
    p->threads++;
}

/* ---------------------------------------------------------------------------------------- calls */

static void begin_call(struct errand *e)
{
    struct call *c = CONTAINER_OF(e, struct call, errand);
    struct pool *p = c->pool;
    bool taken;

    pthread_mutex_lock(&p->lock);
    queue_call(p, c);
    if (p->idle < p->waiting && p->threads < p->most)
        start_thread(p);
    taken = p->threads > 0;
    if (!taken)
        unqueue_call(p, c);
    pthread_cond_signal(&p->wanted);
    pthread_mutex_unlock(&p->lock);
    if (!taken) {
        c->outcome = COIR_EAGAIN;
        errand_end(e);
    }
}

static void revoke_call(struct errand *e)
{
    struct call *c = CONTAINER_OF(e, struct call, errand);
    bool queued;

    pthread_mutex_lock(&c->pool->lock);
    queued = c->queued;
    if (queued)
        unqueue_call(c->pool, c);
    pthread_mutex_unlock(&c->pool->lock);
    if (!queued)
        return;
    c->outcome = COIR_ECANCELED;
    errand_end(e);
}

int coir_offload_until(coir_fn *fn, void *arg, int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct call c = {.errand = {.begin = begin_call, .revoke = revoke_call}, .fn = fn, .arg = arg};
    int status;

    if (!self)
        return status_outside();
    if (!fn)
        return COIR_EINVAL;
    c.pool = self->runtime->offload;
    c.tenant = self->tenant;
    status = errand_run(self, &c.errand, "offload", deadline);
    return status == COIR_ENOMEM || c.outcome == COIR_ECANCELED ? status : c.outcome;
}

int coir_offload(coir_fn *fn, void *arg)
{
    return coir_offload_until(fn, arg, COIR_NEVER);
}

/* ------------------------------------------------------------------------------- open and close */

int offload_open(struct coir_runtime *rt)
{
    unsigned most = rt->options.offload_threads;
    struct pool *p = mem_alloc(&rt->host, sizeof *p + most * sizeof *p->thread);

    if (!p)
        return COIR_ENOMEM;
    p->rt = rt;
    p->most = most;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wanted, NULL);
    rt->offload = p;
    return COIR_OK;
}

void offload_close(struct coir_runtime *rt)
{
    struct pool *p = rt->offload;

    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wanted);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->wanted);
    pthread_mutex_destroy(&p->lock);
    mem_free(&rt->host, p);
    rt->offload = NULL;
}
