/* SPDX-License-Identifier: MIT */
/*
 * matrix_jobs.c - rows of the propagation matrix: jobs that break, alone, under others, two at once.
 */
#include "domains.h"
#include "matrix.h"
#include "sockets.h"

/* ----------------------------------------------------------------------------------------- alone */

struct waited {
    coir_counter c;
    int outcome;
};

static void wait_too(void *arg)
{
    struct waited *w = (struct waited *)arg;

    w->outcome = coir_wait(&w->c);
}

void job_panics(struct scene *s)
{
    struct waited w = {COIR_COUNTER_INIT, -1};
    coir_counter other = COIR_COUNTER_INIT;

    coir_counter_add(&w.c, 1);
    CHECK_EQ(coir_submit(s->rt, &other, wait_too, &w), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_submit(s->rt, &w.c, job_panic, NULL), COIR_OK);
    coir_counter_done(&w.c, COIR_DONE);
    waiter_waits(s, &w.c);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    peer_saw(s, "waiting fiber %s", outcome_name(w.outcome));
}

void first_job(struct scene *s)
{
    coir_options o = run_options(s->workers);

    peer_saw(s, "coir_run %s", outcome_name(coir_run(&o, job_panic, NULL)));
}

enum { MANY_JOBS = 20 };

/* One of many. */
struct one {
    int panics;
    int *ran;
};

static void run_one(void *arg)
{
    struct one *one = (struct one *)arg;

    coir_require(!one->panics);
    run_count(one->ran);
}

static void spawn_all(void *arg)
{
    struct waited *w = (struct waited *)arg;
    struct one all[MANY_JOBS] = {};

    for (int i = 0; i < MANY_JOBS; i++)
        all[i] = (struct one){i == MANY_JOBS / 2, &w->outcome};
    CHECK_EQ(coir_spawn_many(&w->c, run_one, all, sizeof *all, MANY_JOBS), COIR_OK);
    CHECK_EQ(coir_wait(&w->c), COIR_PANICKED);
}

void one_of_many_jobs(struct scene *s)
{
    struct waited w = {COIR_COUNTER_INIT, 0};
    coir_counter parent = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &parent, spawn_all, &w), COIR_OK);
    CHECK_EQ(coir_wait(&parent), COIR_DONE);
    waiter_waits(s, &w.c);
    if (w.outcome == MANY_JOBS - 1)
        peer_saw(s, "the others run");
}

void job_of_any_counter(struct scene *s)
{
    coir_counter held = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT, *both[] = {&held, &c};
    size_t which = 0;

    coir_counter_add(&held, 1);
    CHECK_EQ(coir_submit(s->rt, &c, job_panic, NULL), COIR_OK);
    peer_saw(s, "coir_wait_any %s", outcome_name(coir_wait_any(both, 2, COIR_NEVER, &which)));
    CHECK_EQ(which, 1);
    waiter_waits(s, &c);
    coir_counter_done(&held, COIR_DONE);
    CHECK_EQ(coir_wait(&held), COIR_DONE);
}

static void require_the_impossible(void *unused)
{
    coir_require(unused != NULL);
}

void job_fails_a_requirement(struct scene *s)
{
    waiter_runs(s, require_the_impossible, NULL);
}

static void say_failed(void *unused)
{
    (void)unused;
    coir_fail(42, "planned");
}

void job_says_it_failed(struct scene *s)
{
    waiter_runs(s, say_failed, NULL);
    if (scene_kept(s).code == 42)
        peer_saw(s, "its code arrives");
}

static void try_panic(void *outcome)
{
    *(int *)outcome = coir_try(job_panic, NULL, NULL);
    coir_yield();
}

void job_inside_try(struct scene *s)
{
    int outcome = -1;

    waiter_runs(s, try_panic, &outcome);
    peer_saw(s, "try %s, job goes on", outcome_name(outcome));
}

static uint64_t unobserved(coir_runtime *rt)
{
    coir_stats stats;

    CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    return stats.unobserved;
}

void job_nobody_waits_for(struct scene *s)
{
    uint64_t before = unobserved(s->rt);

    CHECK_EQ(coir_submit(s->rt, NULL, job_panic, NULL), COIR_OK);
    scene_at_rest(s->rt);
    peer_saw(s, "stats.unobserved %d", (int)(unobserved(s->rt) - before));
}

void unit_by_hand(struct scene *s)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 1);
    coir_counter_done(&c, COIR_PANICKED);
    waiter_waits(s, &c);
}

struct self {
    coir_counter c;
    int status;
};

static void wait_for_self(void *arg)
{
    struct self *self = (struct self *)arg;

    self->status = coir_wait(&self->c);
}

void job_waits_for_itself(struct scene *s)
{
    struct self self = {COIR_COUNTER_INIT, 0};

    CHECK_EQ(coir_submit(s->rt, &self.c, wait_for_self, &self), COIR_OK);
    waiter_waits(s, &self.c);
    peer_saw(s, "its wait %s", short_name(self.status));
}

/* A job that waits for another's counter. */
struct link {
    coir_counter *other;
    int status;
};

static void wait_for_other(void *arg)
{
    struct link *l = (struct link *)arg;

    l->status = coir_wait(l->other);
}

/* Two jobs that wait for each other's end; the second to wait is the newest. */
void jobs_in_a_circle(struct scene *s)
{
    coir_options o = run_options(s->workers);
    coir_counter older = COIR_COUNTER_INIT, newer = COIR_COUNTER_INIT;
    struct link a = {&newer, -1}, b = {&older, -1};
    coir_runtime *rt;

    o.deadlock = COIR_DEADLOCK_FAIL_NEWEST;
    rt = scene_open(&o);
    coir_counter_add(&newer, 1);
    CHECK_EQ(coir_submit(rt, &older, wait_for_other, &a), COIR_OK);
    scene_until_parked(rt, 1);
    CHECK_EQ(coir_submit(rt, &newer, wait_for_other, &b), COIR_OK);
    coir_counter_done(&newer, COIR_DONE);
    waiter_waits(s, &newer);
    CHECK_EQ(coir_wait(&older), COIR_DONE);
    peer_saw(s, "its wait %s", short_name(b.status));
    peer_saw(s, "the other's %s", outcome_name(a.status));
    scene_close(rt);
}

/* --------------------------------------------------------------------------------- parent and child */

struct family {
    coir_fn *child;
    void *arg;
    int outcome; /* of the child */
};

static void wait_for_child(void *arg)
{
    struct family *f = (struct family *)arg;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, f->child, f->arg), COIR_OK);
    f->outcome = coir_wait(&c);
}

static void wait_and_pass_on(void *arg)
{
    struct family *f = (struct family *)arg;

    wait_for_child(arg);
    coir_require(f->outcome == COIR_DONE);
}

void nested_job(struct scene *s)
{
    struct family f = {job_panic, NULL, -1};

    waiter_runs(s, wait_for_child, &f);
    peer_saw(s, "parent %s", outcome_name(f.outcome));
}

void nested_job_passed_on(struct scene *s)
{
    struct family f = {job_panic, NULL, -1};

    waiter_runs(s, wait_and_pass_on, &f);
    peer_saw(s, "parent %s", outcome_name(f.outcome));
}

/* Its own frame tells on whose stack it runs. */
static void panic_near(void *above)
{
    char here;
    ptrdiff_t distance = *(char **)above - &here;

    if (distance > 0 && distance < 1 << 14)
        *(char **)above = NULL;
    coir_panic("planned");
}

static void wait_in_place(void *arg)
{
    struct family *f = (struct family *)arg;
    char here, *above = &here;

    f->arg = &above;
    wait_for_child(f);
    f->arg = above;
}

void job_in_place(struct scene *s)
{
    struct family f = {panic_near, NULL, -1};

    waiter_runs(s, wait_in_place, &f);
    if (s->workers == 1)
        CHECK(f.arg == NULL); /* with more, another may have taken it */
    peer_saw(s, "waiter %s", outcome_name(f.outcome));
}

static void panic_over_sleeper(void *arg)
{
    struct blocked *b = (struct blocked *)arg;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, job_block, b), COIR_OK);
    run_until(&b->started);
    coir_panic("planned");
}

void parent_of_blocked_child(struct scene *s)
{
    struct blocked b = {0, 0};

    waiter_runs(s, panic_over_sleeper, &b);
    peer_saw(s, "child's sleep %s", short_name(b.status));
}

static void return_over_sleeper(void *arg)
{
    struct blocked *b = (struct blocked *)arg;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, job_block, b), COIR_OK);
    run_until(&b->started);
}

static void sleep_and_panic(void *blocked)
{
    job_block(blocked);
    coir_panic("as well");
}

static void panic_over_panicking(void *arg)
{
    struct blocked *b = (struct blocked *)arg;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, sleep_and_panic, b), COIR_OK);
    run_until(&b->started);
    coir_panic("planned");
}

/* The parent's panic cancels the child, which panics while the parent waits to unwind. */
void parent_and_child_panic(struct scene *s)
{
    struct blocked b = {0, 0};

    waiter_runs(s, panic_over_panicking, &b);
    if (scene_kept(s).job != scene_kept(s).job)
        peer_saw(s, "both are kept");
}

void job_returns_owing(struct scene *s)
{
    struct blocked b = {0, 0};

    waiter_runs(s, return_over_sleeper, &b);
    peer_saw(s, "child's sleep %s", short_name(b.status));
}

struct reader {
    struct pair pair; /* not in the job's frame: the handler runs when that has gone */
    int started;
    int64_t status;
};

static void receive(void *arg)
{
    struct reader *r = (struct reader *)arg;
    char byte;

    run_set(&r->started);
    r->status = coir_socket_recv(r->pair.a, &byte, 1);
}

static void close_pair(void *pair)
{
    pair_close(*(struct pair *)pair);
}

static void panic_over_reader(void *arg)
{
    struct reader *r = (struct reader *)arg;
    coir_counter c = COIR_COUNTER_INIT;

    r->pair = pair_open();
    CHECK_EQ(coir_defer(close_pair, &r->pair), COIR_OK);
    CHECK_EQ(coir_spawn(&c, receive, r), COIR_OK);
    run_until(&r->started);
    coir_panic("planned");
}

void parent_of_io_waiter(struct scene *s)
{
    struct reader r = {{-1, -1}, 0, 0};

    waiter_runs(s, panic_over_reader, &r);
    peer_saw(s, "child's recv %s", short_name((int)r.status));
}

static void lock_and_return(void *mutex)
{
    CHECK_EQ(coir_mutex_lock((coir_mutex *)mutex), COIR_OK);
}

void job_returns_holding(struct scene *s)
{
    coir_mutex mutex = COIR_MUTEX_INIT;

    waiter_runs(s, lock_and_return, &mutex);
    peer_saw(s, "lock %s", short_name(coir_mutex_lock(&mutex)));
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

/* ---------------------------------------------------------------------------------------- two at once */

/* Panics when the other has come as well. */
static void meet_and_panic(void *n)
{
    run_count((int *)n);
    while (__atomic_load_n((int *)n, __ATOMIC_ACQUIRE) < 2) {
        coir_yield();
        sched_yield();
    }
    coir_panic("planned");
}

void two_children_panic(struct scene *s)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_submit(s->rt, &c, meet_and_panic, &n), COIR_OK);
    CHECK_EQ(coir_submit(s->rt, &c, meet_and_panic, &n), COIR_OK);
    waiter_waits(s, &c);
    if (scene_kept(s).job != scene_kept(s).job)
        peer_saw(s, "both are kept");
}

void panic_in_two_runtimes(struct scene *s)
{
    coir_options o = run_options(s->workers);
    coir_runtime *rt = scene_open(&o);
    struct waited w = {COIR_COUNTER_INIT, -1};
    coir_counter here = COIR_COUNTER_INIT;

    coir_counter_add(&w.c, 1);
    CHECK_EQ(coir_submit(s->rt, &here, wait_too, &w), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(coir_submit(rt, &w.c, job_panic, NULL), COIR_OK);
    coir_counter_done(&w.c, COIR_DONE);
    waiter_waits(s, &w.c);
    CHECK_EQ(coir_wait(&here), COIR_DONE);
    peer_saw(s, "fiber here %s", outcome_name(w.outcome));
    scene_close(rt);
}

static int tried;

static void try_in_cleanup(int *unused)
{
    (void)unused;
    tried = coir_try(job_panic, NULL, NULL);
}

static void panic_over_try(void *unused)
{
    __attribute__((cleanup(try_in_cleanup), unused)) int n = 0;

    (void)unused;
    coir_panic("planned");
}

void panic_inside_cleanup(struct scene *s)
{
    waiter_runs(s, panic_over_try, NULL);
    (void)scene_kept(s);
    peer_saw(s, "try %s at %s", outcome_name(tried),
             scene_kept(s).location == COIR_AT_CLEANUP ? "cleanup" : "?");
}
