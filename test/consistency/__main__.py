"""`python3 -m consistency --ops N [--seed S] [--kill]`: one run; exit status 1 when an anomaly was found."""

import argparse
import json
import random
import shutil
import sys

from . import report
from .run import Run, Settings


def main():
    p = argparse.ArgumentParser(prog="consistency", description=__doc__)
    p.add_argument("--ops", type=int, default=20000)
    p.add_argument("--seed", type=int)
    p.add_argument("--kill", action="store_true")
    p.add_argument("--processes", type=int, default=2)
    p.add_argument("--impatient", action="store_true", help="do not wait for the poll after a create without an answer")
    p.add_argument("--keep", action="store_true", help="keep the histories of a clean run too")
    args = p.parse_args()
    seed = random.SystemRandom().randrange(10 ** 9) if args.seed is None else args.seed
    settings = Settings(seed=seed, ops=args.ops, kill=args.kill, processes=args.processes, patient=not args.impatient)
    print(f"again with: {report.command(settings)}", flush=True)
    with Run(settings) as run:
        verdict = run.go()
        print("ends:", json.dumps(report.outcomes(run)))
        report.tell(run, sys.stdout)
    if verdict.clean and not args.keep:
        shutil.rmtree(run.dir)
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
