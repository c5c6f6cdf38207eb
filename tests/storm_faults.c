/* SPDX-License-Identifier: MIT */
/*
 * storm_faults.c - jobs of the storm that a contained fault ends.
 *
 * All code between the fault and the boundary is containable, so what they call must have returned.
 */
#include "containable.h"
#include "storm.h"

void storm_register(void)
{
    register_containable();
}

/* Everything but the fault itself. */
static struct storm_job *begins(void *job)
{
    struct storm_job *j = storm_begin(job);

    storm_raises(j);
    return j;
}

CONTAINABLE void storm_overflows(void *job)
{
    begins(job);
    overflow(NULL);
}

static void owed(void *cell)
{
    storm_began(COIR_DONE);
    coir_yield();
    *(int *)cell = 2;
}

/* Handlers and children may use frames that are skipped. */
static void looks(void *cell)
{
    CHECK(*(int *)cell == 1 || *(int *)cell == 2);
    storm_paid(NULL);
}

static void prepare(coir_counter *c, int *cell)
{
    storm_owes(1);
    CHECK_EQ(coir_defer(looks, cell), COIR_OK);
    storm_spawn(c, owed, cell);
}

CONTAINABLE void storm_overflow_owner(void *job)
{
    coir_counter c = COIR_COUNTER_INIT;
    int cell = 1;

    begins(job);
    prepare(&c, &cell);
    overflow(NULL);
}

CONTAINABLE void storm_wild(void *job)
{
    begins(job);
    *(volatile int *)(uintptr_t)4096 = 1;
}

CONTAINABLE void storm_aborts(void *job)
{
    if (begins(job))
        abort();
}
