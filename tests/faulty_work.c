/* SPDX-License-Identifier: MIT */
/*
 * faulty_work.c - the work of faulty_work.h. Each part goes as far as it can and cleans up behind itself.
 */
#include "faulty_work.h"

#include "faulty.h"
#include "run.h"

#include <errno.h>
#include <limits.h>


#define ANY INT_MIN /* a number that is no status */

/* Whether a call did what was asked for. If not, some call has failed by now, and the status has a name. */
#define FINE(status, good) fine_at((status), (good), __LINE__, #status)

static int fine_at(long long status, int good, int line, const char *text)
{
    if (status == good || (good == ANY && status >= 0))
        return 1;
    check_that(faulty_failed() > 0, __FILE__, line, text);
    check_that(strcmp(coir_status_name((int)status), coir_status_name(12345)) != 0, __FILE__, line, text);
    return 0;
}

/* Waits until nothing is owed, whatever becomes of each attempt. */
static int settle(coir_counter *c)
{
    int outcome = coir_wait(c);

    while (outcome < 0) {
        FINE(outcome, COIR_DONE);
        coir_yield();
        outcome = coir_wait(c);
    }
    return outcome;
}

/* ----------------------------------------------------------------------------- jobs and stacks */

static void count(void *n)
{
    run_count(n);
}

static void block(void *n)
{
    FINE(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
    run_count(n);
}

/* n: what is deferred but not run. */
static void defer_many(void *n)
{
    for (int i = 0; i < 3 * COIR_DEFER_INLINE; i++) {
        int good = FINE(coir_defer(count, n), COIR_OK);

        CHECK(good || i >= COIR_DEFER_INLINE);
        __atomic_sub_fetch((int *)n, good, __ATOMIC_RELAXED);
    }
}

static void spawn(coir_counter *c, coir_fn *fn, int *n)
{
    if (FINE(coir_spawn(c, fn, n), COIR_OK))
        __atomic_sub_fetch(n, 1, __ATOMIC_RELAXED);
}

/* More than a worker's own queue holds. */
static void do_jobs(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    for (int i = 0; i < 1500; i++)
        spawn(&c, i < 40 ? block : count, &n);
    if (FINE(coir_spawn_many(&c, count, &n, 0, 1500), COIR_OK))
        __atomic_sub_fetch(&n, 1500, __ATOMIC_RELAXED);
    CHECK_EQ(settle(&c), COIR_DONE);
    CHECK_EQ(coir_try(defer_many, &n, NULL), COIR_DONE);
    CHECK_EQ(n, 0);
}

static void do_dependent_job(void)
{
    coir_counter before = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    int n = 0, spawned;

    coir_counter_add(&before, 1);
    spawned = FINE(coir_spawn_after(&before, &c, count, &n), COIR_OK);
    coir_counter_done(&before, COIR_DONE);
    if (FINE(settle(&c), COIR_DONE)) /* CANCELED: there was no room to queue it */
        CHECK_EQ(n, spawned);
}

static void fall_over(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

static void panic_with_record(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    if (!FINE(coir_spawn(&c, fall_over, NULL), COIR_OK))
        return;
    CHECK_EQ(settle(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "planned");
}

/* ------------------------------------------------------------------------------------- sockets */

/* Answers one call: sends back what comes. */
static void echo(int listener)
{
    int fd = coir_socket_accept(listener);
    char text[16];
    int64_t n;

    if (!FINE(fd, ANY))
        return;
    while (FINE(n = coir_socket_recv(fd, text, sizeof text), ANY) && n > 0)
        if (!FINE(coir_socket_send(fd, text, (size_t)n), (int)n))
            break;
    FINE(coir_socket_close(fd), COIR_OK);
}

/* A listener that nobody serves any more would keep its caller waiting. */
static void echo_once(void *listener)
{
    int *fd = listener;

    echo(*fd);
    FINE(coir_socket_close(*fd), COIR_OK);
    *fd = -1;
}

/* Whether all went well. */
static int talk(int listener)
{
    int port = coir_socket_port(listener), fd, good;
    char text[8];

    if (!FINE(port, ANY))
        return 0;
    fd = coir_socket_connect("127.0.0.1", (uint16_t)port);
    if (!FINE(fd, ANY))
        return 0;
    good = FINE(coir_socket_send(fd, "question", 8), 8) && FINE(coir_socket_recv(fd, text, sizeof text), 8);
    FINE(coir_socket_close(fd), COIR_OK);
    return good;
}

static void do_sockets(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int listener = coir_socket_listen(NULL, 0, 0), ours = listener;

    if (!FINE(listener, ANY))
        return;
    if (FINE(coir_spawn(&c, echo_once, &ours), COIR_OK) && !talk(listener))
        coir_counter_cancel(&c); /* it may wait for a call that does not come */
    settle(&c);
    if (ours >= 0)
        FINE(coir_socket_close(ours), COIR_OK);
}

static void call(void *listener)
{
    if (!talk(*(int *)listener))
        coir_fail(COIR_EIO, "no answer");
}

/* A worker that sleeps until somebody calls is woken by something else: by us, from outside. */
static void wake_who_listens(coir_runtime *rt)
{
    coir_counter served = COIR_COUNTER_INIT, called = COIR_COUNTER_INIT;
    int listener = coir_socket_listen(NULL, 0, 0), ours = listener;
    coir_stats s = {0};

    if (!FINE(listener, ANY))
        return;
    if (FINE(coir_submit(rt, &served, echo_once, &ours), COIR_OK)) {
        while (coir_wait_until(&served, 0) == COIR_ETIMEDOUT && !s.parked)
            CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
        if (!FINE(coir_submit(rt, &called, call, &listener), COIR_OK) || settle(&called) != COIR_DONE)
            coir_counter_cancel(&served);
        settle(&served);
    }
    if (ours >= 0)
        FINE(coir_socket_close(ours), COIR_OK);
}

/* -------------------------------------------------------------------------- domains and others */

static void work_in_domain(void *n)
{
    coir_obligation reply;

    if (FINE(coir_domain_charge(NULL, 100), COIR_OK))
        CHECK_EQ(coir_domain_discharge(NULL, 100), COIR_OK);
    if (FINE(coir_obligation_take(NULL, "reply", &reply), COIR_OK))
        CHECK_EQ(coir_obligation_discharge(reply), COIR_OK);
    block(n);
}

static void do_domain(void)
{
    coir_domain_options o = {.size = sizeof o, .jobs_max = 10, .panics_max = 5, .deadline_ns = 1000 * COIR_SEC};
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d;
    int n = 0, status;

    if (!FINE(coir_domain_open(coir_current(), NULL, &o, &d), COIR_OK)) {
        CHECK(d == NULL);
        return;
    }
    if (FINE(coir_domain_finalizer(d, count, &n), COIR_OK))
        n--;
    for (int i = 0; i < 5; i++)
        if (FINE(coir_domain_submit(d, &c, work_in_domain, &n), COIR_OK))
            __atomic_sub_fetch(&n, 1, __ATOMIC_RELAXED);
    CHECK_EQ(settle(&c), COIR_DONE);
    while (!FINE(status = coir_domain_close(d, -1, NULL), COIR_OK))
        coir_yield();
    CHECK_EQ(n, 0);
}

static void serve(void *unused)
{
    (void)unused;
    coir_child_ready();
    while (coir_child_stop_wait() != COIR_OK && !coir_canceled())
        coir_yield();
}

static void do_supervisor(void)
{
    const int64_t start_ns = faulty_failed() ? COIR_SEC / 50 : 0; /* for want of a stack it may never start */
    coir_child_spec child[2] = {{.size = sizeof *child, .name = "one", .fn = serve, .tells_ready = 1,
                                 .start_ns = start_ns, .cancel_ns = start_ns},
                                {.size = sizeof *child, .name = "two", .fn = serve, .tells_ready = 1,
                                 .start_ns = start_ns, .cancel_ns = start_ns}};
    coir_supervisor_options o = {.size = sizeof o, .max_restarts = 3, .max_seconds = 5, .children = child,
                                 .children_count = 2};
    coir_supervisor *s;
    int status;

    if (!FINE(coir_supervisor_open(coir_current(), NULL, &o, NULL, &s), COIR_OK))
        return;
    while (!FINE(status = coir_supervisor_close(s, -1, NULL), COIR_OK))
        coir_yield();
}

static void handle(coir_message *m)
{
    if (m->attempts == 1)
        coir_panic("planned");
}

static void ignore(coir_message *m)
{
    (void)m;
}

static void use_pool(coir_quarantine *q)
{
    coir_pool_options o = {.size = sizeof o, .handle = handle, .dead = ignore, .queue_max = 4, .attempts_max = 3,
                           .backoff_ns = 10 * COIR_US, .quarantine = q};
    coir_counter c = COIR_COUNTER_INIT;
    coir_message m = {.key = 7, .counter = &c};
    coir_pool *p;
    int status;

    if (!FINE(coir_pool_open(coir_current(), &o, &p), COIR_OK))
        return;
    if (FINE(coir_pool_submit(p, &m), COIR_OK))
        CHECK_EQ(settle(&c), COIR_DONE);
    while (!FINE(status = coir_pool_close(p, -1, NULL), COIR_OK))
        coir_yield();
}

/* Beside the program, for others are built otherwise and may run at the same time. */
static const char *quarantine_path(void)
{
    static char path[PATH_MAX];

    if (!path[0])
        snprintf(path, sizeof path, "%s.quarantine", program_invocation_name);
    return path;
}

static void do_pool(void)
{
    coir_quarantine_options o = {.size = sizeof o, .path = quarantine_path(), .slots = 16};
    coir_quarantine *q;

    if (!FINE(coir_quarantine_open(coir_current(), &o, &q), COIR_OK))
        return;
    use_pool(q);
    FINE(coir_quarantine_close(q), COIR_OK);
}

static int64_t seven(void *unused)
{
    (void)unused;
    return 7;
}

static void do_once_table(void)
{
    coir_once_table *t;

    if (!FINE(coir_once_table_open(coir_current(), 8, &t), COIR_OK))
        return;
    for (uint64_t key = 0; key < 3; key++)
        FINE(coir_once_table_call(t, key, seven, NULL, NULL), COIR_DONE);
    CHECK_EQ(coir_once_table_close(t), COIR_OK);
}

static void do_channel(void)
{
    coir_channel c;
    int n = 1;

    if (!FINE(coir_channel_init(&c, sizeof n, 4, NULL), COIR_OK))
        return;
    CHECK_EQ(coir_channel_try_send(&c, &n), COIR_OK);
    CHECK_EQ(coir_channel_fini(&c), COIR_OK);
}

static void do_locals(void)
{
    static coir_local key[8];
    int n;

    for (int i = 0; i < 8; i++)
        if (FINE(coir_local_set(&key[i], &n), COIR_OK))
            CHECK(coir_local_get(&key[i]) == &n);
}

static void do_blocking(void)
{
    int n = 0;

    if (FINE(coir_offload(count, &n), COIR_DONE))
        CHECK_EQ(n, 1);
    FINE(coir_signal_wait_until(COIR_SIGNAL(SIGUSR2), coir_now() + 10 * COIR_US), COIR_ETIMEDOUT);
}

static size_t answer(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    (void)in;
    (void)in_bytes;
    memset(out, 42, out_max);
    return out_max;
}

static void do_isolated(void *isolator)
{
    char out[4];
    size_t bytes = sizeof out;

    if (isolator && FINE(coir_isolate(isolator, answer, NULL, 0, out, &bytes, NULL), COIR_DONE))
        CHECK_EQ(bytes, sizeof out);
}

static void work(void *isolator)
{
    do_jobs();
    do_dependent_job();
    panic_with_record();
    do_sockets();
    do_domain();
    do_supervisor();
    do_pool();
    do_once_table();
    do_channel();
    do_locals();
    do_blocking();
    do_isolated(isolator);
}

/* ------------------------------------------------------------------------------------ all of it */

/* What a plain thread does without a runtime. */
static void work_outside(void)
{
    int n = 0, status = coir_try(defer_many, &n, NULL);

    if (FINE(status, COIR_DONE))
        CHECK_EQ(n, 0);
    do_channel();
    FINE(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
}

/* When what fails once has failed. */
static void find_usable(coir_runtime *rt)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_submit(rt, &c, block, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 1);
}

static void work_inside(const coir_options *options, coir_isolator *isolator, bool once)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = (coir_runtime *)&c;

    if (!FINE(coir_open(options, &rt), COIR_OK)) {
        CHECK(rt == NULL);
        return;
    }
    FINE(coir_submit(rt, &c, work, isolator), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    wake_who_listens(rt);
    if (once && faulty_failed())
        find_usable(rt);
    run_close(rt);
}

void faulty_work(const coir_options *options, bool once)
{
    coir_isolator_options o = {.size = sizeof o, .memory_bytes = COIR_UNLIMITED, .cpu_ns = COIR_NEVER};
    coir_isolator *isolator;

    work_outside();
    FINE(coir_isolator_open(&o, &isolator), COIR_OK);
    work_inside(options, isolator, once);
    if (isolator)
        CHECK_EQ(coir_isolator_close(isolator), COIR_OK);
}
