/* SPDX-License-Identifier: MIT */
/*
 * fault_report.c - one line about a fault, written in a signal handler or after one.
 *
 * Nothing of libc but write(2): the thread may have been stopped anywhere.
 */
#include "fault_report.h"

#include <signal.h>
#include <stdlib.h>

struct line {
    char bytes[512];
    size_t length;
};

static void say(struct line *t, const char *s)
{
    while (*s && t->length < sizeof t->bytes)
        t->bytes[t->length++] = *s++;
}

static void say_number(struct line *t, uint64_t n, unsigned base)
{
    char digit[24];
    int i = (int)sizeof digit;

    digit[--i] = '\0';
    do {
        digit[--i] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    say(t, base == 16 ? "0x" : "");
    say(t, &digit[i]);
}

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
    say(t, ", job ");
    if (j && j->name) {
        say(t, j->name);
    } else {
        say(t, "function ");
        say_number(t, j ? (uint64_t)(uintptr_t)j->fn : 0, 16);
    }
}

void fault_report(const struct worker *w, const struct fault *f, const char *why)
{
    const struct fiber *fiber = w->current;
    struct line t = {.length = 0};

    say(&t, "coir: ");
    say(&t, f->overflow ? "stack overflow" : fault_signal_name(f->signal));
    say(&t, ": fiber ");
    say_number(&t, fiber->stack.index, 10);
    say(&t, " on worker ");
    say_number(&t, w->index, 10);
    say_job(&t, fiber->job);
    say(&t, ", fault at ");
    say_number(&t, f->address, 16);
    say(&t, ", stack of ");
    say_number(&t, fiber->bytes, 10);
    say(&t, " bytes, ");
    say_number(&t, depth_of(fiber->job), 10);
    say(&t, " jobs deep");
    if (why)
        say(&t, "; not contained: ");
    say(&t, why ? why : "");
    t.length -= t.length == sizeof t.bytes; /* room for the end of the line */
    say(&t, "\n");
    if (write(STDERR_FILENO, t.bytes, t.length) < 0)
        return; /* nobody to tell; the core tells */
}

void fault_abort(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}
