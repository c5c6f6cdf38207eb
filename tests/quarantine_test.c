/* SPDX-License-Identifier: MIT */
/*
 * quarantine_test.c - core/quarantine.c: strikes, expiry and probes; what survives kill -9.
 */
#include "quarantines.h"

/* ------------------------------------------------------------------------------------ states */

static void the_third_panic_quarantines_with_its_record(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    CHECK(!settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(!settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.quarantined, 0);
    CHECK(settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.quarantined, 1);
    CHECK_EQ(e.strikes, 3);
    CHECK_EQ(e.line, 42);
    CHECK_EQ(e.kind, COIR_KIND_PANIC);
    CHECK_EQ(e.until, now + HOUR);
    CHECK_EQ(e.last, now);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_REFUSED);
    CHECK_EQ(attempt(q, 6, COIR_DONE), ADMIT_PASS);
    CHECK_EQ(quarantine_admit(q, TYPE + 1, 5, now), ADMIT_PASS);
    close_it(q);
}

static void success_forgets_and_errors_do_not_count(void)
{
    coir_quarantine *q = open_at(NULL);

    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_DONE);
    for (int i = 0; i < 10; i++)
        attempt(q, 5, COIR_FAILED);
    CHECK_EQ(stats(q).used, 0);
    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_FAILED);
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(stats(q).quarantined, 0);
    now += HOUR + 1; /* too far apart: the next is the first */
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(stats(q).quarantined, 0);
    close_it(q);
}

static void one_probe_when_the_expiry_has_passed(void)
{
    coir_quarantine *q = open_at(NULL);

    shut_away(q, 5);
    now += HOUR - 1;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    now += 1;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    CHECK(!settle(q, 5, ADMIT_PROBE, COIR_DONE));
    CHECK_EQ(stats(q).used, 0);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_PASS);
    close_it(q);
}

static void each_failed_probe_doubles_the_expiry_to_64_times(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    shut_away(q, 5);
    for (int i = 1; i < 10; i++) {
        CHECK(lookup(q, 5, &e));
        now = e.until;
        CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
        CHECK(settle(q, 5, ADMIT_PROBE, COIR_PANICKED));
        CHECK(lookup(q, 5, &e));
        CHECK_EQ(e.until - now, HOUR << (i < 6 ? i : 6));
    }
    now = e.until;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK(settle(q, 5, ADMIT_PROBE, COIR_FAILED)); /* proves nothing */
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.until - now, HOUR << 6);
    now -= 1000 * HOUR; /* the clock is set back: nobody is locked up for longer than was meant */
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    close_it(q);
}

static void a_sibling_of_the_probe_does_not_speak_for_it(void)
{
    coir_quarantine *q = open_at(NULL);
    enum admission early = quarantine_admit(q, TYPE, 5, now);

    shut_away(q, 5);
    CHECK(settle(q, 5, early, COIR_DONE)); /* began before: no proof */
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    close_it(q);
}

static void a_full_table_gives_away_what_is_idle_longest_and_never_a_quarantine(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    for (uint64_t key = 0; key < 8; key++)
        shut_away(q, key);
    for (uint64_t key = 8; key < 100; key++, now++)
        CHECK_EQ(attempt(q, key, COIR_PANICKED), ADMIT_PASS);
    CHECK_EQ(stats(q).quarantined, 8);
    CHECK_EQ(stats(q).crowded, 0);
    CHECK(lookup(q, 99, &e) && lookup(q, 92, &e) && !lookup(q, 91, &e));
    for (uint64_t key = 200; key < 208; key++)
        CHECK_EQ(quarantine_admit(q, TYPE, key, now), ADMIT_PASS);
    CHECK_EQ(attempt(q, 300, COIR_DONE), ADMIT_PASS); /* all in use: handled, not noted */
    CHECK_EQ(stats(q).crowded, 1);
    now += 2 * HOUR; /* those who may be probed make room, too */
    CHECK_EQ(attempt(q, 300, COIR_DONE), ADMIT_PASS);
    CHECK_EQ(stats(q).crowded, 1);
    close_it(q);
}

static void release_forgets(void)
{
    coir_quarantine *q = open_at(NULL);
    const uint64_t type = coir_quarantine_type("mail");
    coir_quarantined e;

    for (int i = 0; i < 3; i++)
        quarantine_settle(q, type, 9, quarantine_admit(q, type, 9, now), COIR_PANICKED, &panic, now);
    CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_REFUSED);
    CHECK_EQ(coir_quarantine_release(q, "post", 9), COIR_ENOENT);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_OK);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_ENOENT);
    CHECK_EQ(coir_quarantine_release(q, NULL, 9), COIR_EINVAL);
    CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_PASS);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_OK); /* while it is being tried */
    quarantine_settle(q, type, 9, ADMIT_PASS, COIR_DONE, NULL, now);
    CHECK(!lookup(q, 9, &e));
    CHECK_EQ(stats(q).used, 0);
    close_it(q);
}

static void a_probe_that_is_released_meanwhile_is_an_attempt_like_others(void)
{
    static const int outcome[] = {COIR_DONE, COIR_FAILED, COIR_PANICKED};
    coir_quarantine *q = open_at(NULL);
    const uint64_t type = coir_quarantine_type("mail");

    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++)
            quarantine_settle(q, type, 9, quarantine_admit(q, type, 9, now), COIR_PANICKED, &panic, now);
        now += 2 * HOUR;
        CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_PROBE);
        CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_OK);
        CHECK(!quarantine_settle(q, type, 9, ADMIT_PROBE, outcome[i], &panic, now));
        CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_PASS);
        CHECK(!quarantine_settle(q, type, 9, ADMIT_PASS, COIR_DONE, NULL, now));
    }
    CHECK_EQ(stats(q).used, 0);
    close_it(q);
}

/* -------------------------------------------------------------------------------------- file */

static void what_was_written_is_there_again(void)
{
    coir_quarantine *q;
    coir_quarantined e;

    fresh_path();
    unlink(path);
    q = open_at(path);
    shut_away(q, 5);
    attempt(q, 6, COIR_PANICKED);
    close_it(q);
    CHECK_EQ(try_open(path, 4096, &q), COIR_OK); /* it keeps its size */
    CHECK_EQ(stats(q).slots, 16);
    CHECK_EQ(stats(q).torn + stats(q).crashes, 0);
    CHECK(lookup(q, 5, &e) && e.quarantined && e.strikes == 3);
    CHECK(lookup(q, 6, &e) && !e.quarantined && e.strikes == 1);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_REFUSED);
    close_it(q);
    unlink(path);
}

static void die_over(void *key)
{
    coir_quarantine *q = open_at(path);

    quarantine_admit(q, TYPE, *(uint64_t *)key, quarantine_now());
    quarantine_admit(q, TYPE, 1000 + (uint64_t)getpid(), quarantine_now()); /* an innocent beside it */
    kill(getpid(), SIGKILL);
}

static void an_input_that_kills_the_process_is_quarantined(void)
{
    uint64_t key = 5;
    coir_quarantine *q;
    coir_quarantined e;
    struct child c;

    fresh_path();
    now = quarantine_now();
    for (int i = 0; i < 3; i++)
        child_run(&c, die_over, &key);
    CHECK(WIFSIGNALED(c.status));
    q = open_at(path);
    CHECK_EQ(stats(q).crashes, 2);
    CHECK_EQ(stats(q).quarantined, 1);
    CHECK(lookup(q, 5, &e));
    CHECK(e.quarantined && e.strikes == 3 && e.kind == COIR_KIND_FAULT);
    close_it(q);
    now += 3 * HOUR; /* and the same for a probe */
    q = open_at(path);
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    q = open_at(path);
    CHECK(lookup(q, 5, &e) && e.quarantined && e.strikes == 4);
    close_it(q);
    unlink(path);
}

/* Each key's strikes that a call has acknowledged; shared with the child. */
struct progress {
    uint32_t strikes[8];
    int begun;
};

static void strike_for_ever(struct progress *p)
{
    coir_quarantine *q = open_at(path);

    run_set(&p->begun);
    for (unsigned i = 0;; i++) {
        attempt(q, i % 8, COIR_PANICKED);
        __atomic_add_fetch(&p->strikes[i % 8], 1, __ATOMIC_RELEASE);
    }
}

/* All that was acknowledged is there, but for one slot that may be torn. Starts the next round alike. */
static void compare(coir_quarantine *q, struct progress *p)
{
    unsigned lost = 0;
    coir_quarantined e;

    for (uint64_t key = 0; key < 8; key++) {
        bool is_there = lookup(q, key, &e);

        if (!is_there && p->strikes[key])
            lost++;
        else if (is_there)
            CHECK(e.strikes >= p->strikes[key] && e.strikes <= p->strikes[key] + 2);
        p->strikes[key] = e.strikes;
    }
    CHECK(stats(q).torn <= 1);
    CHECK(lost <= stats(q).torn);
}

static void kill_once(struct progress *p, unsigned spin, uint64_t *torn)
{
    coir_quarantine *q;
    pid_t pid;

    p->begun = 0;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        strike_for_ever(p);
    run_until(&p->begun);
    for (volatile unsigned i = 0; i < spin; i++)
        ;
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    q = open_at(path);
    *torn += stats(q).torn;
    compare(q, p);
    close_it(q);
}

static void kill_often(unsigned first)
{
    struct progress *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t torn = 0;
    unsigned kills = 0;

    fresh_path();
    now = quarantine_now();
    strikes_max = UINT32_MAX; /* none is ever refused */
    for (; check_round(kills, MANY(1000)); kills++)
        kill_once(p, (first + kills) * 7919 % 5003, &torn);
    strikes_max = 0;
    fprintf(stderr, "%u kills tore %llu slots\n", kills, (unsigned long long)torn);
    munmap(p, sizeof *p);
    unlink(path);
}

/* Two cases, for each has its time. */
static void kill_minus_nine_loses_one_slot_at_most(void)
{
    kill_often(0);
}

static void and_does_so_at_other_points(void)
{
    kill_often(1000);
}

CHECK_MAIN(CASE(the_third_panic_quarantines_with_its_record),
           CASE(success_forgets_and_errors_do_not_count),
           CASE(one_probe_when_the_expiry_has_passed),
           CASE(each_failed_probe_doubles_the_expiry_to_64_times),
           CASE(a_sibling_of_the_probe_does_not_speak_for_it),
           CASE(a_full_table_gives_away_what_is_idle_longest_and_never_a_quarantine),
           CASE(release_forgets),
           CASE(a_probe_that_is_released_meanwhile_is_an_attempt_like_others), CASE(what_was_written_is_there_again),
           CASE(an_input_that_kills_the_process_is_quarantined),
           CASE(kill_minus_nine_loses_one_slot_at_most), CASE(and_does_so_at_other_points))
