/* SPDX-License-Identifier: MIT */
/*
 * native.c - DEBUG NATIVE-CRASH: work that is too dangerous for the server's own address space, in a child.
 *
 * What a wild write does to a process nobody can know; so the code that may make one is called where nothing of
 * the server's can be hit. The child's end is an error reply, and the connection goes on.
 */
#include "kv.h"

#include <stdlib.h>
#include <string.h>

static coir_isolator *isolator;

/* The ways to break, in the order of their names below. */
enum way { WILD_WRITE, STACK_SMASH, ABORT, LOOP, EXIT, NOTHING };

static const char *const names[] = {"wild-write", "stack-smash", "abort", "loop", "exit", "nothing"};

#define WAYS (sizeof names / sizeof *names)

const char *native_open(void)
{
    coir_isolator_options o = {
        .size = sizeof o,
        .memory_bytes = 16 << 20,
        .cpu_ns = 50 * COIR_MS,
        .syscalls = COIR_SYSCALLS_COMPUTE,
    };
    int status = coir_isolator_open(&o, &isolator);

    if (status == COIR_ENOSYS) { /* a library, or a kernel, without filters */
        o.syscalls = COIR_SYSCALLS_ALL;
        status = coir_isolator_open(&o, &isolator);
    }
    return status == COIR_OK ? NULL : coir_status_text(status);
}

void native_close(void)
{
    coir_isolator_close(isolator);
}

/* ------------------------------------------------------------------------------------ in the child */

/* Upwards from here, and so over this function's return address and all above. */
static __attribute__((noinline)) void write_from(volatile char *at, size_t bytes, size_t step)
{
    for (size_t i = 0; i < bytes; i += step)
        at[i] = 'x';
}

static size_t break_down(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    enum way way;

    (void)out;
    (void)out_max;
    memcpy(&way, in, in_bytes);
    switch (way) {
    case WILD_WRITE: write_from(__builtin_frame_address(0), SIZE_MAX, 512); break;
    case STACK_SMASH: write_from(__builtin_frame_address(0), 256, 1); break;
    case ABORT: abort();
    case LOOP: for (volatile unsigned n = 0;; n++);
    case EXIT: exit(3);
    case NOTHING: break;
    }
    return 0;
}

/* ----------------------------------------------------------------------------------- in the server */

static enum way asked_for(struct client *c)
{
    size_t i = 0;

    if (c->request.count == 2)
        return WILD_WRITE;
    while (i < WAYS && !bytes_are(request_argument(&c->request, 2), names[i]))
        i++;
    return (enum way)i;
}

const char *native_crash(struct client *c)
{
    enum way way = asked_for(c);
    char text[COIR_TEXT_BYTES];
    coir_failure f;
    int outcome;

    if (c->request.count > 3 || way == WAYS)
        return "NATIVE-CRASH knows WILD-WRITE, STACK-SMASH, ABORT, LOOP, EXIT and NOTHING";
    outcome = coir_isolate_until(isolator, break_down, &way, sizeof way, NULL, NULL, &f, client_deadline(c));
    if (outcome == COIR_ETIMEDOUT)
        return client_late(c);
    if (outcome == COIR_DONE)
        reply_text(&c->out, "+OK\r\n");
    else if (outcome > COIR_DONE && coir_failure_text(coir_current(), f.id, text, sizeof text) == COIR_OK)
        reply_error(&c->out, "ERR isolated: %s", text);
    else
        reply_error(&c->out, "ERR isolated: %s", outcome > COIR_DONE ? f.message : coir_status_text(outcome));
    return NULL;
}
