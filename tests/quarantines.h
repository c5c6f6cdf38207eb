/* SPDX-License-Identifier: MIT */
/*
 * quarantines.h - what tests of quarantines share: a wall clock of their own, attempts, files.
 */
#ifndef COIR_TEST_QUARANTINES_H
#define COIR_TEST_QUARANTINES_H

#include "child.h"
#include "quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TYPE UINT64_C(77)
#define HOUR (3600 * COIR_SEC)
#define SLOT 64

static int64_t now = 1000 * HOUR; /* wall clock of the tests that need none of their own */

static unsigned strikes_max; /* 0: as by default */

static inline struct host quiet_host(void)
{
    coir_options o = run_options(1);
    struct host h;

    host_init(&h, &o);
    return h;
}

static inline int try_open(const char *path, size_t slots, coir_quarantine **q)
{
    coir_quarantine_options o = {.size = sizeof o, .path = path, .slots = slots, .expiry_ns = HOUR};
    struct host h = quiet_host();

    *q = NULL;
    o.strikes_max = strikes_max;
    return quarantine_open(&h, &o, q);
}

static inline coir_quarantine *open_at(const char *path)
{
    coir_quarantine *q;

    if (!CHECK_EQ(try_open(path, 16, &q), COIR_OK))
        abort();
    return q;
}

static inline void close_it(coir_quarantine *q)
{
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
}

static inline coir_quarantine_stats stats(coir_quarantine *q)
{
    coir_quarantine_stats s = {0};

    CHECK_EQ(coir_quarantine_stats_read(q, &s), COIR_OK);
    return s;
}

static const coir_failure panic = {.id = 1, .kind = COIR_KIND_PANIC, .line = 42, .code = 0};

static inline bool settle(coir_quarantine *q, uint64_t key, enum admission a, int outcome)
{
    return quarantine_settle(q, TYPE, key, a, outcome, outcome ? &panic : NULL, now);
}

/* One attempt that ends so; what it was admitted as. */
static inline enum admission attempt(coir_quarantine *q, uint64_t key, int outcome)
{
    enum admission a = quarantine_admit(q, TYPE, key, now);

    if (a != ADMIT_REFUSED)
        settle(q, key, a, outcome);
    return a;
}

static inline bool lookup(coir_quarantine *q, uint64_t key, coir_quarantined *e)
{
    uint64_t cursor = 0;

    while (coir_quarantine_next(q, &cursor, e) == COIR_OK)
        if (e->key == key && e->type == TYPE)
            return true;
    *e = (coir_quarantined){0};
    return false;
}

static inline void shut_away(coir_quarantine *q, uint64_t key)
{
    for (int i = 0; i < 3; i++)
        CHECK_EQ(attempt(q, key, COIR_PANICKED), ADMIT_PASS);
}

static char path[64];

/* In memory, for close waits for the disk. */
static inline void fresh_path(void)
{
    int fd;

    strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/coir-XXXXXX" : "/tmp/coir-XXXXXX");
    fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
}

static inline void write_file(const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    CHECK_EQ(write(fd, bytes, n), n);
    close(fd);
}

static inline size_t read_file(char *bytes, size_t n)
{
    int fd = open(path, O_RDONLY);
    ssize_t got = read(fd, bytes, n);

    close(fd);
    return got < 0 ? 0 : (size_t)got;
}

#endif
