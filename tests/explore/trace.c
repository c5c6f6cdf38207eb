/* SPDX-License-Identifier: MIT */
/*
 * trace.c - an execution as a text: one line for each step, one column for each thread.
 */
#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COLUMN 6 /* how far each thread is indented behind the one before */

static const char *const order_name[] = {"relaxed", "acquire", "release", "acq_rel", "seq_cst"};

static void line(const char *where, const char *what)
{
    int thread = machine.self->index;

    printf("  %-24s %*s%d: %s\n", where, thread * COLUMN, "", thread, what);
}

void trace(const struct site *site, int order, const char *format, ...)
{
    char where[64], result[96], what[256];
    const char *file = strrchr(site->file, '/'), *place = site->place;
    va_list args;

    if (!machine.running)
        return;
    va_start(args, format);
    vsnprintf(result, sizeof result, format, args);
    va_end(args);
    snprintf(where, sizeof where, "%s:%d", file ? file + 1 : site->file, site->line);
    place += *place == '&';
    snprintf(what, sizeof what, "%s%s%s %s  (%s)", site->operation, *place ? " " : "", place, result,
             order_name[order]);
    line(where, what);
}

void trace_event(const char *format, ...)
{
    char what[600];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    line("", what);
}

const char *source_of(uintptr_t pc)
{
    static char text[256];
    char command[128], *name;
    FILE *from;

    snprintf(text, sizeof text, "%#zx", (size_t)pc);
    snprintf(command, sizeof command, "addr2line -s -e /proc/%d/exe %#zx", (int)getpid(), (size_t)pc - 1);
    from = popen(command, "r");
    if (from && fgets(text, sizeof text, from))
        text[strcspn(text, " \n")] = '\0';
    if (from)
        pclose(from);
    name = strrchr(text, '/');
    return name ? name + 1 : text;
}
