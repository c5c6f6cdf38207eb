/* SPDX-License-Identifier: MIT */
/*
 * conn.c - the measured connections, and the schedule of what they send.
 *
 * Open loop: the n-th request of a run is due at begin + n / rate, whatever the server does. It
 * goes to the connection that has had room longest; when none has room it waits, and its latency
 * counts from when it was due. So a stall of the server delays every request that fell into it
 * in the figures, too (no coordinated omission). A request that was due and never answered, sent
 * or not, counts with the time it had waited when the loader gave up.
 *
 * Closed loop: each connection sends a batch of `pipeline` requests when the last has been
 * answered, as redis-benchmark does; a request is due when it is sent.
 *
 * Invariants
 *   L1  every live connection that may take a request is in the list `ready`; beside them only
 *       lost ones are, which pop_ready leaves out.
 *   L2  loader.in_flight is the sum of in_flight over its connections.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_FIRST 4096        /* bytes of a connection's first receive buffer */
#define READ_FAST (256 * 1024) /* a buffer that is filled in one go grows up to this */
#define EVENTS 256
#define WAIT_MAX (LOAD_SECOND / 10) /* how late an interruption is noticed */

struct pending {
    int64_t due;
    unsigned command; /* in resp_command */
};

struct conn {
    int fd;       /* -1: lost */
    bool ready;   /* in loader.ready */
    bool touched; /* in loader.touched */
    bool blocked; /* waits for EPOLLOUT */
    STAILQ_ENTRY(conn) next_ready;
    SLIST_ENTRY(conn) next_touched;
    struct pending *pending; /* ring of options.pipeline, in the order of sending */
    uint64_t first;          /* index of the oldest */
    uint64_t in_flight;      /* of a lost one: those that stay unanswered */
    char *out;               /* bytes [out_sent, out_length) are to be sent */
    size_t out_sent, out_length, out_size;
    char *in; /* the first in_length bytes are an incomplete reply */
    size_t in_length, in_size;
};

/* ------------------------------------------------------------------------------ connections */

int server_connect(const struct addrinfo *server)
{
    struct timeval patience = {BLOCKED_PATIENCE / LOAD_SECOND, 0};
    int fd = socket(server->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        connect(fd, server->ai_addr, server->ai_addrlen) < 0)
        error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    if (!error)
        return fd;
    close(fd);
    return -error;
}

/* Makes room for `more` bytes behind `length`. */
static void reserve(char **buffer, size_t *size, size_t length, size_t more)
{
    size_t wanted = *size ? *size : READ_FIRST;

    if (*size - length >= more)
        return;
    while (wanted - length < more)
        wanted *= 2;
    *buffer = realloc(*buffer, wanted);
    if (!*buffer)
        load_fail("out of memory for a buffer of %zu bytes", wanted);
    *size = wanted;
}

static void push_ready(struct loader *l, struct conn *c)
{
    if (c->ready)
        return;
    c->ready = true;
    STAILQ_INSERT_TAIL(&l->ready, c, next_ready);
}

/* The live connection that has had room longest; NULL: none has. */
static struct conn *pop_ready(struct loader *l)
{
    struct conn *c;

    while ((c = STAILQ_FIRST(&l->ready))) {
        STAILQ_REMOVE_HEAD(&l->ready, next_ready);
        c->ready = false;
        if (c->fd >= 0)
            break;
    }
    return c;
}

static bool measured(const struct loader *l, int64_t due)
{
    return due >= l->load->clock.start;
}

/* The latencies of what was due in the same part of the time. */
static struct histogram *part_of(struct loader *l, int64_t due)
{
    const struct load_clock *clock = &l->load->clock;
    uint64_t parts = l->load->options.parts;
    uint64_t part = (uint64_t)(due - clock->start) * parts / (uint64_t)(clock->end - clock->start);

    return &l->part[part < parts ? part : parts - 1];
}

/* Books what became of a request, and how long it had waited for that. */
static void book(struct loader *l, enum load_count as, int64_t due, int64_t now)
{
    if (!measured(l, due))
        return;
    load_count(&l->tally, as, 1);
    histogram_add(part_of(l, due), now - due);
}

/* Closes a connection for good; give_up books what was in flight. */
static void lose(struct loader *l, struct conn *c, enum load_count why)
{
    load_count(&l->tally, why, 1);
    l->in_flight -= c->in_flight;
    l->live--;
    close(c->fd);
    c->fd = -1;
}

static void open_one(struct loader *l, struct conn *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    c->pending = calloc(l->load->options.pipeline, sizeof *c->pending);
    c->fd = c->pending ? server_connect(l->load->server) : -ENOMEM;
    if (c->fd < 0)
        load_fail("cannot open all connections: %s", strerror(-c->fd));
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        load_fail("epoll_ctl: %s", strerror(errno));
    l->live++;
    push_ready(l, c);
}

void loader_open(struct loader *l, struct load *load, unsigned index)
{
    const struct load_options *options = &load->options;

    l->load = load;
    l->index = index;
    l->random = (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    l->count = (unsigned)((options->connections + index) / options->threads);
    STAILQ_INIT(&l->ready);
    l->conns = calloc(l->count, sizeof *l->conns);
    l->part = calloc(options->parts, sizeof *l->part);
    if (!l->part)
        load_fail("out of memory");
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!l->conns || l->epoll < 0)
        load_fail("cannot open all connections: %s", strerror(errno));
    for (unsigned i = 0; i < l->count; i++)
        open_one(l, &l->conns[i]);
}

/* ---------------------------------------------------------------------------------- sending */

/* xorshift64*, Vigna 2016. */
static uint64_t draw(struct loader *l, uint64_t below)
{
    l->random ^= l->random >> 12;
    l->random ^= l->random << 25;
    l->random ^= l->random >> 27;
    return (l->random * UINT64_C(0x2545f4914f6cdd1d) >> 16) % below;
}

static unsigned draw_command(struct loader *l)
{
    const struct load_mix *mix = &l->load->options.mix;
    uint64_t at = draw(l, mix->total);
    unsigned command = 0;

    while (at >= mix->weight[command])
        at -= mix->weight[command++];
    return command;
}

/* Appends one request to what the connection is to send. */
static void give(struct loader *l, struct conn *c, int64_t due)
{
    const struct load_options *options = &l->load->options;
    unsigned command = draw_command(l);
    const struct resp_request *request = &l->load->request[command];
    char *text;

    reserve(&c->out, &c->out_size, c->out_length, request->length);
    text = c->out + c->out_length;
    memcpy(text, request->text, request->length);
    for (unsigned i = 0; i < request->keys; i++)
        resp_set_key(text + request->key_at[i], draw(l, options->keys));
    c->out_length += request->length;
    c->pending[(c->first + c->in_flight) % options->pipeline] = (struct pending){due, command};
    c->in_flight++;
    l->in_flight++;
    l->issued++;
    if (measured(l, due))
        load_count(&l->tally, COUNT_SENT, 1);
    if (!c->touched) {
        c->touched = true;
        SLIST_INSERT_HEAD(&l->touched, c, next_touched);
    }
}

/* When the loader's next request is due: the threads take turns in the schedule of the run. */
static int64_t next_due(const struct loader *l)
{
    const struct load_options *options = &l->load->options;

    return load_due(l->load->clock.begin, l->issued * options->threads + l->index, options->rate);
}

/* Gives out what is due. What the warm-up left unsent is skipped, or it would be sent first. */
static void issue_open(struct loader *l, int64_t now)
{
    struct conn *c;
    int64_t due;

    while (measured(l, now) && !measured(l, next_due(l)))
        l->issued++;
    while ((due = next_due(l)) <= now && due < l->end && (c = pop_ready(l))) {
        give(l, c, due);
        if (measured(l, due))
            histogram_add(&l->lag, now - due);
        if (c->in_flight < l->load->options.pipeline)
            push_ready(l, c);
    }
}

static void issue_closed(struct loader *l, int64_t now)
{
    struct conn *c;

    while ((c = pop_ready(l)))
        while (c->in_flight < l->load->options.pipeline)
            give(l, c, now);
}

static void issue(struct loader *l, int64_t now)
{
    if (l->load->options.rate)
        issue_open(l, now);
    else if (now < l->end)
        issue_closed(l, now);
}

/* Sends what the socket takes, and asks for EPOLLOUT while something is left. */
static void flush(struct loader *l, struct conn *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    bool blocked = false;

    while (c->out_sent < c->out_length && !blocked) {
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);

        if (n >= 0)
            c->out_sent += (size_t)n;
        else if (errno == EAGAIN)
            blocked = true;
        else if (errno != EINTR) {
            lose(l, c, COUNT_LOST);
            return;
        }
    }
    if (!blocked)
        c->out_sent = c->out_length = 0;
    if (blocked == c->blocked)
        return;
    c->blocked = blocked;
    if (blocked)
        event.events |= EPOLLOUT;
    if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &event) < 0)
        load_fail("epoll_ctl: %s", strerror(errno));
}

static void flush_touched(struct loader *l)
{
    struct conn *c;

    while ((c = SLIST_FIRST(&l->touched))) {
        SLIST_REMOVE_HEAD(&l->touched, next_touched);
        c->touched = false;
        if (c->fd >= 0 && !c->blocked)
            flush(l, c);
    }
}

/* ---------------------------------------------------------------------------------- replies */

/* Books a reply. Returns false when it is not the reply that is due. */
static bool settle(struct loader *l, struct conn *c, const char *reply, int64_t length, int64_t now)
{
    const struct load_options *options = &l->load->options;
    struct pending done = c->pending[c->first % options->pipeline];
    const struct resp_command *command = &resp_command[done.command];
    const struct resp_request *request = &l->load->request[done.command];

    if (c->in_flight == 0)
        return false;
    if (reply[0] != '-' && (reply[0] != command->reply ||
                            (command->echoes && (size_t)length != request->length - request->last)))
        return false;
    c->first++;
    c->in_flight--;
    l->in_flight--;
    l->last_reply = now;
    book(l, COUNT_ANSWERED, done.due, now);
    if (reply[0] == '-' && measured(l, done.due))
        load_count(&l->tally, COUNT_ERROR_REPLIES, 1);
    if (options->rate || c->in_flight == 0)
        push_ready(l, c);
    return true;
}

/* Books all complete replies of the buffer and keeps the rest. */
static void settle_all(struct loader *l, struct conn *c)
{
    int64_t now = load_now();
    size_t at = 0;

    while (at < c->in_length) {
        int64_t length = resp_reply(c->in + at, c->in_length - at);

        if (length == 0)
            break;
        if (length < 0 || !settle(l, c, c->in + at, length, now)) {
            lose(l, c, COUNT_ERRORS);
            return;
        }
        at += (size_t)length;
    }
    c->in_length -= at;
    memmove(c->in, c->in + at, c->in_length);
}

static void receive(struct loader *l, struct conn *c)
{
    bool filled;
    ssize_t n;

    reserve(&c->in, &c->in_size, c->in_length, 1);
    n = recv(c->fd, c->in + c->in_length, c->in_size - c->in_length, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lose(l, c, COUNT_LOST);
        return;
    }
    c->in_length += (size_t)n;
    filled = c->in_length == c->in_size;
    settle_all(l, c);
    if (filled && c->fd >= 0 && c->in_size < READ_FAST)
        reserve(&c->in, &c->in_size, c->in_length, c->in_size);
}

/* --------------------------------------------------------------------------------- the loop */

/* How long the loop may wait for events. */
static struct timespec patience(const struct loader *l, int64_t now)
{
    int64_t until = now < l->end ? l->end : l->end + DRAIN_PATIENCE;
    int64_t due =
        now < l->end && l->load->options.rate && STAILQ_FIRST(&l->ready) ? next_due(l) : until;
    int64_t wait = (due < until ? due : until) - now;

    if (wait > WAIT_MAX)
        wait = WAIT_MAX;
    if (wait < 0)
        wait = 0;
    return load_timespec(wait);
}

static void handle_events(struct loader *l, int64_t now)
{
    struct epoll_event event[EVENTS];
    struct timespec wait = patience(l, now);
    int n = epoll_pwait2(l->epoll, event, EVENTS, &wait, NULL);

    if (n < 0 && errno != EINTR)
        load_fail("epoll_pwait2 (Linux 5.11 or later is needed): %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct conn *c = event[i].data.ptr;

        if (c->fd >= 0 && event[i].events & EPOLLOUT)
            flush(l, c);
        if (c->fd >= 0 && event[i].events & ~(uint32_t)EPOLLOUT)
            receive(l, c);
    }
}

/* Books what was due and never answered: it has waited until now, at least. */
static void give_up(struct loader *l)
{
    const struct load_options *options = &l->load->options;
    int64_t now = load_now(), due;

    for (struct conn *c = l->conns; c < l->conns + l->count; c++) {
        for (uint64_t k = 0; k < c->in_flight; k++)
            book(l, COUNT_UNANSWERED, c->pending[(c->first + k) % options->pipeline].due, now);
        if (c->fd >= 0 && c->in_flight)
            lose(l, c, COUNT_LOST);
    }
    for (; options->rate && (due = next_due(l)) < l->end; l->issued++) {
        book(l, COUNT_UNSENT, due, now);
        if (measured(l, due))
            histogram_add(&l->lag, now - due);
    }
}

void *loader_run(void *loader)
{
    struct loader *l = loader;
    int64_t now = load_now();
    bool over = false;

    l->end = l->load->clock.end;
    while (l->live && now < l->end + DRAIN_PATIENCE) {
        if (load_stopped(&l->load->clock) && now < l->end)
            l->end = now;
        if (!over)
            issue(l, now); /* once after the end, too, for what became due just before it */
        over = now >= l->end;
        flush_touched(l);
        if (over && l->in_flight == 0)
            break;
        handle_events(l, now);
        now = load_now();
    }
    if (!l->live && now < l->end)
        l->end = now;
    give_up(l);
    return NULL;
}
