/* SPDX-License-Identifier: MIT */
/*
 * deadlock_locks_test.c - circles of mutexes, both sides of reader-writer locks, onces and ends of jobs
 * are found, and the newest wait failed if asked; nothing else is called one.
 */
#include "circles.h"
#include "threads.h"

#include "graph.h"
#include "sleeper.h"

#include <stdbool.h>

#define JOBS 3

static coir_mutex mutexes[2];
static coir_rwlock rwlocks[2];
static coir_once onces[2];
static coir_counter ends[JOBS];

enum what { NOTHING, MUTEX, MUTEX_IN_TRY, READ, WRITE, WRITE_IN_TIME, ONCE, END };

struct step {
    enum what what;
    int which;
};

/* A job that holds one thing and, when it is told to, wants another. */
struct plan {
    struct step holds, wants;
};

struct locker {
    struct plan plan;
    coir_read read;
    struct fiber *fiber;
    int status, go;
};

static struct locker lockers[JOBS];

static int met;

static void nothing(void *unused)
{
    (void)unused;
}

static int take(struct step s, coir_read *read)
{
    switch (s.what) {
    case MUTEX:
    case MUTEX_IN_TRY:
        return coir_mutex_lock(&mutexes[s.which]);
    case READ:
        return coir_rwlock_read_lock(&rwlocks[s.which], read);
    case WRITE:
        return coir_rwlock_write_lock(&rwlocks[s.which]);
    case WRITE_IN_TIME:
        return coir_rwlock_write_lock_until(&rwlocks[s.which], coir_now() + 1000 * COIR_SEC);
    case ONCE:
        return coir_once_call(&onces[s.which], nothing, NULL);
    case END:
        return coir_wait(&ends[s.which]);
    default:
        return COIR_OK;
    }
}

static void give(struct step s, coir_read *read)
{
    if (s.what == MUTEX || s.what == MUTEX_IN_TRY)
        CHECK_EQ(coir_mutex_unlock(&mutexes[s.which]), COIR_OK);
    if (s.what == READ)
        CHECK_EQ(coir_rwlock_read_unlock(&rwlocks[s.which], read), COIR_OK);
    if (s.what == WRITE || s.what == WRITE_IN_TIME)
        CHECK_EQ(coir_rwlock_write_unlock(&rwlocks[s.which]), COIR_OK);
}

static void want(void *arg)
{
    struct locker *l = arg;
    coir_read read = COIR_READ_INIT;

    run_count(&met);
    run_until(&l->go);
    l->fiber = fiber_self();
    l->status = take(l->plan.wants, &read);
    if (l->status == COIR_OK)
        give(l->plan.wants, &read);
}

static void hold_here_and_want(void *arg)
{
    struct locker *l = arg;

    CHECK_EQ(take(l->plan.holds, &l->read), COIR_OK);
    want(l);
    give(l->plan.holds, &l->read);
}

static void hold_and_want(void *arg)
{
    struct locker *l = arg;

    if (l->plan.holds.what == ONCE)
        CHECK_EQ(coir_once_call(&onces[l->plan.holds.which], want, l), COIR_OK);
    else if (l->plan.holds.what == MUTEX_IN_TRY)
        CHECK_EQ(coir_try(hold_here_and_want, l, NULL), COIR_DONE);
    else
        hold_here_and_want(l);
}

/* Jobs in the order in which they begin to wait, the last of them the newest. */
struct scene {
    const char *name;
    struct plan job[JOBS];
    int n;
    bool circle; /* else no deadlock */
};

#define HAS(what, which) {(what), (which)}

static const struct scene scenes[] = {
    {"mutex, mutex", {{HAS(MUTEX, 0), HAS(MUTEX, 1)}, {HAS(MUTEX, 1), HAS(MUTEX, 0)}}, 2, true},
    {"in a coir_try", {{HAS(MUTEX_IN_TRY, 0), HAS(MUTEX, 1)}, {HAS(MUTEX_IN_TRY, 1), HAS(MUTEX, 0)}}, 2, true},
    {"writer, writer", {{HAS(WRITE, 0), HAS(WRITE, 1)}, {HAS(WRITE, 1), HAS(WRITE, 0)}}, 2, true},
    {"reader, reader", {{HAS(READ, 0), HAS(WRITE, 1)}, {HAS(READ, 1), HAS(WRITE, 0)}}, 2, true},
    {"mutex, writer", {{HAS(MUTEX, 0), HAS(WRITE, 0)}, {HAS(WRITE, 0), HAS(MUTEX, 0)}}, 2, true},
    {"mutex, reader", {{HAS(READ, 0), HAS(MUTEX, 0)}, {HAS(MUTEX, 0), HAS(WRITE, 0)}}, 2, true},
    {"writer is in", {{HAS(WRITE, 0), HAS(MUTEX, 0)}, {HAS(MUTEX, 0), HAS(READ, 0)}}, 2, true},
    {"one of two readers",
     {{HAS(READ, 0), HAS(END, 2)}, {HAS(READ, 0), HAS(MUTEX, 0)}, {HAS(MUTEX, 0), HAS(WRITE, 0)}},
     3, true},
    {"reader behind a writer who waits",
     {{HAS(NOTHING, 0), HAS(WRITE, 0)}, {HAS(MUTEX, 0), HAS(READ, 0)}, {HAS(READ, 0), HAS(MUTEX, 0)}},
     3, true},
    {"reader waits for the end of one behind a writer",
     {{HAS(NOTHING, 0), HAS(WRITE, 0)}, {HAS(NOTHING, 0), HAS(READ, 0)}, {HAS(READ, 0), HAS(END, 1)}},
     3, true},
    {"once, once", {{HAS(ONCE, 0), HAS(ONCE, 1)}, {HAS(ONCE, 1), HAS(ONCE, 0)}}, 2, true},
    {"once, mutex", {{HAS(ONCE, 0), HAS(MUTEX, 0)}, {HAS(MUTEX, 0), HAS(ONCE, 0)}}, 2, true},
    {"once, end", {{HAS(ONCE, 0), HAS(END, 1)}, {HAS(NOTHING, 0), HAS(ONCE, 0)}}, 2, true},
    {"the writer ahead gives up in time",
     {{HAS(NOTHING, 0), HAS(WRITE_IN_TIME, 0)},
      {HAS(MUTEX, 0), HAS(READ, 0)},
      {HAS(READ, 0), HAS(MUTEX, 0)}},
     3, false},
};

enum { SCENES = sizeof scenes / sizeof scenes[0] };

/* Everybody holds first; then they want, one after the other. */
static void play(coir_runtime *rt, const struct scene *s)
{
    met = 0;
    memset(mutexes, 0, sizeof mutexes);
    memset(rwlocks, 0, sizeof rwlocks);
    memset(onces, 0, sizeof onces);
    memset(ends, 0, sizeof ends);
    memset(lockers, 0, sizeof lockers);
    for (int i = 0; i < s->n; i++) {
        lockers[i].plan = s->job[i];
        submit(rt, &ends[i], hold_and_want, &lockers[i]);
    }
    while (__atomic_load_n(&met, __ATOMIC_RELAXED) < s->n)
        sched_yield();
    for (int i = 0; i < s->n; i++) {
        run_set(&lockers[i].go);
        if (i < s->n - 1)
            until_parked(rt, (uint64_t)i + 1);
    }
}

static void end_scene(const struct scene *s)
{
    for (int i = 0; i < s->n; i++)
        CHECK_EQ(coir_counter_cancel(&ends[i]), COIR_OK);
    for (int i = 0; i < s->n; i++)
        CHECK(coir_wait(&ends[i]) >= COIR_DONE);
}

static void check_scene(const struct scene *s)
{
    coir_runtime *rt = run_open(2);
    coir_deadlock d;

    play(rt, s);
    until_parked(rt, (uint64_t)s->n);
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(coir_deadlock_check(rt, &d), s->circle ? COIR_EDEADLK : COIR_OK);
        if (!CHECK_EQ(d.stuck, s->circle ? s->n : 0) || !CHECK_EQ(d.cycles, s->circle))
            fprintf(stderr, "    scene: %s\n", s->name);
        CHECK_EQ(d.unowed, 0);
    }
    end_scene(s);
    run_close(rt);
}

static void circles_of_locks_are_found(void)
{
    for (int i = 0; i < SCENES; i++)
        check_scene(&scenes[i]);
}

static void fail_scene(const struct scene *s)
{
    coir_options o = run_options(2);
    coir_runtime *rt;

    o.deadlock = COIR_DEADLOCK_FAIL_NEWEST;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    play(rt, s);
    for (int i = 0; i < s->n; i++)
        CHECK_EQ(coir_wait(&ends[i]), COIR_DONE);
    for (int i = 0; i < s->n; i++)
        if (!CHECK_EQ(lockers[i].status, i == s->n - 1 ? COIR_EDEADLK : COIR_OK))
            fprintf(stderr, "    scene: %s\n", s->name);
    run_close(rt);
}

/* Who fails gives back what it holds, so the others go on. */
static void the_newest_wait_for_a_lock_is_failed(void)
{
    for (int i = 0; i < SCENES; i++)
        if (scenes[i].circle)
            fail_scene(&scenes[i]);
}

/* A waker that has let a reader go and not woken it yet: the reader is parked still, and waits for nobody. */
static void check_a_reader_on_its_way(struct coir_runtime *rt, struct fiber *reader)
{
    struct sleeper *call = reader->sleeper;
    struct graph g;
    coir_deadlock d;

    graph_init(&g, rt);
    graph_add_parked(&g);
    atomic_store_explicit(&call->state, SLEEPER_TAKEN, memory_order_relaxed); /* nobody else acts */
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.cycles + d.stuck + d.unowed, 0);
    for (uint32_t i = 1; i < g.nodes.count; i++)
        if (graph_node_at(&g, i)->fiber)
            CHECK_EQ(graph_still_awaits(&g, graph_node_at(&g, i)), graph_node_at(&g, i)->fiber != reader);
    atomic_store_explicit(&call->state, SLEEPER_WAITS, memory_order_relaxed); /* nobody else acts */
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_EDEADLK);
    CHECK_EQ(d.unowed, 1); /* the bystander: now nobody can go on and signal */
    graph_fini(&g);
}

static void wait_for_event(void *event)
{
    CHECK_EQ(coir_event_wait(event), COIR_OK);
}

static const struct scene on_its_way = {
    "reader on its way",
    {{HAS(NOTHING, 0), HAS(WRITE, 0)}, {HAS(MUTEX, 0), HAS(READ, 0)}, {HAS(READ, 0), HAS(MUTEX, 0)}},
    3, true};

#define CROWD 300 /* more than a look for deadlocks has room for at first */

static struct sleeper *let_go; /* when that look needs more memory, after it has seen the reader */

static void *alloc_and_let_go(size_t bytes, void *arg)
{
    (void)arg;
    if (let_go && bytes >= CROWD * sizeof(struct graph_node))
        atomic_store_explicit(&let_go->state, SLEEPER_TAKEN, memory_order_relaxed); /* nobody else acts */
    return malloc(bytes);
}

static void free_it(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

static void a_reader_that_is_let_go_between_the_walks_is_not_stuck(void)
{
    coir_options o = run_options(1);
    coir_event bystander = COIR_EVENT_INIT;
    struct sleeper *call;
    coir_runtime *rt;

    o.alloc = alloc_and_let_go;
    o.free = free_it;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    play(rt, &on_its_way);
    until_parked(rt, 3);
    for (int i = 0; i < CROWD; i++)
        submit(rt, NULL, wait_for_event, &bystander);
    until_parked(rt, 3 + CROWD);
    CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_EDEADLK);
    let_go = call = lockers[1].fiber->sleeper;
    CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_OK);
    let_go = NULL;
    atomic_store_explicit(&call->state, SLEEPER_WAITS, memory_order_relaxed); /* nobody else acts */
    end_scene(&on_its_way);
    CHECK_EQ(coir_event_set(&bystander), COIR_OK);
    run_close(rt);
}

static void a_reader_that_is_being_let_go_is_not_stuck(void)
{
    const struct scene *s = &on_its_way;
    coir_runtime *rt = run_open(2);
    coir_event bystander = COIR_EVENT_INIT;

    play(rt, s);
    until_parked(rt, 3);
    submit(rt, NULL, wait_for_event, &bystander);
    until_parked(rt, 4);
    check_a_reader_on_its_way(rt, lockers[1].fiber);
    end_scene(s);
    CHECK_EQ(coir_event_set(&bystander), COIR_OK);
    run_close(rt);
}

/* -------------------------------------------------------------------------------- and conditions */

static coir_cond told;
static int told_status[2];

static int wait_to_be_told(void)
{
    int status;

    CHECK_EQ(coir_mutex_lock(&mutexes[0]), COIR_OK);
    status = coir_cond_wait(&told, &mutexes[0]);
    CHECK_EQ(coir_mutex_unlock(&mutexes[0]), status == COIR_OK ? COIR_OK : COIR_EPERM);
    return status;
}

static void wait_with_another_held(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutexes[1]), COIR_OK);
    told_status[0] = wait_to_be_told();
    CHECK_EQ(coir_mutex_unlock(&mutexes[1]), COIR_OK);
}

static void wait_with_none(void *unused)
{
    (void)unused;
    told_status[1] = wait_to_be_told();
}

static void lock_first_then_second(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&mutexes[0]), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutexes[1]), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutexes[1]), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&mutexes[0]), COIR_OK);
}

/* The first is told when the mutex is held by one who wants its other: it leaves without, and its signal goes
 * to the second. */
static void a_signaled_waiter_that_is_failed_passes_the_signal_on(void)
{
    coir_options o = run_options(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt;

    memset(mutexes, 0, sizeof mutexes);
    coir_cond_init(&told);
    o.deadlock = COIR_DEADLOCK_FAIL_NEWEST;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    submit(rt, &c, wait_with_another_held, NULL);
    until_parked(rt, 1);
    submit(rt, &c, wait_with_none, NULL);
    until_parked(rt, 2);
    submit(rt, &c, lock_first_then_second, NULL);
    until_parked(rt, 3);
    CHECK_EQ(coir_cond_signal(&told), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(told_status[0], COIR_EDEADLK);
    CHECK_EQ(told_status[1], COIR_OK);
    run_close(rt);
}

/* ------------------------------------------------------------------------------ one's own circle */

static void upgrade(void *unused)
{
    coir_rwlock l = COIR_RWLOCK_INIT;
    coir_read hold = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_rwlock_read_lock(&l, &hold), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&l), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_write_lock_until(&l, coir_now() + 1000 * COIR_SEC), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_write_try_lock(&l), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_read_unlock(&l, &hold), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&l), COIR_OK);
    CHECK_EQ(coir_rwlock_read_lock(&l, &hold), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_write_unlock(&l), COIR_OK);
}

static void call_again(void *once)
{
    CHECK_EQ(coir_once_call(once, nothing, NULL), COIR_EDEADLK);
}

static void reenter(void *unused)
{
    coir_once once = COIR_ONCE_INIT;

    (void)unused;
    CHECK_EQ(coir_once_call(&once, call_again, &once), COIR_OK);
}

static void an_upgrade_and_a_reentered_once_are_told_at_once(void)
{
    run_on(2, upgrade, NULL);
    run_on(2, reenter, NULL);
    upgrade(NULL);
    reenter(NULL);
}

/* --------------------------------------------------------------------------------- no false alarm */

#define STORM_JOBS 24

static struct {
    coir_mutex mutex[2];
    coir_rwlock rwlock[2];
    coir_once once;
    int rounds, quit, failed;
} storm;

static void in_order(uint64_t *seed)
{
    coir_read read[2] = {COIR_READ_INIT, COIR_READ_INIT};
    struct step s[] = {{MUTEX, 0}, {READ, 0}, {READ, 1}, {MUTEX, 1}};
    int n = (int)(random_next(seed) % 4) + 1, taken = 0, first = (int)(random_next(seed) % 4);

    for (int i = first; i < 4 && i < first + n; i++, taken++) {
        uint64_t dice = random_next(seed);

        if (s[i].what == READ && dice & 1)
            s[i].what = dice & 2 ? WRITE : WRITE_IN_TIME;
        if (take(s[i], &read[i & 1]) != COIR_OK) {
            run_count(&storm.failed);
            break;
        }
        if (dice & 12)
            coir_yield();
    }
    for (int i = first + taken; i-- > first;)
        give(s[i], &read[i & 1]);
}

static void lock_in_order(void *seed)
{
    while (!__atomic_load_n(&storm.quit, __ATOMIC_ACQUIRE)) {
        in_order(seed);
        coir_yield();
    }
}

/* All lock in one order, so there is never a deadlock, but always somebody who waits for somebody. */
static void locks_taken_in_order_are_never_called_stuck(void)
{
    static uint64_t seed[STORM_JOBS];
    coir_options o = run_options(2);
    coir_counter jobs = COIR_COUNTER_INIT;
    coir_runtime *rt;
    coir_deadlock d;

    memset(&storm, 0, sizeof storm);
    memset(mutexes, 0, sizeof mutexes);
    memset(rwlocks, 0, sizeof rwlocks);
    o.deadlock = COIR_DEADLOCK_FAIL_NEWEST;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    for (uint64_t i = 0; i < STORM_JOBS; i++) {
        seed[i] = i * 7919 + 1;
        submit(rt, &jobs, lock_in_order, &seed[i]);
    }
    for (int i = 0; i < MANY(20000); i++) {
        CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
        CHECK_EQ(d.unowed, 0);
        if (i % 64 == 0)
            sched_yield();
    }
    run_set(&storm.quit);
    CHECK_EQ(coir_wait(&jobs), COIR_DONE);
    CHECK_EQ(storm.failed, 0);
    run_close(rt);
}

CHECK_MAIN(CASE(circles_of_locks_are_found), CASE(the_newest_wait_for_a_lock_is_failed),
           CASE(a_reader_that_is_being_let_go_is_not_stuck),
           CASE(a_reader_that_is_let_go_between_the_walks_is_not_stuck),
           CASE(a_signaled_waiter_that_is_failed_passes_the_signal_on),
           CASE(an_upgrade_and_a_reentered_once_are_told_at_once),
           CASE(locks_taken_in_order_are_never_called_stuck))
