/* SPDX-License-Identifier: MIT */
/*
 * lab_test.c - coir_lab_run: a seed decides order, time and mishaps, and decides the same each time; races
 * across suspensions, deadlocks and hours of backoff are found in milliseconds.
 */
#include "supervisors.h"

#define SEEDS (MANY(400) + 10)        /* each opens a runtime */
#define FEW(n) (SLOW ? (n) / 4 : (n)) /* likewise */

static coir_lab seeded(uint64_t seed)
{
    coir_lab l = {.size = sizeof l, .seed = seed};

    return l;
}

/* Runs it with a seed and nothing else. */
static int run_seed(uint64_t seed, coir_fn *fn, void *arg, coir_lab_report *r)
{
    coir_options o = run_options(0);
    coir_lab l = seeded(seed);

    o.stacks_max = 256; /* sooner made than a million */
    return coir_lab_run(&l, &o, fn, arg, r);
}

/* ------------------------------------------------------------------------------------- replays */

#define WALKERS 6

/* Jobs that say their name, sleep, take turns, wait for children. */
struct walk {
    char text[128]; /* who did a step, in order */
    unsigned steps;
};

struct walker {
    struct walk *walk;
    int number;
};

static void step(void *arg)
{
    struct walker *w = arg;

    w->walk->text[w->walk->steps++] = (char)('a' + w->number);
}

static void walker(void *arg)
{
    struct walker *w = arg;
    coir_counter child = COIR_COUNTER_INIT;

    step(w);
    coir_yield();
    step(w);
    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US * w->number), COIR_OK);
    CHECK_EQ(coir_spawn(&child, step, w), COIR_OK);
    CHECK_EQ(coir_wait(&child), COIR_DONE);
    step(w);
}

static void walkers(void *arg)
{
    struct walker w[WALKERS];
    coir_counter all = COIR_COUNTER_INIT;

    for (int i = 0; i < WALKERS; i++) {
        w[i] = (struct walker){arg, i};
        CHECK_EQ(coir_spawn(&all, walker, &w[i]), COIR_OK);
    }
    CHECK_EQ(coir_wait(&all), COIR_DONE);
}

static void a_seed_decides_the_same_each_time(void)
{
    static struct walk first, second, last;
    int other = 0;

    for (int seed = 0; seed < SEEDS; seed++) {
        coir_lab_report a, b;

        memset(&first, 0, sizeof first);
        memset(&second, 0, sizeof second);
        CHECK_EQ(run_seed((uint64_t)seed, walkers, &first, &a), COIR_DONE);
        CHECK_EQ(run_seed((uint64_t)seed, walkers, &second, &b), COIR_DONE);
        CHECK_EQ(strcmp(first.text, second.text), 0);
        CHECK_EQ(first.steps, 4 * WALKERS);
        CHECK_EQ(a.digest, b.digest);
        CHECK_EQ(a.ns, b.ns);
        CHECK_EQ(a.choices, b.choices);
        CHECK_EQ(a.seed, (uint64_t)seed);
        CHECK(a.choices > WALKERS);
        other += strcmp(first.text, last.text) != 0;
        last = first;
    }
    CHECK(other > SEEDS * 9 / 10); /* and another seed decides otherwise */
}

#define DRAWS 40

/* Which of two that are both ready it takes. */
static void select_often(void *arg)
{
    char *drawn = arg, element;
    coir_channel c[2];
    coir_case cases[2];

    for (int k = 0; k < 2; k++) {
        CHECK_EQ(coir_channel_init(&c[k], 1, 1, NULL), COIR_OK);
        CHECK_EQ(coir_channel_send(&c[k], "x"), COIR_OK);
        cases[k] = (coir_case){.channel = &c[k], .op = COIR_RECV, .element = &element};
    }
    for (int i = 0; i < DRAWS; i++) {
        size_t which = 2;

        CHECK_EQ(coir_select(cases, 2, COIR_NEVER, &which), COIR_OK);
        drawn[i] = which ? '1' : '0';
        CHECK_EQ(coir_channel_send(&c[which], "x"), COIR_OK);
    }
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(coir_channel_recv(&c[k], &element), COIR_OK);
        CHECK_EQ(coir_channel_fini(&c[k]), COIR_OK);
    }
}

/* The threads between them see to it that no two runs have theirs at the same address. */
static void a_seed_decides_what_select_takes(void)
{
    coir_runtime *between[4];
    char first[DRAWS + 1] = "", drawn[DRAWS + 1] = "";

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(run_seed(7, select_often, i ? drawn : first, NULL), COIR_DONE);
        if (i)
            CHECK_STR(drawn, first);
        between[i] = run_open(1);
    }
    CHECK_EQ(run_seed(8, select_often, drawn, NULL), COIR_DONE);
    CHECK(strcmp(drawn, first) != 0);
    for (int i = 0; i < 4; i++)
        run_close(between[i]);
}

/* --------------------------------------------------------------------------------- what it finds */

/* A race that needs a suspension in the wrong place. */
static void add_one(void *arg)
{
    int *n = arg, seen = *n;

    coir_yield();
    *n = seen + 1;
}

static void add_two(void *arg)
{
    coir_counter all = COIR_COUNTER_INIT;

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_spawn(&all, add_one, arg), COIR_OK);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
}

static void a_lost_update_is_found_and_replayed(void)
{
    coir_lab_report found = {0}, r;
    int lost = 0;

    for (uint64_t seed = 0; seed < FEW(100); seed++) {
        int n = 0;

        CHECK_EQ(run_seed(seed, add_two, &n, &r), COIR_DONE);
        CHECK(n == 1 || n == 2);
        if (n == 1 && !lost++)
            found = r;
    }
    CHECK(lost > 0 && lost < FEW(100));
    for (int i = 0; i < 10; i++) {
        int n = 0;

        CHECK_EQ(run_seed(found.seed, add_two, &n, &r), COIR_DONE);
        CHECK_EQ(n, 1);
        CHECK_EQ(r.digest, found.digest);
    }
}

/* Two locks in either order. */
struct two_locks {
    coir_mutex m[2];
    int got[2]; /* what the second lock said */
};

struct locker {
    struct two_locks *t;
    int first;
};

static void lock_both(void *arg)
{
    struct locker *k = arg;
    struct two_locks *t = k->t;

    CHECK_EQ(coir_mutex_lock(&t->m[k->first]), COIR_OK);
    coir_yield();
    t->got[k->first] = coir_mutex_lock(&t->m[!k->first]);
    if (t->got[k->first] == COIR_OK)
        CHECK_EQ(coir_mutex_unlock(&t->m[!k->first]), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&t->m[k->first]), COIR_OK);
}

static void lock_in_either_order(void *arg)
{
    struct locker k[2] = {{arg, 0}, {arg, 1}};
    coir_counter all = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn_many(&all, lock_both, k, sizeof k[0], 2), COIR_OK);
    (void)!coir_wait(&all);
}

static int waiting_told; /* lines of jobs that wait */

static void on_line(enum coir_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)arg;
    waiting_told += strstr(text, "lab:   job") && strstr(text, " for ");
}

static void a_deadlock_ends_with_the_names_of_who_waits(void)
{
    int stuck = 0;

    for (uint64_t seed = 0; seed < FEW(60); seed++) {
        struct two_locks t = {{COIR_MUTEX_INIT, COIR_MUTEX_INIT}, {0, 0}};
        coir_options o = run_options(1);
        coir_lab l = seeded(seed);
        int status;

        o.log = on_line;
        waiting_told = 0;
        status = coir_lab_run(&l, &o, lock_in_either_order, &t, NULL);
        CHECK(status == COIR_DONE || status == COIR_EDEADLK);
        if (status == COIR_EDEADLK) {
            stuck++;
            CHECK_EQ(waiting_told, 3); /* the two, and who waits for them */
            CHECK(t.got[0] == COIR_ECANCELED || t.got[1] == COIR_ECANCELED);
        } else {
            CHECK_EQ(waiting_told, 0);
        }
    }
    CHECK(stuck > 0 && stuck < FEW(60));
}

/* --------------------------------------------------------------------------------------- time */

struct nap {
    int64_t ns, woke;
};

static void nap(void *arg)
{
    struct nap *n = arg;
    int64_t deadline = coir_now() + n->ns;

    CHECK_EQ(coir_sleep_until(deadline), COIR_OK);
    n->woke = coir_now();
    CHECK(n->woke >= deadline);
    CHECK(n->woke < deadline + COIR_SEC);
}

static void naps(void *arg)
{
    struct nap *n = arg;
    coir_counter all = COIR_COUNTER_INIT;

    CHECK_EQ(coir_now(), COIR_SEC + COIR_US); /* its first look */
    CHECK_EQ(coir_spawn_many(&all, nap, n, sizeof *n, 3), COIR_OK);
    CHECK_EQ(coir_wait_until(&all, coir_now() + 3600 * COIR_SEC), COIR_ETIMEDOUT);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
}

static void hours_pass_in_no_time(void)
{
    int64_t began = coir_now();

    for (uint64_t seed = 0; seed < FEW(20); seed++) {
        struct nap n[3] = {{86400 * COIR_SEC, 0}, {COIR_US, 0}, {7200 * COIR_SEC, 0}};
        coir_lab_report r;

        CHECK_EQ(run_seed(seed, naps, n, &r), COIR_DONE);
        CHECK(n[1].woke < n[2].woke && n[2].woke < n[0].woke);
        CHECK(r.ns >= 86400 * COIR_SEC && r.ns < 86402 * COIR_SEC);
    }
    CHECK(coir_now() - began < 60 * COIR_SEC); /* this thread's time is real */
}

/* A loop that waits for a time by looking at the clock. */
static void look_for_a_while(void *arg)
{
    int64_t end = coir_now() + COIR_MS;

    (void)arg;
    while (coir_now() < end)
        coir_yield();
}

static void a_loop_that_looks_at_the_clock_ends(void)
{
    CHECK_EQ(run_seed(1, look_for_a_while, NULL, NULL), COIR_DONE);
}

/* ---------------------------------------------------------------------------------- supervision */

#define BREAKS 8

static int64_t started_at[BREAKS + 2];
static unsigned starts, jitter;

static void breaks_each_time(void *arg)
{
    (void)arg;
    if (starts < BREAKS + 2)
        started_at[starts] = coir_now();
    starts++;
    coir_panic("planned");
}

/* Backoff of 1, 2, 4, ... seconds, at most 64: more than 8 restarts in an hour are too many. */
static void supervise(void *outcome)
{
    const coir_child_spec child = {.size = sizeof child, .name = "breaks", .fn = breaks_each_time};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &child, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    o.max_restarts = BREAKS;
    o.max_seconds = 3600;
    o.backoff_ns = COIR_SEC;
    o.backoff_max_ns = 64 * COIR_SEC;
    o.backoff_jitter = jitter;
    s = supervisor_open(coir_current(), &o, &end);
    *(int *)outcome = coir_wait(&end);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
}

static void a_supervisor_backs_off_and_gives_up_as_it_should(void)
{
    for (uint64_t seed = 0; seed < FEW(20); seed++) {
        int outcome = COIR_DONE;

        starts = 0;
        CHECK_EQ(run_seed(seed, supervise, &outcome, NULL), COIR_DONE);
        CHECK_EQ(outcome, COIR_PANICKED);
        CHECK_EQ(starts, BREAKS + 1);
        for (int i = 1; i <= BREAKS; i++) {
            int64_t due = (i < 7 ? INT64_C(1) << (i - 1) : 64) * COIR_SEC;
            int64_t waited = started_at[i] - started_at[i - 1];

            CHECK(waited >= due && waited < due + 10 * COIR_MS);
        }
    }
}

static void a_seed_decides_a_backoffs_jitter(void)
{
    int64_t least = COIR_NEVER, most = 0, waited;
    int outcome;

    jitter = 50;
    for (uint64_t seed = 0; seed < FEW(20); seed++) {
        starts = 0;
        CHECK_EQ(run_seed(seed, supervise, &outcome, NULL), COIR_DONE);
        waited = started_at[1] - started_at[0];
        least = waited < least ? waited : least;
        most = waited > most ? waited : most;
    }
    jitter = 0;
    CHECK(most - least > COIR_SEC / 10);
}

/* ------------------------------------------------------------------------------------ mishaps */

#define CROWD 200

struct crowd {
    coir_counter each[CROWD];
    int ran, refused;
    uint64_t outcome[COIR_PANICKED + 1];
};

static void run_one(void *arg)
{
    run_count(arg);
}

static void crowd(void *arg)
{
    struct crowd *c = arg;
    coir_counter before = COIR_COUNTER_INIT;

    for (int i = 0; i < CROWD; i++) {
        int status = coir_spawn_after(&before, &c->each[i], run_one, &c->ran); /* allocates */

        CHECK(status == COIR_OK || status == COIR_ENOMEM);
        c->refused += status == COIR_ENOMEM;
        CHECK_EQ(coir_spawn(&c->each[i], run_one, &c->ran), COIR_OK);
    }
    for (int i = 0; i < CROWD; i++)
        c->outcome[coir_wait(&c->each[i])]++;
}

static void mishaps_come_as_planned_and_are_counted(void)
{
    coir_options o = run_options(0);
    coir_lab l = {.size = sizeof l, .panic_ppm = 100000, .delay_ppm = 200000, .nomem_ppm = 50000};

    for (l.seed = 1; l.seed < 10; l.seed++) {
        static struct crowd c, again;
        coir_lab_report r, s;
        int status, second;

        memset(&c, 0, sizeof c);
        memset(&again, 0, sizeof again);
        status = coir_lab_run(&l, &o, crowd, &c, &r);
        second = coir_lab_run(&l, &o, crowd, &again, &s);
        CHECK_EQ(status, second);
        CHECK_EQ(r.digest, s.digest);
        CHECK_EQ(c.ran, again.ran);
        if (status == COIR_PANICKED) /* the first job was struck */
            continue;
        CHECK_EQ(status, COIR_DONE);
        CHECK(r.panics > 0 && r.delays > 0 && r.refused > 0);
        CHECK_EQ((uint64_t)c.refused, r.refused);
        CHECK_EQ((uint64_t)c.ran, 2 * CROWD - r.refused - r.panics);
        CHECK_EQ(c.outcome[COIR_DONE] + c.outcome[COIR_PANICKED], CROWD);
        CHECK(c.outcome[COIR_PANICKED] > 0 && c.outcome[COIR_PANICKED] <= r.panics);
    }
}

/* -------------------------------------------------------------------------------------- outside */

static void calls_outside(void *arg)
{
    CHECK_EQ(coir_offload(run_one, arg), COIR_DONE);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_SEC), COIR_OK);
}

static void what_goes_on_outside_is_waited_for(void)
{
    int ran = 0;

    CHECK_EQ(run_seed(3, calls_outside, &ran, NULL), COIR_DONE);
    CHECK_EQ(ran, 1);
}

static void runs_in_a_job(void *status)
{
    *(int *)status = run_seed(1, run_one, status, NULL);
}

static void bad_input_is_refused(void)
{
    coir_options o = run_options(0);
    coir_lab l = seeded(1);
    int ran = 0;

    CHECK_EQ(coir_lab_run(NULL, &o, run_one, &ran, NULL), COIR_EINVAL);
    CHECK_EQ(coir_lab_run(&l, &o, NULL, &ran, NULL), COIR_EINVAL);
    l.size = 3;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_EINVAL);
    l = seeded(1);
    l.panic_ppm = 1000001;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_ERANGE);
    l = seeded(1);
    l.delay_ns = -1;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_ERANGE);
    l = seeded(1);
    o.workers = 2;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_ERANGE);
    o = run_options(0);
    o.stall_ns = COIR_SEC;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_EINVAL);
    o = run_options(0);
    o.deadlock = COIR_DEADLOCK_REPORT;
    CHECK_EQ(coir_lab_run(&l, &o, run_one, &ran, NULL), COIR_EINVAL);
    CHECK_EQ(ran, 0);
    CHECK_EQ(coir_lab_run(&l, NULL, run_one, &ran, NULL), COIR_DONE); /* NULL is all defaults */
    CHECK_EQ(ran, 1);
    run_on(1, runs_in_a_job, &ran);
    CHECK_EQ(ran, COIR_EPERM);
}

CHECK_MAIN(CASE(a_seed_decides_the_same_each_time), CASE(a_seed_decides_what_select_takes),
           CASE(a_lost_update_is_found_and_replayed), CASE(a_deadlock_ends_with_the_names_of_who_waits),
           CASE(hours_pass_in_no_time), CASE(a_loop_that_looks_at_the_clock_ends),
           CASE(a_supervisor_backs_off_and_gives_up_as_it_should), CASE(a_seed_decides_a_backoffs_jitter),
           CASE(mishaps_come_as_planned_and_are_counted), CASE(what_goes_on_outside_is_waited_for),
           CASE(bad_input_is_refused))
