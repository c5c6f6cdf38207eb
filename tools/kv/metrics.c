/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - the figures over HTTP/1.1, for Prometheus, and the map of failure domains, for people.
 *
 * Every exchange is a job with a deadline: a scraper that hangs, or a panic in here, costs one
 * answer. Their number is the limit of a domain, and beyond it connections wait in the backlog.
 * They never wait for those who are slow: a probe that is kept out would have the process restarted.
 */
#include "kv.h"

#include <pthread.h>
#include <sys/socket.h>

#define EXCHANGE (2 * COIR_SEC) /* from accept to the last byte */
#define HEAD_BYTES_MAX 4096     /* of a request */

/*
 * The sockets of exchanges that wait for their peer, the oldest wait first; each is open while it is in here.
 * Other exchanges end by themselves, so with fewer than METRICS_EXCHANGES here there is always a place to come.
 */
static struct {
    pthread_mutex_t lock; /* held for a few lines */
    int socket[METRICS_EXCHANGES];
    size_t count;
} waiting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void remove_waiting(size_t i)
{
    waiting.count--;
    memmove(waiting.socket + i, waiting.socket + i + 1, (waiting.count - i) * sizeof(int));
}

/* Ends the oldest wait if there is one too many. */
static void wait_begins(int socket)
{
    pthread_mutex_lock(&waiting.lock);
    waiting.socket[waiting.count++] = socket;
    if (waiting.count == METRICS_EXCHANGES) {
        (void)shutdown(waiting.socket[0], SHUT_RD); /* what has arrived is answered still */
        remove_waiting(0);
    }
    pthread_mutex_unlock(&waiting.lock);
}

static void wait_ends(int socket)
{
    pthread_mutex_lock(&waiting.lock);
    for (size_t i = 0; i < waiting.count; i++)
        if (waiting.socket[i] == socket)
            remove_waiting(i);
    pthread_mutex_unlock(&waiting.lock);
}

/* Receives the head of a request, up to its empty line. Returns false if there was none in time. */
static bool read_head(int socket, char head[HEAD_BYTES_MAX], int64_t deadline)
{
    size_t used = 0;

    do {
        int64_t got =
            coir_socket_recv_until(socket, head + used, HEAD_BYTES_MAX - 1 - used, deadline);

        if (got <= 0)
            return false;
        for (; got > 0; got--, used++)
            head[used] = head[used] ? head[used] : '?'; /* which ends the text no more, and is in no name */
        head[used] = '\0';
    } while (!strstr(head, "\r\n\r\n") && used < HEAD_BYTES_MAX - 1);
    return true;
}

/* Fills the body; returns what the status line says. */
static const char *respond(const char *head, struct buffer *body)
{
    if (!strstr(head, "\r\n\r\n"))
        return "431 Request Header Fields Too Large";
    if (strncmp(head, "GET ", 4) != 0)
        return "405 Method Not Allowed";
    if (strncmp(head + 4, "/healthz ", 9) == 0 || strncmp(head + 4, "/readyz ", 8) == 0) {
        if (!(head[5] == 'h' ? health_live(body) : health_ready(body)))
            return "503 Service Unavailable";
        buffer_print(body, "ok\n");
    } else if (strncmp(head + 4, "/metrics ", 9) == 0) {
        figures_metrics(body);
    } else if (strncmp(head + 4, "/map ", 5) == 0) {
        figures_map(body, coir_map_print);
    } else if (strncmp(head + 4, "/map.dot ", 9) == 0) {
        figures_map(body, coir_map_dot);
    } else {
        return "404 Not Found";
    }
    return "200 OK";
}

static void close_socket(void *socket)
{
    wait_ends((int)(intptr_t)socket);
    coir_socket_close((int)(intptr_t)socket);
}

static void exchange(void *arg)
{
    struct buffer body __attribute__((cleanup(buffer_free))) = {0};
    struct buffer out __attribute__((cleanup(buffer_free))) = {0};
    int64_t deadline = coir_now() + EXCHANGE;
    int socket = (int)(intptr_t)arg;
    char head[HEAD_BYTES_MAX];
    const char *status;

    coir_job_name("metrics exchange");
    coir_require(coir_defer(close_socket, arg) == COIR_OK, "the first handlers cannot fail");
    if (!read_head(socket, head, deadline))
        return;
    wait_ends(socket);
    status = respond(head, &body);
    buffer_print(&out, "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n", status);
    buffer_print(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.used);
    buffer_append(&out, (struct bytes){body.data, body.used});
    if (body.failed || out.failed)
        return;
    wait_begins(socket);
    if (coir_socket_send_until(socket, out.data, out.used, deadline) == (int64_t)out.used)
        server_linger(socket, deadline);
}

/* What they read ends after them: so a stop ends them first. */
static void end_exchanges(void)
{
    coir_counter_cancel(&server.exchanges);
    while (coir_wait(&server.exchanges) < COIR_DONE)
        ; /* this job is canceled, and so are they */
}

void metrics_serve(void *unused)
{
    (void)unused;
    if (server.metrics_listener < 0)
        return;
    while (!coir_canceled()) {
        int socket = server_accept(server.metrics_listener);

        if (socket < 0)
            continue;
        wait_begins(socket);
        if (coir_domain_submit(server.domain[METRICS], &server.exchanges, exchange,
                               (void *)(intptr_t)socket) != COIR_OK)
            close_socket((void *)(intptr_t)socket);
    }
    end_exchanges();
}
