/* SPDX-License-Identifier: MIT */
/*
 * select.c - waits at several channels, and does one operation at one of them.
 *
 * One sleeper with a node in each channel's queue. Whoever could serve one of the nodes must first take
 * the sleeper (W3 in waitq.c), so no second channel can; a waker that fails drops the node and serves
 * the next in its queue. A channel that turns out to be ready while the nodes are being queued is
 * used only if the sleeper can still be taken back.
 *
 * Fair choice: the search for a ready case begins at a random one. Who waits is served in the order
 * of each channel's queue.
 */
#include "channel.h"
#include "find.h"

/* The state of a select while it waits. */
struct selection {
    coir_case *cases;
    size_t n, start;
    struct sleeper sleeper;
    struct waiter waiter[COIR_SELECT_MAX];
};

/* xorshift64 (Marsaglia, 2003), for each thread its own. */
static NOINLINE size_t random_below(size_t n)
{
    static __thread uint64_t seed;
    struct worker *w = worker_here();

    if (w && UNLIKELY(w->runtime->lab != NULL))
        return (size_t)w->runtime->lab->draw(w, n);
    if (!seed)
        seed = (uint64_t)(uintptr_t)&seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 32) % n;
}

/* The k-th case in the order of this call. */
static size_t nth(const struct selection *s, size_t k)
{
    return (s->start + k) % s->n;
}

/* Does the first operation that is possible; COIR_EAGAIN: none is. */
static int try_all(struct selection *s, size_t *which)
{
    for (size_t k = 0; k < s->n; k++) {
        coir_case *c = &s->cases[*which = nth(s, k)];
        int status = c->channel ? channel_try(channel_of(c->channel), c->op, c->element) : COIR_EAGAIN;

        if (status != COIR_EAGAIN)
            return status;
    }
    return COIR_EAGAIN;
}

/* Queues at all channels. COIR_EAGAIN: it must wait; COIR_EBUSY: it has been taken on the way. */
static int queue_all(struct selection *s, size_t *which)
{
    for (size_t k = 0; k < s->n; k++) {
        coir_case *c = &s->cases[*which = nth(s, k)];
        int status = COIR_EAGAIN;

        s->waiter[*which] = (struct waiter){.sleeper = &s->sleeper, .item = c->element};
        if (c->channel)
            status = channel_try_or_queue(channel_of(c->channel), c->op, &s->waiter[*which]);
        if (status != COIR_EAGAIN) {
            s->waiter[*which].sleeper = NULL; /* not queued, and whom it let go may have freed the channel */
            return status;
        }
    }
    return COIR_EAGAIN;
}

/* Whose node was taken is out of its queue already. */
static void leave_all(struct selection *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct waiter *w = &s->waiter[i];

        if (s->cases[i].channel && w->sleeper && w != s->sleeper.taken)
            channel_leave(channel_of(s->cases[i].channel), s->cases[i].op, w);
    }
}

static int wait_for_one(struct selection *s, int64_t deadline, size_t *which)
{
    int status = sleeper_begin(&s->sleeper, "select", s->cases);

    if (status != COIR_OK)
        return status;
    for (size_t i = 0; i < s->n; i++)
        s->waiter[i].sleeper = NULL; /* not queued */
    status = queue_all(s, which);
    if (status == COIR_EAGAIN || status == COIR_EBUSY) {
        status = sleeper_sleep(&s->sleeper, deadline);
        if (status == COIR_OK) {
            *which = (size_t)(s->sleeper.taken - s->waiter);
            status = s->sleeper.taken->status;
        }
    } else {
        sleeper_abandon(&s->sleeper);
    }
    leave_all(s);
    return status;
}

/* COIR_OK if the cases make sense. */
static int check(const coir_case *cases, size_t n, int64_t deadline)
{
    size_t channels = 0;

    if (!cases || n < 1 || n > COIR_SELECT_MAX)
        return COIR_EINVAL;
    for (size_t i = 0; i < n; i++) {
        const coir_case *c = &cases[i];

        if (!c->channel)
            continue;
        channels++;
        if ((c->op != COIR_SEND && c->op != COIR_RECV) || !c->element ||
            !channel_of(c->channel)->capacity)
            return COIR_EINVAL;
    }
    return channels || deadline != COIR_NEVER ? COIR_OK : COIR_EDEADLK;
}

int coir_select(coir_case *cases, size_t n, int64_t deadline, size_t *which)
{
    struct selection s;
    size_t index = 0;
    int status = check(cases, n, deadline);

    if (status != COIR_OK)
        return status;
    s.cases = cases;
    s.n = n;
    s.start = random_below(n);
    status = try_all(&s, &index);
    if (status == COIR_EAGAIN && deadline != COIR_NEVER && deadline <= coir_now())
        return COIR_ETIMEDOUT;
    if (status == COIR_EAGAIN)
        status = wait_for_one(&s, deadline, &index);
    if (which && (status == COIR_OK || status == COIR_ECLOSED))
        *which = index;
    return status;
}
