/* SPDX-License-Identifier: MIT */
/*
 * fiber.h - a stack that can be suspended, and who may touch it.
 *
 * Every stack of a runtime carries a scheduler loop in its first frame (worker.c). A job runs as a
 * plain call of that loop; when the job blocks, the stack with loop and job is the parked fiber.
 *
 * States. The state is the lock on the stack: its owner alone may touch it.
 *
 *             take                      park_begin            left the stack
 *     IDLE ---------> RUNNING --------------------> PARKING -----------------> PARKED
 *       ^  <---------    ^  ^  ^                       |                          |
 *             leave      |  |  | not switched at all   | woken first              | woken
 *                 resume |  |  +---------- NOTIFIED <--+                          |
 *                        |  |                  | left the stack                   |
 *                        |  +---- READY <------+----------------------------------+
 *                        +----------+
 *
 *   IDLE      a suspended loop without work: a worker's spare, a cache or the depot owns it
 *   RUNNING   the worker in fiber->worker runs it
 *   PARKING   still on its stack, or being published: only its worker (or a canceler that took it
 *             from PARKED) may touch it; wakers may leave a notice
 *   NOTIFIED  as PARKING, with a notice: it will not sleep
 *   PARKED    nobody runs it; only a waker that names the right generation may make it READY
 *   READY     exactly one queue holds it
 *
 * Beside the drawing, RUNNING -> BROKEN -> READY:
 *
 *   BROKEN    its job has faulted and its frames are dead; who cleans up after it owns it
 *
 * The word holds generation, reason of the wake-up, and state. The generation grows with each
 * resume: a deadline, several counters and a cancel may all want to wake one wait, the first CAS
 * wins, and late ones name a generation that is gone.
 */
#ifndef COIR_FIBER_H
#define COIR_FIBER_H

#include "stack.h"
#include "wreck.h"

#if defined(COIR_TSAN)
#define FIBER_UNSANITIZED __attribute__((no_sanitize("thread")))
#else
#define FIBER_UNSANITIZED
#endif

enum fiber_state {
    FIBER_IDLE,
    FIBER_RUNNING,
    FIBER_PARKING,
    FIBER_NOTIFIED,
    FIBER_PARKED,
    FIBER_READY,
    FIBER_BROKEN
};

enum wake {
    WAKE_NONE,
    WAKE_EVENT,   /* what it waited for has happened */
    WAKE_TIMEOUT, /* its deadline has passed */
    WAKE_CANCEL,  /* its job, or one that waits for it on this stack, is canceled */
    WAKE_CLOSE,   /* the runtime closes and nothing else would end the wait */
    WAKE_DEADLOCK /* it is part of a cycle, and the one that shall give up (graph.c) */
};

/* C++ exception globals (Itanium C++ ABI, 2.2.2): they belong to what runs, not to the thread. */
struct eh_globals {
    void *caught;
    unsigned uncaught;
};

struct fiber;

/* What a thread lends to the fiber it runs. The first member of struct worker. */
struct carrier {
    struct fiber *left;      /* the fiber that was switched from; read on arrival */
    void *link, *pc;         /* frame of the home stack that frame-pointer walks go on to; constant */
    struct eh_globals *eh;   /* the thread's; without a C++ runtime no_eh */
    struct eh_globals no_eh;
    arch_switch_fn *change;  /* arch_switch_shared if control words stay the thread's */
    arch_switch_fn *cross;   /* the same, for a stack that is suspended in another function than the caller's */
};

struct job;
struct coir_runtime;
struct sleeper;

struct fiber {
    /* What a switch touches: a cache line, for with many fibers it is a miss each. */
    struct stack stack;          /* first: the stack row knows only this */
    void *sp;                    /* saved stack pointer while not RUNNING */
    _Atomic uint64_t state;      /* generation << 16 | enum wake << 8 | enum fiber_state */
    struct carrier *carrier;     /* who runs it, or ran it last; NULL: it never ran, or has eh, or ASan is there */
    struct eh_globals eh;        /* while not RUNNING; else none */

    struct arch_record *record;  /* top frame-pointer record of its stack */
    struct coir_runtime *runtime;
    struct job *job;             /* innermost job on this stack, or NULL */
    uint64_t tenant;             /* whose jobs' bytes it may hold (wipe.h) */
    uintptr_t half;              /* above it half of the stack is left, and more */
    uintptr_t in_place;          /* above it a job that waits runs its children where it is: half, or nowhere */

    /* For reports; written by the fiber before it parks. */
    const char *waits_for;       /* what it waits for, or NULL */
    const void *waits_on;        /* the counter, timer or operation; never followed */
    int64_t waits_until;         /* its deadline, or COIR_NEVER */
    int64_t waits_since;         /* coir_now() when it parked; 0: not asked for */
    struct sleeper *sleeper;     /* its call, while it waits at a primitive (waitq.c), else NULL */

    /* Sanitizers. */
    void *fake_stack;            /* ASan */
    void *tsan;                  /* TSan's fiber */
    const void *bottom;          /* bounds of the stack, of a home stack too */
    size_t bytes;

    struct wreck wreck;          /* of a job that fails on it */
};

_Static_assert(offsetof(struct fiber, record) <= COIR_CACHE_LINE, "a switch touches one line of it");

static inline uint64_t fiber_word(uint64_t generation, enum wake reason, enum fiber_state state)
{
    return generation << 16 | (uint64_t)reason << 8 | (uint64_t)state;
}

static inline enum fiber_state fiber_state_of(uint64_t word)
{
    return (enum fiber_state)(word & 0xff);
}

static inline enum wake fiber_reason_of(uint64_t word)
{
    return (enum wake)(word >> 8 & 0xff);
}

static inline uint64_t fiber_generation_of(uint64_t word)
{
    return word >> 16;
}

/* Makes a stack ready to be switched to: entry(carrier, fiber) will be called on it. */
void fiber_prepare(struct fiber *f, struct coir_runtime *runtime, arch_entry_fn *entry);

/* The thread's C++ exception globals, or NULL without a C++ runtime. */
struct eh_globals *thread_exceptions(void);

/* The calling thread's own stack as a fiber, for switching away and back. share_fp: the control words
 * stay the thread's. */
void fiber_adopt_thread(struct fiber *home, struct carrier *c, bool share_fp);
void fiber_forget(struct fiber *f); /* before its memory goes */

/* Brings what a switch to the fiber will touch into the cache, in two steps some time apart: so many
 * switches before it. */
#define FIBER_AHEAD_HEADER 16
#define FIBER_AHEAD_STACK  8
#define FIBER_AHEAD_LINES  2 /* what a yield touches */
#define FIBER_AHEAD_MORE   2 /* and a wait besides */
static inline void fiber_prefetch_header(const struct fiber *f)
{
    __builtin_prefetch(f, 1);
}

/* Reads a stack pointer that may be another's by now: then the lines are of no use, and no harm. */
FIBER_UNSANITIZED static inline void fiber_prefetch_stack(const struct fiber *f)
{
    const char *sp = f->sp;

    for (int line = 0; line < FIBER_AHEAD_LINES; line++)
        __builtin_prefetch(sp + line * COIR_CACHE_LINE, 1);
    if (fiber_reason_of(atomic_load_explicit(&f->state, memory_order_relaxed)) != WAKE_NONE) /* a hint */
        for (int line = FIBER_AHEAD_LINES; line < FIBER_AHEAD_LINES + FIBER_AHEAD_MORE; line++)
            __builtin_prefetch(sp + line * COIR_CACHE_LINE, 1);
}

/* Before a forced unwind: sanitizers do not see how the frames below `high` will go. */
void fiber_forget_frames(const void *high);
/* The same for memory that has been a stack, and on which nobody runs now. */
void fiber_forget_stack(const void *low, const void *high);

/* What a sanitizer knows of a stack lies in its header: then no stack is given back. */
bool fiber_keeps_stacks(void);

/* First thing in a fiber's entry: what fiber_switch does on arrival. */
void fiber_arrive(struct fiber *self, struct carrier *c);

/* A switch with its rare parts: `from` handles C++ exceptions; `to` does, or another thread ran it last, or ASan is to be
 * told of it. */
void fiber_hand_over(struct carrier *c, struct fiber *from, struct fiber *to);
struct carrier *fiber_switch_rarely(struct carrier *c, struct fiber *from, struct fiber *to, arch_switch_fn *by);

static inline bool eh_globals_used(const struct eh_globals *eh)
{
    return ((uintptr_t)eh->caught | eh->uncaught) != 0;
}

static inline struct carrier *fiber_switch_stacks(struct carrier *c, struct fiber *from, struct fiber *to,
                                                  arch_switch_fn *by)
{
    return by(&from->sp, to->sp, c);
}

/* Suspends `from` (which runs on c) and resumes `to`, by c->change or c->cross. Returns when somebody resumes `from`,
 * with the carrier it then runs on, whose `left` is the fiber suspended for it. Each store costs a cycle here, a compare
 * next to nothing: so what seldom changes is compared first. */
#if defined(COIR_TSAN)
struct carrier *fiber_switch_by(struct carrier *c, struct fiber *from, struct fiber *to, arch_switch_fn *by);
#else
static inline struct carrier *fiber_switch_by(struct carrier *c, struct fiber *from, struct fiber *to, arch_switch_fn *by)
{
    if (UNLIKELY(eh_globals_used(c->eh) || to->carrier != c))
        return fiber_switch_rarely(c, from, to, by); /* a jump, so that nothing is saved for it */
    c->left = from;
    return fiber_switch_stacks(c, from, to, by);
}
#endif

static inline struct carrier *fiber_switch(struct carrier *c, struct fiber *from, struct fiber *to)
{
    return fiber_switch_by(c, from, to, c->change);
}

/* The fiber, which is the caller: whether less than half of its stack is left. */
static ALWAYS_INLINE bool fiber_stack_is_low(const struct fiber *self)
{
    return (uintptr_t)__builtin_frame_address(0) - (uintptr_t)self->bottom < self->bytes / 2;
}

/* Owner: which state it is in. */
static inline bool fiber_is(struct fiber *f, enum fiber_state s)
{
    return fiber_state_of(atomic_load_explicit(&f->state, memory_order_acquire)) == s; /* STACK */
}

/* Owner: how often it has been resumed, counted from some number. */
static inline uint64_t fiber_generation(struct fiber *f)
{
    return fiber_generation_of(atomic_load_explicit(&f->state, memory_order_relaxed)); /* owner's */
}

static inline uint64_t fiber_word_now(struct fiber *f)
{
    return atomic_load_explicit(&f->state, memory_order_relaxed); /* owner's, or rechecked by a CAS */
}

/* One checked edge of the drawing above, by the state's owner, keeping the generation. */
static inline void fiber_set(struct fiber *f, enum fiber_state from, enum fiber_state to)
{
    uint64_t w = fiber_word_now(f);

    ASSERT((w & 0xffff) == from); /* no reason: it is READY and NOTIFIED that have one */
    atomic_store_explicit(&f->state, w - from + to, memory_order_relaxed); /* STACK: carried by where it goes */
}

/* RUNNING -> PARKING; returns the generation that wakers must name. */
uint64_t fiber_park_begin(struct fiber *f);

/* Owner, after the stack was left: PARKING -> PARKED. False: NOTIFIED, now READY; queue it. */
bool fiber_publish(struct fiber *f);

/* Anyone: wakes the fiber from the wait of this generation. True: it was PARKED and is READY now, and
 * the caller must queue it. False: a notice was left, or the wait was over. */
bool fiber_wake(struct fiber *f, uint64_t generation, enum wake reason);

/* Canceler: PARKED -> PARKING, so that the stack may be read; fiber_publish gives it back. */
bool fiber_claim_parked(struct fiber *f, uint64_t *generation);

/* Owner, resumed or never switched: -> RUNNING with the next generation. Returns the reason. */
static inline enum wake fiber_resume(struct fiber *f)
{
    uint64_t w = fiber_word_now(f);

    ASSERT(fiber_state_of(w) == FIBER_READY || fiber_state_of(w) == FIBER_NOTIFIED ||
           fiber_state_of(w) == FIBER_IDLE || fiber_state_of(w) == FIBER_PARKING);
    atomic_store_explicit(&f->state, fiber_word(fiber_generation_of(w) + 1, WAKE_NONE, FIBER_RUNNING),
                          memory_order_relaxed); /* own; wakers of the old generation fail */
    return fiber_reason_of(w);
}

#endif
