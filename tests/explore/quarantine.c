/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c - explores core/quarantine_file.c and quarantine.c: a reader of another process gets a slot
 * whole or knows that it has not (SLOT), and the attempts of two threads are both counted.
 */
#include "quarantine.h"

#include <string.h>

#include "explore.h"
#include "quarantine_file.h"

#define ROUNDS 3 /* contents of a slot, one after the other; the first is there from the beginning */
#define WORDS 8

/* --------------------------------------------------------------------------------------- one slot */

static _Alignas(64) _Atomic uint64_t memory[WORDS], scratch[WORDS];
static struct table table, other;
static uint64_t content[ROUNDS][WORDS]; /* the words of each */

static struct entry entry(int round)
{
    return (struct entry){.generation = 2 * (uint64_t)round, .type = 7, .key = 100 + (uint64_t)round,
                          .until = 1000 + round, .state = SLOT_TRACKED, .strikes = 1 + (uint32_t)round};
}

static void write_round(struct table *t, int round)
{
    struct entry e = entry(round);

    table_write(t, 0, &e);
}

static void setup_slot(void)
{
    table = (struct table){.fd = -1, .slot = (struct slot *)(void *)memory, .slots = 1};
    other = (struct table){.fd = -1, .slot = (struct slot *)(void *)scratch, .slots = 1};
    for (int r = 0; r < ROUNDS; r++) {
        write_round(&other, r);
        for (int w = 0; w < WORDS; w++)
            content[r][w] = atomic_load_explicit(&scratch[w], memory_order_relaxed);
    }
    write_round(&table, 0);
}

static void write_two(void)
{
    write_round(&table, 1);
    write_round(&table, 2);
}

/* As one who has mapped the file to read. False: it was being written. */
static bool read_whole(uint64_t *word)
{
    word[0] = atomic_load_explicit(&memory[0], memory_order_acquire);
    for (int w = 1; w < WORDS; w++)
        word[w] = atomic_load_explicit(&memory[w], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return !(word[0] & 1) && word[0] == atomic_load_explicit(&memory[0], memory_order_relaxed);
}

static void read_while_written(void)
{
    uint64_t word[WORDS];
    bool known = false;

    if (!read_whole(word))
        return;
    for (int r = 0; r < ROUNDS; r++)
        known |= memcmp(word, content[r], sizeof word) == 0;
    MUST(known);
}

static void check_last(void)
{
    struct entry e;

    table_read(&table, 0, &e);
    MUST(table.torn == 0 && e.key == 102 && e.strikes == 3);
}

/* -------------------------------------------------------------------------------------- the table */

static coir_quarantine *quarantine;
static struct host host;
static const coir_failure failure = {.code = 5};

static void setup(void)
{
    coir_quarantine_options options = {.size = sizeof options, .slots = TABLE_SLOTS_MIN, .strikes_max = 2};

    MUST(quarantine_open(&host, &options, &quarantine) == COIR_OK);
}

/* An attempt that panics. */
static void attempt(uint64_t key)
{
    enum admission how = quarantine_admit(quarantine, 1, key, COIR_SEC);

    MUST(how != ADMIT_PROBE);
    if (how == ADMIT_PASS)
        quarantine_settle(quarantine, 1, key, how, COIR_PANICKED, &failure, COIR_SEC);
}

static void attempt_one(void)
{
    attempt(1);
}

static void attempt_two(void)
{
    attempt(2);
}

static uint64_t quarantined(void)
{
    coir_quarantine_stats stats;

    MUST(coir_quarantine_stats_read(quarantine, &stats) == COIR_OK);
    MUST(coir_quarantine_close(quarantine) == COIR_OK);
    MUST(stats.torn == 0);
    return stats.quarantined;
}

static void check_both_counted(void)
{
    MUST(quarantined() == 1);
}

static void check_each_counted(void)
{
    MUST(quarantined() == 0);
}

EXPLORE_MAIN(
    {.name = "a_slot_is_read_whole_or_not", setup_slot, {write_two, read_while_written}, check_last},
    {.name = "two_strikes", setup, {attempt_one, attempt_one}, check_both_counted},
    {.name = "two_inputs", setup, {attempt_one, attempt_two}, check_each_counted})
