#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_attack_test.py - coir-kv under clients that mean harm: the others are served, and nothing is left.

    tests/kv_attack_test.py [--server PATH] [CASE...]

An attack runs in a process of its own, at the lowest priority once it has begun: what is measured is what it does to the server,
not what it takes of this machine's processors. Its sockets are its own, so whatever leaves the server's
figures before that process has ended was closed by the server.
"""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import statistics
import time

import kv_kit
from kv_kit import Error, PATIENCE, Server, at_most, best, case, encode, equal, main, until, within

TRIES = 4         # of a case: what else runs may have begun between the two that are compared
ROUNDS = 3        # medians; the least counts, since what else runs on the machine makes them greater only
NOISE = 50e-6     # seconds that a median may be longer for no reason
REQUEST_MS = 300
KIB, MIB = 1 << 10, 1 << 20
SLACK = 8 * MIB   # of resident memory: what any load touches first, and what the heap keeps

DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
CROWD = min(10000, DESCRIPTORS - 100)


def each_io(*options):
    """A case for each way to wait for sockets, with a quiet client whose requests are measured."""
    def decorate(function):
        for io in ("uring", "epoll"):
            def run(io=io):
                with Server("--io", io, "--workers", "2", "--request-ms", str(REQUEST_MS),
                            *options) as server, server.client() as quiet:
                    function(server, quiet)
                    leaves_nothing(server, quiet)

            def run_again(run=run):
                for tries in range(TRIES):
                    try:
                        return run()
                    except Slower as slower:
                        print(f"    {slower}")
                        if tries == TRIES - 1:
                            raise
            run_again.__name__ = f"{function.__name__} ({io})"
            case(run_again)
        return function
    return decorate


# ------------------------------------------------------------------------------- what is looked at

def p50(ask, requests):
    def median():
        waits = []
        for _ in range(requests):
            start = time.monotonic()
            ask()
            waits.append(time.monotonic() - start)
        return statistics.median(waits)

    return min(median() for _ in range(ROUNDS))


class Slower(AssertionError):
    """A request takes longer than before."""


class Calm:
    """How long a request took and what memory was resident before; later both are within bounds of that."""

    def __init__(self, server, ask, requests=500):
        self.ask, self.requests = ask, requests
        self.process = f"/proc/{server.process.pid}"
        p50(ask, requests)  # the first ones are slow
        self.before = p50(ask, requests)
        with open(f"{self.process}/clear_refs", "w") as peak:
            peak.write("5")
        self.peak_before = self.peak()

    def peak(self):
        with open(f"{self.process}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) * KIB

    def holds(self, when, memory):
        now, grown = p50(self.ask, self.requests), self.peak() - self.peak_before
        print(f"    {when}: p50 {now * 1e6:.0f} us, was {self.before * 1e6:.0f}; at most {grown / MIB:.1f} MiB more")
        if not kv_kit.SANITIZED:
            at_most(memory + SLACK, grown)
        if now > 2 * self.before + NOISE:
            raise Slower(f"p50 {when} is more than twice what it was before")


def ping(client):
    return lambda: equal(client("PING"), "PONG")


def late(server):
    return server.metrics()["coir_kv_deadlines_exceeded_total"]


def leaves_nothing(server, quiet):
    until(lambda: server.connections() == 1, "all connections but one are gone")
    until(lambda: server.metrics()['coir_domain_in_flight{domain="metrics"}'] == 1, "and all exchanges")
    equal([n for n, v in server.metrics().items() if "obligations_leaked" in n and v], [])
    equal(quiet("PING"), "PONG")
    equal(server.http("/readyz"), (200, "ok\n"))


# ------------------------------------------------------------------------------------- the attacks

@contextlib.contextmanager
def attack(function, *arguments):
    """Runs it elsewhere until the block ends, which begins when it says that it is at it. Yields a function
    that waits until it has said so many times more."""
    told, tell = os.pipe()

    def say():
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        os.write(tell, b".")

    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            function(say, *arguments)
        os._exit(1)
    os.close(tell)

    def says(times):
        while times > 0:
            equal(select.select([told], [], [], PATIENCE)[0], [told])
            got = len(os.read(told, times))
            within(1, got, times)  # 0: it has died
            times -= got
    try:
        says(1)
        yield says
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def drip(say, port, count, opening):
    """Each connection sends its opening, and then a byte now and then for as long as it may: then it says so."""
    sockets = [connect(port) for _ in range(count)]
    for s in sockets:
        with contextlib.suppress(OSError):
            s.send(opening)
    say()
    while True:
        for s in list(sockets):
            try:
                s.send(b"x")
            except OSError:
                sockets.remove(s)
                say()
        select.select([], [], [], 0.05)


def stay(say, port, crowds):
    """Each sends its data, and then nothing."""
    sockets = [(connect(port), data) for count, data in crowds for _ in range(count)]
    say()
    for s, data in sockets:
        with contextlib.suppress(OSError):
            s.sendall(data)
    signal.pause()


def flood(say, port, data):
    """Sends for as long as it may and reads nothing, and does it again. Says when it begins."""
    while True:
        with connect(port) as s, contextlib.suppress(OSError):
            s.sendall(data[:1000])
            say()
            while True:
                s.sendall(data)


def ask_again(say, ports, data, replies):
    """Sends to each, reads the replies, of so many bytes together, and does it again."""
    while True:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(connect(port)) for port in ports]
            for s in sockets:
                s.sendall(data)
            say()
            while True:
                for s in sockets:
                    left = replies
                    while left > 0:
                        got = len(s.recv(left))
                        if got == 0:
                            raise OSError
                        left -= got
                    s.sendall(data)


# --------------------------------------------------------------------------------------- slowloris

@each_io()
def clients_that_send_a_byte_now_and_then_are_ended_by_their_deadline(server, quiet):
    calm = Calm(server, ping(quiet))
    with attack(drip, server.port, 400, b"*2\r\n$3\r\nGET\r\n$1000\r\n") as says:
        calm.holds("400 slow clients", 400 * 64 * KIB)
        says(400)
        until(lambda: server.connections() == 1, "all of them are gone")
        equal(late(server), 400)
    calm.holds("afterwards", 400 * 64 * KIB)


@each_io()
def slow_scrapers_keep_no_probe_waiting_and_no_client(server, quiet):
    """Those that are not ended to make room are when their two seconds have passed."""
    def probe():
        equal(server.http("/healthz"), (200, "ok\n"))

    clients, probes = Calm(server, ping(quiet)), Calm(server, probe, 50)
    start = time.monotonic()
    with attack(drip, server.metrics_port, 300, b"GET /metrics HTTP/1.1\r\n") as says:
        clients.holds("300 slow scrapers, clients", 16 * 64 * KIB)
        first = time.monotonic()
        probe()  # if it waited for all of them, the next ones would not: no median shows it
        within(0, time.monotonic() - first, 10)
        probes.holds("probes", 16 * 64 * KIB)
        says(300)
    within(1.5, time.monotonic() - start, PATIENCE)
    clients.holds("afterwards", 16 * 64 * KIB)


# -------------------------------------------------------------------------------- idle connections

@each_io("--max-clients", str(CROWD))
def ten_thousand_that_never_send_cost_memory_only(server, quiet):
    calm = Calm(server, ping(quiet))
    with attack(stay, server.port, [(CROWD - 1, b"")]):
        until(lambda: server.connections() == CROWD, "all are in")
        calm.holds(f"{CROWD} connections", CROWD * 16 * KIB)
        with server.client() as one_more:
            equal(one_more.reply(), Error("ERR max number of clients reached"))
            one_more.is_closed()
    until(lambda: server.connections() == 1, "they are gone")
    calm.holds("afterwards", CROWD * 16 * KIB)


# ------------------------------------------------------------------------------------ too much data

@each_io()
def pipelines_whose_replies_nobody_reads_are_ended(server, quiet):
    quiet("SET", "big", b"x" * (100 * KIB))
    calm = Calm(server, ping(quiet), 3000)
    for name, data in (("PING", b"PING\r\n" * 100000), ("GET", encode("GET", "big") * 30000)):
        with attack(flood, server.port, data) as says:
            calm.holds(f"megabytes of {name}", 2 * MIB)
            says(1)
    calm.holds("afterwards", 2 * MIB)
    within(2, late(server), 100)


@each_io()
def pipelines_of_what_takes_long_keep_nobody_waiting(server, quiet):
    """FLUSHALL has no more to do for the many keys that there were once."""
    keys, flush = [b"k:%d" % i for i in range(200000)], b"FLUSHALL\r\n"
    for first in range(0, len(keys), 1000):
        equal(quiet("MSET", *[word for key in keys[first:first + 1000] for word in (key, "1")]), "OK")
    equal(quiet("FLUSHALL"), "OK")

    def hundred():
        took = 0
        for _ in range(100):
            select.select([], [], [], 0.002)  # in which the others go on: without, most come between two stalls
            start = time.monotonic()
            equal(quiet("PING"), "PONG")
            took += time.monotonic() - start
        return took

    for data, replies in ((flush * 1000, 5 * 1000), (encode("DEL", *keys[:1000]) * 100, 4 * 100)):
        with attack(ask_again, [server.port] * 2, data, replies):
            within(0, best(hundred, 100 * 0.01, tries=3), 100 * 0.01)


BOMBS = [  # connections, what each sends, and what memory that may take
    (200, b"*2\r\n$3\r\nGET\r\n$8000000\r\nx", 64 * KIB),
    (200, b"*65536\r\n$1\r\nx\r\n", 64 * KIB),
    (20, b"*65536\r\n" + b"$0\r\n\r\n" * 65535, 2 * MIB),
    (50, b"x" * (64 * KIB), 256 * KIB),
    (4, encode("MSET", "a", b"x" * (8 * MIB), "b", b"x" * (8 * MIB - 100))[:-1], 17 * MIB),
]


@each_io()
def memory_bombs_take_what_they_have_sent_until_their_deadline(server, quiet):
    memory = sum(count * bytes_each for count, _, bytes_each in BOMBS)
    calm = Calm(server, ping(quiet), 3000)
    with attack(stay, server.port, [bomb[:2] for bomb in BOMBS]):
        calm.holds("bombs", memory)
        until(lambda: server.connections() == 1, "all of them are gone")
        equal(late(server), sum(bomb[0] for bomb in BOMBS))
    calm.holds("afterwards", memory)


@each_io()
def what_is_announced_or_sent_beyond_a_limit_ends_at_once(server, quiet):
    for data, error in ((b"*65537\r\n", "invalid multibulk length"),
                        (b"*1\r\n$8388609\r\n", "invalid bulk length"),
                        (b"x" * (64 * KIB + 1), "too big inline request")):
        with server.client() as c:
            c.send(data)
            equal(c.reply(), Error(f"ERR Protocol error: {error}"))
            c.is_closed()
    equal(late(server), 0)


# ------------------------------------------------------------------------------------- its sockets

def sockets(server, port):
    """Those of this port: (address, state, timer) as /proc/net/tcp has them."""
    found = []
    for family in ("tcp", "tcp6"):
        with open(f"/proc/{server.process.pid}/net/{family}") as table:
            rows = [line.split() for line in table][1:]
        found += [(row[1].split(":")[0], row[3], row[5].split(":")[0]) for row in rows
                  if int(row[1].split(":")[1], 16) == port]
    return found


@case
def it_listens_on_loopback_only():
    with Server() as server:
        for port in (server.port, server.metrics_port):
            equal([address for address, state, _ in sockets(server, port) if state == "0A"], ["0100007F"])
            with contextlib.closing(socket.socket()) as s:
                equal(s.connect_ex(("127.0.0.2", port)) != 0, True)


@case
def a_client_that_has_vanished_is_found_out():
    """The kernel asks a silent peer for a sign of life: timer 02 of its socket."""
    with Server() as server, server.client() as quiet:
        equal(quiet("PING"), "PONG")
        until(lambda: ("0100007F", "01", "02") in sockets(server, server.port), "it has that timer")


main()
