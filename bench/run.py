#!/usr/bin/env python3
"""The benchmark: everything side by side in one run on 127.0.0.1 (`make bench`, `make bench QUICK=1`).

Runs the parts, prints tables of medians, and writes results.csv, summary.txt and performance.svg to build/results.
docs/performance.md says what the parts are.  Run it as an unprivileged user, through tools/bench.sh.
"""

import argparse
import os
import tempfile

import core
from results import Results, core_table, plain_tables, target_table
from stage import ROOT, Stage

PARTS = ["core"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--quick", action="store_true", help="three short rounds")
    p.add_argument("--rounds", type=int)
    p.add_argument("--seconds", type=int, help="per case and round")
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--only", help="core: only cases with this in their name")
    p.add_argument("--out", default=os.path.join(ROOT, "build/results"))
    args = p.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 3)
    os.environ["TZ"] = "UTC"
    os.makedirs(args.out, exist_ok=True)
    results = Results()
    parts = args.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="sequin_bench_") as directory:
        if "core" in parts:
            with Stage(directory) as stage:
                core.run(stage, args.rounds, args.seconds, results.note, args.only)
    results.save(os.path.join(args.out, "results.csv"))
    with open(os.path.join(args.out, "summary.txt"), "w", encoding="utf-8") as f:
        def out(line=""):
            print(line)
            print(line, file=f)

        if results.cases("core"):
            core_table(results, out)
        plain_tables(results, out)
        target_table(results, out)


if __name__ == "__main__":
    main()
