/* SPDX-License-Identifier: MIT */
/*
 * receipt.h - what a close could not end, by name, and telling those who wait for it. See receipt.c.
 */
#ifndef COIR_RECEIPT_H
#define COIR_RECEIPT_H

#include "state.h"

/* Fills left, left_count, owed and told. All jobs have been canceled and had their time. */
void receipt_name_left(struct coir_runtime *rt, coir_receipt *receipt);

#endif
