/* SPDX-License-Identifier: MIT */
/*
 * matrix_faults.c - rows of the propagation matrix: faults of the machine, contained, reported or
 * neither.
 */
#include "containable.h"
#include "domains.h"
#include "matrix.h"

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static CONTAINABLE void run_nonsense(void *unused)
{
    (void)unused;
#ifdef __x86_64__
    __asm__ volatile("ud2");
#else
    __asm__ volatile(".inst 0");
#endif
}

static CONTAINABLE void call_abort(void *never)
{
    if (!never)
        abort();
}

/* -------------------------------------------------------------------------------------- contained */

/* What breaks, and what its handler and the next job have counted. */
struct broken {
    coir_fn *fn;
    coir_mutex *mutex; /* NULL: it holds none */
    int handled, after;
};

static CONTAINABLE void defer_and_break(void *arg)
{
    struct broken *b = (struct broken *)arg;

    (void)!coir_defer(job_count, &b->handled);
    if (b->mutex)
        (void)!coir_mutex_lock(b->mutex);
    b->fn(NULL);
}

static coir_runtime *containing_open(struct scene *s)
{
    coir_options o = containing(s->workers);

    o.faults_also = COIR_FAULTS_ALSO_ALL;
    register_containable();
    return scene_open(&o);
}

static void contained(struct scene *s, struct broken *b)
{
    coir_runtime *rt = containing_open(s);
    coir_counter c = COIR_COUNTER_INIT, next = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, defer_and_break, b), COIR_OK);
    waiter_waits(s, &c);
    CHECK_EQ(coir_submit(rt, &next, job_count, &b->after), COIR_OK);
    CHECK_EQ(coir_wait(&next), COIR_DONE);
    CHECK_EQ(b->after, 1);
    scene_close(rt);
    CHECK_EQ(coir_contain_remove(__start_containable), COIR_OK);
}

static void contained_in_job(struct scene *s, coir_fn *fn)
{
    struct broken b = {fn, NULL, 0, 0};

    contained(s, &b);
    if (b.handled == 1 && b.after == 1)
        peer_saw(s, "handler runs, next job DONE");
}

void overflow_contained(struct scene *s)
{
    contained_in_job(s, overflow);
}

void segv_contained(struct scene *s)
{
    contained_in_job(s, touch_wild);
}

void ill_contained(struct scene *s)
{
    contained_in_job(s, run_nonsense);
}

void abort_contained(struct scene *s)
{
    contained_in_job(s, call_abort);
}

void segv_in_mutex_holder(struct scene *s)
{
    coir_mutex mutex = COIR_MUTEX_INIT;
    struct broken b = {touch_wild, &mutex, 0, 0};

    contained(s, &b);
    peer_saw(s, "lock %s", short_name(coir_mutex_lock(&mutex)));
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

/* ------------------------------------------------------------------------------------ not contained */

void segv_plain(struct scene *s)
{
    coir_options o = run_options(s->workers);

    die_in_job(&o, touch_wild);
}

void overflow_reported(struct scene *s)
{
    coir_options o = run_options(s->workers);

    o.faults = COIR_FAULTS_REPORT;
    die_in_job(&o, overflow);
}

void segv_on_host_thread(struct scene *s)
{
    coir_runtime *rt = containing_open(s);

    (void)!coir_try(touch_wild, NULL, NULL);
    scene_close(rt);
}

/* A function of libc calls it. */
static CONTAINABLE int overflow_comparing(const void *a, const void *b)
{
    overflow(NULL);
    return *(const int *)a - *(const int *)b;
}

static CONTAINABLE void sort(void *unused)
{
    int numbers[4] = {4, 3, 2, 1};

    (void)unused;
    qsort(numbers, 4, sizeof *numbers, overflow_comparing);
}

void overflow_in_foreign_code(struct scene *s)
{
    coir_options o = containing(s->workers);

    register_containable();
    die_in_job(&o, sort);
}
