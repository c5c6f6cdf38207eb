/* SPDX-License-Identifier: MIT */
/*
 * lab_tree_test.c - supervisors in experiments (coir_lab_run): children that break at times that a seed has chosen,
 * under each strategy, against a model of who is stopped, who starts again, and when it is one restart too many. A
 * seed that fails is printed; given as SEED in the environment it runs alone.
 */
#include "supervisors.h"
#include "threads.h"

#include <stdbool.h>

#define SEEDS (MANY(400) + 20)
#define KIDS 4
#define CRASHES 12
#define RESTARTS_MAX 5
#define TENTH (100 * COIR_MS)

static const char *const names[KIDS] = {"a", "b", "c", "d"};

struct tree {
    uint64_t seed;
    enum coir_strategy strategy;
    unsigned max_restarts, max_seconds;
    int64_t restart[CRASHES]; /* in whole seconds */
    int restarts;
    bool gave_up, ended_so; /* by the model; as it was */
    struct story story;
    char expected[sizeof((struct story *)NULL)->text];
};

static void expect(struct tree *t, const char *what, int kid)
{
    size_t used = strlen(t->expected);

    snprintf(t->expected + used, sizeof t->expected - used, "%s%s ", what, names[kid]);
}

/* As OTP counts: with those of the last max_seconds, the oldest second among them, it is more than max_restarts. */
static bool is_too_many(struct tree *t, int64_t second)
{
    unsigned n = 1;

    for (int i = 0; i < t->restarts; i++)
        n += second - t->restart[i] <= t->max_seconds;
    t->restart[t->restarts++] = second;
    return n > t->max_restarts;
}

/* What must follow when a child breaks: nobody tells of its own end. */
static void expect_crash(struct tree *t, int kid)
{
    int first = t->strategy == COIR_ONE_FOR_ALL ? 0 : kid;
    int last = t->strategy == COIR_ONE_FOR_ONE ? kid : KIDS - 1;

    t->gave_up = is_too_many(t, coir_now() / COIR_SEC);
    if (t->gave_up) {
        first = 0;
        last = KIDS - 1;
    }
    for (int i = last; i >= first; i--)
        if (i != kid)
            expect(t, "-", i);
    for (int i = first; !t->gave_up && i <= last; i++)
        expect(t, "+", i);
}

/* Not to where a second begins, for one must not begin before the supervisor has looked at the clock. */
static void sleep_tenths(int64_t tenths)
{
    CHECK_EQ(coir_sleep_until((coir_now() / TENTH + tenths) * TENTH + TENTH / 2), COIR_OK);
}

static void break_children(void *arg)
{
    struct tree *t = arg;
    struct kid kids[KIDS];
    coir_child_spec specs[KIDS];
    coir_supervisor_options o;
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;
    uint64_t seed = t->seed + 1;

    t->strategy = (enum coir_strategy)(random_next(&seed) % 3);
    t->max_restarts = 1 + (unsigned)(random_next(&seed) % RESTARTS_MAX);
    t->max_seconds = 1 + (unsigned)(random_next(&seed) % 10);
    for (int i = 0; i < KIDS; i++) {
        kids[i] = (struct kid){.name = names[i], .story = &t->story};
        specs[i] = kid_spec(&kids[i]);
        expect(t, "+", i);
    }
    o = supervisor_options(t->strategy, specs, KIDS);
    o.max_restarts = t->max_restarts;
    o.max_seconds = t->max_seconds;
    s = supervisor_open(coir_current(), &o, &end);
    for (int i = 0; i < CRASHES && !t->gave_up; i++) {
        int kid = (int)(random_next(&seed) % KIDS);

        sleep_tenths(1 + (int64_t)(random_next(&seed) % 40));
        expect_crash(t, kid);
        kid_end(&kids[kid], 1);
    }
    sleep_tenths(100);
    for (int i = KIDS - 1; !t->gave_up && i >= 0; i--)
        expect(t, "-", i);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    t->ended_so = coir_wait(&end) == COIR_PANICKED;
}

static void the_same_children_stop_and_start_as_in_the_model(void)
{
    coir_options o = run_options(0);
    const char *one = getenv("SEED");
    int gave_up = 0, seeds = 0;
    static struct tree t;

    o.stacks_max = 256;
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 0; check_round((long)seed, SEEDS); seed++, seeds++) {
        coir_lab lab = {.size = sizeof lab, .seed = seed};

        t = (struct tree){.seed = seed, .story = STORY_INIT};
        if (!(CHECK_EQ(coir_lab_run(&lab, &o, break_children, &t, NULL), COIR_DONE) &
              CHECK_STR(t.story.text, t.expected) & CHECK_EQ(t.ended_so, t.gave_up)) || one) {
            fprintf(stderr, "    SEED=%llu, strategy %d, %u restarts in %u s\n", (unsigned long long)seed,
                    (int)t.strategy, t.max_restarts, t.max_seconds);
            return;
        }
        gave_up += t.gave_up;
    }
    CHECK(gave_up > seeds / 10 && gave_up < seeds * 9 / 10);
}

CHECK_MAIN(CASE(the_same_children_stop_and_start_as_in_the_model))
