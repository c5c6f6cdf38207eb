/* SPDX-License-Identifier: MIT */
/*
 * options.c - the options of a runtime: old and new sizes, ranges, defaults.
 *
 * The struct only ever grows, and zero always means the default. So a shorter struct is an old
 * caller's, and what a longer one has beyond ours is understood only while it is zero.
 */
#include "options.h"

#include <string.h>

#include "cpus.h"

#define WORKERS_MAX 256
#define STACK_DEFAULT ((size_t)64 << 10)
#define SPIN_DEFAULT_NS (50 * COIR_US)

int options_copy_sized(const void *given, size_t size, void *ours, size_t bytes)
{
    const char *from = given;

    memset(ours, 0, bytes);
    if (!given)
        return COIR_OK;
    if (size < sizeof size)
        return COIR_EINVAL;
    for (size_t i = bytes; i < size; i++)
        if (from[i])
            return COIR_EINVAL; /* asks for something this library does not know */
    memcpy(ours, given, size < bytes ? size : bytes);
    return COIR_OK;
}

int options_copy(const coir_options *given, coir_options *o)
{
    int status = options_copy_sized(given, given ? given->size : 0, o, sizeof *o);

    if (status != COIR_OK)
        return status;
    if (o->faults_also && o->faults != COIR_FAULTS_CONTAIN)
        return COIR_EINVAL;
    return !o->alloc == !o->free ? COIR_OK : COIR_EINVAL;
}

int options_copy_metrics(const coir_metrics *given, coir_metrics *m)
{
    return options_copy_sized(given, given ? given->size : 0, m, sizeof *m);
}

int options_copy_lab(const coir_lab *given, coir_lab *l)
{
    return options_copy_sized(given, given->size, l, sizeof *l);
}

/* One option and its range; 0 means the default. */
struct range {
    const char *name;
    uint64_t value, least, most;
};

int options_check(const struct host *host, const coir_options *o)
{
    const struct range range[] = {
        {"workers", o->workers, 1, WORKERS_MAX},
        {"pin", o->pin, 0, 1},
        {"stack_bytes", o->stack_bytes, 16 << 10, 64 << 20},
        {"stacks_max", o->stacks_max, 1, 16 << 20},
        {"prefault", o->prefault, 0, 16 << 20},
        {"prefault_bytes", o->prefault_bytes, 0, o->stack_bytes ? o->stack_bytes : STACK_DEFAULT},
        {"jobs_max", o->jobs_max, 1, UINT64_C(1) << 40},
        {"share_fp", o->share_fp, 0, 1},
        {"offload_threads", o->offload_threads, 1, 256},
        {"faults", o->faults, 0, COIR_FAULTS_CONTAIN},
        {"faults_also", o->faults_also, 0, COIR_FAULTS_ALSO_ALL},
        {"io", o->io, 0, COIR_IO_EPOLL},
        {"panic", o->panic, 0, COIR_PANIC_ABORT},
        {"defer_panic", o->defer_panic, 0, COIR_PANIC_ABORT},
        {"quiet", o->quiet, 0, 1},
        {"share_stacks", o->share_stacks, 0, 1},
        {"backtrace", o->backtrace, 0, 1},
        {"park_times", o->park_times, 0, 1},
        {"records", o->records, 1, COIR_RECORDS},
        {"stall_ns", (uint64_t)o->stall_ns, COIR_MS, COIR_NEVER},
        {"stall_signal", (uint64_t)o->stall_signal, 1, 64},
        {"deadlock", o->deadlock, 0, COIR_DEADLOCK_FAIL_NEWEST},
        {"name (bytes)", o->name ? strlen(o->name) : 0, 1, 11},
    };

    for (size_t i = 0; i < sizeof range / sizeof *range; i++) {
        const struct range *r = &range[i];

        if (r->value && (r->value < r->least || r->value > r->most)) {
            host_log(host, COIR_LOG_ERROR, "options.%s is %llu; it must be 0 or from %llu to %llu",
                     r->name, (unsigned long long)r->value, (unsigned long long)r->least,
                     (unsigned long long)r->most);
            return COIR_ERANGE;
        }
    }
    return COIR_OK;
}

void options_fill(coir_options *o)
{
    if (!o->workers)
        o->workers = cpus_usable() < WORKERS_MAX ? cpus_usable() : WORKERS_MAX;
    if (!o->stack_bytes)
        o->stack_bytes = STACK_DEFAULT;
    if (!o->stacks_max)
        o->stacks_max = 1000000;
    if (!o->jobs_max)
        o->jobs_max = 1 << 20;
    if (!o->spin_ns)
        o->spin_ns = SPIN_DEFAULT_NS;
    if (o->spin_ns > COIR_SEC)
        o->spin_ns = COIR_NEVER; /* who spins a second polls */
    if (!o->offload_threads)
        o->offload_threads = 4;
    if (!o->records)
        o->records = COIR_RECORDS;
    if (!o->name)
        o->name = "coir";
}
