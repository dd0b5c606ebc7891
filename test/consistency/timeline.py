"""What the API's states were: per record and field every value in order, from the stand-in's own record.

A floor is the number (seq) of a change that somebody is known to have seen; a value is right for a reader when
the API held it at the floor or later.
"""

from bisect import bisect_right

from .models import BY_KEY, PAIR_BY_KEY, spelled

EXISTS = "(exists)"
NEVER = 1 << 62


class Line:
    """The values of one field of one record in order."""

    __slots__ = ("seqs", "times", "values", "ops", "where")

    def __init__(self, first):
        self.seqs = [-1]
        self.times = [0.0]
        self.values = [first]
        self.ops = [None]
        self.where = {first: [0]}

    def set(self, change, value):
        if value == self.values[-1] and self.seqs[-1] >= 0:
            return
        self.seqs.append(change["seq"])
        self.times.append(change["t"])
        self.values.append(value)
        self.ops.append(change["op"])
        self.where.setdefault(value, []).append(len(self.seqs) - 1)

    def since(self, value, floor, until):
        """The change by which the API came to hold the value, before this time, and held it at the floor or later; None: it did not."""
        for i in self.where.get(value, ()):
            if self.times[i] <= until and (self.seqs[i + 1] if i + 1 < len(self.seqs) else NEVER) > floor:
                return self.seqs[i]
        return None

    def at(self, floor):
        return self.values[bisect_right(self.seqs, floor) - 1]


class Timeline:
    """All lines of one stand-in, and which change each request made."""

    def __init__(self, changes):
        self.changes = changes
        self.lines = {}             # (collection, id) -> {field: Line}
        self.by_op = {}             # marker -> [change]
        for change in changes:
            self._add(change)

    def _add(self, change):
        key = change["c"], change["id"]
        if change["c"] not in BY_KEY and change["c"] not in PAIR_BY_KEY:
            return
        lines = self.lines.setdefault(key, {EXISTS: Line(False)})
        if change["op"] is not None:
            self.by_op.setdefault(change["op"], []).append(change)
        lines[EXISTS].set(change, not change["gone"])
        for field in self.fields(change["c"]):
            if field in change["set"]:
                lines.setdefault(field, Line(None)).set(change, spelled(change["set"][field]))

    @staticmethod
    def fields(collection):
        return ("labels",) if collection in PAIR_BY_KEY else tuple(BY_KEY[collection].columns)

    def story(self, key):
        """The changes of one record, for an explanation."""
        return [c for c in self.changes if (c["c"], c["id"]) == key]
