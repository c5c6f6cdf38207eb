/* SPDX-License-Identifier: MIT */
/*
 * isolate.h - an isolator as its parent knows it. See isolate.c (calls) and isolate_open.c.
 */
#ifndef COIR_ISOLATE_H
#define COIR_ISOLATE_H

#include <unistd.h>

#include "isolate_wire.h"

enum isolate_slot_state {
    SLOT_READY, /* its child waits for a call, or has ended meanwhile */
    SLOT_ASKED, /* a child was asked for, and has not said that it is ready */
    SLOT_EMPTY  /* a child must be asked for */
};

/* The place of one child. Whoever has taken it from the list of those free owns it. */
struct isolate_slot {
    struct isolate_slot *next_free; /* lock */
    uint32_t index;
    int socket;
    char *in, *out;                 /* its shared memory */
    enum isolate_slot_state state;
    uint32_t generation;            /* of the child that is there, or was asked for last */
    unsigned served;                /* calls of that child */
    uint64_t calls;
};

struct coir_isolator {
    struct isolate_plan plan;
    uint32_t born;                  /* life.h */
    pid_t template;
    int orders;                     /* our end */
    char *memory;                   /* of all slots */
    coir_semaphore free_children;   /* a permit for each slot that is free */

    struct lock lock;               /* guards the rest and each next_free */
    struct isolate_slot *free;
    unsigned inside;                /* calls of users that have not returned */
    coir_isolator_stats stats;
    struct isolate_slot slot[];     /* plan.options.children of them */
};

/* A pair of sockets; what is open of it after a failure is the caller's to close. */
int isolate_pair(int *ours, int *theirs);

static inline void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* Asks the template for a new child; the one that is there ends. COIR_OK, COIR_EAGAIN, COIR_ECHILD,
 * or as socketpair. */
int isolate_renew(struct coir_isolator *iso, struct isolate_slot *s);

/* What a notice says to one who waits for a child. True: *status says whether it is there. */
bool isolate_is_ready(struct isolate_slot *s, const struct isolate_notice *n, int *status);

#endif
