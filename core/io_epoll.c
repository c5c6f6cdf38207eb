/* SPDX-License-Identifier: MIT */
/*
 * io_epoll.c - operations kept until epoll says that they may succeed; one instance per runtime.
 *
 * Owns: the epoll instance and a slot for each descriptor, with a queue of operations that read and one
 * of those that write. A descriptor is registered when first waited for, one event at a time
 * (EPOLLONESHOT), and closing it takes it out.
 *
 * Whoever takes an event attempts the slot's operations under the slot's lock, in turn until one must wait on,
 * and ends those that are done. So a descriptor that coir_socket_close has taken the operations from is never touched
 * on their behalf again, though its number may be in use anew; an event of the old one is just a
 * vain attempt.
 *
 * After a receive has been attempted in vain the next ones are not attempted before their fibers park: a request
 * seldom lies there when the last one has been answered. One now and then is, for peers that send without pause.
 *
 * Sleeping. The first worker that goes to sleep while operations wait becomes the poller and sleeps
 * in epoll_wait; others sleep on their futex. The kick, an eventfd in the set, ends its sleep:
 *
 *   waker (park.c)                     poller
 *   1 exchange word for WOKEN          1 CAS word from ASLEEP to AWAY
 *   2 it was AWAY: write the eventfd   2 epoll_wait, which sees the eventfd until it is read
 *
 * Both are operations on one word. If the exchange came first, the CAS fails and the poller does
 * not sleep; else the waker sees AWAY and writes. A poller that was woken reads the eventfd,
 * waiting for the write if need be, before it gives the role away: so one kick never ends another's
 * sleep, and the waker is done with the worker before the worker goes on.
 *
 * Locks, outer first: epolls_lock, a slot's, those of the rows below. poller is only ever tried.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define EVENTS_BATCH 64
#define DOUBTS 8 /* receives after one that was attempted in vain */
#define PAGE_SLOTS 1024
#define PAGES 4096 /* room for 4 M descriptors */

enum side { READER, WRITER, SIDES };

struct slot {
    struct lock lock;
    struct io_op *first[SIDES];
    struct io_op **end[SIDES]; /* where the next one goes; of no meaning while the queue is empty */
    _Atomic unsigned doubts;   /* receives that are not worth an attempt at once; written under the lock */
};

struct epoll {
    const struct host *host;
    int fd;
    int kick_fd;
    struct epoll *next;   /* in the list of all; epolls_lock */
    struct lock poller;   /* who calls epoll_wait */
    bool milliseconds;    /* poller held: the kernel has no epoll_pwait2 */
    _Atomic long waiting; /* operations in slots; a hint */
    _Atomic(struct slot *) page[PAGES]; /* PAGE_SLOTS each, made when needed */
};

static struct lock epolls_lock; /* guards the list */
static struct epoll *epolls;    /* of the process: a close must find who waits, in any runtime */

void io_epoll_forget_all(void)
{
    epolls_lock = (struct lock){0};
    epolls = NULL;
}

static struct epoll *epoll_of(const struct coir_runtime *rt)
{
    return rt->io_shared;
}

static enum side side_of(const struct io_op *op)
{
    return op->kind == IO_RECV || op->kind == IO_ACCEPT ? READER : WRITER;
}

/* ---------------------------------------------------------------------------------------- slots */

/* The page of a descriptor's slot, or NULL. */
static _Atomic(struct slot *) *page_of(struct epoll *ep, int fd)
{
    return fd / PAGE_SLOTS < PAGES ? &ep->page[fd / PAGE_SLOTS] : NULL;
}

static struct slot *find_slot(struct epoll *ep, int fd)
{
    _Atomic(struct slot *) *at = page_of(ep, fd);
    struct slot *page = NULL;

    if (at)
        page = atomic_load_explicit(at, memory_order_seq_cst); /* PAGE: zeroed; CLOSED */
    return page ? &page[fd % PAGE_SLOTS] : NULL;
}

static struct slot *make_slot(struct epoll *ep, int fd)
{
    _Atomic(struct slot *) *at = page_of(ep, fd);
    struct slot *found = find_slot(ep, fd), *expected = NULL, *page;

    if (found || !at)
        return found;
    page = mem_alloc(ep->host, PAGE_SLOTS * sizeof *page);
    if (page && !atomic_compare_exchange_strong_explicit(at, &expected, page, memory_order_seq_cst,
                                                         memory_order_relaxed)) /* PAGE; CLOSED */
        mem_free(ep->host, page);
    return find_slot(ep, fd);
}

/* Behind all others of its side. Slot's lock held. */
static void put_op(struct epoll *ep, struct slot *s, enum side side, struct io_op *op)
{
    struct io_op **end = s->first[side] ? s->end[side] : &s->first[side];

    op->next = NULL;
    *end = op;
    s->end[side] = &op->next;
    atomic_fetch_add_explicit(&ep->waiting, 1, memory_order_relaxed); /* a hint */
}

/* Takes an operation out; false: it is over. Slot's lock held. */
static bool take_op(struct epoll *ep, struct slot *s, enum side side, struct io_op *op)
{
    struct io_op **at = &s->first[side];

    while (*at && *at != op)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = op->next;
    if (!op->next)
        s->end[side] = at;
    atomic_fetch_sub_explicit(&ep->waiting, 1, memory_order_relaxed); /* a hint */
    return true;
}

static void end_op(struct io_op *op, int64_t result)
{
    op->result = result;
    errand_end(&op->errand);
}

/* Ends all that waits on a side. Slot's lock held. */
static void end_side(struct epoll *ep, struct slot *s, enum side side, int64_t result)
{
    for (struct io_op *op; (op = s->first[side]) != NULL;) {
        take_op(ep, s, side, op);
        end_op(op, result);
    }
}

/* Asks for the next event that the slot's operations wait for. 0 or -errno. Slot's lock held. */
static int arm(struct epoll *ep, const struct slot *s, int fd)
{
    struct epoll_event event = {.events = EPOLLONESHOT, .data.fd = fd};

    event.events |= s->first[READER] ? EPOLLIN | EPOLLRDHUP : 0;
    event.events |= s->first[WRITER] ? EPOLLOUT : 0;
    if (epoll_ctl(ep->fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    if (errno != ENOENT)
        return -errno;
    /* Seen for the first time. An attempt to accept must not block. */
    if (s->first[READER] && s->first[READER]->kind == IO_ACCEPT &&
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return -errno;
    return epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static bool promises(const struct coir_runtime *rt, const struct io_op *op)
{
    struct slot *s = op->kind == IO_RECV ? find_slot(epoll_of(rt), op->fd) : NULL;

    return !s || !atomic_load_explicit(&s->doubts, memory_order_relaxed); /* a hint */
}

/* A receive parks: without doubts it was attempted, and in vain. Slot's lock held. */
static void doubt(struct slot *s)
{
    unsigned doubts = atomic_load_explicit(&s->doubts, memory_order_relaxed); /* under the lock */

    atomic_store_explicit(&s->doubts, doubts ? doubts - 1 : DOUBTS, memory_order_relaxed); /* a hint */
}

static void begin_op(struct errand *e)
{
    struct io_op *op = io_op_of(e);
    struct epoll *ep = epoll_of(e->fiber->runtime);
    struct slot *s = make_slot(ep, op->fd);
    enum side side = side_of(op);
    int status = 0;

    op->home = s;
    if (!s) {
        end_op(op, -ENOMEM);
        return;
    }
    lock_take(&s->lock);
    if (op->kind == IO_RECV)
        doubt(s);
    put_op(ep, s, side, op);
    if (io_was_closed(op))
        status = -EBADF;
    else if (s->first[side] == op) /* else the event is asked for already */
        status = arm(ep, s, op->fd);
    if (status != 0)
        take_op(ep, s, side, op);
    lock_drop(&s->lock);
    if (status != 0)
        end_op(op, status);
}

/* A receive that nobody has attempted takes what is there even so: who asks with a deadline of now wants to know. */
static void revoke_op(struct errand *e)
{
    struct io_op *op = io_op_of(e);
    struct slot *s = op->home;

    lock_take(&s->lock); /* s is there: without one the operation was over at once */
    if (take_op(epoll_of(e->fiber->runtime), s, side_of(op), op)) {
        int64_t result = op->kind == IO_RECV ? io_attempt(op) : -EAGAIN;

        end_op(op, result == -EAGAIN ? -ECANCELED : result);
    }
    lock_drop(&s->lock);
}

/* Ends all operations on a descriptor. */
static void clear_slot(struct epoll *ep, int fd)
{
    struct slot *s = find_slot(ep, fd);

    if (!s)
        return;
    lock_take(&s->lock);
    end_side(ep, s, READER, -ECANCELED);
    end_side(ep, s, WRITER, -ECANCELED);
    atomic_store_explicit(&s->doubts, 0, memory_order_relaxed); /* a hint: of who gets the number next */
    lock_drop(&s->lock);
}

int io_epoll_close_fd(int fd)
{
    lock_take(&epolls_lock);
    for (struct epoll *ep = epolls; ep; ep = ep->next)
        clear_slot(ep, fd);
    lock_drop(&epolls_lock);
    return close(fd) == 0 || errno == EINTR ? COIR_OK : -errno; /* closed even so */
}

/* --------------------------------------------------------------------------------------- events */

/* Watches on for what still waits. Slot's lock held. */
static void rearm(struct epoll *ep, struct slot *s, int fd)
{
    int status = s->first[READER] || s->first[WRITER] ? arm(ep, s, fd) : 0;

    if (status != 0) { /* closed behind our back */
        end_side(ep, s, READER, status);
        end_side(ep, s, WRITER, status);
    }
}

/* Attempts a side's operations, first come, first served. Returns how many it ended. Slot's lock held. */
static unsigned attempt_side(struct epoll *ep, struct slot *s, enum side side)
{
    unsigned ended = 0;

    for (struct io_op *op; (op = s->first[side]) != NULL; ended++) {
        int64_t result = io_attempt(op);

        if (result == -EAGAIN)
            break;
        take_op(ep, s, side, op);
        end_op(op, result);
    }
    return ended;
}

/* Attempts what an event may have made possible. Returns how many operations it ended. */
static unsigned take_event(struct epoll *ep, const struct epoll_event *event)
{
    static const uint32_t wanted[SIDES] = {EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR,
                                           EPOLLOUT | EPOLLHUP | EPOLLERR};
    struct slot *s = find_slot(ep, event->data.fd);
    unsigned ended = 0;

    if (event->data.fd == ep->kick_fd || !s)
        return 0;
    lock_take(&s->lock);
    for (enum side side = READER; side < SIDES; side++)
        if (event->events & wanted[side])
            ended += attempt_side(ep, s, side);
    rearm(ep, s, event->data.fd);
    lock_drop(&s->lock);
    return ended;
}

static unsigned take_events(struct epoll *ep, const struct epoll_event *event, int n)
{
    unsigned ended = 0;

    for (int i = 0; i < n; i++)
        ended += take_event(ep, &event[i]);
    return ended;
}

static bool operations_wait(struct epoll *ep)
{
    return atomic_load_explicit(&ep->waiting, memory_order_relaxed) > 0; /* a hint */
}

static bool poll_events(struct worker *w)
{
    struct epoll *ep = epoll_of(w->runtime);
    struct epoll_event event[EVENTS_BATCH];
    int n;

    if (!operations_wait(ep) || !lock_try(&ep->poller))
        return false;
    n = epoll_wait(ep->fd, event, EVENTS_BATCH, 0);
    lock_drop(&ep->poller);
    return take_events(ep, event, n) > 0;
}

/* Nothing is ever held back for a batch. */
static void flush_nothing(struct worker *w)
{
    (void)w;
}

/* ------------------------------------------------------------------------------------- sleeping */

static void kick(struct parker *p)
{
    struct worker *w = CONTAINER_OF(p, struct worker, parker);
    uint64_t one = 1;

    if (write(epoll_of(w->runtime)->kick_fd, &one, sizeof one) != sizeof one)
        fatal("the eventfd that wakes a worker cannot be written");
}

static void take_kick(struct epoll *ep)
{
    uint64_t n;

    while (read(ep->kick_fd, &n, sizeof n) != sizeof n)
        if (errno != EINTR)
            fatal("the eventfd that wakes a worker cannot be read: %s", strerror(errno));
}

/* Waits for events until the deadline. Returns as epoll_wait; -1: a signal. poller held. */
static int wait_for_events(struct epoll *ep, struct epoll_event *event, int64_t deadline)
{
    int64_t left = deadline - coir_now();
    struct timespec ts = {.tv_sec = left / COIR_SEC, .tv_nsec = left % COIR_SEC};
    int n;

    if (left <= 0)
        return 0;
    if (!ep->milliseconds) {
        n = epoll_pwait2(ep->fd, event, EVENTS_BATCH, deadline == COIR_NEVER ? NULL : &ts, NULL);
        if (n >= 0 || errno != ENOSYS)
            return n;
        ep->milliseconds = true;
    }
    left = left < INT_MAX * COIR_MS ? (left + COIR_MS - 1) / COIR_MS : INT_MAX;
    return epoll_wait(ep->fd, event, EVENTS_BATCH, deadline == COIR_NEVER ? -1 : (int)left);
}

/* What the poller brings with it: it runs one fiber itself, others may run the rest. */
static void ready_fibers(struct worker *w, const struct epoll_event *event, int n)
{
    w->polling = true;
    if (take_events(epoll_of(w->runtime), event, n) > 1)
        park_notify(&w->runtime->park);
    w->polling = false;
}

static bool sleep_as_poller(struct worker *w, int64_t deadline)
{
    struct epoll *ep = epoll_of(w->runtime);
    struct park *park = &w->runtime->park;
    struct epoll_event event[EVENTS_BATCH];
    bool away, woken;
    int n = 0;

    if (!operations_wait(ep) || !lock_try(&ep->poller))
        return park_sleep(park, &w->parker, deadline);
    away = parker_go_away(&w->parker);
    if (away)
        n = wait_for_events(ep, event, deadline);
    woken = park_retract(park, &w->parker);
    if (away && woken)
        take_kick(ep);
    lock_drop(&ep->poller);
    ready_fibers(w, event, n);
    return woken;
}

/* ------------------------------------------------------------------------------- open and close */

static void free_epoll(struct coir_runtime *rt)
{
    struct epoll *ep = epoll_of(rt);

    if (ep->kick_fd >= 0)
        close(ep->kick_fd);
    if (ep->fd >= 0)
        close(ep->fd);
    for (size_t i = 0; i < PAGES; i++)
        mem_free(&rt->host, atomic_load_explicit(&ep->page[i], memory_order_relaxed)); /* alone */
    mem_free(&rt->host, ep);
    rt->io_shared = NULL;
}

static int open_epoll(struct coir_runtime *rt)
{
    struct epoll *ep = mem_alloc(&rt->host, sizeof *ep);
    struct epoll_event event = {.events = EPOLLIN};

    if (!ep)
        return COIR_ENOMEM;
    rt->io_shared = ep;
    ep->host = &rt->host;
    ep->fd = epoll_create1(EPOLL_CLOEXEC);
    ep->kick_fd = eventfd(0, EFD_CLOEXEC);
    event.data.fd = ep->kick_fd;
    if (ep->fd < 0 || ep->kick_fd < 0 ||
        epoll_ctl(ep->fd, EPOLL_CTL_ADD, ep->kick_fd, &event) != 0) {
        int status = -errno;

        host_log(&rt->host, COIR_LOG_ERROR, "epoll is not to be had: %s", strerror(-status));
        free_epoll(rt);
        return status;
    }
    lock_take(&epolls_lock);
    ep->next = epolls;
    epolls = ep;
    lock_drop(&epolls_lock);
    return COIR_OK;
}

static void close_epoll(struct coir_runtime *rt)
{
    struct epoll **at = &epolls;

    lock_take(&epolls_lock);
    while (*at != epoll_of(rt))
        at = &(*at)->next;
    *at = (*at)->next;
    lock_drop(&epolls_lock);
    free_epoll(rt);
}

static void start_worker(struct worker *w)
{
    w->parker.kick = kick;
}

const struct io_backend io_epoll_backend = {
    .ops = {.poll = poll_events, .flush = flush_nothing, .flush_late = flush_nothing, .sleep = sleep_as_poller},
    .kind = COIR_IO_EPOLL,
    .at_once = 1u << IO_RECV | 1u << IO_SEND | 1u << IO_CONNECT,
    .promises = promises,
    .begin = begin_op,
    .revoke = revoke_op,
    .open = open_epoll,
    .close = close_epoll,
    .worker_start = start_worker,
};
