"""Holds what the clients saw against what the API's states were, and counts what may not be.

Goes through all requests and SELECTs in the order of time.  A committed answer raises the floor of all that the
request changed, for every SELECT that begins later, whoever makes it; so does what a SELECT has shown.
"""

from collections import Counter, defaultdict

from .models import PAIR_BY_KEY
from .timeline import EXISTS, Timeline

KINDS = ("stale", "non_monotonic", "resurrected", "invented", "lost", "divergent", "duplicated", "confused")


class Verdict:
    """Counts and the first few anomalies of each kind: (kind, api key of the record, what)."""

    def __init__(self):
        self.count = Counter({k: 0 for k in KINDS})
        self.found = []

    def add(self, kind, key, what):
        self.count[kind] += 1
        if self.count[kind] <= 20:
            self.found.append((kind, key, what))

    @property
    def clean(self):
        return not any(self.count[k] for k in KINDS)


class Judge:
    """Judges one API's part of a history."""

    def __init__(self, changes, arrivals, lines, verdict):
        self.timeline = Timeline(changes)
        self.arrivals = arrivals
        self.writes = [w for w in lines if w["k"] == "w"]
        self.reads = [r for r in lines if r["k"] in "rl"]
        self.verdict = verdict
        self.promised = {}          # (key, field) -> (seq, op): from committed answers
        self.shown = {}             # (key, field) -> (seq, line): from SELECTs
        self.checked = 0            # rows that were looked at

    def run(self):
        events = [(w["t1"], 1, i, w) for i, w in enumerate(self.writes) if w["status"] is not None and w.get("commit") == "committed"]
        for i, r in enumerate(self.reads):
            r["seen"] = []
            events += [(r["t0"], 0, i, r), (r["t1"], 2, i, r)]
        for _, what, _, line in sorted(events, key=lambda e: e[:3]):
            (self.read, self.promise, self.remember)[what](line)
        self.answers()
        return self

    # -- floors

    def promise(self, write):
        for change in self.timeline.by_op.get(write["op"], ()):
            key = change["c"], change["id"]
            self.raise_to(self.promised, (key, EXISTS), change["seq"], write)
            for field in self.timeline.fields(change["c"]):
                if field in change["set"] and not change["implied"]:
                    self.raise_to(self.promised, (key, field), change["seq"], write)

    @staticmethod
    def raise_to(floors, where, seq, line):
        if where not in floors or floors[where][0] < seq:
            floors[where] = (seq, line)

    def remember(self, read):
        for where, seq in read["seen"]:
            self.raise_to(self.shown, where, seq, read)

    # -- SELECTs

    def read(self, read):
        for one, values in read["rows"].items():
            self.row(read, (read["c"], one), values)
        for one in read["asked"] or ():
            if one not in read["rows"]:
                self.check(read, (read["c"], one), EXISTS, False)

    def row(self, read, key, values):
        self.checked += 1
        if self.check(read, key, EXISTS, True):
            for field, value in zip(self.timeline.fields(key[0]), values):
                self.check(read, key, field, value)

    def check(self, read, key, field, value):
        """Whether the API held the value at what is known to have been seen, or later."""
        line = self.timeline.lines.get(key, {}).get(field)
        if line is None:
            if value not in (None, False):
                self.verdict.add("invented", key, self.what(read, field, value, None, None))
            return False
        promised, shown = self.promised.get((key, field)), self.shown.get((key, field))
        since = None
        for kind, floor in (("stale", promised), ("non_monotonic", shown)):
            seq = floor[0] if floor else -1
            since = line.since(value, max(seq, -1 if since is None else since), read["t1"])
            if since is None:
                kind = self.kind_of(kind, field, value, line)
                self.verdict.add(kind, key, self.what(read, field, value, floor, line))
                return False
        read["seen"].append(((key, field), since))
        return True

    @staticmethod
    def kind_of(kind, field, value, line):
        if value not in line.where:
            return "invented"
        return "resurrected" if field == EXISTS and value is True else kind

    @staticmethod
    def what(read, field, value, floor, line):
        by = floor and (floor[1].get("op") or f"a SELECT at {floor[1]['t0']:.4f}")
        return {"at": read["t0"], "field": field, "value": value, "must be": line and floor and line.at(floor[0]), "because of": by}

    # -- answers

    def answers(self):
        """Who spoke, and how often a request came."""
        came = defaultdict(list)
        for arrival in self.arrivals:
            came[arrival["op"]].append(arrival)
        for op, several in came.items():
            if len(several) > 1:
                self.verdict.add("duplicated", None, {"op": op, "arrivals": several})
        for write in self.writes:
            wrong = self.confused(write, came.get(write["op"], []))
            if wrong:
                self.verdict.add("confused", None, {"why": wrong, "request": write, "arrivals": came.get(write["op"])})

    def confused(self, write, arrivals):
        """Why this answer misleads its reader; None: it does not."""
        if write["status"] is None or write["via"] == "direct":
            return None
        if write["error"]:
            says = write["says"]
            if says.get("source") != "sequin_proxy" or says.get("code") != write["error"] or write["commit"]:
                return "an error of ours that does not say so"
            if not says["sent_upstream"] and arrivals:
                return "it says that it was not sent, and it was"
            return None
        if write["commit"] not in ("committed", "none", "deferred"):
            return "an answer without an error and without Sequin-Commit"
        if not arrivals:
            return "an answer of the API to what it never got"
        came = arrivals[0]
        if (came["status"], came["crc"]) != (write["status"], write["crc"]) and came["fault"] in (None, "status"):
            return "not the answer that the API gave"
        changed = any(not c["implied"] for c in self.timeline.by_op.get(write["op"], ()))
        if changed and write["commit"] == "none":
            return "the API accepted and changed, and Sequin-Commit is none"
        return None

    # -- at the end

    def accepted_by_proxy(self):
        """Markers of proxied requests that changed something."""
        return {w["op"] for w in self.writes if w["via"] == "proxy"} & self.timeline.by_op.keys()

    def lost(self, rows):
        """rows: {(collection, id): {field: value}} of the mirror after recovery.  What a proxied request changed last must be there."""
        proxied = self.accepted_by_proxy()
        for key, lines in self.timeline.lines.items():
            exists, have = lines[EXISTS].values[-1], rows.get(key)
            if (have is not None) != exists:
                self.miss(key, EXISTS, have is not None, lines[EXISTS], proxied)
            elif exists and key[0] not in PAIR_BY_KEY:
                for field in have.keys() & lines.keys():
                    self.miss(key, field, have[field], lines[field], proxied)

    def miss(self, key, field, value, line, proxied):
        if value != line.values[-1] and line.ops[-1] in proxied:
            self.verdict.add("lost", key, {"field": field, "value": value, "must be": line.values[-1], "because of": line.ops[-1]})
