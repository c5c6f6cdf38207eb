/* SPDX-License-Identifier: MIT */
/*
 * domain_limit_test.c - limits of memory and stacks: exact at every level, undone where they refuse, given
 * back on every way out; what is left at the end is reported.
 */
#include "domains.h"
#include "pools.h"
#include "threads.h"

static coir_domain *open_limited(coir_runtime *rt, coir_domain *parent, uint64_t memory, size_t stacks)
{
    coir_domain_options o = domain_options("limited");

    o.memory_max = memory;
    o.stacks_max = stacks;
    return domain_open(rt, parent, &o);
}

/* -------------------------------------------------------------------------------------- memory */

static void charges_stop_at_the_limit_of_each_level(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *top = open_limited(rt, NULL, 1000, 0), *low = open_limited(rt, top, 600, 0),
                *free = open_limited(rt, top, 0, 0);

    CHECK_EQ(coir_domain_charge(low, 600), COIR_OK);
    CHECK_EQ(coir_domain_charge(low, 1), COIR_ENOMEM);
    CHECK_EQ(coir_domain_charge(free, 401), COIR_ENOMEM); /* the level above */
    CHECK_EQ(coir_domain_charge(free, SIZE_MAX), COIR_ENOMEM);
    CHECK_EQ(domain_stats(free).memory, 0); /* undone */
    CHECK_EQ(coir_domain_charge(free, 400), COIR_OK);
    CHECK_EQ(coir_domain_charge(top, 1), COIR_ENOMEM);
    CHECK_EQ(coir_domain_charge(top, 0), COIR_OK);
    CHECK_EQ(domain_stats(top).memory, 1000);
    CHECK_EQ(domain_stats(top).denied, 4);
    CHECK_EQ(coir_domain_discharge(low, 600), COIR_OK);
    CHECK_EQ(coir_domain_charge(top, 600), COIR_OK);
    CHECK_EQ(coir_domain_discharge(top, 600), COIR_OK);
    CHECK_EQ(coir_domain_discharge(free, 400), COIR_OK);
    CHECK_EQ(domain_stats(top).memory, 0);
    domain_close(top);
    run_close(rt);
}

static void nobody_discharges_what_is_not_his(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *top = open_limited(rt, NULL, 1000, 0), *low = open_limited(rt, top, 0, 0);

    CHECK_EQ(coir_domain_charge(low, 100), COIR_OK);
    CHECK_EQ(coir_domain_discharge(top, 1), COIR_ERANGE); /* it is the lower one's */
    CHECK_EQ(coir_domain_discharge(low, 101), COIR_ERANGE);
    CHECK_EQ(domain_stats(top).memory, 100);
    CHECK_EQ(domain_stats(low).memory, 100);
    CHECK_EQ(coir_domain_discharge(low, 100), COIR_OK);
    CHECK_EQ(coir_domain_charge(NULL, 1), COIR_EPERM);
    CHECK_EQ(coir_domain_discharge(NULL, 1), COIR_EPERM);
    domain_close(top);
    run_close(rt);
}

static int errors;
static char line[256];

static void keep_error(enum coir_log_level level, const char *text, void *unused)
{
    (void)unused;
    if (level != COIR_LOG_ERROR)
        return;
    errors++;
    snprintf(line, sizeof line, "%s", text);
}

static void what_is_left_is_reported_and_taken_off_those_above(void)
{
    coir_options options = run_options(1);
    coir_runtime *rt = NULL;
    coir_domain *top, *low;
    coir_domain_receipt r;

    options.log = keep_error;
    CHECK_EQ(coir_open(&options, &rt), COIR_OK);
    top = open_limited(rt, NULL, 1000, 0);
    low = open_limited(rt, top, 0, 0);
    CHECK_EQ(coir_domain_charge(low, 700), COIR_OK);
    CHECK_EQ(coir_domain_charge(top, 30), COIR_OK);
    CHECK_EQ(coir_domain_close(low, -1, &r), COIR_OK);
    CHECK_EQ(r.memory_leaked, 700);
    CHECK_EQ(errors, 1);
    CHECK_STR(line, "domain limited closes with 700 bytes charged to it");
    CHECK_EQ(domain_stats(top).memory, 30);
    CHECK_EQ(coir_domain_charge(top, 970), COIR_OK);
    CHECK_EQ(coir_domain_close(top, -1, &r), COIR_OK);
    CHECK_EQ(r.memory_leaked, 1700); /* with what was below */
    run_close(rt);
}

struct late {
    struct hold hold;
    int inside;
};

/* In a domain below one that closes: what has begun may still need memory. */
static void charges_while_it_closes(void *arg)
{
    struct late *l = arg;

    job_hold(&l->hold);
    l->inside = coir_domain_charge(NULL, 10);
    CHECK_EQ(coir_domain_discharge(NULL, 10), COIR_OK);
}

static void a_closing_domain_is_charged_by_its_own_jobs_only(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = open_limited(rt, NULL, 100, 0);
    struct late l = {{0, 0}, 1};

    CHECK_EQ(coir_domain_submit(d, NULL, charges_while_it_closes, &l), COIR_OK);
    run_until(&l.hold.started);
    CHECK_EQ(coir_domain_close(d, 0, NULL), COIR_ETIMEDOUT);
    CHECK_EQ(coir_domain_charge(d, 1), COIR_ESHUTDOWN);
    run_set(&l.hold.go);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(l.inside, COIR_OK);
    run_close(rt);
}

/* Threads that charge and discharge at random, at two levels. */
struct account {
    coir_domain *top, *own;
    uint64_t seed, refused;
};

#define ACCOUNT_ROUNDS MANY(200000)
#define ACCOUNT_MAX 1000

static void *charges_at_random(void *arg)
{
    struct account *a = arg;
    uint64_t have = 0;

    for (int i = 0; i < ACCOUNT_ROUNDS; i++) {
        uint64_t n = random_next(&a->seed) % 400;

        if (n % 2 && n <= have) {
            CHECK_EQ(coir_domain_discharge(a->own, n), COIR_OK);
            have -= n;
        } else if (coir_domain_charge(a->own, n) == COIR_OK) {
            have += n;
        } else {
            a->refused++;
        }
        if (i % 64 == 0)
            CHECK(domain_stats(a->top).memory <= ACCOUNT_MAX);
    }
    CHECK_EQ(coir_domain_discharge(a->own, have + 1), COIR_ERANGE);
    CHECK_EQ(coir_domain_discharge(a->own, have), COIR_OK);
    return NULL;
}

static void accounts_balance_under_attack(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *top = open_limited(rt, NULL, ACCOUNT_MAX, 0);
    struct account a[4];
    struct threads t = {0};
    uint64_t refused = 0;

    for (unsigned i = 0; i < 4; i++) {
        a[i] = (struct account){top, open_limited(rt, top, i % 2 ? 300 : 0, 0), i + 1, 0};
        threads_add(&t, charges_at_random, &a[i]);
    }
    threads_join(&t);
    for (int i = 0; i < 4; i++) {
        refused += a[i].refused;
        CHECK_EQ(domain_stats(a[i].own).memory, 0);
    }
    CHECK_EQ(domain_stats(top).memory, 0);
    CHECK_EQ(domain_stats(top).denied, refused);
    CHECK(refused > 0);
    domain_close(top);
    run_close(rt);
}

/* -------------------------------------------------------------------------------------- stacks */

static void until_parked(coir_domain *d, uint64_t n)
{
    while (domain_stats(d).stacks != n) {
        coir_yield();
        sched_yield();
    }
}

struct sleeper {
    coir_counter *until; /* a stranger's */
    int status;
};

static void sleeps(void *arg)
{
    struct sleeper *s = arg;

    s->status = coir_wait(s->until);
}

static void no_more_jobs_park_than_its_domain_and_those_above_allow(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *top = open_limited(rt, NULL, 0, 3), *low = open_limited(rt, top, 0, 2),
                *none = open_limited(rt, low, 0, 0), *beside = open_limited(rt, top, 0, 2);
    coir_counter gate = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    struct sleeper s[6] = {{&gate, 1}, {&gate, 1}, {&gate, 1}, {&gate, 1}, {&gate, 1}, {&gate, 1}};

    coir_counter_add(&gate, 1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_domain_submit(i ? none : low, &done, sleeps, &s[i]), COIR_OK);
    until_parked(low, 2);
    CHECK_EQ(domain_run(none, sleeps, &s[2], NULL), COIR_DONE);
    CHECK_EQ(s[2].status, COIR_ENOMEM);
    CHECK_EQ(domain_stats(top).stacks, 2); /* undone */
    CHECK_EQ(coir_domain_submit(top, &done, sleeps, &s[3]), COIR_OK);
    until_parked(top, 3);
    CHECK_EQ(domain_run(top, sleeps, &s[4], NULL), COIR_DONE);
    CHECK_EQ(s[4].status, COIR_ENOMEM);
    CHECK_EQ(domain_run(beside, sleeps, &s[5], NULL), COIR_DONE);
    CHECK_EQ(s[5].status, COIR_ENOMEM);       /* there is room, but not above */
    CHECK_EQ(domain_stats(beside).stacks, 0); /* undone */
    CHECK_EQ(domain_stats(top).denied, 3);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(s[0].status + s[1].status + s[3].status, COIR_DONE);
    CHECK_EQ(domain_stats(top).stacks, 0);
    domain_close(top);
    run_close(rt);
}

/* Each way to wait, while its domain has no stack left for it. */
struct ways {
    coir_domain *domain;
    coir_mutex *mutex; /* somebody holds it */
    coir_counter gate;
    struct sleeper child;
};

static void waits_each_way(void *arg)
{
    struct ways *k = arg;
    coir_counter own = COIR_COUNTER_INIT, stranger = COIR_COUNTER_INIT;
    coir_counter *const both[] = {&stranger, &own};
    size_t which = 0;

    CHECK_EQ(coir_spawn(&own, sleeps, &k->child), COIR_OK);
    until_parked(k->domain, 1);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_SEC), COIR_ENOMEM);
    CHECK_EQ(coir_mutex_lock(k->mutex), COIR_ENOMEM);
    CHECK_EQ(coir_wait(&k->gate), COIR_ENOMEM);
    CHECK_EQ(coir_wait_until(&k->gate, coir_now() + COIR_SEC), COIR_ENOMEM);
    CHECK_EQ(coir_offload(job_count, &k->child.status), COIR_ENOMEM);
    coir_counter_add(&stranger, 1);
    CHECK_EQ(domain_stats(k->domain).stacks, 1);
    /* For its own children it waits all the same. */
    CHECK_EQ(coir_wait_until(&own, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(coir_wait_any(both, 2, coir_now() + COIR_MS, NULL), COIR_ETIMEDOUT);
    coir_counter_done(&k->gate, COIR_DONE);
    CHECK_EQ(coir_wait_any(both, 2, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 1);
    CHECK_EQ(k->child.status, COIR_DONE);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK); /* there is room again */
    coir_counter_done(&stranger, COIR_DONE);
}

static void every_wait_is_refused_but_those_for_own_children(void)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        coir_runtime *rt = run_open(workers);
        coir_mutex m = COIR_MUTEX_INIT;
        struct ways k = {.domain = open_limited(rt, NULL, 0, 1), .mutex = &m};

        k.child = (struct sleeper){&k.gate, 1};
        coir_counter_add(&k.gate, 1);
        CHECK_EQ(coir_mutex_lock(&m), COIR_OK);
        CHECK_EQ(domain_run(k.domain, waits_each_way, &k, NULL), COIR_DONE);
        CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
        CHECK_EQ(domain_stats(k.domain).stacks, 0);
        domain_close(k.domain);
        run_close(rt);
    }
}

/* A panic waits for children in its frames, with the last stack taken: that wait must not be refused. */
static void leaves_a_sleeper(void *arg)
{
    struct ways *k = arg;
    coir_counter own = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&own, sleeps, &k->child), COIR_OK);
    until_parked(k->domain, 1);
    coir_panic("planned");
}

static void a_panic_settles_its_children_past_the_limit(void)
{
    coir_runtime *rt = run_open(1);
    struct ways k = {.domain = open_limited(rt, NULL, 0, 1)};

    k.child = (struct sleeper){&k.gate, 1};
    coir_counter_add(&k.gate, 1);
    CHECK_EQ(domain_run(k.domain, leaves_a_sleeper, &k, NULL), COIR_PANICKED);
    CHECK_EQ(k.child.status, COIR_ECANCELED);
    CHECK_EQ(domain_stats(k.domain).stacks, 0);
    coir_counter_done(&k.gate, COIR_DONE);
    domain_close(k.domain);
    run_close(rt);
}

/* Jobs that wait in all kinds of ways, are refused, are canceled in the middle of it, and panic. */
struct storm {
    coir_domain *domain;
    coir_counter *gate; /* never settles before the end */
    int entered, refused;
};

static void waits_and_breaks(void *arg)
{
    struct storm *s = arg;
    coir_counter own = COIR_COUNTER_INIT;
    int n = run_count(&s->entered), ran = 0, status;

    status = coir_spawn(&own, job_count, &ran);
    CHECK(status == COIR_OK || status == COIR_ECANCELED); /* the close may have given up draining */
    for (int i = 0; i < 20; i++) {
        status = i % 2 ? coir_sleep_until(coir_now() + 1000) : coir_wait_until(s->gate, coir_now() + 1000);
        if (status == COIR_ENOMEM)
            run_count(&s->refused);
        CHECK(domain_stats(s->domain).stacks <= 4 + 64); /* those who wait for their own go past it */
    }
    if (n % 3 == 0)
        coir_panic("planned");
    (void)!coir_wait(&own);
    if (n % 3 == 1 && coir_wait(s->gate) == COIR_ENOMEM) /* or it is canceled */
        run_count(&s->refused);
}

static void stacks_are_given_back_on_every_way_out(void)
{
    coir_runtime *rt = run_open(4);
    coir_domain *top = open_limited(rt, NULL, 0, 4);
    coir_counter gate = COIR_COUNTER_INIT;
    int refused = 0;

    coir_counter_add(&gate, 1);
    /* Few collide where all is slow. */
    for (int round = 0; round < MANY(40) + 1 || (!refused && round < 1000); round++) {
        struct storm s = {open_limited(rt, top, 0, round % 2 ? 2 : 0), &gate, 0, 0};

        for (int i = 0; i < 64; i++)
            CHECK_EQ(coir_domain_submit(s.domain, NULL, waits_and_breaks, &s), COIR_OK);
        if (round % 4 == 0)
            CHECK_EQ(coir_domain_cancel(s.domain), COIR_OK);
        domain_close_after(s.domain, COIR_MS, NULL);
        CHECK_EQ(domain_stats(top).stacks, 0);
        refused += s.refused;
    }
    CHECK(refused > 0);
    coir_counter_done(&gate, COIR_DONE);
    domain_close(top);
    run_close(rt);
}

static void open_pool_without_a_stack(void *unused)
{
    coir_pool_options o = pool_options("none");
    coir_pool *p;

    (void)unused;
    CHECK_EQ(coir_pool_open(coir_current(), &o, &p), COIR_ENOMEM);
}

/* Its workers are on its own worker, and end when they have run. */
static void who_may_not_park_opens_no_pool(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = open_limited(rt, NULL, 0, 1);
    coir_counter c = COIR_COUNTER_INIT;
    struct blocked b = {0, 0};

    CHECK_EQ(coir_domain_submit(d, &c, job_block, &b), COIR_OK);
    while (domain_stats(d).stacks == 0)
        sched_yield();
    CHECK_EQ(domain_run(d, open_pool_without_a_stack, NULL, NULL), COIR_DONE);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

static void no_message(coir_message *m)
{
    (void)m;
}

/* What has nothing to do waits for work, and would wait again at once. */
static void idle_pools_and_supervisors_sleep_past_the_limit(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = open_limited(rt, NULL, 0, 1);
    coir_pool_options po = {.size = sizeof po, .handle = no_message, .dead = no_message, .workers = 2,
                            .queue_max = 4, .attempts_max = 1, .parent = d};
    coir_supervisor_options so = {.size = sizeof so, .strategy = COIR_DYNAMIC, .max_restarts = 1, .max_seconds = 1};
    coir_supervisor *s;
    coir_pool *p;

    CHECK_EQ(coir_pool_open(rt, &po, &p), COIR_OK);
    CHECK_EQ(coir_supervisor_open(rt, d, &so, NULL, &s), COIR_OK);
    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_MS), COIR_OK);
    CHECK_EQ(domain_stats(d).denied, 0);
    until_parked(d, 3);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    CHECK_EQ(domain_stats(d).denied, 0);
    CHECK_EQ(domain_stats(d).stacks, 0);
    domain_close(d);
    run_close(rt);
}

CHECK_MAIN(CASE(charges_stop_at_the_limit_of_each_level), CASE(nobody_discharges_what_is_not_his),
           CASE(what_is_left_is_reported_and_taken_off_those_above),
           CASE(a_closing_domain_is_charged_by_its_own_jobs_only), CASE(accounts_balance_under_attack),
           CASE(no_more_jobs_park_than_its_domain_and_those_above_allow),
           CASE(every_wait_is_refused_but_those_for_own_children),
           CASE(a_panic_settles_its_children_past_the_limit),
           CASE(stacks_are_given_back_on_every_way_out),
           CASE(who_may_not_park_opens_no_pool),
           CASE(idle_pools_and_supervisors_sleep_past_the_limit))
