#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_memory_test.py - 4,500 requests that break under load leave no memory behind in coir-kv.

Resident memory before and after them, while the load goes on: what one leaves behind would show thousands of
times. Some come before, for what fills up once: the slots of the workers' queues, 200 KiB each, are touched
in turn. The load waits for its replies and keeps its connections, so that
neither a stall of the machine nor a change of clients shows as well. Needs redis-benchmark.
"""

import subprocess

from kv_kit import Error, each_io, encode, equal, main, within

BEFORE, BROKEN, CLIENTS = 6000, 4500, 50
STACK_BYTES = 64 << 10
SHALLOW = ("PANIC", "LEAK") # they use no more of a stack than was touched at the start
DEEP = ("OVERFLOW", "SEGFAULT", "ABORT", "THROW")


def poison(server, kinds, times):
    for i in range(times):
        with server.client() as client:
            client.send(encode("DEBUG", kinds[i % len(kinds)]))
            equal(isinstance(client.reply(), Error), True)
            client.is_closed()


def load(server):
    return subprocess.Popen(
        ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-t", "set", "-r", "1000",
         "-n", "1000000000", "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def grows(server, kinds):
    """Resident bytes before the requests that count and after them."""
    with load(server) as others:
        try:
            server.metrics() # the first scrape brings code and memory of its own
            poison(server, kinds, BEFORE)
            first = server.resident()
            poison(server, kinds, BROKEN)
            last = server.resident()
            equal(others.poll(), None)
            panics = sum(kinds[i % len(kinds)] != "LEAK" for n in (BEFORE, BROKEN) for i in range(n))
            equal(server.metrics()["coir_panics_total"], panics)
        finally:
            others.terminate()
    print(f"    {BROKEN} broken requests: {first >> 10} KiB resident, then {last >> 10} KiB")
    return first, last


@each_io
def memory_stays_within_two_percent(server):
    first, last = grows(server, SHALLOW)
    within(0, last, first * 1.02)


@each_io
def memory_grows_by_what_was_used_of_stacks_at_the_most(server):
    first, last = grows(server, DEEP)
    within(0, last, first * 1.02 + server.metrics()["coir_stacks"] * STACK_BYTES)
    within(0, server.metrics()["coir_stacks"], 500)


main()
