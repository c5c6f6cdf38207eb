/* SPDX-License-Identifier: MIT */
/*
 * local.c - values that a job keeps for itself, under keys, until it ends.
 *
 * They hang on the job's record, so they follow it from worker to worker, and a child in place on its
 * stack has its own. A list: jobs have few of them, and most have none and pay one compare.
 */
#include "local.h"

#include "boundary.h"

struct local {
    struct local *next;
    const coir_local *key;
    void *value;
};

/* The job that keeps them, or NULL: not on a fiber, or outside of any job. */
static struct job *keeper(void)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;

    return j ? job_proper(j) : NULL;
}

static struct local *find(struct job *j, const coir_local *key)
{
    struct local *l = j->keeps ? j->locals : NULL;

    while (l && l->key != key)
        l = l->next;
    return l;
}

/* After the deferred handlers, which may still use them. A destructor may set others. */
int local_end_all(struct job *j, int outcome)
{
    struct local *l;

    while ((l = j->locals)) {
        coir_fn *destroy = l->key->destroy;
        void *value = l->value;
        coir_failure f;
        int ended;

        j->locals = l->next;
        mem_free(&runtime_here()->host, l);
        ended = value && destroy ? job_try_deferred(destroy, value, &f) : COIR_DONE;
        if (ended > outcome) { /* the first of the worst */
            job_wreck(j)->failure = f;
            outcome = ended;
        }
    }
    return outcome;
}

void *coir_local_get(const coir_local *key)
{
    struct job *j = keeper();
    struct local *l = j ? find(j, key) : NULL;

    return l ? l->value : NULL;
}

int coir_local_set(const coir_local *key, void *value)
{
    struct job *j = keeper();
    struct local *l;

    if (!key)
        return COIR_EINVAL;
    if (!j)
        return status_outside();
    l = find(j, key);
    if (!l && !value)
        return COIR_OK;
    if (!l) {
        l = mem_alloc(&runtime_here()->host, sizeof *l);
        if (!l)
            return COIR_ENOMEM;
        l->key = key;
        job_keep(j);
        l->next = j->locals;
        j->locals = l;
    }
    l->value = value;
    return COIR_OK;
}
