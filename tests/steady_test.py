#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""steady_test.py - in steady state no system call, no allocation, no page fault on any worker.

usage: tests/steady_test.py [PROGRAM]     PROGRAM: build/x86_64/tests/steady_load
       STEADY_SECONDS=2 tests/steady_test.py     a shorter watch than 10 s

The load keeps two workers busy with jobs that spawn, wait and yield. It is watched from outside:
system calls by strace on the workers' threads (a sleep is one), page faults and CPU time from /proc. Allocations are counted by an interposer inside the load. Then a violation of each kind is
planted, and the same watch must see it.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build/x86_64/tests/steady_load"
SECONDS = float(os.environ.get("STEADY_SECONDS", "10"))
PLANTED_SECONDS = 1.0
START_SECONDS = 30    # for the load to be ready, and strace attached
BUSY_SHARE = 0.1      # of the watched time that each worker must have run: machines are shared
LATE = 10             # so many times longer it may take until they have
TICKS = os.sysconf("SC_CLK_TCK")


def workers(pid):
    """Thread ids of the load's workers."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    return [t.name for t in tasks.iterdir() if (t / "comm").read_text().startswith("coir/")]


def figures(pid, tid):
    """Page faults and CPU seconds in user mode of a thread."""
    stat = pathlib.Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()
    return {"faults": int(stat[7]) + int(stat[9]), "seconds": int(stat[11]) / TICKS}


def attach(tids, log):
    """strace on these threads, tracing already."""
    pids = [word for tid in tids for word in ("-p", tid)]
    tracer = subprocess.Popen(["strace", "-qq", "-o", log, *pids], stderr=subprocess.PIPE)
    end = time.monotonic() + START_SECONDS
    while not all(f"TracerPid:\t{tracer.pid}\n" in pathlib.Path(f"/proc/{tid}/status").read_text()
                  for tid in tids):
        if tracer.poll() is not None or time.monotonic() > end:
            tracer.kill()
            raise RuntimeError(f"strace could not attach: {tracer.communicate()[1]}")
        time.sleep(0.01)
    return tracer


def watch(program, seconds, violation=None):
    """Runs the load, and what was seen of it while it was steady."""
    command = [program] + ([violation] if violation else [])
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with tempfile.NamedTemporaryFile("r") as log:
        try:
            if load.stdout.readline() != "ready\n":
                raise RuntimeError("the load did not get ready")
            tids = workers(load.pid)
            tracer = attach(tids, log.name)
            before = [figures(load.pid, tid) for tid in tids]
            time.sleep(seconds)
            after = [figures(load.pid, tid) for tid in tids]
            late = time.monotonic() + LATE * seconds
            while time.monotonic() < late and not all(
                    a["seconds"] - b["seconds"] > seconds * BUSY_SHARE for a, b in zip(after, before)):
                time.sleep(1)  # where the machine is busy it takes longer to see as much of them
                after = [figures(load.pid, tid) for tid in tids]
            tracer.terminate()
            tracer.communicate()
            calls = [re.sub(r"^\d+ +", "", line) for line in log.read().splitlines()]
            told = load.communicate("\n", timeout=START_SECONDS)[0]
        finally:
            load.kill()
            load.wait()
    grown = {name: [b[name] - a[name] for a, b in zip(before, after)] for name in before[0]}
    allocations, jobs = map(int, re.findall(r"\d+", told))
    return {"calls": [c for c in calls if re.match(r"\w+\(", c)], "allocations": allocations,
            "jobs": jobs, **grown}


def check(holds, what, seen, failures):
    if not holds:
        failures.append(f"{what}: " + ", ".join(f"{k} {v}" for k, v in seen.items() if k != "calls") +
                        f", calls {len(seen['calls'])} {seen['calls'][:3]}")


def nothing_happens_in_steady_state(program, failures):
    seen = watch(program, SECONDS)
    print(f"{seen['jobs']} jobs in {SECONDS:g} s; CPU seconds of each worker: {seen['seconds']}")
    check(len(seen["seconds"]) == 2, "there are two workers", seen, failures)
    check(not seen["calls"], "no system call", seen, failures)
    check(not seen["allocations"], "no allocation", seen, failures)
    check(not any(seen["faults"]), "no page fault", seen, failures)
    check(min(seen["seconds"]) > SECONDS * BUSY_SHARE, "both workers are busy", seen, failures)
    check(seen["jobs"] > SECONDS * 10000, "jobs are done", seen, failures)


def a_planted_system_call_is_seen(program, failures):
    seen = watch(program, PLANTED_SECONDS, "syscall")
    check(any(c.startswith("getppid(") for c in seen["calls"]), "getppid is seen", seen, failures)


def a_planted_allocation_is_seen(program, failures):
    seen = watch(program, PLANTED_SECONDS, "malloc")
    check(seen["allocations"] > 0, "malloc is seen", seen, failures)


def a_planted_page_fault_is_seen(program, failures):
    seen = watch(program, PLANTED_SECONDS, "fault")
    check(sum(seen["faults"]) > 0, "the fault is seen", seen, failures)


CASES = [nothing_happens_in_steady_state, a_planted_system_call_is_seen,
         a_planted_allocation_is_seen, a_planted_page_fault_is_seen]


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else PROGRAM
    failed = 0
    for case in CASES:
        failures = []
        try:
            case(program, failures)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            failures.append(repr(error))
        for failure in failures:
            print(f"{case.__name__}: not true: {failure}")
        failed += bool(failures)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
