/* SPDX-License-Identifier: MIT */
/*
 * filter.h - which system calls a process may make, as a program for the kernel; seccomp.c, or
 * seccomp_none.c where coir is built without libseccomp.
 */
#ifndef COIR_FILTER_H
#define COIR_FILTER_H

#include "base.h"

struct sock_filter;

/* Makes the program; none for COIR_SYSCALLS_ALL. *program is to be freed. COIR_OK, COIR_ENOSYS, COIR_ENOMEM. */
int filter_build(enum coir_syscalls allowed, struct sock_filter **program, size_t *count);

#endif
