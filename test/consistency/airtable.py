"""The operations of an Airtable base's clients, chosen by a seeded RNG."""

from .models import AIRTABLE_TABLES
from .operation import Operation, Writer

BASE = "/v0/appFakeBase000001/"


class AirtableWriter(Writer):
    """`next()` gives operation after operation."""

    def next(self):
        table = self.rng.choice(AIRTABLE_TABLES)
        if self.pool.small(table.key):
            return self.choose({self.create: 3, self.batch_create: 1})(table)
        weights = {self.patch: 40, self.put: 8, self.batch_patch: 10, self.upsert: 6, self.read: 3, self.delete: 6, self.batch_delete: 2,
                   self.create: 0 if self.pool.large(table.key) else 9}
        return self.choose(weights)(table)

    def fields(self, table, n, i=0):
        return self.values(table, n, i, clear=None)

    def whole(self, table, n, i=0):
        return {name: n * 10 + i if name in table.numbers else f"v{n}.{i}" for name in (*table.texts, *table.numbers)}

    def create(self, table):
        op = Operation("POST", BASE + table.path, {"fields": self.whole(table, self.number())})
        op.learn = lambda answer: self.learn_records(op, table, [answer])
        return op

    def learn_records(self, op, table, records):
        for record in records:
            self.found(table, record["id"])
            if (table.key, record["id"]) not in op.about:
                op.about.append((table.key, record["id"]))

    def batch_create(self, table):
        n = self.number()
        op = Operation("POST", BASE + table.path, {"records": [{"fields": self.whole(table, n, i)} for i in range(3)]})
        op.learn = lambda answer: self.learn_records(op, table, answer["records"])
        return op

    def patch(self, table, method="PATCH"):
        one = self.pool.pick(self.rng, table.key, dead=0.03)[0]
        n = self.number()
        fields = self.fields(table, n) if method == "PATCH" else {"Name": f"v{n}.0", **self.fields(table, n)}
        return Operation(method, f"{BASE}{table.path}/{one}", {"fields": fields}, [(table.key, one)])

    def put(self, table):
        return self.patch(table, "PUT")

    def batch_patch(self, table):
        n = self.number()
        ids = self.pool.pick(self.rng, table.key, self.rng.randint(2, 5))
        return Operation("PATCH", BASE + table.path, {"records": [{"id": one, "fields": self.fields(table, n, i)} for i, one in enumerate(ids)]},
                         [(table.key, one) for one in ids])

    def upsert(self, table):
        n = self.number()
        op = Operation("PATCH", BASE + table.path, {"performUpsert": {"fieldsToMergeOn": ["Name"]},
                                                    "records": [{"fields": self.whole(table, n)}]})
        op.learn = lambda answer: self.learn_records(op, table, answer["records"])
        return op if not self.pool.large(table.key) else self.batch_patch(table)

    def delete(self, table):
        one = self.pool.pick(self.rng, table.key, dead=0.03)[0]
        return Operation("DELETE", f"{BASE}{table.path}/{one}", None, [(table.key, one)], learn=lambda _: self.lost(table, one))

    def batch_delete(self, table):
        ids = self.pool.pick(self.rng, table.key, 2)
        query = "&".join(f"records[]={one}" for one in ids)
        return Operation("DELETE", f"{BASE}{table.path}?{query}", None, [(table.key, one) for one in ids],
                         learn=lambda _: self.lost(table, *ids))

    def read(self, table):
        one = self.pool.pick(self.rng, table.key, dead=0.1)[0]
        return Operation("GET", f"{BASE}{table.path}/{one}", None, [(table.key, one)])
