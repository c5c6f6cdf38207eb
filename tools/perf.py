#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""perf.py - coir's benchmarks beside those of packaged peers; called by tools/perf.

Each measurement is a process of its own, bound to one processor or to all, as its row says. A
repetition goes through all rows, and the participants of a row follow each other directly: so each
meets the same machine. What is measured is in perf/rows.py, how it is shown in perf/report.py.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "perf"))
sys.dont_write_bytecode = True
import report
import rows
import servers

RUN_SECONDS = 120  # no measurement takes longer
QUICK_RUN_SECONDS = 1  # with --quick, what takes longer is measured once
SERVER_SECONDS = 1  # of load, a repetition
QUICK_SECONDS = 38  # --quick begins nothing after this that is not a row's first repetition
NOT_INSTALLED = "not installed"


# ------------------------------------------------------------------------------------- building

def fail(why):
    print(f"tools/perf: {why}", file=sys.stderr)
    sys.exit(1)


def build(targets):
    done = subprocess.run(["ninja", *targets], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        fail("the build failed\n" + done.stdout.strip())


def installed(header):
    """Whether the peer with this header, or Go, can be built here."""
    if header is None:
        return shutil.which("go") is not None
    done = subprocess.run(["g++", "-E", "-P", "-x", "c++", "-"], text=True, capture_output=True,
                          input=f"#if __has_include(<{header}>)\nyes\n#endif\n")
    return "yes" in done.stdout


def missing_programs(chosen):
    """Builds what the rows need; the drivers of peers that are not installed."""
    wanted = {program for row in chosen for program, *_ in row.sources().values()}
    optional = dict(rows.PEERS.values()) | {"resp": None}
    missing = {driver for driver, header in optional.items() if driver in wanted and not installed(header)}
    drivers = sorted((wanted & {*optional, rows.SETJMP}) - missing)
    build(["build/bin/coir-perf", *(f"build/peers/{name}" for name in drivers),
           *(servers.BUILT if wanted & {*servers.SERVERS} else ())])
    return missing


# ------------------------------------------------------------------------------------ measuring

class Failed(Exception):
    """A measurement gave no figure; says why."""


urgent = False  # --urgent


def place(cpus):
    """Of the calling process: bound to the last processor, if to one; ahead of others, if asked for."""
    if cpus == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if urgent and cpus == 1:  # in turns: Go's threads wait for each other
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    elif urgent:  # real-time threads on every processor would stop the machine
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        if pathlib.Path("/proc/self/autogroup").exists():  # nice counts within a session only
            os.setsid()
            pathlib.Path("/proc/self/autogroup").write_text("-20")


def place_on(cpu):
    """Of a server or its load, which never fill their processor for long: real time would need more care."""
    os.sched_setaffinity(0, {cpu})
    place(2)


def run(command, cpus):
    """What a program prints."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True,
                              timeout=RUN_SECONDS, preexec_fn=lambda: place(cpus))
    except subprocess.TimeoutExpired:
        raise Failed(f"took over {RUN_SECONDS} s")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise Failed(said[-1])
    return done.stdout


def run_coir(row, ms, cpus):
    """A row of coir-perf, once: its figures by name, "" for the one that the row shows."""
    alone = f"^{re.escape(row)}(/iterations:[0-9]+)?/manual_time$"
    out = run(["build/bin/coir-perf", f"--benchmark_filter={alone}",
               f"--benchmark_min_time={ms / 1000}", "--benchmark_format=json"], cpus)
    found = json.loads(out)["benchmarks"][0]
    if found.get("error_occurred"):
        raise Failed(found["error_message"])
    figures = {"": found.get("p50_ns", found.get("bytes", found["real_time"]))}
    more = {"/p99": "p99_ns", "/p999": "p999_ns", rows.IN_TURN: "ruler_ns", rows.IN_TURN + "/p99": "ruler_p99_ns"}
    return figures | {name: found[counter] for name, counter in more.items() if counter in found}


def run_driver(driver, row, ms, cpus, n=0):
    """As run_coir, of a peer's driver: lines `ROW/FIGURE value`. n: units of work, instead of ms."""
    fill = ["--n", str(n)] if n else ["--ms", str(ms)]
    out = run([f"build/peers/{driver}", "--row", row, *fill], cpus)
    return {name.removeprefix(row): float(value) for name, value in map(str.split, out.splitlines())}


class Measurements:
    """Figures of every measurement, which rows may share: each is made once a repetition."""

    def __init__(self, ms, once, missing):
        self.ms = ms
        self.once = once   # what takes more seconds is measured once
        self.missing = missing
        self.values = {}   # (program, row, cpus) -> a list for each repetition, of dicts of figures
        self.reasons = {}  # likewise -> why there are none
        self.seconds = {}  # likewise -> what the last one took

    def keys(self, row):
        return {name: (program, of, row.cpus) for name, (program, of, _) in row.sources().items()}

    def made(self, key, repetition, turn):
        """Whether another row had it measured that often."""
        done = self.values.get(key, ())
        return len(done[-1]) > turn if turn else len(done) > repetition

    def make(self, key, repetition, turn, n):
        program, row, cpus = key
        if key in self.reasons or self.made(key, repetition, turn):
            return
        if repetition and self.seconds[key] > self.once:
            return
        if program in self.missing:
            self.reasons[key] = NOT_INSTALLED
            return
        began = time.monotonic()
        try:
            figures = (run_coir(row, self.ms, cpus) if program == rows.COIR else
                       servers.run(program, row, SERVER_SECONDS, place_on) if program in servers.SERVERS
                       else run_driver(program, row, self.ms, cpus, n))
            done = self.values.setdefault(key, [])
            if turn:
                done[-1].append(figures)
            else:
                done.append([figures])
        except (Failed, servers.Trouble) as why:
            self.reasons[key] = str(why)
        self.seconds[key] = time.monotonic() - began

    def found(self, row):
        """Participant -> values, and participant -> why there are none."""
        keys = self.keys(row)
        values = {name: [report.statistics.median(figures[row.sources()[name][2]] for figures in turns)
                         for turns in self.values[key]]
                  for name, key in keys.items() if key in self.values and key not in self.reasons}
        return values, {name: self.reasons[key] for name, key in keys.items() if key in self.reasons}


def progress(text):
    """What goes on, on standard error: one line that changes, if a person looks at it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def measure(chosen, missing, quick):
    """All repetitions of all rows. The first is complete; with --quick, later ones as time allows."""
    m = Measurements(*((25, QUICK_RUN_SECONDS) if quick else (150, RUN_SECONDS)), missing)
    repetitions, began = 3 if quick else 5, time.monotonic()
    for repetition in range(repetitions):
        for number, row in enumerate(chosen, 1):
            keys = m.keys(row)
            progress(f"repetition {repetition + 1} of {repetitions}, row {number} of {len(chosen)}: "
                     f"{row.name}")
            due = sum(m.seconds.get(key, 0) for key in set(keys.values()))
            if quick and repetition and time.monotonic() - began + due > QUICK_SECONDS:
                continue
            for turn in range(1 if quick else row.turns):
                for key in keys.values():
                    m.make(key, repetition, turn, row.quick_n if quick else 0)
        if not sys.stderr.isatty():
            print(f"repetition {repetition + 1} of {repetitions}: {time.monotonic() - began:.0f} s",
                  file=sys.stderr, flush=True)
    progress("")
    return m


# ------------------------------------------------------------------------------- what is asked for

ABOUT = """Builds and runs coir's benchmarks and those of packaged peers, interleaved, and prints one table.
Peers that are not installed are left out; tools/deps --perf installs them."""
STATUS = """A missed goal is no error. Exit status: 0: measured; 1: something could not be built, run or
written; 2: bad option."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"tools/perf: {message}; see --help", file=sys.stderr)
        sys.exit(2)


def options(words):
    parser = Parser(prog="tools/perf", description=ABOUT, epilog=STATUS, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="fewer and shorter repetitions: ends within 50 seconds")
    parser.add_argument("--only", metavar="ROW", action="append", help="this row; may be given again")
    parser.add_argument("--grow", action="store_true",
                        help="instead, how cost grows with workers, jobs of a counter, fibers, and depth")
    parser.add_argument("--urgent", action="store_true",
                        help="ahead of what else this machine does: as root, on a busy one")
    parser.add_argument("--json", metavar="FILE", help="writes the figures")
    parser.add_argument("--chart", metavar="FILE.svg",
                        help="draws them; with --grow, FILE-workers.svg and so on")
    parser.add_argument("--from", metavar="FILE", dest="source",
                        help="measures nothing: prints and draws what --json wrote there")
    asked = parser.parse_args(words)
    if asked.chart and not asked.chart.endswith(".svg"):
        parser.error(f"--chart {asked.chart} does not end with .svg")
    for file in filter(None, (asked.json, asked.chart)):
        if not os.access(os.path.dirname(os.path.abspath(file)), os.W_OK):
            parser.error(f"{file} cannot be written there")
    if asked.source and (asked.json or asked.only or asked.quick or asked.grow or asked.urgent):
        parser.error("--from measures nothing: beside it there is only --chart")
    if asked.chart and not shutil.which("gnuplot"):
        fail("--chart needs gnuplot; tools/deps --perf installs it")
    if asked.urgent and os.geteuid() != 0:
        fail("--urgent needs root")
    known = [row for _, grown in rows.GROW.values() for row in grown] if asked.grow else rows.ROWS
    names = [row.name for row in known]
    for name in asked.only or ():
        if name not in names:
            parser.error(f"{name} is not a row; rows: {' '.join(names)}")
    asked.rows = [row for row in known if row.name in (asked.only or names) and
                  not (asked.quick and row.program in servers.SERVERS)]
    if not asked.rows:
        parser.error("servers are not measured with --quick")
    return asked


def results_of(m, chosen):
    """The rows as JSON has them."""
    proven = rows.proven_floors((ROOT / "perf/README.md").read_text())
    found = {row.name: m.found(row) for row in chosen}
    medians = {row.coir: report.statistics.median(found[row.name][0]["coir"])
               for row in chosen if found[row.name][0].get("coir")}
    return [report.summary(row, *found[row.name], medians, proven) | rate_of(row) for row in chosen]


def rate_of(row):
    """What else JSON has of a row whose servers are sent requests at a rate."""
    if row.program not in servers.SERVERS or row.coir not in servers.OPEN:
        return {}
    rate = servers.rates.get(row.coir, servers.RATES[0])
    return {"label": row.label.format(rate=rate), "rate": rate}


def show(asked, results):
    """Prints and draws."""
    if not asked.grow:
        print("\n".join(report.table(results)))
        if asked.chart:
            report.draw(report.bars(results), asked.chart)
        return
    for name, (title, _) in rows.GROW.items():
        grown = [r for r in results if r["row"].startswith(name + "/")]
        if grown:
            print("\n".join(report.growth(title, grown)))
            if asked.chart:
                report.draw(report.lines(title, grown), f"{asked.chart.removesuffix('.svg')}-{name}.svg")


def known(found):
    """What a file has, if its names are ours: they go into gnuplot's commands."""
    ours = {row.name: row for row in [*rows.ROWS, *(row for _, grown in rows.GROW.values() for row in grown)]}
    for r in found["rows"]:
        if not set(r["peers"]) <= set(ours[r["row"]].peers):
            raise KeyError(r["row"])
    return found


def show_again(asked):
    """What an earlier run has found."""
    with open(asked.source) as file:
        try:
            found = known(json.load(file))
            asked.grow = found["grow"]
            show(asked, found["rows"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            fail(f"{asked.source} was not written by --json")
    return 0


def main(words):
    global urgent
    asked = options(words)
    urgent = asked.urgent
    for name in ("json", "chart", "source"):
        if getattr(asked, name):
            setattr(asked, name, os.path.abspath(getattr(asked, name)))
    if asked.source:
        return show_again(asked)
    os.chdir(ROOT)
    if subprocess.run(["tools/deps"]).returncode:
        sys.exit(1)
    missing = missing_programs(asked.rows)
    rows.take_over(asked.rows, run(["build/bin/coir-perf", "--rows"], 2))
    before = report.machine()
    m = measure(asked.rows, missing, asked.quick)
    results = results_of(m, asked.rows)
    counts = {len(r["runs"]) for r in results}
    print(f"coir beside packaged peers: {before['cpus']} CPUs, load {before['load']:.1f}; medians of "
          f"{' to '.join(str(n) for n in sorted({min(counts), max(counts)}))}\n")
    if asked.json:
        report.write({"machine": before, "quick": asked.quick, "grow": asked.grow}, results, asked.json)
    show(asked, results)
    if before["loaded"]:
        print(f"The machine was busy (load {before['load']:.1f}): " +
              ("what ran here ran ahead of the rest." if urgent else "these figures are no evidence."))
    if missing:
        print("Not all peers are installed: tools/deps --perf")
    return 0 if all(r["coir"] for r in results) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and whoever is being measured ends, too
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as why:
        fail(why)
    except KeyboardInterrupt:
        sys.exit(130)
