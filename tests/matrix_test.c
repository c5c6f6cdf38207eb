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
#include "wrap.h"

struct row {
    const char *name, *group;
    void (*run)(struct scene *s);
    const char *where, *what, *waiter, *peer, *process;
};

/* A group is a row that only has a title. */
static const struct row rows[] = {
#define GROUP(title) {.group = title},
#define ROW(run, where, what, waiter, peer, process) {#run, NULL, run, where, what, waiter, peer, process},
#include "matrix_table.h"
#undef ROW
#undef GROUP
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
    int where, what, process, waiter;
};

static void widen(int *width, const char *cell)
{
    int n = (int)strlen(cell);

    *width = n > *width ? n : *width;
}

static const struct widths *widths(void)
{
    static struct widths w = {.process = sizeof "the process" - 1};

    for (int i = 0; i < ROWS; i++) {
        if (rows[i].group)
            continue;
        widen(&w.where, rows[i].where);
        widen(&w.what, rows[i].what);
        widen(&w.waiter, rows[i].waiter);
    }
    return &w;
}

static bool lives(const struct row *r)
{
    return strcmp(r->process, "lives") == 0;
}

/* How a process dies is told where the others are in a row that lives: there is nobody left to see anything. */
static void print_death(const struct row *r, int column)
{
    const char *report = strpbrk(r->process, ":,");
    int signal = (int)(report - r->process);

    printf("%-*.*s  ", widths()->process, signal, r->process);
    wrap_print(report + 2, column + widths()->process + 2);
}

static const char *or_dash(const char *cell)
{
    return cell[0] ? cell : "-";
}

static void print_life(const char *process, const char *waiter, const char *peer, int column)
{
    const struct widths *w = widths();

    printf("%-*s  %-*s  ", w->process, process, w->waiter, or_dash(waiter));
    wrap_print(or_dash(peer), column + w->process + 2 + w->waiter + 2);
}

static int print_where(const char *where, const char *what)
{
    return printf("%-*s  %-*s  ", widths()->where, where, widths()->what, what);
}

static void print_row(const struct row *r, bool failed)
{
    int column;

    if (r[-1].group) /* the table begins with one */
        printf("\n%s\n", r[-1].group);
    column = print_where(r->where, r->what);
    if (failed)
        wrap_print("FAILED, see above", column);
    else if (lives(r))
        print_life(r->process, r->waiter, r->peer, column);
    else
        print_death(r, column);
}

/* ---------------------------------------------------------------------------------------- cases */

static const struct row *current_row(void)
{
    const struct row *r = rows;

    while (r->group || strcmp(r->name, check_current) != 0)
        r++;
    return r;
}

static void run_row(void)
{
    const struct row *r = current_row();

    if (lives(r)) {
        run_in(r, 1, 1);
        run_in(r, 2, MANY(TIMES));
    } else {
        run_to_death(r);
    }
    if (table)
        print_row(r, failed());
}

int main(int argc, char **argv)
{
    static struct check_case cases[ROWS];
    size_t n = 0;
    int status;

    for (int i = 0; i < ROWS; i++)
        if (!rows[i].group)
            cases[n++] = (struct check_case){rows[i].name, run_row};
    table = argc > 1 && strcmp(argv[1], "--table") == 0;
    if (table) {
        print_life("the process", "its waiter saw", "others saw, or the report says",
                   print_where("where it broke", "what broke"));
        argv[1] = argv[0];
    }
    isolated_open();
    status = check_main(cases, n, argc - table, argv + table);
    isolated_close();
    return status;
}
