/* SPDX-License-Identifier: MIT */
/*
 * socket_end_test.c - socket calls that end because somebody else says so, on both backends: a
 * cancel, a close of the socket, a close of the runtime.
 */
#include "sockets.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>

/* Tests here close what another fiber waits on, knowing from coir_stats that it does.
 * ThreadSanitizer takes a descriptor for memory, and the figures order nothing. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:io_epoll_close_fd\n";
}

/* A fiber in one call, and what it returned. */
struct waiting {
    int fd;
    int64_t result;
};

static void wait_in_recv(void *arg)
{
    struct waiting *w = arg;
    char got;

    w->result = coir_socket_recv(w->fd, &got, 1);
}

static void wait_in_accept(void *arg)
{
    struct waiting *w = arg;

    w->result = coir_socket_accept(w->fd);
}

static void wait_in_send(void *arg)
{
    struct waiting *w = arg;
    size_t bytes = (size_t)64 << 20;
    char *all = calloc(1, bytes);

    w->result = coir_socket_send(w->fd, all, bytes);
    free(all);
}

static void cancel_waiting(void *arg)
{
    struct pair p = pair_open();
    struct waiting r = {p.a, 0}, s = {p.b, 0}, a = {coir_socket_listen(NULL, 0, 0), 0};
    coir_counter c = COIR_COUNTER_INIT;
    char got;

    (void)arg;
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &r), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_accept, &a), COIR_OK);
    until_parked(coir_current(), 2);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(r.result, COIR_ECANCELED);
    CHECK_EQ(a.result, COIR_ECANCELED);
    coir_counter_init(&c);
    r.fd = p.b;
    s.fd = p.a;
    CHECK_EQ(coir_spawn(&c, wait_in_send, &s), COIR_OK);
    until_parked(coir_current(), 1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(s.result > 0);
    CHECK_EQ(coir_socket_recv(p.b, &got, 1), 1); /* the connection lives on */
    coir_socket_close(a.fd);
    pair_close(p);
}

static void a_cancel_ends_the_wait(enum coir_io io)
{
    on(io, 1, cancel_waiting, NULL);
    on(io, 2, cancel_waiting, NULL);
}
ON_BOTH(a_cancel_ends_the_wait)

static void close_under_waiting(void *arg)
{
    struct pair p = pair_open();
    struct waiting r = {p.a, 1}, s = {p.a, -1}, a = {coir_socket_listen(NULL, 0, 0), 0};
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &r), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_send, &s), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_accept, &a), COIR_OK);
    until_parked(coir_current(), 3);
    CHECK_EQ(coir_socket_close(p.a), COIR_OK);
    CHECK_EQ(coir_socket_close(a.fd), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(r.result <= 0);
    CHECK(a.result < 0);
    CHECK(s.result < 64 << 20);
    CHECK_EQ(coir_socket_close(p.b), COIR_OK);
}

static void close_wakes_those_who_wait(enum coir_io io)
{
    on(io, 1, close_under_waiting, NULL);
    on(io, 2, close_under_waiting, NULL);
}
ON_BOTH(close_wakes_those_who_wait)

static int served; /* ends the fibers that keep the worker busy */

static void yield_until_served(void *unused)
{
    (void)unused;
    while (!served)
        coir_yield();
}

/* Others are runnable, so what the receiver has prepared need not have reached the kernel. */
static void reuse_number(void *unused)
{
    struct pair p = pair_open();
    struct waiting r = {p.a, 1};
    coir_counter c = COIR_COUNTER_INIT;
    int next[2];
    char got = 0;

    served = 0;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, next), 0);
    CHECK_EQ(send(next[1], "s", 1, 0), 1);
    CHECK_EQ(coir_spawn_many(&c, yield_until_served, unused, 0, 2), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &r), COIR_OK);
    coir_yield(); /* it waits */
    CHECK_EQ(coir_socket_close(p.a), COIR_OK);
    CHECK_EQ(dup2(next[0], p.a), p.a);
    served = 1;
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(r.result <= 0);
    CHECK_EQ(recv(p.a, &got, 1, MSG_DONTWAIT), 1);
    CHECK_EQ(got, 's');
    CHECK_EQ(coir_socket_close(next[0]), COIR_OK);
    CHECK_EQ(coir_socket_close(next[1]), COIR_OK);
    pair_close(p);
}

static void who_waits_on_a_closed_descriptor_gets_nothing_of_the_next(enum coir_io io)
{
    on(io, 1, reuse_number, NULL);
}
ON_BOTH(who_waits_on_a_closed_descriptor_gets_nothing_of_the_next)

struct crossing {
    struct pair told;
    int old, next;
};

static void close_when_told(void *arg)
{
    struct crossing *x = arg;
    char got;

    CHECK_EQ(coir_socket_recv(x->told.b, &got, 1), 1);
    CHECK_EQ(coir_socket_close(x->old), COIR_OK);
    CHECK_EQ(dup2(x->next, x->old), x->old);
}

/* Receives what is there, and what that makes room for, without a turn for anybody else. */
static void drain(int fd)
{
    static char some[1 << 16];
    struct pollfd wanted = {fd, POLLIN, 0};

    for (size_t all = 0; all < 1 << 20 && poll(&wanted, 1, 20) > 0;) {
        ssize_t n = recv(fd, some, sizeof some, MSG_DONTWAIT);

        if (n <= 0)
            return;
        all += (size_t)n;
    }
}

/* A part of it goes, so the sender is ready to go on; but who closes has its turn first. */
static void close_between_parts(void *unused)
{
    struct pair p = pair_open();
    struct crossing x = {pair_open(), p.a, -1};
    struct waiting s = {p.a, 0};
    coir_counter c = COIR_COUNTER_INIT;
    int next[2];
    char got;

    (void)unused;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, next), 0);
    x.next = next[0];
    CHECK_EQ(coir_spawn(&c, wait_in_send, &s), COIR_OK);
    CHECK_EQ(coir_spawn(&c, close_when_told, &x), COIR_OK);
    until_parked(coir_current(), 2);
    CHECK_EQ(send(x.told.a, "x", 1, 0), 1);
    drain(p.b);
    if (CHECK_EQ(coir_wait_until(&c, in_ms(5000)), COIR_DONE))
        CHECK(s.result > 0 && s.result < 64 << 20);
    CHECK_EQ(recv(next[1], &got, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(coir_socket_close(next[0]), COIR_OK);
    CHECK_EQ(coir_socket_close(next[1]), COIR_OK);
    pair_close(x.told);
    pair_close(p);
}

static void a_send_does_not_go_on_in_the_next_connection(enum coir_io io)
{
    on(io, 1, close_between_parts, NULL);
}
ON_BOTH(a_send_does_not_go_on_in_the_next_connection)

/* To the kernel they are one. */
static void close_one_of_two(void *unused)
{
    struct pair p = pair_open();
    struct waiting one = {p.a, 1}, other = {dup(p.a), 1};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &one), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &other), COIR_OK);
    until_parked(coir_current(), 2);
    CHECK_EQ(coir_socket_close(p.a), COIR_OK);
    until_parked(coir_current(), 1);
    CHECK_EQ(coir_sleep_until(in_ms(2)), COIR_OK);
    CHECK_EQ(coir_socket_send(p.b, "x", 1), 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(one.result <= 0);
    CHECK_EQ(other.result, 1);
    CHECK_EQ(coir_socket_close(other.fd), COIR_OK);
    CHECK_EQ(coir_socket_close(p.b), COIR_OK);
}

static void a_close_is_not_for_those_who_wait_on_a_duplicate(enum coir_io io)
{
    on(io, 1, close_one_of_two, NULL);
}
ON_BOTH(a_close_is_not_for_those_who_wait_on_a_duplicate)

/* A listener that another process may have been handed: only this descriptor of it goes. */
static void close_shared(void *arg)
{
    struct waiting a = {coir_socket_listen(NULL, 0, 0), 0};
    int theirs = dup(a.fd), client, server;
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    CHECK_EQ(coir_spawn(&c, wait_in_accept, &a), COIR_OK);
    until_parked(coir_current(), 1);
    CHECK_EQ(coir_socket_close(a.fd), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(a.result < 0);
    client = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(theirs));
    CHECK(client >= 0);
    server = coir_socket_accept(theirs);
    CHECK(server >= 0);
    CHECK_EQ(coir_socket_close(theirs), COIR_OK);
    pair_close((struct pair){client, server});
}

static void a_close_is_not_for_those_who_share_the_socket(enum coir_io io)
{
    on(io, 1, close_shared, NULL);
    on(io, 2, close_shared, NULL);
}
ON_BOTH(a_close_is_not_for_those_who_share_the_socket)

static void *close_own(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_socket_close(socket(AF_INET, SOCK_STREAM, 0)), COIR_OK);
    return NULL;
}

/* What the receiver has prepared has not reached the kernel when a thread closes another socket, and ends. */
static void outlive_a_stranger(void *unused)
{
    struct pair p = pair_open();
    struct waiting r = {p.a, 0};
    coir_counter c = COIR_COUNTER_INIT;
    pthread_t thread;

    served = 0;
    CHECK_EQ(coir_spawn_many(&c, yield_until_served, unused, 0, 2), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_in_recv, &r), COIR_OK);
    coir_yield(); /* it waits */
    CHECK_EQ(pthread_create(&thread, NULL, close_own, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    served = 1;
    CHECK_EQ(coir_sleep_until(in_ms(5)), COIR_OK);
    CHECK_EQ(coir_socket_send(p.b, "x", 1), 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(r.result, 1);
    pair_close(p);
}

static void a_thread_that_closes_and_ends_cancels_nobody(enum coir_io io)
{
    for (int i = 0; i < 5; i++)
        on(io, 1, outlive_a_stranger, NULL);
}
ON_BOTH(a_thread_that_closes_and_ends_cancels_nobody)

static void close_from_a_plain_thread_wakes(enum coir_io io)
{
    struct waiting a = {coir_socket_listen(NULL, 0, 0), 0};
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = open_with(io, 1);

    CHECK_EQ(coir_submit(rt, &c, wait_in_accept, &a), COIR_OK);
    until_parked(rt, 1);
    CHECK_EQ(coir_socket_close(a.fd), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(a.result < 0);
    run_close(rt);
}
ON_BOTH(close_from_a_plain_thread_wakes)

static void open_pair_there(void *arg)
{
    *(struct pair *)arg = pair_open();
}

static void coir_close_cancels_parked_calls(enum coir_io io)
{
    struct waiting r = {0}, a = {coir_socket_listen(NULL, 0, 0), 0};
    coir_runtime *rt = open_with(io, 2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt receipt;
    struct pair p;

    CHECK_EQ(coir_submit(rt, &c, open_pair_there, &p), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    r.fd = p.a;
    CHECK_EQ(coir_submit(rt, &c, wait_in_recv, &r), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, wait_in_accept, &a), COIR_OK);
    until_parked(rt, 2);
    run_close_past(rt, 10 * COIR_MS, &receipt); /* else they would wait for ever */
    CHECK_EQ(receipt.canceled, 2);
    CHECK_EQ(r.result, COIR_ECANCELED);
    CHECK_EQ(a.result, COIR_ECANCELED);
    pair_close(p);
    CHECK_EQ(coir_socket_close(a.fd), COIR_OK);
}
ON_BOTH(coir_close_cancels_parked_calls)

/* ------------------------------------------------------------------------------------- leaks */

static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void opening_and_closing_leaks_no_descriptor(enum coir_io io)
{
    int before = descriptors();

    for (int i = 0; i < MANY(200); i++) {
        coir_runtime *rt = open_with(io, 2);
        struct waiting a = {coir_socket_listen(NULL, 0, 0), 0};
        coir_receipt receipt;

        CHECK_EQ(coir_submit(rt, NULL, wait_in_accept, &a), COIR_OK);
        run_close_past(rt, 0, &receipt);
        CHECK_EQ(coir_socket_close(a.fd), COIR_OK);
    }
    CHECK_EQ(descriptors(), before);
}
ON_BOTH(opening_and_closing_leaks_no_descriptor)

CHECK_MAIN(CASES(a_cancel_ends_the_wait), CASES(close_wakes_those_who_wait),
           CASES(who_waits_on_a_closed_descriptor_gets_nothing_of_the_next),
           CASES(a_send_does_not_go_on_in_the_next_connection),
           CASES(a_close_is_not_for_those_who_wait_on_a_duplicate),
           CASES(a_close_is_not_for_those_who_share_the_socket),
           CASES(a_thread_that_closes_and_ends_cancels_nobody), CASES(close_from_a_plain_thread_wakes), CASES(coir_close_cancels_parked_calls),
           CASES(opening_and_closing_leaks_no_descriptor))
