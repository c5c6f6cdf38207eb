/* SPDX-License-Identifier: MIT */
/*
 * deadlock_signal_test.c - when nothing can run, who waits for a signal that nobody owes is named: what for
 * and where. As a warning only where nothing outside is known that could give it.
 */
#include "circles.h"
#include "threads.h"

/* What nobody gives until the test does. */
static struct {
    coir_channel a, b;
    coir_semaphore semaphore;
    coir_event event;
    coir_mutex mutex;
    coir_cond cond;
} never;

static void open_never(void)
{
    memset(&never, 0, sizeof never);
    CHECK_EQ(coir_channel_init(&never.a, sizeof(int), 1, NULL), COIR_OK);
    CHECK_EQ(coir_channel_init(&never.b, sizeof(int), 1, NULL), COIR_OK);
}

static void close_never(void)
{
    CHECK_EQ(coir_channel_fini(&never.a), COIR_OK);
    CHECK_EQ(coir_channel_fini(&never.b), COIR_OK);
}

/* A pair that each wait for an element of the other. One channel is closed before the other. */
static void receive_then_send(coir_channel *from, coir_channel *to)
{
    int x = 0, received = coir_channel_recv(from, &x), sent = coir_channel_send(to, &x);

    CHECK(received == COIR_ECLOSED || received == COIR_OK);
    CHECK(sent == COIR_ECLOSED || sent == COIR_OK);
}

static void from_a_to_b(void *unused)
{
    (void)unused;
    receive_then_send(&never.a, &never.b);
}

static void from_b_to_a(void *unused)
{
    (void)unused;
    receive_then_send(&never.b, &never.a);
}

/* A pair that each fill a channel which only the other would empty. */
static void fill(coir_channel *c)
{
    int x = 0;

    CHECK_EQ(coir_channel_send(c, &x), COIR_OK);
    CHECK_EQ(coir_channel_send(c, &x), COIR_ECLOSED);
}

static void fill_a(void *unused)
{
    (void)unused;
    fill(&never.a);
}

static void fill_b(void *unused)
{
    (void)unused;
    fill(&never.b);
}

static void select_either(void *unused)
{
    int x = 0;
    coir_case cases[] = {{&never.a, &x, COIR_RECV}, {&never.b, &x, COIR_RECV}};

    (void)unused;
    CHECK_EQ(coir_select(cases, 2, COIR_NEVER, NULL), COIR_ECLOSED);
}

static void acquire(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_semaphore_acquire(&never.semaphore), COIR_OK);
}

static void wait_event(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_event_wait(&never.event), COIR_OK);
}

static void wait_cond(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&never.mutex), COIR_OK);
    CHECK_EQ(coir_cond_wait(&never.cond, &never.mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&never.mutex), COIR_OK);
}

static void lock_what_a_thread_holds(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&never.mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&never.mutex), COIR_OK);
}

static void end_all(void)
{
    CHECK_EQ(coir_channel_close(&never.a), COIR_OK);
    CHECK_EQ(coir_channel_close(&never.b), COIR_OK);
    CHECK_EQ(coir_semaphore_release(&never.semaphore, 1), COIR_OK);
    CHECK_EQ(coir_event_set(&never.event), COIR_OK);
    CHECK_EQ(coir_cond_signal(&never.cond), COIR_OK);
}

static const struct {
    coir_fn *job[2]; /* NULL: there is one */
    const char *what;
} scenes[] = {
    {{from_a_to_b, from_b_to_a}, "channel to receive"},
    {{fill_a, fill_b}, "channel to send"},
    {{select_either, NULL}, "select"},
    {{acquire, NULL}, "semaphore"},
    {{wait_event, NULL}, "event"},
    {{wait_cond, NULL}, "condition"},
    {{lock_what_a_thread_holds, NULL}, "mutex"},
};

enum { SCENES = sizeof scenes / sizeof scenes[0] };

/* A function is smaller than this. */
#define FN_BYTES 4096

static void check_named(const coir_deadlock *d, int i, unsigned n)
{
    CHECK_EQ(d->unowed, n);
    CHECK_EQ(d->count, n);
    CHECK_EQ(d->cycles + d->stuck, 0);
    for (unsigned k = 0; k < d->count; k++) {
        const coir_job_info *job = &d->waits[k].job;

        CHECK_STR(job->waits_for, scenes[i].what);
        CHECK(job->fn == scenes[i].job[0] || job->fn == scenes[i].job[1]);
        CHECK(job->place != NULL);
        if (!scenes[i].job[1]) /* then the job itself calls */
            CHECK((uintptr_t)job->place - (uintptr_t)job->fn < FN_BYTES);
    }
}

static void check_scene(int i)
{
    coir_runtime *rt = run_open(2);
    coir_counter behind = COIR_COUNTER_INIT;
    struct waiter w = {.on = {&behind}};
    unsigned n = scenes[i].job[1] ? 2 : 1;
    coir_deadlock d;

    open_never();
    if (scenes[i].job[0] == lock_what_a_thread_holds)
        CHECK_EQ(coir_mutex_lock(&never.mutex), COIR_OK);
    for (unsigned k = 0; k < n; k++)
        submit(rt, &behind, scenes[i].job[k], NULL);
    until_parked(rt, n);
    submit(rt, NULL, wait_as_told, &w); /* waits for jobs that wait: it is not to be named */
    until_parked(rt, n + 1);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    check_named(&d, i, n);
    held = released = 0;
    submit(rt, NULL, loop_for_ever, NULL);
    run_until(&held);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.unowed, 0); /* the job that runs may signal */
    run_set(&released);
    if (scenes[i].job[0] == lock_what_a_thread_holds)
        CHECK_EQ(coir_mutex_unlock(&never.mutex), COIR_OK);
    end_all();
    run_close(rt);
    close_never();
}

static void who_waits_for_a_signal_is_named_when_nothing_runs(void)
{
    for (int i = 0; i < SCENES; i++)
        check_scene(i);
}

static void wait_event_in_time(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_event_wait_until(&never.event, coir_now() + 1000 * COIR_SEC), COIR_OK);
}

static void a_deadline_may_end_it_all(void)
{
    coir_runtime *rt = run_open(1);
    coir_deadlock d;

    open_never();
    submit(rt, NULL, acquire, NULL);
    submit(rt, NULL, wait_event_in_time, NULL);
    until_parked(rt, 2);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.unowed, 0);
    end_all();
    run_close(rt);
    close_never();
}

/* -------------------------------------------------------------------------------- by themselves */

static int warnings, rests;

static void count_lines(enum coir_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (strncmp(text, "nothing can run: job", 20) != 0)
        return;
    CHECK(strstr(text, "waits for event") && strstr(text, " at ") && strstr(text, "since"));
    run_count(level == COIR_LOG_WARNING ? &warnings : &rests);
}

/* A thread that sets the event when there are so many lines. */
struct setter {
    const int *lines;
    int n;
};

static void *set_when_told(void *arg)
{
    const struct setter *s = arg;

    until_lines(s->lines, s->n);
    CHECK_EQ(coir_event_set(&never.event), COIR_OK);
    return NULL;
}

static coir_options reporting(void)
{
    coir_options o = run_options(2);

    warnings = rests = 0;
    o.deadlock = COIR_DEADLOCK_REPORT;
    o.log = count_lines;
    return o;
}

static void a_missing_signal_is_a_warning_where_nothing_may_submit(void)
{
    coir_options o = reporting();
    struct setter warned = {&warnings, 1};
    struct threads t = {};

    open_never();
    threads_add(&t, set_when_told, &warned);
    CHECK_EQ(coir_run(&o, wait_event, NULL), COIR_DONE);
    threads_join(&t);
    CHECK_EQ(warnings, 1);
    CHECK_EQ(rests, 0);
    close_never();
}

/* The first wait is told as rest, since jobs may be submitted; so is the second, when none may, for a
 * thread has ended the first. */
static void a_runtime_that_is_woken_from_outside_rests(void)
{
    coir_options o = reporting();
    coir_counter c = COIR_COUNTER_INIT;
    struct setter again = {&rests, 2};
    struct threads t = {};
    coir_runtime *rt;

    open_never();
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    submit(rt, &c, wait_event, NULL);
    set_when_told(&(struct setter){&rests, 1});
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_event_reset(&never.event), COIR_OK);
    submit(rt, &c, wait_event, NULL);
    threads_add(&t, set_when_told, &again);
    run_close(rt);
    threads_join(&t);
    CHECK_EQ(rests, 2);
    CHECK_EQ(warnings, 0);
    close_never();
}

static void wait_event_again_and_again(void *rounds)
{
    for (int i = 0; i < *(int *)rounds; i++) {
        CHECK_EQ(coir_event_wait(&never.event), COIR_OK);
        CHECK_EQ(coir_event_reset(&never.event), COIR_OK);
    }
}

/* A server between requests. The second rest is longer than it takes to tell. */
static void the_same_rest_is_told_once(void)
{
    coir_options o = reporting();
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt;
    int rounds = 2;

    open_never();
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    submit(rt, &c, wait_event_again_and_again, &rounds);
    until_lines(&rests, 1);
    CHECK_EQ(coir_event_set(&never.event), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 5 * COIR_SEC / 2), COIR_ETIMEDOUT);
    CHECK_EQ(coir_event_set(&never.event), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    CHECK_EQ(rests, 1);
    close_never();
}

/* Told as rest while jobs might have come, and again as what it is when none may any more. */
static void a_close_that_waits_for_a_signal_is_warned_of(void)
{
    coir_options o = reporting();
    struct setter warned = {&warnings, 1};
    struct threads t = {};
    coir_runtime *rt;

    open_never();
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    submit(rt, NULL, wait_event, NULL);
    until_lines(&rests, 1);
    threads_add(&t, set_when_told, &warned);
    run_close(rt);
    threads_join(&t);
    CHECK_EQ(rests, 1);
    CHECK_EQ(warnings, 1);
    close_never();
}

CHECK_MAIN(CASE(who_waits_for_a_signal_is_named_when_nothing_runs), CASE(a_deadline_may_end_it_all),
           CASE(a_missing_signal_is_a_warning_where_nothing_may_submit),
           CASE(a_runtime_that_is_woken_from_outside_rests),
           CASE(the_same_rest_is_told_once),
           CASE(a_close_that_waits_for_a_signal_is_warned_of))
