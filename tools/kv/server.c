/* SPDX-License-Identifier: MIT */
/*
 * server.c - accepts connections, and serves each from its first byte to its close.
 *
 * A connection is a job that owns the socket, the buffers and the last word to the client. It waits
 * for bytes. What they ask for runs in a second job, in the domain `requests`, and may break in
 * any way: the first one waits for it, learns what broke, and says so. So whatever becomes of a
 * request, even if its domain lets none run, nothing of the connection is lost. The second job ends
 * after some requests or when none comes for a while: a job for each would cost a tenth of a GET. Of a
 * client that asks less often than that, it ends after each: thousands of these would cost a stack
 * and a timer more.
 *
 * Both are plain loops. Blocking calls park the fiber and not its worker, so where the loop stands is
 * all the state there is.
 */
#include "kv.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define READ_BYTES (16u << 10)     /* of a read buffer, while no request is longer */
#define READ_BYTES_MAX (64u << 10) /* received before some of it is answered: fairness */
#define IDLE (100 * COIR_MS)       /* without a request, until the second job ends */
#define TURN (100 * COIR_US)      /* of one client, before others have theirs */
#define TURN_LOOK 32              /* keys looked up, until the clock is */
#define LINGER COIR_SEC
#define BACKLOG 1024 /* coir_socket_listen's */
#define ACCEPT_PAUSE (10 * COIR_MS)
#define REST_PAUSE COIR_MS /* in the drain, between two looks for the rest of a request or of its replies */

struct server server;
const char *const server_domains[DOMAINS] = {"clients", "requests", "metrics"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects the list; held for a few lines */
static struct client *first;

/* ------------------------------------------------------------------------------ one connection */

static void send_replies(struct client *c)
{
    struct buffer *out = &c->out;

    figure_add(&server.commands, c->commands);
    c->commands = 0;
    if (out->used > 0 && coir_socket_send_until(c->socket, out->data, out->used,
                                                client_deadline(c)) != (int64_t)out->used) {
        if (coir_now() >= client_deadline(c))
            client_late(c);
        c->ended = true;
    }
    c->ended |= out->failed;
    buffer_clear(out, (size_t)server.set.client_output << 10);
    c->reply_at = 0;
}

void client_flush(struct client *c)
{
    if (c->out.used >= (size_t)server.set.client_output << 10 || c->out.failed)
        send_replies(c);
}

const char *client_late(struct client *c)
{
    c->ended = true;
    figure_add(&server.late, 1);
    return "internal: deadline: it took longer than --request-ms";
}

/* A yield would not do: those who have yet to arrive a worker sees after dozens of turns, or with nothing to do. */
void client_worked(struct client *c, size_t keys)
{
    int64_t now;

    if ((c->worked += keys) < TURN_LOOK)
        return;
    c->worked = 0;
    now = coir_now();
    if (now - c->turn < TURN)
        return;
    (void)coir_sleep_until(now + COIR_US); /* canceled: what is left to do does not become less */
    c->turn = coir_now();
}

/* Receives some bytes. The buffer grows when it is full of bytes, never on a promise. A status. */
static int64_t receive(struct client *c, int64_t deadline)
{
    struct buffer *in = &c->request.in;
    size_t room;
    int64_t got;

    if (!buffer_reserve(in, in->data ? 1 : READ_BYTES))
        return COIR_ENOMEM;
    room = in->room - in->used < READ_BYTES_MAX ? in->room - in->used : READ_BYTES_MAX;
    got = coir_socket_recv_until(c->socket, in->data + in->used, room, deadline);
    if (got <= 0)
        return got;
    in->used += (size_t)got;
    if (c->answered) { /* what was here already is of the next request, too */
        int64_t now = coir_now();

        c->often = now - c->arrived < IDLE;
        c->arrived = c->turn = now;
    }
    c->answered = false;
    return got;
}

/* A client that has been dismissed does not wait for bytes any more, but those of a request that has begun
 * still come. If it is the peer that has closed, this ends at the deadline. */
static int64_t receive_rest(struct client *c)
{
    int64_t got = 0;

    while (got == 0 && coir_now() < client_deadline(c) &&
           coir_sleep_until(coir_now() + REST_PAUSE) == COIR_OK)
        got = receive(c, client_deadline(c));
    return got;
}

/* What a request calls when bytes are missing. Before its first one there is no hurry. */
static bool client_more(struct request *r)
{
    struct client *c = (struct client *)r;
    bool idle = r->begin == r->in.used;
    int64_t got;

    send_replies(c);
    memmove(r->in.data, r->in.data + r->begin, r->in.used -= r->begin);
    r->begin = 0;
    if (c->ended || coir_canceled() || (idle && !c->often))
        return false;
    got = receive(c, idle ? c->arrived + IDLE : client_deadline(c));
    if (idle && got == COIR_ETIMEDOUT)
        return false;
    if (!idle && got == 0 && server_drains())
        got = receive_rest(c);
    if (got == COIR_ETIMEDOUT)
        reply_error(&c->out, "ERR %s", client_late(c));
    c->ended |= got <= 0;
    return got > 0;
}

/* In the drain we read no more (see dismiss), and then the kernel takes what still comes after our end has been
 * told for an error: it resets the connection, and drops the replies that the peer has no room for yet. */
static void await_taken(int socket, int64_t deadline)
{
    int left = 0;

    while (ioctl(socket, SIOCOUTQ, &left) == 0 && left > 0 && coir_now() < deadline &&
           coir_sleep_until(coir_now() + REST_PAUSE) == COIR_OK)
        ;
}

/*
 * Closing while unread bytes are here would send a reset, and a reset takes back replies that are
 * still on their way. So the peer is told of the end, and what it goes on sending is read. Not
 * inlined, for the array would be part of every connection's frame.
 */
__attribute__((noinline)) void server_linger(int socket, int64_t deadline)
{
    int64_t limit = REQUEST_BYTES_MAX, got;
    char unread[4096];

    if (server_drains())
        await_taken(socket, deadline);
    if (shutdown(socket, SHUT_WR) != 0)
        return;
    do
        limit -= got = coir_socket_recv_until(socket, unread, sizeof unread, deadline);
    while (got > 0 && limit > 0);
}

/* The second job. Nothing in here holds what a fault would leave behind. */
static void run_requests(void *arg)
{
    struct client *c = arg;

    coir_job_name("requests");
    for (int run = 0; run < server.set.client_requests && !c->ended && request_read(&c->request);
         run++) {
        c->reply_at = c->out.used;
        command_run(c);
        c->answered = true;
        client_flush(c);
        client_worked(c, c->request.count);
    }
    if (c->request.error[0]) {
        reply_error(&c->out, "ERR Protocol error: %s", c->request.error);
        c->ended = true;
    }
    send_replies(c);
}

/* The reply that the failure cut short is taken back. The log has the failure already. */
static void tell_failure(struct client *c, const coir_counter *requests)
{
    coir_failure failure;

    c->ended = true;
    if (coir_counter_failure(requests, &failure) != COIR_OK)
        return;
    if (c->out.used > c->reply_at)
        c->out.used = c->reply_at;
    reply_error(&c->out, "ERR internal: %s: %s", coir_kind_name(failure.kind), failure.message);
    c->arrived = coir_now();
    send_replies(c);
}

/* Has requests answered, as many as one client may have in a row. */
static void answer(struct client *c)
{
    coir_counter requests = COIR_COUNTER_INIT;
    int outcome;

    if (coir_domain_submit(server.domain[REQUESTS], &requests, run_requests, c) != COIR_OK) {
        c->ended = true; /* the server stops, or there is no memory even for a reply */
        return;
    }
    while ((outcome = coir_wait(&requests)) < COIR_DONE)
        ; /* canceled, and so is the other job: it ends */
    if (outcome != COIR_DONE)
        tell_failure(c, &requests);
}

/* What had arrived is received first; then there is no more. Replies still go out. */
static void dismiss(struct client *c)
{
    (void)shutdown(c->socket, SHUT_RD); /* fails if the peer has gone, which comes to the same */
}

/* In front of the list; one that comes late to the drain sees that it has begun. */
static void enlist(struct client *c)
{
    pthread_mutex_lock(&lock);
    c->next = first;
    if (first)
        first->prev = c;
    first = c;
    if (server_drains())
        dismiss(c);
    pthread_mutex_unlock(&lock);
}

static void close_client(void *arg)
{
    struct client *c = arg;

    pthread_mutex_lock(&lock);
    *(c->prev ? &c->prev->next : &first) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&lock);
    coir_socket_close(c->socket);
    buffer_free(&c->out);
    request_free(&c->request);
    free(c);
}

static struct client *open_client(int socket)
{
    struct client *c = calloc(1, sizeof *c);

    if (!c) {
        coir_socket_close(socket);
        return NULL;
    }
    c->request.more = client_more;
    c->request.bytes_max = (size_t)server.set.client_input << 10;
    c->socket = socket;
    c->answered = true;
    enlist(c);
    return c;
}

/* The job of a connection. It is closed by whatever way the job ends, a fault included; the frame has gone by
 * then, so the client is not in it. */
static void client_serve(void *arg)
{
    struct client *c = open_client((int)(intptr_t)arg);

    if (!c)
        return;
    coir_job_name("client");
    coir_require(coir_defer(close_client, c) == COIR_OK, "the first handlers cannot fail");
    /* Replies go out in one piece, so there is nothing to gather. Failing costs latency only. */
    (void)setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    while (!c->ended && (request_waits(&c->request, READ_BYTES) || receive(c, COIR_NEVER) > 0)) {
        answer(c);
        coir_yield(); /* to those who came meanwhile */
    }
    if ((c->ended || server_drains()) && !coir_canceled())
        server_linger(c->socket, coir_now() + LINGER);
}

void server_dismiss(void)
{
    pthread_mutex_lock(&lock);
    atomic_store_explicit(&server.drain_began, coir_now(), memory_order_release); /* set once */
    for (struct client *c = first; c; c = c->next)
        dismiss(c);
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------------------------- accepting */

int server_accept(int listener)
{
    int socket = coir_socket_accept(listener);

    if (socket >= 0)
        return socket;
    figure_add(&server.accept_errors, 1);
    (void)coir_sleep_until(coir_now() + ACCEPT_PAUSE); /* cut short by a cancel only */
    return -1;
}

static void refuse(int socket)
{
    static const char text[] = "-ERR max number of clients reached\r\n";
    char unread[4096];

    (void)send(socket, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* a courtesy */
    (void)recv(socket, unread, sizeof unread, MSG_DONTWAIT);                /* see server_linger */
    coir_socket_close(socket);
}

static void admit(int socket)
{
    if (coir_domain_submit(server.domain[CLIENTS], &server.clients, client_serve, (void *)(intptr_t)socket) !=
        COIR_OK)
        refuse(socket);
}

/* Those whom the kernel has let in already may have asked for something: a close would reset them. Their
 * number is that of its queue. */
static void accept_the_rest(void)
{
    for (int i = 0, socket; i < BACKLOG; i++) {
        socket = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket < 0)
            return;
        admit(socket);
    }
}

void server_accept_clients(void *unused)
{
    (void)unused;
    while (!coir_canceled()) {
        int socket = server_accept(server.listener);

        if (socket >= 0)
            admit(socket);
    }
    accept_the_rest();
    coir_socket_close(server.listener); /* whoever comes now is refused, and can go elsewhere */
}

/* -------------------------------------------------------------------------------------- start */

/* Those that are open stay. */
static int open_domains(coir_runtime *runtime)
{
    coir_domain_options options[DOMAINS] = {
        [CLIENTS] = {.jobs_max = (size_t)server.set.max_clients},
        [REQUESTS] = {.panics_max = (unsigned)server.set.panics_max},
        [METRICS] = {.jobs_max = METRICS_EXCHANGES, .full = COIR_FULL_WAIT},
    };
    int status = COIR_OK;

    for (int i = 0; i < DOMAINS && status == COIR_OK; i++) {
        options[i].size = sizeof options[i];
        options[i].name = server_domains[i];
        if (!server.domain[i])
            status = coir_domain_open(runtime, NULL, &options[i], &server.domain[i]);
    }
    return status;
}

/* What runs inside the second jobs and holds no lock: the files in text.ld. A fault in the store,
 * which has locks, or in libc aborts: to go on would hang everybody or answer wrongly. */
extern const char __start_kv_text[], __stop_kv_text[];

int server_open(coir_runtime *runtime)
{
    int status = coir_contain_text(__start_kv_text, __stop_kv_text);

    return status == COIR_OK ? open_domains(runtime) : status;
}
