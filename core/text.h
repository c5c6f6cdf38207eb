/* SPDX-License-Identifier: MIT */
/*
 * text.h - whose machine code an address lies in: the runtime's, containable, or another's. See text.c.
 */
#ifndef COIR_TEXT_H
#define COIR_TEXT_H

#include "base.h"

/* Whether the address is code of this library. Async-signal-safe. */
bool text_is_ours(uintptr_t pc);

/* Whether a job that is stopped there may be ended there: registered, and not ours. Takes no lock. */
bool text_is_containable(uintptr_t pc);

/* Whether the address lies in an object of the process. Takes no lock. */
bool text_is_known(uintptr_t pc);

/* Writes "function", "object+0xoffset" or an address; cut to fit. Takes no lock and allocates nothing,
 * so the thread may be anywhere: inside malloc, inside the dynamic linker. */
void text_name(uintptr_t pc, char *name, size_t bytes);

#endif
