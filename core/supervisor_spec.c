/* SPDX-License-Identifier: MIT */
/*
 * supervisor_spec.c - options of supervisors and specs of children: checked, and filled in.
 *
 * A tree is checked whole when its root is opened: what is wrong far below is known before anything starts.
 */
#include "supervisor_spec.h"

#include <string.h>

#include "options.h"

#define START_DEFAULT_NS (30 * COIR_SEC)
#define CANCEL_DEFAULT_NS (5 * COIR_SEC)
#define SECONDS_MAX 1000000
#define DEPTH_MAX 64 /* deeper trees lead back to themselves */

const coir_child_spec *spec_child(const coir_supervisor_options *o, size_t i)
{
    return (const void *)((const char *)o->children + i * o->children[0].size);
}

/* --------------------------------------------------------------------------------------- child */

static int check_child(const coir_child_spec *s, int strategy)
{
    bool named = s->name && s->name[0];

    if (!s->fn == !s->supervisor || (!named && strategy != COIR_DYNAMIC))
        return COIR_EINVAL;
    if ((unsigned)s->restart > COIR_TEMPORARY || s->tells_ready > 1 || s->start_ns < 0 ||
        s->shutdown_ns < 0 || s->cancel_ns < 0)
        return COIR_ERANGE;
    return COIR_OK;
}

static void fill_child(coir_child_spec *s)
{
    int64_t its_own = s->supervisor ? COIR_NEVER : 0; /* a supervisor's children have budgets themselves */

    s->name = s->name && s->name[0] ? s->name : "child";
    s->start_ns = s->start_ns ? s->start_ns : its_own ? its_own : START_DEFAULT_NS;
    s->shutdown_ns = s->shutdown_ns ? s->shutdown_ns : its_own;
    s->cancel_ns = s->cancel_ns ? s->cancel_ns : CANCEL_DEFAULT_NS;
}

static int check_supervisor(const coir_supervisor_options *given, coir_supervisor_options *o,
                            unsigned depth);

static int copy_child(const coir_child_spec *given, int strategy, coir_child_spec *spec, unsigned depth)
{
    coir_supervisor_options below;
    int status = options_copy_sized(given, given->size, spec, sizeof *spec);

    if (status == COIR_OK)
        status = check_child(spec, strategy);
    if (status == COIR_OK && spec->supervisor)
        status = check_supervisor(spec->supervisor, &below, depth + 1);
    if (status == COIR_OK)
        fill_child(spec);
    return status;
}

int spec_copy_child(const coir_child_spec *given, int strategy, coir_child_spec *spec)
{
    return given ? copy_child(given, strategy, spec, 0) : COIR_EINVAL;
}

/* ---------------------------------------------------------------------------------- supervisor */

static int check_ranges(const coir_supervisor_options *o)
{
    if ((unsigned)o->strategy > COIR_DYNAMIC || !o->max_restarts || !o->max_seconds ||
        o->max_restarts > COIR_RESTARTS_NONE || o->max_seconds > SECONDS_MAX || o->backoff_ns < 0 ||
        o->backoff_max_ns < 0 || o->backoff_jitter > 100 ||
        (o->backoff_max_ns && o->backoff_max_ns < o->backoff_ns))
        return COIR_ERANGE;
    return COIR_OK;
}

static bool has_name_before(const coir_supervisor_options *o, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(spec_child(o, k)->name, spec_child(o, i)->name) == 0)
            return true;
    return false;
}

static int check_children(const coir_supervisor_options *o, unsigned depth)
{
    coir_child_spec copy;

    if (o->children_count && (!o->children || o->strategy == COIR_DYNAMIC))
        return COIR_EINVAL;
    for (size_t i = 0; i < o->children_count; i++) {
        int status = spec_child(o, i)->size == o->children[0].size
                         ? copy_child(spec_child(o, i), (int)o->strategy, &copy, depth)
                         : COIR_EINVAL;

        if (status == COIR_OK && has_name_before(o, i))
            status = COIR_EINVAL;
        if (status != COIR_OK)
            return status;
    }
    return COIR_OK;
}

static int check_supervisor(const coir_supervisor_options *given, coir_supervisor_options *o,
                            unsigned depth)
{
    int status = options_copy_sized(given, given->size, o, sizeof *o);

    if (status == COIR_OK)
        status = check_ranges(o);
    if (status == COIR_OK && depth > DEPTH_MAX)
        status = COIR_ERANGE;
    if (status == COIR_OK)
        status = check_children(o, depth);
    if (status != COIR_OK)
        return status;
    o->name = o->name ? o->name : "supervisor";
    o->backoff_max_ns = o->backoff_max_ns ? o->backoff_max_ns : o->backoff_ns;
    return COIR_OK;
}

int spec_copy_supervisor(const coir_supervisor_options *given, coir_supervisor_options *o)
{
    return given ? check_supervisor(given, o, 0) : COIR_EINVAL;
}
