/* SPDX-License-Identifier: MIT */
/*
 * command.c - the commands: a table of names, and a handler for each.
 *
 * A handler appends exactly one reply and returns NULL, or appends none and returns what is wrong.
 * Whoever adds a command adds a handler and a line in the table at the end.
 */
#include "kv.h"

#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static size_t count(const struct client *c)
{
    return c->request.count;
}

static struct bytes argument(const struct client *c, size_t i)
{
    return request_argument(&c->request, i);
}

/* coir_now() + n units, or the last moment that a time can say, in 292 years. False if 64 bits of milliseconds, which
 * are Redis's, do not hold it either. */
static bool time_after(int64_t n, int64_t unit, int64_t *time)
{
    __int128 at = (__int128)n * unit + coir_now(), ms = at / COIR_MS;

    if (ms < INT64_MIN || ms > INT64_MAX)
        return false;
    *time = at < 0 ? 0 : at < STORE_KEEPS ? (int64_t)at : STORE_KEEPS - 1;
    return true;
}

/* ------------------------------------------------------------------------------ keys and values */

static void reply_value(void *out, struct bytes value, int64_t expires)
{
    (void)expires;
    reply_bulk(out, value);
}

static const char *get(struct client *c)
{
    if (!store_read(argument(c, 1), reply_value, &c->out))
        reply_text(&c->out, "$-1\r\n");
    return NULL;
}

/* A reply of many values is sent piece by piece: a peer that does not read must cost no memory. */
static const char *mget(struct client *c)
{
    reply_number(&c->out, '*', (int64_t)count(c) - 1);
    for (size_t i = 1; i < count(c) && !c->ended; i++) {
        if (!store_read(argument(c, i), reply_value, &c->out))
            reply_text(&c->out, "$-1\r\n");
        client_flush(c);
        client_worked(c, 1);
    }
    return NULL;
}

static int64_t unit_named(struct bytes option)
{
    return bytes_are(option, "ex") ? COIR_SEC : bytes_are(option, "px") ? COIR_MS : 0;
}

static enum store_condition condition_named(struct bytes option)
{
    if (bytes_are(option, "nx"))
        return STORE_IF_ABSENT;
    return bytes_are(option, "xx") ? STORE_IF_PRESENT : STORE_ALWAYS;
}

/* An option may be repeated; of times, the last counts, and only it has to be one. */
static const char *set_options(struct client *c, int64_t *expires, enum store_condition *condition)
{
    struct bytes time = {0};
    int64_t timed = 0, n; /* timed: in units of */

    for (size_t i = 3; i < count(c); i++) {
        int64_t unit = unit_named(argument(c, i));
        enum store_condition wanted = condition_named(argument(c, i));

        if (unit && (!timed || timed == unit) && i + 1 < count(c)) {
            timed = unit;
            time = argument(c, ++i);
        } else if (wanted && (*condition == STORE_ALWAYS || *condition == wanted)) {
            *condition = wanted;
        } else {
            return "syntax error";
        }
    }
    if (timed && !bytes_integer(time, &n))
        return NOT_INTEGER;
    if (timed && (n <= 0 || !time_after(n, timed, expires)))
        return "invalid expire time in 'set' command";
    return NULL;
}

static const char *set(struct client *c)
{
    enum store_condition condition = STORE_ALWAYS;
    int64_t expires = STORE_KEEPS;
    const char *error = set_options(c, &expires, &condition);
    bool done = false;

    if (!error)
        error = store_set(argument(c, 1), argument(c, 2), expires, condition, &done);
    if (!error)
        reply_text(&c->out, done ? "+OK\r\n" : "$-1\r\n");
    return error;
}

/* Key by key: no lock spans two shards, so other clients may see some of the keys set. */
static const char *mset(struct client *c)
{
    const char *error = NULL;
    bool done;

    if (count(c) % 2 == 0)
        return "wrong number of arguments for 'mset' command";
    for (size_t i = 1; i < count(c) && !error; i += 2) {
        error = store_set(argument(c, i), argument(c, i + 1), STORE_KEEPS, STORE_ALWAYS, &done);
        client_worked(c, 1);
    }
    if (!error)
        reply_text(&c->out, "+OK\r\n");
    return error;
}

/* DEL and EXISTS. */
static const char *del(struct client *c)
{
    bool remove = bytes_are(argument(c, 0), "del");
    int64_t there = 0;

    for (size_t i = 1; i < count(c); i++) {
        there += remove ? store_expire(argument(c, i), 0) : store_read(argument(c, i), NULL, NULL);
        client_worked(c, 1);
    }
    reply_number(&c->out, ':', there);
    return NULL;
}

/* INCR, DECR and INCRBY, which names its delta. */
static const char *incr(struct client *c)
{
    int64_t delta = bytes_are(argument(c, 0), "decr") ? -1 : 1, sum;
    const char *error;

    if (count(c) == 3 && !bytes_integer(argument(c, 2), &delta))
        return NOT_INTEGER;
    error = store_add(argument(c, 1), delta, &sum);
    if (!error)
        reply_number(&c->out, ':', sum);
    return error;
}

static const char *expire(struct client *c)
{
    int64_t seconds, expires;

    if (!bytes_integer(argument(c, 2), &seconds))
        return NOT_INTEGER;
    if (!time_after(seconds, COIR_SEC, &expires))
        return "invalid expire time in 'expire' command";
    reply_number(&c->out, ':', store_expire(argument(c, 1), expires));
    return NULL;
}

static void read_expiry(void *arg, struct bytes value, int64_t expires)
{
    (void)value;
    *(int64_t *)arg = expires;
}

static const char *ttl(struct client *c)
{
    int64_t expires;

    if (!store_read(argument(c, 1), read_expiry, &expires))
        reply_number(&c->out, ':', -2);
    else if (expires == STORE_KEEPS)
        reply_number(&c->out, ':', -1);
    else
        reply_number(&c->out, ':', (expires - coir_now() + COIR_SEC / 2) / COIR_SEC);
    return NULL;
}

static const char *dbsize(struct client *c)
{
    reply_number(&c->out, ':', (int64_t)store_count());
    return NULL;
}

static const char *flushall(struct client *c)
{
    struct bytes how = count(c) == 2 ? argument(c, 1) : (struct bytes){"sync", 4};
    struct store_flush flush = {0};
    size_t freed;

    if (count(c) > 2 || (!bytes_are(how, "sync") && !bytes_are(how, "async")))
        return "syntax error";
    store_flush(&flush);
    while ((freed = store_flush_step(&flush)) > 0)
        client_worked(c, freed);
    reply_text(&c->out, "+OK\r\n");
    return NULL;
}

/* ------------------------------------------------------------------------ connection and server */

/* PING and ECHO. */
static const char *echo(struct client *c)
{
    if (count(c) == 2)
        reply_bulk(&c->out, argument(c, 1));
    else
        reply_text(&c->out, "+PONG\r\n");
    return NULL;
}

static const char *quit(struct client *c)
{
    reply_text(&c->out, "+OK\r\n");
    c->ended = true;
    return NULL;
}

/* Those of Redis. There is nothing to save and no end to be called off; so they make sense, or what is wrong is returned. */
static const char *shutdown_options(const struct client *c)
{
    static const char *const known[] = {"save", "nosave", "now", "force", "abort"};
    enum { BOTH = 1 | 2, ABORT = 16, COUNT = 5 };
    unsigned given = 0, k;

    for (size_t i = 1; i < count(c); i++) {
        for (k = 0; k < COUNT && !bytes_are(argument(c, i), known[k]); k++)
            ;
        given |= 1u << k;
    }
    if (given >> COUNT || (given & BOTH) == BOTH || (given & ABORT && given != ABORT))
        return "syntax error";
    return given == ABORT ? "No shutdown in progress." : NULL;
}

/* Main waits for this signal and closes in good order. As in Redis, the reply is the close. */
static const char *shutdown_server(struct client *c)
{
    const char *error = shutdown_options(c);

    if (error)
        return error;
    kill(getpid(), SIGTERM);
    c->ended = true;
    return NULL;
}

static const char *info(struct client *c)
{
    struct buffer text __attribute__((cleanup(buffer_free))) = {0};
    struct bytes all = {"", 0}, section = count(c) > 1 ? argument(c, 1) : all;

    if (bytes_are(section, "all") || bytes_are(section, "everything") ||
        bytes_are(section, "default"))
        section = all;
    figures_info(&text, section);
    if (text.failed)
        return "out of memory";
    reply_bulk(&c->out, (struct bytes){text.data, text.used});
    return NULL;
}

static const char *config(struct client *c)
{
    char pattern[64] = "", clients[16];
    const char *const parameter[3][2] = {
        {"appendonly", "no"}, {"maxclients", clients}, {"save", ""}};
    struct bytes glob = argument(c, 2);
    bool match[3];
    int matches = 0;

    if (count(c) != 3 || !bytes_are(argument(c, 1), "get"))
        return "only CONFIG GET is supported";
    if (glob.length >= sizeof pattern) /* fnmatch may take for ever at a long one */
        return "the glob is longer than 63 bytes";
    if (!memchr(glob.data, '\0', glob.length)) /* else it is like no name */
        memcpy(pattern, glob.data, glob.length);
    snprintf(clients, sizeof clients, "%d", server.set.max_clients);
    for (int i = 0; i < 3; i++)
        matches += match[i] = fnmatch(pattern, parameter[i][0], FNM_CASEFOLD) == 0;
    reply_number(&c->out, '*', 2 * matches);
    for (int i = 0; i < 6; i++) {
        const char *text = parameter[i / 2][i % 2];

        if (match[i / 2])
            reply_bulk(&c->out, (struct bytes){text, strlen(text)});
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------- table */

static const char *command(struct client *c);

#define ANY SIZE_MAX

static const struct command {
    const char *name;
    size_t min, max; /* arguments, the name included */
    const char *(*run)(struct client *c);
} commands[] = {
    {"get", 2, 2, get},
    {"set", 3, ANY, set},
    {"ping", 1, 2, echo},
    {"incr", 2, 2, incr},
    {"mset", 3, ANY, mset},
    {"mget", 2, ANY, mget},
    {"del", 2, ANY, del},
    {"exists", 2, ANY, del},
    {"decr", 2, 2, incr},
    {"incrby", 3, 3, incr},
    {"expire", 3, 3, expire},
    {"ttl", 2, 2, ttl},
    {"echo", 2, 2, echo},
    {"dbsize", 1, 1, dbsize},
    {"flushall", 1, ANY, flushall},
    {"sum", 2, 2, sum_command},
    {"info", 1, ANY, info},
    {"command", 1, ANY, command},
    {"config", 3, ANY, config},
    {"quit", 1, ANY, quit},
    {"shutdown", 1, ANY, shutdown_server},
    {"debug", 2, ANY, debug_command},
    {0},
};

/* No command is described: COMMAND COUNT says how many, the rest is empty, and clients go on. */
static const char *command(struct client *c)
{
    if (count(c) > 1 && bytes_are(argument(c, 1), "count"))
        reply_number(&c->out, ':', sizeof commands / sizeof commands[0] - 1);
    else
        reply_number(&c->out, '*', 0);
    return NULL;
}

void command_run(struct client *c)
{
    const struct command *k = commands;
    struct bytes name;
    const char *error;

    if (count(c) == 0)
        return;
    for (name = argument(c, 0); k->name && !bytes_are(name, k->name); k++)
        ;
    c->commands++;
    if (!k->name)
        reply_error(&c->out, "ERR unknown command '%.*s'",
                    (int)(name.length < 128 ? name.length : 128), name.data);
    else if (count(c) < k->min || count(c) > k->max)
        reply_error(&c->out, "ERR wrong number of arguments for '%s' command", k->name);
    else if ((error = k->run(c)))
        reply_error(&c->out, "ERR %s", error);
}
