/* SPDX-License-Identifier: MIT */
/*
 * matrix_test.c - the propagation matrix: for each place where something can break, what the waiter
 * sees, what others see, and whether the process lives. The rows are in matrix_table.h.
 *
 * A row that lives runs once with one worker, then many times in one runtime with two; each time its
 * cells must be the same and the runtime at rest afterwards. A row that dies runs in a child. With
 * --table the rows are printed as a table while they run.
 */
#include "matrix.h"

#include <fnmatch.h>
#include <stdbool.h>

#include "child.h"

struct row {
    const char *name;
    void (*run)(struct scene *s);
    const char *where, *what, *waiter, *peer, *process;
};

static const struct row rows[] = {
#define ROW(run, where, what, waiter, peer, process) {#run, run, where, what, waiter, peer, process},
#include "matrix_table.h"
#undef ROW
};

enum { ROWS = sizeof rows / sizeof *rows, TIMES = 300, AT_LEAST = 5 };

#define ROW_NS (COIR_SEC / 2) /* a row that takes longer is repeated less often */

/* ------------------------------------------------------------------------------------ one row */

static void compare(const struct row *r, const char *cell, const char *expected, const char *seen)
{
    if (!CHECK(fnmatch(expected, seen, 0) == 0))
        fprintf(stderr, "    %s: %s: %s\n    not      %s\n", r->where, cell, seen, expected);
}

/* Whether the case has failed: one run that did says enough. */
static bool failed(void)
{
    return __atomic_load_n(&check_failures, __ATOMIC_RELAXED) != 0; /* the run has ended */
}

static void run_once(const struct row *r, struct scene *s)
{
    coir_failure f;

    s->waiter[0] = s->peer[0] = '\0';
    while (coir_failure_next(s->rt, &s->kept, &f) == COIR_OK)
        ;
    r->run(s);
    compare(r, "the waiter", r->waiter, s->waiter);
    compare(r, "others", r->peer, s->peer);
    scene_at_rest(s->rt);
}

/* Repeats a row in one runtime, which must end as if nothing had happened. */
static void run_in(const struct row *r, unsigned workers, int times)
{
    coir_options o = run_options(workers);
    struct scene s = {.rt = scene_open(&o), .workers = workers};
    int64_t end = coir_now() + ROW_NS;

    for (int i = 0; i < times && !failed() && (i < AT_LEAST || coir_now() < end); i++)
        run_once(r, &s);
    scene_close(s.rt);
}

/* ---------------------------------------------------------------------------------- rows that die */

static void run_in_child(void *row)
{
    struct scene s = {.workers = 1};

    ((const struct row *)row)->run(&s);
}

/* The first line of the report. An emulator, and a sanitizer that does not like what is reported, may have
 * something to say of their own. */
static char *report_of(char *text)
{
    char *report = strncmp(text, "coir: ", 6) == 0 ? text : strstr(text, "\ncoir: ");

    if (!report)
        report = strncmp(text, "qemu: ", 6) == 0 ? text + strlen(text) : text;
    report += *report == '\n';
    report[strcspn(report, "\n")] = '\0';
    return report;
}

/* How a child ended: the signal, and what it said. */
static void describe(struct child *c, char *text, size_t bytes)
{
    const char *report = report_of(c->text);

    if (!WIFSIGNALED(c->status))
        snprintf(text, bytes, "lives");
    else if (report[0])
        snprintf(text, bytes, "SIG%s: %.900s", sigabbrev_np(WTERMSIG(c->status)), report);
    else
        snprintf(text, bytes, "SIG%s, no report", sigabbrev_np(WTERMSIG(c->status)));
}

static void run_to_death(const struct row *r)
{
    static struct child c;
    char seen[1024];

    child_run(&c, run_in_child, (void *)(uintptr_t)r);
    describe(&c, seen, sizeof seen);
    compare(r, "the process", r->process, seen);
}

/* ---------------------------------------------------------------------------------------- table */

static bool table; /* is wanted */

struct widths {
    int where, what, waiter, peer;
};

static void widen(int *width, const char *cell)
{
    int n = (int)strlen(cell);

    *width = n > *width ? n : *width;
}

static const struct widths *widths(void)
{
    static struct widths w = {16, 16, 16, 16};

    for (int i = 0; i < ROWS; i++) {
        widen(&w.where, rows[i].where);
        widen(&w.what, rows[i].what);
        widen(&w.waiter, rows[i].waiter);
        widen(&w.peer, rows[i].peer);
    }
    return &w;
}

static const char *or_dash(const char *cell)
{
    return cell[0] ? cell : "-";
}

static void print_row(const char *where, const char *what, const char *waiter, const char *peer,
                      const char *process)
{
    const struct widths *w = widths();

    printf("%-*s  %-*s  %-*s  %-*s  %s\n", w->where, where, w->what, what, w->waiter, or_dash(waiter),
           w->peer, or_dash(peer), process);
    fflush(stdout);
}

/* ---------------------------------------------------------------------------------------- cases */

static const struct row *current_row(void)
{
    const struct row *r = rows;

    while (strcmp(r->name, check_current) != 0)
        r++;
    return r;
}

static void run_row(void)
{
    const struct row *r = current_row();

    if (strcmp(r->process, "lives") == 0) {
        run_in(r, 1, 1);
        run_in(r, 2, MANY(TIMES));
    } else {
        run_to_death(r);
    }
    if (table)
        print_row(r->where, r->what, r->waiter, r->peer,
                  failed() ? "FAILED, see above" : r->process);
}

int main(int argc, char **argv)
{
    static struct check_case cases[ROWS];

    for (int i = 0; i < ROWS; i++)
        cases[i] = (struct check_case){rows[i].name, run_row};
    table = argc > 1 && strcmp(argv[1], "--table") == 0;
    if (table) {
        print_row("where it broke", "what broke", "its waiter saw", "others saw", "the process");
        argv[1] = argv[0];
    }
    return check_main(cases, ROWS, argc - table, argv + table);
}
