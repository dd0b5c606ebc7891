"""How the durable write scales, one thing at a time: syncs, keys, rows, columns, sizes of bodies, of batches.

Each pair of steps is run in turns on clusters of their own; a step's CPU per request is what tells, since it is
the least noisy.  "body KB" is the API's answer and the request alike; "batch" is batch/create of so many records.
"""

import os

import load
from core import POST
from stage import add_sync, backends

KINDS = {"syncs": (1, 1000), "keys": (1, 10000), "rows": (10_000, 1_000_000), "columns": (15, 200), "body KB": (1, 1024), "batch": (1, 100)}


def write_bodies(stage):
    """Requests by what they grow in."""
    names = {}
    for name, text in (("small", '{"properties":{"firstname":"Ada","lastname":"King"}}'),
                       ("batch", '{"inputs":[' + ",".join(['{"properties":{"firstname":"Ada","lastname":"King"}}'] * 100) + "]}"),
                       ("large", '{"properties":{"firstname":"' + "x" * (1024 * 1024) + '"}}')):
        names[name] = os.path.join(stage.dir, f"{name}.json")
        with open(names[name], "w", encoding="ascii") as f:
            f.write(text)
    return names


class Step:
    """One point: a cluster, its path and what is sent there."""

    def __init__(self, stage, kind, n, origin, body, path=POST):
        self.name, self.kind, self.n, self.body = f"{n:,} {kind}", kind, n, body
        self.cluster = stage.cluster(1, True)
        self.root, self.key = add_sync(self.cluster, origin)
        self.path = self.root + path
        self.pids = self.cluster.worker_pids()

    def run(self, seconds, connections):
        return load.sample(f"http://127.0.0.1:{self.cluster.proxy_port}", "POST", self.path, lambda: self.pids, lambda: backends(self.cluster), body=self.body,
                           key=self.key, seconds=seconds, connections=connections)


def add_syncs(cluster, n):
    """They are paused, so that the run is not about their discovery."""
    with cluster.connect(autocommit=False) as db:
        db.execute("SELECT sequin.create_sync('other' || i, 'hubspot', credential => 'x', tables => '{contacts}', rate_limit => '100/10s') "
                   "FROM generate_series(2, %s) i", (n,))
        db.execute("UPDATE sequin.sync SET paused = true WHERE name <> 'crm'")


def add_keys(cluster, n):
    cluster.sql("INSERT INTO sequin.proxy_key (sync, label, hash) "
                "SELECT 'crm', 'other' || i, sha256(('other' || i)::bytea) FROM generate_series(2, %s) i", (n,))


def add_rows(cluster, n):
    columns = [r[0] for r in cluster.sql("SELECT attname FROM pg_attribute WHERE attrelid = 'crm.contact'::regclass AND attnum > 0 AND atttypid = 'text'::regtype AND attname <> 'id'")]
    cluster.sql(f"INSERT INTO crm.contact (id, _sync_updated_at, {', '.join(columns)}) SELECT (2000000000 + i)::text, now(), {', '.join(['md5(i::text)'] * len(columns))} "
                "FROM generate_series(1, %s) i", (n,))
    cluster.sql("VACUUM ANALYZE crm.contact")
    cluster.sql("CHECKPOINT")


GROWERS = {"syncs": add_syncs, "keys": add_keys, "rows": add_rows}


def steps(stage, kind, rows):
    bodies = write_bodies(stage)
    low, high = (10_000, rows) if kind == "rows" else KINDS[kind]
    for n in (low, high):
        columns = n if kind == "columns" else stage.columns
        records = n if kind == "batch" else 1
        padding = 1024 * 1024 if kind == "body KB" and n > 1 else 0
        origin = f"http://127.0.0.1:{stage.canned(columns, records, padding)}"
        body = bodies["batch" if records > 1 else "large" if padding else "small"]
        step = Step(stage, kind, n, origin, body, POST + "/batch/create" if records > 1 else POST)
        if kind in GROWERS:
            GROWERS[kind](step.cluster, n)
        yield step


def run(make_stage, rounds, seconds, rows, note, kinds=None):
    for kind in kinds or KINDS:
        with make_stage() as stage:
            pair = list(steps(stage, kind, rows))
            connections = 8 if kind in ("body KB", "batch") else 64
            for step in pair:
                step.run(1, connections)
            for r in range(rounds):
                for step in pair:
                    got = step.run(seconds, connections)
                    note("growth", step.name, r, {"req/s": got.rate, "p50": got.p50, "p99": got.p99, "CPU": got.cpu, "errors": got.errors})
