/* SPDX-License-Identifier: MIT */
/*
 * conn.h - connections to the server.
 *
 * A loader is a thread that drives its share of the measured connections at its share of the
 * rate, from one epoll.
 */
#ifndef CONN_H
#define CONN_H

#include <netdb.h>
#include <pthread.h>

#include "load.h"
#include "resp.h"

#define DRAIN_PATIENCE (5 * LOAD_SECOND)   /* for replies still due at the end */
#define BLOCKED_PATIENCE (2 * LOAD_SECOND) /* for a connect, send or receive that blocks */

/* What all threads of a run share; read only but for the atomics. */
struct load {
    struct load_options options;
    struct load_clock clock;
    struct addrinfo *server; /* the address that answered */
    struct resp_request request[LOAD_COMMANDS];
    struct resp_request poison;
    _Atomic uint64_t poison_next; /* index of the next poisoned request */
    atomic_uint running;          /* loaders that have not ended */
};

struct conn;

/* One thread of measured load. */
struct loader {
    struct load *load;
    unsigned index; /* of options.threads */
    pthread_t thread;
    int epoll;
    struct conn *conns;
    unsigned count;
    unsigned live;      /* connections not lost */
    int64_t end;        /* the clock's; earlier when interrupted or out of connections */
    uint64_t in_flight; /* requests sent and not answered, warm-up included */
    uint64_t issued;    /* requests given to a connection: index of the next due one */
    uint64_t random;    /* state of the generator, never 0 */
    struct conn *ready; /* oldest connection with room, linked by next_ready */
    struct conn *ready_last;
    struct conn *touched; /* connections with something to send, linked by next_touched */
    struct load_tally tally;
    struct histogram latency;
    struct histogram lag;
    int64_t last_reply; /* time of it; 0: none */
};

/* Makes a zeroed loader the index-th of the run and opens its connections. Returns 0 or an errno
 * value; loader_close is owed either way. */
int loader_open(struct loader *l, struct load *load, unsigned index);

/* Runs the load until the clock ends and the last reply has come, or no connection is left. */
void *loader_run(void *loader);

void loader_close(struct loader *l);

/*
 * Connects a blocking TCP socket without delay, whose calls give up after BLOCKED_PATIENCE.
 * Returns the descriptor or a negative errno value.
 */
int server_connect(const struct addrinfo *server);

#endif
