/* SPDX-License-Identifier: MIT */
/*
 * matrix_cxx.cc - rows of the propagation matrix: what only C++ can do.
 */
#include "matrix.h"

namespace {

int destroyed;

struct guard {
    ~guard() { destroyed++; }
};

void throw_int(void *) { throw 7; }

void throw_over_guard(void *)
{
    guard g;

    throw_int(nullptr);
}

void panic_over_guard(void *)
{
    guard g;

    coir_panic("planned");
}

void note_destroyed(scene *s)
{
    if (destroyed == 1)
        peer_saw(s, "destructor ran");
}

} // namespace

void cxx_job_throws(scene *s)
{
    destroyed = 0;
    waiter_runs(s, throw_over_guard, nullptr);
    note_destroyed(s);
}

void cxx_destructors(scene *s)
{
    destroyed = 0;
    waiter_runs(s, panic_over_guard, nullptr);
    note_destroyed(s);
}

namespace {

uint64_t swallowed(coir_runtime *rt)
{
    coir_stats stats;

    CHECK_EQ(coir_stats_read(rt, &stats), COIR_OK);
    return stats.swallowed;
}

void swallow(void *)
{
    try {
        panic_over_guard(nullptr);
    } catch (...) {
    }
}

void defer_throwing(void *) { CHECK_EQ(coir_defer(throw_int, nullptr), COIR_OK); }

void offload_throwing(void *outcome) { *static_cast<int *>(outcome) = coir_offload(throw_int, nullptr); }

} // namespace

void cxx_catch_all(scene *s)
{
    uint64_t before = swallowed(s->rt);

    waiter_runs(s, swallow, nullptr);
    peer_saw(s, "stats.swallowed %d", static_cast<int>(swallowed(s->rt) - before));
}

void cxx_defer_handler_throws(scene *s) { waiter_runs(s, defer_throwing, nullptr); }

void cxx_offload_throws(scene *s)
{
    int outcome = -1;

    waiter_runs(s, offload_throwing, &outcome);
    peer_saw(s, "offload %s", outcome_name(outcome));
    if (scene_kept(s).location == COIR_AT_OFFLOAD)
        peer_saw(s, "kept at offload");
}

/* --------------------------------------------------------------------------------- the end of it */

namespace {

void die(coir_fn *fn)
{
    coir_options o = run_options(1);

    die_in_job(&o, fn);
}

void stop_everything() noexcept { panic_over_guard(nullptr); }

struct bomb {
    ~bomb() { coir_panic("in a destructor"); }
};

void throw_over_bomb(void *)
{
    bomb b;

    throw_int(nullptr);
}

void throwing_hook(const coir_failure *, void *) { throw_int(nullptr); }

} // namespace

void cxx_noexcept(scene *)
{
    die([](void *) { stop_everything(); });
}

void cxx_destructor_panics(scene *) { die(throw_over_bomb); }

void cxx_hook_throws(scene *)
{
    coir_options o = run_options(1);

    o.panic_hook = throwing_hook;
    die_in_job(&o, panic_over_guard);
}
