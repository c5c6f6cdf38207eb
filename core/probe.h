/* SPDX-License-Identifier: MIT */
/*
 * probe.h - asks a worker where it is, in the middle of whatever it does. See probe.c.
 */
#ifndef COIR_PROBE_H
#define COIR_PROBE_H

#include "peek.h"

#define PROBE_FRAMES 32
#define PROBE_NAME_BYTES 48

/* One worker's answer. */
struct probe {
    _Atomic uint32_t state; /* enum probe_state; a futex */
    struct progress at;     /* where the worker was when it answered */
    coir_fn *fn;            /* of its innermost job; NULL: it ran none */
    uint64_t job;
    int64_t stall_ns;       /* how long it may go on without suspending */
    char name[PROBE_NAME_BYTES]; /* cut to fit; "": none */
    unsigned frames;
    uintptr_t pc[PROBE_FRAMES]; /* innermost first; the others are return addresses */
};

/* Installs the handler for this signal with the first runtime that asks. COIR_OK, or -errno. */
int probe_open(int signal);
void probe_forget_all(void); /* as runtime_forget_all */
bool probe_uses(int signal); /* some runtime does */
void probe_close(int signal); /* with the last, the previous handler comes back */

/* Each worker of such a runtime, at its start: lets the signal through. */
void probe_thread_open(int signal);

/* Fills w->probe; false: the worker did not answer in time, as in a call of the kernel that no signal
 * interrupts. One thread asks at a time. */
bool probe_ask(struct worker *w, int signal, int64_t deadline);

#endif
