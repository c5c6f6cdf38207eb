#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""load_test.py - tools/load: the histogram, the figures, the options, and servers that misbehave.

Needs build/bin/coir-load (or the program named by COIR_LOAD), gcc and redis-server.
"""
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOAD = os.environ.get("COIR_LOAD", str(ROOT / "build/bin/coir-load"))
PING = b"*1\r\n$4\r\nPING\r\n"


def listen():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener, listener.getsockname()[1]


class Server:
    """Runs talk(connection) on a thread per connection; admits so many, if that is limited."""

    def __init__(self, talk, admits=None):
        self.talk = talk
        self.admits = admits
        self.listener, self.port = listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for n in itertools.count(1):
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
            if n == self.admits:
                self.listener.shutdown(socket.SHUT_RDWR)

    def serve(self, connection):
        with connection:
            try:
                self.talk(connection)
            except ConnectionError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # it has been
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pings(connection):
    """Yields the number of whole PINGs that have arrived each time."""
    rest = 0
    while data := connection.recv(65536):
        rest += len(data)
        yield rest // len(PING)
        rest %= len(PING)


def run(port, *options):
    """Runs coir-load; returns exit status, figures and what it printed on standard output."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as figures:
        done = subprocess.run(
            [LOAD, "--port", str(port), "--json", figures.name, "--warmup", "0.2", *options],
            capture_output=True, text=True, timeout=60)
        text = figures.read()
    return done.returncode, json.loads(text) if text else None, done.stdout


def run_whole(is_whole, port, *options):
    """A run in which all was sent that was due: where the machine is too busy for it, one of some more."""
    for _ in range(5):
        status, figures, said = run(port, *options)
        if is_whole(figures):
            break
    return status, figures, said


class Histogram(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        library = cls.folder.name + "/histogram.so"
        subprocess.run(["gcc", "-std=c11", "-shared", "-fPIC", "-o", library,
                        ROOT / "tools/load/histogram.c", "-lm"], check=True)
        cls.c = ctypes.CDLL(library)
        cls.c.histogram_at.restype = ctypes.c_int64

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def make(self, values):
        h = ctypes.create_string_buffer(1 << 16)
        for value in values:
            self.c.histogram_add(h, ctypes.c_int64(value))
        return h

    def at(self, h, share):
        return self.c.histogram_at(h, ctypes.c_double(share))

    def test_every_magnitude_is_known_within_one_percent(self):
        value = 1
        while value < 1 << 46:
            for v in (value - 1, value, value + value // 3):
                found = self.at(self.make([v, 1 << 47]), 0.5)
                self.assertTrue(v <= found <= v * 1.01, (v, found))
            value *= 2

    def test_percentiles_are_those_of_the_sorted_values(self):
        h = self.make(range(1000, 101000, 100))
        for share in (0.5, 0.9, 0.99, 0.999):
            exact = 1000 + 100 * (int(share * 1000) - 1)
            self.assertTrue(exact <= self.at(h, share) <= exact * 1.01, share)

    def test_max_is_exact_and_the_top_percentile(self):
        self.assertEqual(self.at(self.make([1, 123456789]), 1.0), 123456789)

    def test_out_of_range_values_are_clamped(self):
        h = self.make([-5, 10**15])
        self.assertEqual(self.at(h, 0.5), 0)
        self.assertEqual(self.at(h, 1.0), (1 << 47) - 1)

    def test_nothing_counted_is_zero(self):
        self.assertEqual(self.at(self.make([]), 0.99), 0)

    def test_merge_is_the_histogram_of_both(self):
        a, b = self.make([10] * 10), self.make([1000] * 30)
        self.c.histogram_merge(a, b)
        self.assertEqual((self.at(a, 0.25), self.at(a, 1.0)), (10, 1000))


class AgainstRedis(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        cls.redis = subprocess.Popen(
            ["redis-server", "--port", str(cls.port), "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", cls.port)).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    cls.redis.kill()
                    raise
                time.sleep(0.02)

    @classmethod
    def tearDownClass(cls):
        cls.redis.terminate()
        cls.redis.wait()

    def check_sound(self, figures):
        self.assertEqual(figures["sent"], figures["answered"])
        for count in ("errors", "error_replies", "unanswered", "lost"):
            self.assertEqual(figures[count], 0, count)
        us = figures["latency_us"]
        self.assertTrue(0 < us["p50"] <= us["p90"] <= us["p99"] <= us["p99.9"] <= us["max"], us)

    def test_open_loop_sends_exactly_what_is_due(self):
        status, figures, _ = run_whole(lambda f: f["unsent"] == 0, self.port, "--rate", "2000", "--seconds", "1")
        self.assertEqual(status, 0)
        self.check_sound(figures)
        self.assertEqual((figures["sent"], figures["unsent"]), (2000, 0))
        self.assertTrue(0 < figures["load_cpu"] < 1, figures)
        self.assertGreater(figures["hiccup_us"]["max"], 0)

    def test_closed_loop_runs_every_command(self):
        status, figures, _ = run(
            self.port, "--seconds", "0.5", "--pipeline", "16", "--threads", "2", "--no-hiccup",
            "--mix", "ping=1,get=1,set=1,incr=1,mset=1,echo=1", "--connections", "7")
        self.assertEqual(status, 0)
        self.check_sound(figures)
        self.assertEqual([figures[name] for name in ("host", "port", "seconds", "mix", "value_bytes")],
                         ["127.0.0.1", self.port, 0.5, "ping=1,get=1,set=1,incr=1,mset=1,echo=1", 64])
        self.assertGreater(figures["sent"], 1000)
        self.assertNotIn("hiccup_us", figures)

    def test_values_larger_than_every_buffer(self):
        status, figures, _ = run(self.port, "--seconds", "0.5", "--rate", "20", "--value-bytes",
                                 "3000000", "--keys", "2", "--mix", "set=1,get=1,echo=1")
        self.assertEqual(status, 0, figures)
        self.check_sound(figures)

    def test_poison_that_leaves_its_connection_open_is_not_contained(self):
        status, figures, _ = run(self.port, "--rate", "1000", "--seconds", "1", "--poison", "100",
                                 "--poison-command", "NOSUCHCOMMAND a")
        self.assertEqual(status, 1)
        self.check_sound(figures)
        self.assertTrue(0 < figures["poison_sent"] <= 100, figures["poison_sent"])
        self.assertEqual(figures["poison_uncontained"], figures["poison_sent"])

    def test_error_replies_are_counted_and_are_no_protocol_error(self):
        subprocess.run(["redis-cli", "-p", str(self.port), "SET", "counter:000000000000", "x"],
                       check=True, stdout=subprocess.DEVNULL)
        status, figures, _ = run(self.port, "--rate", "100", "--seconds", "0.5", "--mix",
                                 "incr=1", "--keys", "1")
        self.assertEqual(status, 0)
        self.assertEqual(figures["error_replies"], figures["answered"])


class Misbehaving(unittest.TestCase):
    def test_a_stall_delays_every_request_that_was_due_in_it(self):
        def talk(connection):
            begin = time.monotonic()
            stalled = False
            for n in pings(connection):
                if not stalled and time.monotonic() - begin > 0.5:
                    stalled = True
                    time.sleep(0.5)
                connection.sendall(b"+PONG\r\n" * n)

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "200", "--seconds", "1",
                                     "--connections", "1", "--mix", "ping=1")
        self.assertEqual(status, 0)
        self.assertEqual(figures["answered"] + figures["unsent"], 200)
        self.assertGreater(figures["latency_us"]["p90"], 200000)  # coordinated omission: 1 ms

    def test_connections_that_the_server_closes_are_lost(self):
        def talk(connection):
            next(pings(connection))

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "2", "--warmup",
                                     "0", "--connections", "5", "--mix", "ping=1")
        self.assertEqual(status, 1)
        self.assertEqual((figures["lost"], figures["answered"]), (5, 0))
        self.assertEqual(figures["sent"], figures["unanswered"])
        self.assertGreater(figures["latency_us"]["p50"], 0)
        self.assertLess(figures["elapsed"], 1)

    def test_a_run_in_which_nothing_was_due_has_no_latencies(self):
        with Server(lambda connection: next(pings(connection))) as server:
            status, figures, said = run(server.port, "--warmup", "1", "--connections", "5", "--rate",
                                        "100", "--mix", "ping=1", "--no-hiccup")
        self.assertEqual((status, figures["sent"], figures["lost"]), (1, 0, 5))
        self.assertEqual(set(figures["latency_us"].values()), {None})
        self.assertRegex(said, r"\n  latency +(- +){4}-\n")

    def test_what_was_never_answered_counts_until_it_is_given_up(self):
        with Server(lambda connection: [None for _ in pings(connection)]) as server:
            status, figures, said = run(server.port, "--rate", "20", "--seconds", "0.5", "--warmup",
                                        "0", "--connections", "2", "--mix", "ping=1")
        self.assertEqual(status, 1)
        self.assertEqual((figures["lost"], figures["unanswered"], figures["unsent"]), (2, 2, 8))
        for name, least in (("p50", 5.2e6), ("max", 5.49e6)):
            self.assertTrue(least < figures["latency_us"][name] < 6.5e6, figures["latency_us"])
        self.assertGreater(figures["sent_late_us"]["p50"], 4e6)
        self.assertIn("never answered: 10.", said)

    def test_what_a_lost_connection_leaves_unanswered_stays_in_the_tail(self):
        order = itertools.count()

        def talk(connection):
            begin, doomed = time.monotonic(), next(order) % 2
            for n in pings(connection):
                if doomed and time.monotonic() - begin > 0.5:
                    return
                connection.sendall(b"+PONG\r\n" * n)

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "2", "--connections",
                                     "10", "--mix", "ping=1")
        self.assertEqual(status, 1)
        self.assertTrue(0 < figures["lost"] < 10, figures)
        self.assertEqual(figures["unanswered"], figures["lost"])
        self.assertGreater(figures["latency_us"]["max"], 1e6)

    def test_a_stall_is_in_the_part_of_the_time_in_which_it_was(self):
        def talk(connection):
            due = 0
            for n in pings(connection):
                if due < 60 <= due + n:
                    time.sleep(0.3)
                due += n
                connection.sendall(b"+PONG\r\n" * n)

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "1", "--warmup", "0",
                                     "--connections", "1", "--mix", "ping=1", "--parts", "2")
        self.assertEqual((status, figures["parts"]), (0, 2))
        before, after = figures["part_latency_us"]
        self.assertLess(before["max"], after["max"])
        self.assertGreater(after["max"], 290000)
        self.assertEqual(figures["latency_us"]["max"], after["max"])

    def check_protocol_error(self, reply):
        def talk(connection):
            for _ in pings(connection):
                connection.sendall(reply)

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "1", "--warmup",
                                     "0", "--connections", "1", "--mix", "ping=1")
        self.assertEqual((status, figures["errors"], figures["lost"]), (1, 1, 0), reply)

    def test_replies_that_are_wrong_are_protocol_errors(self):
        for reply in (b":1\r\n", b"+PONG\n", b"HTTP/1.1 400\r\n", b"$-2\r\n", b"$99999999999\r\n",
                      b"+PONG\r\n+PONG\r\n", b"$3\r\nabcde", b"\0\0\0"):
            self.check_protocol_error(reply)

    def test_replies_in_single_bytes_are_understood(self):
        def talk(connection):
            for n in pings(connection):
                for byte in b"+PONG\r\n" * n:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.001)

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "20", "--seconds", "0.5", "--mix",
                                     "ping=1")
        self.assertEqual((status, figures["answered"] + figures["unsent"]), (0, 10))


class Poison(unittest.TestCase):
    def shoot(self, reply, close=True):
        """Exit status and figures of a run whose poisoned requests are answered so."""
        def talk(connection):
            while data := connection.recv(65536):
                if b"PANIC" not in data:
                    connection.sendall(b"+PONG\r\n" * (len(data) // len(PING)))
                    continue
                connection.sendall(reply)
                if close:
                    return

        with Server(talk) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "0.5", "--warmup",
                                     "0", "--mix", "ping=1", "--poison", "20",
                                     "--poison-command", b'DEBUG "PANIC\\\t\xe9')
        self.assertEqual((figures["lost"], figures["unanswered"]), (0, 0))
        self.assertEqual(figures["poison_command"], 'DEBUG "PANIC\\\t\u00e9')
        self.assertGreater(figures["poison_sent"], 0)
        self.assertEqual(figures["poison_sent"],
                         figures["poison_contained"] + figures["poison_uncontained"])
        return status, figures

    def test_an_error_and_the_end_of_its_connection_contain_it(self):
        status, figures = self.shoot(b"-ERR internal: boom\r\n")
        self.assertEqual((status, figures["poison_uncontained"]), (0, 0))
        self.assertLessEqual(figures["poison_sent"], 10)  # fewer where the machine is too busy for them

    def test_anything_else_does_not(self):
        for reply, close in ((b"-ERR boom\r\n", False), (b"", True), (b"", False),
                             (b"+OK\r\n", True), (b"-ERR bo", True), (b"-ERR boom\r\n+OK\r\n", True)):
            status, figures = self.shoot(reply, close)
            self.assertEqual((status, figures["poison_contained"]), (1, 0), (reply, close))

    def test_several_commands_take_turns_and_are_counted_apart(self):
        def talk(connection):
            while data := connection.recv(65536):
                if b"DEBUG" in data:
                    connection.sendall(b"-ERR boom\r\n" if b"GOOD" in data else b"+OK\r\n")
                    return
                connection.sendall(b"+PONG\r\n" * (len(data) // len(PING)))

        with Server(talk) as server:
            status, figures, text = run_whole(lambda f: f["poison_sent"] == 10, server.port, "--rate", "100",
                                              "--seconds", "0.5", "--warmup", "0", "--mix", "ping=1",
                                              "--poison", "20", "--poison-command", "DEBUG GOOD 1,DEBUG BAD")
        self.assertEqual((status, figures["poison_sent"], figures["poison_contained"]), (1, 10, 5))
        self.assertEqual(figures["poisons"], [{"command": "DEBUG GOOD 1", "sent": 5, "contained": 5},
                                              {"command": "DEBUG BAD", "sent": 5, "contained": 0}])
        self.assertRegex(text, r"(?m)^  DEBUG BAD +5 +0$")

    def test_a_run_that_could_not_send_any_poison_is_not_good(self):
        def talk(connection):
            for n in pings(connection):
                connection.sendall(b"+PONG\r\n" * n)

        # The trial that finds the address, and the two measured ones.
        with Server(talk, admits=3) as server:
            status, figures, _ = run(server.port, "--rate", "100", "--seconds", "1", "--connections",
                                     "2", "--mix", "ping=1", "--poison", "2")
        self.assertEqual((status, figures["lost"], figures["poison_sent"]), (1, 0, 0))


class CommandLine(unittest.TestCase):
    def check_line(self, arguments, status, *words):
        done = subprocess.run([LOAD, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, status, arguments)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_bad_options_are_named_in_one_line(self):
        for arguments in (["--nosuch"], ["--port"], ["--port", "0"], ["--port", "65536"],
                          ["--rate", "x"], ["--rate=-1"], ["--connections", "0"],
                          ["--pipeline", "1.5"], ["--seconds", "0"], ["--seconds", "nan"],
                          ["--warmup", "-1"], ["--threads", "99"], ["--parts", "0"], ["--mix", "get"],
                          ["--mix", "get=1,fly=2"], ["--mix", "get=0"], ["--mix", ""],
                          ["--keys", "0"], ["--value-bytes", "1e3"], ["--poison", "-1"],
                          ["--poison-command", " "], ["--poison-command", "a,,b"],
                          ["--poison-command", ",".join("abcdefghijklmnopq")], ["--quiet=yes"]):
            self.check_line(arguments, 2, "coir-load: " + arguments[0].split("=")[0] + " ")

    def test_a_refused_port_is_one_line(self):
        listener, port = listen()
        listener.close()
        self.check_line(["--port", str(port)], 1, f"127.0.0.1:{port}", "Connection refused")

    def test_the_figures_of_the_last_run_stay_when_none_starts(self):
        listener, port = listen()
        listener.close()
        with tempfile.NamedTemporaryFile("r+") as figures:
            figures.write("figures")
            figures.flush()
            self.check_line(["--port", str(port), "--json", figures.name], 1, "Connection refused")
            figures.seek(0)
            self.assertEqual(figures.read(), "figures")

    def test_an_unwritable_json_file_is_found_before_the_run(self):
        self.check_line(["--json", "/nonexistent/figures"], 1, "/nonexistent/figures")

    def test_help_names_every_option(self):
        text = subprocess.run([LOAD, "--help"], capture_output=True, text=True).stdout
        for option in ("host port rate connections pipeline seconds warmup parts threads mix keys "
                       "value-bytes poison poison-command json no-hiccup quiet").split():
            self.assertIn("--" + option, text)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
