/* SPDX-License-Identifier: MIT */
/*
 * matrix.h - what a row of the propagation matrix (matrix_table.h) is written with.
 *
 * A row is a function. It lets something break in the runtime it is given, or in one of its own, and
 * notes what others saw; the notes are compared with the row's cells as text. All that it started
 * has ended when it returns; what is left over then in the runtime is a failure of the row.
 */
#ifndef COIR_TEST_MATRIX_H
#define COIR_TEST_MATRIX_H

#include "run.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CELL_BYTES 128

/* One run of a row. */
struct scene {
    coir_runtime *rt;  /* for the row to use; NULL in a row that dies */
    unsigned workers;  /* of it: 1 the first time, then 2 */
    uint64_t kept;     /* cursor of coir_failure_next: what this run has made the runtime keep */
    char waiter[CELL_BYTES], peer[CELL_BYTES]; /* the notes */
};

/* ------------------------------------------------------------------------------------ notes */

/* The waiter of the broken job's counter saw this. failure is not looked at for COIR_DONE. */
void waiter_saw(struct scene *s, int outcome, const coir_failure *failure);

/* Waits for the counter on this thread, and notes outcome, kind and location. */
void waiter_waits(struct scene *s, coir_counter *counter);

/* Runs fn(arg) as a job of the scene's runtime, and waits for it so. */
void waiter_runs(struct scene *s, coir_fn *fn, void *arg);

/* Others saw this; in order, separated by commas. */
__attribute__((format(printf, 2, 3))) void peer_saw(struct scene *s, const char *format, ...);

/* A status, and what a wait returned, as the cells spell it: without COIR_. 0 is OK, and DONE. */
const char *short_name(int status);
const char *outcome_name(int outcome);

/* ------------------------------------------------------------------------------ runtimes, jobs */

/* Opens a runtime whose allocations are counted, to be closed by one of those below. */
coir_runtime *scene_open(const coir_options *options);

/* Waits until all that the runtime has accepted has ended. Then no fiber may have a job, nor this thread
 * a lock, and every stack must be a worker's loop or idle. */
void scene_at_rest(coir_runtime *rt);

/* Waits until it is at rest, closes it, and checks that nothing is left over. */
void scene_close(coir_runtime *rt);

/* The same check for a row that has closed it by itself. */
void scene_closed(coir_runtime *rt, const coir_receipt *receipt);

/* Waits, on a plain thread, until n fibers are parked. */
void scene_until_parked(coir_runtime *rt, uint64_t n);

/* The record that this run of the row has made the runtime keep first, or next. */
coir_failure scene_kept(struct scene *s);

/* In a child: runs fn as a job of a runtime with one worker. It returns if the process survives it. */
void die_in_job(const coir_options *options, coir_fn *fn);

/* The isolator of the rows that need one: to be opened while the process has one thread. */
void isolated_open(void);
void isolated_close(void);

/* --------------------------------------------------------------------------------------- rows */

#define GROUP(title)
#define ROW(run, where, what, waiter, peer, process) void run(struct scene *s);
#include "matrix_table.h"
#undef ROW
#undef GROUP

#ifdef __cplusplus
}
#endif

#endif
