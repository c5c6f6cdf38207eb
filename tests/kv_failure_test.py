#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_failure_test.py - coir-kv from outside: each way in which a request breaks, and nobody else notices.

    tests/kv_failure_test.py [--server PATH] [CASE...]

A case is a function whose name is a sentence that is true when it passes.
"""

import contextlib
import re
import select
import subprocess
import threading
import time

import kv_kit
from kv_kit import Error, PATIENCE, Server, each_io, case, encode, equal, main, until, within

# What DEBUG is asked for, the error reply, and what INFO failures and /metrics then count.
KINDS = [
    ("PANIC", r"panic: DEBUG PANIC asked for by a client", "kind_panic",
     'coir_failures_total{kind="panic"}'),
    ("OVERFLOW", r"stack_overflow: stack overflow, \d+ frames deep, in coir-kv.*", "kind_stack_overflow",
     'coir_failures_total{kind="stack_overflow"}'),
    ("SEGFAULT", r"fault: SIGSEGV at 0x1000 in coir-kv.*", "kind_fault",
     'coir_failures_total{kind="fault"}'),
    ("ABORT", r"fault: abort\(\) called in coir-kv.*", "kind_fault", 'coir_failures_total{kind="fault"}'),
    ("THROW", r"foreign: foreign exception of class 0x434f49524b560000", "kind_foreign",
     'coir_failures_total{kind="foreign"}'),
    ("LEAK", r"leak: an obligation is not discharged", "obligations_leaked",
     'coir_domain_obligations_leaked_total{domain="requests"}'),
]


def info(client, section="failures"):
    return dict(line.split(":", 1) for line in client("INFO", section).decode().split("\r\n") if ":" in line)


def matches(pattern, text):
    if not re.fullmatch(pattern, text):
        raise AssertionError(f"{text!r} does not match {pattern!r}")


@contextlib.contextmanager
def others(server, count=4):
    """Clients that ask all the time; each must have got every reply at the end."""
    stop, broken, asked = threading.Event(), [], [0] * count

    def ask(i):
        try:
            with server.client() as c:
                while not stop.is_set():
                    c.send(encode("INCR", f"other{i}") * 16)
                    for _ in range(16):
                        asked[i] += 1
                        equal(c.reply(), asked[i])
        except Exception as error:  # whatever it is, the case must fail by it
            broken.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    try:
        until(lambda: all(asked) or broken, "all of them are at it")
        yield
    finally:
        stop.set()
        for t in threads:
            t.join(PATIENCE)
    equal(broken, [])


def shoot(server, what):
    """Asks for a failure; its reply, after which the connection must have ended."""
    with server.client() as c:
        c.send(encode("SET", "k", what) + encode("DEBUG", what) + encode("SET", "k", "after"))
        equal(c.reply(), "OK")
        reply = c.reply()
        equal(type(reply), Error)
        c.is_closed()
    return reply


def each_kind(function):
    """One case for each kind and each way to wait for sockets."""
    for what, *expected in KINDS:
        def run(server, what=what, expected=expected):
            function(server, what, *expected)
        run.__name__ = f"{function.__name__}: {what}"
        each_io(run)
    return function


# -------------------------------------------------------------------------------------- each kind

@each_kind
def a_request_that_breaks_ends_its_connection_only(server, what, reply, figure, metric):
    with server.client() as c, others(server):
        for n in range(1, 4):
            matches("ERR internal: " + reply, shoot(server, what))
            equal(c("GET", "k"), what.encode())  # what came before ran, what came after did not
            until(lambda: int(info(c)[figure]) == n, f"{figure}:{n} in INFO failures")
        equal(server.metrics()[metric], 3)
        until(lambda: server.connections() == 5, "their slots are free again")
        figures = info(c)
    equal(int(figures["tainted"]), 3 if what in ("SEGFAULT", "ABORT") else 0)
    equal(int(figures["contained_faults"]), 3 if what in ("OVERFLOW", "SEGFAULT", "ABORT") else 0)
    equal(int(figures["panics"]), 0 if what == "LEAK" else 3)
    if what != "LEAK":
        kind, message = reply.split(": ", 1)
        place = r",where=tools/kv/debug\.c:\d+" if what == "PANIC" else ""
        matches(rf"id=\d+,kind={kind},at=job{place},age_ms=\d+,message={message}", figures["failure_0"])
        equal(server.metrics()['coir_failures_at_total{location="job"}'], 3)
        equal(server.metrics()['coir_domain_panicked_total{domain="requests"}'], 3)


@each_io
def a_native_crash_is_an_error_reply_and_the_connection_lives(server):
    ways = [("WILD-WRITE", "SIGSEGV"), ("STACK-SMASH", "SIG(SEGV|ABRT)"), ("ABORT", "SIGABRT"),
            ("LOOP", "SIGXCPU, past its CPU limit"), ("EXIT", "exit status 3")]
    with server.client() as c, others(server):
        for n, (way, reply) in enumerate(3 * ways):
            c.send(encode("DEBUG", "NATIVE-CRASH", way) + encode("INCR", "after"))
            matches(f"ERR isolated: {reply}; limits:.*", c.reply())
            equal(c.reply(), n + 1)
        equal(c("DEBUG", "NATIVE-CRASH", "NOTHING"), "OK")
        figures = info(c)
    equal(int(figures["kind_isolated"]), 3 * len(ways))
    equal(int(figures["tainted"]), 0)
    equal(server.metrics()['coir_failures_at_total{location="isolated"}'], 3 * len(ways))


@case
def faults_are_contained_only_where_no_lock_is_held():
    out = subprocess.run(["nm", kv_kit.BINARY], text=True, capture_output=True, check=True).stdout
    at = {name: int(address, 16) for address, _, name in
          (line.split() for line in out.splitlines() if len(line.split()) == 3)}
    low, high = at["__start_kv_text"], at["__stop_kv_text"]
    for name, inside in (("command_run", True), ("debug_command", True), ("request_read", True),
                         ("store_read", False), ("store_set", False), ("store_sweep", False),
                         ("figures_info", False), ("coir_socket_send", False)):
        equal((name, low <= at[name] < high), (name, inside))


@each_io
def a_leak_is_logged_with_the_place_that_took_it(server):
    shoot(server, "LEAK")
    until(lambda: any("leaked" in line for line in server.log), "a line in the log")
    line = next(line for line in server.log if "leaked" in line)
    matches(r'.*"what DEBUG LEAK owes" leaked: taken at tools/kv/debug\.c:\d+ by job \d+ of domain '
            r"requests, not discharged before its job ended", line)


@each_io
def all_kinds_at_once_are_each_counted(server):
    def some(kind):
        for _ in range(20):
            shoot(server, kind)

    with server.client() as c:
        with others(server):
            threads = [threading.Thread(target=some, args=(kind[0],)) for kind in KINDS]
            for t in threads:
                t.start()
            for t in threads:
                t.join(PATIENCE)
        until(lambda: int(info(c)["obligations_leaked"]) == 20, "the last job has ended")
        figures = info(c)
        for name, n in (("kind_panic", 20), ("kind_stack_overflow", 20), ("kind_fault", 40),
                        ("kind_foreign", 20), ("at_job", 100), ("panics", 100), ("tainted", 40)):
            equal((name, int(figures[name])), (name, n))
        equal([f"failure_{i}" in figures for i in range(9)], [True] * 8 + [False])
        ids = [re.match(r"id=(\d+)", figures[f"failure_{i}"])[1] for i in range(8)]
        equal(len(set(ids)), 8)
        equal(info(c, "stats").get("panics"), None)  # a section is that section


@each_io
def reports_that_are_too_many_are_counted(server):
    def shoot_many():
        """All at once: one after the other they might be fewer than ten a second."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for _ in range(30)]
            for client in clients:
                client.send(encode("DEBUG", "PANIC"))
            for client in clients:
                equal(type(client.reply()), Error)

    with server.client() as c:
        until(lambda: shoot_many() or int(info(c)["reports_suppressed"]) > 0, "more than ten a second")
        within(1, server.metrics()["coir_reports_suppressed_total"], 1e6)


# -------------------------------------------------------------------------------- time and limits

def looping(io):
    return Server("--io", io, "--workers", "2", "--stall-ms", "20", "--request-ms", "3000")


def each_way(function):
    for io in ("uring", "epoll"):
        def run(io=io):
            function(io)
        run.__name__ = f"{function.__name__} ({io})"
        case(run)
    return function


@each_way
def a_loop_is_named_while_it_runs_and_ended_by_its_deadline(io):
    with looping(io) as server, server.client() as c, server.client() as other:
        start = time.monotonic()
        c.send(encode("DEBUG", "LOOP"))
        until(lambda: any("stall: worker" in line and "DEBUG LOOP" in line for line in server.log), "it is named")
        for _ in range(5):  # by the other worker
            equal(other("PING"), "PONG")
            with server.client() as new:
                equal(new("PING"), "PONG")
        equal(select.select([c.socket], [], [], 0)[0], [])  # it runs still
        equal(c.reply(), Error("ERR internal: deadline: it took longer than --request-ms"))
        within(3, time.monotonic() - start, PATIENCE)
        c.is_closed()
        within(1, int(info(other)["stalls"]), 1000)
        equal(int(info(other)["deadlines_exceeded"]), 1)
        equal(server.metrics()["coir_kv_deadlines_exceeded_total"], 1)
        line = next(line for line in server.log if "stall: worker" in line and "DEBUG LOOP" in line)
        matches(r".*in job \d+ \(DEBUG LOOP.* has not suspended for \d+ ms", line)


@each_way
def a_request_has_its_time_and_an_idle_client_has_all_of_it(io):
    with Server("--io", io, "--workers", "1", "--request-ms", "1000") as server:
        with server.client() as idle, server.client() as slow:
            equal(idle("PING"), "PONG")
            slow.send(b"*2\r\n$3\r\nGET\r\n$1\r\n")  # and never the rest
            late = Error("ERR internal: deadline: it took longer than --request-ms")
            for _ in range(2):
                with server.client() as c:
                    equal(c("DEBUG", "SLEEP"), late)
                    c.is_closed()
            equal(slow.reply(), late)
            slow.is_closed()
            until(lambda: server.metrics()['coir_domain_in_flight{domain="requests"}'] == 0, "idle")
            equal(idle("DEBUG", "SLEEP", "1"), "OK")


@each_way
def a_client_that_takes_no_replies_is_let_go(io):
    with Server("--io", io, "--workers", "1", "--request-ms", "1000") as server:
        with server.client() as c, server.client() as deaf:
            c("SET", "big", b"x" * (1 << 20))
            deaf.send(encode("GET", "big") * 200)
            until(lambda: server.connections() == 1, "the deaf one has gone")
            equal(int(info(c)["deadlines_exceeded"]), 1)


@each_way
def one_clients_requests_leave_room_for_the_others(io):
    """However much one has sent: its next turn comes after theirs."""
    with Server("--io", io, "--workers", "1", "--client-requests", "1") as server:
        with server.client() as greedy, server.client() as c:
            greedy.send(encode("INCR", "n") * 20000)
            for _ in range(20):
                equal(c("PING"), "PONG")
            within(0, int(c("GET", "n") or 0), 19999)
            equal([greedy.reply() for _ in range(20000)], list(range(1, 20001)))


@each_way
def limits_of_one_client_are_kept(io):
    with Server("--io", io, "--client-input", "64", "--client-output", "1") as server:
        with server.client() as c:
            equal(c("SET", "k", b"x" * 60000), "OK")
            c.send(encode("GET", "k") * 100)
            equal([c.reply() for _ in range(100)] == [b"x" * 60000] * 100, True)
            c.send(encode("SET", "k", b"x" * 70000))
            equal(c.reply(), Error("ERR Protocol error: too big request"))
            c.is_closed()


# ---------------------------------------------------------------------------------- the threshold

def is_turned_away(server, trips):
    """Trips it once more. False: so busy is the machine that a second has passed, and a probe was let in."""
    for _ in range(3):
        shoot(server, "PANIC")
    until(lambda: server.metrics()['coir_domain_trips_total{domain="requests"}'] == trips, "it trips")
    with server.client() as c:
        reply = c("PING")
        if reply != "PONG":
            matches(r"ERR internal: skipped: failure \d+ has tripped domain requests", reply)
            c.is_closed()
        return reply != "PONG"


@each_way
def past_the_threshold_requests_are_turned_away_until_a_probe_is_well(io):
    with Server("--io", io, "--workers", "2", "--panics-max", "3") as server:
        equal(any(is_turned_away(server, trips) for trips in range(1, 10)), True)
        within(1, server.metrics()['coir_domain_skipped_total{domain="requests"}'], 1000)

        def well():
            with server.client() as c:
                return c("PING") == "PONG"

        until(well, "a probe after a second")
        with server.client() as probe:  # it may stay: another does not have to wait for its end
            until(well, "all are let in")
            equal(probe("PING"), "PONG")


@case
def without_a_threshold_nobody_is_turned_away():
    with Server("--workers", "1") as server:
        for _ in range(50):
            matches("ERR internal: panic: .*", shoot(server, "PANIC"))
        with server.client() as c:
            equal(c("PING"), "PONG")
        equal(server.metrics()['coir_domain_trips_total{domain="requests"}'], 0)


main()
