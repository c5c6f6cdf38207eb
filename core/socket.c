/* SPDX-License-Identifier: MIT */
/*
 * socket.c - the public socket calls: arguments, addresses, and loops over the operations of io.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "io.h"

#define BACKLOG_DEFAULT 1024

/* ------------------------------------------------------------------------------------ addresses */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Reads a numeric address. Returns its size, or 0. */
static socklen_t parse(const char *text, uint16_t port, union address *a)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        return sizeof a->v4;
    }
    if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        return sizeof a->v6;
    }
    return 0;
}

static int open_socket(const union address *a)
{
    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

/* Small messages must not wait for the acknowledgement of earlier ones. A socket that is not TCP
 * has no such delay, and refuses: just as well. */
static void send_at_once(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* --------------------------------------------------------------------------------------- listen */

int coir_socket_listen(const char *address, uint16_t port, int backlog)
{
    union address a;
    socklen_t bytes = parse(address ? address : "127.0.0.1", port, &a);
    int fd, status;

    if (!bytes || backlog < 0)
        return COIR_EINVAL;
    fd = open_socket(&a);
    if (fd < 0)
        return fd;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
        bind(fd, &a.any, bytes) == 0 && listen(fd, backlog ? backlog : BACKLOG_DEFAULT) == 0)
        return fd;
    status = -errno;
    close(fd);
    return status;
}

int coir_socket_port(int socket)
{
    union address a;
    socklen_t bytes = sizeof a;

    if (getsockname(socket, &a.any, &bytes) != 0)
        return -errno;
    if (a.any.sa_family == AF_INET)
        return ntohs(a.v4.sin_port);
    return a.any.sa_family == AF_INET6 ? ntohs(a.v6.sin6_port) : COIR_ENOTSUP;
}

int coir_socket_close(int socket)
{
    return socket < 0 ? COIR_EBADF : io_close_fd(socket);
}

/* --------------------------------------------------------------------------- accept and connect */

int coir_socket_accept_until(int listener, int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct io_op op = {.kind = IO_ACCEPT, .fd = listener, .closes = io_closes(listener)};
    int fd;

    if (!self)
        return status_outside();
    if (listener < 0)
        return COIR_EBADF;
    fd = (int)io_do(self, &op, deadline);
    if (fd >= 0)
        send_at_once(fd);
    return fd;
}

int coir_socket_accept(int listener)
{
    return coir_socket_accept_until(listener, COIR_NEVER);
}

int coir_socket_connect_until(const char *address, uint16_t port, int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct io_op op = {.kind = IO_CONNECT};
    union address a;
    int status;

    if (!self)
        return status_outside();
    if (!address || !(op.bytes = parse(address, port, &a)))
        return COIR_EINVAL;
    op.address = &a.any;
    op.fd = open_socket(&a);
    if (op.fd < 0)
        return op.fd;
    op.closes = io_closes(op.fd);
    send_at_once(op.fd);
    status = (int)io_do(self, &op, deadline);
    if (status == 0)
        return op.fd;
    close(op.fd); /* nobody else knows it, and the operation is over */
    return status;
}

int coir_socket_connect(const char *address, uint16_t port)
{
    return coir_socket_connect_until(address, port, COIR_NEVER);
}

/* ----------------------------------------------------------------------------- receive and send */

static size_t at_most(size_t bytes)
{
    return bytes < IO_BYTES_MAX ? bytes : IO_BYTES_MAX;
}

/* What is wrong with the arguments, or COIR_OK. */
static int check_transfer(const struct fiber *self, int socket, const void *buffer, size_t bytes)
{
    if (!self)
        return status_outside();
    if (socket < 0)
        return COIR_EBADF;
    return bytes && !buffer ? COIR_EINVAL : COIR_OK;
}

int64_t coir_socket_recv_until(int socket, void *buffer, size_t bytes, int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct io_op op = {
        .kind = IO_RECV, .fd = socket, .in = buffer, .bytes = at_most(bytes), .closes = io_closes(socket)};
    int status = check_transfer(self, socket, buffer, bytes);

    return status != COIR_OK || !bytes ? status : io_do(self, &op, deadline);
}

int64_t coir_socket_recv(int socket, void *buffer, size_t bytes)
{
    return coir_socket_recv_until(socket, buffer, bytes, COIR_NEVER);
}

int64_t coir_socket_send_until(int socket, const void *buffer, size_t bytes, int64_t deadline)
{
    struct fiber *self = fiber_self();
    const char *at = buffer;
    size_t left = bytes;
    uint64_t closes = io_closes(socket);
    int64_t result = check_transfer(self, socket, buffer, bytes);

    while (result >= 0 && left) {
        struct io_op op = {.kind = IO_SEND, .fd = socket, .out = at, .bytes = at_most(left), .closes = closes};

        result = io_do(self, &op, deadline);
        if (result > 0) {
            at += result;
            left -= (size_t)result;
        }
    }
    return left < bytes || result >= 0 ? (int64_t)(bytes - left) : result;
}

int64_t coir_socket_send(int socket, const void *buffer, size_t bytes)
{
    return coir_socket_send_until(socket, buffer, bytes, COIR_NEVER);
}
