#!/usr/bin/env python3
"""Computes the error rates of `countersign report` again, from exported evidence alone.

It reads what `countersign export evidence` has written (FILE beside FILE.manifest.json, or folders of such files) and counts from
the entries how many actions were executed, drawn, judged and found wrong with each inclusion probability. From these counts it
computes rates, intervals and the bounds that hold at any time, with formulas written here a second time and nothing but
Python's standard library. With --report it compares them with the output of `countersign report --json`.

  countersign report --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z --json > report.json
  countersign export evidence --from 2026-03-01T00:00:00Z --out evidence.jsonl
  python3 docs/recompute.py evidence.jsonl --report report.json

Export from the beginning of the report's time range or earlier, and until after the report was made: what happened after that
is left out. Exits with 0 if everything agrees to nine digits, with 1 if anything does not, or a file is not what its
manifest says, and with 2 if something cannot be read.
"""

import argparse
import calendar
import csv
import hashlib
import json
import math
import os
import re
import sys

ALPHA = 0.05
TOLERANCE = 1e-9
# Cells with fewer expected draws than this are estimated together.
EXPECTED_DRAWS = 5.0
# The values of s over which the martingale of the bound is averaged.
GRID = (0.1, 0.25, 0.6, 1.5, 4.0, 20.0)


class Unreadable(Exception):
    """Something cannot be read, or does not belong together."""


class Altered(Exception):
    """A file is not what its manifest says."""


# --- Reading evidence ---------------------------------------------------------------------------------------------------


def microseconds(text):
    """A time in RFC 3339 as whole microseconds since 1970; finer parts are dropped, as the database drops them."""
    found = re.fullmatch(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise Unreadable(f"{text!r} is not a time such as 2026-03-01T00:00:00Z")
    *parts, fraction, zone = found.groups()
    seconds = calendar.timegm(tuple(int(part) for part in parts))
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 1_000_000 + int((fraction or "").ljust(6, "0")[:6])


def exported(paths):
    """The files to read: those that are named, and those with a manifest in folders that are named."""
    suffix = ".manifest.json"
    for path in paths:
        if os.path.isdir(path):
            found = sorted(name for name in os.listdir(path) if name.endswith(suffix))
            if not found:
                raise Unreadable(f"no file in {path} has a manifest ({suffix})")
            yield from (os.path.join(path, name[: -len(suffix)]) for name in found)
        else:
            yield path


def entries(path):
    """Indexes and entries of a file, in constant memory; checks the file's digest at the end if it has a manifest."""
    hashed = hashlib.sha256()

    def lines(file):
        for line in file:
            hashed.update(line)
            yield line.decode("utf-8")

    with open(path, "rb") as file:
        source = lines(file)
        first = next(source, None)
        if first is not None and first.startswith("index,"):
            columns = next(csv.reader([first]))
            index, entry = columns.index("index"), columns.index("entry")
            csv.field_size_limit(1 << 30)
            for row in csv.reader(source):
                yield int(row[index]), json.loads(row[entry])
        elif first is not None:
            event = json.loads(first)
            yield int(event["sequence"]), event["data"]
            for line in source:
                event = json.loads(line)
                yield int(event["sequence"]), event["data"]
    manifest = manifest_of(path)
    if manifest and manifest["digest"] != "sha256:" + hashed.hexdigest():
        raise Altered(f"{path} is not what its manifest says: its SHA-256 is {hashed.hexdigest()}")


def manifest_of(path):
    """The manifest beside a file, if there is one."""
    try:
        with open(path + ".manifest.json", encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def ordered(paths):
    """The files in the order of their first entries; empty ones are left out."""
    firsts = []
    for path in exported(paths):
        reading = entries(path)
        first = next(reading, None)
        reading.close()
        if first is not None:
            firsts.append((first[0], path))
    return [path for _, path in sorted(firsts)]


class Action:
    """What the evidence says of an action, as far as error rates depend on it."""

    __slots__ = ("accepted", "rule", "stratum", "executed", "pi", "selected", "finding")

    def __init__(self):
        self.accepted = self.rule = self.stratum = self.finding = None
        self.executed = self.selected = False
        # Without a draw, an action may be wrong like one that is never drawn.
        self.pi = 0.0

    def take(self, entry):
        """Takes an entry into account; entries come in the order of the ledger."""
        kind = entry["type"]
        if kind == "action.evaluated":
            if self.accepted is None:
                self.accepted = microseconds(entry["occurred_at"])
            policy = entry.get("policy", {})
            self.rule = policy.get("rule", self.rule)
            self.stratum = policy.get("stratum", self.stratum)
        elif kind == "action.completed":
            self.executed = True
        elif kind == "action.sampled":
            sampling = entry["sampling"]
            self.pi, self.selected = float(sampling["pi"]), sampling["selected"]
            self.stratum = sampling["stratum"]
        elif kind == "audit.settled":
            self.finding = entry["review"]["finding"]


KINDS = ("action.evaluated", "action.completed", "action.sampled", "audit.settled")


def actions(paths, until):
    """The actions in these files as they were at `until`, and how many entries were read."""
    found, following, first, later = {}, None, None, 0
    for path in ordered(paths):
        for index, entry in entries(path):
            if following is not None and index < following:
                continue
            if following is not None and index > following:
                raise Unreadable(f"entries {following} to {index - 1} are missing before those of {path}")
            first = index if first is None else first
            following = index + 1
            if entry["type"] not in KINDS or "action" not in entry:
                continue
            if until is not None and microseconds(entry["occurred_at"]) > until:
                later += 1
                continue
            found.setdefault(entry["action"]["id"], Action()).take(entry)
    if following is None:
        raise Unreadable("there are no entries in these files")
    return found, f"{following - first} entries, {first} to {following - 1}; {later} about actions came after the report"


def counted(found, start, end):
    """Cells by rule, stratum and π of what was executed of the actions accepted in [start, end)."""
    cells = {}
    for name, action in found.items():
        if not action.executed or action.accepted is None:
            continue
        if (start is not None and action.accepted < start) or (end is not None and action.accepted >= end):
            continue
        if action.rule is None or action.stratum is None:
            raise Unreadable(f"the evidence of action {name} does not name its rule and stratum: an older version wrote it")
        cell = cells.setdefault((action.rule, action.stratum, action.pi), [0, 0, 0, 0])
        judged = action.selected and action.finding is not None
        for at, counts in enumerate((True, action.selected, judged, judged and action.finding == "wrong")):
            cell[at] += int(counts)
    return cells


# --- Statistics ---------------------------------------------------------------------------------------------------------


class Cell:
    """Executed actions with one inclusion probability, and their audits."""

    def __init__(self, pi, executed, drawn, judged, wrong):
        self.pi, self.executed, self.drawn, self.judged, self.wrong = pi, executed, drawn, judged, wrong

    def plain(self):
        return {
            "pi": self.pi,
            "executed": self.executed,
            "drawn": self.drawn,
            "judged": self.judged,
            "wrong": self.wrong,
        }

    def settled(self, wrong):
        """As if all that was drawn were judged, and what is not judged yet were right or wrong."""
        missing = self.drawn - self.judged
        return Cell(self.pi, self.executed, self.drawn, self.drawn, self.wrong + (missing if wrong else 0))

    def mirrored(self):
        return Cell(self.pi, self.executed, self.drawn, self.judged, self.judged - self.wrong)


def total(cells, member):
    return sum(getattr(cell, member) for cell in cells)


def merged(cells):
    """One cell per π, the smallest first. Where all was judged, it does not matter with what probability it was drawn."""
    census = all(cell.judged == cell.executed for cell in cells)
    sums = {}
    for cell in cells:
        if cell.executed > 0:
            pi = 1.0 if census else cell.pi
            parts = sums.setdefault(pi, [0, 0, 0, 0])
            for at, part in enumerate((cell.executed, cell.drawn, cell.judged, cell.wrong)):
                parts[at] += part
    return [Cell(pi, *sums[pi]) for pi in sorted(sums)]


def incomplete_beta(a, b, x):
    """The regularised incomplete beta function, by Lentz's evaluation of its continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    fraction = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for step in (even, odd):
            d = 1.0 + step * d
            c = 1.0 + step / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return front * fraction / a


def clopper_pearson_upper(wrong, audits, alpha):
    """The upper end of Clopper and Pearson's interval (Biometrika 26, 1934); numbers need not be whole."""
    if audits <= 0.0 or not 0.0 <= wrong <= audits or wrong >= audits:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = low + (high - low) / 2.0
        if middle <= low or middle >= high:
            break
        if incomplete_beta(wrong + 1.0, audits - wrong, middle) < 1.0 - alpha / 2.0:
            low = middle
        else:
            high = middle
    return low + (high - low) / 2.0


def korn_graubard_upper(cells, alpha):
    """Clopper and Pearson's upper end with the effective number of audits (Korn and Graubard, Survey Methodology 24, 1998)."""
    cells = [cell for cell in cells if cell.judged > 0]
    judged, wrong = float(total(cells, "judged")), float(total(cells, "wrong"))
    if wrong == 0.0 or wrong == judged:
        return clopper_pearson_upper(wrong, judged, alpha)
    weight = sum(cell.judged / cell.pi for cell in cells)
    rate = sum(cell.wrong / cell.pi for cell in cells) / weight
    spread = sum(
        (cell.wrong * (1.0 - rate) ** 2 + (cell.judged - cell.wrong) * rate**2) / cell.pi**2 for cell in cells
    )
    variance = spread / weight**2 * judged / max(judged - 1.0, 1.0)
    audits = min(rate * (1.0 - rate) / variance, judged)
    return clopper_pearson_upper(rate * audits, audits, alpha)


def groups(cells):
    """Cells that can be drawn from, each alone, but those with few expected draws together."""
    drawable = [cell for cell in cells if cell.pi > 0.0]
    small = [cell for cell in drawable if cell.pi * cell.executed < EXPECTED_DRAWS]
    return [[cell] for cell in drawable if cell not in small] + ([small] if small else [])


def errors_of(group):
    """The errors of a group: what it has executed, times the ratio of the sums of 1/π; None without a judgement."""
    judged = sum(cell.judged / cell.pi for cell in group)
    wrong = sum(cell.wrong / cell.pi for cell in group)
    return total(group, "executed") * (wrong / judged) if judged > 0.0 else None


def unseen(cells, alpha):
    """How many errors the draw may have missed altogether with a probability of more than alpha."""
    budget, missed_of_all = -math.log(alpha), 0
    for cell in cells:
        if cell.pi < 1.0:
            cost = -math.log1p(-cell.pi)
            undrawn = max(cell.executed - cell.judged, 0)
            missed = min(int(budget / cost), undrawn) if cost > 0.0 else undrawn
            budget = max(budget - missed * cost, 0.0)
            missed_of_all += missed
    return missed_of_all


def alone(cells, alpha):
    """What a single group may hold, with as many errors in the others as were estimated."""
    def more(group):
        right = total(group, "judged") - total(group, "wrong")
        executed = total(group, "executed")
        most = min(executed * korn_graubard_upper(group, alpha), executed - right)
        return most - (errors_of(group) or 0.0)

    known = sum(errors_of(group) or 0.0 for group in groups(cells))
    never = sum(cell.executed for cell in cells if cell.pi <= 0.0)
    return known + max([0.0] + [more(group) for group in groups(cells)]) + never


def most(cells, alpha):
    """The most errors among settled cells."""
    bounds = [korn_graubard_upper(cells, alpha) * total(cells, "executed")]
    if len(cells) > 1:
        bounds += [total(cells, "wrong") + unseen(cells, alpha / 2.0), alone(cells, alpha)]
    return min(max(bounds), total(cells, "executed") - (total(cells, "judged") - total(cells, "wrong")))


def at_most(cells, alpha):
    """The most errors at any time, and those nobody has found: the largest number that the martingale allows (Ville, 1939)."""
    found, missing = total(cells, "wrong"), total(cells, "drawn") - total(cells, "judged")

    def costs(pi):
        return [-math.log1p(pi * math.expm1(-s)) for s in GRID]

    def mean(logarithms):
        largest = max(logarithms)
        return largest + math.log(sum(math.exp(value - largest) for value in logarithms) / len(GRID))

    sums = [0.0] * len(GRID)
    for cell in cells:
        drawn = cell.wrong + cell.drawn - cell.judged
        sums = [value + drawn * (cost - s) for value, cost, s in zip(sums, costs(cell.pi), GRID)]
    possible = 0
    for cell in cells:
        cost = costs(cell.pi)

        def allowed(errors):
            return mean([value + errors * each for value, each in zip(sums, cost)]) < -math.log(alpha)

        undrawn = max(cell.executed - cell.drawn, 0)
        low, high = 0, undrawn + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if allowed(middle) else (low, middle)
        sums = [value + low * each for value, each in zip(sums, cost)]
        possible += low
        if low < undrawn:
            break
    return {"errors": found + missing + possible, "undetected": missing + possible}


def line(cells, lines):
    """All figures of a line of the report, which is one of `lines` that are compared with each other."""
    plain = [Cell(pi, *counts) for pi, counts in sorted(cells.items())]
    cells = merged(plain)
    alpha = -math.expm1(math.log1p(-ALPHA) / lines)
    known = [(group, errors_of(group)) for group in groups(cells)]
    judged = [(group, errors) for group, errors in known if errors is not None]
    executed = sum(total(group, "executed") for group, _ in judged)
    errors = sum(errors for _, errors in judged)
    rate = errors / executed if executed > 0 else None
    waiting = any(errors is None and total(group, "drawn") > 0 for group, errors in known)
    all_executed = total(cells, "executed")
    upper = most([cell.settled(True) for cell in cells], alpha) / all_executed
    right = most([cell.settled(False).mirrored() for cell in cells], alpha)
    lower = (all_executed - right) / all_executed
    figures = {
        "executed": all_executed,
        "judged": total(cells, "judged"),
        "wrong": total(cells, "wrong"),
        "missing": total(cells, "drawn") - total(cells, "judged"),
        "confidence": 1.0 - alpha,
        "lower": lower if rate is None else min(lower, rate),
        "upper": upper if rate is None else max(upper, rate),
        "at_most": at_most(cells, ALPHA),
        "cells": [cell.plain() for cell in plain],
    }
    if rate is not None:
        figures["rate"] = rate
        if not waiting:
            figures["errors"] = errors
            figures["undetected"] = max(errors - figures["wrong"], 0.0)
    return figures


def rates(cells):
    """The report's lines: all together, each rule and each stratum, by (rule, stratum)."""
    lines = {}
    for (rule, stratum, pi), counts in cells.items():
        for name in ((None, None), (rule, None), (rule, stratum)):
            sums = lines.setdefault(name, {}).setdefault(pi, [0, 0, 0, 0])
            for at, count in enumerate(counts):
                sums[at] += count
    kinds = [sum(1 for name in lines if kind(name) == each) for each in range(3)]
    return {name: line(of, kinds[kind(name)]) for name, of in lines.items()}


def kind(name):
    """0 for all together, 1 for a rule, 2 for a stratum."""
    return sum(part is not None for part in name)


# --- Comparing ----------------------------------------------------------------------------------------------------------


FIGURES = (
    "executed judged wrong missing errors undetected rate confidence lower upper at_most.errors at_most.undetected cells"
).split()


def figure(of, name):
    """A figure by its name; None where it is absent, which means unknown."""
    for part in name.split("."):
        of = None if of is None else of.get(part)
    return of


def same(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one), abs(other))


def compare(found, reported):
    """What differs between the lines that follow from the evidence and those of the report."""
    theirs = {(one.get("rule"), one.get("stratum")): one for one in reported}
    for name in sorted(found.keys() | theirs.keys(), key=str):
        title = name[1] or name[0] or "all that was executed"
        if name not in theirs or name not in found:
            yield f"{title}: only in the {'report' if name in theirs else 'evidence'}"
            continue
        for each in FIGURES:
            ours, said = figure(found[name], each), figure(theirs[name], each)
            if not same(ours, said):
                yield f"{title}: {each} is {said} in the report, and {ours} by the evidence"


def arguments():
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evidence", nargs="+", help="files of `countersign export evidence`, or folders of them")
    parser.add_argument("--report", metavar="FILE", help="the output of `countersign report --json` to compare with")
    parser.add_argument("--from", dest="start", metavar="TIME", help="actions accepted since then; default: the report's")
    parser.add_argument("--to", dest="end", metavar="TIME", help="actions accepted before then; default: the report's")
    return parser.parse_args()


def run(given):
    report = {}
    if given.report:
        with open(given.report, encoding="utf-8") as file:
            report = json.load(file)
        if "rates" not in report:
            raise Unreadable(f"{given.report} is not the output of `countersign report --json`")
    times = (given.start or report.get("from"), given.end or report.get("to"), report.get("measured_at"))
    start, end, until = (None if time is None else microseconds(time) for time in times)
    found, read = actions(given.evidence, until)
    lines = rates(counted(found, start, end))
    print(f"read: {read}")
    if not given.report:
        print(json.dumps([{"rule": rule, "stratum": stratum, **of} for (rule, stratum), of in lines.items()], indent=2))
        return 0
    for manifest in filter(None, map(manifest_of, exported(given.evidence))):
        if manifest["to"] and until is not None and microseconds(manifest["to"]) < until:
            print("note: this evidence ends before the report was measured: " + manifest["to"])
    differences = list(compare(lines, report["rates"]))
    print(f"compared: {', '.join(FIGURES)} of {len(lines)} lines; and no other part of the report")
    print("\n".join(differences) if differences else "they agree to nine digits")
    return 1 if differences else 0


def main():
    try:
        return run(arguments())
    except Altered as error:
        print(error, file=sys.stderr)
        return 1
    except (Unreadable, OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot be read: {error!r}" if not isinstance(error, Unreadable) else error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
