#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""perf_walk_test.py - a frame-pointer walk goes from a handler through its fiber to its thread.

Samples tests/perf_walk_program.c, and coir-kv under load, with `perf record --call-graph fp`, and
looks at the chains. Builds the programs.
"""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "build/x86_64/tests/perf_walk_program"
KV, LOAD = "build/bin/coir-kv", "build/bin/coir-load"
WHOLE = ["arch_boundary", "loop", "arch_enter", "worker_main", "thread_entry"]
PATIENCE = 60   # seconds for anything that runs once


@contextlib.contextmanager
def recording(folder, *command):
    """Runs a command under perf; yields it; after that the samples are in folder/perf.data."""
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph",
                             "fp", "-o", folder + "/perf.data", *command], cwd=ROOT, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            start_new_session=True)
    try:
        yield perf
        perf.wait(PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(perf.pid, signal.SIGKILL)     # what perf started, too
        perf.wait()
        perf.stdout.close()


def chains(folder):
    """Of each sample in user code, the functions, innermost first."""
    text = subprocess.run(["perf", "script", "-i", folder + "/perf.data", "-F", "comm,ip,sym,dso"],
                          capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    for sample in text.split("\n\n"):
        frames = re.findall(r"^\s+[0-9a-f]+ (\S+) \((.+)\)$", sample, flags=re.M)
        yield [name for name, place in frames if "kernel" not in place]


def position(chain, name):
    """Where a function is, or NAME_entry, into which the compiler may have inlined it."""
    for i, function in enumerate(chain):
        if function.split(".")[0] in (name, name + "_entry"):
            return i
    return -1


def is_whole(chain):
    """Whether a chain leads from a job through fiber and worker to the thread's start."""
    at = [position(chain, name) for name in WHOLE]
    return at[0] >= 0 and at == sorted(at)


class Walk(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def check_chains(self, handler, share):
        """That enough chains hold the handler, and that nearly all of them are whole."""
        seen = [c for c in chains(self.folder) if handler in c]
        whole = [c for c in seen if is_whole(c)]
        self.assertGreater(len(seen), 50, f"{handler} is in too few samples to say anything")
        broken = max((c for c in seen if not is_whole(c)), key=len, default=None)
        self.assertGreaterEqual(len(whole), share * len(seen),
                                f"{len(whole)} of {len(seen)} chains are whole; one that is not: {broken}")
        return whole

    def test_a_resumed_fibers_handler_leads_to_its_thread(self):
        with recording(self.folder, PROGRAM, "1") as program:
            program.communicate(timeout=PATIENCE)
        self.assertEqual(program.returncode, 0)
        whole = self.check_chains("handler_inner", 0.99)
        self.assertIn(["burn", "handler_inner", "handler", "arch_boundary", "job_run"],
                      [c[:5] for c in whole])

    def test_a_handler_of_coir_kv_leads_to_its_thread(self):
        with recording(self.folder, KV, "--port", "0", "--workers", "1") as server:
            line = server.stdout.readline()
            port = re.search(r"listening on .*:(\d+)", line)
            self.assertTrue(port, f"coir-kv said {line!r}")
            load = subprocess.run([LOAD, "--port", port[1], "--rate", "0", "--pipeline", "16",
                                   "--connections", "20", "--seconds", "3", "--warmup", "0",
                                   "--threads", "1", "--no-hiccup", "--quiet"], cwd=ROOT,
                                  capture_output=True, text=True, timeout=PATIENCE, check=False)
            subprocess.run(["redis-cli", "-p", port[1], "shutdown"], capture_output=True,
                           timeout=PATIENCE, check=True)
        self.assertEqual(load.returncode, 0, load.stdout + load.stderr)
        self.assertEqual(server.returncode, 0)
        self.check_chains("run_requests", 0.99)


if __name__ == "__main__":
    subprocess.run(["ninja", "-C", str(ROOT), PROGRAM, KV, LOAD], stdout=subprocess.DEVNULL, check=True)
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
