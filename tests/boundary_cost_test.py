#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""boundary_cost_test.py - what the panic boundary costs, in instructions, which no load of the machine changes.

Counts tests/boundary_cost_program.c under callgrind: two runs that differ only in how often they do a
thing differ by that thing's instructions. Bounds are what is argued at them; a few instructions
above what one compiler makes of the code today. Builds the program.
"""
import collections
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "build/x86_64/tests/boundary_cost_program"
PATIENCE = 100  # seconds for one run
NOISE = 0.5     # instructions per unit; the loop idles for as long as the machine lets it

# A call in the boundary's frame: endbr64, push, two moves that make the frame and shift the arguments,
# one that keeps the function, call, result, pop, ret. A C function that calls through a pointer has all of
# these but endbr64, where nobody takes its address.
FRAME = 9
LOOKED_AT = 4   # a second argument; the result, tested
RECORD = 12     # a job's in a batch: what to call and when, looked at
TRY = 130       # coir_try: a record opened, kept as the innermost, where it runs, and C++'s globals
CHECKPOINT = 18  # a call, one that says which worker this is, a load, a branch; the loop around
TRACED = {1: 320, 10: 780}  # a backtrace kept: another look at the records, and some 45 for a frame
PANIC_OF_THROW = {1: 0.58, 10: 0.57, 100: 0.57}  # a panic's instructions, of a throw's over the same frames


def callgrind(file, *more):
    """What it says of one run, whose counts it writes to the file."""
    return subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", *map(str, more)], cwd=ROOT,
                          stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=PATIENCE, check=True).stderr


def count(*arguments):
    """Instructions of one run."""
    return int(re.search(r"Collected : (\d+)", callgrind("/dev/null", PROGRAM, *arguments))[1])


def each(what, *more, few=1000, many=101000):
    """Instructions of one more of it; what happens once, as filling caches, is in both runs."""
    return (count(what, many, *more) - count(what, few, *more)) / (many - few)


def executions(*arguments):
    """Of one run: instruction -> how often it was executed. An instruction is a function and a place in its page: of some
    blocks callgrind does not know the object, and gives other addresses, which differ by whole pages."""
    found = collections.Counter()
    with tempfile.NamedTemporaryFile(mode="r") as file:
        callgrind(file.name, "--dump-instr=yes", "--dump-line=no", "--compress-pos=no", "--compress-strings=no", PROGRAM,
                  *arguments)
        function, of_a_call = "", False
        for line in file:
            if line.startswith("fn="):
                function = line[3:].split("'")[0].strip()  # without the depth of a recursion
            elif line.startswith("0x") and not of_a_call:  # after "calls=": what the callee has
                address, times = line.split()
                found[function, int(address, 16) % 4096] += int(times)
            of_a_call = line.startswith("calls=")
    return found


def path(what, *more, few=1000, many=101000):
    """The instructions of one more of it, those that most run: instruction -> executions."""
    before, after = executions(what, few, *more), executions(what, many, *more)
    each_one = {where: (times - before[where]) / (many - few) for where, times in after.items()}
    return {where: times for where, times in each_one.items() if times >= 0.5}


class Cost(unittest.TestCase):
    def test_the_boundary_costs_what_a_frame_costs(self):
        direct, call, boundary = each("direct"), each("call"), each("boundary")
        print(f"through a C function that calls it: {call - direct:+.1f} instructions, through the boundary: "
              f"{boundary - direct:+.1f}; for containing panics: {boundary - call:+.1f}")
        self.assertLessEqual(boundary - direct, FRAME + LOOKED_AT + NOISE)
        self.assertLessEqual(boundary - call, 1 + NOISE)  # endbr64

    def test_a_jobs_record_costs_little_beside_its_frame(self):
        bare, job = each("bare-job"), each("job")
        print(f"spawn, run and join of a job without any boundary: {bare:.1f} instructions, in one: "
              f"{job:.1f}; the boundary: {job - bare:+.1f}, of which its frame {FRAME}")
        self.assertLessEqual(job - bare, FRAME + RECORD + NOISE)

    def test_a_job_that_does_not_panic_is_the_same_instructions_contained_or_not(self):
        for what in ("job", "helped-job"):
            contained, aborting = path(what, 1), path(what, "abort")
            print(f"a {what} contained: {sum(contained.values()):.1f} instructions at {len(contained)} addresses, not: "
                  f"{sum(aborting.values()):.1f} at {len(aborting)}")
            self.assertEqual(set(contained), set(aborting))
            for instruction, times in contained.items():  # who helps lets others run as time passes: 0.95 of its loop's
                self.assertAlmostEqual(times, aborting[instruction], delta=0.25, msg=instruction)
            self.assertGreater(sum(contained.values()), 50)

    def test_a_try_costs_little(self):
        tried = each("try") - each("direct")
        print(f"coir_try of an empty function: {tried:.1f} instructions")
        self.assertLessEqual(tried, TRY + NOISE)

    def test_a_checkpoint_nobody_asked_for_costs_a_call(self):
        passed = each("checkpoint")
        print(f"coir_checkpoint, looked at: {passed:.1f} instructions")
        self.assertLessEqual(passed, CHECKPOINT + NOISE)

    def test_a_panic_takes_fewer_instructions_than_a_throw(self):
        for frames, share in PANIC_OF_THROW.items():
            panic = each("panic", frames, few=100, many=400)
            throw = each("throw", frames, few=100, many=400)
            print(f"panic over {frames} frames: {panic:.0f} instructions, C++ throw: {throw:.0f}; ratio "
                  f"{panic / throw:.2f}, at most {share}")
            self.assertLessEqual(panic / throw, share)

    def test_a_backtrace_is_no_second_walk(self):
        for frames, bound in TRACED.items():
            traced = each("traced", frames, few=100, many=400) - each("panic", frames, few=100, many=400)
            print(f"a backtrace of {frames} frames: {traced:.0f} instructions, at most {bound}")
            self.assertLessEqual(traced, bound)


if __name__ == "__main__":
    subprocess.run(["ninja", "-C", str(ROOT), PROGRAM], stdout=subprocess.DEVNULL, check=True)
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
