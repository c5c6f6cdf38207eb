/* SPDX-License-Identifier: MIT */
/*
 * local.c - thread-local variables. To the compiler all threads are one, so the block that holds its
 * thread-local variables is exchanged when another thread goes on. The address of such a variable is the
 * same for all of them: no scenario may use one as an identity.
 */
#include "machine.h"

#include <link.h>
#include <string.h>

#define LOCAL_BYTES 256

struct local local;

static const char *image; /* what it begins with; the rest is zero */
static size_t image_bytes;
static char saved[THREADS][LOCAL_BYTES];

/* The program itself comes first. */
static int look_up(struct dl_phdr_info *program, size_t unused, void *arg)
{
    (void)unused;
    (void)arg;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &program->dlpi_phdr[i];

        if (h->p_type != PT_TLS)
            continue;
        local.block = program->dlpi_tls_data;
        local.bytes = h->p_memsz;
        image = (const char *)(program->dlpi_addr + h->p_vaddr);
        image_bytes = h->p_filesz;
    }
    return 1;
}

void local_begin(void)
{
    dl_iterate_phdr(look_up, NULL);
    if (local.bytes > LOCAL_BYTES)
        schedule_fail("the program has more than %d bytes of thread-local variables", LOCAL_BYTES);
}

void local_reset(void)
{
    for (int i = 0; local.bytes && i < THREADS; i++) {
        memcpy(saved[i], image, image_bytes);
        memset(saved[i] + image_bytes, 0, local.bytes - image_bytes);
    }
    if (local.bytes)
        memcpy(local.block, saved[0], local.bytes);
}

void local_exchange(int from, int to)
{
    if (!local.bytes)
        return;
    memcpy(saved[from], local.block, local.bytes);
    memcpy(local.block, saved[to], local.bytes);
}
