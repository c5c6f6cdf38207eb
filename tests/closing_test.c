/* SPDX-License-Identifier: MIT */
/*
 * closing_test.c - runtimes and domains that close, and are canceled, at any moment while their jobs wait for
 * each other in every way there is: all of them end, each call has either done its work or not, and no
 * element, permit, lock or place is lost.
 */
#include "domains.h"
#include "threads.h"

#define JOBS 24
#define ROUNDS MANY(100)

/* What the jobs of a round share; outlives the runtime. */
struct shared {
    coir_runtime *rt;
    coir_domain *d; /* NULL: none */
    coir_mutex mutex;
    coir_rwlock rwlock;
    coir_cond cond;
    coir_semaphore permits;
    coir_event event; /* never set */
    coir_channel channel[2];
    int ring[2][2];
    coir_counter gate; /* owed by hand */
    int inside, sent, received, called, told_called, accepted, ran, panics;
    uint64_t seed;
};

static struct shared s;

static void expect(int status, int may)
{
    CHECK(status == COIR_OK || status == COIR_ECANCELED || status == may);
}

/* ------------------------------------------------------------------------------------ the jobs */

static void enter(void)
{
    CHECK_EQ(run_count(&s.inside), 1);
    coir_yield();
    __atomic_sub_fetch(&s.inside, 1, __ATOMIC_RELAXED);
}

static void locks(void *unused)
{
    int status = coir_mutex_lock(&s.mutex);

    (void)unused;
    expect(status, COIR_EPOISONED);
    if (status == COIR_ECANCELED)
        return;
    enter();
    CHECK_EQ(coir_mutex_unlock(&s.mutex), COIR_OK);
}

static void locks_and_panics(void *unused)
{
    (void)unused;
    if (coir_mutex_lock(&s.mutex) == COIR_ECANCELED)
        return;
    enter();
    run_count(&s.panics);
    coir_panic("holding the mutex");
}

static void waits_for_signal(void *unused)
{
    int status = coir_mutex_lock(&s.mutex);

    (void)unused;
    if (status == COIR_ECANCELED)
        return;
    status = coir_cond_wait(&s.cond, &s.mutex); /* of somebody who may never come */
    expect(status, COIR_EPOISONED);
    if (status != COIR_ECANCELED)
        CHECK_EQ(coir_mutex_unlock(&s.mutex), COIR_OK);
}

static void signals(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_cond_signal(&s.cond), COIR_OK);
}

static void reads_and_panics(void *unused)
{
    coir_read hold = COIR_READ_INIT;
    int status = coir_rwlock_read_lock(&s.rwlock, &hold);

    (void)unused;
    expect(status, COIR_EPOISONED);
    if (status == COIR_ECANCELED)
        return;
    coir_yield();
    run_count(&s.panics);
    coir_panic("with a local hold");
}

static void writes(void *unused)
{
    int status = coir_rwlock_write_lock(&s.rwlock);

    (void)unused;
    expect(status, COIR_EPOISONED);
    if (status == COIR_ECANCELED)
        return;
    coir_yield();
    CHECK_EQ(coir_rwlock_write_unlock(&s.rwlock), COIR_OK);
}

static void borrows(void *unused)
{
    int status = coir_semaphore_acquire(&s.permits);

    (void)unused;
    expect(status, COIR_OK);
    if (status == COIR_ECANCELED)
        return;
    coir_yield();
    CHECK_EQ(coir_semaphore_release(&s.permits, 1), COIR_OK);
}

static void waits_for_event(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_event_wait(&s.event), COIR_ECANCELED);
}

static void sends(void *unused)
{
    int value = 1, status = coir_channel_send(&s.channel[0], &value);

    (void)unused;
    expect(status, COIR_OK);
    if (status == COIR_OK)
        run_count(&s.sent);
}

static void receives(void *unused)
{
    int value = 0, status = coir_channel_recv(&s.channel[1], &value);

    (void)unused;
    expect(status, COIR_OK);
    if (status == COIR_OK)
        run_count(&s.received);
}

/* Takes from one and gives to the other, whichever can be had. */
static void selects(void *unused)
{
    int in = 0, out = 1, status;
    coir_case cases[] = {{&s.channel[0], &in, COIR_RECV}, {&s.channel[1], &out, COIR_SEND}};
    size_t which = 9;

    (void)unused;
    status = coir_select(cases, 2, COIR_NEVER, &which);
    expect(status, COIR_OK);
    if (status == COIR_OK)
        run_count(which ? &s.sent : &s.received);
}

static void call(void *unused)
{
    (void)unused;
    run_count(&s.called);
    sched_yield();
}

static void offloads(void *unused)
{
    int status = coir_offload(call, NULL);

    (void)unused;
    expect(status, COIR_OK);
    if (status == COIR_OK)
        run_count(&s.told_called);
}

static void spawns_after(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int status = coir_spawn_after(&s.gate, &c, signals, NULL);

    (void)unused;
    expect(status, COIR_EAGAIN);
    if (status != COIR_OK)
        return;
    run_count(&s.accepted);
    status = coir_wait(&c);
    CHECK(status == COIR_DONE || status == COIR_CANCELED);
    if (status == COIR_DONE)
        run_count(&s.ran);
}

static void sleeps(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
}

static coir_fn *const kinds[] = {locks, locks_and_panics, waits_for_signal, signals, reads_and_panics,
                                 writes, borrows, waits_for_event, sends, receives, selects, selects,
                                 offloads, offloads, spawns_after, sleeps};

/* Counts itself: a job that was dropped has not run. */
static void any_job(void *kind)
{
    run_count(&s.ran);
    kinds[(size_t)(uintptr_t)kind % (sizeof kinds / sizeof *kinds)](NULL);
}

/* ------------------------------------------------------------------------------------ one round */

static void set_up(uint64_t seed, unsigned workers, int in_domain)
{
    coir_options o = run_options(workers);
    coir_domain_options limited = domain_options("closing");

    s = (struct shared){.seed = seed};
    o.offload_threads = 1;
    CHECK_EQ(coir_open(&o, &s.rt), COIR_OK);
    limited.jobs_max = JOBS / 2;
    limited.full = COIR_FULL_REFUSE;
    s.d = in_domain ? domain_open(s.rt, NULL, &limited) : NULL;
    CHECK_EQ(coir_semaphore_init(&s.permits, 2), COIR_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_channel_init(&s.channel[i], sizeof(int), 2, s.ring[i]), COIR_OK);
    coir_counter_add(&s.gate, 1);
}

static void submit_jobs(coir_counter *c)
{
    for (int i = 0; i < JOBS; i++) {
        void *kind = (void *)(uintptr_t)random_next(&s.seed);
        int status = s.d ? coir_domain_submit(s.d, c, any_job, kind) : coir_submit(s.rt, c, any_job, kind);

        CHECK(status == COIR_OK || (s.d && status == COIR_EAGAIN));
        if (status == COIR_OK)
            run_count(&s.accepted);
    }
}

/* What was not received is there still; nobody is left who holds or waits. */
static void check_objects(void)
{
    int value, status;

    for (int i = 0; i < 2; i++) {
        while (coir_channel_try_recv(&s.channel[i], &value) == COIR_OK)
            s.received++;
        CHECK_EQ(coir_channel_fini(&s.channel[i]), COIR_OK);
    }
    CHECK_EQ(s.sent, s.received);
    CHECK_EQ(s.called, s.told_called);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_semaphore_try_acquire(&s.permits), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&s.permits), COIR_EBUSY);
    status = coir_mutex_try_lock(&s.mutex);
    CHECK(status == COIR_OK || status == COIR_EPOISONED);
    CHECK_EQ(coir_mutex_unlock(&s.mutex), COIR_OK);
    CHECK_EQ(coir_rwlock_write_try_lock(&s.rwlock), COIR_OK); /* readers do not poison */
    CHECK_EQ(coir_rwlock_write_unlock(&s.rwlock), COIR_OK);
}

static uint64_t sum(const uint64_t *ended)
{
    uint64_t n = 0;

    for (int o = 0; o <= COIR_PANICKED; o++)
        n += ended[o];
    return n;
}

static void close_all(int64_t drain_ns)
{
    coir_receipt r;
    int status;

    if (s.d)
        domain_close_after(s.d, drain_ns, NULL);
    do
        status = coir_close(s.rt, drain_ns, &r);
    while (status == COIR_ETIMEDOUT); /* a machine that is busy with other things */
    CHECK_EQ(status, COIR_OK);
    CHECK_EQ(r.running, 0);
    CHECK_EQ(sum(r.ended), s.accepted);
    CHECK_EQ(r.ended[COIR_PANICKED], s.panics);
    CHECK_EQ(r.ended[COIR_DONE], s.ran - s.panics);
}

static void *opens_the_gate(void *yields)
{
    for (int n = *(int *)yields; n > 0; n--)
        sched_yield();
    coir_counter_done(&s.gate, COIR_DONE);
    return NULL;
}

static void *cancels(void *counter)
{
    CHECK_EQ(coir_counter_cancel(counter), COIR_OK);
    return NULL;
}

static void one_round(uint64_t seed, unsigned workers)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct threads t = {0};
    int yields, outcome;

    set_up(seed, workers, seed % 2);
    submit_jobs(&c);
    yields = (int)(random_next(&s.seed) % 32);
    threads_add(&t, opens_the_gate, &yields);
    if (seed % 3 == 0)
        threads_add(&t, cancels, &c);
    for (uint64_t n = random_next(&s.seed) % 64; n > 0; n--)
        sched_yield();
    close_all((int64_t)(random_next(&s.seed) % 3) * 20 * COIR_US);
    threads_join(&t);
    outcome = coir_wait(&c);
    CHECK(outcome >= COIR_DONE);
    CHECK_EQ(outcome == COIR_PANICKED, s.panics > 0);
    check_objects();
}

static void rounds(unsigned workers)
{
    for (int i = 0; check_round(i, ROUNDS); i++)
        one_round((uint64_t)i * 7919 + 1, workers);
}

static void all_ends_on_one_worker(void)
{
    rounds(1);
}

static void all_ends_on_two_workers(void)
{
    rounds(2);
}

static void all_ends_on_four_workers(void)
{
    rounds(4);
}

CHECK_MAIN(CASE(all_ends_on_one_worker), CASE(all_ends_on_two_workers), CASE(all_ends_on_four_workers))
