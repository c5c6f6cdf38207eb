/* SPDX-License-Identifier: MIT */
/*
 * report.h - what the user sees: progress lines, the table at the end, the JSON file.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "load.h"

/*
 * Prints a progress line on standard error, unless options.quiet: on a terminal over the last one,
 * otherwise every fifth time.
 *
 *   answered   requests that had been answered a second ago
 *   second     seconds since the first request
 */
void report_progress(const struct load_options *options, const struct load_tally *tally,
                     uint64_t answered, int64_t second);

/* Wipes the progress line from a terminal. */
void report_progress_end(const struct load_options *options);

/* Prints the table on standard output. */
void report_table(const struct load_options *options, const struct load_result *result);

/* Writes the JSON file. Returns false when it could not be written. */
bool report_json(FILE *out, const struct load_options *options, const struct load_result *result);

#endif
