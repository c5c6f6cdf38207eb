/* SPDX-License-Identifier: MIT */
/*
 * terminate.c - names the frame when C++ ends the process because of a panic.
 *
 * A panic may come to a frame that is noexcept, or a destructor that it runs may throw: C++ answers
 * with std::terminate, which knows nothing of panics. So a terminate handler stands in front of the
 * host's while a panic passes frames that have such an answer at all. It writes the report, then
 * calls the host's, which may be a crash reporter, or aborts.
 *
 * Weighed: to read the frame's tables as its personality will, which with gcc would name it before
 * anything is called; but clang's noexcept looks there like a `catch (...)`. To leave the handler
 * in place for good, which saves an exchange a panic; but the host's would be found displaced long
 * after, and an object that is unloaded would leave it dangling. A job that does not panic pays nothing;
 * nor does a process without C++, whose weak references are NULL.
 *
 * Invariants
 *   N1  While `watched` > 0 the handler is set, unless the host has set another since.
 *   N2  When it falls to 0 the handler is what it was before, or what the host has set since.
 */
#include "terminate.h"

#include <stdio.h>
#include <stdlib.h>

#include "backtrace.h"
#include "life.h"
#include "text.h"

#define CALLS 8 /* from the personality to our handler, and some to spare */

typedef void terminate_fn(void);

extern terminate_fn *set_terminate(terminate_fn *handler) __asm__("_ZSt13set_terminatePFvvE")
    __attribute__((weak));
extern const char cxx_personality[] __asm__("__gxx_personality_v0") __attribute__((weak));
extern char *__cxa_demangle(const char *name, char *buffer, size_t *length, int *status)
    __attribute__((weak));

/* A fork has none of the threads that panic. */
struct watch {
    struct lock lock;          /* guards all this, and our exchanges */
    unsigned watched;          /* panics on their way that have met such a frame */
};

static terminate_fn *previous; /* the handler before ours; constant while watched > 0 */

static struct watch *the_watch(void)
{
    static struct watch instead;
    static _Atomic(void *) at;

    return life_memory(&at, sizeof instead, &instead);
}

/* The function that holds the call, for people. */
static void name_function(uintptr_t pc, char *name, size_t bytes)
{
    char *plain;

    text_name(pc - 1, name, bytes); /* a return address may be the next function's */
    plain = __cxa_demangle ? __cxa_demangle(name, NULL, NULL, NULL) : NULL;
    if (plain)
        snprintf(name, bytes, "%s", plain);
    free(plain);
}

/* Whether the language's personality is what calls, not code that the frame runs. */
static NOINLINE bool personality_calls(void)
{
    void *pc[CALLS];
    unsigned n = backtrace_capture(pc, CALLS, __builtin_frame_address(0));

    for (unsigned i = 0; i < n; i++)
        if (_Unwind_FindEnclosingFunction((char *)pc[i] - 1) == (void *)cxx_personality)
            return true;
    return false;
}

/* What clang makes of noexcept catches the panic first: then C++ has the job's exception on its list,
 * whose entries begin a few words before the exception object. What gcc makes of it is in tables,
 * and the personality obeys; but it is called as well for an exception that a destructor throws,
 * which then is on the list. Else somebody has just called it, as a std::thread that is not joined does. */
static bool is_noexcept(const struct job *j)
{
    const struct eh_globals *eh = thread_exceptions();

    if (eh && (uintptr_t)eh->caught - (uintptr_t)j->wreck < sizeof *j->wreck)
        return true;
    return (!eh || eh->caught == j->wreck->caught) && personality_calls();
}

static void report(const struct job *j)
{
    const coir_failure *f = &j->wreck->failure;
    uintptr_t passing = j->wreck->passing;
    char name[256];

    name_function(passing, name, sizeof name);
    fatal_report("%s: %s:%d: %s; in %s at 0x%llx",
                 is_noexcept(j) ? "a noexcept frame is in the way of a panic"
                                : "std::terminate was called while a panic unwinds",
                 f->file ? f->file : "?", f->line, f->message, name, (unsigned long long)passing);
}

/* A handler that the host has set over ours may go on to it: then `previous` is that very handler, later on. */
static void on_terminate(void)
{
    static __thread bool here_before;
    const struct job *j = *job_slot();
    struct watch *w = the_watch();
    terminate_fn *next;

    if (here_before)
        abort();
    here_before = true;
    if (j && j->raising && j->wreck->watched)
        report(j);
    lock_take(&w->lock);
    next = previous;
    lock_drop(&w->lock);
    if (next)
        next();
    abort();
}

/* The host may have set a handler that goes on to ours, and set ours again. */
static COLD void watch(struct job *j)
{
    struct watch *w = the_watch();

    j->wreck->watched = true;
    lock_take(&w->lock);
    if (w->watched++ == 0) {
        terminate_fn *was = set_terminate(on_terminate);

        previous = was == on_terminate ? previous : was;
    }
    lock_drop(&w->lock);
}

/* The boundary's own frame has language data, too; but a panic ends there. */
static bool may_terminate(struct _Unwind_Context *context)
{
    return _Unwind_GetLanguageSpecificData(context) &&
           _Unwind_GetRegionStart(context) != (uintptr_t)arch_boundary;
}

void terminate_note_caught(struct job *j)
{
    const struct eh_globals *eh = thread_exceptions();

    j->wreck->caught = eh ? eh->caught : NULL;
}

void terminate_look(struct job *j, struct _Unwind_Context *context)
{
    if (!set_terminate || !may_terminate(context))
        return;
    watch(j);
    terminate_note_caught(j);
}

void terminate_ended(struct job *j)
{
    struct watch *w;
    terminate_fn *was;

    if (!j->wreck->watched)
        return;
    w = the_watch();
    j->wreck->watched = false;
    lock_take(&w->lock);
    w->watched -= w->watched > 0; /* it was raised before this process was forked */
    if (w->watched == 0 && (was = set_terminate(previous)) != on_terminate)
        set_terminate(was); /* the host's own, set since */
    lock_drop(&w->lock);
}
