#!/usr/bin/env python3
"""The benchmark: everything side by side in one run on 127.0.0.1 (`make bench`, `make bench QUICK=1`).

Runs the parts, prints tables of medians, and writes results.csv, summary.txt and performance.svg to build/results.
docs/performance.md says what the parts are.  Run it as an unprivileged user, through tools/bench.sh.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import core
import growth
import idle
import instructions
import latency
import plot
from results import Results, core_table, growth_table, plain_tables, target_table
from stage import ROOT, Stage

PARTS = ["core", "one", "flight", "idle", "ingest", "growth", "instructions"]


def staged_parts(args, results, directory):
    """Those that need nginx, the peer and the four clusters."""
    wanted = [p for p in ("core", "one", "flight", "idle") if p in args.parts]
    if not wanted:
        return
    with Stage(directory) as stage:
        core.prepare(stage)
        if "core" in wanted:
            core.run(stage, args.rounds, args.seconds, results.note, args.only)
        if "one" in wanted:
            latency.one_connection(stage, args.rounds, 1, results.note)
        if "flight" in wanted:
            latency.in_flight(stage, args.rounds if args.quick else 3, 3 if args.quick else 4, results.note)
        if "idle" in wanted:
            idle.run(stage, 10000, 3 if args.quick else 10, results.note)


def ingest(args, results, directory):
    """ingest.py in a process and a cluster of its own."""
    out = os.path.join(directory, "ingest.json")
    subprocess.run([sys.executable, os.path.join(ROOT, "bench/ingest.py"), "--json", out, "--rounds", str(args.rounds), "--rows", "10000" if args.quick else "30000"],
                   check=True, stdout=subprocess.DEVNULL)
    with open(out, encoding="ascii") as f:
        for line in f:
            case, round_, rate = json.loads(line)
            results.note("ingest", case, round_, {"rows/s": rate})


def growing(args, results, directory):
    def make_stage():
        return Stage(tempfile.mkdtemp(dir=directory))

    rows = args.rows or (100_000 if args.quick else 1_000_000)
    growth.run(make_stage, 2 if args.quick else 3, 1 if args.quick else 2, rows, results.note, ["keys", "columns", "batch"] if args.quick else None)


def report(results, out):
    if results.cases("core"):
        core_table(results, out)
    plain_tables(results, out)
    growth_table(results, out)
    target_table(results, out)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--quick", action="store_true", help="three short rounds")
    p.add_argument("--rounds", type=int)
    p.add_argument("--seconds", type=int, help="per case and round")
    p.add_argument("--parts", type=lambda s: s.split(","), default=PARTS)
    p.add_argument("--rows", type=int, help="growth: rows of the large mirror; 10000000 takes some minutes more")
    p.add_argument("--only", help="core: only cases with this in their name")
    p.add_argument("--out", default=os.path.join(ROOT, "build/results"))
    args = p.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 3)
    os.environ["TZ"] = "UTC"
    os.makedirs(args.out, exist_ok=True)
    results, began = Results(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sequin_bench_") as directory:
        staged_parts(args, results, directory)
        if "ingest" in args.parts:
            ingest(args, results, directory)
        if "growth" in args.parts:
            growing(args, results, directory)
        if "instructions" in args.parts:
            instructions.run(directory, results.note)
            instructions.save(results, os.path.join(args.out, "instructions.csv"))
    results.save(os.path.join(args.out, "results.csv"))
    if results.cases("core"):
        with open(os.path.join(args.out, "performance.svg"), "w", encoding="utf-8") as f:
            f.write(plot.svg(results))
    with open(os.path.join(args.out, "summary.txt"), "w", encoding="utf-8") as f:
        def out(line=""):
            print(line)
            print(line, file=f)

        report(results, out)
        out(f"\n{time.monotonic() - began:.0f} s; {args.rounds} rounds of {args.seconds} s per case")


if __name__ == "__main__":
    main()
