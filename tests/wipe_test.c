/* SPDX-License-Identifier: MIT */
/*
 * wipe_test.c - what a job leaves on a stack no job of another domain finds there, however it ended and whatever
 * became of the stack. Each job looks through all of its stack, of which it has written nothing yet.
 */
#include "containable.h"
#include "wipes.h"

#include <sys/mman.h>

#define SHALLOW ((size_t)1 << 10)

/* The same below a frame that is left as it was, but for a byte. */
static UNCHECKED uint64_t fill_below_a_gap(const struct party *p)
{
    volatile char gap[20 << 10];

    gap[0] = 1;
    return fill(p, SHALLOW) + (uint64_t)gap[0];
}

enum way { RETURNS, PANICS, OVERFLOWS, GOES_BELOW_A_GAP, BLOCKS, ENDS };

/* A job. */
struct visit {
    const struct party *self, *other;
    size_t bytes;
    enum way way;
    size_t seen;
    const struct fiber *on;
    int *started;
    coir_event *go; /* BLOCKS: until then */
};

static CONTAINABLE uint64_t drown(const struct party *p)
{
    volatile uint64_t frame[64];

    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
        frame[i] = ~p->inverted;
    if (frame[1] != ~p->inverted)
        return 0; /* never */
    return drown(p) + frame[0];
}

static CONTAINABLE void do_visit(void *arg)
{
    struct visit *v = arg;

    v->seen = seen(v->other);
    v->on = worker_here()->current;
    fill(v->self, v->bytes);
    if (v->way == GOES_BELOW_A_GAP)
        fill_below_a_gap(v->self);
    if (v->way == PANICS)
        coir_panic("planned");
    if (v->way == OVERFLOWS)
        drown(v->self);
    if (v->way != BLOCKS)
        return;
    run_count(v->started);
    if (coir_event_wait(v->go) <= COIR_OK) /* canceled, or not */
        fill(v->self, v->bytes);
}

static int begin(coir_runtime *rt, coir_counter *c, struct visit *v)
{
    return v->self->domain ? coir_domain_submit(v->self->domain, c, do_visit, v)
                           : coir_submit(rt, c, do_visit, v);
}

static int visit(coir_runtime *rt, struct visit *v)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(begin(rt, &c, v), COIR_OK);
    return coir_wait(&c);
}

/* ------------------------------------------------------------------------------ one after the other */

/* How much b finds on the stack of a. */
static size_t left_for(coir_runtime *rt, const struct party *a, const struct party *b, enum way way, size_t bytes)
{
    struct visit first = {.self = a, .other = b, .bytes = bytes, .way = way};
    struct visit second = {.self = b, .other = a, .bytes = SHALLOW};

    CHECK_EQ(visit(rt, &first), way == PANICS || way == OVERFLOWS ? COIR_PANICKED : COIR_DONE);
    CHECK_EQ(visit(rt, &second), COIR_DONE);
    CHECK(first.on == second.on);
    return second.seen;
}

static void check_ways(const coir_options *o)
{
    coir_runtime *rt = meet(o);

    for (enum way way = RETURNS; way < BLOCKS; way++)
        for (size_t bytes = SHALLOW; bytes <= DEEP; bytes += 13 << 10) {
            CHECK_EQ(left_for(rt, &alice, &bob, way, bytes), 0);
            CHECK_EQ(left_for(rt, &bob, &alice, way, bytes), 0);
        }
    part(rt);
}

static void what_a_job_leaves_others_do_not_find(void)
{
    coir_metrics m = {.size = sizeof m};
    coir_options o = containing(1);

    register_containable();
    check_ways(&o);
    o.metrics = &m;
    check_ways(&o);
}

static void on_the_smallest_stacks_too(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    o.stack_bytes = 16 << 10;
    rt = meet(&o);
    for (size_t bytes = 0; bytes < 8 << 10; bytes += SHALLOW)
        CHECK_EQ(left_for(rt, &alice, &bob, RETURNS, bytes), 0);
    part(rt);
}

static void outside_every_domain_is_a_place_of_its_own(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o);
    struct party nobody = {UINT64_C(0x5afec0de0000d1d0), NULL};

    CHECK_EQ(left_for(rt, &nobody, &bob, RETURNS, DEEP), 0);
    CHECK_EQ(left_for(rt, &bob, &nobody, RETURNS, DEEP), 0);
    part(rt);
}

static void a_domain_sees_nothing_of_the_one_above_nor_it_of_that(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o);
    struct party below = {UINT64_C(0x5afec0de0000be10), domain_open(rt, alice.domain, NULL)};

    CHECK_EQ(left_for(rt, &alice, &below, RETURNS, DEEP), 0);
    CHECK_EQ(left_for(rt, &below, &alice, RETURNS, DEEP), 0);
    domain_close(below.domain);
    part(rt);
}

/* It also shows that what is not wiped is found. */
static void who_asks_for_it_shares_stacks(void)
{
    coir_options o = run_options(1);
    coir_domain_options sharing = domain_options("sharing");
    coir_runtime *rt;
    struct party below;

    o.share_stacks = 1;
    rt = meet(&o);
    CHECK(left_for(rt, &alice, &bob, RETURNS, DEEP) > DEEP / sizeof(uint64_t) / 2);
    CHECK(left_for(rt, &bob, &alice, GOES_BELOW_A_GAP, 0) > 0);
    part(rt);
    o.share_stacks = 0;
    rt = meet(&o);
    sharing.share_stacks = 1;
    below = (struct party){UINT64_C(0x5afec0de0000be10), domain_open(rt, alice.domain, &sharing)};
    CHECK(left_for(rt, &alice, &below, RETURNS, DEEP) > 0);
    CHECK_EQ(left_for(rt, &below, &bob, RETURNS, DEEP), 0);
    domain_close(below.domain);
    sharing.share_stacks = 2;
    CHECK_EQ(coir_domain_open(rt, NULL, &sharing, &below.domain), COIR_ERANGE);
    part(rt);
}

static uint64_t wipes(coir_runtime *rt)
{
    coir_stats s;

    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    return s.wipes;
}

static void nothing_is_wiped_between_jobs_of_a_domain(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o);
    struct party nobody = {UINT64_C(0x5afec0de0000d1d0), NULL};
    struct visit a = {.self = &alice, .other = &bob}, b = {.self = &bob, .other = &alice};
    struct visit n = {.self = &nobody, .other = &bob};

    for (int i = 0; i < 10; i++)
        CHECK_EQ(visit(rt, &n), COIR_DONE);
    CHECK_EQ(wipes(rt), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(visit(rt, &a), COIR_DONE);
    CHECK_EQ(wipes(rt), 1);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(visit(rt, &b), COIR_DONE);
    CHECK_EQ(wipes(rt), 2);
    part(rt);
}

/* ---------------------------------------------------------------------------------- stacks that wait */

#define CROWD 40

/* Each on a stack of its own; returns how many of the visitors' stacks are in `before`. */
static int crowd(coir_runtime *rt, const struct party *self, const struct party *other, bool cancels,
                 const struct fiber *before[CROWD])
{
    coir_counter c = COIR_COUNTER_INIT;
    struct visit v[CROWD];
    int started = 0, again = 0;
    coir_event go;

    coir_event_init(&go);
    for (int i = 0; i < CROWD; i++) {
        v[i] = (struct visit){.self = self, .other = other, .bytes = DEEP, .way = BLOCKS};
        v[i].started = &started;
        v[i].go = &go;
        CHECK_EQ(begin(rt, &c, &v[i]), COIR_OK);
    }
    while (__atomic_load_n(&started, __ATOMIC_RELAXED) < CROWD)
        sched_yield();
    if (cancels)
        CHECK_EQ(coir_domain_cancel(self->domain), COIR_OK);
    else
        coir_event_set(&go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < CROWD; i++) {
        CHECK_EQ(v[i].seen, 0);
        for (int k = 0; k < CROWD; k++)
            again += v[i].on == before[k];
    }
    for (int i = 0; i < CROWD; i++)
        before[i] = v[i].on;
    return again;
}

static void stacks_that_were_parked_on_are_wiped(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o);
    const struct fiber *on[CROWD] = {NULL};

    CHECK_EQ(crowd(rt, &alice, &bob, false, on), 0);
    CHECK(crowd(rt, &bob, &alice, false, on) >= CROWD - 2);
    CHECK(crowd(rt, &alice, &bob, true, on) >= CROWD - 2);
    CHECK(crowd(rt, &bob, &alice, true, on) >= CROWD - 2);
    part(rt);
}

/* Memory that stays what it is when it is given back: a file's. The size is in front. */
static void *shared_alloc(size_t bytes, void *unused)
{
    size_t *m = mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)unused;
    if (m == MAP_FAILED)
        return NULL;
    *m = bytes + 4096;
    return (char *)m + 64;
}

static void shared_free(void *memory, void *unused)
{
    size_t *m = (size_t *)(void *)((char *)memory - 64);

    (void)unused;
    if (memory)
        munmap(m, *m);
}

static void memory_that_cannot_be_emptied_is_written_over(void)
{
    coir_options o = run_options(1);
    const struct fiber *on[CROWD] = {NULL};
    coir_runtime *rt;

    o.alloc = shared_alloc;
    o.free = shared_free;
    o.stacks_max = 100;
    rt = meet(&o);
    CHECK_EQ(left_for(rt, &alice, &bob, GOES_BELOW_A_GAP, DEEP), 0);
    CHECK_EQ(crowd(rt, &alice, &bob, false, on), 0);
    CHECK(crowd(rt, &bob, &alice, false, on) >= CROWD - 2);
    part(rt);
}

/* Memory of an allocator that gives out again what it has been given back, as it is. */
static void *returned;

static void *thrifty_alloc(size_t bytes, void *stacks)
{
    void *m = bytes > DEEP * 16 ? returned : NULL;

    if (m)
        returned = NULL;
    else
        m = calloc(1, bytes);
    if (bytes > DEEP * 16)
        *(void **)stacks = m;
    return m;
}

static void thrifty_free(void *memory, void *stacks)
{
    if (memory && memory == *(void **)stacks)
        returned = memory;
    else
        free(memory);
}

static void what_the_host_allocates_may_have_been_a_stack(void)
{
    coir_options o = run_options(1);
    void *stacks = NULL;
    struct visit last = {.self = &alice, .other = &bob, .bytes = DEEP};
    struct visit first = {.self = &bob, .other = &alice, .bytes = SHALLOW};
    coir_runtime *rt;

    o.alloc = thrifty_alloc;
    o.free = thrifty_free;
    o.alloc_arg = &stacks;
    o.stacks_max = 100;
    rt = meet(&o);
    CHECK_EQ(visit(rt, &last), COIR_DONE);
    part(rt);
    CHECK(returned != NULL);
    rt = meet(&o);
    CHECK(returned == NULL);
    CHECK_EQ(visit(rt, &first), COIR_DONE);
    CHECK(first.on == last.on);
    CHECK_EQ(first.seen, 0);
    part(rt);
    free(returned);
    returned = NULL;
}

/* --------------------------------------------------------------------------- stacks that are shared */

/* alice's handlers run on another stack when she has overflowed her own. */
struct testament {
    struct visit visit;
    const struct fiber *on;
};

static CONTAINABLE void leave_a_will(void *arg)
{
    struct testament *t = arg;

    t->on = worker_here()->current;
    fill(t->visit.self, DEEP);
}

static CONTAINABLE void overflow_with_a_will(void *arg)
{
    struct testament *t = arg;

    t->visit.on = worker_here()->current;
    CHECK_EQ(coir_defer(leave_a_will, t), COIR_OK);
    drown(t->visit.self);
}

static void where_handlers_ran_is_wiped(void)
{
    coir_options o = containing(1);
    coir_runtime *rt = meet(&o);
    struct testament t = {.visit = {.self = &alice, .other = &bob}};
    const struct fiber *on[CROWD] = {NULL};

    register_containable();
    CHECK_EQ(domain_run(alice.domain, overflow_with_a_will, &t, NULL), COIR_PANICKED);
    CHECK(t.on && t.on != t.visit.on);
    on[0] = t.on;
    on[1] = t.visit.on;
    CHECK_EQ(crowd(rt, &bob, &alice, false, on), 2);
    part(rt);
}

/* Runs in bob's domain: alice's job, or her finalizer, is called in its frames. */
static void call_in_place(void *arg)
{
    struct visit *v = arg;
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 2; i++) {
        fill(&bob, DEEP / 4);
        CHECK_EQ(coir_domain_submit(v->self->domain, &c, do_visit, v), COIR_OK);
        CHECK_EQ(seen(&alice), 0);
        CHECK_EQ(coir_wait(&c), i ? COIR_PANICKED : COIR_DONE);
        v->way = PANICS;
    }
}

static void jobs_that_run_in_the_caller_see_nothing_of_it_nor_it_of_them(void)
{
    coir_options o = run_options(1);
    coir_domain_options full = domain_options("full");
    coir_runtime *rt = meet(&o);
    coir_domain *empty = alice.domain;
    struct visit v = {.self = &alice, .other = &bob, .bytes = DEEP / 4};
    struct blocked b = {0};
    coir_counter c = COIR_COUNTER_INIT;

    full.jobs_max = 1;
    full.full = COIR_FULL_RUN;
    alice.domain = domain_open(rt, NULL, &full);
    CHECK_EQ(coir_domain_submit(alice.domain, &c, job_block, &b), COIR_OK);
    run_until(&b.started);
    CHECK_EQ(domain_run(bob.domain, call_in_place, &v, NULL), COIR_DONE);
    CHECK_EQ(v.seen, 0);
    CHECK(v.on != NULL);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(alice.domain);
    alice.domain = empty;
    part(rt);
}

static void close_it(void *arg)
{
    coir_domain *d = arg;

    fill(&bob, DEEP / 4);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(seen(&alice), 0);
}

static void finalizers_see_nothing_of_who_closes_nor_it_of_them(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o);
    coir_domain *finalized = domain_open(rt, NULL, NULL);
    struct visit v = {.self = &alice, .other = &bob, .bytes = DEEP / 4};

    CHECK_EQ(coir_domain_finalizer(finalized, do_visit, &v), COIR_OK);
    CHECK_EQ(domain_run(bob.domain, close_it, finalized, NULL), COIR_DONE);
    CHECK(v.on != NULL);
    CHECK_EQ(v.seen, 0);
    part(rt);
}

/* It is the third of its runtime, as the one it closes is of another. */
static void nor_if_the_two_are_of_different_runtimes(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = meet(&o), *other = run_open(1);
    coir_domain *finalized = domain_open(rt, NULL, NULL), *third = NULL;
    struct visit v = {.self = &alice, .other = &bob, .bytes = DEEP / 4};

    for (int i = 0; i < 3; i++)
        third = domain_open(other, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(finalized, do_visit, &v), COIR_OK);
    CHECK_EQ(domain_run(third, close_it, finalized, NULL), COIR_DONE);
    CHECK(v.on != NULL);
    CHECK_EQ(v.seen, 0);
    run_close(other);
    part(rt);
}

CHECK_MAIN(CASE(what_a_job_leaves_others_do_not_find), CASE(on_the_smallest_stacks_too),
           CASE(outside_every_domain_is_a_place_of_its_own),
           CASE(a_domain_sees_nothing_of_the_one_above_nor_it_of_that), CASE(who_asks_for_it_shares_stacks),
           CASE(nothing_is_wiped_between_jobs_of_a_domain), CASE(stacks_that_were_parked_on_are_wiped),
           CASE(memory_that_cannot_be_emptied_is_written_over),
           CASE(what_the_host_allocates_may_have_been_a_stack), CASE(where_handlers_ran_is_wiped),
           CASE(jobs_that_run_in_the_caller_see_nothing_of_it_nor_it_of_them),
           CASE(finalizers_see_nothing_of_who_closes_nor_it_of_them),
           CASE(nor_if_the_two_are_of_different_runtimes))
