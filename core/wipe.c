/* SPDX-License-Identifier: MIT */
/*
 * wipe.c - what the jobs of one domain leave on a stack is gone before jobs of another run there.
 *
 * A loop calls one job after the other (worker.c), so their frames lie in the same place, and each could read there
 * what those before it have left. Who calls a job compares its domain with the stack's tenant, the domain whose
 * jobs were the last there; if they differ, all that lies below the caller is wiped first.
 *
 * How deep the last tenant went only the kernel knows, from the pages that were touched. So what is deep is given
 * back to it, touched or not, by one system call; what is near is written over, since its pages will be
 * wanted again at once.
 *
 * Dropped: to look for the deepest byte that is not zero. A frame may leave any part of a buffer as it was, so
 * nothing ends the search but the end of the stack, and to read all of it takes longer than the call. So does
 * mincore, which calls a page absent that has been swapped out. To write over all of it takes as long, and each
 * stack would be resident as a whole.
 *
 * Where little is left, what is deep is written over as well, to the byte: in whole pages more of it would count as
 * near, and what is near is cleared with the stack pointer below it (x86_64/wipe.asm), where a profiler's handler may
 * need the room that any job has there.
 *
 * Invariants
 *   W1  While a job runs on a fiber, the fiber's tenant is the domain of the innermost one.
 *   W2  Below the frames in use a stack holds bytes of its tenant and of the runtime's own calls, nobody else's.
 */
#include "wipe.h"

#include <string.h>

#define NEAR_BYTES ((uintptr_t)8 << 10) /* what most jobs use, and a part of a small stack */
#define NEAR_PART 4
#define FEW_PAGES 2

char *wipe_deep(struct stacks *s, char *low, uint64_t *tenant, uint64_t next)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), left = here - (uintptr_t)low;
    uintptr_t near = left / NEAR_PART < NEAR_BYTES ? left / NEAR_PART : NEAR_BYTES;
    uintptr_t deep = left - near;
    bool few = deep >= s->page && deep < FEW_PAGES * s->page, is_new = *tenant == TENANT_NONE;
    char *from = low + (deep & ~(few ? (uintptr_t)15 : s->page - 1));

    *tenant = next;
    if (is_new)
        return NULL;
    if (few)
        memset(low, 0, (size_t)(from - low));
    else
        stacks_empty(s, low, (size_t)(from - low));
    return from;
}
