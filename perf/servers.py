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
RATE = 40000   # requests per second
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


def open_loop(server, seconds, place, connections, warmup=0.3, parts=1):
    """GETs, SETs and PINGs at a steady rate, one in flight on a connection; counted from when each was due.
    The percentiles are the medians of those of the parts."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        before = server.cpu_ns()
        client(["build/bin/coir-load", "--port", str(server.port), "--rate", str(RATE), "--quiet",
                "--connections", str(connections), "--seconds", f"{seconds:.2f}", "--warmup", str(warmup),
                "--parts", str(parts), "--json", file.name], place)
        used = server.cpu_ns() - before
        found = json.load(file)
    if found["error_replies"] or found["lost"]:
        raise Trouble(f"{found['error_replies']} error replies, {found['lost']} lost connections")
    sent = found["answered"] * (1 + warmup / seconds)  # with those of the warm-up
    typical = {name: 1000 * statistics.median(part[name] for part in found["part_latency_us"])
               for name in ("p50", "p99")}
    return {"": typical["p50"], "/p99": typical["p99"],
            "/cpu": used / sent, "/hiccup": 1000 * found["hiccup_us"]["p99"]}


LOADS = {
    "pipeline": pipeline,
    "steady": lambda server, seconds, place: open_loop(server, seconds, place, 50),
    # Each connection's first reply costs memory: six have come on each before it counts. A stall of the machine of 10 ms
    # is a hundredth of a second, so it would be the p99 of one; of ten parts it spoils one.
    "crowd": lambda server, seconds, place: open_loop(server, 2 * seconds, place, CROWD, warmup=1.5, parts=10),
}


def run(name, load, seconds, place):
    """Figures of a server under a load. place(cpu) is called in each new process."""
    with Server(name, place) as server:
        return LOADS[load](server, seconds, place)
