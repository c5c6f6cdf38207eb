/* SPDX-License-Identifier: MIT */
/*
 * main.c - coir-load, an open-loop load generator for servers that speak RESP.
 *
 * Owns: the command line, the threads of a run (loaders, poisoners, the hiccup meter, progress),
 * and the exit status: 0, 1 (could not run), 2 (bad option), 3 (connections lost or protocol
 * errors).
 *
 * Poisoned requests are sent with blocking calls, by threads and over connections that do nothing
 * else: they are never in the way of a measured request.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "hiccup.h"
#include "report.h"

#define POISONERS 8            /* so many poisoned requests may be in flight */
#define NAP (LOAD_SECOND / 50) /* how late a thread that sleeps notices an end or interruption */
#define SPARE_FILES 32         /* descriptors beside those of connections and threads */

const char *const load_command_name[LOAD_COMMANDS] = {"ping", "get", "set", "incr", "mset", "echo"};

static const char usage[] =
    "usage: coir-load [options]\n"
    "  --host NAME            default 127.0.0.1\n"
    "  --port N               default 6379\n"
    "  --rate R               requests per second in total; 0: closed loop (default)\n"
    "  --connections N        default 50\n"
    "  --pipeline P           unanswered requests per connection; default 1\n"
    "  --seconds S            measured, after the warm-up; default 10\n"
    "  --warmup S             sent and not counted; default 1\n"
    "  --threads T            default 1\n"
    "  --mix NAME=WEIGHT,...  of ping get set incr mset echo; default get=70,set=20,ping=10\n"
    "  --keys N               default 100000\n"
    "  --value-bytes N        default 64\n"
    "  --poison R             poisoned requests per second, each on its own connection\n"
    "  --poison-command TEXT  default \"DEBUG PANIC\"\n"
    "  --json FILE            writes the figures, too\n"
    "  --no-hiccup            no hiccup meter (it burns a core)\n"
    "  --quiet                no progress lines\n"
    "exit status: 0; 1 could not run; 2 bad option; 3 connections lost or protocol errors\n";

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

/* --------------------------------------------------------------------------------- options */

static _Noreturn void bad_option(const char *option, const char *value, const char *what)
{
    fprintf(stderr, "coir-load: %s", option);
    if (value)
        fprintf(stderr, " \"%s\"", value);
    fprintf(stderr, " %s\n", what);
    exit(2);
}

struct option {
    const char *name;
    void (*set)(void *field, const struct option *option, const char *value);
    size_t field;         /* offset in struct load_options */
    uint64_t least, most; /* of a number; of a duration in nanoseconds */
};

static uint64_t parse_number(const struct option *option, const char *value)
{
    char range[80];
    char *end;
    unsigned long long n = strtoull(value, &end, 10);

    if (*value < '0' || *value > '9' || *end)
        bad_option(option->name, value, "is not a whole number");
    snprintf(range, sizeof range, "is not from %llu to %llu", (unsigned long long)option->least,
             (unsigned long long)option->most);
    if (n < option->least || n > option->most)
        bad_option(option->name, value, range);
    return n;
}

static void set_number(void *field, const struct option *option, const char *value)
{
    *(uint64_t *)field = parse_number(option, value);
}

/* Seconds, with a fraction perhaps. */
static void set_seconds(void *field, const struct option *option, const char *value)
{
    char range[80];
    char *end;
    double s = strtod(value, &end);
    double least = (double)option->least / (double)LOAD_SECOND;
    double most = (double)option->most / (double)LOAD_SECOND;

    if (end == value || *end)
        bad_option(option->name, value, "is not a number of seconds");
    snprintf(range, sizeof range, "is not from %g to %g", least, most);
    if (!(s >= least && s <= most))
        bad_option(option->name, value, range);
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
    for (unsigned i = 0; i < LOAD_COMMANDS; i++) {
        if (strcmp(entry, load_command_name[i]) == 0) {
            mix[i] = parse_number(option, weight);
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

#define FIELD(name) offsetof(struct load_options, name)

static const struct option options[] = {
    {"--host", set_text, FIELD(host), 0, 0},
    {"--port", set_number, FIELD(port), 1, 65535},
    {"--rate", set_number, FIELD(rate), 0, 100000000},
    {"--connections", set_number, FIELD(connections), 1, 1000000},
    {"--pipeline", set_number, FIELD(pipeline), 1, 100000},
    {"--seconds", set_seconds, FIELD(measured), LOAD_SECOND / 10, 86400 * LOAD_SECOND},
    {"--warmup", set_seconds, FIELD(warmup), 0, 3600 * LOAD_SECOND},
    {"--threads", set_number, FIELD(threads), 1, 256},
    {"--mix", set_mix, FIELD(mix), 0, 1000000},
    {"--keys", set_number, FIELD(keys), 1, UINT64_C(999999999999)},
    {"--value-bytes", set_number, FIELD(value_bytes), 0, 16777216},
    {"--poison", set_number, FIELD(poison), 0, 100000},
    {"--poison-command", set_text, FIELD(poison_command), 0, 0},
    {"--json", set_text, FIELD(json), 0, 0},
    {"--no-hiccup", set_flag, FIELD(no_hiccup), 0, 0},
    {"--quiet", set_flag, FIELD(quiet), 0, 0},
};

static const struct option *find_option(const char *name)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strcmp(name, options[i].name) == 0)
            return &options[i];
    bad_option(name, NULL, "is not an option; see --help");
}

/* Reads `--name value`, `--name=value` and flags. */
static void read_arguments(struct load_options *o, char **argument)
{
    for (; *argument; argument++) {
        char *value = strchr(*argument, '=');
        const struct option *option;

        if (strcmp(*argument, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (value)
            *value++ = 0;
        option = find_option(*argument);
        if (!value && option->set != set_flag && !(value = *++argument))
            bad_option(option->name, NULL, "needs a value");
        option->set((char *)o + option->field, option, value);
    }
}

static void read_options(struct load_options *o, char **arguments)
{
    *o = (struct load_options){
        .host = "127.0.0.1", .port = 6379, .connections = 50, .pipeline = 1, .threads = 1,
        .keys = 100000, .value_bytes = 64, .measured = 10 * LOAD_SECOND, .warmup = LOAD_SECOND,
        .mix = {[LOAD_GET] = 70, [LOAD_SET] = 20, [LOAD_PING] = 10},
        .poison_command = "DEBUG PANIC",
    };
    read_arguments(o, arguments);
    for (unsigned i = 0; i < LOAD_COMMANDS; i++)
        o->mix_total += o->mix[i];
    if (!o->mix_total)
        bad_option("--mix", NULL, "has no weight above 0");
    if (o->threads > o->connections)
        bad_option("--threads", NULL, "is more than --connections");
}

/* ---------------------------------------------------------------------------------- poison */

struct poisoner {
    struct load *load;
    pthread_t thread;
    struct load_tally tally;
};

/* Whether the server answers by an error or by closing, and by nothing else. */
static bool contained(int fd)
{
    int64_t deadline = load_now() + BLOCKED_PATIENCE;
    char reply[4096];
    size_t length = 0;

    while (length < sizeof reply && load_now() < deadline) {
        ssize_t n = recv(fd, reply + length, sizeof reply - length, 0);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return length == 0 || reply[0] == '-';
        if (n < 0)
            return false;
        length += (size_t)n;
        if (resp_reply(reply, length) != 0)
            return reply[0] == '-';
    }
    return false;
}

/* Sends one poisoned request and books what becomes of it. */
static void poison(struct poisoner *p, int fd)
{
    const struct resp_request *request = &p->load->poison;

    if (send(fd, request->text, request->length, MSG_NOSIGNAL) != (ssize_t)request->length)
        return; /* the server had closed before: nothing was poisoned */
    load_count(&p->tally, COUNT_POISON_SENT, 1);
    load_count(&p->tally, contained(fd) ? COUNT_POISON_CONTAINED : COUNT_POISON_UNANSWERED, 1);
}

/* Closes by a reset: thousands of poisoned connections in TIME_WAIT would use up the ports. */
static void close_hard(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

/* Waits for the next time in the schedule that the poisoners share. Returns false at the end. */
static bool next_poison(struct load *load)
{
    const struct load_clock *clock = &load->clock;
    uint64_t n = atomic_fetch_add_explicit(&load->poison_next, 1, memory_order_relaxed); /* ticket */
    int64_t due = clock->start + (int64_t)(n * (uint64_t)LOAD_SECOND / load->options.poison);
    int64_t now = load_now();

    for (; now < due && due < clock->end && !load_stopped(clock); now = load_now())
        load_sleep_until(due - now < NAP ? due : now + NAP);
    return now < clock->end && due < clock->end && !load_stopped(clock);
}

static void *poisoner_run(void *poisoner)
{
    struct poisoner *p = poisoner;
    int fd = server_connect(p->load->server);

    while (next_poison(p->load)) {
        if (fd < 0)
            fd = server_connect(p->load->server);
        if (fd < 0)
            continue; /* no server to poison: the measured connections tell */
        poison(p, fd);
        close_hard(fd);
        fd = server_connect(p->load->server);
    }
    close_hard(fd);
    return NULL;
}

/* ------------------------------------------------------------------------------------- run */

static struct load load;
static struct loader *loaders;
static struct poisoner poisoners[POISONERS];
static struct hiccup hiccup;

static void interrupt(int signal)
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
    for (unsigned i = 0; i < LOAD_COMMANDS; i++)
        if (o->mix[i] && !resp_request_init(&load.request[i], i, o->value_bytes))
            load_fail("out of memory");
    loaders = calloc(o->threads, sizeof *loaders);
    if (!loaders || !resp_request_of_words(&load.poison, o->poison_command))
        load_fail("out of memory");
    for (unsigned i = 0; i < o->threads; i++) {
        int error = loader_open(&loaders[i], &load, i);

        if (error)
            load_fail("cannot open all connections: %s", strerror(error));
    }
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int error = pthread_create(thread, NULL, run, arg);

    if (error)
        load_fail("cannot start a thread: %s", strerror(error));
}

static void start_all(void)
{
    const struct load_options *o = &load.options;

    load.clock.begin = load_now() + LOAD_SECOND / 100; /* time for the threads to start */
    load.clock.start = load.clock.begin + o->warmup;
    load.clock.end = load.clock.start + o->measured;
    atomic_init(&load.running, (unsigned)o->threads);
    for (unsigned i = 0; i < o->threads; i++)
        start_thread(&loaders[i].thread, loader_run, &loaders[i]);
    for (unsigned i = 0; o->poison && i < POISONERS; i++) {
        poisoners[i].load = &load;
        start_thread(&poisoners[i].thread, poisoner_run, &poisoners[i]);
    }
    hiccup.clock = &load.clock;
    if (!o->no_hiccup)
        start_thread(&hiccup.thread, hiccup_run, &hiccup);
}

/* ---------------------------------------------------------------------------------- result */

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

/* Shows progress each second until the loaders have ended. */
static void watch(void)
{
    int64_t next = load.clock.begin + LOAD_SECOND;
    uint64_t answered = 0;

    while (atomic_load_explicit(&load.running, memory_order_relaxed)) { /* the join orders the rest */
        struct load_tally tally;
        int64_t now = load_now();

        load_sleep_until(next - now < NAP ? next : now + NAP);
        if (load_now() < next)
            continue;
        tally = total();
        report_progress(&load.options, &tally, answered, (next - load.clock.begin) / LOAD_SECOND);
        answered = load_counted(&tally, COUNT_ANSWERED);
        next += LOAD_SECOND;
    }
    report_progress_end(&load.options);
}

/* Joins the loaders, which have ended, and ends the other threads. */
static void stop_all(void)
{
    interrupt(0);
    for (unsigned i = 0; i < load.options.threads; i++)
        pthread_join(loaders[i].thread, NULL);
    for (unsigned i = 0; load.options.poison && i < POISONERS; i++)
        pthread_join(poisoners[i].thread, NULL);
    if (!load.options.no_hiccup)
        pthread_join(hiccup.thread, NULL);
}

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
    result->hiccup = hiccup.gaps;
    result->tally = total();
    result->elapsed = end - load.clock.start;
}

int main(int count, char **arguments)
{
    static struct load_result result;
    FILE *json = NULL;
    uint64_t bad;

    read_options(&load.options, arguments + (count > 0));
    if (load.options.json && !(json = fopen(load.options.json, "w")))
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds: a sleeping loader must wake when a request is due */
    prepare();
    start_all();
    watch();
    stop_all();
    collect(&result);
    report_table(&load.options, &result);
    if (json && (!report_json(json, &load.options, &result) || fclose(json) != 0))
        load_fail("cannot write %s: %s", load.options.json, strerror(errno));
    bad = load_counted(&result.tally, COUNT_LOST) + load_counted(&result.tally, COUNT_ERRORS);
    return bad ? 3 : 0;
}
