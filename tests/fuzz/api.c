/* SPDX-License-Identifier: MIT */
/*
 * api.c - bytes as a program: spawns, waits, locks, panics, cancels, domains, checked against a model that
 * knows what each counter has to tell.
 *
 * An operation is two bytes: what, and with which counter and how. One runtime serves all inputs; after each one
 * every counter has settled, and what was spawned has ended.
 */
#include "trees.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNTERS 4
#define OPERATIONS_MAX 200

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static coir_runtime *runtime;

/* What runs, and what the model knows of it. */
static struct program {
    coir_counter counter[COUNTERS];
    int worst[COUNTERS];       /* of the jobs it is owed, if none is skipped */
    int canceled[COUNTERS];    /* some may be */
    int of_domain[COUNTERS];   /* some are the domain's */
    int trees[COUNTERS];       /* some are trees: if asked to stop they panic */
    coir_domain *domain;
    int domain_canceled;
    coir_mutex mutex;
    coir_channel channel;
    int ring[2];
} now;

/* ---------------------------------------------------------------------------------------- jobs */

static void done(void *unused)
{
    (void)unused;
}

static void fail(void *unused)
{
    (void)unused;
    coir_fail(COIR_EIO, "planned");
}

static void panic(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

static void yield_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        coir_yield();
}

static void sleep_shortly(void *unused)
{
    int status = coir_sleep_until(coir_now() + 10 * COIR_US);

    (void)unused;
    MUST(status == COIR_OK || status == COIR_ECANCELED);
}

/* Held across a yield. Poison is cleared: the mutex guards nothing. */
static int lock(void)
{
    int status = coir_mutex_lock(&now.mutex);

    MUST(status == COIR_OK || status == COIR_EPOISONED || status == COIR_ECANCELED);
    if (status == COIR_EPOISONED)
        MUST(coir_mutex_clear(&now.mutex, "fuzzed") == COIR_OK);
    return status != COIR_ECANCELED;
}

static void lock_and_yield(void *unused)
{
    (void)unused;
    if (!lock())
        return;
    coir_yield();
    MUST(coir_mutex_unlock(&now.mutex) == COIR_OK);
}

static void lock_and_panic(void *unused)
{
    if (lock())
        coir_yield();
    panic(unused);
}

static void owe_and_panic(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int status = coir_spawn(&c, yield_often, NULL);

    MUST(status == COIR_OK || status == COIR_ECANCELED); /* its domain has been canceled since it started */
    panic(unused);
}

static void send_or_recv(void *unused)
{
    int n = 1;

    (void)unused;
    if (coir_channel_try_send(&now.channel, &n) != COIR_OK)
        (void)!coir_channel_try_recv(&now.channel, &n);
}

static void try_to_panic(void *unused)
{
    (void)unused;
    MUST(coir_try(panic, NULL, NULL) == COIR_PANICKED);
}

static const struct kind {
    coir_fn *fn;
    int outcome;
} kinds[] = {
    {done, COIR_DONE},          {fail, COIR_FAILED},           {panic, COIR_PANICKED},
    {yield_often, COIR_DONE},   {sleep_shortly, COIR_DONE},    {lock_and_yield, COIR_DONE},
    {lock_and_panic, COIR_PANICKED}, {owe_and_panic, COIR_PANICKED}, {send_or_recv, COIR_DONE},
    {try_to_panic, COIR_DONE},
};

#define KINDS (sizeof kinds / sizeof *kinds)

/* ---------------------------------------------------------------------------------- operations */

static void owed(int i, const struct kind *k)
{
    if (k->outcome > now.worst[i])
        now.worst[i] = k->outcome;
}

static void spawn(int i, unsigned how)
{
    const struct kind *k = &kinds[how % KINDS];

    MUST(coir_spawn(&now.counter[i], k->fn, NULL) == COIR_OK);
    owed(i, k);
}

static void spawn_tree(int i, unsigned how)
{
    struct kind k = {trees_grow, trees_outcome(how)};

    MUST(coir_spawn(&now.counter[i], k.fn, trees_of(how, how % 4)) == COIR_OK);
    owed(i, &k);
    now.trees[i] = 1;
}

static void submit_to_domain(int i, unsigned how)
{
    const struct kind *k = &kinds[how % KINDS];
    int status = coir_domain_submit(now.domain, &now.counter[i], k->fn, NULL);

    MUST(status == (now.domain_canceled ? COIR_ECANCELED : COIR_OK));
    if (status != COIR_OK)
        return;
    now.of_domain[i] = 1;
    owed(i, k);
}

static void wait_for(int i, unsigned how)
{
    int outcome = how % 2 ? coir_wait_until(&now.counter[i], coir_now() + 5 * COIR_US) : coir_wait(&now.counter[i]);
    int least = now.canceled[i] ? COIR_DONE : now.worst[i], most = now.worst[i];

    if (how % 2 && outcome == COIR_ETIMEDOUT)
        return;
    if (now.canceled[i] && most < COIR_PANICKED)
        most = now.trees[i] ? COIR_PANICKED : COIR_CANCELED;
    MUST(outcome >= least && outcome <= most);
    coir_counter_init(&now.counter[i]);
    now.worst[i] = now.canceled[i] = now.of_domain[i] = now.trees[i] = 0;
}

static void cancel(int i)
{
    MUST(coir_counter_cancel(&now.counter[i]) == COIR_OK);
    now.canceled[i] = 1;
}

static void cancel_domain(void)
{
    MUST(coir_domain_cancel(now.domain) == COIR_OK);
    now.domain_canceled = 1;
    for (int i = 0; i < COUNTERS; i++)
        now.canceled[i] |= now.of_domain[i];
}

static void open_domain(void)
{
    MUST(coir_domain_open(runtime, NULL, NULL, &now.domain) == COIR_OK);
    now.domain_canceled = 0;
}

static void close_domain(void)
{
    coir_domain_receipt r;

    MUST(coir_domain_close(now.domain, -1, &r) == COIR_OK);
    MUST(r.running == 0);
}

static void one_operation(unsigned what, unsigned with)
{
    int i = (int)(with % COUNTERS);
    unsigned how = with / COUNTERS;

    switch (what % 8) {
    case 0:
    case 1:
        spawn(i, how);
        break;
    case 2:
        submit_to_domain(i, how);
        break;
    case 3:
        wait_for(i, how);
        break;
    case 4:
        cancel(i);
        break;
    case 5:
        how % 4 ? coir_yield() : cancel_domain();
        break;
    case 6:
        close_domain();
        open_domain();
        break;
    case 7:
        how % 2 ? lock_and_yield(NULL) : spawn_tree(i, how);
        break;
    }
}

struct input {
    const uint8_t *data;
    size_t size;
};

static void run(void *input)
{
    const struct input *in = input;

    memset(&now, 0, sizeof now);
    MUST(coir_channel_init(&now.channel, sizeof(int), 2, now.ring) == COIR_OK);
    open_domain();
    for (size_t i = 0; i + 1 < in->size && i < 2 * OPERATIONS_MAX; i += 2)
        one_operation(in->data[i], in->data[i + 1]);
    for (int i = 0; i < COUNTERS; i++)
        wait_for(i, 0);
    close_domain();
    MUST(coir_channel_fini(&now.channel) == COIR_OK);
}

/* ----------------------------------------------------------------------------------- one input */

/* Counters settle before the last job is booked. */
static void check_books(void)
{
    uint64_t ended;
    coir_stats s;

    do {
        MUST(coir_stats_read(runtime, &s) == COIR_OK);
        ended = 0;
        for (int o = 0; o <= COIR_PANICKED; o++)
            ended += s.ended[o];
        MUST(ended <= s.spawned);
    } while (ended < s.spawned);
}

static void say_nothing(enum coir_log_level level, const char *text, void *unused)
{
    (void)level;
    (void)text;
    (void)unused;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    coir_options o = {.size = sizeof o, .workers = 2, .log = say_nothing, .stacks_max = 1000};

    (void)argc;
    (void)argv;
    MUST(coir_open(&o, &runtime) == COIR_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    coir_counter c = COIR_COUNTER_INIT;

    MUST(coir_submit(runtime, &c, run, &in) == COIR_OK);
    MUST(coir_wait(&c) == COIR_DONE);
    MUST(!trees.unlike && !trees.inside);
    check_books();
    return 0;
}
