/* SPDX-License-Identifier: MIT */
/*
 * isolate_open.c - opening an isolator: options, sockets, memory, the fork; and closing it.
 *
 * The fork is made here and once, in a process of one thread: of what a process with more had locked, nobody would
 * unlock the copy. The caller's plan lies in the isolator, so the template finds it at the same address.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "filter.h"
#include "isolate.h"
#include "isolate_template.h"
#include "life.h"
#include "options.h"
#include "state.h"

#define BYTES_MAX ((size_t)1 << 30)
#define MEMORY_MAX (UINT64_C(1) << 48)

/* ------------------------------------------------------------------------------------- options */

static int copy_options(const coir_isolator_options *given, coir_isolator_options *o)
{
    int status = options_copy_sized(given, given ? given->size : 0, o, sizeof *o);

    if (status != COIR_OK)
        return status;
    if (o->children > ISOLATE_CHILDREN_MAX || o->input_max > BYTES_MAX || o->output_max > BYTES_MAX ||
        (o->memory_bytes > MEMORY_MAX && o->memory_bytes != COIR_UNLIMITED) || o->cpu_ns < 0 || o->time_ns < 0 ||
        (unsigned)o->syscalls > COIR_SYSCALLS_COMPUTE)
        return COIR_ERANGE;
    return COIR_OK;
}

static void fill_options(coir_isolator_options *o)
{
    o->children = o->children ? o->children : 1;
    o->calls_max = o->calls_max ? o->calls_max : 1000;
    o->input_max = o->input_max ? o->input_max : 64 << 10;
    o->output_max = o->output_max ? o->output_max : 64 << 10;
    o->memory_bytes = o->memory_bytes ? o->memory_bytes : 256 << 20;
    o->cpu_ns = o->cpu_ns ? o->cpu_ns : COIR_SEC;
    o->time_ns = o->time_ns ? o->time_ns : 10 * COIR_SEC;
}

/* Field 20 of what the kernel says of a process. An emulator says 0, and is believed. */
static bool has_other_threads(void)
{
#ifdef COIR_TSAN
    const long own = 2; /* the sanitizer has one */
#else
    const long own = 1;
#endif
    char line[1024] = "";
    FILE *f = fopen("/proc/self/stat", "re");
    long threads = own + 1;
    const char *at;

    if (f && fgets(line, sizeof line, f) && (at = strrchr(line, ')')))
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &threads);
    if (f)
        fclose(f);
    return threads > own;
}

/* --------------------------------------------------------------------------- what is shared by all */

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

/* Ours of the two ends may be in use in some runtime's I/O; a fork of this process may have both open. */
static void close_ours(struct coir_isolator *iso)
{
    if (iso->orders >= 0)
        shutdown(iso->orders, SHUT_RDWR);
    close_if_open(iso->orders);
    for (unsigned i = 0; i < iso->plan.options.children; i++)
        if (iso->slot[i].socket >= 0)
            coir_socket_close(iso->slot[i].socket);
    if (iso->memory)
        munmap(iso->memory, iso->plan.options.children * isolate_slot_bytes(&iso->plan));
}

static void close_theirs(struct coir_isolator *iso)
{
    close_if_open(iso->plan.orders);
    close_if_open(iso->plan.memory);
    close_if_open(iso->plan.parent);
    for (unsigned i = 0; i < iso->plan.options.children; i++)
        close_if_open(iso->plan.end[i]);
}

/* Mapped whole by the parent alone: what one child scribbles on is no other's. */
static int open_memory(struct coir_isolator *iso)
{
    struct isolate_plan *p = &iso->plan;
    size_t bytes = isolate_slot_bytes(p);
    void *memory;

    p->memory = memfd_create("coir-isolate", MFD_CLOEXEC);
    if (p->memory < 0 || ftruncate(p->memory, (off_t)(bytes * p->options.children)) != 0)
        return -errno;
    memory = mmap(NULL, bytes * p->options.children, PROT_READ | PROT_WRITE, MAP_SHARED, p->memory, 0);
    if (memory == MAP_FAILED)
        return -errno;
    iso->memory = memory;
    if (madvise(memory, bytes * p->options.children, MADV_DONTFORK) != 0)
        return -errno;
    for (unsigned i = 0; i < p->options.children; i++) {
        iso->slot[i].in = iso->memory + i * bytes;
        iso->slot[i].out = iso->slot[i].in + p->in_bytes;
    }
    return COIR_OK;
}

static int open_all(struct coir_isolator *iso)
{
    struct isolate_plan *p = &iso->plan;
    int status = isolate_pair(&iso->orders, &p->orders);

    for (unsigned i = 0; i < p->options.children && status == COIR_OK; i++)
        status = isolate_pair(&iso->slot[i].socket, &p->end[i]);
    if (status == COIR_OK)
        status = open_memory(iso);
    if (status == COIR_OK)
        p->parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
    return status;
}

/* ---------------------------------------------------------------------------------------- start */

static struct coir_isolator *allocate(const coir_isolator_options *o)
{
    struct coir_isolator *iso = calloc(1, sizeof *iso + o->children * sizeof *iso->slot);

    if (!iso)
        return NULL;
    iso->plan.options = *o;
    iso->plan.in_bytes = whole_pages(o->input_max);
    iso->plan.out_bytes = whole_pages(o->output_max);
    iso->orders = iso->plan.orders = iso->plan.memory = iso->plan.parent = -1;
    for (unsigned i = 0; i < o->children; i++) {
        iso->slot[i] = (struct isolate_slot){
            .index = i, .socket = -1, .state = SLOT_ASKED, .generation = 1, .next_free = iso->free};
        iso->free = &iso->slot[i];
        iso->plan.end[i] = -1;
    }
    return iso;
}

/* Blocks: there is no runtime yet. A template that ends closes the socket. */
static int await_first_child(struct isolate_slot *s)
{
    struct isolate_notice n;
    int status = COIR_ECHILD;
    ssize_t got;

    do
        got = recv(s->socket, &n, sizeof n, 0);
    while ((got < 0 && errno == EINTR) || (got == sizeof n && !isolate_is_ready(s, &n, &status)));
    return got == sizeof n ? status : COIR_ECHILD;
}

static int start(struct coir_isolator *iso)
{
    int status = COIR_OK;

    iso->template = fork();
    if (iso->template == 0)
        isolate_template(&iso->plan);
    if (iso->template < 0)
        return errno == ENOMEM ? COIR_ENOMEM : COIR_EAGAIN;
    close_theirs(iso);
    iso->plan.orders = iso->plan.memory = iso->plan.parent = -1;
    for (unsigned i = 0; i < iso->plan.options.children; i++)
        iso->plan.end[i] = -1;
    for (unsigned i = 0; i < iso->plan.options.children && status == COIR_OK; i++)
        status = await_first_child(&iso->slot[i]);
    return status;
}

/* The template ends when our end of the orders is closed; whoever else waits for children of this process may
 * have buried it before us. */
static void free_isolator(struct coir_isolator *iso)
{
    close_theirs(iso);
    close_ours(iso);
    while (iso->template > 0 && waitpid(iso->template, NULL, 0) < 0 && errno == EINTR)
        ;
    free(iso->plan.filter);
    free(iso);
}

int coir_isolator_open(const coir_isolator_options *options, coir_isolator **isolator)
{
    coir_isolator_options o;
    struct coir_isolator *iso;
    int status;

    if (!isolator)
        return COIR_EINVAL;
    *isolator = NULL;
    status = copy_options(options, &o);
    if (status != COIR_OK)
        return status;
    if (has_other_threads())
        return COIR_EBUSY;
    fill_options(&o);
    iso = allocate(&o);
    if (!iso)
        return COIR_ENOMEM;
    iso->born = life_begin();
    status = coir_semaphore_init(&iso->free_children, o.children);
    if (status == COIR_OK)
        status = filter_build(o.syscalls, &iso->plan.filter, &iso->plan.filter_count);
    if (status == COIR_OK)
        status = open_all(iso);
    if (status == COIR_OK)
        status = start(iso);
    if (status == COIR_OK)
        *isolator = iso;
    else
        free_isolator(iso);
    return status;
}

/* --------------------------------------------------------------------------------------- close */

static bool is_used(struct coir_isolator *iso)
{
    bool used;

    lock_take(&iso->lock);
    used = iso->inside > 0;
    lock_drop(&iso->lock);
    return used;
}

int coir_isolator_close(coir_isolator *iso)
{
    if (!iso)
        return COIR_EINVAL;
    if (life_forked(iso->born))
        return COIR_EFORKED;
    if (worker_here())
        return COIR_EPERM;
    if (is_used(iso))
        return COIR_EBUSY;
    free_isolator(iso);
    return COIR_OK;
}
