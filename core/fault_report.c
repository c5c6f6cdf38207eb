/* SPDX-License-Identifier: MIT */
/*
 * fault_report.c - one line about a fault, written in a signal handler or after one.
 *
 * Nothing of libc but write(2): the thread may have been stopped anywhere.
 */
#include "fault_report.h"

#include <signal.h>
#include <stdlib.h>

#include "line.h"

const char *fault_signal_name(int signal)
{
    switch (signal) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGILL: return "SIGILL";
    case SIGABRT: return "SIGABRT";
    default: return "a signal";
    }
}

static unsigned depth_of(const struct job *j)
{
    unsigned n = 0;

    for (; j; j = j->outer)
        n += !j->is_try;
    return n;
}

static void say_job(struct line *t, const struct job *j)
{
    while (j && j->is_try && j->outer)
        j = j->outer;
    line_say(t, ", job ");
    if (j && j->name) {
        line_say(t, j->name);
    } else {
        line_say(t, "function ");
        line_number(t, j ? (uint64_t)(uintptr_t)j->fn : 0, 16);
    }
}

void fault_report(const struct worker *w, const struct fault *f, const char *why)
{
    const struct fiber *fiber = f->fiber;
    struct line t = {.length = 0};

    line_say(&t, "coir: ");
    line_say(&t, f->overflow ? "stack overflow" : fault_signal_name(f->signal));
    line_say(&t, ": fiber ");
    line_number(&t, fiber->stack.index, 10);
    line_say(&t, " on worker ");
    line_number(&t, w->index, 10);
    say_job(&t, fiber->job);
    line_say(&t, ", fault at ");
    line_number(&t, f->address, 16);
    line_say(&t, ", stack of ");
    line_number(&t, fiber->bytes, 10);
    line_say(&t, " bytes, ");
    line_number(&t, depth_of(fiber->job), 10);
    line_say(&t, " jobs deep");
    if (why)
        line_say(&t, "; not contained: ");
    line_say(&t, why ? why : "");
    t.length -= t.length == sizeof t.bytes; /* room for the end of the line */
    line_say(&t, "\n");
    (void)line_flush(&t, STDERR_FILENO); /* else nobody can be told; the core tells */
}

void fault_abort(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}
