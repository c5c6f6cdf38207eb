/* SPDX-License-Identifier: MIT */
/*
 * panic_test.c - what a panic does: the record, the frames it unwinds, what lives on. Children
 * and counters are in owed_test.c, coir_try and coir_defer in try_test.c, deaths in
 * deaths_test.c.
 */
#include "run.h"

#include <pthread.h>
#include <unwind.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

static void on_workers(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    run_on(4, fn, NULL);
}

static void count(void *n)
{
    run_count(n);
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("plain");
}

/* -------------------------------------------------------------------------------- the record */

static int raised_at;
static uint64_t raised_by;

static void raise_formatted(void *unused)
{
    (void)unused;
    raised_by = coir_job_id();
    raised_at = __LINE__ + 1;
    coir_panic("%s is %d", "answer", 42);
}

static void wait_for_raised(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int64_t before = coir_now();

    (void)unused;
    CHECK_EQ(coir_spawn(&c, raise_formatted, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "answer is 42");
    CHECK_STR(f.file, __FILE__);
    CHECK_EQ(f.line, raised_at);
    CHECK_EQ(f.kind, COIR_KIND_PANIC);
    CHECK_EQ(f.outcome, COIR_PANICKED);
    CHECK_EQ(f.job, raised_by);
    CHECK(f.id != 0 && f.job != coir_job_id());
    CHECK(f.worker >= 0 && f.worker < 4);
    CHECK(f.time >= before && f.time <= coir_now());
}

static void the_record_says_what_where_and_when(void)
{
    on_workers(wait_for_raised);
}

static void raise_at_length(void *unused)
{
    (void)unused;
    coir_panic("%0200d", 7);
}

static void require_false(void *unused)
{
    (void)unused;
    coir_require(1 + 1 == 2, "arithmetic");
    coir_require(1 + 1 == 3, "no %s", "arithmetic");
}

static void require_without_words(void *unused)
{
    int sum = 2;

    (void)unused;
    coir_require(sum == 2);
    coir_require(sum % 2 == 1);
}

static void wait_for_messages(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, raise_at_length, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(strlen(f.message), COIR_MESSAGE_BYTES - 1);
    coir_counter_init(&c);
    CHECK_EQ(coir_spawn(&c, require_false, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "no arithmetic");
    CHECK_EQ(coir_try(require_without_words, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "required: sum % 2 == 1");
    CHECK_STR(f.file, __FILE__);
}

static void a_message_is_cut_to_fit(void)
{
    on_workers(wait_for_messages);
}

static void misuse_counters(void *how)
{
    coir_counter c = COIR_COUNTER_INIT;

    switch (*(int *)how) {
    case 0: coir_counter_add(&c, 0); break;
    case 1: coir_counter_add(&c, -1); break;
    case 2: coir_counter_add(NULL, 1); break;
    case 3: coir_counter_done(NULL, COIR_DONE); break;
    case 4: coir_counter_done(&c, COIR_DONE); break; /* nothing is owed */
    case 5: coir_counter_add(&c, 1); coir_counter_done(&c, COIR_PANICKED + 1); break;
    default: coir_counter_add(&c, 1); coir_counter_done(&c, -1); break;
    }
    CHECK_NEVER("misuse panics");
}

static void misuse_each(void *unused)
{
    (void)unused;
    for (int how = 0; how < 7; how++) {
        coir_failure f;

        CHECK_EQ(coir_try(misuse_counters, &how, &f), COIR_PANICKED);
        CHECK(strstr(f.message, "coir_counter_") != NULL);
    }
}

static void misused_counters_panic(void)
{
    on_workers(misuse_each);
    misuse_each(NULL);
}

/* ------------------------------------------------------------------------ the frames it unwinds */

static int cleaned; /* frames so far, innermost first */

static void clean(int *depth)
{
    CHECK_EQ(*depth, cleaned);
    cleaned++;
}

static __attribute__((noinline)) void raise_below(int depth)
{
    int mine CLEANUP(clean) = depth;

    if (depth > 0)
        raise_below(depth - 1);
    coir_require(depth > 0, "from the bottom");
    CHECK_NEVER("a panic does not return");
}

static void raise_through(void *frames)
{
    raise_below(*(int *)frames - 1);
}

static void unwind_frames(void *unused)
{
    static const int frames[] = {1, 10, 100};

    (void)unused;
    for (int i = 0; i < 3; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        int n = frames[i];

        cleaned = 0;
        CHECK_EQ(coir_spawn(&c, raise_through, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        CHECK_EQ(cleaned, n);
    }
}

static void cleanups_run_innermost_first_over_any_number_of_frames(void)
{
    on_workers(unwind_frames);
}

static void block_in_cleanup(int *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_yield();
    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    run_count(&cleaned);
}

static void raise_over_blocking(void *unused)
{
    int n CLEANUP(block_in_cleanup) = 0;

    raise_plain(unused);
}

static void unwind_blocking(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    cleaned = 0;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_spawn(&c, raise_over_blocking, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(cleaned, 100);
}

static void a_cleanup_may_block(void)
{
    on_workers(unwind_blocking);
}

static void try_in_cleanup(int *n)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_plain, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "plain");
    ++*n;
    ++cleaned;
}

static void raise_over_try(void *unused)
{
    int outer CLEANUP(try_in_cleanup) = 0, inner CLEANUP(try_in_cleanup) = 0;

    (void)unused;
    coir_panic("outermost");
}

static void unwind_over_try(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    (void)unused;
    cleaned = 0;
    CHECK_EQ(coir_spawn(&c, raise_over_try, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "outermost");
    CHECK_EQ(cleaned, 2);
}

static void a_panic_may_start_and_end_inside_a_cleanup(void)
{
    on_workers(unwind_over_try);
}

/* -------------------------------------------------------------------------- what lives on */

static void raise_unobserved(void *unused)
{
    coir_stats s;

    (void)unused;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_spawn(NULL, raise_plain, NULL), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.unobserved, 10);
}

static void a_panic_that_nobody_could_be_told_is_counted(void)
{
    run_on(1, raise_unobserved, NULL);
}

static uint64_t stacks_after(int panics)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;
    int n = 0;

    for (int i = 0; i < panics; i++) {
        CHECK_EQ(coir_spawn(&c, raise_over_blocking, NULL), COIR_OK);
        CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_PANICKED);
    }
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, 100), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(n, 100);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    return s.stacks;
}

static void reuse_stacks(void *unused)
{
    uint64_t before = stacks_after(10);

    (void)unused;
    CHECK_EQ(stacks_after(500), before);
}

static void worker_and_stack_live_on(void)
{
    run_on(1, reuse_stacks, NULL);
}

/* They run one after the other in one frame, which none of them may leave longer. */
static void await_many(void *unused)
{
    coir_counter all = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(coir_spawn(&all, raise_plain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&all), COIR_PANICKED);
}

static void any_number_may_panic_in_one_wait(void)
{
    on_workers(await_many);
}

/* ---------------------------------------------------------------------------- all the waiters */

static coir_counter shared;
static int seen;

static void see_panic(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_wait(&shared), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&shared, &f), COIR_OK);
    CHECK_STR(f.message, "plain");
    run_count(&seen);
}

static void raise_later(void *unused)
{
    coir_yield();
    raise_plain(unused);
}

static void tell_everybody(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    seen = 0;
    coir_counter_init(&shared);
    CHECK_EQ(coir_spawn(&shared, raise_later, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_many(&c, see_panic, NULL, 0, 10), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(seen, 10);
}

static void every_waiter_sees_it(void)
{
    on_workers(tell_everybody);
}

static void run_returns_the_first_jobs_outcome(void)
{
    coir_options o = run_options(2);

    CHECK_EQ(coir_run(&o, raise_plain, NULL), COIR_PANICKED);
}

/* ------------------------------------------------------------------- what is contained, or ignored */

static void throw_unknown(void *unused)
{
    static struct _Unwind_Exception e;

    (void)unused;
    e = (struct _Unwind_Exception){.exception_class = UINT64_C(0x5445535454455354)}; /* "TESTTEST" */
    _Unwind_RaiseException(&e);
}

static void an_unknown_exception_is_contained(void)
{
    coir_failure f;

    CHECK_EQ(coir_try(throw_unknown, NULL, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    CHECK_STR(f.message, "foreign exception of class 0x5445535454455354");
}

/* Only who enables it in a job gets there. */
static void cancel_worker(void *reached)
{
    CHECK_EQ(pthread_cancel(pthread_self()), 0);
    pthread_testcancel();
    *(int *)reached = 1;
}

static void a_worker_ignores_pthread_cancel(void)
{
    int reached = 0;

    run_on(1, cancel_worker, &reached);
    CHECK_EQ(reached, 1);
}

CHECK_MAIN(CASE(the_record_says_what_where_and_when), CASE(a_message_is_cut_to_fit),
           CASE(misused_counters_panic),
           CASE(cleanups_run_innermost_first_over_any_number_of_frames),
           CASE(a_cleanup_may_block), CASE(a_panic_may_start_and_end_inside_a_cleanup),
           CASE(a_panic_that_nobody_could_be_told_is_counted), CASE(worker_and_stack_live_on),
           CASE(any_number_may_panic_in_one_wait),
           CASE(every_waiter_sees_it), CASE(run_returns_the_first_jobs_outcome),
           CASE(an_unknown_exception_is_contained), CASE(a_worker_ignores_pthread_cancel))
