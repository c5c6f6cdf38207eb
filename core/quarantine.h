/* SPDX-License-Identifier: MIT */
/*
 * quarantine.h - inputs that break their jobs, remembered across crashes. See quarantine.c; the other
 * calls are public (coir.h).
 */
#ifndef COIR_QUARANTINE_H
#define COIR_QUARANTINE_H

#include "mem.h"

enum admission {
    ADMIT_PASS,    /* nothing is known against it */
    ADMIT_PROBE,   /* quarantined, but it may be tried once */
    ADMIT_REFUSED  /* quarantined */
};

/* An attempt at this input begins; now: wall clock. Unless refused, quarantine_settle must follow. */
enum admission quarantine_admit(coir_quarantine *q, uint64_t type, uint64_t key, int64_t now);

/* It has ended; how: an outcome. failure: NULL if DONE. Returns whether the input is quarantined now. */
bool quarantine_settle(coir_quarantine *q, uint64_t type, uint64_t key, enum admission how_admitted,
                       int outcome, const coir_failure *failure, int64_t now);

/* A pool uses it, or no more. */
void quarantine_use(coir_quarantine *q, int by);

/* CLOCK_REALTIME: what is kept must mean something after a reboot. In an experiment (lab.c) its clock. */
int64_t quarantine_now(void);

/* What coir_quarantine_open does, for those who have no runtime. The host is copied. */
int quarantine_open(const struct host *host, const coir_quarantine_options *given, coir_quarantine **q);

#endif
