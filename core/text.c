/* SPDX-License-Identifier: MIT */
/*
 * text.c - the code that the program has declared containable, and names for code addresses.
 *
 * Owns: the process's table of registered ranges. Knows nothing about faults.
 *
 * Readers may have been stopped anywhere, so they take no lock. Entries are only ever added: a range
 * that is removed keeps its slot, with an end of 0, and the same range added again revives it.
 * Another range never takes the slot, for a reader may have seen the old start.
 *
 * The runtime's own code is one section in every object it is linked into (core/text.ld), and the
 * linker names its bounds. So it is told apart from the program's even if they are one object.
 *
 * Names come from the dynamic symbols of the object, which is found by _dl_find_object: dladdr and
 * dl_iterate_phdr take the linker's lock, whose holder may wait in malloc for the thread that has
 * stopped there.
 */
#include "text.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGES_MAX 256

extern const char __start_coir_text[], __stop_coir_text[]; /* set by the linker */

/* start is constant once the range counts; end 0: removed. */
struct range {
    uintptr_t start;
    _Atomic uintptr_t end;
};

static struct range range[RANGES_MAX];
static _Atomic size_t ranges;
static struct lock lock; /* writers */

bool text_is_ours(uintptr_t pc)
{
    return pc - (uintptr_t)__start_coir_text < (uintptr_t)__stop_coir_text - (uintptr_t)__start_coir_text;
}

static uintptr_t end_of(struct range *r)
{
    return atomic_load_explicit(&r->end, memory_order_relaxed); /* whole by itself */
}

bool text_is_containable(uintptr_t pc)
{
    size_t n = atomic_load_explicit(&ranges, memory_order_acquire); /* COUNTED: start is written */

    for (size_t i = 0; i < n; i++)
        if (pc >= range[i].start && pc < end_of(&range[i]))
            return !text_is_ours(pc);
    return false;
}

/* --------------------------------------------------------------------------------- registering */

static int add_range(uintptr_t start, uintptr_t end)
{
    size_t n = atomic_load_explicit(&ranges, memory_order_relaxed); /* under lock */

    for (size_t i = 0; i < n; i++)
        if (range[i].start == start && (end_of(&range[i]) == 0 || end_of(&range[i]) == end)) {
            atomic_store_explicit(&range[i].end, end, memory_order_relaxed); /* whole by itself */
            return COIR_OK;
        }
    if (n == RANGES_MAX)
        return COIR_ENOMEM;
    range[n].start = start;
    atomic_store_explicit(&range[n].end, end, memory_order_relaxed); /* COUNTED publishes it */
    atomic_store_explicit(&ranges, n + 1, memory_order_release);     /* COUNTED */
    return COIR_OK;
}

int coir_contain_text(const void *start, const void *end)
{
    int status;

    if (!start || (uintptr_t)start >= (uintptr_t)end)
        return COIR_EINVAL;
    lock_take(&lock);
    status = add_range((uintptr_t)start, (uintptr_t)end);
    lock_drop(&lock);
    return status;
}

/* A search for the object that an address lies in. */
struct search {
    uintptr_t address;
    int status;
};

static bool holds(const struct dl_phdr_info *o, uintptr_t address)
{
    for (int i = 0; i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];

        if (p->p_type == PT_LOAD && address - (o->dlpi_addr + p->p_vaddr) < p->p_memsz)
            return true;
    }
    return false;
}

/* A program without an interpreter is linked statically, and its text is libc's as well. Any other object
 * that is libc or defines malloc has locks that no job may leave taken. (In the program, malloc's
 * address may be that of a mere stub.) */
static bool is_foreign(const struct dl_phdr_info *o)
{
    const bool program = !o->dlpi_name || !*o->dlpi_name;

    if (!program)
        return holds(o, (uintptr_t)malloc) || holds(o, (uintptr_t)gnu_get_libc_version);
    for (int i = 0; i < o->dlpi_phnum; i++)
        if (o->dlpi_phdr[i].p_type == PT_INTERP)
            return false;
    return true;
}

static int add_object(struct dl_phdr_info *o, size_t bytes, void *arg)
{
    struct search *s = arg;

    (void)bytes;
    if (!holds(o, s->address))
        return 0;
    if (is_foreign(o)) {
        s->status = COIR_ENOTSUP;
        return 1;
    }
    s->status = COIR_OK;
    for (int i = 0; i < o->dlpi_phnum && s->status == COIR_OK; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];
        const char *start = (const char *)(uintptr_t)(o->dlpi_addr + p->p_vaddr);

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X))
            s->status = coir_contain_text(start, start + p->p_memsz);
    }
    return 1;
}

int coir_contain_object(const void *address_in_object)
{
    struct search s = {(uintptr_t)address_in_object, COIR_EINVAL};

    dl_iterate_phdr(add_object, &s);
    return s.status;
}

int coir_contain_remove(const void *address)
{
    uintptr_t a = (uintptr_t)address;
    int status = COIR_ENOENT;

    lock_take(&lock);
    for (size_t i = 0; i < atomic_load_explicit(&ranges, memory_order_relaxed); i++) /* under lock */
        if (a >= range[i].start && a < end_of(&range[i])) {
            atomic_store_explicit(&range[i].end, 0, memory_order_relaxed); /* whole by itself */
            status = COIR_OK;
        }
    lock_drop(&lock);
    return status;
}

/* ---------------------------------------------------------------------------------------- names */

#ifdef DLFO_STRUCT_HAS_EH_DBASE /* glibc 2.35 */

/* What the dynamic section says of an object's symbols. */
struct symbols {
    const ElfW(Sym) *table;
    const char *names;
    const uint32_t *hash; /* DT_GNU_HASH */
};

/* Addresses there are relocated, but for objects the linker could not write to. */
static const void *dynamic_pointer(const struct link_map *m, const ElfW(Dyn) *d)
{
    return (const void *)(uintptr_t)(d->d_un.d_ptr < m->l_addr ? d->d_un.d_ptr + m->l_addr
                                                              : d->d_un.d_ptr);
}

static bool read_symbols(const struct link_map *m, struct symbols *s)
{
    *s = (struct symbols){0};
    for (const ElfW(Dyn) *d = m->l_ld; d && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            s->table = dynamic_pointer(m, d);
        else if (d->d_tag == DT_STRTAB)
            s->names = dynamic_pointer(m, d);
        else if (d->d_tag == DT_GNU_HASH)
            s->hash = dynamic_pointer(m, d);
    }
    return s->table && s->names && s->hash;
}

/* One past the last symbol that is defined, from the hash table: buckets name the first of each
 * chain, and the low bit ends one. *first: of those that are hashed. */
static uint32_t symbol_count(const uint32_t *hash, uint32_t *first)
{
    const uint32_t buckets = hash[0], words = hash[2];
    const uint32_t *bucket = hash + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    uint32_t last = 0;

    *first = hash[1];
    for (uint32_t i = 0; i < buckets; i++)
        last = bucket[i] > last ? bucket[i] : last;
    if (last < *first)
        return *first; /* none */
    while (!(chain[last - *first] & 1))
        last++;
    return last + 1;
}

/* Whether a is what people would call it rather than b. */
static bool is_plainer(const char *a, const char *b)
{
    if (!b || (*a == '_') != (*b == '_'))
        return !b || *b == '_';
    return strlen(a) < strlen(b);
}

/* The function at this offset of the object. */
static const char *symbol_at(const struct symbols *s, uintptr_t offset)
{
    const char *best = NULL;
    uint32_t i, end = symbol_count(s->hash, &i);

    for (; i < end; i++) {
        const ElfW(Sym) *symbol = &s->table[i];
        const char *name = s->names + symbol->st_name;
        unsigned type = symbol->st_info & 0xf;

        if ((type == STT_FUNC || type == STT_GNU_IFUNC) &&
            offset - symbol->st_value < symbol->st_size && is_plainer(name, best))
            best = name;
    }
    return best;
}

static void name_in_object(const struct link_map *m, uintptr_t pc, char *name, size_t bytes)
{
    const char *path = m->l_name && *m->l_name ? m->l_name : program_invocation_name;
    const char *slash = strrchr(path, '/'), *symbol = NULL;
    struct symbols s;

    if (read_symbols(m, &s))
        symbol = symbol_at(&s, pc - m->l_addr);
    if (symbol)
        snprintf(name, bytes, "%s", symbol);
    else
        snprintf(name, bytes, "%s+0x%llx", slash ? slash + 1 : path,
                 (unsigned long long)(pc - m->l_addr));
}

bool text_is_known(uintptr_t pc)
{
    struct dl_find_object o;

    return _dl_find_object((void *)pc, &o) == 0;
}

void text_name(uintptr_t pc, char *name, size_t bytes)
{
    struct dl_find_object o;

    if (_dl_find_object((void *)pc, &o) == 0)
        name_in_object(o.dlfo_link_map, pc, name, bytes);
    else
        snprintf(name, bytes, "0x%llx", (unsigned long long)pc);
}

#else

bool text_is_known(uintptr_t pc)
{
    return pc != 0;
}

void text_name(uintptr_t pc, char *name, size_t bytes)
{
    snprintf(name, bytes, "0x%llx", (unsigned long long)pc);
}

#endif
