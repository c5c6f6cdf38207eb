/* SPDX-License-Identifier: MIT */
/*
 * io_uring.c - operations handed to the kernel, one ring per worker.
 *
 * Owns: the rings. A worker prepares operations in its own and gives them to the kernel together; they complete there.
 *
 * A worker that is stuck in a long job must not keep its completions from others. So a worker that finds nothing in its own
 * ring submits and reaps what lies in the rings of others that are awake (one that sleeps is woken by its own). That rules
 * out SINGLE_ISSUER and DEFER_TASKRUN, which hides completions for the whole job. COOP_TASKRUN hides them until the
 * worker next enters the kernel, at the latest with the timer's tick. Without it the kernel interrupts the worker for each
 * packet, while the sender's processor holds the socket's lock: less than half the requests (64 k to 150 k a second).
 * TASKRUN_FLAG tells a worker that spins that there is something to enter the kernel for.
 *
 * Locks
 *   sq   the submission side of a ring: preparing and submitting. Others only try it, but for revokes and closes. An owner
 *        that goes to sleep enters the ring without it, and may take what others prepare.
 *   cq   the completion side. All but the owner, when it waits for its kick, only try it.
 *
 * Submitting. What a peer waits for, sends and connects, is given to the kernel before the last ready fiber runs; what only
 * waits itself goes with that, or when the worker sleeps: by the call that it sleeps in (one entry for a request where
 * four were). But if turns have been long of late, or long ago (STALE_NS), it goes as well.
 *
 * Sleeping. A worker with operations in its ring sleeps in that ring, where a completion wakes it; one without
 * sleeps on its futex, which is cheaper to wake. The ring holds a read of an eventfd, the kick:
 *
 *   waker (park.c)                     sleeper
 *   1 exchange word for WOKEN          1 the read is armed; CAS word from ASLEEP to AWAY
 *   2 it was AWAY: write the eventfd   2 while the word is not WOKEN and no completion lies there:
 *                                        wait in the kernel for a completion
 *
 * Both are operations on one word. If the exchange came first, the CAS fails and the sleeper does not sleep. Else the waker
 * sees AWAY and writes, and the read completes. That completion stays in the ring until the owner takes it (K1), so the
 * sleeper finds it however late it comes; and a woken one waits for it, so the waker is done with the worker before
 * the worker goes on.
 *
 * Invariants
 *   K1  Nobody but the owner consumes the kick's completion: others stop reaping in front of it.
 *   K2  armed - completed operations are in the ring. Each has exactly one completion; the kernel keeps those that do
 *       not fit (IORING_FEAT_NODROP), and peeking fetches them.
 *   K3  An operation's revoke has been executed when revoke returns: none hits a later operation in the same frame.
 */
#include "io_uring_ops.h"
#include "io_uring_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define SQ_ENTRIES 256
#define CQ_ENTRIES 1024 /* the kernel keeps what does not fit (K2); four times as many cost 12 us at open */
#define REAP_BATCH 64
#define MEMORY_NS (100 * COIR_US) /* until it is asked for again */
#define STALE_NS (100 * COIR_US) /* operations not submitted for so long: their owner is stuck or busy */

/* user_data that is no operation. */
#define TAG_REVOKE 1
#define TAG_KICK 2

struct rings {
    struct rings *next; /* in the list of all; all_lock */
    unsigned count;
    struct ring_state ring[];
};

static struct lock all_lock; /* guards the list; outside every sq */
static struct rings *all_rings;

void io_uring_forget_all(void)
{
    all_lock = (struct lock){0};
    all_rings = NULL;
}

/* ----------------------------------------------------------------------------------- completion */

/* Consumes one completion; false: it is the owner's alone. cq held. */
static bool consume(struct ring_state *r, const struct io_uring_cqe *cqe, bool own)
{
    struct io_op *op = io_uring_cqe_get_data(cqe);

    if (cqe->user_data == TAG_REVOKE)
        return true;
    if (cqe->user_data == TAG_KICK) {
        if (own)
            r->kick_armed = false;
        return own; /* K1 */
    }
    tally(&r->completed, 1);
    errand_receive(&op->errand);
    io_waits_end(op);
    op->result = cqe->res;
    errand_end(&op->errand);
    return true;
}

/* Takes a batch of completions; returns how many it consumed. cq held. */
static unsigned reap_locked(struct ring_state *r, bool own)
{
    struct io_uring_cqe *cqe[REAP_BATCH];
    unsigned n = io_uring_peek_batch_cqe(&r->uring, cqe, REAP_BATCH), taken = 0;

    while (taken < n && consume(r, cqe[taken], own))
        taken++;
    io_uring_cq_advance(&r->uring, taken);
    return taken;
}

static unsigned reap(struct ring_state *r, bool own)
{
    unsigned taken;

    if (!ring_has_completions(r, own) || !lock_try(&r->cq))
        return 0;
    taken = reap_locked(r, own);
    lock_drop(&r->cq);
    return taken;
}

/* ----------------------------------------------------------------------------------- submission */

/* The kernel took nothing, as yet: completions must be reaped first, a signal came, or it has no memory. */
static bool is_for_now(int status)
{
    return status == -EBUSY || status == -EINTR || status == -EAGAIN || status == -ENOMEM;
}

/* Gives what is prepared to the kernel. False: it took nothing, as yet. sq held. */
static bool submit(struct ring_state *r)
{
    int n;

    ring_publish(r);
    do
        n = io_uring_submit(&r->uring);
    while (n > 0 && io_uring_sq_ready(&r->uring));
    ring_count_queued(r);
    if (n < 0 && !is_for_now(n))
        fatal("io_uring_enter: %s", strerror(-n)); /* leaves nothing to hold on to */
    return n >= 0;
}

/* Memory may come back, which no wait in the ring would say. */
static void await_memory(void)
{
    nanosleep(&(struct timespec){.tv_nsec = MEMORY_NS}, NULL);
}

/* The same, until all is submitted. sq held, but for pauses: who could free memory may want it. */
static void submit_all(struct ring_state *r, bool own)
{
    while (!submit(r)) {
        if (reap(r, own))
            continue;
        lock_drop(&r->sq);
        await_memory();
        lock_take(&r->sq);
    }
}

/* A free submission entry. sq held. */
static struct io_uring_sqe *take_sqe(struct ring_state *r, bool own)
{
    struct io_uring_sqe *sqe;

    while (UNLIKELY(!(sqe = io_uring_get_sqe(&r->uring))))
        submit_all(r, own);
    if (!ring_queued(r))
        atomic_store_explicit(&r->queued_since, coir_now(), memory_order_relaxed); /* a hint */
    return sqe;
}

static void begin_op(struct errand *e)
{
    struct io_op *op = io_op_of(e);
    struct worker *w = worker_of(e->fiber);
    struct ring_state *r = w->io;
    struct io_uring_sqe *sqe;

    op->home = r;
    lock_take(&r->sq);
    if (UNLIKELY(!io_waits_begin(op))) {
        lock_drop(&r->sq);
        op->result = -EBADF;
        errand_end(&op->errand);
        return;
    }
    sqe = take_sqe(r, true);
    io_uring_prepare(sqe, op);
    io_uring_sqe_set_data(sqe, op);
    tally(&r->armed, 1);
    ring_count_queued(r);
    lock_drop(&r->sq);
    w->io_queued++;
    w->io_urgent |= op->kind == IO_SEND || op->kind == IO_CONNECT;
}

static void revoke_op(struct errand *e)
{
    struct io_op *op = io_op_of(e);
    struct ring_state *r = op->home;
    bool own = worker_of(e->fiber)->io == r;
    struct io_uring_sqe *sqe;

    lock_take(&r->sq);
    sqe = take_sqe(r, own);
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data64(sqe, TAG_REVOKE);
    submit_all(r, own); /* K3 */
    lock_drop(&r->sq);
}

/* --------------------------------------------------------------------------------- for the loop */

/* sq held. */
static void count_queued(struct worker *w)
{
    w->io_queued = ring_count_queued(w->io);
    w->io_urgent &= w->io_queued > 0;
}

static void flush_ring(struct worker *w)
{
    struct ring_state *r = w->io;

    lock_take(&r->sq);
    if (!submit(r))
        reap(r, true);
    count_queued(w);
    lock_drop(&r->sq);
}

static bool is_stale(struct ring_state *r)
{
    int64_t since = atomic_load_explicit(&r->queued_since, memory_order_relaxed); /* a hint */

    return ring_queued(r) && coir_now() - since >= STALE_NS;
}

/* A send is over as soon as it is submitted; its fiber need not wait for the next look at I/O. */
static void flush_late(struct worker *w)
{
    if (LIKELY(!is_stale(w->io)))
        return;
    flush_ring(w);
    reap(w->io, true);
}

/* Submits for a worker that does not come to it. */
static void flush_stale(struct ring_state *r)
{
    if (!is_stale(r) || !lock_try(&r->sq))
        return;
    submit(r);
    lock_drop(&r->sq);
}

/* Own ring first. A worker that always has others to run may not come to flush it. */
static bool poll_rings(struct worker *w)
{
    struct rings *all = w->runtime->io_shared;
    unsigned taken;

    if (UNLIKELY(is_stale(w->io)))
        flush_ring(w);
    taken = reap(w->io, true);
    for (unsigned i = 1; i < all->count && !taken; i++) {
        struct ring_state *r = &all->ring[(w->index + i) % all->count];

        if (atomic_load_explicit(&r->asleep, memory_order_relaxed)) /* a hint */
            continue;
        flush_stale(r);
        taken = reap(r, false);
    }
    return taken > 0;
}

/* ------------------------------------------------------------------------------------- sleeping */

static void kick(struct parker *p)
{
    struct worker *w = CONTAINER_OF(p, struct worker, parker);
    int fd = ((struct ring_state *)w->io)->kick_fd;
    uint64_t one = 1;

    if (write(fd, &one, sizeof one) != sizeof one)
        fatal("the eventfd that wakes a worker cannot be written");
}

/* Submits what is prepared, and waits in the kernel until something lies in the ring. False: the deadline came. */
static bool wait_for_completion(struct ring_state *r, unsigned prepared, int64_t deadline)
{
    int64_t left = deadline - coir_now();
    struct __kernel_timespec ts = {.tv_sec = left / COIR_SEC, .tv_nsec = left % COIR_SEC};
    struct io_uring_getevents_arg arg = {
        .sigmask_sz = _NSIG / 8, .ts = deadline == COIR_NEVER ? 0 : (uint64_t)(uintptr_t)&ts,
    };
    int status;

    if (left <= 0)
        return false;
    status = io_uring_enter2((unsigned)r->uring.ring_fd, prepared, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                             (sigset_t *)(void *)&arg, sizeof arg);
    if (status < 0 && status != -ETIME && !is_for_now(status))
        fatal("waiting in io_uring_enter: %s", strerror(-status)); /* EBADR: completions were lost */
    if (UNLIKELY(status == -EAGAIN || status == -ENOMEM))
        await_memory();
    return status != -ETIME;
}

/* The kernel may take what is prepared; returns how much that is. Who sleeps does not hold sq: others may submit it
 * with a revoke of theirs. */
static unsigned publish(struct worker *w)
{
    struct ring_state *r = w->io;

    lock_take(&r->sq);
    ring_publish(r);
    count_queued(w);
    lock_drop(&r->sq);
    return w->io_queued;
}

static void arm_kick(struct worker *w)
{
    struct ring_state *r = w->io;
    struct io_uring_sqe *sqe;

    if (r->kick_armed)
        return;
    lock_take(&r->sq);
    sqe = take_sqe(r, true);
    io_uring_prep_read(sqe, r->kick_fd, &r->kick_value, sizeof r->kick_value, 0);
    io_uring_sqe_set_data64(sqe, TAG_KICK);
    r->kick_armed = true;
    submit(r); /* if not now, then with the sleep */
    lock_drop(&r->sq);
}

/* The waker has taken us off the list: its kick is here, or about to be. */
static void take_kick(struct worker *w)
{
    struct ring_state *r = w->io;

    while (r->kick_armed) {
        lock_take(&r->cq);
        reap_locked(r, true);
        lock_drop(&r->cq);
        if (r->kick_armed)
            wait_for_completion(r, publish(w), COIR_NEVER);
    }
}

static void set_asleep(struct ring_state *r, bool asleep)
{
    atomic_store_explicit(&r->asleep, asleep, memory_order_relaxed); /* a hint */
}

static bool sleep_in_ring(struct worker *w, int64_t deadline)
{
    struct park *park = &w->runtime->park;
    struct ring_state *r = w->io;
    bool away, woken;

    if (tally_read(&r->armed) == tally_read(&r->completed) && !ring_queued(r)) /* K2: nothing in it */
        return park_sleep(park, &w->parker, deadline);
    arm_kick(w);
    set_asleep(r, true);
    away = parker_go_away(&w->parker);
    while (away && !parker_woken(&w->parker) && !ring_has_completions(r, false) &&
           wait_for_completion(r, publish(w), deadline))
        ;
    set_asleep(r, false);
    publish(w); /* counts what the kernel has not taken */
    woken = park_retract(park, &w->parker);
    if (away && woken)
        take_kick(w);
    return woken;
}

/* What is prepared names a number, which the next descriptor may have. It is not submitted for its owner: the kernel
 * ties operations to the thread that submits them, and cancels them when that ends. */
static bool end_all_in(struct ring_state *r, int fd)
{
    struct io_uring_sync_cancel_reg all = {
        .fd = fd, .flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL, .timeout = {0, 100 * COIR_MS}};
    struct io_uring_sq *sq = &r->uring.sq;
    int status;

    lock_take(&r->sq);
    for (unsigned at = io_uring_smp_load_acquire(sq->khead); at != sq->sqe_tail; at++)
        if (sq->sqes[at & sq->ring_mask].fd == fd)
            sq->sqes[at & sq->ring_mask].fd = -1;
    lock_drop(&r->sq);
    status = io_uring_register_sync_cancel(&r->uring, &all); /* as long as it takes to look at all that waits there */
    return status >= 0 || status == -ENOENT;
}

bool io_uring_end_all(int fd)
{
    bool ended = true;

    if (!io_waits(fd))
        return true;
    lock_take(&all_lock);
    for (struct rings *rs = all_rings; rs; rs = rs->next)
        for (unsigned i = 0; i < rs->count; i++)
            ended &= end_all_in(&rs->ring[i], fd);
    lock_drop(&all_lock);
    return ended;
}

/* ------------------------------------------------------------------------------- open and close */

static int open_ring(struct ring_state *r)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        .cq_entries = CQ_ENTRIES,
    };
    int status;

    r->kick_fd = eventfd(0, EFD_CLOEXEC);
    if (r->kick_fd < 0)
        return -errno;
    status = io_uring_queue_init_params(SQ_ENTRIES, &r->uring, &params);
    if (status == 0 && !io_uring_is_good_enough(&r->uring)) {
        io_uring_queue_exit(&r->uring);
        status = COIR_ENOSYS;
    }
    if (status != 0)
        close(r->kick_fd);
    return status;
}

static void close_rings(struct coir_runtime *rt)
{
    struct rings *all = rt->io_shared, **at = &all_rings;

    lock_take(&all_lock);
    while (*at && *at != all)
        at = &(*at)->next;
    if (*at)
        *at = all->next;
    lock_drop(&all_lock);
    for (unsigned i = 0; i < all->count; i++) {
        io_uring_queue_exit(&all->ring[i].uring);
        close(all->ring[i].kick_fd);
    }
    mem_free(&rt->host, all);
    rt->io_shared = NULL;
}

static int open_rings(struct coir_runtime *rt)
{
    unsigned n = rt->options.workers;
    struct rings *all = mem_alloc(&rt->host, sizeof *all + n * sizeof *all->ring);

    if (!all)
        return COIR_ENOMEM;
    rt->io_shared = all;
    for (; all->count < n; all->count++) {
        int status = open_ring(&all->ring[all->count]);

        if (status != COIR_OK) {
            host_log(&rt->host, COIR_LOG_INFO, "io_uring is not to be had: %s", strerror(-status));
            close_rings(rt);
            return status == -ENOMEM || status == -EMFILE ? status : COIR_ENOSYS;
        }
    }
    lock_take(&all_lock);
    all->next = all_rings;
    all_rings = all;
    lock_drop(&all_lock);
    return COIR_OK;
}

static void start_worker(struct worker *w)
{
    struct rings *all = w->runtime->io_shared;

    w->io = &all->ring[w->index];
    w->parker.kick = kick;
}

const struct io_backend io_uring_backend = {
    .ops = {.poll = poll_rings, .flush = flush_ring, .flush_late = flush_late, .sleep = sleep_in_ring},
    .kind = COIR_IO_URING,
    .at_once_alone = 1u << IO_SEND,
    .begin = begin_op,
    .revoke = revoke_op,
    .open = open_rings,
    .close = close_rings,
    .worker_start = start_worker,
};
