/* SPDX-License-Identifier: MIT */
/*
 * supervisor_test.c - supervisors: what is started when, restarts, giving up, trees, children added and removed,
 * what is shown. Options: supervisor_spec_test.c. Stops and closes: supervisor_stop_test.c. Who dies when as in OTP: otp_test.py.
 */
#include "supervisors.h"

#include <pthread.h>
#include <stdbool.h>

/* -------------------------------------------------------------------------------------- starts */

#define THREE(of)                                                                               \
    {{.name = "a", .story = (of)}, {.name = "b", .story = (of)}, {.name = "c", .story = (of)}}

static void specs_of(struct kid *kids, coir_child_spec *c, int n)
{
    for (int i = 0; i < n; i++)
        c[i] = kid_spec(&kids[i]);
}

static void children_start_in_order_and_stop_in_reverse(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec c[3];

    specs_of(kids, c, 3);
    CHECK_EQ(opens_with_child(rt, COIR_ONE_FOR_ONE, c, 3), COIR_OK);
    CHECK_STR(story.text, "+a +b +c -c -b -a ");
    CHECK_EQ(kids[0].stopping, 1);
    run_close(rt);
}

static void a_child_that_panics_in_its_start_stops_those_before(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 3);
    coir_supervisor *s;
    coir_failure f;

    specs_of(kids, c, 3);
    kids[2].fails = 1;
    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, &end, &s), COIR_ECHILD);
    CHECK(s == NULL);
    CHECK_STR(story.text, "+a +b -b -a ");
    CHECK_EQ(coir_wait(&end), COIR_FAILED);
    CHECK_EQ(coir_counter_failure(&end, &f), COIR_OK);
    CHECK_EQ(f.code, COIR_ECHILD);
    CHECK(strstr(f.message, "child c did not start") != NULL);
    run_close(rt);
}

static void returns_at_once(void *arg)
{
    run_count(arg);
}

static void a_child_that_ends_before_it_is_ready_has_not_started(void)
{
    coir_runtime *rt = run_open(2);
    int n = 0;
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = returns_at_once, .arg = &n, .tells_ready = 1};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, NULL, &s), COIR_ECHILD);
    CHECK_EQ(n, 1);
    run_close(rt);
}

static void a_start_may_take_only_so_long(void)
{
    coir_runtime *rt = run_open(2);
    struct blocked b = {0, 0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = job_block, .arg = &b, .tells_ready = 1,
                         .start_ns = COIR_MS};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;

    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, NULL, &s), COIR_ECHILD);
    CHECK(!b.started || b.status == COIR_ECANCELED);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ restarts */

static void a_child_that_breaks_is_started_again_and_siblings_go_on(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 3);
    coir_supervisor *s;
    coir_child_info info;

    specs_of(kids, c, 3);
    s = supervisor_open(rt, &o, NULL);
    kid_end(&kids[1], 1);
    kid_await(&kids[1], 2);
    await_state(s, "b", COIR_CHILD_RUNNING);
    CHECK_STR(story.text, "+a +b +c +b ");
    info = child_info(s, "b");
    CHECK_EQ(info.starts, 2);
    CHECK_EQ(info.failures, 1);
    CHECK_EQ(info.last.outcome, COIR_PANICKED);
    CHECK_STR(info.last.message, "planned: b");
    CHECK_EQ(child_info(s, "top").restarts, 1);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

static void past_its_intensity_it_stops_all_and_ends_panicked(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 3);
    coir_supervisor *s;
    coir_failure f;
    char text[COIR_TEXT_BYTES];

    specs_of(kids, c, 3);
    o.max_restarts = 1;
    s = supervisor_open(rt, &o, &end);
    kid_end(&kids[1], 1);
    kid_await(&kids[1], 2);
    kid_end(&kids[1], 1);
    CHECK_EQ(coir_wait(&end), COIR_PANICKED);
    CHECK_STR(story.text, "+a +b +c +b -c -a ");
    CHECK_EQ(coir_counter_failure(&end, &f), COIR_OK);
    CHECK_EQ(coir_failure_text(rt, f.id, text, sizeof text), COIR_OK);
    CHECK_STR(text, "supervisor top: more than 1 restarts in 100 s; child b: planned: b");
    CHECK_EQ(coir_supervisor_add(s, &c[0], NULL), COIR_ESHUTDOWN);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* Its own child blocks; each start looks whether that of the one before is still there. */
struct family {
    struct blocked below;
    int alive, starts, worst; /* worst: grandchildren alive when a start began */
    coir_event go;
};

static void grandchild(void *arg)
{
    struct family *f = arg;

    __atomic_add_fetch(&f->alive, 1, __ATOMIC_SEQ_CST);
    job_block(&f->below);
    __atomic_sub_fetch(&f->alive, 1, __ATOMIC_SEQ_CST);
}

static void parent(void *arg)
{
    struct family *f = arg;
    int alive = __atomic_load_n(&f->alive, __ATOMIC_SEQ_CST);

    f->worst = alive > f->worst ? alive : f->worst;
    CHECK_EQ(coir_spawn(NULL, grandchild, f), COIR_OK);
    run_until(&f->below.started);
    __atomic_add_fetch(&f->starts, 1, __ATOMIC_RELEASE);
    if (coir_event_wait(&f->go) == COIR_OK) {
        coir_event_reset(&f->go);
        __atomic_store_n(&f->below.started, 0, __ATOMIC_RELEASE);
        coir_panic("planned");
    }
}

static void what_a_child_has_spawned_ends_before_it_is_started_again(void)
{
    coir_runtime *rt = run_open(2);
    struct family f = {0};
    coir_child_spec c = {.size = sizeof c, .name = "a", .fn = parent, .arg = &f};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    for (int i = 1; i <= 5; i++) {
        while (__atomic_load_n(&f.starts, __ATOMIC_ACQUIRE) < i)
            sched_yield();
        coir_event_set(&f.go);
    }
    while (__atomic_load_n(&f.starts, __ATOMIC_ACQUIRE) < 6)
        sched_yield();
    CHECK_EQ(f.worst, 0);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(f.alive, 0);
    run_close(rt);
}

static void a_backoff_delays_one_child_and_no_other(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, c, 3);
    coir_supervisor *s;
    int64_t begin;

    specs_of(kids, c, 3);
    o.backoff_ns = 30 * COIR_MS;
    s = supervisor_open(rt, &o, NULL);
    begin = coir_now();
    kid_end(&kids[0], 1);
    kid_end(&kids[1], 1);
    kid_await(&kids[1], 2);
    kid_await(&kids[0], 2);
    CHECK(coir_now() - begin >= 30 * COIR_MS);
    CHECK_EQ(child_info(s, "c").starts, 1);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* False: the machine was so busy that the retry came before the others were stopped. */
static bool a_retry_is_dropped(int64_t backoff_ns)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ALL, c, 3);
    coir_supervisor *s;
    bool in_time;

    specs_of(kids, c, 3);
    o.backoff_ns = backoff_ns;
    s = supervisor_open(rt, &o, NULL);
    kids[1].fails = 1;
    kid_end(&kids[0], 1);
    kid_await(&kids[0], 2); /* b fails now, and waits to be tried again */
    kid_end(&kids[0], 1);
    kid_await(&kids[0], 3);
    kid_await(&kids[2], 2);
    pthread_mutex_lock(&story.lock);
    in_time = strncmp(story.text, "+a +b +c -c -b +a +a ", 21) == 0;
    pthread_mutex_unlock(&story.lock);
    CHECK_EQ(coir_sleep_until(coir_now() + 3 * backoff_ns), COIR_OK); /* a retry would have been due */
    if (in_time) {
        CHECK_EQ(child_info(s, "b").starts, kids[1].starts + 1);
        CHECK_EQ(child_info(s, "top").restarts, child_info(s, "a").starts - 1);
    }
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
    return in_time;
}

static void a_retry_that_waits_is_dropped_when_its_group_is_started_for_another(void)
{
    for (int64_t ns = 20 * COIR_MS; !a_retry_is_dropped(ns); ns *= 2)
        ;
}

/* --------------------------------------------------------------------------------------- trees */

static void a_supervisor_that_gives_up_is_a_child_that_panicked(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec low[2] = {kid_spec(&kids[1]), kid_spec(&kids[2])}, high[2] = {kid_spec(&kids[0])};
    coir_supervisor_options below = supervisor_options(COIR_REST_FOR_ONE, low, 2);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, high, 2);
    coir_supervisor *s;
    coir_failure f;

    below.name = "below";
    below.max_restarts = COIR_RESTARTS_NONE;
    o.max_restarts = 1;
    high[1] = (coir_child_spec){.size = sizeof high[1], .name = "sub", .supervisor = &below};
    s = supervisor_open(rt, &o, &end);
    CHECK_EQ(child_info(s, "sub").children, 2);
    CHECK_EQ(child_info(s, "c").depth, 2);
    kid_end(&kids[1], 1);
    kid_await(&kids[2], 2);
    await_state(s, "sub", COIR_CHILD_RUNNING);
    CHECK_STR(story.text, "+a +b +c -c +b +c ");
    CHECK(strstr(child_info(s, "sub").last.message, "supervisor below: more than 0 restarts") != NULL);
    kid_end(&kids[2], 1);
    CHECK_EQ(coir_wait(&end), COIR_PANICKED);
    CHECK_STR(story.text, "+a +b +c -c +b +c -b -a ");
    CHECK_EQ(coir_counter_failure(&end, &f), COIR_OK);
    CHECK(strstr(f.message, "supervisor top: more than 1 restarts") != NULL);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

static void a_tree_below_that_does_not_start_is_a_child_that_did_not(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec low[2] = {kid_spec(&kids[1]), kid_spec(&kids[2])}, high[2] = {kid_spec(&kids[0])};
    coir_supervisor_options below = supervisor_options(COIR_ONE_FOR_ALL, low, 2);

    high[1] = (coir_child_spec){.size = sizeof high[1], .name = "sub", .supervisor = &below};
    kids[2].fails = 1;
    CHECK_EQ(opens_with_child(rt, COIR_ONE_FOR_ONE, high, 1), COIR_OK);
    story.text[0] = '\0';
    {
        coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, high, 2);
        coir_supervisor *s;

        CHECK_EQ(coir_supervisor_open(rt, NULL, &o, NULL, &s), COIR_ECHILD);
    }
    CHECK_STR(story.text, "+a +b -b -a ");
    run_close(rt);
}

/* --------------------------------------------------------------------------- added and removed */

static void children_are_added_and_removed_while_it_runs(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec c[3];
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ALL, c, 1);
    coir_supervisor *s;
    uint64_t b = 0, again = 0;

    specs_of(kids, c, 3);
    s = supervisor_open(rt, &o, NULL);
    CHECK_EQ(coir_supervisor_add(s, &c[1], &b), COIR_OK);
    CHECK_EQ(coir_supervisor_add(s, &c[1], &again), COIR_EBUSY);
    CHECK_EQ(coir_supervisor_add(s, NULL, &again), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_add(NULL, &c[2], &again), COIR_EINVAL);
    kids[2].fails = 1;
    CHECK_EQ(coir_supervisor_add(s, &c[2], &again), COIR_ECHILD);
    CHECK_EQ(child_info(s, "c").id, 0);
    CHECK_EQ(coir_supervisor_add(s, &c[2], &again), COIR_OK);
    CHECK_EQ(coir_supervisor_remove(s, b), COIR_OK);
    CHECK_EQ(coir_supervisor_remove(s, b), COIR_ENOENT);
    CHECK_EQ(coir_supervisor_remove(s, 0), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_remove(NULL, b), COIR_EINVAL);
    CHECK_STR(story.text, "+a +b +c -b ");
    kid_end(&kids[2], 1);
    kid_await(&kids[2], 2);
    CHECK_STR(story.text, "+a +b +c -b -a +a +c ");
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* A child that asks its own supervisor for things. */
struct asker {
    int before_ready, after_ready, own, other, close, stop;
    uint64_t id;
    struct kid *kid;
    int done;
};

static void asks(void *arg)
{
    struct asker *a = arg;
    coir_supervisor *s = coir_supervisor_current();
    coir_child_spec c = kid_spec(a->kid);
    uint64_t id;

    a->before_ready = coir_supervisor_add(s, &c, NULL);
    coir_child_ready();
    a->after_ready = coir_supervisor_add(s, &c, &id);
    a->other = coir_supervisor_remove(s, id);
    a->own = coir_supervisor_remove(s, child_info(s, "asker").id);
    a->close = coir_supervisor_close(s, 0, NULL);
    a->stop = coir_supervisor_stop(s);
    run_set(&a->done);
}

static void a_child_may_ask_for_what_does_not_wait_for_itself(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k = {.name = "kid", .story = &story};
    struct asker a = {.kid = &k};
    coir_counter end = COIR_COUNTER_INIT;
    coir_child_spec c = {.size = sizeof c, .name = "asker", .fn = asks, .arg = &a, .tells_ready = 1};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s = supervisor_open(rt, &o, &end);

    CHECK_EQ(coir_wait(&end), COIR_DONE); /* it stopped its own */
    CHECK(a.done);
    CHECK_EQ(a.before_ready, COIR_EDEADLK);
    CHECK_EQ(a.after_ready, COIR_OK);
    CHECK_EQ(a.other, COIR_OK);
    CHECK_EQ(a.own, COIR_EDEADLK);
    CHECK_EQ(a.close, COIR_EDEADLK);
    CHECK_EQ(a.stop, COIR_OK);
    CHECK(coir_supervisor_current() == NULL);
    CHECK_EQ(coir_child_ready(), COIR_EPERM);
    CHECK_EQ(coir_child_stopping(), 0);
    CHECK_EQ(coir_child_stop_wait(), COIR_EPERM);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

#define DYNAMIC 300

static void a_dynamic_one_holds_many_and_forgets_those_that_end(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    static struct kid kids[DYNAMIC];
    coir_supervisor_options o = supervisor_options(COIR_DYNAMIC, NULL, 0);
    coir_supervisor *s = supervisor_open(rt, &o, NULL);

    memset(kids, 0, sizeof kids);
    for (int i = 0; i < DYNAMIC; i++) {
        coir_child_spec c;

        kids[i] = (struct kid){.name = "kid", .story = &story};
        c = kid_spec(&kids[i]);
        c.restart = COIR_TRANSIENT;
        CHECK_EQ(coir_supervisor_add(s, &c, NULL), COIR_OK);
    }
    CHECK_EQ(child_info(s, "top").children, DYNAMIC);
    for (int i = 0; i < DYNAMIC; i += 2)
        kid_end(&kids[i], 0);
    while (child_info(s, "top").children > DYNAMIC / 2)
        sched_yield();
    kid_end(&kids[1], 1);
    kid_await(&kids[1], 2);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* --------------------------------------------------------------------------------------- shown */

struct page {
    int lines;
    char text[4096];
};

static void keep_line(void *arg, const char *text)
{
    struct page *p = arg;
    size_t used = strlen(p->text);

    p->lines++;
    snprintf(p->text + used, sizeof p->text - used, "%s\n", text);
}

static void the_tree_is_printed_with_what_failed_last(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid kids[3] = THREE(&story);
    coir_child_spec high[3] = {kid_spec(&kids[0]), {0}, kid_spec(&kids[2])};
    coir_supervisor_options below = supervisor_options(COIR_DYNAMIC, NULL, 0);
    coir_supervisor_options o = supervisor_options(COIR_REST_FOR_ONE, high, 3);
    coir_supervisor *s;
    struct page page = {0};

    high[1] = (coir_child_spec){.size = sizeof high[1], .name = "sub", .supervisor = &below};
    high[2].restart = COIR_TRANSIENT;
    s = supervisor_open(rt, &o, NULL);
    kid_end(&kids[2], 1);
    kid_await(&kids[2], 2);
    kid_end(&kids[2], 0);
    await_state(s, "c", COIR_CHILD_ENDED);
    CHECK_EQ(coir_supervisor_print(s, keep_line, &page), COIR_OK);
    CHECK_EQ(page.lines, 4);
    CHECK(strstr(page.text, "top rest_for_one, 3 children, 1 restarts made, running for ") == page.text);
    CHECK(strstr(page.text, "\n  a #1 permanent running for ") != NULL);
    CHECK(strstr(page.text, "\n  sub #2 permanent dynamic, 0 children, 0 restarts made, running for ") != NULL);
    CHECK(strstr(page.text, "\n  c #3 transient ended for ") != NULL);
    CHECK(strstr(page.text, "started 2 times, failed 1; last: COIR_PANICKED: planned: c (failure ") != NULL);
    CHECK_EQ(coir_supervisor_print(s, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_visit(s, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_visit(NULL, find_visit, NULL), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(children_start_in_order_and_stop_in_reverse),
           CASE(a_child_that_panics_in_its_start_stops_those_before),
           CASE(a_child_that_ends_before_it_is_ready_has_not_started), CASE(a_start_may_take_only_so_long),
           CASE(a_child_that_breaks_is_started_again_and_siblings_go_on),
           CASE(past_its_intensity_it_stops_all_and_ends_panicked),
           CASE(what_a_child_has_spawned_ends_before_it_is_started_again),
           CASE(a_backoff_delays_one_child_and_no_other),
           CASE(a_retry_that_waits_is_dropped_when_its_group_is_started_for_another),
           CASE(a_supervisor_that_gives_up_is_a_child_that_panicked),
           CASE(a_tree_below_that_does_not_start_is_a_child_that_did_not),
           CASE(children_are_added_and_removed_while_it_runs),
           CASE(a_child_may_ask_for_what_does_not_wait_for_itself),
           CASE(a_dynamic_one_holds_many_and_forgets_those_that_end),
           CASE(the_tree_is_printed_with_what_failed_last))
