/* SPDX-License-Identifier: MIT */
/*
 * storm_locks.c - jobs of the storm that break while they hold something, or while others wait for them:
 * locks, links, permits, channels, obligations.
 */
#include "storm.h"

/* ------------------------------------------------------------------------------------------ locks */

/* What the locks guard: equal, unless a panic has left it half changed. */
static coir_mutex mutex = COIR_MUTEX_INIT;
static coir_rwlock rwlock = COIR_RWLOCK_INIT;
static long by_mutex[2], by_rwlock[2];

static __attribute__((noreturn)) void change_and_panic(const struct storm_job *j, long *guarded)
{
    CHECK_EQ(guarded[0], guarded[1]);
    guarded[0]++;
    if (j->seed % 4 == 0)
        coir_yield();
    guarded[1] += (long)(j->seed / 4 % 2);
    storm_raises(j);
    coir_panic("half changed, or not");
}

void storm_locks(void *job)
{
    struct storm_job *j = storm_begin(job);
    int status = coir_mutex_lock(&mutex);

    if (status == COIR_EPOISONED) {
        by_mutex[0] = by_mutex[1];
        CHECK_EQ(coir_mutex_clear(&mutex, "made equal"), COIR_OK);
    } else if (!CHECK(status == COIR_OK || status == COIR_ECANCELED) || status == COIR_ECANCELED) {
        storm_raises(j);
        coir_panic("canceled");
    }
    change_and_panic(j, by_mutex);
}

void storm_writes(void *job)
{
    struct storm_job *j = storm_begin(job);
    int status = coir_rwlock_write_lock(&rwlock);

    if (status == COIR_EPOISONED) {
        by_rwlock[0] = by_rwlock[1];
        CHECK_EQ(coir_rwlock_clear(&rwlock, "made equal"), COIR_OK);
    } else if (!CHECK(status == COIR_OK || status == COIR_ECANCELED) || status == COIR_ECANCELED) {
        storm_raises(j);
        coir_panic("canceled");
    }
    change_and_panic(j, by_rwlock);
}

void storm_reads(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_read hold = COIR_READ_INIT;
    int status = coir_rwlock_read_lock(&rwlock, &hold);

    CHECK(status == COIR_OK || status == COIR_EPOISONED || status == COIR_ECANCELED);
    if (status == COIR_OK)
        CHECK_EQ(by_rwlock[0], by_rwlock[1]);
    if (j->seed % 4 == 0)
        coir_yield();
    storm_raises(j);
    coir_panic("holding to read");
}

/* --------------------------------------------------------------------------------- links, monitors */

/* Owed by hand as long as the storm lasts. */
static coir_counter watched = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT, told = COIR_COUNTER_INIT;

void storm_tie(void)
{
    coir_counter_add(&watched, 1);
    coir_counter_add(&other, 1);
}

void storm_untie(void)
{
    coir_counter_done(&watched, COIR_PANICKED); /* it would cancel, and tell, whatever is tied to it still */
    coir_counter_done(&other, COIR_DONE);
    CHECK_EQ(coir_wait(&watched), COIR_PANICKED);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    CHECK_EQ(coir_wait(&told), COIR_DONE);
}

void storm_ties(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_monitor monitor;
    coir_link link;

    CHECK_EQ(coir_link_counters(&link, &watched, &other), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&monitor, &watched, &told), COIR_OK);
    if (j->seed % 4 == 0)
        coir_yield();
    storm_raises(j);
    coir_panic("over a link and a monitor");
}

static void locks_of_its_parent(void *lock)
{
    int status;

    storm_began(COIR_DONE);
    status = coir_mutex_lock(lock);
    CHECK(status == COIR_EPOISONED || status == COIR_ECANCELED || status == COIR_OK);
    if (status != COIR_ECANCELED)
        CHECK_EQ(coir_mutex_unlock(lock), COIR_OK);
}

void storm_peer(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_mutex lock = COIR_MUTEX_INIT;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_mutex_lock(&lock), COIR_OK);
    for (int i = 0; i < 2; i++)
        storm_spawn(&c, locks_of_its_parent, &lock);
    coir_yield();
    if (j->seed % 2)
        CHECK_EQ(coir_mutex_unlock(&lock), COIR_OK);
    storm_raises(j);
    coir_panic("with waiters on my lock");
}

static coir_semaphore permits = COIR_SEMAPHORE_INIT;

static void release(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_semaphore_release(&permits, 1), COIR_OK);
    storm_paid(NULL);
}

void storm_permit(void *job)
{
    struct storm_job *j = storm_begin(job);
    static int filled;

    if (!__atomic_exchange_n(&filled, 1, __ATOMIC_RELAXED))
        CHECK_EQ(coir_semaphore_release(&permits, 3), COIR_OK);
    if (coir_semaphore_acquire(&permits) == COIR_OK) {
        storm_owes(1);
        CHECK_EQ(coir_defer(release, NULL), COIR_OK);
        coir_yield();
    }
    storm_raises(j);
    coir_panic("holding a permit");
}

/* --------------------------------------------------------------------------------------- channels */

static void receives(void *channel)
{
    int value = 0, last = -1, status;

    storm_began(COIR_DONE);
    while ((status = coir_channel_recv(channel, &value)) == COIR_OK) {
        CHECK(value > last);
        last = value;
        storm_add(&storm_books.received, 1);
    }
    CHECK(status == COIR_ECANCELED || status == COIR_ECLOSED);
}

/* What is in it when its frame goes was received by nobody. */
static void drain(void *channel)
{
    int value;

    while (coir_channel_try_recv(channel, &value) == COIR_OK)
        storm_add(&storm_books.received, 1);
    CHECK_EQ(coir_channel_fini(channel), COIR_OK);
    storm_paid(NULL);
}

void storm_sender(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_channel *channel = &j->channel;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_channel_init(channel, sizeof *j->ring, 2, j->ring), COIR_OK);
    CHECK_EQ(coir_defer(drain, channel), COIR_OK);
    storm_owes(1);
    if (storm_spawn(&c, receives, channel) && !coir_domain_current())
        storm_spawn(&c, receives, channel);
    for (int i = 0; i < 4; i++) {
        int64_t deadline = coir_domain_current() ? coir_now() + 100 * COIR_US : COIR_NEVER;

        if (coir_channel_send_until(channel, &i, deadline) == COIR_OK)
            storm_add(&storm_books.sent, 1);
    }
    if (j->seed % 2)
        CHECK_EQ(coir_channel_close(channel), COIR_OK);
    storm_raises(j);
    coir_panic("with receivers");
}

void storm_selects(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_channel channel[2];
    int ring[2], in = 0, out = 7, status;
    coir_case cases[2] = {{&channel[0], &in, COIR_RECV}, {&channel[1], &out, COIR_SEND}};
    size_t which = 9;

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_channel_init(&channel[i], sizeof *ring, 1, &ring[i]), COIR_OK);
    CHECK_EQ(coir_select(cases, 2, COIR_NEVER, &which), COIR_OK);
    CHECK_EQ(which, 1);
    status = coir_select(cases, 2, coir_now() + 5 * COIR_US, &which);
    CHECK(status == COIR_ETIMEDOUT || status == COIR_ECANCELED);
    storm_raises(j);
    coir_panic("after a select");
}

/* ------------------------------------------------------------------------------------ obligations */

static void discharges(void *obligation)
{
    CHECK_EQ(coir_obligation_discharge(*(coir_obligation *)obligation), COIR_OK);
    storm_paid(NULL);
}

void storm_discharges(void *job)
{
    struct storm_job *j = storm_begin(job);

    if (coir_domain_current() &&
        CHECK_EQ(coir_obligation_take(NULL, "reply", &j->obligation), COIR_OK)) {
        storm_add(&storm_books.taken, 1);
        storm_owes(1);
        CHECK_EQ(coir_defer(discharges, &j->obligation), COIR_OK);
    }
    storm_raises(j);
    coir_panic("with an obligation");
}

void storm_leaks(void *job)
{
    struct storm_job *j = storm_begin(job);
    coir_obligation o;

    if (coir_domain_current() && CHECK_EQ(coir_obligation_take(NULL, "lease", &o), COIR_OK)) {
        storm_add(&storm_books.taken, 1);
        storm_add(&storm_books.leaked, 1);
    }
    storm_raises(j);
    coir_panic("leaking an obligation");
}
