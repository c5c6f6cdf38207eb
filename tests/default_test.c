/* SPDX-License-Identifier: MIT */
/*
 * default_test.c - what happens if nobody asks for anything: panics unwind, no domain gives up, and
 * the host's signals stay its own.
 */
#include "domains.h"

static void panic_often(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(coir_spawn(&c, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
}

/* Under the log of no options each would be a line. */
static void panics_unwind_to_their_boundary(void)
{
    coir_options o = {.size = sizeof o, .quiet = 1};

    CHECK_EQ(coir_run(&o, panic_often, NULL), COIR_DONE);
}

static void no_number_of_panics_trips_a_domain(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    int n = 0;

    for (int i = 0; i < 2000; i++)
        CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(domain_stats(d).trips, 0);
    CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(n, 1);
    domain_close(d);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ signals */

struct action {
    int known;
    void (*handler)(int);
    int flags;
};

static void look(struct action seen[NSIG])
{
    struct sigaction sa;

    for (int i = 1; i < NSIG; i++) {
        memset(&sa, 0, sizeof sa);
        seen[i].known = sigaction(i, NULL, &sa) == 0; /* libc keeps some to itself */
        seen[i].handler = sa.sa_handler;
        seen[i].flags = sa.sa_flags;
    }
}

static void same(const struct action a[NSIG], const struct action b[NSIG])
{
    for (int i = 1; i < NSIG; i++)
        if (!CHECK(a[i].known == b[i].known && a[i].handler == b[i].handler && a[i].flags == b[i].flags))
            fprintf(stderr, "    signal %d\n", i);
}

static struct action before[NSIG];

static void compare_inside(void *unused)
{
    struct action now[NSIG];

    (void)unused;
    look(now);
    same(before, now);
}

static void no_signal_handler_is_installed(void)
{
    struct action after[NSIG];

    look(before);
    CHECK_EQ(coir_run(NULL, compare_inside, NULL), COIR_DONE);
    look(after);
    same(before, after);
}

CHECK_MAIN(CASE(panics_unwind_to_their_boundary), CASE(no_number_of_panics_trips_a_domain),
           CASE(no_signal_handler_is_installed))
