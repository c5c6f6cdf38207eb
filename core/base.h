/* SPDX-License-Identifier: MIT */
/*
 * base.h - words every file of core/ uses: checks, branch hints, a spin lock, a fence, a futex.
 *
 * Three kinds of check, never mixed. ASSERT states our own invariant and is compiled out without
 * COIR_DEBUG. A broken promise of the caller panics (coir_require). A fault of the world is a
 * status. fatal() is for a state in which nothing can be promised any more: it reports and aborts.
 */
#ifndef COIR_BASE_H
#define COIR_BASE_H

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"
#include "coir.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define COLD __attribute__((noinline, cold))

/* For the few functions where a canary is a twentieth of a job (tests/library_test.py names them), and the one array
 * in the frame is inside a job's record. */
#define NO_CANARY __attribute__((no_stack_protector))

#define CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* What fatal() adds to its report: core/dump.c's list of fibers, set by coir_open. */
extern _Atomic(void (*)(int fd)) fatal_details;

/* What coir_now says on this thread; NULL: the system's clock. */
extern __thread int64_t (*thread_clock)(void);

/* Reports on standard error, then aborts so that a core exists. Async-signal-safe but for the
 * formatting, which uses no allocation. */
__attribute__((noreturn, cold, format(printf, 1, 2))) void fatal(const char *format, ...);

/* The report alone, where somebody else ends the process. */
__attribute__((cold, format(printf, 1, 2))) void fatal_report(const char *format, ...);

#ifdef COIR_DEBUG
#define ASSERT(condition)                                                                     \
    ((condition) ? (void)0 : fatal("%s:%d: broken invariant: %s", __FILE__, __LINE__, #condition))
#else
#define ASSERT(condition) ((void)sizeof(condition))
#endif

/*
 * FENCE: a full fence. ThreadSanitizer does not model fences, so its build uses a seq_cst
 * read-modify-write of one word instead, which orders at least as much in its model.
 */
#if defined(__SANITIZE_THREAD__)
#define COIR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COIR_TSAN 1
#endif
#endif

#ifdef COIR_TSAN
extern _Atomic unsigned tsan_fence_word;
static inline void fence_full(void)
{
    atomic_fetch_add_explicit(&tsan_fence_word, 1, memory_order_seq_cst); /* FENCE */
}
#define fence_release fence_full
#else
static inline void fence_full(void)
{
    atomic_thread_fence(memory_order_seq_cst); /* FENCE */
}
static inline void fence_release(void)
{
    atomic_thread_fence(memory_order_release); /* FENCE */
}
#endif

/* Looks at a lock before another thread is let run. */
#ifndef LOCK_LOOKS
#define LOCK_LOOKS 8
#endif

/* A spin lock for critical sections of a few dozen instructions that never suspend. */
struct lock {
    _Atomic uint32_t word; /* odd: taken. Half of it: how often it was let go since somebody got it by waiting */
};

static inline bool lock_try(struct lock *l)
{
    uint32_t w = atomic_load_explicit(&l->word, memory_order_relaxed); /* rechecked by the CAS */

    return !(w & 1) && atomic_compare_exchange_strong_explicit(&l->word, &w, w + 1, memory_order_acquire,
                                                               memory_order_relaxed); /* LOCK */
}

static inline void spin_pause(unsigned *turns)
{
    if (++*turns & 63)
        arch_relax();
    else
        sched_yield();
}

/* Between two looks at a lock. Each time twice as long: a look takes the line from the holder, and while one thread stays
 * away its rival locks and unlocks many times in its own cache. Nor is one to be made ahead, which is done whenever the end
 * of the pause is predicted. */
static inline void lock_stay_away(unsigned turn)
{
    for (unsigned i = 1; i < 1u << turn; i++)
        arch_relax();
    arch_no_sooner();
}

/* The same while it is taken. After some microseconds another thread is let run: the holder may have lost its processor. */
static inline void lock_pause(unsigned *turns)
{
    unsigned turn = ++*turns % LOCK_LOOKS;

    if (turn == 0)
        sched_yield();
    lock_stay_away(turn);
}

/*
 * How one waits where a rival may take the lock again and again (a run). Who takes it over from another processor waits for
 * one line after the other, as long as for dozens of such turns: so a run is left alone until it has had LOCK_RUN of them. A
 * rival that is not in one is through in no time, and the first pauses are short.
 */
#ifndef LOCK_RUN
#define LOCK_RUN 256
#define LOCK_FAST 4     /* turns between two looks: the run goes on */
#endif
#define LOCK_SKIPPED 2  /* looks that are left out: the first pause tells whether there is a run */

struct lock_wait {
    unsigned looks;
    uint64_t seen; /* turns, at the last look; each holder counts, and who got it by waiting begins anew */
};

static inline struct lock_wait lock_wait_begin(uint64_t turns)
{
    return (struct lock_wait){turns < LOCK_RUN ? LOCK_SKIPPED : 0, turns};
}

static inline void lock_wait_pause(struct lock_wait *w, bool taken)
{
    if (taken)
        lock_pause(&w->looks);
    else
        lock_stay_away(++w->looks % LOCK_LOOKS);
}

/* Whether the waiter, who has looked again, may take it if it is free. */
static inline bool lock_wait_is_over(struct lock_wait *w, uint64_t turns)
{
    bool runs = turns < w->seen || turns - w->seen >= LOCK_FAST; /* fewer: a third one's, which has just begun */

    if (w->seen < LOCK_RUN && turns >= LOCK_RUN)
        w->looks = 0;
    w->seen = turns;
    return turns >= LOCK_RUN || !runs;
}

static inline void lock_take_slowly(struct lock *l)
{
    uint32_t s = atomic_load_explicit(&l->word, memory_order_relaxed); /* rechecked by the CAS */
    struct lock_wait wait = lock_wait_begin(s / 2);

    for (;;) {
        lock_wait_pause(&wait, s & 1);
        s = atomic_load_explicit(&l->word, memory_order_relaxed); /* rechecked by the CAS */
        if (lock_wait_is_over(&wait, s / 2) && !(s & 1) &&
            atomic_compare_exchange_strong_explicit(&l->word, &s, 1, memory_order_acquire,
                                                    memory_order_relaxed)) /* LOCK */
            return;
    }
}

static inline void lock_take(struct lock *l)
{
    if (UNLIKELY(!lock_try(l)))
        lock_take_slowly(l);
}

static inline void lock_drop(struct lock *l)
{
    uint32_t w = atomic_load_explicit(&l->word, memory_order_relaxed); /* the holder's own */

    atomic_store_explicit(&l->word, w + 1, memory_order_release); /* LOCK */
}

/* A time as far after another as there is one; ns is not negative. */
static inline int64_t time_after(int64_t begin, int64_t ns)
{
    return ns > COIR_NEVER - begin ? COIR_NEVER : begin + ns;
}

/* Sleeps while *word == value, until woken, a signal, or the deadline. Spurious returns are legal. */
static inline void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    struct timespec ts = {.tv_sec = deadline / COIR_SEC, .tv_nsec = deadline % COIR_SEC};

    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, deadline == COIR_NEVER ? NULL : &ts,
            NULL, FUTEX_BITSET_MATCH_ANY);
}

/* Wakes up to n threads. The word may be gone already: the kernel looks only at its address. */
static inline void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Whether somebody's handler is there for a signal: one that was put on top of ours may chain to ours still, and ours on
 * top of that would make the two chain to each other for ever. */
static inline bool signal_handled(int number)
{
    struct sigaction now;

    return sigaction(number, NULL, &now) == 0 &&
           (now.sa_flags & SA_SIGINFO || (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN));
}

/* Of the program's own words, what a line of ours holds: they forge none, and do nothing to a terminal. */
static inline char printable(char c)
{
    return (unsigned char)c < ' ' || c == 127 ? '?' : c;
}

/* A counter with one writer that anyone may read. */
static inline void tally(_Atomic uint64_t *n, uint64_t by)
{
    uint64_t was = atomic_load_explicit(n, memory_order_relaxed);  /* own write */
    atomic_store_explicit(n, was + by, memory_order_relaxed);      /* a figure, orders nothing */
}

/* The same; who reads it and then passes an acquire fence sees what was done before. Returns what it is now. */
static inline uint64_t tally_release(_Atomic uint64_t *n, uint64_t by)
{
    uint64_t is = atomic_load_explicit(n, memory_order_relaxed) + by; /* own write */
    atomic_store_explicit(n, is, memory_order_release);               /* BOOKS */
    return is;
}

static inline uint64_t tally_read(const _Atomic uint64_t *n)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)n, memory_order_relaxed); /* a figure */
}

#endif
