#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""thread_address_test.py - no function of core keeps the address of its thread, or of errno, across a call that may suspend.

A job may go on on another thread there. Compilers for AArch64 read tpidr_el0 once in a function and keep it in a
register; x86-64 has a prefix for it, so nothing is seen there. The C library declares that errno never moves, so what
one call of __errno_location says may be kept as well. Functions that keep either are listed, with why they may.
"""
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
OBJECT = "build/aarch64/coir.o"

MAY = {
    "arm": "of epoll: calls nothing that suspends",
    "coir_dump": "calls nothing that suspends",
    "coir_spawn_after": "the same",
    "contain_redirect": "in a signal handler",
    "failure_id": "calls nothing",
    "fault_thread_close": "a worker's thread that ends, on its own stack",
    "job_failure": "calls nothing that suspends",
    "on_settled_after": "the finisher of a counter, which does not suspend",
    "on_signal": "in a signal handler",
    "say_fatal": "does not return",
    "start": "a process without fibers (isolate_template.c)",
    "thread_main": "a thread of the offload pool",
    "wait_cancel": "claims fibers; the host's callback may not suspend (hostcall.c)",
    "worker_main": "on the thread's own stack",
}


PRESERVED = {f"x{n}" for n in range(19, 29)}
UNMOVED = ("__errno_location", "pthread_self")  # attribute const, to compilers


def functions(text):
    name, lines = None, []
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            if name:
                yield name, lines
            name, lines = head[1], []
        elif code := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*(.*)", line):
            lines.append(code.groups())
    yield name, lines


def keeps(lines):
    """Whether a register that calls preserve holds such an address, or one made of it, over a call. Loops are not followed."""
    held, jumped = set(), {}  # the latter: held where a branch leads to
    for place, name, operands in lines:
        to, _, rest = operands.partition(",")
        held |= jumped.get(place, set())
        if name in ("bl", "blr"):
            held &= PRESERVED
            if held:
                return True
        elif name == "R_AARCH64_CALL26":  # where the bl before it goes
            held |= {"x0"} if operands in UNMOVED else set()
        elif target := re.match(r"(?:cb|tb|b).*?\b([0-9a-f]+) <", f"{name} {operands}"):
            jumped[target[1]] = jumped.get(target[1], set()) | held
            held = set() if name == "b" else held
        elif name == "ret":
            held = set()
        elif "tpidr_el0" in rest or (name in ("mov", "add", "sub") and held & set(re.findall(r"\bx\d+", rest))):
            held.add(to)
        elif name == "str" and to in held and "sp" in rest:
            return True  # kept in the frame
        elif not name.startswith(("st", "cmp", "R_")):
            held -= {f"x{n}" for n in re.findall(r"[xw](\d+)", operands if name == "ldp" else to)}
    return False


class ThreadAddress(unittest.TestCase):
    def test_nobody_keeps_it_who_may_suspend(self):
        subprocess.run(["ninja", OBJECT], cwd=ROOT, check=True, capture_output=True)
        text = subprocess.run(["aarch64-linux-gnu-objdump", "-dr", "--no-show-raw-insn", OBJECT], cwd=ROOT, check=True,
                              capture_output=True, text=True).stdout
        read = [name for name, lines in functions(text) if any("tpidr_el0" in rest for _, _, rest in lines)]
        self.assertGreater(len(read), 50)  # it is read as we think
        kept = {name.split(".")[0] for name, lines in functions(text) if keeps(lines)}
        self.assertEqual(kept - set(MAY), set())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
