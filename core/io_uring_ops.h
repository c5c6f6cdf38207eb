/* SPDX-License-Identifier: MIT */
/*
 * io_uring_ops.h - what each operation is to the kernel, and whether a kernel has all that is needed.
 */
#ifndef COIR_IO_URING_OPS_H
#define COIR_IO_URING_OPS_H

#include <liburing.h>

#include "io.h"

static inline void io_uring_prepare(struct io_uring_sqe *sqe, const struct io_op *op)
{
    switch (op->kind) {
    case IO_RECV:
        io_uring_prep_recv(sqe, op->fd, op->in, op->bytes, 0);
        break;
    case IO_SEND:
        io_uring_prep_send(sqe, op->fd, op->out, op->bytes, MSG_NOSIGNAL);
        break;
    case IO_ACCEPT:
        io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case IO_CONNECT:
        io_uring_prep_connect(sqe, op->fd, op->address, (socklen_t)op->bytes);
        break;
    }
}

/* What every operation here needs. A kernel that has zero-copy sends (6.0) also waits on
 * descriptors that are non-blocking, instead of giving up on them. */
static inline bool io_uring_is_good_enough(struct io_uring *uring)
{
    static const int needed[] = {IORING_OP_RECV,   IORING_OP_SEND,         IORING_OP_ACCEPT,
                                 IORING_OP_CONNECT, IORING_OP_ASYNC_CANCEL, IORING_OP_READ,
                                 IORING_OP_SEND_ZC};
    const unsigned features = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;
    struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
    bool good = probe && (uring->features & features) == features;

    for (size_t i = 0; good && i < sizeof needed / sizeof *needed; i++)
        good = io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return good;
}

#endif
