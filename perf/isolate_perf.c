/* SPDX-License-Identifier: MIT */
/*
 * isolate_perf.c - claims: an isolated call in a warm child costs at most half of a fork and a wait for its exit,
 * and a tenth of fork, exec and a wait; ruler: these, in the same process. What a crash costs, its child's
 * replacement included, is shown beside the fork, without a goal.
 *
 * Worker and child sleep while the other has its turn, so a call is two wake-ups; they may share a processor.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"

#define BYTES (64u << 10)

struct calling {
    struct bench *b;
    coir_isolator *iso;
    coir_isolated_fn *fn;
    size_t bytes;   /* in, and out */
    int outcome;    /* what each must have */
};

static size_t echo(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    size_t n = in_bytes < out_max ? in_bytes : out_max;

    memcpy(out, in, n);
    return n;
}

static size_t crash(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    (void)in_bytes;
    (void)out;
    (void)out_max;
    *(volatile char *)(uintptr_t)in = 0;
    __builtin_trap();
}

static void call_on_and_on(void *arg)
{
    static char in[BYTES], out[BYTES];
    struct calling *c = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < c->b->n; i++) {
        size_t bytes = c->bytes;

        if (coir_isolate(c->iso, c->fn, in, c->bytes, out, &bytes, NULL) != c->outcome)
            c->b->error = "a call did not end as it should";
    }
    c->b->ns = coir_now() - start;
}

/* The isolator comes first: afterwards there are threads. */
static void isolated(struct bench *b, const void *arg)
{
    struct calling c = *(const struct calling *)arg;
    coir_options options = kit_options(1);

    c.b = b;
    options.quiet = 1;
    options.spin_ns = -1; /* the child may need this very processor */
    if (coir_isolator_open(NULL, &c.iso) != COIR_OK) {
        b->error = "no isolator could be opened";
        return;
    }
    kit_run(b, &options, call_on_and_on, &c);
    coir_isolator_close(c.iso);
}

static bool wait_for(pid_t pid)
{
    return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static bool fork_once(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return wait_for(pid);
}

static bool exec_once(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    return wait_for(pid);
}

struct process {
    bool (*once)(void);
};

static void processes(struct bench *b, const void *arg)
{
    const struct process *p = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < b->n; i++)
        if (!p->once())
            b->error = "a process could not be started";
    b->ns = coir_now() - start;
}

#define CALL(...) isolated, &(const struct calling){__VA_ARGS__}, 0, BENCH_NS
#define PROCESS(once) processes, &(const struct process){once}, 0, BENCH_NS, NULL, BENCH_NO_GOAL, 0

static const struct bench_row rows[] = {
    {"isolate/call", "isolated call, 64 bytes", CALL(.fn = echo, .bytes = 64), "isolate/fork",
     BENCH_RATIO_AT_MOST, 0.5},
    {"isolate/call/exec", "isolated call, against exec", CALL(.fn = echo, .bytes = 64), "isolate/exec",
     BENCH_RATIO_AT_MOST, 0.1},
    {"isolate/call/64k", "isolated call, 64 KiB in and out", CALL(.fn = echo, .bytes = BYTES), "isolate/fork",
     BENCH_NO_GOAL, 0},
    {"isolate/crash", "isolated crash, child replaced",
     CALL(.fn = crash, .outcome = COIR_PANICKED), "isolate/fork", BENCH_NO_GOAL, 0},
    {"isolate/fork", "ruler: fork, exit, wait", PROCESS(fork_once)},
    {"isolate/exec", "ruler: fork, exec of true, wait", PROCESS(exec_once)},
};

BENCH_SUITE(isolate, rows);
