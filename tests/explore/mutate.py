#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mutate.py - weakens one order, fence or rule of core/ at a time; the explorer must notice.

Each memory order is weakened by one step and to relaxed, each fence is removed, and the faults of
mutants.py are planted, one at a time, in a copy of the file. A mutant is killed if a scenario of that
file fails. One that survives must stand in STAYS there with its reason. --few: a sixth of
those that are killed, for every run of the tests. --only: those whose name contains TEXT. Prints a table and, last,
`N passed, N failed`.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

import mutants as queues
import mutants_blocking as blocking

PLANTED = queues.PLANTED + blocking.PLANTED
STAYS = queues.STAYS | blocking.STAYS
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "build/explore/mutants"
SECONDS = 300  # for one mutant; longer counts as an execution that does not end
FEW = 6

# Which explorers look at the files of this name, in this order.
LOOKS = {"deque": ["deque"], "ring": ["ring"], "inject": ["inject", "close", "park"], "park": ["park", "wait"],
         "counter": ["counter", "hand", "fiber"], "fiber": ["fiber", "wait"], "timer": ["timer"],
         "base": ["timer", "inject", "close"], "worker": ["wait", "close"], "state": ["wait", "close"], "books": ["close"], "find": ["wait", "close"],
         "idle": ["wait", "close"],
         "wait": ["wait", "errand"], "stay": ["wait"], "errand": ["errand"], "thread": ["wait"],
         "waitq": ["semaphore", "mutex", "channel", "event"], "mutex": ["mutex", "cond"],
         "rwlock": ["rwlock"], "semaphore": ["semaphore"], "event": ["event"], "once": ["once"],
         "cond": ["cond"], "channel": ["channel"], "select": ["channel"], "mailbox": ["mailbox"],
         "cell": ["cell"], "quarantine_file": ["quarantine"], "quarantine": ["quarantine"]}

# The same for files of which only planted faults are tried.
PLANTED_LOOKS = {"runtime": ["close"], "stall": ["wait"]}

LIMIT = 300000 # schedules of one search

WEAKER = {
    "load": {"seq_cst": ["acquire", "relaxed"], "acquire": ["relaxed"]},
    "store": {"seq_cst": ["release", "relaxed"], "release": ["relaxed"]},
    "rmw": {"seq_cst": ["acq_rel", "relaxed"], "acq_rel": ["acquire", "release", "relaxed"],
            "acquire": ["relaxed"], "release": ["relaxed"]},
}


class Mutant:
    def __init__(self, file, line, edge, what, text):
        self.file = file    # relative to ROOT
        self.line = line
        self.edge = edge    # its name in the source, or ""
        self.what = what
        self.text = text    # of the mutated file
        self.name = f"{pathlib.Path(file).name}: {what}"


# ---------------------------------------------------------------------------------------- mutants

def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def edge_at(text, offset):
    """The edge that the comment behind an operation names."""
    comment = re.compile(r"/\*\s*([A-Z]{3,}(?:, [A-Z]{3,})*)").search(text, offset)
    return comment[1] if comment and line_of(text, comment.start()) <= line_of(text, offset) + 2 else ""


def function_at(text, offset):
    """The name of the function around an offset: its head begins in the first column."""
    heads = re.findall(r"^(?:[\w*]+[ *]+)+(\w+)\([^;]*?\)\n\{", text[:offset], re.M)
    return heads[-1] if heads else ""


def end_of_call(text, start):
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise ValueError("a call without an end")


def orders_of(file):
    """Each order of each atomic operation of a file, weakened."""
    text = (ROOT / file).read_text()
    for call in re.finditer(r"atomic_(\w+)_explicit\(", text):
        end = end_of_call(text, call.end() - 1)
        if "tsan_fence_word" in text[call.end():end]:
            continue  # compiled for ThreadSanitizer only
        kind = call[1] if call[1] in ("load", "store") else "rmw"
        place = " ".join(text[call.end():end].split(",")[0].split())
        for nth, order in enumerate(re.finditer(r"memory_order_(\w+)",
                                                text[call.end():end])):
            fails = nth == 1
            for weaker in WEAKER["load" if fails else kind].get(order[1], []):
                at = call.end() + order.start(1)
                yield Mutant(file, line_of(text, at), edge_at(text, end),
                             f"{function_at(text, call.start())}: {call[1]}{' failure' * fails} "
                             f"{place}: {order[1]} -> {weaker}",
                             text[:at] + weaker + text[at + len(order[1]):])


def fences_of(file):
    """Each fence of a file, left out. Those of base.h are the ones that others call."""
    text = (ROOT / file).read_text()
    if file.endswith("base.h"):
        return
    for fence in re.finditer(r"\b(fence_full|fence_release|atomic_signal_fence|atomic_thread_fence)\(", text):
        end = end_of_call(text, fence.end() - 1) + 1
        yield Mutant(file, line_of(text, fence.start()), edge_at(text, end),
                     f"{function_at(text, fence.start())}: {fence[1]} left out",
                     text[:fence.start()] + "(void)0" + text[end:])


def planted():
    for file, what, olds, news in PLANTED:
        text = (ROOT / file).read_text()
        line = 0
        for old, new in [(olds, news)] if isinstance(olds, str) else zip(olds, news):
            if text.count(old) != 1:
                sys.exit(f"mutants.py: {file}: \"{what}\": its text occurs {text.count(old)} times")
            line = line or line_of(text, text.index(old))
            text = text.replace(old, new)
        yield Mutant(file, line, "", what, text)


def numbered(mutants):
    """Two of the same name in one function: the later ones get a number."""
    seen = {}
    for mutant in mutants:
        seen[mutant.name] = seen.get(mutant.name, 0) + 1
        if seen[mutant.name] > 1:
            mutant.what += f" #{seen[mutant.name]}"
            mutant.name += f" #{seen[mutant.name]}"
        yield mutant


def all_mutants():
    files = [f"core/{name}{suffix}" for name in LOOKS for suffix in (".c", ".h")]
    for file in files:
        if (ROOT / file).exists():
            yield from orders_of(file)
            yield from fences_of(file)
    yield from planted()


# ------------------------------------------------------------------------------------ build and run

def ninja(*arguments):
    return subprocess.run(["ninja", "-t", *arguments], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout


class Build:
    """How the explorers are built: for each, its commands as ninja would run them, in order; and what
    each object was compiled from."""

    def __init__(self):
        shell("ninja explore/programs")  # what they were compiled from is known once they have been
        self.commands = {program: [(re.search(r" -o (\S+)", line)[1], line)
                                   for line in ninja("commands", f"build/explore/{program}").splitlines()
                                   if " -o build/explore/" in line]
                         for looks in [*LOOKS.values(), *PLANTED_LOOKS.values()] for program in looks}
        self.sources = {}
        for line in ninja("deps").splitlines():
            if line.startswith("    "):
                self.sources[output].add(os.path.normpath(line.strip()))
            elif line:
                output = line.split(":")[0]
                self.sources[output] = set()


def shell(command):
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")


def compiled_in(folder, command, output):
    """The command that compiles the folder's copy of a source."""
    command = re.sub(r" -MMD -MF \S+", "", command)
    command = re.sub(r" -c (?=\S+\.c)", f" -c {folder}/", command)
    command = command.replace("-Icore", f"-I{folder}/core -Icore").replace("-Werror", "-w")
    return re.sub(r" -o \S+", f" -o {output}", command)


def build(mutant, folder, program, how):
    """Builds a program anew as far as the mutated file is part of it."""
    changed = {}
    for output, command in how.commands[program]:
        new = f"{folder}/{output.removeprefix('build/explore/').replace('/', '_')}"
        if " -c " in command:
            if mutant.file not in how.sources[output]:
                continue
            shell(compiled_in(folder, command, new))
        else:
            parts = command.split(" ")
            if not changed.keys() & set(parts):
                continue
            shell(" ".join(changed.get(part, new if part == output else part) for part in parts))
        changed[output] = new
    return changed[f"build/explore/{program}"]


def copy(mutant, folder):
    """A folder whose core/ is the real one but for the mutated file."""
    shutil.rmtree(folder, ignore_errors=True)
    for home in ("core", "tests/explore"):
        (folder / home).mkdir(parents=True)
        for source in (ROOT / home).glob("*.[ch]"):
            (folder / home / source.name).symlink_to(source)
    mutated = folder / mutant.file
    mutated.unlink()
    mutated.write_text(mutant.text)


def explore(program, few):
    """The scenario that fails, after how many schedules, and how; or None."""
    effort = ["--bound", "2" if few else "3", "--limit", str(LIMIT), "--random", str(LIMIT * (1 + (not few)))]
    try:
        done = subprocess.run([program, "--climb", *effort], capture_output=True, text=True,
                              timeout=SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        return "(does not end)", 0, ""
    failure = re.search(r"^(\S+): failed after (\d+) schedules: (.*)", done.stdout, re.M)
    if failure:
        return failure[1], int(failure[2]), failure[3]
    if done.returncode:
        return "(crash)", 0, done.stdout[-200:] + done.stderr[-200:]
    return None


def run(job):
    number, mutant, how, few, keep = job
    folder = WORK / str(number)
    home = pathlib.Path(mutant.file)
    looks = LOOKS.get(home.stem, PLANTED_LOOKS.get(home.stem, [home.stem]))
    copy(mutant, folder)
    killer = None
    # Few schedules kill most; one that they do not kill gets all.
    for program, less in [(program, less) for less in ([True, False] if few else [False]) for program in looks]:
        killer = explore(build(mutant, folder, program, how), less)
        if killer:
            killer = (f"{program}: {killer[0]}", *killer[1:])
            break
    if not keep:
        shutil.rmtree(folder)
    return mutant, killer


# ------------------------------------------------------------------------------------------- report

def report(mutant, killer):
    """One row; true if the mutant's fate is as it should be."""
    reason = STAYS.get(mutant.name)
    where = f"{mutant.file.removeprefix('core/')}:{mutant.line}"
    if killer:
        fate = f"{killer[0]:52} {killer[1]:8}"
        fate += "  but mutants.STAYS says that it would survive" if reason else ""
    else:
        fate = f"stays: {reason}" if reason else "SURVIVES"
    print(f"{where:24} {mutant.edge:12} {mutant.what[:76]:76} {fate}", flush=True)
    return bool(killer) != bool(reason)


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--few", action="store_true")
    a.add_argument("--keep", action="store_true")
    a.add_argument("--only", metavar="TEXT", default="")
    return a


def main():
    given = arguments().parse_args()
    few, keep, only = given.few, given.keep, given.only
    mutants = list(numbered(all_mutants()))
    names = {mutant.name for mutant in mutants}
    unknown = [name for name in STAYS if name not in names]
    for name in unknown:
        print(f"mutants.STAYS names what is no mutant (any more): {name}")
    if few:
        mutants = [m for m in mutants if m.name not in STAYS][::FEW]
    mutants = [m for m in mutants if only in m.name]
    how = Build()
    passed, killed = 0, 0
    print(f"{'where':24} {'edge':12} {'mutant':76} {'killed by':52} {'after':>8} schedules")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [(number, mutant, how, few, keep) for number, mutant in enumerate(mutants)]
        for mutant, killer in pool.map(run, jobs):
            killed += bool(killer)
            passed += report(mutant, killer)
    failed = len(mutants) - passed + len(unknown)
    print(f"{len(mutants)} mutants: {killed} killed, {len(mutants) - killed} live")
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or not mutants


if __name__ == "__main__":
    sys.exit(main())
