/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-kv: options, start, and an end in good order.
 *
 * The main thread opens the runtime, submits the first job and waits for a signal; the workers do
 * everything else. SIGTERM and SIGINT are blocked before the runtime starts its threads, so that
 * sigwait takes them as values and no handler is needed.
 */
#include "kv.h"

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define STOP_BUDGET (2 * COIR_SEC)

/* ------------------------------------------------------------------------------------- options */

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

enum { PORT, WORKERS, METRICS_PORT, MAX_CLIENTS, NUMBERS, BIND = NUMBERS, IO, POLL, HELP };

static const struct option known[] = {
    {"port", required_argument, NULL, PORT},
    {"workers", required_argument, NULL, WORKERS},
    {"metrics-port", required_argument, NULL, METRICS_PORT},
    {"max-clients", required_argument, NULL, MAX_CLIENTS},
    {"bind", required_argument, NULL, BIND},
    {"io", required_argument, NULL, IO},
    {"poll", no_argument, NULL, POLL},
    {"help", no_argument, NULL, HELP},
    {0},
};

static const int range[NUMBERS][2] = {{0, 65535}, {1, 256}, {0, 65535}, {1, 1000000}};

struct options {
    const char *address;
    int number[NUMBERS];
    coir_options runtime;
};

static int number(int option, const char *text)
{
    const int min = range[option][0], max = range[option][1];
    int64_t n;

    if (!bytes_integer((struct bytes){text, strlen(text)}, &n) || n < min || n > max)
        errx(2, "--%s: must be a number from %d to %d", known[option].name, min, max);
    return (int)n;
}

static void parse_options(int argc, char **argv, struct options *o)
{
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option < NUMBERS)
            o->number[option] = number(option, optarg);
        else if (option == BIND)
            o->address = optarg;
        else if (option == IO && strcmp(optarg, "uring") == 0)
            o->runtime.io = COIR_IO_URING;
        else if (option == IO && strcmp(optarg, "epoll") == 0)
            o->runtime.io = COIR_IO_EPOLL;
        else if (option == IO)
            errx(2, "--io: must be uring or epoll");
        else if (option == POLL)
            o->runtime.spin_ns = COIR_NEVER;
        else if (option == HELP)
            exit(fputs(help, stdout) < 0);
        else
            exit(2); /* getopt_long has said why */
    }
    if (optind < argc)
        errx(2, "%s: coir-kv takes options only", argv[optind]);
    o->runtime.workers = (unsigned)o->number[WORKERS];
}

/* --------------------------------------------------------------------------------- the process */

/* A line is one write, so that lines of several workers do not mix. */
static void log_line(enum coir_log_level level, const char *text, void *arg)
{
    static const char *const name[] = {"error", "warning", "info"};

    (void)arg;
    dprintf(STDERR_FILENO, "coir-kv: %s: %s\n", name[level], text);
}

static int listen_on(const struct options *o, int option)
{
    int port = o->number[option];
    int listener = coir_socket_listen(o->address, (uint16_t)port, 0);

    if (listener == COIR_EADDRINUSE || listener == COIR_EACCES || listener == COIR_EMFILE)
        errx(1, "--%s %d: %s", known[option].name, port, coir_status_text(listener));
    if (listener < 0)
        errx(1, "--bind %s: %s", o->address, coir_status_text(listener));
    return listener;
}

static void announce(const char *what, const char *address, int listener)
{
    const char *format = strchr(address, ':') ? "%s on [%s]:%d\n" : "%s on %s:%d\n";

    printf(format, what, address, coir_socket_port(listener));
}

/*
 * How many of `clients` there are descriptors for. All others are open now, but for those of
 * metrics exchanges, of a client that is being refused and of metrics_resident.
 */
static unsigned fit_descriptors(unsigned clients)
{
    unsigned taken = 2 + (server.metrics_listener < 0 ? 0 : METRICS_EXCHANGES);
    unsigned limit = (unsigned)sysconf(_SC_OPEN_MAX);

    for (int fd = 0; fd < 4096; fd++)
        taken += fcntl(fd, F_GETFD) >= 0;
    if (limit >= taken + clients)
        return clients;
    if (limit <= taken)
        errx(1, "the limit of %u descriptors leaves no room for clients", limit);
    warnx("warning: room for %u clients: the limit of descriptors is %u", limit - taken, limit);
    return limit - taken;
}

static void must(int status, const char *what)
{
    if (status != COIR_OK)
        errx(1, "%s: %s", what, coir_status_text(status));
}

/* Opens all that there is, says so, and submits the first jobs. */
static coir_runtime *start(const struct options *o)
{
    struct rlimit limit;
    coir_runtime *runtime;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        (void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit.rlim_max, limit.rlim_max});
    server.started = coir_now();
    server.listener = listen_on(o, PORT);
    server.port = (unsigned)coir_socket_port(server.listener);
    server.metrics_listener = o->number[METRICS_PORT] < 0 ? -1 : listen_on(o, METRICS_PORT);
    must(store_open() ? COIR_ENOMEM : COIR_OK, "cannot open the store");
    must(coir_open(&o->runtime, &runtime), "cannot open the runtime");
    server.clients_max = fit_descriptors((unsigned)o->number[MAX_CLIENTS]);
    announce("listening", o->address, server.listener);
    if (server.metrics_listener >= 0)
        announce("metrics", o->address, server.metrics_listener);
    fflush(stdout);
    must(server_start(runtime), "cannot start");
    return runtime;
}

/* Asks every job to stop. Returns the exit code. */
static int stop(coir_runtime *runtime)
{
    coir_counter_cancel(&server.jobs);
    if (coir_wait_until(&server.jobs, coir_now() + STOP_BUDGET) < COIR_DONE)
        warnx("a request does not end");
    return coir_close(runtime, 0, NULL) == COIR_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct options o = {
        .address = "127.0.0.1",
        .number = {[PORT] = 6379, [METRICS_PORT] = -1, [MAX_CLIENTS] = 10000},
        .runtime = {.size = sizeof o.runtime,
                    .spin_ns = -1, /* requests come from the kernel: to spin for them only costs */
                    .prefault = 128, /* the first clients meet no page faults, nor their panics */
                    .prefault_bytes = 16 << 10,
                    .offload_threads = 1, /* for metrics_resident */
                    .records = 256,
                    .faults = COIR_FAULTS_REPORT,
                    .log = log_line},
    };
    coir_runtime *runtime;
    sigset_t signals;
    int caught;

    parse_options(argc, argv, &o);
    signal(SIGPIPE, SIG_IGN); /* a log that nobody reads any more ends nothing */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    runtime = start(&o);
    sigwait(&signals, &caught);
    return stop(runtime);
}
