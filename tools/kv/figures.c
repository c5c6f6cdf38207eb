/* SPDX-License-Identifier: MIT */
/*
 * figures.c - what the server says of itself: to INFO, as Prometheus text, and as a map.
 *
 * The first two print one table, which is filled when somebody asks. Figures that come by kind, by location
 * or by domain follow it. The map is the runtime's own.
 */
#include "kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define RECORDS_SHOWN 8

/* ------------------------------------------------------------------------------------ names */

static const char *outcome_name(int outcome)
{
    static const char *const name[COIR_PANICKED + 1] = {"done", "failed", "expired", "canceled",
                                                        "panicked"};

    return name[outcome];
}

static const char *domain_name(int domain)
{
    return server_domains[domain];
}

/* ---------------------------------------------------------------------------------- the table */

static void read_resident(void *arg)
{
    uint64_t pages = 0, *bytes = arg;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file)
        return;
    if (fscanf(file, "%*u %" SCNu64, &pages) == 1)
        *bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    fclose(file);
}

struct facts {
    coir_stats runtime;
    coir_domain_stats domain[DOMAINS];
    coir_pool_stats sums;
    uint64_t resident; /* bytes; 0: not known */
    char human[24];    /* the same */
};

static void collect(struct facts *f)
{
    *f = (struct facts){0};
    if (coir_offload(read_resident, &f->resident) != COIR_DONE) /* files may block */
        f->resident = 0;
    snprintf(f->human, sizeof f->human, "%.2fM", (double)f->resident / 0x100000);
    coir_stats_read(coir_current(), &f->runtime);
    for (int i = 0; i < DOMAINS; i++)
        coir_domain_stats_read(server.domain[i], &f->domain[i]);
    coir_pool_stats_read(server.sums, &f->sums);
}

static uint64_t read_figure(_Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed); /* statistics */
}

struct figure {
    const char *section, *info; /* info ends with what its value follows; NULL: a metric only */
    const char *metric, *help;  /* NULL: in INFO only */
    uint64_t value;
    const char *text; /* instead of the value */
};

typedef void print_figure(struct buffer *out, const struct figure *figure, struct bytes section);

static void each_figure(struct buffer *out, const struct facts *f, print_figure *print,
                        struct bytes section)
{
    const coir_stats *r = &f->runtime;
    const coir_domain_stats *clients = &f->domain[CLIENTS];
    const uint64_t seconds = (uint64_t)((coir_now() - server.started) / COIR_SEC);
    const struct figure figures[] = {
        {"Server", "server:", NULL, NULL, 0, "coir-kv"},
        {"Server", "coir_version:", NULL, NULL, 0, coir_version()},
        {"Server", "process_id:", NULL, NULL, (uint64_t)getpid(), NULL},
        {"Server", "tcp_port:", NULL, NULL, (uint64_t)server.set.port, NULL},
        {"Server", "io:", NULL, NULL, 0, r->io == COIR_IO_URING ? "uring" : "epoll"},
        {"Server", "workers:", "coir_workers", "Worker threads.", r->workers, NULL},
        {"Server", "uptime_in_seconds:", "coir_kv_uptime_seconds", "Since start.", seconds, NULL},
        {"Clients", "connected_clients:", "coir_kv_connections", "Open now.", clients->in_flight,
         NULL},
        {"Clients", "maxclients:", NULL, NULL, (uint64_t)server.set.max_clients, NULL},
        {"Clients", "blocked_clients:", NULL, NULL, 0, NULL}, /* none waits for another */
        {"Memory", "used_memory:", "coir_kv_resident_bytes", "Of the process.", f->resident, NULL},
        {"Memory", "used_memory_human:", NULL, NULL, 0, f->human},
        {"Stats", "total_connections_received:", NULL, NULL, clients->admitted + clients->refused,
         NULL},
        {"Stats", NULL, "coir_kv_connections_accepted_total", "Served.", clients->admitted, NULL},
        {"Stats", "rejected_connections:", "coir_kv_connections_refused_total",
         "Beyond the limit.", clients->refused, NULL},
        {"Stats", "accept_errors:", "coir_kv_accept_errors_total", "Not taken.",
         read_figure(&server.accept_errors), NULL},
        {"Stats", "total_commands_processed:", "coir_kv_commands_total", "Run.",
         read_figure(&server.commands), NULL},
        {"Stats", "sums:", "coir_kv_sums_total", "Given to the pool.", f->sums.submitted, NULL},
        {"Stats", "sums_refused:", "coir_kv_sums_refused_total", "Too many at once.",
         f->sums.refused + f->sums.quarantined, NULL},
        {"Stats", NULL, "coir_jobs_spawned_total", "Jobs accepted.", r->spawned, NULL},
        {"Stats", NULL, "coir_fibers_parked", "Fibers parked.", r->parked, NULL},
        {"Stats", NULL, "coir_stacks", "Stacks in existence.", r->stacks, NULL},
        {"Stats", NULL, "coir_switches_total", "Context switches.", r->switches, NULL},
        {"Stats", NULL, "coir_steals_total", "Jobs taken from another worker.", r->steals, NULL},
        {"Stats", NULL, "coir_sleeps_total", "Times a worker went to sleep.", r->sleeps, NULL},
        {"Failures", "panics:", "coir_panics_total", "Raised, contained faults too.", r->panics,
         NULL},
        {"Failures", "contained_faults:", "coir_contained_total", "Faults.", r->contained, NULL},
        {"Failures", "tainted:", "coir_tainted_total",
         "Faults that may have harmed memory: drain and restart.", r->tainted, NULL},
        {"Failures", "stalls:", "coir_stalls_total", "Jobs that computed too long.", r->stalls,
         NULL},
        {"Failures", "sums_dead:", "coir_kv_sums_dead_total", "Broken in each attempt.",
         read_figure(&server.sums_dead), NULL},
        {"Failures", "deadlines_exceeded:", "coir_kv_deadlines_exceeded_total",
         "Requests ended for their time.", read_figure(&server.late), NULL},
        {"Failures", "obligations_leaked:", NULL, NULL, f->domain[REQUESTS].obligations_leaked,
         NULL},
        {"Failures", "reports_suppressed:", "coir_reports_suppressed_total",
         "Log lines of failures that were too many.", r->held_back, NULL},
        {"Keyspace", "db0:keys=", "coir_kv_keys", "Keys held.", store_count(), NULL},
    };

    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        print(out, &figures[i], section);
}

/* --------------------------------------------------------------------------------------- INFO */

static void print_records(struct buffer *out)
{
    coir_failure last[RECORDS_SHOWN];
    uint64_t cursor = 0, n = 0;

    while (coir_failure_next(coir_current(), &cursor, &last[n % RECORDS_SHOWN]) == COIR_OK)
        n++;
    for (uint64_t i = 0; i < n && i < RECORDS_SHOWN; i++) { /* the newest first */
        const coir_failure *f = &last[(n - 1 - i) % RECORDS_SHOWN];

        buffer_print(out, "failure_%" PRIu64 ":id=%" PRIu64 ",kind=%s,at=%s", i, f->id,
                     coir_kind_name(f->kind), coir_location_name(f->location));
        if (f->file)
            buffer_print(out, ",where=%s:%d", f->file, f->line);
        buffer_print(out, ",age_ms=%" PRId64 ",message=%s\r\n", (coir_now() - f->time) / COIR_MS,
                     f->message);
    }
}

static void print_failures(struct buffer *out, const coir_stats *r)
{
    for (int i = COIR_KIND_PANIC; i < COIR_KINDS; i++)
        buffer_print(out, "kind_%s:%" PRIu64 "\r\n", coir_kind_name(i), r->failures_of[i]);
    for (int i = 0; i < COIR_LOCATIONS; i++)
        buffer_print(out, "at_%s:%" PRIu64 "\r\n", coir_location_name(i), r->failures_at[i]);
    print_records(out);
}

static void print_line(void *out, const char *text)
{
    buffer_print(out, "%s\r\n", text);
}

static bool wanted(struct bytes section, const char *name)
{
    return section.length == 0 || bytes_are(section, name);
}

static void print_info(struct buffer *out, const struct figure *f, struct bytes section)
{
    if (!f->info || !wanted(section, f->section))
        return;
    if (f->text)
        buffer_print(out, "%s%s\r\n", f->info, f->text);
    else
        buffer_print(out, "%s%" PRIu64 "\r\n", f->info, f->value);
}

void figures_info(struct buffer *out, struct bytes section)
{
    static const char *const names[] = {"Server",   "Clients",  "Memory", "Stats",
                                        "Keyspace", "Failures", "Children"};
    struct facts facts;

    collect(&facts);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!wanted(section, names[i]))
            continue;
        buffer_print(out, "%s# %s\r\n", out->used ? "\r\n" : "", names[i]);
        each_figure(out, &facts, print_info, (struct bytes){names[i], strlen(names[i])});
        if (strcmp(names[i], "Failures") == 0)
            print_failures(out, &facts.runtime);
        if (strcmp(names[i], "Children") == 0)
            coir_supervisor_print(server.root, print_line, out);
    }
}

/* --------------------------------------------------------------------------------- Prometheus */

static void head(struct buffer *out, const char *name, const char *text)
{
    buffer_print(out, "# HELP %s %s\n# TYPE %s %s\n", name, text, name,
                 strstr(name, "_total") ? "counter" : "gauge");
}

static void print_metric(struct buffer *out, const struct figure *f, struct bytes section)
{
    (void)section;
    if (!f->metric)
        return;
    head(out, f->metric, f->help);
    buffer_print(out, "%s %" PRIu64 "\n", f->metric, f->value);
}

static void print_labelled(struct buffer *out, const char *name, const char *text,
                           const char *label, const char *(*of)(int), const uint64_t *value, int n)
{
    head(out, name, text);
    for (int i = 0; i < n; i++)
        buffer_print(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, of(i), value[i]);
}

static void print_domains(struct buffer *out, const struct facts *f)
{
    static const struct {
        const char *name, *help;
        size_t at; /* of a uint64_t in coir_domain_stats */
    } of[] = {
        {"coir_domain_in_flight", "Jobs now.", offsetof(coir_domain_stats, in_flight)},
        {"coir_domain_admitted_total", "Jobs.", offsetof(coir_domain_stats, admitted)},
        {"coir_domain_panicked_total", "Of these.",
         offsetof(coir_domain_stats, ended[COIR_PANICKED])},
        {"coir_domain_refused_total", "For its limit.", offsetof(coir_domain_stats, refused)},
        {"coir_domain_skipped_total", "While tripped.", offsetof(coir_domain_stats, skipped)},
        {"coir_domain_trips_total", "Threshold met.", offsetof(coir_domain_stats, trips)},
        {"coir_domain_obligations_leaked_total", "Not discharged.",
         offsetof(coir_domain_stats, obligations_leaked)},
    };
    uint64_t value[DOMAINS];

    for (size_t k = 0; k < sizeof of / sizeof of[0]; k++) {
        for (int i = 0; i < DOMAINS; i++)
            memcpy(&value[i], (const char *)&f->domain[i] + of[k].at, sizeof value[i]);
        print_labelled(out, of[k].name, of[k].help, "domain", domain_name, value, DOMAINS);
    }
}

static const struct child_figure {
    const char *name, *help;
    size_t at; /* of a uint64_t in coir_child_info */
} child_figures[] = {
    {"coir_child_starts_total", "Starts.", offsetof(coir_child_info, starts)},
    {"coir_child_failures_total", "Ends and starts.", offsetof(coir_child_info, failures)},
};

struct child_line {
    struct buffer *out;
    const struct child_figure *figure;
};

static void print_child(void *arg, const coir_child_info *info)
{
    struct child_line *line = arg;
    uint64_t value;

    if (!info->id)
        return; /* the root itself */
    memcpy(&value, (const char *)info + line->figure->at, sizeof value);
    buffer_print(line->out, "%s{child=\"%s\"} %" PRIu64 "\n", line->figure->name, info->name, value);
}

static void print_children(struct buffer *out)
{
    for (size_t i = 0; i < sizeof child_figures / sizeof child_figures[0]; i++) {
        struct child_line line = {out, &child_figures[i]};

        head(out, line.figure->name, line.figure->help);
        coir_supervisor_visit(server.root, print_child, &line);
    }
}

void figures_metrics(struct buffer *out)
{
    struct facts facts;
    const coir_stats *r = &facts.runtime;

    collect(&facts);
    each_figure(out, &facts, print_metric, (struct bytes){"", 0});
    print_labelled(out, "coir_jobs_ended_total", "Jobs ended, by outcome.", "outcome", outcome_name,
                   r->ended, COIR_PANICKED + 1);
    print_labelled(out, "coir_failures_total", "Failures, by kind.", "kind", coir_kind_name,
                   r->failures_of, COIR_KINDS);
    print_labelled(out, "coir_failures_at_total", "Failures, by where.", "location", coir_location_name,
                   r->failures_at, COIR_LOCATIONS);
    print_labelled(out, "coir_panics_at_total", "Panics, by where.", "location", coir_location_name,
                   r->panics_at, COIR_LOCATIONS);
    print_domains(out, &facts);
    print_children(out);
}

/* ---------------------------------------------------------------------------------------- map */

static void add_line(void *out, const char *text)
{
    buffer_print(out, "%s\n", text);
}

void figures_map(struct buffer *out,
                 int (*draw)(coir_runtime *, void (*line)(void *arg, const char *text), void *arg))
{
    if (draw(coir_current(), add_line, out) != COIR_OK)
        out->failed = true;
}
