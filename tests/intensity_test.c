/* SPDX-License-Identifier: MIT */
/*
 * intensity_test.c - core/intensity.c: the window in whole seconds, against a list kept as OTP keeps it; delays.
 */
#include "check.h"
#include "intensity.h"

#define MAX 8

static struct intensity make(uint32_t max, uint32_t seconds)
{
    static int64_t second[MAX];

    return (struct intensity){max, seconds, 0, second};
}

static void more_than_max_is_one_too_many(void)
{
    struct intensity w = make(2, 5);

    CHECK(intensity_allows(&w, COIR_SEC));
    CHECK(intensity_allows(&w, COIR_SEC));
    CHECK(!intensity_allows(&w, COIR_SEC));
    CHECK_EQ(w.made, 2);
}

static void none_may_be_allowed(void)
{
    struct intensity w = make(0, 5);

    CHECK(!intensity_allows(&w, COIR_SEC));
    CHECK(!intensity_allows(&w, 1000 * COIR_SEC));
}

static void time_is_cut_to_seconds_and_the_edge_counts(void)
{
    struct intensity w = make(1, 5);

    CHECK(intensity_allows(&w, 1 * COIR_SEC + 999 * COIR_MS));
    CHECK(!intensity_allows(&w, 6 * COIR_SEC + 999 * COIR_MS));
    CHECK(intensity_allows(&w, 7 * COIR_SEC)); /* 5.001 s later */
    CHECK(!intensity_allows(&w, 12 * COIR_SEC + 999 * COIR_MS)); /* 5.999 s later */
}

/* What OTP's supervisor does: all restarts, the newest last; those that are too old do not count. */
static int allowed_by_list(int64_t *list, int *n, const struct intensity *w, int64_t now)
{
    int64_t second = now / COIR_SEC;
    unsigned within = 1;

    for (int i = 0; i < *n; i++)
        within += list[i] >= second - (int64_t)w->seconds;
    if (within > w->max)
        return 0;
    list[(*n)++] = second;
    return 1;
}

static void any_schedule_ends_as_with_a_list_of_all(void)
{
    int64_t list[2000];

    for (unsigned seed = 1; seed <= 500; seed++) {
        struct intensity w = make(1 + seed % MAX, 1 + seed % 7);
        int64_t now = 100 * COIR_SEC + seed;
        int n = 0;

        srand(seed);
        for (int i = 0; i < 2000; i++) {
            int ours = intensity_allows(&w, now), theirs = allowed_by_list(list, &n, &w, now);

            if (!CHECK_EQ(ours, theirs))
                return;
            now += rand() % (2000 * COIR_MS); /* one in seconds more often than max allows */
        }
    }
}

static void a_delay_is_fixed_or_doubles_up_to_its_most(void)
{
    struct backoff none = {0, 0, 0}, fixed = {10, 10, 0}, doubles = {10, 100, 0};
    struct backoff huge = {COIR_NEVER / 2 + 1, COIR_NEVER, 0};

    CHECK_EQ(backoff_delay(&none, 50, 7), 0);
    CHECK_EQ(backoff_delay(&fixed, 0, 7), 10);
    CHECK_EQ(backoff_delay(&fixed, 50, 7), 10);
    CHECK_EQ(backoff_delay(&doubles, 0, 7), 10);
    CHECK_EQ(backoff_delay(&doubles, 1, 7), 20);
    CHECK_EQ(backoff_delay(&doubles, 3, 7), 80);
    CHECK_EQ(backoff_delay(&doubles, 4, 7), 100);
    CHECK_EQ(backoff_delay(&doubles, UINT32_MAX, 7), 100);
    CHECK_EQ(backoff_delay(&huge, 9, 7), COIR_NEVER);
}

static void jitter_takes_off_up_to_its_share(void)
{
    struct backoff b = {1000000, 1000000, 40};
    int64_t least = COIR_NEVER, most = 0;

    srand(1);
    for (int i = 0; i < 10000; i++) {
        int64_t d = backoff_delay(&b, 0, (uint64_t)rand() << 20 ^ (uint64_t)rand());

        least = d < least ? d : least;
        most = d > most ? d : most;
    }
    CHECK(least >= 600000 && least < 610000);
    CHECK(most <= 1000000 && most > 990000);
}

CHECK_MAIN(CASE(more_than_max_is_one_too_many), CASE(none_may_be_allowed),
           CASE(time_is_cut_to_seconds_and_the_edge_counts), CASE(any_schedule_ends_as_with_a_list_of_all),
           CASE(a_delay_is_fixed_or_doubles_up_to_its_most), CASE(jitter_takes_off_up_to_its_share))
