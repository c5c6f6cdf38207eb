/* SPDX-License-Identifier: MIT */
/*
 * mem.c - the host's allocator and log behind one small interface.
 *
 * The hook promises malloc's alignment only; blocks here start on a cache line, so the original
 * pointer is kept in the word before the block.
 */
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *system_alloc(size_t bytes, void *arg)
{
    (void)arg;
    return malloc(bytes);
}

static void system_free(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

/* Information is for hosts that ask for it; trouble is shown to everybody. */
static void system_log(enum coir_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level != COIR_LOG_INFO)
        fprintf(stderr, "coir: %s\n", text);
}

void host_init(struct host *h, const coir_options *options)
{
    *h = (struct host){
        .alloc = options->alloc ? options->alloc : system_alloc,
        .free = options->free ? options->free : system_free,
        .alloc_arg = options->alloc_arg,
        .log = options->log ? options->log : system_log,
        .log_arg = options->log_arg,
        .own_alloc = options->alloc != NULL,
    };
}

void *mem_alloc(const struct host *h, size_t bytes)
{
    const size_t slack = COIR_CACHE_LINE + sizeof(void *);
    char *raw = bytes > SIZE_MAX - slack ? NULL : h->alloc(bytes + slack, h->alloc_arg);
    uintptr_t block;

    if (!raw)
        return NULL;
    block = ((uintptr_t)raw + slack) & ~(uintptr_t)(COIR_CACHE_LINE - 1);
    ((void **)block)[-1] = raw;
    return memset((void *)block, 0, bytes);
}

void mem_free(const struct host *h, void *memory)
{
    if (memory)
        h->free(((void **)memory)[-1], h->alloc_arg);
}

void host_log(const struct host *h, enum coir_log_level level, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *c = line; *c; c++)
        *c = printable(*c);
    if (h->call_log)
        h->call_log(h, level, line);
    else
        h->log(level, line, h->log_arg);
}
