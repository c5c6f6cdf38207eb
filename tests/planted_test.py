#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""planted_test.py - a bug of each class on a fiber's stack is found there by the tool for it, so that their silence
elsewhere means something; and where there is none they say nothing."""
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEMCHECK = ["valgrind", "--quiet", "--error-exitcode=9"]


class Planted(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ninja"] + [f"build/{v}/tests/planted" for v in ("x86_64", "asan", "tsan", "fuzz")], cwd=ROOT,
                       check=True, capture_output=True)

    def run_planted(self, variant, bug, *before):
        return subprocess.run([*before, f"build/{variant}/tests/planted", bug], cwd=ROOT, capture_output=True,
                              text=True, timeout=120)

    def finds(self, variant, bug, report, *before):
        done = self.run_planted(variant, bug, *before)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(report, done.stderr)

    def test_a_use_after_scope_is_found_by_both_address_sanitizers(self):
        self.finds("asan", "use_after_scope", "stack-use-after-scope")
        self.finds("fuzz", "use_after_scope", "stack-use-after-scope")

    def test_undefined_behaviour_is_found_by_both(self):
        self.finds("asan", "undefined", "signed integer overflow")
        self.finds("fuzz", "undefined", "signed integer overflow")

    def test_a_race_is_found_by_thread_sanitizer(self):
        self.finds("tsan", "race", "data race")

    def test_a_read_of_what_was_not_written_is_found_by_memcheck(self):
        self.finds("x86_64", "uninitialised", "uninitialised value", *MEMCHECK)

    def test_where_there_is_no_bug_nothing_is_reported(self):
        for variant, before in ("asan", []), ("fuzz", []), ("tsan", []), ("x86_64", MEMCHECK):
            done = self.run_planted(variant, "none", *before)
            self.assertEqual((done.returncode, done.stderr), (0, ""), variant)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
