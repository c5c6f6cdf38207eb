/* SPDX-License-Identifier: MIT */
/*
 * forked_cxx_test.cc - a fork of a process whose threads panic: it inherits none of their locks, nor what terminate.c
 * notes of their panics.
 */
#include "run.h"

#include <sys/wait.h>

#include <exception>
#include <thread>

extern "C" COIR_API const char *__tsan_default_options()
{
    return "die_after_fork=0"; /* a fork that has threads of its own is what is tested */
}

namespace {

struct counted {
    ~counted() { ended++; }
    static thread_local int ended;
};

thread_local int counted::ended;

[[noreturn]] void hosts_handler() { abort(); }

void raise(void *)
{
    counted frame_with_a_cleanup;

    coir_panic("on its way");
}

int enough;

void panic_until_enough()
{
    while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE))
        CHECK_EQ(coir_try(raise, nullptr, nullptr), COIR_PANICKED);
}

/* Its parent's threads may have been in the middle of it. */
void panic_in_fork()
{
    const pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        check_begin(CHECK_SECONDS); /* not inherited */
        _exit(coir_try(raise, nullptr, nullptr) == COIR_PANICKED &&
                      std::get_terminate() == hosts_handler
                  ? 0
                  : 1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

void a_fork_finds_none_of_its_parents_panics()
{
    const std::terminate_handler before = std::set_terminate(hosts_handler);
    std::thread one(panic_until_enough), other(panic_until_enough);

    for (int i = 0; i < MANY(400); i++)
        panic_in_fork();
    run_set(&enough);
    one.join();
    other.join();
    CHECK_EQ(std::get_terminate(), hosts_handler);
    std::set_terminate(before);
}

} // namespace

CHECK_MAIN(CASE(a_fork_finds_none_of_its_parents_panics))
