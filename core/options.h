/* SPDX-License-Identifier: MIT */
/*
 * options.h - reading, checking and completing a caller's options. See options.c.
 */
#ifndef COIR_OPTIONS_H
#define COIR_OPTIONS_H

#include "mem.h"

/* Any sized struct: takes what the caller's of `size` bytes has of our `bytes`; given NULL: all zero. COIR_EINVAL: it
 * has no size, or asks for something this library does not know. */
int options_copy_sized(const void *given, size_t size, void *ours, size_t bytes);

/* Takes as much of the caller's struct as it has; NULL: all defaults. COIR_OK, COIR_EINVAL. */
int options_copy(const coir_options *given, coir_options *o);

/* The same for the table of metrics. */
int options_copy_metrics(const coir_metrics *given, coir_metrics *m);
int options_copy_lab(const coir_lab *given, coir_lab *l);

/* COIR_OK, or COIR_ERANGE with the option's name in the log. */
int options_check(const struct host *host, const coir_options *o);

/* Replaces each zero by its default. */
void options_fill(coir_options *o);

#endif
