/* SPDX-License-Identifier: MIT */
/*
 * socket_load_test.c - sockets under pressure, on both backends: a long job beside short requests,
 * many connections, no descriptors and no stacks left, a peer that never pauses, workers asleep in I/O, a kernel
 * that refuses io_uring.
 */
#include "sockets.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void count(void *n)
{
    run_count(n);
}

/* ------------------------------------------------------------------- a long job beside requests */

#define CLIENTS 4
#define REQUESTS 150

/* A client and the server's end of its connection. */
struct client {
    struct pair p;
    int *left; /* clients that have requests to make */
};

static void serve(void *arg)
{
    struct client *c = arg;
    char request;

    while (coir_socket_recv(c->p.b, &request, 1) == 1)
        CHECK_EQ(coir_socket_send(c->p.b, &request, 1), 1);
}

static void ask(void *arg)
{
    struct client *c = arg;
    char answer;

    for (int i = 0; i < REQUESTS; i++) {
        int64_t begin = coir_now();

        CHECK_EQ(coir_socket_send(c->p.a, "?", 1), 1);
        if (!CHECK_EQ(coir_socket_recv(c->p.a, &answer, 1), 1))
            break;
        CHECK_EQ(coir_sleep_until(begin + COIR_MS), COIR_OK);
    }
    CHECK_EQ(shutdown(c->p.a, SHUT_WR), 0);
    __atomic_sub_fetch(c->left, 1, __ATOMIC_RELEASE);
}

/* Suspends only when every request has been answered: one that waited for it would wait for ever. */
static void work_long(void *left)
{
    while (__atomic_load_n((int *)left, __ATOMIC_ACQUIRE) > 0)
        ;
}

static void work_beside_requests(void *arg)
{
    struct client client[CLIENTS];
    coir_counter c = COIR_COUNTER_INIT;
    int left = CLIENTS;

    (void)arg;
    for (int i = 0; i < CLIENTS; i++) {
        client[i] = (struct client){pair_open(), &left};
        CHECK_EQ(coir_spawn(&c, serve, &client[i]), COIR_OK);
        CHECK_EQ(coir_spawn(&c, ask, &client[i]), COIR_OK);
    }
    until_parked(coir_current(), CLIENTS);
    CHECK_EQ(coir_spawn(&c, work_long, &left), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < CLIENTS; i++)
        pair_close(client[i].p);
}

static void a_long_job_does_not_delay_requests(enum coir_io io)
{
    on(io, 2, work_beside_requests, NULL);
}
ON_BOTH(a_long_job_does_not_delay_requests)

/* ---------------------------------------------------------------------------- many connections */

#define CONNECTIONS MANY(2000)

static int listener;
static int answered;
static coir_counter connected; /* one unit for each connection that does not stand yet */

static void echo_word(void *arg)
{
    int fd = (int)(intptr_t)arg;
    uint32_t word;

    if (CHECK(receive_all(fd, &word, sizeof word)))
        CHECK_EQ(coir_socket_send(fd, &word, sizeof word), sizeof word);
    CHECK_EQ(coir_socket_close(fd), COIR_OK);
}

static void accept_many(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = coir_socket_accept(listener);

        if (CHECK(fd >= 0))
            CHECK_EQ(coir_spawn(&c, echo_word, (void *)(intptr_t)fd), COIR_OK);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void connect_one(void *arg)
{
    uint32_t word = (uint32_t)(uintptr_t)arg, got = 0;
    int fd = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(listener));

    coir_counter_done(&connected, COIR_DONE);
    if (!CHECK(fd >= 0))
        return;
    CHECK_EQ(coir_wait(&connected), COIR_DONE); /* meanwhile the other ends wait for a word */
    CHECK_EQ(coir_socket_send(fd, &word, sizeof word), sizeof word);
    CHECK(receive_all(fd, &got, sizeof got));
    if (CHECK_EQ(got, word))
        run_count(&answered);
    CHECK_EQ(coir_socket_close(fd), COIR_OK);
}

static void connect_many(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    answered = 0;
    coir_counter_init(&connected);
    coir_counter_add(&connected, CONNECTIONS);
    listener = coir_socket_listen(NULL, 0, 4096);
    CHECK_EQ(coir_spawn(&c, accept_many, NULL), COIR_OK);
    for (intptr_t i = 0; i < CONNECTIONS; i++)
        CHECK_EQ(coir_spawn(&c, connect_one, (void *)i), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(answered, CONNECTIONS);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
}

static void allow_descriptors(rlim_t n)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = n < limit.rlim_max ? n : limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void thousands_of_connections_at_once(enum coir_io io)
{
    allow_descriptors(8192);
    on(io, 1, connect_many, NULL);
    on(io, 2, connect_many, NULL);
}
ON_BOTH(thousands_of_connections_at_once)

/* -------------------------------------------------------------------------- no descriptors left */

static void run_out_of_descriptors(void *arg)
{
    int fd = coir_socket_listen(NULL, 0, 0), next, got;
    int client = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(fd));

    (void)arg;
    next = dup(fd);
    CHECK_EQ(close(next), 0);
    allow_descriptors((rlim_t)next);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(coir_socket_accept_until(fd, in_ms(5000)), COIR_EMFILE);
    CHECK_EQ(coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(fd)), COIR_EMFILE);
    allow_descriptors(1024);
    got = coir_socket_accept_until(fd, in_ms(5000));
    CHECK(got >= 0);
    CHECK_EQ(coir_socket_send(client, "x", 1), 1);
    CHECK_EQ(coir_socket_recv(got, &(char){0}, 1), 1);
    CHECK_EQ(coir_socket_close(got), COIR_OK);
    CHECK_EQ(coir_socket_close(client), COIR_OK);
    CHECK_EQ(coir_socket_close(fd), COIR_OK);
}

static void accept_goes_on_after_emfile(enum coir_io io)
{
    on(io, 1, run_out_of_descriptors, NULL);
}
ON_BOTH(accept_goes_on_after_emfile)

/* ------------------------------------------------------------------------------- no stacks left */

struct stackless {
    struct pair p;
    coir_counter gate;
    int over;
};

static void wait_at_gate(void *gate)
{
    CHECK_EQ(coir_wait(gate), COIR_DONE);
}

static void stay_ready(void *over)
{
    while (!__atomic_load_n((int *)over, __ATOMIC_ACQUIRE))
        coir_yield();
}

/* A send may leave itself to others while they are ready, but not where it must not park. */
static void send_without_parking(void *arg)
{
    static char piece[1 << 16];
    struct stackless *s = arg;
    coir_counter own = COIR_COUNTER_INIT;
    int64_t n;

    CHECK_EQ(coir_spawn(&own, wait_at_gate, &s->gate), COIR_OK);
    until_parked(coir_current(), 2);
    CHECK_EQ(coir_sleep_until(in_ms(1)), COIR_ENOMEM);
    CHECK_EQ(coir_socket_send(s->p.a, "x", 1), 1);
    while ((n = coir_socket_send(s->p.a, piece, sizeof piece)) > 0)
        ;
    CHECK_EQ(n, COIR_ENOMEM);
    coir_counter_done(&s->gate, COIR_DONE);
    CHECK_EQ(coir_wait(&own), COIR_DONE);
}

static void fill_a_domain(void *arg)
{
    coir_domain_options o = {.size = sizeof o, .name = "small", .stacks_max = 1};
    struct stackless s = {.p = pair_open(), .gate = COIR_COUNTER_INIT};
    coir_counter ready = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    coir_domain *domain;

    (void)arg;
    coir_counter_add(&s.gate, 1);
    CHECK_EQ(coir_domain_open(coir_current(), NULL, &o, &domain), COIR_OK);
    CHECK_EQ(coir_spawn(&ready, stay_ready, &s.over), COIR_OK);
    CHECK_EQ(coir_domain_submit(domain, &c, send_without_parking, &s), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_set(&s.over);
    CHECK_EQ(coir_wait(&ready), COIR_DONE);
    CHECK_EQ(coir_domain_close(domain, COIR_SEC, NULL), COIR_OK);
    pair_close(s.p);
}

static void what_fits_is_sent_where_no_stack_is_left(enum coir_io io)
{
    on(io, 1, fill_a_domain, NULL);
}
ON_BOTH(what_fits_is_sent_where_no_stack_is_left)

/* ------------------------------------------------------------------------- a peer without pause */

static int flood_over;

static void *flood(void *arg)
{
    static char piece[1 << 16];
    int fd = *(int *)arg;

    while (!__atomic_load_n(&flood_over, __ATOMIC_ACQUIRE))
        (void)!send(fd, piece, sizeof piece, MSG_DONTWAIT | MSG_NOSIGNAL);
    return NULL;
}

static void receive_flood(void *arg)
{
    struct pair *p = arg;
    char piece[4096];

    while (coir_socket_recv(p->b, piece, sizeof piece) > 0)
        ;
}

static void others_beside_flood(void *arg)
{
    struct pair flooded = pair_open(), quiet = pair_open();
    coir_counter c = COIR_COUNTER_INIT;
    pthread_t thread;

    (void)arg;
    flood_over = 0;
    CHECK_EQ(pthread_create(&thread, NULL, flood, &flooded.a), 0);
    CHECK_EQ(coir_spawn(&c, receive_flood, &flooded), COIR_OK);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(coir_sleep_until(in_ms(1)), COIR_OK);
        CHECK_EQ(coir_socket_send(quiet.a, "x", 1), 1);
        CHECK_EQ(coir_socket_recv_until(quiet.b, &(char){0}, 1, in_ms(5000)), 1);
    }
    run_set(&flood_over);
    pthread_join(thread, NULL);
    CHECK_EQ(shutdown(flooded.a, SHUT_WR), 0);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pair_close(flooded);
    pair_close(quiet);
}

static void a_peer_without_pause_starves_nobody(enum coir_io io)
{
    on(io, 1, others_beside_flood, NULL);
}
ON_BOTH(a_peer_without_pause_starves_nobody)

/* ----------------------------------------------------------- waking a worker that sleeps in I/O */

static void park_in_accept(void *arg)
{
    CHECK_EQ(coir_socket_accept(*(int *)arg), COIR_ECANCELED);
}

static void submit_often(enum coir_io io, unsigned workers)
{
    coir_options o = run_options(workers);
    coir_receipt receipt;
    int fd = coir_socket_listen(NULL, 0, 0), n = 0, jobs = MANY(5000);
    coir_runtime *rt = NULL;

    o.io = io;
    o.spin_ns = -1; /* asleep between any two jobs */
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, NULL, park_in_accept, &fd), COIR_OK);
    until_parked(rt, 1);
    for (int i = 0; i < jobs; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_submit(rt, &c, count, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    CHECK_EQ(n, jobs);
    run_close_past(rt, 0, &receipt);
    CHECK_EQ(coir_socket_close(fd), COIR_OK);
}

static void no_wake_up_is_lost(enum coir_io io)
{
    submit_often(io, 1); /* nobody else would do the job */
    submit_often(io, 2);
}
ON_BOTH(no_wake_up_is_lost)

/* ----------------------------------------------------------------------------- io_uring refused */

/* From now on io_uring_setup fails in this process, as under many a container's policy. */
static int forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void tell_backend(void *io)
{
    coir_stats stats;
    struct pair p = pair_open();

    CHECK_EQ(coir_stats_read(coir_current(), &stats), COIR_OK);
    *(int *)io = stats.io;
    pair_close(p);
}

static void open_without_io_uring(void)
{
    coir_runtime *rt;
    coir_options o = run_options(1);
    int io = -1;

    o.io = COIR_IO_URING;
    CHECK_EQ(coir_open(&o, &rt), COIR_ENOSYS);
    on(COIR_IO_AUTO, 1, tell_backend, &io);
    CHECK_EQ(io, COIR_IO_EPOLL);
}

static void epoll_is_used_where_io_uring_is_refused(void)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        CHECK(forbid_io_uring());
        open_without_io_uring();
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

CHECK_MAIN(CASES(a_long_job_does_not_delay_requests), CASES(thousands_of_connections_at_once),
           CASES(accept_goes_on_after_emfile),
           CASES(what_fits_is_sent_where_no_stack_is_left), CASES(a_peer_without_pause_starves_nobody),
           CASES(no_wake_up_is_lost), CASE(epoll_is_used_where_io_uring_is_refused))
