/* SPDX-License-Identifier: MIT */
/*
 * world.c - the rows that are left out of the simulated runtime, in a few lines each: stacks that are
 * there from the beginning, jobs without boundaries, a host without callbacks, no domains.
 *
 * What nobody here provides is not linked; a call of it ends the execution with a fault.
 */
#include "world.h"

#include <string.h>

#include "batch.h"
#include "cpus.h"
#include "explore.h"
#include "find.h"
#include "hostcall.h"
#include "idle.h"
#include "scope.h"

#define STACKS 4 /* of each worker, most often */
#define STACK_BYTES (16 << 10)

struct coir_runtime world;

static struct worker worker[WORLD_WORKERS];
static struct worker *workers[WORLD_WORKERS];
static struct {
    _Alignas(64) char low[STACK_BYTES];
    _Alignas(64) struct fiber fiber;
} stack[WORLD_WORKERS * STACKS];

static unsigned jobs;          /* that were added; 0: nobody counts */
static _Atomic unsigned ended; /* of them */

/* ------------------------------------------------------------------------------------- no forks */

void life_free(void *memory, size_t bytes)
{
    (void)memory;
    (void)bytes;
}

/* -------------------------------------------------------------------------------------- stacks */

struct stack *stack_take(struct stacks *s, struct stack_cache *cache)
{
    struct link *e = cache->list.first;

    (void)s;
    if (e)
        cache->list.first = e->next;
    return CONTAINER_OF(e, struct stack, link);
}

void stack_give(struct stacks *s, struct stack_cache *cache, struct stack *given)
{
    (void)s;
    given->link.next = cache->list.first;
    cache->list.first = &given->link;
}

struct stack *stack_at(struct stacks *s, size_t i)
{
    (void)s;
    return &stack[i].fiber.stack;
}

void stack_cache_share(struct stacks *s, struct stack_cache *cache)
{
    (void)s;
    (void)cache;
}

bool stacks_trim(struct stacks *s)
{
    (void)s;
    return false;
}

/* ---------------------------------------------------------------------------------------- jobs */

/* As runtime.c does it. */
static void stop(void)
{
    atomic_store_explicit(&world.stopping, true, memory_order_relaxed);
    park_wake_all(&world.park);
}

/* A record; what these jobs do not use of it is zero, but for its large end. */
static void begin(struct job *j, const struct work *item, struct job *outer)
{
    memset(j, 0, offsetof(struct job, member));
    j->fn = item->fn;
    j->arg = item->arg;
    j->owed_to = item->owed;
    j->scope = NULL;
    j->outer = outer;
    j->held = NULL;
    j->owned = NULL;
    j->is_try = j->outside = j->masked = j->told = false;
}

bool job_run_in_place(struct fiber *self, const struct work *item)
{
    struct job j;

    begin(&j, item, self->job);
    self->job = &j;
    item->fn(item->arg);
    explore_leave_frames();
    self->job = j.outer;
    MUST(!j.held);
    tally_release(&worker_of(self)->ended[COIR_DONE], 1); /* as boundary.c does it */
    if (jobs && atomic_fetch_add_explicit(&ended, 1, memory_order_relaxed) + 1 == jobs)
        stop();
    return true;
}

void job_run(struct fiber *self, const struct work *item)
{
    job_run_in_place(self, item);
    if (item->owed)
        counter_settle(item->owed, 1);
}

void job_run_children(struct fiber *self, struct counter *c)
{
    struct work item = {.owed = c};
    uint64_t done = 0;

    while (deque_pop_like(&worker_of(self)->deque, &item)) {
        done += job_run_in_place(self, &item);
        if (worker_others_wait(worker_of(self)))
            break;
    }
    if (done)
        counter_settle(c, done);
}

int job_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    (void)failure;
    fn(arg);
    return COIR_DONE;
}

/* --------------------------------------------------------------------------------- the host, users */

/* Whoever has moved has run all the while. */
int64_t thread_used(clockid_t meter)
{
    (void)meter;
    return coir_now();
}

/* Each thread's own; aligned as held.c's. */
struct held **held_by_thread(void)
{
    static struct {
        _Alignas(16) struct held *held;
    } thread[1 + EXPLORE_THREADS];

    return &thread[explore_thread()].held;
}

void hostcall_deadline_set(struct coir_runtime *rt, int64_t deadline)
{
    (void)rt;
    (void)deadline;
}

void hostcall_deadline_exceeded(struct coir_runtime *rt, int64_t deadline)
{
    (void)rt;
    (void)deadline;
}

void hostcall_cancel_requested(struct coir_runtime *rt, enum coir_cancel cause)
{
    (void)rt;
    (void)cause;
}

static void drop_nothing(struct coir_runtime *rt)
{
    (void)rt;
}

/* -------------------------------------------------------------------------------- set up and check */

/* Atomic objects begin as they were before the first execution; queues with nothing in them. */
static void reset_worker(unsigned i, unsigned stacks)
{
    struct worker *w = workers[i] = &worker[i];

    memset(w, 0, offsetof(struct worker, ring));
    memset(&w->ring, 0, offsetof(struct ring, slot));
    memset(&w->ring.over, 0, sizeof w->ring.over);
    memset(&w->deque, 0, offsetof(struct deque, slot));
    deque_init(&w->deque, world.park.asymmetric);
    ring_init(&w->ring, world.park.asymmetric);
    w->poll_at = w->yield_poll_at = POLL_TURNS;
    timers_init(&w->timers);
    w->runtime = &world;
    w->index = i;
    w->random = 1 + i;
    for (unsigned s = 0; s < stacks; s++) {
        struct fiber *f = &stack[i * STACKS + s].fiber;

        memset(f, 0, sizeof *f);
        f->stack.low = stack[i * STACKS + s].low;
        stack_give(&world.stacks, &w->stacks, &f->stack);
    }
    MUST(worker_prepare(w));
}

void world_reset_scarce(unsigned count, unsigned stacks)
{
    memset(&world, 0, sizeof world);
    world.worker = workers;
    world.worker_count = count;
    world.run = job_run;
    world.drop_pending = drop_nothing;
    atomic_store_explicit(&world.stacks.created, count * STACKS, memory_order_relaxed);
    inject_init(&world.inject, &world.host, 8);
    park_init(&world.park, count);
    idle_open(&world, count);
    for (unsigned i = 0; i < count; i++)
        reset_worker(i, stacks);
    runtime_unregister(&world);
    runtime_register(&world);
    jobs = 0;
    atomic_store_explicit(&ended, 0, memory_order_relaxed);
}

void world_reset(unsigned count)
{
    world_reset_scarce(count, STACKS);
}

void world_add(unsigned i, coir_fn *fn, void *arg, struct counter *owed)
{
    if (owed)
        counter_owe(owed, 1);
    MUST(deque_push(&worker[i - 1].deque, &(struct work){fn, arg, owed, NULL}));
    tally(&worker[i - 1].spawned, 1);
    jobs++;
}

/* No job has a deadline here. */
void scope_free_kept(struct worker *w)
{
    MUST(!w->scopes);
}

void world_keep_open(void)
{
    jobs = 0;
}

void world_expect(unsigned more)
{
    jobs += more;
}

void world_work_1(void)
{
    worker_main(&worker[0]);
}

void world_work_2(void)
{
    worker_main(&worker[1]);
}

void world_check(void)
{
    MUST(atomic_load_explicit(&ended, memory_order_relaxed) == jobs);
    MUST(inject_empty(&world.inject) && !world.park.sleepers);
    for (unsigned i = 0; i < world.worker_count; i++)
        MUST(ring_empty(&worker[i].ring) && deque_empty(&worker[i].deque) && !worker[i].timers.root);
}
