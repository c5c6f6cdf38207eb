/* SPDX-License-Identifier: MIT */
/*
 * errand.c - explores core/errand.c: the doer's last use of a record comes before its fiber goes on, whatever
 * deadline or cancel wants it to go sooner (OVER), and the doer sees what was asked (BEGIN).
 *
 * The kernel that hands the record over orders what is behind the pointer, as a real one does.
 */
#include "errand.h"

#include <string.h>

#include "explore.h"
#include "world.h"

struct task {
    struct errand errand;
    int asked, answer;
    bool revoked; /* the fiber's */
};

static _Atomic(struct task *) handed;
static _Atomic bool revoked; /* the doer has been told */
static struct counter canceled; /* of the job that runs the errand */
static int status;

static void hand_over(struct errand *e)
{
    atomic_store_explicit(&handed, CONTAINER_OF(e, struct task, errand), memory_order_release);
}

static void end_at_once(struct errand *e)
{
    CONTAINER_OF(e, struct task, errand)->answer = 2;
    errand_end(e);
}

static void revoke_it(struct errand *e)
{
    CONTAINER_OF(e, struct task, errand)->revoked = true;
    atomic_store_explicit(&revoked, true, memory_order_relaxed);
}

static void run(void (*begin)(struct errand *e), int64_t deadline)
{
    struct task t = {.errand = {.begin = begin, .revoke = revoke_it}, .asked = 1};

    status = errand_run(fiber_self(), &t.errand, "errand", deadline);
    MUST(t.answer == 2);
    MUST(status == (t.revoked ? deadline == COIR_NEVER ? COIR_ECANCELED : COIR_ETIMEDOUT : COIR_OK));
}

static void run_it(void *arg)
{
    (void)arg;
    run(hand_over, COIR_NEVER);
}

static void run_for_a_while(void *arg)
{
    (void)arg;
    run(hand_over, coir_now() + 1);
}

static void run_at_once(void *arg)
{
    (void)arg;
    run(end_at_once, COIR_NEVER);
}

/* ------------------------------------------------------------------------------------------ doers */

static struct task *receive(void)
{
    struct task *t;
    unsigned turns = 0;

    while (!(t = atomic_load_explicit(&handed, memory_order_acquire)))
        spin_pause(&turns);
    errand_receive(&t->errand);
    MUST(t->asked == 1);
    return t;
}

static void finish(struct task *t)
{
    t->answer = 2;
    errand_end(&t->errand);
}

static void do_it(void)
{
    finish(receive());
}

/* Ends it when it is revoked only. */
static void do_nothing(void)
{
    struct task *t = receive();
    unsigned turns = 0;

    while (!atomic_load_explicit(&revoked, memory_order_relaxed))
        spin_pause(&turns);
    finish(t);
}

static void cancel(void)
{
    wait_cancel(&canceled, COIR_CANCEL_ASKED);
}

static void setup(coir_fn *fn)
{
    world_reset(1);
    memset(&canceled, 0, sizeof canceled);
    world_add(1, fn, NULL, &canceled);
}

static void setup_plain(void)
{
    setup(run_it);
}

static void setup_deadline(void)
{
    setup(run_for_a_while);
}

static void setup_at_once(void)
{
    setup(run_at_once);
}

static void check_done(void)
{
    world_check();
    MUST(status == COIR_OK);
}

EXPLORE_MAIN(
    {.name = "done_by_another", setup_plain, {world_work_1, NULL, do_it}, check_done},
    {.name = "done_at_once", setup_at_once, {world_work_1}, check_done},
    {.name = "a_deadline_races_the_end", setup_deadline, {world_work_1, NULL, do_it}, world_check},
    {.name = "a_deadline_revokes", setup_deadline, {world_work_1, NULL, do_nothing}, world_check},
    {.name = "a_cancel_races_the_end", setup_plain, {world_work_1, cancel, do_it}, world_check,
     .less = 1},
    {.name = "a_cancel_revokes", setup_plain, {world_work_1, cancel, do_nothing}, world_check,
     .less = 1})
