/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-consume: options, start, drain, receipt.
 *
 * The first job starts the others and waits for SIGTERM or SIGINT, which it takes as a value. Then
 * fetching stops, the workers finish what has been taken, and the receipt is printed.
 */
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consume.h"

struct service service;

/* ------------------------------------------------------------------------------------- options */

static const char help[] =
    "usage: coir-consume --stream NAME [OPTION]...\n"
    "Handles the messages of a Redis stream as one of a consumer group, a fiber for each.\n\n"
    "  --stream NAME      the stream; required\n"
    "  --group NAME       the group; made if it is missing (workers)\n"
    "  --consumer NAME    this process in the group (host-pid)\n"
    "  --dead NAME        where messages go that fail each time (STREAM:dead)\n"
    "  --host ADDRESS     numeric address of redis (127.0.0.1)\n"
    "  --port PORT        (6379)\n"
    "  --workers N        worker threads, 1 to 256 (as many as CPUs may be used)\n"
    "  --in-flight N      messages taken at once, each with a connection, 1 to 4096 (64)\n"
    "  --attempts N       deliveries of a message before it is buried, 1 to 1000 (5)\n"
    "  --claim-ms MS      a message not settled for so long is taken over, or tried again (5000)\n"
    "  --drain-ms MS      after SIGTERM, what has been taken may go on for so long (10000)\n"
    "  --help             print this and exit\n\n"
    "SIGTERM and SIGINT end it. Exit status: 0: each message taken was handled; 1: not within --drain-ms,\n"
    "or redis was not there at the start; 2: bad option.\n";

enum { PORT, WORKERS, IN_FLIGHT, ATTEMPTS, CLAIM_MS, DRAIN_MS, NUMBERS,
       STREAM = NUMBERS, GROUP, CONSUMER, DEAD, HOST, HELP };

static const struct option known[] = {
    {"port", required_argument, NULL, PORT},
    {"workers", required_argument, NULL, WORKERS},
    {"in-flight", required_argument, NULL, IN_FLIGHT},
    {"attempts", required_argument, NULL, ATTEMPTS},
    {"claim-ms", required_argument, NULL, CLAIM_MS},
    {"drain-ms", required_argument, NULL, DRAIN_MS},
    {"stream", required_argument, NULL, STREAM},
    {"group", required_argument, NULL, GROUP},
    {"consumer", required_argument, NULL, CONSUMER},
    {"dead", required_argument, NULL, DEAD},
    {"host", required_argument, NULL, HOST},
    {"help", no_argument, NULL, HELP},
    {0},
};

static const struct {
    long min, max;
} range[NUMBERS] = {{1, 65535}, {1, 256}, {1, 4096}, {1, 1000}, {10, 86400000}, {0, 3600000}};

static long number[NUMBERS] = {6379, 0, 64, 5, 5000, 10000};

static long parse_number(int option, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || n < range[option].min || n > range[option].max)
        errx(2, "--%s: must be a number from %ld to %ld", known[option].name, range[option].min,
             range[option].max);
    return n;
}

/* Where a word of the service is kept; NULL: not a word. */
static const char **word(int option)
{
    switch (option) {
    case STREAM: return &service.stream;
    case GROUP: return &service.group;
    case CONSUMER: return &service.consumer;
    case DEAD: return &service.dead;
    case HOST: return &service.address;
    default: return NULL;
    }
}

static void parse_options(int argc, char **argv)
{
    static char consumer[96];
    char host[64] = "host", *dead;
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option < NUMBERS)
            number[option] = parse_number(option, optarg);
        else if (word(option))
            *word(option) = optarg;
        else if (option == HELP)
            exit(fputs(help, stdout) < 0);
        else
            exit(2); /* getopt_long has said why */
    }
    if (optind < argc)
        errx(2, "%s: coir-consume takes options only", argv[optind]);
    if (!service.stream)
        errx(2, "--stream is missing; see --help");
    (void)gethostname(host, sizeof host - 1); /* a name for people */
    snprintf(consumer, sizeof consumer, "%s-%ld", host, (long)getpid());
    if (asprintf(&dead, "%s:dead", service.stream) < 0)
        errx(1, "out of memory");
    if (!service.consumer)
        service.consumer = consumer;
    if (!service.dead)
        service.dead = dead; /* until the process ends */
    if (strcmp(service.dead, service.stream) == 0)
        errx(2, "--dead: must not be the stream itself: its letters would be taken for messages");
    service.port = (uint16_t)number[PORT];
    service.in_flight = (unsigned)number[IN_FLIGHT];
    service.attempts = number[ATTEMPTS];
    service.claim_ns = number[CLAIM_MS] * COIR_MS;
}

/* --------------------------------------------------------------------------------- the service */

static void must(int status, const char *what)
{
    if (status < 0)
        coir_panic("%s: %s", what, coir_status_text(status));
}

/* Waits for the jobs; past the deadline they are told to stop. */
static void await(coir_counter *jobs, int64_t deadline)
{
    if (coir_wait_until(jobs, deadline) >= COIR_DONE)
        return;
    coir_fail(COIR_ETIMEDOUT, "not all that was taken has been handled");
    coir_counter_cancel(jobs);
    must(coir_wait(jobs), "wait for jobs");
}

static void drain(coir_counter *fetchers, coir_counter *workers)
{
    int64_t deadline = coir_now() + number[DRAIN_MS] * COIR_MS;

    coir_event_set(&service.stop);
    await(fetchers, deadline);
    coir_channel_close(&service.messages);
    await(workers, deadline);
}

static void print_receipt(void)
{
    uint64_t settled = figure(&service.acked) + figure(&service.buried) + figure(&service.stale);
    const struct {
        const char *what;
        uint64_t n;
    } line[] = {
        {"taken", figure(&service.taken)},
        {"  of those, left by others or tried before", figure(&service.claimed)},
        {"acknowledged", figure(&service.acked)},
        {"  of those, their effect was there already", figure(&service.repeated)},
        {"buried in the dead letters", figure(&service.buried)},
        {"settled by another process meanwhile", figure(&service.stale)},
        {"left pending, for another attempt", figure(&service.taken) - settled},
        {"attempts that failed", figure(&service.failed)},
        {"calls to redis that failed", figure(&service.errors)},
    };

    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        printf("%-44s %10" PRIu64 "\n", line[i].what, line[i].n);
    fflush(stdout);
}

static void serve(void *unused)
{
    static coir_counter fetchers, workers;

    (void)unused;
    if (!fetch_open()) {
        coir_fail(COIR_EIO, "no group to consume from");
        return;
    }
    must(coir_semaphore_init(&service.room, service.in_flight), "semaphore");
    must(coir_channel_init(&service.messages, sizeof(struct message *), service.in_flight, NULL), "channel");
    must(coir_spawn_many(&workers, work, NULL, 0, service.in_flight), "start the workers");
    must(coir_spawn(&fetchers, fetch_new, NULL), "start fetching");
    must(coir_spawn(&fetchers, fetch_abandoned, NULL), "start fetching");
    printf("consuming %s as %s of %s\n", service.stream, service.consumer, service.group);
    fflush(stdout);
    must(coir_signal_wait(COIR_SIGNAL(SIGTERM) | COIR_SIGNAL(SIGINT)), "wait for a signal");
    drain(&fetchers, &workers);
    print_receipt();
    must(coir_channel_fini(&service.messages), "channel");
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
    coir_options o = {.size = sizeof o,
                      .spin_ns = -1, /* work comes from the network */
                      .faults = COIR_FAULTS_CONTAIN,
                      .faults_also = COIR_FAULTS_ALSO_ALL,
                      .quiet = 1, /* failures are in the dead letters */
                      .name = "consume"};

    service.address = "127.0.0.1";
    service.group = "workers";
    fill_standard_descriptors();
    parse_options(argc, argv);
    o.workers = (unsigned)number[WORKERS];
    if (coir_contain_object((const void *)handle) != COIR_OK)
        errx(1, "cannot register the program's code");
    return coir_run(&o, serve, NULL) == COIR_DONE ? 0 : 1;
}
