/* SPDX-License-Identifier: MIT */
/*
 * socket_test.c - what each socket call promises, on both backends. Waits that are canceled or
 * closed under are in socket_end_test.c; many connections, long jobs and refusals in
 * socket_load_test.c.
 */
#include "sockets.h"

#include <pthread.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------- transfer */

static void echo_once(void *arg)
{
    struct pair p = pair_open();
    char got[16] = "";

    (void)arg;
    CHECK_EQ(coir_socket_send(p.a, "hello", 5), 5);
    CHECK_EQ(coir_socket_recv(p.b, got, sizeof got), 5);
    CHECK_STR(got, "hello");
    CHECK_EQ(coir_socket_send(p.b, got, 5), 5);
    CHECK_EQ(coir_socket_recv(p.a, got, 2), 2);
    CHECK_EQ(coir_socket_recv(p.a, got, 0), 0);
    CHECK_EQ(coir_socket_recv(p.a, got, sizeof got), 3);
    CHECK_EQ(coir_socket_send(p.a, NULL, 0), 0);
    pair_close(p);
}

static void what_is_sent_is_received(enum coir_io io)
{
    on(io, 1, echo_once, NULL);
    on(io, 2, echo_once, NULL);
}
ON_BOTH(what_is_sent_is_received)

static void parked_receive(void *arg)
{
    struct pair *p = arg;
    char got;

    CHECK_EQ(coir_socket_recv(p->b, &got, 1), 1);
    CHECK_EQ(got, 'x');
}

static void send_to_parked(void *arg)
{
    struct pair p = pair_open();

    for (int i = 0; i < 100; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, parked_receive, &p), COIR_OK);
        until_parked(coir_current(), 1);
        CHECK_EQ(coir_socket_send(p.a, "x", 1), 1);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    pair_close(p);
    (void)arg;
}

static void a_parked_receiver_wakes(enum coir_io io)
{
    on(io, 1, send_to_parked, NULL);
    on(io, 2, send_to_parked, NULL);
}
ON_BOTH(a_parked_receiver_wakes)

#define STREAM_BYTES ((size_t)4 << 20)

static char pattern(size_t i)
{
    return (char)(i * 7 + (i >> 11));
}

static void send_stream(void *arg)
{
    char *all = malloc(STREAM_BYTES);

    for (size_t i = 0; i < STREAM_BYTES; i++)
        all[i] = pattern(i);
    CHECK_EQ(coir_socket_send(*(int *)arg, all, STREAM_BYTES), STREAM_BYTES);
    free(all);
}

static void receive_stream(void *arg)
{
    static const size_t piece = 50000;
    char *got = malloc(piece);

    for (size_t at = 0; at < STREAM_BYTES;) {
        int64_t n = coir_socket_recv(*(int *)arg, got, piece);

        if (!CHECK(n > 0))
            break;
        for (int64_t i = 0; i < n; i++, at++)
            if (got[i] != pattern(at)) {
                CHECK_NEVER("a byte is wrong");
                at = STREAM_BYTES;
            }
    }
    free(got);
}

static void stream_both_ways(void *arg)
{
    struct pair p = pair_open();
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    CHECK_EQ(coir_spawn(&c, send_stream, &p.a), COIR_OK);
    CHECK_EQ(coir_spawn(&c, receive_stream, &p.a), COIR_OK);
    CHECK_EQ(coir_spawn(&c, send_stream, &p.b), COIR_OK);
    CHECK_EQ(coir_spawn(&c, receive_stream, &p.b), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pair_close(p);
}

static void one_fiber_reads_while_another_writes(enum coir_io io)
{
    on(io, 1, stream_both_ways, NULL);
    on(io, 2, stream_both_ways, NULL);
}
ON_BOTH(one_fiber_reads_while_another_writes)

#define CROWD 5

static struct {
    struct pair p;
    int listener, served;
} crowd;

static void receive_among_others(void *unused)
{
    char got = 0;

    (void)unused;
    CHECK_EQ(coir_socket_recv(crowd.p.b, &got, 1), 1);
    CHECK_EQ(got, 'x');
    run_count(&crowd.served);
}

static void receive_in_vain(void *unused)
{
    char got;

    (void)unused;
    CHECK_EQ(coir_socket_recv(crowd.p.b, &got, 1), COIR_ECANCELED);
}

static void accept_among_others(void *unused)
{
    int got = coir_socket_accept(crowd.listener);

    (void)unused;
    CHECK(got >= 0);
    CHECK_EQ(coir_socket_close(got), COIR_OK);
    run_count(&crowd.served);
}

static void serve_a_crowd(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT, vain = COIR_COUNTER_INIT;
    int to[CROWD];

    (void)unused;
    memset(&crowd, 0, sizeof crowd);
    crowd.p = pair_open();
    crowd.listener = coir_socket_listen(NULL, 0, 0);
    for (int i = 0; i < CROWD; i++) { /* one in the middle gives up, and the last */
        int gives_up = i == CROWD / 2 || i == CROWD - 1;

        CHECK_EQ(coir_spawn(gives_up ? &vain : &c, gives_up ? receive_in_vain : receive_among_others, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&c, accept_among_others, NULL), COIR_OK);
        until_parked(coir_current(), 2 * (uint64_t)i + 2);
    }
    CHECK_EQ(coir_counter_cancel(&vain), COIR_OK);
    (void)!coir_wait(&vain);
    CHECK_EQ(coir_spawn(&c, receive_among_others, NULL), COIR_OK); /* behind those that are left */
    CHECK_EQ(coir_socket_send(crowd.p.a, "xxxx", 4), 4);
    for (int i = 0; i < CROWD; i++)
        to[i] = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(crowd.listener));
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(crowd.served, 4 + CROWD);
    for (int i = 0; i < CROWD; i++)
        CHECK_EQ(coir_socket_close(to[i]), COIR_OK);
    CHECK_EQ(coir_socket_close(crowd.listener), COIR_OK);
    pair_close(crowd.p);
}

static void several_wait_on_one_descriptor(enum coir_io io)
{
    on(io, 1, serve_a_crowd, NULL);
    on(io, 2, serve_a_crowd, NULL);
}
ON_BOTH(several_wait_on_one_descriptor)

/* ---------------------------------------------------------------------------------- deadlines */

static void let_deadlines_pass(void *arg)
{
    int listener = coir_socket_listen(NULL, 0, 0);
    struct pair p = pair_open();
    int64_t begin = coir_now();
    char got;

    (void)arg;
    CHECK_EQ(coir_socket_accept_until(listener, begin + 5 * COIR_MS), COIR_ETIMEDOUT);
    CHECK(coir_now() - begin >= 5 * COIR_MS);
    CHECK_EQ(coir_socket_recv_until(p.a, &got, 1, in_ms(5)), COIR_ETIMEDOUT);
    CHECK_EQ(coir_socket_recv_until(p.a, &got, 1, 1), COIR_ETIMEDOUT);
    CHECK_EQ(coir_socket_send(p.b, "x", 1), 1);
    CHECK_EQ(coir_socket_recv_until(p.a, &got, 1, in_ms(1000)), 1);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
    pair_close(p);
}

static void accept_and_recv_heed_their_deadline(enum coir_io io)
{
    on(io, 1, let_deadlines_pass, NULL);
    on(io, 2, let_deadlines_pass, NULL);
}
ON_BOTH(accept_and_recv_heed_their_deadline)

#define FILL_BYTES ((size_t)64 << 20) /* more than all buffers on the way hold */

/* How many bytes come until the other end has shut down. */
static int64_t drain_stream(int fd)
{
    char *got = malloc(1 << 16);
    int64_t n, sum = 0;

    while ((n = coir_socket_recv(fd, got, 1 << 16)) > 0)
        sum += n;
    CHECK_EQ(n, 0);
    free(got);
    return sum;
}

/* Sends until nothing more goes; how many bytes went. Buffers may grow for a while after they were full, and
 * a deadline may pass before anything was tried. */
static int64_t fill(int fd, const char *all)
{
    int64_t n, sum = 0;

    while ((n = coir_socket_send_until(fd, all, FILL_BYTES, in_ms(20))) > 0 || sum == 0) {
        CHECK(n == COIR_ETIMEDOUT || (n > 0 && n < (int64_t)FILL_BYTES)); /* a part, which is counted */
        sum += n > 0 ? n : 0;
    }
    CHECK_EQ(n, COIR_ETIMEDOUT);
    return sum;
}

static void fill_and_drain(void *arg)
{
    struct pair p = pair_open();
    char *all = calloc(1, FILL_BYTES);
    int64_t sent = fill(p.a, all);

    (void)arg;
    CHECK_EQ(shutdown(p.a, SHUT_WR), 0);
    CHECK_EQ(drain_stream(p.b), sent);
    pair_close(p);
    free(all);
}

static void send_to_a_full_buffer_counts_what_went(enum coir_io io)
{
    on(io, 1, fill_and_drain, NULL);
}
ON_BOTH(send_to_a_full_buffer_counts_what_went)

/* The kernel drops what comes when the backlog is full, so a connect goes unanswered. */
static void connect_unanswered(void *arg)
{
    int listener = coir_socket_listen(NULL, 0, 1), fd = 0, fds[16], n = 0;
    uint16_t port = (uint16_t)coir_socket_port(listener);

    (void)arg;
    while (n < 16 && fd >= 0) {
        fd = coir_socket_connect_until("127.0.0.1", port, in_ms(20));
        if (fd >= 0)
            fds[n++] = fd;
    }
    CHECK_EQ(fd, COIR_ETIMEDOUT);
    while (n > 0)
        coir_socket_close(fds[--n]);
    coir_socket_close(listener);
}

static void connect_heeds_its_deadline(enum coir_io io)
{
    on(io, 1, connect_unanswered, NULL);
}
ON_BOTH(connect_heeds_its_deadline)

#define WORDS 2000

static void send_words(void *arg)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        CHECK_EQ(coir_socket_send(*(int *)arg, &i, sizeof i), sizeof i);
        if (i % 3 == 0)
            CHECK_EQ(coir_sleep_until(coir_now() + (int64_t)(i % 7) * 20 * COIR_US), COIR_OK);
    }
}

/* Deadlines of about the time between two words: completions and revokes cross each other. */
static void receive_words(void *arg)
{
    struct pair p = pair_open();
    coir_counter c = COIR_COUNTER_INIT;
    uint32_t word = 0, expected = 0;
    size_t got = 0;

    (void)arg;
    CHECK_EQ(coir_spawn(&c, send_words, &p.a), COIR_OK);
    while (expected < WORDS) {
        int64_t n = coir_socket_recv_until(p.b, (char *)&word + got, sizeof word - got,
                                           coir_now() + (expected % 5) * 20 * COIR_US);

        if (!CHECK(n > 0 || n == COIR_ETIMEDOUT))
            break;
        got += n > 0 ? (size_t)n : 0;
        if (got < sizeof word)
            continue;
        if (!CHECK_EQ(word, expected))
            break;
        expected++;
        got = 0;
    }
    CHECK_EQ(coir_socket_recv_until(p.b, &word, sizeof word, coir_now() + 20 * COIR_US), COIR_ETIMEDOUT);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pair_close(p);
}

static void no_byte_is_lost_to_a_deadline(enum coir_io io)
{
    on(io, 1, receive_words, NULL);
    on(io, 2, receive_words, NULL);
}
ON_BOTH(no_byte_is_lost_to_a_deadline)

/* Whatever a backend has learnt of this socket: that nothing is there is known by looking. */
static void receive_in_no_time(void *arg)
{
    struct pair p = pair_open();

    (void)arg;
    for (int i = 0; i < MANY(2000); i++) {
        CHECK_EQ(coir_socket_recv_until(p.b, &(char){0}, 1, coir_now()), COIR_ETIMEDOUT);
        CHECK_EQ(coir_socket_send(p.a, "x", 1), 1);
        CHECK_EQ(coir_socket_recv_until(p.b, &(char){0}, 1, coir_now()), 1);
    }
    pair_close(p);
}

static void a_deadline_of_now_takes_what_is_there(enum coir_io io)
{
    on(io, 2, receive_in_no_time, NULL);
}
ON_BOTH(a_deadline_of_now_takes_what_is_there)

/* ------------------------------------------------------------------------------- peers that go */

static void reset_by_peer(void *arg)
{
    struct pair p = pair_open();
    struct linger now = {1, 0};
    int64_t n;
    char got;

    (void)arg;
    CHECK_EQ(setsockopt(p.a, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    CHECK_EQ(close(p.a), 0); /* without the shutdown of coir_socket_close it is a reset */
    CHECK_EQ(coir_socket_recv(p.b, &got, 1), COIR_ECONNRESET);
    n = coir_socket_send(p.b, "x", 1);
    CHECK(n == COIR_EPIPE || n == COIR_ECONNRESET);
    CHECK_EQ(coir_socket_close(p.b), COIR_OK);
}

static void a_reset_is_told(enum coir_io io)
{
    on(io, 1, reset_by_peer, NULL);
}
ON_BOTH(a_reset_is_told)

static void half_closed(void *arg)
{
    struct pair p = pair_open();
    char got;

    (void)arg;
    CHECK_EQ(coir_socket_send(p.a, "q", 1), 1);
    CHECK_EQ(shutdown(p.a, SHUT_WR), 0);
    CHECK_EQ(coir_socket_recv(p.b, &got, 1), 1);
    CHECK_EQ(coir_socket_recv(p.b, &got, 1), 0);
    CHECK_EQ(coir_socket_send(p.b, "r", 1), 1);
    CHECK_EQ(coir_socket_recv(p.a, &got, 1), 1);
    CHECK_EQ(got, 'r');
    pair_close(p);
}

static void a_half_closed_peer_still_receives(enum coir_io io)
{
    on(io, 1, half_closed, NULL);
}
ON_BOTH(a_half_closed_peer_still_receives)

/* -------------------------------------------------------------------------------- wrong input */

static void misuse(void *arg)
{
    int listener = coir_socket_listen("127.0.0.1", 0, 0);
    uint16_t port = (uint16_t)coir_socket_port(listener);
    struct pair p = pair_open();
    char got;

    (void)arg;
    CHECK(listener >= 0);
    CHECK(port > 0);
    CHECK_EQ(coir_socket_listen("127.0.0.1", port, 0), COIR_EADDRINUSE);
    CHECK_EQ(coir_socket_listen("localhost", 0, 0), COIR_EINVAL);
    CHECK_EQ(coir_socket_listen(NULL, 0, -1), COIR_EINVAL);
    CHECK_EQ(coir_socket_listen("203.0.113.1", 0, 0), COIR_EADDRNOTAVAIL);
    CHECK_EQ(coir_socket_connect("example.org", 80), COIR_EINVAL);
    CHECK_EQ(coir_socket_connect(NULL, 80), COIR_EINVAL);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
    CHECK_EQ(coir_socket_connect("127.0.0.1", port), COIR_ECONNREFUSED);
    CHECK_EQ(coir_socket_recv(-1, &got, 1), COIR_EBADF);
    CHECK_EQ(coir_socket_recv(listener, &got, 1), COIR_EBADF);
    CHECK_EQ(coir_socket_send(-1, "x", 1), COIR_EBADF);
    CHECK_EQ(coir_socket_send(listener, "x", 1), COIR_EBADF);
    CHECK_EQ(coir_socket_accept(-1), COIR_EBADF);
    CHECK_EQ(coir_socket_accept(listener), COIR_EBADF);
    CHECK_EQ(coir_socket_close(-1), COIR_EBADF);
    CHECK_EQ(coir_socket_close(listener), COIR_EBADF);
    CHECK_EQ(coir_socket_port(-1), COIR_EBADF);
    CHECK_EQ(coir_socket_recv(p.a, NULL, 1), COIR_EINVAL);
    CHECK_EQ(coir_socket_send(p.a, NULL, 1), COIR_EINVAL);
    pair_close(p);
}

static void wrong_input_is_told(enum coir_io io)
{
    on(io, 1, misuse, NULL);
}
ON_BOTH(wrong_input_is_told)

static void plain_threads_are_refused(void)
{
    char got;

    CHECK_EQ(coir_socket_accept(0), COIR_EPERM);
    CHECK_EQ(coir_socket_connect("127.0.0.1", 1), COIR_EPERM);
    CHECK_EQ(coir_socket_recv(0, &got, 1), COIR_EPERM);
    CHECK_EQ(coir_socket_send(0, "x", 1), COIR_EPERM);
}

static void echo_v6(void *arg)
{
    int listener = coir_socket_listen("::1", 0, 0), a, b;

    (void)arg;
    if (listener == COIR_EADDRNOTAVAIL)
        return; /* no IPv6 here */
    a = coir_socket_connect("::1", (uint16_t)coir_socket_port(listener));
    b = coir_socket_accept(listener);
    CHECK_EQ(coir_socket_send(a, "6", 1), 1);
    CHECK_EQ(coir_socket_recv(b, &(char){0}, 1), 1);
    coir_socket_close(listener);
    pair_close((struct pair){a, b});
}

static void version_6_addresses_work(enum coir_io io)
{
    on(io, 1, echo_v6, NULL);
}
ON_BOTH(version_6_addresses_work)

static void the_chosen_backend_is_told(enum coir_io io)
{
    coir_runtime *rt = open_with(io, 1);
    coir_stats stats;

    CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    CHECK_EQ(stats.io, io);
    run_close(rt);
}
ON_BOTH(the_chosen_backend_is_told)

CHECK_MAIN(CASES(what_is_sent_is_received), CASES(a_parked_receiver_wakes),
           CASES(one_fiber_reads_while_another_writes), CASES(several_wait_on_one_descriptor),
           CASES(accept_and_recv_heed_their_deadline), CASES(send_to_a_full_buffer_counts_what_went),
           CASES(connect_heeds_its_deadline), CASES(no_byte_is_lost_to_a_deadline),
           CASES(a_deadline_of_now_takes_what_is_there), CASES(a_reset_is_told),
           CASES(a_half_closed_peer_still_receives), CASES(wrong_input_is_told), CASE(plain_threads_are_refused),
           CASES(version_6_addresses_work), CASES(the_chosen_backend_is_told))
