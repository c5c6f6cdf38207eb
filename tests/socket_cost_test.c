/* SPDX-License-Identifier: MIT */
/*
 * socket_cost_test.c - what the kernel is asked for by a server that sleeps between its requests: one entry into the ring,
 * in which it sleeps, and no fence of other threads while no other worker is awake; with epoll few receives in vain.
 */
#include "sockets.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REQUESTS MANY(4000)

static struct {
    _Atomic unsigned entries, fences, receives;
    int served;
} cost;

/* Weak: a build without liburing has none. */
struct io_uring;
__attribute__((weak)) int io_uring_submit(struct io_uring *ring);
__attribute__((weak)) int io_uring_enter2(unsigned fd, unsigned n, unsigned wait, unsigned flags, sigset_t *set, size_t size);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_enter2(unsigned fd, unsigned n, unsigned wait, unsigned flags, sigset_t *set, size_t size);
long __wrap_syscall(long number, ...);

static void count(_Atomic unsigned *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    count(&cost.entries);
    return io_uring_submit(ring);
}

int __wrap_io_uring_enter2(unsigned fd, unsigned n, unsigned wait, unsigned flags, sigset_t *set, size_t size)
{
    count(&cost.entries);
    return io_uring_enter2(fd, n, wait, flags, set, size);
}

/* As libc's, it takes six arguments, however many there are. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list rest;

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_membarrier)
        count(&cost.fences);
    if (number == SYS_recvfrom)
        count(&cost.receives);
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void echo(void *arg)
{
    char word;

    (void)arg;
    while (coir_socket_recv(cost.served, &word, 1) == 1)
        CHECK_EQ(coir_socket_send(cost.served, &word, 1), 1);
}

static void ask(int fd, int times)
{
    char word = 'x';

    for (int i = 0; i < times; i++) {
        CHECK_EQ(write(fd, &word, 1), 1);
        CHECK_EQ(read(fd, &word, 1), 1);
    }
}

/* Asks from a plain thread; the server has rested before each request, or nearly. */
static void serve(enum coir_io io, unsigned workers)
{
    coir_options o = run_options(workers);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = NULL;
    int end[2];

    o.io = io;
    o.spin_ns = -1;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end), 0);
    cost.served = end[1];
    CHECK_EQ(coir_submit(rt, &c, echo, NULL), COIR_OK);
    ask(end[0], REQUESTS / 10);
    cost.entries = cost.fences = cost.receives = 0;
    ask(end[0], REQUESTS);
    printf("%s: %u entries, %u fences, %u receives for %d requests\n", check_current, cost.entries, cost.fences,
           cost.receives, REQUESTS);
    CHECK(cost.entries <= REQUESTS + REQUESTS / 4);
    CHECK(cost.receives <= (io == COIR_IO_EPOLL ? REQUESTS + REQUESTS / 4 : 0));
    CHECK(cost.fences <= (workers == 1 ? 0 : REQUESTS / 4)); /* the other worker looks in now and then */
    CHECK_EQ(shutdown(end[0], SHUT_WR), 0);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    close(end[0]);
    close(end[1]);
}

static void a_request_enters_the_kernel_once(enum coir_io io)
{
    serve(io, 1);
    serve(io, 2);
}
ON_BOTH(a_request_enters_the_kernel_once)

CHECK_MAIN(CASES(a_request_enters_the_kernel_once))
