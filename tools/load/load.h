/* SPDX-License-Identifier: MIT */
/*
 * load.h - what the files of coir-load share: a run, its threads, its figures.
 *
 * coir-load does not use coir: a ruler must not depend on what it measures.
 */
#ifndef LOAD_H
#define LOAD_H

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>
#include <time.h>

#include "histogram.h"
#include "resp.h"

#define LOAD_SECOND INT64_C(1000000000) /* nanoseconds */
#define LOADERS_MAX 256
#define POISONS_MAX 16
#define DRAIN_PATIENCE (5 * LOAD_SECOND)   /* for replies still due at the end */
#define BLOCKED_PATIENCE (2 * LOAD_SECOND) /* for a connect, send or receive that blocks */

struct load_mix {
    const char *text; /* as it was given */
    uint64_t weight[RESP_COMMANDS];
    uint64_t total; /* their sum, never 0 */
};

/* Commands that are to break their handlers, sent in turn. */
struct load_poisons {
    const char *text; /* as it was given */
    const char *command[POISONS_MAX]; /* words separated by blanks */
    unsigned count;                   /* never 0 */
};

/* What the command line asks for. */
struct load_options {
    const char *host;
    uint64_t port;
    uint64_t rate;        /* requests per second in total; 0: closed loop */
    uint64_t connections; /* measured ones, in total */
    uint64_t pipeline;    /* requests that may be unanswered on one connection */
    uint64_t threads;
    uint64_t parts; /* of the measured time, whose latencies are told apart */
    uint64_t keys; /* keys are drawn evenly from this many */
    uint64_t value_bytes;
    uint64_t poison;  /* poisoned requests per second; 0: none */
    int64_t measured; /* nanoseconds */
    int64_t warmup;   /* nanoseconds before them whose requests are sent and not counted */
    struct load_mix mix;
    struct load_poisons poisons;
    const char *json; /* file; NULL: none */
    bool quiet;       /* no progress lines */
    bool no_hiccup;
};

/* The clock of a run: begin <= start <= end, all in nanoseconds of load_now(). */
struct load_clock {
    int64_t begin;    /* first request */
    int64_t start;    /* end of the warm-up */
    int64_t end;      /* no request is due from here on */
    atomic_bool stop; /* interrupted: end now */
};

/*
 * What is counted. Requests of the warm-up are in none of them.
 *
 * sent == answered + unanswered, and poison_sent == poison_contained + poison_uncontained, when
 * the threads have ended. Error replies are among the answered. Every request that was due is
 * answered, unanswered or unsent, and is in the histogram of latencies.
 */
enum load_count {
    COUNT_SENT,
    COUNT_ANSWERED,
    COUNT_ERROR_REPLIES,
    COUNT_UNANSWERED, /* in flight when their connection was lost or given up */
    COUNT_UNSENT,     /* due, but no connection had room before the end */
    COUNT_ERRORS,     /* connections closed for a reply that is not RESP or not the command's */
    COUNT_LOST,       /* connections closed by the peer, or silent at the end */
    COUNT_POISON_SENT,
    COUNT_POISON_CONTAINED, /* answered by an error, and the connection closed */
    COUNT_POISON_UNCONTAINED,
    COUNT_ALL
};

/* Read by the progress line while threads count: relaxed, figures carry no data. */
struct load_tally {
    _Atomic uint64_t count[COUNT_ALL];
};

/* One poisoned command, and what became of it: of poison_sent and poison_contained. */
struct load_poison {
    struct resp_request request;
    _Atomic uint64_t sent, contained;
};

/* A run: what all its threads share, and what it found; read only but for the atomics and what has
 * an owner. */
struct load {
    struct load_options options;
    struct load_clock clock;
    struct addrinfo *server; /* the address that answered */
    struct resp_request request[RESP_COMMANDS];
    struct load_poison poison[POISONS_MAX]; /* as options.poisons.command */
    _Atomic uint64_t poison_next; /* index of the next poisoned request */
    struct load_tally tally;      /* of the poison; at the end, of all */
    struct histogram hiccup;      /* the meter's */

    /* At the end. */
    struct histogram latency; /* from when a request was due to its reply, or to its giving up */
    struct histogram *part;   /* owned; the same of those due in each of options.parts equal parts of the time */
    struct histogram lag;     /* from when a request was due to its sending, or to its giving up */
    int64_t elapsed;          /* nanoseconds measured */
    double cpu;               /* processor time of this process, in each second of the run: near 1 a thread queues itself */
};

/* A thread that drives its share of the measured connections at its share of the rate. */
struct loader {
    struct load *load;
    unsigned index; /* of options.threads */
    int epoll;
    struct conn *conns;
    unsigned count;
    unsigned live;              /* connections not lost */
    int64_t end;                /* the clock's; earlier when interrupted or out of connections */
    uint64_t in_flight;         /* requests that may still be answered, warm-up included */
    uint64_t issued;            /* requests given to a connection: index of the next due one */
    uint64_t random;            /* state of the generator, never 0 */
    STAILQ_HEAD(, conn) ready;  /* connections with room, by how long they have had it */
    SLIST_HEAD(, conn) touched; /* connections with something to send */
    struct load_tally tally;
    struct histogram *part; /* owned; of latencies, as load.part */
    struct histogram lag;
    int64_t last_reply; /* time of it; 0: none */
};

/* ------------------------------------------------------------------------------------ main.c */

/* Prints "coir-load: ..." on standard error and ends the process with status 1. */
_Noreturn __attribute__((format(printf, 1, 2))) void load_fail(const char *format, ...);

/* Sleeps until a time of load_now(). Returns false when the run has been interrupted, or ended. */
bool load_sleep_until(const struct load_clock *clock, int64_t when);

/* --------------------------------------------------------------------------------- options.c */

/* Reads the command line; a bad one ends the process with status 2. */
void options_read(struct load_options *o, char **arguments);

/* Prints a string as JSON has it. */
void options_json_text(FILE *out, const char *text);

/* Writes the options as members of a JSON object. */
void options_json(FILE *out, const struct load_options *given);

/* ------------------------------------------------------------------------------------ conn.c */

/* Connects a blocking TCP socket without delay, whose calls give up after BLOCKED_PATIENCE.
 * Returns the descriptor or a negative errno value. */
int server_connect(const struct addrinfo *server);

/* Makes a zeroed loader the index-th of the run and opens its connections. */
void loader_open(struct loader *l, struct load *load, unsigned index);

/* Runs the load until the clock ends and the last reply has come, or no connection is left. */
void *loader_run(void *loader);

/* ---------------------------------------------------------------------- poison.c and hiccup.c */

/* Sends poisoned requests, one at a time, until the clock ends. */
void *poisoner_run(void *load);

/* Closes by a reset: thousands of poisoned connections in TIME_WAIT would use up the ports. */
void close_hard(int fd);

/* Measures the machine until the clock ends. */
void *hiccup_run(void *load);

/* ---------------------------------------------------------------------------------- report.c */

/* Prints a progress line on standard error: on a terminal over the last one, else every fifth time.
 * `answered` requests had been answered a second ago; `second` is the time since the first. */
void report_progress(const struct load_options *options, const struct load_tally *tally,
                     uint64_t answered, int64_t second);

/* Wipes the progress line from a terminal. */
void report_progress_end(void);

/* Prints the table on standard output. */
void report_table(const struct load *load);

/* Writes the JSON file. Returns false when it could not be written. */
bool report_json(FILE *out, const struct load *load);

/* ---------------------------------------------------------------------------------- in place */

static inline int64_t load_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * LOAD_SECOND + t.tv_nsec;
}

static inline struct timespec load_timespec(int64_t ns)
{
    return (struct timespec){ns / LOAD_SECOND, ns % LOAD_SECOND};
}

/* When the n-th of `rate` requests per second from `begin` is due. Exact up to 18 billion. */
static inline int64_t load_due(int64_t begin, uint64_t n, uint64_t rate)
{
    return begin + (int64_t)(n * (uint64_t)LOAD_SECOND / rate);
}

static inline bool load_stopped(const struct load_clock *clock)
{
    return atomic_load_explicit(&clock->stop, memory_order_relaxed); /* a hint, carries no data */
}

static inline uint64_t load_counted(const struct load_tally *tally, enum load_count which)
{
    return atomic_load_explicit(&tally->count[which], memory_order_relaxed); /* a figure */
}

static inline void load_count(struct load_tally *tally, enum load_count which, uint64_t n)
{
    atomic_fetch_add_explicit(&tally->count[which], n, memory_order_relaxed); /* a figure */
}

#endif
