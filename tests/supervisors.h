/* SPDX-License-Identifier: MIT */
/*
 * supervisors.h - what tests of supervisors share: children that note what happens to them, options, looks.
 */
#ifndef COIR_TEST_SUPERVISORS_H
#define COIR_TEST_SUPERVISORS_H

#include "domains.h"

#include <pthread.h>

/* What happened, in order: +name when one starts, -name when it is stopped. */
struct story {
    pthread_mutex_t lock;
    char text[2048];
};

static inline void tell(struct story *s, const char *what, const char *name)
{
    size_t used;

    pthread_mutex_lock(&s->lock);
    used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s%s ", what, name);
    pthread_mutex_unlock(&s->lock);
}

#define STORY_INIT {PTHREAD_MUTEX_INITIALIZER, ""}

/* A child: runs until it is told to break or to end, or is stopped. */
struct kid {
    const char *name;
    struct story *story;
    coir_event go;
    int crash;    /* what go means */
    int fails;    /* starts that panic */
    int starts;   /* that did not; atomic */
    int stopping; /* coir_child_stopping when it was stopped */
};

static inline void kid_main(void *arg)
{
    struct kid *k = (struct kid *)arg;

    if (k->fails > 0) {
        k->fails--;
        coir_panic("planned: %s does not start", k->name);
    }
    tell(k->story, "+", k->name);
    coir_child_ready();
    __atomic_add_fetch(&k->starts, 1, __ATOMIC_RELEASE);
    if (coir_event_wait(&k->go) != COIR_OK) {
        k->stopping = coir_child_stopping();
        tell(k->story, "-", k->name);
        return;
    }
    coir_event_reset(&k->go);
    if (k->crash)
        coir_panic("planned: %s", k->name);
}

static inline coir_child_spec kid_spec(struct kid *k)
{
    coir_child_spec s = {};

    s.size = sizeof s;
    s.name = k->name;
    s.fn = kid_main;
    s.arg = k;
    s.tells_ready = 1;
    return s;
}

static inline void kid_end(struct kid *k, int crash)
{
    k->crash = crash;
    CHECK_EQ(coir_event_set(&k->go), COIR_OK);
}

/* Until it has started n times in all. */
static inline void kid_await(struct kid *k, int n)
{
    while (__atomic_load_n(&k->starts, __ATOMIC_ACQUIRE) < n) {
        coir_yield();
        sched_yield();
    }
}

static inline coir_supervisor_options supervisor_options(enum coir_strategy strategy,
                                                         const coir_child_spec *children, size_t n)
{
    coir_supervisor_options o = {};

    o.size = sizeof o;
    o.name = "top";
    o.strategy = strategy;
    o.max_restarts = 100;
    o.max_seconds = 100;
    o.children = children;
    o.children_count = n;
    return o;
}

static inline coir_supervisor *supervisor_open(coir_runtime *rt, const coir_supervisor_options *o, coir_counter *end)
{
    coir_supervisor *s = NULL;

    CHECK_EQ(coir_supervisor_open(rt, NULL, o, end, &s), COIR_OK);
    if (!s)
        abort(); /* nothing below makes sense */
    return s;
}

/* Opens one, and closes it again: the status of the first. */
static inline int opens_with(coir_runtime *rt, const coir_supervisor_options *o)
{
    coir_supervisor *s = (coir_supervisor *)&s;
    coir_counter end = COIR_COUNTER_INIT;
    int status = coir_supervisor_open(rt, NULL, o, &end, &s);

    if (status == COIR_OK)
        CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    else
        CHECK(s == NULL);
    CHECK_EQ(coir_wait(&end), COIR_DONE); /* nothing is owed, or it was stopped */
    return status;
}

static inline int opens_with_child(coir_runtime *rt, enum coir_strategy strategy, const coir_child_spec *c, size_t n)
{
    coir_supervisor_options o = supervisor_options(strategy, c, n);

    return opens_with(rt, &o);
}

/* What is shown of the child with this name; all zero: there is none. */
struct find {
    const char *name;
    coir_child_info info;
};

static inline void find_visit(void *arg, const coir_child_info *info)
{
    struct find *f = (struct find *)arg;

    if (strcmp(info->name, f->name) == 0)
        f->info = *info;
}

static inline coir_child_info child_info(coir_supervisor *s, const char *name)
{
    struct find f = {};

    f.name = name;
    CHECK_EQ(coir_supervisor_visit(s, find_visit, &f), COIR_OK);
    return f.info;
}

static inline void await_state(coir_supervisor *s, const char *name, int state)
{
    while (child_info(s, name).state != state)
        sched_yield();
}

#endif
