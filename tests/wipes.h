/* SPDX-License-Identifier: MIT */
/*
 * wipes.h - parties that leave something on stacks, and look there for what others have left.
 */
#ifndef COIR_TEST_WIPES_H
#define COIR_TEST_WIPES_H

#include "domains.h"
#include "job.h"

/* Looks at memory that belongs to no variable. */
#if defined(COIR_TSAN)
#define UNCHECKED __attribute__((noinline, no_sanitize("thread")))
#else
#define UNCHECKED __attribute__((noinline, no_sanitize("address")))
#endif

#define DEEP ((size_t)40 << 10)

/* Whoever leaves something on stacks. What it leaves is not written down here, or it would be found. */
struct party {
    uint64_t inverted;
    coir_domain *domain; /* NULL: outside every domain */
};

/* Fills so many bytes of frames. */
static UNCHECKED uint64_t fill(const struct party *p, size_t bytes)
{
    volatile uint64_t frame[64];

    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
        frame[i] = ~p->inverted;
    return bytes > sizeof frame ? fill(p, bytes - sizeof frame) + frame[0] : frame[0];
}

/* How many words are to be seen that the other left, from `low` up. Makes no call: that would write there. */
static UNCHECKED size_t count(const struct party *other, const void *low, const void *high)
{
    size_t n = 0;

    for (const volatile uint64_t *at = low; (const void *)at < high; at++)
        n += ~*at == other->inverted;
    return n;
}

/* For a job's function: up to the frame that called the boundary. Its record is below that of arch_boundary. */
static ALWAYS_INLINE size_t seen(const struct party *other)
{
    void *const *record = *(void *const *)__builtin_frame_address(0);

    return count(other, worker_here()->current->stack.low, record + 2);
}

static struct party alice, bob;

/* Each in a domain. */
static inline coir_runtime *meet(const coir_options *o)
{
    coir_runtime *rt = NULL;

    CHECK_EQ(coir_open(o, &rt), COIR_OK);
    alice = (struct party){UINT64_C(0x5afec0de0000a11c), domain_open(rt, NULL, NULL)};
    bob = (struct party){UINT64_C(0x5afec0de00000b0b), domain_open(rt, NULL, NULL)};
    return rt;
}

static inline void part(coir_runtime *rt)
{
    domain_close(alice.domain);
    domain_close(bob.domain);
    run_close(rt);
}

#endif
