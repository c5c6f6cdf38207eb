#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""gdb_test.py - tools/gdb_coir.py: the table and the backtraces, live and from a core file.

Builds tests/gdb_program.c, unless COIR_GDB_PROGRAM names it built, and stops it in a running fiber
while others are parked.
"""
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools/gdb_coir.py"
BUILT = "build/x86_64/tests/gdb_program"
PROGRAM = os.environ.get("COIR_GDB_PROGRAM", str(ROOT / BUILT))
BAD_ENDS = ["corrupt stack", "previous frame", "Backtrace stopped"]
MARK, SECONDS = "@done", 120
TO_BREAKPOINT = ["break breakpoint_here", "run"]


class Gdb:
    """A gdb that runs one command after another."""

    def __init__(self, *commands, core=None):
        self.process = subprocess.Popen(
            ["gdb", "-q", "-nx", "-x", str(TOOL), PROGRAM, *([core] if core else [])], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "DEBUGINFOD_URLS": ""}, start_new_session=True)
        self.alarm = threading.Timer(SECONDS, self.process.kill)
        self.alarm.start()
        for command in ["set prompt", "set confirm off", "set width 0", *commands]:
            self.run(command)

    def run(self, command):
        """Its output."""
        self.process.stdin.write(f"{command}\necho \\n{MARK}\\n\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line == MARK + "\n":
                return "".join(lines).strip()
            lines.append(line)
        raise RuntimeError("gdb has ended: " + "".join(lines))

    def close(self):
        self.process.stdin.close()      # gdb ends, and with it the program
        self.process.wait()
        self.process.stdout.close()
        self.alarm.cancel()


def rows(table):
    """The table as a dictionary for each fiber, cut at the columns of its title."""
    title, *lines = table.splitlines()
    starts = [m.start() for m in re.finditer(r"(?<!\S)\w+( \w+)*", title)] + [None]
    cut = [[line[a:b].strip() for a, b in zip(starts, starts[1:])] for line in [title, *lines]]
    return [dict(zip(cut[0], row)) for row in cut[1:]]


def functions(backtrace):
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", backtrace, flags=re.M)


def contains(names, chain):
    """Whether the names hold the chain, without others in between."""
    return any(names[i:i + len(chain)] == chain for i in range(len(names)))


def line_of(text):
    lines = (ROOT / "tests/gdb_program.c").read_text(encoding="utf-8").splitlines()
    return str(1 + next(i for i, line in enumerate(lines) if text in line))


class Views:
    """What both a live process and a core file must show; cls.gdb shows one."""

    @classmethod
    def tearDownClass(cls):
        cls.gdb.close()

    def setUp(self):
        self.gdb.run("fiber")

    def table(self, command="info fibers"):
        return rows(self.gdb.run(command))

    def check_backtrace(self, text, *chains):
        names = functions(text)
        for chain in chains:
            self.assertTrue(contains(names, chain), f"{chain} is not in\n{text}")
        self.assertEqual(names[-1], "arch_enter", text)
        self.assertEqual([int(n) for n in re.findall(r"^#(\d+)", text, flags=re.M)],
                         list(range(len(names))), text)
        for bad in BAD_ENDS:
            self.assertNotIn(bad, text)

    def fibers_of(self, job):
        return [row["id"] for row in self.table() if row["job"] == job]

    def test_parked_fibers_say_what_they_wait_for(self):
        table = self.table()
        sleeping = [r for r in table if r["job"] == "sleep_job"]
        self.assertEqual([(r["state"], r["worker"], r["jobs"], r["waits for"]) for r in sleeping],
                         [("parked", "-", "1", "sleep")] * 3)
        waiting = [r for r in table if r["job"] == "the waiter (wait_job)"]
        self.assertEqual([(r["state"], r["worker"], r["jobs"], r["waits for"]) for r in waiting],
                         [("parked", "-", "1", "counter sleepers")])

    def test_a_running_fiber_names_its_worker_and_waits_for_nothing(self):
        running = [r for r in self.table() if r["job"] == "run_job"]
        self.assertEqual([(r["state"], r["jobs"], r["waits for"]) for r in running],
                         [("running", "1", "")])
        self.assertIn(running[0]["worker"], ["0", "1"])

    def test_idle_loops_are_shown_on_request_only(self):
        some, everything = self.table(), self.table("info fibers all")
        self.assertNotIn("idle", [r["state"] for r in some])
        self.assertIn("idle", [r["state"] for r in everything])
        self.assertEqual(some, [r for r in everything if r["state"] != "idle"])

    def test_the_table_is_aligned(self):
        title, *lines = self.gdb.run("info fibers").splitlines()
        for column in ["state", "worker", "thread", "jobs", "job "]:
            at = title.index(column)
            for line in lines:
                self.assertTrue(line[at - 1] == " " and line[at] != " ", line)

    def test_the_backtrace_of_a_parked_fiber_is_its_own(self):
        for fiber in self.fibers_of("sleep_job"):
            text = self.gdb.run(f"fiber {fiber} bt")
            self.check_backtrace(text, ["coir_sleep_until", "sleep_inner", "sleep_job", "arch_boundary"])
            self.assertNotIn("breakpoint_here", text)
        [fiber] = self.fibers_of("the waiter (wait_job)")
        self.check_backtrace(self.gdb.run(f"fiber {fiber} bt"),
                             ["coir_wait", "wait_inner", "wait_job", "arch_boundary"])

    def test_the_backtrace_of_a_running_fiber_is_its_threads(self):
        [fiber] = self.fibers_of("run_job")
        text = self.gdb.run("bt")
        self.assertEqual(self.gdb.run(f"fiber {fiber} bt"), text)
        self.check_backtrace(text, ["breakpoint_here", "run_inner", "run_inner", "run_inner",
                                    "run_job", "arch_boundary"], ["job_run", "loop"])

    def test_a_fiber_can_be_selected_and_left(self):
        fiber = self.fibers_of("sleep_job")[0]
        newest = self.gdb.run("frame")
        self.gdb.run(f"fiber {fiber}")
        self.assertIn("sleep_inner", self.gdb.run("frame function sleep_inner"))
        self.assertRegex(self.gdb.run("up"), r"#\d+ .* in sleep_job ")
        self.gdb.run("fiber")
        self.assertEqual(self.gdb.run("frame"), newest)

    def test_looking_at_others_keeps_what_is_selected(self):
        asleep, other = self.fibers_of("sleep_job")[:2]
        for select in ["frame 2", f"fiber {asleep}", "frame function sleep_inner"]:
            self.gdb.run(select)
            frame = self.gdb.run("frame")
            self.gdb.run(f"fiber {other} bt")
            self.gdb.run("info fibers")
            self.assertEqual(self.gdb.run("frame"), frame)

    def test_wrong_arguments_give_one_line(self):
        for command, word in [("info fibers some", "usage"), ("fiber 99999", "99999"),
                              ("fiber x", "x"), ("fiber 1 up", "usage"), ("fiber 7.1 bt", "7.1")]:
            text = self.gdb.run(command)
            self.assertNotIn("\n", text)
            self.assertIn(word, text)


class Live(Views, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gdb = Gdb(*TO_BREAKPOINT)


class Core(Views, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            core = folder + "/core"
            writer = Gdb("break breakpoint_here", "run unguarded")
            said = writer.run("generate-core-file " + core)
            writer.close()
            if not os.path.exists(core):
                raise RuntimeError("no core file: " + said)
            cls.gdb = Gdb(core=core)    # and keeps it open


class Running(unittest.TestCase):
    """Sessions that go on after they have looked."""

    def session(self, *commands):
        gdb = Gdb(*commands)
        self.addCleanup(gdb.close)
        return gdb

    def test_the_program_goes_on_unharmed(self):
        gdb = self.session(*TO_BREAKPOINT)
        for command in ["info fibers", "fiber 1", "fiber 1 bt"]:
            gdb.run(command)
        self.assertIn("exited normally", gdb.run("continue"))

    def test_a_selected_fiber_is_left_when_the_program_runs(self):
        gdb = self.session(*TO_BREAKPOINT)
        [fiber] = [r["id"] for r in rows(gdb.run("info fibers")) if r["job"] == "the waiter (wait_job)"]
        gdb.run(f"fiber {fiber}")
        self.assertIn("wait_job", gdb.run("bt"))
        gdb.run("next")
        self.assertNotIn("wait_job", gdb.run("bt"))

    def test_damaged_fibers_hide_no_other(self):
        gdb = self.session(*TO_BREAKPOINT)
        whole = rows(gdb.run("info fibers"))
        [fiber] = [r for r in whole if r["job"] == "the waiter (wait_job)"]
        gdb.run(f"python gdb.set_convenience_variable('f', find_fiber('{fiber['id']}').value.address)")
        for damage, seen in [("job = (struct job *)16", {"jobs": "?", "job": "?"}),
                             ("job->outer = $f->job", {"jobs": "?"}),
                             ("job->outer = (struct job *)-64", {"jobs": "?"}),
                             ("job->name = (char *)1", {"job": "? (wait_job)"}),
                             ("waits_for = (char *)8", {"waits for": "? sleepers"})]:
            field = damage.split(" = ")[0]
            gdb.run(f"set $kept = $f->{field}")
            gdb.run(f"set var $f->{damage}")
            self.assertEqual(rows(gdb.run("info fibers")),
                             [{**r, **seen} if r == fiber else r for r in whole], damage)
            gdb.run(f"set var $f->{field} = $kept")
        for sp in "24", "-64", "(char *)$f + 64":
            gdb.run(f"set var $f->sp = (void *)({sp})")
            self.assertRegex(gdb.run(f"fiber {fiber['id']} bt"), r"\Afiber \d+ was not saved in its stack.*\Z")
            self.assertEqual(rows(gdb.run("info fibers")), whole)

    def test_a_thread_that_is_in_main_itself_is_left_for_another(self):
        gdb = self.session(*TO_BREAKPOINT, "break gdb_program.c:" + line_of("check(coir_close("), "continue")
        frame = gdb.run("frame")
        self.assertIn("main (", frame)
        idle = [r["id"] for r in rows(gdb.run("info fibers all")) if r["state"] == "idle"]
        parked = [text for text in (gdb.run(f"fiber {i} bt") for i in idle) if "has not run yet" not in text]
        self.assertEqual([functions(text)[-1] for text in parked], ["arch_enter"] * len(parked))
        self.assertTrue(parked)
        self.assertEqual(gdb.run("frame"), frame)
        self.assertNotEqual([gdb.run(f"fiber {i}") for i in idle], [])
        self.assertEqual(functions(gdb.run("bt"))[-1], "arch_enter")

    def test_without_a_process_one_line_says_so(self):
        gdb = self.session()
        for command in ["info fibers", "fiber 1 bt"]:
            self.assertEqual(gdb.run(command), "there is no process")

    def test_before_a_runtime_is_open_one_line_says_so(self):
        gdb = self.session("break main", "run")
        self.assertRegex(gdb.run("info fibers"), r"\Ano coir runtime in this process: .*\Z")


if __name__ == "__main__":
    if "COIR_GDB_PROGRAM" not in os.environ:
        subprocess.run(["ninja", "-C", str(ROOT), BUILT], stdout=subprocess.DEVNULL, check=True)
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
