#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""demo.py - coir-kv beside redis-server on loopback; called by tools/demo, which builds first.

Both servers get one worker, no persistence and the same load from coir-load, one after the other.
Then coir-kv is shot with poisoned requests under load; redis gets one. Everything started here is
ended here, and lives in a temporary folder.
"""
import json
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
SECONDS = 4
RATE = 40000
POISON_RATE = 500
POISON_SECONDS = 9
TICK = os.sysconf("SC_CLK_TCK")


def say(text):
    print(text, flush=True)


def ask(port, *words, timeout=5):
    """One request on a connection of its own; the reply, or None if the server is not there."""
    request = b"*%d\r\n" % len(words)
    for word in words:
        request += b"$%d\r\n%s\r\n" % (len(word), word.encode())
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.sendall(request)
            return s.recv(4096) or None
    except OSError:
        return None


class Server:
    """A server process: its port, its log, its processor time."""

    def __init__(self, name, folder):
        self.name = name
        self.log = os.path.join(folder, name + ".log")

    def start(self, command):
        self.process = subprocess.Popen(command, stdout=open(self.log, "w"), stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)

    def await_line(self, pattern):
        for _ in range(500):
            found = re.search(pattern, open(self.log).read())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        sys.exit(f"{self.name} did not start:\n{open(self.log).read()}")

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def alive(self):
        return self.process.poll() is None and ask(self.port, "PING") is not None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def start_kv(folder):
    kv = Server("coir-kv", folder)
    kv.start([KV, "--port", "0", "--metrics-port", "0", "--workers", "1"])
    kv.port = int(kv.await_line(r"listening on \S+:(\d+)")[1])
    kv.metrics = int(kv.await_line(r"metrics on \S+:(\d+)")[1])
    return kv


def start_redis(folder):
    redis = Server("redis", folder)
    with socket.socket() as s:  # redis wants to be told its port
        s.bind(("127.0.0.1", 0))
        redis.port = s.getsockname()[1]
    redis.start(["redis-server", "--port", str(redis.port), "--bind", "127.0.0.1", "--save", "",
                 "--appendonly", "no", "--dir", folder, "--enable-debug-command", "local"])
    redis.await_line("Ready to accept connections")
    return redis


def load(server, folder, *options, seconds=SECONDS):
    """Runs coir-load against the server; its figures, with the server's processor time."""
    out = os.path.join(folder, "load.json")
    before = server.cpu_seconds()
    done = subprocess.run([LOAD, "--port", str(server.port), "--seconds", str(seconds), "--warmup", "1",
                           "--json", out, "--quiet", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"coir-load failed:\n{done.stdout}")
    figures = json.load(open(out))
    # The warm-up second is in the processor time, and at the same rate in the requests.
    served = figures["answered"] * (seconds + 1) / seconds
    figures["cpu_us"] = (server.cpu_seconds() - before) * 1e6 / served if served else float("nan")
    return figures


def compare(servers, folder):
    """The same three loads on each server: closed loop with P=1 and P=16, then a constant rate."""
    rows = {s.name: {} for s in servers}
    for label, options in (("p1", ["--pipeline", "1"]), ("p16", ["--pipeline", "16"]),
                           ("rate", ["--rate", str(RATE)])):
        for server in servers:
            say(f"  {server.name:8} {' '.join(options)}")
            rows[server.name][label] = load(server, folder, "--no-hiccup", *options)
    return rows


def metric(server, name):
    with socket.create_connection(("127.0.0.1", server.metrics), 5) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  " + "  ".join(str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
                             for i, (cell, w) in enumerate(zip(row, widths))))


def us(figures, quantile):
    return f"{figures['latency_us'][quantile]:.0f}"


def report(kv, redis, rows, poison, floor, redis_survived):
    head = ["server", "survived", "lost", "req/s P=1", "req/s P=16", f"p50 us at {RATE // 1000}k/s",
            "p99 us", "cpu us/req"]
    lines = [head]
    for server, lost, survived in ((kv, poison["lost"], kv.alive()), (redis, "-", redis_survived)):
        r = rows[server.name]
        lines.append([server.name, "yes" if survived else "no", lost,
                      f"{r['p1']['requests_per_second']:,.0f}",
                      f"{r['p16']['requests_per_second']:,.0f}", us(r["rate"], "p50"),
                      us(r["rate"], "p99"), f"{r['rate']['cpu_us']:.1f}"])
    lines.append(["coir-kv, poisoned", "yes" if kv.alive() else "no", poison["lost"], "", "",
                  us(poison, "p50"), us(poison, "p99"), f"{poison['cpu_us']:.1f}"])
    lines.append(["machine's hiccups", "", "", "", "", "", f"{floor['hiccup_us']['p99']:.0f}", ""])
    say("")
    table(lines)


def main():
    with tempfile.TemporaryDirectory() as folder:
        kv, redis = start_kv(folder), start_redis(folder)
        try:
            say(f"coir-kv on port {kv.port}, redis-server on port {redis.port}, one worker each; "
                f"50 connections, {SECONDS} s a run")
            floor = load(redis, folder, "--rate", "100", "--connections", "1", seconds=2)
            rows = compare([kv, redis], folder)
            say(f"  coir-kv  --rate {RATE} and {POISON_RATE} poisoned requests a second "
                f"for {POISON_SECONDS} s")
            poison = load(kv, folder, "--no-hiccup", "--rate", str(RATE), "--poison", str(POISON_RATE),
                          seconds=POISON_SECONDS)
            ask(redis.port, "DEBUG", "PANIC")
            time.sleep(0.5)
            report(kv, redis, rows, poison, floor, redis.alive())
            say(f"\npoisoned requests: {poison['poison_sent']} sent, {poison['poison_contained']} contained, "
                f"{metric(kv, 'coir_panics_total'):.0f} panics counted in /metrics; "
                f"connections lost by others: {poison['lost']}. Redis got one.")
            panics = [line for line in open(kv.log) if "panic" in line]
            say(f"\none of them in the log of coir-kv:\n  {panics[0].strip() if panics else 'none'}")
            ok = kv.alive() and poison["lost"] == 0 and poison["poison_sent"] == poison["poison_contained"]
        finally:
            kv.stop()
            redis.stop()
    say("\nwhat to read next: README.md, include/coir.h, then tools/kv/server.c, where a request that "
        "panics is\ncontained at one coir_try. tools/test proves the rest.")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
