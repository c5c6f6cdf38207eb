/* SPDX-License-Identifier: MIT */
/*
 * stack_test.c - core/stack.c: guards, reuse, limits, memory from the host and back to the system.
 *
 * What must end in a fault runs in a child process; so does what changes the limits of a process.
 */
#include "stack.h"
#include "threads.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define USABLE ((size_t)65536)
#define HEADER 192
#define PAGE 4096
#define MANY_STACKS 1000
#define WARM 256 /* idle stacks whose memory is kept */

static struct stacks stacks;
static struct stack_cache cache;
static struct host host;
static char logged[512]; /* the last line */

static void host_logs(enum coir_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)arg;
    snprintf(logged, sizeof logged, "%s", text);
}

static int open_stacks(coir_options *options, size_t limit)
{
    options->stack_bytes = USABLE;
    options->stacks_max = limit;
    options->log = host_logs;
    logged[0] = '\0';
    host_init(&host, options);
    memset(&stacks, 0, sizeof stacks);
    memset(&cache, 0, sizeof cache);
    return stacks_init(&stacks, &host, options, HEADER);
}

/* advice false: guards by mprotect, as on a kernel that knows nothing better. */
static void open_plain(size_t limit, bool advice)
{
    coir_options options = {0};

    CHECK_EQ(open_stacks(&options, limit), COIR_OK);
    stacks.guard_by_advice &= advice;
}

static struct stack *take(void)
{
    return stack_take(&stacks, &cache);
}

static void give(struct stack *s)
{
    stack_give(&stacks, &cache, s);
}

/* --------------------------------------------------------------------------------------- guards */

/* How a child that runs fn(arg) ends: its signal, or 0 and it returned. */
static int signal_of_child(void (*fn)(void *), void *arg)
{
    static const struct rlimit no_core;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* sanitizers have their own */
        signal(SIGBUS, SIG_DFL);
        fn(arg);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void write_to(void *address)
{
    *(volatile char *)address = 1;
}

static void check_guards(bool advice)
{
    struct stack *s[3];

    open_plain(8, advice);
    for (int i = 0; i < 3; i++)
        s[i] = take();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(signal_of_child(write_to, s[i]->low - 1), SIGSEGV);
        CHECK_EQ(signal_of_child(write_to, s[i]->low - stacks.guard), SIGSEGV);
        CHECK_EQ(signal_of_child(write_to, s[i]->low), 0);
        CHECK(stack_guards(&stacks, s[i], (uintptr_t)s[i]->low - 1));
        CHECK(stack_guards(&stacks, s[i], (uintptr_t)s[i]->low - stacks.guard));
        CHECK(!stack_guards(&stacks, s[i], (uintptr_t)s[i]->low));
        CHECK(!stack_guards(&stacks, s[i], (uintptr_t)s[i]->low - stacks.guard - 1));
        CHECK(stack_around(&stacks, (uintptr_t)s[i]->low - stacks.guard) == s[i]);
    }
    stacks_fini(&stacks);
}

static void a_write_below_a_stack_faults(void)
{
    check_guards(true);
    check_guards(false);
}

/* Larger than stack and guard together: only a probed frame meets the guard. */
static __attribute__((noinline)) void use_large_frame(void *passed, void *arg)
{
    volatile char frame[2 * USABLE + 16384];

    (void)passed;
    (void)arg;
    __asm__ volatile("" : : "r"(frame) : "memory"); /* all of it is used */
    frame[0] = 1;
    _exit(frame[0] - 1);
}

static __attribute__((noinline)) int recurse(volatile int depth)
{
    return depth ? recurse(depth - 1) + depth : 0;
}

static void recurse_too_deep(void *passed, void *arg)
{
    (void)passed;
    (void)arg;
    _exit(recurse(100000) == 1);
}

struct entry {
    arch_entry_fn *fn;
    struct stack *stack;
};

static void run_on_stack(void *arg)
{
    struct entry *e = arg;
    struct arch_record *record;
    void *home, *sp = arch_prepare(e->stack, e->fn, NULL, &record);

    arch_switch(&home, sp, NULL);
}

static void check_overflows(bool advice)
{
    struct entry large = {use_large_frame, NULL}, deep = {recurse_too_deep, NULL};

    open_plain(8, advice);
    for (int i = 0; i < 4; i++) /* the frame would end in a neighbour */
        large.stack = deep.stack = take();
    CHECK_EQ(signal_of_child(run_on_stack, &large), SIGSEGV);
    CHECK_EQ(signal_of_child(run_on_stack, &deep), SIGSEGV);
    stacks_fini(&stacks);
}

static void an_overflow_hits_the_guard_however_large_the_frame(void)
{
    check_overflows(true);
    check_overflows(false);
}

/* ------------------------------------------------------------------------------ take and give */

static void the_last_given_is_the_first_taken(void)
{
    struct stack *a, *b;

    open_plain(8, true);
    a = take();
    b = take();
    CHECK(a != b);
    give(a);
    give(b);
    CHECK_EQ(take(), b);
    CHECK_EQ(take(), a);
    stacks_fini(&stacks);
}

static void no_stack_past_the_limit(void)
{
    struct stack *s[5];

    open_plain(5, true);
    CHECK_EQ(stacks.limit, 5);
    for (int i = 0; i < 5; i++)
        CHECK((s[i] = take()) != NULL);
    CHECK_EQ(take(), NULL);
    give(s[3]);
    CHECK_EQ(take(), s[3]);
    CHECK_EQ(take(), NULL);
    CHECK_EQ(stacks.created, 5);
    stacks_fini(&stacks);
}

static void neighbours_differ_in_colour(void)
{
    bool seen[PAGE] = {false};

    open_plain(24, true);
    CHECK_EQ((stacks.guard + stacks.usable) / PAGE % 2, 1); /* nor do their pages share sets of the TLB */
    for (int i = 0; i < 24; i++) {
        size_t offset = (uintptr_t)take() % PAGE;

        CHECK(!seen[offset]);
        CHECK_EQ(offset % 16, 0);
        seen[offset] = true;
    }
    stacks_fini(&stacks);
}

static void a_stack_is_found_by_its_index(void)
{
    open_plain(200, true);
    for (size_t i = 0; i < 200; i++) {
        struct stack *s = take();

        CHECK_EQ(s->index, i);
        CHECK_EQ(stack_at(&stacks, i), s);
        CHECK_EQ((uintptr_t)s->low % PAGE, 0);
        CHECK((size_t)((char *)s + HEADER - s->low) <= USABLE);
    }
    stacks_fini(&stacks);
}

struct drifter {
    struct stack_cache cache;
    uint64_t seed;
};

/* Takes a few stacks, writes its name into each, sees it still there, gives them back. */
static void *take_and_give(void *arg)
{
    struct drifter *me = arg;
    struct stack *s[100];

    for (int round = 0; round < CHECK_SCALE(20000); round++) {
        int n = (int)(random_next(&me->seed) % 100);

        for (int i = 0; i < n; i++)
            if ((s[i] = stack_take(&stacks, &me->cache)))
                *(void **)(void *)s[i]->low = me;
        for (int i = 0; i < n; i++)
            if (CHECK(s[i] != NULL)) {
                CHECK_EQ(*(void **)(void *)s[i]->low, me);
                stack_give(&stacks, &me->cache, s[i]);
            }
        if (round % 64 == 0)
            stacks_trim(&stacks);
    }
    stack_cache_flush(&stacks, &me->cache);
    return NULL;
}

static void each_stack_is_held_by_one(void) /* S1 */
{
    struct drifter drifter[3] = {{.seed = 1}, {.seed = 2}, {.seed = 3}};
    struct threads threads = {.count = 0};

    open_plain(MANY_STACKS, true);
    for (int i = 0; i < 3; i++)
        threads_add(&threads, take_and_give, &drifter[i]);
    threads_join(&threads);
    CHECK_EQ(stacks.depot.count + stacks.cold_count, stacks.created);
    stacks_fini(&stacks);
}

/* ------------------------------------------------------------------------------ giving memory back */

static size_t resident_pages(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    size_t all, resident = 0;

    if (CHECK(f != NULL)) {
        CHECK_EQ(fscanf(f, "%zu %zu", &all, &resident), 2);
        fclose(f);
    }
    return resident;
}

static void fill(struct stack *s)
{
    memset(s->low, 0x5a, (size_t)((char *)s - s->low));
}

static void trim_gives_memory_back_and_leaves_stacks_usable(void)
{
    static struct stack *s[MANY_STACKS];
    size_t full, trimmed;

    open_plain(MANY_STACKS, true);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY_STACKS; i++)
            if (CHECK((s[i] = take()) != NULL))
                fill(s[i]);
        CHECK_EQ(take(), NULL);
        for (int i = 0; i < MANY_STACKS; i++)
            give(s[i]);
        stack_cache_flush(&stacks, &cache);
        full = resident_pages();
        while (stacks_trim(&stacks))
            ;
        trimmed = resident_pages();
        CHECK_EQ(stacks.depot.count, WARM);
        CHECK_EQ(stacks.cold_count, MANY_STACKS - WARM);
        CHECK(full - trimmed > (MANY_STACKS - WARM) * (USABLE / PAGE) * 9 / 10);
    }
    for (int i = 0; i < MANY_STACKS; i++) { /* warm and cold: the header is whole */
        s[0] = take();
        CHECK_EQ(stack_at(&stacks, s[0]->index), s[0]);
    }
    CHECK_EQ(signal_of_child(write_to, s[0]->low - 1), SIGSEGV);
    stacks_fini(&stacks);
}

/* ------------------------------------------------------------------------------ the host's memory */

static struct {
    long blocks;  /* allocated and not freed */
    bool refuses;
} given;

static void *host_alloc(size_t bytes, void *arg)
{
    size_t *block = given.refuses ? NULL : malloc(bytes + 64);

    (void)arg;
    if (!block)
        return NULL;
    *block = bytes;
    given.blocks++;
    return (char *)block + 64;
}

/* Writes to all of the block: no guard may be left in it. */
static void host_free(void *memory, void *arg)
{
    size_t *block = (void *)((char *)memory - 64);

    (void)arg;
    memset(memory, 0x77, *block);
    given.blocks--;
    free(block);
}

static void stacks_come_from_the_host_and_go_back(bool advice)
{
    coir_options options = {.alloc = host_alloc, .free = host_free};
    struct stack *s = NULL;

    CHECK_EQ(open_stacks(&options, 300), COIR_OK);
    stacks.guard_by_advice &= advice;
    CHECK_EQ(stacks.arena, NULL);
    for (int i = 0; i < 100; i++)
        if (CHECK((s = take()) != NULL))
            fill(s);
    CHECK(given.blocks > 1);
    CHECK_EQ(signal_of_child(write_to, s->low - 1), SIGSEGV);
    stacks_fini(&stacks);
    CHECK_EQ(given.blocks, 0);
}

static void a_host_allocator_gives_the_chunks(void)
{
    stacks_come_from_the_host_and_go_back(true);
    stacks_come_from_the_host_and_go_back(false);
}

static void no_memory_from_the_host_is_no_stack_and_no_more(void)
{
    coir_options options = {.alloc = host_alloc, .free = host_free};

    CHECK_EQ(open_stacks(&options, 300), COIR_OK);
    given.refuses = true;
    CHECK_EQ(take(), NULL);
    given.refuses = false;
    while (take())
        given.refuses = stacks.created >= 10;
    given.refuses = false;
    CHECK(stacks.created >= 10);
    CHECK(take() != NULL);
    stacks_fini(&stacks);
    CHECK_EQ(given.blocks, 0);
}

/* ------------------------------------------------------------------------------ a system's limits */

/* A child process that has checks of its own. */
static void in_child(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        fn();
        _exit(__atomic_load_n(&check_failures, __ATOMIC_RELAXED) != 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* Sets a limit to what statm's column says is used now, and so much more. False: an emulator that
 * ignores it. */
static bool limit(int resource, int column, size_t more)
{
    FILE *f = fopen("/proc/self/statm", "re");
    struct rlimit rl = {0}, now;
    size_t pages = 0;

    for (int i = 0; i < column; i++)
        CHECK_EQ(fscanf(f, "%zu", &pages), 1);
    fclose(f);
    rl.rlim_cur = rl.rlim_max = pages * PAGE + more;
    setrlimit((__rlimit_resource_t)resource, &rl);
    getrlimit((__rlimit_resource_t)resource, &now);
    return now.rlim_cur == rl.rlim_cur;
}

static void open_in_little_address_space(void)
{
    coir_options options = {0};

    if (!limit(RLIMIT_AS, 1, 64 << 20))
        return;
    CHECK_EQ(open_stacks(&options, 1000000), COIR_ENOMEM);
    CHECK(strstr(logged, "RLIMIT_AS") != NULL);
    CHECK(strstr(logged, "stacks_max") != NULL);
    CHECK_EQ(open_stacks(&options, 100), COIR_OK);
    CHECK(take() != NULL);
    stacks_fini(&stacks);
}

static void too_little_address_space_is_said_at_open(void)
{
    in_child(open_in_little_address_space);
}

/* Committing fails as it does under strict overcommit: memory that may be written is limited. */
static void take_in_little_memory(void)
{
    size_t n = 0;

    open_plain(100000, true);
    if (!limit(RLIMIT_DATA, 6, 64 << 20))
        return;
    while (n < 100000 && take())
        n++;
    CHECK(n > 0);
    CHECK(n < 100000);
    stacks_fini(&stacks);
}

static void memory_that_cannot_be_committed_is_no_stack(void)
{
    in_child(take_in_little_memory);
}

static void open_locked(void)
{
    size_t before = resident_pages();

    if (mlockall(MCL_FUTURE) != 0)
        return; /* RLIMIT_MEMLOCK does not let us */
    open_plain(20000, true);
    for (int i = 0; i < 100; i++)
        CHECK(take() != NULL);
    CHECK((resident_pages() - before) * PAGE < 64 << 20);
    CHECK_EQ(signal_of_child(write_to, take()->low - 1), SIGSEGV);
    stacks_fini(&stacks);
}

static void locked_memory_does_not_fill_the_arena(void)
{
    in_child(open_locked);
}

CHECK_MAIN(CASE(a_write_below_a_stack_faults),
           CASE(an_overflow_hits_the_guard_however_large_the_frame),
           CASE(the_last_given_is_the_first_taken),
           CASE(no_stack_past_the_limit),
           CASE(neighbours_differ_in_colour),
           CASE(a_stack_is_found_by_its_index),
           CASE(each_stack_is_held_by_one),
           CASE(trim_gives_memory_back_and_leaves_stacks_usable),
           CASE(a_host_allocator_gives_the_chunks),
           CASE(no_memory_from_the_host_is_no_stack_and_no_more),
           CASE(too_little_address_space_is_said_at_open),
           CASE(memory_that_cannot_be_committed_is_no_stack),
           CASE(locked_memory_does_not_fill_the_arena))
