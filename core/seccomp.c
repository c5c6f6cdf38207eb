/* SPDX-License-Identifier: MIT */
/*
 * seccomp.c - the filter of system calls, written by libseccomp once and given to the kernel by each child: to
 * write it takes longer than to fork one.
 */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What COIR_SYSCALLS_COMPUTE allows. The last line is what a child itself needs between calls. */
static const int compute[] = {
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(lseek), SCMP_SYS(close),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(ioctl), /* stdio looks at its streams */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(times), SCMP_SYS(getrusage), SCMP_SYS(getrandom), SCMP_SYS(futex),
    SCMP_SYS(sched_yield), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rseq), SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill), SCMP_SYS(exit), SCMP_SYS(exit_group), /* tgkill: abort() */
    SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(timer_settime),
};

/* The program is only to be had by way of a file. Returns its bytes; 0: there is no memory. */
static size_t export(scmp_filter_ctx ctx, void **program)
{
    int fd = memfd_create("coir-filter", MFD_CLOEXEC);
    off_t bytes = fd >= 0 && seccomp_export_bpf(ctx, fd) == 0 ? lseek(fd, 0, SEEK_END) : 0;

    *program = bytes > 0 ? malloc((size_t)bytes) : NULL;
    if (*program && pread(fd, *program, (size_t)bytes, 0) != bytes) {
        free(*program);
        *program = NULL;
    }
    if (fd >= 0)
        close(fd);
    return *program ? (size_t)bytes : 0;
}

int filter_build(enum coir_syscalls allowed, struct sock_filter **program, size_t *count)
{
    scmp_filter_ctx ctx;
    bool ruled = true;
    void *bytes = NULL;

    *program = NULL;
    *count = 0;
    if (allowed == COIR_SYSCALLS_ALL)
        return COIR_OK;
    ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!ctx)
        return COIR_ENOMEM;
    for (size_t i = 0; i < sizeof compute / sizeof *compute; i++)
        ruled &= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, compute[i], 0) == 0;
    if (ruled)
        *count = export(ctx, &bytes) / sizeof **program;
    seccomp_release(ctx);
    *program = bytes;
    return bytes ? COIR_OK : COIR_ENOMEM;
}
