/* SPDX-License-Identifier: MIT */
/*
 * supervisor_spec_test.c - core/supervisor_spec.c: what options and specs are refused, before anything starts; and the
 * longest backoff.
 */
#include "supervisors.h"

static void the_intensity_must_be_stated(void)
{
    coir_runtime *rt = run_open(1);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, NULL, 0);

    CHECK_EQ(opens_with(rt, &o), COIR_OK);
    o.max_restarts = 0;
    CHECK_EQ(opens_with(rt, &o), COIR_ERANGE);
    o.max_restarts = COIR_RESTARTS_NONE;
    CHECK_EQ(opens_with(rt, &o), COIR_OK);
    o.max_restarts = COIR_RESTARTS_NONE + 1;
    CHECK_EQ(opens_with(rt, &o), COIR_ERANGE);
    o = supervisor_options(COIR_ONE_FOR_ONE, NULL, 0);
    o.max_seconds = 0;
    CHECK_EQ(opens_with(rt, &o), COIR_ERANGE);
    o.max_seconds = 1000001;
    CHECK_EQ(opens_with(rt, &o), COIR_ERANGE);
    run_close(rt);
}

static void options_out_of_range_are_refused(void)
{
    coir_runtime *rt = run_open(1);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, NULL, 0), good = o;

#define REFUSED(field, value, why) (o = good, o.field = (value), CHECK_EQ(opens_with(rt, &o), why))
    REFUSED(size, 0, COIR_EINVAL);
    REFUSED(strategy, (enum coir_strategy)4, COIR_ERANGE);
    REFUSED(backoff_ns, -1, COIR_ERANGE);
    REFUSED(backoff_max_ns, -1, COIR_ERANGE);
    REFUSED(backoff_jitter, 101, COIR_ERANGE);
    REFUSED(children_count, 1, COIR_EINVAL);
#undef REFUSED
    o = good;
    o.backoff_ns = 2;
    o.backoff_max_ns = 1;
    CHECK_EQ(opens_with(rt, &o), COIR_ERANGE);
    CHECK_EQ(opens_with(rt, NULL), COIR_EINVAL);
    CHECK_EQ(opens_with(NULL, &good), COIR_EINVAL);
    CHECK_EQ(coir_supervisor_open(rt, NULL, &good, NULL, NULL), COIR_EINVAL);
    run_close(rt);
}

static void bad_children_are_refused_before_any_starts(void)
{
    coir_runtime *rt = run_open(1);
    struct story story = STORY_INIT;
    struct kid a = {.name = "a", .story = &story}, b = {.name = "b", .story = &story};
    coir_child_spec c[2] = {kid_spec(&a), kid_spec(&b)}, good = c[1];
    coir_supervisor_options self = supervisor_options(COIR_ONE_FOR_ONE, c, 2), below = self;

#define REFUSED(field, value, why)                                                                 \
    (c[1] = good, c[1].field = (value), CHECK_EQ(opens_with_child(rt, COIR_ONE_FOR_ONE, c, 2), why))
    REFUSED(size, 4, COIR_EINVAL);
    REFUSED(name, NULL, COIR_EINVAL);
    REFUSED(name, "", COIR_EINVAL);
    REFUSED(name, "a", COIR_EINVAL);
    REFUSED(fn, NULL, COIR_EINVAL);
    REFUSED(supervisor, &below, COIR_EINVAL); /* both */
    REFUSED(restart, (enum coir_restart)3, COIR_ERANGE);
    REFUSED(tells_ready, 2, COIR_ERANGE);
    REFUSED(start_ns, -1, COIR_ERANGE);
    REFUSED(shutdown_ns, -1, COIR_ERANGE);
    REFUSED(cancel_ns, -1, COIR_ERANGE);
#undef REFUSED
    c[1] = good;
    CHECK_EQ(opens_with_child(rt, COIR_DYNAMIC, c, 2), COIR_EINVAL);
    c[1].fn = NULL;
    below.max_seconds = 0; /* wrong far below */
    below.children_count = 0;
    c[1].supervisor = &below;
    CHECK_EQ(opens_with_child(rt, COIR_ONE_FOR_ONE, c, 2), COIR_ERANGE);
    c[1].supervisor = &self; /* a tree without end */
    CHECK_EQ(opens_with(rt, &self), COIR_ERANGE);
    CHECK_STR(story.text, "");
    run_close(rt);
}

static void a_runtime_that_aborts_on_panics_has_no_supervisors(void)
{
    coir_options o = run_options(1);
    coir_supervisor_options so = supervisor_options(COIR_ONE_FOR_ONE, NULL, 0);
    coir_runtime *rt;

    o.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(opens_with(rt, &so), COIR_EPOLICY);
    run_close(rt);
}

static void a_backoff_of_never_starts_nothing_again(void)
{
    coir_runtime *rt = run_open(2);
    struct story story = STORY_INIT;
    struct kid k = {.name = "a", .story = &story};
    coir_child_spec c = kid_spec(&k);
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &c, 1);
    coir_supervisor *s;

    o.backoff_ns = COIR_NEVER;
    s = supervisor_open(rt, &o, NULL);
    kid_end(&k, 1);
    while (!child_info(s, "a").failures || child_info(s, "a").state == COIR_CHILD_ENDED)
        sched_yield();
    until_time(coir_now() + 20 * COIR_MS);
    CHECK_EQ(child_info(s, "a").state, COIR_CHILD_WAITING);
    CHECK_EQ(child_info(s, "a").starts, 1);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(the_intensity_must_be_stated), CASE(options_out_of_range_are_refused),
           CASE(bad_children_are_refused_before_any_starts),
           CASE(a_runtime_that_aborts_on_panics_has_no_supervisors),
           CASE(a_backoff_of_never_starts_nothing_again))
