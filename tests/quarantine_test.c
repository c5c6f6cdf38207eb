/* SPDX-License-Identifier: MIT */
/*
 * quarantine_test.c - core/quarantine.c: strikes, expiry and probes; what survives kill -9, torn writes
 * and damage; files that are no quarantine.
 */
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

static struct host quiet_host(void)
{
    coir_options o = run_options(1);
    struct host h;

    host_init(&h, &o);
    return h;
}

static int try_open(const char *path, size_t slots, coir_quarantine **q)
{
    coir_quarantine_options o = {.size = sizeof o, .path = path, .slots = slots, .expiry_ns = HOUR};
    struct host h = quiet_host();

    *q = NULL;
    o.strikes_max = strikes_max;
    return quarantine_open(&h, &o, q);
}

static coir_quarantine *open_at(const char *path)
{
    coir_quarantine *q;

    if (!CHECK_EQ(try_open(path, 16, &q), COIR_OK))
        abort();
    return q;
}

static void close_it(coir_quarantine *q)
{
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
}

static coir_quarantine_stats stats(coir_quarantine *q)
{
    coir_quarantine_stats s = {0};

    CHECK_EQ(coir_quarantine_stats_read(q, &s), COIR_OK);
    return s;
}

static const coir_failure panic = {.id = 1, .kind = COIR_KIND_PANIC, .line = 42, .code = 0};

static bool settle(coir_quarantine *q, uint64_t key, enum admission a, int outcome)
{
    return quarantine_settle(q, TYPE, key, a, outcome, outcome ? &panic : NULL, now);
}

/* One attempt that ends so; what it was admitted as. */
static enum admission attempt(coir_quarantine *q, uint64_t key, int outcome)
{
    enum admission a = quarantine_admit(q, TYPE, key, now);

    if (a != ADMIT_REFUSED)
        settle(q, key, a, outcome);
    return a;
}

static bool lookup(coir_quarantine *q, uint64_t key, coir_quarantined *e)
{
    uint64_t cursor = 0;

    while (coir_quarantine_next(q, &cursor, e) == COIR_OK)
        if (e->key == key && e->type == TYPE)
            return true;
    *e = (coir_quarantined){0};
    return false;
}

static void shut_away(coir_quarantine *q, uint64_t key)
{
    for (int i = 0; i < 3; i++)
        CHECK_EQ(attempt(q, key, COIR_PANICKED), ADMIT_PASS);
}

/* ------------------------------------------------------------------------------------ states */

static void the_third_panic_quarantines_with_its_record(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    CHECK(!settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(!settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.quarantined, 0);
    CHECK(settle(q, 5, quarantine_admit(q, TYPE, 5, now), COIR_PANICKED));
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.quarantined, 1);
    CHECK_EQ(e.strikes, 3);
    CHECK_EQ(e.line, 42);
    CHECK_EQ(e.kind, COIR_KIND_PANIC);
    CHECK_EQ(e.until, now + HOUR);
    CHECK_EQ(e.last, now);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_REFUSED);
    CHECK_EQ(attempt(q, 6, COIR_DONE), ADMIT_PASS);
    CHECK_EQ(quarantine_admit(q, TYPE + 1, 5, now), ADMIT_PASS);
    close_it(q);
}

static void success_forgets_and_errors_do_not_count(void)
{
    coir_quarantine *q = open_at(NULL);

    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_DONE);
    for (int i = 0; i < 10; i++)
        attempt(q, 5, COIR_FAILED);
    CHECK_EQ(stats(q).used, 0);
    attempt(q, 5, COIR_PANICKED);
    attempt(q, 5, COIR_FAILED);
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(stats(q).quarantined, 0);
    now += HOUR + 1; /* too far apart: the next is the first */
    attempt(q, 5, COIR_PANICKED);
    CHECK_EQ(stats(q).quarantined, 0);
    close_it(q);
}

static void one_probe_when_the_expiry_has_passed(void)
{
    coir_quarantine *q = open_at(NULL);

    shut_away(q, 5);
    now += HOUR - 1;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    now += 1;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    CHECK(!settle(q, 5, ADMIT_PROBE, COIR_DONE));
    CHECK_EQ(stats(q).used, 0);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_PASS);
    close_it(q);
}

static void each_failed_probe_doubles_the_expiry_to_64_times(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    shut_away(q, 5);
    for (int i = 1; i < 10; i++) {
        CHECK(lookup(q, 5, &e));
        now = e.until;
        CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
        CHECK(settle(q, 5, ADMIT_PROBE, COIR_PANICKED));
        CHECK(lookup(q, 5, &e));
        CHECK_EQ(e.until - now, HOUR << (i < 6 ? i : 6));
    }
    now = e.until;
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK(settle(q, 5, ADMIT_PROBE, COIR_FAILED)); /* proves nothing */
    CHECK(lookup(q, 5, &e));
    CHECK_EQ(e.until - now, HOUR << 6);
    now -= 1000 * HOUR; /* the clock is set back: nobody is locked up for longer than was meant */
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    close_it(q);
}

static void a_sibling_of_the_probe_does_not_speak_for_it(void)
{
    coir_quarantine *q = open_at(NULL);
    enum admission early = quarantine_admit(q, TYPE, 5, now);

    shut_away(q, 5);
    CHECK(settle(q, 5, early, COIR_DONE)); /* began before: no proof */
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_REFUSED);
    close_it(q);
}

static void a_full_table_gives_away_what_is_idle_longest_and_never_a_quarantine(void)
{
    coir_quarantine *q = open_at(NULL);
    coir_quarantined e;

    for (uint64_t key = 0; key < 8; key++)
        shut_away(q, key);
    for (uint64_t key = 8; key < 100; key++, now++)
        CHECK_EQ(attempt(q, key, COIR_PANICKED), ADMIT_PASS);
    CHECK_EQ(stats(q).quarantined, 8);
    CHECK_EQ(stats(q).crowded, 0);
    CHECK(lookup(q, 99, &e) && lookup(q, 92, &e) && !lookup(q, 91, &e));
    for (uint64_t key = 200; key < 208; key++)
        CHECK_EQ(quarantine_admit(q, TYPE, key, now), ADMIT_PASS);
    CHECK_EQ(attempt(q, 300, COIR_DONE), ADMIT_PASS); /* all in use: handled, not noted */
    CHECK_EQ(stats(q).crowded, 1);
    now += 2 * HOUR; /* those who may be probed make room, too */
    CHECK_EQ(attempt(q, 300, COIR_DONE), ADMIT_PASS);
    CHECK_EQ(stats(q).crowded, 1);
    close_it(q);
}

static void release_forgets(void)
{
    coir_quarantine *q = open_at(NULL);
    const uint64_t type = coir_quarantine_type("mail");
    coir_quarantined e;

    for (int i = 0; i < 3; i++)
        quarantine_settle(q, type, 9, quarantine_admit(q, type, 9, now), COIR_PANICKED, &panic, now);
    CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_REFUSED);
    CHECK_EQ(coir_quarantine_release(q, "post", 9), COIR_ENOENT);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_OK);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_ENOENT);
    CHECK_EQ(coir_quarantine_release(q, NULL, 9), COIR_EINVAL);
    CHECK_EQ(quarantine_admit(q, type, 9, now), ADMIT_PASS);
    CHECK_EQ(coir_quarantine_release(q, "mail", 9), COIR_OK); /* while it is being tried */
    quarantine_settle(q, type, 9, ADMIT_PASS, COIR_DONE, NULL, now);
    CHECK(!lookup(q, 9, &e));
    CHECK_EQ(stats(q).used, 0);
    close_it(q);
}

/* -------------------------------------------------------------------------------------- file */

static char path[64];

/* In memory, for close waits for the disk. */
static void fresh_path(void)
{
    int fd;

    strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/coir-XXXXXX" : "/tmp/coir-XXXXXX");
    fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
}

static void write_file(const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    CHECK_EQ(write(fd, bytes, n), n);
    close(fd);
}

static size_t read_file(char *bytes, size_t n)
{
    int fd = open(path, O_RDONLY);
    ssize_t got = read(fd, bytes, n);

    close(fd);
    return got < 0 ? 0 : (size_t)got;
}

static void what_was_written_is_there_again(void)
{
    coir_quarantine *q;
    coir_quarantined e;

    fresh_path();
    unlink(path);
    q = open_at(path);
    shut_away(q, 5);
    attempt(q, 6, COIR_PANICKED);
    close_it(q);
    CHECK_EQ(try_open(path, 4096, &q), COIR_OK); /* it keeps its size */
    CHECK_EQ(stats(q).slots, 16);
    CHECK_EQ(stats(q).torn + stats(q).crashes, 0);
    CHECK(lookup(q, 5, &e) && e.quarantined && e.strikes == 3);
    CHECK(lookup(q, 6, &e) && !e.quarantined && e.strikes == 1);
    CHECK_EQ(attempt(q, 5, COIR_DONE), ADMIT_REFUSED);
    close_it(q);
    unlink(path);
}

static void die_over(void *key)
{
    coir_quarantine *q = open_at(path);

    quarantine_admit(q, TYPE, *(uint64_t *)key, quarantine_now());
    quarantine_admit(q, TYPE, 1000 + (uint64_t)getpid(), quarantine_now()); /* an innocent beside it */
    kill(getpid(), SIGKILL);
}

static void an_input_that_kills_the_process_is_quarantined(void)
{
    uint64_t key = 5;
    coir_quarantine *q;
    coir_quarantined e;
    struct child c;

    fresh_path();
    now = quarantine_now();
    for (int i = 0; i < 3; i++)
        child_run(&c, die_over, &key);
    CHECK(WIFSIGNALED(c.status));
    q = open_at(path);
    CHECK_EQ(stats(q).crashes, 2);
    CHECK_EQ(stats(q).quarantined, 1);
    CHECK(lookup(q, 5, &e));
    CHECK(e.quarantined && e.strikes == 3 && e.kind == COIR_KIND_FAULT);
    close_it(q);
    now += 3 * HOUR; /* and the same for a probe */
    q = open_at(path);
    CHECK_EQ(quarantine_admit(q, TYPE, 5, now), ADMIT_PROBE);
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    q = open_at(path);
    CHECK(lookup(q, 5, &e) && e.quarantined && e.strikes == 4);
    close_it(q);
    unlink(path);
}

/* Each key's strikes that a call has acknowledged; shared with the child. */
struct progress {
    uint32_t strikes[8];
    int begun;
};

static void strike_for_ever(struct progress *p)
{
    coir_quarantine *q = open_at(path);

    run_set(&p->begun);
    for (unsigned i = 0;; i++) {
        attempt(q, i % 8, COIR_PANICKED);
        __atomic_add_fetch(&p->strikes[i % 8], 1, __ATOMIC_RELEASE);
    }
}

/* All that was acknowledged is there, but for one slot that may be torn. Starts the next round alike. */
static void compare(coir_quarantine *q, struct progress *p)
{
    unsigned lost = 0;
    coir_quarantined e;

    for (uint64_t key = 0; key < 8; key++) {
        bool is_there = lookup(q, key, &e);

        if (!is_there && p->strikes[key])
            lost++;
        else if (is_there)
            CHECK(e.strikes >= p->strikes[key] && e.strikes <= p->strikes[key] + 2);
        p->strikes[key] = e.strikes;
    }
    CHECK(stats(q).torn <= 1);
    CHECK(lost <= stats(q).torn);
}

static void kill_once(struct progress *p, unsigned spin, uint64_t *torn)
{
    coir_quarantine *q;
    pid_t pid;

    p->begun = 0;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        strike_for_ever(p);
    run_until(&p->begun);
    for (volatile unsigned i = 0; i < spin; i++)
        ;
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    q = open_at(path);
    *torn += stats(q).torn;
    compare(q, p);
    close_it(q);
}

static void kill_often(unsigned first)
{
    struct progress *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const unsigned rounds = MANY(1000);
    uint64_t torn = 0;

    fresh_path();
    now = quarantine_now();
    strikes_max = UINT32_MAX; /* none is ever refused */
    for (unsigned i = 0; i < rounds; i++)
        kill_once(p, (first + i) * 7919 % 5003, &torn);
    strikes_max = 0;
    fprintf(stderr, "%u kills tore %llu slots\n", rounds, (unsigned long long)torn);
    munmap(p, sizeof *p);
    unlink(path);
}

/* Two cases, for each has its time. */
static void kill_minus_nine_loses_one_slot_at_most(void)
{
    kill_often(0);
}

static void and_does_so_at_other_points(void)
{
    kill_often(1000);
}

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

CHECK_MAIN(CASE(the_third_panic_quarantines_with_its_record), CASE(success_forgets_and_errors_do_not_count),
           CASE(one_probe_when_the_expiry_has_passed),
           CASE(each_failed_probe_doubles_the_expiry_to_64_times),
           CASE(a_sibling_of_the_probe_does_not_speak_for_it),
           CASE(a_full_table_gives_away_what_is_idle_longest_and_never_a_quarantine), CASE(release_forgets),
           CASE(what_was_written_is_there_again), CASE(an_input_that_kills_the_process_is_quarantined),
           CASE(kill_minus_nine_loses_one_slot_at_most), CASE(and_does_so_at_other_points),
           CASE(a_write_cut_at_any_byte_is_the_old_the_new_or_none),
           CASE(any_flipped_bit_of_a_slot_is_noticed), CASE(a_slot_copied_elsewhere_is_torn),
           CASE(any_flipped_bit_of_the_header_is_refused), CASE(a_file_cut_anywhere_keeps_what_is_left),
           CASE(files_that_are_no_quarantine_are_refused_and_unchanged), CASE(one_handle_at_a_time),
           CASE(read_only_files_and_full_disks_say_so), CASE(options_have_ranges))
