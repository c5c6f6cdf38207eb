/* SPDX-License-Identifier: MIT */
/*
 * isolate.c - calls in the children of an isolator.
 *
 * A call owns a slot from its beginning to its end, and so is the only one who reads that slot's socket, writes
 * to it, and orders a new child for it. It waits as for any peer: in the runtime's own I/O.
 *
 *          ordered                ready
 *   EMPTY ---------> ASKED ---------------> READY --+ call, done
 *     ^                |  ^                   |  ^--+
 *     |     not forked |  |   ended, late,    |
 *     +----------------+  +---- left, worn ---+
 *
 * A child may shut its socket down. Then its call has broken, and with it the child: only if the template takes no orders
 * is it that which has gone.
 *
 * A child that has ended may have done so before it took the call (somebody killed it while it was idle). Then
 * the call is still in the socket, and the template says so when it starts the next child: I4.
 *
 * Invariants
 *   I1  A slot is in the list of those free, with a permit, or owned by one call.
 *   I2  Notices of children that are gone, and of calls that were left, are known by their number, and dropped.
 *   I3  A call that was left in any way is never heard of again: its child has been ordered to end.
 *   I4  A call is begun at most once: it is sent again only if the template has taken it out of the socket
 *       unread, or it could not be sent.
 *   I5  What a child does to its socket, or says there, ends with it: each has a pair of its own.
 */
#include "isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "isolate_verdict.h"
#include "life.h"
#include "wait.h"

#define TRIES 3 /* children may be killed while they are idle, but not as a habit */

/* One call, as its caller asked for it. */
struct asked {
    coir_isolated_fn *fn;
    const void *in;
    size_t in_bytes, room;
    void *out;
    size_t *out_bytes;
    coir_failure *failure;
    int64_t deadline;
};

/* ------------------------------------------------------------------------------------- children */

/* Not as a standard stream that the program has closed: children go on using their numbers. */
static int above_standard(int *fd)
{
    int low = *fd;

    if (low > STDERR_FILENO)
        return COIR_OK;
    *fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (*fd < 0) {
        *fd = low;
        return -errno;
    }
    close(low);
    return COIR_OK;
}

int isolate_pair(int *ours, int *theirs)
{
    int fd[2], status;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return -errno;
    *ours = fd[0];
    *theirs = fd[1];
    status = above_standard(ours);
    return status == COIR_OK ? above_standard(theirs) : status;
}

/* With the end of a new socket pair, which is the child's; -1: the one that is there is to end, and none to follow. */
static int order(const struct coir_isolator *iso, struct isolate_order *o, int end)
{
    struct isolate_passed passed;
    struct iovec what = {o, sizeof *o};
    struct msghdr m = isolate_passing(&what, &passed);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    *c = (struct cmsghdr){CMSG_LEN(sizeof end), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &end, sizeof end);
    if (end < 0)
        m.msg_controllen = 0;
    if (sendmsg(iso->orders, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof *o)
        return COIR_OK;
    return errno == EAGAIN ? COIR_EAGAIN : COIR_ECHILD;
}

int isolate_renew(struct coir_isolator *iso, struct isolate_slot *s)
{
    struct isolate_order o = {.slot = s->index, .generation = s->generation + 1};
    int ours = -1, theirs = -1, status = isolate_pair(&ours, &theirs);

    s->state = SLOT_EMPTY;
    if (status == COIR_OK)
        status = order(iso, &o, theirs);
    else
        order(iso, &o, -1);
    close_if_open(theirs);
    if (status != COIR_OK) {
        close_if_open(ours);
        return status;
    }
    coir_socket_close(s->socket); /* nothing of the child before is heard any more: I5 */
    s->socket = ours;
    s->generation = o.generation;
    s->state = SLOT_ASKED;
    s->served = 0;
    lock_take(&iso->lock);
    iso->stats.replaced++;
    lock_drop(&iso->lock);
    return COIR_OK;
}

bool isolate_is_ready(struct isolate_slot *s, const struct isolate_notice *n, int *status)
{
    if (n->generation != s->generation || n->kind == NOTICE_DONE)
        return false; /* I2 */
    *status = n->kind == NOTICE_READY ? n->status : COIR_ECHILD;
    s->state = *status == COIR_OK ? SLOT_READY : SLOT_EMPTY;
    return true;
}

/* What was heard is dropped: whether to wait on. A child that sends without end does not keep its call. */
static int wait_on(int64_t deadline)
{
    if (coir_canceled())
        return COIR_ECANCELED;
    return coir_now() < deadline ? COIR_OK : COIR_ETIMEDOUT;
}

/* Nothing was received. Of an empty packet, or because nobody is left who could send one? */
static bool is_left_alone(const struct isolate_slot *s)
{
    struct pollfd on = {.fd = s->socket, .events = POLLRDHUP};

    return poll(&on, 1, 0) != 0;
}

/* Waits for a notice. COIR_OK, or the status of the wait. Packets of another size are some child's garbage. */
static int hear(const struct isolate_slot *s, struct isolate_notice *n, int64_t deadline)
{
    int64_t got;
    int status = COIR_OK;

    do {
        got = coir_socket_recv_until(s->socket, n, sizeof *n, deadline);
        if (got == sizeof *n)
            return COIR_OK;
        if (got == -ECONNRESET || (got == 0 && is_left_alone(s)))
            return COIR_ECHILD; /* shut down by the child, or the template is gone, and all with it */
        status = got < 0 ? (int)got : wait_on(deadline);
    } while (status == COIR_OK);
    return status;
}

/* Waits until the slot has a child. *unread: the one before has left so many calls. */
static int await_child(struct coir_isolator *iso, struct isolate_slot *s, uint32_t *unread, int64_t deadline)
{
    struct isolate_notice n;
    int status = s->state == SLOT_EMPTY ? isolate_renew(iso, s) : COIR_OK;

    *unread = 0;
    while (status == COIR_OK && s->state == SLOT_ASKED) {
        status = hear(s, &n, deadline);
        if (status == COIR_OK && isolate_is_ready(s, &n, &status))
            *unread = n.kind == NOTICE_READY ? n.unread : 0;
        else if (status == COIR_OK)
            status = wait_on(deadline);
    }
    if (status == COIR_ECHILD)
        s->state = SLOT_EMPTY;
    return status;
}

/* ---------------------------------------------------------------------------------------- calls */

/* COIR_EINTR: the child hears nothing any more. */
static int send_call(struct isolate_slot *s, const struct asked *a)
{
    struct isolate_call call = {
        .number = ++s->calls, .fn = a->fn, .in_bytes = a->in_bytes, .out_room = a->room};

    if (a->in_bytes)
        memcpy(s->in, a->in, a->in_bytes);
    if (send(s->socket, &call, sizeof call, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof call)
        return COIR_OK;
    s->state = SLOT_EMPTY;
    return errno == EAGAIN ? COIR_EAGAIN : COIR_EINTR;
}

static bool is_end(const struct isolate_slot *s, const struct isolate_notice *n)
{
    return (n->generation == s->generation && n->kind == NOTICE_ENDED) ||
           (n->number == s->calls && n->kind == NOTICE_DONE); /* I2 */
}

/* Waits for the notice that ends the call: DONE, or ENDED. */
static int hear_end(const struct isolate_slot *s, struct isolate_notice *n, int64_t deadline)
{
    int status = hear(s, n, deadline);

    while (status == COIR_OK && !is_end(s, n)) {
        status = wait_on(deadline);
        if (status == COIR_OK)
            status = hear(s, n, deadline);
    }
    return status;
}

/* The child has said that it is done. */
static int take_result(struct coir_isolator *iso, struct isolate_slot *s, const struct asked *a,
                       const struct isolate_notice *n)
{
    int status = n->worn || ++s->served >= iso->plan.options.calls_max ? isolate_renew(iso, s) : COIR_OK;

    (void)status; /* what cannot be ordered now is ordered by the next who needs it */
    if (n->outcome != COIR_DONE)
        return verdict_said(n, a->failure);
    if (n->bytes > a->room) {
        isolate_renew(iso, s); /* it may have written that much */
        return verdict_too_long(n->bytes, a->room, a->failure);
    }
    if (n->bytes)
        memcpy(a->out, s->out, n->bytes);
    if (a->out_bytes)
        *a->out_bytes = n->bytes;
    return COIR_DONE;
}

/* The child has ended. COIR_EINTR: before it took the call. */
static int mourn(struct coir_isolator *iso, struct isolate_slot *s, const struct asked *a,
                 const struct isolate_notice *n)
{
    uint32_t unread;

    s->state = SLOT_EMPTY;
    if (await_child(iso, s, &unread, a->deadline) == COIR_OK && unread)
        return COIR_EINTR; /* I4 */
    return verdict_ended(&iso->plan, n, a->failure);
}

/* The wait for the end of a call was given up, for this reason. */
static int give_up(struct coir_isolator *iso, struct isolate_slot *s, const struct asked *a, int status)
{
    int renewed = isolate_renew(iso, s); /* I3 */

    if (status == COIR_ECHILD && renewed == COIR_OK)
        return verdict_deaf(a->failure);
    if (status == COIR_ETIMEDOUT && coir_now() < a->deadline)
        return verdict_late(&iso->plan, a->failure);
    return status;
}

/* One attempt, in a slot that is the caller's. COIR_EINTR: it was not begun. */
static int attempt(struct coir_isolator *iso, struct isolate_slot *s, const struct asked *a)
{
    struct isolate_notice n;
    uint32_t unread;
    int64_t now, limit;
    int status = await_child(iso, s, &unread, a->deadline);

    now = coir_now();
    if (status == COIR_OK)
        status = now < a->deadline ? send_call(s, a) : COIR_ETIMEDOUT;
    if (status != COIR_OK)
        return status;
    limit = time_after(now, iso->plan.options.time_ns);
    status = hear_end(s, &n, limit < a->deadline ? limit : a->deadline);
    if (status != COIR_OK)
        return give_up(iso, s, a, status);
    return n.kind == NOTICE_DONE ? take_result(iso, s, a, &n) : mourn(iso, s, a, &n);
}

static struct isolate_slot *take_slot(struct coir_isolator *iso)
{
    struct isolate_slot *s;

    lock_take(&iso->lock);
    s = iso->free;
    iso->free = s->next_free;
    lock_drop(&iso->lock);
    return s;
}

static void give_slot(struct coir_isolator *iso, struct isolate_slot *s, int result)
{
    lock_take(&iso->lock);
    s->next_free = iso->free;
    iso->free = s;
    iso->stats.calls += result >= 0;
    iso->stats.broken += result > 0;
    iso->stats.left += result == COIR_ETIMEDOUT || result == COIR_ECANCELED;
    lock_drop(&iso->lock);
    coir_semaphore_release(&iso->free_children, 1);
}

static int call(struct coir_isolator *iso, const struct asked *a)
{
    int status = coir_semaphore_acquire_until(&iso->free_children, a->deadline);
    struct isolate_slot *s;

    if (status != COIR_OK)
        return status;
    s = take_slot(iso);
    status = COIR_EINTR;
    for (int i = 0; i < TRIES && status == COIR_EINTR; i++)
        status = attempt(iso, s, a);
    status = status == COIR_EINTR ? COIR_ECHILD : status;
    give_slot(iso, s, status);
    return status;
}

/* ---------------------------------------------------------------------------------- public part */

/* One more call of users, or less. */
static void count_inside(struct coir_isolator *iso, int by)
{
    lock_take(&iso->lock);
    iso->inside += (unsigned)by;
    lock_drop(&iso->lock);
}

static int check(const struct coir_isolator *iso, const struct asked *a)
{
    if (!iso || !a->fn || (!a->in && a->in_bytes) || !a->out != !a->out_bytes)
        return COIR_EINVAL;
    if (life_forked(iso->born))
        return COIR_EFORKED;
    if (!fiber_self())
        return status_outside();
    return a->in_bytes > iso->plan.options.input_max ? COIR_ERANGE : COIR_OK;
}

int coir_isolate_until(coir_isolator *iso, coir_isolated_fn *fn, const void *in, size_t in_bytes, void *out,
                       size_t *out_bytes, coir_failure *failure, int64_t deadline)
{
    struct asked a = {.fn = fn, .in = in, .in_bytes = in_bytes, .out = out, .out_bytes = out_bytes,
                      .failure = failure, .deadline = deadline};
    int status = check(iso, &a);

    if (status == COIR_OK && out_bytes) {
        a.room = *out_bytes < iso->plan.options.output_max ? *out_bytes : iso->plan.options.output_max;
        *out_bytes = 0;
    }
    if (status != COIR_OK)
        return status;
    count_inside(iso, 1);
    status = call(iso, &a);
    count_inside(iso, -1);
    return status;
}

int coir_isolate(coir_isolator *iso, coir_isolated_fn *fn, const void *in, size_t in_bytes, void *out,
                 size_t *out_bytes, coir_failure *failure)
{
    return coir_isolate_until(iso, fn, in, in_bytes, out, out_bytes, failure, COIR_NEVER);
}

int coir_isolator_stats_read(coir_isolator *iso, coir_isolator_stats *stats)
{
    if (!iso || !stats)
        return COIR_EINVAL;
    if (life_forked(iso->born))
        return COIR_EFORKED;
    lock_take(&iso->lock);
    *stats = iso->stats;
    lock_drop(&iso->lock);
    return COIR_OK;
}
