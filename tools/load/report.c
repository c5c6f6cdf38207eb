/* SPDX-License-Identifier: MIT */
/*
 * report.c - what the user sees: progress lines, the table at the end, the JSON file.
 *
 * Durations are in microseconds. What nothing was counted for is `-`, in JSON null.
 */
#include "load.h"

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
    [COUNT_UNANSWERED] = {"unanswered", "never answered"},
    [COUNT_UNSENT] = {"unsent", "due, never sent"},
    [COUNT_ERRORS] = {"errors", "protocol errors"},
    [COUNT_LOST] = {"lost", "lost connections"},
    [COUNT_POISON_SENT] = {"poison_sent", "poisoned"},
    [COUNT_POISON_CONTAINED] = {"poison_contained", "contained"},
    [COUNT_POISON_UNCONTAINED] = {"poison_uncontained", "not contained"},
};

static double in_seconds(int64_t ns)
{
    return (double)ns / (double)LOAD_SECOND;
}

/* Requests answered per second measured. */
static double rate(const struct load *load)
{
    uint64_t answered = load_counted(&load->tally, COUNT_ANSWERED);

    return load->elapsed > 0 ? (double)answered / in_seconds(load->elapsed) : 0.0;
}

/* Prints a percentile in `width` columns. */
static void print_duration(FILE *out, const struct histogram *h, double share, int width,
                           const char *none)
{
    if (h->count)
        fprintf(out, "%*.1f", width, (double)histogram_at(h, share) / 1000.0);
    else
        fprintf(out, "%*s", width, none);
}

/* --------------------------------------------------------------------------------- progress */

void report_progress(const struct load_options *options, const struct load_tally *tally,
                     uint64_t answered, int64_t second)
{
    bool terminal = isatty(STDERR_FILENO);

    if (!terminal && second % PROGRESS_EVERY)
        return;
    fprintf(stderr, "%s%4" PRIi64 " of %g s", terminal ? "\r" : "", second,
            in_seconds(options->warmup + options->measured));
    if (second * LOAD_SECOND <= options->warmup)
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
}

void report_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ------------------------------------------------------------------------------------ table */

static void print_heading(const struct load_options *options)
{
    printf("%s:%" PRIu64 "  %" PRIu64 " connections, pipeline %" PRIu64 ", ", options->host,
           options->port, options->connections, options->pipeline);
    if (options->rate)
        printf("%" PRIu64 " req/s", options->rate);
    else
        printf("closed loop");
    printf(" for %g s (%s)\n\n", in_seconds(options->measured), options->mix.text);
}

static void print_durations(const char *name, const struct histogram *h)
{
    printf("  %-20s", name);
    for (unsigned i = 0; i < COLUMNS; i++) {
        putchar(' ');
        print_duration(stdout, h, column[i].share, 12, "-");
    }
    putchar('\n');
}

static uint64_t of_poison(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed); /* the threads have ended */
}

/* What became of each command, if they are several. */
static void print_poisons(const struct load *load)
{
    const struct load_poisons *poisons = &load->options.poisons;

    if (!load->options.poison || poisons->count < 2)
        return;
    printf("\n  %-20s %12s %12s\n", "poisoned by", "sent", "contained");
    for (unsigned i = 0; i < poisons->count; i++)
        printf("  %-20s %12" PRIu64 " %12" PRIu64 "\n", poisons->command[i],
               of_poison(&load->poison[i].sent), of_poison(&load->poison[i].contained));
}

/* Whether a count can be other than 0 in such a run. */
static bool concerns(const struct load_options *options, enum load_count which)
{
    if (which >= COUNT_POISON_SENT)
        return options->poison > 0;
    return which != COUNT_UNSENT || options->rate > 0;
}

void report_table(const struct load *load)
{
    const struct load_options *options = &load->options;
    uint64_t owed =
        load_counted(&load->tally, COUNT_UNANSWERED) + load_counted(&load->tally, COUNT_UNSENT);

    print_heading(options);
    for (unsigned i = 0; i < COUNT_ALL; i++)
        if (concerns(options, i))
            printf("  %-20s %12" PRIu64 "\n", count[i].title, load_counted(&load->tally, i));
    printf("  %-20s %12.0f\n\n  %-20s", "req/s", rate(load), "us");
    for (unsigned i = 0; i < COLUMNS; i++)
        printf(" %12s", column[i].name);
    putchar('\n');
    print_durations("latency", &load->latency);
    if (options->rate)
        print_durations("sent late by", &load->lag);
    if (!options->no_hiccup)
        print_durations("machine's hiccups", &load->hiccup);
    print_poisons(load);
    printf("\n  The load itself took %.2f s of processor time a second.\n", load->cpu);
    if (owed)
        printf("\n  Due and never answered: %" PRIu64 ". Each counts until it was given up, so the "
               "tail is at least this.\n",
               owed);
}

/* ------------------------------------------------------------------------------------- JSON */

static void json_percentiles(FILE *out, const struct histogram *h)
{
    putc('{', out);
    for (unsigned i = 0; i < COLUMNS; i++) {
        fprintf(out, "%s\"%s\": ", i ? ", " : "", column[i].name);
        print_duration(out, h, column[i].share, 0, "null");
    }
    putc('}', out);
}

static void json_durations(FILE *out, const char *name, const struct histogram *h,
                           const char *after)
{
    fprintf(out, "  \"%s\": ", name);
    json_percentiles(out, h);
    fprintf(out, "%s\n", after);
}

static void json_parts(FILE *out, const struct load *load)
{
    fputs("  \"part_latency_us\": [", out);
    for (uint64_t part = 0; part < load->options.parts; part++) {
        fputs(part ? ", " : "", out);
        json_percentiles(out, &load->part[part]);
    }
    fputs("],\n", out);
}

static void json_poisons(FILE *out, const struct load *load)
{
    const struct load_poisons *poisons = &load->options.poisons;

    fputs("  \"poisons\": [", out);
    for (unsigned i = 0; i < poisons->count; i++) {
        fputs(i ? ", {\"command\": " : "{\"command\": ", out);
        options_json_text(out, poisons->command[i]);
        fprintf(out, ", \"sent\": %" PRIu64 ", \"contained\": %" PRIu64 "}",
                of_poison(&load->poison[i].sent), of_poison(&load->poison[i].contained));
    }
    fputs("],\n", out);
}

bool report_json(FILE *out, const struct load *load)
{
    const struct load_options *options = &load->options;

    fputs("{\n", out);
    options_json(out, options);
    for (unsigned i = 0; i < COUNT_ALL; i++)
        fprintf(out, "  \"%s\": %" PRIu64 ",\n", count[i].json, load_counted(&load->tally, i));
    json_poisons(out, load);
    fprintf(out, "  \"elapsed\": %.3f,\n", in_seconds(load->elapsed));
    fprintf(out, "  \"requests_per_second\": %.1f,\n", rate(load));
    fprintf(out, "  \"load_cpu\": %.3f,\n", load->cpu);
    json_durations(out, "latency_us", &load->latency, ",");
    json_parts(out, load);
    json_durations(out, "sent_late_us", &load->lag, options->no_hiccup ? "" : ",");
    if (!options->no_hiccup)
        json_durations(out, "hiccup_us", &load->hiccup, "");
    fputs("}\n", out);
    return fflush(out) == 0 && !ferror(out);
}
