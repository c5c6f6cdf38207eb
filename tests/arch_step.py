#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""arch_step.py PROGRAM - unwinds at every instruction of the x86-64 port, under gdb.

Stops at each instruction of the port's assembly while arch_walk_test runs every_step_can_be_taken.
gdb reads the tables that every unwinder reads. At each stop it must find the callers with the
registers that it found at the first instruction of the call that the stack is in, and then the end.
At a ret gdb looks at the stack and not at the tables; the signals of arch_walk_test cover that.
"""
import os
import re
import shutil
import subprocess
import sys

FUNCTIONS = ["arch_switch", "arch_switch_loading", "arch_switch_shared", "arch_cross", "arch_cross_loading",
             "arch_cross_shared", "arch_enter", "arch_boundary", "arch_rescue", "arch_wipe"]
REGISTERS = ["rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15"]
UNREACHED = ["nop", "ud2"]      # before entries, and after calls that do not return


def main(program):
    debugger = shutil.which("gdb")
    if not debugger:
        print("skipped: there is no gdb")
        return 0
    command = [debugger, "--batch", "-nx", "-x", os.path.abspath(__file__),
               "--args", program, "every_step_can_be_taken"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode


def instructions():
    """Of all functions: address to (function, offset, mnemonic)."""
    found = {}
    for function in FUNCTIONS:
        text = gdb.execute("disassemble " + function, to_string=True)
        start = int(gdb.parse_and_eval("(long)&" + function))
        for line in re.finditer(r"(0x\w+) <\+\d+>:\s+(\w+)", text):
            address = int(line[1], 16)
            found[address] = (function, address - start, line[2])
    return found


def callers():
    """Function and registers of each frame beyond the newest, and why the walk ended."""
    found = []
    frame = gdb.newest_frame()
    while frame.older() and len(found) < 32:
        frame = frame.older()
        found.append((frame.name(), [int(frame.read_register(r)) for r in REGISTERS]))
    return found, gdb.frame_stop_reason_string(frame.unwind_stop_reason())


class Checker:
    """Knows what each stack's callers are while its call into the port lasts."""

    def __init__(self):
        self.bounds = {}            # name of a stack to its lowest and highest address
        for stack in "fiber_stack", "rescue_stack":
            low = int(gdb.parse_and_eval("(long)&" + stack))
            self.bounds[stack] = low, low + int(gdb.parse_and_eval("sizeof " + stack))
        enter = int(gdb.parse_and_eval("(long)&arch_enter"))
        self.first = ["arch_enter", enter + 1]
        resumed = int(gdb.parse_and_eval("(long)&arch_boundary_resumed"))
        self.resumed = ["arch_boundary", resumed]
        self.known = {}             # (name of the stack, call) to callers
        self.wrong = 0

    def expect(self, call, offset, found):
        """The callers that should be found in a call of either switch, or of the boundary."""
        name = self.stack()
        stack = (name, call)
        if offset == 0:
            self.known[stack] = found
            root = found[-1][0]
            if root != ("arch_enter" if name == "fiber_stack" else "main"):
                self.fail("the walk ends in %s" % root)
        if [found[0][0], found[0][1][0]] == self.first and len(found) == 1:
            self.known[stack] = found   # prepared, and not run since
        if [found[0][0], found[0][1][0]] == self.resumed:   # ended from outside: the same callers
            return found[:1] + self.known[name, "arch_bou"]
        return self.known.get(stack)

    def stack(self):
        """Name of the stack that the stack pointer is in."""
        sp = int(gdb.parse_and_eval("(long)$rsp"))
        inside = [name for name, (low, high) in self.bounds.items() if low <= sp < high]
        return inside[0] if inside else "main"

    def check(self, function, offset):
        found, end = callers()
        expected = [] if function == "arch_enter" else self.expect(function[:8], offset, found)
        if found != expected:
            self.fail("at %s+%d: found %s, not %s" % (function, offset, found, expected))
        if end not in ("no reason", "outermost"):
            self.fail("at %s+%d: %s" % (function, offset, end))

    def fail(self, text):
        self.wrong += 1
        print(text)


def run():
    gdb.execute("set pagination off")
    gdb.execute("set confirm off")
    gdb.execute("handle SIGSEGV nostop noprint pass", to_string=True)
    gdb.execute("start", to_string=True)
    code = instructions()
    for address in code:
        gdb.Breakpoint("*%d" % address, internal=True).silent = True
    checker, seen, stops = Checker(), set(), 0
    gdb.execute("continue", to_string=True)
    while gdb.selected_inferior().pid:
        place = gdb.newest_frame().pc()
        checker.check(*code[place][:2])
        seen.add(place)
        stops += 1
        gdb.execute("continue", to_string=True)
    missed = [c for a, c in code.items() if a not in seen and c[2] not in UNREACHED]
    if missed:
        checker.fail("never reached: %s" % missed)
    print("%d instructions, %d stops, %d wrong" % (len(seen), stops, checker.wrong))
    return 1 if checker.wrong else 0


try:
    import gdb
except ImportError:
    sys.exit(main(sys.argv[1]))
gdb.execute("quit %d" % run())
