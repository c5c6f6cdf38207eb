# SPDX-License-Identifier: MIT
"""report.py - what tools/perf has found: verdicts, the table, JSON, charts."""
import json
import os
import statistics
import subprocess

import rows
import servers

LOADED = 1.3  # above this load average figures are no evidence

# ------------------------------------------------------------------------------------- verdicts


def spread(runs):
    """Distance of the quartiles in percent of the median, as in coir-perf's table."""
    runs, quarter = sorted(runs), len(runs) // 4
    middle = statistics.median(runs)
    return 100 * (runs[-1 - quarter] - runs[quarter]) / middle if middle else 0.0


def summary(row, found, reasons, others, proven):
    """A row as JSON has it. found: participant -> values; reasons: participant -> why there are none;
    others: medians of coir-perf's rows, which goals may refer to."""
    medians = {name: statistics.median(values) for name, values in found.items() if values}
    best = best_peer(row, medians)
    coir = medians.get("coir")
    runs = found.get("coir", [])
    verdict = judge(row, medians, others, proven)
    return {
        "row": row.name, "label": row.label, "unit": row.unit, "coir": coir,
        "runs": runs, "spread_percent": spread(runs) if len(runs) > 2 else None,
        "peers": {name: medians.get(name, reasons.get(name)) for name in row.peers},
        "best_peer": best, "ratio": coir / medians[best] if coir and best else None,
        "floors": {name: medians.get(name, reasons.get(name)) for name in row.floors},
        "goals": [goal_text(goal, row.unit) for goal in row.goals],
        "verdict": verdict,
        "within_spread": noise_decides(verdict, [judge(row, values, others, proven) for values in each_run(found, medians)]),
        "error": reasons.get("coir"),
    }


def best_peer(row, values):
    running = [name for name in row.peers if name in values]
    return min(running, key=values.get, default=None)


def judge(row, values, others, proven):
    """The verdict on what the participants have: met | missed | floor; None while it cannot be said."""
    best, coir = best_peer(row, values), values.get("coir")
    known = {**others, **values, **({"best peer": values[best]} if best else {})}
    limits = [goal.limit(known) for goal in row.goals]
    if coir is None or not limits:
        return None
    missed = [limit for limit in limits if limit is not None and coir > limit]
    if missed:
        return "floor" if row.name in proven or beyond_all(row, values, min(missed)) else "missed"
    return None if None in limits else "met"


def beyond_all(row, values, limit):
    """Whether a raw floor of this run is above the limit, and so is every peer: what one of them reached can be reached."""
    raw = [values[name] for name in row.floors if name in rows.RAW and name in values]
    return max(raw, default=0) > limit and all(values[name] > limit for name in row.peers if name in values)


def each_run(found, medians):
    """What the participants had in each repetition. Who was measured in fewer or more of them has its median."""
    count = len(found.get("coir", []))
    return [{name: found[name][i] if len(found[name]) == count else median for name, median in medians.items()}
            for i in range(count)]


def noise_decides(verdict, single):
    """Whether a quarter of the repetitions or more, each for itself, had another verdict; None: there were too few."""
    if len(single) < 3 or verdict is None:
        return None
    return 4 * sum(other != verdict for other in single) >= len(single)


def goal_text(goal, unit):
    if goal.of is None:
        return "<= " + quantity(goal.value, unit)
    return f"<= {goal.value:.3g} x {goal.of}"


# ---------------------------------------------------------------------------------------- table


def quantity(value, unit):
    """A number with its unit, in about three digits; a reason why there is none as it is."""
    if not isinstance(value, (int, float)):
        return value or "-"
    if unit == "B":
        return f"{value:,.0f} B"
    for name, at_least, size in (("s", 1e9, 1e9), ("ms", 1e6, 1e6), ("us", 1e4, 1e3), ("ns", 0, 1)):
        if value >= at_least:
            break
    value /= size
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {name}"


HEAD = ("workload", "coir", "best peer", "", "ratio", "floor", "", "goal", "", "spread")
LEFT = {0, 3, 6, 7, 8}  # columns of text


def cells(r):
    """A row of the table."""
    unit, best = r["unit"], r["best_peer"]
    floor, value = next(iter(r["floors"].items()), ("", None))
    reason = next((text for text in r["peers"].values() if isinstance(text, str)), "")
    mark = {"met": "met", "missed": "MISSED", "floor": "floor", None: "-"}[r["verdict"]]
    mark += " ~" if r.get("within_spread") else ""
    return (r["row"], quantity(r["coir"], unit) if r["coir"] else r["error"] or "-",
            quantity(r["peers"][best], unit) if best else "-", best or reason,
            f"{r['ratio']:.2f}" if r["ratio"] else "-", quantity(value, unit), floor,
            " and ".join(r["goals"]) or "-", mark,
            percent(r["spread_percent"]))


def percent(value):
    return "-" if value is None else f"{value:.0f} %" if value < 1000 else ">999 %"


def aligned(rows, left):
    """Lines of the rows in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) if i in left else text.rjust(width)
                      for i, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def table(results):
    """The table of all rows, and what the open loop's tails are beside each other."""
    lines = aligned([HEAD, *map(cells, results)], LEFT) + [""]
    if any(r["row"].startswith("tail/") for r in results):
        lines += tails(results) + [""]
    count = [sum(r["verdict"] == word for r in results) for word in ("met", "missed", "floor")]
    lines.append("{} goals met, {} missed, {} at a proven floor".format(*count))
    slow = [r for r in results if r.get("rate", servers.RATES[0]) < servers.RATES[0]]
    lines += [f"{r['row']}: all servers at {r['rate']:,} requests a second, for at more the load or the raw loop fills its "
              "processor" for r in slow]
    if any(r.get("within_spread") for r in results):
        lines.append("~: noise decides; a quarter of the repetitions or more came out otherwise")
    return lines


def micros(ns):
    if not isinstance(ns, (int, float)):
        return "-"
    return f"{ns / 1000:.0f}" if ns >= 1e5 else f"{ns / 1000:.3g}"


def tails(results):
    """The open loops: what each participant's sojourns are, a line a load."""
    loads, who = {}, {}
    for r in results:
        if r["row"].startswith("tail/"):
            load, figure = r["row"].rsplit("/", 1)
            found = {"coir": r["coir"], **r["peers"], **r["floors"]}
            loads.setdefault(load, {})[figure] = found
            who |= dict.fromkeys(found)

    def cell(figures, whom):
        three = [figures.get(name, {}).get(whom) for name in ("p50", "p99", "p999")]
        return " / ".join(micros(v) for v in three)
    return aligned([("sojourn us, p50 / p99 / p99.9", *who),
                    *((load, *(cell(figures, whom) for whom in who)) for load, figures in loads.items())], {0})


def growth(title, results):
    """One table of a growth: a line per size, a column per participant."""
    who = ["coir", *dict.fromkeys(name for r in results for name in r["peers"])]
    lines = [(title, *who)]
    for r in results:
        value = {"coir": r["coir"] or r["error"], **r["peers"]}
        lines.append((r["row"].split("/")[1], *(quantity(value.get(name), r["unit"]) for name in who)))
    return aligned(lines, {0}) + [f"{r['row']}: {' and '.join(r['goals'])}: {r['verdict']}"
                                  for r in results if "best peer" not in " ".join(r["goals"])] + [""]


def machine():
    """What the figures depend on."""
    load = os.getloadavg()[0]
    return {"cpus": len(os.sched_getaffinity(0)), "load": load, "kernel": os.uname().release.split("-")[0],
            "loaded": load >= LOADED}


def write(about, results, file):
    """As JSON, a line a row."""
    rows_of_it = ",\n".join(json.dumps(r) for r in results)
    with open(file, "w") as out:
        out.write(f'{json.dumps(about)[:-1]}, "rows": [\n{rows_of_it}\n]}}\n')


# --------------------------------------------------------------------------------------- charts


def draw(script, file):
    """Has gnuplot write an SVG."""
    height, body = script
    head = (f'set terminal svg noenhanced size 900,{height} dynamic font "sans,13" background "white"\n'
            f"set output {quoted(file)}\n")
    done = subprocess.run(["gnuplot"], input=head + body, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        raise OSError(f"gnuplot failed: {'; '.join(done.stdout.strip().splitlines()[-2:])}")
    with open(file) as drawn:
        text = "".join(line.rstrip() + "\n" for line in drawn if line.strip())
    with open(file, "w") as tidy:
        tidy.write(text)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def bars(results):
    """coir relative to the best peer, a bar a row: left of the line, coir costs less."""
    shown = [r for r in results if r["ratio"]][::-1]
    tics = ", ".join(f"{quoted(r['row'] + '  ' + r['best_peer'])} {i}" for i, r in enumerate(shown))
    data = "\n".join(f"1 {i} {min(1, r['ratio']):.4g} {max(1, r['ratio']):.4g} {i - 0.35} {i + 0.35} "
                     f"{0x2a7f62 if r['ratio'] <= 1 else 0xb5483a}" for i, r in enumerate(shown))
    return 120 + 20 * len(shown), f"""$rows << END
{data}
END
set title 'coir / best packaged peer, log scale: left of 1 coir costs less'
set logscale x
set xrange [0.02:50]
set yrange [-0.7:{len(shown) - 0.3}]
set ytics ({tics}) scale 0
set xtics ('1/50' 0.02, '1/10' 0.1, '1/3' 0.333, '1' 1, '3' 3, '10' 10, '50' 50)
set grid xtics
set arrow from 1, graph 0 to 1, graph 1 nohead lw 2
unset key
set style fill solid 0.9 noborder
plot $rows using 1:2:3:4:5:6:7 with boxxyerror lc rgb variable
"""


def lines(title, results):
    """ns by size, a line per participant, both axes logarithmic."""
    who = ["coir", *dict.fromkeys(name for r in results for name in r["peers"])]
    blocks, plots = "", []
    for i, name in enumerate(who):
        points = [(r["row"].split("/")[1], r["coir"] if name == "coir" else r["peers"].get(name))
                  for r in results]
        points = [f"{size} {value:.6g}" for size, value in points if isinstance(value, (int, float))]
        if points:
            blocks += f"$p{i} << END\n" + "\n".join(points) + "\nEND\n"
            plots.append(f"$p{i} with linespoints lw {3 if i == 0 else 1.5} pt 7 ps 0.6 title {quoted(name)}")
    return 420, f"""{blocks}set title {quoted(title)}
set logscale xy
set format x '%.0f'
set ylabel 'ns'
set grid
set key left top
plot {', '.join(plots)}
"""
