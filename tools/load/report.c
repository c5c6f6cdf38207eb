/* SPDX-License-Identifier: MIT */
/*
 * report.c - see report.h. Durations are printed in microseconds.
 */
#include "report.h"

#include <inttypes.h>
#include <unistd.h>

#define PROGRESS_EVERY 5 /* seconds between lines when standard error is no terminal */

static const struct {
    const char *name;
    double share; /* of the values that are not above it */
} column[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}};

#define COLUMNS (sizeof column / sizeof column[0])

static const struct {
    const char *json;
    const char *title;
} count[COUNT_ALL] = {
    [COUNT_SENT] = {"sent", "sent"},
    [COUNT_ANSWERED] = {"answered", "answered"},
    [COUNT_ERROR_REPLIES] = {"error_replies", "error replies"},
    [COUNT_UNANSWERED] = {"unanswered", "unanswered"},
    [COUNT_UNSENT] = {"unsent", "unsent in time"},
    [COUNT_ERRORS] = {"errors", "protocol errors"},
    [COUNT_LOST] = {"lost", "lost connections"},
    [COUNT_POISON_SENT] = {"poison_sent", "poisoned sent"},
    [COUNT_POISON_CONTAINED] = {"poison_contained", "poisoned contained"},
    [COUNT_POISON_UNANSWERED] = {"poison_unanswered", "poisoned unanswered"},
};

static double microseconds(int64_t ns)
{
    return (double)ns / 1000.0;
}

static double in_seconds(int64_t ns)
{
    return (double)ns / (double)LOAD_SECOND;
}

/* Requests answered per second measured. */
static double rate(const struct load_result *result)
{
    uint64_t answered = load_counted(&result->tally, COUNT_ANSWERED);

    return result->elapsed > 0 ? (double)answered / in_seconds(result->elapsed) : 0.0;
}

/* --------------------------------------------------------------------------------- progress */

void report_progress(const struct load_options *options, const struct load_tally *tally,
                     uint64_t answered, int64_t second)
{
    bool terminal = isatty(STDERR_FILENO);
    bool warming = second * LOAD_SECOND <= options->warmup;

    if (options->quiet || (!terminal && second % PROGRESS_EVERY))
        return;
    fprintf(stderr, "%s%4" PRIi64 " of %g s", terminal ? "\r" : "", second,
            in_seconds(options->warmup + options->measured));
    if (warming)
        fprintf(stderr, "  warming up");
    else
        fprintf(stderr, "  %9" PRIu64 " req/s", load_counted(tally, COUNT_ANSWERED) - answered);
    fprintf(stderr, "  error replies %" PRIu64 "  lost %" PRIu64,
            load_counted(tally, COUNT_ERROR_REPLIES), load_counted(tally, COUNT_LOST));
    if (options->poison)
        fprintf(stderr, "  poisoned %" PRIu64 "  contained %" PRIu64,
                load_counted(tally, COUNT_POISON_SENT),
                load_counted(tally, COUNT_POISON_CONTAINED));
    fputs(terminal ? "\033[K" : "\n", stderr);
    fflush(stderr);
}

void report_progress_end(const struct load_options *options)
{
    if (!options->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ------------------------------------------------------------------------------------ table */

static void print_mix(FILE *out, const struct load_options *options, const char *format,
                      const char *between)
{
    bool first = true;

    for (unsigned i = 0; i < LOAD_COMMANDS; i++) {
        if (!options->mix[i])
            continue;
        fputs(first ? "" : between, out);
        fprintf(out, format, load_command_name[i], options->mix[i]);
        first = false;
    }
}

static void print_heading(const struct load_options *options)
{
    printf("%s:%" PRIu64 "  %" PRIu64 " connections, pipeline %" PRIu64 ", ", options->host,
           options->port, options->connections, options->pipeline);
    if (options->rate)
        printf("%" PRIu64 " req/s", options->rate);
    else
        printf("closed loop");
    printf(" for %g s (", in_seconds(options->measured));
    print_mix(stdout, options, "%s=%" PRIu64, ",");
    printf(")\n\n");
}

static void print_durations(const char *name, const struct histogram *h)
{
    printf("  %-20s", name);
    for (unsigned i = 0; i < COLUMNS; i++)
        printf(" %12.1f", microseconds(histogram_at(h, column[i].share)));
    putchar('\n');
}

/* Whether a count can be other than 0 in such a run. */
static bool concerns(const struct load_options *options, enum load_count which)
{
    if (which >= COUNT_POISON_SENT)
        return options->poison > 0;
    return which != COUNT_UNSENT || options->rate > 0;
}

void report_table(const struct load_options *options, const struct load_result *result)
{
    print_heading(options);
    for (unsigned i = 0; i < COUNT_ALL; i++)
        if (concerns(options, i))
            printf("  %-20s %12" PRIu64 "\n", count[i].title, load_counted(&result->tally, i));
    printf("  %-20s %12.0f\n\n", "req/s", rate(result));
    printf("  %-20s", "us");
    for (unsigned i = 0; i < COLUMNS; i++)
        printf(" %12s", column[i].name);
    putchar('\n');
    print_durations("latency", &result->latency);
    if (options->rate)
        print_durations("sent late by", &result->lag);
    if (!options->no_hiccup)
        print_durations("machine's hiccups", &result->hiccup);
}

/* ------------------------------------------------------------------------------------- JSON */

static void json_text(FILE *out, const char *name, const char *text)
{
    fprintf(out, "  \"%s\": \"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < ' ')
            fprintf(out, "\\u%04x", c);
        else
            fprintf(out, c == '"' || c == '\\' ? "\\%c" : "%c", c);
    }
    fputs("\",\n", out);
}

static void json_number(FILE *out, const char *name, uint64_t number)
{
    fprintf(out, "  \"%s\": %" PRIu64 ",\n", name, number);
}

static void json_durations(FILE *out, const char *name, const struct histogram *h,
                           const char *after)
{
    fprintf(out, "  \"%s\": {", name);
    for (unsigned i = 0; i < COLUMNS; i++)
        fprintf(out, "%s\"%s\": %.3f", i ? ", " : "", column[i].name,
                microseconds(histogram_at(h, column[i].share)));
    fprintf(out, "}%s\n", after);
}

static void json_options(FILE *out, const struct load_options *options)
{
    json_text(out, "host", options->host);
    json_number(out, "port", options->port);
    json_number(out, "rate", options->rate);
    json_number(out, "connections", options->connections);
    json_number(out, "pipeline", options->pipeline);
    json_number(out, "threads", options->threads);
    json_number(out, "keys", options->keys);
    json_number(out, "value_bytes", options->value_bytes);
    json_number(out, "poison_rate", options->poison);
    fputs("  \"mix\": {", out);
    print_mix(out, options, "\"%s\": %" PRIu64, ", ");
    fputs("},\n", out);
}

bool report_json(FILE *out, const struct load_options *options, const struct load_result *result)
{
    fputs("{\n", out);
    json_options(out, options);
    for (unsigned i = 0; i < COUNT_ALL; i++)
        json_number(out, count[i].json, load_counted(&result->tally, i));
    fprintf(out, "  \"seconds\": %.3f,\n", in_seconds(result->elapsed));
    fprintf(out, "  \"requests_per_second\": %.1f,\n", rate(result));
    json_durations(out, "latency_us", &result->latency, ",");
    json_durations(out, "sent_late_us", &result->lag, options->no_hiccup ? "" : ",");
    if (!options->no_hiccup)
        json_durations(out, "hiccup_us", &result->hiccup, "");
    fputs("}\n", out);
    return fflush(out) == 0 && !ferror(out);
}
