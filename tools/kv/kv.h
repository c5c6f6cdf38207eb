/* SPDX-License-Identifier: MIT */
/*
 * kv.h - what the parts of coir-kv know of each other: the server, a connection, the store.
 */
#ifndef KV_H
#define KV_H

#include "coir.h"
#include "resp.h"

#include <stdatomic.h>

/* ------------------------------------------------------------------------------------- server */

/* The numbers that the command line sets; see numbers in main.c for what each means. */
struct settings {
    int port, metrics_port, workers, max_clients;
    int request_ms, client_requests, client_input, client_output; /* what one client may take */
    int panics_max, stall_ms, hang_ms, tainted_max, drain_ms;
};

/* A domain for each kind of work; their names are server_domains. They outlive the children that accept. */
enum {
    CLIENTS,  /* one job for each connection of the main port */
    REQUESTS, /* what these ask for: one job for a stretch of one connection's requests */
    METRICS,  /* one job for each exchange of the metrics port */
    DOMAINS
};

extern const char *const server_domains[DOMAINS];

/* The one server of the process. Set before the first job starts, but for the figures. */
extern struct server {
    struct settings set;
    int listener, metrics_listener; /* the latter -1: none */
    int64_t started;                /* coir_now() */
    coir_domain *domain[DOMAINS];
    coir_supervisor *root;
    coir_pool *sums;
    coir_counter clients, exchanges; /* owed by the jobs of the domains CLIENTS and METRICS */
    _Atomic int64_t drain_began;     /* coir_now(); 0: it serves */
    _Atomic uint64_t accept_errors, commands, late, sums_dead;
    _Atomic int sweeps_to_break; /* DEBUG SWEEP */
} server;

static inline void figure_add(_Atomic uint64_t *figure, uint64_t n)
{
    atomic_fetch_add_explicit(figure, n, memory_order_relaxed); /* statistics */
}

static inline bool server_drains(void)
{
    return atomic_load_explicit(&server.drain_began, memory_order_acquire) != 0; /* set once */
}

/* Registers the code that faults are contained in, and opens the domains. A status. */
int server_open(coir_runtime *runtime);

/* The child that accepts clients. */
void server_accept_clients(void *unused);

/* Lets no client ask for more: what had arrived is answered, then its connection ends. */
void server_dismiss(void);

/* Takes a connection. Returns it; or -1 after a pause, since those who leave may make room. */
int server_accept(int listener);

/* Lets the peer take what was sent last, until the deadline at the most. */
void server_linger(int socket, int64_t deadline);

#define METRICS_EXCHANGES 16 /* at once */

/* The child that answers GET /metrics, /map, /map.dot, /healthz and /readyz. */
void metrics_serve(void *unused);

/* -------------------------------------------------------------------------------- supervision */

/* Runs everything below a root supervisor until it ends. Returns the exit status. */
int service_run(const coir_options *options);

/* The runtime is open: fits max_clients to the descriptors that are left, and says where the listeners are.
 * False: there is no room for any, which has been said. */
bool main_begin(void);

/* Whether the process does its work; if not, `why` gets a reason to restart it. Suspends. */
bool health_live(struct buffer *why);

/* Whether it should be sent requests; if not, why. Suspends. */
bool health_ready(struct buffer *why);

/* Tells systemd, if that is who has started the process (sd_notify). */
void notify(const char *state);
/* How often systemd wants to be told WATCHDOG=1; 0: never. */
int64_t notify_watchdog_ns(void);

/* ---------------------------------------------------------------------------------------- sums */

int sums_open(coir_runtime *runtime); /* the pool; a status */

/* Nobody asks for one any more. A status. */
int sums_close(void);

/* ------------------------------------------------------------------------------------ figures */

/* What INFO replies: the section of this name, "": all. Suspends. */
void figures_info(struct buffer *out, struct bytes section);

/* The same figures and more as Prometheus text. Suspends. */
void figures_metrics(struct buffer *out);

/* Who fails with whom, and what is left: coir_map_print or coir_map_dot. Without memory *out has failed. */
void figures_map(struct buffer *out,
                 int (*draw)(coir_runtime *, void (*line)(void *arg, const char *text), void *arg));

/* -------------------------------------------------------------------------------- connection */

/* One connection: its job's, until that has ended. */
struct client {
    struct request request; /* the one being read or run; first, since client_more goes back */
    struct client *next, *prev; /* in the list of server.c */
    int socket;
    bool ended;        /* send what is in out, then close */
    bool answered;     /* a request, since bytes were last received */
    bool often;        /* its last request came soon after the one before */
    struct buffer out; /* replies not yet sent */
    size_t reply_at;   /* where in out the reply of the running command begins */
    uint64_t commands; /* run, and not yet added to server.commands */
    int64_t arrived;   /* the first bytes of the oldest request that has no reply yet */
    int64_t turn;      /* when it began, about: at its bytes, or when others had last had theirs */
    size_t worked;     /* since the clock was last read for the turn */
};

/* When this request must have been answered. */
static inline int64_t client_deadline(const struct client *c)
{
    return c->arrived + server.set.request_ms * COIR_MS;
}

/* Sends the replies gathered so far, if no more may be left with us. Suspends. */
void client_flush(struct client *client);

/*
 * Called with how much has been done for it, counted in keys looked up, roughly: when that has taken long,
 * others have their turn. Suspends, or not.
 */
void client_worked(struct client *client, size_t keys);

/* Ends a connection whose deadline has passed. Returns what to tell the client. */
const char *client_late(struct client *client);

/* Runs the client's request and appends its reply. May suspend, and may break in any way. */
void command_run(struct client *client);

/* SUM: a handler as those in command.c. */
const char *sum_command(struct client *client);
/* The same for a pattern whose jobs panic. */
const char *sum_broken(struct client *client, struct bytes pattern);

/* DEBUG: breaks in the way that is asked for. A handler as those in command.c. */
const char *debug_command(struct client *client);

/* ------------------------------------------------------------------------------- native crashes */

/* Forks the child that DEBUG NATIVE-CRASH runs in: before there are threads. What is wrong, or NULL. */
const char *native_open(void);
void native_close(void); /* when no request runs any more */

/* DEBUG NATIVE-CRASH: breaks a process, in the way that is asked for, and not this one. A handler. */
const char *native_crash(struct client *client);

/* -------------------------------------------------------------------------------------- store */

/*
 * Keys and values, binary-safe; a key may expire. Every function may be called from any thread
 * once store_open has succeeded, and never suspends. Times are absolute, as coir_now(). A string
 * that is returned says what is wrong; NULL: nothing.
 */
#define STORE_KEEPS INT64_MAX /* the time of a key that stays */
#define STORE_SHARDS 64

enum store_condition { STORE_ALWAYS, STORE_IF_ABSENT, STORE_IF_PRESENT };

const char *store_open(void);

/* Called while the value's shard is locked: must not suspend, panic or call the store. */
typedef void store_visit(void *arg, struct bytes value, int64_t expires);

/* Calls visit, if it is not NULL, with the key's value; returns whether the key was there. */
bool store_read(struct bytes key, store_visit *visit, void *arg);

/* *done says whether the condition held. */
const char *store_set(struct bytes key, struct bytes value, int64_t expires,
                      enum store_condition condition, bool *done);

#define NOT_INTEGER "value is not an integer or out of range"

/* Adds to the integer at key, 0 if absent, and keeps its time. */
const char *store_add(struct bytes key, int64_t delta, int64_t *sum);

/* Gives the key a time; one that is past removes it. Returns whether it was there. */
bool store_expire(struct bytes key, int64_t expires);

/*
 * Removes the keys whose time is not after `now`, in the next `slots` slots of each shard: many
 * short sweeps see every key.
 */
void store_sweep(size_t slots, int64_t now);

/*
 * Removes all keys at once, and then frees them step by step, so that whoever does it can let others in between.
 * What is to be freed is the caller's: all zero at first, and step after step until one returns 0.
 */
struct store_flush {
    struct entry **slot[STORE_SHARDS];
    size_t slots[STORE_SHARDS], shard, next;
};

void store_flush(struct store_flush *flush);

/* Returns how much was done, counted in keys; 0: nothing is left. */
size_t store_flush_step(struct store_flush *flush);

/*
 * A walk over one shard, 0 to STORE_SHARDS - 1: all zero but for that at first. Each step visits the keys
 * of a few slots; a key that is there from the first step to the last is visited once.
 */
struct store_walk {
    size_t shard, slots, next;
};

/* Called while the shard is locked, as store_visit. False: the step shall end, which it does after this slot. */
typedef bool store_visit_key(void *arg, struct bytes key, struct bytes value);

/* Returns whether there is more. */
bool store_step(struct store_walk *walk, store_visit_key *visit, void *arg);

size_t store_count(void); /* those that have expired and were not yet met included */

#endif
