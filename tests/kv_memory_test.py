#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_memory_test.py - 4,500 panics under load leave no memory behind in coir-kv.

Resident memory when a tenth of them has happened, and at the end, while the load goes on: what a panic
leaves behind would show 4,050 times. The load waits for its replies and keeps its connections, so that
neither a stall of the machine nor a change of clients shows as well. Needs redis-benchmark.
"""

import subprocess

from kv_kit import Error, Server, case, encode, equal, main, within

PANICS, CLIENTS = 4500, 50


def poison(server, times):
    for _ in range(times):
        with server.client() as client:
            client.send(encode("DEBUG", "PANIC"))
            equal(isinstance(client.reply(), Error), True)
            client.is_closed()


def load(server):
    return subprocess.Popen(
        ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-t", "set", "-r", "1000",
         "-n", "1000000000", "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stays_within_two_percent(io):
    with Server("--io", io, "--workers", "2") as server, load(server) as others:
        try:
            server.metrics() # the first scrape brings code and memory of its own
            poison(server, PANICS // 10)
            first = server.resident()
            poison(server, PANICS - PANICS // 10)
            last = server.resident()
            equal(others.poll(), None)
            equal(server.metrics()["coir_panics_total"], PANICS)
        finally:
            others.terminate()
    print(f"    {PANICS} panics over {io}: {first >> 10} KiB resident, then {last >> 10} KiB")
    within(0, last, first * 1.02)


@case
def memory_stays_over_io_uring():
    stays_within_two_percent("uring")


@case
def memory_stays_over_epoll():
    stays_within_two_percent("epoll")


main()
