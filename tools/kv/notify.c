/* SPDX-License-Identifier: MIT */
/*
 * notify.c - what systemd is told, by its own library if that was there at build time.
 *
 * Without it, and when systemd has not started the process ($NOTIFY_SOCKET), nothing is told. A datagram
 * may have to wait for room in systemd's socket, so it is sent by a thread that may block.
 */
#include "kv.h"

#include <err.h>

#if __has_include(<systemd/sd-daemon.h>)
#include <systemd/sd-daemon.h>
#else
#define sd_notify(unset, state) (0)
#define sd_watchdog_enabled(unset, us) (0)
#endif

static void send_state(void *state)
{
    int status = sd_notify(0, state);

    if (status < 0)
        coir_fail(status, "systemd cannot be told: %s", coir_status_text(status));
}

void notify(const char *state)
{
    if (coir_offload(send_state, (void *)(uintptr_t)state) != COIR_DONE)
        warnx("systemd was not told: %s", state);
}

int64_t notify_watchdog_ns(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? (int64_t)us * COIR_US : 0;
}
