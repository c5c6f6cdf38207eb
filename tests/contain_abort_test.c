/* SPDX-License-Identifier: MIT */
/*
 * contain_abort_test.c - what CONTAIN must not contain: it aborts and names what was in the way, or
 * the fault goes where it would have gone without us. Never does it hang. Each case in a child.
 */
#include "child.h"
#include "containable.h"
#include "job.h"

#include <gnu/libc-version.h>

static void run_containing(coir_fn *fn)
{
    coir_options o = containing(1);

    o.faults_also = COIR_FAULTS_ALSO_ALL;
    o.log = NULL;
    register_containable();
    _exit(coir_run(&o, fn, NULL) == COIR_PANICKED ? 10 : 1);
}

static void contain(void *fn)
{
    run_containing(*(coir_fn **)fn);
}

/* ------------------------------------------------------------------------------ foreign functions */

struct recursion {
    coir_fn *each;
    unsigned bytes; /* of stack that are used up first */
    int status;     /* of the child */
    char text[2048];
};

static void call_malloc(void *unused)
{
    void *volatile p = malloc(100);

    (void)unused;
    free(p);
}

static void call_printf(void *unused)
{
    char text[16];

    (void)unused;
    snprintf(text, sizeof text, "%.3f", 1.5);
}

/* These call themselves through, or beside, a function of libc. */
static CONTAINABLE void beside_malloc(void *unused)
{
    volatile signed char start = 0;

    recurse(&start, call_malloc, unused);
}

static CONTAINABLE void beside_printf(void *unused)
{
    volatile signed char start = 0;

    recurse(&start, call_printf, unused);
}

/* The recursion begins a little deeper each time, so that the end comes in one function or another. */
static CONTAINABLE void begin_deeper(struct recursion *r)
{
    volatile char used[r->bytes + 1];

    used[r->bytes] = 0;
    r->each(NULL);
    used[0] = used[r->bytes];
}

static struct recursion *now;

static CONTAINABLE void run_recursion(void *unused)
{
    (void)unused;
    begin_deeper(now);
}

static void recurse_in_child(void *arg)
{
    now = arg;
    run_containing(run_recursion);
}

/* All depths within a frame of the recursion, by steps of a word. */
static unsigned deeper(int i, int n)
{
    const int frame = 640, step = frame / n > 16 ? frame / n & ~15 : 16;

    return (unsigned)(i * step);
}

/* How often the end came in the foreign function. Every time it must end, in one way or the other. */
static int tries(coir_fn *each, int n, const char *foreign)
{
    int named = 0;

    for (int i = 0; check_round(i, n); i++) {
        struct recursion r = {.each = each, .bytes = deeper(i, n)};
        struct child c;

        child_run(&c, recurse_in_child, &r);
        if (WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT)
            named += strstr(c.text, foreign) != NULL;
        else if (!CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == 10))
            fprintf(stderr, "    %u bytes deeper, status 0x%x: %s\n", r.bytes, c.status, c.text);
    }
    return named;
}

/* The functions that call libc are foreign themselves, as is what a sanitizer puts in between. */
static void an_overflow_inside_malloc_or_printf_never_hangs(void)
{
    CHECK(tries(beside_malloc, MANY(200), "not registered as containable") > 0);
    CHECK(tries(beside_printf, MANY(200), "not registered as containable") > 0);
}

#ifndef COIR_TSAN /* its runtime, with an allocator of its own, is a part of the program */

/* The same with all of the program registered: now only what is libc's is in the way. */
static void recurse_in_program(void *arg)
{
    if (coir_contain_object((void *)(uintptr_t)call_malloc) != COIR_OK)
        _exit(2);
    recurse_in_child(arg);
}

/* Frames of printf are so large that the end always comes there; those of malloc are not. */
static void libc_is_named_when_all_of_the_program_is_containable(void)
{
    struct {
        coir_fn *each;
        const char *name, *other;
        int inside, contained;
    } of[] = {{beside_printf, "as snprintf,", "as __snprintf_chk,", 0, 0},
              {beside_malloc, "as malloc,", "as free,", 0, 0}};

    for (int i = 0; i < 2 * MANY(40); i++) {
        struct recursion r = {.each = of[i % 2].each, .bytes = deeper(i / 2, MANY(40))};
        struct child c;

        child_run(&c, recurse_in_program, &r);
        if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 10)
            of[i % 2].contained++;
        else if (CHECK(WIFSIGNALED(c.status)) && CHECK_EQ(WTERMSIG(c.status), SIGABRT))
            of[i % 2].inside +=
                strstr(c.text, of[i % 2].name) || strstr(c.text, of[i % 2].other);
    }
    CHECK(of[0].inside > 0);
    CHECK(SLOW || (of[1].inside > 0 && of[1].contained > 0));
}

#endif

static CONTAINABLE void switch_to_nowhere(void *unused)
{
    void *here;

    (void)unused;
    arch_switch(&here, (void *)64, NULL);
}

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static CONTAINABLE void fire(struct timer *t)
{
    touch_wild(t);
}

/* The loop calls it, outside of any job. */
static void arm_and_sleep(void *unused)
{
    struct timer t = {.deadline = coir_now() + COIR_MS, .fire = fire};

    (void)unused;
    timer_arm(&worker_self()->timers, &t);
    (void)!coir_sleep_until(COIR_NEVER);
}

static void faults_of_switch_and_scheduler_are_not_contained(void)
{
    coir_fn *in_switch = switch_to_nowhere, *in_loop = arm_and_sleep;

    CHILD_DIES(contain, &in_switch, SIGSEGV, "");
    CHILD_DIES(contain, &in_loop, SIGSEGV, "");
}

/* ---------------------------------------------------------------------------------- other guards */

static void contain_overflows_only(void *fn)
{
    coir_options o = containing(1);

    register_containable();
    _exit(coir_run(&o, *(coir_fn **)fn, NULL) == COIR_PANICKED ? 10 : 1);
}

static CONTAINABLE void hit_other_guard(void *unused)
{
    struct stacks *s = &coir_current()->stacks;
    const struct stack *mine = &worker_here()->current->stack;
    uint32_t other = mine->index ? 0 : 1;

    (void)unused;
    *(volatile char *)(stack_at(s, other)->low - 64) = 1;
}

static CONTAINABLE void hit_own_guard_from_afar(void *unused)
{
    (void)unused;
    *(volatile char *)(worker_here()->current->stack.low - 64) = 1;
}

static void a_wild_pointer_into_a_guard_is_no_overflow(void)
{
    coir_fn *other = hit_other_guard, *own = hit_own_guard_from_afar;
    struct child c;

    child_run(&c, contain_overflows_only, &other);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGSEGV);
    CHECK(strstr(c.text, "overflow") == NULL);
    child_run(&c, contain_overflows_only, &own);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGSEGV);
    CHECK(strstr(c.text, "overflow") == NULL);
}

#ifdef __x86_64__
/* As code does that was compiled without -fstack-clash-protection: down by more than the guard, then up. */
static CONTAINABLE void stride_over_guard(void *unused)
{
    (void)unused;
    __asm__ volatile("subq $262144, %%rsp\n"
                     "1: movb $0, 262143(%%rsp)\n"
                     "decq %%rsp\n"
                     "jmp 1b" : : : "memory");
}

static void a_stride_beyond_the_guard_is_reported_and_not_contained(void)
{
    coir_fn *fn = stride_over_guard;
    struct child c;

    child_run(&c, contain, &fn);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
    CHECK(strstr(c.text, "stack overflow: fiber ") != NULL);
    CHECK(strstr(c.text, "; not contained: ") == NULL); /* nobody has tried */
}
#endif

/* -------------------------------------------------------------------------------- plain threads */

static void try_on_plain_thread(void *unused)
{
    coir_options o = containing(1);
    coir_runtime *rt;

    (void)unused;
    o.faults_also = COIR_FAULTS_ALSO_ALL;
    register_containable();
    if (coir_open(&o, &rt) == COIR_OK)
        (void)!coir_try(touch_wild, NULL, NULL);
    _exit(1);
}

static CONTAINABLE void offload_wild(void *unused)
{
    (void)!coir_offload(touch_wild, unused);
}

static void plain_threads_are_not_contained(void)
{
    coir_fn *offload = offload_wild;

    CHILD_DIES(try_on_plain_thread, NULL, SIGSEGV, "");
    CHILD_DIES(contain, &offload, SIGSEGV, "");
}

#ifndef COIR_TSAN /* it takes a sent SIGSEGV for a fault of its own, and can hang in its locks */
static CONTAINABLE void send_to_self(void *unused)
{
    (void)unused;
    pthread_kill(pthread_self(), SIGSEGV);
    for (;;)
        sched_yield();
}

static void what_somebody_sent_is_not_contained(void)
{
    coir_fn *fn = send_to_self;

    CHILD_DIES(contain, &fn, SIGSEGV, "");
}
#endif

/* --------------------------------------------------------------------------------- registering */

static void registering_refuses_what_it_must(void)
{
    const char *start = __start_containable;
    int on_stack;

    CHECK_EQ(coir_contain_text(NULL, start), COIR_EINVAL);
    CHECK_EQ(coir_contain_text(start, start), COIR_EINVAL);
    CHECK_EQ(coir_contain_text(start + 1, start), COIR_EINVAL);
    CHECK_EQ(coir_contain_object(NULL), COIR_EINVAL);
    CHECK_EQ(coir_contain_object(&on_stack), COIR_EINVAL);
    CHECK_EQ(coir_contain_object((void *)(uintptr_t)gnu_get_libc_version), COIR_ENOTSUP);
    CHECK_EQ(coir_contain_remove(start), COIR_ENOENT);
    for (int i = 0; i < 1000; i++) { /* the same range takes no new place */
        CHECK_EQ(coir_contain_text(start, start + 1), COIR_OK);
        CHECK_EQ(coir_contain_remove(start), COIR_OK);
        CHECK_EQ(coir_contain_remove(start), COIR_ENOENT);
    }
}

static void fill_table(void *unused)
{
    int status = COIR_OK, n = 0;

    (void)unused;
    for (uintptr_t i = 1; status == COIR_OK && i < 1000; i++, n++)
        status = coir_contain_text((void *)(i << 20), (void *)((i << 20) + 1));
    _exit(status == COIR_ENOMEM && n > 200 && n <= 257 ? 0 : 1);
}

static void the_table_is_bounded(void)
{
    child_ends(fill_table, NULL);
}

static void run_removed(void *unused)
{
    coir_options o = containing(1);

    (void)unused;
    register_containable();
    if (coir_contain_remove((void *)(uintptr_t)overflow) == COIR_OK)
        (void)!coir_run(&o, overflow, NULL);
}

static void removed_text_is_foreign_again(void)
{
    CHILD_DIES(run_removed, NULL, SIGABRT, "; not contained: ");
}

CHECK_MAIN(CASE(an_overflow_inside_malloc_or_printf_never_hangs),
#ifndef COIR_TSAN
           CASE(libc_is_named_when_all_of_the_program_is_containable),
#endif
           CASE(faults_of_switch_and_scheduler_are_not_contained),
           CASE(a_wild_pointer_into_a_guard_is_no_overflow),
#ifdef __x86_64__
           CASE(a_stride_beyond_the_guard_is_reported_and_not_contained),
#endif
           CASE(plain_threads_are_not_contained),
#ifndef COIR_TSAN
           CASE(what_somebody_sent_is_not_contained),
#endif
           CASE(registering_refuses_what_it_must),
           CASE(the_table_is_bounded), CASE(removed_text_is_foreign_again))
