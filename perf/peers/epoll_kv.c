/* SPDX-License-Identifier: MIT */
/*
 * epoll_kv.c - a raw epoll loop: coir-kv's protocol and store (tools/kv) without fibers, jobs, or
 * containment. A floor for the rows of servers: what one thread needs that does nothing else.
 *
 *   epoll_kv [--poll] --port N
 *
 * At its best: level-triggered, one receive and one send for an event, no memory of its own for a
 * connection whose requests arrive whole. It knows GET, SET and PING, and takes for granted that its
 * peers read what they asked for: who does not loses the connection.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../tools/kv/kv.h"

#define READ_BYTES (64u << 10)
#define EVENTS 256

struct peer {
    struct request request; /* first: request.more is given it */
    int socket;
};

/* ------------------------------------------------------------------------------------- requests */

static void reply_value(void *out, struct bytes value, int64_t expires)
{
    (void)expires;
    reply_bulk(out, value);
}

static void run(const struct request *r, struct buffer *out)
{
    struct bytes name = r->count ? request_argument(r, 0) : (struct bytes){"", 0};
    bool done;

    if (r->count == 2 && bytes_are(name, "get")) {
        if (!store_read(request_argument(r, 1), reply_value, out))
            reply_text(out, "$-1\r\n");
    } else if (r->count == 3 && bytes_are(name, "set")) {
        const char *error = store_set(request_argument(r, 1), request_argument(r, 2), STORE_KEEPS,
                                      STORE_ALWAYS, &done);

        if (error)
            reply_error(out, "ERR %s", error);
        else
            reply_text(out, "+OK\r\n");
    } else if (bytes_are(name, "ping")) {
        reply_text(out, "+PONG\r\n");
    } else {
        reply_error(out, "ERR unknown command");
    }
}

/* Bytes come by events, not when they are asked for. */
static bool no_more(struct request *r)
{
    (void)r;
    return false;
}

/* Answers what is whole; what is not is read again from its beginning when more has come. */
static bool answer(struct request *r, struct buffer *out)
{
    while (request_read(r))
        run(r, out);
    r->at = 0;
    return !r->error[0];
}

/* ----------------------------------------------------------------------------------- connections */

static struct buffer shared_in, shared_out;

/* Half a request stays with its connection; without one the buffer goes back. */
static bool keep_rest(struct request *r)
{
    struct bytes rest = {r->in.data + r->begin, r->in.used - r->begin};
    struct buffer own = {0};

    if (rest.length > 0)
        buffer_append(&own, rest);
    if (r->in.data != shared_in.data)
        buffer_free(&r->in);
    r->in = own;
    r->begin = 0;
    return !own.failed;
}

static bool serve(struct peer *p)
{
    struct buffer *in = &p->request.in;
    ssize_t got;

    if (!in->data)
        *in = shared_in;
    else if (!buffer_reserve(in, READ_BYTES))
        return false;
    got = recv(p->socket, in->data + in->used, in->room - in->used, MSG_DONTWAIT);
    if (got > 0)
        in->used += (size_t)got;
    shared_out.used = 0;
    if (!answer(&p->request, &shared_out) || !keep_rest(&p->request) || shared_out.failed)
        return false;
    if (got < 0)
        return errno == EAGAIN;
    return got > 0 && (shared_out.used == 0 || send(p->socket, shared_out.data, shared_out.used,
                                                    MSG_NOSIGNAL) == (ssize_t)shared_out.used);
}

static void part(struct peer *p)
{
    close(p->socket);
    if (p->request.in.data == shared_in.data)
        p->request.in = (struct buffer){0};
    request_free(&p->request);
    free(p);
}

static void welcome(int epoll, int listener)
{
    int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct peer *p = socket < 0 ? NULL : calloc(1, sizeof *p);

    if (!p)
        err(1, "accept");
    p->socket = socket;
    p->request.more = no_more;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = p}) != 0)
        err(1, "epoll_ctl");
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0)
        err(1, "port %u", port);
    return listener;
}

int main(int count, char **words)
{
    struct epoll_event event[EVENTS] = {{.events = EPOLLIN}};
    struct rlimit files;
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener;
    bool poll = count == 4 && strcmp(words[1], "--poll") == 0; /* it never sleeps */

    if (count != 3 + poll || strcmp(words[1 + poll], "--port") != 0)
        errx(2, "usage: epoll_kv [--poll] --port N");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){files.rlim_max, files.rlim_max});
    if (store_open() || !buffer_reserve(&shared_in, READ_BYTES))
        errx(1, "no memory");
    listener = listen_on((uint16_t)atoi(words[2 + poll]));
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, event) != 0)
        err(1, "epoll");
    for (;;) {
        int n = epoll_wait(epoll, event, EVENTS, poll ? 0 : -1);

        for (int i = 0; i < n; i++)
            if (!event[i].data.ptr)
                welcome(epoll, listener);
            else if (!serve(event[i].data.ptr))
                part(event[i].data.ptr);
    }
}
