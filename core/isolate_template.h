/* SPDX-License-Identifier: MIT */
/*
 * isolate_template.h - the process that an isolator's children are forked from. See isolate_template.c.
 */
#ifndef COIR_ISOLATE_TEMPLATE_H
#define COIR_ISOLATE_TEMPLATE_H

#include "isolate_wire.h"

/* In a process that was forked for this: lives until its parent has ended, or closes its end of p->orders. */
__attribute__((noreturn)) void isolate_template(struct isolate_plan *p);

#endif
