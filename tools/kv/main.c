/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-kv: options, start, and an end in good order.
 *
 * The main thread opens the runtime, starts the server and waits for a signal; the workers do
 * everything else. SIGTERM and SIGINT are blocked before the runtime starts its threads, so that
 * sigwait takes them as values and no handler is needed.
 */
#include "server.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define STOP_BUDGET (2 * COIR_SEC)
#define DESCRIPTORS_OF_OURS 64 /* beside those of the clients */

static const char help[] =
    "usage: coir-kv [OPTION]...\n"
    "A server of the Redis protocol (RESP2), in memory, a fiber for each connection.\n\n"
    "  --bind ADDRESS        numeric address to listen on (127.0.0.1)\n"
    "  --port PORT           0: the system picks one (6379)\n"
    "  --workers N           worker threads, 1 to 256 (as many as CPUs may be used)\n"
    "  --io uring|epoll      how sockets are waited for (uring if the kernel allows it)\n"
    "  --poll                idle workers never sleep: lower latency, full CPUs\n"
    "  --metrics-port PORT   serve /metrics and /healthz over HTTP; 0: the system picks one\n"
    "  --max-clients N       connections at once (10000)\n"
    "  --help                print this and exit\n";

struct options {
    coir_options runtime;
    struct server_options server;
};

__attribute__((noreturn)) static void bad_option(const char *option, const char *why)
{
    fprintf(stderr, "coir-kv: %s: %s\n", option, why);
    exit(2);
}

static unsigned number(const char *option, const char *text, unsigned min, unsigned max)
{
    char why[64];
    int64_t n;

    if (bytes_integer((struct bytes){text, strlen(text)}, &n) && n >= min && n <= max)
        return (unsigned)n;
    snprintf(why, sizeof why, "must be a number from %u to %u", min, max);
    bad_option(option, why);
}

static enum coir_io io_named(const char *text)
{
    if (strcmp(text, "uring") == 0)
        return COIR_IO_URING;
    if (strcmp(text, "epoll") == 0)
        return COIR_IO_EPOLL;
    bad_option("--io", "must be uring or epoll");
}

static void set_option(struct options *o, int option, const char *text)
{
    switch (option) {
    case 'b':
        o->server.address = text;
        break;
    case 'p':
        o->server.port = (uint16_t)number("--port", text, 0, 65535);
        break;
    case 'w':
        o->runtime.workers = number("--workers", text, 1, 256);
        break;
    case 'i':
        o->runtime.io = io_named(text);
        break;
    case 's':
        o->runtime.spin_ns = COIR_NEVER;
        break;
    case 'm':
        o->server.metrics_port = (int)number("--metrics-port", text, 0, 65535);
        break;
    case 'c':
        o->server.clients_max = number("--max-clients", text, 1, 1000000);
        break;
    case 'h':
        fputs(help, stdout);
        exit(0);
    default:
        exit(2); /* getopt_long has said why */
    }
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"bind", required_argument, NULL, 'b'},
        {"port", required_argument, NULL, 'p'},
        {"workers", required_argument, NULL, 'w'},
        {"io", required_argument, NULL, 'i'},
        {"poll", no_argument, NULL, 's'},
        {"metrics-port", required_argument, NULL, 'm'},
        {"max-clients", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(o, option, optarg);
    if (optind < argc)
        bad_option(argv[optind], "coir-kv takes options only");
}

/* ----------------------------------------------------------------------------------- the process
 */

/* A line is one write, so that lines of several workers do not mix. */
static void log_line(enum coir_log_level level, const char *text, void *arg)
{
    static const char *const name[] = {"error", "warning", "info"};

    (void)arg;
    dprintf(STDERR_FILENO, "coir-kv: %s: %s\n", name[level], text);
}

/* Every client needs a descriptor: asks for as many as may be had, and promises no more. */
static void fit_descriptors(struct server_options *o)
{
    struct rlimit limit;
    rlim_t ours = DESCRIPTORS_OF_OURS;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= o->clients_max + ours)
        return;
    o->clients_max = limit.rlim_cur > 2 * ours ? (unsigned)(limit.rlim_cur - ours) : (unsigned)ours;
    fprintf(stderr, "coir-kv: warning: room for %u clients: the limit of descriptors is %llu\n",
            o->clients_max, (unsigned long long)limit.rlim_cur);
}

/* What makes the server end: blocked in every thread, and taken by main alone. */
static sigset_t stop_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

static void announce(const struct server *s, const char *address)
{
    printf("listening on %s:%u\n", address, s->port);
    if (s->metrics_listener >= 0)
        printf("metrics on %s:%u\n", address, s->metrics_port);
    fflush(stdout);
}

static int failed(const char *what, int status)
{
    fprintf(stderr, "coir-kv: %s: %s\n", what, coir_status_text(status));
    return 1;
}

/* Serves until a signal comes. Returns the exit code. */
static int serve(struct server *s, coir_runtime *runtime, const sigset_t *stop)
{
    int status = server_start(s, runtime), signal, closed;

    if (status == COIR_OK)
        sigwait(stop, &signal);
    (void)server_stop(s, coir_now() + STOP_BUDGET); /* the close below says if a job is left */
    closed = coir_close(runtime, 0, NULL);
    if (status != COIR_OK)
        return failed("start", status);
    if (closed != COIR_OK)
        return failed("a request does not end", closed);
    server_close(s);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .runtime = {.size = sizeof o.runtime,
                    .spin_ns = -1, /* requests come from the kernel: to spin for them only costs */
                    .faults = COIR_FAULTS_REPORT,
                    .log = log_line},
        .server = {.address = "127.0.0.1", .port = 6379, .metrics_port = -1, .clients_max = 10000},
    };
    const sigset_t stop = stop_signals();
    struct server server;
    coir_runtime *runtime;
    const char *what;
    int status;

    parse_options(argc, argv, &o);
    fit_descriptors(&o.server);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    status = server_open(&server, &o.server, &what);
    if (status != COIR_OK)
        return failed(what, status);
    status = coir_open(&o.runtime, &runtime);
    if (status != COIR_OK)
        return failed("cannot open the runtime", status);
    announce(&server, o.server.address);
    return serve(&server, runtime, &stop);
}
