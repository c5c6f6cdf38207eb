/* SPDX-License-Identifier: MIT */
/*
 * child.h - runs code that is expected to die in a forked child, and keeps what it said.
 */
#ifndef COIR_CHILD_H
#define COIR_CHILD_H

#include "run.h"

#include <sys/resource.h>
#include <sys/wait.h>

struct child {
    int status;       /* of waitpid */
    char text[16384]; /* its standard error, terminated, cut to fit */
};

static inline void child_read(struct child *c, int fd)
{
    size_t length = 0;
    ssize_t n;
    char rest[512];

    while (length < sizeof c->text - 1 &&
           (n = read(fd, c->text + length, sizeof c->text - 1 - length)) > 0)
        length += (size_t)n;
    while (read(fd, rest, sizeof rest) > 0)
        ;
    c->text[length] = '\0';
}

/* Not by an abort: that may be what is expected. */
static inline void child_timeout(int number)
{
    if (!check_is_over())
        return;
    signal(number, SIG_DFL);
    raise(number);
}

/* A child that leaves no core and has 30 s. */
static inline pid_t child_fork(int error_fd)
{
    static const struct rlimit no_core = {0, 0};
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(error_fd, STDERR_FILENO);
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGALRM, child_timeout);
        check_begin(30);
    }
    return pid;
}

/* Runs fn(arg) in such a child; 0 if fn returns. */
static inline void child_run(struct child *c, coir_fn *fn, void *arg)
{
    int fd[2];
    pid_t pid;

    memset(c, 0, sizeof *c);
    c->status = -1;
    if (!CHECK_EQ(pipe(fd), 0))
        return;
    pid = child_fork(fd[1]);
    if (pid == 0) {
        fn(arg);
        _exit(0);
    }
    close(fd[1]);
    child_read(c, fd[0]);
    close(fd[0]);
    CHECK_EQ(waitpid(pid, &c->status, 0), pid);
}

/* It must die by the signal, having said all of these; NULL ends them. */
static inline void child_dies(coir_fn *fn, void *arg, int signal, const char *const *words)
{
    struct child c;

    child_run(&c, fn, arg);
    if (!CHECK(WIFSIGNALED(c.status)) || !CHECK_EQ(WTERMSIG(c.status), signal))
        fprintf(stderr, "    it said: %s\n", c.text);
    for (; *words; words++)
        if (!CHECK(strstr(c.text, *words) != NULL))
            fprintf(stderr, "    \"%s\" is not in: %s\n", *words, c.text);
}

#define CHILD_DIES(fn, arg, signal, ...)                                                           \
    child_dies((fn), (arg), (signal), (const char *const[]){__VA_ARGS__, NULL})

/* It must end well. */
static inline void child_ends(coir_fn *fn, void *arg)
{
    struct child c;

    child_run(&c, fn, arg);
    if (!CHECK_EQ(c.status, 0))
        fprintf(stderr, "    it said: %s\n", c.text);
}

#endif
