/* SPDX-License-Identifier: MIT */
/*
 * contain_fixed_test.c - abort() in a program that is linked at a fixed address and takes the address of abort: then
 * that is a stub of the program's, for the library, too.
 */
#include "containable.h"

#include <assert.h>

static void (*volatile taken)(void);
static void (*volatile taken_too)(const char *, const char *, unsigned, const char *);

static CONTAINABLE void call_abort(void *unused)
{
    if (!unused)
        abort();
}

static CONTAINABLE void fail_assert(void *unused)
{
    if (!unused) /* by its name: NDEBUG may be set */
        __assert_fail("unused", "contain_fixed_test.c", 1, "fail_assert");
}

static void abort_is_contained(void)
{
    coir_options o = containing(1);

    taken = abort; /* in code: the linker would fill in data later */
    taken_too = __assert_fail;
    o.faults_also = COIR_FAULT_ABORT;
    register_containable();
    CHECK_EQ(coir_run(&o, call_abort, NULL), COIR_PANICKED);
    CHECK_EQ(coir_run(&o, fail_assert, NULL), COIR_PANICKED);
}

CHECK_MAIN(CASE(abort_is_contained))
