/* SPDX-License-Identifier: MIT */
/*
 * record_test.c - the failures a runtime keeps: every field of a record, the locations, finding
 * by id, going through them, the bound, missing memory, and many threads at once.
 */
#include "run.h"

#include <pthread.h>
#include <time.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

static void raise_text(void *text)
{
    coir_panic("%s", (const char *)text);
}

static char plain[] = "plain";

/* ---------------------------------------------------------------------------------- the fields */

static int64_t wall(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

static void nop(void *unused)
{
    (void)unused;
}

/* On one worker such a wait parks: the job it is for has not started. */
static void raise_after_waits(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < *(int *)n; i++) {
        CHECK_EQ(coir_spawn(&c, nop, NULL), COIR_OK);
        CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    }
    coir_panic("%0300d", 7);
}

static int one_worker(void)
{
    coir_stats s;

    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    return s.workers == 1;
}

static void check_fields(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int64_t before = wall();
    char text[COIR_TEXT_BYTES + 8];
    coir_failure f, kept;
    int n = 5;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, raise_after_waits, &n), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK(f.wall >= before && f.wall <= wall());
    CHECK(f.resumes <= 5);
    CHECK_EQ(f.resumes, one_worker() ? 5 : f.resumes);
    CHECK_EQ(f.code, 0);
    CHECK_EQ(f.location, COIR_AT_JOB);
    CHECK(f.runtime != 0);
    CHECK_EQ(f.backtrace, 0); /* not asked for */

    CHECK_EQ(coir_failure_find(coir_current(), f.id, &kept), COIR_OK);
    CHECK_EQ(memcmp(&kept, &f, sizeof f), 0);
    CHECK_EQ(strlen(f.message), COIR_MESSAGE_BYTES - 1);
    CHECK_EQ(coir_failure_text(coir_current(), f.id, text, sizeof text), COIR_OK);
    CHECK_EQ(strlen(text), COIR_TEXT_BYTES - 1);
    CHECK_EQ(coir_failure_text(coir_current(), f.id, text, 4), COIR_OK);
    CHECK_STR(text, "000");
}

static void a_record_says_when_where_and_in_which_runtime(void)
{
    run_on(1, check_fields, NULL);
    run_on(2, check_fields, NULL);
}

static void raise_at_once(void *resumes)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_text, plain, &f), COIR_PANICKED);
    *(uint32_t *)resumes = f.resumes;
}

/* The loop's stack has been resumed many times by then; the job has not. */
static void count_resumes(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 100; i++) {
        uint32_t resumes = 77;

        CHECK_EQ(coir_spawn(&c, raise_at_once, &resumes), COIR_OK);
        CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
        CHECK_EQ(resumes, 0);
    }
}

static void a_job_that_never_blocked_was_never_resumed(void)
{
    run_on(1, count_resumes, NULL);
}

static void ask_number(void *number)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_text, plain, &f), COIR_PANICKED);
    *(uint32_t *)number = f.runtime;
}

static void runtimes_have_numbers(void)
{
    uint32_t a = 0, b = 0;
    coir_failure f;

    run_on(1, ask_number, &a);
    run_on(1, ask_number, &b);
    CHECK(a != 0 && b == a + 1);
    CHECK_EQ(coir_try(raise_text, plain, &f), COIR_PANICKED);
    CHECK_EQ(f.runtime, 0);
}

/* ------------------------------------------------------------------------------- the locations */

static int location; /* of the last failure that was looked at */

static void find_location(coir_fn *fn)
{
    coir_failure f;

    CHECK_EQ(coir_try(fn, NULL, &f), COIR_PANICKED);
    location = f.location;
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("plain");
}

static void defer_raising(void *unused)
{
    CHECK_EQ(coir_defer(raise_plain, unused), COIR_OK);
}

static void look_in_handler(void *unused)
{
    (void)unused;
    find_location(raise_plain); /* a boundary inside the handler is the handler's */
}

static void defer_looking(void *unused)
{
    CHECK_EQ(coir_defer(look_in_handler, unused), COIR_OK);
}

static void look_in_cleanup(int *unused)
{
    (void)unused;
    find_location(raise_plain);
}

static void raise_over_looking(void *unused)
{
    int n CLEANUP(look_in_cleanup) = 0;

    raise_plain(unused);
}

static void look_everywhere(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = coir_current();
    coir_failure f;
    coir_stats s;

    (void)unused;
    find_location(raise_plain);
    CHECK_EQ(location, rt ? COIR_AT_JOB : COIR_AT_THREAD);
    find_location(defer_raising);
    CHECK_EQ(location, COIR_AT_DEFER);
    CHECK_EQ(coir_try(defer_looking, NULL, NULL), COIR_DONE);
    CHECK_EQ(location, COIR_AT_DEFER);
    CHECK_EQ(coir_try(raise_over_looking, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(location, COIR_AT_CLEANUP);
    if (!rt)
        return;
    CHECK_EQ(coir_offload(raise_plain, NULL), COIR_PANICKED);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_spawn(&c, raise_plain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.location, COIR_AT_SCHEDULER);
    CHECK(f.runtime != 0);

    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.failures_at[COIR_AT_JOB], 2);
    CHECK_EQ(s.failures_at[COIR_AT_DEFER], 2);
    CHECK_EQ(s.failures_at[COIR_AT_CLEANUP], 1);
    CHECK_EQ(s.failures_at[COIR_AT_OFFLOAD], 1);
    CHECK_EQ(s.failures_at[COIR_AT_SCHEDULER], 1);
    CHECK_EQ(s.panics_at[COIR_AT_OFFLOAD], 1);
    CHECK_EQ(s.panics_at[COIR_AT_SCHEDULER], 0); /* canceled is no panic */
    CHECK_EQ(s.failures_of[COIR_KIND_PANIC], 6);
    CHECK_EQ(s.failures_of[COIR_KIND_SKIPPED], 1);
    CHECK_EQ(s.records, 6);
}

static void each_location_is_told_and_counted_apart(void)
{
    run_on(1, look_everywhere, NULL);
    look_everywhere(NULL);
}

static void release_by_hand(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f, kept;

    (void)unused;
    coir_counter_add(&c, 1);
    coir_counter_done(&c, COIR_EXPIRED);
    CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_DONE);
    CHECK_EQ(f.location, COIR_AT_JOB);
    CHECK_EQ(coir_failure_find(coir_current(), f.id, &kept), COIR_OK);
    CHECK_EQ(kept.outcome, COIR_EXPIRED);
}

static void an_outcome_given_by_hand_is_kept(void)
{
    run_on(1, release_by_hand, NULL);
}

/* ---------------------------------------------------------------------------- the store's bound */

static uint64_t fail_once(void)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_text, plain, &f), COIR_PANICKED);
    return f.id;
}

static void overflow_store(void *arg)
{
    enum { MORE = 100 };
    const int kept = *(const int *)arg;
    static uint64_t id[COIR_RECORDS + MORE];
    coir_runtime *rt = coir_current();
    uint64_t cursor = 0, seen = 0;
    coir_failure f;

    CHECK_EQ(coir_failure_next(rt, &cursor, &f), COIR_ENOENT);
    for (int i = 0; i < kept + MORE; i++)
        id[i] = fail_once();
    for (int i = 0; i < kept + MORE; i += 7)
        CHECK_EQ(coir_failure_find(rt, id[i], &f), i < MORE ? COIR_ENOENT : COIR_OK);
    for (; coir_failure_next(rt, &cursor, &f) == COIR_OK; seen++)
        CHECK_EQ(f.id, id[MORE + seen]);
    CHECK_EQ(seen, kept);
    id[0] = fail_once();
    CHECK_EQ(coir_failure_next(rt, &cursor, &f), COIR_OK); /* what is new since */
    CHECK_EQ(f.id, id[0]);
    CHECK_EQ(coir_failure_next(rt, &cursor, &f), COIR_ENOENT);
}

static void the_newest_overwrite_the_oldest(void)
{
    static const int kept[] = {COIR_RECORDS, 1, 64, 100};

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        coir_options o = run_options(1);

        o.records = i ? (unsigned)kept[i] : 0;
        CHECK_EQ(coir_run(&o, overflow_store, (int *)&kept[i]), COIR_DONE);
    }
}

static void ask_badly(void *unused)
{
    coir_runtime *rt = coir_current();
    uint64_t cursor = 0;
    coir_failure f;
    char text[8];

    (void)unused;
    CHECK_EQ(coir_failure_find(NULL, 1, &f), COIR_EINVAL);
    CHECK_EQ(coir_failure_find(rt, 1, NULL), COIR_EINVAL);
    CHECK_EQ(coir_failure_find(rt, 0, &f), COIR_ENOENT);
    CHECK_EQ(coir_failure_find(rt, UINT64_MAX, &f), COIR_ENOENT);
    CHECK_EQ(coir_failure_next(NULL, &cursor, &f), COIR_EINVAL);
    CHECK_EQ(coir_failure_next(rt, NULL, &f), COIR_EINVAL);
    CHECK_EQ(coir_failure_next(rt, &cursor, NULL), COIR_EINVAL);
    cursor = UINT64_MAX;
    CHECK_EQ(coir_failure_next(rt, &cursor, &f), COIR_ENOENT);
    CHECK_EQ(coir_failure_text(rt, 1, text, 0), COIR_EINVAL);
    CHECK_EQ(coir_failure_text(rt, 1, NULL, 8), COIR_EINVAL);
    CHECK_EQ(coir_failure_text(rt, 1, text, 8), COIR_ENOENT);
}

static void bad_input_gets_a_status(void)
{
    run_on(1, ask_badly, NULL);
}

/* -------------------------------------------------------------------------------- many at once */

static void raise_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(2000); i++) {
        uint64_t id = fail_once();
        coir_failure f;

        if (coir_failure_find(coir_current(), id, &f) == COIR_OK)
            CHECK_STR(f.message, plain);
    }
}

static int done;

static void *follow(void *rt)
{
    uint64_t cursor = 0, last = 0;
    coir_failure f;

    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
        while (coir_failure_next(rt, &cursor, &f) == COIR_OK) {
            CHECK(cursor > last);
            CHECK_STR(f.message, plain);
            last = cursor;
        }
    return NULL;
}

static void whole_records_are_read_while_others_fail(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(4);
    pthread_t reader;
    coir_stats s;

    done = 0;
    CHECK_EQ(pthread_create(&reader, NULL, follow, rt), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_submit(rt, &c, raise_many, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_set(&done);
    pthread_join(reader, NULL);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.records, 4 * MANY(2000));
    CHECK_EQ(s.records_lost, 0);
    run_close(rt);
}

/* ------------------------------------------------------------------------------ missing memory */

static int refuse, blocks;

static void *stingy_alloc(size_t bytes, void *arg)
{
    (void)arg;
    if (__atomic_load_n(&refuse, __ATOMIC_RELAXED))
        return NULL;
    run_count(&blocks);
    return malloc(bytes);
}

static void stingy_free(void *memory, void *arg)
{
    (void)arg;
    __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
    free(memory);
}

static void fail_without_memory(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    coir_stats s;

    (void)unused;
    __atomic_store_n(&refuse, 1, __ATOMIC_RELAXED);
    CHECK_EQ(coir_spawn(&c, raise_text, plain), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    __atomic_store_n(&refuse, 0, __ATOMIC_RELAXED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK); /* the waiter has it all the same */
    CHECK_STR(f.message, plain);
    CHECK_EQ(coir_failure_find(coir_current(), f.id, &f), COIR_ENOENT);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.records_lost, 1);
    CHECK_EQ(coir_failure_find(coir_current(), fail_once(), &f), COIR_OK); /* it recovers */
}

static void without_memory_a_record_is_lost_and_counted(void)
{
    coir_options o = run_options(1);

    o.alloc = stingy_alloc;
    o.free = stingy_free;
    blocks = 0;
    CHECK_EQ(coir_run(&o, fail_without_memory, NULL), COIR_DONE);
    CHECK_EQ(blocks, 0);
}

CHECK_MAIN(CASE(a_record_says_when_where_and_in_which_runtime),
           CASE(a_job_that_never_blocked_was_never_resumed), CASE(runtimes_have_numbers),
           CASE(each_location_is_told_and_counted_apart), CASE(an_outcome_given_by_hand_is_kept), CASE(the_newest_overwrite_the_oldest),
           CASE(bad_input_gets_a_status), CASE(whole_records_are_read_while_others_fail),
           CASE(without_memory_a_record_is_lost_and_counted))
