/* SPDX-License-Identifier: MIT */
/*
 * dump.c - a list of every fiber: its state, its job, what it waits for and since when.
 *
 * It must work when all else is lost: in a signal handler, in a process that is about to abort,
 * beside workers that go on. So it takes no lock, claims no fiber and allocates nothing; it looks.
 * What a running fiber's words say may be of two moments, and a pointer may be of a frame that has
 * gone. Hence a job is read only where it lies inside its fiber's stack, which stays mapped, going
 * strictly upwards; a job's name, which is the program's memory, only of a fiber that stands still,
 * checked before and after.
 */
#include "dump.h"

#include <errno.h>

#include "line.h"

#define FIBERS_MAX 1000 /* lines; the others are counted */
#define NAME_MAX_BYTES 40

/* Racy by design. */
#define UNWATCHED __attribute__((noinline, no_sanitize("thread"), no_sanitize("address")))

struct dump {
    int fd;
    bool broken;     /* a line could not be written */
    unsigned listed;
    uint64_t count[FIBER_BROKEN + 1]; /* fibers by state */
    uint64_t unlisted;
    int64_t now;
    struct line text;
};

static void end_line(struct dump *d)
{
    line_say(&d->text, "\n");
    d->broken |= !line_flush(&d->text, d->fd);
}

/* ------------------------------------------------------------------------------------- one fiber */

/* What could be seen of a fiber's job. */
struct glimpse {
    coir_fn *fn; /* NULL: no job was seen */
    uint64_t id;
    const char *name;
    unsigned depth; /* jobs on this stack */
};

static UNWATCHED bool lies_in(const struct fiber *f, const struct job *j)
{
    uintptr_t low = (uintptr_t)f->bottom, at = (uintptr_t)j;

    return at % _Alignof(struct job) == 0 && at >= low && at < low + f->bytes &&
           low + f->bytes - at >= sizeof *j;
}

static UNWATCHED void look_at_job(const struct fiber *f, struct glimpse *g)
{
    const struct job *j = f->job, *below = NULL;

    *g = (struct glimpse){0};
    for (; j > below && lies_in(f, j); below = j, j = j->outer) {
        if (j->is_try)
            continue;
        g->depth++;
        if (!g->fn)
            *g = (struct glimpse){j->fn, j->id, j->name, g->depth};
    }
}

static uint64_t state_word(struct fiber *f)
{
    return atomic_load_explicit(&f->state, memory_order_acquire); /* STACK, as far as it holds */
}

/* Copies a name if the fiber still stands where it stood when the name was read. */
static UNWATCHED void say_name(struct dump *d, struct fiber *f, uint64_t word, const char *name)
{
    char copy[NAME_MAX_BYTES + 1];
    size_t n = 0;

    if (!name || state_word(f) != word)
        return;
    for (; n < NAME_MAX_BYTES && name[n]; n++)
        copy[n] = name[n] >= ' ' && name[n] <= '~' ? name[n] : '?';
    copy[n] = '\0';
    if (state_word(f) != word)
        return;
    line_say(&d->text, " \"");
    line_say(&d->text, copy);
    line_say(&d->text, "\"");
}

static void say_job(struct dump *d, struct fiber *f, uint64_t word, bool still)
{
    struct glimpse g;

    look_at_job(f, &g);
    if (!g.fn) {
        line_say(&d->text, ", no job");
        return;
    }
    line_say(&d->text, ", job");
    if (g.id)
        line_count(&d->text, " ", g.id);
    if (still)
        say_name(d, f, word, g.name);
    line_say(&d->text, " function ");
    line_number(&d->text, (uint64_t)(uintptr_t)g.fn, 16);
    if (g.depth > 1)
        line_count(&d->text, ", jobs on its stack: ", g.depth);
}

static UNWATCHED void say_wait(struct dump *d, const struct fiber *f)
{
    const char *what = f->waits_for;
    const void *on = f->waits_on;
    int64_t since = f->waits_since;

    if (!what)
        return;
    line_say(&d->text, ", waits for ");
    line_say(&d->text, what);
    if (on) {
        line_say(&d->text, " ");
        line_number(&d->text, (uint64_t)(uintptr_t)on, 16);
    }
    if (since > 0 && since <= d->now) {
        line_count(&d->text, " for ", (uint64_t)(d->now - since) / 1000000);
        line_say(&d->text, " ms");
    }
}

static const char *state_name(enum fiber_state s)
{
    static const char *const name[] = {"idle", "running", "parking", "parking",
                                       "parked", "ready", "broken"};

    return (size_t)s < sizeof name / sizeof *name ? name[s] : "?";
}

static UNWATCHED void say_carrier(struct dump *d, const struct fiber *f)
{
    const struct worker *w = (const struct worker *)(const void *)f->carrier;

    if (w)
        line_count(&d->text, " on worker ", w->index);
}

static void dump_fiber(struct fiber *f, void *arg)
{
    struct dump *d = arg;
    uint64_t word = state_word(f);
    enum fiber_state s = fiber_state_of(word);
    struct worker *here = worker_here();
    bool own = here && here->current == f, still = own || s >= FIBER_PARKED;

    if (s > FIBER_BROKEN)
        return; /* being set up */
    d->count[s]++;
    if (s == FIBER_IDLE)
        return;
    if (d->listed == FIBERS_MAX) {
        d->unlisted++;
        return;
    }
    d->listed++;
    line_count(&d->text, "  fiber ", f->stack.index);
    line_say(&d->text, ": ");
    line_say(&d->text, state_name(s));
    if (s == FIBER_RUNNING)
        say_carrier(d, f);
    say_job(d, f, word, still);
    if (s == FIBER_PARKED || s == FIBER_PARKING || s == FIBER_BROKEN)
        say_wait(d, f);
    end_line(d);
}

/* ----------------------------------------------------------------------------------- one runtime */

static UNWATCHED void dump_worker(struct dump *d, struct worker *w)
{
    const struct fiber *f = w->current;

    line_count(&d->text, "  worker ", w->index);
    if (atomic_load_explicit(&w->busy_tick, memory_order_relaxed) == 0) /* a hint */
        line_say(&d->text, ": asleep");
    else if (f && f != &w->home)
        line_count(&d->text, ": runs fiber ", f->stack.index);
    else
        line_say(&d->text, ": outside any fiber");
    line_count(&d->text, ", jobs queued: ", deque_count(&w->deque));
    end_line(d);
}

static int dump_runtime(struct coir_runtime *rt, int fd)
{
    struct dump d = {.fd = fd, .now = coir_now()};

    line_count(&d.text, "coir: runtime ", rt->number);
    line_say(&d.text, " \"");
    line_say(&d.text, rt->name);
    line_count(&d.text, "\": workers: ", rt->worker_count);
    line_count(&d.text, ", jobs injected: ",
               atomic_load_explicit(&rt->inject.work_count, memory_order_relaxed)); /* a hint */
    end_line(&d);
    for (unsigned i = 0; i < rt->worker_count; i++)
        dump_worker(&d, rt->worker[i]);
    worker_each_fiber(rt, dump_fiber, &d);
    line_count(&d.text, "  running ", d.count[FIBER_RUNNING]);
    line_count(&d.text, ", parked ",
               d.count[FIBER_PARKED] + d.count[FIBER_PARKING] + d.count[FIBER_NOTIFIED] +
                   d.count[FIBER_BROKEN]); /* it waits for its clean-up */
    line_count(&d.text, ", ready ", d.count[FIBER_READY]);
    line_count(&d.text, ", idle ", d.count[FIBER_IDLE]);
    line_count(&d.text, "; not listed: ", d.unlisted);
    end_line(&d);
    return d.broken ? COIR_EIO : COIR_OK;
}

int coir_dump(coir_runtime *rt, int fd)
{
    int before = errno, status;

    if (!rt)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    status = dump_runtime(rt, fd);
    errno = before; /* of what a signal handler interrupted */
    return status;
}

/* --------------------------------------------------------------------------------- all runtimes */

static void dump_to(struct coir_runtime *rt, void *fd)
{
    dump_runtime(rt, *(int *)fd);
}

void dump_all(int fd)
{
    struct line t = {.length = 0};

    if (runtime_try_each_open(dump_to, &fd))
        return;
    line_say(&t, "coir: runtimes are being opened or closed; their fibers are not listed\n");
    line_flush(&t, fd);
}
