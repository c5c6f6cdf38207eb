/* SPDX-License-Identifier: MIT */
/*
 * fp_test.c - what the ABI lets a function call keep: floating-point control words (MXCSR, x87
 * control word, FPCR) of each fiber, and callee-saved registers, over yields, migrations and
 * panics.
 *
 * Linked with the port's abi.asm or abi.S, which load and read the registers (arch_test.c).
 */
#include "abi.h"
#include "arch.h"
#include "run.h"

#define CONTROL_BIT(name, bits) | (bits)
#define CONTROLS (UINT64_C(0) ABI_FP(CONTROL_BIT))

/* Words that differ from the thread's in some control bits, another set for each number. */
static uint64_t words_of(uint64_t start, int number)
{
    static const uint64_t bits[] = {
#define CONTROL_BITS(name, bits) (bits),
        ABI_FP(CONTROL_BITS)
#undef CONTROL_BITS
    };

    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (number >> i & 1)
            start ^= bits[i];
    return start;
}

static void check_words(uint64_t expected)
{
    CHECK_EQ(arch_fp_get() & CONTROLS, expected & CONTROLS);
}

/* ------------------------------------------------------------------------------ control words */

static uint64_t start_words;

static void keep_own_words(void *number)
{
    uint64_t mine = words_of(start_words, *(int *)number);

    check_words(start_words);
    arch_fp_set(mine);
    for (int i = 0; i < 50; i++) {
        coir_yield();
        check_words(mine);
        if (i % 10 == 0)
            CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
        check_words(mine);
    }
    arch_fp_set(start_words); /* as the ABI asks of any function */
}

static void keep_words_apart(void *unused)
{
    static int number[32];
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    start_words = arch_fp_get();
    for (int i = 0; i < 32; i++)
        number[i] = i;
    CHECK_EQ(coir_spawn_many(&c, keep_own_words, number, sizeof number[0], 32), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    check_words(start_words);
}

static void each_fiber_keeps_its_words_over_yields_and_migrations(void)
{
    run_on(1, keep_words_apart, NULL);
    run_on(2, keep_words_apart, NULL);
}

static void spoil_and_raise(void *unused)
{
    (void)unused;
    arch_fp_set(words_of(start_words, ~0));
    coir_panic("with other words");
}

static void check_start(void *unused)
{
    (void)unused;
    check_words(start_words);
}

static void start_after_panics(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    start_words = arch_fp_get();
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(coir_spawn(&c, check_start, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&c, spoil_and_raise, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&c, check_start, NULL), COIR_OK);
        coir_yield(); /* from the loop */
    }
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(coir_spawn(&c, check_start, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&c, spoil_and_raise, NULL), COIR_OK);
    }
    CHECK_EQ(coir_wait(&c), COIR_PANICKED); /* in place */
    check_words(start_words);
}

static void the_next_job_has_the_threads_words_after_a_panic(void)
{
    run_on(1, start_after_panics, NULL);
    run_on(2, start_after_panics, NULL);
}

static void wait_with_own_words(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    uint64_t mine;

    (void)unused;
    start_words = arch_fp_get();
    mine = words_of(start_words, 1);
    arch_fp_set(mine);
    CHECK_EQ(coir_spawn(&c, spoil_and_raise, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    check_words(mine);
    arch_fp_set(start_words);
}

static void a_waiter_keeps_its_words_when_its_child_panics(void)
{
    run_on(1, wait_with_own_words, NULL);
    run_on(2, wait_with_own_words, NULL);
}

static void set_words(void *unused)
{
    (void)unused;
    arch_fp_set(words_of(start_words, 1));
    coir_yield();
    check_words(words_of(start_words, 1));
    coir_yield();
}

static void share_words(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    start_words = arch_fp_get();
    CHECK_EQ(coir_spawn(&c, set_words, NULL), COIR_OK);
    coir_yield();
    check_words(words_of(start_words, 1));
    arch_fp_set(words_of(start_words, 1));
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    arch_fp_set(start_words);
}

static void fibers_share_words_when_told(void)
{
    coir_options o = run_options(1);

    o.share_fp = 1;
    CHECK_EQ(coir_run(&o, share_words, NULL), COIR_DONE);
}

/* ---------------------------------------------------------------------- callee-saved registers */

static const char *const register_name[] = {
#define REGISTER_NAME(name, dwarf) #name,
    ABI_REGISTERS(REGISTER_NAME)
#undef REGISTER_NAME
};

enum { REGISTERS = sizeof register_name / sizeof register_name[0], REGISTERS_MAX = 20 };

/* abi_call reads and fills this; abi.asm and abi.S know the offsets. */
struct abi_call {
    void *fn;
    void *args[3];
    void *result;
    uint64_t before[REGISTERS_MAX], after[REGISTERS_MAX];
};

void abi_call(struct abi_call *call);

static void *keeps_registers(void *fn, void *a, void *b, void *c)
{
    static uint64_t seed;
    struct abi_call call = {.fn = fn, .args = {a, b, c}};

    for (int i = 0; i < REGISTERS; i++)
        call.before[i] = __atomic_add_fetch(&seed, UINT64_C(0x9e3779b97f4a7c15), __ATOMIC_RELAXED);
    abi_call(&call);
    for (int i = 0; i < REGISTERS; i++)
        if (!CHECK_EQ(call.before[i], call.after[i]))
            fprintf(stderr, "    register %s\n", register_name[i]);
    return call.result;
}

static void nop(void *unused)
{
    (void)unused;
}

static void raise_from_below(void *unused)
{
    volatile int local[16] = {1};

    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
    nop(unused);
    coir_require(local[0] == 0, "with registers in use");
}

static void keep_registers(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 20; i++) {
        keeps_registers((void *)coir_yield, NULL, NULL, NULL);
        CHECK_EQ((intptr_t)keeps_registers((void *)coir_try, (void *)raise_from_below, NULL, NULL) &
                 0xff, COIR_PANICKED);
        CHECK_EQ(coir_spawn(&c, raise_from_below, NULL), COIR_OK);
        keeps_registers((void *)coir_wait, &c, NULL, NULL);
    }
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
}

static void keep_registers_together(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn_many(&c, keep_registers, unused, 0, 8), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void yields_waits_and_caught_panics_keep_callee_saved_registers(void)
{
    run_on(1, keep_registers_together, NULL);
    run_on(2, keep_registers_together, NULL);
}

CHECK_MAIN(CASE(each_fiber_keeps_its_words_over_yields_and_migrations),
           CASE(the_next_job_has_the_threads_words_after_a_panic),
           CASE(a_waiter_keeps_its_words_when_its_child_panics),
           CASE(fibers_share_words_when_told),
           CASE(yields_waits_and_caught_panics_keep_callee_saved_registers))
