/* SPDX-License-Identifier: MIT */
/*
 * foreign.h - exceptions of other languages that reach a boundary: what they are, how they end.
 */
#ifndef COIR_FOREIGN_H
#define COIR_FOREIGN_H

#include <unwind.h>

#include "base.h"

/* Says what it is. It may still be on its way. */
void foreign_name(const struct _Unwind_Exception *e, char *message, size_t bytes);

/* Ends the exception as its language wants it. */
void foreign_end(struct _Unwind_Exception *e);

/* Takes the object in [at, at + bytes) off the list of what C++ handles, where it is the last; *caught is that list's
 * head. Whether it was there. To end its catch then does nothing. */
bool foreign_take_caught(void **caught, const void *at, size_t bytes);

/* Whether only the language itself may end it. */
bool foreign_is_untouchable(uint64_t class);

#endif
