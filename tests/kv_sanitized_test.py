#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_sanitized_test.py - coir-kv built with AddressSanitizer and UndefinedBehaviorSanitizer, and with
ThreadSanitizer: most cases of three of its tests, on one and on two workers. A server that has been told of an error does not end with the
status that each case demands. Builds both; they are run beside each other."""
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 800  # seconds for all; tools/test gives a script 900
BEGAN = time.monotonic()

TESTS = {
    "kv": [],
    "kv_failure": [],
    "kv_attack": ["pipelines_whose_replies", "beyond_a_limit", "loopback", "vanished"],  # the others measure
}
KINDS = ["(uring, workers 1)", "(epoll, workers 2)"]  # left out, as what takes long or measures memory
COMMON = [*KINDS, "redis_benchmark", "ten_thousand", "512_megabytes", "costs_little"]
WITHOUT = {
    "asan": [*COMMON, "a_native_crash_is"],  # it is found before it is one
    "tsan": [*COMMON, "OVERFLOW"],  # it may come in a function of its runtime
}


def run(sanitizer, test):
    """(passed, failed, what it printed)"""
    command = [sys.executable, f"tests/{test}_test.py", "--sanitized", "--server", f"build/{sanitizer}/bin/coir-kv"]
    for word in WITHOUT[sanitizer]:
        command += ["--without", word]
    try:
        printed = subprocess.run([*command, *TESTS[test]], cwd=ROOT, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                                 timeout=max(1, BEGAN + PATIENCE - time.monotonic())).stdout
    except subprocess.TimeoutExpired as late:
        printed = (late.stdout or b"").decode() + f"all take longer than {PATIENCE} s\n"
    counts = re.search(r"(\d+) passed, (\d+) failed\n\Z", printed)
    return (*map(int, counts.groups()), printed) if counts else (0, 1, printed)


def run_all(sanitizer):
    return [(f"{test} {sanitizer}", *run(sanitizer, test)) for test in TESTS]


def main():
    subprocess.run(["ninja", *(f"build/{sanitizer}/bin/coir-kv" for sanitizer in WITHOUT)], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for name, good, bad, printed in sum(pool.map(run_all, WITHOUT), []):
            print(f"    {name}: {good} passed, {bad} failed")
            if bad:
                print(printed)
            passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
