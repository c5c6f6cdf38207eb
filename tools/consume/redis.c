/* SPDX-License-Identifier: MIT */
/*
 * redis.c - see redis.h.
 */
#include "redis.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 16384

void redis_close(struct redis *r)
{
    if (r->reader)
        redisReaderFree(r->reader);
    if (r->socket >= 0)
        coir_socket_close(r->socket);
    r->reader = NULL;
    r->socket = -1;
}

/* Closes the connection: nobody knows any more which reply would be whose. */
static redisReply *broken(struct redis *r, const char *doing, const char *why)
{
    snprintf(r->error, sizeof r->error, "%s: %s", doing, why);
    redis_close(r);
    return NULL;
}

static bool is_connected(struct redis *r, int64_t deadline)
{
    if (r->reader)
        return true;
    r->socket = coir_socket_connect_until(r->address, r->port, deadline);
    if (r->socket < 0) {
        broken(r, "connect", coir_status_text(r->socket));
        return false;
    }
    r->reader = redisReaderCreate();
    if (!r->reader)
        broken(r, "connect", "no memory");
    return r->reader;
}

static redisReply *receive(struct redis *r, int64_t deadline)
{
    char chunk[CHUNK];
    void *reply = NULL;

    while (redisReaderGetReply(r->reader, &reply) == REDIS_OK) {
        int64_t n;

        if (reply)
            return reply;
        n = coir_socket_recv_until(r->socket, chunk, sizeof chunk, deadline);
        if (n <= 0)
            return broken(r, "receive", n ? coir_status_text((int)n) : "the server has closed");
        if (redisReaderFeed(r->reader, chunk, (size_t)n) != REDIS_OK)
            break;
    }
    return broken(r, "receive", r->reader->errstr);
}

/* Sends a formatted command and gives its memory back. */
static redisReply *exchange(struct redis *r, int64_t deadline, char *command, int bytes)
{
    int64_t sent;

    if (bytes < 0)
        return broken(r, "format", "no memory");
    if (!is_connected(r, deadline)) {
        redisFreeCommand(command);
        return NULL;
    }
    sent = coir_socket_send_until(r->socket, command, (size_t)bytes, deadline);
    redisFreeCommand(command);
    if (sent != bytes)
        return broken(r, "send", sent < 0 ? coir_status_text((int)sent) : "cut short");
    return receive(r, deadline);
}

redisReply *redis_call(struct redis *r, int64_t deadline, const char *format, ...)
{
    char *command = NULL;
    va_list list;
    int bytes;

    va_start(list, format);
    bytes = redisvFormatCommand(&command, format, list);
    va_end(list);
    return exchange(r, deadline, command, bytes);
}

redisReply *redis_call_words(struct redis *r, int64_t deadline, int count, const char **word,
                             const size_t *bytes)
{
    char *command = NULL;
    int total = redisFormatCommandArgv(&command, count, word, bytes);

    return exchange(r, deadline, command, total);
}

const char *redis_error(const struct redis *r, const redisReply *reply)
{
    if (!reply)
        return r->error;
    return reply->type == REDIS_REPLY_ERROR ? reply->str : "a reply of another kind than the command has";
}
