/* SPDX-License-Identifier: MIT */
/*
 * torment.h - what a program of the stress variant endures while its cases run: signals as a profiler's to its
 * workers, whose handler unwinds where it interrupts; workers that stop in the middle of anything for
 * milliseconds; workers that change processors.
 *
 * A stopped worker is one that naps in the handler: to the others it is the same, and SIGSTOP would
 * stop them all. Workers are known by their names, coir/N. Included by check.h.
 *
 * Nothing is unwound inside libgcc: as it lands it writes the registers of where it lands over those it has saved, its
 * return address too, so whoever walks through it then reads what it likes (seen: a stack canary as an address).
 */
#ifndef STRESS_TORMENT_H
#define STRESS_TORMENT_H

#include <dirent.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unwind.h>

#define TORMENT_WORKERS 64
#define TORMENT_FRAMES 64
#define TORMENT_PERIOD_NS 100000
#define TORMENT_LOOKS 100 /* rounds between two looks for workers */

static __attribute__((unused)) struct torment {
    pthread_t thread;
    int stop;
    uint64_t random;
    pid_t worker[TORMENT_WORKERS];
    int workers;
    cpu_set_t allowed;
    uintptr_t unwinder, unwinder_end; /* where libgcc is */
    long signals, frames, naps, moves;
} torment = {.random = 88172645463325252};

static inline _Unwind_Reason_Code torment_frame(struct _Unwind_Context *context, void *depth)
{
    (void)context;
    __atomic_add_fetch(&torment.frames, 1, __ATOMIC_RELAXED);
    return ++*(int *)depth < TORMENT_FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static inline int torment_find_unwinder(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (!strstr(object->dlpi_name, "libgcc_s"))
        return 0;
    torment.unwinder = object->dlpi_addr;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];

        if (part->p_type == PT_LOAD)
            torment.unwinder_end = object->dlpi_addr + part->p_vaddr + part->p_memsz;
    }
    return 1;
}

/* Every eighth worker that is hit stops there for up to two milliseconds. */
static inline void torment_handler(int number, siginfo_t *info, void *context)
{
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int depth = 0, before = errno;
    long n = __atomic_add_fetch(&torment.signals, 1, __ATOMIC_RELAXED);
    const struct timespec nap = {.tv_nsec = n * 7919 % 2000000};

    (void)number;
    (void)info;
    if (pc < torment.unwinder || pc >= torment.unwinder_end)
        _Unwind_Backtrace(torment_frame, &depth);
    if (n % 8 == 0) {
        __atomic_add_fetch(&torment.naps, 1, __ATOMIC_RELAXED);
        nanosleep(&nap, NULL);
    }
    errno = before;
}

static inline uint64_t torment_random(void)
{
    torment.random ^= torment.random << 13; /* xorshift64 (Marsaglia, 2003) */
    torment.random ^= torment.random >> 7;
    torment.random ^= torment.random << 17;
    return torment.random;
}

static inline int torment_is_worker(const char *tid)
{
    char path[64], name[16] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", tid);
    file = fopen(path, "r");
    if (!file)
        return 0; /* it has ended, or is no thread */
    if (!fgets(name, sizeof name, file))
        name[0] = 0;
    fclose(file);
    return strncmp(name, "coir/", 5) == 0 && name[5] >= '0' && name[5] <= '9';
}

static inline void torment_find_workers(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;

    torment.workers = 0;
    while (tasks && (task = readdir(tasks)) && torment.workers < TORMENT_WORKERS)
        if (torment_is_worker(task->d_name))
            torment.worker[torment.workers++] = atoi(task->d_name);
    if (tasks)
        closedir(tasks);
}

/* To one of the processors that the process had at first, or to all of them again. */
static inline void torment_move(pid_t worker)
{
    size_t cpu = torment_random() % CPU_SETSIZE;
    cpu_set_t one;

    while (!CPU_ISSET(cpu, &torment.allowed))
        cpu = (cpu + 1) % CPU_SETSIZE;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(worker, sizeof one, torment_random() % 2 ? &one : &torment.allowed) == 0)
        torment.moves++;
}

static inline void *torment_main(void *unused)
{
    for (long round = 0; !__atomic_load_n(&torment.stop, __ATOMIC_ACQUIRE); round++) {
        const struct timespec pause = {.tv_nsec = (long)(torment_random() % (2 * TORMENT_PERIOD_NS))};
        pid_t worker;

        if (round % TORMENT_LOOKS == 0)
            torment_find_workers();
        nanosleep(&pause, NULL);
        if (!torment.workers)
            continue;
        worker = torment.worker[torment_random() % (uint64_t)torment.workers];
        syscall(SYS_tgkill, getpid(), worker, SIGPROF); /* it may have ended */
        if (round % 16 == 0)
            torment_move(worker);
    }
    return unused;
}

static inline void torment_begin(void)
{
    struct sigaction act = {.sa_sigaction = torment_handler, .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
    sigset_t all, before;

    if (sched_getaffinity(0, sizeof torment.allowed, &torment.allowed) != 0 ||
        !dl_iterate_phdr(torment_find_unwinder, NULL))
        abort(); /* as below */
    sigaction(SIGPROF, &act, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&torment.thread, NULL, torment_main, NULL) != 0)
        abort(); /* it would not be the test it is said to be */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static inline void torment_end(void)
{
    __atomic_store_n(&torment.stop, 1, __ATOMIC_RELEASE);
    pthread_join(torment.thread, NULL);
    printf("stress: %ld signals, %ld frames unwound in them, %ld naps, %ld moves to other processors\n",
           torment.signals, torment.frames, torment.naps, torment.moves);
}

#endif
