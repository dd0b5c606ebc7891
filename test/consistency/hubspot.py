"""The operations of HubSpot's clients, chosen by a seeded RNG: records, batches, merges, links, reads."""

from .models import HUBSPOT_TYPES
from .operation import Operation, Writer

STYLES = ("/crm/v3/objects/", "/crm/v3/objects/", "/crm/objects/2026-03/")
# (from, to): unlabelled type id, primary's type id
LINKS = {("contacts", "companies"): (279, 1), ("companies", "contacts"): (280, 2), ("deals", "contacts"): (3, None),
         ("contacts", "deals"): (4, None), ("deals", "companies"): (341, 5), ("companies", "deals"): (342, 6)}
BY_PATH = {t.path: t for t in HUBSPOT_TYPES}


def pair_of(a, a_id, b, b_id):
    """(key, "id:id") of a pair as the stand-in's history names it."""
    one, two = sorted(((BY_PATH[a].key, str(a_id)), (BY_PATH[b].key, str(b_id))))
    return f"{one[0]}:{two[0]}", f"{one[1]}:{two[1]}"


def spec(type_id):
    return {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}


class HubSpotWriter(Writer):
    """`next()` gives operation after operation."""

    def next(self):
        kind = self.rng.choice(HUBSPOT_TYPES)
        if self.pool.small(kind.key):
            return self.choose({self.create: 3, self.batch_create: 1})(kind)
        weights = {self.patch: 40, self.batch_update: 8, self.upsert: 6, self.link: 12, self.unlink: 6, self.read: 3,
                   self.search: 1, self.delete: 6, self.archive: 2, self.merge: 3, self.forget: 1,
                   self.create: 0 if self.pool.large(kind.key) else 10}
        return self.choose(weights)(kind)

    def base(self, kind):
        return self.rng.choice(STYLES) + kind.path

    def new_values(self, kind, n, i=0):
        values = {name: n * 10 + i if name in kind.numbers else f"v{n}.{i}" for name in (*kind.texts, *kind.numbers)}
        if "email" in values:
            values["email"] = f"m{n}.{i}@hot.example"
            self.pool.mails.append(values["email"])
        return values

    # -- one record

    def create(self, kind):
        n = self.number()
        op = Operation("POST", self.base(kind), {"properties": self.new_values(kind, n)})
        op.learn = lambda answer: (self.found(kind, answer["id"]), op.about.append((kind.key, answer["id"])))
        return op

    def patch(self, kind):
        one = self.pool.pick(self.rng, kind.key, dead=0.03)[0]
        return Operation("PATCH", f"{self.base(kind)}/{one}", {"properties": self.values(kind, self.number())}, [(kind.key, one)])

    def delete(self, kind):
        one = self.pool.pick(self.rng, kind.key, dead=0.03)[0]
        return Operation("DELETE", f"{self.base(kind)}/{one}", None, [(kind.key, one)], learn=lambda _: self.lost(kind, one))

    def forget(self, kind):
        if kind.path != "contacts":
            return self.delete(kind)
        one = self.pool.pick(self.rng, kind.key)[0]
        return Operation("POST", f"{self.base(kind)}/gdpr-delete", {"objectId": one}, [(kind.key, one)],
                         learn=lambda _: self.lost(kind, one))

    def merge(self, kind):
        ids = self.pool.pick(self.rng, kind.key, 2)
        op = Operation("POST", f"{self.base(kind)}/merge", {"primaryObjectId": ids[0], "objectIdToMerge": ids[-1]},
                       [(kind.key, i) for i in ids])

        def learn(answer):
            self.lost(kind, *ids)
            self.found(kind, answer["id"])
            op.about.append((kind.key, answer["id"]))
        op.learn = learn
        return op

    # -- batches

    def batch_create(self, kind):
        n = self.number()
        op = Operation("POST", self.base(kind) + "/batch/create",
                       {"inputs": [{"properties": self.new_values(kind, n, i)} for i in range(self.rng.randint(2, 4))]})
        op.learn = lambda answer: self.learn_results(op, kind, answer)
        return op

    def learn_results(self, op, kind, answer):
        for record in answer["results"]:
            self.found(kind, record["id"])
            op.about.append((kind.key, record["id"]))

    def batch_update(self, kind):
        n = self.number()
        ids = list(dict.fromkeys(self.pool.pick(self.rng, kind.key, self.rng.randint(2, 6), dead=0.01)))
        return Operation("POST", self.base(kind) + "/batch/update",
                         {"inputs": [{"id": one, "properties": self.values(kind, n, i)} for i, one in enumerate(ids)]},
                         [(kind.key, one) for one in ids])

    def upsert(self, _kind):
        kind = BY_PATH["contacts"]
        n = self.number()
        mails = [f"m{n}.0@hot.example"] if not self.pool.large(kind.key) else []
        mails += self.rng.sample(self.pool.mails, min(2, len(self.pool.mails)))
        inputs = [{"id": m, "idProperty": "email", "properties": self.values(kind, n, i)} for i, m in enumerate(mails)]
        op = Operation("POST", self.base(kind) + "/batch/upsert", {"inputs": inputs})
        op.learn = lambda answer: self.learn_results(op, kind, answer)
        return op

    def archive(self, kind):
        ids = self.pool.pick(self.rng, kind.key, 2)
        return Operation("POST", self.base(kind) + "/batch/archive", {"inputs": [{"id": i} for i in ids]},
                         [(kind.key, i) for i in ids], learn=lambda _: self.lost(kind, *ids))

    # -- links

    def two(self):
        a, b = self.rng.choice(sorted(LINKS))
        one, two = self.pool.pick(self.rng, BY_PATH[a].key), self.pool.pick(self.rng, BY_PATH[b].key)
        if not one or not two:
            return None
        # half of the time a pair that somebody has just dealt with
        key = pair_of(a, one[0], b, two[0])[0]
        if self.pool.pairs[key] and self.rng.random() < 0.5:
            ids = self.rng.choice(self.pool.pairs[key]).split(":")
            one, two = [ids[0]], [ids[1]]
            if BY_PATH[a].key > BY_PATH[b].key:
                one, two = two, one
        self.pool.pairs[key].append(pair_of(a, one[0], b, two[0])[1])
        return a, b, one[0], two[0]

    def link(self, kind):
        found = self.two()
        if found is None:
            return self.create(kind)
        a, b, one, two = found
        about = dict(pairs=[pair_of(a, one, b, two)])
        plain, primary = LINKS[a, b]
        how = self.rng.choice(("default", "put", "batch"))
        if how == "default":
            return Operation("PUT", f"/crm/v4/objects/{a}/{one}/associations/default/{b}/{two}", None, **about)
        types = [spec(primary if primary and self.rng.random() < 0.3 else plain)]
        if how == "put":
            return Operation("PUT", f"/crm/v4/objects/{a}/{one}/associations/{b}/{two}", types, **about)
        return Operation("POST", f"/crm/v4/associations/{a}/{b}/batch/create",
                         {"inputs": [{"from": {"id": one}, "to": {"id": two}, "types": types}]}, **about)

    def unlink(self, kind):
        found = self.two()
        if found is None:
            return self.create(kind)
        a, b, one, two = found
        about = dict(pairs=[pair_of(a, one, b, two)])
        primary = LINKS[a, b][1]
        if primary and self.rng.random() < 0.3:
            return Operation("POST", f"/crm/v4/associations/{a}/{b}/batch/labels/archive",
                             {"inputs": [{"from": {"id": one}, "to": {"id": two}, "types": [spec(primary)]}]}, **about)
        return Operation("DELETE", f"/crm/v4/objects/{a}/{one}/associations/{b}/{two}", None, **about)

    # -- reads through the proxy: they must change nothing, older than the mirror or not

    def read(self, kind):
        one = self.pool.pick(self.rng, kind.key, dead=0.1)[0]
        names = ",".join((*kind.texts, *kind.numbers))
        return Operation("GET", f"{self.base(kind)}/{one}?properties={names}", None, [(kind.key, one)])

    def search(self, kind):
        return Operation("POST", self.base(kind) + "/search", {"limit": 20, "properties": [*kind.texts, *kind.numbers]})
