/* SPDX-License-Identifier: MIT */
/*
 * isolators.h - what tests of isolated calls share: functions that break in every way, and one call.
 */
#ifndef COIR_ISOLATORS_H
#define COIR_ISOLATORS_H

#include "run.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Their runtimes report by themselves, each in a way of its own, what would else be a signal. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A sanitizer that finds no memory for its report hangs in it, until it is killed. */
#define ISO_HANG_NS (2 * COIR_SEC)

#define EMULATED (SLOW && !SANITIZED) /* no limits of memory, and what they would count is the emulator's, too */

/* --------------------------------------------------------------------------- functions for children */

static inline size_t iso_echo(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    size_t n = in_bytes < out_max ? in_bytes : out_max;

    memcpy(out, in, n);
    return n;
}

static inline size_t iso_pid(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    pid_t pid = getpid();

    (void)in;
    (void)in_bytes;
    memcpy(out, &pid, sizeof pid <= out_max ? sizeof pid : 0);
    return sizeof pid;
}

/* A way to break, by its name. */
typedef void iso_break_fn(void);

static inline void iso_segv(void)
{
    volatile char *volatile nowhere = (char *)4096;

    *nowhere = 1;
}

static inline void iso_abort(void)
{
    abort();
}

#ifdef __aarch64__
#define ISO_TRAP SIGTRAP
#else
#define ISO_TRAP SIGILL
#endif

static inline void iso_trap(void)
{
    __builtin_trap();
}

/* Over its own return address and on, as over the end of an array. */
__attribute__((noinline, unused, no_sanitize("address"))) static void iso_smash(void)
{
    volatile char *at = (volatile char *)__builtin_frame_address(0);

    for (int i = 0; i < 256; i++)
        at[i] = 'x';
}

__attribute__((noinline, unused)) static int iso_deeper(volatile char *above)
{
    volatile char frame[4096];

    frame[0] = above ? above[0] : 0;
    return frame[0] ? 1 : iso_deeper(frame) + frame[0];
}

static inline void iso_overflow(void)
{
    iso_deeper(NULL);
}

/* Writes all over what it can reach, until something is hit. */
static inline void iso_wild_write(void)
{
    char *at = (char *)(uintptr_t)&at;

    for (size_t i = 0;; i += 512)
        *(volatile char *)(at + i) = 'x';
}

static inline void iso_exit(void)
{
    exit(3);
}

static inline void iso_quick_exit(void)
{
    _exit(4);
}

/* Takes memory until there is none, as code that never checks. */
static inline void iso_memory(void)
{
    for (;;) {
        volatile char *block = malloc(1 << 20);

        for (int i = 0; i < 1 << 20; i += 4096)
            block[i] = 1;
    }
}

static inline void iso_loop(void)
{
    for (volatile unsigned n = 0;; n++)
        ;
}

/* Not to be stopped by a signal that can be blocked. */
static inline void iso_stubborn_loop(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    iso_loop();
}

static inline void iso_wait(void)
{
    for (;;)
        pause();
}

static inline void iso_kill(void)
{
    kill(getpid(), SIGKILL);
}

static inline void iso_panic(void)
{
    coir_panic("planned");
}

static inline void iso_fail(void)
{
    coir_fail(COIR_EIO, "cannot read it");
}

static inline void iso_forbidden(void)
{
    socket(AF_INET, SOCK_STREAM, 0);
}

static inline size_t iso_break(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    iso_break_fn *fn;

    (void)out;
    (void)out_max;
    memcpy(&fn, in, in_bytes);
    fn();
    return 0;
}

/* -------------------------------------------------------------------------------------- calls */

static inline coir_isolator_options iso_options(unsigned children)
{
    coir_isolator_options o = {.size = sizeof o, .children = children};

    if (EMULATED)
        o.memory_bytes = COIR_UNLIMITED;
    return o;
}

static inline coir_isolator *iso_open(const coir_isolator_options *o)
{
    coir_isolator *iso = NULL;

    CHECK_EQ(coir_isolator_open(o, &iso), COIR_OK);
    return iso;
}

static inline int iso_breaks(coir_isolator *iso, iso_break_fn *fn, coir_failure *f, int64_t deadline)
{
    return coir_isolate_until(iso, iso_break, &fn, sizeof fn, NULL, NULL, f, deadline);
}

/* The process that serves the next call. */
static inline pid_t iso_child(coir_isolator *iso)
{
    size_t bytes = sizeof(pid_t);
    pid_t pid = -1;

    CHECK_EQ(coir_isolate(iso, iso_pid, NULL, 0, &pid, &bytes, NULL), COIR_DONE);
    CHECK_EQ(bytes, sizeof pid);
    return pid;
}

static inline void iso_works(coir_isolator *iso)
{
    char out[8] = "";
    size_t bytes = sizeof out;

    CHECK_EQ(coir_isolate(iso, iso_echo, "echo", 5, out, &bytes, NULL), COIR_DONE);
    CHECK_EQ(bytes, 5);
    CHECK_STR(out, "echo");
}

static inline int64_t iso_within(int64_t ns)
{
    return coir_now() + ns;
}

#endif
