/* SPDX-License-Identifier: MIT */
/*
 * wipe_storm_test.c - as wipe_test.c: threads that block for jobs, jobs of three parties at random on two
 * workers, and a profiler that interrupts what wipes.
 */
#include "threads.h"
#include "wipes.h"

#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>

/* ------------------------------------------------------------------------------ threads that block */

/* What the calls of two domains leave on the one thread that makes them. */
struct lent {
    const struct party *self, *other;
    size_t seen;
    pthread_t thread;
};

static void look_and_fill(void *arg)
{
    struct lent *l = arg;
    pthread_attr_t a;
    size_t bytes;
    void *low;

    CHECK_EQ(pthread_getattr_np(pthread_self(), &a), 0);
    pthread_attr_getstack(&a, &low, &bytes);
    pthread_attr_destroy(&a);
    l->seen = count(l->other, low, __builtin_frame_address(0));
    l->thread = pthread_self();
    fill(l->self, 100 << 10);
}

static void offload(void *l)
{
    CHECK_EQ(coir_offload(look_and_fill, l), COIR_DONE);
}

static void a_thread_that_blocks_for_a_job_shows_nothing_to_the_next(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;
    struct lent a, b;

    o.offload_threads = 1;
    for (unsigned shares = 0; shares < 2; shares++) {
        o.share_stacks = shares;
        rt = meet(&o);
        a = (struct lent){.self = &alice, .other = &bob};
        b = (struct lent){.self = &bob, .other = &alice};
        CHECK_EQ(domain_run(alice.domain, offload, &a, NULL), COIR_DONE);
        CHECK_EQ(domain_run(bob.domain, offload, &b, NULL), COIR_DONE);
        CHECK(pthread_equal(a.thread, b.thread));
        CHECK(shares ? b.seen > 0 : b.seen == 0);
        part(rt);
    }
}

/* The C library keeps the stacks of threads that have ended for the next ones. */
static void nor_does_one_to_the_next_runtime(void)
{
    coir_options o = run_options(1);
    struct lent a = {.self = &alice, .other = &bob}, b = {.self = &bob, .other = &alice};
    coir_runtime *rt = meet(&o);

    o.offload_threads = 1;
    CHECK_EQ(domain_run(alice.domain, offload, &a, NULL), COIR_DONE);
    part(rt);
    rt = meet(&o);
    CHECK_EQ(domain_run(bob.domain, offload, &b, NULL), COIR_DONE);
    CHECK_EQ(b.seen, 0);
    part(rt);
}

/* ----------------------------------------------------------------------------------- all at random */

#define PARTIES 3

struct crush {
    struct party party[PARTIES];
    uint64_t seed;
    int left, found;
};

struct step {
    struct crush *crush;
    const struct party *self;
};

static void do_step(void *arg)
{
    const struct step *s = arg;
    struct crush *c = s->crush;
    uint64_t seed = __atomic_add_fetch(&c->seed, 0x9e3779b97f4a7c15, __ATOMIC_RELAXED), r;
    size_t found = 0;

    for (int i = 0; i < PARTIES; i++)
        found += &c->party[i] != s->self ? seen(&c->party[i]) : 0;
    if (!CHECK_EQ(found, 0))
        __atomic_add_fetch(&c->found, 1, __ATOMIC_RELAXED);
    r = random_next(&seed);
    fill(s->self, r % DEEP);
    if (r >> 32 & 1)
        coir_yield();
    fill(s->self, random_next(&seed) % DEEP);
    if (r >> 33 % 8 == 0)
        coir_panic("planned");
}

/* Of each party one starts jobs of all, so that some are stolen. */
static void start_steps(void *arg)
{
    const struct step *s = arg;
    struct crush *c = s->crush;
    uint64_t seed = (uint64_t)(s->self - c->party) + 1;
    struct step step[PARTIES];

    for (int i = 0; i < PARTIES; i++)
        step[i] = (struct step){c, &c->party[i]};
    while (__atomic_sub_fetch(&c->left, 1, __ATOMIC_RELAXED) > 0) {
        coir_counter jobs = COIR_COUNTER_INIT;

        for (int i = 0; i < 8; i++) {
            struct step *next = &step[random_next(&seed) % PARTIES];

            CHECK_EQ(next->self->domain ? coir_domain_submit(next->self->domain, &jobs, do_step, next)
                                        : coir_submit(coir_current(), &jobs, do_step, next),
                     COIR_OK);
        }
        CHECK(coir_wait(&jobs) >= 0);
    }
}

static void take_steps(coir_runtime *rt, struct crush *c)
{
    struct step step[PARTIES];
    coir_counter jobs = COIR_COUNTER_INIT;

    c->left = MANY(2000);
    for (int i = 0; i < PARTIES; i++) {
        step[i] = (struct step){c, &c->party[i]};
        CHECK_EQ(c->party[i].domain ? coir_domain_submit(c->party[i].domain, &jobs, start_steps, &step[i])
                                    : coir_submit(rt, &jobs, start_steps, &step[i]),
                 COIR_OK);
    }
    CHECK_EQ(coir_wait(&jobs), COIR_DONE);
    CHECK_EQ(c->found, 0);
}

/* Where all is slow nothing may be stolen for a while. */
static void nobody_sees_anything_whoever_steals_what(void)
{
    coir_options o = run_options(2);
    coir_runtime *rt = meet(&o);
    struct crush c = {.party = {alice, bob, {UINT64_C(0x5afec0de0000d1d0), NULL}}};
    coir_stats s = {0};

    for (int round = 0; round < 100 && s.steals == 0; round++) {
        take_steps(rt, &c);
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    }
    CHECK(s.wipes > 0 && s.steals > 0);
    part(rt);
}

/* ------------------------------------------------------------------------------------------ signals */

#if defined(__SANITIZE_ADDRESS__) || defined(COIR_TSAN)
#define FRAMES_ARE_LARGE true
#else
#define FRAMES_ARE_LARGE false
#endif
#define ROOM ((size_t)9728) /* below a frame; a profiler's handler takes more than half of it */

static _Atomic bool pesters;

static void on_signal(int signal)
{
    size_t frame = getauxval(AT_MINSIGSTKSZ), wanted = ROOM / 2 + 512;
    volatile char *mine = __builtin_alloca(wanted - frame);

    (void)signal;
    mine[0] = 1;
}

static void do_nothing(void *arg)
{
    (void)arg;
}

struct profiled {
    coir_domain *full;
    pthread_t thread;
};

/* Calls jobs of another domain in little room, so that this is wiped again and again. */
static void call_in_little_room(void *arg)
{
    struct profiled *p = arg;
    uintptr_t low = (uintptr_t)worker_here()->current->stack.low;
    volatile char *gap = __builtin_alloca((uintptr_t)__builtin_frame_address(0) - low - ROOM);
    coir_counter c = COIR_COUNTER_INIT;

    gap[0] = 1;
    p->thread = pthread_self();
    atomic_store(&pesters, true);
    for (int i = 0; i < 100000; i++)
        CHECK_EQ(coir_domain_submit(p->full, &c, do_nothing, NULL), COIR_OK);
    atomic_store(&pesters, false);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_profiler_finds_room_while_a_stack_is_wiped(void)
{
    struct sigaction profiler = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    coir_options o = run_options(1);
    coir_domain_options full = domain_options("full");
    coir_runtime *rt;
    struct blocked b = {0};
    struct profiled p;
    coir_counter blocked = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;

    if (FRAMES_ARE_LARGE || !getauxval(AT_MINSIGSTKSZ) || getauxval(AT_MINSIGSTKSZ) > ROOM / 2)
        return; /* frames are too large, or nobody knows how large */
    o.stack_bytes = 16 << 10;
    rt = meet(&o);
    full.jobs_max = 1;
    full.full = COIR_FULL_RUN; /* needs half of a stack */
    p.full = domain_open(rt, NULL, &full);
    CHECK_EQ(sigaction(SIGPROF, &profiler, &before), 0);
    CHECK_EQ(coir_domain_submit(p.full, &blocked, job_block, &b), COIR_OK);
    run_until(&b.started);
    CHECK_EQ(coir_domain_submit(bob.domain, &c, call_in_little_room, &p), COIR_OK);
    while (!atomic_load(&pesters))
        sched_yield();
    while (atomic_load(&pesters))
        pthread_kill(p.thread, SIGPROF);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_counter_cancel(&blocked), COIR_OK);
    CHECK_EQ(coir_wait(&blocked), COIR_DONE);
    sigaction(SIGPROF, &before, NULL);
    domain_close(p.full);
    part(rt);
}

CHECK_MAIN(CASE(a_thread_that_blocks_for_a_job_shows_nothing_to_the_next), CASE(nor_does_one_to_the_next_runtime),
           CASE(nobody_sees_anything_whoever_steals_what),
           CASE(a_profiler_finds_room_while_a_stack_is_wiped))
