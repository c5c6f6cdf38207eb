# SPDX-License-Identifier: MIT
"""consume_kit.py - what consume_test.py is made of: a redis-server of its own, what only seems one, a coir-consume."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from ports import free_port

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(TOP, "build", "bin", "coir-consume")
PATIENCE = 60  # seconds; the bound of every wait in here


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r:.300}, wanted {wanted!r:.300}")


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)


# ------------------------------------------------------------------------------------- redis

class Redis:
    """A redis-server in a temporary folder, and a client of it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="coir.")
        self.port = free_port()
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--dir", self.folder.name, "--save", "",
             "--appendonly", "no"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.connection = None
        until(self._connects, "redis-server starts")

    def _connects(self):
        try:
            self.connection = socket.create_connection(("127.0.0.1", self.port))
            self.file = self.connection.makefile("rb")
            return True
        except OSError:
            return False

    def stop(self):
        if self.connection:
            self.file.close()
            self.connection.close()
        self.process.kill()
        self.process.wait()

    def _reply(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:].decode()
        if kind == b"-":
            raise AssertionError(f"redis says {rest}")
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode()
        return [self._reply() for _ in range(int(rest))]

    @staticmethod
    def _command(words):
        words = [str(word).encode() for word in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def __call__(self, *words):
        return self.many([words])[0]

    def many(self, commands):
        self.connection.sendall(b"".join(self._command(words) for words in commands))
        return [self._reply() for _ in commands]

    def hash(self, key):
        flat = self("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2]))

    def letters(self):
        """The dead letters, each a dict."""
        return [dict(zip(fields[::2], fields[1::2])) for _, fields in self("XRANGE", "s:dead", "-", "+")]

    def pending(self):
        return self("XPENDING", "s", "workers")[0]

    def unread(self):
        return self("XINFO", "GROUPS", "s")[0][11]  # "lag"

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()
        self.folder.cleanup()


class Fake:
    """What is no redis-server: `answer` makes the reply to each command of each connection."""

    def __init__(self, answer):
        self.answer, self.called, self.gone = answer, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, connection):
        last = None
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            while line := file.readline():
                words = [file.read(int(file.readline()[1:]) + 2)[:-2].decode() for _ in range(int(line[1:]))]
                last = words[0]
                self.called.append(last)
                connection.sendall(self.answer(words))
        self.gone.append(last)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.listener.close()


def array(*items):
    """A reply: strings, and arrays of them."""
    return b"*%d\r\n" % len(items) + b"".join(
        array(*item) if isinstance(item, list) else b"$%d\r\n%s\r\n" % (len(item), item.encode())
        for item in items)


class Consumer:
    """A coir-consume of group `workers` of stream `s`."""

    def __init__(self, redis, *options):
        self.process = subprocess.Popen(
            [BINARY, "--stream", "s", "--port", str(redis.port), "--claim-ms", "300", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)

    def ready(self):
        line = self.process.stdout.readline()
        if not line.startswith("consuming"):
            raise AssertionError(f"says {line!r}, {self.process.stderr.read()!r}")
        return self

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self):
        """Ends it in good order; returns its receipt."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=PATIENCE)
        equal(self.process.returncode, 0, err)
        return {m[1].strip(): int(m[2]) for m in re.finditer(r"(?m)^(.*?) +(\d+)$", out)}


def add(redis, count, poison=()):
    """Adds messages m0, m1, ...; those whose number is in poison break."""
    redis.many([("XADD", "s", "*", "key", f"m{n}", "value", n,
                 *(("do", poison[n]) if n in poison else ())) for n in range(count)])


def settle(redis):
    """Waits until nothing is left to do."""
    until(lambda: redis.unread() == 0 and redis.pending() == 0, "all is settled")
