"""Which records are hot: the ids that a client process picks from, and those that are gone but still asked for."""

from collections import deque

from .models import PAIRS


class Pool:
    """Ids per collection.  Refreshed from the mirror, so that all processes quarrel about the same few."""

    def __init__(self, collections, size):
        self.size = size
        self.live = {c.key: [] for c in collections}
        self.gone = {c.key: deque(maxlen=60) for c in collections}
        self.mails = deque(maxlen=40)
        self.pairs = {p.key: deque(maxlen=40) for p in PAIRS}

    def add(self, key, record_id):
        if record_id not in self.live[key] and record_id not in self.gone[key]:
            self.live[key].append(record_id)

    def lose(self, key, record_id):
        if record_id in self.live[key]:
            self.live[key].remove(record_id)
        if record_id not in self.gone[key]:
            self.gone[key].append(record_id)

    def refresh(self, key, ids):
        """What the mirror holds now."""
        for one in set(self.live[key]) - set(ids):
            self.lose(key, one)
        for one in ids:
            self.add(key, one)

    def pick(self, rng, key, n=1, dead=0.0):
        """n different ids, fewer where there are no more; each with this chance one that is gone."""
        live = self.live[key]
        out = rng.sample(live, min(n, len(live)))
        return [rng.choice(self.gone[key]) if self.gone[key] and rng.random() < dead else one for one in out]

    def small(self, key):
        return len(self.live[key]) < self.size

    def large(self, key):
        return len(self.live[key]) > self.size * 1.3
