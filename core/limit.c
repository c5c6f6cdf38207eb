/* SPDX-License-Identifier: MIT */
/*
 * limit.c - counts lines to a log by the place of the failure.
 *
 * Places are kept in a small table by hash; two places that share a slot share its budget, which
 * can only make the log shorter. What was held back is said with the next line of that place.
 *
 * Why no atomics, though workers panic side by side: a panic takes the lock of its runtime's records
 * anyway, and read-modify-writes of its own, of which the processor lets none pass the stores of the
 * record before it, were a tenth of a panic of one frame.
 */
#include "limit.h"

bool limit_allows(struct limit *l, const coir_failure *f, unsigned *untold)
{
    uintptr_t hash = ((uintptr_t)f->file >> 3) * 31 + (uintptr_t)f->line;
    struct limit_place *p = &l->place[hash % LIMIT_PLACES];
    int64_t second = f->time / COIR_SEC;

    *untold = p->untold;
    if (p->second < second) /* a late one, of a second before, counts as of this */
        *p = (struct limit_place){.second = second};
    if (p->lines == LIMIT_LINES) {
        p->untold++;
        return false;
    }
    p->lines++;
    p->untold = 0;
    return true;
}
