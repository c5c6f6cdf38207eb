/* SPDX-License-Identifier: MIT */
/*
 * supervisor_group_test.c - groups of children that wait for their backoff, and what is asked of their supervisor
 * meanwhile. In experiments (coir_lab_run), whose clock lets nobody come late.
 */
#include "supervisors.h"

#define SEEDS (MANY(20) + 2)
#define BACKOFF (10 * COIR_SEC)

static struct scene {
    struct story story;
    struct kid kid[3];
    coir_child_spec spec[3];
    coir_supervisor *s;
} scene;

static void pass(int64_t ns)
{
    CHECK_EQ(coir_sleep_until(coir_now() + ns), COIR_OK);
}

/* With the first n children. */
static void begin(enum coir_strategy strategy, size_t n)
{
    static const char *const name[] = {"a", "b", "c"};
    coir_supervisor_options o = supervisor_options(strategy, scene.spec, n);

    scene = (struct scene){.story = STORY_INIT};
    for (int i = 0; i < 3; i++) {
        scene.kid[i] = (struct kid){.name = name[i], .story = &scene.story};
        scene.spec[i] = kid_spec(&scene.kid[i]);
    }
    o.backoff_ns = BACKOFF;
    scene.s = supervisor_open(coir_current(), &o, NULL);
}

static void breaks(int kid)
{
    kid_end(&scene.kid[kid], 1);
    pass(COIR_SEC);
    CHECK_EQ(child_info(scene.s, scene.kid[kid].name).state, COIR_CHILD_WAITING);
}

static void is_removed(const char *name)
{
    CHECK_EQ(coir_supervisor_remove(scene.s, child_info(scene.s, name).id), COIR_OK);
}

/* All have come up again by now. */
static void end(const char *story)
{
    CHECK_STR(scene.story.text, story);
    CHECK_EQ(coir_supervisor_close(scene.s, -1, NULL), COIR_OK);
}

static void experiment(coir_fn *fn)
{
    coir_options o = run_options(0);

    o.stacks_max = 256;
    for (uint64_t seed = 0; check_round((long)seed, SEEDS); seed++) {
        coir_lab lab = {.size = sizeof lab, .seed = seed};

        CHECK_EQ(coir_lab_run(&lab, &o, fn, NULL, NULL), COIR_DONE);
    }
}

/* -------------------------------------------------------------------------------------- added */

static void add_to(enum coir_strategy strategy)
{
    begin(strategy, 1);
    breaks(0);
    CHECK_EQ(coir_supervisor_add(scene.s, &scene.spec[1], NULL), COIR_OK);
    CHECK_STR(scene.story.text, "+a +b ");
    pass(BACKOFF);
    end("+a +b -b +a +b ");
}

static void adds(void *unused)
{
    (void)unused;
    add_to(COIR_ONE_FOR_ALL);
    add_to(COIR_REST_FOR_ONE);
}

static void one_that_is_added_is_started_anew_with_its_group(void)
{
    experiment(adds);
}

static void adds_one_that_breaks(void *unused)
{
    (void)unused;
    begin(COIR_REST_FOR_ONE, 1);
    breaks(0);
    CHECK_EQ(coir_supervisor_add(scene.s, &scene.spec[1], NULL), COIR_OK);
    breaks(1);
    pass(2 * BACKOFF);
    CHECK_EQ(child_info(scene.s, "b").starts, 2);
    end("+a +b +a +b ");
}

static void one_that_was_added_and_waits_too_is_started_once(void)
{
    experiment(adds_one_that_breaks);
}

/* ------------------------------------------------------------------------------------ removed */

static void removes_the_one_that_broke(void *unused)
{
    (void)unused;
    begin(COIR_ONE_FOR_ALL, 3);
    breaks(1);
    is_removed("b");
    pass(BACKOFF - 2 * COIR_SEC);
    CHECK_STR(scene.story.text, "+a +b +c -c -a "); /* the backoff is still theirs */
    pass(2 * COIR_SEC);
    CHECK_EQ(child_info(scene.s, "top").restarts, 1);
    end("+a +b +c -c -a +a +c ");
    begin(COIR_REST_FOR_ONE, 3);
    breaks(1);
    is_removed("b");
    pass(BACKOFF);
    end("+a +b +c -c +c ");
    begin(COIR_REST_FOR_ONE, 2);
    breaks(1);
    is_removed("b"); /* none has waited with it */
    pass(BACKOFF);
    end("+a +b ");
}

static void the_others_start_without_the_one_that_broke_and_is_removed(void)
{
    experiment(removes_the_one_that_broke);
}

static void removes_one_that_does_not_start(void *unused)
{
    (void)unused;
    begin(COIR_ONE_FOR_ALL, 3);
    scene.kid[1].fails = 1;
    breaks(0);
    pass(BACKOFF);
    CHECK_EQ(child_info(scene.s, "b").state, COIR_CHILD_WAITING);
    CHECK_STR(scene.story.text, "+a +b +c -c -b +a ");
    is_removed("b");
    pass(BACKOFF);
    CHECK_EQ(child_info(scene.s, "top").restarts, 2); /* the start had failed */
    end("+a +b +c -c -b +a -a +a +c ");
}

static void the_others_start_without_one_that_does_not_start_and_is_removed(void)
{
    experiment(removes_one_that_does_not_start);
}

CHECK_MAIN(CASE(one_that_is_added_is_started_anew_with_its_group),
           CASE(one_that_was_added_and_waits_too_is_started_once),
           CASE(the_others_start_without_the_one_that_broke_and_is_removed),
           CASE(the_others_start_without_one_that_does_not_start_and_is_removed))
