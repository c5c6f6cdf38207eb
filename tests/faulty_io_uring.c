/* SPDX-License-Identifier: MIT */
/*
 * faulty_io_uring.c - the calls of liburing among those of faulty.h, and the operations in its rings.
 */
#include "faulty_wrap.h"

#include <errno.h>
#include <liburing.h>
#include <unistd.h>

#include "check.h"
#include "io.h"

#define REFUSED (-errno)

WRAP(int, io_uring_queue_init_params, (unsigned n, struct io_uring *r, struct io_uring_params *p),
     (n, r, p), REFUSED)
WRAP(struct io_uring_probe *, io_uring_get_probe_ring, (struct io_uring *r), (r), NULL)
WRAP(int, io_uring_register_sync_cancel, (struct io_uring *r, struct io_uring_sync_cancel_reg *c), (r, c), REFUSED)
WRAP(int, io_uring_enter2, (unsigned fd, unsigned n, unsigned wait, unsigned flags, sigset_t *s, size_t size),
     (fd, n, wait, flags, s, size), REFUSED)

/* Published by a release, not by liburing: an owner that sleeps may take what others submit. */
int __wrap_io_uring_submit(struct io_uring *r);
int __wrap_io_uring_submit(struct io_uring *r)
{
    CHECK_EQ(r->sq.sqe_head, r->sq.sqe_tail);
    return faulty_fails(FAULTY_io_uring_submit) ? REFUSED : io_uring_submit(r);
}

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *r, struct io_uring_cqe **cqe, unsigned n);

/* An operation may have failed. What it brought must not be lost track of. */
static void spoil(struct io_uring_cqe *cqe)
{
    struct io_op *op = io_uring_cqe_get_data(cqe);

    if (cqe->user_data < 4096 || cqe->res < 0 || !faulty_fails(FAULTY_completion)) /* small ones are no operations */
        return;
    errand_receive(&op->errand);
    if (op->kind == IO_ACCEPT)
        close(cqe->res);
    cqe->res = -ECONNRESET;
}

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *r, struct io_uring_cqe **cqe, unsigned n)
{
    n = io_uring_peek_batch_cqe(r, cqe, n);
    for (unsigned i = 0; i < n; i++)
        spoil(cqe[i]);
    return n;
}
