/* SPDX-License-Identifier: MIT */
/*
 * faulty.c - the calls of faulty.h, each in front of the real one.
 */
#include "faulty_wrap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *const faulty_name[FAULTY_CALLS] = {
#define FAULTY_NAME(name, error, most) #name,
    FAULTY_MAP(FAULTY_NAME)
#undef FAULTY_NAME
};

static const struct {
    int error, most;
} rule[FAULTY_CALLS] = {
#define FAULTY_RULE(name, error, most) {error, most},
    FAULTY_MAP(FAULTY_RULE)
#undef FAULTY_RULE
};

/* Written while no runtime is open. */
static struct {
    enum faulty_call call;
    int at, for_ever;
    pid_t process;
} armed;

static int used[FAULTY_CALLS], failed; /* atomic */
static struct faulty_balance live;     /* atomic; but for descriptors */

void faulty_arm(enum faulty_call call, int at, int for_ever)
{
    armed.call = call;
    armed.for_ever = for_ever;
    armed.process = getpid();
    for (int i = 0; i < FAULTY_CALLS; i++)
        __atomic_store_n(&used[i], 0, __ATOMIC_RELAXED);
    __atomic_store_n(&failed, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&armed.at, at, __ATOMIC_RELEASE);
}

void faulty_disarm(void)
{
    __atomic_store_n(&armed.at, 0, __ATOMIC_RELEASE);
}

int faulty_failed(void)
{
    return __atomic_load_n(&failed, __ATOMIC_RELAXED);
}

int faulty_used(enum faulty_call call)
{
    return __atomic_load_n(&used[call], __ATOMIC_RELAXED);
}

bool faulty_fails(enum faulty_call call)
{
    int n = __atomic_add_fetch(&used[call], 1, __ATOMIC_RELAXED);
    int at = __atomic_load_n(&armed.at, __ATOMIC_ACQUIRE);

    if (!at || armed.process != getpid() || armed.call != call || n < at || (n > at && !armed.for_ever) ||
        (rule[call].most && n >= at + rule[call].most))
        return false;
    __atomic_add_fetch(&failed, 1, __ATOMIC_RELAXED);
    errno = rule[call].error;
    return true;
}

static void count(long *what, long n)
{
    __atomic_add_fetch(what, n, __ATOMIC_RELAXED);
}

static long descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    long n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

struct faulty_balance faulty_balance(void)
{
    return (struct faulty_balance){.blocks = __atomic_load_n(&live.blocks, __ATOMIC_RELAXED),
                                   .mapped = __atomic_load_n(&live.mapped, __ATOMIC_RELAXED),
                                   .threads = __atomic_load_n(&live.threads, __ATOMIC_RELAXED),
                                   .descriptors = descriptors()};
}

/* ------------------------------------------------------------------------------------ the calls */

#define NUMBER (errno) /* of those that return it */

WRAP(int, mprotect, (void *at, size_t n, int how), (at, n, how), -1)
WRAP(int, madvise, (void *at, size_t n, int what), (at, n, what), -1)
WRAP(int, pthread_getattr_np, (pthread_t t, pthread_attr_t *a), (t, a), NUMBER)
WRAP(int, pthread_getcpuclockid, (pthread_t t, clockid_t *clock), (t, clock), NUMBER)
WRAP(int, pthread_setaffinity_np, (pthread_t t, size_t n, const cpu_set_t *set), (t, n, set), NUMBER)
WRAP(int, sigaction, (int n, const struct sigaction *to, struct sigaction *was), (n, to, was), -1)
WRAP(int, sigaltstack, (const stack_t *to, stack_t *was), (to, was), -1)
WRAP(int, sched_getaffinity, (pid_t pid, size_t n, cpu_set_t *set), (pid, n, set), -1)
WRAP(int, sysinfo, (struct sysinfo *info), (info), -1)
WRAP(FILE *, fopen, (const char *path, const char *how), (path, how), NULL)
WRAP(int, clock_nanosleep, (clockid_t c, int flags, const struct timespec *to, struct timespec *left),
     (c, flags, to, left), NUMBER)
WRAP(int, eventfd, (unsigned n, int flags), (n, flags), -1)
WRAP(int, epoll_create1, (int flags), (flags), -1)
WRAP(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e), (ep, op, fd, e), -1)
WRAP(int, epoll_wait, (int ep, struct epoll_event *e, int n, int ms), (ep, e, n, ms), -1)
WRAP(int, epoll_pwait2, (int ep, struct epoll_event *e, int n, const struct timespec *t, const sigset_t *s),
     (ep, e, n, t, s), -1)
WRAP(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n), -1)
WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1)
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t n),
     (fd, level, name, value, n), -1)
WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1)
WRAP(int, listen, (int fd, int n), (fd, n), -1)
WRAP(int, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n), -1)
WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1)
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags), -1)
WRAP(pid_t, fork, (void), (), -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int fd[2]), (domain, type, protocol, fd), -1)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1)
WRAP(ssize_t, send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags), -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), -1)
WRAP(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags), -1)
WRAP(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags), -1)
WRAP(int, fstat, (int fd, struct stat *st), (fd, st), -1)
WRAP(int, flock, (int fd, int how), (fd, how), -1)
WRAP(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), NUMBER)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), -1)
WRAP(ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), -1)
WRAP(int, msync, (void *at, size_t n, int flags), (at, n, flags), -1)

/* ------------------------------------------------------------------- what is counted, or variadic */

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void __wrap_free(void *memory);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t bytes);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *with, void *(*fn)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_open(const char *path, int flags, ...);
int __wrap_fcntl(int fd, int command, ...);
long __wrap_syscall(long number, ...);

static void *counted(void *memory)
{
    count(&live.blocks, memory != NULL);
    return memory;
}

void *__wrap_malloc(size_t bytes)
{
    return faulty_fails(FAULTY_malloc) ? NULL : counted(malloc(bytes));
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return faulty_fails(FAULTY_calloc) ? NULL : counted(calloc(n, bytes));
}

void __wrap_free(void *memory)
{
    count(&live.blocks, memory ? -1 : 0);
    free(memory);
}

void *faulty_alloc(size_t bytes, void *unused)
{
    (void)unused;
    return faulty_fails(FAULTY_alloc) ? NULL : counted(malloc(bytes));
}

void faulty_free(void *memory, void *unused)
{
    (void)unused;
    __wrap_free(memory);
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    void *m = faulty_fails(FAULTY_mmap) ? MAP_FAILED : mmap(at, bytes, protection, flags, fd, offset);

    count(&live.mapped, m == MAP_FAILED ? 0 : (long)bytes);
    return m;
}

int __wrap_munmap(void *at, size_t bytes)
{
    count(&live.mapped, -(long)bytes);
    return munmap(at, bytes);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *with, void *(*fn)(void *), void *arg)
{
    int error = faulty_fails(FAULTY_pthread_create) ? errno : pthread_create(thread, with, fn, arg);

    count(&live.threads, error == 0);
    return error;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    count(&live.threads, -1);
    return pthread_join(thread, result);
}

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode;
    va_list rest;

    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    return faulty_fails(FAULTY_open) ? -1 : open(path, flags, mode);
}

int __wrap_fcntl(int fd, int command, ...)
{
    int value;
    va_list rest;

    va_start(rest, command);
    value = va_arg(rest, int);
    va_end(rest);
    return faulty_fails(FAULTY_fcntl) ? -1 : fcntl(fd, command, value);
}

/* Those that the library makes without libc's functions. */
static bool system_call_fails(long number, long command)
{
    switch (number) {
    case SYS_futex:
        return (command & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && faulty_fails(FAULTY_futex);
    case SYS_membarrier:
        return faulty_fails(FAULTY_membarrier);
    case SYS_pidfd_open:
        return faulty_fails(FAULTY_pidfd_open);
    case SYS_recvfrom:
        return faulty_fails(FAULTY_recvfrom);
    case SYS_sendto:
        return faulty_fails(FAULTY_sendto);
    }
    return false;
}

/* As libc's, it takes six arguments, however many there are. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list rest;

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    return system_call_fails(number, a[1]) ? -1 : syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
