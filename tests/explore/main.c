/* SPDX-License-Identifier: MIT */
/*
 * main.c - runs scenarios: at random, then exhaustively within the bound; shows what failed.
 */
#include "machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    unsigned bound;
    uint64_t random;      /* executions, shared among the scenarios */
    uint64_t seed;
    uint64_t limit;       /* of executions of one exhaustive search; 0: none */
    bool climb;           /* all scenarios with bound 0, then 1, ...: simple failures first */
    const char *scenario; /* only this one */
    const char *replay;
} option = {.bound = 3, .random = 2000000, .seed = 1};

static uint64_t executions; /* of the current scenario */

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A crash of the code under test is a failure like any other; its stack is abandoned with the rest. */
static void on_crash(int signal, siginfo_t *info, void *context)
{
    (void)context;
    schedule_fail("%s at %p%s", strsignal(signal), info->si_addr,
                  info->si_addr ? "" : " (a function that world.c does not provide, if no pointer)");
}

static void catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_NODEFER | SA_SIGINFO};

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGTRAP, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

/* ----------------------------------------------------------------------------------- one scenario */

static bool run(const struct scenario *s)
{
    bool passed = schedule_run(s);

    executions += !machine.abandoned;
    return passed;
}

/* Runs the next execution; what has turned out to be shared makes the search begin anew. */
static bool run_next(const struct scenario *s, unsigned bound)
{
    machine.surprised = false;
    if (!run(s))
        return false;
    if (machine.surprised)
        choice_begin_all(bound);
    return true;
}

/* False: something failed. */
static bool explore_all(const struct scenario *s, unsigned bound)
{
    uint64_t left = option.limit ? option.limit : UINT64_MAX;

    choice_begin_all(bound);
    do
        if (!run_next(s, bound))
            return false;
    while ((machine.surprised || choice_next()) && --left > 0);
    return true;
}

static bool explore_random(const struct scenario *s, uint64_t n)
{
    choice_begin_random(option.seed);
    while (n-- > 0) {
        choice_random_execution();
        if (!run(s))
            return false;
    }
    return true;
}

/* Runs the last execution again, now with every step written down. */
static void show(const struct scenario *s)
{
    char text[CHOICES_MAX + 16], failure[sizeof machine.failure];

    memcpy(failure, machine.failure, sizeof failure);
    choice_text(text, sizeof text);
    printf("%s: failed after %llu schedules: %s\n", s->name, (unsigned long long)executions, failure);
    machine.tracing = true;
    choice_rewind();
    schedule_run(s);
    machine.tracing = false;
    if (strcmp(failure, machine.failure) != 0)
        printf("  (run again, it says: %s)\n", machine.failure);
    printf("  again: --scenario %s --replay %s\n", s->name, text);
}

static unsigned bound_of(const struct scenario *s, unsigned bound)
{
    return bound > s->less ? bound - s->less : 0;
}

/* A failure is shown, unless it was to be expected and nobody asks for it. */
static bool fail(const struct scenario *s)
{
    if (s->fails && !option.scenario)
        printf("%-44s %9llu schedules until it fails, as it must: %s\n", s->name,
               (unsigned long long)executions, s->fails);
    else
        show(s);
    return s->fails;
}

/* Random ones first: they soon meet all that threads share, and each such surprise makes the search begin anew.
 * What must fail is left to the search, which shows that it leaves nothing out. */
static bool explore(const struct scenario *s, uint64_t random)
{
    double began = seconds(), searched;

    executions = 0;
    if (!s->fails && !explore_random(s, random))
        return fail(s);
    searched = seconds();
    executions = 0;
    if (!explore_all(s, bound_of(s, option.bound)))
        return fail(s);
    if (s->fails) {
        printf("%s: does not fail, though it must: %s\n", s->name, s->fails);
        return false;
    }
    printf("%-44s %9llu schedules %6.1f s, %8llu at random %6.1f s\n", s->name,
           (unsigned long long)executions, seconds() - searched, (unsigned long long)random, searched - began);
    return true;
}

static bool climb_scenario(const struct scenario *s, unsigned bound, uint64_t random)
{
    if (s->fails || bound + s->less > option.bound) /* not all of it */
        return true;
    if (explore_all(s, bound) && explore_random(s, random))
        return true;
    show(s);
    return false;
}

/* The shortest way to a failure, if there is one: the first ends it. */
static bool climb(const struct scenario *s, int count)
{
    for (unsigned b = 0; b <= option.bound; b++)
        for (int i = 0; i < count; i++)
            if (!climb_scenario(&s[i], b, 0))
                return false;
    for (int i = 0; i < count; i++)
        if (!climb_scenario(&s[i], 0, option.random / (unsigned)count))
            return false;
    printf("nothing failed in %llu schedules\n", (unsigned long long)executions);
    return true;
}

static bool replay(const struct scenario *s)
{
    if (!choice_begin_replay(option.replay)) {
        printf("%s: --replay takes what a failure has printed\n", s->name);
        return false;
    }
    machine.tracing = true;
    if (schedule_run(s))
        printf("%s: nothing failed\n", s->name);
    return !machine.failure[0];
}

/* ----------------------------------------------------------------------------------- command line */

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--bound N] [--random N] [--seed N] [--limit N] [--climb]\n"
            "       [--scenario NAME [--replay STRING]]\n"
            "Explores N random schedules (2000000, shared among the scenarios), then every one with at\n"
            "most N preemptions (3). --climb: bounds 0 to N, one after the other, until the first\n"
            "failure; --limit: so many schedules of each bound.\n",
            program);
    return 2;
}

static bool number(const char *text, uint64_t *n)
{
    char *end;

    errno = 0;
    *n = text ? strtoull(text, &end, 10) : 0;
    return text && *text >= '0' && *text <= '9' && !*end && !errno;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = argv[i + 1];
        uint64_t n = 0;
        bool numeric = number(value, &n);

        if (!strcmp(name, "--climb")) {
            option.climb = true;
            continue;
        }
        if (!strcmp(name, "--bound") && numeric && n < 100)
            option.bound = (unsigned)n;
        else if (!strcmp(name, "--random") && numeric)
            option.random = n;
        else if (!strcmp(name, "--seed") && numeric)
            option.seed = n;
        else if (!strcmp(name, "--limit") && numeric)
            option.limit = n;
        else if (!strcmp(name, "--scenario") && value)
            option.scenario = value;
        else if (!strcmp(name, "--replay") && value)
            option.replay = value;
        else
            return false;
        i++;
    }
    return !option.replay || option.scenario;
}

int explore_main(const struct scenario *scenarios, int count, int argc, char **argv)
{
    int passed = 0, failed = 0;

    if (!parse(argc, argv))
        return usage(argv[0]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    catch_crashes();
    local_begin();
    if (option.climb)
        return !climb(scenarios, count);
    for (int i = 0; i < count; i++) {
        const struct scenario *s = &scenarios[i];

        if (option.scenario && strcmp(option.scenario, s->name) != 0)
            continue;
        if (option.replay ? replay(s) : explore(s, option.random / (unsigned)count))
            passed++;
        else
            failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : passed ? 0 : usage(argv[0]);
}
