/* SPDX-License-Identifier: MIT */
/*
 * io.h - how the runtime opens, feeds and closes its I/O; the backends behind it. See io.c.
 */
#ifndef COIR_IO_H
#define COIR_IO_H

#include <sys/socket.h>

#include "errand.h"

/* ------------------------------------------------------------------------------ for the runtime */

/* Chooses the backend that options.io asks for. COIR_OK; COIR_ENOSYS (not to be had); COIR_ENOMEM,
 * COIR_EMFILE. */
int io_open(struct coir_runtime *rt);
void io_close(struct coir_runtime *rt); /* workers have ended */
void io_forget_all(void); /* as runtime_forget_all */

/* On each worker's own thread, before its first job. What it makes goes with io_close: others may look at it
 * when the thread has ended. */
void io_worker_start(struct worker *w);

/* enum coir_io in use. */
int io_kind(const struct coir_runtime *rt);

/* ---------------------------------------------------------------------------------- operations */

enum io_kind { IO_RECV, IO_SEND, IO_ACCEPT, IO_CONNECT };

/* One operation on a descriptor. Lives in the frame of the fiber that waits for it. */
struct io_op {
    struct errand errand;
    enum io_kind kind;
    int fd;
    union {
        void *in;                       /* RECV */
        const void *out;                /* SEND */
        const struct sockaddr *address; /* CONNECT */
    };
    size_t bytes;   /* of what is above; at most IO_BYTES_MAX */
    uint64_t closes; /* io_closes, since when the number must not have been closed */
    int64_t result; /* when it is over: 0 or more (ACCEPT: the connection), or -errno */
    void *home;     /* where the backend keeps it meanwhile */
    struct io_op *next; /* behind it there */
};

#define IO_BYTES_MAX ((size_t)1 << 30)

/* Does the operation for the calling fiber. Returns op->result, or COIR_ETIMEDOUT, COIR_ECANCELED,
 * COIR_ENOMEM (then it was not done). */
int64_t io_do(struct fiber *self, struct io_op *op, int64_t deadline);

/* Tries the operation without waiting: its result, or -EAGAIN. */
int64_t io_attempt(const struct io_op *op);

/* Ends operations that wait for fd, and closes it. Any thread. */
int io_close_fd(int fd);

/* CLOSED, in io.c. What was closed last, of those numbers that share fd's place: for a call that begins. */
uint64_t io_closes(int fd);

/* Whether its number was closed since. */
bool io_was_closed(const struct io_op *op);

/* For a backend whose operations are not found by their number: counts it as waiting, unless its number was closed. */
bool io_waits_begin(const struct io_op *op);
void io_waits_end(const struct io_op *op);
bool io_waits(int fd); /* some may: for a close that has been said */

/* ------------------------------------------------------------------------------------- backends */

struct io_backend {
    struct io_ops ops; /* what the worker's loop calls */
    enum coir_io kind;
    unsigned at_once;  /* bit 1 << enum io_kind: attempted before the fiber parks */
    unsigned at_once_alone; /* likewise, unless others are ready to run here meanwhile */
    /* Whether such an attempt may find something; NULL: always. */
    bool (*promises)(const struct coir_runtime *rt, const struct io_op *op);
    void (*begin)(struct errand *e);  /* as in struct errand, for the errand of a struct io_op */
    void (*revoke)(struct errand *e);

    int (*open)(struct coir_runtime *rt); /* sets rt->io_shared; status as io_open */
    void (*close)(struct coir_runtime *rt);
    void (*worker_start)(struct worker *w);
};

extern const struct io_backend io_uring_backend; /* io_uring.c, or io_uring_none.c */
extern const struct io_backend io_epoll_backend;

/* Ends what waits for fd, or is prepared for it, in any ring of the process, with an error. False: the kernel has
 * refused. */
bool io_uring_end_all(int fd);

/* Ends, as COIR_ECANCELED, what waits for fd in any epoll backend of the process, and closes fd. */
int io_epoll_close_fd(int fd);

void io_uring_forget_all(void);
void io_epoll_forget_all(void);

static inline struct io_op *io_op_of(struct errand *e)
{
    return CONTAINER_OF(e, struct io_op, errand);
}

#endif
