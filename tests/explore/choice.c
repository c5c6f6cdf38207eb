/* SPDX-License-Identifier: MIT */
/*
 * choice.c - every decision of an execution, in order: which thread, which store.
 *
 * An execution is the list of its answers. Exhaustive search runs the list, changes the last answer
 * that has an alternative left, and forgets what came after it (stateless model checking). It switches
 * away from a thread that could go on at most `bound` times, and so is exhaustive within that bound.
 *
 * Random search mixes two ways: threads by priority with few points at which the running one falls
 * behind all others (PCT; Burckhardt et al., 2010), and a walk that switches now and then.
 */
#include "machine.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FALLS 3            /* points at which priorities change */
#define SPURIOUS_ODDS 16   /* one in so many */
#define UNBOUNDED 1000
#define SURPRISES_MORE 1   /* than preemptions */

static struct {
    uint16_t answer, of;
    bool vain;                 /* as far as is known the other answers show nothing new: see note_what_met */
    bool writes;               /* the step before which the current thread could go or wait */
    uint8_t thread;
    unsigned against, barriers; /* what others had done until then that has to do with it */
    const struct usage *usage;
} list[CHOICES_MAX];

static int length;  /* of the list */
static int given;   /* answers of it that are prescribed; the rest is decided as they come */
static int at;      /* the next one */
static enum search search;
static unsigned bound;    /* what the budget of each execution is */
static uint64_t seed;
static bool walk;           /* this random execution walks */
static unsigned falls[FALLS];
static unsigned typical = 64; /* steps of the longest execution so far */

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ------------------------------------------------------------------------------------- searching */

void choice_begin_all(unsigned within)
{
    search = SEARCH_ALL;
    bound = within;
    length = given = at = 0;
}

/* To let others go before a step is vain if nothing that they do after it has to do with it, in any of the
 * executions in which it goes first: then nothing that they do before it would have. */
static void note_what_met(void)
{
    for (int i = 0; i < at; i++)
        list[i].vain = list[i].vain && list[i].barriers == machine.barriers &&
                       list[i].against == usage_against(list[i].usage, list[i].thread, list[i].writes);
}

static bool has_more(int i)
{
    return list[i].answer + 1 < list[i].of && !(list[i].vain && list[i].answer == 0);
}

/* Prepares the next execution: the last answer that can change does. */
bool choice_next(void)
{
    note_what_met();
    length = at;
    while (length > 0 && !has_more(length - 1))
        length--;
    at = 0;
    given = length;
    if (!length)
        return false;
    list[length - 1].answer++;
    return true;
}

void choice_begin_random(uint64_t begin)
{
    search = SEARCH_RANDOM;
    bound = UNBOUNDED;
    seed = begin * 2 + 1;
    for (int i = 0; i < 8; i++)
        next_random();
}

void choice_random_execution(void)
{
    given = at = 0;
    walk = next_random() & 1;
    if (machine.steps > typical)
        typical = machine.steps;
    for (int i = 0; i < FALLS; i++)
        falls[i] = 1 + (unsigned)(next_random() % typical);
    for (int i = 1; i < THREADS; i++)
        machine.thread[i].priority = FALLS + (int)(next_random() % 1024);
}

bool choice_is_search(void)
{
    return search == SEARCH_ALL;
}

void choice_start(void)
{
    machine.preemptions = bound;
    machine.surprises = bound + SURPRISES_MORE;
}

/* --------------------------------------------------------------------------------------- deciding */

/* The answer that the list prescribes, or `preferred`. */
static unsigned decide(unsigned n, unsigned preferred)
{
    if (at == CHOICES_MAX)
        schedule_fail("an execution has more than %d choices", CHOICES_MAX);
    if (at < given) {
        if (list[at].answer >= n)
            schedule_fail("the execution differs from the one that this list was made for");
        list[at].of = (uint16_t)n;
        return list[at++].answer;
    }
    list[at].vain = false;
    list[at].answer = (uint16_t)preferred;
    list[at++].of = (uint16_t)n;
    return preferred;
}

/* The newest store half of the time. */
unsigned choice_of(unsigned n)
{
    unsigned answer, preferred = 0;

    if (!machine.surprises)
        return 0;
    if (search == SEARCH_RANDOM) {
        uint64_t r = next_random() >> 20;

        preferred = r & 1 ? 0 : (unsigned)(r >> 1) % n;
    }
    answer = decide(n, preferred);
    machine.surprises -= answer > 0;
    return answer;
}

bool choice_spurious(void)
{
    unsigned answer;

    if (!machine.running || !machine.surprises)
        return false;
    answer = decide(2, search == SEARCH_RANDOM && next_random() % SPURIOUS_ODDS == 0);
    machine.surprises -= answer;
    return answer;
}

static unsigned count_of(unsigned threads)
{
    static const uint8_t bits[1 << THREADS] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};

    return bits[threads];
}

/* Index of a thread among the answers: the current one first, the others in order. */
static unsigned answer_of(unsigned ready, int current, int thread)
{
    unsigned below = ready & ((1u << thread) - 1);

    if (thread == current)
        return 0;
    if (current >= 0)
        below &= ~(1u << current);
    return count_of(below) + (current >= 0);
}

static unsigned thread_of(unsigned ready, int current, unsigned answer)
{
    if (current >= 0) {
        if (answer == 0)
            return (unsigned)current;
        ready &= ~(1u << current);
        answer--;
    }
    while (answer-- > 0)
        ready &= ready - 1;
    return (unsigned)__builtin_ctz(ready);
}

static int best(unsigned ready)
{
    int found = -1;

    for (; ready; ready &= ready - 1) {
        int i = __builtin_ctz(ready);

        if (found < 0 || machine.thread[i].priority > machine.thread[found].priority)
            found = i;
    }
    return found;
}

static unsigned preferred_thread(unsigned ready, int current, unsigned n)
{
    if (search != SEARCH_RANDOM)
        return 0;
    if (walk) {
        uint64_t r = next_random() >> 16;

        return current >= 0 && (r & 7) ? 0 : (unsigned)(r >> 3) % n;
    }
    for (int i = 0; i < FALLS; i++)
        if (current >= 0 && falls[i] <= machine.steps) {
            machine.thread[current].priority = i;
            falls[i] = UINT_MAX;
        }
    return answer_of(ready, current, best(ready));
}

/* Threads that only a deadline lets go on. */
static unsigned asleep(unsigned ready)
{
    unsigned found = 0;

    for (int i = 1; i < THREADS; i++)
        if (machine.thread[i].state == THREAD_SLEEPS)
            found |= 1u << i;
    return ready & found;
}

/* Threads among which there is a choice; not of others than the current one without a budget. */
static unsigned candidates(unsigned ready, int current)
{
    unsigned sleepers = current < 0 ? asleep(ready) : 0;

    if (!machine.surprises && sleepers != ready)
        ready &= ~sleepers;
    if (current >= 0 && !choice_may_preempt())
        ready = 1u << current;
    return ready;
}

unsigned choice_thread(unsigned ready, int current)
{
    unsigned sleepers = current < 0 ? asleep(ready) : 0, n, answer, thread;

    ready = candidates(ready, current);
    n = count_of(ready);
    if (n == 1)
        return (unsigned)__builtin_ctz(ready);
    answer = decide(n, at < given ? 0 : preferred_thread(ready, current, n));
    thread = thread_of(ready, current, answer);
    machine.preemptions -= current >= 0 && answer;
    machine.surprises -= current >= 0 ? answer > 0 : sleepers != ready && (sleepers >> thread & 1);
    return thread;
}

unsigned choice_before(const struct step *step, unsigned ready)
{
    int begin = at;
    bool is_new = at >= given;
    unsigned thread = choice_thread(ready, machine.self->index);

    if (at > begin) {
        if (is_new)
            list[begin].vain = true;
        list[begin].writes = step->writes;
        list[begin].thread = (uint8_t)machine.self->index;
        list[begin].against = usage_against(step->usage, machine.self->index, step->writes);
        list[begin].barriers = machine.barriers;
        list[begin].usage = step->usage;
    }
    return thread;
}

/* The list keeps a place for the answer: who replays it may not know yet that there was no choice. */
void choice_none(void)
{
    decide(1, 0);
}

/* ------------------------------------------------------------------------------------ the list as text */

/* BUDGET:ANSWERS, one character each, without the zeros at the end. */
static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

void choice_text(char *text, size_t bytes)
{
    int end = at;
    size_t n;

    while (end > 0 && list[end - 1].answer == 0)
        end--;
    n = (size_t)snprintf(text, bytes, "%u:", bound);
    for (int i = 0; i < end && n + 1 < bytes; i++)
        text[n++] = digits[list[i].answer % (sizeof digits - 1)];
    text[n] = '\0';
}

bool choice_begin_replay(const char *text)
{
    char *end;

    bound = (unsigned)strtoul(text, &end, 10);
    if (end == text || *end != ':')
        return false;
    search = SEARCH_REPLAY;
    at = given = 0;
    for (const char *c = end + 1; *c; c++) {
        const char *digit = strchr(digits, *c);

        if (!digit || given == CHOICES_MAX)
            return false;
        list[given++].answer = (uint16_t)(digit - digits);
    }
    return true;
}

void choice_rewind(void)
{
    search = SEARCH_REPLAY;
    given = at;
    at = 0;
}
