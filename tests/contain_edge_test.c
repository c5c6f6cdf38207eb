/* SPDX-License-Identifier: MIT */
/*
 * contain_edge_test.c - faults in rare states of thread and stack: each is contained as any, and the next job finds
 * nothing of it.
 */
#include "child.h"
#include "containable.h"

static void must_hold(int holds)
{
    if (!holds)
        _exit(1);
}

/* Twice, for the first may leave something behind. */
static void contain_twice(coir_fn *fn, int kind)
{
    coir_options o = containing(1);
    coir_runtime *rt;

    o.faults_also = COIR_FAULTS_ALSO_ALL;
    o.log = NULL;
    register_containable();
    must_hold(coir_open(&o, &rt) == COIR_OK);
    for (int i = 0; i < 2; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f;

        must_hold(coir_submit(rt, &c, fn, NULL) == COIR_OK);
        must_hold(coir_wait(&c) == COIR_PANICKED);
        must_hold(coir_counter_failure(&c, &f) == COIR_OK && f.kind == kind);
    }
    must_hold(coir_close(rt, -1, NULL) == COIR_OK);
}

static void signal_at_end(void *unused)
{
    (void)unused;
    signal(SIGPROF, handle_nothing);
    contain_twice(be_signaled_at_end, COIR_KIND_STACK_OVERFLOW);
}

static void a_signal_that_finds_no_room_is_an_overflow(void)
{
    child_ends(signal_at_end, NULL);
}

CHECK_MAIN(CASE(a_signal_that_finds_no_room_is_an_overflow))
