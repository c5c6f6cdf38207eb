#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""library_test.py - what the library must not need, and what of the world it asks for: each call that may fail is
made to fail by faulty_test.c."""
import pathlib
import re
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = "build/lib/coir.o"
SHARED = "build/lib/libcoir.so.0"
SHARED_ELSEWHERE = "build/aarch64/libcoir.so.0"

# What cannot fail, or is not asked whether it did, since nothing depends on it. Beside it: unwinder, linker, C++,
# stdio, strings and pthread's locks, by prefix.
HARMLESS = set("""abort clock_gettime close fclose fgets fprintf free getauxval getpid gmtime_r gnu_get_libc_version
    inet_pton nanosleep io_uring_free_probe io_uring_peek_batch_cqe io_uring_queue_exit munlock munmap poll raise sched_yield
    sem_init sem_post sem_wait shutdown signal syscall sysconf dladdr dl_iterate_phdr program_invocation_name stderr
    write pthread_join pthread_kill pthread_self pthread_sigmask pthread_setcancelstate pthread_setname_np""".split())
# What only the template and the children of an isolator ask for: whatever fails there ends the child, or is as if it had
# been killed, which isolate_test.c and isolate_life_test.c do at any point.
ISOLATED = set("""ferror fileno getppid getrlimit kill lseek on_exit prctl qsort recvmsg rewind seccomp_export_bpf
    seccomp_init seccomp_release seccomp_rule_add setrlimit setsid stdout timer_create timer_settime wait4""".split())
WITHOUT_CANARY = {"job_run", "job_join_own", "coir_fork2", "try_call"}
HARMLESS_PREFIXES = ("_", "str", "mem", "sig", "snprintf", "vsnprintf", "pthread_attr_", "pthread_cond_", "pthread_mutex_")


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

    def test_every_call_that_may_fail_is_made_to_fail(self):
        table = (ROOT / "tests/faulty.h").read_text()
        failing = set(re.findall(r"X\((\w+), E\w+, \d+\)", table))
        self.assertGreater(len(failing), 30)
        wanted = {n: re.sub(r"^__(\w+)_chk$", r"\1", n) for n in self.wanted}  # _FORTIFY_SOURCE's names
        self.assertEqual([n for n in wanted.values() if n not in failing | HARMLESS | ISOLATED
                          and not n.startswith(HARMLESS_PREFIXES)], [])
        self.assertEqual([n for n, plain in wanted.items() if n != plain and plain in failing], [])

    def check_hardened(self, shared, nm):
        """All relocations are read-only once it is loaded, code holds none, no stack is executable; what writes into
        arrays is checked, by canaries and by bounds where they are known."""
        output("ninja", shared)
        segments, dynamic = output("readelf", "-lW", shared), output("readelf", "-dW", shared)
        self.assertIn("GNU_RELRO", segments)
        self.assertRegex(dynamic, r"BIND_NOW|FLAGS_1.*NOW")
        self.assertNotIn("TEXTREL", dynamic)
        self.assertRegex(segments, r"GNU_STACK +(0x0+ +){2}\S+ +0x0+ +0x0+ +RW ")
        self.assertNotRegex(segments, r"LOAD .*RWE")
        wanted = set(re.findall(r" U (\w+)", output(nm, "-uD", shared)))
        self.assertLessEqual({"__stack_chk_fail", "__snprintf_chk", "__vsnprintf_chk"}, wanted)

    def test_the_shared_library_is_hardened(self):
        self.check_hardened(SHARED, "nm")

    @unittest.skipUnless(shutil.which("aarch64-linux-gnu-gcc"), "there is no cross compiler")
    def test_so_is_the_one_for_aarch64(self):
        self.check_hardened(SHARED_ELSEWHERE, "aarch64-linux-gnu-nm")

    def test_few_functions_do_without_a_canary(self):
        sources = "".join(path.read_text() for path in (ROOT / "core").glob("*.c"))
        self.assertEqual(set(re.findall(r"^(?:static )?NO_CANARY \w+ (\w+)\(", sources, re.M)), WITHOUT_CANARY)
        self.assertEqual(sources.count("NO_CANARY"), len(WITHOUT_CANARY))
        guarded = set()
        for function in output("objdump", "-d", "--no-show-raw-insn", LIBRARY).split("\n\n"):
            if "%fs:0x28" in function:
                guarded |= set(re.findall(r"^[0-9a-f]+ <(\w+)>:", function))
        self.assertGreater(len(guarded), 150)
        self.assertLessEqual({"run_each", "job_run_in_place", "coir_fail_at", "report_keep"}, guarded)

    def test_large_frames_are_probed(self):
        """A frame larger than a page touches each page on its way down, so that none steps over a guard."""
        code = output("objdump", "-d", "--no-show-raw-insn", LIBRARY)
        large = re.findall(r"sub +\$0x1000,%rsp\n.*orq +\$0x0,\(%rsp\)", code)
        self.assertGreater(len(large), 0)
        self.assertEqual([n for n in re.findall(r"sub +\$0x([0-9a-f]+),%rsp", code) if 0x1000 < int(n, 16) < 1 << 62], [])

    def test_the_header_is_no_trouble_to_pedants(self):
        """All of its macros that take any number of arguments, with the fewest."""
        program = """#include <coir.h>
            void body(void *arg);
            void body(void *arg)
            { coir_require(arg); coir_require(arg, "it %s", "is"); if (arg) coir_fail(1, "no"); coir_panic("no"); }"""
        for compiler in ("gcc -xc -std=c11", "gcc -xc -std=c2x", "g++ -xc++ -std=c++11", "g++ -xc++ -std=c++20",
                         "clang -xc -std=c11", "clang++ -xc++ -std=c++17"):
            subprocess.run([*compiler.split(), "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                            "-Iinclude", "-"], cwd=ROOT, check=True, input=program + "\n", text=True)

    def test_nothing_runs_before_main(self):
        sections = output("readelf", "-SW", LIBRARY)
        self.assertNotIn(".init_array", sections)
        self.assertNotIn(".ctors", sections)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
