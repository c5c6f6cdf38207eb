/* SPDX-License-Identifier: MIT */
/*
 * matrix_scene.c - what rows share: notes, runtimes, and the check that nothing is left over.
 */
#include "matrix.h"

#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "held.h"

/* ------------------------------------------------------------------------------------ notes */

const char *short_name(int status)
{
    return coir_status_name(status) + strlen("COIR_");
}

const char *outcome_name(int outcome)
{
    return outcome == COIR_DONE ? "DONE" : short_name(outcome);
}

void waiter_saw(struct scene *s, int outcome, const coir_failure *f)
{
    if (outcome <= COIR_DONE) {
        snprintf(s->waiter, sizeof s->waiter, "%s", outcome_name(outcome));
        return;
    }
    CHECK(f->id != 0);
    CHECK_EQ(f->outcome, outcome);
    snprintf(s->waiter, sizeof s->waiter, "%s, %s at %s", outcome_name(outcome), coir_kind_name(f->kind),
             coir_location_name(f->location));
}

void waiter_waits(struct scene *s, coir_counter *counter)
{
    coir_failure f = {0};
    int outcome = coir_wait(counter);

    CHECK_EQ(coir_counter_failure(counter, &f), outcome == COIR_DONE ? COIR_ENOENT : COIR_OK);
    waiter_saw(s, outcome, &f);
}

void waiter_runs(struct scene *s, coir_fn *fn, void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &c, fn, arg), COIR_OK);
    waiter_waits(s, &c);
}

void peer_saw(struct scene *s, const char *format, ...)
{
    size_t used = strlen(s->peer);
    va_list args;

    if (used) {
        snprintf(s->peer + used, sizeof s->peer - used, ", ");
        used = strlen(s->peer);
    }
    va_start(args, format);
    vsnprintf(s->peer + used, sizeof s->peer - used, format, args);
    va_end(args);
}

coir_failure scene_kept(struct scene *s)
{
    coir_failure f = {0};

    CHECK_EQ(coir_failure_next(s->rt, &s->kept, &f), COIR_OK);
    return f;
}

/* --------------------------------------------------------------------------------- runtimes */

/* Runtimes of scene_open; a row that opens its own has two. */
static struct opened {
    coir_runtime *rt; /* NULL: not in use; this thread's */
    int blocks;       /* allocated and not freed; atomic */
} opened[2];

static struct opened *opened_as(const coir_runtime *rt)
{
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
        if (opened[i].rt == rt)
            return &opened[i];
    abort(); /* a row has not closed what it opened */
}

static void *counted_alloc(size_t bytes, void *n)
{
    __atomic_fetch_add((int *)n, 1, __ATOMIC_RELAXED); /* a count */
    return malloc(bytes);
}

static void counted_free(void *memory, void *n)
{
    __atomic_fetch_sub((int *)n, memory != NULL, __ATOMIC_RELAXED); /* a count */
    free(memory);
}

coir_runtime *scene_open(const coir_options *options)
{
    struct opened *as = opened_as(NULL);
    coir_options o = *options;

    as->blocks = 0;
    o.alloc = counted_alloc;
    o.free = counted_free;
    o.alloc_arg = &as->blocks;
    if (!CHECK_EQ(coir_open(&o, &as->rt), COIR_OK))
        abort(); /* no row makes sense */
    return as->rt;
}

void scene_until_parked(coir_runtime *rt, uint64_t n)
{
    coir_stats stats;

    do {
        sched_yield();
        CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    } while (stats.parked < n);
}

static uint64_t sum_ended(const uint64_t *ended)
{
    uint64_t sum = 0;

    for (int o = 0; o <= COIR_PANICKED; o++)
        sum += ended[o];
    return sum;
}

#define STACKS_MAX 64 /* more than any row needs; a lost one is idle too, but they become more and more */

/* Where every stack is. */
struct places {
    unsigned running, parked, ready, idle, all;
    bool job; /* a fiber has one */
};

static struct places places_of(coir_runtime *rt, char *text, size_t bytes)
{
    struct places p = {.job = true};
    int fd = memfd_create("dump", MFD_CLOEXEC);
    coir_stats stats;
    const char *sums;
    ssize_t n;

    CHECK_EQ(coir_dump(rt, fd), COIR_OK);
    CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    n = pread(fd, text, bytes - 1, 0);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    sums = strstr(text, "  running ");
    if (!CHECK(sums && sscanf(sums, "  running %u, parked %u, ready %u, idle %u", &p.running, &p.parked,
                              &p.ready, &p.idle) == 4))
        return p;
    p.job = strstr(text, ", job ") != NULL;
    p.all = (unsigned)stats.stacks;
    return p;
}

/* Each worker is in its loop, without a job, and every other stack is idle. A loop that has just
 * been left may take a moment to be. */
static void all_stacks_are_idle(coir_runtime *rt, unsigned workers)
{
    static char text[1 << 16];
    struct places p;

    for (int i = 0; i < 10000; i++) {
        p = places_of(rt, text, sizeof text);
        if (!p.job && p.running == workers && !p.parked && !p.ready && workers + p.idle == p.all) {
            CHECK(p.all <= STACKS_MAX);
            return;
        }
        sched_yield();
    }
    CHECK_NEVER("every stack is a worker's loop or idle");
    fprintf(stderr, "    of %u stacks: %s\n", p.all, text);
}

void scene_at_rest(coir_runtime *rt)
{
    coir_stats stats;

    do {
        sched_yield();
        CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    } while (stats.parked || stats.spawned != sum_ended(stats.ended));
    CHECK_EQ(stats.records_lost, 0);
    CHECK(*held_by_thread() == NULL);
    all_stacks_are_idle(rt, stats.workers);
}

void scene_closed(coir_runtime *rt, const coir_receipt *r)
{
    struct opened *as = opened_as(rt);

    CHECK_EQ(r->running, 0);
    CHECK_EQ(r->owed, 0);
    CHECK_EQ(r->left_count, 0);
    CHECK_EQ(as->blocks, 0); /* its threads have ended */
    as->rt = NULL;
}

void scene_close(coir_runtime *rt)
{
    coir_receipt r;

    scene_at_rest(rt);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    scene_closed(rt, &r);
}

void die_in_job(const coir_options *options, coir_fn *fn)
{
    (void)!coir_run(options, fn, NULL);
}
