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

} // namespace

CHECK_MAIN(CASE(exceptions_and_panics_become_a_status),
           CASE(a_rust_panic_that_its_shim_catches_is_an_error))
