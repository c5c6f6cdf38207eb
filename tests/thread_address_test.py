#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""thread_address_test.py - no function of core keeps the address of its thread across a call that may suspend.

A job may go on on another thread there. Compilers for AArch64 read tpidr_el0 once in a function and keep it in a
register; x86-64 has a prefix for it, so nothing is seen there. Functions that keep it are listed, with why they may.
"""
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
OBJECT = "build/aarch64/coir.o"

MAY = {
    "contain_redirect": "in a signal handler",
    "coir_spawn_after": "calls nothing that suspends",
    "fault_thread_close": "a worker's thread that ends, on its own stack",
    "job_failure": "calls nothing that suspends",
    "on_root_end": "the finisher of a counter, which does not suspend",
    "on_settled_after": "the same",
    "say_fatal": "does not return",
    "thread_main": "a thread of the offload pool",
    "wait_cancel": "claims fibers; the host's callback may not suspend (hostcall.c)",
    "worker_main": "on the thread's own stack",
}


def functions(text):
    name, lines = None, []
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            if name:
                yield name, lines
            name, lines = head[1], []
        elif code := re.match(r"\s+[0-9a-f]+:\s+(\S+)\s*(.*)", line):
            lines.append(code.groups())
    yield name, lines


def keeps(lines):
    """Whether a register that calls preserve holds the thread's address, or one made of it, over a call."""
    held = set()
    for name, operands in lines:
        to, _, rest = operands.partition(",")
        if name in ("bl", "blr"):
            if any(19 <= int(register[1:]) <= 28 for register in held):
                return True
        elif "tpidr_el0" in rest or (name in ("mov", "add", "sub") and held & set(re.findall(r"x\d+", rest))):
            held.add(to)
        elif name == "str" and to in held and "sp" in rest:
            return True  # kept in the frame
        elif not name.startswith(("st", "cb", "tb", "b", "cmp", "ret")):
            held -= {f"x{n}" for n in re.findall(r"[xw](\d+)", operands if name == "ldp" else to)}
    return False


class ThreadAddress(unittest.TestCase):
    def test_nobody_keeps_it_who_may_suspend(self):
        subprocess.run(["ninja", OBJECT], cwd=ROOT, check=True, capture_output=True)
        text = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", OBJECT], cwd=ROOT, check=True,
                              capture_output=True, text=True).stdout
        read = [name for name, lines in functions(text) if any("tpidr_el0" in rest for _, rest in lines)]
        self.assertGreater(len(read), 50)  # it is read as we think
        kept = {name.split(".")[0] for name, lines in functions(text) if keeps(lines)}
        self.assertEqual(kept - set(MAY), set())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
