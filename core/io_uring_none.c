/* SPDX-License-Identifier: MIT */
/*
 * io_uring_none.c - stands in for io_uring.c in a build without liburing.
 */
#include "io.h"

void io_uring_forget_all(void)
{
}

static int refuse(struct coir_runtime *rt)
{
    host_log(&rt->host, COIR_LOG_INFO, "built without io_uring");
    return COIR_ENOSYS;
}

bool io_uring_end_all(int fd)
{
    (void)fd;
    return true;
}

const struct io_backend io_uring_backend = {.kind = COIR_IO_URING, .open = refuse};
