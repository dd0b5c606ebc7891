"""The fault points of the source, and how each is reached.

Read from src/*.c, so that a point without a test, or a test without a point, is noticed.
"""

import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = {"FAULT_POINT": "plain", "FAULT_IN_TXN": "txn", "FAULT_FAILS": "fails"}


def in_source():
    """{name: kind}; kind: "plain" (cannot fail), "txn" (an ERROR), "fails" (as the place itself can)."""
    found = {}
    for path in glob.glob(os.path.join(ROOT, "src/**/*.c"), recursive=True):
        with open(path, encoding="utf-8") as f:
            for macro, name in re.findall(r'\b(FAULT_POINT|FAULT_IN_TXN|FAULT_FAILS)\("([a-z.]+)"\)', f.read()):
                assert name not in found, f"{name} is there twice"
                found[name] = KINDS[macro]
    return found


def actions(kind):
    return ["kill", "pause", "error"] if kind != "plain" else ["kill", "pause"]


def cases():
    """(point, action); without SEQUIN_FAULTS=all only what a test run can spare."""
    every = [(name, action) for name, kind in sorted(in_source().items()) for action in actions(kind)]
    return every if os.environ.get("SEQUIN_FAULTS") == "all" else [(n, a) for n, a in every if a != "pause"]


class Arm:
    """A point of one cluster: armed by `with`, which waits at its end until the point was reached."""

    def __init__(self, cluster, point, action):
        self.directory = os.path.join(cluster.data, "sequin_faults")
        self.file = os.path.join(self.directory, point)
        self.action = action

    def arm(self):
        os.makedirs(self.directory, exist_ok=True)
        if self.action == "pause":
            with open(self.file + ".hold", "w", encoding="ascii"):
                pass
        with open(self.file + ".new", "w", encoding="ascii") as f:
            f.write(self.action)
        os.rename(self.file + ".new", self.file)

    def reached(self):
        return not os.path.exists(self.file)

    def release(self):
        for name in (self.file, self.file + ".hold"):
            if os.path.exists(name):
                os.unlink(name)
