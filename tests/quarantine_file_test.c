/* SPDX-License-Identifier: MIT */
/*
 * quarantine_file_test.c - core/quarantine_file.c: torn writes, damage, files that are no quarantine.
 */
#include "quarantines.h"

/* ------------------------------------------------------------------------------------ damage */

#define FILE_BYTES (17 * SLOT)
static char before[FILE_BYTES], after[FILE_BYTES], mixed[FILE_BYTES];
static size_t at; /* where the two differ: offset of the slot */

/* before: key 5 has one strike; after: two. Another key is beside it. */
static void make_two_versions(void)
{
    coir_quarantine *q;

    fresh_path();
    q = open_at(path);
    shut_away(q, 99);
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(read_file(before, sizeof before), FILE_BYTES);
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(read_file(after, sizeof after), FILE_BYTES);
    close_it(q);
    for (at = 0; at < FILE_BYTES && !memcmp(before + at, after + at, SLOT); at += SLOT)
        ;
    CHECK(at >= SLOT && at < FILE_BYTES);
}

/* What `mixed` is read as: strikes of key 5; 0 if it was torn. */
static unsigned read_mixed(void)
{
    coir_quarantine *q;
    coir_quarantined e;
    unsigned strikes;

    write_file(mixed, sizeof mixed);
    q = open_at(path);
    strikes = lookup(q, 5, &e) ? e.strikes : 0;
    CHECK_EQ(stats(q).torn, strikes == 0);
    CHECK(lookup(q, 99, &e) && e.quarantined); /* its neighbour is as it was */
    close_it(q);
    return strikes;
}

static void a_write_cut_at_any_byte_is_the_old_the_new_or_none(void)
{
    make_two_versions();
    for (size_t cut = 0; cut <= SLOT; cut++) {
        unsigned strikes;

        memcpy(mixed, before, sizeof mixed);
        memcpy(mixed + at, after + at, cut);
        strikes = read_mixed();
        CHECK(cut == 0 ? strikes == 1 : cut == SLOT ? strikes == 2 : strikes == 0);
        memcpy(mixed, after, sizeof mixed);
        memcpy(mixed + at, before + at, cut);
        strikes = read_mixed();
        CHECK(cut == 0 ? strikes == 2 : cut == SLOT ? strikes == 1 : strikes == 0);
    }
    unlink(path);
}

static void any_flipped_bit_of_a_slot_is_noticed(void)
{
    make_two_versions();
    for (size_t bit = 0; bit < SLOT * 8; bit++) {
        memcpy(mixed, after, sizeof mixed);
        mixed[at + bit / 8] ^= (char)(1 << bit % 8);
        CHECK_EQ(read_mixed(), 0);
    }
    unlink(path);
}

static void a_slot_copied_elsewhere_is_torn(void)
{
    coir_quarantine *q;
    size_t other;

    make_two_versions();
    for (other = SLOT; other == at || memcmp(after + other, (char[SLOT]){0}, SLOT); other += SLOT)
        ;
    memcpy(mixed, after, sizeof mixed);
    memcpy(mixed + other, after + at, SLOT);
    write_file(mixed, sizeof mixed);
    q = open_at(path);
    CHECK_EQ(stats(q).torn, 1);
    CHECK_EQ(stats(q).used, 2);
    close_it(q);
    unlink(path);
}

static void any_flipped_bit_of_the_header_is_refused(void)
{
    coir_quarantine *q;

    make_two_versions();
    for (size_t bit = 0; bit < SLOT * 8; bit++) {
        int expected = bit / 8 >= 8 && bit / 8 < 12 ? COIR_ENOTSUP : COIR_EINVAL; /* the version */

        memcpy(mixed, after, sizeof mixed);
        mixed[bit / 8] ^= (char)(1 << bit % 8);
        write_file(mixed, sizeof mixed);
        if (!CHECK_EQ(try_open(path, 16, &q), expected))
            break;
    }
    unlink(path);
}

/* Whoever died while it was begun has written some of its words, the first last. */
static void a_header_that_was_being_written_is_begun_anew(void)
{
    coir_quarantine *q;

    make_two_versions();
    for (unsigned words = 0; words < 1u << (SLOT / 8); words += 2) {
        memset(mixed, 0, sizeof mixed);
        for (unsigned i = 0; i < SLOT / 8; i++)
            if (words & 1u << i)
                memcpy(mixed + i * 8, after + i * 8, 8);
        write_file(mixed, sizeof mixed);
        if (!CHECK_EQ(try_open(path, 16, &q), COIR_OK))
            break;
        CHECK_EQ(stats(q).used, 0);
        close_it(q);
    }
    memcpy(mixed, after, sizeof mixed);
    memset(mixed, 0, 8); /* but with slots it was a whole one */
    write_file(mixed, sizeof mixed);
    CHECK_EQ(try_open(path, 16, &q), COIR_EINVAL);
    unlink(path);
}

static void a_fork_that_lives_on_does_not_keep_the_file(void)
{
    coir_quarantine *q;
    pid_t pid;

    fresh_path();
    q = open_at(path);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    close_it(q);
    if (CHECK_EQ(try_open(path, 16, &q), COIR_OK))
        close_it(q);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    unlink(path);
}

static void a_file_cut_anywhere_keeps_what_is_left(void)
{
    coir_quarantine *q;

    make_two_versions();
    for (size_t n = 0; n <= FILE_BYTES; n++) {
        int status;

        write_file(after, n);
        status = try_open(path, 16, &q);
        if (n > 0 && n < SLOT) {
            CHECK_EQ(status, COIR_EINVAL);
            continue;
        }
        if (!CHECK_EQ(status, COIR_OK))
            break;
        CHECK_EQ(stats(q).slots, 16);
        CHECK(stats(q).torn >= (n ? (FILE_BYTES - n) / SLOT : 0));
        CHECK_EQ(lookup(q, 5, &(coir_quarantined){0}), n >= at + SLOT);
        close_it(q);
    }
    unlink(path);
}

/* ----------------------------------------------------------------------------------- hostile */

static int status_of_file(const void *bytes, size_t n)
{
    coir_quarantine *q;
    int status;

    fresh_path();
    write_file(bytes, n);
    status = try_open(path, 16, &q);
    if (q)
        close_it(q);
    unlink(path);
    return status;
}

static void files_that_are_no_quarantine_are_refused_and_unchanged(void)
{
    static char bytes[FILE_BYTES + 1];
    char again[FILE_BYTES + 1];
    coir_quarantine *q;

    CHECK_EQ(status_of_file(bytes, 0), COIR_OK);
    CHECK_EQ(status_of_file(bytes, 3), COIR_OK); /* its maker died: nothing but zeros */
    CHECK_EQ(status_of_file(bytes, FILE_BYTES), COIR_OK);
    bytes[FILE_BYTES - 1] = 1;
    CHECK_EQ(status_of_file(bytes, FILE_BYTES), COIR_EINVAL);
    CHECK_EQ(status_of_file("#!/bin/sh\n", 10), COIR_EINVAL);
    make_two_versions();
    memcpy(bytes, after, FILE_BYTES);
    write_file(bytes, FILE_BYTES + 1); /* longer than it says */
    CHECK_EQ(try_open(path, 16, &q), COIR_EINVAL);
    CHECK_EQ(read_file(again, sizeof again), FILE_BYTES + 1);
    CHECK(!memcmp(bytes, again, sizeof again));
    unlink(path);
    CHECK_EQ(try_open("/tmp", 16, &q), COIR_EINVAL);
    CHECK_EQ(try_open("/dev/null", 16, &q), COIR_EINVAL);
    CHECK_EQ(try_open("/nowhere/at/all", 16, &q), COIR_ENOENT);
}

static void open_elsewhere(void *status)
{
    coir_quarantine *q;

    if (try_open(path, 16, &q) != *(int *)status)
        _exit(1);
}

static void one_handle_at_a_time(void)
{
    int busy = COIR_EBUSY, ok = COIR_OK;
    coir_quarantine *q, *second;

    fresh_path();
    q = open_at(path);
    CHECK_EQ(try_open(path, 16, &second), COIR_EBUSY);
    child_ends(open_elsewhere, &busy);
    close_it(q);
    child_ends(open_elsewhere, &ok);
    unlink(path);
}

static void open_read_only(void *unused)
{
    coir_quarantine *q;

    (void)unused;
    if (seteuid(65534) != 0 || try_open(path, 16, &q) != COIR_EACCES)
        _exit(1);
}

static void open_without_room(void *unused)
{
    static const struct rlimit none = {SLOT, SLOT};
    coir_quarantine *q;

    (void)unused;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    if (try_open(path, 16, &q) != COIR_ENOSPC)
        _exit(1);
}

static void read_only_files_and_full_disks_say_so(void)
{
    fresh_path();
    child_ends(open_without_room, NULL);
    CHECK_EQ(chmod(path, 0444), 0);
    if (geteuid() == 0)
        child_ends(open_read_only, NULL);
    unlink(path);
}

static void options_have_ranges(void)
{
    coir_quarantine_options o = {.size = sizeof o, .slots = 15};
    struct {
        coir_quarantine_options o;
        int more;
    } longer = {.o = {.size = sizeof longer}, .more = 1};
    coir_runtime *rt = run_open(1);
    coir_quarantine *q;

    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_ERANGE);
    o.slots = (1u << 20) + 1;
    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_ERANGE);
    o.slots = 0;
    o.expiry_ns = -1;
    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_ERANGE);
    o.expiry_ns = INT64_MAX;
    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_ERANGE);
    o = (coir_quarantine_options){.size = 4};
    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_EINVAL);
    CHECK_EQ(coir_quarantine_open(rt, &longer.o, &q), COIR_EINVAL);
    longer.more = 0;
    CHECK_EQ(coir_quarantine_open(rt, &longer.o, &q), COIR_OK);
    CHECK_EQ(stats(q).slots, 1024);
    close_it(q);
    CHECK_EQ(coir_quarantine_open(NULL, NULL, &q), COIR_EINVAL);
    CHECK(q == NULL);
    CHECK_EQ(coir_quarantine_open(rt, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_quarantine_close(NULL), COIR_EINVAL);
    CHECK_EQ(coir_quarantine_stats_read(NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_quarantine_next(NULL, NULL, NULL), COIR_EINVAL);
    run_close(rt);
}

CHECK_MAIN(CASE(a_write_cut_at_any_byte_is_the_old_the_new_or_none),
           CASE(any_flipped_bit_of_a_slot_is_noticed), CASE(a_slot_copied_elsewhere_is_torn),
           CASE(any_flipped_bit_of_the_header_is_refused), CASE(a_header_that_was_being_written_is_begun_anew),
           CASE(a_fork_that_lives_on_does_not_keep_the_file),
           CASE(a_file_cut_anywhere_keeps_what_is_left),
           CASE(files_that_are_no_quarantine_are_refused_and_unchanged),
           CASE(one_handle_at_a_time), CASE(read_only_files_and_full_disks_say_so),
           CASE(options_have_ranges))
