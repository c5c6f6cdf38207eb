/* SPDX-License-Identifier: MIT */
/*
 * terminate_test.cc - core/terminate.c: when C++ ends the process because of a panic, the report names
 * the frame; the host's terminate handler comes next, and is the only one when nothing panics.
 */
#include "child.h"

#include <exception>
#include <initializer_list>
#include <thread>

namespace {

void raise_plain() { coir_panic("on its way"); }

[[noreturn]] void hosts_handler()
{
    fprintf(stderr, "the host's handler\n");
    abort();
}

void in_job(void *arg)
{
    coir_options o = run_options(2);

    std::set_terminate(hosts_handler);
    if (coir_run(&o, *static_cast<coir_fn **>(arg), nullptr) >= COIR_DONE)
        _exit(0);
}

void in_try(void *arg)
{
    std::set_terminate(hosts_handler);
    if (coir_try(*static_cast<coir_fn **>(arg), nullptr, nullptr) >= COIR_DONE)
        _exit(0);
}

/* In a job and on a plain thread; the words come in this order. */
void dies(coir_fn *fn, const char *cause, const char *place)
{
    const char *const words[] = {cause, "tests/terminate_test.cc:", ": on its way; in ", place, nullptr};

    for (coir_fn *way : {in_job, in_try}) {
        child c;
        const char *at = c.text;

        child_run(&c, way, &fn);
        CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
        for (const char *const *word = words; *word && at; word++)
            at = strstr(at, *word);
        if (!CHECK(at && strstr(at, "the host's handler")))
            fprintf(stderr, "    it said: %s\n", c.text);
    }
}

/* ------------------------------------------------------------------------- what is in the way */

void without_throw() noexcept { raise_plain(); }

void raise_in_noexcept(void *) { without_throw(); }

void raise_while_handling(void *)
{
    try {
        throw 1;
    } catch (...) {
        without_throw();
    }
}

#define NOEXCEPT "fatal: a noexcept frame is in the way of a panic: "

void a_noexcept_frame_is_named()
{
    dies(raise_in_noexcept, NOEXCEPT, "terminate_test+0x");
}

/* Compilers differ in whether C++ counts the panic as caught there, which it refuses beside another. */
void one_met_while_an_exception_is_handled_is_told()
{
    dies(raise_while_handling, "fatal: ", "terminate_test+0x");
}

/* An exported function has a name: a noexcept one of libstdc++'s, which calls the destructor. */
struct fuse {
    ~fuse() noexcept(false) { raise_plain(); }
};

void release_fuse(void *)
{
    auto kept = std::make_exception_ptr(1);

    try {
        throw fuse();
    } catch (...) {
        kept = std::current_exception();
    }
    kept = nullptr;
}

void a_name_is_shown_as_in_the_source()
{
    dies(release_fuse, NOEXCEPT, "std::__exception_ptr::exception_ptr::_M_release()");
}

/* --------------------------------------------------------------------------- what a cleanup does */

void throw_int() { throw 2; }

struct thrower {
    ~thrower() { throw_int(); }
};

struct unjoined {
    std::thread thread{[] {}};
};

template <class T> void raise_over(void *)
{
    T held;

    raise_plain();
}

#define CALLED "fatal: std::terminate was called while a panic unwinds: "

void a_cleanup_that_ends_the_process_is_not_taken_for_one()
{
    dies(raise_over<thrower>, CALLED, "terminate_test+0x");
    dies(raise_over<unjoined>, CALLED, "terminate_test+0x");
}

/* ----------------------------------------------------------------------------- the host's handler */

void die_by_default(void *)
{
    if (coir_try(raise_in_noexcept, nullptr, nullptr) >= COIR_DONE)
        _exit(0);
}

void without_a_handler_of_the_hosts_it_aborts()
{
    CHILD_DIES(die_by_default, nullptr, SIGABRT, NOEXCEPT);
}

struct looker {
    ~looker() { *seen = std::get_terminate(); }
    std::terminate_handler *seen;
};

std::terminate_handler on_the_way;

void raise_looking(void *)
{
    looker l{&on_the_way};

    raise_plain();
}

void raise_twice_looking(void *)
{
    struct inner {
        ~inner()
        {
            CHECK_EQ(coir_try(raise_looking, nullptr, nullptr), COIR_PANICKED);
            CHECK(std::get_terminate() != hosts_handler); /* the outer one is still on its way */
        }
    } i;

    raise_plain();
}

void swallow(void *)
{
    looker l{&on_the_way};

    try {
        raise_looking(nullptr);
    } catch (...) {
    }
}

struct once_way {
    coir_fn *fn;
    int outcome;
};

void it_is_set_again_when_the_panic_has_ended()
{
    const once_way ways[] = {
        {raise_looking, COIR_PANICKED}, {raise_twice_looking, COIR_PANICKED}, {swallow, COIR_DONE}};
    const std::terminate_handler before = std::set_terminate(hosts_handler);

    for (const once_way &way : ways) {
        coir_options o = run_options(1);

        on_the_way = hosts_handler;
        CHECK_EQ(coir_try(way.fn, nullptr, nullptr), way.outcome);
        CHECK_EQ(std::get_terminate(), hosts_handler);
        CHECK_EQ(coir_run(&o, way.fn, nullptr), way.outcome);
        CHECK_EQ(std::get_terminate(), hosts_handler);
        CHECK(way.outcome == COIR_DONE || on_the_way != hosts_handler);
    }
    std::set_terminate(before);
}

struct setter {
    ~setter() { std::set_terminate(handler); }
    std::terminate_handler handler;
};

void raise_setting(void *)
{
    setter s{hosts_handler};

    raise_plain();
}

void one_that_is_set_meanwhile_stays()
{
    const std::terminate_handler before = std::get_terminate();

    CHECK(before != hosts_handler);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_try(raise_setting, nullptr, nullptr), COIR_PANICKED);
        CHECK_EQ(std::get_terminate(), hosts_handler);
    }
    std::set_terminate(before);
    CHECK_EQ(coir_try(raise_looking, nullptr, nullptr), COIR_PANICKED);
    CHECK_EQ(std::get_terminate(), before);
}

/* The host has kept ours, which it found, and sets it again when nothing panics. */
void ours_may_be_set_by_the_host(void *)
{
    std::set_terminate(hosts_handler);
    CHECK_EQ(coir_try(raise_looking, nullptr, nullptr), COIR_PANICKED);
    CHECK(on_the_way != hosts_handler);
    std::set_terminate(on_the_way);
    CHECK_EQ(coir_try(raise_looking, nullptr, nullptr), COIR_PANICKED);
    std::terminate();
}

void ours_goes_on_to_the_hosts_whenever_it_is_called()
{
    CHILD_DIES(ours_may_be_set_by_the_host, nullptr, SIGABRT, "the host's handler");
}

/* The host sets a handler while ours is in place, and goes on to what it found. */
std::terminate_handler found;

[[noreturn]] void goes_on()
{
    fprintf(stderr, "the host's handler\n");
    found();
    abort();
}

struct finder {
    ~finder() { found = std::set_terminate(goes_on); }
};

void two_that_go_on_to_each_other(void *)
{
    CHECK_EQ(coir_try(raise_over<finder>, nullptr, nullptr), COIR_PANICKED);
    if (coir_try(raise_in_noexcept, nullptr, nullptr) >= COIR_DONE)
        _exit(0);
}

void handlers_that_go_on_to_each_other_come_to_an_end()
{
    CHILD_DIES(two_that_go_on_to_each_other, nullptr, SIGABRT, NOEXCEPT, "the host's handler");
}

int ended;

struct counted {
    ~counted() { run_count(&ended); }
};

void panic_often(void *)
{
    for (int i = 0; i < MANY(2000); i++)
        CHECK_EQ(coir_try(raise_over<counted>, nullptr, nullptr), COIR_PANICKED);
}

void panic_side_by_side(void *)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 8; i++)
        CHECK_EQ(coir_spawn(&c, panic_often, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

void it_is_set_again_after_many_at_once()
{
    const std::terminate_handler before = std::set_terminate(hosts_handler);

    run_on(4, panic_side_by_side, nullptr);
    CHECK_EQ(std::get_terminate(), hosts_handler);
    CHECK_EQ(ended, 8 * MANY(2000));
    std::set_terminate(before);
}

/* ------------------------------------------------------------------------------- somebody else's end */

int unwinding;

struct waiter {
    ~waiter()
    {
        run_set(&unwinding);
        (void)!coir_sleep_until(COIR_NEVER);
    }
};

void terminate_beside(void *)
{
    coir_counter c = COIR_COUNTER_INIT;

    if (coir_spawn(&c, raise_over<waiter>, nullptr) != COIR_OK)
        _exit(1);
    run_until(&unwinding);
    std::terminate();
}

void the_end_of_a_job_that_does_not_panic_is_not_called_one()
{
    coir_fn *fn = terminate_beside;
    child c;

    child_run(&c, in_job, &fn);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
    CHECK(strstr(c.text, "the host's handler") != nullptr);
    CHECK(strstr(c.text, "fatal") == nullptr);
}

} // namespace

CHECK_MAIN(CASE(a_noexcept_frame_is_named), CASE(one_met_while_an_exception_is_handled_is_told),
           CASE(a_name_is_shown_as_in_the_source),
           CASE(a_cleanup_that_ends_the_process_is_not_taken_for_one),
           CASE(without_a_handler_of_the_hosts_it_aborts), CASE(it_is_set_again_when_the_panic_has_ended),
           CASE(one_that_is_set_meanwhile_stays), CASE(handlers_that_go_on_to_each_other_come_to_an_end),
           CASE(ours_goes_on_to_the_hosts_whenever_it_is_called),
           CASE(it_is_set_again_after_many_at_once),
           CASE(the_end_of_a_job_that_does_not_panic_is_not_called_one))
