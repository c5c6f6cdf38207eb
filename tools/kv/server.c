/* SPDX-License-Identifier: MIT */
/*
 * server.c - accepts connections, and runs one fiber for each from its first byte to its close.
 *
 * Each fiber is a plain loop: receive, answer all that has arrived, send the replies at once.
 * Blocking calls park the fiber and not its worker, so the loop and the locals of its frame are
 * all the state there is.
 */
#include "kv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define READ_BYTES (16u << 10)     /* of a read buffer, while no request is longer */
#define READ_BYTES_MAX (64u << 10) /* received before some of it is answered: fairness */
#define LINGER COIR_SEC
#define ACCEPT_PAUSE (10 * COIR_MS)
#define SWEEP_PAUSE (100 * COIR_MS)
#define SWEEP_SLOTS 64

struct server server;

/* ------------------------------------------------------------------------------ one connection */

void client_flush(struct client *c, size_t bytes)
{
    struct buffer *out = &c->out;

    if (out->used < bytes && !out->failed)
        return;
    figure_add(&server.commands, c->commands);
    c->commands = 0;
    if (out->used > 0)
        c->ended |= coir_socket_send(c->socket, out->data, out->used) != (int64_t)out->used;
    c->ended |= out->failed;
    buffer_clear(out, FLUSH_BYTES);
    c->reply_at = 0;
}

/*
 * What a request calls when bytes are missing: sends the replies, then receives at least one byte.
 * The buffer grows when it is full of bytes, never on a promise.
 */
static bool client_more(struct request *r)
{
    struct client *c = (struct client *)r;
    struct buffer *in = &r->in;
    size_t room;
    int64_t got;

    client_flush(c, 0);
    if (r->begin == in->used)
        buffer_clear(in, READ_BYTES);
    else if (r->begin > 0)
        memmove(in->data, in->data + r->begin, in->used -= r->begin);
    r->begin = 0;
    if (c->ended || coir_canceled() || !buffer_reserve(in, in->data ? 1 : READ_BYTES))
        return false;
    room = in->room - in->used < READ_BYTES_MAX ? in->room - in->used : READ_BYTES_MAX;
    got = coir_socket_recv(c->socket, in->data + in->used, room);
    if (got > 0)
        in->used += (size_t)got;
    return got > 0;
}

/* The reply that the panic cut short is taken back. The runtime has logged the panic already. */
static void client_panicked(struct client *c, const coir_failure *failure)
{
    if (c->out.used > c->reply_at)
        c->out.used = c->reply_at;
    reply_error(&c->out, "ERR internal: %s", failure->message);
    c->ended = true;
}

/*
 * Closing while unread bytes are here would send a reset, and a reset takes back replies that are
 * still on their way. So the peer is told of the end, and what it goes on sending is read. Not
 * inlined, for the array would be part of every connection's frame.
 */
__attribute__((noinline)) void server_linger(int socket, int64_t deadline)
{
    int64_t limit = REQUEST_BYTES_MAX, got;
    char unread[4096];

    if (shutdown(socket, SHUT_WR) != 0)
        return;
    do
        limit -= got = coir_socket_recv_until(socket, unread, sizeof unread, deadline);
    while (got > 0 && limit > 0);
}

static void close_socket(int socket)
{
    coir_socket_close(socket);
    atomic_fetch_sub_explicit(&server.connections, 1, memory_order_release); /* ROOM: closed */
}

static void client_close(struct client *c)
{
    close_socket(c->socket);
    buffer_free(&c->out);
    request_free(&c->request);
}

/*
 * The job of a connection. Each command runs in a boundary, so that one that panics ends nothing
 * but this; client_close runs when the frame is left, by whatever way.
 */
static void client_serve(void *arg)
{
    struct client c __attribute__((cleanup(client_close))) = {.request = {.more = client_more},
                                                              .socket = (int)(intptr_t)arg};
    coir_failure failure;

    coir_job_name("client");
    /* Replies go out in one piece, so there is nothing to gather. Failing costs latency only. */
    (void)setsockopt(c.socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    while (!c.ended && request_read(&c.request)) {
        c.reply_at = c.out.used;
        if (coir_try(command_run, &c, &failure) == COIR_PANICKED)
            client_panicked(&c, &failure);
        client_flush(&c, FLUSH_BYTES);
    }
    if (c.request.error[0]) {
        reply_error(&c.out, "ERR Protocol error: %s", c.request.error);
        c.ended = true;
    }
    client_flush(&c, 0);
    if (c.ended && !coir_canceled())
        server_linger(c.socket, coir_now() + LINGER);
}

/* ---------------------------------------------------------------------------------- accepting */

int server_accept(int listener)
{
    int socket = coir_socket_accept(listener);

    if (socket >= 0)
        return socket;
    figure_add(&server.accept_errors, 1);
    (void)coir_sleep_until(coir_now() + ACCEPT_PAUSE); /* cut short by a cancel only */
    return -1;
}

static void refuse(int socket)
{
    static const char text[] = "-ERR max number of clients reached\r\n";
    char unread[4096];

    figure_add(&server.refused, 1);
    (void)send(socket, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* a courtesy */
    (void)recv(socket, unread, sizeof unread, MSG_DONTWAIT);                /* see server_linger */
    close_socket(socket);
}

static void admit(int socket)
{
    uint64_t others =
        atomic_fetch_add_explicit(&server.connections, 1, memory_order_acquire); /* ROOM */

    if (others < server.clients_max &&
        coir_spawn(&server.jobs, client_serve, (void *)(intptr_t)socket) == COIR_OK)
        figure_add(&server.accepted, 1);
    else
        refuse(socket);
}

static void sweep(void *unused)
{
    (void)unused;
    coir_job_name("sweep");
    while (coir_sleep_until(coir_now() + SWEEP_PAUSE) == COIR_OK)
        store_sweep(SWEEP_SLOTS, coir_now());
}

static void accept_clients(void *unused)
{
    (void)unused;
    coir_job_name("accept");
    while (!coir_canceled()) {
        int socket = server_accept(server.listener);

        if (socket >= 0)
            admit(socket);
    }
}

int server_start(coir_runtime *runtime)
{
    int status = coir_submit(runtime, &server.jobs, sweep, NULL);

    if (status == COIR_OK && server.metrics_listener >= 0)
        status = coir_submit(runtime, &server.jobs, metrics_serve, NULL);
    return status == COIR_OK ? coir_submit(runtime, &server.jobs, accept_clients, NULL) : status;
}
