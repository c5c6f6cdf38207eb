# SPDX-License-Identifier: MIT
"""servers.py - what tools/perf measures of servers: one on the first processor, its clients on the last.

A measurement starts a server, loads it, and ends it. Figures are in ns, less is better: "" is the time for
a request or the median latency, "/p99" of the same run, "/cpu" the server's processor time for a request,
"/hiccup" the 99th percentile of a spinning thread's own gaps beside the load.
"""
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time

SERVERS = {  # name -> command
    "coir-kv": ["build/bin/coir-kv", "--workers", "1"],
    "coir-kv --poll": ["build/bin/coir-kv", "--workers", "1", "--poll"],
    "redis": ["redis-server", "--save", "", "--appendonly", "no", "--maxclients", "20000"],
    "resp": ["build/peers/resp"],
    "epoll_kv": ["build/peers/epoll_kv"],
    "epoll_kv --poll": ["build/peers/epoll_kv", "--poll"],
}
BUILT = ["build/bin/coir-kv", "build/bin/coir-load", "build/peers/flood", "build/peers/epoll_kv"]
RATES = 40000, 30000, 20000, 10000  # requests per second: the first that can be held
BUSY = 0.9     # of its processor: whoever uses more makes a queue of its own
CROWD = 10000  # connections
START_SECONDS = 10


class Trouble(Exception):
    """A server or its load did not work; says how."""


class Server:
    """A server that runs, on the first processor, where `place` puts it."""

    def __init__(self, name, place):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        cpu = min(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [*SERVERS[name], "--port", str(self.port)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: place(cpu))

    def __enter__(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.01)
        self.__exit__()
        raise Trouble("the server does not start")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu_ns(self):
        """What its threads have used."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def client(command, place):
    """What a load generator prints, on the last processor."""
    cpu = max(os.sched_getaffinity(0))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: place(cpu))
    if done.returncode:
        raise Trouble((done.stderr.strip().splitlines() or ["the load failed"])[-1])
    return done.stdout


def pipeline(server, seconds, place):
    """50 connections, 16 GETs in flight on each, as fast as the server goes."""
    said = client(["build/peers/flood", "--port", str(server.port), "--pipeline", "16",
                   "--ms", str(int(seconds * 1000))], place)
    return {"": 1e9 / float(said)}


def open_loop(server, seconds, place, rate, connections, warmup=0.3, parts=1):
    """GETs, SETs and PINGs at a steady rate, one in flight on a connection; counted from when each was due: coir-load's
    own figures, and what share of its processor the server took."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        before = server.cpu_ns()
        client(["build/bin/coir-load", "--port", str(server.port), "--rate", str(rate), "--quiet",
                "--connections", str(connections), "--seconds", f"{seconds:.2f}", "--warmup", str(warmup),
                "--parts", str(parts), "--json", file.name], place)
        used = server.cpu_ns() - before
        found = json.load(file)
    if found["error_replies"] or found["lost"]:
        raise Trouble(f"{found['error_replies']} error replies, {found['lost']} lost connections")
    return found | {"server_ns": used, "server_cpu": used / 1e9 / (seconds + warmup), "warmup": warmup / seconds}


def figures_of(found):
    """Percentiles are the medians of those of the parts."""
    sent = found["answered"] * (1 + found["warmup"])  # with those of the warm-up
    typical = {name: 1000 * statistics.median(part[name] for part in found["part_latency_us"])
               for name in ("p50", "p99")}
    return {"": typical["p50"], "/p99": typical["p99"],
            "/cpu": found["server_ns"] / sent, "/hiccup": 1000 * found["hiccup_us"]["p99"]}


OPEN = {  # load -> how long, beside what a repetition has, and how many connections
    "steady": lambda server, seconds, place, rate: open_loop(server, seconds, place, rate, 50),
    # Each connection's first reply costs memory: six have come on each before it counts. A stall of the machine of 10 ms
    # is a hundredth of a second, so it would be the p99 of one; of ten parts it spoils one.
    "crowd": lambda server, seconds, place, rate:
        open_loop(server, 2 * seconds, place, rate, CROWD, warmup=60000 / rate, parts=10),
}
LOADS = {"pipeline", *OPEN}
rates = {}  # load -> what all servers are sent in this run, requests per second


def held(load, seconds, place):
    """The greatest rate at which neither the load nor the raw loop fills its processor, and all is sent; or the least."""
    for rate in RATES:
        for _ in range(2):  # a stall of the machine is no reason
            with Server("epoll_kv", place) as server:
                found = OPEN[load](server, seconds, place, rate)
            if not found["unsent"] and max(found["load_cpu"], found["server_cpu"]) <= BUSY:
                return rate
    return RATES[-1]


def run(name, load, seconds, place):
    """Figures of a server under a load. place(cpu) is called in each new process."""
    if load in OPEN and load not in rates:
        rates[load] = held(load, seconds, place)
    with Server(name, place) as server:
        if load == "pipeline":
            return pipeline(server, seconds, place)
        return figures_of(OPEN[load](server, seconds, place, rates[load]))
