/* SPDX-License-Identifier: MIT */
/*
 * rwlock.c - explores core/rwlock.c: a writer is alone, readers are together, nobody waits for ever (R2),
 * and the last may free it (W2).
 */
#include <string.h>

#include "explore.h"
#include "world.h"

static coir_rwlock rwlock;
static int guarded;   /* by the lock: readers read, writers write */
static int leave_at;  /* the writer who makes it so many frees the lock; 0: nobody */
static int written;   /* by writers with a deadline that got it, beside `guarded` */

static void setup(void)
{
    world_reset(0);
    memset(&rwlock, 0, sizeof rwlock);
    guarded = leave_at = written = 0;
}

static void setup_gone(void)
{
    setup();
    leave_at = 2;
}

static void write_under(void)
{
    bool last = ++guarded == leave_at;

    MUST(coir_rwlock_write_unlock(&rwlock) == COIR_OK);
    if (last)
        explore_free(&rwlock, sizeof rwlock);
}

static void write_once(void)
{
    MUST(coir_rwlock_write_lock(&rwlock) == COIR_OK);
    write_under();
}

static void read_under(coir_read *hold)
{
    MUST(guarded <= 3);
    MUST(coir_rwlock_read_unlock(&rwlock, hold) == COIR_OK);
}

static void read_once(void)
{
    coir_read hold = {0};

    MUST(coir_rwlock_read_lock(&rwlock, &hold) == COIR_OK);
    read_under(&hold);
}

static _Atomic bool has_read;

static void read_and_tell(void)
{
    read_once();
    atomic_store_explicit(&has_read, true, memory_order_relaxed);
}

/* Reads until the other reader has. */
static void read_with_another(void)
{
    coir_read hold = {0};
    unsigned turns = 0;

    MUST(coir_rwlock_read_lock(&rwlock, &hold) == COIR_OK);
    while (!atomic_load_explicit(&has_read, memory_order_relaxed))
        spin_pause(&turns);
    read_under(&hold);
}

static void read_twice(void)
{
    read_once();
    read_once();
}

static void write_twice(void)
{
    write_once();
    write_once();
}

static void read_for_a_while(void)
{
    coir_read hold = {0};
    int status = coir_rwlock_read_lock_until(&rwlock, &hold, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
    if (status == COIR_OK)
        read_under(&hold);
}

static void write_for_a_while(void)
{
    int status = coir_rwlock_write_lock_until(&rwlock, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
    if (status == COIR_OK)
        write_under();
}

static void try_both(void)
{
    coir_read hold = {0};
    int status = coir_rwlock_read_try_lock(&rwlock, &hold);

    MUST(status == COIR_OK || status == COIR_EBUSY);
    if (status == COIR_OK)
        read_under(&hold);
    status = coir_rwlock_write_try_lock(&rwlock);
    MUST(status == COIR_OK || status == COIR_EBUSY);
    if (status == COIR_OK)
        write_under();
}

/* Free, and as it was. */
static void check(void)
{
    MUST(coir_rwlock_write_try_lock(&rwlock) == COIR_OK);
    MUST(coir_rwlock_write_unlock(&rwlock) == COIR_OK);
}

static void check_two(void)
{
    check();
    MUST(guarded == 2);
}

/* ---------------------------------------------------------------------------------- poisoning */

static void write_and_leave(void)
{
    struct held *h;

    MUST(coir_rwlock_write_lock(&rwlock) == COIR_OK);
    guarded++;
    h = *held_by_thread();
    h->kind->leave(h, LEAVE_ENDED);
}

static void read_and_look(void)
{
    coir_read hold = {0};
    int status = coir_rwlock_read_lock(&rwlock, &hold);

    MUST(status == (guarded ? COIR_EPOISONED : COIR_OK));
    read_under(&hold);
}

/* As a boundary does for a job that has returned with a hold. */
static void read_and_leave(void)
{
    coir_read hold = {0};
    struct held *h;

    MUST(coir_rwlock_read_lock(&rwlock, &hold) == COIR_OK);
    h = *held_by_thread();
    h->kind->leave(h, LEAVE_ENDED);
}

/* -------------------------------------------------------------------------------------- fibers */

static void write_in_job(void *arg)
{
    (void)arg;
    write_once();
}

static void read_in_job(void *arg)
{
    (void)arg;
    read_once();
}

static void write_in_job_for_a_while(void *arg)
{
    (void)arg;
    write_for_a_while();
}

static void setup_fibers(void)
{
    setup();
    world_reset(1);
    world_add(1, write_in_job, NULL, NULL);
    world_add(1, read_in_job, NULL, NULL);
}

static void setup_deadline(void)
{
    setup();
    world_reset(1);
    world_add(1, write_in_job_for_a_while, NULL, NULL);
}

static void check_fibers(void)
{
    world_check();
    check();
}

EXPLORE_MAIN(
    {.name = "writers_one_by_one", setup, {write_once, write_once, write_once}, check},
    {.name = "a_writer_among_readers", setup, {read_once, write_once, read_once}, check},
    {.name = "writers_among_readers", setup, {read_twice, write_twice}, check_two},
    {.name = "a_reader_among_writers", setup, {write_once, read_once, write_once}, check_two},
    {.name = "the_last_writer_may_free_it", setup_gone, {write_once, write_once}, NULL},
    {.name = "a_writer_who_gives_up_lets_readers_in", setup, {read_with_another, write_for_a_while, read_and_tell},
     check, .less = 1},
    {.name = "a_reader_who_gives_up_lets_writers_in", setup, {write_once, read_for_a_while,
     write_once}, check, .less = 1},
    {.name = "trying_is_no_waiting", setup, {read_once, write_once, try_both}, check},
    {.name = "who_ends_with_it_poisons_it", setup, {write_and_leave, read_and_look}, NULL},
    {.name = "a_hold_ends_with_its_reader", setup, {read_and_leave, write_once, read_once}, check},
    {.name = "two_fibers", setup_fibers, {world_work_1, NULL, write_once}, check_fibers},
    {.name = "a_fiber_gives_up", setup_deadline, {world_work_1, NULL, read_once}, check_fibers})
