#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lint.py - the rules of this code base that no compiler checks.

Each rule is a function below; its docstring is the rule. tests/lint_test.py plants a violation of
each and sees it found.
"""
import pathlib
import re
import subprocess
import sys

USAGE = """usage: tools/lint.py [ROOT]

Prints FILE:LINE: MESSAGE for each finding in the tree at ROOT, by default its own. Exit status: 0:
there is none; 1: there are some; 2: bad option."""
TOP = set(""".ci .clang-format .clang-tidy .editorconfig .git .gitignore CHANGELOG.md LICENSE README.md
    arch build build.ninja core include perf tests tools""".split())
NOT_OURS = {".git", "build", "__pycache__"}
LINES_MAX, LINES_WARN = 600, 500
LINES_FREE = {"include/coir.h",  # the whole public interface, by design in one file
              "perf/figures.svg"}  # drawn
C = {".c", ".h", ".cc"}
ASM = {".asm", ".S", ".inc"}
BOUNDARIES = re.compile(r"\b(coir_(?:try|contain_\w+|degrade|once_\w*call\w*|run|open|supervisor_(?:run|open)))\s*\(")
OUTCOMES = (r"coir_(?:try|degrade|run|open|close|wait\w*|offload\w*|spawn\w*|(?:domain_|pool_)?submit\w*|"
            r"(?:event|cond|child_stop|signal)_wait\w*|\w+_lock(?:_until)?|\w+_acquire\w*|once_call\w*|"
            r"(?:domain|pool|supervisor|quarantine|once_table)_(?:open|run|close)|\w+_(?:send|recv)(?:_until)?)")
# A call whose value nobody takes: the first thing of a statement, or behind a cast to void.
DROPPED = re.compile(rf"(?:[;{{}}]|\)\s*\n|\b(?:else|do)\b|\(void\)\s*!?)\s*({OUTCOMES})\s*\(")
POLICY = "tools/kv/PANIC_POLICY.md"
NOT_CODE = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.S)
NASM_SYMBOL = re.compile(r":\s*(function|data)\s+((hidden|internal|protected)\s+)?(?!hidden\b)[\w.]")


class Source:
    """A text file of the product."""

    def __init__(self, root, path):
        self.path = path
        self.name = path.relative_to(root).as_posix()
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.split("\n")
        self.suffix = path.suffix

    def code(self):
        """The text of a C file with comments and strings blanked; lines stay where they are."""
        return NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), self.text)

    def script(self):
        return self.suffix in {".py", ".sh"} or self.text.startswith("#!")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


class Lint:
    def __init__(self, root):
        self.root = root
        self.findings = 0
        self.guests = self.find_guests()
        paths = (p for p in sorted(root.rglob("*")) if p.is_file() and not p.is_symlink()
                 and not (NOT_OURS | self.guests) & set(p.relative_to(root).parts))
        self.sources = [Source(root, p) for p in paths]

    def find_guests(self):
        """What somebody has put beside the entries of the top level, and git does not keep."""
        there = {path.name for path in self.root.iterdir()} - TOP
        kept = subprocess.run(["git", "-C", str(self.root), "ls-files", "-z", "--", *there],
                              capture_output=True, text=True).stdout if there else ""
        return there - {name.split("/")[0] for name in kept.split("\0")}

    def find(self, name, line, message):
        self.findings += 1
        print(f"{name}:{line}: {message}")

    def under(self, folder, suffixes):
        return [s for s in self.sources if s.name.startswith(folder) and s.suffix in suffixes]

    # ------------------------------------------------------------------------------- rules

    def rows(self):
        """A file of core/ includes its own header, coir.h, arch.h and headers of lower rows."""
        row = self.read_rows()
        for s in self.under("core/", C) if row else ():
            own = s.path.stem
            if own not in row:
                self.find(s.name, 1, "is in no row of core/HACKING.md")
                continue
            for number, line in enumerate(s.lines, 1):
                include = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
                if not include or include[1] in {own + ".h", "coir.h", "arch.h"}:
                    continue
                other = include[1].removesuffix(".h")
                if other not in row:
                    self.find(s.name, number, f"includes {include[1]}, which is in no row")
                elif row[other] >= row[own]:
                    self.find(s.name, number, f"row {row[own]} includes {include[1]} of row "
                              f"{row[other]}: includes point down only")

    def read_rows(self):
        """The block ```rows of core/HACKING.md, lines `N name name ...`, as name -> row."""
        path = self.root / "core/HACKING.md"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        block = re.search(r"^```rows\n(.*?)^```", text, re.S | re.M)
        row = {}
        if not block:
            self.find("core/HACKING.md", 1, "has no block ```rows")
            return row
        for number, line in enumerate(block[1].splitlines(), line_of(text, block.start(1))):
            words = line.split()
            if words and words[0].isdigit():
                row |= {name.removesuffix(".h"): int(words[0]) for name in words[1:]}
            elif words:
                self.find("core/HACKING.md", number, "is not a row: N name name ...")
        return row

    def atomics(self):
        """Atomic operations in core/ have an explicit order and a comment that names the edge."""
        for s in self.under("core/", C):
            code = s.code()
            for call in re.finditer(r"\b(atomic_\w+|__atomic_\w+|__sync_\w+)\s*\(", code):
                operation, number = call[1], line_of(code, call.start())
                end = closing(code, call.end() - 1)
                fence = operation in {"atomic_thread_fence", "atomic_signal_fence"}
                if operation == "atomic_init" or s.lines[number - 1].lstrip().startswith("#define"):
                    continue
                if not fence and not re.fullmatch(r"atomic_\w+_explicit", operation):
                    self.find(s.name, number, f"{operation} has no explicit order")
                elif "memory_order" not in code[call.end():end] and fence:
                    self.find(s.name, number, f"{operation} has no explicit order")
                elif not commented(s.lines, code.split("\n"), number, line_of(code, end)):
                    self.find(s.name, number, f"{operation} has no comment that names its edge")

    def asm(self):
        """Assembly says where the stack pointer moves, and what its symbols are."""
        for s in self.under("", {".asm", ".S"}):
            self.asm_moves(s)
            self.asm_symbols(s)
            depth = 0
            for number, line in enumerate(s.lines, 1):
                word = instruction(line).split(" ")[0]
                depth += (word == ".cfi_startproc") - (word == ".cfi_endproc")
                if depth not in (0, 1):
                    self.find(s.name, number, f"{word} does not match the one before")
                    depth = max(0, min(1, depth))
            if depth:
                self.find(s.name, len(s.lines), ".cfi_startproc without .cfi_endproc")

    def asm_moves(self, s):
        moves = re.compile(r"(push|pop)\w*\b|(add|sub|lea)\s+[re]?sp\b|(add|sub)\s+sp,"
                           r"|(stp|ldp|str|ldr)\b.*\[sp.*\]!|(stp|ldp|str|ldr)\b.*\[sp\],")
        for number, line in enumerate(s.lines, 1):
            if not moves.match(instruction(line)) or re.search(r"(;|//|@|#) *cfi: *\S", line):
                continue
            following = next(filter(None, map(instruction, s.lines[number:])), "")
            if not following.startswith(".cfi_"):
                self.find(s.name, number, "moves the stack pointer, and no .cfi_ line follows")

    def asm_symbols(self, s):
        text = self.with_includes(s)
        if ".note.GNU-stack" not in text:
            self.find(s.name, 1, "has no .note.GNU-stack")
        for number, line in enumerate(s.lines, 1):
            code = instruction(line)
            if name := re.match(r"global\s+([\w.$@]+)\s*(.*)", code) if s.suffix == ".asm" else None:
                if not NASM_SYMBOL.match(name[2]):
                    self.find(s.name, number, f"global {name[1]} has no type or no size")
            elif name := re.match(r"\.glob[a]?l\s+(\S+)", code):
                for directive in (".type", ".size"):
                    if not re.search(rf"{re.escape(directive)}\s+{re.escape(name[1])}\s*,", text):
                        self.find(s.name, number, f"global {name[1]} has no {directive}")

    def with_includes(self, s):
        names = re.findall(r'^\s*[%#.]\s*include\s*"([^"]+)"', s.text, re.M)
        files = [s.path.parent / name for name in names]
        return "\n".join([s.text] + [f.read_text() for f in files if f.is_file()])

    def public_header(self):
        """Each COIR_API function has a comment above it, which says what it returns."""
        for s in self.under("include/coir.h", C):
            for api in re.finditer(r"^COIR_API\b[^;]*;", s.code(), re.M):
                number = line_of(s.text, api.start())
                declaration = " ".join(api.group().split())
                name = re.search(r"(\w+)\s*\(", re.sub(r"__attribute__ *\(\(.*?\)\) ", "", declaration))
                above = re.search(r"/\*((?:(?!\*/).)*)\*/\n\Z", s.text[:api.start()], re.S)
                if not above:
                    self.find(s.name, number, f"{name[1]} has no comment directly above it")
                elif returns_something(declaration) and not re.search(
                        r"^ \* Returns |[Oo]therwise as coir_|^ coir_\w+ with COIR_NEVER\. $",
                        above[1], re.M):
                    self.find(s.name, number, f"{name[1]} does not say what it returns")

    def form(self):
        """Files are short; SPDX comes first; no tabs in C, no trailing blanks, no notes to self, no
        marks of a merge."""
        notes = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
        for s in self.sources:
            length = s.text.count("\n")
            if length > LINES_MAX and s.name not in LINES_FREE:
                self.find(s.name, LINES_MAX, f"has {length} lines; {LINES_MAX} is the limit")
            elif length > LINES_WARN and s.name not in LINES_FREE:
                print(f"{s.name}:{LINES_WARN}: warning: has {length} lines", file=sys.stderr)
            if s.suffix in C | ASM or s.script():
                first = s.lines[s.text.startswith("#!")]
                if "SPDX-License-Identifier: MIT" not in first:
                    self.find(s.name, 1, "does not begin with its SPDX line")
            for number, line in enumerate(s.lines, 1):
                if "\t" in line and s.suffix in C:
                    self.find(s.name, number, "has a tab")
                if line != line.rstrip():
                    self.find(s.name, number, "has trailing blanks")
                if re.match(r"(<{7}|>{7}) ", line):
                    self.find(s.name, number, "has a mark of a merge")
                if note := notes.search(line):
                    self.find(s.name, number, f"has a note to self: {note[1]}")

    def sleeps(self):
        """Tests in C do not sleep: a sleep hides a race or wastes time."""
        for s in self.under("tests/", {".c"}):
            code = s.code()
            for call in re.finditer(r"\b(usleep|sleep|nanosleep)\s*\(", code):
                self.find(s.name, line_of(code, call.start()), f"calls {call[1]}")

    def top(self):
        """The top level holds what it should and nothing else that git keeps."""
        for path in sorted(self.root.iterdir()):
            if path.name not in TOP | self.guests:
                self.find(path.name, 1, "is not one of the entries of the top level")

    def named_tests(self):
        """Each test that README.md or tests/README.md names exists."""
        names = {p.name for p in (self.root / "tests").glob("*")}
        units = {n.split(".")[0].removesuffix("_test") for n in names} | {"all", "core", "programs"}
        wanted = re.compile(r"tests/(\w+\.\w+)|\b(\w+_test\.\w+)"
                            r"|\b(?:ninja (?:test|clang|asan|tsan|aarch64)/|tools/test |(?=\w+_test\b))"
                            r"(\w+)")
        suites = {"native", "clang", "asan", "tsan", "aarch64", "scripts", "lint", "faults", "fuzz", "checkers", "trust"}
        for s in self.sources:
            if s.name not in {"README.md", "tests/README.md"}:
                continue
            for number, line in enumerate(s.lines, 1):
                for match in wanted.finditer(line):
                    file, unit = match[1] or match[2], (match[3] or "").removesuffix("_test")
                    if file and file not in names and not file.startswith("NAME"):
                        self.find(s.name, number, f"names tests/{file}, which does not exist")
                    elif unit and unit not in units | suites and unit != "NAME":
                        self.find(s.name, number, f"names the test {unit}, which does not exist")

    def promises(self):
        """Each TEST/CASE below "## Promises" in tests/README.md is a case of tests/TEST_test.* or a row of
        tests/TEST_table.h."""
        for s in self.sources:
            part = re.search(r"^## Promises\n(.*?)(?=^## |\Z)", s.text, re.S | re.M)
            if s.name != "tests/README.md" or not part:
                continue
            for named in re.finditer(r"`(\w+)/(\w+)`", part[1]):
                test, case = named.groups()
                number = line_of(s.text, part.start(1) + named.start())
                names = {f"tests/{test}_test", f"tests/{test}_table"}
                files = [o for o in self.sources if o.name.rpartition(".")[0] in names]
                if not files:
                    self.find(s.name, number, f"names tests/{test}_test, which does not exist")
                elif not any(has_case(o.text, case) for o in files):
                    self.find(s.name, number, f"names {test}/{case}, and there is no such case")

    def strategies(self):
        """No function, and no initializer, asks for abort on panics together with what must unwind, nor for a
        pool, supervisor or domain whose options are refused, unless it expects that (its status is named).
        What takes two functions to see is refused at open."""
        for s in self.under("", C):
            if s.name.startswith(("core/", "include/")):
                continue
            code = s.code()
            for part in re.finditer(r"^\{\n.*?^\}|^\w[^\n;(]*= *\{.*?\};", code, re.S | re.M):
                self.abort_with_containment(s, code, part)
                for name, message, at in mismatched_options(part[0]):
                    self.find(s.name, line_of(code, part.start() + at), f"{name} {message}")

    def abort_with_containment(self, s, code, part):
        asks = re.search(r"\bpanic\s*=\s*COIR_PANIC_ABORT\b", part[0])
        needs = re.search(r"\b(coir_try|COIR_FAULTS_CONTAIN|panics_max|coir_pool_open"
                          r"|coir_supervisor_open|coir_supervisor_run)\b", part[0])
        if asks and needs and not re.search(r"\b(COIR_EPOLICY|COIR_PANIC_UNWIND)\b", part[0]):
            self.find(s.name, line_of(code, part.start() + needs.start()),
                      f"{needs[0]} needs panics to unwind, and they abort here")

    def policy(self):
        """coir-kv keeps its panic policy: each of its files is in one layer; business code has no boundary; data
        calls nothing of coir but the clock; and nobody drops an outcome without a word."""
        layer = self.read_layers()
        for s in self.under("tools/kv/", {".c"}) if layer else ():
            code = s.code()
            mine = layer.get(s.path.name)
            forbidden = {"business": BOUNDARIES, "data": re.compile(r"\b(coir_(?!now\b)\w+)\s*\(")}.get(mine)
            if not mine:
                self.find(s.name, 1, f"is in no layer of {POLICY}")
            for call in forbidden.finditer(code) if forbidden else ():
                self.find(s.name, line_of(code, call.start()), f"{call[1]} in the layer {mine}")
            for call in DROPPED.finditer(code):
                number = line_of(code, call.start(1))
                if not commented(s.lines, code.split("\n"), number, line_of(code, closing(code, call.end() - 1))):
                    self.find(s.name, number, f"what {call[1]} returns is dropped, and nothing says why")

    def read_layers(self):
        """The block ```layers of the panic policy, lines `LAYER FILE FILE ...`, as file -> layer."""
        path = self.root / POLICY
        block = re.search(r"^```layers\n(.*?)^```", path.read_text(encoding="utf-8") if path.exists() else "",
                          re.S | re.M)
        words = [line.split() for line in block[1].splitlines()] if block else []
        if not words and self.under("tools/kv/", {".c"}):
            self.find(POLICY, 1, "has no block ```layers")
        return {file: line[0] for line in words for file in line[1:]}

    def run(self):
        for rule in (self.rows, self.atomics, self.asm, self.public_header, self.form, self.sleeps,
                     self.top, self.named_tests, self.promises, self.strategies, self.policy):
            rule()
        return self.findings


# What the options of each kind must have; of a domain, if it has the first.
REQUIRED = {
    "pool": {"dead": "has no dead-letter sink", "queue_max": "is not bounded: no queue_max",
             "attempts_max": "may retry for ever: no attempts_max"},
    "supervisor": {"max_restarts": "has no restart intensity: no max_restarts",
                   "max_seconds": "has no restart intensity: no max_seconds"},
    "domain": {"jobs_max": "says what to do when it is full, but is not bounded: no jobs_max"},
}
REFUSALS = re.compile(r"\b(COIR_EPOLICY|COIR_ERANGE|COIR_EINVAL)\b")


def mismatched_options(part):
    """The options in a function, or an initializer at file scope, that lack something which nobody adds there:
    (name, message, offset)."""
    for options in re.finditer(r"\bcoir_(pool|supervisor|domain)_options\s+(\w+)\s*=\s*(?=\{)", part):
        kind, name = options.groups()
        given = set(re.findall(r"\.(\w+)\s*=[^=]", part[options.end():closing(part, options.end())]))
        given |= set(re.findall(rf"\b{name}\.(\w+)\s*=[^=]", part))
        if filled_elsewhere(part, name) or REFUSALS.search(part) or (kind == "domain" and "full" not in given):
            continue
        for field, message in REQUIRED[kind].items():
            if field not in given:
                yield name, message, options.start(2)


def filled_elsewhere(part, name):
    """Whether a variable is returned, assigned as a whole, or given to a function that is not of coir.h."""
    if re.search(rf"\breturn {name};|\b{name}\s*=\s*[^={{\s]", part):
        return True
    return any(not re.match(r"coir_|sizeof", callee(part, use.start()))
               for use in re.finditer(rf"&{name}\b(?!\.)", part))


def callee(code, at):
    """The function whose argument is at this offset; "coir_": none is called there."""
    depth = 0
    while at > 0 and depth >= 0:
        at -= 1
        depth += (code[at] in ")}") - (code[at] in "({")
    name = re.search(r"(\w+)\s*$", code[:at])
    return name[1] if code[at] == "(" and name else "coir_"


def closing(code, start):
    """Offset of the parenthesis or brace that closes the one at start."""
    depth = 0
    for at in range(start, len(code)):
        depth += (code[at] in "({") - (code[at] in ")}")
        if depth == 0:
            return at
    return len(code)


def has_case(text, case):
    """Whether a test has a case of that name: CASE(name), another macro that makes one, or a Python test."""
    return re.search(rf"\b(?:[A-Z][A-Z_]*\([\s\\]*|def (?:test_)?){case}\s*[(,)]", text) is not None


def commented(lines, code, first, last):
    """Whether a line of first..last has a comment, or the one above is nothing but a comment."""
    above = first >= 2 and lines[first - 2].strip() and not code[first - 2].strip()
    return above or any(re.search(r"/\*|\*/|//", line) for line in lines[first - 1:last])


def instruction(line):
    """A line of assembly without label, comment and the blanks around."""
    line = re.sub(r"(;|//|/\*).*", "", line).strip()
    return re.sub(r"^[\w.$@]+:\s*", "", line)


def returns_something(declaration):
    """Whether a declaration returns a value that its name alone does not explain."""
    if "noreturn" in declaration or declaration.endswith("(void);"):
        return False
    return not re.sub(r"COIR_\w+ |__attribute__ *\(\(.*?\)\) ", "", declaration).startswith("void ")


def main(words):
    for word in words:
        if word == "--help":
            print(USAGE)
            return 0
        if word.startswith("-"):
            print(f"tools/lint.py: {word} is not an option; see --help", file=sys.stderr)
            return 2
    root = pathlib.Path(words[0] if words else pathlib.Path(__file__).parent.parent).resolve()
    if not root.is_dir() or len(words) > 1:
        print("tools/lint.py: wants one folder; see --help", file=sys.stderr)
        return 2
    return int(Lint(root).run() > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
