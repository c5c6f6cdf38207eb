/* SPDX-License-Identifier: MIT */
/*
 * interrupted.h - a child whose standard error is a pipe that nobody reads until handlers have interrupted it.
 */
#ifndef COIR_INTERRUPTED_H
#define COIR_INTERRUPTED_H

#include "child.h"

#include <fcntl.h>
#include <pthread.h>

#define PIPE_BYTES 4096
#define INTERRUPTS 100 /* a millisecond apart: the first may come before the child blocks */

static pthread_t interrupted;
static int interrupts_over[2];

static inline void do_nothing(int number)
{
    (void)number;
}

static inline void *interrupt(void *unused)
{
    for (int i = 0; i < INTERRUPTS; i++) {
        pthread_kill(interrupted, SIGUSR2);
        usleep(1000);
    }
    if (write(interrupts_over[1], "", 1) != 1)
        _exit(1);
    return unused;
}

/* The calling thread is the one, from here on. */
static inline void be_interrupted(void)
{
    struct sigaction sa = {.sa_handler = do_nothing}; /* no SA_RESTART */
    pthread_t thread;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaction(SIGUSR2, &sa, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    interrupted = pthread_self();
    if (pthread_create(&thread, NULL, interrupt, NULL) != 0 || pthread_detach(thread) != 0)
        _exit(1);
}

/* As child_run. The pipe is full when fn is called. */
static inline void interrupted_run(struct child *c, coir_fn *fn)
{
    static char full[PIPE_BYTES];
    int fd[2];
    pid_t pid;
    char byte;

    memset(full, '\n', sizeof full);
    CHECK_EQ(pipe(interrupts_over), 0);
    CHECK_EQ(pipe(fd), 0);
    CHECK_EQ(fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES), PIPE_BYTES);
    CHECK_EQ(write(fd[1], full, PIPE_BYTES), PIPE_BYTES);
    pid = child_fork(fd[1]);
    if (pid == 0) {
        fn(NULL);
        _exit(0);
    }
    close(fd[1]);
    close(interrupts_over[1]);
    (void)!read(interrupts_over[0], &byte, 1); /* none: it has died before */
    child_read(c, fd[0]);
    close(fd[0]);
    close(interrupts_over[0]);
    CHECK_EQ(waitpid(pid, &c->status, 0), pid);
}

#endif
