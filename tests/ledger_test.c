/* SPDX-License-Identifier: MIT */
/*
 * ledger_test.c - three ways to go on after a panic in the middle of a change, against a reconciliation
 * check: recover and go on (the books are wrong), poison (the next one knows, and repairs), publish
 * (there is nothing to repair).
 *
 * The books are accounts whose sum never changes. A transfer takes from one account and gives to
 * another; every so often the job breaks in between.
 */
#include "run.h"
#include "threads.h"

enum { ACCOUNTS = 16, EACH = 1000 };

static struct {
    int panics;   /* atomic */
    int imbalances; /* atomic: readers that saw a wrong sum */
    int repairs, rounds;
} seen;

static int sum_of(const int *account)
{
    int sum = 0;

    for (int i = 0; i < ACCOUNTS; i++)
        sum += account[i];
    return sum;
}

static void transfer(int *account, uint64_t random)
{
    int amount = (int)(random % 10) + 1;

    account[random / 16 % ACCOUNTS] -= amount;
    if (random % 50 == 0) {
        run_count(&seen.panics);
        coir_panic("broken in the middle of a transfer");
    }
    account[random / 256 % ACCOUNTS] += amount;
}

/* Runs jobs that transfer, one change each; the jobs that break end PANICKED. */
static void trade(void *change)
{
    uint64_t random = 12345;

    for (int i = 0; i < seen.rounds; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        uint64_t seeds[8];

        for (int k = 0; k < 8; k++)
            seeds[k] = random_next(&random);
        CHECK_EQ(coir_spawn_many(&c, *(coir_fn **)change, seeds, sizeof seeds[0], 8), COIR_OK);
        CHECK(coir_wait(&c) >= 0);
    }
}

static void run_trade(coir_fn *change)
{
    memset(&seen, 0, sizeof seen);
    seen.rounds = MANY(2000);
    run_on(2, trade, &change);
    CHECK(seen.panics > 0);
}

/* ------------------------------------------------------------------------ recover and go on */

static int books[ACCOUNTS];
static coir_mutex mutex;

static void open_books(void)
{
    for (int i = 0; i < ACCOUNTS; i++)
        books[i] = EACH;
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_POISON), COIR_OK);
}

static void transfer_in_books(void *random)
{
    transfer(books, *(uint64_t *)random);
}

/* The boundary is inside the lock, so nobody learns: what recover() in a request handler does. */
static void change_and_recover(void *random)
{
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    (void)!coir_try(transfer_in_books, random, NULL);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void to_recover_and_go_on_corrupts(void)
{
    open_books();
    run_trade(change_and_recover);
    CHECK(sum_of(books) < ACCOUNTS * EACH); /* the process lives, the money is gone */
}

/* ------------------------------------------------------------------------------------- poison */

static int before[ACCOUNTS]; /* a copy of the books, as of the last whole change */

/* The first to find it poisoned puts the books right, and says why they are. */
static void lock_books(void)
{
    int status = coir_mutex_lock(&mutex);

    if (status == COIR_EPOISONED) {
        CHECK(sum_of(books) != ACCOUNTS * EACH);
        memcpy(books, before, sizeof books);
        CHECK_EQ(coir_mutex_clear(&mutex, "back to the last whole change"), COIR_OK);
        seen.repairs++;
    } else {
        CHECK_EQ(status, COIR_OK);
    }
    if (sum_of(books) != ACCOUNTS * EACH)
        run_count(&seen.imbalances);
}

static void change_under_mutex(void *random)
{
    lock_books();
    memcpy(before, books, sizeof books);
    transfer(books, *(uint64_t *)random);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void poison_tells_the_next_one(void)
{
    open_books();
    run_trade(change_under_mutex);
    lock_books();
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
    CHECK_EQ(sum_of(books), ACCOUNTS * EACH);
    CHECK_EQ(seen.imbalances, 0);
    CHECK_EQ(seen.repairs, seen.panics); /* each once */
}

/* ------------------------------------------------------------------------------------ publish */

struct edition {
    coir_cell_version version;
    int account[ACCOUNTS];
};

static coir_cell cell;
static int alive; /* atomic: editions */

static struct edition *edition_of(coir_cell_version *v)
{
    return (struct edition *)(void *)v; /* its first member */
}

static void free_edition(void *e)
{
    __atomic_sub_fetch(&alive, 1, __ATOMIC_RELAXED);
    free(e);
}

static void destroy(coir_cell_version *v)
{
    free_edition(edition_of(v));
}

static void release(void *v)
{
    coir_cell_release(v);
}

/* What is being built, until it is published: a panic frees it. */
struct draft {
    struct edition *next;
};

static void drop_draft(struct draft *d)
{
    if (d->next)
        free_edition(d->next);
}

static int try_change(uint64_t random)
{
    coir_cell_version *now = coir_cell_read(&cell);
    __attribute__((cleanup(drop_draft))) struct draft d = {malloc(sizeof(struct edition))};
    int status;

    CHECK_EQ(coir_defer(release, now), COIR_OK);
    run_count(&alive);
    if (sum_of(edition_of(now)->account) != ACCOUNTS * EACH)
        run_count(&seen.imbalances);
    memcpy(d.next->account, edition_of(now)->account, sizeof d.next->account);
    transfer(d.next->account, random);
    status = coir_cell_replace(&cell, now, &d.next->version);
    if (status == COIR_OK)
        d.next = NULL;
    return status;
}

static void change_by_publishing(void *random)
{
    while (try_change(*(uint64_t *)random) == COIR_EAGAIN)
        ;
}

static void what_is_published_is_whole(void)
{
    struct edition *first = malloc(sizeof *first);
    coir_cell_version *last;

    alive = 1;
    for (int i = 0; i < ACCOUNTS; i++)
        first->account[i] = EACH;
    CHECK_EQ(coir_cell_init(&cell, &first->version, destroy), COIR_OK);
    run_trade(change_by_publishing);
    last = coir_cell_read(&cell);
    CHECK_EQ(sum_of(edition_of(last)->account), ACCOUNTS * EACH);
    coir_cell_release(last);
    CHECK_EQ(seen.imbalances, 0);
    CHECK_EQ(alive, 1);
    coir_cell_fini(&cell);
    CHECK_EQ(alive, 0);
}

CHECK_MAIN(CASE(to_recover_and_go_on_corrupts), CASE(poison_tells_the_next_one),
           CASE(what_is_published_is_whole))
