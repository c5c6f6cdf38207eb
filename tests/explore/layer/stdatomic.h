/* SPDX-License-Identifier: MIT */
/*
 * stdatomic.h - the C11 atomics that core/ uses, as calls of the simulated machine.
 *
 * Found before the compiler's own, so core/ is compiled as it is. Each use tells the machine its
 * address, order and place in the source. The memory itself is read once, when an address is first
 * used, and never written: what the threads see is the machine's (memory.c).
 *
 * What is missing here (an implicit order, an operation without _explicit) does not compile or link.
 */
#ifndef EXPLORE_STDATOMIC_H
#define EXPLORE_STDATOMIC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "operations.h"

typedef enum memory_order {
    memory_order_relaxed,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
} memory_order;

/* The type of what p points to, without _Atomic: the comma makes it a value. */
#define EXPLORE_VALUE(p) __typeof__(((void)0, *(p)))

/* Where an operation is in the source, and what it works on. */
#define EXPLORE_SITE(operation, place) \
    static const struct site explore_site = {                                                  \
        __FILE__, __LINE__, operation, place,                                                  \
        !__builtin_strcmp(place, "n") || !__builtin_strcmp(place, "(_Atomic uint64_t *)(uintptr_t)n"), \
        !__builtin_strcmp(place, "&l->taken")}

#define EXPLORE_ADDRESS(p) ((const volatile void *)(p))

/* A value as the machine's word, and back. */
#define EXPLORE_WORD(to, from) (to = 0, memcpy(&to, &from, sizeof from))
#define EXPLORE_UNWORD(to, from) memcpy(&to, &from, sizeof to)

#define atomic_load_explicit(p, order)                                                         \
    ({                                                                                         \
        EXPLORE_SITE("load", #p);                                                              \
        EXPLORE_VALUE(p) explore_value;                                                        \
        uint64_t explore_word = explore_load(EXPLORE_ADDRESS(p), sizeof explore_value, order,  \
                                             &explore_site);                                   \
        EXPLORE_UNWORD(explore_value, explore_word);                                           \
        explore_value;                                                                         \
    })

#define atomic_store_explicit(p, value, order)                                                 \
    ({                                                                                         \
        EXPLORE_SITE("store", #p);                                                             \
        EXPLORE_VALUE(p) explore_value = (value);                                              \
        uint64_t explore_word;                                                                 \
        EXPLORE_WORD(explore_word, explore_value);                                             \
        explore_store(EXPLORE_ADDRESS(p), sizeof explore_value, explore_word, order,           \
                      &explore_site);                                                          \
    })

#define EXPLORE_MODIFY(p, value, order, name, how)                                             \
    ({                                                                                         \
        EXPLORE_SITE(name, #p);                                                                \
        EXPLORE_VALUE(p) explore_value = (EXPLORE_VALUE(p))(value);                            \
        uint64_t explore_word;                                                                 \
        EXPLORE_WORD(explore_word, explore_value);                                             \
        explore_word = explore_modify(EXPLORE_ADDRESS(p), sizeof explore_value, how,           \
                                      explore_word, order, &explore_site);                     \
        EXPLORE_UNWORD(explore_value, explore_word);                                           \
        explore_value;                                                                         \
    })

#define atomic_exchange_explicit(p, v, order) EXPLORE_MODIFY(p, v, order, "exchange", MODIFY_SET)
#define atomic_fetch_add_explicit(p, v, order) EXPLORE_MODIFY(p, v, order, "add", MODIFY_ADD)
#define atomic_fetch_sub_explicit(p, v, order) EXPLORE_MODIFY(p, v, order, "sub", MODIFY_SUB)
#define atomic_fetch_or_explicit(p, v, order) EXPLORE_MODIFY(p, v, order, "or", MODIFY_OR)
#define atomic_fetch_and_explicit(p, v, order) EXPLORE_MODIFY(p, v, order, "and", MODIFY_AND)

#define EXPLORE_CAS(p, expected, desired, success, failure, weak)                              \
    ({                                                                                         \
        EXPLORE_SITE(weak ? "weak cas" : "cas", #p);                                           \
        EXPLORE_VALUE(p) *explore_expected = (expected), explore_value = *explore_expected;    \
        EXPLORE_VALUE(p) explore_desired = (desired);                                          \
        uint64_t explore_seen, explore_word;                                                   \
        bool explore_done;                                                                     \
        EXPLORE_WORD(explore_seen, explore_value);                                             \
        EXPLORE_WORD(explore_word, explore_desired);                                           \
        explore_done = explore_cas(EXPLORE_ADDRESS(p), sizeof explore_value, &explore_seen,    \
                                   explore_word, success, failure, weak, &explore_site);       \
        if (!explore_done) {                                                                   \
            EXPLORE_UNWORD(explore_value, explore_seen);                                       \
            *explore_expected = explore_value;                                                 \
        }                                                                                      \
        explore_done;                                                                          \
    })

#define atomic_compare_exchange_strong_explicit(p, expected, desired, success, failure) \
    EXPLORE_CAS(p, expected, desired, success, failure, false)
#define atomic_compare_exchange_weak_explicit(p, expected, desired, success, failure) \
    EXPLORE_CAS(p, expected, desired, success, failure, true)

#define atomic_thread_fence(order)          \
    ({                                      \
        EXPLORE_SITE("fence", "");          \
        explore_fence(order, &explore_site); \
    })

/* Orders a thread with its own signal handlers, and the compiler, which reorders nothing here. */
#define atomic_signal_fence(order) ((void)(order))

#endif
