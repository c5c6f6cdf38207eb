/* SPDX-License-Identifier: MIT */
/*
 * rwlock_test.c - many readers or one writer, whoever gives up; nobody is overtaken; only writers poison.
 */
#include "attack.h"
#include "child.h"

#include <stdbool.h>

static coir_rwlock lock;

static void renew(void)
{
    CHECK_EQ(coir_rwlock_init(&lock, COIR_MUTEX_POISON), COIR_OK);
}

/* -------------------------------------------------------------------------------- one caller */

static void one_caller(void *unused)
{
    coir_rwlock l = COIR_RWLOCK_INIT, other = COIR_RWLOCK_INIT;
    coir_read a = COIR_READ_INIT, b = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_rwlock_read_lock(&l, &a), COIR_OK);
    CHECK_EQ(coir_rwlock_read_lock(&l, &a), COIR_EBUSY);
    CHECK_EQ(coir_rwlock_read_try_lock(&l, &a), COIR_EBUSY);
    CHECK_EQ(coir_rwlock_read_lock(&l, &b), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&l), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_write_try_lock(&l), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_write_unlock(&l), COIR_EPERM);
    CHECK_EQ(coir_rwlock_read_unlock(&other, &a), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_unlock(&l, &a), COIR_OK);
    CHECK_EQ(coir_rwlock_read_unlock(&l, &a), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_lock_until(&l, 0), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_read_unlock(&l, &b), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&l), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_lock(&l), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&l), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_read_lock(&l, &a), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_read_try_lock(&l, &a), COIR_EDEADLK);
    CHECK_EQ(coir_rwlock_clear(&l, "whole"), COIR_ENOENT);
    CHECK_EQ(coir_rwlock_write_unlock(&l), COIR_OK);
    CHECK_EQ(coir_rwlock_write_try_lock(&l), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&l), COIR_OK);
    CHECK_EQ(coir_rwlock_read_try_lock(&l, &b), COIR_OK);
    CHECK_EQ(coir_rwlock_read_unlock(&l, &b), COIR_OK);
}

static void holders_are_known(void)
{
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

static void bad_input_is_refused(void)
{
    coir_read hold = COIR_READ_INIT;

    renew();
    CHECK_EQ(coir_rwlock_init(NULL, COIR_MUTEX_POISON), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_init(&lock, 7), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_lock(NULL, &hold), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_lock(&lock, NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_lock_until(NULL, NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_try_lock(&lock, NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_try_lock(NULL, &hold), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_unlock(NULL, &hold), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_read_unlock(&lock, NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_lock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_lock_until(NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_try_lock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_write_unlock(NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_clear(NULL, "x"), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_clear(&lock, NULL), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_clear(&lock, ""), COIR_EINVAL);
    CHECK_EQ(coir_rwlock_clear(&lock, "x"), COIR_EPERM);
}

static coir_read shared_hold;

static void unlock_anothers(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &shared_hold), COIR_EPERM);
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_EBUSY);
    CHECK_EQ(coir_rwlock_write_lock_until(&lock, coir_now() + COIR_MS), COIR_ETIMEDOUT);
}

static void a_hold_belongs_to_its_job(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;

    renew();
    CHECK_EQ(coir_rwlock_read_lock(&lock, &shared_hold), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, unlock_anothers, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &shared_hold), COIR_OK);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- attack */

static struct {
    int rounds, readers, writers;
    long plain[2];                      /* equal, unless a writer is in */
    int read, written, timed_out, canceled, together; /* atomic */
} work;

static void read_it(uint64_t *random)
{
    if (__atomic_add_fetch(&work.readers, 1, __ATOMIC_SEQ_CST) > 1)
        run_count(&work.together);
    CHECK_EQ(__atomic_load_n(&work.writers, __ATOMIC_SEQ_CST), 0);
    CHECK_EQ(work.plain[0], work.plain[1]);
    if (random_next(random) % 8 == 0)
        coir_yield();
    __atomic_sub_fetch(&work.readers, 1, __ATOMIC_SEQ_CST);
    run_count(&work.read);
}

static void write_it(uint64_t *random)
{
    CHECK_EQ(__atomic_add_fetch(&work.writers, 1, __ATOMIC_SEQ_CST), 1);
    CHECK_EQ(__atomic_load_n(&work.readers, __ATOMIC_SEQ_CST), 0);
    work.plain[0]++;
    if (random_next(random) % 8 == 0)
        coir_yield();
    work.plain[1]++;
    __atomic_sub_fetch(&work.writers, 1, __ATOMIC_SEQ_CST);
    run_count(&work.written);
}

static void give_up(int status)
{
    if (status == COIR_ETIMEDOUT)
        run_count(&work.timed_out);
    else if (CHECK_EQ(status, COIR_ECANCELED))
        run_count(&work.canceled);
}

static void use_once(uint64_t *random)
{
    int64_t ns = (int64_t)(random_next(random) % 30000);
    int64_t deadline = random_next(random) % 2 ? COIR_NEVER : coir_now() + ns;
    coir_read hold = COIR_READ_INIT;
    bool writes = random_next(random) % 4 == 0;
    int status = writes ? coir_rwlock_write_lock_until(&lock, deadline)
                        : coir_rwlock_read_lock_until(&lock, &hold, deadline);

    if (status != COIR_OK) {
        give_up(status);
    } else if (writes) {
        write_it(random);
        CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
    } else {
        read_it(random);
        CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
    }
}

static void use_often(void *seed)
{
    uint64_t random = attack_seed(seed);

    for (int i = 0; i < work.rounds; i++)
        use_once(&random);
}

static void readers_share_and_writers_do_not(void)
{
    renew();
    memset(&work, 0, sizeof work);
    work.rounds = MANY(2000);
    attack_run((struct attack){.fn = use_often, .jobs = 10, .threads = 3, .crowd = 6});
    CHECK_EQ(work.plain[0], work.written);
    CHECK(work.read > 0 && work.together > 0 && (SLOW || work.timed_out > 0));
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_OK); /* nothing is left of all that */
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
}

/* -------------------------------------------------------------------------------------- order */

static char order[16];
static int entered, status_seen;

static void note(char who)
{
    order[strlen(order)] = who;
}

static void write_in_turn(void *unused)
{
    (void)unused;
    run_count(&entered);
    CHECK_EQ(coir_rwlock_write_lock(&lock), COIR_OK);
    note('w');
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
}

static void read_in_turn(void *unused)
{
    coir_read hold = COIR_READ_INIT;

    (void)unused;
    run_count(&entered);
    CHECK_EQ(coir_rwlock_read_lock(&lock, &hold), COIR_OK);
    note('r');
    coir_yield();
    note('R');
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
}

static void come_in_turn(coir_counter *c, const char *who)
{
    for (entered = 0; who[entered];) {
        int before = entered;

        CHECK_EQ(coir_spawn(c, who[before] == 'w' ? write_in_turn : read_in_turn, NULL), COIR_OK);
        while (entered == before)
            coir_yield();
    }
}

static void queue_up(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_read hold = COIR_READ_INIT, another = COIR_READ_INIT;

    (void)unused;
    memset(order, 0, sizeof order);
    CHECK_EQ(coir_rwlock_read_lock(&lock, &hold), COIR_OK);
    come_in_turn(&c, "wrrwr");
    CHECK_EQ(coir_rwlock_read_try_lock(&lock, &another), COIR_EDEADLK); /* behind the writer */
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_STR(order, "wrrRRwrR"); /* the readers between two writers are in together */
}

static void nobody_is_overtaken(void)
{
    renew();
    run_on(1, queue_up, NULL);
}

static void write_briefly(void *unused)
{
    (void)unused;
    run_count(&entered);
    status_seen = coir_rwlock_write_lock_until(&lock, coir_now() + 5 * COIR_MS);
}

/* A writer that gives up lets those in who waited behind it, while other readers still are. */
static void outlast_a_writer(void *unused)
{
    coir_counter impatient = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    coir_read hold = COIR_READ_INIT;

    (void)unused;
    memset(order, 0, sizeof order);
    entered = 0;
    CHECK_EQ(coir_rwlock_read_lock(&lock, &hold), COIR_OK);
    CHECK_EQ(coir_spawn(&impatient, write_briefly, NULL), COIR_OK);
    while (!entered)
        coir_yield();
    come_in_turn(&c, "rr");
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    CHECK_EQ(coir_wait(&impatient), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ETIMEDOUT);
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
}

static void a_writer_that_gives_up_lets_readers_in(void)
{
    renew();
    run_on(1, outlast_a_writer, NULL);
}

/* ------------------------------------------------------------------------------------- panics */

static int end_of(coir_fn *fn, coir_failure *failure)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    CHECK_EQ(coir_submit(rt, &c, fn, NULL), COIR_OK);
    outcome = coir_wait(&c);
    memset(failure, 0, sizeof *failure);
    (void)coir_counter_failure(&c, failure);
    run_close(rt);
    return outcome;
}

static void panic_reading(void *unused)
{
    coir_read a = COIR_READ_INIT, b = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_rwlock_read_lock(&lock, &a), COIR_OK);
    CHECK_EQ(coir_rwlock_read_lock(&lock, &b), COIR_OK);
    coir_panic("while it reads");
}

static void return_reading(void *unused)
{
    coir_read a = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_rwlock_read_lock(&lock, &a), COIR_OK);
}

static void panic_writing(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_rwlock_write_lock(&lock), COIR_OK);
    coir_panic("while it writes");
}

static void return_writing(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_rwlock_write_lock(&lock), COIR_OK);
}

static void a_reader_that_ends_just_releases(void)
{
    coir_failure f;

    renew();
    CHECK_EQ(end_of(panic_reading, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_PANIC);
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
    CHECK_EQ(end_of(return_reading, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_HELD);
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
    CHECK_EQ(coir_try(panic_reading, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
}

static void check_poisoned(void)
{
    coir_read hold = COIR_READ_INIT;

    CHECK_EQ(coir_rwlock_read_lock(&lock, &hold), COIR_EPOISONED);
    CHECK_EQ(coir_rwlock_clear(&lock, "only readers are in"), COIR_EPERM);
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
    CHECK_EQ(coir_rwlock_write_try_lock(&lock), COIR_EPOISONED);
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_lock(&lock), COIR_EPOISONED);
    CHECK_EQ(coir_rwlock_clear(&lock, "tested"), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&lock), COIR_OK);
    CHECK_EQ(coir_rwlock_read_try_lock(&lock, &hold), COIR_OK);
    CHECK_EQ(coir_rwlock_read_unlock(&lock, &hold), COIR_OK);
}

static void a_writer_that_ends_poisons(void)
{
    coir_failure f;

    renew();
    CHECK_EQ(end_of(panic_writing, &f), COIR_PANICKED);
    check_poisoned();
    CHECK_EQ(end_of(return_writing, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_HELD);
    check_poisoned();
    CHECK_EQ(coir_try(panic_writing, NULL, NULL), COIR_PANICKED);
    check_poisoned();
}

static void abort_writing(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_rwlock_init(&lock, COIR_MUTEX_ABORT), COIR_OK);
    (void)end_of(panic_reading, &f); /* readers do not matter */
    (void)end_of(panic_writing, &f);
}

static void the_policy_may_be_to_abort(void)
{
    CHILD_DIES(abort_writing, NULL, SIGABRT, "while it wrote under rwlock");
}

CHECK_MAIN(CASE(holders_are_known), CASE(bad_input_is_refused), CASE(a_hold_belongs_to_its_job),
           CASE(readers_share_and_writers_do_not), CASE(nobody_is_overtaken),
           CASE(a_writer_that_gives_up_lets_readers_in), CASE(a_reader_that_ends_just_releases),
           CASE(a_writer_that_ends_poisons), CASE(the_policy_may_be_to_abort))
