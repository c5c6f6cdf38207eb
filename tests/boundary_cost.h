/* SPDX-License-Identifier: MIT */
/*
 * boundary_cost.h - what only C++ can do for boundary_cost_program.c: the ruler of a panic.
 */
#ifndef COIR_BOUNDARY_COST_H
#define COIR_BOUNDARY_COST_H

#ifdef __cplusplus
extern "C" {
#endif

void cost_throw(void);                            /* throws an int */
void cost_catch(void (*fn)(void *arg), void *arg); /* calls it and catches one */

#ifdef __cplusplus
}
#endif
#endif
