/* SPDX-License-Identifier: MIT */
/* limit_test.c - core/limit.c: how many lines a second of a place, and what is said of the others. */
#include "check.h"

#include "limit.h"

static struct limit l;
static const char file[] = "file.c";

/* Asks n times for one place in one second; how many lines were allowed. *untold: of the last of them. */
static int ask(int n, int line, int64_t second, unsigned *untold)
{
    coir_failure f = {.file = file, .line = line, .time = second * COIR_SEC + COIR_SEC / 2};
    int allowed = 0;

    for (int i = 0; i < n; i++) {
        unsigned before;

        if (!limit_allows(&l, &f, &before))
            continue;
        *untold = before;
        allowed++;
    }
    return allowed;
}

static void ten_lines_a_second_are_allowed(void)
{
    unsigned untold = 0;

    memset(&l, 0, sizeof l);
    CHECK_EQ(ask(9, 1, 7, &untold), 9);
    CHECK_EQ(ask(9, 1, 7, &untold), 1);
    CHECK_EQ(untold, 0);
    CHECK_EQ(ask(100, 1, 7, &untold), 0);
    CHECK_EQ(ask(11, 1, 8, &untold), LIMIT_LINES);
}

static void the_next_line_says_how_many_were_held_back(void)
{
    unsigned untold = 0;

    memset(&l, 0, sizeof l);
    ask(50, 1, 7, &untold);
    CHECK_EQ(ask(1, 1, 8, &untold), 1);
    CHECK_EQ(untold, 40);
    CHECK_EQ(ask(1, 1, 8, &untold), 1); /* each is told once */
    CHECK_EQ(untold, 0);
    ask(20, 1, 8, &untold);
    CHECK_EQ(ask(1, 1, 1000, &untold), 1); /* however long ago */
    CHECK_EQ(untold, 12);
}

static void places_do_not_share_their_seconds(void)
{
    unsigned untold = 0;

    memset(&l, 0, sizeof l);
    CHECK_EQ(ask(50, 1, 7, &untold), LIMIT_LINES);
    CHECK_EQ(ask(50, 2, 7, &untold), LIMIT_LINES);
    CHECK_EQ(ask(1, 2, 8, &untold), 1);
    CHECK_EQ(untold, 40);
}

static void places_that_share_a_slot_share_its_budget(void)
{
    unsigned untold = 0;

    memset(&l, 0, sizeof l);
    CHECK_EQ(ask(6, 1, 7, &untold), 6);
    CHECK_EQ(ask(6, 1 + LIMIT_PLACES, 7, &untold), 4);
    CHECK_EQ(ask(1, 1, 8, &untold), 1);
    CHECK_EQ(untold, 2);
}

/* Two that panic side by side as the second ends come in any order. */
static void a_late_one_of_the_second_before_opens_no_new_second(void)
{
    unsigned untold = 0;
    int allowed = 0;

    memset(&l, 0, sizeof l);
    for (int i = 0; i < 100; i++)
        allowed += ask(1, 1, 8 - i % 2, &untold);
    CHECK_EQ(allowed, LIMIT_LINES);
    ask(1, 1, 9, &untold);
    CHECK_EQ(untold, 90);
}

CHECK_MAIN(CASE(ten_lines_a_second_are_allowed), CASE(the_next_line_says_how_many_were_held_back),
           CASE(places_do_not_share_their_seconds), CASE(places_that_share_a_slot_share_its_budget),
           CASE(a_late_one_of_the_second_before_opens_no_new_second))
