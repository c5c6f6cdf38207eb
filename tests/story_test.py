#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""story_test.py - the commands of README.md's story do what it says they do.

They are run one after the other in one shell, in a folder of their own and on free ports. What a command prints
must be what stands below it, where `...` is anything.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from ports import free_port

TOP = pathlib.Path(__file__).resolve().parent.parent
TITLE = "## From one broken request to a service that heals\n"
PORTS = ("6380", "9101", "6381")  # as README has them
SECONDS = 120


def story(text):
    """The section's indented lines as [command, [line, ...]]."""
    steps = []
    for line in text.split(TITLE)[1].split("\n## ")[0].splitlines():
        if line.startswith("    $ "):
            steps.append((line[6:], []))
        elif line.startswith("    "):
            steps[-1][1].append(line[4:])
    return steps


def run(steps, folder):
    """What each command printed, of one shell whose children end with it."""
    script = "".join(f"{command}\necho '<<{i}>>'\n" for i, (command, _) in enumerate(steps))
    shell = subprocess.Popen(["bash"], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    try:
        said, _ = shell.communicate(script, SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        said, _ = shell.communicate()
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return re.split(r"<<\d+>>\n?", said)


def matches(said, wanted):
    lines = [line for line in said.splitlines() if line]
    return len(lines) == len(wanted) and all(
        re.fullmatch(".*".join(map(re.escape, w.split("..."))), line) for line, w in zip(lines, wanted))


def main():
    text = (TOP / "README.md").read_text()
    passed = failed = 0
    for there in PORTS:
        text = re.sub(rf"\b{there}\b", str(free_port()), text)
    steps = story(text)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(TOP / "build", os.path.join(folder, "build"))
        said = run(steps, folder)
    for i, (command, wanted) in enumerate(steps):
        right = i < len(said) - 1 and matches(said[i], wanted)
        passed, failed = passed + right, failed + (not right)
        if not right:
            print(f"$ {command}\nprinted:\n{said[i] if i < len(said) else ''}wanted:\n" + "\n".join(wanted))
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or not passed)


main()
