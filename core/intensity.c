/* SPDX-License-Identifier: MIT */
/*
 * intensity.c - how often, and how soon, something that failed may be started again.
 *
 * Owns: the arithmetic alone. The time is passed in, and who restarts what is for rows above.
 *
 * The intensity is computed as Erlang/OTP's supervisor does it: time is cut to whole seconds of the clock,
 * each restart is noted with its second, those noted before (this second - seconds) are forgotten, one at
 * exactly that distance counts still, and more than max of them is one too many. So a restart counts for
 * `seconds` and up to one second more, depending on where in a second the two lie. OTP keeps a list
 * of all in the window; the max-th before this one is enough to know, since time does not go back.
 * tests/otp_test.py compares the two, OTP's own supervisor on a clock that the test sets.
 */
#include "intensity.h"

bool intensity_allows(struct intensity *w, int64_t now)
{
    int64_t second = now / COIR_SEC;
    int64_t *oldest;

    if (!w->max)
        return false;
    oldest = &w->second[w->made % w->max];
    if (w->made >= w->max && *oldest >= second - (int64_t)w->seconds)
        return false;
    *oldest = second;
    w->made++;
    return true;
}

uint32_t intensity_left(const struct intensity *w, int64_t now)
{
    int64_t first = now / COIR_SEC - (int64_t)w->seconds;
    uint32_t within = 0;

    while (within < w->max && within < w->made && w->second[(w->made - 1 - within) % w->max] >= first)
        within++;
    return w->max - within;
}

int64_t backoff_delay(const struct backoff *b, unsigned tries, uint64_t random)
{
    int64_t delay = b->first_ns, span;

    while (tries-- && delay < b->most_ns)
        delay = delay > b->most_ns / 2 ? b->most_ns : delay * 2;
    span = delay / 100 * b->jitter;
    return delay - (int64_t)(random % ((uint64_t)span + 1));
}
