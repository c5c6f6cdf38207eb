#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""otp_test.py - the same crashes through Erlang/OTP's supervisor and through coir's: who was started and
stopped when, and which crash was one too many.

Needs escript (Debian: erlang-base; tools/deps installs it) and what ninja builds. A schedule is described in
tests/otp_program.c. Those below are one for each thing that OTP decides; then come random ones, the same each
time. They run on a clock that the schedule sets, in both; those that do not set it run through OTP's
supervisor as installed, too.

    tests/otp_test.py            prints the differences
    tests/otp_test.py --table    prints all: schedule, OTP's verdict, coir's"""
import pathlib
import random
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = [ROOT / "build/x86_64/tests/otp_program"]
OTP = ["escript", ROOT / "tests/otp/otp.escript"]
SECONDS = 300  # no side takes longer
RANDOM = 120

P, T, X = "permanent", "transient", "temporary"
THREE = f"a:{P},b:{P},c:{P}"
MIXED = f"a:{P},b:{T},c:{X},d:{P}"

# What it shows: strategy, max_restarts, max_seconds, children, events.
SCHEDULES = {
    "one too many at once": f"one_for_one 2 5 a:{P} crash=a crash=a crash=a",
    "none allowed": f"one_for_one 0 5 {THREE} crash=b",
    "one allowed": f"one_for_one 1 5 {THREE} crash=b crash=a",
    "exactly the period apart": f"one_for_one 1 5 a:{P} crash=a at=5000 crash=a",
    "just past the period": f"one_for_one 1 5 a:{P} crash=a at=6000 crash=a at=12000 crash=a",
    "late in the second, early in the sixth": f"one_for_one 1 5 a:{P} at=999 crash=a at=6000 crash=a",
    "early in the second, late in the fifth": f"one_for_one 1 5 a:{P} at=1000 crash=a at=6999 crash=a",
    "window moves": f"one_for_one 2 3 a:{P} crash=a at=2000 crash=a at=4000 crash=a at=6000 crash=a "
                    "at=7000 crash=a",
    "fill, forget, fill": f"one_for_one 3 2 a:{P} crash=a crash=a crash=a at=3000 crash=a crash=a crash=a crash=a",
    "counted over all children": f"one_for_one 2 5 {THREE} crash=a crash=b crash=c",
    "a permanent one that ends well": f"one_for_one 2 5 {THREE} end=b end=b end=a",
    "a transient one that ends well": f"one_for_one 1 5 a:{T},b:{T} end=a crash=b crash=b",
    "a temporary one": f"one_for_one 1 5 a:{X},b:{P} crash=a crash=b crash=b",
    "two at once": f"one_for_one 2 5 {THREE} crash=a+c crash=b",
    "two at once, one too many": f"one_for_one 1 5 {THREE} crash=c+a",
    "a start that fails once": f"one_for_one 3 5 {THREE} fail=b:1 crash=b crash=a crash=a",
    "starts that fail count": f"one_for_one 3 5 {THREE} fail=b:2 crash=b crash=b",
    "starts that fail end it": f"one_for_one 3 5 {THREE} fail=b:9 crash=b",
    "a transient one's start fails": f"one_for_one 5 5 a:{T},b:{P} fail=a:2 crash=a end=a",
    "all for one": f"one_for_all 2 5 {THREE} crash=b crash=a crash=c",
    "all for two at once": f"one_for_all 1 5 {THREE} crash=a+c crash=b",
    "all: mixed types": f"one_for_all 3 5 {MIXED} crash=b crash=d crash=a",
    "all: the ended are started": f"one_for_all 3 5 {MIXED} end=b crash=a crash=d",
    "all: temporary ones do not take others along": f"one_for_all 1 5 {MIXED} crash=c crash=a crash=a",
    "all: a start in the middle fails": f"one_for_all 5 5 {THREE} fail=b:2 crash=c crash=a",
    "all: the first start fails": f"one_for_all 3 5 {THREE} fail=a:2 crash=c crash=b",
    "all: the last start fails": f"one_for_all 2 5 {THREE} fail=c:9 crash=a",
    "rest: the last": f"rest_for_one 2 5 {THREE} crash=c crash=c crash=c",
    "rest: the middle": f"rest_for_one 2 5 {THREE} crash=b crash=b crash=b",
    "rest: the first": f"rest_for_one 2 5 {THREE} crash=a crash=c crash=b",
    "rest: mixed types": f"rest_for_one 3 5 {MIXED} crash=b crash=a crash=d",
    "rest: two at once, the later first": f"rest_for_one 3 5 {THREE} crash=c+a crash=b",
    "rest: two at once, the earlier first": f"rest_for_one 1 5 {THREE} crash=a+c crash=b",
    "rest: a start fails": f"rest_for_one 4 5 {THREE} fail=c:2 crash=b crash=a",
    "rest: its own start fails": f"rest_for_one 3 5 {THREE} fail=b:3 crash=b crash=a",
    "dynamic": f"dynamic 2 5 {THREE} crash=b crash=a crash=c",
    "dynamic: transient": f"dynamic 2 5 a:{T},b:{T} end=a crash=b crash=b crash=b",
    "dynamic: temporary": f"dynamic 1 5 a:{X},b:{X} crash=a crash=b add=a:{X} crash=a",
    "dynamic: starts fail": f"dynamic 3 5 {THREE} fail=a:2 crash=a crash=b",
    "dynamic: two at once": f"dynamic 1 5 {THREE} crash=a+b",
    "dynamic: added and removed": f"dynamic 1 5 a:{P} add=b:{P} crash=b remove=a crash=b",
    "added, then all for one": f"one_for_all 2 5 a:{P} add=b:{P} crash=a add=c:{P} crash=b",
    "removed, then rest for one": f"rest_for_one 2 5 {THREE} remove=b crash=a crash=c",
    "removed while it is being forgotten": f"one_for_one 1 2 {THREE} crash=a remove=a at=4000 crash=b crash=c",
    "an added one does not start": f"one_for_one 1 5 a:{P} add=b:{P} remove=b fail=b:1 add=b:{P} crash=a",
}


def random_schedule(rng):
    strategy = rng.choice(["one_for_one", "one_for_all", "rest_for_one", "dynamic"])
    names = "abcd"[:rng.randint(1, 4)]
    kind = rng.choice([P, T, X])
    kinds = {n: kind if strategy == "dynamic" else rng.choice([P, P, T, X]) for n in names}
    up, ms, events = set(names), 0, []
    for _ in range(rng.randint(3, 9)):
        steady = [n for n in names if kinds[n] == P]  # those that are there whatever happened
        what = rng.choice(["crash", "crash", "crash", "end", "two", "fail", "at"])
        if what == "at":
            ms += rng.choice([400, 999, 1000, 1500, 3000])
            events.append(f"at={ms}")
        elif what == "fail" and steady:
            events.append(f"fail={rng.choice(steady)}:{rng.randint(1, 2)}")
        elif what == "two" and len(steady) > 1:
            events.append("crash=" + "+".join(rng.sample(steady, 2)))
        elif what in ("crash", "end") and up:
            who = rng.choice(sorted(up))
            events.append(f"{what}={who}")
            if kinds[who] != P:
                up.discard(who)  # it may be there again, but need not
    children = ",".join(f"{n}:{kinds[n]}" for n in names)
    return f"{strategy} {rng.randint(1, 4)} {rng.randint(1, 4)} {children} " + " ".join(events)


def run(command, schedules):
    done = subprocess.run(list(map(str, command)), input="\n".join(schedules) + "\n", text=True,
                          capture_output=True, timeout=SECONDS, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) < len(schedules):
        print(f"{command[-1]}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return lines + ["?"] * len(schedules)
    return [" ".join(line.split()) for line in lines]


def normal(schedule, verdict):
    """A dynamic supervisor that stops all its children does so at once: in no order."""
    if schedule.startswith("dynamic"):
        groups = [g.split() for g in verdict.split("|")]
        for group in groups:
            group.sort(key=lambda w: w if w.startswith("-") else "")
        verdict = " | ".join(" ".join(g) for g in groups)
    return verdict


def summary(sides, ours):
    """A line for each strategy: what its schedules came to, and how many verdicts differ."""
    print(f"{'strategy':14}{'schedules':>10}{'starts':>8}{'gave up':>9}{'went on':>9}{'compared':>10}{'different':>11}")
    for strategy in ("one_for_one", "one_for_all", "rest_for_one", "dynamic"):
        named = {n: s for n, s in sides[0][1].items() if s.startswith(strategy + " ")}
        starts = sum(ours[n].count("+") for n in named)
        gave_up = sum("gave-up" in ours[n] for n in named)
        compared = [normal(s, otp) == normal(s, ours[n]) for _, schedules, verdicts in sides
                    for (n, s), otp in zip(schedules.items(), verdicts) if n in named]
        print(f"{strategy:14}{len(named):10}{starts:8}{gave_up:9}{len(named) - gave_up:9}{len(compared):10}"
              f"{compared.count(False):11}")


def main(words):
    if words not in ([], ["--table"]):
        print(__doc__)
        return 0 if words == ["--help"] else 2
    rng = random.Random(1)
    named = dict(SCHEDULES)
    for i in range(RANDOM):
        named[f"random {i}"] = random_schedule(rng)
    untimed = {n: s for n, s in named.items() if "at=" not in s}
    sides = [("set", named, run(OTP, named.values())), ("own", untimed, run(OTP + ["--real"], untimed.values()))]
    ours = dict(zip(named, run(OURS, named.values())))
    passed = failed = 0
    for clock, schedules, verdicts in sides:
        for (name, schedule), otp in zip(schedules.items(), verdicts):
            same = normal(schedule, otp) == normal(schedule, ours[name])
            passed += same
            failed += not same
            if not same or (words and clock == "set"):
                print(f"{name}\n    schedule  {schedule}\n    OTP       {otp}\n    coir      {ours[name]}"
                      f"\n    {'same' if same else 'DIFFERENT'}, OTP's clock: {clock}")
    summary(sides, ours)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
