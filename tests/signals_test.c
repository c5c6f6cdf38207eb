/* SPDX-License-Identifier: MIT */
/*
 * signals_test.c - signals as values: who gets them, when, and what is as before afterwards.
 */
#include "base.h"
#include "child.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>

#define USR1 COIR_SIGNAL(SIGUSR1)
#define USR2 COIR_SIGNAL(SIGUSR2)

static void block_in_this_thread(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(how, &set, NULL);
}

/* A first wait, so that the signals are caught; nobody has sent one. */
static void ask_for(uint64_t set)
{
    CHECK_EQ(coir_signal_wait_until(set, coir_now()), COIR_ETIMEDOUT);
}

/* -------------------------------------------------------------------------------------- the thread */

static bool is_called(const char *task, const char *name)
{
    char path[300], text[32] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task);
    f = fopen(path, "r");
    if (!f)
        return false;
    (void)!fgets(text, sizeof text, f);
    fclose(f);
    return strncmp(text, name, strlen(name)) == 0;
}

static void ask_on_one_cpu(void *openers)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    cpu_set_t set;
    int found = 0;

    ask_for(USR1);
    while ((task = readdir(tasks))) {
        if (!is_called(task->d_name, "coir/signals"))
            continue;
        CHECK_EQ(sched_getaffinity(atoi(task->d_name), sizeof set, &set), 0);
        CHECK(CPU_EQUAL(&set, (cpu_set_t *)openers));
        found++;
    }
    closedir(tasks);
    CHECK_EQ(found, 1);
}

static void the_thread_of_a_pinned_runtime_runs_where_the_opener_may(void)
{
    coir_options o = run_options(2);
    cpu_set_t openers;

    o.pin = 1;
    CHECK_EQ(sched_getaffinity(0, sizeof openers, &openers), 0);
    CHECK_EQ(coir_run(&o, ask_on_one_cpu, &openers), COIR_DONE);
}

/* ------------------------------------------------------------------------------------ who gets it */

static void send_and_wait(void *unused)
{
    (void)unused;
    ask_for(USR1 | USR2);
    for (int i = 0; i < MANY(2000); i++) {
        int number = i & 1 ? SIGUSR1 : SIGUSR2;

        kill(getpid(), number);
        if (!CHECK_EQ(coir_signal_wait(USR1 | USR2), number))
            return;
    }
}

/* No thread of ours lets them in: the runtime's own must. */
static void a_signal_reaches_a_fiber_though_every_thread_blocks_it(void)
{
    block_in_this_thread(SIG_BLOCK);
    run_on(1, send_and_wait, NULL);
    run_on(3, send_and_wait, NULL);
    block_in_this_thread(SIG_UNBLOCK);
}

#ifndef COIR_TSAN /* it keeps signals back until the thread calls something, which a worker may never do */
static void a_signal_may_arrive_on_any_thread(void)
{
    run_on(2, send_and_wait, NULL);
}
#endif

struct waiter {
    uint64_t set;
    int got, waits;
};

static void wait_once(void *arg)
{
    struct waiter *w = arg;

    run_set(&w->waits);
    w->got = coir_signal_wait(w->set);
}

/* One worker: who has set its flag has parked when somebody else runs. */
static void start_waiter(coir_counter *c, struct waiter *w)
{
    CHECK_EQ(coir_spawn(c, wait_once, w), COIR_OK);
    run_until(&w->waits);
}

static void wait_in_turn(void *unused)
{
    coir_counter c[3] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT, COIR_COUNTER_INIT};
    struct waiter w[3] = {{USR1, 0, 0}, {USR1 | USR2, 0, 0}, {USR1, 0, 0}};
    size_t which = 2;

    (void)unused;
    ask_for(USR1 | USR2);
    for (int i = 0; i < 3; i++)
        start_waiter(&c[i], &w[i]);
    kill(getpid(), SIGUSR2);
    CHECK_EQ(coir_wait(&c[1]), COIR_DONE);
    CHECK_EQ(w[1].got, SIGUSR2);
    kill(getpid(), SIGUSR1);
    CHECK_EQ(coir_wait_any((coir_counter *[]){&c[0], &c[2]}, 2, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 0); /* it has waited longer than the last */
    CHECK_EQ(w[2].got, 0);
    kill(getpid(), SIGUSR1);
    CHECK_EQ(coir_wait(&c[0]), COIR_DONE);
    CHECK_EQ(coir_wait(&c[2]), COIR_DONE);
    CHECK_EQ(w[0].got + w[2].got, 2 * SIGUSR1);
}

static void each_signal_goes_to_one_fiber_the_longest_waiting(void)
{
    block_in_this_thread(SIG_BLOCK);
    for (int i = 0; i < MANY(300); i++) /* the next signal may come while the last is given out */
        run_on(1, wait_in_turn, NULL);
    block_in_this_thread(SIG_UNBLOCK);
}

static void take_pending(void *unused)
{
    (void)unused;
    ask_for(USR1);
    kill(getpid(), SIGUSR1);
    while (coir_signal_wait_until(USR1, coir_now() + COIR_MS) != SIGUSR1)
        ; /* it takes the thread a moment */
    ask_for(USR1); /* given out once */
}

static void a_signal_that_nobody_waits_for_is_kept(void)
{
    block_in_this_thread(SIG_BLOCK);
    run_on(2, take_pending, NULL);
    block_in_this_thread(SIG_UNBLOCK);
}

/* -------------------------------------------------------------------------- deadlines and cancels */

static void wait_canceled(void *got)
{
    *(int *)got = coir_signal_wait(USR1);
}

/* On a fiber or a thread; one that has not begun would not be canceled in its wait. */
static void until_one_waits(coir_runtime *rt)
{
    coir_stats s;

    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    } while (!s.parked);
}

static void cancel_it(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int got = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, wait_canceled, &got), COIR_OK);
    until_one_waits(coir_current());
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(got, COIR_ECANCELED);
    CHECK_EQ(coir_signal_wait_until(USR1, coir_now() + COIR_MS), COIR_ETIMEDOUT);
}

static void a_wait_can_be_canceled_and_have_a_deadline(void)
{
    run_on(1, cancel_it, NULL);
    run_on(2, cancel_it, NULL);
}

static void a_close_ends_the_wait(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt receipt;
    int got = 0;

    CHECK_EQ(coir_submit(rt, &c, wait_canceled, &got), COIR_OK);
    until_one_waits(rt);
    run_close_past(rt, 5 * COIR_MS, &receipt);
    CHECK_EQ(got, COIR_ECANCELED);
}

/* Signals and deadlines meet: none is lost, for each is sent when the one before has been got. */
static void race_deadlines(void *unused)
{
    (void)unused;
    ask_for(USR1);
    for (int i = 0; i < MANY(1000); i++) {
        int got;

        kill(getpid(), SIGUSR1);
        do
            got = coir_signal_wait_until(USR1, coir_now() + i % 40 * COIR_US);
        while (got == COIR_ETIMEDOUT);
        if (!CHECK_EQ(got, SIGUSR1))
            return;
    }
}

static void no_signal_is_lost_to_a_deadline(void)
{
    block_in_this_thread(SIG_BLOCK);
    run_on(1, race_deadlines, NULL);
    run_on(2, race_deadlines, NULL);
    block_in_this_thread(SIG_UNBLOCK);
}

/* ------------------------------------------------------------------------------------ what is refused */

static void refuse_sets(void *unused)
{
    static const int never[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};

    (void)unused;
    CHECK_EQ(coir_signal_wait(0), COIR_EINVAL);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        CHECK_EQ(coir_signal_wait(USR1 | COIR_SIGNAL(never[i])), COIR_EINVAL);
    CHECK_EQ(coir_signal_wait(COIR_SIGNAL(32)), COIR_EINVAL); /* the C library's own */
    ask_for(USR1);
    CHECK_EQ(coir_signal_wait(USR1 | COIR_SIGNAL(32)), COIR_EINVAL);
    ask_for(USR1);
}

static void what_is_no_signal_to_wait_for_is_refused(void)
{
    CHECK_EQ(coir_signal_wait(USR1), COIR_EPERM);
    run_on(1, refuse_sets, NULL);
}

/* --------------------------------------------------------------------------------- as it was before */

static void mine(int number)
{
    (void)number;
}

static int handler_is(int number, void (*handler)(int))
{
    struct sigaction now;

    return sigaction(number, NULL, &now) == 0 && now.sa_handler == handler;
}

static void ask_for_one(void *unused)
{
    (void)unused;
    CHECK(handler_is(SIGUSR1, mine)); /* not before it is asked for */
    ask_for(USR1);
    CHECK(!handler_is(SIGUSR1, mine));
    CHECK(handler_is(SIGUSR2, SIG_DFL));
}

static void ask_for_both(void *unused)
{
    (void)unused;
    ask_for(USR1 | USR2);
    ask_for(USR2);
}

static void ask_for_two(void *unused)
{
    (void)unused;
    ask_for(USR2);
}

/* It may come. */
static void ask_for_any(void *unused)
{
    (void)unused;
    CHECK(coir_signal_wait_until(USR1, coir_now()) != COIR_EAGAIN);
}

static void run_in(coir_runtime *rt, coir_fn *fn)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, fn, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void actions_come_back_with_the_last_close(void)
{
    coir_runtime *a = run_open(1), *b = run_open(1);

    signal(SIGUSR1, mine);
    run_in(a, ask_for_one);
    run_in(b, ask_for_both);
    CHECK(!handler_is(SIGUSR2, SIG_DFL));
    run_close(a);
    CHECK(!handler_is(SIGUSR1, mine));
    run_in(b, ask_for_both); /* the thread is still there */
    run_close(b);
    CHECK(handler_is(SIGUSR1, mine));
    CHECK(handler_is(SIGUSR2, SIG_DFL));
    signal(SIGUSR1, SIG_DFL);
}

static void a_handler_on_top_stays(void)
{
    coir_runtime *rt = run_open(1);

    run_in(rt, ask_for_both);
    signal(SIGUSR1, mine);
    run_close(rt);
    CHECK(handler_is(SIGUSR1, mine));
    signal(SIGUSR1, SIG_DFL);
}

static void open_and_close_often(void)
{
    for (int i = 0; i < MANY(200); i++)
        run_on(1, ask_for_both, NULL);
}

static void asking_again_after_a_close_works(void)
{
    open_and_close_often();
    block_in_this_thread(SIG_BLOCK);
    run_on(1, send_and_wait, NULL);
    block_in_this_thread(SIG_UNBLOCK);
}

static _Atomic int called;
static _Atomic bool sender_ends;

static void count_call(int number)
{
    (void)number;
    called++;
}

static void *send_all_the_time(void *unused)
{
    while (!sender_ends) {
        kill(getpid(), SIGUSR1);
        sched_yield();
    }
    return unused;
}

static void open_and_close_under_fire(void)
{
    coir_runtime *other = run_open(1); /* the thread stays for it */

    run_in(other, ask_for_two);
    for (int i = 0; i < MANY(200); i++)
        run_on(1, ask_for_any, NULL);
    run_close(other);
    for (int i = 0; i < MANY(200); i++)
        run_on(1, ask_for_any, NULL);
}

/* No thread of ours lets it in. */
static void a_close_lets_no_signal_through_that_every_thread_blocks(void)
{
    pthread_t sender;

    block_in_this_thread(SIG_BLOCK);
    signal(SIGUSR1, count_call);
    CHECK_EQ(pthread_create(&sender, NULL, send_all_the_time, NULL), 0);
    open_and_close_under_fire();
    sender_ends = true;
    pthread_join(sender, NULL);
    CHECK_EQ(called, 0);
    signal(SIGUSR1, SIG_IGN); /* what is left */
    signal(SIGUSR1, SIG_DFL);
    block_in_this_thread(SIG_UNBLOCK);
}

static void die_after_close(void *unused)
{
    run_on(1, ask_for_both, unused);
    kill(getpid(), SIGUSR1);
    for (;;)
        sched_yield();
}

static void after_the_close_a_signal_does_what_it_did(void)
{
    CHILD_DIES(die_after_close, NULL, SIGUSR1, "");
}

/* What the watcher asks workers with is no signal that somebody sends. */
static void wait_for_probes(void *watched)
{
    int *w = watched;

    CHECK_EQ(coir_signal_wait_until(COIR_SIGNAL(SIGURG), 0), *w ? COIR_EINVAL : COIR_ETIMEDOUT);
    CHECK_EQ(coir_signal_wait_until(COIR_SIGNAL(SIGUSR1), 0), COIR_ETIMEDOUT);
}

static void the_watchers_signal_is_nobodys_to_wait_for(void)
{
    coir_options o = run_options(1);
    int watched = 1;

    o.stall_ns = COIR_SEC;
    CHECK_EQ(coir_run(&o, wait_for_probes, &watched), COIR_DONE);
    watched = 0;
    run_on(1, wait_for_probes, &watched);
}

CHECK_MAIN(CASE(the_watchers_signal_is_nobodys_to_wait_for),
           CASE(the_thread_of_a_pinned_runtime_runs_where_the_opener_may),
           CASE(a_signal_reaches_a_fiber_though_every_thread_blocks_it),
#ifndef COIR_TSAN
           CASE(a_signal_may_arrive_on_any_thread),
#endif
           CASE(each_signal_goes_to_one_fiber_the_longest_waiting),
           CASE(a_signal_that_nobody_waits_for_is_kept),
           CASE(a_wait_can_be_canceled_and_have_a_deadline), CASE(a_close_ends_the_wait),
           CASE(no_signal_is_lost_to_a_deadline), CASE(what_is_no_signal_to_wait_for_is_refused),
           CASE(actions_come_back_with_the_last_close), CASE(a_handler_on_top_stays),
           CASE(asking_again_after_a_close_works),
           CASE(a_close_lets_no_signal_through_that_every_thread_blocks),
           CASE(after_the_close_a_signal_does_what_it_did))
