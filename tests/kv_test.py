#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_test.py - coir-kv from outside: commands, protocol, real clients.

    tests/kv_test.py [--server PATH] [CASE...]

A case is a function whose name is a sentence that is true when it passes. Those marked with
@each run once on every kind of server (io_uring and epoll, one worker and two).
"""

import contextlib
import os
import pty
import random
import re
import resource
import select
import socket
import subprocess
import threading
import time

from kv_kit import (Client, Error, NOT_INTEGER, PATIENCE, Server, WRONG_NUMBER, at_most, best, case, each, each_io,
                    encode, equal, have_answers, main, percentile, until, within)

# ---------------------------------------------------------------------------------- the commands

@each
def every_command_replies_as_redis_does(server):
    with server.client() as c:
        equal(c("PING"), "PONG")
        equal(c("ping", "hi"), b"hi")
        equal(c("ECHO", "hello"), b"hello")
        equal(c("SET", "k", "v"), "OK")
        equal(c("GET", "k"), b"v")
        equal(c("GET", "absent"), None)
        equal(c("EXISTS", "k", "absent", "k"), 2)
        equal(c("DEL", "k", "absent"), 1)
        equal(c("EXISTS", "k"), 0)
        equal(c("INCR", "n"), 1)
        equal(c("INCRBY", "n", "41"), 42)
        equal(c("INCRBY", "n", "-50"), -8)
        equal(c("DECR", "n"), -9)
        equal(c("GET", "n"), b"-9")
        equal(c("MSET", "a", "1", "b", "2"), "OK")
        equal(c("MGET", "a", "absent", "b"), [b"1", None, b"2"])
        for bad in (["bad"], ["sync", "async"]):
            c.fails("ERR syntax error", "FLUSHALL", *bad)
        equal(c("DBSIZE"), 3)
        equal(c("FLUSHALL", "ASYNC"), "OK")
        equal(c("DBSIZE"), 0)
        equal(c("COMMAND"), [])
        equal(c("COMMAND", "DOCS"), [])
        within(20, c("COMMAND", "COUNT"), 40)
        equal(c("CONFIG", "GET", "save"), [b"save", b""])
        equal(c("CONFIG", "GET", "appendonly"), [b"appendonly", b"no"])
        equal(c("CONFIG", "GET", "nothing"), [])
        equal(c("DEBUG", "SLEEP", "1"), "OK")
        equal(c("DEBUG", "LOOP", "1"), "OK")
        equal(c("QUIT"), "OK")
        c.is_closed()


@each
def info_tells_of_server_and_keys(server):
    with server.client() as c:
        c("MSET", "a", "1", "b", "2")
        text = c("INFO").decode()
        for line in (f"tcp_port:{server.port}", f"process_id:{server.process.pid}",
                     "connected_clients:1", "blocked_clients:0", "total_connections_received:1",
                     "total_commands_processed:1", "db0:keys=2", "panics:0"):
            equal((line, line in text.split("\r\n")), (line, True))
        figures = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
        within(server.resident() // 2, int(figures["used_memory"]), server.resident() * 2)
        equal(figures["used_memory_human"], f"{int(figures['used_memory']) / (1 << 20):.2f}M")
        c("SET", "big", b"x" * (8 << 20))
        grown = int(re.search(r"used_memory:(\d+)", c("INFO").decode())[1])
        within(6 << 20, grown - int(figures["used_memory"]), 64 << 20)


@each_io
def config_get_takes_globs(server):
    with server.client() as c:
        every = c("CONFIG", "GET", "*")
        names = every[::2]
        equal(names, [b"appendonly", b"maxclients", b"save"])
        equal(c("config", "get", "max*"), [b"maxclients", b"10000"])
        equal(c("CONFIG", "GET", "[as]*"), every[:2] + every[4:])
        equal(c("CONFIG", "GET", "SAV?"), [b"save", b""])
        equal(c("CONFIG", "GET", "*" * 63), every)
        for nothing in ("", "x*", "*" * 62 + "x", "[", "\\", b"save\0", b"save\0x", b"*\xff"):
            equal(c("CONFIG", "GET", nothing), [])
        for long in ("*" * 64, "*" * 5000):
            c.fails("ERR the glob is longer than 63 bytes", "CONFIG", "GET", long)
        c.fails("ERR only CONFIG GET is supported", "CONFIG", "GET", "a", "b")
        equal(c("PING"), "PONG")


@each
def options_of_set_are_obeyed(server):
    with server.client() as c:
        equal(c("SET", "k", "1", "XX"), None)
        equal(c("SET", "k", "1", "NX"), "OK")
        equal(c("SET", "k", "2", "nx"), None)
        equal(c("SET", "k", "3", "xx", "ex", "100"), "OK")
        equal(c("GET", "k"), b"3")
        within(99, c("TTL", "k"), 100)
        equal(c("SET", "k", "4", "PX", "50000", "XX"), "OK")
        within(49, c("TTL", "k"), 50)
        equal(c("SET", "k", "5"), "OK")
        equal(c("TTL", "k"), -1)
        for bad in (["EX"], ["EX", "1", "PX", "1"], ["NX", "XX"], ["FOO"], ["EX", "5", "x"]):
            c.fails("ERR syntax error", "SET", "k", "v", *bad)
        for bad in (["EX", "x", "FOO"], ["EX", "0", "PX", "1"], ["EX", "x", "EX"]):
            c.fails("ERR syntax error", "SET", "k", "v", *bad)
        for bad in ("0", "-1", str(2**63 - 1), str(2**62)):
            c.fails("ERR invalid expire time in 'set' command", "SET", "k", "v", "EX", bad)
        c.fails(NOT_INTEGER, "SET", "k", "v", "PX", "1.5")
        equal(c("GET", "k"), b"5")
        for unread in ("1", "0", "x"):
            equal(c("SET", "k", "6", "XX", "EX", unread, "xx", "ex", "100"), "OK")
            within(99, c("TTL", "k"), 100)


@each
def a_time_too_far_for_the_clock_is_the_last_one_it_has(server):
    with server.client() as c:
        for far in ("10000000000", str(9 * 10**15)):
            equal(c("SET", "k", far, "EX", far), "OK")
            within(9 * 10**9, c("TTL", "k"), 10**10)
            equal(c("SET", "k", far), "OK")
            equal(c("EXPIRE", "k", far), 1)
            within(9 * 10**9, c("TTL", "k"), 10**10)
            equal(c("GET", "k"), far.encode())
            equal(c("EXPIRE", "k", "-" + far), 1)
            equal(c("EXISTS", "k"), 0)


@each
def keys_expire_when_asked_for_and_when_not(server):
    with server.client() as c:
        equal(c("TTL", "k"), -2)
        equal(c("EXPIRE", "k", "10"), 0)
        c("SET", "k", "v")
        equal(c("EXPIRE", "k", "10"), 1)
        within(9, c("TTL", "k"), 10)
        equal(c("INCR", "n"), 1)
        equal(c("EXPIRE", "n", "100"), 1)
        equal(c("INCR", "n"), 2)
        within(99, c("TTL", "n"), 100)
        equal(c("EXPIRE", "n", "-1"), 1)
        equal(c("EXISTS", "n"), 0)
        c.fails("ERR invalid expire time in 'expire' command", "EXPIRE", "k", str(2**62))
        c.fails(NOT_INTEGER, "EXPIRE", "k", "soon")
        start = time.monotonic()
        c("SET", "soon", "v", "PX", "100")
        until(lambda: c("GET", "soon") is None, "expiry")
        within(0.1, time.monotonic() - start, PATIENCE)
        c("FLUSHALL")
        for i in range(1000):
            c.send(encode("SET", f"key{i}", "v", "PX", "1"))
        for i in range(1000):
            equal(c.reply(), "OK")
        until(lambda: c("DBSIZE") == 0, "the sweep of keys nobody asks for")


@each
def errors_say_what_is_wrong(server):
    with server.client() as c:
        for command in ("get", "echo", "incr", "decr", "del", "exists", "mget", "debug"):
            c.fails(WRONG_NUMBER % command, command)
        for command in ("set", "incrby", "expire", "mset"):
            c.fails(WRONG_NUMBER % command, command.upper(), "k")
        c.fails(WRONG_NUMBER % "get", "get", "a", "b")
        c.fails(WRONG_NUMBER % "ping", "ping", "a", "b")
        c.fails(WRONG_NUMBER % "dbsize", "dbsize", "a")
        c.fails(WRONG_NUMBER % "mset", "mset", "a", "1", "b")
        c.fails("ERR unknown command 'FOO'", "FOO", "bar")
        c.fails("ERR unknown command 'a  +OK'", "a\r\n+OK")
        c.fails("ERR unknown command ''", "")
        equal(len(c("x" * 100000)) < 300, True)
        c.fails("ERR DEBUG knows PANIC, OVERFLOW, SEGFAULT, ABORT, THROW, LEAK, LOOP [ms], SLEEP [ms], POISON, "
                "SWEEP [times] and NATIVE-CRASH [way]",
                "DEBUG", "NOTHING")
        c.fails("ERR milliseconds must be 0 to 60000", "DEBUG", "SLEEP", "-1")
        c.fails("ERR milliseconds must be 0 to 60000", "DEBUG", "LOOP", "60001")
        for ms in (2**63 - 1, -2**63):
            c.fails("ERR milliseconds must be 0 to 60000", "DEBUG", "SLEEP", ms)
        c.fails(NOT_INTEGER, "DEBUG", "SLEEP", "x")
        c.fails("ERR syntax error", "DEBUG", "SLEEP", "1", "2")
        c.fails("ERR only CONFIG GET is supported", "CONFIG", "SET", "save")
        for abort in (["ABORT"], ["abort", "ABORT"]):
            c.fails("ERR No shutdown in progress.", "SHUTDOWN", *abort)
        for bad in (["foo"], ["SAVE", "NOSAVE"], ["NOW", "foo"], ["ABORT", "NOW"], ["SAVE", "ABORT"]):
            c.fails("ERR syntax error", "SHUTDOWN", *bad)
        equal(c("PING"), "PONG")


@each
def increments_stay_within_64_bits(server):
    with server.client() as c:
        c("SET", "n", str(2**63 - 1))
        c.fails("ERR increment or decrement would overflow", "INCR", "n")
        equal(c("GET", "n"), str(2**63 - 1).encode())
        c("SET", "n", str(-2**63))
        c.fails("ERR increment or decrement would overflow", "DECR", "n")
        c.fails(NOT_INTEGER, "INCRBY", "n", str(2**63))
        for value in ("abc", "", " 1", "1.0", "01"):
            c("SET", "n", value)
            c.fails(NOT_INTEGER, "INCR", "n")
            equal(c("GET", "n"), value.encode())


@each
def keys_and_values_hold_any_byte(server):
    every = bytes(range(256))
    with server.client() as c:
        for key in (every, b"", b"\0", b"\r\n", b"k" * 1000):
            value = every + key
            equal(c("SET", key, value), "OK")
            equal(c("GET", key), value)
        equal(c("SET", "empty", ""), "OK")
        equal(c("GET", "empty"), b"")


@each
def large_values_come_back_whole(server):
    rng = random.Random(1)
    with server.client() as c:
        for size in (1, 16383, 16384, 65536, 1 << 20, 8 << 20):
            value = rng.randbytes(size)
            equal(c("SET", "k", value), "OK")
            equal(c("GET", "k") == value, True)


@each
def many_keys_are_all_found(server):
    count = 50000
    with server.client() as c:
        for start in range(0, count, 1000):
            keys = range(start, start + 1000)
            c.send(b"".join(encode("SET", f"key:{i}", i) for i in keys))
            equal([c.reply() for _ in keys], ["OK"] * 1000)
        equal(c("DBSIZE"), count)
        keys = random.Random(2).sample(range(count), 1000)
        equal(c("MGET", *(f"key:{i}" for i in keys)), [b"%d" % i for i in keys])
        equal(c("DEL", *(f"key:{i}" for i in range(count))), count)
        equal(c("DBSIZE"), 0)


@case
def a_flush_of_many_keys_lets_others_in():
    """The keys are gone at once; that their memory is given back, which takes longer, nobody waits for but its client."""
    with Server("--workers", "1", "--request-ms", "60000") as server, server.client() as c, server.client() as other:
        def waits():
            for first in range(0, 200000, 10000):
                c("MSET", *[word for i in range(first, first + 10000) for word in (f"key:{i}", "1")])
            c.send(encode("FLUSHALL"))
            until(lambda: other("DBSIZE") == 0, "they are gone")
            waiting = not have_answers(c)
            equal(c.reply(), "OK")
            return waiting

        equal(any(waits() for _ in range(20)), True)
        c("MSET", "a", "1", "b", "2")
        equal((c("MGET", "a", "key:1", "b"), c("DBSIZE")), ([b"1", None, b"2"], 2))


@each
def increments_from_many_clients_are_all_counted(server):
    def count():
        with server.client() as c:
            c.send(encode("INCR", "n") * 2000)
            for _ in range(2000):
                c.reply()
    threads = [threading.Thread(target=count) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    with server.client() as c:
        equal(c("GET", "n"), b"16000")


# ----------------------------------------------------------------------------------- the protocol

@each
def pipelined_requests_are_answered_in_order(server):
    with server.client() as c:
        c.send(b"".join(encode("ECHO", i) for i in range(5000)))
        equal([c.reply() for _ in range(5000)], [b"%d" % i for i in range(5000)])


@each
def inline_commands_work(server):
    with server.client() as c:
        c.send(b"PING\r\nSET k \"a \\x41 b\"\r\nGET k\n\r\necho 'it''s'\r\n")
        equal([c.reply() for _ in range(3)], ["PONG", "OK", b"a A b"])
        equal(c.reply(), Error("ERR Protocol error: unbalanced quotes in request"))
        c.is_closed()


@each
def a_request_may_come_in_any_pieces(server):
    request = encode("SET", "key", "some value") + encode("GET", "key")
    with server.client() as c, server.client() as other:
        for cut in range(1, len(request)):
            c.send(request[:cut])
            if cut % 8 == 0:
                equal(other("PING"), "PONG")
            c.send(request[cut:])
            equal([c.reply(), c.reply()], ["OK", b"some value"])
        for i in range(len(request)):
            c.send(request[i:i + 1])
        equal([c.reply(), c.reply()], ["OK", b"some value"])


@each
def a_client_that_leaves_in_mid_request_is_forgotten(server):
    with server.client() as other:
        for leave in (Client.close, Client.reset):
            for data in (b"", b"*2\r\n$3\r\nGET\r\n$100\r\nabc", b"PI", encode("DEBUG", "SLEEP", 50)):
                c = server.client()
                c.send(data)
                leave(c)
        equal(other("PING"), "PONG")
        until(lambda: server.connections() == 1, "the clients that left are gone")


@each
def an_unsound_stream_is_refused_and_closed(server):
    for data, error in (
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1000000\r\n", "invalid multibulk length"),
            (b"*1\r\n$-5\r\n", "invalid bulk length"),
            (b"*1\r\n$9999999999999999999999\r\n", "invalid bulk length"),
            (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
            (b"*1\r\n$4\r\nPINGPONG", "expected CRLF after bulk"),
            (b"a" * 70000, "too big inline request"),
            (b"PING \"\r\n", "unbalanced quotes in request")):
        with server.client() as c, server.client() as other:
            c.send(encode("PING") + data)
            equal(c.reply(), "PONG")
            equal(c.reply(), Error("ERR Protocol error: " + error))
            c.is_closed()
            equal(other("PING"), "PONG")


@each
def random_bytes_harm_nobody(server):
    rng = random.Random(3)
    with server.client() as other:
        for i in range(200):
            with server.client() as c:
                noise = rng.randbytes(rng.randrange(1, 400))
                with contextlib.suppress(ConnectionError):
                    c.send(b"*3\r\n$" * (i % 2) + noise.replace(b"*", b"$"))
        equal(other("PING"), "PONG")


@each_io
def a_promise_of_512_megabytes_costs_nothing(server):
    clients = [server.client() for _ in range(50)]
    before = server.resident()
    for c in clients:
        c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
        equal(c.reply(), Error("ERR Protocol error: invalid bulk length"))
        c.close()
    patient = [server.client() for _ in range(50)]  # a length that is allowed, and never comes
    for c in patient:
        c.send(b"*65536\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\nx")
    with server.client() as c:
        equal(c("PING"), "PONG")
    at_most(8 << 20, server.resident() - before)
    for c in patient:
        c.close()


@each_io
def a_client_that_never_reads_costs_little_and_stalls_nobody(server):
    def ask():
        waits = []
        with server.client() as deaf:
            deaf.send(encode("MGET", *["big"] * 2000) + encode("GET", "big") * 2000)
            for _ in range(500):
                start = time.monotonic()
                equal(c("PING"), "PONG")
                waits.append(time.monotonic() - start)
                select.select([], [], [], 0.001)
            at_most(32 << 20, server.resident() - before)
        return percentile(waits, 0.99)

    with server.client() as c:
        c("SET", "big", b"x" * (1 << 20))
        before = server.resident()
        within(0, best(ask, 0.05), 0.05)
    until(lambda: server.connections() == 0, "the deaf client is gone")


# --------------------------------------------------------------------------------------- clients

@each
def redis_cli_is_content(server):
    out = subprocess.run(["redis-cli", "-p", str(server.port)], text=True, capture_output=True,
                         input="set k v\nget k\nmget k nothing\nincr k\ninfo\n", timeout=PATIENCE)
    equal(out.returncode, 0)
    equal(out.stdout.split("\n")[:6], ["OK", "v", "v", "", f"ERR {NOT_INTEGER[4:]}", ""])
    equal("connected_clients:1" in out.stdout, True)


@contextlib.contextmanager
def redis_cli_at_a_terminal(server, *options):
    """Yields the process and a function that reads what it shows, until a condition holds."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(["redis-cli", "-p", str(server.port), *options], stdin=inside,
                               stdout=inside, stderr=inside, env={**os.environ, "TERM": "dumb"})
    os.close(inside)

    def read(enough):
        text = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while not enough(text) and select.select([terminal], [], [], PATIENCE)[0]:
                text += os.read(terminal, 4096)
        return text.decode()
    try:
        yield process, terminal, read
    finally:
        os.close(terminal)
        process.kill()
        process.wait()


@each_io
def redis_cli_is_content_at_a_terminal(server):
    with redis_cli_at_a_terminal(server) as (process, terminal, read):
        os.write(terminal, b"set k 'a b'\nget k\nfoo\nquit\n")
        text = read(lambda _: False)
        equal(process.wait(PATIENCE), 0)
    for part in ("OK", '"a b"', "(error) ERR unknown command"):
        equal(part in text, True)


@each_io
def redis_cli_stat_shows_sense(server):
    with server.client() as c:
        c("MSET", "a", "1", "b", "2")
        with redis_cli_at_a_terminal(server, "--stat", "-i", "0.05") as (_, _, read):
            text = read(lambda text: text.count(b"\n") >= 5)
    line = text.replace("\r", "").split("\n")[3]
    stat = re.fullmatch(r"2 +(\d+\.\d\d)M +2 +0 +(\d+) \(\+(\d+)\) +2 *", line)
    within(0.5, float(stat[1]), 1000)
    within(1, int(stat[2]), 10)


@each
def redis_cli_pipe_loads_ten_thousand_keys(server):
    data = b"".join(encode("SET", f"key{i}", f"value{i}") for i in range(10000))
    out = subprocess.run(["redis-cli", "-p", str(server.port), "--pipe"], input=data,
                         capture_output=True, timeout=PATIENCE)
    equal(out.returncode, 0)
    equal(b"errors: 0, replies: 10000" in out.stdout, True)
    with server.client() as c:
        equal(c("DBSIZE"), 10000)


@each
def redis_benchmark_is_content(server):
    for pipeline in ("1", "16"):
        out = subprocess.run(["redis-benchmark", "-p", str(server.port), "-P", pipeline, "-c", "50",
                              "-t", "ping,set,get,incr,mset", "-n", "20000", "-q"], text=True,
                             capture_output=True, timeout=5 * PATIENCE)
        equal(out.returncode, 0)
        equal(out.stderr, "")
        equal(re.findall("(?i)error|warn", out.stdout), [])
        equal(len(re.findall(r"requests per second, p50", out.stdout)), 6)


@each_io
def ten_thousand_idle_connections_behave(server):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(9990, hard - 200)
    before = server.resident()
    clients = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(count)]
    until(lambda: server.connections() == count, "all are served")
    for s in clients[::10]:
        s.sendall(b"PING\r\n")
    for s in clients[::10]:
        equal(s.recv(100), b"+PONG\r\n")
    each_costs = (server.resident() - before) // count
    print(f"    {count} connections, {each_costs} bytes resident each")
    within(0, each_costs, 64 << 10)
    for s in clients:
        s.close()
    until(lambda: server.connections() == 0, "all are gone")


main()
