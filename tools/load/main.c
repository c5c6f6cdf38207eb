/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-load, an open-loop load generator for servers that speak RESP.
 *
 * Owns: the command line, the threads of a run, the exit status.
 */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

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

/* --------------------------------------------------------------------------------- options */

struct option {
    const char *name;
    const char *takes; /* what --help calls its value; NULL: it is a flag */
    void (*set)(void *field, const struct option *option, const char *value);
    size_t field;         /* offset in struct load_options */
    uint64_t least, most; /* of a number; of a duration in seconds */
    const char *standard; /* value when it is not given; NULL: 0 */
    const char *help;
};

static _Noreturn void bad_option(const char *option, const char *value, const char *what)
{
    fprintf(stderr, "coir-load: %s", option);
    if (value)
        fprintf(stderr, " \"%s\"", value);
    fprintf(stderr, " %s\n", what);
    exit(2);
}

/* Ends with status 2 unless `end` is the end of the value and the number is in the option's range. */
static void check_number(const struct option *option, const char *value, const char *end, double n)
{
    char range[80];

    if (end == value || *end)
        bad_option(option->name, value, "is not a number");
    snprintf(range, sizeof range, "is not from %" PRIu64 " to %" PRIu64, option->least,
             option->most);
    if (!(n >= (double)option->least && n <= (double)option->most))
        bad_option(option->name, value, range);
}

static void set_number(void *field, const struct option *option, const char *value)
{
    char *end;
    unsigned long long n = strtoull(value, &end, 10);

    check_number(option, value, *value >= '0' && *value <= '9' ? end : value, (double)n);
    *(uint64_t *)field = n;
}

/* Seconds, with a fraction perhaps. */
static void set_seconds(void *field, const struct option *option, const char *value)
{
    char *end;
    double s = strtod(value, &end);

    check_number(option, value, end, s);
    *(int64_t *)field = (int64_t)(s * (double)LOAD_SECOND);
}

static void set_text(void *field, const struct option *option, const char *value)
{
    if (!value[strspn(value, " ")])
        bad_option(option->name, value, "is empty");
    *(const char **)field = value;
}

static void set_flag(void *field, const struct option *option, const char *value)
{
    if (value)
        bad_option(option->name, value, "is a value, and the option takes none");
    *(bool *)field = true;
}

/* One NAME=WEIGHT of a mix. */
static void set_weight(uint64_t *mix, const struct option *option, char *entry)
{
    char *weight = strchr(entry, '=');

    if (!weight)
        bad_option(option->name, entry, "is not NAME=WEIGHT");
    *weight++ = 0;
    for (unsigned i = 0; i < RESP_COMMANDS; i++) {
        if (strcmp(entry, resp_command[i].name) == 0) {
            set_number(&mix[i], option, weight);
            return;
        }
    }
    bad_option(option->name, entry, "is none of ping get set incr mset echo");
}

static void set_mix(void *field, const struct option *option, const char *value)
{
    char *copy = strdup(value);
    char *rest = copy;
    char *entry;

    if (!copy)
        load_fail("out of memory");
    memset(field, 0, sizeof ((struct load_options *)0)->mix);
    while ((entry = strsep(&rest, ",")))
        set_weight(field, option, entry);
    free(copy);
}

#define AT(name) offsetof(struct load_options, name)

static const struct option options[] = {
    {"--host", "NAME", set_text, AT(host), 0, 0, "127.0.0.1", "where the server is"},
    {"--port", "N", set_number, AT(port), 1, 65535, "6379", "its port"},
    {"--rate", "R", set_number, AT(rate), 0, 100000000, "0",
     "requests per second in total; 0: closed loop"},
    {"--connections", "N", set_number, AT(connections), 1, 1000000, "50", "in total"},
    {"--pipeline", "P", set_number, AT(pipeline), 1, 100000, "1", "unanswered requests on each"},
    {"--seconds", "S", set_seconds, AT(measured), 0, 86400, "10", "measured, after the warm-up"},
    {"--warmup", "S", set_seconds, AT(warmup), 0, 3600, "1", "sent and not counted"},
    {"--threads", "T", set_number, AT(threads), 1, 256, "1", "that share the connections"},
    {"--mix", "NAME=WEIGHT,...", set_mix, AT(mix), 0, 1000000, "get=70,set=20,ping=10",
     "of ping get set incr mset echo"},
    {"--keys", "N", set_number, AT(keys), 1, UINT64_C(999999999999), "100000", "drawn evenly"},
    {"--value-bytes", "N", set_number, AT(value_bytes), 0, 16777216, "64", "of each value"},
    {"--poison", "R", set_number, AT(poison), 0, 100000, "0",
     "poisoned requests per second, each on its own connection"},
    {"--poison-command", "TEXT", set_text, AT(poison_command), 0, 0, "DEBUG PANIC", "what they ask"},
    {"--json", "FILE", set_text, AT(json), 0, 0, NULL, "writes the figures, too"},
    {"--no-hiccup", NULL, set_flag, AT(no_hiccup), 0, 0, NULL, "no meter of the machine's delays"},
    {"--quiet", NULL, set_flag, AT(quiet), 0, 0, NULL, "no progress lines"},
};

#define OPTIONS (sizeof options / sizeof options[0])

static _Noreturn void print_help(void)
{
    printf("usage: coir-load [OPTION]...\n"
           "Loads a RESP server; a request's latency counts from when it was due.\n\n");
    for (const struct option *o = options; o < options + OPTIONS; o++) {
        char left[40];

        snprintf(left, sizeof left, "%s %s", o->name, o->takes ? o->takes : "");
        printf("  %-24s %s", left, o->help);
        printf(o->standard ? " (%s)\n" : "\n", o->standard);
    }
    printf("  %-24s prints this\n\n", "--help");
    printf("exit status: 0  every poisoned request was answered by an error and its connection\n"
           "                closed, and no other connection was lost\n"
           "             1  not so, or the run could not start\n"
           "             2  bad option\n");
    exit(0);
}

static const struct option *find_option(const char *name)
{
    for (const struct option *o = options; o < options + OPTIONS; o++)
        if (strcmp(name, o->name) == 0)
            return o;
    bad_option(name, NULL, "is not an option; see --help");
}

/* Reads `--name value`, `--name=value` and flags. */
static void read_arguments(struct load_options *o, char **argument)
{
    for (; *argument; argument++) {
        char *value = strchr(*argument, '=');
        const struct option *option;

        if (strcmp(*argument, "--help") == 0)
            print_help();
        if (value)
            *value++ = 0;
        option = find_option(*argument);
        if (!value && option->takes && !(value = *++argument))
            bad_option(option->name, NULL, "needs a value");
        option->set((char *)o + option->field, option, value);
    }
}

static void read_options(struct load_options *o, char **arguments)
{
    for (const struct option *option = options; option < options + OPTIONS; option++)
        if (option->standard)
            option->set((char *)o + option->field, option, option->standard);
    read_arguments(o, arguments);
    for (unsigned i = 0; i < RESP_COMMANDS; i++)
        o->mix_total += o->mix[i];
    if (!o->mix_total)
        bad_option("--mix", NULL, "has no weight above 0");
    if (o->measured < LOAD_SECOND / 10)
        bad_option("--seconds", NULL, "is less than 0.1");
    if (o->threads > o->connections)
        bad_option("--threads", NULL, "is more than --connections");
}

/* ------------------------------------------------------------------------------------- run */

static struct load load;
static struct loader *loaders;
static struct poisoner poisoners[POISONERS];
static struct hiccup hiccup;
static pthread_t progress;

static void stop(int signal)
{
    (void)signal;
    atomic_store_explicit(&load.clock.stop, true, memory_order_relaxed); /* a flag, carries no data */
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

/* As many descriptors as the hard limit allows; too few are an error before anything starts. */
static void raise_file_limit(void)
{
    rlim_t wanted = load.options.connections + load.options.threads + SPARE_FILES;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        load_fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= wanted)
        return;
    if (limit.rlim_max < wanted)
        load_fail("--connections needs %llu open files, and the hard limit is %llu",
                  (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        load_fail("setrlimit: %s", strerror(errno));
}

static void prepare(void)
{
    const struct load_options *o = &load.options;

    raise_file_limit();
    resolve();
    for (unsigned i = 0; i < RESP_COMMANDS; i++)
        if (o->mix[i] &&
            !resp_request_init(&load.request[i], resp_command[i].words, o->value_bytes))
            load_fail("out of memory");
    loaders = calloc(o->threads, sizeof *loaders);
    if (!loaders || !resp_request_init(&load.poison, o->poison_command, 0))
        load_fail("out of memory");
    for (unsigned i = 0; i < o->threads; i++) {
        int error = loader_open(&loaders[i], &load, i);

        if (error)
            load_fail("cannot open all connections: %s", strerror(error));
    }
}

static struct load_tally total(void)
{
    struct load_tally sum = {0};

    for (unsigned count = 0; count < COUNT_ALL; count++) {
        for (unsigned i = 0; i < load.options.threads; i++)
            load_count(&sum, count, load_counted(&loaders[i].tally, count));
        for (unsigned i = 0; i < POISONERS; i++)
            load_count(&sum, count, load_counted(&poisoners[i].tally, count));
    }
    return sum;
}

/* Shows progress each second. */
static void *progress_run(void *arg)
{
    uint64_t answered = 0;

    (void)arg;
    for (int64_t second = 1;
         load_sleep_until(&load.clock, load.clock.begin + second * LOAD_SECOND); second++) {
        struct load_tally tally = total();

        report_progress(&load.options, &tally, answered, second);
        answered = load_counted(&tally, COUNT_ANSWERED);
    }
    report_progress_end();
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int error = pthread_create(thread, NULL, run, arg);

    if (error)
        load_fail("cannot start a thread: %s", strerror(error));
}

/* Starts all threads; returns when the loaders are done and the others have been told so. */
static void run(void)
{
    const struct load_options *o = &load.options;

    load.clock.begin = load_now() + LOAD_SECOND / 100; /* time for the threads to start */
    load.clock.start = load.clock.begin + o->warmup;
    load.clock.end = load.clock.start + o->measured;
    hiccup.clock = &load.clock;
    for (unsigned i = 0; i < o->threads; i++)
        start(&loaders[i].thread, loader_run, &loaders[i]);
    for (unsigned i = 0; o->poison && i < POISONERS; i++) {
        poisoners[i].load = &load;
        start(&poisoners[i].thread, poisoner_run, &poisoners[i]);
    }
    if (!o->no_hiccup)
        start(&hiccup.thread, hiccup_run, &hiccup);
    if (!o->quiet)
        start(&progress, progress_run, NULL);
    for (unsigned i = 0; i < o->threads; i++)
        pthread_join(loaders[i].thread, NULL);
    stop(0);
    for (unsigned i = 0; o->poison && i < POISONERS; i++)
        pthread_join(poisoners[i].thread, NULL);
    if (!o->no_hiccup)
        pthread_join(hiccup.thread, NULL);
    if (!o->quiet)
        pthread_join(progress, NULL);
}

/* ---------------------------------------------------------------------------------- result */

static void collect(struct load_result *result)
{
    int64_t end = load.clock.start;

    for (unsigned i = 0; i < load.options.threads; i++) {
        struct loader *l = &loaders[i];

        histogram_merge(&result->latency, &l->latency);
        histogram_merge(&result->lag, &l->lag);
        end = l->end > end ? l->end : end;
        end = l->last_reply > end ? l->last_reply : end;
        loader_close(l);
    }
    result->hiccup = hiccup.late;
    result->tally = total();
    result->elapsed = end - load.clock.start;
}

/* Whether all poison was contained and nobody else harmed. */
static bool good(const struct load_tally *tally)
{
    uint64_t poisoned = load_counted(tally, COUNT_POISON_SENT);

    return load_counted(tally, COUNT_LOST) == 0 && load_counted(tally, COUNT_ERRORS) == 0 &&
           load_counted(tally, COUNT_POISON_CONTAINED) == poisoned &&
           (poisoned > 0 || load.options.poison == 0);
}

int main(int count, char **arguments)
{
    static struct load_result result;
    FILE *json = NULL;

    read_options(&load.options, arguments + (count > 0));
    if (load.options.json && !(json = fopen(load.options.json, "w")))
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds: a sleeping thread must wake when it is due */
    prepare();
    run();
    collect(&result);
    report_table(&load.options, &result);
    if (json && (!report_json(json, &load.options, &result) || fclose(json) != 0))
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    return good(&result.tally) ? 0 : 1;
}
