#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""demo.py - coir-kv beside redis-server on loopback; called by tools/demo, which builds first.

Both get one worker, no persistence and the same load from coir-load, one after the other. Then both
get requests that break their handler, under load: coir-kv hundreds a second, of six kinds; redis, which
ends with the first, one. Last, a coir-kv of two workers gets requests that never end by themselves.
Everything started here is ended here, and lives in a temporary folder.
"""
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

KV = "build/bin/coir-kv"
LOAD = "build/bin/coir-load"
SECONDS = 3
RATE = 40000
POISON_RATE = 500
POISON_SECONDS = 3
ROUNDS = 3  # of a run without poison and one with it
BEFORE_SECONDS = 2
LOOP_RATE = 1
SLOWER_MAX = 1.5  # p50 of the others under poison, beside that of the run before without

# What is sent in turn, and the figure of /metrics that must grow by as many. SEGFAULT and ABORT share one.
KINDS = {"DEBUG PANIC": 'coir_failures_total{kind="panic"}',
         "DEBUG OVERFLOW": 'coir_failures_total{kind="stack_overflow"}',
         "DEBUG SEGFAULT": 'coir_failures_total{kind="fault"}',
         "DEBUG ABORT": 'coir_failures_total{kind="fault"}',
         "DEBUG THROW": 'coir_failures_total{kind="foreign"}',
         "DEBUG LEAK": 'coir_domain_obligations_leaked_total{domain="requests"}'}
LOOP = {"DEBUG LOOP": "coir_kv_deadlines_exceeded_total"}
TICK = os.sysconf("SC_CLK_TCK")


def say(text=""):
    print(text, flush=True)


# ------------------------------------------------------------------------------------ the servers

class Server:
    """A server process: its port, its log, its processor time."""

    def __init__(self, name, folder):
        self.name = name
        self.log = os.path.join(folder, name + ".log")
        self.process = None

    def start(self, command):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL)

    def lines(self):
        with open(self.log) as log:
            return log.read()

    def await_line(self, pattern):
        for _ in range(500):
            found = re.search(pattern, self.lines())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        sys.exit(f"{self.name} did not start:\n{self.lines()}")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def alive(self):
        """Whether the process is there and answers a PING on a new connection."""
        if self.process.poll() is not None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.sendall(b"*1\r\n$4\r\nPING\r\n")
                return s.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start_kv(kv, *options):
    kv.start([KV, "--port", "0", "--metrics-port", "0", *options])
    kv.port = int(kv.await_line(r"listening on \S+:(\d+)")[1])
    kv.metrics = int(kv.await_line(r"metrics on \S+:(\d+)")[1])


def start_redis(redis, folder):
    with socket.socket() as s:  # redis wants to be told its port
        s.bind(("127.0.0.1", 0))
        redis.port = s.getsockname()[1]
    redis.start(["redis-server", "--port", str(redis.port), "--bind", "127.0.0.1", "--save", "",
                 "--appendonly", "no", "--dir", folder, "--enable-debug-command", "local"])
    redis.await_line("Ready to accept connections")


def metrics(kv):
    """The figures of /metrics, as a scraper sees them; none if there is nobody to ask."""
    try:
        with socket.create_connection(("127.0.0.1", kv.metrics), 5) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    except OSError:
        return {}
    return {name: int(value) for name, value in re.findall(r"^(coir_\S+) (\d+)\r?$", text, re.M)}


# --------------------------------------------------------------------------------------- the runs

def load(server, folder, *options, seconds):
    """Runs coir-load against the server; its figures, with the server's processor time."""
    out = os.path.join(folder, "load.json")
    if server.process.poll() is not None:
        sys.exit(f"PROMISE BROKEN: {server.name} has ended:\n{server.lines()}")
    before = server.cpu_seconds()
    done = subprocess.run([LOAD, "--port", str(server.port), "--seconds", str(seconds), "--warmup", "1",
                           "--json", out, "--quiet", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    try:
        with open(out) as text:
            figures = json.load(text)
    except ValueError:
        sys.exit(f"coir-load failed:\n{done.stdout}")
    if server.process.poll() is None:
        # The warm-up second is in the processor time, and at the same rate in the requests.
        served = figures["answered"] * (seconds + 1) / seconds
        figures["cpu_us"] = (server.cpu_seconds() - before) * 1e6 / served if served else None
    return figures


def poisoned(server, folder, kinds, rate, seconds):
    """A run at the usual rate beside so many poisoned requests a second."""
    return load(server, folder, "--rate", str(RATE), "--poison", str(rate), "--poison-command",
                ",".join(kinds), seconds=seconds)


def slower(runs):
    """p50 of the others under poison, as a multiple of that without; None: nothing was answered."""
    before, after = (runs[run]["latency_us"]["p50"] for run in ("before", "poison"))
    return after / before if before and after else None


def summed(runs):
    """The poison run of the middle pair, with what was counted in all of them."""
    shots = [pair["poison"] for pair in runs]
    pair = sorted(runs, key=lambda pair: slower(pair) or math.inf)[len(runs) // 2]
    total = {count: sum(shot[count] for shot in shots)
             for count in ("lost", "errors", "poison_sent", "poison_contained")}
    kinds = [{"command": same[0]["command"], "sent": sum(kind["sent"] for kind in same),
              "contained": sum(kind["contained"] for kind in same)}
             for same in zip(*(shot["poisons"] for shot in shots))]
    p50s = [pair["before"]["latency_us"]["p50"] or math.inf for pair in runs]
    return {"before": {**pair["before"], "spread": max(p50s) / min(p50s)},
            "poison": {**pair["poison"], **total, "poisons": kinds}}


def judged(runs):
    """Whether p50s can be compared: not if those without poison differ by as much among themselves."""
    return runs["before"]["spread"] <= SLOWER_MAX


def in_pairs(server, folder, kinds, rate, rounds):
    """Runs without and with poison in turn: a machine's speed drifts, and the two must share it."""
    return summed([{"before": load(server, folder, "--rate", str(RATE), seconds=BEFORE_SECONDS),
                    "poison": poisoned(server, folder, kinds, rate, POISON_SECONDS)}
                   for _ in range(rounds)])


def measure(kv, redis, loop, folder):
    """All runs; the figures by server and run."""
    found = {kv: {}, redis: {}, loop: {}}
    for run, text, servers, options in (
            ("p1", "as fast as it goes, one request at a time", (kv, redis), ["--pipeline", "1", "--no-hiccup"]),
            ("p16", "as fast as it goes, 16 requests in flight", (kv, redis), ["--pipeline", "16", "--no-hiccup"]),
            ("rate", f"{RATE:,} requests a second", (kv, redis), ["--rate", str(RATE)])):
        for server in servers:
            say(f"  {server.name:20}{text}")
            found[server][run] = load(server, folder, *options, seconds=SECONDS)
    for server, kinds, rate, rounds in ((kv, KINDS, POISON_RATE, ROUNDS), (loop, LOOP, LOOP_RATE, 2)):
        say(f"  {server.name:20}the same, without and with {rate} poisoned a second, in turn")
        found[server] |= in_pairs(server, folder, kinds, rate, rounds)
    say(f"  {redis.name:20}{RATE:,} requests a second and a poisoned one")
    found[redis]["poison"] = poisoned(redis, folder, ["DEBUG PANIC"], 1, 1)
    return found


# -------------------------------------------------------------------------------------- the report

def cell(value, form):
    return "-" if value is None else format(value, form)


def lost(figures):
    """Other connections than the poisoned ones that ended before their time."""
    return figures["lost"] + figures["errors"]


def row(name, runs, figures, survived):
    """A row of the table; without latencies if no connection lived to the end of the run."""
    speed = [cell(runs[run]["requests_per_second"] if run in runs else None, ",.0f")
             for run in ("p1", "p16")]
    whole = lost(figures) < figures["connections"]
    us = [cell(figures[kind][share] if whole else None, ",.0f")
          for kind, share in (("latency_us", "p50"), ("latency_us", "p99"), ("hiccup_us", "p99"))]
    return [name, *speed, *us, cell(figures.get("cpu_us"), ".1f"),
            f"{lost(figures)} of {figures['connections']}", f"{figures['poison_sent']:,}",
            "yes" if survived else "no"]


def table(rows):
    """Lines of the rows in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(text.rjust(w) if i else text.ljust(w)
                      for i, (text, w) in enumerate(zip(row, widths))).rstrip() for row in rows]


def report(kv, redis, found, alive):
    normal = [row(s.name, found[s], found[s]["rate"], True) for s in (kv, redis)]
    shot = [row(s.name + ", poisoned", {}, found[s]["poison"], alive[s]) for s in (kv, redis)]
    head = [["", "req/s", "req/s", "p50", "p99", "hiccups", "cpu us", "others", "", ""],
            ["server", "P=1", "P=16", "us", "us", "p99 us", "/req", "lost", "poisoned", "lives"]]
    for line in table(head + normal + shot):
        say("  " + line)
    say(f"""
  P          requests in flight on each connection
  p50, p99   from when a request was due to its reply, at {RATE:,} a second; cpu: the server's, there
  hiccups    how late this machine ({os.cpu_count()} CPUs, the load's included) woke an idle thread meanwhile:
             a p99 that is not above it says nothing about the server
  others     connections that were not poisoned themselves""")


def report_poison(kv_runs, loop_runs):
    """The table of poisoned requests: each kind, and how the others fared beside them."""
    rows = [["", "", "", "others", "p50", "p50 us", ""],
            ["kind", "sent", "contained", "lost", "us", "before", "ratio"]]
    for name, runs in (("all of these", kv_runs), (None, loop_runs)):
        shot = runs["poison"]
        others = [f"{lost(shot)} of {shot['connections']}", cell(shot["latency_us"]["p50"], ",.0f"),
                  cell(runs["before"]["latency_us"]["p50"], ",.0f"), cell(slower(runs), ".2f")]
        for kind in shot["poisons"]:
            rows.append([kind["command"], f"{kind['sent']:,}", f"{kind['contained']:,}",
                         *([""] * 4 if name else others)])
        if name:
            rows.append([name, f"{shot['poison_sent']:,}", f"{shot['poison_contained']:,}", *others])
    for line in table(rows):
        say("  " + line)
    for runs in (kv_runs, loop_runs):
        if not judged(runs):
            say(f"  This machine is busy: p50 without poison varied by {runs['before']['spread']:.2f}, "
                "so the ratio is not judged.")


def miscounted(shot, kinds, counted):
    """What /metrics counts otherwise than it was sent, a line each."""
    sent = {}
    for kind in shot["poisons"]:
        figure = kinds[kind["command"]]
        sent[figure] = sent.get(figure, 0) + kind["sent"]
    return [f"/metrics counts {counted.get(figure, 0):,} in {figure}, and {n:,} were sent"
            for figure, n in sent.items() if counted.get(figure, 0) != n]


def broken_promises(name, runs, alive, kinds, counted):
    """What a coir-kv was to do and did not, a line each."""
    shot = runs["poison"]
    broken = [f"{lost(figures)} of {figures['connections']} connections were lost, {run}"
              for run, figures in runs.items() if lost(figures)]
    if not shot["poison_sent"]:
        broken.append("no poisoned request could be sent")
    if shot["poison_contained"] != shot["poison_sent"]:
        broken.append(f"{shot['poison_sent'] - shot['poison_contained']:,} of {shot['poison_sent']:,} "
                      "poisoned requests were not contained")
    if judged(runs) and (slower(runs) is None or slower(runs) > SLOWER_MAX):
        broken.append(f"p50 of the others was {cell(slower(runs), '.2f')} times that without poison, "
                      f"more than {SLOWER_MAX}")
    if not alive:
        return [f"{name}: {line}" for line in broken + ["the server has ended, or does not answer"]]
    return [f"{name}: {line}" for line in broken + miscounted(shot, kinds, counted)]


def first_line(server, pattern):
    lines = server.lines().replace("coir-kv: ", "").splitlines()
    return next((line[:116] for line in lines if re.search(pattern, line)), "none")


def show(kv, redis, loop, folder):
    """Runs and reports everything; returns the broken promises."""
    say(f"coir-kv and redis-server, one worker each, 50 connections, {SECONDS} s a run")
    say()
    found = measure(kv, redis, loop, folder)
    alive = {server: server.alive() for server in (kv, redis, loop)}
    say()
    report(kv, redis, found, alive)
    say()
    report_poison(found[kv], found[loop])
    say("\nThe first panic, and the first stall (DEBUG LOOP, while it ran), in the logs:")
    say("  " + first_line(kv, "panic at tools"))
    say("  " + first_line(loop, "stall: worker.*DEBUG LOOP"))
    return [line for server, kinds in ((kv, KINDS), (loop, LOOP))
            for line in broken_promises(server.name, found[server], alive[server], kinds,
                                        metrics(server))]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        kv, redis = Server("coir-kv", folder), Server("redis-server", folder)
        loop = Server("coir-kv, 2 workers", folder)
        try:
            start_kv(kv, "--workers", "1")
            start_kv(loop, "--workers", "2", "--stall-ms", "20", "--request-ms", "100")
            start_redis(redis, folder)
            broken = show(kv, redis, loop, folder)
            kv.stop()
            say("\nSIGTERM, and what it says of its clients:\n  " + first_line(kv, "^drained"))
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            for server in (kv, redis, loop):
                server.stop()
    say()
    for line in broken:
        say(f"PROMISE BROKEN: {line}")
    if not broken:
        say("What to read next: README.md, include/coir.h, then tools/kv/server.c, where one job runs what\n"
            "may break and another learns that it did. tools/test proves the rest.")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
