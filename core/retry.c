/* SPDX-License-Identifier: MIT */
/*
 * retry.c - one attempt at a message: deadline, attempts left, circuit breaker, quarantine, the call in its
 * boundary, and what follows from how it ended.
 *
 * Knows nothing of queues and workers: what is to become of the message is returned, not done.
 *
 * The order of the questions matters. The breaker is asked before the quarantine, because what waits for
 * the breaker must not be noted as in flight; and if the quarantine refuses the breaker's probe, it is
 * recalled. An attempt counts from the moment it begins, so a handler that takes the process with it has
 * used one up as far as the quarantine knows.
 *
 * The backoff is drawn from the upper half of its range ("equal jitter"): full jitter spreads better, but may
 * retry at once, and what has just failed needs time.
 */
#include "retry.h"

#include "held.h"

/* ----------------------------------------------------------------------------------- backoff */

static uint64_t random_next(struct retry *r)
{
    uint64_t z = atomic_fetch_add_explicit(&r->random, UINT64_C(0x9e3779b97f4a7c15), /* any value will do */
                                           memory_order_relaxed);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

int64_t retry_backoff(struct retry *r, unsigned attempts)
{
    int64_t range = r->backoff_ns;

    for (unsigned i = 1; i < attempts && range < r->backoff_max_ns; i++)
        range = range > r->backoff_max_ns / 2 ? r->backoff_max_ns : 2 * range;
    if (range > r->backoff_max_ns)
        range = r->backoff_max_ns;
    return range / 2 + (int64_t)(random_next(r) % (uint64_t)(range - range / 2 + 1));
}

static int64_t later(int64_t now, int64_t ns)
{
    return ns > COIR_NEVER - now ? COIR_NEVER : now + ns;
}

/* ---------------------------------------------------------------------------------- the call */

/* For a boundary, which calls it with no frame of ours in between: what overflows its stack in a handler is
 * contained only if all code down to the boundary is the user's. */
static coir_fn *as_call(coir_message_fn *fn)
{
    return (coir_fn *)(void (*)(void))fn;
}

/* What a job would leave at its end ends with the call, its name included, which may lie in the message. */
static int end_leftovers(struct retry *r, struct job *j, int outcome, coir_failure *failure)
{
    if (j->keeps) {
        int before = outcome;

        outcome = job_ops_set()->end_locals(j, outcome);
        j->keeps = false;
        if (outcome != before) /* it is worse */
            *failure = j->wreck->failure;
    }
    if (j->obliged) {
        job_ops_set()->leak(j);
        j->obliged = false;
    }
    if (j->name && j->name != r->name)
        coir_job_name(r->name);
    return outcome;
}

void retry_serve(void)
{
    job_proper(*job_slot())->between = true;
}

/* The job is the pool's. */
static int call(struct retry *r, coir_message *m, coir_failure *failure)
{
    struct job *j = job_proper(*job_slot());
    int outcome;

    j->between = false;
    outcome = end_leftovers(r, j, job_try_whole(as_call(r->handle), m, failure), failure);
    j->between = true;
    return outcome;
}

/* A handler that submits to its own pool, or a job that it has spawned, keeps what it has. */
static struct job *between_messages(void)
{
    struct job *j = *job_slot();

    j = j ? job_proper(j) : NULL;
    return j && j->between ? j : NULL;
}

int retry_call_back(struct retry *r, coir_message_fn *fn, coir_message *m, const struct coir_domain *d)
{
    struct coir_runtime *before = runtime_adopt_thread(d->rt); /* its panics are this runtime's */
    struct job *j = between_messages();
    coir_failure unused;
    int outcome;

    if (j)
        j->between = false;
    outcome = job_try_callback(as_call(fn), m, d);
    if (j) {
        outcome = end_leftovers(r, j, outcome, &unused);
        j->between = true;
    }
    runtime_adopt_thread(before);
    return outcome;
}

/* ------------------------------------------------------------------------------- the verdict */

bool retry_is_probing(struct retry *r)
{
    return !breaker_is_closed(&r->breaker) && breaker_figures(&r->breaker).state == BREAKER_HALF_OPEN;
}

/* It is not closed. Whether its probe is out; else *at is the time of the next, which can be COIR_NEVER. */
static bool probe_is_out(struct breaker *b, int64_t *at)
{
    bool out;

    lock_take(&b->lock);
    out = b->probe != NULL;
    *at = b->probe_at;
    lock_drop(&b->lock);
    return out;
}

/* Another attempt at `due`, unless that is too late. */
static enum verdict again(int64_t at, int64_t deadline, int64_t *due)
{
    *due = at;
    return at >= deadline ? VERDICT_EXPIRED : VERDICT_AGAIN;
}

/* The breaker is not closed: until its probe, or the message's deadline if that is earlier. */
static enum verdict wait_for_probe(struct retry *r, int64_t deadline, int64_t *due)
{
    int64_t at;
    bool out = probe_is_out(&r->breaker, &at);

    *due = out || at > deadline ? deadline : at;
    return out ? VERDICT_HOLD : VERDICT_AGAIN;
}

static void tell_breaker(struct retry *r, coir_message *m, bool failed, uint64_t record)
{
    int64_t now = coir_now();

    if (!breaker_probed(&r->breaker, m, failed, record, now) && failed)
        breaker_count(&r->breaker, record, now);
}

/* The message's input has broken its job once more. Returns whether it is quarantined now. */
static bool tell_quarantine(struct retry *r, coir_message *m, enum admission admitted, int outcome,
                            const coir_failure *failure)
{
    bool quarantined;

    if (!r->quarantine)
        return false;
    quarantined = quarantine_settle(r->quarantine, r->type, m->key, admitted, outcome, failure,
                                    quarantine_now());
    if (quarantined && outcome == COIR_PANICKED)
        host_log(r->host, COIR_LOG_WARNING, "pool %s: input %llx is quarantined: %s", r->name,
                 (unsigned long long)m->key, failure->message);
    return quarantined;
}

static enum verdict judge(struct retry *r, coir_message *m, bool quarantined, int64_t deadline, int64_t *due)
{
    if (quarantined || m->final || m->attempts >= r->attempts_max)
        return VERDICT_DEAD;
    return again(later(coir_now(), retry_backoff(r, m->attempts)), deadline, due);
}

int retry_outcome(const coir_message *m, coir_failure *f)
{
    static const int outcome[] = {
        [COIR_MESSAGE_EXPIRED] = COIR_EXPIRED,
        [COIR_MESSAGE_QUARANTINED] = COIR_CANCELED,
        [COIR_MESSAGE_RETURNED] = COIR_CANCELED,
    };
    static const int kind[] = {
        [COIR_MESSAGE_EXPIRED] = COIR_KIND_EXPIRED,
        [COIR_MESSAGE_QUARANTINED] = COIR_KIND_SKIPPED,
        [COIR_MESSAGE_RETURNED] = COIR_KIND_SHUTDOWN,
    };

    if (m->end == COIR_MESSAGE_DONE)
        return COIR_DONE;
    if (m->end == COIR_MESSAGE_DEAD && m->failure.id) {
        *f = m->failure;
        return f->outcome;
    }
    if (m->end == COIR_MESSAGE_DEAD) { /* it came with no attempts left */
        job_failure(NULL, f, COIR_FAILED, COIR_KIND_SKIPPED);
        return COIR_FAILED;
    }
    job_failure(NULL, f, outcome[m->end], (enum coir_kind)kind[m->end]);
    return outcome[m->end];
}

static enum verdict attempt(struct retry *r, coir_message *m, enum admission admitted, int64_t deadline,
                            int64_t *due)
{
    coir_failure failure = {0};
    bool quarantined;
    int outcome;

    atomic_fetch_add_explicit(&r->attempts, 1, memory_order_relaxed); /* a figure */
    atomic_fetch_add_explicit(&r->retries, m->attempts > 0, memory_order_relaxed); /* a figure */
    m->attempts++;
    outcome = call(r, m, &failure);
    if (outcome != COIR_DONE)
        m->failure = failure;
    tell_breaker(r, m, outcome != COIR_DONE, failure.id);
    quarantined = tell_quarantine(r, m, admitted, outcome, &failure);
    return outcome == COIR_DONE ? VERDICT_DONE : judge(r, m, quarantined, deadline, due);
}

enum verdict retry_attempt(struct retry *r, coir_message *m, int64_t deadline, int64_t *due)
{
    enum admission admitted = ADMIT_PASS;
    int64_t now = coir_now();

    if (now >= deadline)
        return VERDICT_EXPIRED;
    if (m->attempts >= r->attempts_max)
        return VERDICT_DEAD;
    if (!breaker_is_closed(&r->breaker) && !breaker_pass(&r->breaker, m, now))
        return wait_for_probe(r, deadline, due);
    if (r->quarantine)
        admitted = quarantine_admit(r->quarantine, r->type, m->key, quarantine_now());
    if (admitted == ADMIT_REFUSED) {
        breaker_recall(&r->breaker, m);
        return VERDICT_QUARANTINED;
    }
    return attempt(r, m, admitted, deadline, due);
}
