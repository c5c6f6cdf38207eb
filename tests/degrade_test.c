/* SPDX-License-Identifier: MIT */
/*
 * degrade_test.c - core/degrade.c, core/once_table.c: the optional part and its fallback; calls made once for
 * each key.
 */
#include "run.h"

struct part {
    int panics, fails, blocks, ran, fell_back, interrupted;
};

static void optional(void *arg)
{
    struct part *p = arg;

    run_count(&p->ran);
    if (p->panics)
        coir_panic("planned");
    if (p->blocks && coir_sleep_until(coir_now() + 3600 * COIR_SEC) == COIR_ECANCELED)
        run_count(&p->interrupted);
    if (p->fails || p->blocks)
        coir_fail(5, "planned");
}

static void fall_back(void *arg)
{
    run_count(&((struct part *)arg)->fell_back);
}

static void each_way(void *unused)
{
    struct part good = {0}, panics = {.panics = 1}, fails = {.fails = 1}, blocks = {.blocks = 1}, late = {0};

    (void)unused;
    CHECK_EQ(coir_degrade(optional, &good, COIR_NEVER, fall_back), COIR_DONE);
    CHECK(good.ran == 1 && good.fell_back == 0);
    CHECK_EQ(coir_degrade(optional, &panics, coir_now() + 3600 * COIR_SEC, fall_back), COIR_PANICKED);
    CHECK(panics.ran == 1 && panics.fell_back == 1);
    CHECK_EQ(coir_degrade(optional, &fails, COIR_NEVER, fall_back), COIR_FAILED);
    CHECK(fails.ran == 1 && fails.fell_back == 1);
    CHECK_EQ(coir_degrade(optional, &blocks, coir_now() + 200 * COIR_MS, fall_back), COIR_EXPIRED);
    CHECK(blocks.fell_back == 1 && blocks.interrupted == blocks.ran);
    CHECK_EQ(coir_degrade(optional, &late, coir_now() - 1, fall_back), COIR_EXPIRED);
    CHECK(late.ran == 0 && late.fell_back == 1);
    CHECK_EQ(coir_degrade(optional, &fails, COIR_NEVER, NULL), COIR_FAILED);
    CHECK_EQ(coir_degrade(NULL, NULL, COIR_NEVER, fall_back), COIR_EINVAL);
}

static void the_fallback_is_called_unless_the_part_is_done(void)
{
    run_on(1, each_way, NULL);
    run_on(2, each_way, NULL);
}

static void degrade_blocking(void *arg)
{
    CHECK_EQ(coir_degrade(optional, arg, coir_now() + 3600 * COIR_SEC, fall_back), COIR_ECANCELED);
    CHECK_EQ(coir_degrade(optional, arg, COIR_NEVER, fall_back), COIR_ECANCELED);
}

static void a_canceled_request_needs_no_fallback(void)
{
    struct part blocks = {.blocks = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);

    CHECK_EQ(coir_submit(rt, &c, degrade_blocking, &blocks), COIR_OK);
    run_until(&blocks.ran);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(blocks.ran == 1 && blocks.fell_back == 0 && blocks.interrupted == 1);
    run_close(rt);
}

static void degrade_under_abort(void *arg)
{
    CHECK_EQ(coir_degrade(optional, arg, COIR_NEVER, fall_back), COIR_EPOLICY);
}

static void without_containment_or_fiber_it_refuses(void)
{
    struct part p = {0};
    coir_options o = run_options(1);

    CHECK_EQ(coir_degrade(optional, &p, COIR_NEVER, fall_back), COIR_EPERM);
    o.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_run(&o, degrade_under_abort, &p), COIR_DONE);
    CHECK(p.ran == 0 && p.fell_back == 0);
}

static void full_domain(void *arg)
{
    coir_domain *d = coir_domain_current();

    CHECK(d != NULL);
    CHECK_EQ(coir_degrade(optional, arg, COIR_NEVER, fall_back), COIR_CANCELED);
}

static void no_room_for_the_part_is_a_reason(void)
{
    coir_domain_options o = {.size = sizeof o, .jobs_max = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(1);
    struct part p = {0};
    coir_domain *d;

    CHECK_EQ(coir_domain_open(rt, NULL, &o, &d), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, full_domain, &p), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(p.ran == 0 && p.fell_back == 1);
    run_close(rt);
}

/* ------------------------------------------------------------------------------- once table */

struct effect {
    coir_once_table *table;
    uint64_t key;
    int calls, panics, fails, hold, started, go;
};

static int64_t cause(void *arg)
{
    struct effect *e = arg;
    int n = run_count(&e->calls);

    run_set(&e->started);
    if (e->hold)
        run_until(&e->go);
    if (n <= e->panics)
        coir_panic("planned");
    if (n <= e->fails)
        coir_fail(5, "planned");
    return 100 + n;
}

static coir_once_table *table_open(coir_runtime *rt, size_t keys)
{
    coir_once_table *t = NULL;

    CHECK_EQ(coir_once_table_open(rt, keys, &t), COIR_OK);
    return t;
}

static void the_second_call_gets_the_first_ones_result(void)
{
    coir_runtime *rt = run_open(1);
    coir_once_table *t = table_open(rt, 10);
    struct effect e = {0}, bad = {.panics = 1, .fails = 2};
    int64_t result = 0;

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_once_table_call(t, 7, cause, &e, &result), COIR_DONE);
        CHECK_EQ(result, 101);
    }
    CHECK_EQ(e.calls, 1);
    result = 5;
    CHECK_EQ(coir_once_table_call(t, 8, cause, &bad, &result), COIR_PANICKED);
    CHECK_EQ(coir_once_table_call(t, 8, cause, &bad, &result), COIR_FAILED);
    CHECK_EQ(result, 5);
    CHECK_EQ(coir_once_table_call(t, 8, cause, &bad, &result), COIR_DONE);
    CHECK_EQ(result, 103);
    CHECK_EQ(coir_once_table_call(t, 8, cause, &bad, NULL), COIR_DONE);
    CHECK_EQ(bad.calls, 3);
    CHECK_EQ(coir_once_table_close(t), COIR_OK);
    run_close(rt);
}

static void the_last_keys_are_remembered(void)
{
    enum { N = 50 };
    coir_runtime *rt = run_open(1);
    coir_once_table *t = table_open(rt, N);
    struct effect e = {0};

    for (uint64_t key = 0; key < 2 * N; key++)
        CHECK_EQ(coir_once_table_call(t, key * 64, cause, &e, NULL), COIR_DONE);
    CHECK_EQ(e.calls, 2 * N);
    for (uint64_t key = 2 * N; key-- > N;)
        CHECK_EQ(coir_once_table_call(t, key * 64, cause, &e, NULL), COIR_DONE);
    CHECK_EQ(e.calls, 2 * N);
    CHECK_EQ(coir_once_table_call(t, 0, cause, &e, NULL), COIR_DONE); /* forgotten; and now the oldest is, too */
    CHECK_EQ(coir_once_table_call(t, N * 64, cause, &e, NULL), COIR_DONE);
    CHECK_EQ(e.calls, 2 * N + 1);
    CHECK_EQ(coir_once_table_call(t, (2 * N - 1) * 64, cause, &e, NULL), COIR_DONE);
    CHECK_EQ(e.calls, 2 * N + 2);
    CHECK_EQ(coir_once_table_close(t), COIR_OK);
    run_close(rt);
}

static void call_one(void *arg)
{
    struct effect *e = arg;
    int64_t result = 0;
    int status = coir_once_table_call(e->table, e->key, cause, e, &result);

    CHECK(status == COIR_DONE || (status == COIR_PANICKED && e->panics));
    CHECK(status != COIR_DONE || result == 101 + e->panics);
}

static void call_in_vain(void *arg)
{
    struct effect *e = arg;
    int64_t result = 0;

    CHECK_EQ(coir_once_table_call(e->table, e->key, cause, e, &result), COIR_ECANCELED);
    CHECK_EQ(result, 0);
}

static void who_waits_for_anothers_call_can_be_canceled(void)
{
    coir_runtime *rt = run_open(2);
    struct effect e = {.table = table_open(rt, 1), .key = 3, .hold = 1};
    coir_counter c = COIR_COUNTER_INIT, canceled = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_submit(rt, &c, call_one, &e), COIR_OK);
    run_until(&e.started);
    CHECK_EQ(coir_submit(rt, &canceled, call_in_vain, &e), COIR_OK);
    do
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    while (s.parked < 1); /* it waits */
    CHECK_EQ(coir_counter_cancel(&canceled), COIR_OK);
    CHECK_EQ(coir_wait(&canceled), COIR_DONE);
    run_set(&e.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(e.calls, 1);
    CHECK_EQ(coir_once_table_close(e.table), COIR_OK);
    run_close(rt);
}

static void who_comes_meanwhile_waits(void)
{
    for (int panics = 0; panics <= 1; panics++) {
        coir_runtime *rt = run_open(2);
        struct effect e = {.table = table_open(rt, 1), .key = 3, .hold = 1, .panics = panics};
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_submit(rt, &c, call_one, &e), COIR_OK);
        run_until(&e.started);
        for (int i = 0; i < 10; i++)
            CHECK_EQ(coir_submit(rt, &c, call_one, &e), COIR_OK);
        CHECK_EQ(coir_once_table_call_until(e.table, 3, cause, &e, NULL, coir_now() + COIR_MS), COIR_ETIMEDOUT);
        CHECK_EQ(coir_once_table_call(e.table, 4, cause, &e, NULL), COIR_EAGAIN);
        CHECK_EQ(coir_once_table_close(e.table), COIR_EBUSY);
        run_set(&e.go);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(e.calls, 1 + panics);
        CHECK_EQ(coir_once_table_close(e.table), COIR_OK);
        run_close(rt);
    }
}

static int64_t call_itself(void *arg)
{
    struct effect *e = arg;

    return coir_once_table_call(e->table, e->key, call_itself, e, NULL);
}

static void a_call_of_itself_is_told(void)
{
    coir_runtime *rt = run_open(1);
    struct effect e = {.table = table_open(rt, 4), .key = 3};
    coir_once_table *t;
    int64_t result = 0;

    CHECK_EQ(coir_once_table_call(e.table, 3, call_itself, &e, &result), COIR_DONE);
    CHECK_EQ(result, COIR_EDEADLK);
    CHECK_EQ(coir_once_table_close(e.table), COIR_OK);
    CHECK_EQ(coir_once_table_open(rt, 0, &t), COIR_ERANGE);
    CHECK_EQ(coir_once_table_open(rt, SIZE_MAX, &t), COIR_ERANGE);
    CHECK_EQ(coir_once_table_open(NULL, 1, &t), COIR_EINVAL);
    CHECK(t == NULL);
    CHECK_EQ(coir_once_table_open(rt, 1, NULL), COIR_EINVAL);
    CHECK_EQ(coir_once_table_close(NULL), COIR_EINVAL);
    CHECK_EQ(coir_once_table_call(NULL, 1, cause, &e, NULL), COIR_EINVAL);
    run_close(rt);
}

static void storm_one(void *arg)
{
    struct effect *e = arg;

    for (unsigned i = 0; i < 300; i++) {
        struct effect mine = {.panics = i % 5 == 0};
        int status = coir_once_table_call(e->table, i % 13, cause, &mine, NULL);

        CHECK(status == COIR_DONE || status == COIR_PANICKED || status == COIR_EAGAIN);
        CHECK(mine.calls <= 1);
    }
}

static void many_keys_at_once_stay_in_order(void)
{
    coir_runtime *rt = run_open(3);
    struct effect e = {.table = table_open(rt, 4)};
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 20; i++)
        CHECK_EQ(coir_submit(rt, &c, storm_one, &e), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_once_table_close(e.table), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(the_fallback_is_called_unless_the_part_is_done), CASE(a_canceled_request_needs_no_fallback),
           CASE(without_containment_or_fiber_it_refuses), CASE(no_room_for_the_part_is_a_reason),
           CASE(the_second_call_gets_the_first_ones_result), CASE(the_last_keys_are_remembered),
           CASE(who_comes_meanwhile_waits), CASE(who_waits_for_anothers_call_can_be_canceled),
           CASE(a_call_of_itself_is_told), CASE(many_keys_at_once_stay_in_order))
