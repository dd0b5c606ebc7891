"""One operation that a client is about to do: a request, what it is about, and what its answer teaches."""

from dataclasses import dataclass, field


@dataclass
class Operation:
    """`about`: records (key, id) and `pairs` (key, "id:id") that it names; `learn(json)` is called after a 2xx."""

    method: str
    path: str
    body: object = None
    about: list = field(default_factory=list)
    pairs: list = field(default_factory=list)
    learn: object = None

    @property
    def writes(self):
        return self.method != "GET" and not self.path.endswith(("/search", "/batch/read", "/listRecords"))


class Writer:
    """What both APIs' generators share: unique values.  `number` gives the next operation's number."""

    def __init__(self, pool, rng, number):
        self.pool = pool
        self.rng = rng
        self.number = number

    def choose(self, weights):
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def values(self, collection, n, i=0, clear=""):
        """Some of the fields, each with a value that nobody else writes; now and then one is emptied."""
        names = [f for f in (*collection.texts, *collection.numbers) if f != "email"]
        out = {}
        for name in self.rng.sample(names, self.rng.randint(1, len(names))):
            out[name] = n * 10 + i if name in collection.numbers else f"v{n}.{i}"
            if self.rng.random() < 0.02:
                out[name] = clear
        return out

    def found(self, collection, *ids):
        for one in ids:
            self.pool.add(collection.key, one)

    def lost(self, collection, *ids):
        for one in ids:
            self.pool.lose(collection.key, one)
