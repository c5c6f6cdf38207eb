/* SPDX-License-Identifier: MIT */
/*
 * contain_fault_test.c - options.faults_also: each kind of fault is contained when it was opted in, and
 * kills as without us when it was not; handlers come and go with the runtimes that want them.
 */
#include "containable.h"
#include "interrupted.h"

#include <assert.h>
#include <sys/mman.h>

/* ---------------------------------------------------------------------------------------- kinds */

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static char *beyond_the_file; /* a page that is mapped, but has nothing behind it */

static CONTAINABLE void read_beyond(void *unused)
{
    (void)unused;
    (void)*(volatile char *)beyond_the_file;
}

#ifdef __x86_64__
static CONTAINABLE void divide(void *unused)
{
    (void)unused;
    __asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx", "cc");
}
#endif

static CONTAINABLE void run_nonsense(void *unused)
{
    (void)unused;
#ifdef __x86_64__
    __asm__ volatile("ud2");
#else
    __asm__ volatile(".inst 0");
#endif
}

static CONTAINABLE void call_abort(void *unused)
{
    if (!unused)
        abort();
}

static CONTAINABLE void fail_assert(void *unused)
{
    if (!unused) /* by its name: NDEBUG may be set */
        __assert_fail("unused", "contain_fault_test.c", 1, "fail_assert");
}

static const struct kind {
    coir_fn *fn;
    int bit, signal;
    const char *message;
} kinds[] = {
    {touch_wild, COIR_FAULT_SEGV, SIGSEGV, "SIGSEGV at 0x1000 in contain_fault_test+0x"},
    {read_beyond, COIR_FAULT_BUS, SIGBUS, "SIGBUS at 0x"},
#ifdef __x86_64__
    {divide, COIR_FAULT_FPE, SIGFPE, "SIGFPE at 0x"},
#endif
    {run_nonsense, COIR_FAULT_ILL, SIGILL, "SIGILL at 0x"},
    {call_abort, COIR_FAULT_ABORT, SIGABRT, "abort() called in contain_fault_test+0x"},
    {fail_assert, COIR_FAULT_ABORT, SIGABRT, "abort() called in contain_fault_test+0x"},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static void map_beyond(void)
{
    FILE *f = tmpfile();

    if (!CHECK(f != NULL))
        return;
    beyond_the_file = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(f), 0);
    CHECK(beyond_the_file != MAP_FAILED);
    fclose(f);
}

static coir_options also(unsigned bits)
{
    coir_options o = containing(1);

    register_containable();
    o.faults_also = bits;
    return o;
}

/* ---------------------------------------------------------------------------- contained, or not */

static int deferred;

static void count_deferred(void *unused)
{
    (void)unused;
    deferred++;
}

static CONTAINABLE void defer_and_fault(void *arg)
{
    const struct kind *k = arg;

    (void)!coir_defer(count_deferred, NULL);
    k->fn(NULL);
}

static void fault_again_and_again(void *arg)
{
    const struct kind *k = arg;
    coir_stats s;

    for (uint64_t i = 0; i < 20; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f = {0};

        CHECK_EQ(coir_spawn(&c, i % 2 ? defer_and_fault : k->fn, i % 2 ? arg : NULL), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
        CHECK_EQ(f.kind, COIR_KIND_FAULT);
        if (!CHECK(strncmp(f.message, k->message, strlen(k->message)) == 0))
            fprintf(stderr, "    %s\n", f.message);
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
        CHECK_EQ(s.tainted, i + 1);
        CHECK_EQ(s.contained, i + 1);
    }
    CHECK_EQ(deferred, 10);
}

static void each_kind_is_contained_when_opted_in(void)
{
    map_beyond();
    for (int i = 0; i < KINDS; i++) {
        coir_options o = also((unsigned)kinds[i].bit);

        deferred = 0;
        CHECK_EQ(coir_run(&o, fault_again_and_again, (void *)(uintptr_t)&kinds[i]), COIR_DONE);
    }
    munmap(beyond_the_file, 4096);
}

static void run_without_its_bit(void *arg)
{
    const struct kind *k = arg;
    coir_options o = also(COIR_FAULTS_ALSO_ALL & ~(unsigned)k->bit);

    map_beyond();
    (void)!coir_run(&o, k->fn, NULL);
}

static void run_with_no_bit(void *arg)
{
    const struct kind *k = arg;
    coir_options o = also(0);

    map_beyond();
    (void)!coir_run(&o, k->fn, NULL);
}

static void each_kind_kills_when_not_opted_in(void)
{
    for (int i = 0; i < KINDS; i++) {
        CHILD_DIES(run_without_its_bit, (void *)(uintptr_t)&kinds[i], kinds[i].signal, "");
        CHILD_DIES(run_with_no_bit, (void *)(uintptr_t)&kinds[i], kinds[i].signal, "");
    }
}

static char warned[512];

static void keep_warning(enum coir_log_level level, const char *text, void *n)
{
    if (level != COIR_LOG_WARNING)
        return;
    ++*(int *)n;
    snprintf(warned, sizeof warned, "%s", text);
}

static void fault_ten_times(void *unused)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_try(touch_wild, unused, NULL), COIR_PANICKED);
    CHECK_EQ(coir_try(overflow, unused, NULL), COIR_PANICKED);
}

static void the_log_recommends_a_restart(void)
{
    coir_options o = also(COIR_FAULT_SEGV);
    int n = 0;

    o.log = keep_warning;
    o.log_arg = &n;
    CHECK_EQ(coir_run(&o, fault_ten_times, NULL), COIR_DONE);
    CHECK_EQ(n, 4); /* 1, 2, 4, 8 */
    CHECK(strstr(warned, "8 faults contained") && strstr(warned, "tainted, drain and restart"));
}

/* -------------------------------------------------------------------------------------- refused */

#define REFUSES(fn, ...)                                                                           \
    do {                                                                                           \
        coir_fn *fn_ = (fn);                                                                       \
        CHILD_DIES(run_all, &fn_, SIGABRT, "; not contained: ", __VA_ARGS__);                      \
    } while (0)

static void run_all(void *fn)
{
    coir_options o = also(COIR_FAULTS_ALSO_ALL);

    (void)!coir_run(&o, *(coir_fn **)fn, NULL);
    _exit(1);
}

static CONTAINABLE void call_null(void *unused)
{
    coir_fn *volatile null = NULL;

    null(unused);
}

static CONTAINABLE __attribute__((no_sanitize("address"))) void smash_and_fault(void *unused)
{
    volatile char *frame = __builtin_frame_address(0);

    for (int i = 0; i < 16; i++) /* the frame-pointer record */
        frame[i] = 0x41;
    touch_wild(unused);
}

static __attribute__((noinline)) void *place_of_caller(void)
{
    return __builtin_return_address(0);
}

/* By its frame-pointer record it was called from itself, for ever. */
static CONTAINABLE __attribute__((no_sanitize("address"))) void loop_and_fault(void *unused)
{
    void *volatile *frame = __builtin_frame_address(0);
    volatile char *volatile wild = (char *)(uintptr_t)4096;

    (void)unused;
    frame[0] = (void *)frame;
    frame[1] = place_of_caller();
    *wild = 0;
}

static CONTAINABLE void copy_from_wild(void *unused)
{
    char *volatile to = malloc(16), *volatile from = (char *)(uintptr_t)4096;

    (void)unused;
    strcpy(to, from);
    free(to);
}

static void what_cannot_be_walked_or_vouched_for_aborts(void)
{
    REFUSES(call_null, "SIGSEGV: fiber ", "the place is no code of the program");
    REFUSES(smash_and_fault, "SIGSEGV: fiber ", "frames make no sense");
    REFUSES(loop_and_fault, "SIGSEGV: fiber ");
    REFUSES(copy_from_wild, "SIGSEGV: fiber ", "is not registered as containable");
}

#if !defined(COIR_TSAN) && !defined(__SANITIZE_ADDRESS__) /* they bring a malloc of their own */
static CONTAINABLE void free_nonsense(void *unused)
{
    static _Alignas(16) char no_block[64];
    char *volatile p = no_block + 16;

    (void)unused;
    free(p);
}

static void an_abort_of_malloc_is_not_contained(void)
{
    REFUSES(free_nonsense, "SIGABRT: fiber ", "called as free, is not registered as containable");
}
#endif

static volatile int spinning;

static CONTAINABLE void spin(void *unused)
{
    (void)unused;
    for (spinning = 1;;)
        ;
}

static void *abort_worker(void *worker)
{
    while (!spinning)
        sched_yield();
    pthread_kill(*(pthread_t *)worker, SIGABRT);
    return NULL;
}

static pthread_t victim;

static void keep_thread(unsigned worker, void *arg)
{
    sigset_t set;

    (void)worker;
    (void)arg;
    victim = pthread_self();
    sigemptyset(&set);
    sigaddset(&set, SIGABRT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void send_abort(void *unused)
{
    coir_options o = also(COIR_FAULTS_ALSO_ALL);
    coir_runtime *rt;
    pthread_t sender;

    o.worker_start = keep_thread;
    if (coir_open(&o, &rt) != COIR_OK || coir_submit(rt, NULL, spin, unused) != COIR_OK ||
        pthread_create(&sender, NULL, abort_worker, &victim) != 0)
        _exit(1);
    pthread_join(sender, NULL);
    (void)!coir_close(rt, -1, NULL);
}

static void an_abort_that_somebody_sent_is_not_contained(void)
{
    CHILD_DIES(send_abort, NULL, SIGABRT, "; not contained: somebody sent it");
}

static void a_thousand_aborts_are_contained(void)
{
    coir_options o = also(COIR_FAULT_ABORT);
    coir_runtime *rt;

    o.workers = 2;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    for (int i = 0; i < MANY(1000); i++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_submit(rt, &c, call_abort, NULL), COIR_OK);
        CHECK_EQ(coir_submit(rt, &c, call_abort, NULL), COIR_OK);
        if (!CHECK_EQ(coir_wait(&c), COIR_PANICKED))
            break;
    }
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- handlers */

static int handler_is(int number, void (*handler)(int))
{
    struct sigaction now;

    return sigaction(number, NULL, &now) == 0 && now.sa_handler == handler;
}

static void must_hold(int holds)
{
    if (!holds)
        _exit(1);
}

static void mine(int number)
{
    static const char text[] = "chained\n";

    _exit(write(STDERR_FILENO, text, sizeof text - 1) > 0 && number ? 7 : 1);
}

static void handlers_by_bits(void *unused)
{
    coir_options fpe = also(COIR_FAULT_FPE), ill = also(COIR_FAULT_ILL | COIR_FAULT_ABORT);
    coir_runtime *a, *b;

    (void)unused;
    signal(SIGFPE, mine);
    signal(SIGILL, mine);
    must_hold(coir_open(&fpe, &a) == COIR_OK);
    must_hold(!handler_is(SIGFPE, mine) && handler_is(SIGILL, mine));
    must_hold(coir_open(&ill, &b) == COIR_OK);
    must_hold(!handler_is(SIGFPE, mine) && !handler_is(SIGILL, mine));
    must_hold(!handler_is(SIGABRT, SIG_DFL) && !handler_is(SIGSEGV, SIG_DFL));
    must_hold(coir_close(a, -1, NULL) == COIR_OK);
    must_hold(handler_is(SIGFPE, mine) && !handler_is(SIGILL, mine));
    must_hold(coir_close(b, -1, NULL) == COIR_OK);
    must_hold(handler_is(SIGFPE, mine) && handler_is(SIGILL, mine));
    must_hold(handler_is(SIGABRT, SIG_DFL) && handler_is(SIGSEGV, SIG_DFL));
}

static void handlers_come_and_go_by_their_bits(void)
{
    child_ends(handlers_by_bits, NULL);
}

/* Two runtimes share the handler; the policy is of the job's own. */
static void chain_from_the_other(void *unused)
{
    coir_options contained = also(COIR_FAULT_ILL), not = also(COIR_FAULT_FPE);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *a, *b;

    signal(SIGILL, mine);
    must_hold(coir_open(&contained, &a) == COIR_OK);
    must_hold(coir_open(&not, &b) == COIR_OK);
    must_hold(coir_submit(a, &c, run_nonsense, unused) == COIR_OK);
    must_hold(coir_wait(&c) == COIR_PANICKED);
    must_hold(coir_submit(b, &c, run_nonsense, unused) == COIR_OK);
    must_hold(coir_wait(&c) == COIR_DONE);
}

static void what_is_not_contained_is_chained(void)
{
    struct child c;

    child_run(&c, chain_from_the_other, NULL);
    CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == 7);
    CHECK_STR(c.text, "chained\n");
}

static CONTAINABLE void call_null_interrupted(void *unused)
{
    be_interrupted();
    call_null(unused);
}

static void refuse_interrupted(void *unused)
{
    coir_fn *fn = call_null_interrupted;

    (void)unused;
    run_all(&fn);
}

static void an_interrupted_report_is_not_lost(void)
{
    struct child c;

    interrupted_run(&c, refuse_interrupted);
    CHECK(WIFSIGNALED(c.status));
    CHECK(strstr(c.text, "coir: SIGSEGV: fiber") && strstr(c.text, "; not contained: "));
}

static void options_that_make_no_sense_are_refused(void)
{
    coir_options o = containing(1);
    coir_runtime *rt;

    o.faults_also = COIR_FAULTS_ALSO_ALL + 1;
    CHECK_EQ(coir_open(&o, &rt), COIR_ERANGE);
    o.faults_also = COIR_FAULT_SEGV;
    o.faults = COIR_FAULTS_REPORT;
    CHECK_EQ(coir_open(&o, &rt), COIR_EINVAL);
}

CHECK_MAIN(CASE(each_kind_is_contained_when_opted_in), CASE(each_kind_kills_when_not_opted_in),
           CASE(the_log_recommends_a_restart), CASE(what_cannot_be_walked_or_vouched_for_aborts),
#if !defined(COIR_TSAN) && !defined(__SANITIZE_ADDRESS__)
           CASE(an_abort_of_malloc_is_not_contained),
#endif
           CASE(an_abort_that_somebody_sent_is_not_contained), CASE(a_thousand_aborts_are_contained),
           CASE(an_interrupted_report_is_not_lost),
           CASE(handlers_come_and_go_by_their_bits), CASE(what_is_not_contained_is_chained),
           CASE(options_that_make_no_sense_are_refused))
