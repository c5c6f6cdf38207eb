/* SPDX-License-Identifier: MIT */
/*
 * isolate_storm_test.c - a thousand native crashes of all kinds, by many jobs at once: each is an outcome of its own
 * call, none reaches the parent, nothing is left.
 */
#include "isolate_wire.h"
#include "isolators.h"

#define CRASHES 1000
#define JOBS 8

struct kind {
    const char *name;
    iso_break_fn *fn;
    int outcome, code; /* as in coir_failure */
    int where;
};

/* One isolator for what takes its time on a busy machine, one each with a limit of processor time for a loop and of
 * time for a wait, which nothing else shall reach. */
enum { PATIENT, SPENT, IMPATIENT, FILTERED, ISOLATORS };

static const struct kind kinds[] = {
    {"segv", iso_segv, COIR_PANICKED, SIGSEGV, PATIENT},
    {"abort", iso_abort, COIR_PANICKED, SIGABRT, PATIENT},
    {"stack smash", iso_smash, COIR_PANICKED, SIGSEGV, PATIENT},
    {"stack overflow", iso_overflow, COIR_PANICKED, SIGSEGV, PATIENT},
    {"wild write", iso_wild_write, COIR_PANICKED, SIGSEGV, PATIENT},
    {"exit(3)", iso_exit, COIR_FAILED, 3, PATIENT},
    {"out of memory", iso_memory, COIR_PANICKED, SIGSEGV, PATIENT},
    {"endless loop (CPU)", iso_loop, COIR_PANICKED, SIGXCPU, SPENT},
    {"endless wait (time)", iso_wait, COIR_PANICKED, 0, IMPATIENT},
    {"forbidden call", iso_forbidden, COIR_PANICKED, SIGSYS, FILTERED},
};

#define KINDS (sizeof kinds / sizeof *kinds)

static struct {
    coir_isolator *iso[ISOLATORS]; /* FILTERED may be NULL: not to be had */
    int next;                      /* crash to make; atomic */
    int seen[KINDS], wrong, alive;
} storm;

static int as_expected(const struct kind *k, int outcome, const coir_failure *f)
{
    if (SANITIZED || EMULATED) /* who reports by itself exits by itself; time is short for both */
        return outcome == COIR_FAILED || outcome == COIR_PANICKED;
    return outcome == k->outcome && f->kind == COIR_KIND_ISOLATED && f->code == k->code;
}

static void crash(size_t i)
{
    const struct kind *k = &kinds[i];
    coir_isolator *iso = storm.iso[k->where];
    coir_failure f = {0};
    int outcome;

    if (!iso || (EMULATED && k->fn == iso_memory))
        return; /* no filter, no limit: nothing would end it */
    outcome = iso_breaks(iso, k->fn, &f, COIR_NEVER);
    run_count(&storm.seen[i]);
    if (as_expected(k, outcome, &f))
        return;
    run_count(&storm.wrong);
    fprintf(stderr, "    %s: %s, %s\n", k->name, coir_status_name(outcome), f.message);
}

static void crash_on_and_on(void *unused)
{
    int n;

    (void)unused;
    while ((n = run_count(&storm.next)) <= MANY(CRASHES)) {
        crash((size_t)n % KINDS);
        if (n % 16 == 0)
            iso_works(storm.iso[PATIENT]);
    }
}

static void bystander(void *unused)
{
    (void)unused;
    while (coir_sleep_until(coir_now() + COIR_MS) == COIR_OK)
        run_count(&storm.alive);
}

static void spawn_storm(void *unused)
{
    coir_counter crashes = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&other, bystander, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_many(&crashes, crash_on_and_on, NULL, 0, JOBS), COIR_OK);
    CHECK_EQ(coir_wait(&crashes), COIR_DONE);
    CHECK_EQ(coir_counter_cancel(&other), COIR_OK);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
}

static void open_isolators(void)
{
    const int64_t patience = EMULATED ? 0 : COIR_NEVER; /* ten seconds may be too few to crash in */
    coir_isolator_options o = iso_options(4);

    o.memory_bytes = EMULATED ? COIR_UNLIMITED : 4 << 20;
    o.time_ns = SANITIZED ? ISO_HANG_NS : patience;
    storm.iso[PATIENT] = iso_open(&o);
    o.cpu_ns = SLOW ? 200 * COIR_MS : 15 * COIR_MS;
    storm.iso[SPENT] = iso_open(&o);
    o.cpu_ns = 0;
    o.time_ns = 5 * COIR_MS;
    storm.iso[IMPATIENT] = iso_open(&o);
    o.time_ns = patience;
    o.syscalls = COIR_SYSCALLS_COMPUTE;
    CHECK_EQ(coir_isolator_open(&o, &storm.iso[FILTERED]), EMULATED ? COIR_ENOSYS : COIR_OK);
}

static int close_isolators(void)
{
    int broken = 0;

    for (int i = 0; i < ISOLATORS; i++) {
        coir_isolator_stats s = {0};

        if (!storm.iso[i])
            continue;
        CHECK_EQ(coir_isolator_stats_read(storm.iso[i], &s), COIR_OK);
        CHECK_EQ(s.replaced, s.broken);
        broken += (int)s.broken;
        CHECK_EQ(coir_isolator_close(storm.iso[i]), COIR_OK);
    }
    return broken;
}

static void a_thousand_crashes_reach_nobody(void)
{
    int all = 0;

    open_isolators();
    run_on(2, spawn_storm, NULL);
    for (size_t i = 0; i < KINDS; i++) {
        printf("%5d x %s\n", storm.seen[i], kinds[i].name);
        all += storm.seen[i];
    }
    CHECK_EQ(storm.wrong, 0);
    CHECK(storm.alive > 0);
    CHECK_EQ(close_isolators(), all);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
}

/* --------------------------------------------------------------------------------------- garbage */

/* Sends packets of no sense, in odd sizes, to whatever is open. */
static void iso_babble(void)
{
    char packet[1024];

    memset(packet, 1, sizeof packet);
    for (int fd = 3; fd < 64; fd++)
        for (size_t n = 0; n < 64; n++)
            send(fd, packet, n * 16, MSG_DONTWAIT | MSG_NOSIGNAL);
    _exit(7);
}

static void hear_babble(void *iso)
{
    for (int i = 0; i < 5; i++) {
        CHECK(iso_breaks(iso, iso_babble, NULL, iso_within(10 * COIR_SEC)) != COIR_DONE);
        iso_works(iso); /* what the one before has said is nobody's any more */
    }
}

static void a_child_that_sends_garbage_spoils_its_own_call(void)
{
    coir_isolator_options o = iso_options(1);
    coir_isolator *iso = iso_open(&o);

    run_on(1, hear_babble, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* ----------------------------------------------------------------- what would be its successor's */

/* Says that it is done, and ready as the child that comes next, and answers what that is asked. */
static size_t forge(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    struct isolate_notice done = {.kind = NOTICE_DONE}, ready = {.kind = NOTICE_READY};
    struct isolate_call call;

    (void)out_max;
    memcpy(&done.generation, in, in_bytes);
    done.number = done.generation;
    ready.generation = done.generation + 1;
    for (int fd = 3; fd < 64; fd++)
        if (send(fd, &done, sizeof done, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof done &&
            send(fd, &ready, sizeof ready, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof ready &&
            recv(fd, &call, sizeof call, 0) == sizeof call) {
            memcpy(out, "forged", done.bytes = 7);
            done.number = call.number;
            send(fd, &done, sizeof done, MSG_NOSIGNAL);
        }
    iso_wait();
    return 0;
}

static void call_after_forger(void *iso)
{
    for (uint32_t child = 1; child < 40; child += 2) {
        CHECK_EQ(coir_isolate(iso, forge, &child, sizeof child, NULL, NULL, NULL), COIR_DONE);
        iso_works(iso);
    }
}

static void a_child_cannot_speak_for_the_next(void)
{
    coir_isolator_options o = iso_options(1);
    coir_isolator *iso;

    o.calls_max = 1;
    iso = iso_open(&o);
    run_on(1, call_after_forger, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

static void shut(int how)
{
    for (int fd = 3; fd < 64; fd++)
        shutdown(fd, how);
}

static void iso_shut_and_wait(void)
{
    shut(SHUT_RDWR);
    iso_wait();
}

static void iso_shut_and_abort(void)
{
    shut(SHUT_RDWR);
    abort();
}

static void iso_hear_no_more(void)
{
    shut(SHUT_RD);
}

static void call_after_deaf(void *iso)
{
    coir_failure f;

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(iso_breaks(iso, iso_shut_and_wait, &f, COIR_NEVER), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_ISOLATED);
        CHECK_STR(f.message, "shut down the socket that its calls come by");
        iso_works(iso);
        CHECK_EQ(iso_breaks(iso, iso_shut_and_abort, NULL, COIR_NEVER), COIR_PANICKED);
        iso_works(iso);
        CHECK_EQ(iso_breaks(iso, iso_hear_no_more, NULL, COIR_NEVER), COIR_DONE);
        iso_works(iso);
    }
}

static void a_child_that_shuts_its_socket_down_spoils_its_own_call(void)
{
    coir_isolator_options o = iso_options(1);
    coir_isolator *iso = iso_open(&o);

    run_on(1, call_after_deaf, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

CHECK_MAIN(CASE(a_child_cannot_speak_for_the_next),
           CASE(a_child_that_shuts_its_socket_down_spoils_its_own_call), CASE(a_thousand_crashes_reach_nobody),
           CASE(a_child_that_sends_garbage_spoils_its_own_call))
