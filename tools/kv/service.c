/* SPDX-License-Identifier: MIT */
/*
 * service.c - the process as a tree: what runs under the root supervisor, and how all of it ends.
 *
 * The order of the children is that of the start, and backwards that of the end. So a stop takes away the
 * READY first and then the listener, drains the clients while metrics still tell that, and closes the pool
 * when nobody can ask for a sum. A child that breaks is started again, and nobody else notices:
 * connections are jobs of domains that belong to no child. If children break too often the root gives
 * up, the clients are drained all the same, and the exit status tells whoever supervises the process.
 */
#include "kv.h"

#include <err.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#define SWEEP_PAUSE (100 * COIR_MS)
#define SWEEP_SLOTS 64
#define CANCEL_BUDGET COIR_SEC /* after the drain's, for what is canceled */
#define STOP_BUDGET (5 * COIR_SEC) /* of a child that has to do something before it ends */

static bool is_ok(int status, const char *what)
{
    if (status == COIR_OK)
        return true;
    warnx("%s: %s", what, coir_status_text(status));
    coir_fail(status, "%s: %s", what, coir_status_text(status));
    return false;
}

/* Opens what the others work in, then turns a signal into the end of all. */
static void await_signal(void *unused)
{
    bool first = !server.root;

    (void)unused;
    server.root = coir_supervisor_current();
    if (first && !main_begin()) {
        coir_fail(COIR_EMFILE, "no room for clients");
        return;
    }
    if (!is_ok(server_open(coir_current()), "cannot open the domains"))
        return;
    coir_child_ready();
    if (coir_signal_wait(COIR_SIGNAL(SIGTERM) | COIR_SIGNAL(SIGINT)) > 0)
        coir_supervisor_stop(server.root);
}

static void keep_sums(void *unused)
{
    (void)unused;
    if (!is_ok(sums_open(coir_current()), "cannot open the pool"))
        return;
    coir_child_ready();
    if (coir_child_stop_wait() == COIR_OK)
        is_ok(sums_close(), "cannot close the pool");
}

/* Feeds systemd's watchdog, if it has one, at twice the pace. That this runs at all is half of the news. */
static void beat(void *unused)
{
    int64_t watchdog = notify_watchdog_ns();

    (void)unused;
    while (watchdog && coir_sleep_until(coir_now() + watchdog / 2) == COIR_OK) {
        struct buffer why __attribute__((cleanup(buffer_free))) = {0};

        if (health_live(&why))
            notify("WATCHDOG=1");
    }
}

static void sweep(void *unused)
{
    (void)unused;
    while (coir_sleep_until(coir_now() + SWEEP_PAUSE) == COIR_OK) {
        if (atomic_load_explicit(&server.sweeps_to_break, memory_order_relaxed) > 0) { /* no order */
            atomic_fetch_sub_explicit(&server.sweeps_to_break, 1, memory_order_relaxed); /* no order */
            coir_panic("DEBUG SWEEP asked for by a client");
        }
        store_sweep(SWEEP_SLOTS, coir_now());
    }
}

/* All others have started. */
static void tell_ready(void *unused)
{
    (void)unused;
    notify("READY=1\nSTATUS=serves");
    if (coir_child_stop_wait() == COIR_OK)
        notify("STOPPING=1\nSTATUS=drains");
}

/* -------------------------------------------------------------------------------------- the drain */

static uint64_t clients_left(void)
{
    coir_domain_stats s = {0};

    coir_domain_stats_read(server.domain[CLIENTS], &s);
    return s.in_flight;
}

/* What became of the clients, in a line. */
static void print_receipt(uint64_t clients, uint64_t canceled)
{
    int64_t ns = coir_now() - atomic_load_explicit(&server.drain_began, memory_order_relaxed); /* own */
    uint64_t commands = atomic_load_explicit(&server.commands, memory_order_relaxed); /* statistics */

    printf("drained %" PRIu64 " clients in %" PRId64 " ms of %d: %" PRIu64 " canceled, %" PRIu64
           " left; %" PRIu64 " commands since the start\n",
           clients, ns / COIR_MS, server.set.drain_ms, canceled, clients_left(), commands);
    fflush(stdout);
}

/* Nobody accepts any more. What is still asked for when the budget has passed is canceled. */
static void drain(void)
{
    uint64_t clients = clients_left(), canceled = 0;
    int64_t deadline = coir_now() + server.set.drain_ms * COIR_MS;
    int outcome;

    server_dismiss();
    outcome = coir_wait_until(&server.clients, deadline);
    if (outcome < COIR_DONE) {
        canceled = clients_left();
        coir_counter_cancel(&server.clients);
        outcome = coir_wait_until(&server.clients, coir_now() + CANCEL_BUDGET);
    }
    print_receipt(clients, canceled);
    if (outcome < COIR_DONE)
        coir_fail(outcome, "a request does not end");
}

static void keep_clients(void *unused)
{
    (void)unused;
    if (coir_child_stop_wait() == COIR_OK)
        drain();
}

/* --------------------------------------------------------------------------------------- the tree */

#define CHILD(child, ...) {.size = sizeof(coir_child_spec), .name = child, __VA_ARGS__}

/* shutdown_ns 0: canceled at once. */
int service_run(const coir_options *options)
{
    coir_child_spec child[] = {
        CHILD("signals", .fn = await_signal, .tells_ready = 1, .restart = COIR_TRANSIENT),
        CHILD("sums", .fn = keep_sums, .tells_ready = 1, .shutdown_ns = STOP_BUDGET),
        CHILD("heartbeat", .fn = beat, .restart = COIR_TRANSIENT),
        CHILD("metrics", .fn = metrics_serve, .restart = COIR_TRANSIENT),
        CHILD("drain", .fn = keep_clients,
              .shutdown_ns = server.set.drain_ms * COIR_MS + STOP_BUDGET),
        CHILD("sweep", .fn = sweep),
        CHILD("accept", .fn = server_accept_clients),
        CHILD("ready", .fn = tell_ready, .shutdown_ns = STOP_BUDGET),
    };
    coir_supervisor_options root = {.size = sizeof root,
                                    .name = "coir-kv",
                                    .max_restarts = 10,
                                    .max_seconds = 10,
                                    .children = child,
                                    .children_count = sizeof child / sizeof child[0],
                                    .backoff_ns = 10 * COIR_MS,
                                    .backoff_max_ns = COIR_SEC,
                                    .backoff_jitter = 20};
    int end = coir_supervisor_run(options, &root);

    if (end < 0 && end != COIR_ECHILD) /* else it has been said */
        warnx("cannot run: %s", coir_status_text(end));
    return end == COIR_DONE ? 0 : 1;
}
