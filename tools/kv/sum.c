/* SPDX-License-Identifier: MIT */
/*
 * sum.c - SUM pattern: the sum of all values whose keys match, worked out by a pool.
 *
 * A walk over all keys is too much to do in the job of a connection, and too many at once would leave no
 * processor to the others. So a request becomes a message to a pool, which handles SUMS_AT_ONCE, lets some
 * wait, and refuses the rest; its handler fans out over PARTS jobs. A sum that breaks is tried once
 * more, since it changes nothing; a pattern that breaks it each time is quarantined for a while.
 *
 * The message lies in the frame of whoever asks, who waits for it in every case. The request's deadline ends a
 * sum that is not done, as does a cancel of the request.
 */
#include "kv.h"

#include <inttypes.h>

#define SUMS_AT_ONCE 2
#define SUMS_MAX 16 /* those that wait included */
#define PARTS 8
#define KEY_SHOWN 64
#define STEPS_MAX (1u << 16) /* to match a key, that is about a quarter of a millisecond */
#define HELD_MAX (1u << 14)  /* under one lock: the slot where it takes more is the last */
#define QUARANTINE (10 * COIR_SEC)

struct part {
    struct sum *sum;
    size_t first; /* of its shards, which are PARTS apart */
    size_t held;  /* steps since the shard was locked */
    __int128 total; /* that of all parts may be in range where this is not */
    const char *error; /* with its key; NULL: none */
    char key[KEY_SHOWN + 1];
    bool cut; /* it was not done in time */
};

struct sum {
    coir_message message; /* first: the handler goes back */
    struct bytes pattern;
    bool breaks;           /* DEBUG POISON */
    _Atomic bool given_up; /* nobody wants to know any more */
    struct part part[PARTS];
};

static coir_quarantine *quarantine;

/* ----------------------------------------------------------------------------------- one part */

/* '*' stands for any bytes, '?' for one, '\' for what follows it. False with no steps left: it is not known. */
static bool matches(struct bytes pattern, struct bytes text, size_t *steps)
{
    size_t p = 0, t = 0, star = SIZE_MAX, resume = 0;

    while (t < text.length) {
        if ((*steps)-- == 1)
            return false;
        size_t literal = p + (p + 1 < pattern.length && pattern.data[p] == '\\');

        if (p < pattern.length && pattern.data[p] == '*') {
            star = p++;
            resume = t;
        } else if (p < pattern.length &&
                   (pattern.data[p] == '?' || pattern.data[literal] == text.data[t])) {
            p = literal + 1;
            t++;
        } else if (star != SIZE_MAX) { /* the last star takes one byte more */
            p = star + 1;
            t = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.length && pattern.data[p] == '*')
        p++;
    return p == pattern.length;
}

/* The shard is locked: so a pattern made to take for ever must not, nor keys that take long each be many. */
static bool add(void *arg, struct bytes key, struct bytes value)
{
    struct part *p = arg;
    size_t most = STEPS_MAX + 2 * key.length, steps = most; /* whatever the key, each byte may be met */
    int64_t n = 0;
    bool meant;

    if (p->error)
        return false;
    meant = matches(p->sum->pattern, key, &steps);
    if (!steps)
        p->error = "the pattern takes too long to match";
    else if (meant && !bytes_integer(value, &n))
        p->error = "value is not an integer";
    p->total += n; /* fewer than 2^64 of them: in range */
    if (p->error)
        memcpy(p->key, key.data, key.length < KEY_SHOWN ? key.length : KEY_SHOWN);
    p->held += most - steps;
    return p->held < HELD_MAX;
}

static bool goes_on(struct part *p)
{
    p->cut = coir_checkpoint() != COIR_OK || coir_now() >= p->sum->message.deadline ||
             atomic_load_explicit(&p->sum->given_up, memory_order_relaxed); /* a hint */
    return !p->cut && !p->error;
}

/* To requests that are quick. Those that have yet to arrive a worker sees when it has nothing to do, or after some
 * dozens of turns: if these are long, a yield does not do. */
static void give_way(const struct part *p)
{
    if (p->held < HELD_MAX)
        coir_yield();
    else
        (void)coir_sleep_until(coir_now() + COIR_US); /* canceled: goes_on sees it */
}

static void sum_part(void *arg)
{
    struct part *p = arg;

    coir_job_name("sum");
    coir_require(p->first || !p->sum->breaks, "DEBUG POISON asked for by a client");
    for (size_t shard = p->first; shard < STORE_SHARDS; shard += PARTS) {
        struct store_walk walk = {.shard = shard};
        bool more = true;

        while (more) {
            if (!goes_on(p))
                return;
            p->held = 0;
            more = store_step(&walk, add, p);
            give_way(p);
        }
    }
}

/* ---------------------------------------------------------------------------------- the pool */

static void sum_up(coir_message *message)
{
    struct sum *s = (struct sum *)message;
    coir_counter parts = COIR_COUNTER_INIT;
    coir_failure failure;
    int outcome;

    for (size_t i = 0; i < PARTS; i++) /* this may be the second attempt */
        s->part[i] = (struct part){.sum = s, .first = i};
    if (coir_spawn_many(&parts, sum_part, s->part, sizeof s->part[0], PARTS) != COIR_OK) {
        coir_fail(COIR_EAGAIN, "no room for its jobs");
        return;
    }
    while ((outcome = coir_wait(&parts)) < COIR_DONE)
        ; /* canceled, and so are the parts: they end */
    if (outcome == COIR_PANICKED && coir_counter_failure(&parts, &failure) == COIR_OK)
        coir_panic("%s", failure.message); /* so that it counts against the pattern */
}

/* Who asked is told by its counter. */
static void bury(coir_message *message)
{
    (void)message;
    figure_add(&server.sums_dead, 1);
}

int sums_open(coir_runtime *runtime)
{
    coir_quarantine_options q = {.size = sizeof q, .expiry_ns = QUARANTINE};
    coir_pool_options o = {.size = sizeof o,
                           .name = "sums",
                           .handle = sum_up,
                           .dead = bury,
                           .workers = SUMS_AT_ONCE,
                           .queue_max = SUMS_MAX,
                           .attempts_max = 2};
    int status = quarantine ? COIR_OK : coir_quarantine_open(runtime, &q, &quarantine);

    o.quarantine = quarantine;
    return status == COIR_OK && !server.sums ? coir_pool_open(runtime, &o, &server.sums) : status;
}

int sums_close(void)
{
    int status = coir_pool_close(server.sums, 0, NULL);

    return status == COIR_OK ? coir_quarantine_close(quarantine) : status;
}

/* --------------------------------------------------------------------------------- a request */

/* FNV-1a. */
static uint64_t name_of(struct bytes pattern)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < pattern.length; i++)
        hash = (hash ^ (uint8_t)pattern.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The message has to end before its frame goes. */
static int await(struct sum *s)
{
    int outcome;

    while ((outcome = coir_wait(s->message.counter)) < COIR_DONE) {
        atomic_store_explicit(&s->given_up, true, memory_order_relaxed); /* canceled: it ends soon */
        coir_yield();
    }
    return outcome;
}

static const char *reply_sum(struct client *c, const struct sum *s)
{
    __int128 total = 0;

    for (const struct part *p = s->part; p < s->part + PARTS; p++) {
        if (p->cut)
            return client_late(c);
        if (p->error) {
            reply_error(&c->out, "ERR %s: key '%s'", p->error, p->key);
            return NULL;
        }
        total += p->total;
    }
    if (total < INT64_MIN || total > INT64_MAX)
        return "the sum is out of range";
    reply_number(&c->out, ':', (int64_t)total);
    return NULL;
}

static const char *reply_failure(struct client *c, const coir_message *m)
{
    reply_error(&c->out, "ERR internal: %s: %s (%" PRIu32 " attempts)", coir_kind_name(m->failure.kind),
                m->failure.message, m->attempts);
    return NULL;
}

static const char *sum(struct client *c, struct bytes pattern, bool breaks)
{
    coir_counter ended = COIR_COUNTER_INIT;
    struct sum s = {.pattern = pattern, .breaks = breaks};
    int status;

    s.message.key = name_of(pattern);
    s.message.deadline = client_deadline(c);
    s.message.counter = &ended;
    status = coir_pool_submit(server.sums, &s.message);
    if (status == COIR_EAGAIN)
        return "too many sums at once; try again later";
    if (status != COIR_OK)
        return coir_status_text(status);
    switch (await(&s)) {
    case COIR_DONE: return reply_sum(c, &s);
    case COIR_EXPIRED: return client_late(c);
    case COIR_CANCELED:
        return s.message.end == COIR_MESSAGE_QUARANTINED
                   ? "this pattern has broken too often, and is quarantined"
                   : "canceled";
    default: return reply_failure(c, &s.message);
    }
}

const char *sum_command(struct client *c)
{
    return sum(c, request_argument(&c->request, 1), false);
}

const char *sum_broken(struct client *c, struct bytes pattern)
{
    return sum(c, pattern, true);
}
