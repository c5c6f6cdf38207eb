#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_service_test.py - coir-kv as a service: what heals by itself, and what it tells those who restart it.

    tests/kv_service_test.py [--server PATH] [CASE...]
"""

import configparser
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import yaml

import kv_kit
from kv_kit import PATIENCE, TOP, Server, best, case, each, encode, equal, main, until, within

UNIT = os.path.join(TOP, "tools/kv/coir-kv.service")
MANIFEST = os.path.join(TOP, "tools/kv/kubernetes.yaml")

# ------------------------------------------------------------------------------------- children

def child(server, figure, name):
    return server.metrics()[f'coir_child_{figure}_total{{child="{name}"}}']


@each
def a_child_that_breaks_is_started_again_and_no_client_notices(server):
    with server.client() as c:
        for n in range(1, 4):
            equal(c("DEBUG", "SWEEP"), "OK")
            until(lambda: child(server, "starts", "sweep") == 1 + n, "a new start")
            equal(child(server, "failures", "sweep"), n)
        equal(c("SET", "k", "v"), "OK")
        tree = c("INFO", "children").decode()
        equal(bool(re.search(r"^  sweep #\d+ permanent running .* started 4 times, failed 3; last: COIR_PANICKED: "
                             r"DEBUG SWEEP", tree, re.M)), True)
        c("SET", "gone", "x", "PX", "1")
        until(lambda: c("DBSIZE") == 1, "the new one sweeps")
    for name in ("signals", "sums", "metrics", "drain", "accept", "ready"):
        equal(child(server, "starts", name), 1)


@case
def a_root_that_gives_up_drains_and_ends_with_status_1():
    with Server(code=1) as server:
        with server.client() as c, server.client() as other:
            other.send(encode("DEBUG", "SLEEP", "100"))
            equal(c("DEBUG", "SWEEP", "1000"), "OK")
            equal(other.reply(), "OK")
            c.is_closed()
        equal(server.process.wait(PATIENCE), 1)
        until(lambda: len(server.printed) == 3, "the receipt")
        equal(server.printed[2].startswith("drained"), True)
        equal(any("sweep" in line for line in server.log), True)


# -------------------------------------------------------------------------------------- probes

@case
def it_is_not_ready_when_faults_may_have_harmed_memory():
    with Server("--tainted-max", "1") as server:
        for n, ready in ((0, 200), (1, 200), (2, 503)):
            equal(server.http("/readyz")[0], ready)
            with server.client() as c:
                equal("SIGSEGV" in c("DEBUG", "SEGFAULT"), True)
        equal(server.http("/readyz"), (503, "tainted: by 3 faults that may have harmed memory\n"))
        equal(server.http("/healthz"), (200, "ok\n"))


@case
def a_worker_that_hangs_fails_both_probes_until_it_goes_on():
    # The loop does not look up for two seconds.
    with Server("--workers", "2", "--stall-ms", "1000", "--hang-ms", "1100", "--request-ms", "60000") as server:
        with server.client() as c:
            equal((server.http("/healthz"), server.http("/readyz")), ((200, "ok\n"), (200, "ok\n")))
            c.send(encode("DEBUG", "LOOP", "6000"))
            until(lambda: server.http("/healthz")[0] == 503, "not live")
            for path in ("/healthz", "/readyz"):
                until(lambda path=path: re.match(r"hangs: a worker is in one job for \d+ ms\n$",
                                                 server.http(path)[1]), "the reason")
            equal(c.reply(), "OK")
            until(lambda: server.http("/healthz")[0] == 200 == server.http("/readyz")[0], "live again")


@case
def it_is_not_ready_when_the_books_of_the_runtime_do_not_balance():
    with Server() as server:
        def cook(by):
            spawned = "server.root->rt->worker[0]->spawned"
            done = subprocess.run(["gdb", "-p", str(server.process.pid), "-batch", "-ex",
                                   f"set var {spawned} = {spawned} + {by}"], capture_output=True, timeout=PATIENCE)
            equal(done.returncode, 0)

        equal(server.http("/readyz"), (200, "ok\n"))
        cook(1)
        until(lambda: server.http("/readyz")[0] == 503, "not ready")
        equal(bool(re.match(r"books: jobs: \d+ accepted, \d+ ended, \d+ queued, \d+ started\n$",
                            server.http("/readyz")[1])), True)
        equal(server.http("/healthz"), (200, "ok\n"))
        cook(-1)
        until(lambda: server.http("/readyz")[0] == 200, "ready again")


@case
def no_load_makes_the_books_look_wrong():
    with Server("--workers", "2") as server:
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                with server.client() as c:
                    c.send(encode("INCR", "k") * 20 + encode("SUM", "*") + encode("DEBUG", "PANIC"))
                    until(lambda: isinstance(c.reply(), kv_kit.Error), "the panic")

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            equal(server.http("/readyz"), (200, "ok\n"))
        stop.set()
        for asker in askers:
            asker.join()


# -------------------------------------------------------------------------------------- systemd

class Systemd:
    """The socket that systemd would listen on, and what has come there, with its time."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "200000"}
        self.heard = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            message = self.socket.recv(4096).decode()
            self.heard += [(time.monotonic(), line) for line in message.split("\n")]

    def count(self, line):
        return sum(heard == line for _, heard in self.heard)

    def pause(self):
        """The longest between two beats."""
        beats = [when for when, line in self.heard if line == "WATCHDOG=1"]
        return max((b - a for a, b in zip(beats, beats[1:])), default=0)


@case
def systemd_is_told_when_it_is_ready_alive_and_about_to_end():
    held = encode("PING")  # without its last byte, what the drain waits for
    patient = ("--request-ms", str(PATIENCE * 1000), "--drain-ms", str(PATIENCE * 1000))
    with tempfile.TemporaryDirectory() as folder:
        for n, address in enumerate((os.path.join(folder, "notify"), f"\0coir-kv-test-{os.getpid()}")):
            systemd = Systemd(address)
            with Server("--workers", str(1 + n), *patient, environment=systemd.environment) as server:
                until(lambda: systemd.count("READY=1") == 1, "READY")
                until(lambda: systemd.count("WATCHDOG=1") >= 5, "beats")
                with server.client() as c:
                    equal((c("PING"), systemd.count("STOPPING=1")), ("PONG", 0))
                    c.send(held[:-1])
                    until(lambda: server.metrics()['coir_domain_in_flight{domain="requests"}'] == 1, "it has begun")
                    server.process.send_signal(signal.SIGTERM)
                    until(lambda: systemd.count("STOPPING=1") == 1, "STOPPING")
                    beats = systemd.count("WATCHDOG=1")
                    until(lambda: systemd.count("WATCHDOG=1") > beats, "beats while it drains")
                    c.send(held[-1:])
                    equal(c.reply(), "PONG")
            told = [line for _, line in systemd.heard if line != "WATCHDOG=1"]
            equal(told, ["READY=1", "STATUS=serves", "STOPPING=1", "STATUS=drains"])


@case
def the_watchdog_starves_while_a_worker_hangs():
    for workers in (1, 2):
        systemd = Systemd(f"\0coir-kv-test-{os.getpid()}-{workers}")
        with Server("--workers", str(workers), "--stall-ms", "1000", "--hang-ms", "1100", "--request-ms", "60000",
                    environment=systemd.environment) as server:
            until(lambda: systemd.count("WATCHDOG=1") >= 3, "beats")

            def starves():
                """Any loop shows it: where the machine is busy a beat may be heard so late that the next seems early."""
                with server.client() as c:
                    equal(c("DEBUG", "LOOP", "2000"), "OK")
                after = systemd.count("WATCHDOG=1") + 3
                until(lambda: systemd.count("WATCHDOG=1") >= after, "beats again")
                return -systemd.pause()

            within(0.7, -best(starves, -0.7, 5), PATIENCE)


@case
def without_systemd_nobody_is_told():
    with Server(environment={"NOTIFY_SOCKET": ""}) as server:
        equal(server.http("/readyz")[0], 200)
        equal(child(server, "failures", "ready"), 0)
    with Server(environment={"NOTIFY_SOCKET": "/nowhere/at/all"}) as server:  # a warning, and it serves
        until(lambda: any("systemd was not told" in line for line in server.log), "a warning")
        with server.client() as c:
            equal(c("PING"), "PONG")


# --------------------------------------------------------------------------- unit and manifest

def number(words, option):
    return int(words[words.index(option) + 1])


def on_free_ports(words):
    return [word if before not in ("--port", "--metrics-port") else "0"
            for before, word in zip([""] + words, words)]


def read_unit():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    return unit


@case
def the_unit_is_one_and_its_times_fit_the_server():
    unit = read_unit()
    service = unit["Service"]
    words = service["ExecStart"].split()
    equal((service["Type"], service["Restart"]), ("notify", "on-failure"))
    within(number(words, "--drain-ms") / 1000 + 10, int(service["TimeoutStopSec"]), 90)
    within(number(words, "--hang-ms") / 1000, int(service["WatchdogSec"]), 60)
    with Server(*on_free_ports(words[1:])) as server, server.client() as c:
        equal(c("PING"), "PONG")
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "coir-kv.service")
        with open(UNIT) as text, open(copy, "w") as out:
            out.write(text.read().replace(words[0], os.path.abspath(kv_kit.BINARY)))
        done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True,
                              timeout=PATIENCE)
        equal((done.returncode, done.stdout + done.stderr), (0, ""))


@case
def the_manifest_probes_what_the_server_answers():
    with open(MANIFEST) as text:
        deployment, service = yaml.safe_load_all(text)
    equal((deployment["kind"], service["kind"]), ("Deployment", "Service"))
    template = deployment["spec"]["template"]
    equal(template["metadata"]["labels"], deployment["spec"]["selector"]["matchLabels"])
    equal(template["metadata"]["labels"], service["spec"]["selector"])
    [box] = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in box["ports"]}
    words = box["args"]
    equal(ports, {"redis": number(words, "--port"), "metrics": number(words, "--metrics-port")})
    equal(service["spec"]["ports"][0]["targetPort"] in ports, True)
    equal([box[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")],
          ["/healthz", "/readyz"])
    pause = box["lifecycle"]["preStop"]["exec"]["command"]
    equal(pause[0], "sleep")
    within(int(pause[1]) + number(words, "--drain-ms") / 1000 + 10,
           template["spec"]["terminationGracePeriodSeconds"], 120)
    with Server(*on_free_ports(words), address="0.0.0.0") as server:
        for probe in ("livenessProbe", "readinessProbe"):
            equal(box[probe]["httpGet"]["port"], "metrics")
            equal(server.http(box[probe]["httpGet"]["path"])[0], 200)


main()
