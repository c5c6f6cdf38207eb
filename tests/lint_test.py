#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lint_test.py - tools/lint.py: a sound tree has no findings, and each planted violation is found."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

LINT = pathlib.Path(__file__).resolve().parent.parent / "tools/lint.py"
SPDX = "/* SPDX-License-Identifier: MIT */\n"
NOTE = "TO" + "DO"

SOUND = {
    "README.md": "Run `ninja test/deque` or `tools/test deque`; see tests/deque_test.c.\n",
    "build.ninja": "# rules\n",
    "core/HACKING.md": "# Rows\n\n```rows\n4 worker\n3 deque park\n2 base\n```\n",
    "core/base.h": SPDX + '#include "arch.h"\n#include "coir.h"\n',
    "core/deque.h": SPDX + '#include "base.h"\n',
    "core/deque.c": SPDX + """#include "deque.h"

#include <stdatomic.h>

/* It's not 'code': atomic_load(&d->top); */
int64_t deque_top(struct deque *d)
{
    puts("atomic_load(x)");
    atomic_init(&d->top, 0);
    atomic_thread_fence(memory_order_seq_cst); /* LAST */
    /* PUB */
    atomic_store_explicit(&d->bottom, 1, memory_order_release);
    return atomic_load_explicit(&d->top,
                                memory_order_acquire); /* REUSE */
}
""",
    "core/park.c": SPDX + '#include "base.h"\n',
    "core/worker.c": SPDX + '#include "deque.h"\n#include "park.h"\n',
    "include/coir.h": SPDX + """
/* A job. */
typedef void coir_fn(void *arg);

/*
 * Starts a job.
 *
 * Returns     COIR_OK
 */
COIR_API int coir_spawn(coir_counter *counter, coir_fn *fn,
                        void *arg);

/* Otherwise as coir_spawn. */
COIR_API int coir_spawn_many(coir_counter *counter);

/* coir_wait_until with COIR_NEVER. */
COIR_API COIR_MUST_USE int coir_wait(coir_counter *counter);

/* Id of the calling job. */
COIR_API uint64_t coir_job_id(void);

/* Makes a counter new. */
COIR_API void coir_counter_init(coir_counter *counter);

/* Panics. */
COIR_API __attribute__((noreturn, format(printf, 1, 2))) void
coir_panic_at(const char *file, ...);
""",
    "arch/x86_64/notes.inc": "; SPDX-License-Identifier: MIT\n"
                             "section .note.GNU-stack noalloc noexec nowrite progbits\n",
    "arch/x86_64/switch.asm": """; SPDX-License-Identifier: MIT
%include "notes.inc"
global arch_switch:function hidden arch_switch.size
arch_switch:
    .cfi_startproc
    push    rbp                 ; a record

    .cfi_push rbp
    sub     rsp, 8              ; cfi: the last instruction before ud2
    pop     rbp
    .cfi_pop rbp
    ret
    .cfi_endproc
.size equ $ - arch_switch
""",
    "arch/aarch64/switch.S": SPDX + """
        .section .note.GNU-stack, "", %progbits
        .globl  arch_switch
        .type   arch_switch, %function
arch_switch:
        .cfi_startproc
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        stp     x19, x20, [sp, #8]
        ldp     x29, x30, [sp], #16
        .cfi_def_cfa_offset 0
        ret
        .cfi_endproc
        .size   arch_switch, . - arch_switch
""",
    "tests/deque_test.c": SPDX + "/* sleep(1) is not called. */\nint x = coir_sleep_until(0);\n",
    "tools/test": "#!/bin/bash\n# SPDX-License-Identifier: MIT\n",
}


def lint(files, kept=False):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if kept:
            subprocess.run(["git", "init", "-q", root], check=True)
            subprocess.run(["git", "-C", root, "add", "."], check=True)
        done = subprocess.run([sys.executable, LINT, root], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


class Lint(unittest.TestCase):
    def check(self, place, words, changes, kept=False):
        """With the changes, exactly one finding, at FILE:LINE and with these words."""
        status, lines, trouble = lint({**SOUND, **changes}, kept)
        self.assertEqual((status, len(lines)), (1, 1), (lines, trouble))
        self.assertTrue(lines[0].startswith(place + ": "), lines)
        self.assertIn(words, lines[0])

    def replace(self, place, words, old, new):
        """As check, with `old` replaced in the file of the place."""
        name = place.split(":")[0]
        self.assertIn(old, SOUND[name])
        self.check(place, words, {name: SOUND[name].replace(old, new)})

    def test_a_sound_tree_has_no_findings(self):
        self.assertEqual(lint(SOUND), (0, [], ""))

    def test_rows(self):
        self.replace("core/park.c:2", "row 3 includes deque.h of row 3", "base.h", "deque.h")
        self.replace("core/park.c:2", "row 3 includes worker.h of row 4", "base.h", "worker.h")
        self.replace("core/park.c:2", "includes odd.h, which is in no row", "base.h", "odd.h")
        self.check("core/odd.c:1", "is in no row", {"core/odd.c": SPDX})
        self.replace("core/HACKING.md:1", "no block ```rows", "```rows", "```")
        self.replace("core/HACKING.md:6", "is not a row", "3 deque park", "3 deque park\nrow base")

    def test_atomics_have_an_order(self):
        name = "core/deque.c"
        self.replace(name + ":11", "atomic_thread_fence has no explicit order",
                     "memory_order_seq_cst", "ORDER")
        self.replace(name + ":10", "atomic_store has no explicit order",
                     "atomic_init(&d->top, 0)", "atomic_store(&d->top, 0) /* PUB */")
        self.replace(name + ":10", "__atomic_store_n has no explicit order",
                     "atomic_init(&d->top, 0)", "__atomic_store_n(&d->top, 0, 0) /* PUB */")

    def test_atomics_have_a_comment(self):
        name = "core/deque.c"
        self.replace(name + ":12", "atomic_store_explicit has no comment", "    /* PUB */\n", "")
        self.replace(name + ":14", "atomic_load_explicit has no comment", " /* REUSE */", "")

    def test_moves_of_the_stack_pointer_have_cfi(self):
        name = "arch/x86_64/switch.asm"
        words = "moves the stack pointer"
        self.replace(name + ":6", words, "    .cfi_push rbp\n", "    nop\n")
        self.replace(name + ":9", words, "; cfi: the last", "; the last")
        self.replace(name + ":10", words, "    .cfi_pop rbp\n", "")
        name = "arch/aarch64/switch.S"
        self.replace(name + ":8", words, "        .cfi_def_cfa_offset 16\n", "")
        self.replace(name + ":11", words, "        .cfi_def_cfa_offset 0\n", "")

    def test_cfi_procedures_are_paired(self):
        name = "arch/x86_64/switch.asm"
        self.replace(name + ":14", "without .cfi_endproc", "    .cfi_endproc\n", "")
        self.replace(name + ":12", "does not match", "    .cfi_startproc\n", "")
        self.replace(name + ":6", "does not match", "    .cfi_startproc\n",
                     "    .cfi_startproc\n    .cfi_startproc\n")

    def test_assembly_symbols_are_described(self):
        name = "arch/x86_64/switch.asm"
        self.replace(name + ":3", "no type or no size", ":function hidden arch_switch.size", "")
        self.replace(name + ":3", "no type or no size", " arch_switch.size", "")
        self.replace(name + ":1", "no .note.GNU-stack", '%include "notes.inc"\n', "\n")
        name = "arch/aarch64/switch.S"
        self.replace(name + ":4", "has no .type", "        .type   arch_switch, %function\n", "\n")
        self.replace(name + ":4", "has no .size", "        .size   arch_switch, . -", "// ")
        self.replace(name + ":1", "no .note.GNU-stack", ".note.GNU-stack", ".note.odd")

    def test_public_functions_are_documented(self):
        name = "include/coir.h"
        self.replace(name + ":11", "coir_spawn does not say what it returns", " * Returns ", " * ")
        self.replace(name + ":25", "coir_counter_init has no comment", "new. */\n", "new. */\n\n")
        self.replace(name + ":15", "coir_spawn_many does not say", "Otherwise as", "Not as")
        self.replace(name + ":27", "coir_panic_at has no comment", "/* Panics. */", "")

    def test_files_are_short(self):
        self.check("tests/long.md:600", "has 601 lines", {"tests/long.md": "x\n" * 601})
        status, lines, trouble = lint({**SOUND, "tests/long.md": "x\n" * 501})
        self.assertEqual((status, lines), (0, []))
        self.assertIn("tests/long.md:500: warning: has 501 lines", trouble)

    def test_form(self):
        self.replace("tests/deque_test.c:3", "has a tab", "int x", "int\tx")
        self.replace("core/park.c:2", "has trailing blanks", '.h"\n', '.h" \n')
        self.replace("build.ninja:1", "a note to self: " + NOTE, "rules", NOTE + " rules")
        self.replace("build.ninja:1", "a mark of a merge", "# rules", "<" * 7 + " HEAD")

    def test_spdx_comes_first(self):
        line = "SPDX-License-Identifier: MIT"
        self.replace("tests/deque_test.c:1", "SPDX", line, "No licence")
        self.replace("tools/test:1", "SPDX", line, "No licence")
        self.check("tests/x.py:1", "SPDX", {"tests/x.py": "import sys\n"})
        self.check("core/x.c:1", "SPDX", {"core/x.c": "\n" + SPDX, "core/HACKING.md":
                                          SOUND["core/HACKING.md"].replace("park", "park x")})
        self.replace("arch/x86_64/switch.asm:1", "SPDX", line, "No licence")

    def test_tests_do_not_sleep(self):
        for call in ("sleep", "usleep", "nanosleep"):
            self.replace("tests/deque_test.c:3", "calls " + call, "coir_sleep_until", call)

    def test_the_top_level_is_fixed(self):
        self.check("notes.txt:1", "top level", {"notes.txt": "\n"}, kept=True)

    def test_what_git_does_not_keep_there_is_its_owners(self):
        self.assertEqual(lint({**SOUND, "hello.c": "int main;"})[:2], (0, []))

    def test_named_tests_exist(self):
        words = "which does not exist"
        self.replace("README.md:1", words, "ninja test/deque", "ninja test/odd")
        self.replace("README.md:1", words, "ninja test/deque", "ninja asan/odd")
        self.replace("README.md:1", words, "tools/test deque", "tools/test odd")
        self.replace("README.md:1", words, "tests/deque_test.c", "tests/odd_test.c")
        self.check("tests/README.md:2", words, {"tests/README.md": "\nodd_test attacks D3\n"})

    def test_named_cases_exist(self):
        row = "## Promises\n| no item is lost | `deque/pop_returns_the_newest_item` |\n"
        test = SOUND["tests/deque_test.c"] + "CHECK_MAIN(CASE(pop_returns_the_newest_item))\n"
        sound = {"tests/deque_test.c": test, "tests/README.md": row}
        self.assertEqual(lint({**SOUND, **sound}), (0, [], ""))
        for form in ("CASES(push_is_quick),", "X(push_is_quick, SIGABRT)", "X(\\\n    push_is_quick)"):
            named = {"tests/README.md": row.replace("pop_returns_the_newest_item", "push_is_quick")}
            self.assertEqual(lint({**SOUND, **named, "tests/deque_test.c": test + form + "\n"})[0], 0)
        self.check("tests/README.md:2", "names deque/pop_returns_the_oldest_item, and there is no such case",
                   {**sound, "tests/README.md": row.replace("newest", "oldest")})
        self.check("tests/README.md:2", "names tests/odd_test", {**sound, "tests/README.md": row.replace("`deque", "`odd")})
        comment = test.replace("CASE(pop", "/* CASE */ (pop")
        self.check("tests/README.md:2", "no such case", {**sound, "tests/deque_test.c": comment})

    def test_a_strategy_mismatch_is_found(self):
        body = "void f(void)\n{\n    o.panic = COIR_PANIC_ABORT;\n    %s;\n}\n"
        words = "needs panics to unwind"
        for what in ("coir_try(f, 0, 0)", "o.faults = COIR_FAULTS_CONTAIN", "d.panics_max = 3",
                     "coir_pool_open(rt, &o, &p)", "coir_supervisor_run(&o, &root)"):
            for name in ("tools/x.c", "tests/x_test.c", "perf/x.cc"):
                self.check(name + ":5", words, {name: SPDX + body % what})
        name = "tools/x.c"
        for sound in (body % "coir_spawn(0, f, 0)",  # nothing that must unwind
                      body % "CHECK_EQ(coir_try(f, 0, 0), COIR_EPOLICY)",
                      body % "coir_defer(f, 0)" + body.replace("ABORT", "UNWIND") % "coir_try(f, 0, 0)",
                      body % "/* coir_try(f, 0, 0) */"):
            self.assertEqual(lint({**SOUND, name: SPDX + sound}), (0, [], ""))
        self.check(name + ":3", words, {name: SPDX + "static const coir_options o = {\n    .panic = COIR_PANIC_ABORT,"
                                        " .faults = COIR_FAULTS_CONTAIN,\n};\n"})

    def test_options_that_are_refused_are_found(self):
        whole = {"pool": ["dead", "queue_max", "attempts_max"], "supervisor": ["max_restarts", "max_seconds"]}
        words = {"dead": "dead-letter", "queue_max": "not bounded", "attempts_max": "retry for ever",
                 "max_restarts": "restart intensity", "max_seconds": "restart intensity"}
        for kind, fields in whole.items():
            for missing in fields:
                self.options(kind, [f for f in fields if f != missing], words[missing])
            self.options(kind, fields, None)
        self.options("domain", ["full"], "not bounded")
        self.options("domain", ["full", "jobs_max"], None)
        self.options("domain", [], None)

    def options(self, kind, fields, words):
        """The fields set in the initializer, later, and at file scope."""
        name, begin = "tools/x.c", f"coir_{kind}_options o = {{.size = sizeof o"
        inits = "".join(f", .{field} = x" for field in fields)
        later = "".join(f"    o.{field} = x;\n" for field in fields)
        use = f"    return coir_{kind}_open(rt, &o, &p)%s;\n"
        texts = ((f"int f(void)\n{{\n    {begin}{inits}}};\n{use % ''}}}\n", 4),
                 (f"int f(void)\n{{\n    {begin}}};\n{later}{use % ''}}}\n", 4),
                 (f"static {begin}{inits}}};\n", 2))
        for text, line in texts if words else ():
            self.check(f"{name}:{line}", words, {name: SPDX + text})
        sound = [text for text, _ in texts] if not words else []
        sound += [f"int f(void)\n{{\n    {begin}}};\n    fill(&o);\n{use % ''}}}\n",
                  f"int f(void)\n{{\n    {begin}}};\n{use % ' == COIR_EPOLICY'}}}\n",
                  f"coir_{kind}_options f(void)\n{{\n    {begin}}};\n    return o;\n}}\n"]
        self.assertEqual(lint({**SOUND, name: SPDX + "".join(sound)}), (0, [], ""))

    def test_the_panic_policy_of_coir_kv_is_kept(self):
        policy = "# Policy\n\n```layers\nboundary  server.c\nbusiness  sum.c\ndata      store.c\n```\n"
        server = """static void serve(void)
{
    if (coir_try(f, 0, 0) != COIR_DONE)
        tell();
    while (coir_wait(&c) < COIR_DONE)
        ;
    status = first ? COIR_OK :
             coir_domain_submit(d, &c, f, 0);
    (void)coir_wait(&c); /* it was canceled, and its end is told elsewhere */
    // Why not:
    coir_spawn(&c, f, 0);
    coir_event_set(&e);
}
"""
        sound = {"tools/kv/PANIC_POLICY.md": policy, "tools/kv/server.c": SPDX + server,
                 "tools/kv/sum.c": SPDX + "/* coir_try(f) */ int x = coir_wait(&c) + coir_pool_submit(p, m);\n",
                 "tools/kv/store.c": SPDX + "int64_t x = coir_now();\n"}
        self.assertEqual(lint({**SOUND, **sound}), (0, [], ""))
        for boundary in ("coir_try", "coir_contain_text", "coir_degrade", "coir_once_call_until", "coir_supervisor_run"):
            self.check("tools/kv/sum.c:2", boundary + " in the layer business",
                       {**sound, "tools/kv/sum.c": SPDX + f"int x = {boundary}(f, a);\n"})
        for call in ("coir_panic", "coir_mutex_lock"):
            self.check("tools/kv/store.c:2", call + " in the layer data",
                       {**sound, "tools/kv/store.c": SPDX + f"int x = {call}(f);\n"})
        for call in ("coir_wait_until(&c, 1)", "(void)coir_try(f, 0, 0)", "(void)!coir_offload(f, 0)",
                     "coir_domain_submit(d, 0, f, 0)", "coir_pool_close(p, 0, 0)", "coir_channel_send_until(&c, 0, 0)",
                     "if (x)\n        coir_wait(&c)", "if (x)\n        y();\n    else\n        coir_wait(&c)"):
            lines = 4 + call.count("\n", 0, call.rindex("coir_"))
            self.check(f"tools/kv/server.c:{lines}", "is dropped, and nothing says why",
                       {**sound, "tools/kv/server.c": SPDX + f"void f(void)\n{{\n    {call};\n}}\n"})
        self.check("tools/kv/odd.c:1", "is in no layer", {**sound, "tools/kv/odd.c": SPDX})
        self.check("tools/kv/PANIC_POLICY.md:1", "no block ```layers",
                   {**sound, "tools/kv/PANIC_POLICY.md": "# Policy\n"})
        without = {name: text for name, text in sound.items() if not name.endswith(".md")}
        self.check("tools/kv/PANIC_POLICY.md:1", "no block ```layers", without)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)
