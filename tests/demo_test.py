#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""demo_test.py - tools/demo.py: a run in short, and what it says when a promise is broken.

Needs build/bin/coir-kv, build/bin/coir-load and redis-server.
"""
import contextlib
import io
import os
import pathlib
import sys
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.chdir(ROOT)
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True
import demo

US = {"p50": 30.0, "p99": 900.0}
NORMAL = {"lost": 0, "errors": 0, "connections": 50, "requests_per_second": 40000.0, "latency_us": US,
          "hiccup_us": {"p99": 5.0}, "cpu_us": 5.0, "poison_sent": 0, "poison_contained": 0}
SOUND = {"p1": NORMAL, "p16": NORMAL, "rate": NORMAL,
         "poison": {**NORMAL, "poison_sent": 4500, "poison_contained": 4500}}


def run(**replaced):
    """The exit status of the demo and what it printed."""
    said = io.StringIO()
    with mock.patch.multiple(demo, **replaced), contextlib.redirect_stdout(said):
        try:
            demo.main()
        except SystemExit as end:
            return end.code, said.getvalue()


class Demo(unittest.TestCase):
    def test_a_run_ends_well_and_its_table_is_straight(self):
        status, said = run(SECONDS=0.3, POISON_SECONDS=0.5, RATE=2000, POISON_RATE=100)
        self.assertEqual(status, 0, said)
        lines = said.splitlines()
        top = next(i for i, line in enumerate(lines) if line.startswith("  server"))
        rows = lines[top - 1:top + 5]
        self.assertEqual(len({len(line) for line in rows[1:]}), 1, said)
        self.assertRegex(rows[4], r"coir-kv, poisoned .* 0 of 50 +50 +yes$")
        self.assertRegex(rows[5], r"redis-server, poisoned .* 50 of 50 +1 +no$")
        self.assertIn("panic at tools/kv/command.c", said)
        self.assertLess(max(map(len, lines)), 120)

    def test_a_broken_promise_is_said_and_ends_with_status_1(self):
        figures = {name: dict(figures) for name, figures in SOUND.items()}
        figures["poison"].update(lost=2, poison_contained=4499)
        status, said = run(measure=lambda kv, redis, folder: {kv: figures, redis: SOUND})
        self.assertEqual(status, 1)
        self.assertIn("PROMISE BROKEN: 2 of 50 connections were lost", said)
        self.assertIn("PROMISE BROKEN: 1 of 4,500 poisoned requests were not contained", said)
        self.assertIn("PROMISE BROKEN: /metrics counts 0 panics", said)
        self.assertNotIn("What to read next", said)

    def test_each_promise_can_break(self):
        self.assertEqual(demo.broken_promises(SOUND, True, 4500), [])
        for run_name, change, alive, panics in (
                ("poison", {"lost": 1}, True, 4500), ("rate", {"lost": 1}, True, 4500),
                ("p16", {"errors": 1}, True, 4500), ("poison", {"poison_contained": 4}, True, 4500),
                ("poison", {"poison_sent": 0, "poison_contained": 0}, True, 0),
                ("p1", {}, False, 4500), ("p1", {}, True, 4499)):
            figures = {name: dict(figures) for name, figures in SOUND.items()}
            figures[run_name].update(change)
            self.assertEqual(len(demo.broken_promises(figures, alive, panics)), 1, (run_name, change))

    def test_a_server_that_does_not_start_is_shown(self):
        status, _ = run(KV="/bin/false")
        self.assertIn("coir-kv did not start", status)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
