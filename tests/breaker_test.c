/* SPDX-License-Identifier: MIT */
/* breaker_test.c - core/breaker.c: when it opens, who probes, when it closes again. */
#include "check.h"

#include "breaker.h"
#include "threads.h"

static struct breaker b;
static int64_t times[4];
static char me, other;

static void fresh(void)
{
    memset(&b, 0, sizeof b);
    breaker_init(&b, 3, 100, 50, 5000, times);
}

static void open_at(int64_t now)
{
    fresh();
    for (uint64_t i = 1; i <= 3; i++)
        breaker_count(&b, i, now);
    CHECK_EQ(breaker_figures(&b).state, BREAKER_OPEN);
}

static void the_last_failure_of_a_full_window_opens_it(void)
{
    fresh();
    breaker_count(&b, 1, 1000);
    breaker_count(&b, 2, 1050);
    CHECK(breaker_is_closed(&b));
    CHECK(breaker_pass(&b, &me, 1060));
    breaker_count(&b, 3, 1100); /* equal counts */
    CHECK(!breaker_is_closed(&b));
    CHECK_EQ(breaker_figures(&b).opened_by, 3);
    CHECK_EQ(breaker_figures(&b).opened, 1);
    CHECK(!breaker_pass(&b, &me, 1149));
}

static void failures_further_apart_never_open_it(void)
{
    fresh();
    for (uint64_t i = 0; i < 1000; i++)
        breaker_count(&b, i + 1, (int64_t)i * 51); /* any three span 102 */
    CHECK(breaker_is_closed(&b));
    breaker_count(&b, 1001, 999 * 51 + 1); /* and now three span 52 */
    CHECK(!breaker_is_closed(&b));
}

static void one_probe_at_a_time_and_not_before_its_time(void)
{
    open_at(1000);
    CHECK(!breaker_pass(&b, &me, 1049));
    CHECK(breaker_pass(&b, &me, 1050));
    CHECK_EQ(breaker_figures(&b).state, BREAKER_HALF_OPEN);
    CHECK(!breaker_pass(&b, &other, 2000));
    CHECK(!breaker_probed(&b, &other, false, 0, 2000)); /* not the probe */
    CHECK(breaker_probed(&b, &me, false, 0, 2000));
    CHECK(breaker_is_closed(&b));
}

static void a_recalled_probe_leaves_its_turn_to_the_next(void)
{
    open_at(1000);
    CHECK(breaker_pass(&b, &me, 1050));
    breaker_recall(&b, &other);
    CHECK(!breaker_pass(&b, &other, 1050));
    breaker_recall(&b, &me);
    CHECK(breaker_pass(&b, &other, 1050));
    CHECK(!breaker_probed(&b, &me, false, 0, 1050));
}

static void a_probe_that_is_late_has_failed(void)
{
    open_at(1000);
    CHECK(breaker_pass(&b, &me, 1050));
    CHECK(!breaker_pass(&b, &other, 6049)); /* it may take 5000 */
    CHECK_EQ(breaker_figures(&b).state, BREAKER_HALF_OPEN);
    CHECK(!breaker_pass(&b, &other, 6050)); /* given up: open for twice as long, from then */
    CHECK_EQ(breaker_figures(&b).state, BREAKER_OPEN);
    CHECK_EQ(breaker_figures(&b).opened_by, 3);
    CHECK(!breaker_pass(&b, &other, 6149));
    CHECK(breaker_pass(&b, &other, 6150));
    CHECK(!breaker_probed(&b, &me, false, 0, 6151)); /* the late one is back: nobody listens */
    CHECK(!breaker_is_closed(&b));
    CHECK(!breaker_pass(&b, &me, 11149));
    CHECK(breaker_pass(&b, &me, 20000)); /* nobody asked meanwhile: its time had passed long since */
    CHECK(!breaker_probed(&b, &other, true, 9, 20001));
    CHECK(breaker_probed(&b, &me, false, 0, 20001));
    CHECK(breaker_is_closed(&b));
}

static void each_failed_probe_doubles_the_time_up_to_64(void)
{
    int64_t now = 1000, wait = 50;

    open_at(now);
    for (int i = 0; i < 10; i++) {
        CHECK(!breaker_pass(&b, &me, now + wait - 1));
        CHECK(breaker_pass(&b, &me, now + wait));
        now += wait;
        CHECK(breaker_probed(&b, &me, true, 100 + (uint64_t)i, now));
        CHECK_EQ(breaker_figures(&b).opened_by, 100 + i);
        wait = wait * 2 < 64 * 50 ? wait * 2 : 64 * 50;
    }
    CHECK_EQ(breaker_figures(&b).opened, 1); /* a failed probe is no new trip */
    CHECK(breaker_pass(&b, &me, now + wait));
    CHECK(breaker_probed(&b, &me, false, 0, now));
    for (uint64_t i = 1; i <= 3; i++)
        breaker_count(&b, i, now);
    CHECK(breaker_pass(&b, &me, now + 50)); /* closing reset it */
}

static void closing_forgets_what_was_counted(void)
{
    open_at(1000);
    breaker_count(&b, 9, 1001); /* of those let through before */
    CHECK(breaker_pass(&b, &me, 1050));
    CHECK(breaker_probed(&b, &me, false, 0, 1050));
    breaker_count(&b, 4, 1051);
    breaker_count(&b, 5, 1052);
    CHECK(breaker_is_closed(&b));
    breaker_count(&b, 6, 1053);
    CHECK(!breaker_is_closed(&b));
}

static void without_a_threshold_it_never_opens(void)
{
    memset(&b, 0, sizeof b);
    breaker_init(&b, 0, 100, 50, 5000, NULL);
    for (uint64_t i = 0; i < 100; i++)
        breaker_count(&b, i, 1000);
    CHECK(breaker_is_closed(&b));
}

static void times_without_end_do_not_overflow(void)
{
    memset(&b, 0, sizeof b);
    breaker_init(&b, 1, COIR_NEVER, COIR_NEVER, COIR_NEVER, times);
    breaker_count(&b, 1, 1000);
    CHECK(!breaker_pass(&b, &me, COIR_NEVER - 1));
    CHECK(breaker_pass(&b, &me, COIR_NEVER));
    CHECK(breaker_probed(&b, &me, true, 2, 1000)); /* no probe interval can double */
    CHECK(!breaker_pass(&b, &me, COIR_NEVER - 1));
}

/* Of many who ask, exactly one passes per round. */
#define ROUNDS CHECK_SCALE(20000)
static int passed;

static void *asker(void *arg)
{
    for (int i = 0; i < ROUNDS; i++)
        if (breaker_pass(&b, arg, 2000)) {
            CHECK_EQ(__atomic_add_fetch(&passed, 1, __ATOMIC_RELAXED), 1);
            __atomic_sub_fetch(&passed, 1, __ATOMIC_RELAXED);
            breaker_recall(&b, arg);
        }
    return NULL;
}

static void two_never_probe_together(void)
{
    struct threads t = {0};
    char who[4];

    open_at(1000);
    for (int i = 0; i < 4; i++)
        threads_add(&t, asker, &who[i]);
    threads_join(&t);
    CHECK_EQ(breaker_figures(&b).state, BREAKER_OPEN);
}

CHECK_MAIN(CASE(the_last_failure_of_a_full_window_opens_it), CASE(failures_further_apart_never_open_it),
           CASE(one_probe_at_a_time_and_not_before_its_time),
           CASE(a_recalled_probe_leaves_its_turn_to_the_next),
           CASE(a_probe_that_is_late_has_failed),
           CASE(each_failed_probe_doubles_the_time_up_to_64), CASE(closing_forgets_what_was_counted),
           CASE(without_a_threshold_it_never_opens), CASE(times_without_end_do_not_overflow),
           CASE(two_never_probe_together))
