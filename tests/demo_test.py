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
STEADY = {**NORMAL, "spread": 1.1}


def shot(kinds, each):
    """A sound run under so many poisoned requests of each kind."""
    return {**NORMAL, "poison_sent": each * len(kinds), "poison_contained": each * len(kinds),
            "poisons": [{"command": kind, "sent": each, "contained": each} for kind in kinds]}


SOUND = {"p1": NORMAL, "p16": NORMAL, "rate": NORMAL, "before": STEADY, "poison": shot(demo.KINDS, 750)}
COUNTED = {figure: 750 * list(demo.KINDS.values()).count(figure) for figure in demo.KINDS.values()}
LOOPS = {"before": STEADY, "poison": shot(demo.LOOP, 3)}


def run(**replaced):
    """The exit status of the demo and what it printed."""
    said = io.StringIO()
    with mock.patch.multiple(demo, **replaced), contextlib.redirect_stdout(said):
        try:
            demo.main()
        except SystemExit as end:
            return end.code, said.getvalue()


class Demo(unittest.TestCase):
    def test_a_run_ends_well_and_its_tables_are_straight(self):
        # The p50 of so short a run says nothing on a busy machine.
        status, said = run(SECONDS=0.3, BEFORE_SECONDS=0.3, POISON_SECONDS=0.6, ROUNDS=2, RATE=2000,
                           POISON_RATE=100, SLOWER_MAX=1e9)
        self.assertEqual(status, 0, said)
        lines = said.splitlines()
        top = next(i for i, line in enumerate(lines) if line.startswith("  server"))
        rows = lines[top - 1:top + 5]
        self.assertEqual(len({len(line) for line in rows[1:]}), 1, said)
        self.assertRegex(rows[4], r"coir-kv, poisoned .* 0 of 50 +[1-9]\d* +yes$")
        self.assertRegex(rows[5], r"redis-server, poisoned .* 50 of 50 +1 +no$")
        for kind in demo.KINDS:
            self.assertRegex(said, rf"(?m)^  {kind} +([1-9]\d*) +\1$")
        self.assertRegex(said, r"(?m)^  all of these +([1-9]\d*) +\1 +0 of 50 +[\d,]+ +[\d,]+ +\d+\.\d\d$")
        self.assertRegex(said, r"(?m)^  DEBUG LOOP +([1-9]) +\1 +0 of 50 +[\d,]+ +[\d,]+ +\d+\.\d\d$")
        self.assertIn("panic at tools/kv/debug.c", said)
        self.assertRegex(said, r"stall: worker \d is in job \d+ \(DEBUG LOOP")
        self.assertLess(max(map(len, lines)), 120)

    def test_a_broken_promise_is_said_and_ends_with_status_1(self):
        figures = {name: dict(figures) for name, figures in SOUND.items()}
        figures["poison"].update(lost=2, poison_contained=4499)
        status, said = run(measure=lambda kv, redis, loop, folder: {kv: figures, redis: SOUND, loop: LOOPS})
        self.assertEqual(status, 1)
        self.assertIn("PROMISE BROKEN: coir-kv: 2 of 50 connections were lost", said)
        self.assertIn("PROMISE BROKEN: coir-kv: 1 of 4,500 poisoned requests were not contained", said)
        self.assertIn('PROMISE BROKEN: coir-kv: /metrics counts 0 in coir_failures_total{kind="panic"}, and 750',
                      said)
        self.assertIn("PROMISE BROKEN: coir-kv, 2 workers: /metrics counts 0 in coir_kv_deadlines", said)
        self.assertNotIn("What to read next", said)

    def test_each_promise_can_break(self):
        def broken(figures, alive=True, counted=COUNTED):
            return demo.broken_promises("coir-kv", figures, alive, demo.KINDS, counted)

        self.assertEqual(broken(SOUND), [])
        for run_name, change in (
                ("poison", {"lost": 1}), ("rate", {"lost": 1}), ("p16", {"errors": 1}),
                ("poison", {"poison_contained": 4}), ("poison", {"latency_us": {"p50": 46.0, "p99": 1.0}}),
                ("poison", {"latency_us": {"p50": None, "p99": None}}),
                ("poison", {"poison_sent": 0, "poison_contained": 0})):
            figures = {name: dict(figures) for name, figures in SOUND.items()}
            figures[run_name].update(change)
            self.assertEqual(len(broken(figures)), 1, (run_name, change))
        slow = {**SOUND, "poison": {**SOUND["poison"], "latency_us": {"p50": 46.0}}}
        self.assertEqual(broken({**slow, "before": {**STEADY, "spread": 1.6}}), [])
        self.assertEqual(len(broken(SOUND, alive=False)), 1)
        for figure in COUNTED:
            self.assertEqual(len(broken(SOUND, counted={**COUNTED, figure: 1})), 1, figure)

    def test_pairs_are_summed_and_the_middle_one_is_compared(self):
        def pair(p50, lost):
            return {"before": {**NORMAL, "latency_us": {"p50": p50 and 30.0}}, "poison": {**shot(["a", "b"], 10), "lost": lost,
                                                 "latency_us": {"p50": p50, "p99": 1.0}}}

        runs = demo.summed([pair(90.0, 1), pair(None, 2), pair(33.0, 0)])
        self.assertEqual((demo.slower(runs), demo.judged(runs)), (3.0, False))
        self.assertEqual((runs["poison"]["lost"], runs["poison"]["poison_sent"]), (3, 60))
        self.assertEqual(runs["poison"]["poisons"], [{"command": "a", "sent": 30, "contained": 30},
                                                     {"command": "b", "sent": 30, "contained": 30}])

    def test_a_server_that_does_not_start_is_shown(self):
        status, _ = run(KV="/bin/false")
        self.assertIn("coir-kv did not start", status)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
