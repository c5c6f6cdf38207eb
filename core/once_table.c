/* SPDX-License-Identifier: MIT */
/*
 * once_table.c - calls that are made once for each key, for the last keys_max keys.
 *
 * Memory is bounded and taken at open: a table of hash chains over keys_max cells. All cells are in one
 * list, the one used longest ago first; a new key takes over the first that is not being called. So what
 * is forgotten is what nobody has asked for longest.
 *
 *   FREE --a caller comes--> CALLING --returned--> KNOWN --taken over--> CALLING
 *     ^                         |
 *     +--- failed, panicked ----+   who waits is told to try again: one of them calls
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   K1  A cell is in the chain of its key iff it is CALLING or KNOWN.
 *   K2  A cell that is CALLING stays what it is until its caller has ended; only there do callers wait.
 *
 * Orderings
 *   WORD, TAKEN   the end of a call -> the return of each that gets its result.
 */
#include "boundary.h"
#include "waitq.h"

#define KEYS_MAX (UINT64_C(1) << 24)

enum cell_state { CELL_FREE, CELL_CALLING, CELL_KNOWN };

struct cell {
    struct cell *older, *newer; /* by use */
    struct cell *chain;         /* next of the same hash */
    uint64_t key;
    int64_t result;             /* KNOWN */
    const void *who;            /* CALLING: the identity of the caller */
    struct waitq queue;         /* CALLING */
    enum cell_state state;
};

struct coir_once_table {
    const struct host *host;
    uint32_t born;              /* life.h */
    uint64_t mask;              /* of the hash; chains are a power of two */
    _Atomic uint64_t state;     /* WORD_LOCK: guards all below */
    uint64_t calling;           /* cells that are CALLING */
    uint64_t inside;            /* calls of users that have not returned */
    struct cell *oldest, *newest;
    struct cell **chain;
    struct cell cell[];
};

/* What a look at the table has found. */
enum look { LOOK_KNOWN, LOOK_MINE, LOOK_ANOTHERS, LOOK_FULL };

/* ------------------------------------------------------------------------------- lock held */

static struct cell **chain_of(struct coir_once_table *t, uint64_t key)
{
    key = (key ^ key >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return &t->chain[(key >> 32) & t->mask];
}

static struct cell *find(struct coir_once_table *t, uint64_t key)
{
    struct cell *c = *chain_of(t, key);

    while (c && c->key != key)
        c = c->chain;
    return c;
}

static void unchain(struct coir_once_table *t, struct cell *c)
{
    struct cell **at = chain_of(t, c->key);

    while (*at != c)
        at = &(*at)->chain;
    *at = c->chain;
}

static void unlist(struct coir_once_table *t, struct cell *c)
{
    *(c->older ? &c->older->newer : &t->oldest) = c->newer;
    *(c->newer ? &c->newer->older : &t->newest) = c->older;
}

static void list_newest(struct coir_once_table *t, struct cell *c)
{
    c->newer = NULL;
    c->older = t->newest;
    *(c->older ? &c->older->newer : &t->oldest) = c;
    t->newest = c;
}

static void list_oldest(struct coir_once_table *t, struct cell *c)
{
    c->older = NULL;
    c->newer = t->oldest;
    *(c->newer ? &c->newer->older : &t->newest) = c;
    t->oldest = c;
}

/* The cell used longest ago becomes the key's. NULL: all are being called. */
static struct cell *claim(struct coir_once_table *t, uint64_t key)
{
    struct cell *c = t->oldest, **chain = chain_of(t, key);

    while (c && c->state == CELL_CALLING)
        c = c->newer;
    if (!c)
        return NULL;
    if (c->state == CELL_KNOWN)
        unchain(t, c);
    c->key = key;
    c->chain = *chain;
    *chain = c;
    c->state = CELL_CALLING;
    c->who = job_holder().who;
    t->calling++;
    unlist(t, c);
    list_newest(t, c);
    return c;
}

static enum look look(struct coir_once_table *t, uint64_t key, struct cell **found)
{
    struct cell *c = find(t, key);

    *found = c;
    if (c && c->state == CELL_CALLING)
        return LOOK_ANOTHERS;
    if (!c)
        return (*found = claim(t, key)) ? LOOK_MINE : LOOK_FULL;
    unlist(t, c);
    list_newest(t, c);
    return LOOK_KNOWN;
}

/* ---------------------------------------------------------------------------------- the call */

struct call {
    coir_result_fn *fn;
    void *arg;
    int64_t result;
};

static void run(void *arg)
{
    struct call *c = arg;

    c->result = c->fn(c->arg);
}

/* The cell is the caller's. */
static int call(struct coir_once_table *t, struct cell *c, struct call *what)
{
    int outcome = job_try(run, what, NULL);
    struct waiter *all;
    uint64_t word = word_lock(&t->state);

    t->calling--;
    all = waitq_take_all(&c->queue, outcome == COIR_DONE ? COIR_OK : COIR_EAGAIN);
    for (struct waiter *w = all; w; w = w->next)
        *(int64_t *)w->item = what->result;
    c->result = what->result;
    c->state = CELL_KNOWN;
    if (outcome != COIR_DONE) {
        unchain(t, c);
        unlist(t, c);
        list_oldest(t, c);
        c->state = CELL_FREE;
    }
    word_unlock(&t->state, word);
    waiter_wake_all(all);
    return outcome;
}

/* Another calls, or did a moment ago. COIR_OK: *result is set; COIR_EAGAIN: look again. */
static int wait_for(struct coir_once_table *t, uint64_t key, int64_t *result, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s, .item = result};
    int status = sleeper_begin(&s, "once table", t);
    struct cell *c;
    uint64_t word;
    bool calling;

    if (status != COIR_OK)
        return status;
    word = word_lock(&t->state);
    c = find(t, key);
    calling = c && c->state == CELL_CALLING;
    if (calling)
        waitq_append(&c->queue, &w);
    word_unlock(&t->state, word);
    if (!calling) {
        sleeper_abandon(&s);
        return COIR_EAGAIN;
    }
    status = sleeper_sleep(&s, deadline);
    if (status == COIR_OK)
        return w.status;
    word = word_lock(&t->state);
    waitq_remove(&c->queue, &w); /* it is still its queue: who ends the call takes all who are in it */
    word_unlock(&t->state, word);
    return status;
}

static bool waits_for_itself(const void *who)
{
    return who == job_holder().who || job_waits_below(who);
}

/* COIR_DONE and what->result; another outcome of an own call; a status. */
static int call_or_wait(struct coir_once_table *t, uint64_t key, struct call *what, int64_t deadline)
{
    int status;

    do {
        uint64_t word = word_lock(&t->state);
        struct cell *c;
        enum look found = look(t, key, &c);
        const void *who = found == LOOK_ANOTHERS ? c->who : NULL;

        if (found == LOOK_KNOWN)
            what->result = c->result;
        word_unlock(&t->state, word);
        if (found == LOOK_KNOWN)
            return COIR_DONE;
        if (found == LOOK_MINE)
            return call(t, c, what);
        if (found == LOOK_FULL)
            return COIR_EAGAIN;
        if (waits_for_itself(who))
            return COIR_EDEADLK;
        status = wait_for(t, key, &what->result, deadline);
    } while (status == COIR_EAGAIN);
    return status;
}

/* -------------------------------------------------------------------------------- public part */

static void count_inside(struct coir_once_table *t, int by)
{
    uint64_t word = word_lock(&t->state);

    t->inside += (uint64_t)(int64_t)by;
    word_unlock(&t->state, word);
}

int coir_once_table_call_until(coir_once_table *table, uint64_t key, coir_result_fn *fn, void *arg,
                               int64_t *result, int64_t deadline)
{
    struct call what = {fn, arg, 0};
    int status;

    if (!table || !fn)
        return COIR_EINVAL;
    if (life_forked(table->born))
        return COIR_EFORKED;
    if (runtime_here() && runtime_here()->options.panic == COIR_PANIC_ABORT)
        return COIR_EPOLICY;
    count_inside(table, 1);
    status = call_or_wait(table, key, &what, deadline);
    count_inside(table, -1);
    if (status == COIR_DONE && result)
        *result = what.result;
    return status;
}

int coir_once_table_call(coir_once_table *table, uint64_t key, coir_result_fn *fn, void *arg, int64_t *result)
{
    return coir_once_table_call_until(table, key, fn, arg, result, COIR_NEVER);
}

int coir_once_table_open(coir_runtime *rt, size_t keys_max, coir_once_table **table)
{
    struct coir_once_table *t;
    size_t chains = 1;

    if (!table)
        return COIR_EINVAL;
    *table = NULL;
    if (!rt)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!keys_max || keys_max > KEYS_MAX)
        return COIR_ERANGE;
    while (chains < keys_max)
        chains *= 2;
    t = mem_alloc(&rt->host, sizeof *t + keys_max * sizeof t->cell[0] + chains * sizeof t->chain[0]);
    if (!t)
        return COIR_ENOMEM;
    t->host = &rt->host;
    t->born = rt->born;
    t->mask = chains - 1;
    t->chain = (struct cell **)(void *)&t->cell[keys_max];
    for (size_t i = 0; i < keys_max; i++)
        list_newest(t, &t->cell[i]);
    *table = t;
    return COIR_OK;
}

int coir_once_table_close(coir_once_table *table)
{
    uint64_t word;
    bool busy;

    if (!table)
        return COIR_EINVAL;
    if (life_forked(table->born))
        return COIR_EFORKED;
    word = word_lock(&table->state);
    busy = table->inside > 0;
    word_unlock(&table->state, word);
    if (busy)
        return COIR_EBUSY;
    mem_free(table->host, table);
    return COIR_OK;
}
