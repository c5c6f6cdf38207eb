/* SPDX-License-Identifier: MIT */
/*
 * operations.h - what the machine does for code that was compiled against the layer. Shared by
 * both sides, so it knows neither the layer's atomics nor the machine.
 */
#ifndef EXPLORE_OPERATIONS_H
#define EXPLORE_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct site {
    const char *file;
    int line;
    const char *operation;
    const char *place; /* the expression that names the atomic object */
    bool figure;       /* base.h's tally: a number for people */
    bool hint;         /* the look of base.h's lock before its exchange */
};

enum modify { MODIFY_SET, MODIFY_ADD, MODIFY_SUB, MODIFY_OR, MODIFY_AND };

/* Orders are values of memory_order. Words hold objects of 1 to 8 bytes. */
uint64_t explore_load(const volatile void *address, unsigned bytes, int order,
                      const struct site *site);
void explore_store(const volatile void *address, unsigned bytes, uint64_t value, int order,
                   const struct site *site);
uint64_t explore_modify(const volatile void *address, unsigned bytes, enum modify how,
                        uint64_t operand, int order, const struct site *site);
bool explore_cas(const volatile void *address, unsigned bytes, uint64_t *expected, uint64_t desired,
                 int success, int failure, bool weak, const struct site *site);
void explore_fence(int order, const struct site *site);

/* Stand in for syscall (futex and membarrier), for what a spin loop does between two looks, and for memory. */
long explore_syscall(long number, ...);
int explore_spin(void);
void *explore_map(void *at, size_t bytes, int protection, int flags, int fd, long offset);
int explore_unmap(void *at, size_t bytes);

#endif
