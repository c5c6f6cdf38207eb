/* SPDX-License-Identifier: MIT */
/*
 * isolate_child.h - the life of one child of an isolator. See isolate_child.c.
 */
#ifndef COIR_ISOLATE_CHILD_H
#define COIR_ISOLATE_CHILD_H

#include "isolate_wire.h"

/* In a process that the template has just forked: serves calls until it is killed. unread: for its first
 * notice. */
__attribute__((noreturn)) void isolate_child(const struct isolate_plan *p, uint32_t slot, uint32_t generation,
                                             uint32_t unread, pid_t template);

#endif
