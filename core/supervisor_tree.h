/* SPDX-License-Identifier: MIT */
/*
 * supervisor_tree.h - words for what a tree of supervisors shows. See supervisor_tree.c.
 */
#ifndef COIR_SUPERVISOR_TREE_H
#define COIR_SUPERVISOR_TREE_H

extern const char *const child_state_name[]; /* enum coir_child_state */
extern const char *const strategy_name[];    /* enum coir_strategy */
extern const char *const restart_name[];     /* enum coir_restart */

#endif
