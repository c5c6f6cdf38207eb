/* SPDX-License-Identifier: MIT */
/*
 * flood.c - a closed loop of pipelined requests that costs its client next to nothing, so that the server
 * is what limits: each connection sends the same GETs in one piece, and again when the replies are here.
 *
 *   flood --port N --connections N --pipeline P --ms MS
 *
 * The keys are set first, so all replies of a connection have a known number of bytes, which are counted;
 * the first are compared. Prints requests per second, measured after a tenth of the time.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define VALUE 64
#define REQUEST_MAX 64
#define REPLY_BYTES (5 + VALUE + 2) /* "$64\r\n", value, "\r\n" */
#define PIPELINE_MAX 1024
#define CONNECTIONS_MAX 1024

struct conn {
    int socket;
    size_t bytes; /* of its requests */
    size_t due;   /* bytes of replies that have not come */
    char requests[PIPELINE_MAX * REQUEST_MAX];
};

static long port, connections = 50, pipeline = 16, ms = 1000;
static struct conn *conn;

static void send_all(const struct conn *c, const char *bytes, size_t n)
{
    if (send(c->socket, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
        peer_fail("the server does not read");
}

static void open_one(struct conn *c)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    c->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->socket, (struct sockaddr *)&at, sizeof at) != 0)
        peer_fail("cannot connect");
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Sets the keys of this connection, and makes its requests. */
static void prepare(struct conn *c, long index)
{
    char text[REQUEST_MAX + 2 * VALUE], reply[8], value[VALUE + 1];

    memset(value, 'v', VALUE);
    value[VALUE] = '\0';
    for (long i = 0; i < pipeline; i++) {
        long key = 100000000 + index * pipeline + i;
        int length = snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$9\r\n%ld\r\n$%d\r\n%s\r\n", key,
                              VALUE, value);

        send_all(c, text, (size_t)length);
        if (recv(c->socket, reply, 5, MSG_WAITALL) != 5 || memcmp(reply, "+OK\r\n", 5) != 0)
            peer_fail("a SET failed");
        c->bytes += (size_t)snprintf(c->requests + c->bytes, sizeof c->requests - c->bytes,
                                     "*2\r\n$3\r\nGET\r\n$9\r\n%ld\r\n", key);
    }
}

static void ask(struct conn *c)
{
    send_all(c, c->requests, c->bytes);
    c->due = (size_t)pipeline * REPLY_BYTES;
}

/* Returns whether a round is complete, and begins the next one. */
static bool hear(struct conn *c)
{
    static char bytes[PIPELINE_MAX * REPLY_BYTES];
    ssize_t got = recv(c->socket, bytes, sizeof bytes, 0);
    bool first = c->due == (size_t)pipeline * REPLY_BYTES;

    if (got <= 0 || (size_t)got > c->due || (first && got >= 6 && memcmp(bytes, "$64\r\nv", 6) != 0))
        peer_fail("a reply is not the value");
    c->due -= (size_t)got;
    if (c->due)
        return false;
    ask(c);
    return true;
}

static uint64_t flood_until(int epoll, int64_t end)
{
    struct epoll_event event[256];
    uint64_t rounds = 0;

    while (peer_now() < end) {
        int n = epoll_wait(epoll, event, 256, 1000);

        if (n <= 0)
            peer_fail("the server is silent");
        for (int i = 0; i < n; i++)
            rounds += hear(event[i].data.ptr);
    }
    return rounds;
}

static void read_options(int count, char **words)
{
    static const struct {
        const char *name;
        long *value, most;
    } known[] = {{"--port", &port, 65535}, {"--connections", &connections, CONNECTIONS_MAX},
                 {"--pipeline", &pipeline, PIPELINE_MAX}, {"--ms", &ms, 1000000}};

    for (int i = 1; i < count; i += 2)
        for (size_t j = 0; j < sizeof known / sizeof known[0]; j++)
            if (strcmp(words[i], known[j].name) == 0 && i + 1 < count)
                *known[j].value = strtol(words[i + 1], NULL, 10);
    for (size_t j = 0; j < sizeof known / sizeof known[0]; j++)
        if (*known[j].value < 1 || *known[j].value > known[j].most)
            peer_fail("usage: flood --port N [--connections N] [--pipeline P] [--ms MS]");
}

int main(int count, char **words)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int64_t start;
    uint64_t rounds;

    read_options(count, words);
    conn = calloc((size_t)connections, sizeof *conn);
    if (!conn || epoll < 0)
        peer_fail("no memory");
    for (long i = 0; i < connections; i++) {
        open_one(&conn[i]);
        prepare(&conn[i], i);
        epoll_ctl(epoll, EPOLL_CTL_ADD, conn[i].socket,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = &conn[i]});
        ask(&conn[i]);
    }
    flood_until(epoll, peer_now() + ms * 100000);
    start = peer_now();
    rounds = flood_until(epoll, start + ms * 1000000);
    printf("%.0f\n", (double)rounds * (double)pipeline * 1e9 / (double)(peer_now() - start));
    return 0;
}
