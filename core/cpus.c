/* SPDX-License-Identifier: MIT */
/*
 * cpus.c - affinity mask and cgroup quota (v2: cpu.max of every ancestor; v1: cfs quota).
 */
#include "cpus.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static unsigned affinity(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set) != 0 || CPU_COUNT(set) < 1)
        return 1;
    return (unsigned)CPU_COUNT(set);
}

/* CPUs a quota of `quota` in every `period` pays for, or UINT_MAX. */
static unsigned cpus_of_quota(long long quota, long long period)
{
    return quota <= 0 || period <= 0 ? UINT_MAX : (unsigned)((quota + period - 1) / period);
}

static unsigned read_quota(const char *dir, const char *file, const char *period_file)
{
    char path[PATH_MAX + 64];
    long long quota = -1, period = -1;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    if ((f = fopen(path, "re"))) {
        if (fscanf(f, "%lld %lld", &quota, &period) < 1)
            quota = -1; /* "max" */
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/%s", dir, period_file);
    if (period < 0 && (f = fopen(path, "re"))) {
        if (fscanf(f, "%lld", &period) != 1)
            period = -1;
        fclose(f);
    }
    return cpus_of_quota(quota, period);
}

/* This process's own group in the unified hierarchy, "" if there is none to be read. */
static void own_group(char path[PATH_MAX])
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX];

    path[0] = '\0';
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::", 3) == 0)
            memcpy(path, line + 3, strlen(line + 3) + 1);
    path[strcspn(path, "\n")] = '\0';
    if (f)
        fclose(f);
}

static unsigned quota(void)
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

void thread_block_signals(sigset_t *before)
{
    static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF};
    sigset_t all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        sigdelset(&all, kept[i]);
    pthread_sigmask(SIG_BLOCK, &all, before);
}
