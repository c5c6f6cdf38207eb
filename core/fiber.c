/* SPDX-License-Identifier: MIT */
/*
 * fiber.c - states of a fiber and the switch. The only file that knows the sanitizers' fiber hooks.
 *
 * Orderings
 *   STACK  what ran on a stack before it was left -> what resumes it. The state goes PARKING ->
 *          PARKED with release (fiber_publish) after the switch away, and PARKED -> READY with
 *          acquire (fiber_wake); the queue carries it to the worker that resumes. So does the queue, or the cache
 *          of stacks, for one that never was PARKED. A canceler takes the stack in the same way (acquire).
 *   NOTICE the waker of one that is PARKING leaves NOTIFIED (release) -> the fiber, or who publishes it, meets it
 *          (acquire): what it waited for.
 *   ASK    a canceler sets its flag (seq_cst), then reads states (seq_cst, at its first look; later ones
 *          follow the word); a fiber sets PARKING (seq_cst), then reads the flag (seq_cst). One of them
 *          sees the other.
 */
#include "fiber.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------- sanitizers */

/* ASan's calls are there if the program has ASan, however the library was built. Without them all of this is a compare
 * where a stack is new, or a switch rare, or a frame torn down; with them every switch is rare, for a fiber that is left
 * forgets its carrier. Its leak checker reads what is parked as well. */
extern void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t bytes) __attribute__((weak));
extern void __sanitizer_finish_switch_fiber(void *saved, const void **old_bottom, size_t *old_bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *low, size_t bytes) __attribute__((weak));
extern void __lsan_register_root_region(const void *low, size_t bytes) __attribute__((weak));
extern void __lsan_unregister_root_region(const void *low, size_t bytes) __attribute__((weak));

static inline bool has_asan(void)
{
    return __asan_unpoison_memory_region != NULL;
}

static inline bool has_lsan(void)
{
    return __lsan_register_root_region != NULL;
}

#ifdef COIR_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* Memcheck takes a switch to a stack that it does not know for a huge frame. What it calls the stack is kept where
 * TSan keeps its fiber. Who builds without its header does not tell it. */
#if !defined(COIR_TSAN) && __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0u
#define VALGRIND_STACK_DEREGISTER(id) (void)(id)
#endif

static void tell_arrival(struct fiber *self, struct fiber *left)
{
    if (has_asan())
        __sanitizer_finish_switch_fiber(self->fake_stack, &left->bottom, &left->bytes);
}

/* A fresh stack in a place that held another: nothing on it is poisoned. */
static void tell_new_stack(struct fiber *f)
{
    fiber_forget_stack(f->bottom, f);
    if (has_lsan())
        __lsan_register_root_region(f->bottom, f->bytes);
#ifdef COIR_TSAN
    if (!f->tsan)
        f->tsan = __tsan_create_fiber(0);
#else
    f->tsan = (void *)(uintptr_t)VALGRIND_STACK_REGISTER(f->bottom, (const char *)f->bottom + f->bytes);
#endif
}

NOINLINE void fiber_forget_frames(const void *high)
{
    fiber_forget_stack(__builtin_frame_address(0), high);
}

void fiber_forget_stack(const void *low, const void *high)
{
    if (has_asan())
        __asan_unpoison_memory_region(low, (size_t)((const char *)high - (const char *)low));
}

/* What ASan has made for the stack besides goes if ASan believes that it is left for good. */
static void tell_end(struct fiber *f)
{
    const void *bottom;
    void *mine;
    size_t bytes;

    fiber_forget_stack(f->bottom, f); /* its loop does not return, and its place will be others' */
    if (has_lsan())
        __lsan_unregister_root_region(f->bottom, f->bytes);
    if (!has_asan() || !f->fake_stack)
        return;
    __sanitizer_start_switch_fiber(&mine, f->bottom, f->bytes);
    __sanitizer_finish_switch_fiber(f->fake_stack, &bottom, &bytes);
    __sanitizer_start_switch_fiber(NULL, bottom, bytes);
    __sanitizer_finish_switch_fiber(mine, NULL, NULL);
}

bool fiber_keeps_stacks(void)
{
#ifdef COIR_TSAN
    return true;
#else
    return has_asan() || has_lsan();
#endif
}

/* --------------------------------------------------------------------------------- the switch */

extern struct eh_globals *__cxa_get_globals(void) __attribute__((weak));

struct eh_globals *thread_exceptions(void)
{
    return __cxa_get_globals ? __cxa_get_globals() : NULL;
}

void fiber_prepare(struct fiber *f, struct coir_runtime *runtime, arch_entry_fn *entry)
{
    char *top = (char *)f; /* the header is above the stack */

    f->runtime = runtime;
    f->carrier = NULL; /* nor does its record name one */
    f->bottom = f->stack.low;
    f->bytes = (size_t)(top - f->stack.low);
    f->half = (uintptr_t)f->bottom + f->bytes / 2;
    f->wreck.job = NULL;
    tell_new_stack(f);
    f->sp = arch_prepare(top, entry, f, &f->record);
    /* A generation that no earlier use of this memory can have reached: time in units of 8 ns, in which none is resumed
     * twice. It comes again after 26 days. */
    atomic_store_explicit(&f->state, fiber_word((uint64_t)coir_now() >> 3, WAKE_NONE, FIBER_IDLE),
                          memory_order_relaxed); /* nobody else knows it yet */
}

NOINLINE void fiber_adopt_thread(struct fiber *home, struct carrier *c, bool share_fp)
{
    memset(home, 0, sizeof *home);
    atomic_store_explicit(&home->state, FIBER_RUNNING, memory_order_relaxed); /* own */
    home->carrier = c;
#ifdef COIR_TSAN
    home->tsan = __tsan_get_current_fiber();
#endif
    c->eh = thread_exceptions() ? thread_exceptions() : &c->no_eh;
    c->change = share_fp ? arch_switch_shared : arch_prefers_loading() ? arch_switch_loading : arch_switch;
    c->cross = share_fp ? arch_cross_shared : arch_prefers_loading() ? arch_cross_loading : arch_cross;
    c->link = *(void **)__builtin_frame_address(0); /* the caller's frame, and a place in it */
    c->pc = __builtin_return_address(0);
}

void fiber_forget(struct fiber *f)
{
    if (f->bottom) /* it has been prepared */
        tell_end(f);
#ifdef COIR_TSAN
    if (f->tsan)
        __tsan_destroy_fiber(f->tsan);
#else
    VALGRIND_STACK_DEREGISTER((unsigned)(uintptr_t)f->tsan);
#endif
}

/* C++ exceptions being handled stay with the fiber that handles them. Without a carrier it will be
 * noticed when it is resumed. */
static COLD void keep_exceptions(struct carrier *c, struct fiber *from)
{
    from->eh = *c->eh;
    *c->eh = (struct eh_globals){0};
    from->carrier = NULL;
}

/* Its top record leads on to the thread. When it parks the record stays: the thread lives as long as
 * the stacks of its runtime do, and mostly it runs the fiber again. */
static COLD void change_carrier(struct carrier *c, struct fiber *to)
{
    if (to->record)
        *to->record = (struct arch_record){c->link, c->pc};
    if (eh_globals_used(&to->eh))
        *c->eh = to->eh;
    to->eh = (struct eh_globals){0};
    to->carrier = c;
}

void fiber_hand_over(struct carrier *c, struct fiber *from, struct fiber *to)
{
    if (UNLIKELY(eh_globals_used(c->eh)))
        keep_exceptions(c, from);
    if (UNLIKELY(to->carrier != c))
        change_carrier(c, to);
    c->left = from;
}

/* Its frame is the last on the stack that is left, and the first that goes on there. */
static NOINLINE struct carrier *switch_told(struct carrier *c, struct fiber *from, struct fiber *to, arch_switch_fn *by)
{
    from->carrier = NULL;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
    c = fiber_switch_stacks(c, from, to, by);
    tell_arrival(from, c->left);
    return c;
}

struct carrier *fiber_switch_rarely(struct carrier *c, struct fiber *from, struct fiber *to, arch_switch_fn *by)
{
    fiber_hand_over(c, from, to);
    return has_asan() ? switch_told(c, from, to, by) : fiber_switch_stacks(c, from, to, by);
}

#ifdef COIR_TSAN
FIBER_UNSANITIZED struct carrier *fiber_switch_by(struct carrier *c, struct fiber *from, struct fiber *to,
                                                  arch_switch_fn *by)
{
    fiber_hand_over(c, from, to);
    __tsan_switch_to_fiber(to->tsan, 0);
    return fiber_switch_stacks(c, from, to, by);
}
#endif

void fiber_arrive(struct fiber *self, struct carrier *c)
{
    tell_arrival(self, c->left);
}

/* ----------------------------------------------------------------------------------- states */

uint64_t fiber_park_begin(struct fiber *f)
{
    uint64_t generation = fiber_generation_of(fiber_word_now(f));

    ASSERT(fiber_state_of(fiber_word_now(f)) == FIBER_RUNNING);
    atomic_exchange_explicit(&f->state, fiber_word(generation, WAKE_NONE, FIBER_PARKING),
                             memory_order_seq_cst); /* ASK */
    return generation;
}

bool fiber_publish(struct fiber *f)
{
    uint64_t w = fiber_word(fiber_generation_of(fiber_word_now(f)), WAKE_NONE, FIBER_PARKING);
    uint64_t parked = fiber_word(fiber_generation_of(w), WAKE_NONE, FIBER_PARKED);

    if (atomic_compare_exchange_strong_explicit(&f->state, &w, parked, memory_order_release,
                                                memory_order_acquire)) /* STACK; NOTICE */
        return true;
    ASSERT(fiber_state_of(w) == FIBER_NOTIFIED);
    atomic_store_explicit(&f->state,
                          fiber_word(fiber_generation_of(w), fiber_reason_of(w), FIBER_READY),
                          memory_order_relaxed); /* STACK: carried by the queue */
    return false;
}

bool fiber_wake(struct fiber *f, uint64_t generation, enum wake reason)
{
    uint64_t w = fiber_word_now(f);

    for (;;) {
        enum fiber_state s = fiber_state_of(w);
        enum fiber_state to = s == FIBER_PARKED ? FIBER_READY : FIBER_NOTIFIED;

        if (fiber_generation_of(w) != generation || (s != FIBER_PARKED && s != FIBER_PARKING))
            return false;
        if (atomic_compare_exchange_weak_explicit(&f->state, &w, fiber_word(generation, reason, to),
                                                  memory_order_acq_rel,
                                                  memory_order_relaxed)) /* STACK; NOTICE */
            return to == FIBER_READY;
    }
}

bool fiber_claim_parked(struct fiber *f, uint64_t *generation)
{
    unsigned turns = 0;
    uint64_t w = atomic_load_explicit(&f->state, memory_order_seq_cst); /* ASK */

    for (;;) {
        enum fiber_state s = fiber_state_of(w);

        *generation = fiber_generation_of(w);
        if (s == FIBER_PARKED &&
            atomic_compare_exchange_weak_explicit(&f->state, &w,
                                                  fiber_word(*generation, WAKE_NONE, FIBER_PARKING),
                                                  memory_order_acquire,
                                                  memory_order_relaxed)) /* STACK */
            return true;
        if (s != FIBER_PARKED && s != FIBER_PARKING)
            return false;
        if (s == FIBER_PARKING) /* on its way to PARKED or back; its flag check may be over */
            spin_pause(&turns);
        w = fiber_word_now(f); /* ASK: after the first look */
    }
}
