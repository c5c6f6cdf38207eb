#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""perf_test.py - tools/perf and coir-perf: one row in short, goals and verdicts, what is not installed.

Builds build/bin/coir-perf. Needs no peer: those that are not installed are said to be so.
"""
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.chdir(ROOT)
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True
import perf
import report
import rows

COIR_PERF = "build/bin/coir-perf"


def call(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def run(*words):
    """tools/perf in this process: its exit status, what it printed, and its JSON."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said), \
            contextlib.redirect_stderr(io.StringIO()):
        file = os.path.join(folder, "perf.json")
        status = perf.main([*words, "--quick", "--json", file])
        found = json.loads(pathlib.Path(file).read_text())
    return status, said.getvalue(), {r["row"]: r for r in found["rows"]}


def made_up(floors=None, **changed):
    """A row that is measured nowhere."""
    return rows.Row("made/up", "made/up", {"Go": ("go", "made/#")}, floors or {"call": ("coir-perf", "call")},
                    **{"goals": [rows.Goal(3)], **changed})


def judged(found, proven=(), others={}, **changed):
    return report.summary(made_up(**changed), found, {}, others, proven)


class Tool(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        perf.build([COIR_PERF])

    def test_one_row_gives_sane_figures(self):
        status, said, found = run("--only", "switch/2")
        row = found["switch/2"]
        self.assertEqual((status, list(found)), (0, ["switch/2"]), said)
        self.assertTrue(0.5 < row["coir"] < 10000, row)
        self.assertTrue(0.5 < row["floors"]["registers alone"] < 10000, row)
        self.assertEqual((row["unit"], row["goals"]), ("ns", ["<= 3.00 ns"]))
        self.assertIn(len(row["runs"]), (1, 2, 3))  # as the time allows
        self.assertEqual(row["verdict"], "met" if row["coir"] <= 3 else "floor")  # perf/README.md shows why
        peer = row["peers"]["Boost.Context"]
        if peer != perf.NOT_INSTALLED:
            self.assertAlmostEqual(row["ratio"], row["coir"] / peer)
        self.assertIn("switch/2 ", said)

    def test_figures_of_a_tail_come_from_the_same_runs(self):
        with mock.patch.object(perf, "installed", lambda header: False):
            _, said, found = run("--only", "tail/50/p50", "--only", "tail/50/p99")
        p50, p99 = found["tail/50/p50"], found["tail/50/p99"]
        self.assertLess(p50["coir"], p99["coir"])
        self.assertLess(p50["floors"]["ideal"], p99["floors"]["ideal"])
        self.assertAlmostEqual(p50["floors"]["ideal"], 1007, delta=50)
        self.assertIn("sojourn us, p50 / p99 / p99.9 ", said)

    def test_turns_of_a_repetition_alternate_and_their_medians_count(self):
        order, figures = [], iter([{"": 9}, {"": 1}, {"": 3}, {"": 5}, {"": 8}, {"": 7}])

        def coir(row, ms, cpus):
            order.append(row)
            return next(figures)
        row = rows.Row("made/up", "a", {}, {"b": (rows.COIR, "b")}, turns=3)
        again = rows.Row("made/too", "a", {}, turns=3)  # shares the measurement
        with mock.patch.object(perf, "run_coir", coir):
            m = perf.Measurements(1, 1, ())
            for chosen in (row, again):
                for turn in range(3):
                    for key in m.keys(chosen).values():
                        m.make(key, 0, turn, 0)
        self.assertEqual(order, ["a", "b"] * 3)
        self.assertEqual(m.found(row)[0], {"coir": [8], "b": [5]})

    def test_peers_that_are_not_installed_are_said_to_be_so(self):
        with mock.patch.object(perf, "installed", lambda header: False):
            status, said, found = run("--only", "open")
        self.assertEqual(status, 0, said)
        self.assertEqual(set(found["open"]["peers"].values()), {"not installed"})
        self.assertEqual((found["open"]["ratio"], found["open"]["verdict"]), (None, None))
        self.assertRegex(said, r"open .* not installed ")
        self.assertIn("tools/deps --perf", said)

    def test_a_server_is_loaded_and_ended(self):
        perf.build(rows.servers.BUILT)
        with rows.servers.Server("coir-kv", lambda cpu: None) as server:
            figures = rows.servers.figures_of(rows.servers.open_loop(server, 0.3, lambda cpu: None, 20000, 4))
            rate = 1e9 / rows.servers.pipeline(server, 0.1, lambda cpu: None)[""]
        self.assertEqual(server.process.returncode, -9)
        self.assertTrue(0 < figures[""] <= figures["/p99"] and figures["/cpu"] > 100, figures)
        self.assertGreater(rate, 1000)

    def test_the_rate_is_one_that_load_and_raw_loop_can_hold(self):
        perf.build(rows.servers.BUILT)
        idle = {"unsent": 0, "load_cpu": 0.5, "server_cpu": 0.5}
        for busy, rate in (({}, 40000), ({"load_cpu": 0.95}, 20000), ({"server_cpu": 0.95}, 20000), ({"unsent": 1}, 20000)):
            tried = []

            def load(server, seconds, place, rate):
                tried.append(rate)
                return idle | (busy if rate > 20000 else {})
            with mock.patch.dict(rows.servers.OPEN, {"steady": load}):
                self.assertEqual(rows.servers.held("steady", 1, lambda cpu: None), rate)
            self.assertEqual(tried, [40000] if rate == 40000 else [40000] * 2 + [30000] * 2 + [20000])
        lines = report.table([judged({"coir": [2]}) | {"rate": 20000}])
        self.assertIn("made/up: all servers at 20,000 requests a second", lines[-1])

    def test_a_server_that_does_not_start_says_so(self):
        with mock.patch.dict(rows.servers.SERVERS, {"coir-kv": ["false"]}), \
                self.assertRaisesRegex(rows.servers.Trouble, "does not start"):
            rows.servers.run("coir-kv", "steady", 1, lambda cpu: None)

    def test_a_row_that_fails_says_why_and_the_status_tells(self):
        def refuse(row, ms, cpus):
            raise perf.Failed("no stack")
        with mock.patch.object(perf, "run_coir", refuse), \
                mock.patch.object(perf, "installed", lambda header: False):
            status, said, found = run("--only", "memory/lease")
        self.assertEqual((status, found["memory/lease"]["error"]), (1, "no stack"))
        self.assertIn("no stack", said)

    def test_what_json_has_is_shown_again_without_measuring(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(perf, "installed", lambda header: False):
            file = os.path.join(folder, "perf.json")
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
                perf.main(["--quick", "--only", "memory/lease", "--json", file])
            again = call("tools/perf", "--from", file)
            self.assertEqual((again.returncode, again.stderr), (0, ""))
            self.assertIn(again.stdout, said.getvalue())
            good = json.loads(pathlib.Path(file).read_text())
            row = good["rows"][0]
            for bad in ([], {"rows": 3}, good | {"rows": [row | {"peers": ["Go"]}]}, good | {"rows": [row | {"coir": {"a": 1}}]},
                        good | {"rows": [row | {"row": "workers/1\nEND\nsystem 'true'"}]},
                        good | {"rows": [row | {"peers": {"it's\nme": 1}}]}):
                pathlib.Path(file).write_text(json.dumps(bad))
                self.refused(file)
            pathlib.Path(file).write_text("[" * 200000)
            self.refused(file)

    def refused(self, file):
        wrong = call("tools/perf", "--from", file)
        self.assertEqual((wrong.returncode, wrong.stderr.count("\n")), (1, 1), wrong)
        self.assertIn("was not written by --json", wrong.stderr)

    def test_figures_are_kept_whatever_becomes_of_the_chart(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(perf, "installed", lambda header: False), \
                mock.patch.object(report, "draw", side_effect=OSError("gnuplot failed")), \
                contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            file = os.path.join(folder, "perf.json")
            with self.assertRaises(OSError):
                perf.main(["--quick", "--only", "memory/lease", "--json", file, "--chart", file + ".svg"])
            self.assertEqual(len(json.loads(pathlib.Path(file).read_text())["rows"]), 1)

    def test_bad_options_end_with_status_2_and_one_line(self):
        for words, text in ((["--only", "nosuch"], "nosuch is not a row; rows: switch/2 "),
                            (["--grow", "--only", "switch/2"], "rows: workers/1 "),
                            (["--chart", "x.png"], "x.png does not end with .svg"),
                            (["--quick", "--only", "server/cpu"], "servers are not measured with --quick"),
                            (["--json", "/nonexistent/x.json"], "/nonexistent/x.json cannot be written there"),
                            (["--chart", "/nonexistent/x.svg"], "/nonexistent/x.svg cannot be written there"),
                            (["--from", "x.json", "--only", "open"], "beside it there is only --chart"),
                            (["--json"], "--json")):
            done = call("tools/perf", *words)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done)
            self.assertIn(text, done.stderr)

    def test_coir_perf_names_what_it_does_not_know(self):
        for word, text in (("--nosuch", "--nosuch is not an option"), ("nosuch", "nosuch is not a suite")):
            done = call(COIR_PERF, word)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done)
            self.assertIn(text, done.stderr)
        done = call(COIR_PERF, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(done.stdout.startswith("usage: coir-perf"))


class Rows(unittest.TestCase):
    def test_each_row_is_one_of_its_programs(self):
        perf.build([COIR_PERF])
        listed = call(COIR_PERF, "--rows").stdout
        grown = [row for _, some in rows.GROW.values() for row in some]
        self.assertEqual(len({row.name for row in rows.ROWS + grown}), len(rows.ROWS + grown))
        for row in rows.ROWS + grown:
            for program, name, _ in row.sources().values():
                if program in rows.servers.SERVERS:
                    self.assertIn(name, rows.servers.LOADS)
                elif program == rows.COIR:
                    self.assertRegex(listed, rf"(?m)^{name}\t")
                else:
                    driver = next(ROOT.glob(f"perf/peers/{program}.*")).read_text()
                    driver += (ROOT / "perf/peers/peer.h").read_text() if "PEER_TAILS" in driver else ""
                    parts = name.split("/")
                    known = {name} | {"/".join([*parts[:i], "#", *parts[i + 1:]])
                                      for i, part in enumerate(parts) if part.isdigit()}
                    self.assertTrue(any(f'"{one}"' in driver for one in known), (program, name))

    def test_goals_of_coir_perf_are_taken_over(self):
        listed = ("made/up\tns\tcall\t{}\t2\tlabel\n").format
        for kind, limit in (("at_most", 2), ("ratio_at_most", 8), ("none", 5)):
            row = made_up(goals=None, floors={"a call": (rows.COIR, "call")})
            rows.take_over([row], listed(kind))
            limits = [goal.limit({"a call": 4, "best peer": 5}) for goal in row.goals]
            self.assertEqual((limits, row.label), ([limit], "label"))

    def test_a_ruler_that_is_measured_in_turn_comes_from_the_rows_own_runs(self):
        row = made_up(goals=None, floors={"other": (rows.COIR, "made/up", rows.IN_TURN)})
        rows.take_over([row], "made/up\tns\tin turn\tratio_at_most\t2\tlabel\n")
        self.assertEqual([goal.limit({"other": 4}) for goal in row.goals], [8])
        perf.build([COIR_PERF])
        figures = perf.run_coir("happy/job", 5, 1)
        self.assertAlmostEqual(figures[""] / figures[rows.IN_TURN], 1, delta=0.2)

    def test_proven_floors_are_read_from_the_readme(self):
        text = "# perf\n## Goals that no design meets\n- `made/up`: because.\n## Next\n- `made/2`: no.\n"
        self.assertEqual(rows.proven_floors(text), {"made/up"})
        self.assertEqual(rows.proven_floors("# perf\n"), set())


class Verdicts(unittest.TestCase):
    def test_medians_ratio_and_spread(self):
        r = judged({"coir": [1, 9, 2], "Go": [4, 4, 5], "call": [1, 1, 1]})
        self.assertEqual((r["coir"], r["best_peer"], r["ratio"]), (2, "Go", 0.5))
        self.assertEqual((r["spread_percent"], r["floors"]), (400, {"call": 1}))

    def test_the_best_peer_is_the_one_that_costs_least(self):
        row = made_up(goals=[rows.Goal(1, "best peer")])
        row.peers["oneTBB"] = ("onetbb", "made/#")
        for go, tbb, best, verdict in ((5, 4, "oneTBB", "met"), (4, 5, "Go", "met"), (9, 3, "oneTBB", "missed")):
            r = report.summary(row, {"coir": [4], "Go": [go], "oneTBB": [tbb]}, {}, {}, ())
            self.assertEqual((r["best_peer"], r["verdict"]), (best, verdict))

    def test_met_missed_floor_or_unknown(self):
        two = [rows.Goal(3), rows.Goal(0.5, "Go")]
        for coir, go, goals, proven, verdict in (
                (3, 9, two, (), "met"), (3.1, 9, two, (), "missed"), (3, 5, two, (), "missed"),
                (3.1, 9, two, {"made/up"}, "floor"), (2, 9, two, {"made/up"}, "met"),
                (2, None, two, (), None), (4, None, two, (), "missed"), (2, 1, [], (), None)):
            found = {"coir": [coir], **({"Go": [go]} if go else {})}
            self.assertEqual(judged(found, proven, goals=goals)["verdict"], verdict, (coir, go))
        self.assertEqual(judged({"coir": [2]}, others={"x": 4}, goals=[rows.Goal(0.4, "x")])["verdict"],
                         "missed")

    def test_what_a_raw_floor_misses_is_at_its_floor(self):
        floors = {"raw futex": ("coir-perf", "made"), "call": ("coir-perf", "call")}
        for coir, raw, call, verdict in ((4, 3.5, 1, "floor"), (4, 2.9, 1, "missed"), (4, 2, 9, "missed"),
                                         (2, 3.5, 1, "met")):
            row = made_up(floors=floors, goals=[rows.Goal(3)])
            r = report.summary(row, {"coir": [coir], "raw futex": [raw], "call": [call]}, {}, {}, ())
            self.assertEqual(r["verdict"], verdict, (coir, raw, call))

    def test_what_a_peer_reached_is_no_floor(self):
        floors = {"raw futex": ("coir-perf", "made")}
        for go, verdict in ((2.9, "missed"), (3, "missed"), (3.1, "floor"), (None, "floor")):
            found = {"coir": [4], "raw futex": [3.5], **({"Go": [go]} if go else {})}
            self.assertEqual(judged(found, floors=floors)["verdict"], verdict, go)

    def test_noise_decides_where_repetitions_disagree(self):
        for coir, other, goal, mark in (([2, 2, 2, 2, 4], 9, rows.Goal(3), False), ([2, 2, 2, 4, 4], 9, rows.Goal(3), True),
                                        ([2, 4], 9, rows.Goal(3), None),
                                        ([2, 9, 4, 7, 3], [2, 9, 4, 7, 3], rows.Goal(1.02, "call"), False),
                                        ([2, 9, 4, 7, 3], [9, 2, 4, 3, 7], rows.Goal(1.02, "call"), True)):
            r = judged({"coir": coir, "call": other if isinstance(other, list) else [other]}, goals=[goal])
            self.assertEqual((r["verdict"], r["within_spread"]), ("met", mark), (coir, other))
        lines = report.table([judged({"coir": [2, 4, 4, 2, 2]})])
        self.assertIn(" met ~ ", lines[1])
        self.assertTrue(lines[-1].startswith("~: noise decides"), lines)

    def test_quantities(self):
        for value, unit, text in ((1.234, "ns", "1.23 ns"), (9999, "ns", "9999 ns"), (42100, "ns", "42.1 us"),
                                  (999900, "ns", "1000 us"), (2.5e6, "ns", "2.50 ms"), (4353.2, "B", "4,353 B"),
                                  (None, "ns", "-"), ("not installed", "ns", "not installed")):
            self.assertEqual(report.quantity(value, unit), text)

    def test_the_table_is_straight(self):
        lines = report.table([judged({"coir": [1, 2, 3], "Go": [4]}), judged({"coir": [4e6], "Go": [4e7]})])
        self.assertEqual(len({line.index("  Go  ") for line in lines[1:3]}), 1, lines)
        self.assertEqual(lines[-1], "1 goals met, 1 missed, 0 at a proven floor")


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
