/* SPDX-License-Identifier: MIT */
/*
 * dump.h - what every fiber does, for crash reports. See dump.c.
 */
#ifndef COIR_DUMP_H
#define COIR_DUMP_H

#include "job.h"

/* Every open runtime. Async-signal-safe; never waits for a lock. */
void dump_all(int fd);

#endif
