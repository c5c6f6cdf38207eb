/* SPDX-License-Identifier: MIT */
/*
 * edge_cxx_test.cc - the edge of foreign code: what breaks there becomes a status for those who call it,
 * and nothing of one language passes through the other.
 */
#include "run.h"

#include <unwind.h>

#include <exception>
#include <stdexcept>

namespace {

constexpr uint64_t class_rust = 0x4d4f5a0052555354; /* "MOZ\0RUST" */

int destroyed;

struct guard {
    ~guard() { destroyed++; }
};

/* ------------------------------------------------------------------ a library with an edge */

struct call {
    int value, result;
};

/* C++ inside. */
void divide(void *arg)
{
    call *c = static_cast<call *>(arg);
    guard g;

    if (c->value == 0)
        throw std::domain_error("nothing to divide by");
    coir_require(c->value > 0, "%d is negative", c->value);
    c->result = 100 / c->value;
}

/* C outside: 0 or a negative status. */
extern "C" int divided(int value, int *result, coir_failure *why)
{
    call c = {value, 0};
    int outcome = coir_try(divide, &c, why);

    *result = c.result;
    return outcome == COIR_DONE ? COIR_OK : outcome < 0 ? outcome : COIR_EINVAL;
}

void use_library(void *)
{
    coir_failure f;
    int result = -1;

    destroyed = 0;
    CHECK_EQ(divided(4, &result, &f), COIR_OK);
    CHECK_EQ(result, 25);
    CHECK_EQ(divided(0, &result, &f), COIR_EINVAL);
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    CHECK(strstr(f.message, "std::domain_error") != nullptr);
    CHECK_EQ(divided(-1, &result, &f), COIR_EINVAL);
    CHECK_EQ(f.kind, COIR_KIND_PANIC);
    CHECK_STR(f.message, "-1 is negative");
    CHECK_EQ(destroyed, 3);
    CHECK(std::current_exception() == nullptr);
}

void exceptions_and_panics_become_a_status()
{
    use_library(nullptr);
    run_on(1, use_library, nullptr);
    run_on(2, use_library, nullptr);
}

/* ------------------------------------------------------------- a library of another language */

void drop_nothing(_Unwind_Reason_Code, _Unwind_Exception *) {}

void panic_in_rust()
{
    static _Unwind_Exception e;

    e = {};
    e.exception_class = class_rust;
    e.exception_cleanup = drop_nothing;
    _Unwind_RaiseException(&e);
    CHECK_NEVER("somebody catches it");
}

/* Stands for catch_unwind at that language's own edge. */
int rust_shim()
{
    guard g;

    try {
        panic_in_rust();
    } catch (...) {
        return coir_fail(-7, "a panic in rust");
    }
    return 0;
}

void use_shim(void *) { CHECK_EQ(rust_shim(), -7); }

void run_shim(void *)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(coir_spawn(&c, use_shim, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.code, -7);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(coir_try(use_shim, nullptr, &f), COIR_FAILED);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK); /* the worker is well */
}

void a_rust_panic_that_its_shim_catches_is_an_error()
{
    run_on(1, run_shim, nullptr);
}

/* ------------------------------------------------------- an exception whose end moves its job */

/* Its job goes on on the second worker, while the first handles an exception of its own. */
struct moves {
    int handling, ended;
    coir_counter job = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;
} moved;

struct sleeps_at_its_end {
    ~sleeps_at_its_end() { CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_MS), COIR_OK); }
};

void spins(void *flag)
{
    while (!__atomic_load_n(static_cast<int *>(flag), __ATOMIC_ACQUIRE)) {
    }
}

void handles_meanwhile(void *)
{
    try {
        throw 5;
    } catch (int) {
        run_set(&moved.handling);
        spins(&moved.ended);
        CHECK(std::current_exception() != nullptr);
    }
}

void throws_and_moves(void *)
{
    CHECK_EQ(coir_spawn(&moved.other, handles_meanwhile, nullptr), COIR_OK);
    throw sleeps_at_its_end();
}

void an_exception_that_moves_its_job_leaves_the_other_workers_alone()
{
    coir_options o = run_options(2);
    coir_counter spinner = COIR_COUNTER_INIT;
    coir_runtime *rt = nullptr;

    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &spinner, spins, &moved.handling), COIR_OK);
    CHECK_EQ(coir_submit(rt, &moved.job, throws_and_moves, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&moved.job), COIR_PANICKED);
    run_set(&moved.ended);
    CHECK_EQ(coir_wait(&moved.other), COIR_DONE);
    CHECK_EQ(coir_wait(&spinner), COIR_DONE);
    run_close(rt);
}

/* -------------------------------------------------------------------- two calls, one of which throws */

struct both {
    int started, ended;
};

void sleeps_till_canceled(void *arg)
{
    both *b = static_cast<both *>(arg);

    run_set(&b->started);
    CHECK_EQ(coir_sleep_until(coir_now() + 1000 * COIR_SEC), COIR_ECANCELED);
    run_set(&b->ended);
}

void throws_at_once(void *) { throw std::runtime_error("planned"); }

void throws_when_started(void *arg)
{
    both *b = static_cast<both *>(arg);

    while (!__atomic_load_n(&b->started, __ATOMIC_ACQUIRE))
        coir_yield();
    throw std::runtime_error("planned");
}

/* What lies there next. */
__attribute__((noinline)) void writes_over_frames()
{
    volatile char frame[4096];

    for (volatile char &byte : frame)
        byte = 0x5a;
}

int forks_and_catches(coir_fn *fn, both *b)
{
    int caught = 0;

    try {
        (void)!coir_fork2(fn, b, sleeps_till_canceled, b);
    } catch (const std::runtime_error &) {
        caught = 1;
        CHECK_EQ(__atomic_load_n(&b->ended, __ATOMIC_ACQUIRE), __atomic_load_n(&b->started, __ATOMIC_ACQUIRE));
    }
    writes_over_frames();
    coir_yield();
    return caught;
}

void catches_what_passes_a_fork(void *)
{
    for (int i = 0; i < MANY(100); i++) {
        both first = {}, second = {};

        CHECK_EQ(forks_and_catches(throws_at_once, &first), 1);
        CHECK_EQ(forks_and_catches(throws_when_started, &second), 1);
        CHECK_EQ(second.ended, 1);
    }
}

/* Its counter is in a frame that the program does not know. */
void an_exception_that_passes_a_fork_ends_the_other_call_first()
{
    run_on(1, catches_what_passes_a_fork, nullptr);
    run_on(2, catches_what_passes_a_fork, nullptr);
}

/* The usual way to make a panic an error of one's own. */
void raise_and_translate(void *rethrow)
{
    try {
        coir_panic("plain");
    } catch (...) {
        CHECK_EQ(coir_fail(-77, "translated"), -77);
        if (rethrow)
            throw;
    }
}

void translate(void *)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_and_translate, nullptr, &f), COIR_FAILED);
    CHECK_EQ(f.code, -77);
    CHECK_EQ(f.kind, COIR_KIND_FAIL);
    CHECK_EQ(coir_try(raise_and_translate, &f, &f), COIR_PANICKED); /* it outranks */
    CHECK_STR(f.message, "plain");
}

void a_catch_that_fails_the_job_is_heard() { run_on(1, translate, nullptr); }

} // namespace

CHECK_MAIN(CASE(a_catch_that_fails_the_job_is_heard),
           CASE(an_exception_that_moves_its_job_leaves_the_other_workers_alone),
           CASE(an_exception_that_passes_a_fork_ends_the_other_call_first),
           CASE(exceptions_and_panics_become_a_status),
           CASE(a_rust_panic_that_its_shim_catches_is_an_error))
