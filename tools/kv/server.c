/* SPDX-License-Identifier: MIT */
/*
 * server.c - accepts connections, and runs one fiber for each from its first byte to its close.
 *
 * Owns: the listeners, the slots of the clients, and the boundary that keeps a panic inside the
 * connection that caused it. What a request means is command.c's.
 *
 * Each fiber is a plain loop: receive, answer all that has arrived, send the replies at once.
 * Blocking calls park the fiber and not its worker, so the loop is all the state there is.
 */
#include "server.h"

#include "command.h"
#include "metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define READ_BYTES (16u << 10)     /* of a read buffer, while no request is longer */
#define READ_BYTES_MAX (64u << 10) /* received before some of it is answered: fairness */
#define FLUSH_BYTES (64u << 10)    /* of replies gathered before they are sent */
#define LINGER COIR_SEC            /* how long a closed connection may take its last reply */
#define ACCEPT_PAUSE (10 * COIR_MS)
#define SWEEP_PAUSE (100 * COIR_MS)

/* ------------------------------------------------------------------------------ one connection */

void client_flush(struct client *c)
{
    struct buffer *out = &c->out;

    if (out->used > 0 && !c->lost)
        c->lost = coir_socket_send(c->socket, out->data, out->used) != (int64_t)out->used;
    c->lost |= out->failed;
    c->ended |= c->lost;
    buffer_clear(out, FLUSH_BYTES);
    c->reply_at = 0;
}

void client_flush_if_full(struct client *c)
{
    if (c->out.used >= FLUSH_BYTES || c->out.failed)
        client_flush(c);
}

bool client_is_local(const struct client *c)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    const struct in6_addr *six = &((struct sockaddr_in6 *)&peer)->sin6_addr;

    if (getpeername(c->socket, (struct sockaddr *)&peer, &length) != 0)
        return false;
    if (peer.ss_family == AF_INET)
        return ntohl(((struct sockaddr_in *)&peer)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(six) ||
           (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == IN_LOOPBACKNET);
}

/* Receives at least one byte. The buffer grows when it is full of bytes, never on a promise. */
static bool client_read(struct client *c)
{
    struct buffer *in = &c->in;
    size_t room;
    int64_t got;

    if (c->answered == in->used)
        buffer_clear(in, READ_BYTES);
    else if (c->answered > 0)
        memmove(in->data, in->data + c->answered, in->used -= c->answered);
    c->answered = 0;
    if (!buffer_reserve(in, in->data ? 1 : READ_BYTES))
        return false;
    room = in->room - in->used < READ_BYTES_MAX ? in->room - in->used : READ_BYTES_MAX;
    got = coir_socket_recv(c->socket, in->data + in->used, room);
    if (got <= 0)
        return false;
    in->used += (size_t)got;
    return true;
}

/* Answers the requests that have arrived whole. */
static void client_answer(void *arg)
{
    struct client *c = arg;
    enum parse parse = PARSE_DONE;

    while (!c->ended) {
        parse = request_parse(&c->request, c->in.data + c->answered, c->in.used - c->answered);
        if (parse != PARSE_DONE)
            break;
        c->reply_at = c->out.used;
        c->answered += c->request.at;
        if (c->request.count > 0) {
            c->commands++;
            command_run(c, &c->request);
        }
        client_flush_if_full(c);
    }
    if (parse == PARSE_BROKEN) {
        reply_error(&c->out, "ERR Protocol error: %s", c->request.error);
        c->ended = true;
    }
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
 * Lets the peer take its last reply. Closing while unread bytes are here would send a reset, and
 * a reset takes replies back that are still on their way.
 */
static void client_linger(struct client *c)
{
    int64_t deadline = coir_now() + LINGER;
    int64_t limit = REQUEST_BYTES_MAX, got;

    if (shutdown(c->socket, SHUT_WR) != 0 || !buffer_reserve(&c->in, 1))
        return;
    do {
        got = coir_socket_recv_until(c->socket, c->in.data, c->in.room, deadline);
        limit -= got;
    } while (got > 0 && limit > 0);
}

static void client_close(void *arg)
{
    struct client *c = arg;
    struct server *s = c->server;

    coir_socket_close(c->socket);
    buffer_free(&c->in);
    buffer_free(&c->out);
    request_free(&c->request);
    pthread_mutex_lock(&s->lock);
    *c = (struct client){.server = s, .next_free = s->free, .socket = -1};
    s->free = c;
    s->connections--;
    pthread_mutex_unlock(&s->lock);
}

/* The job of a connection. client_close runs when it ends, however it ends. */
static void client_serve(void *arg)
{
    struct client *c = arg;
    coir_failure failure;

    coir_job_name("client");
    coir_require(coir_defer(client_close, c) == COIR_OK, "the first handlers cannot fail");
    while (!c->ended && !coir_canceled() && client_read(c)) {
        if (coir_try(client_answer, c, &failure) == COIR_PANICKED)
            client_panicked(c, &failure);
        atomic_fetch_add_explicit(&c->server->commands, c->commands,
                                  memory_order_relaxed); /* statistics */
        c->commands = 0;
        client_flush(c);
    }
    if (c->ended && !c->lost)
        client_linger(c);
}

/* ---------------------------------------------------------------------------------- accepting */

/* Takes a free slot; NULL: there is none. */
static struct client *take_slot(struct server *s, int socket)
{
    struct client *c;

    pthread_mutex_lock(&s->lock);
    c = s->free;
    if (c) {
        s->free = c->next_free;
        s->connections++;
        c->socket = socket;
    }
    pthread_mutex_unlock(&s->lock);
    return c;
}

static void refuse(struct server *s, int socket)
{
    static const char text[] = "-ERR max number of clients reached\r\n";

    atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);        /* statistics */
    (void)send(socket, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* a courtesy */
    coir_socket_close(socket);
}

static void admit(struct server *s, int socket)
{
    struct client *c = take_slot(s, socket);

    if (!c) {
        refuse(s, socket);
        return;
    }
    atomic_fetch_add_explicit(&s->accepted, 1, memory_order_relaxed); /* statistics */
    /* Replies go out in one piece, so there is nothing to gather. Failing costs latency only. */
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (coir_spawn(&s->jobs, client_serve, c) != COIR_OK) {
        atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed); /* statistics */
        client_close(c);
    }
}

/* Out of descriptors or memory: those who leave make room, so pause and go on. */
static void accept_clients(void *arg)
{
    struct server *s = arg;

    coir_job_name("accept");
    while (!coir_canceled()) {
        int socket = coir_socket_accept(s->listener);

        if (socket >= 0) {
            admit(s, socket);
        } else {
            atomic_fetch_add_explicit(&s->accept_errors, 1, memory_order_relaxed); /* statistics */
            (void)coir_sleep_until(coir_now() + ACCEPT_PAUSE); /* cut short by a cancel only */
        }
    }
}

static void sweep(void *arg)
{
    struct server *s = arg;

    coir_job_name("sweep");
    while (coir_sleep_until(coir_now() + SWEEP_PAUSE) == COIR_OK)
        store_sweep(s->store);
}

/* ------------------------------------------------------------------------------------- server */

static int listen_on(const char *address, int port, int *listener, uint16_t *bound)
{
    int status = *listener = coir_socket_listen(address, (uint16_t)port, 0);

    if (status >= 0)
        status = coir_socket_port(*listener);
    *bound = (uint16_t)status;
    return status < 0 ? status : COIR_OK;
}

static int open_slots(struct server *s)
{
    s->clients = calloc(s->clients_max, sizeof *s->clients);
    if (!s->clients)
        return COIR_ENOMEM;
    for (unsigned i = s->clients_max; i-- > 0;) {
        s->clients[i] = (struct client){.server = s, .next_free = s->free, .socket = -1};
        s->free = &s->clients[i];
    }
    return COIR_OK;
}

int server_open(struct server *s, const struct server_options *o, const char **what)
{
    int status;

    *s = (struct server){.listener = -1, .metrics_listener = -1, .clients_max = o->clients_max};
    coir_counter_init(&s->jobs);
    pthread_mutex_init(&s->lock, NULL);
    s->started = coir_now();
    *what = "memory";
    s->store = store_open();
    status = s->store ? open_slots(s) : COIR_ENOMEM;
    if (status == COIR_OK) {
        *what = "--port";
        status = listen_on(o->address, o->port, &s->listener, &s->port);
    }
    if (status == COIR_OK && o->metrics_port >= 0) {
        *what = "--metrics-port";
        status = listen_on(o->address, o->metrics_port, &s->metrics_listener, &s->metrics_port);
    }
    if (status != COIR_OK)
        server_close(s);
    return status;
}

int server_start(struct server *s, coir_runtime *runtime)
{
    int status = coir_submit(runtime, &s->jobs, sweep, s);

    if (status == COIR_OK && s->metrics_listener >= 0)
        status = coir_submit(runtime, &s->jobs, metrics_serve, s);
    if (status == COIR_OK)
        status = coir_submit(runtime, &s->jobs, accept_clients, s);
    return status;
}

int server_stop(struct server *s, int64_t deadline)
{
    coir_counter_cancel(&s->jobs);
    return coir_wait_until(&s->jobs, deadline);
}

void server_close(struct server *s)
{
    /* A job that was canceled before it ran has left its socket in its slot. */
    for (unsigned i = 0; s->clients && i < s->clients_max; i++)
        if (s->clients[i].socket >= 0)
            coir_socket_close(s->clients[i].socket);
    if (s->listener >= 0)
        coir_socket_close(s->listener);
    if (s->metrics_listener >= 0)
        coir_socket_close(s->metrics_listener);
    if (s->store)
        store_close(s->store);
    free(s->clients);
    pthread_mutex_destroy(&s->lock);
}

unsigned server_connections(struct server *s)
{
    unsigned connections;

    pthread_mutex_lock(&s->lock);
    connections = s->connections;
    pthread_mutex_unlock(&s->lock);
    return connections;
}
