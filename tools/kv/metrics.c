/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - a small HTTP/1.1 responder.
 *
 * Every exchange has a deadline and a boundary of its own: a scraper that hangs, or a panic in
 * here, costs one answer.
 */
#include "metrics.h"

#include "server.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define EXCHANGE (2 * COIR_SEC) /* from accept to the last byte */
#define REQUEST_HEAD_MAX 4096
#define ACCEPT_PAUSE (10 * COIR_MS)

struct exchange {
    struct server *server;
    int socket;
    int64_t deadline;
    struct buffer body, head;
};

/* ------------------------------------------------------------------------------------- figures */

static void metric(struct buffer *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    buffer_print(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
                 value);
}

static uint64_t load(_Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed); /* statistics */
}

/* Resident bytes of the process, 0 if they could not be read. Blocks, so it is offloaded. */
static void read_resident(void *arg)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file)
        return;
    if (fscanf(file, "%*u %lu", &pages) == 1)
        *(uint64_t *)arg = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    fclose(file);
}

static void server_metrics(struct server *s, struct buffer *out)
{
    uint64_t uptime = (uint64_t)((coir_now() - s->started) / COIR_SEC), resident = 0;

    metric(out, "coir_kv_connections", "gauge", "Connections open.", server_connections(s));
    metric(out, "coir_kv_connections_accepted_total", "counter", "Connections served since start.",
           load(&s->accepted));
    metric(out, "coir_kv_connections_refused_total", "counter",
           "Connections closed because the server was full.", load(&s->refused));
    metric(out, "coir_kv_accept_errors_total", "counter", "Failures to take a connection.",
           load(&s->accept_errors));
    metric(out, "coir_kv_commands_total", "counter", "Commands run.", load(&s->commands));
    metric(out, "coir_kv_keys", "gauge", "Keys held.", store_count(s->store));
    metric(out, "coir_kv_uptime_seconds", "gauge", "Time since start.", uptime);
    if (coir_offload(read_resident, &resident) == COIR_DONE && resident > 0)
        metric(out, "coir_kv_resident_bytes", "gauge", "Resident memory of the process.", resident);
}

static void runtime_metrics(struct buffer *out)
{
    static const char *const outcome[] = {"done", "failed", "expired", "canceled", "panicked"};
    coir_stats stats;

    coir_stats_read(coir_current(), &stats);
    metric(out, "coir_jobs_spawned_total", "counter", "Jobs accepted.", stats.spawned);
    buffer_print(out, "# HELP coir_jobs_ended_total Jobs ended, by outcome.\n"
                      "# TYPE coir_jobs_ended_total counter\n");
    for (int i = COIR_DONE; i <= COIR_PANICKED; i++)
        buffer_print(out, "coir_jobs_ended_total{outcome=\"%s\"} %" PRIu64 "\n", outcome[i],
                     stats.ended[i]);
    metric(out, "coir_panics_total", "counter", "Panics raised, contained ones too.", stats.panics);
    metric(out, "coir_fibers_parked", "gauge", "Fibers parked.", stats.parked);
    metric(out, "coir_stacks", "gauge", "Stacks in existence.", stats.stacks);
    metric(out, "coir_switches_total", "counter", "Context switches.", stats.switches);
    metric(out, "coir_steals_total", "counter", "Jobs taken from another worker.", stats.steals);
    metric(out, "coir_sleeps_total", "counter", "Times a worker went to sleep.", stats.sleeps);
    metric(out, "coir_workers", "gauge", "Worker threads.", stats.workers);
}

/* ---------------------------------------------------------------------------------------- HTTP */

/* Receives up to the empty line that ends the head of a request; false: there was none in time. */
static bool read_head(struct exchange *x, char head[REQUEST_HEAD_MAX])
{
    size_t used = 0;

    while (used < REQUEST_HEAD_MAX - 1) {
        int64_t got = coir_socket_recv_until(x->socket, head + used, REQUEST_HEAD_MAX - 1 - used,
                                             x->deadline);

        if (got <= 0)
            return false;
        used += (size_t)got;
        head[used] = '\0';
        if (strstr(head, "\r\n\r\n"))
            return true;
    }
    return false;
}

static const char *fill_body(struct exchange *x, const char *head)
{
    if (strncmp(head, "GET /metrics ", 13) == 0) {
        server_metrics(x->server, &x->body);
        runtime_metrics(&x->body);
        return "200 OK";
    }
    if (strncmp(head, "GET /healthz ", 13) == 0) {
        buffer_print(&x->body, "ok\n");
        return "200 OK";
    }
    buffer_print(&x->body, "GET /metrics or GET /healthz\n");
    return strncmp(head, "GET ", 4) == 0 ? "404 Not Found" : "405 Method Not Allowed";
}

static void end_exchange(void *arg)
{
    struct exchange *x = arg;

    buffer_free(&x->body);
    buffer_free(&x->head);
    coir_socket_close(x->socket);
}

static void answer(void *arg)
{
    struct exchange *x = arg;
    char head[REQUEST_HEAD_MAX];
    const char *status;

    coir_require(coir_defer(end_exchange, x) == COIR_OK, "the first handlers cannot fail");
    if (!read_head(x, head))
        return;
    status = fill_body(x, head);
    buffer_print(&x->head, "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n", status);
    buffer_print(&x->head, "Content-Length: %zu\r\nConnection: close\r\n\r\n", x->body.used);
    buffer_append(&x->head, (struct bytes){x->body.data, x->body.used});
    if (x->body.failed || x->head.failed)
        return;
    /* A scraper that left before the end has seen that it did. */
    (void)coir_socket_send_until(x->socket, x->head.data, x->head.used, x->deadline);
}

void metrics_serve(void *arg)
{
    struct server *s = arg;

    coir_job_name("metrics");
    while (!coir_canceled()) {
        struct exchange x = {.server = s, .socket = coir_socket_accept(s->metrics_listener)};

        x.deadline = coir_now() + EXCHANGE;
        if (x.socket < 0)
            (void)coir_sleep_until(coir_now() + ACCEPT_PAUSE); /* cut short by a cancel only */
        else if (coir_try(answer, &x, NULL) == COIR_PANICKED)
            continue; /* the runtime has logged and counted it */
    }
}
