#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""library_test.py - what the library must not need: setjmp, a C++ runtime, a constructor."""
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = "build/lib/coir.o"


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


class Library(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        output("ninja", LIBRARY)
        lines = [line.split() for line in output("nm", "-u", LIBRARY).splitlines()]
        cls.wanted = {words[-1]: words[0] for words in lines}  # name -> U or w

    def test_the_happy_path_pays_for_no_setjmp(self):
        """Boundaries are tables: a job that does not panic saves no registers for one that does."""
        self.assertIn("_Unwind_ForcedUnwind", self.wanted)
        self.assertEqual([n for n in self.wanted if "setjmp" in n or "longjmp" in n], [])

    def test_the_cxx_runtime_is_used_only_if_it_is_there(self):
        cxx = {n: kind for n, kind in self.wanted.items() if n.startswith(("_Z", "__cxa", "__gxx"))}
        self.assertIn("__cxa_get_globals", cxx)
        self.assertEqual([n for n, kind in cxx.items() if kind not in "wv"], [])

    def test_nothing_runs_before_main(self):
        sections = output("readelf", "-SW", LIBRARY)
        self.assertNotIn(".init_array", sections)
        self.assertNotIn(".ctors", sections)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
