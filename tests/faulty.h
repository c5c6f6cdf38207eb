/* SPDX-License-Identifier: MIT */
/*
 * faulty.h - every call by which the library asks for something that may not be to be had, as one table.
 *
 * Any of them can be made to fail at its n-th use: once, or from there on. The library's calls are
 * redirected when its objects are merged for these tests (--wrap, tests.ninja), so it has no hook for it, and
 * neither tests nor sanitizers are affected; the host's allocator is one of them, through options.alloc.
 * tests/library_test.py checks that no call is missing here.
 */
#ifndef COIR_FAULTY_H
#define COIR_FAULTY_H

#include <stddef.h>

/*
 * name, error, most
 *
 *   error   what errno is, or what is returned in its place
 *   most    how often in a row it may fail; 0: for ever. For what means "not now": whoever is told so for ever
 *           waits for ever, rightly.
 */
#define FAULTY_MAP(X)                                                                              \
    X(alloc, ENOMEM, 0) /* options.alloc */                                                        \
    X(malloc, ENOMEM, 0)                                                                           \
    X(calloc, ENOMEM, 0)                                                                           \
    X(mmap, ENOMEM, 0)                                                                             \
    X(mprotect, ENOMEM, 0)                                                                         \
    X(madvise, ENOMEM, 0)                                                                          \
    X(pthread_create, EAGAIN, 0)                                                                   \
    X(pthread_setaffinity_np, EINVAL, 0)                                                           \
    X(pthread_getattr_np, ENOMEM, 0)                                                               \
    X(pthread_getcpuclockid, ENOENT, 0)                                                            \
    X(sigaction, EINVAL, 0)                                                                        \
    X(sigaltstack, ENOMEM, 0)                                                                      \
    X(sched_getaffinity, ENOSYS, 0)                                                                \
    X(sysinfo, EFAULT, 0)                                                                          \
    X(fopen, EMFILE, 0)                                                                            \
    X(membarrier, ENOMEM, 100)                                                                      \
    X(futex, EINTR, 100)                                                                           \
    X(clock_nanosleep, EINTR, 100)                                                                 \
    X(eventfd, EMFILE, 0)                                                                          \
    X(io_uring_queue_init_params, ENOSYS, 0)                                                       \
    X(io_uring_get_probe_ring, ENOMEM, 0)                                                          \
    X(io_uring_submit, ENOMEM, 100)                                                                \
    X(io_uring_register_sync_cancel, EINVAL, 0)                                                    \
    X(io_uring_enter2, ENOMEM, 100)                                                                \
    X(completion, ECONNRESET, 0) /* of an operation in a ring */                                   \
    X(epoll_create1, EMFILE, 0)                                                                    \
    X(epoll_ctl, ENOMEM, 0)                                                                        \
    X(epoll_wait, EINTR, 100)                                                                      \
    X(epoll_pwait2, ENOSYS, 0)                                                                     \
    X(read, EINTR, 100)                                                                            \
    X(socket, EMFILE, 0)                                                                           \
    X(setsockopt, ENOMEM, 0)                                                                       \
    X(bind, EADDRINUSE, 0)                                                                         \
    X(listen, EADDRINUSE, 0)                                                                       \
    X(getsockname, ENOBUFS, 0)                                                                     \
    X(connect, ECONNREFUSED, 0)                                                                    \
    X(accept4, EMFILE, 0)                                                                          \
    X(recvfrom, ECONNRESET, 0)                                                                     \
    X(sendto, EPIPE, 0)                                                                            \
    X(fcntl, EBADF, 0)                                                                             \
    X(fork, EAGAIN, 0)                                                                             \
    X(socketpair, EMFILE, 0)                                                                       \
    X(memfd_create, EMFILE, 0)                                                                     \
    X(pidfd_open, EMFILE, 0)                                                                       \
    X(send, EPIPE, 0)                                                                              \
    X(sendmsg, EAGAIN, 0)                                                                          \
    X(recv, EINTR, 100)                                                                            \
    X(waitpid, EINTR, 100)                                                                         \
    X(open, EMFILE, 0)                                                                             \
    X(fstat, EIO, 0)                                                                               \
    X(flock, EINTR, 0)                                                                             \
    X(posix_fallocate, ENOSPC, 0)                                                                  \
    X(ftruncate, EIO, 0)                                                                           \
    X(pread, EIO, 0)                                                                               \
    X(msync, EIO, 0)

enum faulty_call {
#define FAULTY_CALL(name, error, most) FAULTY_##name,
    FAULTY_MAP(FAULTY_CALL)
#undef FAULTY_CALL
        FAULTY_CALLS
};

extern const char *const faulty_name[FAULTY_CALLS];

/* From now on the at-th use of a call fails, once or also all that follow; not in children of this process.
 * Nobody works meanwhile. */
void faulty_arm(enum faulty_call call, int at, int for_ever);

/* From now on none does. */
void faulty_disarm(void);

/* How often it has failed since. */
int faulty_failed(void);

/* How often a call was used since. */
int faulty_used(enum faulty_call call);

/* What lives: blocks of the two allocators, mapped bytes, threads that are not joined, descriptors. */
struct faulty_balance {
    long blocks, mapped, threads, descriptors;
};

struct faulty_balance faulty_balance(void);

/* For options.alloc and options.free. */
void *faulty_alloc(size_t bytes, void *unused);
void faulty_free(void *memory, void *unused);

#endif
