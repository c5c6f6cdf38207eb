/* SPDX-License-Identifier: MIT */
/*
 * cell.c - explores core/cell.c: readers see a version whole, and it is destroyed once, when nobody has it
 * any more (V2).
 */
#include <string.h>

#include "explore.h"
#include "base.h"

#define VERSIONS 3
#define HALF 0x8000 /* the word's count from which on it is moved to the version */
#define BIAS (INT64_C(1) << 62)

struct value {
    coir_cell_version version; /* first */
    int number;
};

static coir_cell cell;
static struct value value[VERSIONS];
static int destroyed[VERSIONS]; /* by who destroys it; then by nobody */
static int published[VERSIONS];

static void destroy(coir_cell_version *v)
{
    struct value *found = (struct value *)(void *)v;

    MUST(found->number == (int)(found - value) + 1);
    destroyed[found - value]++;
    explore_free(found, sizeof *found);
}

static void setup(void)
{
    memset(&cell, 0, sizeof cell);
    memset(value, 0, sizeof value);
    memset(destroyed, 0, sizeof destroyed);
    memset(published, 0, sizeof published);
    value[0].number = 1;
    published[0] = 1;
    MUST(coir_cell_init(&cell, &value[0].version, destroy) == COIR_OK);
}

/* So many references have been taken that the next reader moves the count. Written where it lies: as
 * many steps would be too many. */
static void setup_counted(void)
{
    struct {
        uint64_t word;
        void (*destroy)(coir_cell_version *v);
    } made = {(uint64_t)(uintptr_t)&value[0] << 16 | HALF, destroy};
    struct {
        int64_t refs;
        void (*destroy)(coir_cell_version *v);
    } first = {BIAS, destroy};

    memset(value, 0, sizeof value);
    memset(destroyed, 0, sizeof destroyed);
    memcpy(&cell, &made, sizeof made);
    memcpy(&value[0].version, &first, sizeof first);
    value[0].number = 1;
}

static void publish(int i)
{
    value[i].number = i + 1;
    MUST(coir_cell_publish(&cell, &value[i].version) == COIR_OK);
    published[i] = 1;
}

static void publish_1(void)
{
    publish(1);
}

static void publish_2(void)
{
    publish(2);
}

static void publish_1_2(void)
{
    publish(1);
    publish(2);
}

static void replace_2(void)
{
    coir_cell_version *found = coir_cell_read(&cell);
    int status;

    value[2].number = 3;
    status = coir_cell_replace(&cell, found, &value[2].version);
    MUST(status == COIR_OK || status == COIR_EAGAIN);
    published[2] = status == COIR_OK;
    coir_cell_release(found);
}

/* What it expects it knows by address alone. */
static void replace_1_by_2(void)
{
    int status;

    value[2].number = 3;
    status = coir_cell_replace(&cell, &value[1].version, &value[2].version);
    MUST(status == COIR_OK || status == COIR_EAGAIN);
    published[2] = status == COIR_OK;
}

static void replace_1(void)
{
    coir_cell_version *found = coir_cell_read(&cell);
    int status;

    value[1].number = 2;
    status = coir_cell_replace(&cell, found, &value[1].version);
    MUST(status == COIR_OK || status == COIR_EAGAIN);
    published[1] = status == COIR_OK;
    coir_cell_release(found);
}

static void read_once(void)
{
    struct value *found = (struct value *)(void *)coir_cell_read(&cell);

    if (!found)
        return;
    MUST(found->number == (int)(found - value) + 1);
    coir_cell_release(&found->version);
}

static void read_twice(void)
{
    read_once();
    read_once();
}

/* Two references are out. */
static void setup_read(void)
{
    setup();
    coir_cell_read(&cell);
    coir_cell_read(&cell);
}

static void end(void)
{
    coir_cell_fini(&cell);
    explore_free(&cell, sizeof cell);
}

static void release_one(void)
{
    MUST(value[0].number == 1);
    coir_cell_release(&value[0].version);
}

static void check_first_destroyed(void)
{
    MUST(destroyed[0] == 1);
}

/* All of the first readers still have theirs. */
static void check_counted(void)
{
    _Atomic int64_t *refs = (_Atomic int64_t *)(void *)&value[0].version;

    MUST(destroyed[0] == 0 && atomic_load_explicit(refs, memory_order_relaxed) == HALF);
}

static void check_destroyed(void)
{
    coir_cell_fini(&cell);
    for (int i = 0; i < VERSIONS; i++)
        MUST(destroyed[i] == published[i]);
}

EXPLORE_MAIN(
    {.name = "a_reader_keeps_its_version", setup, {publish_1, read_twice}, check_destroyed},
    {.name = "two_readers", setup, {publish_1, read_once, read_once}, check_destroyed},
    {.name = "two_versions_later", setup, {publish_1_2, read_twice}, check_destroyed},
    {.name = "two_publishers", setup, {publish_1, publish_2, read_once}, check_destroyed},
    {.name = "one_replaces", setup, {replace_1, replace_2, read_once}, check_destroyed},
    {.name = "one_replaces_by_address", setup, {publish_1, replace_1_by_2, read_once}, check_destroyed},
    {.name = "the_cell_goes", setup_read, {end, release_one, release_one}, check_first_destroyed},
    {.name = "the_count_moves", setup_counted, {publish_1, read_once, read_once}, check_counted})
