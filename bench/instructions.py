"""Instruction counts of the pure cores, by callgrind: the same on every run, where seconds are not.

cores.c runs one core on a fixed input n times; the difference between two n is the count per run, start-up left
out.  bench/instructions.csv keeps the last landed figures; a run prints both and writes its own beside its other results.
"""

import csv
import os
import re
import subprocess

from stage import ROOT

LANDED = os.path.join(ROOT, "bench/instructions.csv")


def sources():
    with open(os.path.join(ROOT, "bench/cores.c"), encoding="utf-8") as f:
        line = next(l for l in f if "SRC:" in l)
    src, libs = re.search(r"SRC: (.*?)(?: LIBS: (.*))?$", line.strip()).groups()
    return src.split(), (libs or "").split()


def build(directory):
    src, libs = sources()
    program = os.path.join(directory, "cores")
    # the flags of the extension's own build
    subprocess.run(["gcc", "-std=gnu11", "-g", "-O2", "-fno-strict-aliasing", "-fwrapv", "-D_GNU_SOURCE", "-Isrc", "bench/cores.c", *src, "-o", program, *libs],
                   check=True, cwd=ROOT)
    return program


def count(program, core, n, directory):
    out = os.path.join(directory, "callgrind.out")
    subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", program, core, str(n)], check=True, cwd=ROOT,
                   capture_output=True)
    with open(out, encoding="utf-8") as f:
        return int(re.search(r"^totals: (\d+)", f.read(), re.M).group(1))


def landed():
    if not os.path.exists(LANDED):
        return {}
    with open(LANDED, encoding="ascii") as f:
        return {row["core"]: int(row["instructions"]) for row in csv.DictReader(f)}


def run(directory, note):
    program = build(directory)
    before = landed()
    names = subprocess.run([program], capture_output=True, text=True, check=False).stdout.split()
    for core in names:
        few, many = count(program, core, 10, directory), count(program, core, 110, directory)
        now = round((many - few) / 100)
        note("instructions", core, 0, {"instructions": now, **({"landed": before[core], "of landed": now / before[core]} if core in before else {})})


def save(results, path):
    with open(path, "w", encoding="ascii", newline="") as f:
        out = csv.writer(f)
        out.writerow(["core", "instructions"])
        for core in results.cases("instructions"):
            out.writerow([core, round(results.median("instructions", core, "instructions"))])
