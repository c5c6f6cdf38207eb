/* SPDX-License-Identifier: MIT */
/*
 * faulty_work.h - a little of everything that asks the world for something.
 */
#ifndef COIR_FAULTY_WORK_H
#define COIR_FAULTY_WORK_H

#include "coir.h"

#include <stdbool.h>

/* Opens a runtime, works in it, finds it usable, if what fails does so once, and closes it. Each status must be good,
 * or a known one after a call has failed. */
void faulty_work(const coir_options *options, bool once);

#endif
