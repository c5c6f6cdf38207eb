/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - figures of the server and its runtime, as Prometheus text over HTTP/1.1.
 *
 * Every exchange is a job with a deadline: a scraper that hangs, or a panic in here, costs one
 * answer. Their number is bounded, and beyond it connections wait in the listener's backlog.
 */
#include "kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define EXCHANGE (2 * COIR_SEC) /* from accept to the last byte */
#define HEAD_BYTES_MAX 4096     /* of a request */

/* ------------------------------------------------------------------------------------- figures */

static void read_resident(void *arg)
{
    uint64_t pages = 0, *bytes = arg;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file)
        return;
    if (fscanf(file, "%*u %" SCNu64, &pages) == 1)
        *bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    fclose(file);
}

uint64_t metrics_resident(void)
{
    uint64_t bytes = 0;

    return coir_offload(read_resident, &bytes) == COIR_DONE ? bytes : 0; /* files may block */
}

static void metric(struct buffer *out, const char *name, const char *help, uint64_t value)
{
    const char *type = strstr(name, "_total") ? "counter" : "gauge";

    buffer_print(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
                 value);
}

static void server_metrics(struct buffer *out)
{
    metric(out, "coir_kv_connections", "Open now.", figure(&server.connections));
    metric(out, "coir_kv_connections_accepted_total", "Served.", figure(&server.accepted));
    metric(out, "coir_kv_connections_refused_total", "Beyond the limit.", figure(&server.refused));
    metric(out, "coir_kv_accept_errors_total", "Not taken.", figure(&server.accept_errors));
    metric(out, "coir_kv_commands_total", "Commands run.", figure(&server.commands));
    metric(out, "coir_kv_keys", "Keys held.", store_count());
    metric(out, "coir_kv_uptime_seconds", "Time since start.",
           (uint64_t)((coir_now() - server.started) / COIR_SEC));
    metric(out, "coir_kv_resident_bytes", "Memory of the process.", metrics_resident());
}

static void runtime_metrics(struct buffer *out)
{
    static const char *const outcome[] = {"done", "failed", "expired", "canceled", "panicked"};
    coir_stats stats;

    coir_stats_read(coir_current(), &stats);
    metric(out, "coir_jobs_spawned_total", "Jobs accepted.", stats.spawned);
    metric(out, "coir_panics_total", "Panics raised, contained ones too.", stats.panics);
    metric(out, "coir_fibers_parked", "Fibers parked.", stats.parked);
    metric(out, "coir_stacks", "Stacks in existence.", stats.stacks);
    metric(out, "coir_switches_total", "Context switches.", stats.switches);
    metric(out, "coir_steals_total", "Jobs taken from another worker.", stats.steals);
    metric(out, "coir_sleeps_total", "Times a worker went to sleep.", stats.sleeps);
    metric(out, "coir_workers", "Worker threads.", stats.workers);
    buffer_print(out, "# HELP coir_jobs_ended_total Jobs ended, by outcome.\n"
                      "# TYPE coir_jobs_ended_total counter\n");
    for (int i = COIR_DONE; i <= COIR_PANICKED; i++)
        buffer_print(out, "coir_jobs_ended_total{outcome=\"%s\"} %" PRIu64 "\n", outcome[i],
                     stats.ended[i]);
}

/* ---------------------------------------------------------------------------------------- HTTP */

/* Receives the head of a request, up to its empty line. Returns false if there was none in time. */
static bool read_head(int socket, char head[HEAD_BYTES_MAX], int64_t deadline)
{
    size_t used = 0;

    do {
        int64_t got =
            coir_socket_recv_until(socket, head + used, HEAD_BYTES_MAX - 1 - used, deadline);

        if (got <= 0)
            return false;
        head[used += (size_t)got] = '\0';
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
    if (strncmp(head + 4, "/healthz ", 9) == 0) {
        buffer_print(body, "ok\n");
    } else if (strncmp(head + 4, "/metrics ", 9) == 0) {
        server_metrics(body);
        runtime_metrics(body);
    } else {
        return "404 Not Found";
    }
    return "200 OK";
}

static void close_socket(void *socket)
{
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
    status = respond(head, &body);
    buffer_print(&out, "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n", status);
    buffer_print(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.used);
    buffer_append(&out, (struct bytes){body.data, body.used});
    if (body.failed || out.failed)
        return;
    if (coir_socket_send_until(socket, out.data, out.used, deadline) == (int64_t)out.used)
        server_linger(socket, deadline);
}

/* A slot for an exchange is a counter, and it is free while nothing is owed to it. */
void metrics_serve(void *unused)
{
    coir_counter slot[METRICS_EXCHANGES] = {COIR_COUNTER_INIT}, *slots[METRICS_EXCHANGES];
    size_t next;

    (void)unused;
    coir_job_name("metrics");
    for (size_t i = 0; i < METRICS_EXCHANGES; i++)
        slots[i] = &slot[i];
    while (coir_wait_any(slots, METRICS_EXCHANGES, COIR_NEVER, &next) >= COIR_DONE &&
           !coir_canceled()) {
        int socket = server_accept(server.metrics_listener);

        if (socket >= 0 && coir_spawn(slots[next], exchange, (void *)(intptr_t)socket) != COIR_OK) {
            figure_add(&server.accept_errors, 1);
            coir_socket_close(socket);
        }
    }
    for (size_t i = 0; i < METRICS_EXCHANGES; i++)
        do
            coir_counter_cancel(slots[i]);
        while (coir_wait(slots[i]) < COIR_DONE);
}
