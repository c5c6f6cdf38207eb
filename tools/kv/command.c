/* SPDX-License-Identifier: MIT */
/*
 * command.c - the commands: a table of names, and a handler for each.
 *
 * A handler reads its arguments, talks to the store and appends exactly one reply. Whoever adds a
 * command adds a handler and a line in the table at the end.
 */
#include "command.h"

#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#define SYNTAX_ERROR "ERR syntax error"
#define INTEGER_ERROR "ERR value is not an integer or out of range"
#define MEMORY_ERROR "ERR out of memory"
#define DEBUG_MS_MAX 60000

/* Reads an argument as an integer, or replies that it is none. */
static bool integer_argument(struct client *c, const struct request *r, size_t i, int64_t *value)
{
    if (bytes_integer(request_argument(r, i), value))
        return true;
    reply_error(&c->out, INTEGER_ERROR);
    return false;
}

/* coir_now() + n units, or false if that is beyond what a time can say. */
static bool time_after(int64_t n, int64_t unit, int64_t *time)
{
    return !__builtin_mul_overflow(n, unit, time) &&
           !__builtin_add_overflow(*time, coir_now(), time) && *time < STORE_KEEPS;
}

/* --------------------------------------------------------------------------------- connection */

static void ping(struct client *c, const struct request *r)
{
    if (r->count > 2)
        reply_error(&c->out, "ERR wrong number of arguments for 'ping' command");
    else if (r->count == 2)
        reply_bulk(&c->out, request_argument(r, 1));
    else
        reply_status(&c->out, "PONG");
}

static void echo(struct client *c, const struct request *r)
{
    reply_bulk(&c->out, request_argument(r, 1));
}

static void quit(struct client *c, const struct request *r)
{
    (void)r;
    reply_status(&c->out, "OK");
    c->ended = true;
}

/* ------------------------------------------------------------------------------ keys and values */

static void reply_value(void *out, struct bytes value)
{
    reply_bulk(out, value);
}

static void get(struct client *c, const struct request *r)
{
    if (!store_get(c->server->store, request_argument(r, 1), reply_value, &c->out))
        reply_null(&c->out);
}

/* A reply of many values is sent piece by piece: a peer that does not read must cost no memory. */
static void mget(struct client *c, const struct request *r)
{
    reply_array(&c->out, r->count - 1);
    for (size_t i = 1; i < r->count && !c->lost; i++) {
        if (!store_get(c->server->store, request_argument(r, i), reply_value, &c->out))
            reply_null(&c->out);
        client_flush_if_full(c);
    }
}

/* What SET's options say; replies and returns false if they say nothing sound. */
static bool set_options(struct client *c, const struct request *r, int64_t *expires,
                        enum store_condition *condition)
{
    for (size_t i = 3; i < r->count; i++) {
        struct bytes option = request_argument(r, i);
        bool seconds = bytes_are(option, "ex"), timed = seconds || bytes_are(option, "px");
        bool absent = bytes_are(option, "nx"), present = bytes_are(option, "xx");
        int64_t n;

        if (timed && *expires == STORE_KEEPS && i + 1 < r->count) {
            if (!integer_argument(c, r, ++i, &n))
                return false;
            if (n <= 0 || !time_after(n, seconds ? COIR_SEC : COIR_MS, expires)) {
                reply_error(&c->out, "ERR invalid expire time in 'set' command");
                return false;
            }
        } else if ((absent || present) && *condition == STORE_ALWAYS) {
            *condition = absent ? STORE_IF_ABSENT : STORE_IF_PRESENT;
        } else {
            reply_error(&c->out, SYNTAX_ERROR);
            return false;
        }
    }
    return true;
}

static void set(struct client *c, const struct request *r)
{
    enum store_condition condition = STORE_ALWAYS;
    int64_t expires = STORE_KEEPS;
    enum store_status status;

    if (!set_options(c, r, &expires, &condition))
        return;
    status = store_set(c->server->store, request_argument(r, 1), request_argument(r, 2), expires,
                       condition);
    if (status == STORE_OK)
        reply_status(&c->out, "OK");
    else if (status == STORE_REFUSED)
        reply_null(&c->out);
    else
        reply_error(&c->out, MEMORY_ERROR);
}

/* Key by key: no lock spans two shards, so other clients may see some of the keys set. */
static void mset(struct client *c, const struct request *r)
{
    enum store_status status = STORE_OK;

    if (r->count % 2 == 0) {
        reply_error(&c->out, "ERR wrong number of arguments for 'mset' command");
        return;
    }
    for (size_t i = 1; i < r->count && status == STORE_OK; i += 2)
        status = store_set(c->server->store, request_argument(r, i), request_argument(r, i + 1),
                           STORE_KEEPS, STORE_ALWAYS);
    if (status == STORE_OK)
        reply_status(&c->out, "OK");
    else
        reply_error(&c->out, MEMORY_ERROR);
}

/* Counts the keys for which act says true. */
static void count_keys(struct client *c, const struct request *r,
                       bool (*act)(struct store *, struct bytes))
{
    int64_t count = 0;

    for (size_t i = 1; i < r->count; i++)
        count += act(c->server->store, request_argument(r, i));
    reply_integer(&c->out, count);
}

static void del(struct client *c, const struct request *r)
{
    count_keys(c, r, store_delete);
}

static bool there(struct store *store, struct bytes key)
{
    int64_t expires;

    return store_expires(store, key, &expires);
}

static void exists(struct client *c, const struct request *r)
{
    count_keys(c, r, there);
}

static void add(struct client *c, const struct request *r, int64_t delta)
{
    int64_t sum = 0;

    switch (store_add(c->server->store, request_argument(r, 1), delta, &sum)) {
    case STORE_OK:
        reply_integer(&c->out, sum);
        break;
    case STORE_OVERFLOW:
        reply_error(&c->out, "ERR increment or decrement would overflow");
        break;
    case STORE_NO_MEMORY:
        reply_error(&c->out, MEMORY_ERROR);
        break;
    default:
        reply_error(&c->out, INTEGER_ERROR);
    }
}

static void incr(struct client *c, const struct request *r)
{
    add(c, r, 1);
}

static void decr(struct client *c, const struct request *r)
{
    add(c, r, -1);
}

static void incrby(struct client *c, const struct request *r)
{
    int64_t delta;

    if (integer_argument(c, r, 2, &delta))
        add(c, r, delta);
}

/* A time that is past deletes the key. */
static void expire(struct client *c, const struct request *r)
{
    struct store *store = c->server->store;
    struct bytes key = request_argument(r, 1);
    int64_t seconds, expires;

    if (!integer_argument(c, r, 2, &seconds))
        return;
    if (!time_after(seconds, COIR_SEC, &expires))
        reply_error(&c->out, "ERR invalid expire time in 'expire' command");
    else if (seconds > 0)
        reply_integer(&c->out, store_expire(store, key, expires));
    else
        reply_integer(&c->out, store_delete(store, key));
}

static void ttl(struct client *c, const struct request *r)
{
    int64_t expires;

    if (!store_expires(c->server->store, request_argument(r, 1), &expires))
        reply_integer(&c->out, -2);
    else if (expires == STORE_KEEPS)
        reply_integer(&c->out, -1);
    else
        reply_integer(&c->out, (expires - coir_now() + COIR_SEC / 2) / COIR_SEC);
}

/* -------------------------------------------------------------------------------------- server */

static void dbsize(struct client *c, const struct request *r)
{
    (void)r;
    reply_integer(&c->out, (int64_t)store_count(c->server->store));
}

static void flushall(struct client *c, const struct request *r)
{
    (void)r;
    if (store_clear(c->server->store) == STORE_OK)
        reply_status(&c->out, "OK");
    else
        reply_error(&c->out, MEMORY_ERROR);
}

static void info(struct client *c, const struct request *r)
{
    struct server *s = c->server;
    struct buffer text = {0};
    coir_stats stats;

    (void)r;
    coir_stats_read(coir_current(), &stats);
    buffer_print(&text, "# Server\r\nserver:coir-kv\r\ncoir_version:%s\r\n", coir_version());
    buffer_print(&text, "process_id:%d\r\ntcp_port:%u\r\n", (int)getpid(), s->port);
    buffer_print(&text, "io:%s\r\n", stats.io == COIR_IO_URING ? "uring" : "epoll");
    buffer_print(&text, "workers:%u\r\n", stats.workers);
    buffer_print(&text, "uptime_in_seconds:%" PRId64 "\r\n", (coir_now() - s->started) / COIR_SEC);
    buffer_print(&text, "\r\n# Clients\r\nconnected_clients:%u\r\n", server_connections(s));
    buffer_print(&text, "maxclients:%u\r\n", s->clients_max);
    buffer_print(&text, "\r\n# Stats\r\ntotal_commands_processed:%" PRIu64 "\r\n",
                 atomic_load_explicit(&s->commands, memory_order_relaxed)); /* statistics */
    buffer_print(&text, "panics:%" PRIu64 "\r\n", stats.panics);
    buffer_print(&text, "\r\n# Keyspace\r\ndb0:keys=%zu\r\n", store_count(s->store));
    if (text.failed)
        reply_error(&c->out, MEMORY_ERROR);
    else
        reply_bulk(&c->out, (struct bytes){text.data, text.used});
    buffer_free(&text);
}

static void config(struct client *c, const struct request *r)
{
    static const char *const parameter[][2] = {{"save", ""}, {"appendonly", "no"}};
    struct bytes name = request_argument(r, 2);

    if (!bytes_are(request_argument(r, 1), "get")) {
        reply_error(&c->out, "ERR only CONFIG GET is supported");
        return;
    }
    for (size_t i = 0; i < sizeof parameter / sizeof parameter[0]; i++) {
        if (bytes_are(name, parameter[i][0])) {
            const char *value = parameter[i][1];

            reply_array(&c->out, 2);
            reply_bulk(&c->out, name);
            reply_bulk(&c->out, (struct bytes){value, strlen(value)});
            return;
        }
    }
    reply_array(&c->out, 0);
}

/* Main waits for this signal and closes in good order. As in Redis, the reply is the close. */
static void shutdown_server(struct client *c, const struct request *r)
{
    (void)r;
    kill(getpid(), SIGTERM);
    c->ended = true;
}

/* ---------------------------------------------------------------------------------------- debug */

static void debug_wait(struct client *c, const struct request *r, bool busy)
{
    int64_t ms, end;

    if (r->count != 3) {
        reply_error(&c->out, SYNTAX_ERROR);
        return;
    }
    if (!integer_argument(c, r, 2, &ms))
        return;
    if (ms < 0 || ms > DEBUG_MS_MAX) {
        reply_error(&c->out, "ERR milliseconds must be 0 to %d", DEBUG_MS_MAX);
        return;
    }
    end = coir_now() + ms * COIR_MS;
    while (busy && coir_now() < end && !coir_canceled())
        ; /* keeps the worker, as a handler that computes does */
    if (coir_sleep_until(end) == COIR_OK)
        reply_status(&c->out, "OK");
    else
        reply_error(&c->out, "ERR canceled");
}

/* For seeing what one bad request does to the others; nobody else's business. */
static void debug(struct client *c, const struct request *r)
{
    struct bytes what = request_argument(r, 1);

    if (!client_is_local(c))
        reply_error(&c->out, "ERR DEBUG is for local connections only");
    else if (bytes_are(what, "panic"))
        coir_panic("DEBUG PANIC asked for by a client");
    else if (bytes_are(what, "sleep"))
        debug_wait(c, r, false);
    else if (bytes_are(what, "loop"))
        debug_wait(c, r, true);
    else
        reply_error(&c->out, "ERR DEBUG knows PANIC, SLEEP ms and LOOP ms");
}

/* ---------------------------------------------------------------------------------------- table */

/* No command is described: COMMAND COUNT says how many, the rest is empty, and clients go on. */
static void command(struct client *c, const struct request *r);

static const struct command {
    const char *name;
    int arity; /* arguments, the name included; negative: at least so many */
    void (*run)(struct client *c, const struct request *r);
} commands[] = {
    {"get", 2, get},
    {"set", -3, set},
    {"ping", -1, ping},
    {"incr", 2, incr},
    {"mset", -3, mset},
    {"mget", -2, mget},
    {"del", -2, del},
    {"exists", -2, exists},
    {"decr", 2, decr},
    {"incrby", 3, incrby},
    {"expire", 3, expire},
    {"ttl", 2, ttl},
    {"echo", 2, echo},
    {"dbsize", 1, dbsize},
    {"flushall", -1, flushall},
    {"info", -1, info},
    {"command", -1, command},
    {"config", 3, config},
    {"quit", -1, quit},
    {"shutdown", -1, shutdown_server},
    {"debug", -2, debug},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static void command(struct client *c, const struct request *r)
{
    if (r->count > 1 && bytes_are(request_argument(r, 1), "count"))
        reply_integer(&c->out, COMMANDS);
    else
        reply_array(&c->out, 0);
}

static const struct command *command_named(struct bytes name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (bytes_are(name, commands[i].name))
            return &commands[i];
    return NULL;
}

static bool arity_fits(const struct command *k, size_t count)
{
    return k->arity < 0 ? count >= (size_t)-k->arity : count == (size_t)k->arity;
}

void command_run(struct client *c, const struct request *r)
{
    struct bytes name = request_argument(r, 0);
    const struct command *k = command_named(name);

    if (!k)
        reply_error(&c->out, "ERR unknown command '%.*s'",
                    (int)(name.length < 128 ? name.length : 128), name.data);
    else if (!arity_fits(k, r->count))
        reply_error(&c->out, "ERR wrong number of arguments for '%s' command", k->name);
    else
        k->run(c, r);
}
