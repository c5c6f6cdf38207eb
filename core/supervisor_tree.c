/* SPDX-License-Identifier: MIT */
/*
 * supervisor_tree.c - looking at a tree of supervisors: each one copied under the tree's lock, shown without it.
 *
 * A walk must neither hold up restarts for as long as the visitor takes, nor lose its place when the child it
 * stands on goes. So the place is a cursor that hangs on the tree, and who takes a child out of the tree
 * (child_unlink) moves the cursors that stand on it.
 */
#include "supervisor_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "supervised.h"

static void show_supervisor(const struct coir_supervisor *s, coir_child_info *info)
{
    info->strategy = s->strategy;
    info->children = s->count;
    info->restarts = s->restarts;
}

/* Tree locked, as below. */
static void show_top(const struct coir_supervisor *s, coir_child_info *info)
{
    *info = (coir_child_info){.of = s->child ? s->child->owner : NULL, .state = s->state, .since = s->since};
    show_supervisor(s, info);
    snprintf(info->name, sizeof info->name, "%s", s->name);
}

static void show_child(const struct child *c, unsigned depth, coir_child_info *info)
{
    *info = (coir_child_info){
        .id = c->id,
        .of = c->owner,
        .depth = depth,
        .state = c->state,
        .restart = (int)c->spec.restart,
        .strategy = -1,
        .starts = c->starts,
        .failures = c->failures,
        .since = c->since,
        .last = c->last,
    };
    if (c->sub)
        show_supervisor(c->sub, info);
    else if (c->spec.supervisor)
        info->strategy = (int)c->spec.supervisor->strategy; /* it does not run now */
    snprintf(info->name, sizeof info->name, "%s", c->spec.name);
}

/* The next of the walk: into the supervisor that c runs, or past it. */
static void move_on(struct cursor *k, struct child *c)
{
    if (c->sub && c->sub->first) {
        k->at = c->sub->first;
        k->depth++;
    } else {
        k->at = child_after(k->top, c, &k->depth);
    }
}

static bool take_next(struct tree *t, struct cursor *k, coir_child_info *info)
{
    struct child *c;

    lock_take(&t->lock);
    c = k->at;
    if (c) {
        show_child(c, k->depth, info);
        move_on(k, c);
    }
    lock_drop(&t->lock);
    return c;
}

static void begin(struct coir_supervisor *s, struct cursor *k, coir_child_info *info)
{
    struct tree *t = s->tree;

    lock_take(&t->lock);
    show_top(s, info);
    *k = (struct cursor){.next = t->cursors, .top = s, .at = s->first, .depth = 1};
    t->cursors = k;
    lock_drop(&t->lock);
}

/* On every way out of the walk, a panic of the visitor included. */
static void finish(struct cursor *k)
{
    struct tree *t = k->top->tree;
    struct cursor **at = &t->cursors;

    lock_take(&t->lock);
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    lock_drop(&t->lock);
}

static void walk(coir_supervisor *s, void (*visit)(void *arg, const coir_child_info *info), void *arg)
{
    struct cursor k __attribute__((cleanup(finish)));
    coir_child_info info;

    begin(s, &k, &info);
    visit(arg, &info);
    while (take_next(s->tree, &k, &info))
        visit(arg, &info);
}

int coir_supervisor_visit(coir_supervisor *s, void (*visit)(void *arg, const coir_child_info *info), void *arg)
{
    if (!s || !visit)
        return COIR_EINVAL;
    if (runtime_forked(s->rt))
        return COIR_EFORKED;
    walk(s, visit, arg);
    return COIR_OK;
}

/* -------------------------------------------------------------------------------------- print */

struct printer {
    void (*line)(void *arg, const char *text);
    void *arg;
    int64_t now;
};

const char *const child_state_name[] = {"ended", "starting", "running", "waiting", "stopping", "STUCK"};
const char *const strategy_name[] = {"one_for_one", "one_for_all", "rest_for_one", "dynamic"};
const char *const restart_name[] = {"permanent", "transient", "temporary"};

/* Appends; a line that is full stays as it is. */
__attribute__((format(printf, 3, 4))) static void append(char *line, size_t bytes, const char *format, ...)
{
    size_t used = strlen(line);
    va_list args;

    va_start(args, format);
    vsnprintf(line + used, bytes - used, format, args);
    va_end(args);
}

static void print_one(void *arg, const coir_child_info *i)
{
    struct printer *p = arg;
    char line[512] = "";

    append(line, sizeof line, "%*s%s", (int)(2 * i->depth), "", i->name);
    if (i->id)
        append(line, sizeof line, " #%llu %s", (unsigned long long)i->id, restart_name[i->restart]);
    if (i->strategy >= 0)
        append(line, sizeof line, " %s, %u children, %llu restarts made,", strategy_name[i->strategy],
               i->children, (unsigned long long)i->restarts);
    append(line, sizeof line, " %s for %.1f s", child_state_name[i->state], (double)(p->now - i->since) / 1e9);
    if (i->id)
        append(line, sizeof line, "; started %llu times, failed %llu", (unsigned long long)i->starts,
               (unsigned long long)i->failures);
    if (i->last.id)
        append(line, sizeof line, "; last: %s: %s (failure %llu)", coir_status_name(i->last.outcome),
               i->last.message, (unsigned long long)i->last.id);
    p->line(p->arg, line);
}

int coir_supervisor_print(coir_supervisor *s, void (*line)(void *arg, const char *text), void *arg)
{
    struct printer p = {line, arg, coir_now()};

    return line ? coir_supervisor_visit(s, print_one, &p) : COIR_EINVAL;
}
