/* SPDX-License-Identifier: MIT */
/*
 * isolate_template.c - forks the children of an isolator, buries them, and ends with its parent.
 *
 * It exists because its parent has many threads: a fork of such a process has one, and every lock that another
 * held stays locked in it. The template was forked when there was one thread, runs nothing of the program, and
 * so can be forked at any time. It is also the one thread whose end is the signal for its children to end
 * (PR_SET_PDEATHSIG is about the thread that has forked); a worker might end before its process does.
 *
 * A child that has ended is told to the parent, and replaced only when that asks. Then, and only then, nobody reads
 * its socket and nobody writes to it: a call that is still there was never begun.
 *
 * What a child has forked outlives it, and keeps its socket and its slot's memory. The template is the subreaper of such
 * orphans: they become its own children before their parent can be waited for (exit_notify in Linux), stay in the
 * kernel's list of its children until it waits for them, and are killed. So where that list holds none but the children of
 * the slots nothing is left of those that have ended, and only then is a slot's next one started. Whose an orphan was
 * cannot be told: all slots wait. So they do not wait longer than ORPHANS_NS: what takes a second to end is held by a
 * debugger or a device, and will not run any more; or it forks faster than it is killed, which only other limits end.
 *
 * Whether the parent lives is seen by its end of the orders' socket and by a descriptor of the process itself: the
 * first alone would be kept open by other children of the parent.
 */
#include "isolate_template.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "isolate_child.h"
#include "report.h"

#define ORPHANS_NS COIR_SEC
#define CLOSE_NS (5 * COIR_SEC) /* the same, where no slot waits */
#define ORPHANS_LOOK_MS 10 /* between looks at those that are still there */

struct place {
    pid_t pid;           /* of the child; 0: none lives */
    uint32_t generation; /* of the child that lives, or lived last */
    uint32_t wanted;     /* the generation to be forked as soon as that one has ended; 0: none */
    int end;             /* of its socket; -1: it is in the plan */
    bool untold;         /* news is to be told as soon as there is room */
    struct isolate_notice news;
};

struct template {
    struct isolate_plan *plan; /* our copy */
    pid_t pid;
    int signals; /* readable when a child has ended */
    FILE *children; /* lists ours; NULL: the kernel has no such list */
    int64_t held_since; /* orphans hold up children that are wanted; 0: they do not */
    struct place place[ISOLATE_CHILDREN_MAX];
};

/* ------------------------------------------------------------------------------------- children */

/* Never blocks, though a child may have left the socket full: its owner may not read before its next call. */
static void tell_news(struct template *t, uint32_t slot)
{
    struct place *at = &t->place[slot];

    at->untold = send(t->plan->end[slot], &at->news, sizeof at->news, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
                 errno == EAGAIN;
}

static void tell(struct template *t, uint32_t slot, const struct isolate_notice *n)
{
    t->place[slot].news = *n;
    tell_news(t, slot);
}

/* Calls that nobody has taken, and nobody shall. */
static uint32_t drop_unread(const struct template *t, uint32_t slot)
{
    struct isolate_call call;
    uint32_t n = 0;

    while (recv(t->plan->end[slot], &call, sizeof call, MSG_DONTWAIT) > 0)
        n++;
    return n;
}

/* The child before has ended, and its socket goes. */
static void take_end(struct template *t, uint32_t slot)
{
    int *end = &t->place[slot].end;

    if (*end < 0)
        return;
    close(t->plan->end[slot]);
    t->plan->end[slot] = *end;
    *end = -1;
}

/* In a child: what is meant for others. */
static void close_ends(const struct template *t)
{
    close(t->signals);
    if (t->children)
        close(fileno(t->children));
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].end >= 0)
            close(t->place[i].end);
}

static void start(struct template *t, uint32_t slot, uint32_t generation)
{
    struct place *at = &t->place[slot];
    uint32_t unread = drop_unread(t, slot);
    struct isolate_notice failed = {.kind = NOTICE_READY, .generation = generation, .unread = unread};

    take_end(t, slot);
    at->generation = generation;
    at->wanted = 0;
    at->untold = false; /* who has asked for the next one knows */
    at->pid = fork();
    if (at->pid == 0) {
        close_ends(t);
        isolate_child(t->plan, slot, generation, unread, t->pid);
    }
    if (at->pid > 0)
        return;
    at->pid = 0;
    failed.status = errno == ENOMEM ? COIR_ENOMEM : COIR_EAGAIN;
    tell(t, slot, &failed);
}

static void bury(struct template *t, pid_t pid, int status, const struct rusage *used)
{
    struct isolate_notice ended = {
        .kind = NOTICE_ENDED,
        .status = status,
        .peak_bytes = (uint64_t)used->ru_maxrss << 10,
        .cpu_ns = (used->ru_utime.tv_sec + used->ru_stime.tv_sec) * COIR_SEC +
                  (used->ru_utime.tv_usec + used->ru_stime.tv_usec) * COIR_US,
    };

    for (uint32_t i = 0; i < t->plan->options.children; i++) {
        struct place *at = &t->place[i];

        if (at->pid != pid)
            continue;
        at->pid = 0;
        ended.generation = at->generation;
        tell(t, i, &ended);
    }
}

static void bury_all(struct template *t)
{
    struct signalfd_siginfo come[8];
    struct rusage used;
    int status;
    pid_t pid;

    while (read(t->signals, come, sizeof come) > 0)
        ;
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0)
        bury(t, pid, status, &used);
}

static bool is_of_a_slot(const struct template *t, pid_t pid)
{
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].pid == pid)
            return true;
    return false;
}

/* False: there is none. Each that ends is heard of, and may leave others. */
static bool kill_orphans(const struct template *t)
{
    bool any = false;
    int pid;

    if (!t->children)
        return false;
    rewind(t->children);
    while (fscanf(t->children, "%d", &pid) == 1)
        if (!is_of_a_slot(t, pid)) {
            kill(pid, SIGKILL); /* not buried yet: it is nobody else's number */
            any = true;
        }
    return any || ferror(t->children);
}

static bool is_any_wanted(const struct template *t)
{
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].wanted && !t->place[i].pid)
            return true;
    return false;
}

/* Whether those who are wanted must wait for the end of orphans. */
static bool is_held_up(struct template *t)
{
    int64_t now;

    if (!kill_orphans(t) || !is_any_wanted(t))
        return false;
    now = coir_now();
    if (!t->held_since)
        t->held_since = now;
    return now - t->held_since < ORPHANS_NS;
}

static void start_wanted(struct template *t)
{
    if (is_held_up(t))
        return;
    t->held_since = 0;
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].wanted && !t->place[i].pid)
            start(t, i, t->place[i].wanted);
}

/* An order, and the descriptor that has come with it; not as a standard stream that the program has closed. */
static ssize_t hear(const struct isolate_plan *p, struct isolate_order *o, int *end)
{
    struct isolate_passed passed;
    struct iovec what = {o, sizeof *o};
    struct msghdr m = isolate_passing(&what, &passed);
    ssize_t got = recvmsg(p->orders, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    int fd = -1;

    if (c)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    *end = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd >= 0)
        close(fd);
    return got;
}

static void obey(struct template *t, const struct isolate_order *o, int end)
{
    struct place *at = &t->place[o->slot];

    if (end >= 0) { /* else who ordered has no descriptor left, or nobody is there who could hear of another */
        if (at->end >= 0)
            close(at->end);
        at->end = end;
        at->wanted = o->generation;
    }
    if (at->pid)
        kill(at->pid, SIGKILL); /* not buried yet: it is nobody else's number */
}

/* ----------------------------------------------------------------------------- beginning and end */

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Descriptors of the parent would keep alive what it closes. */
static void close_others(const struct isolate_plan *p)
{
    int keep[ISOLATE_CHILDREN_MAX + 4] = {p->orders, p->memory, p->parent, STDERR_FILENO}, from = 0;
    unsigned n = 4 + p->options.children;

    memcpy(keep + 4, p->end, p->options.children * sizeof *keep);
    qsort(keep, n, sizeof *keep, by_number);
    for (unsigned i = 0; i < n; i++) {
        if (keep[i] > from && from > STDERR_FILENO)
            syscall(SYS_close_range, from, keep[i] - 1, 0);
        from = keep[i] >= from ? keep[i] + 1 : from;
    }
    syscall(SYS_close_range, from, ~0u, 0);
}

/* Who ends a service tells all its processes; but these have calls to finish as long as their parent has. */
static void forget_signals(void)
{
    for (int i = 1; i < NSIG; i++)
        signal(i, i == SIGTERM || i == SIGINT || i == SIGHUP ? SIG_IGN : SIG_DFL);
}

/* Orphans come to us from now on. NULL: not with this kernel (errno: ENOENT) or emulator (EINVAL), or it failed. */
static FILE *adopt_orphans(pid_t self)
{
    char name[48];
    FILE *list;

    snprintf(name, sizeof name, "/proc/self/task/%d/children", self);
    list = fopen(name, "re");
    if (!list || prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
        return list;
    fclose(list);
    errno = EINVAL;
    return NULL;
}

static void detach(struct template *t)
{
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_SETMASK, &ends, NULL);
    forget_signals();
    setsid();
    close_others(t->plan);
    prctl(PR_SET_NAME, "coir/template");
    __fpurge(stdout); /* what the parent has not written yet is the parent's to write */
    report_hush();
    t->signals = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    t->children = adopt_orphans(t->pid);
    if (t->signals < 0 || (!t->children && errno != ENOENT && errno != EINVAL))
        _exit(1); /* the parent hears that it is gone */
}

/* Slots have no children any more: all that are left are orphans. False: none is. */
static bool bury_some(const struct template *t)
{
    struct signalfd_siginfo come[8];
    pid_t pid;

    while (read(t->signals, come, sizeof come) > 0)
        ;
    kill_orphans(t);
    do
        pid = wait4(-1, NULL, WNOHANG, NULL);
    while (pid > 0);
    return pid == 0;
}

static void end_all(struct template *t)
{
    struct pollfd ended = {t->signals, POLLIN, 0};
    int64_t until = coir_now() + CLOSE_NS;

    for (uint32_t i = 0; i < t->plan->options.children; i++) {
        if (t->place[i].pid > 0)
            kill(t->place[i].pid, SIGKILL);
        t->place[i].pid = 0; /* its number may be an orphan's from now on */
    }
    while (bury_some(t) && coir_now() < until)
        poll(&ended, 1, ORPHANS_LOOK_MS);
    _exit(0);
}

/* Until something has come, or there is room for what is to be told. `on` has room for all. */
static bool wait_for_any(struct template *t, struct pollfd *on)
{
    nfds_t n = 3;

    on[0] = (struct pollfd){t->plan->orders, POLLIN, 0};
    on[1] = (struct pollfd){t->plan->parent, POLLIN, 0};
    on[2] = (struct pollfd){t->signals, POLLIN, 0};
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].untold)
            on[n++] = (struct pollfd){t->plan->end[i], POLLOUT, 0};
    if (poll(on, n, t->held_since ? ORPHANS_LOOK_MS : -1) < 0)
        return false;
    for (uint32_t i = 0; i < t->plan->options.children; i++)
        if (t->place[i].untold)
            tell_news(t, i);
    return true;
}

void isolate_template(struct isolate_plan *p)
{
    struct template t = {.plan = p, .pid = getpid()};
    struct pollfd on[3 + ISOLATE_CHILDREN_MAX];
    struct isolate_order order;
    ssize_t got;
    int end;

    detach(&t);
    for (uint32_t i = 0; i < p->options.children; i++)
        t.place[i].end = -1;
    for (uint32_t i = 0; i < p->options.children; i++)
        start(&t, i, 1);
    for (;;) {
        if (!wait_for_any(&t, on))
            continue;
        if (on[1].revents)
            end_all(&t);
        if (on[2].revents)
            bury_all(&t);
        got = hear(p, &order, &end);
        if (got == 0)
            end_all(&t);
        if (got == sizeof order)
            obey(&t, &order, end);
        start_wanted(&t);
    }
}
