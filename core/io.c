/* SPDX-License-Identifier: MIT */
/*
 * io.c - the choice of a backend, and what is the same for all of them.
 *
 * An operation is an errand (errand.c): io_uring hands it to the kernel, epoll keeps it in a slot
 * and attempts it whenever the descriptor may be ready. Either way its result is final when the
 * fiber resumes. Some kinds are attempted before the fiber parks, as the backend says: a send
 * nearly always finds room. A receive after a reply nearly never finds anything, so io_uring parks
 * at once, and epoll mostly; and io_uring's sends are attempted only if no other fiber is ready, for it takes less if
 * several go to the kernel together.
 *
 * A receive that need not park lets others that are runnable go first, now and then: a peer that
 * sends without pause must not keep its worker to itself.
 */
#include "io.h"

#include <errno.h>
#include <string.h>

static const struct io_backend *backend_of(const struct coir_runtime *rt)
{
    return CONTAINER_OF(rt->io, const struct io_backend, ops);
}

/* -------------------------------------------------------------------------- numbers that are closed */

/*
 * CLOSED. A call that waits may find its descriptor closed, and its number another's. So a close says so first, and a call
 * that began before asks again before it goes on.
 *
 *   close                              operation
 *   1 say it                           1 be counted (io_uring), or lock the number's slot (epoll)
 *   2 look at the count, or the slot   2 ask: closed, so take it back
 *
 * Where no lock orders them (a count; a page of slots that is not made yet) both steps are seq_cst, so one sees the other.
 * Numbers share places. A close of another one there hides one, and is never taken for it.
 */
#define PLACES 65536

static _Atomic uint64_t closed[PLACES]; /* the number in the upper half; the lower one is never the same twice in a row */
static _Atomic uint32_t waits[PLACES];  /* operations */

static unsigned place_of(int fd)
{
    return (unsigned)fd % PLACES;
}

uint64_t io_closes(int fd)
{
    return atomic_load_explicit(&closed[place_of(fd)], memory_order_relaxed); /* at its start: who closes later says it later */
}

bool io_was_closed(const struct io_op *op)
{
    uint64_t last = atomic_load_explicit(&closed[place_of(op->fd)], memory_order_seq_cst); /* CLOSED */

    return last != op->closes && last >> 32 == (uint64_t)op->fd;
}

static void say_closed(int fd)
{
    static _Atomic uint32_t closes;
    uint64_t nth = atomic_fetch_add_explicit(&closes, 1, memory_order_relaxed); /* only to differ */

    atomic_store_explicit(&closed[place_of(fd)], (uint64_t)fd << 32 | nth, memory_order_seq_cst); /* CLOSED */
}

bool io_waits_begin(const struct io_op *op)
{
    atomic_fetch_add_explicit(&waits[place_of(op->fd)], 1, memory_order_seq_cst); /* CLOSED */
    if (LIKELY(!io_was_closed(op)))
        return true;
    io_waits_end(op);
    return false;
}

void io_waits_end(const struct io_op *op)
{
    atomic_fetch_sub_explicit(&waits[place_of(op->fd)], 1, memory_order_relaxed); /* a count */
}

bool io_waits(int fd)
{
    return atomic_load_explicit(&waits[place_of(fd)], memory_order_seq_cst) > 0; /* CLOSED */
}

/* ------------------------------------------------------------------------------ open and close */

static int open_backend(struct coir_runtime *rt, const struct io_backend *b)
{
    int status = b->open(rt);

    if (status == COIR_OK)
        rt->io = &b->ops;
    return status;
}

int io_open(struct coir_runtime *rt)
{
    int status = COIR_ENOSYS;

    if (rt->options.io != COIR_IO_EPOLL)
        status = open_backend(rt, &io_uring_backend);
    if (status == COIR_OK || rt->options.io == COIR_IO_URING)
        return status;
    if (rt->options.io == COIR_IO_AUTO)
        host_log(&rt->host, COIR_LOG_INFO, "I/O uses epoll");
    return open_backend(rt, &io_epoll_backend);
}

void io_forget_all(void)
{
    memset((void *)waits, 0, sizeof waits);
    io_uring_forget_all();
    io_epoll_forget_all();
}

void io_close(struct coir_runtime *rt)
{
    backend_of(rt)->close(rt);
    rt->io = NULL;
}

void io_worker_start(struct worker *w)
{
    backend_of(w->runtime)->worker_start(w);
}

int io_kind(const struct coir_runtime *rt)
{
    return (int)backend_of(rt)->kind;
}

/* ---------------------------------------------------------------------------------- operations */

static int64_t attempt_connect(const struct io_op *op)
{
    if (connect(op->fd, op->address, (socklen_t)op->bytes) == 0 || errno == EISCONN)
        return 0;
    return errno == EINPROGRESS || errno == EALREADY ? -EAGAIN : -errno;
}

/* Not inlined: errno's address must not be kept across a suspend. Not libc's send and recv: they
 * use the frame pointer as a scratch register, and profiles of a server would end there. */
NOINLINE int64_t io_attempt(const struct io_op *op)
{
    int64_t result = 0;

    do {
        switch (op->kind) {
        case IO_RECV:
            result = syscall(SYS_recvfrom, op->fd, op->in, op->bytes, MSG_DONTWAIT, NULL, NULL);
            break;
        case IO_SEND:
            result = syscall(SYS_sendto, op->fd, op->out, op->bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
                             NULL, 0);
            break;
        case IO_ACCEPT:
            result = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            break;
        case IO_CONNECT:
            return attempt_connect(op);
        }
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

/* The fiber had no reason to park: others may go first. */
static void be_fair(struct fiber *self)
{
    if (worker_others_wait(worker_of(self)))
        worker_yield(worker_of(self));
}

/* Others that are ready may have some of the kind, too; but not where it would wait for long turns of theirs. */
static bool is_attempted(const struct io_backend *b, const struct io_op *op, struct fiber *self)
{
    struct worker *w = worker_of(self);
    unsigned kind = 1u << op->kind;

    if (b->at_once & kind)
        return !b->promises || b->promises(w->runtime, op);
    return b->at_once_alone & kind && (!w->brisk || ring_empty(&w->ring));
}

/* There is no stack to park on. */
static COLD int64_t attempt_instead(const struct io_backend *b, const struct io_op *op)
{
    int64_t result = (b->at_once | b->at_once_alone) & 1u << op->kind ? io_attempt(op) : -EAGAIN;

    return result == -EAGAIN ? COIR_ENOMEM : result;
}

int64_t io_do(struct fiber *self, struct io_op *op, int64_t deadline)
{
    static const char *const what[] = {"recv", "send", "accept", "connect"};
    const struct io_backend *b = backend_of(self->runtime);
    int status;

    if (UNLIKELY(io_was_closed(op)))
        return COIR_EBADF;
    worker_of(self)->io_used = true;
    if (is_attempted(b, op, self)) {
        int64_t result = io_attempt(op);

        if (result != -EAGAIN) {
            if (op->kind == IO_RECV)
                be_fair(self);
            return result;
        }
    }
    op->errand.begin = b->begin;
    op->errand.revoke = b->revoke;
    do /* again, if it ended since the kernel knows no numbers: another one of the same file was closed */
        status = errand_run(self, &op->errand, what[op->kind], deadline);
    while (status == COIR_OK && UNLIKELY(op->result == -ECANCELED) && !io_was_closed(op));
    if (status == COIR_ENOMEM)
        return attempt_instead(b, op);
    if (status != COIR_OK && (op->result == -ECANCELED || op->result == -EINTR))
        return status; /* the revoke came first */
    return op->result;
}

int io_close_fd(int fd)
{
    if (life_is_over()) /* its parent goes on with it, and with all that waits there */
        return close(fd) == 0 ? COIR_OK : COIR_EBADF;
    say_closed(fd);
    /* Others may go on with the socket, such as a process that a listener was handed to. */
    if (!io_uring_end_all(fd))
        shutdown(fd, SHUT_RDWR); /* else who waits in a ring would wait for ever */
    return io_epoll_close_fd(fd);
}
