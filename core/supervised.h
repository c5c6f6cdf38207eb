/* SPDX-License-Identifier: MIT */
/*
 * supervised.h - what a supervisor and its children are, and one child's start and stop. See supervised.c.
 */
#ifndef COIR_SUPERVISED_H
#define COIR_SUPERVISED_H

#include "domain.h"
#include "intensity.h"
#include "mailbox.h"

struct child;

/* What the rows above do for a child. */
struct child_ops {
    void (*supervise)(struct child *c); /* on the child's own job: the supervisor that it is */
    void (*ended)(struct child *c);     /* the job and all below it have ended; before the next start */
};

/* Kinds of a supervisor's mail. */
enum { MAIL_CHILD_ENDED, MAIL_REQUEST };

/* A child, or a supervisor in the role of one. */
struct child {
    struct mail mail;         /* its job has ended */

    /* Constant while the supervisor knows it. */
    struct coir_supervisor *owner;
    coir_child_spec spec;     /* defaults filled in */
    uint64_t id;

    /* Read by those who look at the tree: written under its lock. */
    struct child *next, *prev; /* in the order of start */
    struct coir_supervisor *sub; /* the supervisor that it runs, or NULL */
    int state;                /* enum coir_child_state */
    int64_t since;
    uint64_t starts, failures;
    coir_failure last;
    struct coir_domain *shown; /* its domain, for a map that is being drawn; domains_lock */

    /* The start that is under way, or was the last. */
    struct coir_domain *domain; /* NULL: none is open */
    struct counter done;      /* owed its job's end */
    struct wait_node watch;   /* on it: sends the mail */
    coir_event stop;          /* set: it is asked to stop */
    _Atomic bool ready;       /* it has started */
    int64_t asked;            /* when it was asked to stop */
    int outcome;              /* of the job, when it has ended */

    /* Its restart. */
    struct timer due;         /* armed while it is WAITING */
    struct child *next_due;
    unsigned tries;           /* since things last went well */
    bool recount;             /* its start has failed: the next try counts as a restart */
};

/* Who looks at a tree while it changes. The child it will look at next is moved on when that goes. */
struct cursor {
    struct cursor *next;
    const struct coir_supervisor *top;
    struct child *at;         /* NULL: no more */
    unsigned depth;
};

/* One for all supervisors of a tree. */
struct tree {
    struct lock lock;
    struct cursor *cursors;
};

struct coir_supervisor {
    struct mailbox mail;
    struct tree own_tree;     /* the root's */
    struct tree *tree;
    struct coir_runtime *rt;
    struct coir_domain *domain; /* it runs in; those of its children are below */
    struct child *child;      /* as which it is known above; NULL: the root */
    const struct child_ops *ops; /* of its children */
    const char *name;
    int strategy;             /* enum coir_strategy */
    struct intensity intensity; /* counted under the tree's lock */
    struct backoff backoff;
    int64_t (*clock)(void);   /* of the intensity: coir_now, but for tests */
    _Atomic bool asked;       /* to stop */
    bool canceled;            /* its own waits said so: no more budgets */
    bool stopping;            /* no more starts; its own job only, as all below */
    char why[COIR_TEXT_BYTES]; /* it gave up; "": it did not */
    bool stuck;               /* a child is, and the supervisor's memory with it */
    struct timers due;        /* children that are WAITING */
    struct child *first_due, *last_due; /* of them: those whose time has come */
    uint64_t random, ids;     /* ids given out */

    /* The tree's lock. */
    struct child *first, *last;
    unsigned count;
    uint64_t restarts;
    int state;
    int64_t since;

    /* The root's. */
    struct counter job;       /* owed its job's end */
    struct wait_node watch;   /* on it: tells `end` */
    struct counter opening;   /* owed one unit until all children have started */
    int status;               /* of the first starts */
    struct child *failed;     /* that did not start */
    struct counter *end;      /* coir_supervisor_open's; owed one unit until `watch` is told */
    struct counter over;      /* owed one unit until all children are stopped */
};

/* A child that is not known yet, and has nothing: child_link. NULL: no memory. spec: filled in. */
struct child *child_make(struct coir_supervisor *s, const coir_child_spec *spec);

/* The child whose domain the calling job is in, or below. NULL: none. */
struct child *child_here(void);

/* Changes what is shown of a child. */
void child_set_state(struct child *c, int state);

/* It has failed, by itself. */
void child_note_failure(struct child *c, const coir_failure *f);

/* Starts it and waits until it has: COIR_OK; COIR_ECHILD (it broke before, or took too long); COIR_ETIMEDOUT (and
 * does not end: STUCK); COIR_ECANCELED (its supervisor is to stop); a status of coir_domain_open or
 * coir_domain_submit. It is RUNNING, or ENDED, or STUCK then. */
int child_start(struct child *c);

/* Asks it to stop; its budget begins. */
void child_ask(struct child *c);

/* Has it end, if it has not: asks, waits, cancels. What it left is ended, too. False: it is STUCK. */
bool child_stop(struct child *c);

/* Its job has ended by itself: ends what it left, and keeps its failure. False: that is STUCK. */
bool child_reap(struct child *c);

/* The supervisor that shall end: stops it as soon as it looks. */
void supervisor_ask(struct coir_supervisor *s);

/* Whether it has been asked, or cannot go on. Its own job. */
bool supervisor_must_stop(struct coir_supervisor *s);

/* Into the tree, as the last; out of it, together with the cursors. */
void child_link(struct child *c);
void child_unlink(struct child *c);

/* The child after c in a walk from above, its own children left out; NULL: none below `top`. Tree locked. */
struct child *child_after(const struct coir_supervisor *top, struct child *c, unsigned *depth);

#endif
