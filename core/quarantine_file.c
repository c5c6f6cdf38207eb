/* SPDX-License-Identifier: MIT */
/*
 * quarantine_file.c - a table of slots in a mapped file: what of it survives, and how that is told.
 *
 * Knows the form of a slot, not what becomes of an input. The file is a header and slots of one cache
 * line each.
 *
 * Invariants
 *   Q1  A slot is valid if its generation is even and its checksum, which covers generation, index and
 *       content, is right; or if it is all zero. Any other is torn: counted once, then empty.
 *   Q2  A write makes the generation odd first and even last. Whoever dies in between leaves a torn slot,
 *       whoever dies elsewhere a whole one: the pages are the kernel's and outlive the process.
 *   Q3  One process at a time has the table, by flock. Others may map it to read, and tell by Q1 what
 *       they have read whole.
 *
 * Not promised: that the last strikes survive the machine's power loss (close writes all, nothing else
 * waits for the disk). A file that others cut while it is mapped is SIGBUS.
 *
 * Orderings
 *   SLOT  odd generation, fence, content, even generation (release): for readers of other processes.
 *   HEAD  the rest of the header, its magic (release): who dies before that has begun nothing.
 */
#include "quarantine_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC UINT64_C(0x51726e5472696f43) /* "CoirTnrQ", also tells the byte order */
#define VERSION 1
#define SLOT_BYTES 64

struct slot {
    _Atomic uint64_t word[8];
};

struct header {
    _Atomic uint64_t magic; /* 0: the rest is not written yet */
    uint32_t version, slot_bytes;
    uint64_t slots;
    uint64_t reserved[4];
    uint64_t sum;
};

_Static_assert(sizeof(struct slot) == SLOT_BYTES && sizeof(struct header) == SLOT_BYTES, "one line each");

/* ---------------------------------------------------------------------------------- one slot */

/* One to one in either argument, so no change of a single word goes unnoticed. */
static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t sum_of(const uint64_t *word, size_t n, uint64_t seed)
{
    uint64_t h = mix(MAGIC, seed);

    for (size_t i = 0; i < n; i++)
        h = mix(h, word[i]);
    return h;
}

static void pack(const struct entry *e, uint64_t *word, uint64_t index)
{
    word[0] = e->generation;
    word[1] = e->type;
    word[2] = e->key;
    word[3] = (uint64_t)e->until;
    word[4] = (uint64_t)e->last;
    word[5] = (uint64_t)e->strikes << 32 | (uint64_t)e->in_flight << 16 | (uint64_t)e->state << 8 | e->level;
    word[6] = (uint64_t)(uint32_t)e->code << 32 | (uint64_t)(e->line & 0xffffff) << 8 | e->kind;
    word[7] = sum_of(word, 7, index);
}

static void unpack(const uint64_t *word, struct entry *e)
{
    *e = (struct entry){
        .generation = word[0],
        .type = word[1],
        .key = word[2],
        .until = (int64_t)word[3],
        .last = (int64_t)word[4],
        .strikes = (uint32_t)(word[5] >> 32),
        .in_flight = (uint16_t)(word[5] >> 16),
        .state = (uint8_t)(word[5] >> 8),
        .level = (uint8_t)word[5],
        .code = (int32_t)(word[6] >> 32),
        .line = (uint32_t)(word[6] >> 8) & 0xffffff,
        .kind = (uint8_t)word[6],
    };
}

static bool all_zero(const void *memory, size_t bytes)
{
    const unsigned char *at = memory;

    while (bytes && !*at)
        at++, bytes--;
    return !bytes;
}

/* False: torn (Q1). Lock held. */
static bool slot_read(struct table *t, uint64_t i, struct entry *e)
{
    uint64_t word[8];

    for (int w = 0; w < 8; w++)
        word[w] = atomic_load_explicit(&t->slot[i].word[w], memory_order_relaxed); /* under lock */
    unpack(word, e);
    if (all_zero(word, sizeof word))
        return true;
    return !(e->generation & 1) && word[7] == sum_of(word, 7, i) && e->state <= SLOT_PROBING &&
           e->level <= ENTRY_LEVEL_MAX;
}

/* Q2. Lock held. e->generation is the one that was read. */
void table_write(struct table *t, uint64_t i, struct entry *e)
{
    struct slot *s = &t->slot[i];
    uint64_t word[8];

    e->generation = (e->generation | 1) + 1;
    pack(e, word, i);
    atomic_store_explicit(&s->word[0], word[0] - 1, memory_order_relaxed); /* SLOT */
    fence_release();
    for (int w = 1; w < 8; w++)
        atomic_store_explicit(&s->word[w], word[w], memory_order_relaxed); /* SLOT */
    atomic_store_explicit(&s->word[0], word[0], memory_order_release);     /* SLOT */
}

void table_clear(struct table *t, uint64_t i, uint64_t generation)
{
    table_write(t, i, &(struct entry){.generation = generation});
}

/* A torn slot is counted when it is met, and empty from then on. */
void table_read(struct table *t, uint64_t i, struct entry *e)
{
    if (slot_read(t, i, e))
        return;
    t->torn++;
    table_clear(t, i, e->generation);
    slot_read(t, i, e);
}

/* ---------------------------------------------------------------------------------- the file */

static int status_of(int error)
{
    switch (error) {
    case EWOULDBLOCK:
        return COIR_EBUSY;
    case EISDIR:
    case ENXIO:
        return COIR_EINVAL;
    case EROFS:
    case EPERM:
        return COIR_EACCES;
    case EDQUOT:
    case EFBIG:
        return COIR_ENOSPC;
    case ENOTDIR:
        return COIR_ENOENT;
    default:
        return -error;
    }
}

/* Opened and locked: the size, or a status. */
static int64_t open_file(struct table *t, const char *path)
{
    struct stat st;

    t->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (t->fd < 0 || fstat(t->fd, &st) != 0)
        return status_of(errno);
    if (!S_ISREG(st.st_mode))
        return COIR_EINVAL;
    if (flock(t->fd, LOCK_EX | LOCK_NB) != 0)
        return status_of(errno);
    if (fstat(t->fd, &st) != 0) /* whoever had it may have made it longer meanwhile */
        return status_of(errno);
    return st.st_size;
}

/* Whether it may be one that `begin` has not finished. */
static bool is_begun(const struct header *h)
{
    return (!h->version || h->version == VERSION) && (!h->slot_bytes || h->slot_bytes == SLOT_BYTES) &&
           h->slots <= TABLE_SLOTS_MAX && all_zero(h->reserved, sizeof h->reserved);
}

/* COIR_OK; COIR_ENOENT: its maker died before it was whole; or what is wrong. */
static int check_header(const struct header *h, int64_t size)
{
    uint64_t magic = atomic_load_explicit(&h->magic, memory_order_relaxed); /* a copy */

    if (magic != MAGIC)
        return magic || !is_begun(h) ? COIR_EINVAL : COIR_ENOENT;
    if (h->version != VERSION)
        return COIR_ENOTSUP;
    if (h->sum != sum_of((const uint64_t *)(const void *)h, 7, 0) || h->slot_bytes != SLOT_BYTES ||
        h->slots < TABLE_SLOTS_MIN || h->slots > TABLE_SLOTS_MAX || size > (int64_t)((h->slots + 1) * SLOT_BYTES))
        return COIR_EINVAL;
    return COIR_OK;
}

/* Past the header. */
static bool file_is_zero(int fd, int64_t size)
{
    char block[4096];

    for (int64_t at = SLOT_BYTES; at < size; at += (int64_t)sizeof block) {
        ssize_t n = pread(fd, block, sizeof block, at);

        if (n < 0 || !all_zero(block, (size_t)n))
            return false;
    }
    return true;
}

/* Reads the header; COIR_OK: t->slots are those of the file, or 0: it is new. */
static int read_header(struct table *t, int64_t size)
{
    struct header h = {0};
    ssize_t n = pread(t->fd, &h, sizeof h, 0);
    int status = n < 0 ? status_of(errno) : check_header(&h, size);

    if (n >= 0 && n < (ssize_t)sizeof h && status != COIR_ENOENT)
        return COIR_EINVAL; /* a header that is cut off says nothing */
    t->slots = status == COIR_OK ? h.slots : 0;
    if (status == COIR_ENOENT)
        return size <= (int64_t)(TABLE_SLOTS_MAX + 1) * SLOT_BYTES && file_is_zero(t->fd, size)
                   ? COIR_OK
                   : COIR_EINVAL;
    return status;
}

/* Every block must be there before it is mapped: a full disk would else be a SIGBUS, much later. */
static int reserve(struct table *t)
{
    int error = posix_fallocate(t->fd, 0, (off_t)t->bytes);

    if (error)
        return status_of(error);
    return ftruncate(t->fd, (off_t)t->bytes) == 0 ? COIR_OK : status_of(errno);
}

static int map(struct table *t)
{
    void *at = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE,
                    MAP_POPULATE | (t->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED), t->fd, 0);

    if (at == MAP_FAILED)
        return status_of(errno);
    t->header = at;
    t->slot = (struct slot *)(void *)(t->header + 1);
    return COIR_OK;
}

/* The header is written last, and on the disk before a slot: without it the file can be begun anew, while all slots are
 * zeros. */
static int begin(struct table *t)
{
    struct header h = {MAGIC, VERSION, SLOT_BYTES, t->slots, {0}, 0}, *to = t->header;

    if (atomic_load_explicit(&to->magic, memory_order_relaxed) == MAGIC) /* read_header has found it whole */
        return COIR_OK;
    h.sum = sum_of((const uint64_t *)(const void *)&h, 7, 0);
    memcpy((char *)to + sizeof h.magic, (const char *)&h + sizeof h.magic, sizeof h - sizeof h.magic);
    atomic_store_explicit(&to->magic, MAGIC, memory_order_release); /* HEAD */
    return t->fd < 0 || msync(to, sizeof *to, MS_SYNC) == 0 ? COIR_OK : COIR_EIO;
}

static int open_header(struct table *t, const char *path, uint64_t wanted)
{
    int64_t size = open_file(t, path);
    int status = size < 0 ? (int)size : read_header(t, size);

    if (status != COIR_OK)
        return status;
    if (t->slots) /* what was cut off comes back as zeros */
        t->torn = t->slots + 1 - ((uint64_t)size + SLOT_BYTES - 1) / SLOT_BYTES;
    else
        t->slots = wanted;
    return COIR_OK;
}

int table_open(struct table *t, const char *path, uint64_t wanted)
{
    int status = COIR_OK;

    *t = (struct table){.fd = -1, .slots = wanted};
    if (path)
        status = open_header(t, path, wanted);
    t->bytes = (t->slots + 1) * SLOT_BYTES;
    if (status == COIR_OK && path)
        status = reserve(t);
    if (status == COIR_OK)
        status = map(t);
    if (status == COIR_OK)
        status = begin(t);
    return status;
}

int table_close(struct table *t)
{
    int status = COIR_OK;

    if (t->header && t->fd >= 0 && msync(t->header, t->bytes, MS_SYNC) != 0)
        status = COIR_EIO;
    if (t->header)
        munmap(t->header, t->bytes);
    if (t->fd >= 0) {
        flock(t->fd, LOCK_UN); /* a fork that lives on has it, too */
        close(t->fd);
    }
    return status;
}
