# SPDX-License-Identifier: MIT
"""kv_kit.py - what kv_test.py is made of: cases, a coir-kv of one's own, a client that speaks RESP."""

import math
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(TOP, "build", "bin", "coir-kv")
SANITIZED = False  # then its memory says nothing of the product
PATIENCE = 60  # seconds; the bound of every wait in here
SLOW = 5  # seconds; a case that takes longer is named with its time

KINDS = [(io, workers) for io in ("uring", "epoll") for workers in (1, 2)]
CASES = []


def case(function):
    CASES.append((function.__name__, function))
    return function


def each_with(*options):
    """A case for each kind of server, which gets these options as well."""
    def decorate(function):
        for io, workers in KINDS:
            def run(io=io, workers=workers):
                with Server("--io", io, "--workers", str(workers), *options) as server:
                    function(server)
            CASES.append((f"{function.__name__} ({io}, workers {workers})", run))
        return function
    return decorate


each = each_with()


def each_io(function):
    for io in ("uring", "epoll"):
        def run(io=io):
            with Server("--io", io, "--workers", "2") as server:
                function(server)
        CASES.append((f"{function.__name__} ({io})", run))
    return function


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r:.300}, wanted {wanted!r:.300}")


def within(low, value, high):
    if not low <= value <= high:
        raise AssertionError(f"{value!r} is not within {low!r} and {high!r}")


def at_most(high, value):  # what is resident may also have become less
    within(-math.inf, value, high)


def until(condition, what):
    """Waits for a condition, PATIENCE seconds at the most."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        select.select([], [], [], 0.005)


def have_answers(*clients):
    """Whether any of them has, though it has not been read."""
    return select.select([c.socket for c in clients], [], [], 0)[0] != []


def best(measure, enough, tries=20):
    """The least of what it returns, until that is enough: what else runs on the machine makes times longer only."""
    least = math.inf
    while tries > 0 and least > enough:
        least, tries = min(least, measure()), tries - 1
    return least


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# ------------------------------------------------------------------------------------ the server

class Server:
    """A coir-kv on free ports; leaving the block stops it and demands that it ends as it should."""

    def __init__(self, *options, descriptors=None, address="127.0.0.1", code=0, environment=None):
        limit = ["prlimit", f"--nofile={descriptors}:{descriptors}"] if descriptors else []
        self.command = [*limit, BINARY, "--port", "0", "--metrics-port", "0", *options]
        self.address = address
        self.code = code  # that it shall end with
        self.environment = {**os.environ, **(environment or {})}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, env=self.environment,
                                        stderr=subprocess.PIPE, text=True)
        self.printed, self.log = [], []
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.printed),
                                     (self.process.stderr, self.log))]
        for reader in self.readers:
            reader.start()
        try:
            until(lambda: len(self.printed) == 2 or self.process.poll() is not None, "two lines")
            self.port = self._port(f"listening on {self.address}:", 0)
            self.metrics_port = self._port(f"metrics on {self.address}:", 1)
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def _port(self, prefix, line):
        if len(self.printed) <= line or not self.printed[line].startswith(prefix):
            raise AssertionError(f"the server printed {self.printed}")
        return int(self.printed[line][len(prefix):])

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed: it did not end by itself"
        for reader in self.readers:
            reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        if self.log and (kind or code != self.code):
            print("    the server's log:", *self.log[-5 if kind else 0:], sep="\n        ")
        if kind is None:
            equal(code, self.code)

    def client(self):
        return Client(self.port)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) * 1024

    def http(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.metrics_port}{path}",
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self):
        status, text = self.http("/metrics")
        equal(status, 200)
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    def connections(self):
        return self.metrics()["coir_kv_connections"]


# ------------------------------------------------------------------------------------ the client

class Error(str):
    """An error reply, without its dash."""


def encode(*arguments):
    out = [b"*%d\r\n" % len(arguments)]
    for a in arguments:
        a = a if isinstance(a, bytes) else str(a).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(a), a))
    return b"".join(out)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        line = self.file.readline()
        if not line:
            raise EOFError("the server closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b"-":
            return Error(rest)
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        assert kind == b"$", line
        if rest == "-1":
            return None
        data = self.file.read(int(rest) + 2)
        equal(data[-2:], b"\r\n")
        return data[:-2]

    def __call__(self, *arguments):
        self.send(encode(*arguments))
        return self.reply()

    def fails(self, error, *arguments):
        got = self(*arguments)
        equal(isinstance(got, Error), True)
        equal(got, error)

    def is_closed(self):
        equal(self.file.read(), b"")


WRONG_NUMBER = "ERR wrong number of arguments for '%s' command"
NOT_INTEGER = "ERR value is not an integer or out of range"


def main():
    global BINARY, SANITIZED
    sys.stdout.reconfigure(line_buffering=True)
    wanted, unwanted = sys.argv[1:], []
    if wanted[:1] == ["--sanitized"]:
        SANITIZED = True
        wanted = wanted[1:]
    while wanted[:1] in (["--server"], ["--without"]):
        if wanted[0] == "--server":
            BINARY = os.path.abspath(wanted[1])
        else:
            unwanted.append(wanted[1])
        wanted = wanted[2:]
    passed = failed = 0
    for name, run in CASES:
        if (wanted and not any(w in name for w in wanted)) or any(w in name for w in unwanted):
            continue
        start = time.monotonic()
        try:
            run()
            passed += 1
        except Exception:
            failed += 1
            print(f"failed: {name}\n{traceback.format_exc()}", flush=True)
        if time.monotonic() - start > SLOW:
            print(f"    {name}: {time.monotonic() - start:.1f} s", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
