/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c - inputs that break their jobs, remembered in a small table that outlives the process.
 *
 *   EMPTY --attempt--> TRACKED --strikes_max panics--> QUARANTINED --until--> PROBING
 *     ^                   |                                 ^                  |   |
 *     |                   |                                 +--- panic: x 2 ---+   |
 *     +------ done -------+------------------------- done -------------------------+
 *
 * An attempt is noted before it is made: in_flight. What the next process finds in flight was being
 * handled when this one died, and that counts as a strike, or as a failed probe. So an input that takes
 * the process with it is quarantined like any other. Who was beside it is struck as well, but only the
 * guilty one is there each time, and the others' first success clears them. A probe is one while its slot says
 * PROBING: after a release it is an attempt like others.
 *
 * A key lives in a window of WINDOW slots from where its hash points: no chains and no tombstones, so
 * no damaged slot hides another. In a full window the one idle longest makes room: first the tracked,
 * then those whose time to be probed has come.
 */
#include "quarantine.h"

#include <string.h>

#include "life.h"
#include "quarantine_file.h"

#ifndef WINDOW /* tests/explore has a smaller one */
#define WINDOW 16
#endif
#define SLOTS_DEFAULT 1024
#define STRIKES_DEFAULT 3
#define EXPIRY_DEFAULT_NS (3600 * COIR_SEC)

struct coir_quarantine {
    struct host host;
    unsigned strikes_max;
    int64_t expiry_ns;
    uint32_t born;        /* life.h */

    struct lock lock;     /* guards all below */
    struct table table;
    uint64_t crowded, crashes, probes;
    unsigned users;       /* pools that have it */
};

/* -------------------------------------------------------------------------------- the window */

/* Spreads keys over the table. */
static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t place_of(const struct coir_quarantine *q, uint64_t type, uint64_t key, unsigned step)
{
    return (mix(mix(0, type), key) + step) % q->table.slots;
}

/* How willingly a slot is given away: less is more; UINT64_MAX: not at all. */
static uint64_t reluctance(const struct entry *e, int64_t now)
{
    const uint64_t age = (uint64_t)1 << 62;

    if (e->state == SLOT_EMPTY)
        return 0;
    if (e->in_flight || e->state == SLOT_PROBING || (e->state == SLOT_QUARANTINED && now < e->until))
        return UINT64_MAX;
    return (e->state == SLOT_TRACKED ? 1 : age) + (uint64_t)e->last % (age - 1);
}

/* The slot of this input; UINT64_MAX: none, and with `make` none to be had. Lock held. */
static uint64_t find(struct coir_quarantine *q, uint64_t type, uint64_t key, bool make, int64_t now,
                     struct entry *e)
{
    uint64_t least = UINT64_MAX, best = UINT64_MAX, generation = 0;

    for (unsigned step = 0; step < WINDOW; step++) {
        uint64_t i = place_of(q, type, key, step);

        table_read(&q->table, i, e);
        if (e->state != SLOT_EMPTY && e->type == type && e->key == key)
            return i;
        if (reluctance(e, now) < least) {
            least = reluctance(e, now);
            best = i;
            generation = e->generation;
        }
    }
    *e = (struct entry){.generation = generation, .type = type, .key = key, .state = SLOT_TRACKED};
    return make ? best : UINT64_MAX;
}

/* --------------------------------------------------------------------------------- attempts */

static int64_t expiry(const struct coir_quarantine *q, const struct entry *e)
{
    return q->expiry_ns << e->level;
}

/* Whether it may be probed. A clock that was set back does not lock it up for longer than it asked. */
static bool is_due(const struct coir_quarantine *q, const struct entry *e, int64_t now)
{
    return now >= e->until || e->until - now > expiry(q, e);
}

static void shut_away(struct coir_quarantine *q, struct entry *e, int64_t now)
{
    e->state = SLOT_QUARANTINED;
    e->until = now + expiry(q, e);
}

/* It has broken its job. */
static void strike(struct coir_quarantine *q, struct entry *e, bool probe, int64_t now)
{
    if (e->state == SLOT_TRACKED && now - e->last > q->expiry_ns)
        e->strikes = 0; /* too long ago to belong together */
    e->strikes += e->strikes < UINT32_MAX;
    e->last = now;
    if (probe) {
        e->level = (uint8_t)(e->level + (e->level < ENTRY_LEVEL_MAX));
        shut_away(q, e, now);
    } else if (e->state == SLOT_TRACKED && e->strikes >= q->strikes_max) {
        shut_away(q, e, now);
    }
}

enum admission quarantine_admit(coir_quarantine *q, uint64_t type, uint64_t key, int64_t now)
{
    enum admission admission = ADMIT_PASS;
    struct entry e;
    uint64_t i;

    lock_take(&q->lock);
    i = find(q, type, key, true, now, &e);
    if (i == UINT64_MAX) {
        q->crowded++;
    } else if (e.state == SLOT_PROBING || (e.state == SLOT_QUARANTINED && !is_due(q, &e, now))) {
        admission = ADMIT_REFUSED;
    } else {
        if (e.state == SLOT_QUARANTINED) {
            e.state = SLOT_PROBING;
            admission = ADMIT_PROBE;
            q->probes++;
        }
        if (!e.strikes)
            e.last = now;
        e.in_flight = (uint16_t)(e.in_flight + (e.in_flight < UINT16_MAX));
        table_write(&q->table, i, &e);
    }
    lock_drop(&q->lock);
    return admission;
}

/* What the end of an attempt makes of the entry. */
static void settle(struct coir_quarantine *q, struct entry *e, bool probe, int outcome,
                   const coir_failure *f, int64_t now)
{
    e->in_flight = (uint16_t)(e->in_flight - (e->in_flight > 0));
    if (outcome == COIR_PANICKED) {
        e->code = f->code;
        e->line = f->line < 0 ? 0 : (uint32_t)f->line;
        e->kind = (uint8_t)f->kind;
        strike(q, e, probe, now);
    } else if (probe && outcome == COIR_DONE) {
        e->state = SLOT_TRACKED;
        e->strikes = 0;
    } else if (probe) {
        shut_away(q, e, now); /* it failed for other reasons: nothing is proved */
    } else if (e->state == SLOT_TRACKED && outcome == COIR_DONE) {
        e->strikes = 0;
    }
}

bool quarantine_settle(coir_quarantine *q, uint64_t type, uint64_t key, enum admission how_admitted,
                       int outcome, const coir_failure *failure, int64_t now)
{
    bool quarantined = false;
    struct entry e;
    uint64_t i;

    lock_take(&q->lock);
    i = find(q, type, key, outcome == COIR_PANICKED, now, &e); /* lost if it was crowded out, or torn */
    if (i != UINT64_MAX) {
        bool probe = how_admitted == ADMIT_PROBE && e.state == SLOT_PROBING; /* and not released meanwhile */

        settle(q, &e, probe, outcome, failure, now);
        quarantined = e.state != SLOT_TRACKED;
        if (quarantined || e.strikes || e.in_flight)
            table_write(&q->table, i, &e);
        else
            table_clear(&q->table, i, e.generation);
    }
    lock_drop(&q->lock);
    return quarantined;
}

void quarantine_use(coir_quarantine *q, int by)
{
    lock_take(&q->lock);
    q->users += (unsigned)by;
    lock_drop(&q->lock);
}

int64_t quarantine_now(void)
{
    struct timespec ts;

    if (UNLIKELY(thread_clock != NULL))
        return coir_now(); /* an experiment's: nothing in it may depend on when it is made */
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

/* ------------------------------------------------------------------------------ open and close */

/* What an earlier process left: torn slots are emptied, attempts in flight have broken it. */
static void recover(struct coir_quarantine *q, int64_t now)
{
    struct entry e;

    for (uint64_t i = 0; i < q->table.slots; i++) {
        table_read(&q->table, i, &e);
        if (e.state == SLOT_EMPTY || (!e.in_flight && e.state != SLOT_PROBING))
            continue;
        q->crashes++;
        e.in_flight = 0;
        e.code = 0;
        e.line = 0;
        e.kind = COIR_KIND_FAULT;
        strike(q, &e, e.state == SLOT_PROBING, now);
        table_write(&q->table, i, &e);
    }
}

static int copy_options(const coir_quarantine_options *given, coir_quarantine_options *o)
{
    const char *bytes = (const char *)given;

    memset(o, 0, sizeof *o);
    if (given && given->size < sizeof given->size)
        return COIR_EINVAL;
    for (size_t i = sizeof *o; given && i < given->size; i++)
        if (bytes[i])
            return COIR_EINVAL; /* asks for something this library does not know */
    if (given)
        memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    if (o->slots > TABLE_SLOTS_MAX || (o->slots && o->slots < TABLE_SLOTS_MIN) || o->expiry_ns < 0 ||
        o->expiry_ns > COIR_NEVER >> (ENTRY_LEVEL_MAX + 2))
        return COIR_ERANGE;
    return COIR_OK;
}

int quarantine_open(const struct host *host, const coir_quarantine_options *given, coir_quarantine **out)
{
    coir_quarantine_options o;
    struct coir_quarantine *q;
    int status = copy_options(given, &o);
    uint64_t wanted = o.slots ? o.slots : SLOTS_DEFAULT;

    if (status != COIR_OK)
        return status;
    q = mem_alloc(host, sizeof *q);
    if (!q)
        return COIR_ENOMEM;
    q->host = *host;
    q->born = life_begin();
    q->strikes_max = o.strikes_max ? o.strikes_max : STRIKES_DEFAULT;
    q->expiry_ns = o.expiry_ns ? o.expiry_ns : EXPIRY_DEFAULT_NS;
    status = table_open(&q->table, o.path, wanted);
    if (status != COIR_OK) {
        table_close(&q->table);
        mem_free(host, q);
        return status;
    }
    recover(q, quarantine_now());
    if (q->table.torn || q->crashes)
        host_log(host, COIR_LOG_WARNING, "quarantine: %llu slots were torn, %llu inputs in flight when it died",
                 (unsigned long long)q->table.torn, (unsigned long long)q->crashes);
    *out = q;
    return COIR_OK;
}

int coir_quarantine_close(coir_quarantine *q)
{
    struct host host;
    int status;
    bool busy;

    if (!q)
        return COIR_EINVAL;
    if (life_forked(q->born))
        return COIR_EFORKED;
    lock_take(&q->lock);
    busy = q->users > 0;
    lock_drop(&q->lock);
    if (busy)
        return COIR_EBUSY;
    status = table_close(&q->table);
    host = q->host;
    mem_free(&host, q);
    return status;
}

/* ------------------------------------------------------------------------------------ asking */

uint64_t coir_quarantine_type(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: the same in every process */

    for (; name && *name; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h;
}

static void describe(const struct entry *e, coir_quarantined *out)
{
    *out = (coir_quarantined){
        .type = e->type,
        .key = e->key,
        .until = e->state == SLOT_TRACKED ? 0 : e->until,
        .last = e->last,
        .strikes = e->strikes,
        .in_flight = e->in_flight,
        .quarantined = e->state != SLOT_TRACKED,
        .kind = e->kind,
        .code = e->code,
        .line = (int)e->line,
    };
}

int coir_quarantine_next(coir_quarantine *q, uint64_t *cursor, coir_quarantined *out)
{
    int status = COIR_ENOENT;
    struct entry e;

    if (!q || !cursor || !out)
        return COIR_EINVAL;
    if (life_forked(q->born))
        return COIR_EFORKED;
    lock_take(&q->lock);
    while (status == COIR_ENOENT && *cursor < q->table.slots) {
        table_read(&q->table, (*cursor)++, &e);
        if (e.state != SLOT_EMPTY && (e.strikes || e.state != SLOT_TRACKED)) {
            describe(&e, out);
            status = COIR_OK;
        }
    }
    lock_drop(&q->lock);
    return status;
}

int coir_quarantine_release(coir_quarantine *q, const char *type, uint64_t key)
{
    struct entry e;
    uint64_t i;

    if (!q || !type)
        return COIR_EINVAL;
    if (life_forked(q->born))
        return COIR_EFORKED;
    lock_take(&q->lock);
    i = find(q, coir_quarantine_type(type), key, false, 0, &e);
    if (i != UINT64_MAX && e.in_flight) {
        e.state = SLOT_TRACKED;
        e.strikes = 0;
        e.level = 0;
        table_write(&q->table, i, &e);
    } else if (i != UINT64_MAX) {
        table_clear(&q->table, i, e.generation);
    }
    lock_drop(&q->lock);
    return i == UINT64_MAX ? COIR_ENOENT : COIR_OK;
}

int coir_quarantine_stats_read(coir_quarantine *q, coir_quarantine_stats *stats)
{
    struct entry e;

    if (!q || !stats)
        return COIR_EINVAL;
    if (life_forked(q->born))
        return COIR_EFORKED;
    lock_take(&q->lock);
    *stats = (coir_quarantine_stats){.slots = q->table.slots};
    for (uint64_t i = 0; i < q->table.slots; i++) {
        table_read(&q->table, i, &e);
        stats->used += e.state != SLOT_EMPTY;
        stats->quarantined += e.state == SLOT_QUARANTINED || e.state == SLOT_PROBING;
    }
    stats->torn = q->table.torn;
    stats->crowded = q->crowded;
    stats->crashes = q->crashes;
    stats->probes = q->probes;
    lock_drop(&q->lock);
    return COIR_OK;
}
