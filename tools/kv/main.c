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

enum option_name {
    PORT,
    WORKERS,
    METRICS_PORT,
    MAX_CLIENTS,
    NUMBERS,
    BIND = NUMBERS,
    IO,
    POLL,
    HELP
};

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
        if (option == '?')
            exit(2); /* getopt_long has said why */
        if (option < NUMBERS) {
            o->number[option] = number(option, optarg);
        } else if (option == BIND) {
            o->address = optarg;
        } else if (option == IO) {
            bool uring = strcmp(optarg, "uring") == 0;

            if (!uring && strcmp(optarg, "epoll") != 0)
                errx(2, "--io: must be uring or epoll");
            o->runtime.io = uring ? COIR_IO_URING : COIR_IO_EPOLL;
        } else if (option == POLL) {
            o->runtime.spin_ns = COIR_NEVER;
        } else {
            fputs(help, stdout);
            exit(0);
        }
    }
    if (optind < argc)
        errx(2, "%s: coir-kv takes options only", argv[optind]);
    o->runtime.workers = (unsigned)o->number[WORKERS];
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
 * Every client needs a descriptor. Called when all others are open, but for those of metrics
 * exchanges, of a client that is being refused and of a file that is being read.
 */
static void fit_descriptors(unsigned *clients)
{
    unsigned taken = METRICS_EXCHANGES + 2, limit = (unsigned)sysconf(_SC_OPEN_MAX);

    for (int fd = 0; fd < 4096; fd++)
        taken += fcntl(fd, F_GETFD) >= 0;
    if (limit >= taken + *clients)
        return;
    if (limit <= taken)
        errx(1, "the limit of %u descriptors leaves no room for clients", limit);
    *clients = limit - taken;
    warnx("warning: room for %u clients: the limit of descriptors is %u", *clients, limit);
}

/* All that need not suspend. Returns with a first job submitted. */
static coir_runtime *start(const struct options *o)
{
    struct rlimit limit;
    coir_runtime *runtime;
    int status;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    server.started = coir_now();
    server.listener = listen_on(o, PORT);
    server.port = (unsigned)coir_socket_port(server.listener);
    server.metrics_listener = o->number[METRICS_PORT] < 0 ? -1 : listen_on(o, METRICS_PORT);
    server.clients_max = (unsigned)o->number[MAX_CLIENTS];
    status = coir_open(&o->runtime, &runtime);
    if (status != COIR_OK || store_open() != STORE_OK)
        errx(1, "cannot open the runtime: %s", coir_status_text(status));
    fit_descriptors(&server.clients_max);
    announce("listening", o->address, server.listener);
    if (server.metrics_listener >= 0)
        announce("metrics", o->address, server.metrics_listener);
    fflush(stdout);
    status = coir_submit(runtime, &server.jobs, server_run, NULL);
    if (status != COIR_OK)
        errx(1, "cannot start: %s", coir_status_text(status));
    return runtime;
}

int main(int argc, char **argv)
{
    struct options o = {
        .address = "127.0.0.1",
        .number = {[PORT] = 6379, [METRICS_PORT] = -1, [MAX_CLIENTS] = 10000},
        .runtime = {.size = sizeof o.runtime,
                    .spin_ns = -1, /* requests come from the kernel: to spin for them only costs */
                    .offload_threads = 1,
                    .faults = COIR_FAULTS_REPORT,
                    .log = log_line},
    };
    coir_runtime *runtime;
    sigset_t stop;
    int caught;

    parse_options(argc, argv, &o);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    runtime = start(&o);
    sigwait(&stop, &caught);
    coir_counter_cancel(&server.jobs);
    if (coir_wait_until(&server.jobs, coir_now() + STOP_BUDGET) < COIR_DONE ||
        coir_close(runtime, 0, NULL) != COIR_OK)
        errx(1, "a request does not end");
    return 0;
}
