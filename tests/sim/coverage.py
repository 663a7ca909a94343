#!/usr/bin/env python3
"""coverage.py - branch coverage of the core and its host by simulation alone.

Usage: coverage.py SOURCE-DIRECTORY BUILD-DIRECTORY [--missed]

Builds the simulator with --coverage in BUILD-DIRECTORY, runs SEEDS seeds of mixtures and
SEEDS_PER_PROFILE of each profile, and prints for each file of src/raft and src/node how many of
its branches were taken. Fails when one of the two is below its line in tests/sim/coverage.min.
--missed also prints the source lines with a branch that was not taken.

Not counted, for no run can take them: branches of assertions, and of planted bugs.
"""

import json
import os
import re
import subprocess
import sys

SEEDS = 200
SEEDS_PER_PROFILE = 12
DIRECTORIES = ("src/raft", "src/node")


def run(command, directory, **more):
    return subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, **more).stdout


def build(source, directory):
    os.makedirs(directory, exist_ok=True)
    if not os.path.exists(os.path.join(directory, "Makefile")):
        flags = "CFLAGS=-g -O1 --coverage"
        run([os.path.join(source, "configure"), "-q", flags], directory)
    run(["make", "-s", "-j2", "trilith-sim"], directory)
    for folder in DIRECTORIES:
        for name in os.listdir(os.path.join(directory, folder)):
            if name.endswith(".gcda"):
                os.remove(os.path.join(directory, folder, name))


def profiles(source):
    text = open(os.path.join(source, "tests/sim/swarm.c"), encoding="utf-8").read()
    return re.findall(r'\{"(\w+)", profile_\w+\}', text)


def simulate(source, directory):
    run(["./trilith-sim", "--seed", "1", "--seeds", str(SEEDS)], directory)
    for name in profiles(source):
        command = ["./trilith-sim", "--seed", "1", "--seeds", str(SEEDS_PER_PROFILE)]
        run(command + ["--profile", name], directory)


def uncounted(path):
    """Numbers of the lines whose branches do not count."""
    lines = set()
    depth = 0
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        if "TL_ASSERT(" in line and depth == 0:
            line = line[line.index("TL_ASSERT("):]
            depth = line.count("(") - line.count(")")
            lines.add(number)
        elif depth > 0:
            depth += line.count("(") - line.count(")")
            lines.add(number)
        elif "mutat" in line.lower():
            lines.add(number)
    return lines


def branches_of(source, directory, path):
    """{line: [counts of its branches]} of one source file."""
    found = {}
    notes = path[:-2] + ".gcda"
    if not os.path.exists(os.path.join(directory, notes)):
        return found
    report = json.loads(run(["gcov", "-b", "-j", "-t", notes], directory))
    skipped = uncounted(os.path.join(source, path))
    for file in report["files"]:
        if os.path.normpath(os.path.join(directory, file["file"])) != os.path.join(source, path):
            continue
        for line in file["lines"]:
            if line["branches"] and line["line_number"] not in skipped:
                counts = [branch["count"] for branch in line["branches"]]
                found.setdefault(line["line_number"], []).extend(counts)
    return found


def print_missed(source, path, branches):
    lines = open(os.path.join(source, path), encoding="utf-8").read().split("\n")
    for number in sorted(branches):
        taken = sum(count > 0 for count in branches[number])
        if taken < len(branches[number]):
            print(f"  {path}:{number}: {taken} of {len(branches[number])}: "
                  f"{lines[number - 1].strip()}")


def percentage(taken, count):
    return 100.0 * taken / count if count else 0.0


def measure(source, directory, is_detailed):
    """{directory: percentage}"""
    totals = {}
    for folder in DIRECTORIES:
        taken_sum = count_sum = 0
        for name in sorted(os.listdir(os.path.join(source, folder))):
            if not name.endswith(".c"):
                continue
            path = f"{folder}/{name}"
            branches = branches_of(source, directory, path)
            count = sum(len(counts) for counts in branches.values())
            taken = sum(n > 0 for counts in branches.values() for n in counts)
            print(f"{path:34} {taken:5} of {count:5} branches {percentage(taken, count):6.1f} %")
            if is_detailed:
                print_missed(source, path, branches)
            taken_sum += taken
            count_sum += count
        totals[folder] = percentage(taken_sum, count_sum)
        print(f"{folder:34} {taken_sum:5} of {count_sum:5} branches {totals[folder]:6.1f} %")
    return totals


def main():
    source, directory = (os.path.realpath(path) for path in sys.argv[1:3])
    build(source, directory)
    simulate(source, directory)
    totals = measure(source, directory, "--missed" in sys.argv)
    is_kept = True
    for line in open(os.path.join(source, "tests/sim/coverage.min"), encoding="utf-8"):
        if line.startswith("#"):
            continue
        folder, least = line.split()
        if totals[folder] < float(least):
            print(f"{folder}: {totals[folder]:.1f} % is below {least} % (tests/sim/coverage.min)")
            is_kept = False
    return 0 if is_kept else 1


sys.exit(main())
