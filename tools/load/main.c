/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-load, an open-loop load generator for servers that speak RESP.
 *
 * Owns: the threads of a run, and the exit status.
 */
#include "load.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define POISONERS 8            /* so many poisoned requests may be in flight */
#define NAP (LOAD_SECOND / 50) /* how late a thread that sleeps notices an interruption */
#define SPARE_FILES 32         /* descriptors beside those of connections and threads */

void load_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("coir-load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

bool load_sleep_until(const struct load_clock *clock, int64_t when)
{
    int64_t now;

    while ((now = load_now()) < when && !load_stopped(clock)) {
        struct timespec nap = load_timespec(when - now < NAP ? when : now + NAP);

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &nap, NULL);
    }
    return !load_stopped(clock);
}

/* ------------------------------------------------------------------------------------- run */

static struct load load;
static struct loader *loaders;
static pthread_t thread[LOADERS_MAX + POISONERS + 2]; /* loaders, poisoners, hiccup, progress */
static unsigned threads;

static void stop(int signal)
{
    (void)signal;
    atomic_store_explicit(&load.clock.stop, true,
                          memory_order_relaxed); /* a flag, carries no data */
}

/* Finds the address that answers. */
static void resolve(void)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char port[8];
    int fd = -ECONNREFUSED;
    int error;

    snprintf(port, sizeof port, "%u", (unsigned)load.options.port);
    error = getaddrinfo(load.options.host, port, &hints, &list);
    if (error)
        load_fail("cannot resolve %s: %s", load.options.host, gai_strerror(error));
    for (load.server = list; load.server; load.server = load.server->ai_next) {
        fd = server_connect(load.server);
        if (fd >= 0)
            break;
    }
    if (fd < 0)
        load_fail("cannot connect to %s:%s: %s", load.options.host, port, strerror(-fd));
    close_hard(fd);
}

/* Too few descriptors are an error before anything starts. */
static void raise_file_limit(void)
{
    rlim_t wanted = load.options.connections + load.options.threads + SPARE_FILES;
    struct rlimit limit = {0};

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max < wanted)
        load_fail("--connections needs %llu open files, and the hard limit is %llu",
                  (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        load_fail("setrlimit: %s", strerror(errno));
}

static void prepare(void)
{
    const struct load_options *o = &load.options;

    raise_file_limit();
    resolve();
    for (unsigned i = 0; i < RESP_COMMANDS; i++)
        if (o->mix.weight[i] &&
            !resp_request_init(&load.request[i], resp_command[i].words, o->value_bytes))
            load_fail("out of memory");
    loaders = calloc(o->threads, sizeof *loaders);
    load.part = calloc(o->parts, sizeof *load.part);
    if (!loaders || !load.part)
        load_fail("out of memory");
    for (unsigned i = 0; i < o->poisons.count; i++)
        if (!resp_request_init(&load.poison[i].request, o->poisons.command[i], 0))
            load_fail("out of memory");
    for (unsigned i = 0; i < o->threads; i++)
        loader_open(&loaders[i], &load, i);
}

static struct load_tally total(void)
{
    struct load_tally sum = {0};

    for (unsigned count = 0; count < COUNT_ALL; count++) {
        load_count(&sum, count, load_counted(&load.tally, count));
        for (unsigned i = 0; i < load.options.threads; i++)
            load_count(&sum, count, load_counted(&loaders[i].tally, count));
    }
    return sum;
}

/* Shows progress each second. */
static void *progress_run(void *arg)
{
    uint64_t answered = 0;

    (void)arg;
    for (int64_t second = 1; load_sleep_until(&load.clock, load.clock.begin + second * LOAD_SECOND);
         second++) {
        struct load_tally tally = total();

        report_progress(&load.options, &tally, answered, second);
        answered = load_counted(&tally, COUNT_ANSWERED);
    }
    report_progress_end();
    return NULL;
}

static void start(void *(*run)(void *), void *arg)
{
    int error = pthread_create(&thread[threads++], NULL, run, arg);

    if (error)
        load_fail("cannot start a thread: %s", strerror(error));
}

static int64_t cpu_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * LOAD_SECOND + t.tv_nsec;
}

/* Runs all threads: those that load, and, as long as they do, the others. */
static void run(void)
{
    const struct load_options *o = &load.options;
    int64_t since = load_now(), before = cpu_time();

    load.clock.begin = load_now() + LOAD_SECOND / 100; /* time for the threads to start */
    load.clock.start = load.clock.begin + o->warmup;
    load.clock.end = load.clock.start + o->measured;
    for (unsigned i = 0; i < o->threads; i++)
        start(loader_run, &loaders[i]);
    for (unsigned i = 0; o->poison && i < POISONERS; i++)
        start(poisoner_run, &load);
    if (!o->no_hiccup)
        start(hiccup_run, &load);
    if (!o->quiet)
        start(progress_run, NULL);
    for (unsigned i = 0; i < threads; i++) {
        if (i == o->threads)
            stop(0);
        pthread_join(thread[i], NULL);
    }
    load.cpu = (double)(cpu_time() - before) / (double)(load_now() - since);
}

/* ---------------------------------------------------------------------------------- result */

static void collect(void)
{
    int64_t end = load.clock.start;

    for (unsigned i = 0; i < load.options.threads; i++) {
        struct loader *l = &loaders[i];

        for (uint64_t part = 0; part < load.options.parts; part++)
            histogram_merge(&load.part[part], &l->part[part]);
        histogram_merge(&load.lag, &l->lag);
        end = l->end > end ? l->end : end;
        end = l->last_reply > end ? l->last_reply : end;
    }
    for (uint64_t part = 0; part < load.options.parts; part++)
        histogram_merge(&load.latency, &load.part[part]);
    load.tally = total();
    load.elapsed = end - load.clock.start;
}

/* Whether all poison was contained and nobody else harmed. */
static bool good(void)
{
    const struct load_tally *tally = &load.tally;
    uint64_t poisoned = load_counted(tally, COUNT_POISON_SENT);

    return load_counted(tally, COUNT_LOST) == 0 && load_counted(tally, COUNT_ERRORS) == 0 &&
           load_counted(tally, COUNT_POISON_CONTAINED) == poisoned &&
           (poisoned > 0 || load.options.poison == 0);
}

int main(int count, char **arguments)
{
    FILE *json = NULL;

    options_read(&load.options, arguments + (count > 0));
    if (load.options.json && !(json = fopen(load.options.json, "a"))) /* what it has stays until the run is over */
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds: a sleeping thread must wake when it is due */
    prepare();
    run();
    collect();
    report_table(&load);
    if (json && ((ftruncate(fileno(json), 0) != 0 && errno != EINVAL) || /* a pipe */
                 !report_json(json, &load) || fclose(json) != 0))
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    return good() ? 0 : 1;
}
