#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_sum_test.py - SUM of coir-kv: a heavy command in a pool, with deadline, backpressure and quarantine.

    tests/kv_sum_test.py [--server PATH] [CASE...]
"""

import threading
import time

from kv_kit import (Error, PATIENCE, Server, best, case, each_with, encode, equal, main, until, within)

BUSY = Error("ERR too many sums at once; try again later")
LATE = Error("ERR internal: deadline: it took longer than --request-ms")
BROKEN = "ERR internal: panic: DEBUG POISON asked for by a client (%d attempts)"
QUARANTINED = Error("ERR this pattern has broken too often, and is quarantined")


each = each_with("--request-ms", str(PATIENCE * 1000))  # a heavy one may take long on a busy machine


def fill(client, keys, value=b"1"):
    """Sets k:0, k:1, ... to the value."""
    for first in range(0, keys, 10000):
        pairs = [word for i in range(first, min(first + 10000, keys)) for word in (b"k:%d" % i, value)]
        equal(client("MSET", *pairs), "OK")


@each
def a_sum_is_that_of_all_values_whose_keys_match(server):
    with server.client() as c:
        equal(c("SUM", "*"), 0)
        c("MSET", "a:1", "5", "a:2", "-7", "ab:1", "100", "b", "1000", "a*", "10000", b"\0\r\n", "100000")
        for pattern, total in (("*", 111098), ("a:*", -2), ("a?1", 5), ("?", 1000), ("a\\*", 10000),
                               ("*:1", 105), ("*a*:*1*", 105), ("", 0), ("b", 1000), ("b*", 1000), ("c", 0),
                               ("**", 111098), ("a:", 0), ("\\b", 1000), ("b\\", 0), (b"\0*", 100000),
                               ("A:*", 0)):
            equal((pattern, c("SUM", pattern)), (pattern, total))
        c("SET", "gone", "1", "PX", "1")
        until(lambda: c("SUM", "gone") == 0, "an expired key does not count")
        c.fails("ERR wrong number of arguments for 'sum' command", "SUM")


@each
def a_pattern_made_to_match_for_ever_is_given_up(server):
    key = b"a" * 500000
    with server.client() as c, server.client() as other:
        c("SET", key, "7")
        c.send(encode("SUM", b"*" + b"a" * 100000 + b"b"))
        equal(other("GET", key), b"7")  # its shard is locked meanwhile
        equal(c.reply(), Error("ERR the pattern takes too long to match: key '" + "a" * 64 + "'"))
        for pattern in (b"*", key, b"*a", b"*" + key + b"*"):
            equal(c("SUM", pattern), 7)


@each
def all_keys_are_met_once_while_the_table_grows(server):
    keys, stop = 20000, threading.Event()
    with server.client() as c, server.client() as other:
        fill(c, keys)

        def grow():
            for i in range(100000):
                if stop.is_set():
                    break
                other("MSET", *[word for n in range(50) for word in (f"other:{i}:{n}", "x")])

        grower = threading.Thread(target=grow)
        grower.start()
        for _ in range(50):
            equal(c("SUM", "k:*"), keys)
        stop.set()
        grower.join()


@each
def what_cannot_be_added_is_an_error_that_names_the_key(server):
    with server.client() as c:
        fill(c, 1000)
        c("SET", "k:word", "seven")
        c.fails("ERR value is not an integer: key 'k:word'", "SUM", "k:*")
        c("SET", "k:word", str(2**63 - 1))
        c.fails("ERR the sum is out of range", "SUM", "k:*")
        c("SET", "k:word", str(-2**63))
        equal(c("SUM", "k:*"), -2**63 + 1000)
        c("SET", b"m" * 1000, "x")
        c.fails("ERR value is not an integer: key '" + "m" * 64 + "'", "SUM", "m*")


@each
def only_the_whole_sum_has_to_be_in_range(server):
    with server.client() as c:
        for i in range(50):
            c("MSET", f"k:{i}", str(2**63 - 1), f"k:-{i}", str(1 - 2**63))
        for more, total in ((7, 7), (2**63 - 1, 2**63 - 1), (-2**63, -2**63)):
            c("SET", "k:more", str(more))
            equal(c("SUM", "k:*"), total)
        c("SET", "k:over", "-1")
        c.fails("ERR the sum is out of range", "SUM", "k:*")


@case
def a_sum_that_is_too_late_ends_with_its_request():
    with Server("--workers", "1", "--request-ms", "1") as server:
        with server.client() as c:
            for first in range(0, 200000, 1000):
                c.send(encode("MSET", *[w for i in range(first, first + 1000) for w in (f"k:{i}", "1")]))
                if c.reply() != "OK":  # the time is short for this, too
                    c = server.client()
            until(lambda: server.client()("SUM", "*9*8*7*6*5*") == LATE, "one that takes longer")
        until(lambda: server.metrics()['coir_domain_in_flight{domain="requests"}'] == 0, "it has ended")


@case
def more_than_the_pool_holds_are_refused_and_the_others_served():
    with Server("--workers", "2", "--request-ms", "60000") as server:
        with server.client() as c:
            fill(c, 200000)
        clients = [server.client() for _ in range(200)]
        for c in clients:
            c.send(encode("SUM", "*1*1*1*1*"))
        replies = [c.reply() for c in clients]
        refused = replies.count(BUSY)
        within(1, refused, 200 - 16)
        equal(len({r for r in replies if r != BUSY}), 1)
        metrics = server.metrics()
        equal((metrics["coir_kv_sums_total"], metrics["coir_kv_sums_refused_total"]), (200 - refused, refused))
        for c in clients:
            c.close()


@each
def others_are_served_while_sums_are_made(server):
    stop = threading.Event()

    def ask():
        with server.client() as c:
            while not stop.is_set():
                equal(c("SUM", "*1*2*3*"), 0)

    with server.client() as c:
        fill(c, 100000, b"0")
        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        start = time.monotonic()
        for _ in range(50):
            equal(c("GET", "k:1"), b"0")
        took = time.monotonic() - start
        stop.set()
        for asker in askers:
            asker.join()
        within(0, took, 20)


@each
def a_pattern_that_takes_long_at_each_key_delays_others_by_milliseconds(server):
    stop = threading.Event()

    def ask():
        with server.client() as c:
            while not stop.is_set():
                equal(c("SUM", b"*" + b"a" * 60 + b"b"), 0)

    def forty():
        took = 0
        for _ in range(40):
            time.sleep(0.005)  # in which the sums go on
            start = time.monotonic()
            equal(c("GET", "k"), None)
            took += time.monotonic() - start
        return took

    with server.client() as c:
        c("MSET", *[word for i in range(3000) for word in (b"a" * 1000 + b"%06d" % i, b"1")])
        asker = threading.Thread(target=ask)
        asker.start()
        try:
            took = best(forty, 40 * 0.02, tries=3)
        finally:
            stop.set()
            asker.join()
        within(0, took, 40 * 0.02)


@each
def a_pattern_that_breaks_its_jobs_is_tried_again_buried_and_quarantined(server):
    with server.client() as c, server.client() as other:
        c.fails(BROKEN % 2, "DEBUG", "POISON")  # two strikes
        c.fails(BROKEN % 1, "DEBUG", "POISON")  # the third ends its attempts
        for _ in range(5):
            equal(c("DEBUG", "POISON"), QUARANTINED)
        fill(other, 100)
        equal(other("SUM", "k:*"), 100)
        metrics = server.metrics()
        equal(metrics["coir_kv_sums_dead_total"], 2 + 5)  # dead letters: those that were refused are, too
        equal(c("PING"), "PONG")  # a sum that breaks does not cost its connection
    until(lambda: any("is quarantined" in line for line in server.log), "a line in the log")


@each
def a_client_that_goes_takes_nothing_with_it(server):
    with server.client() as c:
        fill(c, 50000)
    for _ in range(20):
        gone = server.client()
        gone.send(encode("SUM", "*"))
        gone.reset()
    with server.client() as c:
        until(lambda: c("SUM", "k:*") == 50000, "room in the pool")
        until(lambda: server.connections() == 1, "they are gone")


main()
