/* SPDX-License-Identifier: MIT */
/*
 * offload.h - a bounded pool of threads for calls that block. See offload.c.
 */
#ifndef COIR_OFFLOAD_H
#define COIR_OFFLOAD_H

#include "wait.h"

int offload_open(struct coir_runtime *rt); /* starts no thread yet; COIR_OK, COIR_ENOMEM */
void offload_close(struct coir_runtime *rt);

#endif
