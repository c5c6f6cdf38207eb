/* SPDX-License-Identifier: MIT */
/*
 * mailbox.c - what one fiber is told by many, in order, without allocation.
 *
 * Messages are nodes in the objects they are about, so sending cannot fail. The receiver sleeps on a counter
 * and not on an event: a canceled job's wait for a counter is interrupted once, and then it can go on to wait
 * for what must still happen (coir_wait); waits at primitives would return at once each time.
 *
 * The whole of a post, the wake-up too, is under the lock, which is dropped by its last access. So who has
 * seen a message may free the sender's object, and who has taken the lock once more after the last
 * message (mailbox_fini) may free the mailbox.
 */
#include "mailbox.h"

#include "wait.h"

/* Lock held. */
static void wake(struct mailbox *b)
{
    if (!b->asleep)
        return;
    b->asleep = false;
    counter_settle(&b->wake, 1);
}

/* Lock held. */
static void append(struct mailbox *b, struct mail *m)
{
    m->next = NULL;
    m->prev = b->last;
    if (b->last)
        b->last->next = m;
    else
        b->first = m;
    b->last = m;
    m->state = MAIL_LISTED;
    b->bell = true; /* also for a receiver that is about to sleep and cares for this one alone */
    wake(b);
}

/* Lock held. */
static void take_out(struct mailbox *b, struct mail *m)
{
    if (m->prev)
        m->prev->next = m->next;
    else
        b->first = m->next;
    if (m->next)
        m->next->prev = m->prev;
    else
        b->last = m->prev;
}

void mailbox_post(struct mailbox *b, struct mail *m)
{
    lock_take(&b->lock);
    append(b, m);
    lock_drop(&b->lock);
}

bool mailbox_ask(struct mailbox *b, struct mail *m)
{
    bool open;

    lock_take(&b->lock);
    open = !b->closed;
    if (open)
        append(b, m);
    lock_drop(&b->lock);
    return open;
}

void mailbox_ring(struct mailbox *b)
{
    lock_take(&b->lock);
    b->bell = true;
    wake(b);
    lock_drop(&b->lock);
}

struct mail *mailbox_take(struct mailbox *b)
{
    struct mail *m;

    lock_take(&b->lock);
    m = b->first;
    if (m) {
        take_out(b, m);
        m->state = MAIL_TAKEN;
    }
    lock_drop(&b->lock);
    return m;
}

bool mailbox_withdraw(struct mailbox *b, struct mail *m)
{
    bool listed;

    lock_take(&b->lock);
    listed = m->state == MAIL_LISTED;
    if (listed) {
        take_out(b, m);
        m->state = MAIL_UNSENT;
    }
    lock_drop(&b->lock);
    return listed;
}

bool mailbox_take_this(struct mailbox *b, struct mail *m)
{
    bool sent;

    lock_take(&b->lock);
    sent = m->state != MAIL_UNSENT;
    if (m->state == MAIL_LISTED) {
        take_out(b, m);
        m->state = MAIL_TAKEN;
    }
    lock_drop(&b->lock);
    return sent;
}

bool mailbox_was_sent(struct mailbox *b, const struct mail *m)
{
    bool sent;

    lock_take(&b->lock);
    sent = m->state != MAIL_UNSENT;
    lock_drop(&b->lock);
    return sent;
}

void mailbox_close(struct mailbox *b)
{
    lock_take(&b->lock);
    b->closed = true;
    lock_drop(&b->lock);
}

/* False: there is something to look at already. */
static bool fall_asleep(struct mailbox *b, bool mail)
{
    bool asleep;

    lock_take(&b->lock);
    asleep = !b->bell && !(mail && b->first);
    if (asleep)
        counter_owe(&b->wake, 1);
    else
        b->bell = false;
    b->asleep = asleep;
    lock_drop(&b->lock);
    return asleep;
}

/* The wait has ended by itself. */
static void wake_up(struct mailbox *b)
{
    lock_take(&b->lock);
    wake(b);
    lock_drop(&b->lock);
}

int mailbox_sleep(struct mailbox *b, int64_t deadline, bool mail)
{
    int status;

    if (!fall_asleep(b, mail))
        return COIR_OK;
    status = wait_must(&b->wake, deadline);
    if (status >= 0)
        return COIR_OK;
    wake_up(b);
    if (status != COIR_ENOMEM)
        return status;
    coir_yield(); /* no stack to park on: others run here, and may give one back */
    return coir_now() < deadline ? COIR_OK : COIR_ETIMEDOUT;
}

void mailbox_fini(struct mailbox *b)
{
    lock_take(&b->lock);
    lock_drop(&b->lock);
}
