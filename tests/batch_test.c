/* SPDX-License-Identifier: MIT */
/*
 * batch_test.c - jobs that follow each other in one record (core/batch.c): none finds what another has left there,
 * whatever it was and however it ended; and what is counted of them is exact in the middle of a batch, too.
 */
#include "run.h"

#include <string.h>
#include <unistd.h>

#define JOBS 64

/* ------------------------------------------------------------------------- what one leaves to the next */

static const coir_local key = COIR_LOCAL_INIT(NULL);

/* What the jobs of a batch share. */
struct batch {
    coir_counter counter;
    coir_fn *leave;       /* what every other job does */
    uint64_t id;          /* of the last that has asked */
    int jobs, handlers;
};

static struct batch *batch;

static void leave_a_name(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_job_name("left behind"), COIR_OK);
}

static void leave_an_id(void *unused)
{
    uint64_t id = coir_job_id();

    (void)unused;
    CHECK(id != 0 && id == coir_job_id() && id != batch->id);
    batch->id = id;
}

static void leave_a_value(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_local_set(&key, batch), COIR_OK);
}

static void count_handler(void *unused)
{
    (void)unused;
    batch->handlers++;
}

static void leave_handlers(void *unused)
{
    (void)unused;
    for (int i = 0; i < COIR_DEFER_INLINE + 2; i++)
        CHECK_EQ(coir_defer(count_handler, NULL), COIR_OK);
}

static void leave_a_failure(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_fail(COIR_EIO, "planned"), COIR_EIO);
}

static void leave_a_panic(void *unused)
{
    (void)unused;
    coir_yield();
    coir_panic("planned");
}

static void leave_a_lock(void *lock)
{
    int status = coir_mutex_lock(lock);

    CHECK(status == COIR_OK || status == COIR_EPOISONED);
}

static void do_nothing(void *unused)
{
    (void)unused;
}

/* A counter in its frame, still owed when it returns. */
static void leave_a_counter(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, do_nothing, NULL), COIR_OK);
}

static void leave_a_wait(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;

    (void)unused;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(coir_spawn(&c, do_nothing, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    coir_yield();
}

static void leave_nothing(void *unused)
{
    (void)unused;
}

/* What coir_dump says of the calling job. */
static void check_unnamed(void)
{
    char text[4096];
    int fd[2];
    ssize_t n;

    CHECK_EQ(pipe(fd), 0);
    CHECK_EQ(coir_dump(coir_current(), fd[1]), COIR_OK);
    close(fd[1]);
    n = read(fd[0], text, sizeof text - 1);
    close(fd[0]);
    text[n > 0 ? n : 0] = '\0';
    CHECK(strstr(text, "running") && !strstr(text, "left behind"));
}

static void panic_at_once(void *unused)
{
    (void)unused;
    coir_panic("planned, inside");
}

/* Every other job leaves something, and the next one looks. */
static void leave_or_look(void *arg)
{
    coir_failure f;

    if (batch->jobs++ % 2 == 0) {
        batch->leave(arg);
        return;
    }
    CHECK(coir_local_get(&key) == NULL);
    CHECK_EQ(coir_canceled(), 0);
    CHECK_EQ(coir_try(panic_at_once, NULL, &f), COIR_PANICKED);
    CHECK(f.resumes == 0 && f.job != batch->id);
    batch->id = f.job;
    check_unnamed();
}

static void run_a_batch(int64_t deadline, int outcome)
{
    coir_mutex lock = COIR_MUTEX_INIT;
    coir_failure f;

    for (int i = 0; i < JOBS; i++)
        CHECK_EQ(coir_spawn(&batch->counter, leave_or_look, &lock), COIR_OK);
    CHECK_EQ(coir_wait_until(&batch->counter, deadline), outcome);
    CHECK_EQ(coir_counter_failure(&batch->counter, &f), outcome == COIR_DONE ? COIR_ENOENT : COIR_OK);
    CHECK_EQ(batch->jobs, JOBS);
}

/* In place, and by the loop: a wait with a deadline runs none. */
static void run_batches(void *outcome)
{
    struct batch first = {.leave = batch->leave}, second = first;

    batch = &first;
    coir_counter_init_local(&first.counter);
    run_a_batch(COIR_NEVER, *(int *)outcome);
    batch = &second;
    run_a_batch(coir_now() + 1000 * COIR_SEC, *(int *)outcome);
    CHECK_EQ(first.handlers, second.handlers);
}

static void after(coir_fn *leave, int outcome)
{
    struct batch b = {.leave = leave};

    batch = &b;
    run_on(1, run_batches, &outcome);
}

static void the_next_job_finds_nothing(void)
{
    after(leave_nothing, COIR_DONE);
    after(leave_a_name, COIR_DONE);
    after(leave_an_id, COIR_DONE);
    after(leave_a_value, COIR_DONE);
    after(leave_handlers, COIR_DONE);
    after(leave_a_wait, COIR_DONE);
    after(leave_a_failure, COIR_FAILED);
    after(leave_a_panic, COIR_PANICKED);
    after(leave_a_lock, COIR_PANICKED);
    after(leave_a_counter, COIR_PANICKED);
}

/* ------------------------------------------------------------------------- in the middle of a batch */

struct middle {
    coir_counter counter, gate;
    int started, stop_at;
};

static void park_in_the_middle(void *arg)
{
    struct middle *m = arg;

    if (run_count(&m->started) == m->stop_at)
        CHECK_EQ(coir_wait(&m->gate), COIR_DONE);
}

static void wait_for_a_batch(void *arg)
{
    struct middle *m = arg;

    for (int i = 0; i < JOBS; i++)
        CHECK_EQ(coir_spawn(&m->counter, park_in_the_middle, m), COIR_OK);
    CHECK_EQ(coir_wait(&m->counter), COIR_DONE);
}

/* Those before the one that parks have ended; those behind it run elsewhere. All are in the books. */
static void the_books_are_right_while_one_parks(void)
{
    for (unsigned workers = 1; workers <= 2; workers++)
        for (int stop_at = 1; stop_at <= JOBS; stop_at += 9) {
            struct middle m = {COIR_COUNTER_LOCAL, COIR_COUNTER_INIT, 0, stop_at};
            coir_counter whole = COIR_COUNTER_INIT;
            coir_runtime *rt = run_open(workers);
            coir_books b;

            coir_counter_add(&m.gate, 1);
            CHECK_EQ(coir_submit(rt, &whole, wait_for_a_batch, &m), COIR_OK);
            do
                sched_yield();
            while (coir_books_check(rt, &b) != COIR_OK || b.ended != JOBS - 1);
            CHECK_EQ(b.started, 2);
            coir_counter_done(&m.gate, COIR_DONE);
            CHECK_EQ(coir_wait(&whole), COIR_DONE);
            run_close(rt);
        }
}

static void cancel_in_the_middle(void *arg)
{
    struct middle *m = arg;

    if (++m->started == m->stop_at)
        CHECK_EQ(coir_counter_cancel(&m->counter), COIR_OK);
}

static void wait_for_a_canceled_batch(void *arg)
{
    struct middle *m = arg;
    coir_failure f;

    for (int i = 0; i < JOBS; i++)
        CHECK_EQ(coir_spawn(&m->counter, cancel_in_the_middle, m), COIR_OK);
    CHECK_EQ(coir_wait(&m->counter), COIR_CANCELED);
    CHECK_EQ(m->started, m->stop_at);
    CHECK_EQ(coir_counter_failure(&m->counter, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
    CHECK_EQ(f.job, 0);
}

static void a_cancel_drops_the_rest(void)
{
    for (int stop_at = 1; stop_at < JOBS; stop_at += 9) {
        struct middle m = {COIR_COUNTER_LOCAL, COIR_COUNTER_INIT, 0, stop_at};

        run_on(1, wait_for_a_canceled_batch, &m);
        m = (struct middle){COIR_COUNTER_INIT, COIR_COUNTER_INIT, 0, stop_at};
        run_on(1, wait_for_a_canceled_batch, &m);
    }
}

CHECK_MAIN(CASE(the_next_job_finds_nothing), CASE(the_books_are_right_while_one_parks), CASE(a_cancel_drops_the_rest))
