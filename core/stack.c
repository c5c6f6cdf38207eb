/* SPDX-License-Identifier: MIT */
/*
 * stack.c - guarded stacks in one arena.
 *
 *      chunk                                   one stack
 *     +-------+-----------+-------+------ - - +-------+-----------------------+--------+-------+
 *     | guard | stack 0   | guard | stack 1   | guard | usable, grows <----   | header | colour|
 *     +-------+-----------+-------+------ - - +-------+-----------------------+--------+-------+
 *                                                      low
 *
 * Owns: the address space, the guards, and every stack that no fiber uses.
 * Knows nothing about fibers: a header of a given size lies at the top of each stack.
 *
 * The arena is reserved without access and committed chunk by chunk, so that a strict overcommit
 * policy or mlockall(MCL_FUTURE) charges only what is used. Guards are installed by
 * MADV_GUARD_INSTALL (Linux 6.13), which splits no mapping; without it by mprotect, and then
 * vm.max_map_count limits the number of stacks, which is said at open.
 *
 * Headers of neighbouring stacks lie at different offsets of their pages (the colour): stacks
 * aligned alike would share cache sets (measured by others on this kind of machine: 149 against
 * 39 ns a switch with 100,000 contexts). So would their pages sets of the TLB, if they were 32 apart:
 * the distance is odd.
 *
 * Invariants
 *   S1  A stack is held by exactly one of: a fiber, a worker's cache, the depot, the cold array.
 *   S2  created never shrinks; stack i exists for good once created > i.
 */
#include "stack.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cpus.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define GUARD_BYTES ((size_t)65536) /* at least */
#define CHUNK_BYTES ((size_t)8 << 20)
#define COLOURS 24
#define COLOUR_BYTES COIR_CACHE_LINE
#define CACHE_MAX 16     /* stacks a worker keeps, at most: others cannot use them */
#define DEPOT_WARM 256   /* idle stacks whose memory is kept, at least */
#define TRIM_BATCH 16    /* stacks given back at once */
#define STACK_RESIDENT 4608 /* bytes a parked fiber is counted for: a page and its page tables */
#define MAPS_RESERVE 4096   /* mappings left to the rest of the process */

_Static_assert(GUARD_BYTES >= ARCH_GUARD_MIN, "a probed frame could step over the guard");

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------------ what this machine can hold */

/* How many stacks the machine can hold, and what says so. */
static size_t capacity(const struct stacks *s, const char **why)
{
    uint64_t by_memory = memory_usable() / STACK_RESIDENT;
    uint64_t maps = s->guard_by_advice ? UINT64_MAX : mappings_max();
    uint64_t by_maps = maps > MAPS_RESERVE ? (maps - MAPS_RESERVE) / 2 : 1;

    *why = by_memory < by_maps ? "memory" : "vm.max_map_count";
    return by_memory < by_maps ? by_memory : by_maps;
}

/* -------------------------------------------------------------------------------- guard pages */

/* Emulators answer success to advice they do not know, so the guard is tried: the kernel must refuse to look at
 * a futex in it, which else is not 1. (A path in it would be read by valgrind itself, and end it.) */
static bool advice_works(void)
{
    const size_t bytes = page_bytes();
    char *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works = false;

    if (page == MAP_FAILED)
        return false;
    if (madvise(page, bytes, MADV_GUARD_INSTALL) == 0)
        works = syscall(SYS_futex, page, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0) == -1 && errno == EFAULT;
    munmap(page, bytes);
    return works;
}

/* Locked memory, by mlockall or because the host gives such, takes no advice. */
static bool install_guard(const struct stacks *s, char *base)
{
    return (s->guard_by_advice && madvise(base, s->guard, MADV_GUARD_INSTALL) == 0) ||
           mprotect(base, s->guard, PROT_NONE) == 0;
}

/* Of either kind. */
static bool remove_guard(const struct stacks *s, char *base)
{
    return mprotect(base, s->guard, PROT_READ | PROT_WRITE) == 0 &&
           (!s->guard_by_advice || madvise(base, s->guard, MADV_GUARD_REMOVE) == 0);
}

/* ------------------------------------------------------------------------------ open and close */

/* Of whole pages, an odd number with the stack. */
static size_t guard_bytes(const struct stacks *s)
{
    return (GUARD_BYTES + s->usable) / s->page % 2 ? GUARD_BYTES : GUARD_BYTES + s->page;
}

static size_t stride(const struct stacks *s)
{
    return s->guard + s->usable;
}

static size_t chunk_count(const struct stacks *s)
{
    return (s->limit + s->per_chunk - 1) / s->per_chunk;
}

/* Both side tables lie in one mapping. */
static size_t tables_bytes(const struct stacks *s)
{
    return chunk_count(s) * sizeof *s->chunk + s->limit * sizeof *s->cold;
}

static char *base_of(struct stacks *s, size_t i)
{
    return s->chunk[i / s->per_chunk] + i % s->per_chunk * stride(s);
}

/* As long as the limit and mostly unused: pages come when they are touched. */
static void *map(size_t bytes, int protection)
{
    void *m = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return m == MAP_FAILED ? NULL : m;
}

static int reserve(struct stacks *s)
{
    size_t bytes = chunk_count(s) * s->per_chunk * stride(s);

    s->chunk = map(tables_bytes(s), PROT_READ | PROT_WRITE);
    s->cold = s->chunk ? (uint32_t *)(void *)(s->chunk + chunk_count(s)) : NULL;
    if (!s->host->own_alloc)
        s->arena = map(bytes, PROT_NONE);
    if (s->chunk && (s->arena || s->host->own_alloc)) {
        if (s->arena) {
            madvise(s->arena, bytes, MADV_NOHUGEPAGE); /* a stack must not cost 2 MiB */
            munlock(s->arena, bytes);                  /* mlockall(MCL_FUTURE) would fill it */
        }
        return COIR_OK;
    }
    host_log(s->host, COIR_LOG_ERROR,
             "no address space for %zu stacks (%zu MiB): lower options.stacks_max or raise "
             "RLIMIT_AS", s->limit, bytes >> 20);
    stacks_fini(s);
    return COIR_ENOMEM;
}

int stacks_init(struct stacks *s, const struct host *host, const coir_options *options,
                size_t header)
{
    const char *why;
    size_t able;

    s->host = host;
    s->page = page_bytes();
    s->usable = (options->stack_bytes + s->page - 1) & ~(s->page - 1);
    s->guard = guard_bytes(s);
    s->header = (header + COIR_CACHE_LINE - 1) & ~(size_t)(COIR_CACHE_LINE - 1);
    s->guard_by_advice = advice_works();
    s->per_chunk = CHUNK_BYTES / stride(s) ? CHUNK_BYTES / stride(s) : 1;
    s->limit = options->stacks_max + stacks_of_worker(options) * options->workers;
    s->warm = options->prefault > DEPOT_WARM ? options->prefault : DEPOT_WARM;
    s->cache_max = options->stacks_max / (options->workers + 1) / 8; /* a small arena is for all */
    s->cache_max = s->cache_max < CACHE_MAX ? s->cache_max : CACHE_MAX;
    able = capacity(s, &why);
    if (able < s->limit) {
        s->limit = able;
        host_log(host, COIR_LOG_INFO, "this machine can hold %zu stacks (limited by %s)", able, why);
    }
    return reserve(s);
}

/* Gives a chunk back to the host, but not with a guard in it: the next who is given that memory would fault. */
static void free_chunk(struct stacks *s, size_t chunk, size_t created)
{
    bool open = true;

    for (size_t i = chunk * s->per_chunk; i < created && i < (chunk + 1) * s->per_chunk; i++)
        open &= remove_guard(s, base_of(s, i));
    if (open)
        s->host->free(((void **)(void *)s->chunk[chunk])[-1], s->host->alloc_arg);
    else
        host_log(s->host, COIR_LOG_ERROR, "%zu KiB of stacks are not given back: a guard cannot be removed",
                 s->per_chunk * stride(s) >> 10);
}

static void free_chunks(struct stacks *s)
{
    size_t created = atomic_load_explicit(&s->created, memory_order_relaxed); /* workers have ended */

    for (size_t i = 0; s->host->own_alloc && i < chunk_count(s) && s->chunk[i]; i++)
        free_chunk(s, i, created);
}

void stacks_fini(struct stacks *s)
{
    if (s->chunk) {
        free_chunks(s);
        munmap(s->chunk, tables_bytes(s));
    }
    if (s->arena)
        munmap(s->arena, chunk_count(s) * s->per_chunk * stride(s));
    s->chunk = NULL;
    s->cold = NULL;
    s->arena = NULL;
}

/* ------------------------------------------------------------------------------- making stacks */

/* A chunk from the host: page aligned, the original pointer in the word before it. */
static char *host_chunk(struct stacks *s)
{
    const size_t page = page_bytes();
    char *raw = s->host->alloc(s->per_chunk * stride(s) + 2 * page, s->host->alloc_arg);
    uintptr_t base = ((uintptr_t)raw + 2 * page - 1) & ~(uintptr_t)(page - 1);

    if (!raw)
        return NULL;
    madvise((void *)base, s->per_chunk * stride(s), MADV_NOHUGEPAGE);
    ((void **)base)[-1] = raw;
    return (char *)base;
}

/* Whether a page is zero once it has been given back. Emulators say that they take it, and do not; locked pages stay;
 * and what a host calls memory may be a file's. */
static bool is_emptied(const struct stacks *s, volatile char *page)
{
    *page = 1;
    return madvise((char *)(uintptr_t)page, s->page, MADV_DONTNEED) == 0 && !*page;
}

/* Lock held. */
static char *commit_chunk(struct stacks *s, size_t i)
{
    size_t bytes = s->per_chunk * stride(s);
    char *base = s->arena ? s->arena + i * bytes : host_chunk(s);

    if (base && s->arena && mprotect(base, bytes, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    if (base && !is_emptied(s, base))
        atomic_store_explicit(&s->sticky, true, memory_order_relaxed); /* the lock carries it to who uses the chunk */
    return s->chunk[i] = base;
}

struct stack *stack_at(struct stacks *s, size_t i)
{
    char *top = base_of(s, i) + stride(s);

    return (struct stack *)(void *)(top - i % COLOURS * COLOUR_BYTES - s->header);
}

struct stack *stack_around(struct stacks *s, uintptr_t address)
{
    size_t n = atomic_load_explicit(&s->created, memory_order_acquire); /* SEEN */

    for (size_t i = 0; i < n; i += s->per_chunk) {
        size_t at = address - (uintptr_t)base_of(s, i), k = i + at / stride(s);

        if (at < s->per_chunk * stride(s))
            return k < n ? stack_at(s, k) : NULL;
    }
    return NULL;
}

static struct stack *write_header(struct stacks *s, size_t i)
{
    struct stack *stack = stack_at(s, i);

    memset((void *)stack, 0, s->header);
    stack->low = base_of(s, i) + s->guard;
    stack->index = (uint32_t)i;
    return stack;
}

/* Lock held. */
static struct stack *create(struct stacks *s)
{
    size_t i = atomic_load_explicit(&s->created, memory_order_relaxed); /* under lock */

    if (s->cold_count > 0)
        return write_header(s, s->cold[--s->cold_count]);
    if (i == s->limit)
        return NULL;
    if (!s->chunk[i / s->per_chunk] && !commit_chunk(s, i / s->per_chunk))
        return NULL;
    if (!install_guard(s, base_of(s, i)))
        return NULL;
    write_header(s, i);
    atomic_store_explicit(&s->created, i + 1, memory_order_release); /* SEEN: header before index */
    return stack_at(s, i);
}

/* Lock held. */
static void publish_depot(struct stacks *s)
{
    atomic_store_explicit(&s->depot_count, s->depot.count, memory_order_relaxed); /* a hint */
}

/* ------------------------------------------------------------------------ take, give, give back */

/* In front: the stack that was used last is taken first, from a cache and from the depot, so that few
 * stacks are touched at all. */
static void push_front(struct list *l, struct link *e)
{
    e->next = l->first;
    l->first = e;
    if (!e->next)
        l->last = e;
    l->count++;
}

/* What comes after the first `keep` goes in front of the other list, in its order. */
static void give_rest(struct list *from, size_t keep, struct list *to)
{
    struct link **cut = &from->first, *last = NULL;

    for (size_t i = 0; i < keep; i++) {
        last = *cut;
        cut = &last->next;
    }
    if (!*cut)
        return;
    from->last->next = to->first;
    to->first = *cut;
    to->last = to->last ? to->last : from->last;
    to->count += from->count - keep;
    from->last = last;
    from->count = keep;
    *cut = NULL;
}

static NOINLINE struct stack *take_slowly(struct stacks *s, struct stack_cache *cache)
{
    struct stack *stack = NULL;
    struct link *e;

    lock_take(&s->lock);
    while (cache->list.count < s->cache_max / 2 && (e = list_take(&s->depot)))
        push_front(&cache->list, e);
    e = list_take(&cache->list);
    e = e ? e : list_take(&s->depot);
    publish_depot(s);
    stack = e ? CONTAINER_OF(e, struct stack, link) : create(s);
    if (UNLIKELY(!stack))
        atomic_store_explicit(&s->missed, true, memory_order_relaxed); /* a hint */
    lock_drop(&s->lock);
    return stack;
}

struct stack *stack_take(struct stacks *s, struct stack_cache *cache)
{
    struct link *e = list_take(&cache->list);

    return LIKELY(e != NULL) ? CONTAINER_OF(e, struct stack, link) : take_slowly(s, cache);
}

static NOINLINE void give_slowly(struct stacks *s, struct stack_cache *cache)
{
    lock_take(&s->lock);
    give_rest(&cache->list, s->cache_max / 2, &s->depot);
    publish_depot(s);
    lock_drop(&s->lock);
}

void stack_give(struct stacks *s, struct stack_cache *cache, struct stack *stack)
{
    push_front(&cache->list, &stack->link);
    if (UNLIKELY(cache->list.count > s->cache_max))
        give_slowly(s, cache);
}

void stack_cache_flush(struct stacks *s, struct stack_cache *cache)
{
    lock_take(&s->lock);
    give_rest(&cache->list, 0, &s->depot);
    publish_depot(s);
    atomic_store_explicit(&s->missed, false, memory_order_relaxed); /* a hint */
    lock_drop(&s->lock);
}

void stack_cache_share(struct stacks *s, struct stack_cache *cache)
{
    if (UNLIKELY(atomic_load_explicit(&s->missed, memory_order_relaxed)) && cache->list.count) /* a hint */
        stack_cache_flush(s, cache);
}

void stacks_empty(struct stacks *s, char *low, size_t bytes)
{
    if (!bytes)
        return;
    if (atomic_load_explicit(&s->sticky, memory_order_relaxed) || /* constant for the chunk that is in use */
        madvise(low, bytes, MADV_DONTNEED) != 0)
        memset(low, 0, bytes);
}

/* Takes a few stacks out of the depot. */
static int take_idle(struct stacks *s, struct stack *idle[TRIM_BATCH])
{
    struct link *e;
    int n = 0;

    if (atomic_load_explicit(&s->depot_count, memory_order_relaxed) <= s->warm || /* a hint */
        !lock_try(&s->lock))
        return 0;
    while (n < TRIM_BATCH && s->depot.count > s->warm && (e = list_take(&s->depot)))
        idle[n++] = CONTAINER_OF(e, struct stack, link);
    publish_depot(s);
    lock_drop(&s->lock);
    return n;
}

/* The memory goes outside the lock: each piece costs a round of interrupts to the other processors. */
bool stacks_trim(struct stacks *s)
{
    struct stack *idle[TRIM_BATCH];
    uint32_t index[TRIM_BATCH];
    int n = take_idle(s, idle);

    for (int i = 0; i < n; i++) {
        index[i] = idle[i]->index;
        stacks_empty(s, idle[i]->low, s->usable);
    }
    lock_take(&s->lock);
    for (int i = 0; i < n; i++)
        s->cold[s->cold_count++] = index[i];
    lock_drop(&s->lock);
    return n > 0;
}

/* From its header down, as a job would. */
static void touch(const struct stacks *s, struct stack *stack, size_t bytes)
{
    char *at = (char *)stack;

    for (size_t done = s->page; done < bytes && at - s->page >= (char *)stack->low; done += s->page)
        *(volatile char *)(at -= s->page) = 0;
}

int stacks_prepare(struct stacks *s, const coir_options *options)
{
    const size_t needed = stacks_of_worker(options) * options->workers, touched = options->prefault;
    struct stack_cache made = {0}, none = {0};
    struct stack *stack;
    bool enough;

    while (made.list.count < (needed > touched ? needed : touched) && (stack = stack_take(s, &none))) {
        if (made.list.count < touched)
            touch(s, stack, options->prefault_bytes);
        list_push(&made.list, &stack->link);
    }
    enough = made.list.count >= needed;
    stack_cache_flush(s, &made);
    return enough ? COIR_OK : COIR_ENOMEM;
}
