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
static void poison(struct load *l, struct load_poison *p, int fd)
{
    const struct resp_request *request = &p->request;
    bool good;

    if (send(fd, request->text, request->length, MSG_NOSIGNAL) != (ssize_t)request->length)
        return; /* the server had closed before: nothing was poisoned */
    load_count(&l->tally, COUNT_POISON_SENT, 1);
    atomic_fetch_add_explicit(&p->sent, 1, memory_order_relaxed); /* a figure */
    good = contained(fd);
    load_count(&l->tally, good ? COUNT_POISON_CONTAINED : COUNT_POISON_UNCONTAINED, 1);
    atomic_fetch_add_explicit(&p->contained, good, memory_order_relaxed); /* a figure */
}

void close_hard(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

/* Waits for the next time in the schedule that the poisoners share. NULL: the end. */
static struct load_poison *next_poison(struct load *load)
{
    uint64_t n =
        atomic_fetch_add_explicit(&load->poison_next, 1, memory_order_relaxed); /* ticket */
    int64_t due = load_due(load->clock.start, n, load->options.poison);

    if (due >= load->clock.end || !load_sleep_until(&load->clock, due) ||
        load_now() >= load->clock.end)
        return NULL;
    return &load->poison[n % load->options.poisons.count];
}

void *poisoner_run(void *load)
{
    struct load *l = load;
    struct load_poison *next;
    int fd = server_connect(l->server);

    while ((next = next_poison(l))) {
        if (fd < 0)
            fd = server_connect(l->server);
        if (fd < 0)
            continue; /* no server to poison: the measured connections tell */
        poison(l, next, fd);
        close_hard(fd);
        fd = server_connect(l->server);
    }
    close_hard(fd);
    return NULL;
}
