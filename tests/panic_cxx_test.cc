/* SPDX-License-Identifier: MIT */
/*
 * panic_cxx_test.cc - coir in C++: exceptions that reach the boundary, panics through C++
 * frames, and the exception being handled, which belongs to what runs and not to the thread.
 */
#include "frames.h"

#include <pthread.h>

#include <exception>
#include <stdexcept>
#include <string>

namespace {

void throw_poison(void *) { throw poison{7}; }

void raise_plain(void *) { coir_panic("plain"); }

void nop(void *) {}

/* ------------------------------------------------------------------------- foreign exceptions */

void throw_standard(void *)
{
    guard g;

    throw std::runtime_error("out of luck");
}

void contain_both(void *)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    CHECK_EQ(coir_spawn(&c, throw_poison, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    CHECK_EQ(f.outcome, COIR_PANICKED);
    CHECK(strstr(f.message, "poison") != nullptr);

    destroyed = 0;
    CHECK_EQ(coir_try(throw_standard, nullptr, &f), COIR_PANICKED);
    CHECK(strstr(f.message, "std::runtime_error") != nullptr);
    CHECK_EQ(destroyed, 1);
}

void an_exception_is_contained_with_its_types_name()
{
    on_workers(contain_both);
    coir_failure f;
    CHECK_EQ(coir_try(throw_poison, nullptr, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    CHECK_STR(f.message, "C++ exception of type (anonymous namespace)::poison");
}

void throw_again(void *)
{
    std::exception_ptr kept;

    try {
        throw std::out_of_range("kept");
    } catch (...) {
        kept = std::current_exception();
    }
    std::rethrow_exception(kept); /* a dependent exception: its header is another one */
}

void throw_derived(void *)
{
    struct odd : std::string {};

    throw odd();
}

void throw_pointer(void *) { throw "text"; }

void names_told(void *)
{
    coir_failure f;

    CHECK_EQ(coir_try(throw_again, nullptr, &f), COIR_PANICKED);
    CHECK_STR(f.message, "C++ exception of type std::out_of_range");
    CHECK_EQ(coir_try(throw_pointer, nullptr, &f), COIR_PANICKED);
    CHECK_STR(f.message, "C++ exception of type char const*");
    CHECK_EQ(coir_try(throw_derived, nullptr, &f), COIR_PANICKED);
    CHECK(strstr(f.message, "throw_derived(void*)::odd") != nullptr);
}

void every_kind_of_thrown_thing_has_a_name()
{
    on_workers(names_told);
    names_told(nullptr);
}

/* ----------------------------------------------------------- exceptions through coir's own frames */

void defer_throwing(void *) { CHECK_EQ(coir_defer(throw_poison, nullptr), COIR_OK); }

void rethrow_through_try(void *)
{
    try {
        throw poison{5};
    } catch (const poison &) {
        CHECK_EQ(coir_try([](void *) { throw; }, nullptr, nullptr), COIR_PANICKED);
        throw;
    }
}

void fail_then_throw(void *)
{
    coir_fail(3, "before it throws");
    throw poison{6};
}

/* Each boundary of coir's stops an exception; none passes through into a caller's catch. */
void throw_at_each_boundary(void *)
{
    coir_failure f;

    try {
        CHECK_EQ(coir_offload(throw_poison, nullptr), COIR_PANICKED);
        CHECK_EQ(coir_try(defer_throwing, nullptr, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
        CHECK_EQ(f.location, COIR_AT_DEFER);
        CHECK_EQ(coir_try(rethrow_through_try, nullptr, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
        CHECK_EQ(coir_try(fail_then_throw, nullptr, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_FOREIGN); /* it outranks the failure */
    } catch (...) {
        CHECK_NEVER("an exception passed a boundary");
    }
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK(!std::current_exception());
}

void no_exception_passes_a_boundary() { on_workers(throw_at_each_boundary); }

void count_uncaught(void *)
{
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(std::uncaught_exceptions(), 0);
        CHECK_EQ(coir_try(i % 2 ? throw_poison : raise_plain, nullptr, nullptr), COIR_PANICKED);
        CHECK(!std::current_exception());
    }
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

void the_count_of_uncaught_exceptions_does_not_drift()
{
    on_workers(count_uncaught);
    count_uncaught(nullptr);
}

void touch(void *cell)
{
    int *mine = static_cast<int *>(cell);

    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    CHECK_EQ(*mine, 1);
    coir_yield();
    *mine = 2;
}

struct touched {
    int cell = 1;
    ~touched() { destroyed += cell == 2; }
};

void throw_beside_child(void *)
{
    touched t;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, touch, &t.cell), COIR_OK);
    coir_yield();
    throw poison{1};
}

void wait_for_thrower(void *)
{
    coir_counter c = COIR_COUNTER_INIT;

    destroyed = 0;
    CHECK_EQ(coir_spawn(&c, throw_beside_child, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(destroyed, 1);
}

void children_end_before_an_exception_takes_their_frames()
{
    run_on(1, wait_for_thrower, nullptr);
}

/* ---------------------------------------------------------------------- panics in C++ frames */

void raise_through(int depth)
{
    guard g;

    if (depth > 0)
        raise_through(depth - 1);
    coir_require(depth > 0, "at the bottom");
}

void destroy_frames(void *)
{
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(coir_try([](void *) { raise_through(99); }, nullptr, &f), COIR_PANICKED);
    CHECK_EQ(destroyed, 100);
    CHECK_STR(f.message, "at the bottom");
}

void destructors_run_on_the_way()
{
    on_workers(destroy_frames);
    destroy_frames(nullptr);
}

void raise_and_pass_on(void *caught)
{
    try {
        raise_plain(nullptr);
    } catch (const std::exception &) {
        CHECK_NEVER("a panic is no std::exception");
    } catch (...) {
        ++*static_cast<int *>(caught);
        throw;
    }
}

void pass_on(void *)
{
    uint64_t before = swallowed();
    coir_failure f;
    int caught = 0;

    CHECK_EQ(coir_try(raise_and_pass_on, &caught, &f), COIR_PANICKED);
    CHECK_STR(f.message, "plain");
    CHECK_EQ(caught, 1);
    CHECK_EQ(swallowed(), before);
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

void a_catch_that_rethrows_passes_a_panic_on() { on_workers(pass_on); }

void raise_and_swallow(void *)
{
    try {
        raise_plain(nullptr);
    } catch (...) {
    }
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

void swallow(void *)
{
    uint64_t before = swallowed();

    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_try(raise_and_swallow, nullptr, nullptr), COIR_DONE);
    CHECK_EQ(swallowed(), before + 10);
    CHECK_EQ(coir_try(raise_plain, nullptr, nullptr), COIR_PANICKED); /* the next is as any other */
}

void a_catch_that_does_not_is_counted() { on_workers(swallow); }

void raise_after_swallowing(void *)
{
    raise_and_swallow(nullptr);
    coir_panic("second");
}

void swallow_then_raise(void *)
{
    coir_failure f;

    CHECK_EQ(coir_try(raise_after_swallowing, nullptr, &f), COIR_PANICKED);
    CHECK_STR(f.message, "second");
}

void fail_and_swallow(void *)
{
    coir_fail(4, "before it panics");
    raise_and_swallow(nullptr);
}

void swallow_after_failing(void *)
{
    coir_failure f;

    CHECK_EQ(coir_try(fail_and_swallow, nullptr, &f), COIR_FAILED);
    CHECK_EQ(f.kind, COIR_KIND_FAIL);
    CHECK_EQ(f.outcome, COIR_FAILED);
    CHECK_EQ(f.code, 4);
}

void a_swallowed_panic_leaves_the_failure_before_it() { on_workers(swallow_after_failing); }

void the_same_job_may_panic_again_after_a_catch() { on_workers(swallow_then_raise); }

void raise_in_catch(void *)
{
    try {
        throw poison{1};
    } catch (const poison &) {
        coir_panic("while handling");
    }
}

void leave_catch(void *)
{
    CHECK_EQ(coir_try(raise_in_catch, nullptr, nullptr), COIR_PANICKED);
    CHECK(!std::current_exception());
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

void a_panic_ends_the_handling_of_an_exception() { on_workers(leave_catch); }

/* ----------------------------------------------------------------- the exception being handled */

int wandered;
int moved; /* how many changed threads while they handled theirs */

/* Not inlined: compilers keep pthread_self() across a call. */
__attribute__((noinline)) pthread_t this_thread()
{
    __asm__ volatile("");
    return pthread_self();
}

/* Handles its own exception across suspensions, beside others that do the same. */
void wander(void *number)
{
    int mine = *static_cast<int *>(number), rethrown = -1;
    pthread_t before = this_thread();

    try {
        throw poison{mine};
    } catch (const poison &) {
        for (int i = 0; i < 20; i++) {
            if (i % 4 == 0)
                CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
            coir_yield();
        }
        if (!pthread_equal(before, this_thread()))
            run_count(&moved);
        try {
            throw;
        } catch (const poison &p) {
            rethrown = p.value;
        }
        CHECK(std::current_exception() != nullptr);
    }
    CHECK_EQ(rethrown, mine);
    CHECK(!std::current_exception());
    run_count(&wandered);
}

void wander_together(void *)
{
    coir_counter c = COIR_COUNTER_INIT;
    int numbers[50];

    wandered = 0;
    for (int i = 0; i < 50; i++)
        numbers[i] = i;
    CHECK_EQ(coir_spawn_many(&c, wander, numbers, sizeof numbers[0], 50), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(wandered, 50);
}

void a_fiber_keeps_the_exception_it_handles() { on_workers(wander_together); }

void wander_until_moved(void *)
{
    moved = 0;
    while (__atomic_load_n(&moved, __ATOMIC_RELAXED) == 0)
        wander_together(nullptr);
}

void it_takes_it_along_to_another_worker() { run_on(2, wander_until_moved, nullptr); }

void look_for_exceptions(void *)
{
    CHECK(!std::current_exception());
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK_EQ(coir_try(throw_poison, nullptr, nullptr), COIR_PANICKED);
}

void wait_in_catch(void *)
{
    coir_counter c = COIR_COUNTER_INIT;

    try {
        throw poison{3};
    } catch (const poison &) {
        CHECK_EQ(coir_spawn_many(&c, look_for_exceptions, nullptr, 0, 20), COIR_OK);
        CHECK_EQ(coir_spawn(&c, throw_poison, nullptr), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        try {
            throw;
        } catch (const poison &p) {
            CHECK_EQ(p.value, 3);
        }
    }
    CHECK(!std::current_exception());
}

void a_child_in_place_does_not_see_its_waiters_exception() { on_workers(wait_in_catch); }

struct waits {
    ~waits()
    {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, look_for_exceptions, nullptr), COIR_OK);
        coir_yield();
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        destroyed++;
    }
};

void throw_over_wait(void *)
{
    waits w;

    throw poison{2};
}

void unwind_over_wait(void *)
{
    destroyed = 0;
    CHECK_EQ(coir_try(throw_over_wait, nullptr, nullptr), COIR_PANICKED);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

void a_destructor_may_wait_while_an_exception_passes() { on_workers(unwind_over_wait); }

void the_header_is_usable_from_cxx()
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_init(&c);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_try(nop, nullptr, nullptr), COIR_DONE);
    CHECK_STR(coir_status_name(COIR_EPERM), "COIR_EPERM");
}

} // namespace

CHECK_MAIN(CASE(an_exception_is_contained_with_its_types_name),
           CASE(every_kind_of_thrown_thing_has_a_name), CASE(no_exception_passes_a_boundary),
           CASE(the_count_of_uncaught_exceptions_does_not_drift),
           CASE(children_end_before_an_exception_takes_their_frames),
           CASE(destructors_run_on_the_way), CASE(a_catch_that_rethrows_passes_a_panic_on),
           CASE(a_catch_that_does_not_is_counted),
           CASE(the_same_job_may_panic_again_after_a_catch),
           CASE(a_swallowed_panic_leaves_the_failure_before_it),
           CASE(it_takes_it_along_to_another_worker),
           CASE(a_panic_ends_the_handling_of_an_exception),
           CASE(a_fiber_keeps_the_exception_it_handles),
           CASE(a_child_in_place_does_not_see_its_waiters_exception),
           CASE(a_destructor_may_wait_while_an_exception_passes),
           CASE(the_header_is_usable_from_cxx))
