/* SPDX-License-Identifier: MIT */
/*
 * faulty_io_uring_none.c - without liburing nothing of it can fail.
 */
#include "faulty_wrap.h"
