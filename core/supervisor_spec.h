/* SPDX-License-Identifier: MIT */
/*
 * supervisor_spec.h - options of supervisors and specs of children: checked, and filled in.
 */
#ifndef COIR_SUPERVISOR_SPEC_H
#define COIR_SUPERVISOR_SPEC_H

#include "base.h"

/* Copies, checks and fills in options, and checks all that they lead to: COIR_OK, COIR_EINVAL, COIR_ERANGE. */
int spec_copy_supervisor(const coir_supervisor_options *given, coir_supervisor_options *o);

/* The same for one child of a supervisor with this strategy. */
int spec_copy_child(const coir_child_spec *given, int strategy, coir_child_spec *spec);

/* The i-th child of options that have been checked, as the caller gave it. */
const coir_child_spec *spec_child(const coir_supervisor_options *o, size_t i);

#endif
