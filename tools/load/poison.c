/* SPDX-License-Identifier: MIT */
/*
 * poison.c - requests that are to break their handler, and what the server makes of them.
 *
 * They are sent with blocking calls, by threads and over connections that do nothing else: they
 * are never in the way of a measured request. One is contained when the server answers it by an
 * error and closes its connection, and does nothing else.
 */
#include "load.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether the server answers by one error and closes. */
static bool contained(int fd)
{
    int64_t deadline = load_now() + BLOCKED_PATIENCE;
    char reply[4096];
    size_t length = 0;

    while (length < sizeof reply && load_now() < deadline) {
        ssize_t n = recv(fd, reply + length, sizeof reply - length, 0);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return length && reply[0] == '-' && resp_reply(reply, length) == (int64_t)length;
        if (n < 0)
            return false;
        length += (size_t)n;
    }
    return false;
}

/* Sends one poisoned request and books what becomes of it. */
static void poison(struct load *l, int fd)
{
    const struct resp_request *request = &l->poison;

    if (send(fd, request->text, request->length, MSG_NOSIGNAL) != (ssize_t)request->length)
        return; /* the server had closed before: nothing was poisoned */
    load_count(&l->tally, COUNT_POISON_SENT, 1);
    load_count(&l->tally, contained(fd) ? COUNT_POISON_CONTAINED : COUNT_POISON_UNCONTAINED, 1);
}

void close_hard(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

/* Waits for the next time in the schedule that the poisoners share. Returns false at the end. */
static bool next_poison(struct load *load)
{
    uint64_t n =
        atomic_fetch_add_explicit(&load->poison_next, 1, memory_order_relaxed); /* ticket */
    int64_t due = load_due(load->clock.start, n, load->options.poison);

    return due < load->clock.end && load_sleep_until(&load->clock, due) &&
           load_now() < load->clock.end;
}

void *poisoner_run(void *load)
{
    struct load *l = load;
    int fd = server_connect(l->server);

    while (next_poison(l)) {
        if (fd < 0)
            fd = server_connect(l->server);
        if (fd < 0)
            continue; /* no server to poison: the measured connections tell */
        poison(l, fd);
        close_hard(fd);
        fd = server_connect(l->server);
    }
    close_hard(fd);
    return NULL;
}
