#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_drain_test.py - coir-kv ends: SIGTERM loses no request that was read, and ends within its budget.

    tests/kv_drain_test.py [--server PATH] [CASE...]
"""

import re
import select
import signal
import socket
import time

from kv_kit import (KINDS, PATIENCE, Server, case, each, each_with, encode, equal, have_answers, main, until,
                    within)

CONNECTIONS = 50
RATE = 4000  # requests a second, whatever the server does
LOAD_SECONDS = 0.7  # before the signal
PATIENT = ("--request-ms", str(PATIENCE * 1000), "--drain-ms", str(PATIENCE * 1000))
HELD = encode("PING")  # a request that waits for its last byte
RECEIPT = re.compile(r"drained (\d+) clients in (\d+) ms of (\d+): (\d+) canceled, (\d+) left; "
                     r"(\d+) commands since the start$")


def end(server):
    """Waits for a clean end; its receipt: clients, ms, budget, canceled, left, commands."""
    equal(server.process.wait(PATIENCE), 0)
    until(lambda: len(server.printed) == 3, "the receipt")
    return [int(n) for n in RECEIPT.match(server.printed[2]).groups()]


# --------------------------------------------------------------------------------------- under load

class Stream:
    """A connection that sends when it is told to, and counts whole replies."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = self.replies = 0
        self.rest = b""
        self.open = True

    def send(self, request):
        try:
            self.socket.sendall(request)
            self.sent += 1
        except OSError:  # the server has closed; what it has replied is still to be read
            pass

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        lines = (self.rest + data).split(b"\r\n")
        self.rest = lines.pop()
        equal([line for line in lines if line[:1] != b":"], [])  # INCR's replies, and no error
        self.replies += len(lines)
        self.open = bool(data)


def load(streams, until_when, due):
    """Sends in turn, each request when it is due, until the time has come or all are closed."""
    requests = [encode("INCR", f"key:{i}") for i in range(len(streams))]
    sent = 0
    while time.monotonic() < until_when and any(s.open for s in streams):
        while due + sent / RATE <= time.monotonic():
            i = sent % len(streams)
            if streams[i].open:
                streams[i].send(requests[i])
            sent += 1
        ready, _, _ = select.select([s.socket for s in streams if s.open], [], [], 0.001)
        for s in streams:
            if s.socket in ready:
                s.receive()
    return sent


@case
def no_request_that_was_read_is_lost_by_a_drain_under_load():
    for io, workers in KINDS:
        with Server("--io", io, "--workers", str(workers)) as server:
            streams = [Stream(server.port) for _ in range(CONNECTIONS)]
            until(lambda: server.connections() == CONNECTIONS, "all are in")
            start = time.monotonic()
            sent = load(streams, start + LOAD_SECONDS, start)
            server.process.send_signal(signal.SIGTERM)
            sent += load(streams, start + PATIENCE, start + sent / RATE)
            clients, ms, budget, canceled, left, commands = end(server)
        equal((clients, canceled, left), (CONNECTIONS, 0, 0))
        within(0, ms, budget)
        equal([s.rest for s in streams], [b""] * CONNECTIONS)  # closed between replies only
        equal(sum(s.replies for s in streams), commands)  # all that was run was answered, and has arrived
        within(RATE * LOAD_SECONDS / 2, commands, sent)
        for s in streams:  # and what was not had been sent when its connection was about to end
            within(0, s.sent - s.replies, 1 + RATE / CONNECTIONS)
            s.socket.close()
        print(f"    {io}, {workers} workers: {commands} commands, all answered; "
              f"{sum(s.sent - s.replies for s in streams)} sent when it was over; drained in {ms} ms")


# -------------------------------------------------------------------------------- what is under way

def requests(server):
    return server.metrics()['coir_domain_in_flight{domain="requests"}']


def are_answered(server, ms):
    """False: on this machine the sleeps were over before all was under way."""
    with server.client() as sleeper, server.client() as half, server.client() as idle, server.client() as pipelined:
        big = encode("SET", "big", b"x" * 300000)
        half.send(big[:100000])
        until(lambda: requests(server) == 1 and server.connections() == 4, "all are in")
        sleeper.send(encode("DEBUG", "SLEEP", 2 * ms))
        pipelined.send(encode("DEBUG", "SLEEP", ms) + encode("SET", "k", "v") * 1000)
        until(lambda: requests(server) == 3 or have_answers(sleeper, pipelined), "they are at it")
        if have_answers(sleeper, pipelined):
            return False
        server.process.send_signal(signal.SIGTERM)
        idle.is_closed()
        until(lambda: server.http("/readyz") == (503, "drains: it is about to end\n"), "not ready")
        equal(server.http("/healthz"), (200, "ok\n"))
        half.send(big[100000:])
        for c, replies in ((half, 1), (sleeper, 1), (pipelined, 1001)):
            equal([c.reply() for _ in range(replies)], ["OK"] * replies)
            c.is_closed()
        equal(end(server)[3:5], [0, 0])
        return True


@case
def what_is_under_way_is_answered_and_then_the_connection_ends():
    def runs(io, workers, ms):
        with Server("--io", io, "--workers", str(workers), *PATIENT) as server:
            return are_answered(server, ms)

    for io, workers in KINDS:
        equal(any(runs(io, workers, ms) for ms in (200, 2000, 20000)), True)


@each
def who_was_let_in_by_the_kernel_only_is_answered(server):
    server.process.send_signal(signal.SIGSTOP)
    clients = [server.client() for _ in range(100)]
    for c in clients:
        c.send(encode("PING"))
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    for c in clients:
        equal(c.reply(), "PONG")
        c.is_closed()
        c.close()
    equal(end(server)[3:], [0, 0, 100])


@each
def replies_that_are_read_late_are_whole_though_more_is_asked_for(server):
    """The drain must not reset the connection under replies that the peer's buffers have no room for."""
    big, times = b"x" * 1000000, 3
    with server.client() as c:
        equal(c("SET", "big", big), "OK")
        c.send(encode("GET", "big") * times)
        until(lambda: server.metrics()["coir_kv_commands_total"] == 1 + times, "all are answered")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: drains(server), "it drains")
        c.send(encode("PING"))
        for _ in range(times):
            equal(c.reply() == big, True)


def drains(server):
    try:
        return server.http("/readyz")[0] == 503
    except OSError:  # it has ended
        return True


def begin(server, client):
    """What holds up the drain until end_well."""
    client.send(HELD[:-1])
    until(lambda: requests(server) == 1, "it is under way")


def end_well(client):
    client.send(HELD[-1:])
    equal(client.reply(), "PONG")
    client.is_closed()


@each_with(*PATIENT)
def who_comes_during_the_drain_is_refused(server):
    with server.client() as c:
        begin(server, c)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.http("/readyz")[0] == 503, "it drains")
        try:
            server.client()
            raise AssertionError("it was let in")
        except ConnectionRefusedError:
            pass
        end_well(c)
        equal(end(server)[:1], [1])


@case
def the_budget_ends_what_does_not_end():
    for io, workers in KINDS:
        with Server("--io", io, "--workers", str(workers), "--drain-ms", "300", "--request-ms",
                    "60000") as server:
            clients = [server.client() for _ in range(3)]
            clients[0].send(encode("DEBUG", "SLEEP", "60000"))
            clients[1].send(b"*2\r\n$3\r\nGET\r\n$3\r\n")
            until(lambda: server.metrics()['coir_domain_in_flight{domain="requests"}'] == 2, "they are at it")
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            clients[2].is_closed()
            number, ms, budget, canceled, left, _ = end(server)
            equal((number, budget, canceled, left), (3, 300, 2, 0))
            within(0.3, time.monotonic() - start, PATIENCE)
            within(300, ms, PATIENCE * 1000)
            for c in clients:
                c.close()


@case
def a_signal_that_comes_while_it_starts_ends_it_well():
    for i in range(40):
        with Server("--workers", str(1 + i % 2)):
            pass


@case
def a_signal_that_comes_again_and_again_ends_it_well():
    for i in range(20):
        with Server("--workers", str(1 + i % 2)) as server:
            while server.process.poll() is None:
                server.process.terminate()


@each_with(*PATIENT)
def shutdown_drains_too(server):
    with server.client() as c, server.client() as other:
        begin(server, other)
        c.send(encode("SHUTDOWN"))
        c.is_closed()
        end_well(other)
    equal(end(server)[0], 2)


main()
