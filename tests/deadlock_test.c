/* SPDX-License-Identifier: MIT */
#include "run.h"
static void nothing(void) {}
CHECK_MAIN(CASE(nothing))
