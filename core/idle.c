/* SPDX-License-Identifier: MIT */
/*
 * idle.c - when a worker sleeps, when it wakes up by itself, and how many are awake.
 *
 * SLEEP (park.c): the look at every queue after park_announce is announced_in_vain.
 *
 * WATCH (park.c): of more workers than there are processors for them park.limit are awake, and one of the others watches
 * if there is work for it. The limit is set anew about every millisecond, by who watches or goes to sleep, so that
 * processors have something to do for seven eighths of the time: by how many workers were awake, and what processors
 * did for those of them that moved, to another job or fiber. So where jobs never block and are short, as many are awake as
 * can run; where they block, most of whom there is; and what waits behind long ones does so for a millisecond or two.
 *   - To allow for one more for each worker that has not moved was not enough: those whose jobs block for a tenth of a
 *     millisecond all have.
 *   - What processors do is read from the clocks of threads: the process's own counts who runs only now and then.
 */
#include "idle.h"

#include "cpus.h"
#include "find.h"

#define OTHERS_SLACK_NS (100 * COIR_US)
#define LOOK_BUSY_NS (COIR_MS / 2)  /* for each worker of the runtime */
#define LOOK_IDLE_NS (10 * COIR_MS)
#define WATCH_NS COIR_MS
#define WATCH_EACH_NS (50 * COIR_US) /* more for each worker that was awake: to read its clock takes 2 us at most */

/* ---------------------------------------------------------------------------- how many are awake */

void idle_open(struct coir_runtime *rt, unsigned cpus)
{
    rt->cpus = cpus;
    park_set_limit(&rt->park, cpus);
    rt->watched_at = coir_now();
    atomic_store_explicit(&rt->watched_until, rt->watched_at + WATCH_NS, memory_order_relaxed); /* alone */
}

/* How long workers were awake, and processors ran those of them that moved, since they were seen last. */
struct seen {
    int64_t awake, ran;
    unsigned workers; /* that were awake */
    bool behind;      /* work waits behind a worker that has not moved */
};

/* The caller watches: what was seen is its own. The figures are hints, and need not agree. */
static void see_worker(struct worker *w, int64_t now, int64_t passed, struct seen *s)
{
    uint64_t turns = worker_turns(w) + tally_read(&w->switches);
    int64_t asleep = atomic_load_explicit(&w->asleep_since, memory_order_relaxed); /* a hint */
    int64_t slept = (int64_t)tally_read(&w->slept) + (asleep ? now - asleep : 0), awake = now - slept - w->seen.awake, ran;

    if (asleep && turns == w->seen.turns)
        return;
    awake = awake < passed ? awake : passed; /* at the first look, or while it ends its sleep, it is not known */
    ran = thread_used(atomic_load_explicit(&w->meter, memory_order_relaxed)); /* a hint */
    s->awake += awake > 0 ? awake : 0;
    s->ran += turns != w->seen.turns && ran > w->seen.ran ? ran - w->seen.ran : 0;
    s->workers++;
    s->behind |= turns == w->seen.turns && !(ring_empty(&w->ring) && deque_empty(&w->deque));
    w->seen.awake = now - slept;
    w->seen.turns = turns;
    w->seen.ran = ran;
}

/* The watch is the caller's, and it is time. What waits behind a worker that does not move has one more each time, however
 * busy the others keep the processors: they may not come to it. */
static void set_limit(struct coir_runtime *rt, int64_t now)
{
    int64_t passed = now - rt->watched_at, limit, most;
    struct seen s = {0};

    for (unsigned i = 0; i < rt->worker_count; i++)
        see_worker(rt->worker[i], now, passed, &s);
    limit = s.awake / (s.ran * 8 / (7 * rt->cpus) + 1);
    most = (2 * s.awake + passed) / passed;
    limit = limit < most ? limit : most;
    if (s.behind && limit <= park_awake(&rt->park))
        limit = park_awake(&rt->park) + 1;
    limit = limit < rt->worker_count ? limit : rt->worker_count;
    park_set_limit(&rt->park, limit > rt->cpus ? (unsigned)limit : rt->cpus);
    rt->watched_at = now;
    atomic_store_explicit(&rt->watched_until, now + WATCH_NS + s.workers * WATCH_EACH_NS, memory_order_relaxed); /* a hint */
}

static int64_t watched_until(struct coir_runtime *rt)
{
    return atomic_load_explicit(&rt->watched_until, memory_order_relaxed); /* a hint */
}

static void look_at_workers(struct coir_runtime *rt)
{
    int64_t now = coir_now();

    if (now >= watched_until(rt))
        set_limit(rt, now);
}

/* Where so many are awake as may be, but for `self` of them: whether the worker is the one who watches now. */
static bool begins_to_watch(struct worker *w, unsigned self)
{
    struct coir_runtime *rt = w->runtime;
    struct park *p = &rt->park;

    if (rt->worker_count <= rt->cpus || !park_is_full(p, self) || !park_watch_begin(p))
        return false;
    look_at_workers(rt);
    if (park_is_full(p, self))
        return w->watching = true;
    park_watch_end(p);
    return false;
}

/* A worker that goes to sleep looks, if it is time: nobody watches while fewer than the limit are awake. */
static void look_in_passing(struct coir_runtime *rt, int64_t now)
{
    if (now < watched_until(rt) || !park_watch_begin(&rt->park))
        return;
    look_at_workers(rt); /* another one may have looked since that time was read */
    park_watch_end(&rt->park);
}

/* Its sleep is over. */
static void end_watch(struct worker *w)
{
    w->watching = false;
    if (!w->searching)
        look_at_workers(w->runtime);
    park_watch_end(&w->runtime->park);
}

/* A worker that was woken, or has watched, is one more than may be awake, and sleeps again; unless it has something to do
 * that others would come to late. */
static bool is_one_too_many(struct worker *w, bool watched)
{
    struct coir_runtime *rt = w->runtime;

    if (!park_is_full(&rt->park, 1) || runtime_flag(&rt->stopping) || find_events(w, true) || !ring_empty(&w->ring))
        return false;
    return w->searching ? begins_to_watch(w, 1) : watched;
}

/* -------------------------------------------------------------------------------------- sleeping */

/*
 * When to wake up by itself. A worker that is stuck in a long job comes neither for its timers nor for
 * its completions, so every sleeper looks in: it sleeps until the earliest deadline of all (others'
 * with some slack, for their owner is the first to fire them), and if there is I/O now and
 * then, more often while another worker is busy. A runtime without I/O and timers sleeps soundly.
 */
static int64_t wake_up_time(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    int64_t now = coir_now(), earliest = COIR_NEVER, watch;
    bool busy = false;

    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct worker *other = rt->worker[i];
        int64_t t = timers_earliest(&other->timers);

        if (other != w && t < COIR_NEVER - OTHERS_SLACK_NS)
            t = (t > now ? t : now) + OTHERS_SLACK_NS;
        earliest = t < earliest ? t : earliest;
        busy |= other != w &&
                atomic_load_explicit(&other->busy_tick, memory_order_relaxed) != 0; /* a hint */
    }
    if (rt->worker_count == 1 || !(rt->io || earliest != COIR_NEVER))
        return earliest;
    watch = now + (busy ? LOOK_BUSY_NS : LOOK_IDLE_NS) * rt->worker_count;
    return watch < earliest ? watch : earliest;
}

static void tell_all_idle(struct coir_runtime *rt)
{
    uint64_t counts = atomic_load_explicit(&rt->park.counts, memory_order_relaxed); /* a hint */

    if (park_sleeping(counts) == rt->worker_count)
        rt->all_idle(rt);
}

static void sleep_announced(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    int64_t deadline = wake_up_time(w);

    if (w->watching && watched_until(rt) < deadline)
        deadline = watched_until(rt);
    if (UNLIKELY(rt->all_idle != NULL))
        tell_all_idle(rt);
    tally(&w->sleeps, 1);
    if (rt->io && rt->io->sleep)
        w->searching = rt->io->sleep(w, deadline);
    else
        w->searching = park_sleep(&rt->park, &w->parker, deadline);
    runtime_fetch_queues(rt);
}

/* Announces that the worker sleeps. True: the last look says that it should not, but for who watches. SLEEP, ALONE. */
static bool announced_in_vain(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    bool alone = park_announce(&rt->park, &w->parker, w->searching);

    w->searching = false;
    if (runtime_flag(&rt->stopping))
        return true;
    if (!(alone && !inject_empty_surely(&rt->inject)) && !find_quietly(rt))
        return false;
    return !(w->watching || begins_to_watch(w, 0)) || !park_is_full(&rt->park, 0);
}

/* A worker with nothing to do looks around for options.spin_ns. True: there may be something. Not in its first turn: no work
 * has been here to be followed by more, and who opens the runtime may want the processor. */
static bool look_for_a_while(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;
    bool spins = rt->spin_ns && tally_read(&w->tick) > 1;
    int64_t until = rt->spin_ns >= COIR_SEC ? COIR_NEVER : spins ? coir_now() + rt->spin_ns : 0;
    unsigned turns = 0;

    while (find_may_spin(w) && !runtime_flag(&rt->stopping)) {
        if (find_promising(w) || find_events(w, true))
            return true;
        if (coir_now() >= until)
            break;
        if (until == COIR_NEVER)
            spin_pause(&turns); /* others may need the processor */
        else
            arch_relax();
    }
    return false;
}

/* Before a sleep: memory that nobody needs goes back, unless there is something to do meanwhile. */
static void give_back_stacks(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    while (!fiber_keeps_stacks() && !runtime_flag(&rt->draining) && !find_quietly(rt) && stacks_trim(&rt->stacks))
        ;
    stack_cache_share(&rt->stacks, &w->stacks);
}

/* It counts as searching, for publishers that met a searcher, or somebody who watched, count on it to wake others. */
static void search(struct worker *w)
{
    if (!w->searching)
        park_search_begin(&w->runtime->park);
    w->searching = true;
}

/* True: it sleeps once more. */
static bool sleep_once(struct worker *w)
{
    bool in_vain = announced_in_vain(w), watched = w->watching, again;

    if (!in_vain)
        sleep_announced(w);
    else
        w->searching = park_retract(&w->runtime->park, &w->parker);
    if (watched)
        end_watch(w);
    again = !in_vain && (watched || w->searching) && is_one_too_many(w, watched);
    if (!again && (in_vain || watched))
        search(w);
    return again;
}

/* Where workers are more than processors it is counted how long they sleep. */
static void begin_to_sleep(struct worker *w)
{
    int64_t now;

    if (w->runtime->cpus >= w->runtime->worker_count)
        return;
    now = coir_now();
    atomic_store_explicit(&w->asleep_since, now, memory_order_relaxed); /* a hint */
    look_in_passing(w->runtime, now);
}

static void end_sleep(struct worker *w)
{
    int64_t since = atomic_load_explicit(&w->asleep_since, memory_order_relaxed); /* own */

    if (!since)
        return;
    atomic_store_explicit(&w->asleep_since, 0, memory_order_relaxed); /* a hint */
    tally(&w->slept, (uint64_t)(coir_now() - since));
}

void idle_wait(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    w->busy_since = 0;
    if (UNLIKELY(rt->lab != NULL) && rt->lab->idle(w))
        return;
    if (w->io_urgent || (w->io_queued && find_may_spin(w))) /* else the sleep gives it to the kernel */
        rt->io->flush(w);
    fence_full(); /* BOOKS: what this worker ended comes before the look at draining */
    if (runtime_flag(&rt->draining))
        rt->idle(rt);
    search(w);
    if (look_for_a_while(w))
        return;
    atomic_store_explicit(&w->busy_tick, 0, memory_order_relaxed); /* a hint */
    begin_to_sleep(w);
    give_back_stacks(w);
    while (sleep_once(w))
        ;
    end_sleep(w);
    atomic_store_explicit(&w->busy_tick, tally_read(&w->tick) | 1, memory_order_relaxed); /* a hint */
}
