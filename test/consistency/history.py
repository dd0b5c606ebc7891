"""What the clients saw, as JSON lines: one file per process, appended as it happens, read when all have ended.

`{"k": "w"}`: a request: op, method, path, t0, t1, status, commit, error, sent, crc, cut, via.
`{"k": "r"}`: a SELECT of records: c (collection), t0, t1, asked (ids, null: the whole table), rows {id: [values]}.
`{"k": "l"}`: the same of links: asked and rows by "id:id", values [labels].
Times are CLOCK_MONOTONIC, one clock for all processes and for the stand-ins.
"""

import json
import time

now = time.monotonic


class Writer:
    """Appends to one file."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8", buffering=1 << 16)

    def add(self, **line):
        self.file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self):
        self.file.close()


def read(paths):
    """All lines of these files."""
    out = []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            out += [json.loads(line) for line in f if line.endswith("\n")]
    return out
