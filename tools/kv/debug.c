/* SPDX-License-Identifier: MIT */
/*
 * debug.c - DEBUG: requests that break their handler, each in a way of its own.
 *
 * For seeing what one bad request does to the others; nobody else's business, so only clients on
 * this machine are obeyed. Each but SLEEP is a real failure, not a report of one: how it ends is
 * up to the runtime and to server.c.
 */
#include "kv.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unwind.h>

#define MILLISECONDS_MAX 60000
#define EXCEPTION_CLASS UINT64_C(0x434f49524b560000) /* "COIRKV": no language's */

static const char *panic(struct client *c)
{
    (void)c;
    coir_panic("DEBUG PANIC asked for by a client");
}

/* The sum keeps it from being a tail call. */
static __attribute__((noinline)) long recurse(const volatile long *above)
{
    volatile long frame[64];

    frame[0] = *above + 1;
    return frame[0] < 0 ? 0 : recurse(frame) + frame[0];
}

static const char *overflow(struct client *c)
{
    volatile long depth = 0;

    (void)c;
    return recurse(&depth) ? NULL : "the stack has no end";
}

/* Nothing is ever mapped in the second page. */
static const char *segfault(struct client *c)
{
    const volatile char *volatile nowhere = (const char *)4096;

    (void)c;
    return *nowhere ? NULL : "something is mapped there";
}

static const char *abort_here(struct client *c)
{
    (void)c;
    abort();
}

static void dispose(_Unwind_Reason_Code why, struct _Unwind_Exception *exception)
{
    (void)why;
    free(exception);
}

/* As the runtime of any language throws: the class tells whose exception it is. */
static const char *throw(struct client *c)
{
    struct _Unwind_Exception *exception = calloc(1, sizeof *exception);

    (void)c;
    if (!exception)
        return "out of memory";
    exception->exception_class = EXCEPTION_CLASS;
    exception->exception_cleanup = dispose;
    _Unwind_RaiseException(exception);
    free(exception);
    return "nobody would catch it";
}

/* It is found out when the job that took it ends; so the connection ends, too. */
static const char *leak(struct client *c)
{
    coir_obligation owed;

    if (coir_obligation_take(NULL, "what DEBUG LEAK owes", &owed) != COIR_OK)
        return "out of memory";
    c->ended = true;
    return "internal: leak: an obligation is not discharged";
}

/* Milliseconds that are asked for; false: *error says what is wrong. */
static bool read_time(struct client *c, int64_t *end, const char **error)
{
    int64_t ms = MILLISECONDS_MAX;

    if (c->request.count > 3)
        *error = "syntax error";
    else if (c->request.count == 3 && !bytes_integer(request_argument(&c->request, 2), &ms))
        *error = NOT_INTEGER;
    else if (ms < 0 || ms > MILLISECONDS_MAX)
        *error = "milliseconds must be 0 to 60000";
    if (*error)
        return false;
    *end = coir_now() + ms * COIR_MS;
    return true;
}

static const char *time_is_over(struct client *c, int64_t end)
{
    if (end > client_deadline(c))
        return client_late(c);
    reply_text(&c->out, "+OK\r\n");
    return NULL;
}

/*
 * Computes, and is polite about it too rarely: it stops at a coir_checkpoint only after twice the
 * time at which a stall is logged. Only its deadline ends it before its time.
 */
static const char *loop(struct client *c)
{
    int64_t stretch = 2 * server.set.stall_ms * COIR_MS, pause = coir_now() + stretch, now, end;
    const char *error = NULL;

    if (!read_time(c, &end, &error))
        return error;
    coir_job_name("DEBUG LOOP");
    while ((now = coir_now()) < end && now < client_deadline(c) && !coir_canceled()) {
        if (now < pause)
            continue;
        (void)coir_checkpoint(); /* of a cancel the loop's condition knows */
        pause = coir_now() + stretch;
    }
    coir_job_name("requests");
    return coir_canceled() ? "canceled" : time_is_over(c, end);
}

static const char *sleep_until(struct client *c)
{
    const char *error = NULL;
    int64_t end;

    if (!read_time(c, &end, &error))
        return error;
    if (coir_sleep_until(end < client_deadline(c) ? end : client_deadline(c)) != COIR_OK)
        return "canceled";
    return time_is_over(c, end);
}

/* Its jobs panic: tried again, buried, and after some of these quarantined. */
static const char *poison(struct client *c)
{
    static const struct bytes pattern = {"debug:poison:*", 14};

    return sum_broken(c, pattern);
}

/* The sweeper, a child of the root supervisor, panics so many times. */
static const char *sweep(struct client *c)
{
    int64_t times = 1;

    if (c->request.count > 3 ||
        (c->request.count == 3 && !bytes_integer(request_argument(&c->request, 2), &times)) ||
        times < 1 || times > 1000)
        return "times must be 1 to 1000";
    atomic_store_explicit(&server.sweeps_to_break, (int)times, memory_order_relaxed); /* no order */
    reply_text(&c->out, "+OK\r\n");
    return NULL;
}

static bool is_local(const struct client *c)
{
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    const struct in6_addr *six = &peer.sin6_addr;

    if (getpeername(c->socket, (struct sockaddr *)&peer, &length) != 0)
        return false;
    if (peer.sin6_family == AF_INET)
        return ntohl(((struct sockaddr_in *)&peer)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(six) ||
           (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == IN_LOOPBACKNET);
}

const char *debug_command(struct client *c)
{
    static const struct {
        const char *name;
        const char *(*run)(struct client *c);
    } kinds[] = {{"panic", panic}, {"overflow", overflow}, {"segfault", segfault},
                 {"abort", abort_here}, {"throw", throw}, {"leak", leak},
                 {"loop", loop}, {"sleep", sleep_until}, {"poison", poison}, {"sweep", sweep},
                 {"native-crash", native_crash}};

    if (!is_local(c))
        return "DEBUG is for local connections only";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (bytes_are(request_argument(&c->request, 1), kinds[i].name))
            return kinds[i].run(c);
    return "DEBUG knows PANIC, OVERFLOW, SEGFAULT, ABORT, THROW, LEAK, LOOP [ms], SLEEP [ms], POISON, "
           "SWEEP [times] and NATIVE-CRASH [way]";
}
