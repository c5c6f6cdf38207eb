/* SPDX-License-Identifier: MIT */
/*
 * mem.h - the host's allocator and log, as the runtime uses them.
 *
 * Every allocation of a runtime goes through one struct host, so that the host stays the owner
 * of its memory and of what is printed.
 */
#ifndef COIR_MEM_H
#define COIR_MEM_H

#include "base.h"

struct host {
    void *(*alloc)(size_t bytes, void *arg);
    void (*free)(void *memory, void *arg);
    void *alloc_arg;
    void (*log)(enum coir_log_level level, const char *text, void *arg);
    void *log_arg;
    /* Calls log with a line. Set by the row of hostcall.c, which knows what the host's code must not do; NULL:
     * it is just called. */
    void (*call_log)(const struct host *h, enum coir_log_level level, const char *text);
    bool own_alloc; /* the user gave an allocator: stacks come from it as well */
};

/* Takes the hooks of the options, or the system's. */
void host_init(struct host *h, const coir_options *options);

/* Zeroed memory on its own cache lines; NULL when there is none. */
void *mem_alloc(const struct host *h, size_t bytes);
void mem_free(const struct host *h, void *memory); /* NULL: nothing */

/* One line for the host's log. */
__attribute__((format(printf, 3, 4))) void host_log(const struct host *h, enum coir_log_level level,
                                                    const char *format, ...);

/* What follows a word in a text that counts. */
static inline const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

#endif
