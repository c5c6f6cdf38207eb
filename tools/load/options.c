/* SPDX-License-Identifier: MIT */
/*
 * options.c - the command line: one table that is parsed, printed by --help, and written as JSON.
 */
#include "load.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

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

/* Ends with status 2 unless the value ends at `end` and the number is in the option's range. */
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
static void set_weight(uint64_t *weights, const struct option *option, char *entry)
{
    char *weight = strchr(entry, '=');

    if (!weight)
        bad_option(option->name, entry, "is not NAME=WEIGHT");
    *weight++ = 0;
    for (unsigned i = 0; i < RESP_COMMANDS; i++) {
        if (strcmp(entry, resp_command[i].name) == 0) {
            set_number(&weights[i], option, weight);
            return;
        }
    }
    bad_option(option->name, entry, "is none of ping get set incr mset echo");
}

static void set_mix(void *field, const struct option *option, const char *value)
{
    struct load_mix *mix = field;
    char *copy = strdup(value);
    char *rest = copy;
    char *entry;

    if (!copy)
        load_fail("out of memory");
    *mix = (struct load_mix){.text = value};
    while ((entry = strsep(&rest, ",")))
        set_weight(mix->weight, option, entry);
    for (unsigned i = 0; i < RESP_COMMANDS; i++)
        mix->total += mix->weight[i];
    if (!mix->total)
        bad_option(option->name, value, "has no weight above 0");
    free(copy);
}

static void set_poisons(void *field, const struct option *option, const char *value)
{
    struct load_poisons *poisons = field;
    char *rest = strdup(value);
    const char *command;

    if (!rest)
        load_fail("out of memory");
    *poisons = (struct load_poisons){.text = value};
    while ((command = strsep(&rest, ","))) {
        if (poisons->count == POISONS_MAX)
            bad_option(option->name, value, "names more than 16 commands");
        set_text(&poisons->command[poisons->count++], option, command);
    }
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
    {"--threads", "T", set_number, AT(threads), 1, LOADERS_MAX, "1", "that share the connections"},
    {"--parts", "N", set_number, AT(parts), 1, 1000, "1",
     "equal ones of the measured time, whose latencies the file has, too"},
    {"--mix", "NAME=WEIGHT,...", set_mix, AT(mix), 0, 1000000, "get=70,set=20,ping=10",
     "of ping get set incr mset echo"},
    {"--keys", "N", set_number, AT(keys), 1, UINT64_C(999999999999), "100000", "drawn evenly"},
    {"--value-bytes", "N", set_number, AT(value_bytes), 0, 16777216, "64", "of each value"},
    {"--poison", "R", set_number, AT(poison), 0, 100000, "0",
     "poisoned requests per second, each on its own connection"},
    {"--poison-command", "TEXT,...", set_poisons, AT(poisons), 0, 0, "DEBUG PANIC",
     "what they ask, in turn"},
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

void options_read(struct load_options *o, char **arguments)
{
    for (const struct option *option = options; option < options + OPTIONS; option++)
        if (option->standard)
            option->set((char *)o + option->field, option, option->standard);
    read_arguments(o, arguments);
    if (o->measured < LOAD_SECOND / 10)
        bad_option("--seconds", NULL, "is less than 0.1");
    if (o->threads > o->connections)
        bad_option("--threads", NULL, "is more than --connections");
}

/* ------------------------------------------------------------------------------------- JSON */

/* Which may be of any encoding, or none: each byte becomes the character of its number. */
void options_json_text(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x80)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    putc('"', out);
}

void options_json(FILE *out, const struct load_options *given)
{
    for (const struct option *o = options; o < options + OPTIONS; o++) {
        const void *field = (const char *)given + o->field;

        if (o->set == set_flag || !o->standard)
            continue;
        fputs("  \"", out);
        for (const char *c = o->name + 2; *c; c++)
            putc(*c == '-' ? '_' : *c, out);
        fputs("\": ", out);
        if (o->set == set_number)
            fprintf(out, "%" PRIu64, *(const uint64_t *)field);
        else if (o->set == set_seconds)
            fprintf(out, "%g", (double)*(const int64_t *)field / (double)LOAD_SECOND);
        else
            options_json_text(out, *(const char *const *)field);
        fputs(",\n", out);
    }
}
