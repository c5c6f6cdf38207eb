/* SPDX-License-Identifier: MIT */
/*
 * offload_test.c - calls that block: their outcome, their threads, deadlines and cancels.
 */
#include "child.h"
#include "sockets.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>

static void with_threads(unsigned threads, coir_fn *fn)
{
    coir_options o = run_options(1);

    o.offload_threads = threads;
    CHECK_EQ(coir_run(&o, fn, NULL), COIR_DONE);
}

static void add_one(void *n)
{
    ++*(int *)n;
}

static void panic(void *unused)
{
    (void)unused;
    coir_panic("from a thread of the pool");
}

static void call_and_return(void *arg)
{
    int n = 0;

    (void)arg;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_offload(add_one, &n), COIR_DONE);
    CHECK_EQ(n, 100);
    CHECK_EQ(coir_offload(panic, NULL), COIR_PANICKED);
    CHECK_EQ(coir_offload(add_one, &n), COIR_DONE);
    CHECK_EQ(coir_offload(NULL, NULL), COIR_EINVAL);
}

static void a_call_is_made_and_its_outcome_told(void)
{
    with_threads(1, call_and_return);
    with_threads(4, call_and_return);
}

static coir_mutex lock = COIR_MUTEX_INIT;

static void leave_it_locked(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&lock), COIR_OK);
}

static void offload_a_lock(void *unused)
{
    coir_stats stats;
    int n = 0;

    (void)unused;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_offload(leave_it_locked, NULL), COIR_PANICKED);
        CHECK_EQ(coir_mutex_lock(&lock), COIR_EPOISONED);
        CHECK_EQ(coir_mutex_clear(&lock, "the call only locked it"), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&lock), COIR_OK);
    }
    CHECK_EQ(coir_offload(add_one, &n), COIR_DONE);
    CHECK_EQ(coir_stats_read(coir_current(), &stats), COIR_OK);
    CHECK_EQ(stats.failures_of[COIR_KIND_HELD], 3);
    CHECK_EQ(stats.panics_at[COIR_AT_OFFLOAD], 3);
}

static void a_lock_that_a_call_leaves_is_poisoned_and_released(void)
{
    with_threads(1, offload_a_lock);
}

static void a_plain_thread_is_refused(void)
{
    CHECK_EQ(coir_offload(add_one, NULL), COIR_EPERM);
}

static void look_around(void *arg)
{
    sigset_t blocked;

    CHECK_EQ(pthread_getname_np(pthread_self(), arg, 16), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    CHECK(sigismember(&blocked, SIGTERM));
    CHECK(sigismember(&blocked, SIGALRM));
    CHECK(coir_current() == NULL);
}

static void call_look_around(void *arg)
{
    char name[16] = "";

    (void)arg;
    CHECK_EQ(coir_offload(look_around, name), COIR_DONE);
    CHECK_STR(name, "coir/io0");
}

static void threads_have_names_and_take_no_signals(void)
{
    with_threads(2, call_look_around);
}

static void call_look_around_as_host(void *arg)
{
    char name[16] = "";

    (void)arg;
    CHECK_EQ(coir_offload(look_around, name), COIR_DONE);
    CHECK_STR(name, "host/io0");
}

static void the_name_was_copied_at_open(void)
{
    char name[] = "host";
    coir_options o = run_options(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt;

    o.name = name;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    memcpy(name, "gone", sizeof name);
    CHECK_EQ(coir_submit(rt, &c, call_look_around_as_host, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

static void look_where(void *set)
{
    CHECK_EQ(sched_getaffinity(0, sizeof(cpu_set_t), set), 0);
}

static void offload_from_one_cpu(void *openers)
{
    cpu_set_t here, there;

    look_where(&here);
    CHECK_EQ(CPU_COUNT(&here), 1);
    CHECK_EQ(coir_offload(look_where, &there), COIR_DONE);
    CHECK(CPU_EQUAL(&there, (cpu_set_t *)openers));
}

static void calls_of_a_pinned_worker_run_where_the_opener_may(void)
{
    coir_options o = run_options(2);
    cpu_set_t openers;

    o.pin = 1;
    look_where(&openers);
    CHECK_EQ(coir_run(&o, offload_from_one_cpu, &openers), COIR_DONE);
}

/* ------------------------------------------------------------------- panics and faults in calls */

struct line {
    int level;
    char text[256];
};

static void keep_line(enum coir_log_level level, const char *text, void *arg)
{
    struct line *l = arg;

    l->level = (int)level;
    snprintf(l->text, sizeof l->text, "%s", text);
}

static void panic_aloud(void *unused)
{
    (void)unused;
    coir_panic("said by the pool");
}

static void offload_panic(void *fn)
{
    CHECK_EQ(coir_offload(panic_aloud, fn), COIR_PANICKED);
}

static void a_panic_in_a_call_goes_to_the_log_of_its_runtime(void)
{
    coir_options o = run_options(1);
    coir_runtime *other = run_open(1);
    struct line l = {.level = -1};

    o.log = keep_line;
    o.log_arg = &l;
    CHECK_EQ(coir_run(&o, offload_panic, NULL), COIR_DONE);
    CHECK_EQ(l.level, COIR_LOG_ERROR);
    CHECK(strstr(l.text, "offload_test.c") && strstr(l.text, "said by the pool"));
    run_close(other);
}

static void leave_with_seven(int signal)
{
    (void)signal;
    _exit(7);
}

static void touch_wild(void *address)
{
    *(volatile int *)address = 1;
}

static void offload_fault(void *address)
{
    CHECK_EQ(coir_offload(touch_wild, address), COIR_DONE);
}

static void fault_in_call(void *unused)
{
    struct sigaction sa = {.sa_handler = leave_with_seven};
    coir_options o = run_options(1);

    (void)unused;
    sigaction(SIGSEGV, &sa, NULL);
    CHECK_EQ(coir_run(&o, offload_fault, (void *)64), COIR_DONE);
}

static void a_fault_in_a_call_reaches_the_hosts_handler(void)
{
    struct child c;

    child_run(&c, fault_in_call, NULL);
    CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == 7);
}

/* ------------------------------------------------------------------------------- blocking calls */

/* A call that blocks until it is let go. */
struct gate {
    sem_t begun, go;
    int inside, most; /* threads in it now, and at once */
};

static struct gate gate;

static void gate_init(void)
{
    CHECK_EQ(sem_init(&gate.begun, 0, 0), 0);
    CHECK_EQ(sem_init(&gate.go, 0, 0), 0);
    gate.inside = gate.most = 0;
}

static void block(void *unused)
{
    int inside = __atomic_add_fetch(&gate.inside, 1, __ATOMIC_SEQ_CST);
    int most = __atomic_load_n(&gate.most, __ATOMIC_SEQ_CST);

    (void)unused;
    while (inside > most && !__atomic_compare_exchange_n(&gate.most, &most, inside, 0,
                                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    sem_post(&gate.begun);
    sem_wait(&gate.go);
    __atomic_sub_fetch(&gate.inside, 1, __ATOMIC_SEQ_CST);
}

static void offload_block(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_offload(block, NULL), COIR_DONE);
}

static void until_begun(void)
{
    const int64_t give_up = coir_now() + 30 * COIR_SEC;

    while (sem_trywait(&gate.begun) != 0 && CHECK(coir_now() < give_up))
        coir_yield();
}

static void go_beside(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    gate_init();
    CHECK_EQ(coir_spawn(&c, offload_block, NULL), COIR_OK);
    until_begun(); /* on the only worker, while the call blocks */
    sem_post(&gate.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void the_worker_goes_on_meanwhile(void)
{
    with_threads(1, go_beside);
}

static void many_calls(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    gate_init();
    for (int i = 0; i < 50; i++)
        CHECK_EQ(coir_spawn(&c, offload_block, NULL), COIR_OK);
    for (int i = 0; i < 3; i++)
        until_begun(); /* three threads are started, though none has ended */
    for (int i = 0; i < 50; i++)
        sem_post(&gate.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(gate.most, 3);
}

static void there_are_as_many_threads_as_allowed(void)
{
    with_threads(3, many_calls);
}

static int order[8], ordered;

static void note(void *i)
{
    order[ordered++] = (int)(intptr_t)i;
}

static void offload_note(void *i)
{
    CHECK_EQ(coir_offload(note, i), COIR_DONE);
}

static void calls_in_order(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    gate_init();
    ordered = 0;
    CHECK_EQ(coir_spawn(&c, offload_block, NULL), COIR_OK);
    until_begun();
    for (intptr_t i = 0; i < 8; i++) {
        CHECK_EQ(coir_spawn(&c, offload_note, (void *)i), COIR_OK);
        until_parked(coir_current(), (uint64_t)i + 2);
    }
    sem_post(&gate.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(order[i], i);
}

static void waiting_calls_are_made_in_order(void)
{
    with_threads(1, calls_in_order);
}

/* -------------------------------------------------------------------------- deadline and cancel */

static void offload_past_deadline(void *arg)
{
    int64_t *ended = arg;

    CHECK_EQ(coir_offload_until(block, NULL, in_ms(2000)), COIR_DONE); /* a thread is free at once */
    *ended = coir_now();
}

static void let_deadline_pass(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    int64_t ended = 0, let_go;
    int n = 0;

    (void)arg;
    gate_init();
    CHECK_EQ(coir_spawn(&c, offload_past_deadline, &ended), COIR_OK);
    until_begun();
    CHECK_EQ(coir_offload_until(add_one, &n, in_ms(2020)), COIR_ETIMEDOUT);
    CHECK_EQ(n, 0);
    CHECK_EQ(ended, 0); /* its deadline has passed as well, but its call has begun */
    let_go = coir_now();
    sem_post(&gate.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(ended >= let_go);
    CHECK_EQ(coir_offload(add_one, &n), COIR_DONE);
    CHECK_EQ(n, 1);
}

static void only_a_waiting_call_heeds_its_deadline(void)
{
    with_threads(1, let_deadline_pass);
}

static void offload_canceled(void *n)
{
    CHECK_EQ(coir_offload(add_one, n), COIR_ECANCELED);
}

static void cancel_waiting(void *arg)
{
    coir_counter busy = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    int n = 0;

    (void)arg;
    gate_init();
    CHECK_EQ(coir_spawn(&busy, offload_block, NULL), COIR_OK);
    until_begun();
    CHECK_EQ(coir_spawn(&c, offload_canceled, &n), COIR_OK);
    until_parked(coir_current(), 2);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 0);
    CHECK_EQ(coir_counter_cancel(&busy), COIR_OK); /* begun: waited for, and done */
    sem_post(&gate.go);
    CHECK_EQ(coir_wait(&busy), COIR_DONE);
}

static void a_waiting_call_can_be_canceled(void)
{
    with_threads(1, cancel_waiting);
}

/* --------------------------------------------------------------------------------------- attack */

static void call_often(void *arg)
{
    int *sum = arg, n = 0, made = 0;

    for (int i = 0; i < 200; i++) {
        int status = coir_offload_until(add_one, &n, coir_now() + (i % 4) * 10 * COIR_US);

        made += status == COIR_DONE;
        CHECK(status == COIR_DONE || status == COIR_ETIMEDOUT);
    }
    CHECK_EQ(n, made); /* made or not made, never both */
    run_count(sum);
}

static void race_deadlines(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    int sum = 0, fibers = MANY(100);

    (void)arg;
    CHECK_EQ(coir_spawn_many(&c, call_often, &sum, 0, (size_t)fibers), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(sum, fibers);
}

static void deadlines_race_with_threads(void)
{
    coir_options o = run_options(2);

    o.offload_threads = 3;
    CHECK_EQ(coir_run(&o, race_deadlines, NULL), COIR_DONE);
}

static void accept_in_vain(void *listener)
{
    CHECK_EQ(coir_socket_accept(*(int *)listener), COIR_ECANCELED);
}

/* While the call is made its worker sleeps in the kernel, for there is an accept to complete. */
static void offload_beside_an_accept(void *listener)
{
    coir_counter accepts = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_spawn(&accepts, accept_in_vain, listener), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_offload(add_one, &n), COIR_DONE);
    CHECK_EQ(n, 1);
    CHECK_EQ(coir_counter_cancel(&accepts), COIR_OK);
    CHECK_EQ(coir_wait(&accepts), COIR_DONE);
}

/* The thread of the pool wakes the last job, and may still be at it when the runtime goes. */
static void a_runtime_may_close_right_after_the_last_call(enum coir_io io)
{
    int listener = coir_socket_listen(NULL, 0, 0);
    coir_options o = run_options(1);

    o.io = io;
    o.spin_ns = -1;
    CHECK(listener >= 0);
    for (int i = 0; i < MANY(200); i++)
        CHECK_EQ(coir_run(&o, offload_beside_an_accept, &listener), COIR_DONE);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
}
ON_BOTH(a_runtime_may_close_right_after_the_last_call)

CHECK_MAIN(CASE(a_call_is_made_and_its_outcome_told), CASE(a_plain_thread_is_refused),
           CASE(a_lock_that_a_call_leaves_is_poisoned_and_released),
           CASES(a_runtime_may_close_right_after_the_last_call),
           CASE(threads_have_names_and_take_no_signals),
           CASE(calls_of_a_pinned_worker_run_where_the_opener_may), CASE(the_name_was_copied_at_open),
           CASE(a_panic_in_a_call_goes_to_the_log_of_its_runtime),
           CASE(a_fault_in_a_call_reaches_the_hosts_handler), CASE(the_worker_goes_on_meanwhile),
           CASE(there_are_as_many_threads_as_allowed), CASE(waiting_calls_are_made_in_order),
           CASE(only_a_waiting_call_heeds_its_deadline), CASE(a_waiting_call_can_be_canceled),
           CASE(deadlines_race_with_threads))
