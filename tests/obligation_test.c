/* SPDX-License-Identifier: MIT */
/*
 * obligation_test.c - what is taken in a domain: discharged once, handed on, or reported with the place
 * that took it.
 */
#include "domains.h"
#include "threads.h"

/* The log, kept. */
static char lines[32][512];
static int line_count;

static void keep_line(enum coir_log_level level, const char *text, void *arg)
{
    int i;

    (void)arg;
    if (strncmp(text, "obligation", 10) != 0)
        return; /* panics, choices made at open */
    CHECK_EQ(level, COIR_LOG_ERROR);
    i = __atomic_fetch_add(&line_count, 1, __ATOMIC_RELAXED);
    if (i < 32)
        snprintf(lines[i], sizeof lines[i], "%s", text);
}

static coir_runtime *logged_open(unsigned workers)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;

    o.log = keep_line;
    line_count = 0;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static void expect_line(int i, const char *const *words)
{
    for (; *words; words++)
        if (!CHECK(strstr(lines[i], *words) != NULL))
            fprintf(stderr, "    \"%s\" is not in: %s\n", *words, lines[i]);
}

#define EXPECT_LINE(i, ...) expect_line((i), (const char *const[]){__VA_ARGS__, NULL})

static coir_obligation taken(coir_domain *d, const char *what)
{
    coir_obligation o;

    CHECK_EQ(coir_obligation_take(d, what, &o), COIR_OK);
    return o;
}

/* -------------------------------------------------------------------------------------- once */

static void what_is_discharged_is_not_reported(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_obligation o[100];
    coir_domain_receipt r;

    for (int i = 0; i < 100; i++)
        o[i] = taken(d, "permit");
    CHECK_EQ(domain_stats(d).obligations_held, 100);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_obligation_discharge(o[i]), COIR_OK);
    CHECK_EQ(domain_stats(d).obligations_held, 0);
    CHECK_EQ(domain_stats(d).obligations, 100);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.obligations_leaked, 0);
    CHECK_EQ(line_count, 0);
    run_close(rt);
}

static void a_second_discharge_is_refused_even_if_the_slot_is_in_use_again(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_obligation first = taken(d, "first"), again;

    CHECK_EQ(coir_obligation_discharge(first), COIR_OK);
    CHECK_EQ(coir_obligation_discharge(first), COIR_ENOENT);
    again = taken(d, "again");
    CHECK_EQ(coir_obligation_discharge(first), COIR_ENOENT);
    CHECK_EQ(coir_obligation_detach(first), COIR_ENOENT);
    CHECK_EQ(domain_stats(d).obligations_held, 1);
    CHECK_EQ(coir_obligation_discharge(again), COIR_OK);
    domain_close(d);
    run_close(rt);
}

static void bad_input_is_named(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_obligation o, none = {NULL, 0}, odd = {d, UINT64_MAX}, zero = {d, 0};

    CHECK_EQ(coir_obligation_take(d, NULL, &o), COIR_EINVAL);
    CHECK_EQ(coir_obligation_take(d, "permit", NULL), COIR_EINVAL);
    CHECK_EQ(coir_obligation_take(NULL, "permit", &o), COIR_EPERM);
    CHECK_EQ(coir_obligation_discharge(o), COIR_EINVAL); /* what a failed take left */
    CHECK_EQ(coir_obligation_discharge(none), COIR_EINVAL);
    CHECK_EQ(coir_obligation_detach(none), COIR_EINVAL);
    CHECK_EQ(coir_obligation_adopt(none), COIR_EINVAL);
    CHECK_EQ(coir_obligation_discharge(odd), COIR_ENOENT);
    CHECK_EQ(coir_obligation_discharge(zero), COIR_ENOENT);
    o = taken(d, "permit");
    CHECK_EQ(coir_obligation_adopt(o), COIR_EPERM); /* no job */
    CHECK_EQ(coir_obligation_discharge(o), COIR_OK);
    domain_close(d);
    run_close(rt);
}

/* -------------------------------------------------------------------------------------- leaks */

static void a_domain_reports_what_it_closes_over(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain_options o = domain_options("lender");
    coir_domain *d = domain_open(rt, NULL, &o);
    coir_domain_receipt r;

    taken(d, "lease");
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.obligations_leaked, 1);
    CHECK_EQ(line_count, 1);
    EXPECT_LINE(0, "\"lease\"", "obligation_test.c", "lender", "the domain closed");
    run_close(rt);
}

struct holder {
    coir_obligation given, kept;
    char place[32];
};

static void leaks_one(void *arg)
{
    struct holder *h = arg;
    coir_obligation fine;

    snprintf(h->place, sizeof h->place, "obligation_test.c:%d by job", __LINE__ + 1);
    CHECK_EQ(coir_obligation_take(NULL, "reply", &h->kept), COIR_OK);
    CHECK_EQ(coir_obligation_take(NULL, "permit", &fine), COIR_OK);
    CHECK_EQ(coir_obligation_discharge(fine), COIR_OK);
}

static void leaks_one_and_panics(void *arg)
{
    leaks_one(arg);
    coir_panic("with a reply owed");
}

static void leaks_in_a_try(void *arg)
{
    CHECK_EQ(coir_try(leaks_one_and_panics, arg, NULL), COIR_PANICKED);
    CHECK_EQ(domain_stats(coir_domain_current()).obligations_held, 1); /* the job's, not the try's */
}

static void a_job_that_ends_owing_is_reported(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct holder h;

    CHECK_EQ(domain_run(d, leaks_one, &h, NULL), COIR_DONE);
    CHECK_EQ(line_count, 1);
    EXPECT_LINE(0, "\"reply\"", h.place, "its job ended");
    CHECK_EQ(coir_obligation_discharge(h.kept), COIR_ENOENT); /* too late */
    CHECK_EQ(domain_run(d, leaks_one_and_panics, &h, NULL), COIR_PANICKED);
    CHECK_EQ(domain_run(d, leaks_in_a_try, &h, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).obligations_leaked, 3);
    CHECK_EQ(domain_stats(d).obligations_held, 0);
    domain_close(d);
    run_close(rt);
}

static void a_storm_of_leaks_is_no_storm_of_lines(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_domain_receipt r;

    for (int i = 0; i < 1000; i++)
        taken(d, "lease");
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.obligations_leaked, 1000);
    CHECK(line_count >= 10 && line_count <= 30); /* ten a second */
    run_close(rt);
}

/* ---------------------------------------------------------------------------------- handing on */

static void gives(void *arg)
{
    struct holder *h = arg;

    CHECK_EQ(coir_obligation_take(NULL, "reply", &h->given), COIR_OK);
    CHECK_EQ(coir_obligation_detach(h->given), COIR_OK);
}

static void adopts_and_discharges(void *arg)
{
    struct holder *h = arg;

    CHECK_EQ(coir_obligation_adopt(h->given), COIR_OK);
    CHECK_EQ(coir_obligation_adopt(h->given), COIR_OK); /* twice is once */
    CHECK_EQ(coir_obligation_discharge(h->given), COIR_OK);
}

static void adopts(void *arg)
{
    CHECK_EQ(coir_obligation_adopt(((struct holder *)arg)->given), COIR_OK);
}

static void adopts_in_vain(void *arg)
{
    CHECK_EQ(coir_obligation_adopt(((struct holder *)arg)->given), COIR_EPERM);
}

static void an_obligation_can_be_handed_on(void)
{
    coir_runtime *rt = logged_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *other = domain_open(rt, NULL, NULL);
    struct holder h;

    CHECK_EQ(domain_run(d, gives, &h, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).obligations_held, 1);
    CHECK_EQ(domain_run(other, adopts_in_vain, &h, NULL), COIR_DONE);
    CHECK_EQ(domain_run(d, adopts_and_discharges, &h, NULL), COIR_DONE);
    CHECK_EQ(line_count, 0);
    CHECK_EQ(domain_run(d, gives, &h, NULL), COIR_DONE);
    CHECK_EQ(domain_run(d, adopts, &h, NULL), COIR_DONE); /* and now it was bound to that job */
    CHECK_EQ(line_count, 1);
    domain_close(d);
    domain_close(other);
    run_close(rt);
}

static void discharges_given(void *arg)
{
    CHECK_EQ(coir_obligation_discharge(((struct holder *)arg)->given), COIR_OK);
}

static void a_finalizer_may_discharge(void)
{
    coir_runtime *rt = logged_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct holder h = {.given = taken(d, "lease")};
    coir_domain_receipt r;

    CHECK_EQ(coir_domain_finalizer(d, discharges_given, &h), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.obligations_leaked, 0);
    CHECK_EQ(line_count, 0);
    run_close(rt);
}

struct late {
    coir_domain *domain;
    struct hold hold;
    int status;
};

static void takes_while_it_closes(void *arg)
{
    struct late *l = arg;
    coir_obligation o;

    run_set(&l->hold.started);
    while (domain_stats(l->domain).state != COIR_DOMAIN_CLOSING)
        coir_yield();
    l->status = coir_obligation_take(NULL, "permit", &o);
    CHECK_EQ(coir_obligation_discharge(o), COIR_OK);
    run_until(&l->hold.go);
}

static void *closes_on_a_thread(void *d)
{
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    return NULL;
}

static void a_closing_domain_lends_to_its_own_only(void)
{
    coir_runtime *rt = logged_open(2);
    struct late l = {domain_open(rt, NULL, NULL), {0, 0}, 1};
    struct threads t = {0};
    coir_obligation o;

    CHECK_EQ(coir_domain_submit(l.domain, NULL, takes_while_it_closes, &l), COIR_OK);
    run_until(&l.hold.started);
    threads_add(&t, closes_on_a_thread, l.domain);
    while (domain_stats(l.domain).state != COIR_DOMAIN_CLOSING)
        sched_yield();
    CHECK_EQ(coir_obligation_take(l.domain, "permit", &o), COIR_ESHUTDOWN);
    run_set(&l.hold.go);
    threads_join(&t);
    CHECK_EQ(l.status, COIR_OK);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- attack */

#define SHARED 64

static uint64_t shared[SHARED]; /* ids that anybody may discharge; 0: none */
static int kept_promises;

static void takes_and_trades(void *arg)
{
    coir_domain *d = coir_domain_current();
    uint64_t seed = (uint64_t)(uintptr_t)arg * 77 + 1;

    for (int i = 0; i < MANY(2000); i++) {
        uint64_t *slot = &shared[random_next(&seed) % SHARED];
        coir_obligation mine, theirs = {d, 0};

        CHECK_EQ(coir_obligation_take(NULL, "trade", &mine), COIR_OK);
        if (i % 2)
            CHECK_EQ(coir_obligation_detach(mine), COIR_OK);
        theirs.id = __atomic_exchange_n(slot, mine.id, __ATOMIC_ACQ_REL);
        if (!theirs.id)
            continue;
        if (random_next(&seed) % 2)
            (void)!coir_obligation_adopt(theirs); /* its taker may end just now */
        if (coir_obligation_discharge(theirs) == COIR_OK)
            run_count(&kept_promises);
        if (i % 64 == 0)
            coir_yield();
    }
}

static void each_one_is_discharged_or_leaked_once(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain_stats s;
    coir_domain_receipt r;

    memset(shared, 0, sizeof shared);
    kept_promises = 0;
    for (uintptr_t i = 0; i < 8; i++)
        CHECK_EQ(coir_domain_submit(d, &c, takes_and_trades, (void *)i), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    s = domain_stats(d);
    CHECK_EQ(s.obligations, 8 * MANY(2000));
    CHECK_EQ(s.obligations, (uint64_t)kept_promises + s.obligations_leaked + s.obligations_held);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.obligations_leaked, s.obligations - (uint64_t)kept_promises);
    run_close(rt);
}

/* A discharge that begins while what is left leaks, and is not over when all has. */
static struct late_discharge {
    coir_obligation held;
    void *slots; /* of the domain's obligations */
    int leaking, discharging, freed, freed_under_it;
} late_one;
static __thread int takes;

static void *alloc_noted(size_t bytes, void *unused)
{
    void *block = malloc(bytes);

    (void)unused;
    if (takes)
        late_one.slots = block;
    return block;
}

static void free_noted(void *block, void *unused)
{
    (void)unused;
    if (block && block == late_one.slots)
        run_set(&late_one.freed);
    free(block);
}

static void on_late_leak(void *unused, const char *what)
{
    (void)unused;
    (void)what;
    run_set(&late_one.leaking);
    run_until(&late_one.discharging);
}

/* Inside the call, which looks at the slots again if another of its kind begins here. */
static void on_late_discharge(void *unused, const char *what)
{
    int64_t end = coir_now() + 20 * COIR_MS;

    (void)unused;
    (void)what;
    run_set(&late_one.discharging);
    while (!(late_one.freed_under_it = __atomic_load_n(&late_one.freed, __ATOMIC_ACQUIRE)) && coir_now() < end)
        sched_yield();
}

static void the_slots_stay_while_a_late_discharge_goes_on(void)
{
    coir_metrics metrics = {.size = sizeof metrics,
                            .obligation_leaked = on_late_leak,
                            .obligation_discharged = on_late_discharge};
    coir_options o = run_options(1);
    coir_runtime *rt = NULL;
    struct threads t = {.count = 0};
    coir_domain *d;

    late_one = (struct late_discharge){.slots = NULL};
    o.metrics = &metrics;
    o.alloc = alloc_noted;
    o.free = free_noted;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    takes = 1;
    late_one.held = taken(d, "late");
    takes = 0;
    taken(d, "leaks first");
    threads_add(&t, closes_on_a_thread, d);
    run_until(&late_one.leaking);
    CHECK_EQ(coir_obligation_discharge(late_one.held), COIR_OK);
    CHECK(!late_one.freed_under_it);
    threads_join(&t);
    CHECK(late_one.freed);
    run_close(rt);
}

CHECK_MAIN(CASE(what_is_discharged_is_not_reported),
           CASE(a_second_discharge_is_refused_even_if_the_slot_is_in_use_again),
           CASE(bad_input_is_named), CASE(a_domain_reports_what_it_closes_over),
           CASE(a_job_that_ends_owing_is_reported), CASE(a_storm_of_leaks_is_no_storm_of_lines),
           CASE(an_obligation_can_be_handed_on), CASE(a_finalizer_may_discharge),
           CASE(a_closing_domain_lends_to_its_own_only),
           CASE(each_one_is_discharged_or_leaked_once),
           CASE(the_slots_stay_while_a_late_discharge_goes_on))
