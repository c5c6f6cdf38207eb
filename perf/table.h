/* SPDX-License-Identifier: MIT */
/*
 * table.h - medians, ratios and verdicts as one aligned table. See table.c.
 */
#ifndef COIR_TABLE_H
#define COIR_TABLE_H

#include "bench.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TABLE_RUNS 31

/* The repetitions of one row. */
struct table_result {
    double run[TABLE_RUNS], ruler[TABLE_RUNS]; /* ruler: of BENCH_IN_TURN */
    size_t count;
    char error[96]; /* why there are none; empty: there are some */
};

void table_begin(unsigned repetitions);
void table_suite(const struct bench_suite *suite, struct table_result *result); /* sorts them */
void table_end(void);

#ifdef __cplusplus
}
#endif

#endif
