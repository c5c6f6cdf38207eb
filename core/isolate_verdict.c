/* SPDX-License-Identifier: MIT */
/*
 * isolate_verdict.c - turns what is known of a broken call into a failure record.
 *
 * What comes from the child is text and numbers of a process that may have been writing wildly: numbers are
 * checked, text is cut and terminated, and a pointer is never taken.
 */
#include "isolate_verdict.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "hostcall.h"
#include "job.h"
#include "report.h"

/* The job that waited; what is left to fill in is code and text. */
static void begin(coir_failure *f, int outcome, int kind)
{
    job_failure(*job_slot(), f, outcome, (enum coir_kind)kind);
    f->location = COIR_AT_ISOLATED;
}

static int tell(coir_failure *f, const char *text, coir_failure *out)
{
    struct coir_runtime *rt = runtime_here();
    int untold;

    snprintf(f->message, sizeof f->message, "%s", text);
    untold = report_keep(rt, f, text, job_domain(*job_slot()));
    if (f->outcome == COIR_PANICKED) {
        report_failure(rt, f, text, untold);
        hostcall_panicked(rt, f);
    }
    if (out)
        *out = *f;
    return f->outcome;
}

/* Kinds that a boundary of a plain thread gives. */
int verdict_said(const struct isolate_notice *n, coir_failure *failure)
{
    bool failed = n->outcome == COIR_FAILED;
    char text[COIR_TEXT_BYTES];
    coir_failure f;

    begin(&f, failed ? COIR_FAILED : COIR_PANICKED,
          n->failure_kind > COIR_KIND_NONE && n->failure_kind < COIR_KINDS ? n->failure_kind : COIR_KIND_ISOLATED);
    f.code = failed ? n->code : 0;
    snprintf(text, sizeof text, "%.*s", (int)sizeof n->text - 1, n->text);
    return tell(&f, text, failure);
}

/* "why; limits: memory 256 MiB, CPU 1000 ms, time 10000 ms", as far as there are any. */
static size_t put_limits(char *text, size_t size, const coir_isolator_options *o)
{
    size_t at = strlen(text);

    at += (size_t)snprintf(text + at, size - at, "; limits:");
    if (o->memory_bytes == COIR_UNLIMITED && o->cpu_ns == COIR_NEVER && o->time_ns == COIR_NEVER)
        at += (size_t)snprintf(text + at, size - at, " none");
    if (o->memory_bytes != COIR_UNLIMITED)
        at += (size_t)snprintf(text + at, size - at, " memory %llu KiB",
                               (unsigned long long)(o->memory_bytes >> 10));
    if (o->cpu_ns != COIR_NEVER)
        at += (size_t)snprintf(text + at, size - at, " CPU %lld ms", (long long)(o->cpu_ns / COIR_MS));
    if (o->time_ns != COIR_NEVER)
        at += (size_t)snprintf(text + at, size - at, " time %lld ms", (long long)(o->time_ns / COIR_MS));
    return at;
}

static const char *reason_for(int signal, bool cpu_spent)
{
    switch (signal) {
    case SIGXCPU: return ", past its CPU limit";
    case SIGSYS: return ", a forbidden system call";
    case SIGKILL: return cpu_spent ? ", past its CPU limit" : ", by somebody else (out of memory?)";
    default: return "";
    }
}

static void put_signal(char *text, size_t size, int signal, bool cpu_spent)
{
    const char *name = sigabbrev_np(signal);

    snprintf(text, size, "SIG%s%s", name ? name : "?", reason_for(signal, cpu_spent));
}

int verdict_ended(const struct isolate_plan *p, const struct isolate_notice *n, coir_failure *failure)
{
    bool exited = WIFEXITED(n->status);
    char text[COIR_TEXT_BYTES];
    coir_failure f;
    size_t at;

    begin(&f, exited ? COIR_FAILED : COIR_PANICKED, COIR_KIND_ISOLATED);
    f.code = exited ? WEXITSTATUS(n->status) : WTERMSIG(n->status);
    if (exited)
        snprintf(text, sizeof text, "exit status %d", f.code);
    else
        put_signal(text, sizeof text, f.code,
                   p->options.cpu_ns != COIR_NEVER && n->cpu_ns > isolate_cpu_life(p));
    at = put_limits(text, sizeof text, &p->options);
    snprintf(text + at, sizeof text - at, "; its child had used %llu KiB, CPU %lld ms",
             (unsigned long long)(n->peak_bytes >> 10), (long long)(n->cpu_ns / COIR_MS));
    return tell(&f, text, failure);
}

int verdict_late(const struct isolate_plan *p, coir_failure *failure)
{
    char text[COIR_TEXT_BYTES] = "past its time limit";
    coir_failure f;

    begin(&f, COIR_PANICKED, COIR_KIND_ISOLATED);
    put_limits(text, sizeof text, &p->options);
    return tell(&f, text, failure);
}

int verdict_deaf(coir_failure *failure)
{
    coir_failure f;

    begin(&f, COIR_PANICKED, COIR_KIND_ISOLATED);
    return tell(&f, "shut down the socket that its calls come by", failure);
}

int verdict_too_long(size_t bytes, size_t room, coir_failure *failure)
{
    char text[COIR_TEXT_BYTES];
    coir_failure f;

    begin(&f, COIR_PANICKED, COIR_KIND_ISOLATED);
    snprintf(text, sizeof text, "it returned %zu bytes, where there is room for %zu", bytes, room);
    return tell(&f, text, failure);
}
