/* SPDX-License-Identifier: MIT */
/*
 * system.h - included before every instrumented file: the system calls and the pause of spin loops
 * become the machine's. The headers that declare them come first, so only uses are renamed.
 */
#ifndef EXPLORE_SYSTEM_H
#define EXPLORE_SYSTEM_H

#include <sched.h>
#include <unistd.h>

#include "arch.h"
#include "operations.h"

#define syscall explore_syscall
#define sched_yield explore_spin
#define arch_relax explore_spin

#endif
