/* SPDX-License-Identifier: MIT */
/*
 * lab_join_test.c - children that a job waits for, in experiments (coir_lab_run): the seed decides which of them runs
 * first and what befalls it, as with all others, however the job waits.
 */
#include "run.h"
#include "threads.h"

#define SEEDS 40

/* The ways to wait for what one has spawned. */
enum join { LOCAL, SHARED, SHARED_UNTIL, FORK, JOINS };

struct family {
    enum join join;
    char order[4]; /* who ran, in order */
    unsigned ran;
};

static void run_a(void *arg)
{
    struct family *f = arg;

    f->order[f->ran++] = 'a';
}

static void run_b(void *arg)
{
    struct family *f = arg;

    f->order[f->ran++] = 'b';
}

static void fork_b(void *arg)
{
    CHECK_EQ(coir_fork2(run_a, arg, run_b, arg), COIR_DONE);
}

static void spawn_and_wait(void *arg)
{
    struct family *f = arg;
    coir_counter local = COIR_COUNTER_LOCAL, shared = COIR_COUNTER_INIT;
    coir_counter *c = f->join == LOCAL ? &local : &shared;

    CHECK_EQ(coir_spawn(c, run_a, f), COIR_OK);
    CHECK_EQ(coir_spawn(c, run_b, f), COIR_OK);
    CHECK_EQ(f->join == SHARED_UNTIL ? coir_wait_until(c, coir_now() + COIR_SEC) : coir_wait(c), COIR_DONE);
}

static int run_family(const coir_lab *lab, struct family *f, coir_lab_report *r)
{
    coir_options o = run_options(0);

    o.stacks_max = 64; /* sooner made than a million */
    return coir_lab_run(lab, &o, f->join == FORK ? fork_b : spawn_and_wait, f, r);
}

static void a_seed_decides_which_child_runs_first(void)
{
    for (enum join j = 0; j < FORK; j++) {
        unsigned newest = 0;

        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            coir_lab lab = {.size = sizeof lab, .seed = seed};
            struct family f = {.join = j};

            CHECK_EQ(run_family(&lab, &f, NULL), COIR_DONE);
            CHECK_EQ(f.ran, 2);
            newest += f.order[0] == 'b';
        }
        CHECK(newest > 0 && newest < SEEDS);
    }
}

static void every_child_may_be_late(void)
{
    for (enum join j = 0; j < JOINS; j++) {
        coir_lab lab = {.size = sizeof lab, .seed = 1, .delay_ppm = 1000000};
        struct family f = {.join = j};
        coir_lab_report r;

        CHECK_EQ(run_family(&lab, &f, &r), COIR_DONE);
        CHECK_EQ(f.ran, 2);
        CHECK_EQ(r.delays, j == FORK ? 2 : 3); /* the first of a fork is a call of its job */
    }
}

static void run_child(void *ran)
{
    run_count(ran);
}

/* A full domain's job runs in the caller: that is no child that it waits for. */
static void fill_and_run(void *ran)
{
    coir_domain_options o = {.size = sizeof o, .jobs_max = 1, .full = COIR_FULL_RUN};
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d = NULL;

    CHECK_EQ(coir_domain_open(coir_current(), NULL, &o, &d), COIR_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(coir_domain_submit(d, &c, run_child, ran), COIR_OK);
    CHECK_EQ(*(int *)ran, 2);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
}

static void a_full_domains_job_runs_in_the_caller(void)
{
    coir_lab lab = {.size = sizeof lab, .seed = 1};
    coir_options o = run_options(0);
    int ran = 0;

    CHECK_EQ(coir_lab_run(&lab, &o, fill_and_run, &ran, NULL), COIR_DONE);
    CHECK_EQ(ran, 3);
}

CHECK_MAIN(CASE(a_seed_decides_which_child_runs_first), CASE(every_child_may_be_late),
           CASE(a_full_domains_job_runs_in_the_caller))
