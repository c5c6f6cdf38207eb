/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-kv: options, and what the process must have before it can begin.
 */
#include "kv.h"

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------- options */

static const struct number {
    const char *name;
    int *value, least, most, standard; /* the last if it is not given */
    const char *help;
} numbers[] = {
    {"port", &server.set.port, 0, 65535, 6379, "to listen on; 0: the system picks one"},
    {"metrics-port", &server.set.metrics_port, 0, 65535, -1,
     "serve /metrics, /healthz, /readyz, /map and /map.dot over HTTP; 0: the system picks one"},
    {"workers", &server.set.workers, 1, 256, 0, "threads; by default as many as CPUs may be used"},
    {"max-clients", &server.set.max_clients, 1, 1000000, 10000, "connections at once"},
    {"request-ms", &server.set.request_ms, 1, 3600000, 5000,
     "milliseconds from a request's arrival to its reply's being taken"},
    {"client-requests", &server.set.client_requests, 1, 1000000, 1000,
     "of one client are answered in a row before others have their turn"},
    {"client-input", &server.set.client_input, 64, REQUEST_BYTES_MAX >> 10,
     REQUEST_BYTES_MAX >> 10, "KiB that a request may have"},
    {"client-output", &server.set.client_output, 1, 16384, 64,
     "KiB of replies, and one value more, that a client may leave with us"},
    {"panics-max", &server.set.panics_max, 0, 1024, 0,
     "requests broken within 10 s after which all are turned away for a second; 0: any number"},
    {"stall-ms", &server.set.stall_ms, 1, 60000, 100,
     "a request that computes so long at a stretch is logged with its place"},
    {"hang-ms", &server.set.hang_ms, 1, 3600000, 10000,
     "a worker in one job for so long, at least --stall-ms, is lost: /healthz fails, the watchdog starves"},
    {"tainted-max", &server.set.tainted_max, 0, 1000000, 100,
     "contained faults after which /readyz fails"},
    {"drain-ms", &server.set.drain_ms, 0, 3600000, 10000,
     "milliseconds that requests may go on after SIGTERM"},
};

enum { NUMBERS = sizeof numbers / sizeof numbers[0], BIND = NUMBERS, IO, POLL, HELP, OPTIONS };

static const char *address = "127.0.0.1";

static const char help[] =
    "usage: coir-kv [OPTION]...\n"
    "A server of the Redis protocol (RESP2), in memory, a fiber for each connection.\n\n"
    "  --bind ADDRESS       numeric address to listen on (127.0.0.1)\n"
    "  --io uring|epoll     how sockets are waited for (uring if the kernel allows it)\n"
    "  --poll               idle workers never sleep: lower latency, full CPUs\n"
    "  --help               print this and exit\n";

static _Noreturn void print_help(void)
{
    fputs(help, stdout);
    for (const struct number *n = numbers; n < numbers + NUMBERS; n++) {
        printf("  --%-15s N  %s", n->name, n->help);
        printf(n->standard > 0 ? " (%d)\n" : "\n", n->standard);
    }
    exit(fflush(stdout) != 0);
}

static void set_number(const struct number *option, const char *text)
{
    int64_t n;

    if (!bytes_integer((struct bytes){text, strlen(text)}, &n) || n < option->least ||
        n > option->most)
        errx(2, "--%s: must be a number from %d to %d", option->name, option->least, option->most);
    *option->value = (int)n;
}

static void parse_options(int argc, char **argv, coir_options *o)
{
    struct option known[OPTIONS + 1] = {[BIND] = {"bind", required_argument, NULL, BIND},
                                        [IO] = {"io", required_argument, NULL, IO},
                                        [POLL] = {"poll", no_argument, NULL, POLL},
                                        [HELP] = {"help", no_argument, NULL, HELP}};
    int option;

    for (int i = 0; i < NUMBERS; i++) {
        known[i] = (struct option){numbers[i].name, required_argument, NULL, i};
        *numbers[i].value = numbers[i].standard;
    }
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option < NUMBERS)
            set_number(&numbers[option], optarg);
        else if (option == BIND)
            address = optarg;
        else if (option == IO && strcmp(optarg, "uring") == 0)
            o->io = COIR_IO_URING;
        else if (option == IO && strcmp(optarg, "epoll") == 0)
            o->io = COIR_IO_EPOLL;
        else if (option == IO)
            errx(2, "--io: must be uring or epoll");
        else if (option == POLL)
            o->spin_ns = COIR_NEVER;
        else if (option == HELP)
            print_help();
        else
            exit(2); /* getopt_long has said why */
    }
    if (optind < argc)
        errx(2, "%s: coir-kv takes options only", argv[optind]);
    if (server.set.hang_ms < server.set.stall_ms) /* only a job that stalls is seen to hang */
        errx(2, "--hang-ms: must not be less than --stall-ms, %d", server.set.stall_ms);
    o->workers = (unsigned)server.set.workers;
    o->stall_ns = server.set.stall_ms * COIR_MS;
}

/* --------------------------------------------------------------------------------- the process */

/* A line is one write, so that lines of several workers do not mix. */
static void log_line(enum coir_log_level level, const char *text, void *arg)
{
    static const char *const name[] = {"error", "warning", "info"};

    (void)arg;
    dprintf(STDERR_FILENO, "coir-kv: %s: %s\n", name[level], text);
}

/* Replaces the port by the one that it became. */
static int listen_on(const char *option, int *port)
{
    int listener = coir_socket_listen(address, (uint16_t)*port, 0);

    if (listener == COIR_EADDRINUSE || listener == COIR_EACCES || listener == COIR_EMFILE)
        errx(1, "--%s %d: %s", option, *port, coir_status_text(listener));
    if (listener < 0)
        errx(1, "--bind %s: %s", address, coir_status_text(listener));
    *port = coir_socket_port(listener);
    return listener;
}

/*
 * A peer that has vanished without a word would keep its connection for ever; so a silent one is asked for a sign
 * of life, by the kernel. Accepted sockets inherit this, and it costs no call for each.
 */
static void detect_vanished(int listener)
{
    static const int on = 1, idle_s = 60, interval_s = 20, probes = 3;

    if (setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) != 0)
        warn("clients that vanish will not be found out");
}

static void announce(const char *what, int port)
{
    printf(strchr(address, ':') ? "%s on [%s]:%d\n" : "%s on %s:%d\n", what, address, port);
}

/*
 * How many clients there are descriptors for. All others are open now, but for those of metrics
 * exchanges and one that waits, of a client that is being refused, of used memory and of a word to systemd.
 */
static bool fit_descriptors(int *clients)
{
    int taken = 3 + (server.metrics_listener < 0 ? 0 : METRICS_EXCHANGES + 1);
    int limit = (int)sysconf(_SC_OPEN_MAX);

    for (int fd = 0; fd < 4096; fd++)
        taken += fcntl(fd, F_GETFD) >= 0;
    if (limit >= taken + *clients)
        return true;
    if (limit <= taken) {
        warnx("the limit of %d descriptors leaves no room for clients", limit);
        return false;
    }
    warnx("warning: room for %d clients: the limit of descriptors is %d", limit - taken, limit);
    *clients = limit - taken;
    return true;
}

bool main_begin(void)
{
    if (!fit_descriptors(&server.set.max_clients))
        return false;
    announce("listening", server.set.port);
    if (server.metrics_listener >= 0)
        announce("metrics", server.set.metrics_port);
    fflush(stdout);
    return true;
}

/* What is had before there are threads. */
static void prepare(void)
{
    struct settings *set = &server.set;
    struct rlimit limit;
    sigset_t held;
    const char *wrong;

    signal(SIGPIPE, SIG_IGN); /* a log that nobody reads any more ends nothing */
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGINT);
    pthread_sigmask(SIG_BLOCK, &held, NULL); /* those that come before the child that takes them */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        (void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit.rlim_max, limit.rlim_max});
    wrong = native_open();
    if (wrong)
        errx(1, "cannot fork a child for dangerous work: %s", wrong);
    server.started = coir_now();
    server.listener = listen_on("port", &set->port);
    detect_vanished(server.listener);
    server.metrics_listener =
        set->metrics_port < 0 ? -1 : listen_on("metrics-port", &set->metrics_port);
    if (store_open())
        errx(1, "cannot open the store: out of memory");
}

/* What is opened later must not become 0, 1 or 2, of which the last two are written to. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
}

int main(int argc, char **argv)
{
    coir_options o = {
        .size = sizeof o,
        .spin_ns = -1,   /* requests come from the kernel: to spin for them only costs */
        .prefault = 128, /* the first clients meet no page faults, nor their panics */
        .prefault_bytes = 16 << 10,
        .offload_threads = 1, /* for the memory in use */
        .records = 256,
        .faults = COIR_FAULTS_CONTAIN, /* in the code that server_open registers */
        .faults_also = COIR_FAULTS_ALSO_ALL,
        .log = log_line,
    };
    int status;

    fill_standard_descriptors();
    parse_options(argc, argv, &o);
    prepare();
    status = service_run(&o);
    native_close();
    return status;
}
