/* SPDX-License-Identifier: MIT */
/*
 * faulty_wrap.h - what stands in front of a call of faulty.h.
 */
#ifndef COIR_FAULTY_WRAP_H
#define COIR_FAULTY_WRAP_H

#include "faulty.h"

#include <stdbool.h>

/* Whether this use of a call fails; then errno says why. */
bool faulty_fails(enum faulty_call call);

/* Defines what the library calls in the place of a call: `otherwise` if it fails. */
#define WRAP(type, name, parameters, arguments, otherwise)                                         \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return faulty_fails(FAULTY_##name) ? (otherwise) : name arguments;                       \
    }

#endif
