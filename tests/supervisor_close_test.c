/* SPDX-License-Identifier: MIT */
/*
 * supervisor_close_test.c - what may come between when a supervisor ends a child, or a close ends a supervisor: late jobs,
 * supervisors that children have opened, children that break, other people's closes.
 */
#include "supervised.h"
#include "supervisors.h"

/* ------------------------------------------------------------------------------- jobs that come late */

/* What a child leaves: a domain below, which a plain thread closes; meanwhile its own can only be waited for. */
struct leaver {
    coir_domain *own, *below;
    struct hold below_ends;  /* the finalizer of the one below */
    int ready, go, finalized;
};

static void counts_finalized(void *n)
{
    run_count(n);
}

static void leaves(void *arg)
{
    struct leaver *l = arg;

    l->own = coir_domain_current();
    l->below = domain_open(coir_current(), l->own, NULL);
    CHECK_EQ(coir_domain_finalizer(l->own, counts_finalized, &l->finalized), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(l->below, job_hold, &l->below_ends), COIR_OK);
    run_set(&l->ready);
    run_until(&l->go);
}

static void *closes_below(void *arg)
{
    struct leaver *l = arg;

    CHECK_EQ(coir_domain_close(l->below, -1, NULL), COIR_OK);
    return NULL;
}

struct late {
    int started, give_up, canceled, ended;
    int64_t farewell_ns;
};

/* Parks never. */
static void comes_late(void *arg)
{
    struct late *l = arg;

    run_set(&l->started);
    while (!coir_canceled() && !__atomic_load_n(&l->give_up, __ATOMIC_ACQUIRE))
        sched_yield();
    l->canceled = coir_canceled();
    until_time(coir_now() + l->farewell_ns);
    run_set(&l->ended);
}

static bool is_reaped(coir_domain *d)
{
    bool reaped;

    lock_take(&d->rt->domains_lock);
    reaped = d->reaped;
    lock_drop(&d->rt->domains_lock);
    return reaped;
}

/* stacks_max: of the domain around; 0: none. */
static void a_late_job_is_canceled(uint64_t stacks_max, int64_t farewell_ns)
{
    coir_runtime *rt = run_open(3);
    coir_domain_options o = domain_options("around");
    coir_domain *d;
    struct blocked parked = {0, 0};
    struct leaver l = {0};
    struct late late = {.farewell_ns = farewell_ns};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = leaves, .arg = &l, .restart = COIR_TEMPORARY,
                         .cancel_ns = 50 * COIR_SEC};
    coir_supervisor_options so = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;
    pthread_t closer;

    o.stacks_max = stacks_max;
    d = domain_open(rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(d, NULL, job_block, &parked), COIR_OK);
    run_until(&parked.started);
    CHECK_EQ(coir_supervisor_open(rt, d, &so, NULL, &s), COIR_OK);
    run_until(&l.ready);
    CHECK_EQ(pthread_create(&closer, NULL, closes_below, &l), 0);
    run_until(&l.below_ends.started);
    run_set(&l.go);
    while (!is_reaped(l.own)) /* the supervisor has seen it drained, and waits for whoever closes the one below */
        sched_yield();
    CHECK_EQ(coir_domain_submit(l.own, NULL, comes_late, &late), COIR_OK);
    run_until(&late.started);
    run_set(&l.below_ends.go);
    while (child_info(s, "a").id && child_info(s, "a").state != COIR_CHILD_STUCK)
        sched_yield();
    CHECK(__atomic_load_n(&late.ended, __ATOMIC_ACQUIRE));
    CHECK_EQ(child_info(s, "a").id, 0);
    CHECK_EQ(__atomic_load_n(&l.finalized, __ATOMIC_ACQUIRE), 1);
    run_set(&late.give_up);
    run_until(&late.ended);
    CHECK(late.canceled);
    CHECK_EQ(pthread_join(closer, NULL), 0);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    domain_close_after(d, 0, NULL);
    run_close(rt);
}

static void a_job_that_comes_late_is_ended_with_the_child(void)
{
    a_late_job_is_canceled(0, 0);
}

static void it_has_as_long_as_the_child_may_take(void)
{
    a_late_job_is_canceled(0, 300 * COIR_MS); /* coir_domain_close would give it 100 */
}

static void nor_is_it_left_where_the_supervisor_has_no_stack_to_wait_on(void)
{
    a_late_job_is_canceled(1, 0);
}

/* ------------------------------------------------------------------ supervisors that children open */

struct inner {
    struct kid *kid;
    coir_supervisor *s;
    int opened, late, status;
};

static void opens_in_its_domain(struct inner *i)
{
    coir_child_spec c = kid_spec(i->kid);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);

    o.name = "inner";
    i->status = coir_supervisor_open(coir_current(), coir_domain_current(), &o, NULL, &i->s);
    run_set(&i->opened);
}

static void opens_one(void *arg)
{
    struct inner *i = arg;

    if (!i->late)
        opens_in_its_domain(i);
    CHECK_EQ(coir_child_stop_wait(), COIR_OK);
    if (i->late)
        opens_in_its_domain(i);
}

/* Without a budget of its own: who is not asked keeps the child for ever. */
static void closes_with_one_inside(bool late)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k = {.name = "a", .story = &story};
    struct inner i = {.kid = &k, .late = late};
    coir_child_spec c = {.size = sizeof c, .name = "outer", .fn = opens_one, .arg = &i, .shutdown_ns = COIR_NEVER};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    if (!late)
        run_until(&i.opened);
    CHECK_EQ(coir_supervisor_stop(s), COIR_OK);
    while (child_info(s, "outer").state != COIR_CHILD_ENDED)
        sched_yield();
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    CHECK_EQ(i.status, late ? COIR_ECANCELED : COIR_OK);
    CHECK_STR(story.text, late ? "" : "+a -a ");
}

static void a_supervisor_in_a_childs_domain_is_asked_with_the_child(void)
{
    closes_with_one_inside(false);
}

static void or_as_it_opens_when_the_child_has_been_asked(void)
{
    closes_with_one_inside(true);
}

/* Those below a supervisor are asked when it is their turn, and what they have opened with them. */
static void those_of_other_children_go_in_their_turn(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k[2] = {{.name = "a", .story = &story}, {.name = "b", .story = &story}};
    struct inner i[2] = {{.kid = &k[0]}, {.kid = &k[1]}};
    coir_child_spec low[2] = {{.size = sizeof *low, .name = "x", .fn = opens_one, .arg = &i[0], .shutdown_ns = COIR_NEVER},
                              {.size = sizeof *low, .name = "y", .fn = opens_one, .arg = &i[1], .shutdown_ns = COIR_NEVER}};
    coir_supervisor_options below = supervisor_options(COIR_ONE_FOR_ONE, low, 2);
    coir_child_spec c = {.size = sizeof c, .name = "sub", .supervisor = &below};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);

    supervisor_open(rt, &o, NULL);
    run_until(&i[0].opened);
    run_until(&i[1].opened);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    CHECK(strstr(story.text, "-b -a ") != NULL);
}

/* -------------------------------------------------------------------------------- breaks meanwhile */

/* Its domain is closing, and who closes is about to ask it. */
static void a_child_that_breaks_as_its_domain_closes_counts_for_nothing(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k = {.name = "a", .story = &story};
    coir_child_spec c = kid_spec(&k);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;

    o.max_restarts = 1;
    s = supervisor_open(rt, &o, &end);
    atomic_store_explicit(&s->domain->closing, true, memory_order_seq_cst); /* as the first step of a close */
    kid_end(&k, 1);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_STR(story.text, "+a ");
    run_close(rt);
}

/* --------------------------------------------------------------------- finalizers that take their time */

/* What a child leaves to its supervisor, which is in it when somebody closes what is around. */
struct slow {
    coir_domain *around;
    coir_counter *counter;  /* of the wait; NULL: a sleep of an hour */
    struct hold *hold;      /* or this, which nothing ends */
    int begun, status, runs;
};

static void takes_its_time(void *arg)
{
    struct slow *s = arg;

    run_set(&s->begun);
    if (s->hold)
        job_hold(s->hold);
    else
        s->status = s->counter ? coir_wait(s->counter) : coir_sleep_until(coir_now() + 3600 * COIR_SEC);
}

/* It breaks once. */
static void leaves_a_finalizer(void *arg)
{
    struct slow *s = arg;

    if (s->runs++)
        return;
    CHECK_EQ(coir_domain_finalizer(coir_domain_current(), takes_its_time, s), COIR_OK);
    coir_panic("planned");
}

static coir_supervisor *open_slow(coir_runtime *rt, struct slow *s)
{
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = leaves_a_finalizer, .arg = s, .restart = COIR_TRANSIENT};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *top;

    s->around = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_supervisor_open(rt, s->around, &o, NULL, &top), COIR_OK);
    return top;
}

/* As domain_close_after: on a busy machine the short budget is too short. */
static void close_slow(struct slow *s, coir_supervisor *top, bool around)
{
    coir_domain_receipt r;
    int status;

    do
        status = around ? coir_domain_close(s->around, 0, &r) : coir_supervisor_close(top, 0, &r);
    while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
    CHECK_EQ(r.phase, COIR_PHASE_FINALIZE);
    if (!around)
        CHECK_EQ(coir_domain_close(s->around, -1, NULL), COIR_OK);
}

static void past_the_budget_its_wait_is_interrupted(void)
{
    for (int around = 0; around < 2; around++) {
        coir_runtime *rt = run_open(2);
        struct slow s = {0};
        coir_supervisor *top = open_slow(rt, &s);

        run_until(&s.begun);
        close_slow(&s, top, around);
        CHECK_EQ(s.status, COIR_ECANCELED);
        CHECK_EQ(s.runs, 1); /* the supervisor was asked */
        run_close(rt);
    }
}

static void gives_back_when_canceled(void *counter)
{
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    coir_counter_done(counter, COIR_DONE);
}

static void or_what_it_waits_for_is_canceled(void)
{
    static coir_counter given_back; /* by a job beside the supervisor */
    coir_runtime *rt = run_open(2);
    struct slow s = {.counter = &given_back};
    coir_supervisor *top;

    coir_counter_add(&given_back, 1);
    top = open_slow(rt, &s);
    run_until(&s.begun);
    CHECK_EQ(coir_domain_submit(s.around, NULL, gives_back_when_canceled, &given_back), COIR_OK);
    close_slow(&s, top, true);
    CHECK(s.status == COIR_DONE || s.status == COIR_ECANCELED); /* that on a busy machine, too */
    run_close(rt);
}

static void one_that_nothing_ends_is_named_in_time(void)
{
    coir_runtime *rt = run_open(2);
    struct hold h = {0, 0};
    struct slow s = {.hold = &h};
    coir_domain_receipt r;

    open_slow(rt, &s);
    run_until(&h.started);
    CHECK_EQ(coir_domain_close(s.around, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.phase, COIR_PHASE_CANCEL);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.stuck_count, 1);
    CHECK_STR(r.stuck[0].name, "top");
    CHECK_EQ(domain_stats(s.around).state, COIR_DOMAIN_CLOSING);
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(s.around, -1, &r), COIR_OK); /* nobody holds it any more */
    run_close(rt);
}

static void closes_in_a_lab(void *unused)
{
    struct slow s = {0};
    coir_supervisor *top = open_slow(coir_current(), &s);
    int64_t begin;

    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_SEC), COIR_OK);
    CHECK_EQ(s.begun, 1);
    begin = coir_now();
    close_slow(&s, top, true);
    CHECK(coir_now() - begin <= 100 * COIR_MS);
}

static void and_in_a_lab_time_passes_meanwhile(void)
{
    coir_lab lab = {.size = sizeof lab, .seed = 7};
    coir_options o = run_options(1);
    coir_lab_report report;

    CHECK_EQ(coir_lab_run(&lab, &o, closes_in_a_lab, NULL, &report), COIR_DONE);
}

/* ---------------------------------------------------------------------------- other people's closes */

struct shown {
    coir_domain *domain;
    int started;
};

static void shows_its_domain(void *arg)
{
    struct shown *s = arg;

    s->domain = coir_domain_current();
    run_set(&s->started);
    CHECK_EQ(coir_child_stop_wait(), COIR_OK);
}

static void a_childs_domain_is_its_supervisors_to_close(void)
{
    coir_runtime *rt = run_open(2);
    struct shown shown = {0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = shows_its_domain, .arg = &shown};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    run_until(&shown.started);
    CHECK_EQ(coir_domain_close(shown.domain, 0, NULL), COIR_EPERM);
    CHECK_EQ(domain_stats(shown.domain).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(a_job_that_comes_late_is_ended_with_the_child), CASE(it_has_as_long_as_the_child_may_take),
           CASE(nor_is_it_left_where_the_supervisor_has_no_stack_to_wait_on),
           CASE(a_supervisor_in_a_childs_domain_is_asked_with_the_child),
           CASE(or_as_it_opens_when_the_child_has_been_asked), CASE(those_of_other_children_go_in_their_turn),
           CASE(a_child_that_breaks_as_its_domain_closes_counts_for_nothing),
           CASE(past_the_budget_its_wait_is_interrupted), CASE(or_what_it_waits_for_is_canceled),
           CASE(one_that_nothing_ends_is_named_in_time), CASE(and_in_a_lab_time_passes_meanwhile),
           CASE(a_childs_domain_is_its_supervisors_to_close))
