/* SPDX-License-Identifier: MIT */
/*
 * runtime.h - opening a runtime for a row above. See runtime.c.
 */
#ifndef COIR_RUNTIME_H
#define COIR_RUNTIME_H

#include "find.h"

/* As coir_open; lab: decides what its worker does next, and outlives it; NULL: nobody does. */
int runtime_open(const coir_options *options, const struct lab_ops *lab, coir_runtime **runtime);

#endif
