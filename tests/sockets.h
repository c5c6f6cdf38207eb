/* SPDX-License-Identifier: MIT */
/*
 * sockets.h - what socket tests share: every case on both backends, connected pairs, knowing that a
 * fiber has parked.
 *
 *     static void case_name(enum coir_io io) { on(io, 2, first_job, NULL); }
 *     ON_BOTH(case_name)
 *     CHECK_MAIN(CASES(case_name), ...)
 */
#ifndef COIR_SOCKETS_H
#define COIR_SOCKETS_H

#include "run.h"

#include <sys/socket.h>

#define ON_BOTH(name)                                                                              \
    static void name##_on_io_uring(void)                                                           \
    {                                                                                              \
        if (have(COIR_IO_URING))                                                                   \
            name(COIR_IO_URING);                                                                   \
    }                                                                                              \
    static void name##_on_epoll(void)                                                              \
    {                                                                                              \
        name(COIR_IO_EPOLL);                                                                       \
    }

#define CASES(name) CASE(name##_on_io_uring), CASE(name##_on_epoll)

/* Opens a runtime with a backend; NULL: not to be had here. */
static inline coir_runtime *open_with(enum coir_io io, unsigned workers)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;
    int status;

    o.io = io;
    status = coir_open(&o, &rt);
    CHECK(status == COIR_OK || (io == COIR_IO_URING && status == COIR_ENOSYS));
    return rt;
}

/* Whether this machine has it; said aloud if not. */
static inline int have(enum coir_io io)
{
    coir_runtime *rt = open_with(io, 1);

    if (rt)
        run_close(rt);
    else
        printf("%s: skipped, no io_uring here\n", check_current);
    return rt != NULL;
}

/* Runs fn(arg) as the first job of a runtime with this backend. */
static inline void on(enum coir_io io, unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = run_options(workers);

    o.io = io;
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

/* In a fiber: how many milliseconds from now. */
static inline int64_t in_ms(int64_t ms)
{
    return coir_now() + ms * COIR_MS;
}

/* A connection: what is sent on one end is received on the other. */
struct pair {
    int a, b;
};

static inline struct pair pair_open(void)
{
    int listener = coir_socket_listen(NULL, 0, 0);
    struct pair p;

    CHECK(listener >= 0);
    p.a = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(listener));
    p.b = coir_socket_accept(listener);
    CHECK(p.a >= 0);
    CHECK(p.b >= 0);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
    return p;
}

static inline void pair_close(struct pair p)
{
    CHECK_EQ(coir_socket_close(p.a), COIR_OK);
    CHECK_EQ(coir_socket_close(p.b), COIR_OK);
}

/* Waits until n fibers of the runtime are parked. */
static inline void until_parked(coir_runtime *rt, uint64_t n)
{
    coir_stats stats;

    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    } while (stats.parked < n);
}

/* Receives exactly this many bytes. */
static inline int receive_all(int fd, void *buffer, size_t bytes)
{
    char *at = buffer;

    while (bytes) {
        int64_t n = coir_socket_recv(fd, at, bytes);

        if (n <= 0)
            return 0;
        at += n;
        bytes -= (size_t)n;
    }
    return 1;
}

#endif
