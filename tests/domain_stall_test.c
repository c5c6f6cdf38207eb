/* SPDX-License-Identifier: MIT */
/*
 * domain_stall_test.c - coir_domain_options.stall_ns: whose jobs are named when they do not suspend, by the
 * limit of their domain, of one above it, or of the runtime.
 */
#include "domains.h"
#include "state.h"

#include <signal.h>

#define SHORT_NS (20 * COIR_MS * (SLOW ? 4 : 1))
#define LONG_NS (3600 * COIR_SEC)

/* ------------------------------------------------------------------------------------- the log */

enum { PATIENT, IMPATIENT, KINDS }; /* the jobs that stall; names in the log */
static const char *const names[KINDS] = {"patient", "impatient"};

static int named[KINDS];      /* lines that name it */
static int64_t after_ms[KINDS]; /* of the last, what it says */
static int silent;            /* lines that say that there is no backtrace */

/* The watcher tells; what it has written before is seen by who reads the number. */
static void told(int *n)
{
    __atomic_add_fetch(n, 1, __ATOMIC_RELEASE);
}

static int read_told(const int *n)
{
    return __atomic_load_n(n, __ATOMIC_ACQUIRE);
}

static void on_line(enum coir_log_level level, const char *text, void *unused)
{
    const char *ms = strstr(text, "suspended for ");
    char word[32];

    (void)level;
    (void)unused;
    if (strstr(text, "no backtrace"))
        told(&silent);
    for (int i = 0; i < KINDS; i++) {
        snprintf(word, sizeof word, "(%s,", names[i]);
        if (!ms || !strstr(text, word))
            continue;
        after_ms[i] = strtoll(ms + strlen("suspended for "), NULL, 10);
        told(&named[i]);
    }
}

static void until_named(int kind)
{
    while (!read_told(&named[kind]))
        sched_yield();
}

/* -------------------------------------------------------------------------------------- the stage */

static coir_runtime *rt;
static int held[KINDS], released;

static void open_with(unsigned workers, int64_t stall_ns)
{
    coir_options o = run_options(workers);

    for (int i = 0; i < KINDS; i++)
        named[i] = held[i] = 0;
    released = silent = 0;
    o.stall_ns = stall_ns;
    o.log = on_line;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
}

static void close_all(void)
{
    run_set(&released);
    run_close(rt);
}

static coir_domain *open_domain(coir_domain *parent, int64_t stall_ns)
{
    coir_domain_options o = domain_options("stalling");

    o.stall_ns = stall_ns;
    return domain_open(rt, parent, &o);
}

static void loop(void)
{
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        ;
}

static void stall_as(void *kind)
{
    CHECK_EQ(coir_job_name(names[(uintptr_t)kind]), COIR_OK);
    run_set(&held[(uintptr_t)kind]);
    loop();
}

/* NULL: in the runtime alone. Returns when it stalls. */
static void stall_in(coir_domain *d, uintptr_t kind)
{
    if (d)
        CHECK_EQ(coir_domain_submit(d, NULL, stall_as, (void *)kind), COIR_OK);
    else
        CHECK_EQ(coir_submit(rt, NULL, stall_as, (void *)kind), COIR_OK);
    run_until(&held[kind]);
}

/* The patient one stalls longer than the other, which is named. It may not be. */
static void only_one_is_named(coir_domain *patient, coir_domain *impatient)
{
    coir_stats s;

    stall_in(patient, PATIENT);
    stall_in(impatient, IMPATIENT);
    until_named(IMPATIENT);
    until_time(coir_now() + 4 * SHORT_NS);
    CHECK_EQ(read_told(&named[PATIENT]), 0);
    CHECK_EQ(read_told(&named[IMPATIENT]), 1); /* once */
    CHECK(after_ms[IMPATIENT] >= SHORT_NS / COIR_MS);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.stalls, 1);
}

/* -------------------------------------------------------------------------------------- whose limit */

static void a_domain_may_be_less_patient_than_its_runtime(void)
{
    const int64_t of_runtime[] = {LONG_NS, COIR_NEVER};

    for (int i = 0; i < 2; i++) {
        open_with(2, of_runtime[i]);
        only_one_is_named(NULL, open_domain(NULL, SHORT_NS));
        close_all();
    }
}

static void a_domain_may_be_more_patient(void)
{
    const int64_t of_domain[] = {LONG_NS, COIR_NEVER};

    for (int i = 0; i < 2; i++) {
        open_with(2, SHORT_NS);
        only_one_is_named(open_domain(NULL, of_domain[i]), NULL);
        close_all();
    }
}

static void domains_side_by_side_have_their_own(void)
{
    open_with(2, LONG_NS);
    only_one_is_named(open_domain(NULL, COIR_NEVER), open_domain(NULL, SHORT_NS));
    close_all();
}

/* It is not named before its time, though others are looked at more often. */
static void a_longer_limit_is_kept(void)
{
    open_with(1, SHORT_NS);
    stall_in(open_domain(NULL, 5 * SHORT_NS), PATIENT);
    until_named(PATIENT);
    CHECK(after_ms[PATIENT] >= 5 * SHORT_NS / COIR_MS);
    close_all();
}

static void a_limit_holds_below_unless_there_is_another(void)
{
    coir_domain *strict, *patient;

    open_with(2, LONG_NS);
    strict = open_domain(NULL, SHORT_NS);
    patient = open_domain(strict, COIR_NEVER);
    only_one_is_named(open_domain(patient, 0), open_domain(open_domain(strict, 0), 0));
    close_all();
}

static void without_one_it_is_the_runtimes(void)
{
    open_with(2, SHORT_NS);
    only_one_is_named(open_domain(NULL, COIR_NEVER), open_domain(NULL, 0));
    close_all();
}

/* -------------------------------------------------------------------------------------- which job */

static void try_to_stall(void *kind)
{
    CHECK_EQ(coir_try(stall_as, kind, NULL), COIR_DONE);
}

static void spawn_and_wait(void *kind)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, try_to_stall, kind), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

/* Its scope is a record of its own, and the job is one that another has spawned, inside a coir_try. */
static void jobs_with_deadlines_and_children_have_it_too(void)
{
    coir_domain *d;

    open_with(2, LONG_NS);
    d = open_domain(NULL, SHORT_NS);
    CHECK_EQ(coir_domain_submit_until(d, NULL, spawn_and_wait, (void *)(uintptr_t)IMPATIENT,
                                      coir_now() + 1000 * COIR_SEC), COIR_OK);
    until_named(IMPATIENT);
    close_all();
}

struct in_place {
    coir_domain *d;
    uintptr_t kind;
};

static void submit_in_place(void *arg)
{
    const struct in_place *p = arg;

    CHECK_EQ(coir_job_name(names[p->kind == PATIENT ? IMPATIENT : PATIENT]), COIR_OK);
    CHECK_EQ(coir_domain_submit(p->d, NULL, stall_as, (void *)p->kind), COIR_OK);
}

/* A full domain's job runs on the stack of the one that submits: its own domain counts. */
static void a_job_in_its_callers_place_has_its_own_domains(void)
{
    coir_domain_options o = domain_options("full");
    struct in_place p = {.kind = IMPATIENT};
    struct hold filler = {0};
    coir_domain *caller;

    open_with(2, LONG_NS);
    caller = open_domain(NULL, COIR_NEVER);
    o.stall_ns = SHORT_NS;
    o.jobs_max = 1;
    o.full = COIR_FULL_RUN;
    p.d = domain_open(rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(p.d, NULL, job_hold, &filler), COIR_OK);
    run_until(&filler.started);
    CHECK_EQ(coir_domain_submit(caller, NULL, submit_in_place, &p), COIR_OK);
    until_named(IMPATIENT);
    CHECK_EQ(read_told(&named[PATIENT]), 0);
    run_set(&filler.go);
    close_all();
}

static void stall_deaf(void *kind)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    stall_as(kind);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Its thread takes no signal: what can be seen from outside decides, and who is patient is left alone. */
static void a_job_that_takes_no_signal_has_its_domains(void)
{
    open_with(2, LONG_NS);
    CHECK_EQ(coir_domain_submit(open_domain(NULL, COIR_NEVER), NULL, stall_deaf,
                                (void *)(uintptr_t)PATIENT), COIR_OK);
    run_until(&held[PATIENT]);
    CHECK_EQ(coir_domain_submit(open_domain(NULL, SHORT_NS), NULL, stall_deaf,
                                (void *)(uintptr_t)IMPATIENT), COIR_OK);
    while (!read_told(&silent))
        sched_yield();
    until_time(coir_now() + 4 * SHORT_NS);
    CHECK_EQ(read_told(&silent), 1);
    close_all();
}

/* ------------------------------------------------------------------------------------- how often */

static int64_t least(void)
{
    return __atomic_load_n((int64_t *)(void *)&rt->stall_least, __ATOMIC_RELAXED);
}

static void the_watcher_looks_as_often_as_the_shortest_open_limit_asks(void)
{
    coir_domain *a, *b, *c, *own;

    open_with(1, LONG_NS);
    CHECK_EQ(least(), LONG_NS);
    own = open_domain(NULL, 0);
    CHECK_EQ(least(), LONG_NS);
    a = open_domain(NULL, 4 * COIR_SEC);
    CHECK_EQ(least(), 4 * COIR_SEC);
    b = open_domain(NULL, 3 * COIR_SEC);
    c = open_domain(b, 0);
    CHECK_EQ(least(), 3 * COIR_SEC);
    domain_close(c);
    CHECK_EQ(least(), 3 * COIR_SEC); /* b's still */
    domain_close(b);
    CHECK_EQ(least(), 4 * COIR_SEC);
    c = open_domain(open_domain(own, COIR_NEVER), 2 * COIR_SEC);
    CHECK_EQ(least(), 2 * COIR_SEC);
    domain_close(a);
    domain_close(own); /* c with it */
    CHECK_EQ(least(), LONG_NS);
    run_close(rt);
}

/* --------------------------------------------------------------------------------------- bad input */

static int try_open(int64_t stall_ns)
{
    coir_domain_options o = domain_options("refused");
    coir_domain *d;
    int status;

    o.stall_ns = stall_ns;
    status = coir_domain_open(rt, NULL, &o, &d);
    CHECK((status == COIR_OK) == (d != NULL));
    return status;
}

static void what_cannot_be_had_is_refused(void)
{
    open_with(1, COIR_SEC);
    CHECK_EQ(try_open(-1), COIR_ERANGE);
    CHECK_EQ(try_open(1), COIR_ERANGE);
    CHECK_EQ(try_open(COIR_MS - 1), COIR_ERANGE);
    CHECK_EQ(try_open(COIR_MS), COIR_OK);
    CHECK_EQ(try_open(COIR_NEVER), COIR_OK);
    run_close(rt);
    open_with(1, 0); /* nobody watches */
    CHECK_EQ(try_open(COIR_MS - 1), COIR_ERANGE);
    CHECK_EQ(try_open(COIR_MS), COIR_ENOTSUP);
    CHECK_EQ(try_open(COIR_NEVER), COIR_ENOTSUP);
    CHECK_EQ(try_open(0), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(a_domain_may_be_less_patient_than_its_runtime), CASE(a_domain_may_be_more_patient),
           CASE(domains_side_by_side_have_their_own), CASE(a_longer_limit_is_kept),
           CASE(a_limit_holds_below_unless_there_is_another), CASE(without_one_it_is_the_runtimes),
           CASE(jobs_with_deadlines_and_children_have_it_too),
           CASE(a_job_in_its_callers_place_has_its_own_domains),
           CASE(a_job_that_takes_no_signal_has_its_domains),
           CASE(the_watcher_looks_as_often_as_the_shortest_open_limit_asks),
           CASE(what_cannot_be_had_is_refused))
