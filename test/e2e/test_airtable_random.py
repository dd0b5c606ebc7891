"""300 random operations over three tables, many through the wrong one; then the mirror is what the API has."""

import random
import urllib.parse

from airtable_mirror import BASE, Mirror

TABLES = {"tblProducts000001": "Product Inventory", "tblABTests0000001": "A/B Tests", "tblLaunch00000001": "🚀 Launch Plan"}
OPERATIONS = 300


class Walk:
    """Random operations; remembers every record that it touched, and where it lives."""

    def __init__(self, air, seed):
        self.air = air
        self.random = random.Random(seed)
        self.where = {f"recOdd002{n:08d}": "tblABTests0000001" for n in (1, 2, 3)}
        self.where.update({f"recOdd001{n:08d}": "tblLaunch00000001" for n in (1, 2)})
        self.where.update({f"recProd{n:010d}": "tblProducts000001" for n in range(1, 11)})
        self.touched = set()

    def path(self, table):
        name = urllib.parse.quote(TABLES[table], safe="")
        return f"{BASE}/{self.random.choice([table, name])}{self.random.choice(['', '/'])}"

    def fields(self, table):
        r = self.random
        if table != "tblProducts000001":
            out = {"Name": r.choice(["", "x", "é 🚀", str(r.random())]), "Value": r.choice([None, 0, -1, 10 ** 12])}
        else:
            out = {"Name": str(r.random()), "Quantity": r.choice([0, None, 3, 2.5]), "Price": r.choice([0, 9.99, None]),
                   "In Stock?": r.choice([True, False]), "Tags": r.sample(["red", "green", "a, b"], r.randint(0, 3)),
                   "Released": r.choice([None, "2024-02-29"]), "Notes": r.choice(["", "line\n2", "'quoted'"])}
        return {k: out[k] for k in r.sample(list(out), r.randint(0, len(out)))}

    def some(self, table=None, n=1):
        ids = [i for i, t in self.where.items() if table in (None, t)]
        return self.random.sample(ids, min(n, len(ids)))

    def step(self):
        client = self.air.client
        table = self.random.choice(list(TABLES))
        method = self.random.choice(["PATCH", "PUT"])
        by_id = self.random.random() < 0.3
        what = self.random.choice(["create", "creates", "update", "update", "update", "updates", "upsert", "delete", "deletes"])
        if what == "create":
            a = client.post(self.path(table), {"fields": self.fields(table), "returnFieldsByFieldId": by_id})
            self.where[a.json["id"]] = table
        elif what == "creates":
            a = client.post(self.path(table), {"records": [{"fields": self.fields(table)} for _ in range(3)]})
            self.where.update({r["id"]: table for r in a.json["records"]})
        elif what == "update":
            rid = self.some()[0]  # through any table's path
            a = client.call(method, f"{self.path(table).rstrip('/')}/{rid}", json={
                "fields": self.fields(self.where[rid]), "returnFieldsByFieldId": by_id})
        elif what == "updates":
            a = client.call(method, self.path(table), json={"returnFieldsByFieldId": by_id, "records": [
                {"id": i, "fields": self.fields(table)} for i in self.some(table, 4)] or [{"id": "rec", "fields": {}}]})
        elif what == "upsert":
            a = client.patch(self.path(table), {"performUpsert": {"fieldsToMergeOn": ["Name"]}, "records": [
                {"fields": {**self.fields(table), "Name": self.random.choice(["merged", str(self.random.random())])}}]})
            if a.status == 200:
                self.where.update({r["id"]: table for r in a.json["records"]})
        elif what == "delete":
            ids = self.some()
            a = client.delete(f"{self.path(table).rstrip('/')}/{ids[0]}")
            self.touched.add(ids[0])
            del self.where[ids[0]]
        else:
            ids = self.some(table, 2) or ["rec"]
            a = client.delete(self.path(table) + "?" + "&".join(f"records[]={i}" for i in ids))
            for i in ids if a.status == 200 else ():
                self.touched.add(i)
                del self.where[i]
        assert (a.error, a.commit) == (None, "committed" if a.status == 200 else "none"), (what, a)
        if a.status == 200 and "delete" not in what:
            self.touched.update(r["id"] for r in a.json.get("records", [a.json]))
        return a.status


def test_the_mirror_is_what_the_api_has_after_a_random_walk(air):
    seed = random.randrange(10 ** 9)
    print("seed", seed)
    air.fake.config(inverse_bumps=False)
    walk = Walk(air, seed)
    statuses = [walk.step() for _ in range(OPERATIONS)]
    assert statuses.count(200) > OPERATIONS * 0.8, f"seed {seed}"
    assert Mirror(air).differences(walk.touched) == [], f"seed {seed}"
