# SPDX-License-Identifier: MIT
"""rows.py - what tools/perf measures: each row of its table, on which processors, beside which peers.

A measurement is a pair (program, row of that program). Programs are coir-perf and the drivers of
perf/peers. Names of rows are stable: other tools rely on them. Goals are stated once: here if they
speak of peers or tails, else in the head of coir-perf's own file, from which `coir-perf --rows`
tells them.
"""
import dataclasses
import re

import servers

COIR = "coir-perf"
PEERS = {  # name -> driver, header that is there when the peer is installed (None: a command, `go`)
    "Boost.Context": ("boost_context", "boost/context/fiber.hpp"),
    "Boost.Fiber": ("boost_fiber", "boost/fiber/all.hpp"),
    "oneTBB": ("onetbb", "oneapi/tbb.h"),
    "Go": ("go", None),
}
RAW = {"raw atomics", "raw futex", "guard + touch", "touch", "bare loop", "bare thread", "bare threads",  # where these
       "raw epoll", "raw poll"}  # miss, and no peer does better, all do
IN_TURN = "/ruler"  # the figure of a ruler that a row of coir-perf measures in turn with itself
SETJMP = "setjmp"  # a floor: it runs no cleanup and keeps no record


@dataclasses.dataclass
class Goal:
    """At most `value`, if `of` is None; else at most `value` times what the peer or floor `of` has."""
    value: float
    of: str = None

    def limit(self, medians):
        """In the row's unit; None while `of` was not measured. `of` "best peer" is their least."""
        if self.of is None:
            return self.value
        other = medians.get(self.of)
        return None if other is None else self.value * other


@dataclasses.dataclass
class Row:
    name: str
    coir: str                # row of coir-perf, or of `program`
    peers: dict              # name -> (program, row), or (program, row, figure)
    floors: dict = dataclasses.field(default_factory=dict)  # likewise; the table shows the first
    cpus: int = 1            # processors the processes are bound to; 2: all
    figure: str = ""         # "/p99", "/p999": of the measurement's figures, the one that is meant
    goals: list = None       # None: as coir-perf says; nothing there: ahead of the best peer
    label: str = ""          # from coir-perf unless given
    unit: str = "ns"
    quick_n: int = 0         # with --quick, so many units of work for drivers; 0: what fills the time
    turns: int = 1           # so often a repetition measures all participants in turn, and has the medians
    program: str = COIR      # or a server of servers.py, whose loads are its rows

    def sources(self):
        """All measurements: participant -> (program, row, figure)."""
        all_of_it = {"coir": (self.program, self.coir), **self.floors, **self.peers}
        return {name: (*source, self.figure)[:3] for name, source in all_of_it.items()}


def peers(names, row):
    """The named peers, whose drivers all call the row so."""
    return {name: (PEERS[name][0], row) for name in names.split()}


def own(label, row, *figure):
    """A floor that coir-perf measures itself."""
    return {label: (COIR, row, *figure)}


def switches():
    for contexts in (2, 10000, 100000):
        for shared in ("", "/shared") if contexts < 100000 else ("",):
            floor = (own("registers alone", f"switching/arch/2{shared}") if contexts == 2 else
                     own("touch", f"switching/touch/{contexts}"))
            yield Row(f"switch/{contexts}{shared}", f"switching/{contexts}{shared}",
                      peers("Boost.Context", f"switch/{contexts}"), floor)


def jobs():
    yield Row("yield/1000", "yield/1000", peers("Boost.Fiber Go", "yield/1000"),
              own("queue + switch", "switching/queue/1000"))
    for workers in (1, 2):
        yield Row(f"spawn/{workers}", f"spawn/{workers}", peers("oneTBB Boost.Fiber Go", f"spawn/{workers}"),
                  own("bare loop", f"spawn/bare/{workers}"), cpus=workers)
    for workers in (1, 2):
        for name in ("fib", "fork"):
            yield Row(f"{name}/{workers}", f"spawn/{name}/{workers}", peers("oneTBB Go", f"fib/{workers}"),
                      own("bare loop", f"spawn/bare/{name}/{workers}"), cpus=workers, quick_n=400000)
    yield Row("submit/2", "spawn/submit", peers("oneTBB Go Boost.Fiber", "submit/2"), cpus=2,
              goals=[Goal(125), Goal(0.5, "oneTBB")])
    yield Row("parallel_for", "parallel/for", peers("oneTBB", "parallel_for/2"),
              own("ideal split", "parallel/for", IN_TURN), cpus=2)


def wakes():
    yield Row("wake/polling", "wake/polling", peers("Boost.Fiber oneTBB", "wake/polling"),
              own("raw atomics", "wake/atomics"), cpus=2)
    yield Row("wake/parked", "wake/parked", peers("Boost.Fiber Go", "wake/parked"),
              own("raw futex", "wake/futex"), cpus=2)


def timers():
    yield Row("timer/rearm", "timer/rearm", peers("Go", "timer/rearm"))
    for figure in ("", "/p99"):
        yield Row(f"timer/late/{figure[1:] or 'p50'}", "timer/late", peers("Go", "timer/late"),
                  own("raw sleep", "timer/late", IN_TURN + figure), figure=figure)


def memory():
    yield Row("memory/parked", "memory/parked", peers("Go Boost.Fiber", "memory/parked"), unit="B")
    yield Row("memory/cold", "memory/cold", peers("Go Boost.Fiber", "memory/cold"),
              own("guard + touch", "memory/touch"))
    yield Row("memory/lease", "memory/lease", {}, own("4 switches", "memory/bare"))
    yield Row("open", "memory/open", peers("oneTBB Boost.Fiber", "open"),
              own("bare threads", "memory/threads"), cpus=2)


def panics():
    for cleanup in ("", "/cleanup"):
        for frames in (1, 10, 100):
            name = f"panic/{frames}{cleanup}"
            yield Row(name, name, {**own("C++ throw", name, IN_TURN), **peers("Go", name)},
                      own("bare unwind", f"panic/bare/{frames}{cleanup}") if cleanup else {"setjmp": (SETJMP, name)})
    for frames in (1, 10, 100):
        name = f"panic/{frames}/backtrace"
        yield Row(name, name, own("C++ throw", name, IN_TURN))


def happy():
    """What they pay who do not panic."""
    yield Row("happy/try", "happy/try", {"C++ try": (COIR, "happy/cxx"), **peers("Go", "happy/try")},
              {**own("call", "happy/call"), "setjmp": (SETJMP, "happy/try")})
    yield Row("happy/job", "happy/job", {}, own("abort policy", "happy/job", IN_TURN))


def handoffs():
    for what in ("mutex", "channel"):
        for workers in (1, 2):
            row = f"handoff/{what}/{workers}"
            yield Row(row, row, peers("Boost.Fiber Go", row), own("a switch", "switching/2"),
                      cpus=workers)


def tails():
    """p50, p99 and p99.9 are figures of the same runs."""
    for load, p50, p99 in (("50", 1300, 6000), ("80", 3500, 18000), ("2/50", 0, 0), ("2/80", 0, 0),
                           ("mixed/50", 0, 0), ("mixed/80", 0, 0), ("mixed/2/50", 0, 0), ("mixed/2/80", 0, 0)):
        row = f"tail/{load}"
        for figure, limit in (("", p50), ("/p99", p99), ("/p999", 0)):
            yield Row(f"{row}/{figure[1:] or 'p50'}", row, peers("oneTBB Boost.Fiber Go", row),
                      {**own("ideal", row + "/ideal"), **own("bare thread", row + "/bare")},
                      cpus=2, figure=figure, turns=5 if load == "mixed/80" else 1,
                      goals=([Goal(limit)] if limit else []) + [Goal(1, "oneTBB")])


def serving():
    """coir-kv beside redis, goroutines and a raw loop, which polls where coir-kv does. Not with --quick."""
    def row(name, load, figure, goal, label, poll="", hiccup=False):
        others = {"redis": ("redis", load), "Go": ("resp", load)}
        floors = {"raw poll" if poll else "raw epoll": ("epoll_kv" + poll, load)}
        if hiccup:
            floors["hiccup"] = ("coir-kv" + poll, load, "/hiccup")
        return Row(f"server/{name}", load, others, floors, cpus=2, figure=figure, goals=[goal], label=label,
                   program="coir-kv" + poll)

    yield row("pipeline", "pipeline", "", Goal(1 / 1.5, "redis"), "a GET, 16 in flight on each of 50 connections")
    yield row("cpu", "steady", "/cpu", Goal(0.75, "Go"), "CPU for a request at {rate:,} a second")
    yield row("poll", "steady", "", Goal(0.4, "redis"), "p50 at {rate:,} a second, polling", " --poll", True)
    yield row("crowd", "crowd", "/p99", Goal(1.5, "raw epoll"), "p99 of 10,000 connections at {rate:,} a second", hiccup=True)


ROWS = [*switches(), *jobs(), *wakes(), *handoffs(), *timers(), *memory(), *panics(), *happy(), *tails(), *serving()]

# How cost grows: a chart each. Drivers know the rows by other names.
GROW = {
    "workers": ("ns per job, spawn + run + join, by workers",
                [Row(f"workers/{n}", f"workers/{n}", peers("oneTBB Go", f"spawn/{n}"), cpus=2)
                 for n in (1, 2, 4, 8, 16, 32, 64)]),
    "fanout": ("ns per job, by jobs of one counter, 1 worker",
               [Row(f"fanout/{10 ** n}", f"fanout/{10 ** n}",
                    peers("oneTBB Boost.Fiber Go" if n < 6 else "oneTBB Go", f"fanout/{10 ** n}"))
                for n in range(1, 7)]),
    # A million of Boost.Fiber's stacks want more memory than this is worth.
    "fibers": ("ns per yield, by fibers, 1 worker",
               [Row(f"fibers/{10 ** n}", f"crowd/{10 ** n}",
                    peers("Boost.Fiber Go" if n < 6 else "Go", f"yield/{10 ** n}"))
                for n in range(1, 7)]),
    # oneTBB recurses on the thread's stack, which 100,000 levels overflow.
    "depth": ("ns per level, by depth of recursion, 1 worker",
              [Row(f"depth/{10 ** n}", f"depth/{10 ** n}",
                   peers("oneTBB Boost.Fiber Go" if n < 5 else "Boost.Fiber Go", f"depth/{10 ** n}"))
               for n in range(1, 6)]),
}


def take_over(rows, listed):
    """Labels, units and goals from what `coir-perf --rows` printed."""
    known = {line.split("\t")[0]: line.split("\t")[1:] for line in listed.splitlines()}
    for row in rows:
        if row.program != COIR:
            continue
        unit, ruler, kind, goal, label = known[row.coir]
        row.label, row.unit = row.label or label, unit
        if row.goals is None:
            row.goals = list(own_goal(row, ruler, kind, float(goal)))


def own_goal(row, ruler, kind, goal):
    """coir-perf's goal in terms of this row; without one, ahead of the best peer."""
    if kind == "at_most":
        yield Goal(goal)
    elif kind == "ratio_at_most":
        yield Goal(goal, next((name for name, (program, of, figure) in row.sources().items()
                               if (program, of) == (COIR, ruler) or ruler == "in turn" and figure.startswith(IN_TURN)),
                              ruler))
    elif row.peers:
        yield Goal(1, "best peer")


def proven_floors(readme):
    """Rows of which perf/README.md shows that no design can meet their goal: `- \\`ROW\\`: why`."""
    section = re.search(r"^## Goals that no design meets\n(.*?)(?=^## |\Z)", readme, re.S | re.M)
    return set(re.findall(r"^- `([\w/]+)`:", section[1], re.M)) if section else set()
