/* SPDX-License-Identifier: MIT */
/*
 * cpus.c - affinity mask and cgroup quota (v2: cpu.max of every ancestor; v1: cfs quota), memory, mappings.
 *
 * The kernel takes some 8 us to tell one figure of a cgroup, which is much beside the start of a thread. So they
 * are asked for once a second at most: who opens runtimes more often is told the same.
 */
#include "cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#define ASK_AGAIN_NS COIR_SEC

/* --------------------------------------------------------------------------- what the kernel says */

/* A figure, and until when it is believed. Threads that ask at once may store both in any order: whichever figure
 * stays, it has been told within the last two seconds. */
struct figure {
    _Atomic uint64_t value;
    _Atomic int64_t until; /* 0: never asked */
};

static uint64_t figure(struct figure *f, uint64_t (*ask)(void))
{
    int64_t now = coir_now();
    uint64_t value;

    if (now < atomic_load_explicit(&f->until, memory_order_acquire)) /* TOLD */
        return atomic_load_explicit(&f->value, memory_order_relaxed); /* carried by TOLD */
    value = ask();
    atomic_store_explicit(&f->value, value, memory_order_relaxed);                 /* carried by TOLD */
    atomic_store_explicit(&f->until, now + ASK_AGAIN_NS, memory_order_release);    /* TOLD */
    return value;
}

/* The beginning of a file, as text; "" if it cannot be read. Not stdio: that allocates, and asks for more. */
static void read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The number that a file begins with, or `missing`. */
static uint64_t number_in(const char *path, uint64_t missing)
{
    unsigned long long n = missing;
    char text[64];

    read_text(path, text, sizeof text);
    return sscanf(text, "%llu", &n) == 1 ? n : missing;
}

/* ----------------------------------------------------------------------------------- processors */

static unsigned affinity(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set) != 0 || CPU_COUNT(set) < 1)
        return 1;
    return (unsigned)CPU_COUNT(set);
}

void cpus_allowed(cpu_set_t *set)
{
    (void)affinity(set);
}

/* CPUs a quota of `quota` in every `period` pays for, or UINT_MAX. */
static unsigned cpus_of_quota(long long quota, long long period)
{
    return quota <= 0 || period <= 0 ? UINT_MAX : (unsigned)((quota + period - 1) / period);
}

static unsigned read_quota(const char *dir, const char *file, const char *period_file)
{
    char path[PATH_MAX + 64], text[64];
    long long quota = -1, period = -1;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    read_text(path, text, sizeof text);
    if (sscanf(text, "%lld %lld", &quota, &period) < 1 || quota <= 0) /* "max", -1, no such file */
        return UINT_MAX;
    snprintf(path, sizeof path, "%s/%s", dir, period_file);
    return cpus_of_quota(quota, period > 0 ? period : (long long)number_in(path, 0));
}

/* This process's own group in the unified hierarchy, "" if there is none to be read. */
static void own_group(char path[PATH_MAX])
{
    char all[PATH_MAX + 1024], *line;

    read_text("/proc/self/cgroup", all, sizeof all);
    line = strncmp(all, "0::", 3) == 0 ? all : strstr(all, "\n0::");
    line = line ? strchr(line, '/') : NULL;
    snprintf(path, PATH_MAX, "%.*s", line ? (int)strcspn(line, "\n") : 0, line ? line : "");
}

static uint64_t ask_quota(void)
{
    char group[PATH_MAX], dir[PATH_MAX + 16];
    unsigned least = read_quota("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us");
    char *slash;

    own_group(group);
    do {
        unsigned here;

        snprintf(dir, sizeof dir, "/sys/fs/cgroup%s", group);
        here = read_quota(dir, "cpu.max", "cpu.cfs_period_us");
        least = here < least ? here : least;
        slash = strrchr(group, '/');
        if (slash)
            *slash = '\0';
    } while (slash);
    return least;
}

static unsigned quota(void)
{
    static struct figure known;

    return (unsigned)figure(&known, ask_quota);
}

unsigned cpus_usable(void)
{
    cpu_set_t set;
    unsigned a = affinity(&set), q = quota();

    return q < a ? q : a;
}

int cpus_pin(pthread_t thread, unsigned i)
{
    cpu_set_t allowed, one;
    unsigned n = affinity(&allowed), at = 0;

    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && at++ == i % n)
            CPU_SET(cpu, &one);
    return -pthread_setaffinity_np(thread, sizeof one, &one);
}

clockid_t thread_meter(void)
{
    clockid_t clock;

    return pthread_getcpuclockid(pthread_self(), &clock) == 0 ? clock : 0;
}

int64_t thread_used(clockid_t meter)
{
    struct timespec t;

    return meter && clock_gettime(meter, &t) == 0 ? t.tv_sec * COIR_SEC + t.tv_nsec : 0;
}

void thread_block_signals(sigset_t *before)
{
    static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF};
    sigset_t all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        sigdelset(&all, kept[i]);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

static int start_on(pthread_t *thread, const cpu_set_t *cpus, void *(*main)(void *), void *arg)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);

    if (error)
        return error;
    error = pthread_attr_setaffinity_np(&attributes, sizeof *cpus, cpus);
    error = error ? error : pthread_create(thread, &attributes, main, arg);
    pthread_attr_destroy(&attributes);
    return error;
}

int thread_start(pthread_t *thread, const cpu_set_t *cpus, void *(*main)(void *), void *arg)
{
    sigset_t before;
    int error;

    thread_block_signals(&before);
    error = cpus ? start_on(thread, cpus, main, arg) : 0;
    if (!cpus || error == EINVAL) /* none of them is allowed any more */
        error = pthread_create(thread, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* -------------------------------------------------------------------------------------- memory */

static uint64_t ask_memory(void)
{
    uint64_t v2 = number_in("/sys/fs/cgroup/memory.max", UINT64_MAX); /* "max" is no number */
    uint64_t v1 = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", UINT64_MAX);
    uint64_t group = v2 < v1 ? v2 : v1, all = UINT64_MAX;
    struct sysinfo machine;

    if (sysinfo(&machine) == 0)
        all = (uint64_t)machine.totalram * machine.mem_unit;
    return all < group ? all : group;
}

uint64_t memory_usable(void)
{
    static struct figure known;

    return figure(&known, ask_memory);
}

static uint64_t ask_mappings(void)
{
    return number_in("/proc/sys/vm/max_map_count", 65530);
}

uint64_t mappings_max(void)
{
    static struct figure known;

    return figure(&known, ask_mappings);
}
