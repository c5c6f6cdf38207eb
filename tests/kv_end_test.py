#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_end_test.py - coir-kv from outside: long requests, metrics, its start and end.

    tests/kv_end_test.py [--server PATH] [CASE...]

A case is a function whose name is a sentence that is true when it passes. Those marked with
@each run once on every kind of server (io_uring and epoll, one worker and two).
"""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time

import kv_kit
from kv_kit import (Client, Error, KINDS, PATIENCE, Server, best, case, each, each_io, encode, equal, have_answers,
                    main, percentile, until, within)
from ports import free_port

# ------------------------------------------------------------------- panics and long requests

@each
def a_panic_ends_one_connection_and_is_told_once(server):
    with server.client() as other:
        for i in range(5):
            with server.client() as c:
                c.send(encode("SET", "k", i) + encode("DEBUG", "PANIC") + encode("SET", "k", "no"))
                equal(c.reply(), "OK")
                equal(c.reply(), Error("ERR internal: panic: DEBUG PANIC asked for by a client"))
                c.is_closed()
            equal(other("GET", "k"), b"%d" % i)
        until(lambda: sum("DEBUG PANIC" in line for line in server.log) >= 5, "a line in the log for each panic")
        equal(server.metrics()["coir_panics_total"], 5)
        until(lambda: server.connections() == 1, "the slots are free again")
    told = [line for line in server.log if "stall: " not in line]  # what a busy machine adds
    equal(len([line for line in told if "DEBUG PANIC" in line and "debug.c" in line]), 5)
    equal(len(told), 5)


def waits_beside_a_loop(asker, looping, ms):
    """How long each request of the one took while the other's ran."""
    waits = []
    start = time.monotonic()
    looping.send(encode("DEBUG", "LOOP", ms))
    while not have_answers(looping):
        asked = time.monotonic()
        asker("GET", "k")
        waits.append(time.monotonic() - asked)
        select.select([], [], [], 0.001)
    equal(looping.reply(), "OK")
    within(ms / 1000, time.monotonic() - start, PATIENCE)
    within(20, len(waits), 100 * ms)
    return waits


@each_io
def a_busy_request_does_not_delay_the_others(server):
    with server.client() as asker, server.client() as looping:
        within(0, best(lambda: percentile(waits_beside_a_loop(asker, looping, 1000), 0.99), 0.05), 0.05)


@each
def sleeping_requests_keep_no_worker(server):
    with server.client() as c, contextlib.ExitStack() as stack:
        sleepers = [stack.enter_context(server.client()) for _ in range(100)]
        equal(any(is_served_beside(sleepers, c, ms) for ms in (300, 3000)), True)


def is_served_beside(sleepers, client, ms):
    """Whether it is before any of them has woken. They sleep side by side."""
    start = time.monotonic()
    for c in sleepers:
        c.send(encode("DEBUG", "SLEEP", ms))
    equal(client("PING"), "PONG")
    served = not have_answers(*sleepers)
    for c in sleepers:
        equal(c.reply(), "OK")
    within(ms / 1000, time.monotonic() - start, len(sleepers) * ms / 1000 / 2)
    return served


# --------------------------------------------------------------------------------------- metrics

@each_io
def metrics_please_promtool(server):
    with server.client() as c:
        for _ in range(10):
            c("PING")
        _, text = server.http("/metrics")
        for name in ("coir_kv_connections 1", "coir_kv_commands_total 10", "coir_kv_keys 0"):
            equal(name in text.split("\n"), True)
    for name in ("jobs_ended_total{outcome=\"panicked\"}", "panics_total", "fibers_parked",
                 "stacks", "switches_total", "steals_total", "sleeps_total"):
        equal(f"coir_{name} " in text, True)
    within(1 << 20, server.metrics()["coir_kv_resident_bytes"], 1 << 33)
    out = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                         capture_output=True, timeout=PATIENCE)
    equal((out.returncode, out.stdout + out.stderr), (0, ""))


@each_io
def the_metrics_port_speaks_http(server):
    equal(server.http("/healthz"), (200, "ok\n"))
    equal(server.http("/")[0], 404)
    equal(server.http("/metrics", method="DELETE")[0], 405)
    with Client(server.metrics_port) as silent:  # holds its exchange, but not for long
        equal(server.http("/healthz"), (200, "ok\n"))
        silent.is_closed()


@each_io
def the_map_says_who_fails_with_whom(server):
    status, text = server.http("/map")
    equal(status, 200)
    rows = [" ".join(line.lstrip("│├└─ ").split()) for line in text.splitlines()]
    equal(rows[0].startswith("what is a state takes along"), True)
    equal([row.split()[0] for row in rows[1:]],
          ["coir", "coir-kv", "signals", "sums", "heartbeat", "metrics", "drain", "sweep", "accept", "ready",
           "clients", "requests", "metrics", "sums"])
    equal(rows[-2].startswith("metrics domain open nobody - 1 15/16"), True)
    status, text = server.http("/map.dot")
    equal((status, text.startswith("digraph failure_domains {\n"), text.endswith("}\n")), (200, True, True))


@each_io
def a_request_head_beyond_the_limit_is_answered(server):
    for head in (b"GET /" + b"x" * 100000, b"\0" * 4096, b"GET /healthz HTTP/1.1\r\nA: " + b"b" * 5000):
        with Client(server.metrics_port) as c:
            c.send(head)
            equal(c.file.readline(), b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
            c.socket.shutdown(socket.SHUT_WR)
            equal(b"Content-Length: 0\r\n" in c.file.read(), True)
    equal(server.http("/healthz"), (200, "ok\n"))


@each_io
def idle_scrapers_delay_no_scrape(server):
    idle = []

    def scrape():
        idle[:] = [Client(server.metrics_port) for _ in range(15)]
        start = time.monotonic()
        for _ in range(20):
            equal(server.http("/healthz"), (200, "ok\n"))
        return time.monotonic() - start

    within(0, best(scrape, 1), 1)  # each that is idle is let go after two
    idle += [Client(server.metrics_port) for _ in range(20)]  # beyond the bound they wait
    descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    within(0, descriptors, 8 + 2 * 2 + 16)
    equal(server.http("/healthz"), (200, "ok\n"))
    for c in idle[:15]:
        c.is_closed()
    for c in idle:
        c.close()


# ---------------------------------------------------------------------------------- the process

@case
def a_request_head_with_a_nul_is_answered():
    with Server() as server:
        for head, line in ((b"GET /healthz HTTP/1.1\r\nA: \0\r\n\r\n", b"200 OK"),
                           (b"GET /healthz\0 HTTP/1.1\r\n\r\n", b"404 Not Found")):
            with Client(server.metrics_port) as c:
                c.send(head)
                equal(c.file.readline(), b"HTTP/1.1 " + line + b"\r\n")


@case
def what_it_opens_is_never_taken_for_its_output():
    def answers():
        with contextlib.suppress(ConnectionRefusedError), Client(port) as c:
            return c("PING") == "PONG"

    port = free_port()
    process = subprocess.Popen([kv_kit.BINARY, "--port", str(port)], preexec_fn=lambda: os.closerange(0, 3))
    try:
        until(answers, "it serves")
        equal([os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
    finally:
        process.terminate()
        equal(process.wait(PATIENCE), 0)


@each
def shutdown_ends_the_server_in_good_order(server):
    idle = server.client()
    with server.client() as c:
        c.send(encode("SHUTDOWN", "NOSAVE", "now", "FORCE"))
        c.is_closed()
    idle.is_closed()
    idle.close()
    equal(server.process.wait(PATIENCE), 0)


def ended_by_a_signal(server):
    clients = [server.client() for _ in range(5)]
    clients[0].send(b"*2\r\n$3\r\nGET")
    clients[1].send(encode("DEBUG", "SLEEP", "60000"))
    clients[2].send(encode("SET", "big", b"x" * (1 << 20)) + encode("GET", "big") * 500)
    clients += [Client(server.metrics_port) for _ in range(20)]  # more than are served at once
    until(lambda: server.metrics()["coir_kv_keys"] == 1, "they are at it")
    clients += [Client(server.metrics_port) for _ in range(20)]
    clients[3].send(encode("DEBUG", "LOOP", "60000"))
    start = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    equal(server.process.wait(PATIENCE), 0)
    within(0.3, time.monotonic() - start, 20)  # the loop may hold the only worker until its deadline
    for c in clients:
        c.close()


@case
def a_signal_ends_the_server_whatever_its_clients_do():
    for io, workers in KINDS:
        with Server("--io", io, "--workers", str(workers), "--drain-ms", "300",
                    "--request-ms", "2000") as server:
            ended_by_a_signal(server)


@case
def clients_beyond_the_limit_are_told_so():
    with Server("--max-clients", "3") as server:
        clients = [server.client() for _ in range(3)]
        for c in clients:
            equal(c("PING"), "PONG")
        with server.client() as c:
            equal(c.reply(), Error("ERR max number of clients reached"))
            c.is_closed()
        equal(server.metrics()["coir_kv_connections_refused_total"], 1)
        clients.pop().close()
        until(lambda: server.connections() == 2, "a slot is free")
        with server.client() as c:
            equal(c("PING"), "PONG")
        for c in clients:
            c.close()


@case
def the_room_that_is_promised_is_there():
    for io in ("uring", "epoll"):
        for workers in (1, 2):
            options = ("--io", io, "--workers", str(workers))
            with Server(*options, descriptors=60) as server:
                until(lambda: server.log, "a warning")
                room = int(re.search(r"room for (\d+) clients: the limit of descriptors is 60",
                                     server.log[0])[1])
                within(20, room, 40)
                scrapers = [Client(server.metrics_port) for _ in range(40)]
                clients = [server.client() for _ in range(room)]
                for c in clients:
                    equal(c("PING"), "PONG")
                clients[0].send(encode("INFO") * 500)
                for _ in range(30):
                    with server.client() as c:
                        equal(c("PING"), Error("ERR max number of clients reached"))
                for _ in range(500):
                    equal(b"used_memory:0" in clients[0].reply(), False)
                text = clients[0]("INFO").decode()
                for line in (f"maxclients:{room}", f"connected_clients:{room}", "rejected_connections:30"):
                    equal((line, line in text), (line, True))
                for c in clients + scrapers:
                    c.close()
                until(lambda: server.connections() == 0, "they are gone")
                equal(server.metrics()["coir_kv_accept_errors_total"], 0)


@case
def a_limit_without_room_for_clients_ends_the_start():
    for limit in (4, 8, 14, 20):
        out = subprocess.run(["prlimit", f"--nofile={limit}:{limit}", kv_kit.BINARY, "--port", "0",
                              "--metrics-port", "0"], text=True, capture_output=True, timeout=PATIENCE)
        equal((out.returncode, out.stdout), (1, ""))
        equal("descriptors" in out.stderr.splitlines()[-1], True)


@case
def a_server_out_of_descriptors_goes_on():
    with Server("--max-clients", "1000") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (40, 40))
        clients = [server.client() for _ in range(60)]
        equal(clients[0]("PING"), "PONG")
        clients[0].close()
        for c in clients[1:]:
            c.send(encode("PING"))
        for c in clients[1:]:  # each that leaves makes room for one that waits
            equal(c.reply(), "PONG")
            c.close()


def fails(code, *options):
    out = subprocess.run([kv_kit.BINARY, *options], text=True, capture_output=True, timeout=PATIENCE)
    equal((out.returncode, out.stdout), (code, ""))
    equal(len(out.stderr.splitlines()), 1)
    equal("coir-kv" in out.stderr, True)
    return out.stderr


@case
def bad_options_give_one_line_and_exit_2():
    for options in (["--nothing"], ["--port"], ["--port", "70000"], ["--port", "x"],
                    ["--port", "-1"], ["--workers", "0"], ["--workers", "257"], ["--io", "select"],
                    ["--metrics-port", "1e3"], ["--max-clients", "0"], ["--request-ms", "0"],
                    ["--client-requests", "0"], ["--client-input", "63"], ["--client-input", "16385"],
                    ["--client-output", "0"], ["--panics-max", "1025"], ["--stall-ms", "0"], ["--hang-ms", "0"],
                    ["--hang-ms", "99"], ["--stall-ms", "10001"], ["--stall-ms", "501", "--hang-ms", "500"],
                    ["--tainted-max", "-1"], ["--drain-ms", "x"], ["extra"]):
        fails(2, *options)


@case
def an_address_that_cannot_be_had_gives_one_line_and_exit_1():
    with Server() as server:
        equal("in use" in fails(1, "--port", str(server.port)), True)
        equal("in use" in fails(1, "--port", "0", "--metrics-port", str(server.port)), True)
    for address in ("not-an-address", "1.2.3", "192.0.2.1", "2001:db8::1"):
        error = fails(1, "--port", "0", "--bind", address)
        equal((address, f"--bind {address}: " in error, "--port" in error), (address, True, False))


@case
def an_ipv6_address_is_printed_in_brackets():
    with Server("--bind", "::1", address="[::1]") as server:
        with socket.create_connection(("::1", server.port), PATIENCE) as s:
            s.sendall(b"DEBUG SLEEP 0\r\n")
            equal(s.recv(100), b"+OK\r\n")


@case
def help_names_every_option():
    out = subprocess.run([kv_kit.BINARY, "--help"], text=True, capture_output=True, timeout=PATIENCE)
    equal((out.returncode, out.stderr), (0, ""))
    for option in ("port", "bind", "workers", "io", "poll", "metrics-port", "max-clients", "request-ms",
                   "client-requests", "client-input", "client-output", "panics-max", "stall-ms", "hang-ms",
                   "tainted-max", "drain-ms", "help"):
        equal(f"--{option}" in out.stdout, True)


@case
def poll_mode_serves():
    with Server("--poll", "--workers", "1") as server, server.client() as c:
        equal(c("PING"), "PONG")


main()
