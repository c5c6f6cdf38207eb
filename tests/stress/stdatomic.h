/* SPDX-License-Identifier: MIT */
/*
 * stdatomic.h - C11's atomics as core/ uses them, with a pause before an operation now and then: whoever
 * is between two steps of a protocol is overtaken there. Found before the compiler's own, so core/ is
 * compiled as it is. GCC only.
 *
 * A relaxed load pauses never: boundary.c reads frames that have been left by such, where any call
 * would run over them.
 */
#ifndef STRESS_STDATOMIC_H
#define STRESS_STDATOMIC_H

#include_next <stdatomic.h>

#include <sched.h>
#include <stdint.h>
#include <time.h>

#define STRESS_EVERY 128 /* operations, of a file and thread, to a pause */

/* A moment, a turn for another thread, or long enough for others to finish what they are at. */
static __attribute__((noinline, unused, cold)) void stress_pause(uint64_t r)
{
    const struct timespec nap = {.tv_nsec = (long)(r >> 40) % 50000};

    if (r >> 10 & 3) {
        for (uint64_t turns = r >> 20 & 1023; turns; turns--)
            __asm__ volatile("pause");
    } else if (r >> 12 & 7) {
        sched_yield();
    } else {
        nanosleep(&nap, 0);
    }
}

static inline __attribute__((unused)) void stress_step(void)
{
    static __thread uint64_t random;

    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth's MMIX */
    if (__builtin_expect((random >> 33) % STRESS_EVERY == 0, 0))
        stress_pause(random ^ (uint64_t)(uintptr_t)&random << 20);
}

/* The type of what p points to, without _Atomic: the comma makes it a value. */
#define STRESS_VALUE(p) __typeof__(((void)0, *(p)))

#undef atomic_load_explicit
#define atomic_load_explicit(p, order)                                                             \
    ({                                                                                             \
        STRESS_VALUE(p) stress_value;                                                              \
        if ((order) != memory_order_relaxed)                                                       \
            stress_step();                                                                         \
        __atomic_load((p), &stress_value, (order));                                                \
        stress_value;                                                                              \
    })

#undef atomic_store_explicit
#define atomic_store_explicit(p, value, order)                                                     \
    ({                                                                                             \
        STRESS_VALUE(p) stress_value = (value);                                                    \
        stress_step();                                                                             \
        __atomic_store((p), &stress_value, (order));                                               \
    })

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(p, value, order)                                                  \
    ({                                                                                             \
        STRESS_VALUE(p) stress_value = (value), stress_was;                                        \
        stress_step();                                                                             \
        __atomic_exchange((p), &stress_value, &stress_was, (order));                               \
        stress_was;                                                                                \
    })

#define STRESS_CAS(p, expected, value, weak, success, failure)                                     \
    ({                                                                                             \
        STRESS_VALUE(p) stress_value = (value);                                                    \
        stress_step();                                                                             \
        __atomic_compare_exchange((p), (expected), &stress_value, (weak), (success), (failure));   \
    })

#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_strong_explicit(p, e, v, s, f) STRESS_CAS(p, e, v, 0, s, f)
#define atomic_compare_exchange_weak_explicit(p, e, v, s, f) STRESS_CAS(p, e, v, 1, s, f)

#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#define atomic_fetch_add_explicit(p, n, order) (stress_step(), __atomic_fetch_add((p), (n), (order)))
#define atomic_fetch_sub_explicit(p, n, order) (stress_step(), __atomic_fetch_sub((p), (n), (order)))
#define atomic_fetch_or_explicit(p, n, order) (stress_step(), __atomic_fetch_or((p), (n), (order)))
#define atomic_fetch_and_explicit(p, n, order) (stress_step(), __atomic_fetch_and((p), (n), (order)))

#undef atomic_thread_fence
#define atomic_thread_fence(order) (stress_step(), __atomic_thread_fence(order))

#endif
