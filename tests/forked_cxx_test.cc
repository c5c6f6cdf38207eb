/* SPDX-License-Identifier: MIT */
/*
 * forked_cxx_test.cc - a fork of a process whose threads panic, or wait for signals: it inherits none of their locks,
 * nor what terminate.c notes of their panics, nor what catches their signals.
 */
#include "run.h"

#include <csignal>
#include <sys/wait.h>

#include <exception>
#include <thread>
#include <vector>

#if defined __has_feature
#if __has_feature(thread_sanitizer) /* it may hold locks of its own at the fork, and then keeps signals back */
#define THREADS 0
#endif
#endif
#ifndef THREADS
#define THREADS 2
#endif

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

void panic_over_cleanup(void *)
{
    counted frame_with_a_cleanup;

    coir_panic("on its way");
}

int enough;

void panic_until_enough()
{
    while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE))
        CHECK_EQ(coir_try(panic_over_cleanup, nullptr, nullptr), COIR_PANICKED);
}

/* Its parent's threads may have been in the middle of it. */
void panic_in_fork()
{
    const pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        check_begin(CHECK_SECONDS); /* not inherited */
        _exit(coir_try(panic_over_cleanup, nullptr, nullptr) == COIR_PANICKED &&
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
    std::vector<std::thread> threads(THREADS);

    for (auto &one : threads)
        one = std::thread(panic_until_enough);
    for (int i = 0; i < MANY(400); i++)
        panic_in_fork();
    run_set(&enough);
    for (auto &one : threads)
        one.join();
    CHECK_EQ(std::get_terminate(), hosts_handler);
    std::set_terminate(before);
}

#if THREADS
void ask_once(void *)
{
    CHECK_EQ(coir_signal_wait_until(COIR_SIGNAL(SIGUSR1), coir_now()), COIR_ETIMEDOUT);
}

/* Of a thread that lets it in, as workers do not. */
void a_signal_does_in_a_fork_what_it_did()
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int status = -1;
    pid_t pid;

    CHECK_EQ(coir_submit(rt, &c, ask_once, nullptr), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pid = fork();
    if (pid == 0) {
        alarm(5);
        raise(SIGUSR1);
        for (;;)
            pause();
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
    run_close(rt);
}
#endif

} // namespace

CHECK_MAIN(CASE(a_fork_finds_none_of_its_parents_panics)
#if THREADS
               , CASE(a_signal_does_in_a_fork_what_it_did)
#endif
)
