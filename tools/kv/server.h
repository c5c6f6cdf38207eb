/* SPDX-License-Identifier: MIT */
/*
 * server.h - the server, and a connection as its commands see it.
 */
#ifndef KV_SERVER_H
#define KV_SERVER_H

#include "coir.h"
#include "resp.h"
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>

struct server;

/* One connection. A slot of server->clients; used by one fiber at a time. */
struct client {
    struct server *server;
    struct client *next_free; /* server->lock held */
    int socket;               /* -1: the slot is free, or its job has closed it */
    bool ended;               /* send what is in out, then close */
    bool lost;                /* the peer cannot be reached any more */
    struct buffer in;         /* received; the first `answered` bytes are done with */
    size_t answered;
    struct request request; /* the one being read or run */
    struct buffer out;      /* replies not yet sent */
    size_t reply_at;        /* where in out the reply of the running command begins */
    uint64_t commands;      /* run and not yet added to server->commands */
};

struct server_options {
    const char *address; /* numeric; borrowed for server_open */
    uint16_t port;       /* 0: the system picks one */
    int metrics_port;    /* 0: the system picks one; -1: no metrics */
    unsigned clients_max;
};

struct server {
    struct store *store;
    int listener, metrics_listener; /* the latter -1: none */
    uint16_t port, metrics_port;    /* as bound */
    int64_t started;                /* coir_now() at open */
    coir_counter jobs;              /* owed by every job of the server */
    unsigned clients_max;

    pthread_mutex_t lock;   /* protects the rest of this group; never held across a suspend */
    struct client *clients; /* clients_max slots */
    struct client *free;    /* list of those not in use */
    unsigned connections;   /* slots in use */

    /* Statistics; they order nothing. */
    _Atomic uint64_t commands, accepted, refused, accept_errors;
};

/*
 * Opens the listeners and the store. Returns COIR_OK, or the status of what failed, which *what
 * then names; nothing is left open.
 */
int server_open(struct server *server, const struct server_options *options, const char **what);

/* Starts to accept. Returns a status of coir_submit. */
int server_start(struct server *server, coir_runtime *runtime);

/*
 * Asks every job to stop and waits for them, until the deadline at the most. Returns the worst
 * outcome (COIR_CANCELED is usual) or, with jobs still running, COIR_ETIMEDOUT.
 * Call from   a plain thread
 */
int server_stop(struct server *server, int64_t deadline);

/* Frees all. The runtime must have been closed. */
void server_close(struct server *server);

unsigned server_connections(struct server *server);

/* Sends the replies gathered so far. Suspends. If the peer is gone the client is ended. */
void client_flush(struct client *client);

/* client_flush, once there is enough to be worth a send. */
void client_flush_if_full(struct client *client);

/* Whether the peer is on this machine. */
bool client_is_local(const struct client *client);

#endif
