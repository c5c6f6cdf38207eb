/* SPDX-License-Identifier: MIT */
/*
 * isolate_wire.h - what the parent, the template and the children of an isolator know in common: what was
 * settled before the first fork, and what they say to each other.
 *
 * Each child has a pair of packet sockets. One end is the parent's; of the other there are two users, the child,
 * which alone reads it, and the template, which writes what it knows of that child. A further pair carries the
 * parent's orders to the template, each with the end for the child that it is about. Sizes and outcomes go through
 * sockets, only input and result are shared memory: what a child scribbles on, its parent never has to believe.
 *
 * A pair for each slot was dropped: what a child had done to it (written ahead, shut it down, left it to a process of its
 * own) was done to those that came after it.
 */
#ifndef COIR_ISOLATE_WIRE_H
#define COIR_ISOLATE_WIRE_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base.h"

#define ISOLATE_CHILDREN_MAX 128

struct sock_filter;

/* Settled by coir_isolator_open; the same in all processes. */
struct isolate_plan {
    coir_isolator_options options; /* filled in */
    size_t in_bytes, out_bytes;    /* of a slot, in whole pages */
    int memory;                    /* of all slots, one after the other; its input first */
    int orders;                    /* the template's end */
    int parent;                    /* a descriptor of the parent, readable when it has ended; -1: unknown */
    struct sock_filter *filter;    /* filter_count instructions; NULL: none */
    size_t filter_count;
    int end[ISOLATE_CHILDREN_MAX]; /* of the slots' sockets, the children's side; the template puts others there */
};

static inline size_t isolate_slot_bytes(const struct isolate_plan *p)
{
    return p->in_bytes + p->out_bytes;
}

/* Processor time of a child's whole life, in nanoseconds, after which it is replaced: some calls' worth. */
static inline int64_t isolate_cpu_life(const struct isolate_plan *p)
{
    int64_t call = p->options.cpu_ns;

    return call > COIR_NEVER / 16 ? COIR_NEVER / 2 : 10 * call;
}

/* Parent to template: end the child of the slot if it lives, and start the one of this generation. A descriptor
 * comes along. */
struct isolate_order {
    uint32_t slot, generation;
};

struct isolate_passed {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int))];
};

static inline struct msghdr isolate_passing(struct iovec *order, struct isolate_passed *p)
{
    return (struct msghdr){
        .msg_iov = order, .msg_iovlen = 1, .msg_control = p->bytes, .msg_controllen = sizeof p->bytes};
}

/* Parent to child. */
struct isolate_call {
    uint64_t number; /* of the slot's calls */
    coir_isolated_fn *fn;
    size_t in_bytes, out_room;
};

enum isolate_notice_kind {
    NOTICE_READY, /* from a child: it waits for calls. Or from the template: it could not be forked */
    NOTICE_DONE,  /* from a child: the call is over */
    NOTICE_ENDED  /* from the template: the child has ended */
};

/* To the parent, on the slot's socket. */
struct isolate_notice {
    enum isolate_notice_kind kind;
    uint32_t generation; /* of the child */
    int status;          /* READY: COIR_OK, or why not. ENDED: as of waitpid */
    uint32_t unread;     /* READY: calls that the child before has not taken */

    /* ENDED: of its whole life. */
    uint64_t peak_bytes;
    int64_t cpu_ns;

    /* DONE. */
    uint64_t number;     /* of the call */
    bool worn;           /* the child should be replaced */
    int outcome;         /* the rest of the failure belongs to outcomes other than COIR_DONE */
    int failure_kind, code;
    size_t bytes;        /* of the result */
    char text[COIR_TEXT_BYTES];
};

#endif
