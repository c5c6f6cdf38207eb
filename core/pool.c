/* SPDX-License-Identifier: MIT */
/*
 * pool.c - pools: opening one, its workers, closing it with a receipt.
 *
 * Workers are long-lived jobs in a domain of the pool's own, so a bulkhead, its figures, cancel and the
 * naming of what is stuck are the domain's. The pool's memory is the domain's, too: its finalizer gives back
 * what is left and frees it, whoever closes the domain.
 *
 * So a domain above may be closed at any moment. The finalizer is there before the domain can be found, and waits for
 * visitors: who opens the pool is one until it is open, who closes it until he holds the domain (drain.c). A
 * receipt is filled for the holder alone.
 *
 * All foreign code that a worker calls is in a boundary of its own, but for the host's log. If that panics, the
 * worker's fiber starts anew in place, after a pause: no job is spawned that might be refused, so no worker
 * is ever lost. Its message ends DEAD: what broke is not known to be over.
 *
 * Seam: serve is a child as a supervisor wants it. It returns when the pool ends, and all of its
 * state is in its struct pool_worker; `run_again` is what a supervisor's restart would replace.
 */
#include <stdio.h>
#include <string.h>

#include "drain.h"
#include "options.h"
#include "pool_queue.h"
#include "wait.h"

#define WORKERS_MAX 4096
#define QUEUE_MAX (UINT64_C(1) << 32)
#define BACKOFF_DEFAULT_NS (10 * COIR_MS)
#define BACKOFF_MAX_DEFAULT_NS (10 * COIR_SEC)
#define WINDOW_DEFAULT_NS (10 * COIR_SEC)
#define PROBE_DEFAULT_NS COIR_SEC
#define RESTART_PAUSE_NS (100 * COIR_MS)
#define WORKERS_END_NS (100 * COIR_MS)

/* ----------------------------------------------------------------------------------- workers */

static void work(void *arg)
{
    struct pool_worker *w = arg;

    while ((w->message = pool_take(w->pool))) {
        pool_handle(w->pool, w->message);
        w->message = NULL;
    }
}

/* It broke outside of an attempt. */
static void run_again(struct pool_worker *w, const coir_failure *failure)
{
    struct coir_pool *p = w->pool;
    coir_message *m = w->message;
    uint64_t word = word_lock(&p->state);

    p->restarts++;
    word_unlock(&p->state, word);
    w->message = NULL;
    job_serve(p->domain, NULL);
    if (m) {
        m->failure = *failure;
        pool_end(p, m, COIR_MESSAGE_DEAD);
        pool_release_held(p);
    }
    if (coir_sleep_until(coir_now() + RESTART_PAUSE_NS) != COIR_OK)
        return; /* canceled, which pool_take will see; or no stack to park on: no pause */
}

static void serve(void *arg)
{
    struct pool_worker *w = arg;
    coir_failure failure;

    retry_serve();
    pool_probe_nothing(w->pool);
    coir_job_name(w->pool->name);
    counter_settle(&w->started, 1);
    while (job_try(work, w, &failure) != COIR_DONE)
        run_again(w, &failure);
}

static coir_counter *as_counter(struct counter *c)
{
    return (coir_counter *)(void *)c;
}

static int await_start(struct pool_worker *w)
{
    coir_counter *const either[] = {as_counter(&w->started), as_counter(&w->job)};
    size_t which = 0;
    int status = coir_wait_any(either, 2, COIR_NEVER, &which);

    if (status < 0 || which == 0)
        return status < 0 ? status : COIR_OK;
    return scope_canceled(&w->pool->domain->scope) ? COIR_ECANCELED : COIR_EAGAIN; /* dropped unrun */
}

static int start_workers(struct coir_pool *p)
{
    int status = COIR_OK;

    for (unsigned i = 0; i < p->workers && status == COIR_OK; i++) {
        struct pool_worker *w = &p->worker[i];

        w->pool = p;
        counter_owe(&w->started, 1);
        status = domain_start_service(p->domain, &w->job, serve, w, COIR_NEVER);
    }
    for (unsigned i = 0; i < p->workers && status == COIR_OK; i++)
        status = await_start(&p->worker[i]);
    return status;
}

/* ----------------------------------------------------------------------------------- figures */

static void read_figures(struct coir_pool *p, coir_pool_stats *stats)
{
    struct breaker_figures b = breaker_figures(&p->retry.breaker);
    uint64_t word = word_lock(&p->state);
    const uint64_t *ended = p->ended_as;

    *stats = (coir_pool_stats){
        .submitted = p->submitted,
        .done = ended[COIR_MESSAGE_DONE],
        .dead = ended[COIR_MESSAGE_DEAD],
        .expired = ended[COIR_MESSAGE_EXPIRED],
        .quarantined = ended[COIR_MESSAGE_QUARANTINED],
        .returned = ended[COIR_MESSAGE_RETURNED],
        .refused = p->refused,
        .callback_panics = p->callback_panics,
        .worker_restarts = p->restarts,
        .trips = b.opened,
        .breaker = b.state == BREAKER_CLOSED ? COIR_DOMAIN_OPEN
                   : b.state == BREAKER_OPEN ? COIR_DOMAIN_TRIPPED
                                             : COIR_DOMAIN_HALF_OPEN,
    };
    word_unlock(&p->state, word);
    stats->pending = stats->submitted - stats->done - stats->dead - stats->expired - stats->quarantined -
                     stats->returned;
    stats->attempts = tally_read(&p->retry.attempts);
    stats->retries = tally_read(&p->retry.retries);
}

int coir_pool_stats_read(coir_pool *pool, coir_pool_stats *stats)
{
    if (!pool || !stats)
        return COIR_EINVAL;
    if (runtime_forked(pool->rt))
        return COIR_EFORKED;
    read_figures(pool, stats);
    return COIR_OK;
}

/* -------------------------------------------------------------------------------------- open */

static int copy_options(const coir_pool_options *given, coir_pool_options *o)
{
    int status = options_copy_sized(given, given ? given->size : 0, o, sizeof *o);

    return status == COIR_OK && o->handle ? COIR_OK : COIR_EINVAL;
}

static int check_options(const struct coir_runtime *rt, const coir_pool_options *o)
{
    if (rt->options.panic == COIR_PANIC_ABORT || !o->dead)
        return COIR_EPOLICY;
    if (!o->queue_max || o->queue_max > QUEUE_MAX || !o->attempts_max || o->workers > WORKERS_MAX ||
        (unsigned)o->full > COIR_FULL_RUN || o->failures_max > BREAKER_FAILURES_MAX)
        return COIR_ERANGE;
    if (o->full_wait_ns < 0 || o->deadline_ns < 0 || o->backoff_ns < 0 || o->backoff_max_ns < 0 ||
        o->failures_window_ns < 0 || o->probe_ns < 0)
        return COIR_ERANGE;
    return COIR_OK;
}

static int64_t or_default(int64_t given, int64_t otherwise)
{
    return given ? given : otherwise;
}

static void set_rules(struct coir_pool *p, const coir_pool_options *o)
{
    struct retry *r = &p->retry;

    r->host = &p->rt->host;
    r->name = p->name;
    r->handle = o->handle;
    r->attempts_max = o->attempts_max;
    r->backoff_ns = or_default(o->backoff_ns, BACKOFF_DEFAULT_NS);
    r->backoff_max_ns = or_default(o->backoff_max_ns, BACKOFF_MAX_DEFAULT_NS);
    r->quarantine = o->quarantine;
    r->type = coir_quarantine_type(o->type ? o->type : o->name ? o->name : p->name); /* p's is cut */
    atomic_store_explicit(&r->random, (uint64_t)coir_now(), memory_order_relaxed); /* not shared yet */
    breaker_init(&r->breaker, o->failures_max, or_default(o->failures_window_ns, WINDOW_DEFAULT_NS),
                 or_default(o->probe_ns, PROBE_DEFAULT_NS), COIR_NEVER, /* what waits waits for its end */
                 (int64_t *)(void *)&p->worker[p->workers]);
}

static struct coir_pool *make(struct coir_runtime *rt, const coir_pool_options *o)
{
    unsigned workers = o->workers ? o->workers : 1;
    struct coir_pool *p = mem_alloc(&rt->host, sizeof *p + workers * sizeof(struct pool_worker) +
                                                   o->failures_max * sizeof(int64_t));

    if (!p)
        return NULL;
    p->rt = rt;
    p->workers = workers;
    p->dead = o->dead;
    p->ended = o->ended;
    p->context = o->context;
    p->queue_max = o->queue_max;
    p->full = (int)o->full;
    p->full_wait_ns = or_default(o->full_wait_ns, COIR_NEVER);
    p->deadline_ns = or_default(o->deadline_ns, COIR_NEVER);
    snprintf(p->name, sizeof p->name, "%s", o->name ? o->name : "pool");
    set_rules(p, o);
    pool_visit(p); /* who opens it */
    return p;
}

static void await_visitors(struct coir_pool *p)
{
    unsigned turns = 0;

    while (atomic_load_explicit(&p->visitors, memory_order_seq_cst)) { /* VISIT, pool_submit.c */
        coir_yield();
        spin_pause(&turns);
    }
}

/* To maps, and to who cancels messages. */
static void show(struct coir_pool *p)
{
    lock_take(&p->rt->domains_lock);
    p->domain->pool = p;
    p->next = p->rt->pools;
    p->rt->pools = p;
    lock_drop(&p->rt->domains_lock);
}

static void hide(struct coir_pool *p)
{
    struct coir_pool **at = &p->rt->pools;

    lock_take(&p->rt->domains_lock);
    p->domain->pool = NULL;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    lock_drop(&p->rt->domains_lock);
}

/* The domain's finalizer: its jobs have ended. */
static void dispose(void *arg)
{
    struct coir_pool *p = arg;

    pool_stop(p, POOL_CLOSING | POOL_ENDING);
    await_visitors(p);
    hide(p);
    for (unsigned i = 0; i < p->workers; i++)
        wait_join(&p->worker[i].job); /* it settles after its job has left the domain */
    if (p->retry.quarantine)
        quarantine_use(p->retry.quarantine, -1);
    if (p->receipt)
        read_figures(p, &p->receipt->pool);
    mem_free(&p->rt->host, p);
}

/* Frees the pool, which has no messages; if a domain above is being closed, that does. The last use. */
static void abandon(struct coir_pool *p)
{
    struct coir_domain *d = p->domain;
    bool held;

    pool_stop(p, POOL_CLOSING | POOL_ENDING);
    held = domain_hold(d);
    pool_leave(p);
    while (held && domain_close_held(d, -1, NULL) != COIR_OK) /* workers end: it is a matter of time */
        coir_yield();
}

/* Of a pool whose domain is open. */
static int start(struct coir_pool *p)
{
    int status;

    show(p);
    if (p->retry.quarantine)
        quarantine_use(p->retry.quarantine, 1);
    status = start_workers(p);
    return status == COIR_OK && domain_is_closing(p->domain) ? COIR_ESHUTDOWN : status;
}

static int open_pool(struct coir_runtime *rt, const coir_pool_options *o, coir_pool **pool)
{
    struct coir_pool *p = make(rt, o);
    coir_domain_options domain = {.size = sizeof domain};
    int status;

    if (!p)
        return COIR_ENOMEM;
    domain.name = p->name;
    status = domain_open_with(rt, o->parent, &domain, dispose, p, &p->domain);
    if (status != COIR_OK) {
        mem_free(&rt->host, p);
        return status;
    }
    status = start(p);
    if (status != COIR_OK) {
        abandon(p);
        return status;
    }
    *pool = p;
    pool_leave(p);
    return COIR_OK;
}

int coir_pool_open(coir_runtime *rt, const coir_pool_options *options, coir_pool **pool)
{
    coir_pool_options o;
    bool visiting;
    int status;

    if (!pool)
        return COIR_EINVAL;
    *pool = NULL;
    status = rt ? copy_options(options, &o) : COIR_EINVAL;
    if (status == COIR_OK && o.parent && o.parent->rt != rt)
        status = COIR_EINVAL;
    if (status == COIR_OK && runtime_forked(rt))
        status = COIR_EFORKED;
    if (status == COIR_OK)
        status = check_options(rt, &o);
    if (status != COIR_OK)
        return status;
    visiting = runtime_visit(rt); /* as coir_domain_open */
    status = open_pool(rt, &o, pool);
    runtime_leave(rt, visiting);
    return status;
}

coir_domain *coir_pool_domain(coir_pool *pool)
{
    return pool ? pool->domain : NULL;
}

int coir_quarantine_open(coir_runtime *rt, const coir_quarantine_options *options, coir_quarantine **q)
{
    if (!q)
        return COIR_EINVAL;
    *q = NULL;
    if (!rt)
        return COIR_EINVAL;
    return runtime_forked(rt) ? COIR_EFORKED : quarantine_open(&rt->host, options, q);
}

/* ------------------------------------------------------------------------------------- close */

/* Whether the pool is empty. If not, w waits for that; it may be NULL. */
static bool empty_or_append(struct coir_pool *p, struct waiter *w)
{
    uint64_t word = word_lock(&p->state);
    bool empty = !p->in_pool;

    if (!empty && w)
        waitq_append(&p->closers, w);
    word_unlock(&p->state, word);
    return empty;
}

/* Waits until the pool is empty; if it is, no stack is needed. COIR_OK, COIR_ETIMEDOUT, COIR_ECANCELED,
 * COIR_ENOMEM. */
static int await_empty(struct coir_pool *p, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s};
    uint64_t word;
    int status;

    if (empty_or_append(p, NULL))
        return COIR_OK;
    status = sleeper_begin(&s, "pool to drain", p);
    if (status != COIR_OK)
        return status;
    if (empty_or_append(p, &w)) {
        sleeper_abandon(&s);
        return COIR_OK;
    }
    status = sleeper_sleep(&s, deadline);
    if (status == COIR_OK)
        return COIR_OK;
    word = word_lock(&p->state);
    waitq_remove(&p->closers, &w);
    word_unlock(&p->state, word);
    return status;
}

static int unfinished(struct coir_pool *p, coir_pool_receipt *receipt, int status)
{
    read_figures(p, &receipt->pool);
    p->receipt = NULL;
    domain_let_go(p->domain);
    return status;
}

/* Those of an empty pool end at once, whatever is left of the budget, where the processors are not others'. COIR_OK, or
 * why they have not. */
static int await_workers(struct coir_pool *p)
{
    int64_t limit = time_after(coir_now(), WORKERS_END_NS);
    int status = COIR_OK;

    for (unsigned i = 0; i < p->workers && status >= 0; i++)
        status = coir_wait_until(as_counter(&p->worker[i].job), limit);
    return status < 0 ? status : COIR_OK;
}

/* What there is still of a budget, for domain_close_held. */
static int64_t left_until(int64_t deadline)
{
    int64_t now = coir_now();

    if (deadline == COIR_NEVER)
        return -1;
    return now < deadline ? deadline - now : 0;
}

/* What is handled past the budget, or what a handler has spawned and not waited for, is told to stop by the domain's
 * close. Another close finds the pool as this one has left it, and goes on with the domain. */
static int close_held(struct coir_pool *p, int64_t deadline, coir_pool_receipt *receipt)
{
    int status;

    pool_stop(p, POOL_CLOSING);
    status = await_empty(p, deadline);
    if (status == COIR_ENOMEM)
        return unfinished(p, receipt, status);
    pool_stop(p, POOL_ENDING);
    if (status == COIR_OK)
        status = await_workers(p);
    p->receipt = receipt;
    status = domain_close_held(p->domain, status == COIR_ECANCELED ? 0 : left_until(deadline), &receipt->domain);
    return status == COIR_OK ? status : unfinished(p, receipt, status);
}

int coir_pool_close(coir_pool *pool, int64_t drain_ns, coir_pool_receipt *receipt)
{
    int64_t deadline = drain_ns < 0 ? COIR_NEVER : time_after(coir_now(), drain_ns);
    coir_pool_receipt own;
    bool held;

    if (!pool)
        return COIR_EINVAL;
    if (runtime_forked(pool->rt))
        return COIR_EFORKED;
    if (domain_holds_caller(pool->domain))
        return COIR_EDEADLK;
    pool_visit(pool);
    held = domain_hold(pool->domain);
    pool_leave(pool);
    if (!held)
        return COIR_EBUSY;
    receipt = receipt ? receipt : &own;
    memset(receipt, 0, sizeof *receipt);
    return close_held(pool, deadline, receipt);
}
