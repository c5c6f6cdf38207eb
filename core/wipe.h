/* SPDX-License-Identifier: MIT */
/*
 * wipe.h - what the jobs of one domain leave on a stack is gone before jobs of another run there. See wipe.c.
 */
#ifndef COIR_WIPE_H
#define COIR_WIPE_H

#include "stack.h"

/* Whose jobs' bytes a stack may hold below the frames that are in use: its tenant. */
#define TENANT_NONE UINT64_C(0)    /* nobody's: it is new */
#define TENANT_OUTSIDE UINT64_C(1) /* those outside every domain */
#define TENANT_DOMAIN UINT64_C(2)  /* the first domain's; each of the process has a number of its own */
#define TENANT_UNKNOWN UINT64_MAX  /* somebody's, maybe another runtime's */

/* The first half of wipe_for. Returns from where on the caller must clear its stack; NULL: it need not. */
char *wipe_deep(struct stacks *s, char *low, uint64_t *tenant, uint64_t next);

/* Before code of `next`, which is not the tenant, runs below the caller's frame, on the stack that begins at `low`.
 * Inlined: a frame of its own would lie in what is to be cleared. */
static ALWAYS_INLINE void wipe_for(struct stacks *s, char *low, uint64_t *tenant, uint64_t next)
{
    char *from = wipe_deep(s, low, tenant, next);

    if (from)
        arch_wipe(from);
}

#endif
