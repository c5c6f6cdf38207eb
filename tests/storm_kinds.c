/* SPDX-License-Identifier: MIT */
/*
 * storm_kinds.c - the ways in which a job of the storm breaks, by itself and beside its children. See also
 * storm_locks.c, storm_faults.c and storm_cxx.cc.
 *
 * Any call that waits may be canceled, any spawn refused; a job then goes on to its own end.
 */
#include "storm.h"

#include "worker.h" /* which worker runs a job */

struct storm_job *storm_begin(void *job)
{
    struct storm_job *j = job;

    CHECK_EQ(j->ran, 0);
    j->ran = 1;
    storm_began(storm_kinds[j->kind].outcome);
    return j;
}

int storm_spawn(coir_counter *c, coir_fn *fn, void *arg)
{
    int status = coir_spawn(c, fn, arg);

    CHECK(status == COIR_OK || status == COIR_EAGAIN || status == COIR_ECANCELED);
    if (status == COIR_OK)
        storm_add(&storm_books.accepted, 1);
    return status == COIR_OK;
}

/* ------------------------------------------------------------------------------------- by itself */

void storm_plain(void *job)
{
    struct storm_job *j = storm_begin(job);

    storm_raises(j);
    coir_panic("plain, %d", j->kind);
}

void storm_requires(void *job)
{
    struct storm_job *j = storm_begin(job);

    storm_raises(j);
    coir_require(j->ran == 0, "it has run: %d", j->ran);
}

void storm_fails(void *job)
{
    storm_begin(job);
    CHECK_EQ(coir_fail(COIR_EIO, "an error"), COIR_EIO);
}

static void paid_cleanup(int *cell)
{
    CHECK_EQ(*cell, 1);
    storm_paid(NULL);
}

static __attribute__((noinline)) void raise_below(const struct storm_job *j, int depth)
{
    __attribute__((cleanup(paid_cleanup), unused)) int cell = 1;

    storm_owes(1);
    if (depth > 0)
        raise_below(j, depth - 1);
    else
        storm_raises(j);
    coir_require(depth > 0, "with cleanups");
}

void storm_frames(void *job)
{
    struct storm_job *j = storm_begin(job);

    raise_below(j, (int)(j->seed % 8));
}

void storm_handlers(void *job)
{
    struct storm_job *j = storm_begin(job);
    int n = (int)(j->seed % (COIR_DEFER_INLINE + 4)) + 1;

    for (int i = 0; i < n; i++)
        CHECK_EQ(coir_defer(storm_paid, NULL), COIR_OK);
    storm_owes(n);
    storm_raises(j);
    coir_panic("with %d handlers", n);
}

static void raise_in_handler(void *job)
{
    storm_raises(job);
    coir_panic("in a handler");
}

void storm_handler(void *job)
{
    struct storm_job *j = storm_begin(job);

    CHECK_EQ(coir_defer(storm_paid, NULL), COIR_OK);
    CHECK_EQ(coir_defer(raise_in_handler, j), COIR_OK);
    CHECK_EQ(coir_defer(storm_paid, NULL), COIR_OK);
    storm_owes(2);
}

static void raise_inside(void *job)
{
    raise_below(job, 2);
}

void storm_tries(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_failure f = {0};

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_try(raise_inside, j, &f), COIR_PANICKED);
    CHECK_STR(f.message, "with cleanups");
}

static void raise_once(void *job)
{
    storm_raises(job);
    coir_panic("inside coir_once");
}

void storm_once(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_once o = COIR_ONCE_INIT;

    CHECK_EQ(coir_once_call(&o, raise_once, j), COIR_EPOISONED);
    CHECK_EQ(coir_once_call(&o, raise_once, j), COIR_EPOISONED);
}

static void raise_in_destructor(void *job)
{
    storm_raises(job);
    coir_panic("in a destructor");
}

void storm_local(void *job)
{
    static const coir_local key = COIR_LOCAL_INIT(raise_in_destructor);

    CHECK_EQ(coir_local_set(&key, storm_begin(job)), COIR_OK);
}

void storm_offloads(void *job)
{
    struct storm_job *j = storm_begin(job);
    int status = coir_offload(raise_once, j);

    CHECK(status == COIR_PANICKED || status == COIR_ECANCELED);
}

/* ----------------------------------------------------------------------------- beside its children */

/* It writes into a frame that must be whole while it is owed. */
static void touches(void *cell)
{
    storm_began(COIR_DONE);
    CHECK_EQ(*(int *)cell, 1);
    coir_yield();
    CHECK_EQ(*(int *)cell, 1);
    *(int *)cell = 2;
}

void storm_owner(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_counter c = COIR_COUNTER_INIT;
    int cell[3] = {1, 1, 1};

    for (int i = 0; i < 3; i++)
        storm_spawn(&c, touches, &cell[i]);
    if (j->seed % 2)
        coir_yield();
    storm_raises(j);
    coir_panic("owning children");
}

static void child_panics(void *job)
{
    storm_began(COIR_PANICKED);
    storm_raises(job);
    coir_panic("a child");
}

/* Jobs owed to nobody, too: their end is counted, not told. */
static void nobodys_panics(void *unused)
{
    struct storm_job j = {.kind = STORM_in_place};

    (void)unused;
    storm_add(&storm_books.unobserved, 1);
    child_panics(&j);
}

void storm_in_place(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0, outcome;

    for (int i = 0; i < 2; i++)
        n += storm_spawn(&c, child_panics, j);
    if (j->seed % 8 == 0 && !coir_domain_current()) /* where nothing cancels or skips it */
        storm_spawn(NULL, nobodys_panics, NULL);
    outcome = coir_wait(&c);
    CHECK(outcome == (n ? COIR_PANICKED : COIR_DONE) || coir_canceled() || coir_domain_current());
    storm_raises(j);
    coir_panic("after my children did");
}

void storm_resumed(void *job)
{
    struct storm_job *j = storm_begin(job);
    unsigned worker = worker_self()->index;

    for (unsigned i = 0; i < 1 + j->seed % 4; i++)
        coir_yield();
    storm_add(&storm_books.moved, worker_self()->index != worker);
    storm_raises(j);
    coir_panic("after a resume");
}

static void sets(void *event)
{
    storm_began(COIR_DONE);
    coir_yield();
    CHECK_EQ(coir_event_set(event), COIR_OK);
}

void storm_parked(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_counter c = COIR_COUNTER_INIT;
    coir_event e = COIR_EVENT_INIT;
    int64_t deadline = j->seed % 4 ? COIR_NEVER : coir_now() + 5 * COIR_US;
    unsigned worker = worker_self()->index;
    int status;

    if (storm_spawn(&c, sets, &e)) {
        do /* in a domain that has tripped nobody sets it */
            status = coir_event_wait_until(&e, coir_domain_current() ? coir_now() + COIR_MS : deadline);
        while (status == COIR_ETIMEDOUT && deadline == COIR_NEVER && !coir_domain_current());
        CHECK(status == COIR_OK || status == COIR_ETIMEDOUT || status == COIR_ECANCELED);
    }
    storm_add(&storm_books.moved, worker_self()->index != worker);
    storm_raises(j);
    coir_panic("after a park");
}

static void never_runs(void *unused)
{
    (void)unused;
    CHECK_NEVER("what it was to run after has panicked");
}

void storm_after(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_counter before = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    int status, outcome;

    if (!storm_spawn(&before, child_panics, j))
        return;
    status = coir_spawn_after(&before, &c, never_runs, NULL);
    CHECK(status == COIR_OK || status == COIR_EAGAIN || status == COIR_ECANCELED);
    storm_add(&storm_books.accepted, status == COIR_OK);
    outcome = coir_wait(&c);
    CHECK_EQ(outcome, status == COIR_OK ? COIR_CANCELED : COIR_DONE);
    outcome = coir_wait(&before);
    CHECK(outcome == COIR_PANICKED || outcome == COIR_CANCELED);
}
