/* SPDX-License-Identifier: MIT */
/*
 * cell.c - one current version of a value, replaced as a whole; readers keep the one they got.
 *
 * The cell's word holds the version's address and, below it, how many references were taken of it: one
 * fetch_add gets both, so there is no moment in which a reader knows a version and has no
 * reference to it. References are given back at the version, which counts them down.
 *
 * Why not epochs: a fiber that keeps a reference while it sleeps would hold up the freeing of
 * everything. Why not a count in the version alone: to read the address and to count are two steps.
 *
 * Invariants
 *   V1  refs == BIAS (while it is current) + references moved here from the word - references
 *       given back. The word's count is moved when the version is replaced, which also takes BIAS
 *       away: from then on refs is the number of references in being, and only falls.
 *   V2  So exactly one step makes it zero, and that step destroys: the last release, or the
 *       replacement if nobody has a reference.
 *   V3  A count of half its range is moved by the readers who see it: first added to refs, then taken
 *       from the word by CAS; who fails takes it back, and has a reference of its own meanwhile, so refs
 *       does not become zero. The word overflows only if 32,768 threads are between those steps.
 *
 * Orderings
 *   VERSION  publish (release) -> read (acquire): what was written to the version.
 *   LAST     release (release) -> the step that makes refs zero (acquire): no reader uses it any more.
 */
#include "base.h"

#define COUNT_BITS 16
#define COUNT_MASK UINT64_C(0xffff)
#define COUNT_HALF UINT64_C(0x8000)
#define BIAS (INT64_C(1) << 62)

struct version {
    _Atomic int64_t refs;
    void (*destroy)(coir_cell_version *v);
};

struct cell {
    _Atomic uint64_t word; /* address << 16 | references taken and not moved */
    void (*destroy)(coir_cell_version *v);
};

_Static_assert(sizeof(struct version) == sizeof(coir_cell_version), "coir.h reserves it");
_Static_assert(_Alignof(struct version) <= _Alignof(coir_cell_version), "coir.h aligns enough");
_Static_assert(sizeof(struct cell) == sizeof(coir_cell), "coir.h reserves it");
_Static_assert(_Alignof(struct cell) <= _Alignof(coir_cell), "coir.h aligns enough");

static struct cell *cell_of(const coir_cell *c)
{
    return (struct cell *)(uintptr_t)c;
}

static struct version *version_in(uint64_t word)
{
    return (struct version *)(uintptr_t)(word >> COUNT_BITS);
}

static uint64_t word_of(const void *version)
{
    return (uint64_t)(uintptr_t)version << COUNT_BITS;
}

/* Adds to refs, and destroys what nobody can reach any more (V2). */
static void count(struct version *v, int64_t n)
{
    int64_t was = atomic_fetch_add_explicit(&v->refs, n, memory_order_acq_rel); /* LAST */

    ASSERT(was + n >= 0);
    if (was + n == 0 && v->destroy)
        v->destroy((coir_cell_version *)(void *)v);
}

/* It is in no cell any more. */
static void retire(uint64_t word)
{
    if (version_in(word))
        count(version_in(word), (int64_t)(word & COUNT_MASK) - BIAS);
}

/* Makes room in the word's count (V3). The caller has a reference to v. */
static COLD void move_count(struct cell *c, struct version *v)
{
    uint64_t word = atomic_load_explicit(&c->word, memory_order_relaxed); /* rechecked by the CAS */

    while (version_in(word) == v && (word & COUNT_MASK) >= COUNT_HALF) {
        int64_t n = (int64_t)(word & COUNT_MASK);

        count(v, n);
        if (atomic_compare_exchange_strong_explicit(&c->word, &word, word_of(v), memory_order_relaxed,
                                                    memory_order_relaxed)) /* a count */
            return;
        count(v, -n);
    }
}

static int adopt(struct cell *c, coir_cell_version *next)
{
    struct version *v = (struct version *)(void *)next;

    if (!v)
        return COIR_EINVAL;
    if (version_in(word_of(v)) != v)
        return COIR_ERANGE;
    atomic_store_explicit(&v->refs, BIAS, memory_order_relaxed); /* carried by VERSION */
    v->destroy = c->destroy;
    return COIR_OK;
}

/* -------------------------------------------------------------------------------- public part */

int coir_cell_init(coir_cell *cell, coir_cell_version *first,
                   void (*destroy)(coir_cell_version *version))
{
    struct cell *c = cell_of(cell);
    int status;

    if (!c)
        return COIR_EINVAL;
    *c = (struct cell){.destroy = destroy};
    status = first ? adopt(c, first) : COIR_OK;
    if (status == COIR_OK)
        atomic_store_explicit(&c->word, word_of(first), memory_order_relaxed); /* not shared yet */
    return status;
}

void coir_cell_fini(coir_cell *cell)
{
    if (cell)
        retire(atomic_exchange_explicit(&cell_of(cell)->word, 0, memory_order_relaxed)); /* nobody's else now */
}

coir_cell_version *coir_cell_read(coir_cell *cell)
{
    struct cell *c = cell_of(cell);
    uint64_t word = c ? atomic_load_explicit(&c->word, memory_order_relaxed) : 0; /* empty or not */

    if (!version_in(word))
        return NULL;
    word = atomic_fetch_add_explicit(&c->word, 1, memory_order_acquire); /* VERSION */
    if (UNLIKELY((word & COUNT_MASK) >= COUNT_HALF))
        move_count(c, version_in(word));
    return (coir_cell_version *)(void *)version_in(word);
}

void coir_cell_release(coir_cell_version *version)
{
    if (version)
        count((struct version *)(void *)version, -1);
}

int coir_cell_publish(coir_cell *cell, coir_cell_version *next)
{
    struct cell *c = cell_of(cell);
    int status = c ? adopt(c, next) : COIR_EINVAL;

    if (status == COIR_OK)
        retire(atomic_exchange_explicit(&c->word, word_of(next), memory_order_acq_rel)); /* VERSION */
    return status;
}

int coir_cell_replace(coir_cell *cell, const coir_cell_version *expected, coir_cell_version *next)
{
    struct cell *c = cell_of(cell);
    int status = c ? adopt(c, next) : COIR_EINVAL;
    uint64_t word;

    if (status != COIR_OK)
        return status;
    word = atomic_load_explicit(&c->word, memory_order_relaxed); /* rechecked by the CAS */
    while (version_in(word) == (const struct version *)(const void *)expected)
        if (atomic_compare_exchange_weak_explicit(&c->word, &word, word_of(next),
                                                  memory_order_acq_rel,
                                                  memory_order_relaxed)) { /* VERSION */
            retire(word);
            return COIR_OK;
        }
    return COIR_EAGAIN;
}
