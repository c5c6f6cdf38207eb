#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""consume_test.py - coir-consume from outside, on a redis-server of its own.

    consume_test.py                 the cases, and a short run of the storm
    consume_test.py --storm         100,000 messages, a kill -9 each second for 30 s

The storm: three processes share a group; 1 % of the messages are poison, of all kinds; one process
after another is killed and started again. At the end each good message has had its effect once, each
poison message has one dead letter, and nothing is pending.
"""
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from consume_kit import BINARY, Consumer, Fake, PATIENCE, Redis, add, array, equal, settle, until

ONCE = ("--claim-ms", "10000")  # what is slow, on a busy machine, is not taken for left behind
SPENT = "no attempts left; how the last one ended is not known"
POISON = ("panic", "fail", "overflow", "segfault")
CASES = []


def case(function):
    CASES.append(function)
    return function


# ------------------------------------------------------------------------------------- cases

@case
def each_message_has_its_effect_and_is_acknowledged():
    with Redis() as redis:
        add(redis, 500)
        consumer = Consumer(redis, *ONCE).ready()
        settle(redis)
        receipt = consumer.end()
        equal(redis.hash("s:effects"), {f"m{n}": str(n) for n in range(500)})
        equal((receipt["taken"], receipt["acknowledged"]), (500, 500))
        equal(receipt["left pending, for another attempt"], 0)


@case
def a_message_that_fails_is_tried_again_and_then_buried_once():
    with Redis() as redis:
        add(redis, 8, dict(enumerate(POISON)))
        consumer = Consumer(redis, "--attempts", "3").ready()
        settle(redis)
        receipt = consumer.end()
        letters = {letter["key"]: letter for letter in redis.letters()}
        equal(len(redis.letters()), 4)
        equal([letters[f"m{n}"]["kind"] for n in range(4)],
              ["panic", "fail", "stack_overflow", "fault"])
        equal({letter["attempts"] for letter in letters.values()}, {"3"})
        equal(letters["m0"]["message"], f"message {letters['m0']['id']} panics")
        equal(letters["m0"]["file"], "tools/consume/handle.c")
        equal(letters["m1"]["code"], str(-22))
        equal(receipt["attempts that failed"], 12)
        equal(receipt["buried in the dead letters"], 4)
        equal(sorted(redis.hash("s:effects")), ["m4", "m5", "m6", "m7"])


@case
def keys_and_values_hold_any_byte():
    with Redis() as redis:
        messages = {"a\0b": "1\x002", "a\0c": "", "\0": "\r\n %s"}
        for key, value in messages.items():
            redis("XADD", "s", "*", "key\0", "not the key", "key", key, "value", value)
        redis("XADD", "s", "*", "key", "good", "value", "do", "do", "panic\0")
        consumer = Consumer(redis, *ONCE).ready()
        settle(redis)
        receipt = consumer.end()
        equal(redis.hash("s:effects"), {**messages, "good": "do"})
        equal(receipt["of those, their effect was there already"], 0)


@case
def what_a_killed_process_had_is_taken_over():
    with Redis() as redis:
        redis("XGROUP", "CREATE", "s", "workers", "0", "MKSTREAM")
        add(redis, 20)
        redis("XREADGROUP", "GROUP", "workers", "gone", "COUNT", "20", "STREAMS", "s", ">")
        consumer = Consumer(redis).ready()
        settle(redis)
        receipt = consumer.end()
        equal(receipt["of those, left by others or tried before"], 20)
        equal(receipt["acknowledged"], 20)


@case
def letters_of_a_long_name_have_a_stream_of_their_own():
    for name in ("s" * 251, "s" * 255, "s" * 5000):
        with Redis() as redis:
            redis("XADD", name, "*", "key", "a", "do", "panic")
            consumer = Consumer(redis, "--stream", name, "--attempts", "1").ready()
            until(lambda: redis("XLEN", f"{name}:dead") == 1, "it is buried")
            equal(consumer.end()["buried in the dead letters"], 1)
            equal(redis("XLEN", name), 1)


@case
def what_it_opens_is_never_taken_for_its_output():
    with Fake(lambda words: b":1\r\n") as fake:
        process = subprocess.Popen([BINARY, "--stream", "s", "--port", str(fake.port)],
                                   preexec_fn=lambda: os.closerange(0, 3))
        try:
            until(lambda: "XREADGROUP" in fake.called, "it consumes")
            equal([os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
        finally:
            process.terminate()
            process.wait(PATIENCE)


@case
def a_message_that_ends_its_process_each_time_is_buried():
    with Redis() as redis:
        redis("XGROUP", "CREATE", "s", "workers", "0", "MKSTREAM")
        add(redis, 1)
        redis("XREADGROUP", "GROUP", "workers", "gone", "COUNT", "1", "STREAMS", "s", ">")
        entry = redis("XPENDING", "s", "workers", "-", "+", "1")[0][0]
        redis("XCLAIM", "s", "workers", "gone", "0", entry, "RETRYCOUNT", "5")
        consumer = Consumer(redis, "--attempts", "5").ready()
        settle(redis)
        consumer.end()
        equal([letter["message"] for letter in redis.letters()], [SPENT])
        equal(redis("EXISTS", "s:effects"), 0)


@case
def a_message_whose_letter_is_refused_stays_pending():
    with Redis() as redis:
        redis("RPUSH", "s:dead", "no stream")
        add(redis, 3, dict.fromkeys(range(3), "panic"))
        consumer = Consumer(redis, "--attempts", "1").ready()
        until(lambda: redis.unread() == 0, "all are taken")

        def come_again():
            entries = redis("XPENDING", "s", "workers", "-", "+", "10")
            equal(len(entries), 3, "pending")
            return all(deliveries > 1 for *_, deliveries in entries)

        until(come_again, "all come again")
        said = consumer.process.stderr.readline()
        equal("WRONGTYPE" in said, True, said)
        redis("DEL", "s:dead")
        settle(redis)
        receipt = consumer.end()
        equal(sorted(letter["key"] for letter in redis.letters()), ["m0", "m1", "m2"])
        equal({letter["message"] for letter in redis.letters()}, {SPENT})
        equal(receipt["buried in the dead letters"], 3)


@case
def an_effect_that_was_there_already_is_not_repeated():
    with Redis() as redis:
        redis("HSET", "s:effects", "m1", "before")
        add(redis, 3)
        consumer = Consumer(redis, *ONCE).ready()
        settle(redis)
        receipt = consumer.end()
        equal(redis.hash("s:effects")["m1"], "before")
        equal(redis("GET", "s:repeated"), "1")
        equal(receipt["of those, their effect was there already"], 1)


@case
def no_more_is_taken_than_may_be_in_flight():
    with Redis() as redis:
        consumer = Consumer(redis, *ONCE, "--in-flight", "2", "--workers", "1").ready()
        most = [0]

        def look():
            most[0] = max(most[0], redis.pending())
            return redis.unread() == 0 and redis.pending() == 0

        while not most[0]:  # until this process was in time to see some in flight
            add(redis, 300)
            while not look():
                pass
        equal(most[0] <= 2, True, "pending at once")
        consumer.end()
        equal(len(redis.hash("s:effects")), 300)


@case
def it_goes_on_when_redis_comes_back():
    with Redis() as redis:
        add(redis, 10)
        consumer = Consumer(redis).ready()
        settle(redis)
        redis.stop()
        redis.start()
        add(redis, 10)
        until(lambda: redis("HLEN", "s:effects") == 10, "all have effect")
        settle(redis)
        receipt = consumer.end()
        equal(receipt["calls to redis that failed"] > 0, True)
        equal(receipt["acknowledged"], 20)


@case
def it_goes_on_when_the_stream_is_made_anew():
    with Redis() as redis:
        consumer = Consumer(redis, *ONCE).ready()
        for _ in range(2):
            add(redis, 10)
            until(lambda: redis("HLEN", "s:effects") == 10, "all have effect")
            settle(redis)
            redis("FLUSHALL")
        equal(consumer.end()["acknowledged"], 20)


@case
def sigterm_settles_what_was_taken():
    with Redis() as redis:
        add(redis, 20000)
        consumer = Consumer(redis, *ONCE).ready()
        until(lambda: redis("EXISTS", "s:effects"), "it has begun")
        receipt = consumer.end()
        equal(redis.pending(), 0)
        equal(redis("HLEN", "s:effects"), receipt["acknowledged"])
        equal(receipt["taken"], receipt["acknowledged"])


@case
def sigterm_ends_a_wait_for_room_too():
    claimed, go, numbers = threading.Event(), threading.Event(), iter(range(1, 1000))

    def answer(words):
        if words[0] == "XAUTOCLAIM":
            claimed.set()
            return array("0-0", [], [])
        if words[0] == "XREADGROUP":
            claimed.wait(PATIENCE)
            count = int(words[words.index("COUNT") + 1])
            return array(["s", [[f"{n}-0", ["key", f"m{n}"]] for n, _ in zip(numbers, range(count))]])
        if words[0] == "EVAL":
            go.wait(PATIENCE)
        return b":1\r\n"

    with Fake(answer) as fake:
        consumer = Consumer(fake, "--claim-ms", "600000", "--in-flight", "17").ready()
        until(lambda: fake.called.count("EVAL") == 17, "all have begun")
        reads = fake.called.count("XREADGROUP")
        consumer.process.send_signal(signal.SIGTERM)
        until(lambda: "XAUTOCLAIM" in fake.gone, "who waits to claim more has heard of the stop")
        go.set()
        receipt = consumer.end()
        equal(fake.called.count("XREADGROUP"), reads, "no more are taken")
        equal((receipt["taken"], receipt["acknowledged"]), (17, 17))


@case
def a_reply_that_makes_no_sense_is_an_error():
    for nonsense in (b":1\r\n", b"+OK\r\n", array("x")):
        with Fake(lambda words, reply=nonsense: reply if words[0].startswith("X") else b":1\r\n") as fake:
            consumer = Consumer(fake).ready()
            until(lambda: min(map(fake.called.count, ("XREADGROUP", "XAUTOCLAIM"))) > 2, "both go on")
            calls = len(fake.called)
            equal(consumer.end()["calls to redis that failed"] > 4, True)
            equal(calls < 100, True, f"{calls} calls: there are pauses between them")


@case
def a_bad_option_or_no_redis_is_said():
    def run(*options):
        done = subprocess.run([BINARY, *options], capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout + done.stderr

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        status, text = run("--stream", "s", "--port", str(s.getsockname()[1]))
    equal((status, "connection refused" in text.lower()), (1, True), text)
    for options, words in ((("--port", "0", "--stream", "s"), "--port: must be a number from 1 to 65535"),
                           (("--attempts", "x", "--stream", "s"), "--attempts: must be"),
                           (("--port", " 1", "--stream", "s"), "--port: must be"),
                           (("--stream", "s", "--dead", "s"), "--dead: must not be the stream"),
                           ((), "--stream is missing"), (("s",), "takes options only"),
                           (("--no",), "unrecognized option")):
        status, text = run(*options)
        equal((status, words in text), (2, True), text)
    equal(run("--help")[0], 0)


# ------------------------------------------------------------------------------------- storm

def storm(messages, kills):
    """Returns the figures, as printed."""
    chance = random.Random(1)
    poison = {n: POISON[n % len(POISON)] for n in range(0, messages, 100)}
    with Redis() as redis:
        redis("XGROUP", "CREATE", "s", "workers", "0", "MKSTREAM")
        consumers = [Consumer(redis, "--attempts", "5").ready() for _ in range(3)]
        began, added = time.monotonic(), 0
        for second in range(kills):
            upto = messages * (second + 1) // kills
            redis.many([("XADD", "s", "*", "key", f"m{n}", "value", n,
                         *(("do", poison[n]) if n in poison else ())) for n in range(added, upto)])
            added = upto
            # In the middle of what was just added, most of the time.
            time.sleep(chance.uniform(0, 0.3))
            victim = chance.randrange(3)
            consumers[victim].kill()
            consumers[victim] = Consumer(redis, "--attempts", "5").ready()
            time.sleep(max(0, began + second + 1 - time.monotonic()))
        settle(redis)
        receipts = [consumer.end() for consumer in consumers]
        effects, letters = redis.hash("s:effects"), redis.letters()
        equal(effects, {f"m{n}": str(n) for n in range(messages) if n not in poison}, "effects")
        equal(sorted(letter["key"] for letter in letters), sorted(f"m{n}" for n in poison), "letters")
        equal({letter["attempts"] for letter in letters}, {"5"}, "attempts")
        return {"messages": messages, "processes killed": kills, "good, effective once": len(effects),
                "poison, one letter each": len(letters), "lost": 0,
                "delivered again, effect not repeated": int(redis("GET", "s:repeated") or 0),
                "taken over by the last three": sum(
                    r["of those, left by others or tried before"] for r in receipts),
                "seconds": round(time.monotonic() - began)}


@case
def processes_are_killed_and_nothing_is_lost():
    storm(6000, 5)


def main():
    if sys.argv[1:] == ["--storm"]:
        for what, figure in storm(100000, 30).items():
            print(f"{what:40}{figure:10,}")
        return 0
    if sys.argv[1:]:
        print("consume_test.py [--storm]: the cases; or 3 consumers of 100,000 messages, killed 30 times")
        return sys.argv[1:] != ["--help"]
    passed = 0
    for function in CASES:
        try:
            function()
            passed += 1
        except (AssertionError, OSError, subprocess.TimeoutExpired, KeyError, ValueError) as error:
            print(f"{function.__name__}: {error!r}")
    print(f"{passed} passed, {len(CASES) - passed} failed")
    return passed != len(CASES)


if __name__ == "__main__":
    sys.exit(main())
