/* SPDX-License-Identifier: MIT */
/*
 * after_frames_test.c - work that waits for a counter in a frame that goes: a panic, also one that ends at a coir_try,
 * and a return drop it; frames further up keep theirs.
 */
#include "run.h"

static int ran; /* jobs */

static void tick(void *unused)
{
    (void)unused;
    run_count(&ran);
}

enum how { GATED_PANICS, GATED_TRIES, GATED_RETURNS };

/* A job whose frames have a gate that only a hand could open, and who learns what has become of the work behind it. */
struct gated {
    coir_counter done;
    enum how how;
};

static void leave_gate(void *arg)
{
    struct gated *g = arg;
    coir_counter here = COIR_COUNTER_INIT;

    coir_counter_add(&here, 1);
    CHECK_EQ(coir_spawn_after(&here, &g->done, tick, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&here, NULL, tick, NULL), COIR_OK);
    if (g->how != GATED_RETURNS)
        coir_panic("over a gate");
}

static void gated_job(void *arg)
{
    struct gated *g = arg;
    coir_failure f;

    if (g->how != GATED_TRIES) {
        leave_gate(g);
        return;
    }
    CHECK_EQ(coir_try(leave_gate, g, &f), COIR_PANICKED);
    CHECK_EQ(coir_wait_until(&g->done, coir_now() + 5000 * COIR_MS), COIR_CANCELED); /* while its job goes on */
}

static void check_gated(enum how how, int outcome, int kind)
{
    struct gated g = {.how = how};
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);
    coir_receipt r;
    coir_failure f;

    ran = 0;
    CHECK_EQ(coir_submit(rt, &c, gated_job, &g), COIR_OK);
    CHECK_EQ(coir_wait(&c), outcome);
    if (outcome == COIR_PANICKED && CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK))
        CHECK_EQ(f.kind, kind);
    if (CHECK_EQ(coir_wait_until(&g.done, coir_now() + 5000 * COIR_MS), COIR_CANCELED))
        CHECK(coir_counter_failure(&g.done, &f) == COIR_OK && f.kind == COIR_KIND_DEPENDENCY);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK); /* looks at what is pending */
    CHECK_EQ(coir_close(rt, 5000 * COIR_MS, &r), COIR_OK);
    CHECK_EQ(r.ended[COIR_CANCELED], 2);
    CHECK_EQ(ran, 0);
}

static void a_panic_drops_what_waits_for_its_frames(void)
{
    check_gated(GATED_PANICS, COIR_PANICKED, COIR_KIND_PANIC);
}

static void so_does_one_that_ends_at_a_try(void)
{
    check_gated(GATED_TRIES, COIR_DONE, 0);
}

static void a_return_under_what_waits_for_its_frames_is_a_panic(void)
{
    check_gated(GATED_RETURNS, COIR_PANICKED, COIR_KIND_OWED);
}

static void wait_for_callers_gate(void *gates)
{
    coir_counter *g = gates;

    CHECK_EQ(coir_spawn_after(&g[0], &g[1], tick, NULL), COIR_OK);
    coir_panic("beside a gate of the caller's");
}

static void try_beside_gate(void *unused)
{
    coir_counter gates[2] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT};

    coir_counter_add(&gates[0], 1);
    CHECK_EQ(coir_try(wait_for_callers_gate, gates, unused), COIR_PANICKED);
    coir_counter_done(&gates[0], COIR_DONE);
    CHECK_EQ(coir_wait(&gates[1]), COIR_DONE);
}

static void what_waits_for_frames_that_stay_is_kept(void)
{
    ran = 0;
    run_on(1, try_beside_gate, NULL);
    CHECK_EQ(ran, 1);
}

CHECK_MAIN(CASE(a_panic_drops_what_waits_for_its_frames), CASE(so_does_one_that_ends_at_a_try),
           CASE(a_return_under_what_waits_for_its_frames_is_a_panic), CASE(what_waits_for_frames_that_stay_is_kept))
