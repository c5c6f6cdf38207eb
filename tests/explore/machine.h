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
#include <string.h>

#include "explore.h"
#include "layer/operations.h"

enum { RELAXED, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST }; /* as memory_order in the layer */

#define THREADS (1 + EXPLORE_THREADS) /* 0 prepares and checks */
#define STAMPS 128                    /* of a view: a clock per thread, the rest for places */
#define MESSAGES 128                  /* stores to one place */
#define STEPS_MAX 4000                /* of one execution; more is an endless loop */
#define CHOICES_MAX 8192

/* What a thread knows: of each thread its clock, of each place the stamp of the newest store that
 * it has seen. A store below that is invisible to it. From machine.width on all views are zero. */
typedef int16_t stamp;
struct view {
    _Alignas(16) stamp at[STAMPS];
};

#define STEP 16 /* stamps that are joined or copied at once */

/* A store. Its view is what an acquiring reader gets to know. */
struct message {
    _Alignas(64) uint64_t value;
    stamp at;     /* place in the modification order */
    bool carries; /* view is valid: the store was released somehow */
    bool rmw;     /* no store may come between this one and its predecessor */
    uint8_t by;
    struct view view;
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

/* Who uses an address: in all executions of a scenario, and how often, for who looks whether somebody does. */
struct usage {
    uint8_t users; /* threads, as bits */
    bool written;  /* by one of them */
    unsigned looks[THREADS], writes[THREADS]; /* by thread; looks: of both kinds */
};

/* An operation before it is done. */
struct step {
    struct usage *usage;
    bool writes;
    bool apart; /* it has to do with nothing but this place, as all but seq_cst operations */
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
    bool surprised;        /* an object that one thread alone had used is shared, as has turned out */
    unsigned ready;        /* threads that can take a step, as bits; timed sleepers can */
    unsigned steps;
    unsigned preemptions;  /* that are left */
    unsigned barriers;     /* fences that others have made a thread pass */
    bool abandoned;        /* the execution: another one shows the same */
    unsigned surprises;    /* preemptions, old stores, failures for no reason, early deadlines that are left */
    int64_t now;           /* coir_now() */
    int places;
    int width;             /* stamps of a view that have been used by any execution; a multiple of STEP */
    int messages;
    const struct message *fresh; /* what this step may look at is no older: see schedule_step; NULL: it may be */
    struct thread *self;
    struct view sc;        /* what seq_cst fences and stores have made known to each other */
    struct thread thread[THREADS];
    const struct scenario *scenario;
    char failure[512];     /* empty: none yet */
};

extern struct machine machine;

static inline void view_join(struct view *to, const struct view *from)
{
    for (int begin = 0; begin < machine.width; begin += STEP)
        for (int i = begin; i < begin + STEP; i++)
            to->at[i] = to->at[i] > from->at[i] ? to->at[i] : from->at[i];
}

static inline void view_copy(struct view *to, const struct view *from)
{
    for (int begin = 0; begin < machine.width; begin += STEP)
        memcpy(&to->at[begin], &from->at[begin], STEP * sizeof to->at[0]);
}

static inline void view_clear(struct view *v)
{
    memset(v, 0, (size_t)machine.width * sizeof v->at[0]);
}

/* memory.c */
uint64_t memory_newest(struct thread *t, uintptr_t address, unsigned bytes);
void memory_fence_full(struct thread *t);

/* place.c */
void place_forget(void);               /* another scenario begins */
void place_reset(void);
struct place *place_used(struct usage *u, unsigned bytes); /* whose usage that is */
bool place_is_known(uintptr_t address);
struct usage *place_usage(uintptr_t address);
static inline bool usage_is_shared(const struct usage *u)
{
    return u->written && u->users & (u->users - 1);
}

/* The current thread uses it, or is about to. False: no other thread ever has, in any execution, or nobody has
 * written it while threads ran. */
static inline bool usage_by(struct usage *u, bool write)
{
    bool was = usage_is_shared(u);

    u->users |= (uint8_t)(1u << machine.self->index);
    u->written |= write;
    machine.surprised |= usage_is_shared(u) && !was;
    return usage_is_shared(u);
}

/* It has. */
static inline void usage_count(struct usage *u, bool write)
{
    u->looks[machine.self->index]++;
    u->writes[machine.self->index] += write;
}

/* What threads other than t have done with it that has to do with a write of t's, or a look. */
static inline unsigned usage_against(const struct usage *u, int t, bool write)
{
    const unsigned *n = write ? u->looks : u->writes;
    unsigned sum = 0;

    for (int i = 0; i < THREADS; i++)
        sum += i == t ? 0 : n[i];
    return sum;
}

struct message *place_message(void);   /* a new one */
const struct message *place_next_message(void); /* older ones have lower addresses */
void place_free(uintptr_t from, size_t bytes);
extern int place_freed;                /* so often */
bool place_lies_in_freed(uintptr_t address);

static inline bool place_is_freed(uintptr_t address)
{
    return place_freed && place_lies_in_freed(address);
}

#define PLACE_GRAIN 8    /* no atomic object lies in two */
#define PLACE_GRAINS 4096 /* a power of two */
extern uint32_t place_grain[PLACE_GRAINS]; /* execution in which it held an atomic object */

static inline bool place_may_be_at(uintptr_t address)
{
    return place_grain[address / PLACE_GRAIN % PLACE_GRAINS] == machine.execution;
}

void place_overwritten(uintptr_t from, size_t bytes); /* by plain code */

/* race.c */
void race_atomic(uintptr_t address, unsigned bytes, const struct site *site);

void race_take_back(void); /* what the threads of an execution have written */

/* local.c: the variables that each thread has for itself. */
struct local {
    char *block;       /* of the program, in this one thread of the system */
    size_t bytes;
};

extern struct local local;

void local_begin(void);
void local_reset(void);                /* the current thread is 0 */
void local_exchange(int from, int to); /* the current thread changes */

static inline bool local_has(uintptr_t address)
{
    return address - (uintptr_t)local.block < local.bytes;
}

/* schedule.c: runs one execution; false: machine.failure says what happened. */
bool schedule_run(const struct scenario *s);
void schedule_point(void);             /* before a visible step: another thread may go first */
void schedule_step(const struct step *step); /* the same before an operation */
void schedule_block(void);             /* the current thread is not ready: others go on */
void schedule_abandon(void) __attribute__((noreturn)); /* another execution shows the same */
void schedule_fail(const char *format, ...) __attribute__((cold, noreturn, format(printf, 1, 2)));

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
static inline bool choice_may_preempt(void)
{
    return machine.preemptions && machine.surprises;
}

bool choice_is_search(void);           /* all executions are searched, within a bound */
unsigned choice_of(unsigned n);        /* below n; 0 is the usual answer */
unsigned choice_thread(unsigned ready, int current); /* which of the ready; current < 0: it blocks */
/* The same in a search, before a step of the current one that is apart. */
unsigned choice_before(const struct step *step, unsigned ready);
void choice_none(void);                /* the current thread, though others are ready and it may be preempted */
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
