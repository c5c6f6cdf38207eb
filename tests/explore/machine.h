/* SPDX-License-Identifier: MIT */
/*
 * machine.h - the simulated machine: its memory, its threads, its choices. For the explorer's own
 * files; scenarios include explore.h.
 *
 * The model is C11 as RC11 repairs it, executed step by step: an execution is an interleaving in
 * which a load may return an old store, and a store may be ordered before one that was executed
 * earlier, as far as coherence and the thread's view allow. README.md says what that leaves out.
 */
#ifndef EXPLORE_MACHINE_H
#define EXPLORE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "explore.h"
#include "layer/operations.h"

enum { RELAXED, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST }; /* as memory_order in the layer */

#define THREADS (1 + EXPLORE_THREADS) /* 0 prepares and checks */
#define STAMPS 128                    /* of a view: a clock per thread, the rest for places */
#define MESSAGES 128                  /* stores to one place */
#define STEPS_MAX 4000                /* of one execution; more is an endless loop */
#define CHOICES_MAX 8192

/* What a thread knows: of each thread its clock, of each place the stamp of the newest store that
 * it has seen. A store below that is invisible to it. */
typedef int16_t stamp;
struct view {
    _Alignas(16) stamp at[STAMPS];
};

/* A store. Its view is what an acquiring reader gets to know. */
struct message {
    struct view view;
    uint64_t value;
    stamp at;     /* place in the modification order */
    bool carries; /* view is valid: the store was released somehow */
    bool rmw;     /* no store may come between this one and its predecessor */
    uint8_t by;
};

/* An atomic object. */
struct place {
    uintptr_t address;
    uint32_t execution;    /* the one it was first used in; older entries are free */
    uint8_t id;            /* index into views */
    uint8_t bytes;
    uint8_t spinners;      /* threads, as bits, that wait for a store */
    bool freed;
    int count;
    stamp used[THREADS];   /* clock of each thread's last access */
    struct message *message[MESSAGES]; /* in modification order */
};

enum thread_state { THREAD_READY, THREAD_SPINS, THREAD_SLEEPS, THREAD_WOKEN, THREAD_DONE };

struct thread {
    void *sp;
    struct view now;       /* what it knows */
    struct view unfenced;  /* what relaxed loads have met: an acquire fence adds it to now */
    struct view released;  /* what it knew at its last release fence: relaxed stores carry it */
    bool has_unfenced, has_released;
    bool impatient;        /* in a spin loop: the next load must return something newer */
    enum thread_state state;
    struct place *last;    /* what it accessed last: what a spin loop waits for */
    uintptr_t word;        /* sleeps on this futex */
    int64_t deadline;      /* or until then */
    int priority;
    int index;
};

struct machine {
    uint32_t execution;
    bool running;          /* the scenario's threads run, not its setup or check */
    bool tracing;
    unsigned ready;        /* threads that can take a step, as bits; timed sleepers can */
    unsigned steps;
    unsigned preemptions;  /* that are left */
    unsigned surprises;    /* preemptions, old stores, failures for no reason, early deadlines that are left */
    int64_t now;           /* coir_now() */
    int places;
    int messages;
    struct thread *self;
    struct view sc;        /* what seq_cst fences and stores have made known to each other */
    struct thread thread[THREADS];
    const struct scenario *scenario;
    char failure[512];     /* empty: none yet */
};

extern struct machine machine;

static inline void view_join(struct view *to, const struct view *from)
{
    for (int i = 0; i < STAMPS; i++)
        to->at[i] = to->at[i] > from->at[i] ? to->at[i] : from->at[i];
}

/* memory.c */
uint64_t memory_newest(struct thread *t, uintptr_t address, unsigned bytes);
void memory_fence_full(struct thread *t);

/* place.c */
void place_reset(void);
struct place *place_of(uintptr_t address, unsigned bytes);
bool place_is_known(uintptr_t address);
struct message *place_message(void);   /* a new one */
void place_free(uintptr_t from, size_t bytes);
bool place_is_freed(uintptr_t address);
void place_overwritten(uintptr_t from, size_t bytes); /* by plain code */

/* race.c */
void race_access(uintptr_t address, size_t bytes, bool write, const void *pc);
void race_atomic(uintptr_t address, unsigned bytes, const struct site *site);

/* local.c: the variables that each thread has for itself. */
void local_begin(void);
void local_reset(void);                /* the current thread is 0 */
void local_exchange(int from, int to); /* the current thread changes */
bool local_has(uintptr_t address);

/* schedule.c: runs one execution; false: machine.failure says what happened. */
bool schedule_run(const struct scenario *s);
void schedule_point(void);             /* before a visible step: another thread may go first */
void schedule_block(void);             /* the current thread is not ready: others go on */
void schedule_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* choice.c: the answers that make one execution differ from another. */
enum search { SEARCH_ALL, SEARCH_RANDOM, SEARCH_REPLAY };
void choice_begin_all(unsigned within);
bool choice_next(void);                /* false: all have been explored */
void choice_begin_random(uint64_t begin);
void choice_random_execution(void);
bool choice_begin_replay(const char *text);
void choice_text(char *text, size_t bytes);
void choice_rewind(void);              /* the same again */
void choice_start(void);               /* the threads start */
unsigned choice_of(unsigned n);        /* below n; 0 is the usual answer */
unsigned choice_thread(unsigned ready, int current); /* which of the ready; current < 0: it blocks */
bool choice_spurious(void);            /* whether something that may fail for no reason does */

/* system.c */
void system_reset(void);

/* trace.c */
void trace(const struct site *site, int order, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void trace_event(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *source_of(uintptr_t pc);   /* FILE:LINE of instrumented code */

#define TRACE(...) (__builtin_expect(machine.tracing, 0) ? trace(__VA_ARGS__) : (void)0)
#define TRACE_EVENT(...) (__builtin_expect(machine.tracing, 0) ? trace_event(__VA_ARGS__) : (void)0)

#endif
