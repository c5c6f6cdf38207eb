/* SPDX-License-Identifier: MIT */
/*
 * mailbox.h - what one fiber is told by many, in order, without allocation. See mailbox.c.
 */
#ifndef COIR_MAILBOX_H
#define COIR_MAILBOX_H

#include "counter.h"

enum mail_state { MAIL_UNSENT = 0, MAIL_LISTED, MAIL_TAKEN };

/* One message: a node in the sender's object. */
struct mail {
    struct mail *next, *prev;
    int state;          /* enum mail_state; the mailbox's lock */
    int kind;           /* the sender's and receiver's own */
};

/* All zero is an empty mailbox. */
struct mailbox {
    struct lock lock;   /* guards all below, and the messages' states */
    struct mail *first, *last;
    bool closed;        /* what may be refused is */
    bool bell;          /* rung, and the receiver has not heard it yet */
    bool asleep;        /* the receiver waits for `wake`, which is owed one unit */
    struct counter wake;
};

/* Appends a message; the last use of it and, but for the lock, of the mailbox. */
void mailbox_post(struct mailbox *b, struct mail *m);

/* The same, but false if the mailbox is closed. */
bool mailbox_ask(struct mailbox *b, struct mail *m);

/* Wakes the receiver without a message: it is to look at flags that were set before. */
void mailbox_ring(struct mailbox *b);

/* The receiver: the next message, or NULL. */
struct mail *mailbox_take(struct mailbox *b);

/* The receiver: takes this message out of turn, if nobody has; false: it has not been sent. */
bool mailbox_take_this(struct mailbox *b, struct mail *m);

/* Takes back a message that nobody has taken yet, so that it is as if never sent. False: too late, or it was
 * never sent. */
bool mailbox_withdraw(struct mailbox *b, struct mail *m);

/* Whether it has been sent. If so, the sender is done with it. */
bool mailbox_was_sent(struct mailbox *b, const struct mail *m);

/* The receiver: from now on mailbox_ask says false. */
void mailbox_close(struct mailbox *b);

/* The receiver: sleeps until the bell rings, or a message comes; with `mail`, not while one is there. COIR_OK;
 * COIR_ETIMEDOUT; COIR_ECANCELED and COIR_EDEADLK as coir_wait_until. May return early: look again. */
int mailbox_sleep(struct mailbox *b, int64_t deadline, bool mail);

/* Nobody sends any more; waits until the last who did has let go. Then its memory may go. */
void mailbox_fini(struct mailbox *b);

#endif
