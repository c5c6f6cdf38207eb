/* SPDX-License-Identifier: MIT */
/*
 * memory.c - atomic objects under C11's orders.
 *
 * Each place has its stores in modification order. A thread's view holds, for each place, the newest
 * store it must not look behind; loads choose among those that remain.
 *
 *   release    a store carries the thread's view; a relaxed one the view of its last release fence
 *   acquire    a load adds the carried view to its own; a relaxed one leaves it to an acquire fence
 *   RMW        reads the store directly before its own, and carries that one's view on: a release
 *              sequence. (A later plain store by the releasing thread ends it, as in C++20.)
 *   seq_cst    fences and stores leave their view in machine.sc; fences take over all of it, loads
 *              of a place what it says of this place. Clocks are not part of it: such fences order
 *              accesses of atomic objects, and nothing else happens before anything by them alone.
 *
 * Stores may be put below ones that were executed earlier, except between an RMW and what it read.
 */
#include "machine.h"

#include <string.h>

#define GAP 128 /* between neighbours in modification order: room for 7 stores in between */

static bool acquires(int order)
{
    return order == ACQUIRE || order >= ACQ_REL;
}

static bool releases(int order)
{
    return order >= RELEASE;
}

/* The place of an operation that is about to happen. */
static struct place *use(struct thread *t, const volatile void *address, unsigned bytes, bool write,
                         int order, const struct site *site)
{
    struct step step = {place_usage((uintptr_t)address), write, order != SEQ_CST};
    struct place *p;

    schedule_step(&step);
    p = place_used(step.usage, bytes);
    if (__builtin_expect(p->freed, 0))
        schedule_fail("%s:%d: %s of %s, which is freed", site->file, site->line, site->operation,
                      site->place);
    race_atomic((uintptr_t)address, bytes, site);
    p->used[t->index] = t->now.at[t->index];
    t->last = p;
    return p;
}

/* The kernel looks at a word for the thread. */
uint64_t memory_newest(struct thread *t, uintptr_t address, unsigned bytes)
{
    struct usage *u = place_usage(address);
    struct place *p = place_used(u, bytes);

    usage_by(u, false);
    usage_count(u, false);
    if (p->freed)
        schedule_fail("a futex wait on freed memory");
    t->now.at[p->id] = p->message[p->count - 1]->at;
    return p->message[p->count - 1]->value;
}

/* Index of the oldest store that is not below `floor`. */
static int oldest(const struct place *p, stamp floor)
{
    int i = p->count - 1;

    while (i > 0 && p->message[i]->at > floor)
        i--;
    return i;
}

static stamp floor_of(const struct thread *t, const struct place *p, int order)
{
    stamp own = t->now.at[p->id], sc = order == SEQ_CST ? machine.sc.at[p->id] : 0;

    return own > sc ? own : sc;
}

/* How far a load's answer is from the newest, for the trace. */
static const char *age(const struct place *p, const struct message *m)
{
    return m == p->message[p->count - 1] ? "" : " (old)";
}

/* -------------------------------------------------------------------------------------- effects */

/* The thread has read m. */
static void observe(struct thread *t, const struct place *p, const struct message *m, int order)
{
    if (t->now.at[p->id] < m->at)
        t->now.at[p->id] = m->at;
    if (!m->carries)
        return;
    if (acquires(order)) {
        view_join(&t->now, &m->view);
    } else {
        if (t->has_unfenced)
            view_join(&t->unfenced, &m->view);
        else
            view_copy(&t->unfenced, &m->view);
        t->has_unfenced = true;
    }
}

/* Threads that spin on the place may look again. */
static void wake_spinners(struct place *p)
{
    for (int i = 1; p->spinners; i++)
        if (p->spinners >> i & 1) {
            p->spinners &= (uint8_t)~(1u << i);
            machine.thread[i].state = THREAD_READY;
            machine.ready |= 1u << i;
        }
}

static stamp stamp_after(const struct place *p, int i)
{
    int low = p->message[i]->at, high = i + 1 < p->count ? p->message[i + 1]->at : low + 2 * GAP;

    if (p->count == MESSAGES || high > INT16_MAX)
        schedule_fail("more than %d stores to one place", MESSAGES);
    if (high - low < 2)
        schedule_fail("too many stores between two of one place");
    return (stamp)(low + (high - low) / 2);
}

/* Puts a store behind the i-th. read: what an RMW has read, else NULL. */
static void append(struct thread *t, struct place *p, int i, uint64_t value, int order,
                   const struct message *read)
{
    struct message *m = place_message();

    m->value = value;
    m->at = stamp_after(p, i);
    m->rmw = read != NULL;
    m->by = (uint8_t)t->index;
    t->now.at[p->id] = m->at;
    m->carries = true;
    if (releases(order))
        view_copy(&m->view, &t->now);
    else if (t->has_released)
        view_copy(&m->view, &t->released);
    else
        m->carries = false;
    if (read && read->carries) {
        if (m->carries)
            view_join(&m->view, &read->view);
        else
            view_copy(&m->view, &read->view);
        m->carries = true;
    }
    if (m->carries && m->view.at[p->id] < m->at)
        m->view.at[p->id] = m->at;
    if (releases(order))
        t->now.at[t->index]++;
    if (order == SEQ_CST && machine.sc.at[p->id] < m->at)
        machine.sc.at[p->id] = m->at;
    for (int k = p->count++; k > i + 1; k--)
        p->message[k] = p->message[k - 1];
    p->message[i + 1] = m;
    if (p->spinners)
        wake_spinners(p);
}

/* ----------------------------------------------------------------------------------- operations */

/* Picks one of the stores met; if the step is to look at new ones only, there may be none. */
static int pick(const int *met, unsigned n)
{
    if (!n)
        schedule_abandon();
    return met[n == 1 ? 0 : choice_of(n)];
}

/* Picks one of the stores from index `low` on; a spin loop never meets the same one twice. */
static int pick_visible(struct thread *t, const struct place *p, int low)
{
    int met[MESSAGES];
    unsigned n = 0;

    if (t->impatient && low + 1 < p->count)
        low++;
    t->impatient = false;
    if (low == p->count - 1 && !machine.fresh)
        return low;
    for (int i = p->count - 1; i >= low; i--)
        if (p->message[i] >= machine.fresh)
            met[n++] = i;
    return pick(met, n);
}

/* What is no part of any protocol. */
static bool is_figure(const struct site *site)
{
    return site->figure && !machine.scenario->figures;
}

/* What no thread can have written is what it was. */
static uint64_t read_as_it_is(const volatile void *address, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, (const void *)(uintptr_t)address, bytes);
    return value;
}

/* An old value of a lock's hint only makes it spin once more, or fail the exchange, as if it had looked at
 * another time. So it is the newest, and much is saved. */
uint64_t explore_load(const volatile void *address, unsigned bytes, int order,
                      const struct site *site)
{
    struct thread *t = machine.self;
    struct place *p;
    struct message *m;

    if (is_figure(site) || (!machine.running && !place_is_known((uintptr_t)address)))
        return read_as_it_is(address, bytes);
    p = use(t, address, bytes, false, order, site);
    m = p->message[pick_visible(t, p, site->hint && order == RELAXED ? p->count - 1
                                                                     : oldest(p, floor_of(t, p, order)))];

    observe(t, p, m, order);
    TRACE(site, order, "-> %#llx%s", (unsigned long long)m->value, age(p, m));
    return m->value;
}

/* Whether a store may follow the i-th directly. */
static bool open_behind(const struct place *p, int i)
{
    return i == p->count - 1 || !p->message[i + 1]->rmw;
}

/* Picks the store that a new one is put behind, from index `low` on. */
static int pick_open(const struct place *p, int low)
{
    int open[MESSAGES];
    unsigned n = 0;

    for (int i = p->count - 1; i >= low; i--)
        if (open_behind(p, i))
            open[n++] = i;
    return open[n == 1 ? 0 : choice_of(n)];
}

void explore_store(const volatile void *address, unsigned bytes, uint64_t value, int order,
                   const struct site *site)
{
    struct thread *t = machine.self;
    struct place *p;
    int i;

    if (is_figure(site)) { /* written where it lies, and no step */
        memcpy((void *)(uintptr_t)address, &value, bytes);
        return;
    }
    p = use(t, address, bytes, true, order, site);
    i = pick_open(p, oldest(p, floor_of(t, p, order)));
    TRACE(site, order, "= %#llx%s", (unsigned long long)value,
          i == p->count - 1 ? "" : " (below newer ones)");
    append(t, p, i, value, order, NULL);
}

static uint64_t modified(enum modify how, uint64_t was, uint64_t operand, unsigned bytes)
{
    uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * bytes) - 1;

    switch (how) {
    case MODIFY_SET: return operand;
    case MODIFY_ADD: return (was + operand) & mask;
    case MODIFY_SUB: return (was - operand) & mask;
    case MODIFY_OR: return was | operand;
    case MODIFY_AND: return was & operand;
    }
    return 0;
}

uint64_t explore_modify(const volatile void *address, unsigned bytes, enum modify how,
                        uint64_t operand, int order, const struct site *site)
{
    struct thread *t = machine.self;
    struct place *p = use(t, address, bytes, true, order, site);
    int i = pick_open(p, oldest(p, floor_of(t, p, order)));
    struct message *m = p->message[i];
    uint64_t value = modified(how, m->value, operand, bytes);

    t->impatient = false;
    observe(t, p, m, order);
    TRACE(site, order, "%#llx -> %#llx", (unsigned long long)m->value, (unsigned long long)value);
    append(t, p, i, value, order, m);
    return m->value;
}

/* A compare and swap may meet any visible store: another value fails; the value succeeds where a
 * store may follow. `low` is the floor of a failure, `low_success` that of a success. */
static int pick_cas(struct thread *t, const struct place *p, uint64_t expected, int low,
                    int low_success)
{
    int met[MESSAGES];
    unsigned n = 0;

    if (t->impatient && low + 1 < p->count)
        low++;
    t->impatient = false;
    for (int i = p->count - 1; i >= low; i--)
        if (p->message[i]->value != expected ? p->message[i] >= machine.fresh
                                             : open_behind(p, i) && i >= low_success)
            met[n++] = i;
    return pick(met, n);
}

bool explore_cas(const volatile void *address, unsigned bytes, uint64_t *expected, uint64_t desired,
                 int success, int failure, bool weak, const struct site *site)
{
    struct thread *t = machine.self;
    struct place *p = use(t, address, bytes, true, success == SEQ_CST ? success : failure, site);
    int i = pick_cas(t, p, *expected, oldest(p, floor_of(t, p, failure)),
                     oldest(p, floor_of(t, p, success)));
    struct message *m = p->message[i];

    if (m->value != *expected || (weak && choice_spurious())) {
        observe(t, p, m, failure);
        TRACE(site, failure, "fails, -> %#llx%s", (unsigned long long)m->value,
              m->value == *expected ? " (for no reason)" : age(p, m));
        *expected = m->value;
        return false;
    }
    observe(t, p, m, success);
    TRACE(site, success, "%#llx -> %#llx", (unsigned long long)m->value,
          (unsigned long long)desired);
    append(t, p, i, desired, success, m);
    return true;
}

/* --------------------------------------------------------------------------------------- fences */

static void fence_acquire(struct thread *t)
{
    if (t->has_unfenced)
        view_join(&t->now, &t->unfenced);
}

static void fence_release(struct thread *t)
{
    view_copy(&t->released, &t->now);
    t->has_released = true;
    t->now.at[t->index]++;
}

void memory_fence_full(struct thread *t)
{
    stamp clock[THREADS];

    fence_acquire(t);
    memcpy(clock, t->now.at, sizeof clock);
    view_join(&t->now, &machine.sc);
    memcpy(t->now.at, clock, sizeof clock);
    view_copy(&machine.sc, &t->now);
    memset(machine.sc.at, 0, sizeof clock);
    fence_release(t);
}

void explore_fence(int order, const struct site *site)
{
    struct thread *t = machine.self;

    if (order == SEQ_CST) {
        schedule_point();
        memory_fence_full(t);
    } else {
        if (acquires(order))
            fence_acquire(t);
        if (releases(order))
            fence_release(t);
    }
    TRACE(site, order, "%s", "");
}
