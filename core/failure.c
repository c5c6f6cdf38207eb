/* SPDX-License-Identifier: MIT */
/*
 * failure.c - what a runtime remembers of its failures, for those who ask later.
 */
#include <stdio.h>

#include "job.h"

int coir_failure_find(coir_runtime *rt, uint64_t id, coir_failure *failure)
{
    struct record r;

    if (!rt || !failure)
        return COIR_EINVAL;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    *failure = r.failure;
    return COIR_OK;
}

int coir_failure_next(coir_runtime *rt, uint64_t *cursor, coir_failure *failure)
{
    struct record r;

    if (!rt || !cursor || !failure)
        return COIR_EINVAL;
    if (!records_next(&rt->records, cursor, &r))
        return COIR_ENOENT;
    *failure = r.failure;
    return COIR_OK;
}

int coir_failure_text(coir_runtime *rt, uint64_t id, char *text, size_t bytes)
{
    struct record r;

    if (!rt || !text || !bytes)
        return COIR_EINVAL;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    snprintf(text, bytes, "%s", r.text);
    return COIR_OK;
}
