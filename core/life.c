/* SPDX-License-Identifier: MIT */
/*
 * life.c - telling a process from its forks.
 *
 * Owns: one word in a page that the kernel empties in a fork (MADV_WIPEONFORK), made when something is first
 * opened and kept as long as the process.
 *
 * A fork has the memory of its parent's runtimes, but not their threads: whoever waits there waits for ever.
 * So handles keep the number that their process had, and slow entries compare. Not by pthread_atfork: its
 * handlers cannot be taken back, and neither _Fork nor clone() calls them. Not by getpid(): that is a system
 * call. Where the kernel has no such pages (before Linux 4.14), a fork is not told.
 *
 * Orderings
 *   LIFE   the word changes once in a process, in life_begin, before the handle that it numbers is known
 *          to anybody: who has the handle has the word.
 *   MADE   memory is zeroed before others can find it.
 */
#include "life.h"

#include <sys/mman.h>

static _Atomic uint32_t unwiped; /* the word where there is no page for it */
_Atomic(_Atomic uint32_t *) life_word;

/* Whether it is emptied does not matter to who only runs on. */
static void *map(size_t bytes, bool *wiped)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *wiped = p != MAP_FAILED && madvise(p, bytes, MADV_WIPEONFORK) == 0;
    return p != MAP_FAILED ? p : NULL;
}

/* There if the program's leaks are looked for: what lies here has been lent to us, such as the arguments of jobs. */
extern void __lsan_register_root_region(const void *low, size_t bytes) __attribute__((weak));
extern void __lsan_unregister_root_region(const void *low, size_t bytes) __attribute__((weak));

void *life_alloc(size_t bytes)
{
    bool wiped;
    void *memory = map(bytes, &wiped);

    if (memory && __lsan_register_root_region)
        __lsan_register_root_region(memory, bytes);
    return memory;
}

void life_free(void *memory, size_t bytes)
{
    if (__lsan_unregister_root_region)
        __lsan_unregister_root_region(memory, bytes);
    munmap(memory, bytes);
}

void *life_memory(_Atomic(void *) *at, size_t bytes, void *instead)
{
    void *found = atomic_load_explicit(at, memory_order_acquire), *made; /* MADE: zeroed */

    if (found)
        return found;
    made = life_alloc(bytes);
    made = made ? made : instead;
    if (atomic_compare_exchange_strong_explicit(at, &found, made, memory_order_release, memory_order_acquire)) /* MADE */
        return made;
    if (made != instead)
        life_free(made, bytes);
    return found;
}

static _Atomic uint32_t *make_word(void)
{
    size_t bytes = sizeof(uint32_t);
    bool wiped;
    void *p = map(bytes, &wiped);

    if (p && !wiped)
        munmap(p, bytes);
    return wiped ? p : &unwiped;
}

/* Two threads may come first: the loser's page goes. */
static _Atomic uint32_t *word_of_process(void)
{
    _Atomic uint32_t *word = atomic_load_explicit(&life_word, memory_order_relaxed), *made; /* constant */

    if (word)
        return word;
    made = make_word();
    if (atomic_compare_exchange_strong_explicit(&life_word, &word, made, memory_order_relaxed, /* constant */
                                                memory_order_relaxed))
        return made;
    if (made != &unwiped)
        munmap(made, sizeof *made);
    return word;
}

uint32_t life_begin(void)
{
    static _Atomic uint32_t given; /* a fork goes on counting where its parent was */
    _Atomic uint32_t *word = word_of_process();
    uint32_t was = atomic_load_explicit(word, memory_order_relaxed); /* LIFE */
    uint32_t number;

    if (was)
        return was;
    number = atomic_fetch_add_explicit(&given, 1, memory_order_relaxed) + 1; /* unique, no more */
    if (atomic_compare_exchange_strong_explicit(word, &was, number, memory_order_relaxed, /* LIFE */
                                                memory_order_relaxed))
        return number;
    return was;
}
