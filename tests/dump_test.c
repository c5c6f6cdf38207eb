/* SPDX-License-Identifier: MIT */
/*
 * dump_test.c - coir_dump: every fiber with its state, job and wait; in a signal handler, under
 * load, in bounded length; and the same in the report of an abort.
 */
#include "interrupted.h"
#include "job.h"

#include <errno.h>

/* Reads what the runtime's dump says, as far as it fits. */
struct said {
    char text[1 << 18];
    size_t length;
    int fd[2];
    int status;
};

static struct said said;

static void *read_all(void *arg)
{
    struct said *s = arg;
    ssize_t n;

    while (s->length < sizeof s->text - 1 &&
           (n = read(s->fd[0], s->text + s->length, sizeof s->text - 1 - s->length)) > 0)
        s->length += (size_t)n;
    s->text[s->length] = '\0';
    return NULL;
}

static const char *dump(coir_runtime *rt)
{
    pthread_t reader;

    said.length = 0;
    CHECK_EQ(pipe(said.fd), 0);
    CHECK_EQ(pthread_create(&reader, NULL, read_all, &said), 0);
    CHECK_EQ(coir_dump(rt, said.fd[1]), COIR_OK);
    close(said.fd[1]);
    pthread_join(reader, NULL);
    close(said.fd[0]);
    return said.text;
}

static int count_of(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

static void check_says(const char *text, const char *word)
{
    if (!CHECK(strstr(text, word) != NULL))
        fprintf(stderr, "    \"%s\" is not in: %.4000s\n", word, text);
}

/* ------------------------------------------------------------------------------- states and waits */

static coir_counter gate;

static void wait_at_gate(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_job_name("gatekeeper"), COIR_OK);
    CHECK_EQ(coir_wait_until(&gate, coir_now() + 1000 * COIR_SEC), COIR_DONE);
}

static void sleep_long(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + 1000 * COIR_SEC), COIR_ECANCELED);
}

/* The dump that shows so many lines of parked fibers. */
static const char *until_parked(coir_runtime *rt, int n)
{
    const char *text;

    do {
        sched_yield();
        text = dump(rt);
    } while (count_of(text, ": parked, job") < n);
    return text;
}

static void each_parked_fiber_says_what_it_waits_for(void)
{
    coir_counter c = COIR_COUNTER_INIT, sleepers = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);
    char line[64];
    const char *text;

    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(coir_submit(rt, &c, wait_at_gate, NULL), COIR_OK);
    CHECK_EQ(coir_submit(rt, &sleepers, sleep_long, NULL), COIR_OK);
    text = until_parked(rt, 4);
    CHECK_EQ(count_of(text, ": parked, job"), 4);
    CHECK_EQ(count_of(text, "\"gatekeeper\""), 3);
    snprintf(line, sizeof line, "waits for counter %p", (void *)&gate);
    CHECK_EQ(count_of(text, line), 3);
    CHECK_EQ(count_of(text, "waits for sleep"), 1);
    snprintf(line, sizeof line, "function %p", (void *)(uintptr_t)sleep_long);
    CHECK_EQ(count_of(text, line), 1);
    CHECK_EQ(count_of(text, " ms"), 0); /* park_times was not asked for */
    check_says(text, "\"coir\": workers: 2");
    check_says(text, "  worker 1: ");
    check_says(text, "parked 4, ready 0");
    check_says(text, "not listed: 0");
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_counter_cancel(&sleepers), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_wait(&sleepers), COIR_DONE);
    run_close(rt);
}

static void dump_self(void *unused)
{
    uint64_t id = coir_job_id();
    char line[64];
    const char *text;

    (void)unused;
    CHECK_EQ(coir_job_name("self\n\x01"), COIR_OK);
    text = dump(coir_current());
    snprintf(line, sizeof line, ": running on worker 0, job %llu \"self??\"", (unsigned long long)id);
    check_says(text, line);
    check_says(text, "  worker 0: runs fiber ");
    CHECK_EQ(coir_job_name("0123456789012345678901234567890123456789 and more"), COIR_OK);
    check_says(dump(coir_current()), "\"0123456789012345678901234567890123456789\" function");
    CHECK_EQ(coir_job_name(NULL), COIR_OK);
    CHECK_EQ(count_of(dump(coir_current()), "self"), 0);
}

static void a_job_may_dump_its_own_runtime(void)
{
    run_on(1, dump_self, NULL);
}

/* What a look at a frame that has gone may find where a job's links were. */
static void dump_broken_links(void *unused)
{
    struct job *const self = *job_slot(), *const outer = self->outer;
    struct job *const bad[] = {self, (struct job *)16, (struct job *)(UINTPTR_MAX & ~(uintptr_t)63)};

    (void)unused;
    for (int i = 0; i < 3; i++) {
        const char *text;

        self->outer = bad[i];
        text = dump(coir_current());
        self->outer = outer;
        CHECK_EQ(count_of(text, ": running on worker 0, job"), 1);
    }
}

static void links_that_lead_nowhere_are_not_followed(void)
{
    run_on(1, dump_broken_links, NULL);
}

static void with_park_times_waits_say_how_long(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_options o = run_options(1);
    coir_runtime *rt;
    long ms = -1;
    const char *at;

    o.park_times = 1;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_submit(rt, &c, wait_at_gate, NULL), COIR_OK);
    until_parked(rt, 1);
    CHECK_EQ(coir_sleep_until(coir_now() + 30 * COIR_MS), COIR_OK);
    at = strstr(dump(rt), "waits for counter");
    at = at ? strstr(at, " for ") + 5 : NULL; /* "waits for" */
    at = at ? strstr(at, " for ") : NULL;
    if (CHECK(at != NULL))
        ms = strtol(at + 5, NULL, 10);
    CHECK(ms >= 29 && ms < 30000);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- its bounds */

static void its_length_is_bounded(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(1);
    const char *text;

    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < 1500; i++)
        CHECK_EQ(coir_submit(rt, &c, wait_at_gate, NULL), COIR_OK);
    do
        text = until_parked(rt, 1000);
    while (!strstr(text, "parked 1500"));
    CHECK_EQ(count_of(text, "  fiber "), 1000);
    CHECK_EQ(atoi(strstr(text, "not listed: ") + 12) / 10, 50); /* or one more: the idle worker's loop */
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

static void bad_input_gets_a_status(void)
{
    coir_runtime *rt = run_open(1);
    int full = open("/dev/full", O_WRONLY);

    CHECK_EQ(coir_dump(NULL, 2), COIR_EINVAL);
    errno = 77;
    CHECK_EQ(coir_dump(rt, -1), COIR_EIO);
    CHECK_EQ(coir_dump(rt, full), COIR_EIO);
    CHECK_EQ(errno, 77);
    close(full);
    run_close(rt);
}

/* ---------------------------------------------------------------------------- handlers and load */

static coir_runtime *dumped;
static int null_fd, dumps;

static void dump_on_signal(int number)
{
    (void)number;
    if (coir_dump(dumped, null_fd) == COIR_OK)
        run_count(&dumps);
}

static void toil(void *end)
{
    (void)!coir_job_name("toiler");
    while (!__atomic_load_n((int *)end, __ATOMIC_RELAXED)) {
        coir_counter c = COIR_COUNTER_INIT;
        int n = 0;

        for (int i = 0; i < 20; i++)
            CHECK_EQ(coir_spawn(&c, (coir_fn *)(uintptr_t)run_count, &n), COIR_OK);
        CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
        coir_yield();
    }
}

static pthread_t worker_thread[3];

static void note_thread(unsigned worker, void *unused)
{
    sigset_t set;

    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    worker_thread[worker] = pthread_self();
}

/* Handlers interrupt the workers wherever they are: in switches, queues, locks. */
static void it_is_safe_in_handlers_under_load(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_options o = run_options(3);
    int end = 0, sent = MANY(2000);

    o.worker_start = note_thread;
    null_fd = open("/dev/null", O_WRONLY);
    dumps = 0;
    signal(SIGUSR1, dump_on_signal);
    CHECK_EQ(coir_open(&o, &dumped), COIR_OK);
    for (int i = 0; i < 30; i++)
        CHECK_EQ(coir_submit(dumped, &c, toil, &end), COIR_OK);
    for (int i = 0; i < sent; i++) {
        CHECK_EQ(pthread_kill(worker_thread[i % 3], SIGUSR1), 0);
        CHECK_EQ(coir_dump(dumped, null_fd), COIR_OK); /* from outside, too */
    }
    __atomic_store_n(&end, 1, __ATOMIC_RELAXED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(dumped);
    CHECK(dumps > 0);
    signal(SIGUSR1, SIG_DFL);
    close(null_fd);
}

/* ------------------------------------------------------------------------------- crash reports */

static void raise_beside_waiter(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    if (coir_spawn(&c, wait_at_gate, NULL) != COIR_OK)
        _exit(1);
    coir_yield();
    coir_job_name("culprit");
    coir_panic("the end");
}

static void die(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.panic = COIR_PANIC_ABORT;
    if (coir_run(&o, raise_beside_waiter, NULL) >= COIR_DONE)
        _exit(0);
}

static void the_report_of_an_abort_lists_every_fiber(void)
{
    CHILD_DIES(die, NULL, SIGABRT, "coir: fatal: a panic aborts", "the end", "coir: runtime ",
               ": parked, job \"gatekeeper\" function", "waits for counter",
               ": running on worker 0, job 512 \"culprit\" function", "running 1, parked 1");
}

/* --------------------------------------------------------------------------------- interruptions */

#define PARKED 30

static void dump_interrupted(void *unused)
{
    coir_runtime *rt = run_open(1);

    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < PARKED; i++)
        if (coir_submit(rt, NULL, wait_at_gate, NULL) != COIR_OK)
            _exit(1);
    until_parked(rt, PARKED);
    be_interrupted();
    _exit(coir_dump(rt, STDERR_FILENO) == COIR_OK ? 0 : 2);
}

static void an_interrupted_write_loses_no_line(void)
{
    struct child c;

    interrupted_run(&c, dump_interrupted);
    CHECK_EQ(c.status, 0);
    CHECK_EQ(count_of(c.text, ": parked, job"), PARKED);
}

static void die_interrupted(void *unused)
{
    (void)unused;
    be_interrupted();
    coir_panic("the end");
}

static void abort_interrupted(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.panic = COIR_PANIC_ABORT;
    (void)!coir_run(&o, die_interrupted, NULL);
}

static void an_interrupted_report_of_an_abort_is_whole(void)
{
    struct child c;

    interrupted_run(&c, abort_interrupted);
    CHECK(WIFSIGNALED(c.status));
    check_says(c.text, "coir: fatal: a panic aborts");
    check_says(c.text, ": running on worker 0, job 512");
}

CHECK_MAIN(CASE(each_parked_fiber_says_what_it_waits_for), CASE(a_job_may_dump_its_own_runtime),
           CASE(links_that_lead_nowhere_are_not_followed),
           CASE(with_park_times_waits_say_how_long), CASE(its_length_is_bounded),
           CASE(bad_input_gets_a_status), CASE(it_is_safe_in_handlers_under_load),
           CASE(the_report_of_an_abort_lists_every_fiber), CASE(an_interrupted_write_loses_no_line),
           CASE(an_interrupted_report_of_an_abort_is_whole))
