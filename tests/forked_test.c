/* SPDX-License-Identifier: MIT */
/*
 * forked_test.c - a fork of a process with runtimes: whatever touches them there gets COIR_EFORKED, and does not
 * hang; the fork may open its own; the parent notices nothing.
 */
#include "pools.h"
#include "supervisors.h"

#include <fcntl.h>
#include <sys/wait.h>

COIR_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0"; /* a fork that has threads of its own is what is tested */
}

/* Runs fn(arg) in a fork, which must exit with 0. */
static void in_fork(coir_fn *fn, void *arg)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        check_begin(CHECK_SECONDS); /* not inherited */
        __atomic_store_n(&check_failures, 0, __ATOMIC_RELAXED);
        fn(arg);
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

static void nothing(void *unused)
{
    (void)unused;
}

/* All that a process may have a handle of. */
static struct {
    coir_runtime *rt;
    coir_domain *domain;
    coir_pool *pool;
    coir_supervisor *supervisor;
    coir_once_table *table;
    coir_quarantine *quarantine;
    coir_obligation owed;
    coir_counter settled, pending; /* the latter is owed */
    coir_mutex held;               /* by a job that waits for let_go */
    coir_event let_go;
    coir_counter holder;
    int holds;
    coir_semaphore none;
    coir_event unset;
    coir_channel empty;
    coir_isolator *isolator;
} had;

static int64_t result_of(void *unused)
{
    (void)unused;
    return 1;
}

static void hear_line(void *unused, const char *text)
{
    (void)unused;
    (void)text;
}

static void hear_child(void *unused, const coir_child_info *info)
{
    (void)unused;
    (void)info;
}

static void touch_runtime(void)
{
    coir_domain *d;
    coir_pool *p;
    coir_supervisor *s;
    coir_once_table *t;
    coir_quarantine *q;
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options po = pool_options("late");
    coir_supervisor_options so = supervisor_options(COIR_ONE_FOR_ONE, NULL, 0);
    coir_stats stats;
    coir_books books;
    coir_failure f;
    char text[8];
    uint64_t cursor = 0;
    void *pc;

    CHECK_EQ(coir_submit(had.rt, &c, nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* nothing is owed */
    CHECK_EQ(coir_close(had.rt, 0, NULL), COIR_EFORKED);
    CHECK_EQ(coir_stats_read(had.rt, &stats), COIR_EFORKED);
    CHECK_EQ(coir_books_check(had.rt, &books), COIR_EFORKED);
    CHECK_EQ(coir_dump(had.rt, 2), COIR_EFORKED);
    CHECK_EQ(coir_deadlock_check(had.rt, NULL), COIR_EFORKED);
    CHECK_EQ(coir_failure_find(had.rt, 1, &f), COIR_EFORKED);
    CHECK_EQ(coir_failure_next(had.rt, &cursor, &f), COIR_EFORKED);
    CHECK_EQ(coir_failure_text(had.rt, 1, text, sizeof text), COIR_EFORKED);
    CHECK_EQ(coir_failure_domain(had.rt, 1, text, sizeof text), COIR_EFORKED);
    CHECK_EQ(coir_failure_frames(had.rt, 1, &pc, 1), COIR_EFORKED);
    CHECK_EQ(coir_failure_print(had.rt, 1, 2), COIR_EFORKED);
    CHECK_EQ(coir_map_print(had.rt, hear_line, NULL), COIR_EFORKED);
    CHECK_EQ(coir_map_dot(had.rt, hear_line, NULL), COIR_EFORKED);
    CHECK_EQ(coir_domain_open(had.rt, NULL, NULL, &d), COIR_EFORKED);
    CHECK_EQ(coir_pool_open(had.rt, &po, &p), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_open(had.rt, NULL, &so, NULL, &s), COIR_EFORKED);
    CHECK_EQ(coir_once_table_open(had.rt, 1, &t), COIR_EFORKED);
    CHECK_EQ(coir_quarantine_open(had.rt, NULL, &q), COIR_EFORKED);
}

static size_t nothing_of(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    (void)in;
    (void)in_bytes;
    (void)out;
    (void)out_max;
    return 0;
}

static void touch_handles(void)
{
    coir_domain_stats stats;
    coir_pool_stats figures;
    coir_message m = {0};
    coir_obligation owed;
    struct kid kid = {.name = "kid"};
    coir_child_spec spec = kid_spec(&kid);
    coir_quarantine_stats qs;
    coir_quarantined entry;
    uint64_t cursor = 0;
    coir_isolator_stats is;

    if (had.isolator) {
        CHECK_EQ(coir_isolator_stats_read(had.isolator, &is), COIR_EFORKED);
        CHECK_EQ(coir_isolate(had.isolator, nothing_of, NULL, 0, NULL, NULL, NULL), COIR_EFORKED);
        CHECK_EQ(coir_isolator_close(had.isolator), COIR_EFORKED);
    }
    CHECK_EQ(coir_domain_submit(had.domain, NULL, nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_domain_submit_until(had.domain, NULL, nothing, NULL, COIR_NEVER), COIR_EFORKED);
    CHECK_EQ(coir_domain_cancel(had.domain), COIR_EFORKED);
    CHECK_EQ(coir_domain_finalizer(had.domain, nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_domain_stats_read(had.domain, &stats), COIR_EFORKED);
    CHECK_EQ(coir_domain_charge(had.domain, 1), COIR_EFORKED);
    CHECK_EQ(coir_domain_discharge(had.domain, 1), COIR_EFORKED);
    CHECK_EQ(coir_domain_close(had.domain, 0, NULL), COIR_EFORKED);
    CHECK_EQ(coir_obligation_take(had.domain, "late", &owed), COIR_EFORKED);
    CHECK_EQ(coir_obligation_discharge(had.owed), COIR_EFORKED);
    CHECK_EQ(coir_pool_submit(had.pool, &m), COIR_EFORKED);
    CHECK_EQ(coir_pool_stats_read(had.pool, &figures), COIR_EFORKED);
    CHECK_EQ(coir_pool_close(had.pool, 0, NULL), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_stop(had.supervisor), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_close(had.supervisor, 0, NULL), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_add(had.supervisor, &spec, NULL), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_remove(had.supervisor, 1), COIR_EFORKED);
    CHECK_EQ(coir_supervisor_visit(had.supervisor, hear_child, NULL), COIR_EFORKED);
    CHECK_EQ(coir_once_table_call(had.table, 1, result_of, NULL, NULL), COIR_EFORKED);
    CHECK_EQ(coir_once_table_close(had.table), COIR_EFORKED);
    CHECK_EQ(coir_quarantine_next(had.quarantine, &cursor, &entry), COIR_EFORKED);
    CHECK_EQ(coir_quarantine_release(had.quarantine, "type", 1), COIR_EFORKED);
    CHECK_EQ(coir_quarantine_stats_read(had.quarantine, &qs), COIR_EFORKED);
    CHECK_EQ(coir_quarantine_close(had.quarantine), COIR_EFORKED);
}

/* Nobody here will ever settle, unlock, release, set or send. */
static void touch_waits(void)
{
    coir_counter *const both[] = {&had.pending, &had.pending};
    char element;

    CHECK_EQ(coir_wait(&had.settled), COIR_DONE); /* needs no wait */
    CHECK_EQ(coir_wait(&had.pending), COIR_EFORKED);
    CHECK_EQ(coir_wait_until(&had.pending, coir_now() + COIR_SEC), COIR_EFORKED);
    CHECK_EQ(coir_wait_any(both, 2, COIR_NEVER, NULL), COIR_EFORKED);
    CHECK_EQ(coir_counter_cancel(&had.pending), COIR_EFORKED);
    CHECK_EQ(coir_mutex_lock(&had.held), COIR_EFORKED);
    CHECK_EQ(coir_semaphore_acquire(&had.none), COIR_EFORKED);
    CHECK_EQ(coir_event_wait(&had.unset), COIR_EFORKED);
    CHECK_EQ(coir_channel_recv(&had.empty, &element), COIR_EFORKED);
}

static void touch_fiber_calls(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_local key = COIR_LOCAL_INIT(NULL);
    char byte;

    CHECK_EQ(coir_spawn(&c, nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_spawn_many(&c, nothing, NULL, 0, 3), COIR_EFORKED);
    CHECK_EQ(coir_spawn_after(&had.settled, &c, nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_offload(nothing, NULL), COIR_EFORKED);
    CHECK_EQ(coir_degrade(nothing, NULL, COIR_NEVER, nothing), COIR_EFORKED);
    CHECK_EQ(coir_socket_recv(0, &byte, 1), COIR_EFORKED);
    CHECK_EQ(coir_socket_send(0, &byte, 1), COIR_EFORKED);
    CHECK_EQ(coir_socket_accept(0), COIR_EFORKED);
    CHECK_EQ(coir_socket_connect("127.0.0.1", 1), COIR_EFORKED);
    CHECK_EQ(coir_signal_wait(COIR_SIGNAL(SIGUSR1)), COIR_EFORKED);
    CHECK_EQ(coir_local_set(&key, &key), COIR_EFORKED);
    CHECK_EQ(coir_child_ready(), COIR_EFORKED);
    CHECK_EQ(coir_job_name("late"), COIR_EFORKED);
    CHECK(coir_current() == NULL);
    CHECK_EQ(coir_canceled(), 0);
    CHECK_EQ(coir_checkpoint(), COIR_OK);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
    coir_yield();
}

static void panic_here(void *unused)
{
    (void)unused;
    coir_panic("planned, in a fork");
}

static void touch_all(void *unused)
{
    coir_failure f;

    (void)unused;
    touch_fiber_calls();
    touch_waits();
    touch_handles();
    touch_runtime();
    CHECK_EQ(coir_try(panic_here, NULL, &f), COIR_PANICKED); /* a thread's own boundary still holds */
    CHECK_EQ(f.worker, -1);
}

static void hold(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_mutex_lock(&had.held), COIR_OK);
    run_set(&had.holds);
    CHECK_EQ(coir_event_wait(&had.let_go), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&had.held), COIR_OK);
}

static struct kid kid = {.name = "kid"};
static struct story story = STORY_INIT;
static coir_child_spec kids;

static void open_all(void)
{
    coir_pool_options po = pool_options("early");
    coir_supervisor_options so = supervisor_options(COIR_ONE_FOR_ONE, &kids, 1);

    memset(&had, 0, sizeof had);
    kid = (struct kid){.name = "kid", .story = &story};
    story.text[0] = '\0';
    kids = kid_spec(&kid);
    had.rt = run_open(2);
    CHECK_EQ(coir_domain_open(had.rt, NULL, NULL, &had.domain), COIR_OK);
    had.pool = pool_open(had.rt, &po);
    had.supervisor = supervisor_open(had.rt, &so, NULL);
    CHECK_EQ(coir_once_table_open(had.rt, 8, &had.table), COIR_OK);
    CHECK_EQ(coir_quarantine_open(had.rt, NULL, &had.quarantine), COIR_OK);
    CHECK_EQ(coir_obligation_take(had.domain, "early", &had.owed), COIR_OK);
    CHECK_EQ(coir_channel_init(&had.empty, 1, 1, NULL), COIR_OK);
    coir_counter_add(&had.pending, 1);
    CHECK_EQ(coir_submit(had.rt, &had.holder, hold, NULL), COIR_OK);
    run_until(&had.holds);
}

static void close_all(void)
{
    coir_counter_done(&had.pending, COIR_DONE);
    CHECK_EQ(coir_wait(&had.pending), COIR_DONE);
    CHECK_EQ(coir_event_set(&had.let_go), COIR_OK);
    CHECK_EQ(coir_wait(&had.holder), COIR_DONE);
    CHECK_EQ(coir_channel_fini(&had.empty), COIR_OK);
    CHECK_EQ(coir_obligation_discharge(had.owed), COIR_OK);
    CHECK_EQ(coir_quarantine_close(had.quarantine), COIR_OK);
    CHECK_EQ(coir_once_table_close(had.table), COIR_OK);
    CHECK_EQ(coir_supervisor_close(had.supervisor, -1, NULL), COIR_OK);
    pool_close(had.pool);
    CHECK_EQ(coir_domain_close(had.domain, -1, NULL), COIR_OK);
    run_close(had.rt);
}

/* ------------------------------------------------------------------------------------------ cases */

static void fork_here(void *unused)
{
    (void)unused;
    in_fork(touch_all, NULL);
}

static void a_fork_of_a_plain_thread_is_told(void)
{
    coir_isolator_options o = {.size = sizeof o, .memory_bytes = COIR_UNLIMITED};
    coir_isolator *iso; /* before there are threads */

    CHECK_EQ(coir_isolator_open(&o, &iso), COIR_OK);
    open_all();
    had.isolator = iso;
    fork_here(NULL);
    close_all();
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* The worker's thread is a plain one there, on the job's stack. */
static void a_fork_of_a_job_is_told(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    open_all();
    CHECK_EQ(coir_submit(had.rt, &c, fork_here, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    close_all();
}

static void open_own(void *unused)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_submit(had.rt, NULL, nothing, NULL), COIR_EFORKED); /* still another's */
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_submit(rt, &c, nothing, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    run_on(1, nothing, NULL);
}

static void fork_and_open(void *unused)
{
    (void)unused;
    in_fork(open_own, NULL);
}

static void a_fork_may_open_its_own(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    open_all();
    fork_and_open(NULL);
    CHECK_EQ(coir_submit(had.rt, &c, fork_and_open, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    close_all();
}

/* Jobs that lock, park and wake each other all the time. */
static void be_busy(void *arg)
{
    static coir_mutex m;
    int *stop = arg;

    while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, nothing, NULL), COIR_OK);
        CHECK_EQ(coir_mutex_lock(&m), COIR_OK);
        coir_yield();
        CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
}

static void forks_at_any_moment_are_told(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int stop = 0;

    open_all();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_submit(had.rt, &c, be_busy, &stop), COIR_OK);
    for (int i = 0; check_round(i, MANY(100)); i++) {
        coir_counter one = COIR_COUNTER_INIT;

        fork_here(NULL);
        CHECK_EQ(coir_submit(had.rt, &one, fork_here, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&one), COIR_DONE);
    }
    run_set(&stop);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    close_all();
}

static void count_here(void *n)
{
    run_count(n);
}

static void fork_and_return(void *arg)
{
    int *status = arg;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO); /* where the report ends is what this is about */
        return;
    }
    CHECK_EQ(waitpid(pid, status, 0), pid);
}

/* The others of a batch are run by who has forked, and by nobody else. */
static void fork_in_a_batch(void *status)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    int ran = 0;

    CHECK_EQ(coir_spawn_many(&c, count_here, &ran, 0, 2), COIR_OK);
    CHECK_EQ(coir_spawn(&c, fork_and_return, status), COIR_OK);
    CHECK_EQ(coir_spawn(&c, count_here, &ran), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(ran, 3);
}

static void a_job_that_returns_in_the_fork_ends_it(void)
{
    int status = 0;

    run_on(1, fork_and_return, &status);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    run_on(1, fork_in_a_batch, &status);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static pid_t child;

static void fork_for(const int *unused)
{
    (void)unused;
    child = fork();
}

static void panic_and_fork(void *unused)
{
    __attribute__((cleanup(fork_for))) int cleaned = 0;

    (void)unused;
    coir_panic("planned, and forked on the way: %d", cleaned);
}

static void contain_in_both(void *unused)
{
    coir_failure f = {0};
    int status = -1, outcome = coir_try(panic_and_fork, NULL, &f);

    (void)unused;
    if (child == 0)
        _exit(outcome != COIR_PANICKED || f.backtrace); /* there is nobody who would keep it */
    CHECK_EQ(outcome, COIR_PANICKED);
    CHECK(f.backtrace);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void a_fork_made_while_a_panic_unwinds_contains_it_too(void)
{
    coir_options o = run_options(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = NULL;

    o.backtrace = 1;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, contain_in_both, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("in the fork");
}

/* The thread of a call that is offloaded works for the runtime; a fork of it does not. */
static void fork_offloaded(void *status)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(coir_try(raise_plain, NULL, NULL) != COIR_PANICKED); /* the parent's panics abort */
    CHECK_EQ(waitpid(pid, status, 0), pid);
}

static void offload_fork(void *status)
{
    CHECK_EQ(coir_offload(fork_offloaded, status), COIR_DONE);
}

static void a_fork_of_an_offloaded_call_is_its_own_master(void)
{
    coir_options o = run_options(1);
    int status = -1;

    o.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_run(&o, offload_fork, &status), COIR_DONE);
    CHECK_EQ(status, 0);
}

CHECK_MAIN(CASE(a_fork_of_an_offloaded_call_is_its_own_master), CASE(a_fork_of_a_plain_thread_is_told),
           CASE(a_fork_of_a_job_is_told), CASE(a_fork_may_open_its_own), CASE(forks_at_any_moment_are_told),
           CASE(a_job_that_returns_in_the_fork_ends_it), CASE(a_fork_made_while_a_panic_unwinds_contains_it_too))
