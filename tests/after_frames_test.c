/* SPDX-License-Identifier: MIT */
/*
 * after_frames_test.c - work that waits for a counter in a frame that goes: a panic, also one that ends at a coir_try,
 * and a return drop it, whichever runtime's it is; frames further up keep theirs.
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

/* Cleanups of frames further up, and handlers, come when the work has ended. */
static coir_counter elsewhere;

static void check_elsewhere(void *unused)
{
    volatile unsigned char over[8 << 10]; /* the frames that have gone */

    (void)unused;
    for (size_t i = 0; i < sizeof over; i++)
        over[i] = 0x41;
    CHECK_EQ(coir_wait_until(&elsewhere, coir_now() + 5000 * COIR_MS), COIR_CANCELED);
}

static void check_at_cleanup(int *unused)
{
    check_elsewhere(unused);
}

static __attribute__((noinline)) void panic_over_gate(void)
{
    coir_counter here[20] = {COIR_COUNTER_INIT};

    coir_counter_add(&here[10], 1);
    CHECK_EQ(coir_spawn_after(&here[10], &elsewhere, tick, NULL), COIR_OK);
    coir_panic("under a cleanup");
}

static void clean_up_above(void *unused)
{
    int guard __attribute__((cleanup(check_at_cleanup))) = 0;

    (void)guard;
    (void)unused;
    CHECK_EQ(coir_defer(check_elsewhere, NULL), COIR_OK);
    panic_over_gate();
}

static void it_has_ended_when_cleanups_and_handlers_come(void)
{
    coir_options o = run_options(1);

    coir_counter_init(&elsewhere);
    CHECK_EQ(coir_run(&o, clean_up_above, NULL), COIR_PANICKED);
    CHECK_EQ(coir_wait(&elsewhere), COIR_CANCELED);
}

static void wait_for_gate(void *gate)
{
    CHECK_EQ(coir_spawn_after(gate, &elsewhere, tick, NULL), COIR_OK);
}

static void panic_over_childs_gate(void *unused)
{
    coir_counter gate = COIR_COUNTER_INIT, kids = COIR_COUNTER_INIT;

    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_spawn(&kids, wait_for_gate, &gate), COIR_OK);
    CHECK_EQ(coir_wait(&kids), COIR_DONE);
    coir_panic("%s", unused ? "" : "a child has left work behind");
}

static void so_does_what_a_child_has_left(void)
{
    coir_options o = run_options(2);

    coir_counter_init(&elsewhere);
    CHECK_EQ(coir_run(&o, panic_over_childs_gate, NULL), COIR_PANICKED);
    CHECK_EQ(coir_wait_until(&elsewhere, coir_now() + 5000 * COIR_MS), COIR_CANCELED);
}

/* Once it is over, the depth in which it was is the job's handlers' again. */
static void fill_much(void *unused)
{
    volatile unsigned char frame[24 << 10];

    (void)unused;
    for (size_t i = 0; i < sizeof frame; i += 64)
        frame[i] = 1;
    run_count(&ran);
}

static __attribute__((noinline)) void gate_at_depth(void)
{
    volatile unsigned char frame[40 << 10];
    coir_counter here[2] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT};

    CHECK((frame[0] = 1) == 1);
    CHECK_EQ(coir_spawn_after(&here[0], &here[1], tick, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&here[1]), COIR_DONE);
}

static void deep_then_handler(void *unused)
{
    CHECK_EQ(coir_defer(fill_much, unused), COIR_OK);
    gate_at_depth();
}

static void what_is_over_takes_no_stack_from_handlers(void)
{
    ran = 0;
    run_on(1, deep_then_handler, NULL);
    CHECK_EQ(ran, 2);
}

/* The frames are those of a plain thread, or of another runtime's job, which has given the counter away. */
struct lent {
    coir_runtime *to;
    coir_counter gate, done;
};

static void wait_for_lent(void *lent)
{
    struct lent *l = lent;

    CHECK_EQ(coir_spawn_after(&l->gate, &elsewhere, tick, NULL), COIR_OK);
}

static void lend_gate(void *to)
{
    struct lent l = {.to = to};

    coir_counter_add(&l.gate, 1);
    CHECK_EQ(coir_submit(l.to, &l.done, wait_for_lent, &l), COIR_OK);
    CHECK_EQ(coir_wait(&l.done), COIR_DONE);
    coir_panic("over a gate that is lent");
}

static void lend_and_go_on(void *to)
{
    CHECK_EQ(coir_try(lend_gate, to, NULL), COIR_PANICKED);
    check_elsewhere(NULL);
}

static void check_lent(coir_runtime *lender)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt r;

    coir_counter_init(&elsewhere);
    ran = 0;
    if (!lender)
        lend_and_go_on(rt);
    else if (CHECK_EQ(coir_submit(lender, &c, lend_and_go_on, rt), COIR_OK))
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_close(rt, 5000 * COIR_MS, &r), COIR_OK);
    CHECK_EQ(r.ended[COIR_CANCELED], 1);
    CHECK_EQ(ran, 0);
}

static void so_does_what_waits_for_a_plain_threads_frames(void)
{
    check_lent(NULL);
}

static void so_does_what_waits_in_another_runtime(void)
{
    coir_runtime *lender = run_open(1);

    check_lent(lender);
    run_close(lender);
}

CHECK_MAIN(CASE(a_panic_drops_what_waits_for_its_frames), CASE(so_does_one_that_ends_at_a_try),
           CASE(a_return_under_what_waits_for_its_frames_is_a_panic), CASE(what_waits_for_frames_that_stay_is_kept),
           CASE(it_has_ended_when_cleanups_and_handlers_come), CASE(so_does_what_a_child_has_left),
           CASE(so_does_what_waits_for_a_plain_threads_frames), CASE(so_does_what_waits_in_another_runtime),
           CASE(what_is_over_takes_no_stack_from_handlers))
