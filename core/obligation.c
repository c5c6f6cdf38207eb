/* SPDX-License-Identifier: MIT */
/*
 * obligation.c - what has been taken in a domain and must be discharged, with the place that took it.
 *
 * A domain keeps its obligations in slots, in chunks that double, until it is freed. A handle is a slot's
 * index and its generation. So a second discharge, one after a leak, and one of a copy are all told
 * from the first, whatever the slot holds by then.
 *
 * Why not memory of the caller's: an obligation in a local variable would be gone before the boundary
 * learns that a panic has left it behind.
 *
 * Invariants (all under the domain's lock)
 *   O1  A slot is in exactly one list: unused, unbound, or of the one job of the domain it is bound to.
 *   O2  A generation is odd while the slot is open.
 */
#include "obligation.h"

#include <stdio.h>

#include "hostcall.h"
#include "report.h"
#include "spawn.h"

#define FIRST_CHUNK 32u
#define LINES_PER_SECOND 10

struct obligation {
    struct obligation *next, *prev;
    struct job *job;         /* it is bound to; NULL: none */
    uint32_t index;
    uint32_t generation;
    const char *what, *file;
    int line;
    uint64_t taker;          /* id of the job that took it; 0: none */
};

/* --------------------------------------------------------------------------------- slots */

/* Chunk k holds the indices from FIRST_CHUNK * (2^k - 1). */
static unsigned chunk_of(uint32_t index)
{
    return 31u - (unsigned)__builtin_clz(index / FIRST_CHUNK + 1);
}

static uint32_t chunk_first(unsigned k)
{
    return FIRST_CHUNK * ((1u << k) - 1);
}

/* Lock held. NULL: the handle is none of this domain's, or no longer. */
static struct obligation *find(struct coir_domain *d, uint64_t id)
{
    struct obligations *all = &d->obligations;
    uint32_t index = (uint32_t)id, generation = (uint32_t)(id >> 32);
    struct obligation *o;

    if (index >= all->made)
        return NULL;
    o = &all->chunk[chunk_of(index)][index - chunk_first(chunk_of(index))];
    return o->generation == generation && generation % 2 ? o : NULL; /* O2 */
}

static struct obligation **list_of(struct obligation *o, struct coir_domain *d)
{
    return o->job ? &o->job->obligations : &d->obligations.unbound;
}

static void put(struct obligation **list, struct obligation *o)
{
    o->prev = NULL;
    o->next = *list;
    if (o->next)
        o->next->prev = o;
    *list = o;
}

static void take_out(struct obligation **list, struct obligation *o)
{
    if (o->prev)
        o->prev->next = o->next;
    else
        *list = o->next;
    if (o->next)
        o->next->prev = o->prev;
}

/* Lock held. Binds it to a job, or to none. */
static void bind(struct coir_domain *d, struct obligation *o, struct job *j)
{
    take_out(list_of(o, d), o);
    o->job = j;
    if (j)
        j->obliged = true; /* the caller's own */
    put(list_of(o, d), o);
}

/* Lock held. Its generation ends. */
static void retire(struct coir_domain *d, struct obligation *o)
{
    take_out(list_of(o, d), o);
    o->generation++;
    put(&d->obligations.unused, o);
    d->books.held--;
}

/* Lock held; dropped for the allocation. False: no memory. */
static bool grow(struct coir_domain *d)
{
    struct obligations *all = &d->obligations;
    unsigned k = chunk_of(all->made);
    struct obligation *chunk;

    lock_drop(&d->lock);
    chunk = k < OBLIGATION_CHUNKS
                ? mem_alloc(&d->rt->host, ((size_t)FIRST_CHUNK << k) * sizeof *chunk)
                : NULL;
    lock_take(&d->lock);
    if (chunk && all->chunk[k]) { /* somebody else has grown it meanwhile */
        mem_free(&d->rt->host, chunk);
        return true;
    }
    if (!chunk)
        return all->unused != NULL;
    all->chunk[k] = chunk;
    for (uint32_t i = FIRST_CHUNK << k; i-- > 0;) {
        chunk[i].index = chunk_first(k) + i;
        put(&all->unused, &chunk[i]);
    }
    all->made += FIRST_CHUNK << k;
    return true;
}

/* --------------------------------------------------------------------------------- leaks */

/* Lock held. A storm of leaks must not become a storm of lines. */
static bool may_speak(struct coir_domain *d)
{
    struct obligations *all = &d->obligations;
    int64_t second = coir_now() / COIR_SEC;

    if (all->second != second) {
        all->second = second;
        all->said = 0;
    }
    return all->said++ < LINES_PER_SECOND;
}

/* A failure of nobody's job: it is kept under the place that took it. */
static void keep(struct coir_domain *d, const struct obligation *o, const char *why)
{
    struct worker *w = worker_here();
    coir_failure f;

    record_new(&f);
    f.kind = COIR_KIND_LEAK;
    f.outcome = COIR_FAILED;
    f.location = COIR_AT_OBLIGATION;
    f.job = o->taker;
    f.file = o->file;
    f.line = o->line;
    f.worker = w ? (int)w->index : -1;
    f.runtime = d->rt->number;
    snprintf(f.message, sizeof f.message, "\"%s\" not discharged before %s", o->what, why);
    report_keep(d->rt, &f, f.message, d->name);
}

/* Reports and retires the first of a list; false: there is none. */
static bool leak_first(struct coir_domain *d, struct obligation **list, const char *why)
{
    struct obligation *o, was;
    bool speak;

    lock_take(&d->lock);
    o = *list;
    if (!o) {
        lock_drop(&d->lock);
        return false;
    }
    was = *o;
    retire(d, o);
    d->books.leaked++;
    speak = may_speak(d);
    lock_drop(&d->lock);
    if (speak)
        host_log(&d->rt->host, COIR_LOG_ERROR,
                 "obligation \"%s\" leaked: taken at %s:%d by job %llu of domain %s, not discharged "
                 "before %s",
                 was.what, was.file, was.line, (unsigned long long)was.taker, d->name, why);
    keep(d, &was, why);
    hostcall_obligation_leaked(d->rt, was.what);
    return true;
}

void obligation_leak_job(struct job *j)
{
    while (leak_first(j->scope->domain, &j->obligations, "its job ended"))
        ;
}

void obligation_leak_domain(struct coir_domain *d)
{
    while (leak_first(d, &d->obligations.unbound, "the domain closed"))
        ;
}

void obligation_free_slots(struct coir_domain *d)
{
    for (unsigned k = 0; k < OBLIGATION_CHUNKS; k++)
        mem_free(&d->rt->host, d->obligations.chunk[k]);
}

/* -------------------------------------------------------------------------------- public part */

/* The calling job if it is one of d itself. */
static struct job *job_in(const struct coir_domain *d)
{
    struct job *j = *job_slot();

    j = j ? job_proper(j) : NULL;
    return j && j->scope && j->scope->domain == d ? j : NULL;
}

/* As a visitor or a job of d. */
static int take(struct coir_domain *d, const struct obligation *made, uint64_t *id)
{
    struct obligation *o;

    lock_take(&d->lock);
    while (!d->obligations.unused)
        if (!grow(d)) {
            lock_drop(&d->lock);
            return COIR_ENOMEM;
        }
    o = d->obligations.unused;
    take_out(&d->obligations.unused, o);
    o->generation++;
    o->what = made->what;
    o->file = made->file;
    o->line = made->line;
    o->taker = made->taker;
    o->job = made->job;
    if (o->job)
        o->job->obliged = true; /* the caller's own */
    put(list_of(o, d), o);
    d->books.taken++;
    d->books.held++;
    *id = (uint64_t)o->generation << 32 | o->index;
    lock_drop(&d->lock);
    hostcall_obligation_taken(d->rt, made->what);
    return COIR_OK;
}

int coir_obligation_take_at(coir_domain *domain, const char *what, const char *file, int line,
                            coir_obligation *obligation)
{
    struct coir_domain *d = domain ? domain : coir_domain_current();
    struct obligation made = {.what = what, .file = file ? file : "?", .line = line};
    int status = COIR_ESHUTDOWN;

    if (!what || !obligation)
        return COIR_EINVAL;
    *obligation = (coir_obligation){NULL, 0};
    if (!d)
        return status_outside();
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    made.job = job_in(d);
    made.taker = coir_job_id();
    domain_visit(d);
    if (made.job || !domain_is_closing(d))
        status = take(d, &made, &obligation->id);
    domain_leave(d);
    if (status == COIR_OK)
        obligation->domain = d;
    return status;
}

/* What is to become of an obligation. */
enum fate { FATE_DISCHARGED, FATE_DETACHED, FATE_ADOPTED };

static int settle(coir_obligation obligation, enum fate fate)
{
    struct coir_domain *d = obligation.domain;
    const char *what;
    struct job *j;
    struct obligation *o;

    if (!d)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    j = fate == FATE_ADOPTED ? job_in(d) : NULL;
    if (fate == FATE_ADOPTED && !j)
        return COIR_EPERM;
    domain_visit(d);
    lock_take(&d->lock);
    o = find(d, obligation.id);
    what = o ? o->what : NULL; /* another may have the slot soon */
    if (o && fate == FATE_DISCHARGED)
        retire(d, o);
    else if (o)
        bind(d, o, j);
    lock_drop(&d->lock);
    if (o && fate == FATE_DISCHARGED)
        hostcall_obligation_discharged(d->rt, what);
    domain_leave(d);
    return o ? COIR_OK : COIR_ENOENT;
}

int coir_obligation_discharge(coir_obligation obligation)
{
    return settle(obligation, FATE_DISCHARGED);
}

int coir_obligation_detach(coir_obligation obligation)
{
    return settle(obligation, FATE_DETACHED);
}

int coir_obligation_adopt(coir_obligation obligation)
{
    return settle(obligation, FATE_ADOPTED);
}
