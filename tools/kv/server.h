/* SPDX-License-Identifier: MIT */
/*
 * server.h - what the parts of the server share: its state, and a connection as commands see it.
 */
#ifndef KV_SERVER_H
#define KV_SERVER_H

#include "coir.h"
#include "store.h"

#include <stdatomic.h>

/* The one server of the process. Set before the first job starts, but for the figures. */
extern struct server {
    int listener, metrics_listener; /* the latter -1: none */
    unsigned port, clients_max;
    int64_t started;   /* coir_now() */
    coir_counter jobs; /* owed by every job that must end before the process does */
    _Atomic uint64_t connections, accepted, refused, accept_errors, commands;
} server;

/* Adds to a figure, reads one. */
static inline void figure_add(_Atomic uint64_t *figure, uint64_t n)
{
    atomic_fetch_add_explicit(figure, n, memory_order_relaxed); /* statistics */
}

static inline uint64_t figure(_Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed); /* statistics */
}

/* The first job: starts the others and accepts connections until it is canceled. */
void server_run(void *unused);

/* Takes a connection. Returns it; or -1 after a pause, since those who leave may make room. */
int server_accept(int listener);

/* Lets the peer take what was sent last, until the deadline at the most. */
void server_linger(int socket, int64_t deadline);

/* One connection. It lives in the frame of the fiber that serves it, and nowhere else. */
struct client {
    struct request request; /* the one being read or run; first, since client_more goes back */
    int socket;
    bool ended;        /* send what is in out, then close */
    bool lost;         /* the peer cannot be reached any more */
    struct buffer out; /* replies not yet sent */
    size_t reply_at;   /* where in out the reply of the running command begins */
    uint64_t commands; /* run, and not yet added to server.commands */
};

/* Sends the replies gathered so far, once there is enough to be worth a send. Suspends. */
void client_flush_if_full(struct client *client);

/*
 * Runs the client's request, of at least one argument, and appends its reply. May suspend, and
 * may panic: call it below a boundary.
 */
void command_run(struct client *client);

#define METRICS_EXCHANGES 16 /* at once */

/* The job that answers GET /metrics and GET /healthz, until it is canceled. */
void metrics_serve(void *unused);

/* Resident bytes of the process; 0: not known. Suspends. */
uint64_t metrics_resident(void);

#endif
