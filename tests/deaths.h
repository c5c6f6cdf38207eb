/* SPDX-License-Identifier: MIT */
/*
 * deaths.h - tests that are tables of deaths; C and C++. A row says what is done, by which signal the
 * process dies of it, and what the first line of its report says:
 *
 *     #define DEATHS(X) X(a_panic_outside_any_boundary, SIGABRT, BARE, raise_outside, "panic outside") ...
 *     DEATH_MAIN("panics", DEATHS)
 *
 * Each row is a case, run in a child; what it really printed is the table on standard output. Whatever
 * says "unwound" must not run: what aborts leaves its frames to the core.
 */
#ifndef COIR_DEATHS_H
#define COIR_DEATHS_H

#include "child.h"
#include "wrap.h"

#define DEATH_WORDS 4

/* Where the function of a row is called. */
enum way {
    BARE,     /* on the child's own thread */
    IN_JOB,   /* as the first job of a runtime */
    IN_TRY,   /* in a coir_try on a plain thread */
    ANYWHERE  /* IN_JOB, and in another child IN_TRY */
};

struct death {
    const char *cause; /* the case's name */
    int signal;
    enum way way;
    coir_fn *fn;
    const char *says[DEATH_WORDS + 1]; /* words of the first line; none: it says nothing */
};

/* The log is quiet: what is shown is the report. */
static inline void death_in_job(void *death)
{
    coir_options o = run_options(2);

    if (coir_run(&o, ((const struct death *)death)->fn, NULL) >= COIR_DONE)
        _exit(0);
}

static inline void death_in_try(void *death)
{
    if (coir_try(((const struct death *)death)->fn, NULL, NULL) >= COIR_DONE)
        _exit(0);
}

/* The first line of coir's report, or if there is none, of anybody's. On a plain thread the panic's own line
 * comes before it; an emulator adds one, and sanitizers have more to say. */
static inline const char *death_report(char *text)
{
    const char *other = "";

    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "coir: panic ", 12) == 0 || strncmp(line, "qemu: ", 6) == 0)
            continue;
        if (strncmp(line, "coir: ", 6) == 0)
            return line;
        other = *other ? other : line;
    }
    return other;
}

static inline const char *death_by(const struct death *d, coir_fn *way, struct child *c)
{
    const char *line;

    child_run(c, way, (void *)d);
    if (!CHECK(WIFSIGNALED(c->status)) || !CHECK_EQ(WTERMSIG(c->status), d->signal))
        fprintf(stderr, "    it said: %s\n", c->text);
    CHECK(strstr(c->text, "unwound") == NULL);
    line = death_report(c->text);
    CHECK_EQ(d->says[0] != NULL, *line != '\0');
    for (const char *const *words = d->says; *words; words++)
        if (!CHECK(strstr(line, *words) != NULL))
            fprintf(stderr, "    \"%s\" is not in: %s\n", *words, line);
    return line;
}

static inline void death_row(const char *cause, const char *signal, const char *line)
{
    int column = printf("%-48s  %-7s  ", cause, signal);

    wrap_print(*line ? line : "(nothing: as without coir)", column);
}

static inline void death_check(const struct death *d)
{
    char cause[64], signal[16];
    struct child c;
    const char *line;

    if (d->way == BARE)
        line = death_by(d, d->fn, &c);
    else if (d->way == IN_TRY)
        line = death_by(d, death_in_try, &c);
    else
        line = death_by(d, death_in_job, &c);
    snprintf(cause, sizeof cause, "%s", d->cause);
    for (char *at = cause; (at = strchr(at, '_')) != NULL;)
        *at = ' ';
    snprintf(signal, sizeof signal, "SIG%s", WIFSIGNALED(c.status) ? sigabbrev_np(WTERMSIG(c.status)) : "?");
    death_row(cause, signal, line);
    if (d->way == ANYWHERE)
        death_by(d, death_in_try, &c);
}

#define DEATH_FUNCTION(name, signal, way, fn, ...)                                                 \
    static void name(void)                                                                         \
    {                                                                                              \
        static const struct death d = {#name, signal, way, fn, {__VA_ARGS__}};                     \
        death_check(&d);                                                                           \
    }
#define DEATH_CASE(name, ...) CASE(name),

#define DEATH_MAIN(title, deaths)                                                                  \
    deaths(DEATH_FUNCTION)                                                                         \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        static const struct check_case cases[] = {deaths(DEATH_CASE)};                             \
                                                                                                   \
        death_row(title, "signal", "first line of the report");                                    \
        return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);                      \
    }

#endif
