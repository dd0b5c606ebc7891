#!/usr/bin/env python3
"""Ingest: from response bytes to durable rows, against COPY (the limit) and a row-by-row client (the peer).

    tools/bench_ingest.sh [--rows 50000] [--columns 15,200] [--rounds 5] [--by probe|sync]

--by probe: mirror_apply by itself, a transaction per page of 100, in a backend (test/mirror/mirror_probe.c);
the response's bytes are in memory.  --by sync: the sync process's own backfill, from a canned HTTP server on
loopback that has its pages rendered, timed from the first page's request until all rows can be selected.
COPY is the server's own, from a text file, into the same (emptied) table; the peer is psycopg with a prepared
upsert per row and a commit per page, its pages in memory too.  fsync is on.  Prints medians of the rounds.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test/e2e"))

from cluster import Cluster, wait_until  # noqa: E402

PAGE = 100
KINDS = [("string", "text"), ("string", "text"), ("enumeration", "select"), ("number", "number"), ("datetime", "date"),
         ("bool", "booleancheckbox"), ("string", "text"), ("enumeration", "checkbox"), ("number", "number"), ("date", "date")]


def properties(columns):
    return [{"name": f"p{i:03}", "label": f"P {i}", "type": KINDS[i % 10][0], "fieldType": KINDS[i % 10][1], "archived": False,
             "hubspotDefined": False, "options": []} for i in range(columns)]


def value(rng, kind):
    type_, field = kind
    if rng.random() < 0.1:
        return None
    if type_ == "number":
        return str(rng.randrange(10**6)) if rng.random() < 0.5 else f"{rng.random() * 1000:.2f}"
    if type_ == "datetime":
        return f"2024-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:15:30.125Z"
    if type_ == "date":
        return f"2023-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    if type_ == "bool":
        return rng.choice(["true", "false"])
    if field == "checkbox":
        return "one;two;three"[:rng.choice([3, 7, 13])]
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=rng.randrange(5, 30)))


def records(rows, columns, seed=1, minute=0):
    rng = random.Random(seed)
    for n in range(rows):
        yield {"id": str(1000001 + n), "properties": {f"p{i:03}": value(rng, KINDS[i % 10]) for i in range(columns)},
               "createdAt": "2024-01-01T00:00:00.000Z", "updatedAt": f"2024-05-01T00:{minute:02}:00.000Z", "archived": False}


def pages(rows, columns, **how):
    """The list endpoint's answers, as bytes of one line each."""
    out, page = [], []
    for r in records(rows, columns, **how):
        page.append(r)
        if len(page) == PAGE:
            after = {"paging": {"next": {"after": r["id"], "link": "x"}}} if len(out) + 1 < rows // PAGE else {}
            out.append(json.dumps({"results": page, **after}, separators=(",", ":")).encode())
            page = []
    return out


# ---- the canned server ----

class Canned(asyncio.Protocol):
    """Enough of HubSpot to discover and list contacts; every answer is rendered before."""

    by_after, fixed, one = {}, {}, {}
    began = None

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            status, body = self.answer(*head.split(b" ", 2)[:2], rest[:length])
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    def answer(self, method, target, body):
        path, _, query = target.decode().partition("?")
        if path == "/__began":
            began, Canned.began = Canned.began, None  # the next run's is another
            return 200, json.dumps(began).encode()
        if path.endswith("/search"):
            return 403, b'{"status":"error","message":"this canned API has no search","category":"MISSING_SCOPES"}'
        if path.endswith("/objects/contacts/batch/read"):
            Canned.began = Canned.began or time.time()
            found = [self.one[i["id"]] for i in json.loads(body)["inputs"] if i["id"] in self.one]
            return 200, b'{"status":"COMPLETE","results":[' + b",".join(found) + b"]}"
        if path.endswith("/objects/contacts"):
            Canned.began = Canned.began or time.time()
            after = next((q[6:] for q in query.split("&") if q.startswith("after=")), "")
            return 200, self.by_after.get(after, b'{"results":[]}')
        return 200, self.fixed.get(path.rsplit("/", 2)[-2] + "/" + path.rsplit("/", 1)[-1], b'{"results":[]}')


def serve(port, rows, columns):
    after = ""
    for body in pages(rows, columns):
        Canned.by_after[after] = body
        after = json.loads(body).get("paging", {}).get("next", {}).get("after", "")
    Canned.one = {r["id"]: json.dumps(r, separators=(",", ":")).encode() for r in records(rows, columns)}
    Canned.fixed["properties/contacts"] = json.dumps({"results": properties(columns)}).encode()

    async def main():
        server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


# ---- the contestants ----

class Table:
    """The sync's contact table, its API and its pages."""

    def __init__(self, cluster, rows, columns, directory):
        ports = multiprocessing.Queue()
        self.server = multiprocessing.Process(target=serve, args=(ports, rows, columns), daemon=True)
        self.server.start()
        self.cluster, self.rows, self.columns = cluster, rows, columns
        self.origin = f"http://127.0.0.1:{ports.get()}"
        self.name = f"wide{columns}"
        self.files = {kind: os.path.join(directory, f"{kind}{columns}") for kind in ("new", "changed", "copy")}
        for kind, how in (("new", {}), ("changed", {"seed": 2, "minute": 5})):
            with open(self.files[kind], "wb") as f:
                f.writelines(p + b"\n" for p in pages(rows, columns, **how))

    def create(self, reads=False):
        """reads: the sync process fills it; else only the bench does."""
        self.cluster.sql("SELECT sequin.create_sync(%s, 'hubspot', credential => 'x', tables => '{contacts}', config => %s, "
                         "rate_limit => '1000000/1s, search:1000000/1s', upstream_url => %s)", (self.name, json.dumps({"sync": reads}), self.origin))
        assert self.cluster.one("SELECT sequin.wait_for(%s, 'ready', '60s')", (self.name,)), self.cluster.sql("SELECT * FROM sequin.syncs")

    def empty(self):
        self.cluster.sql(f"TRUNCATE {self.name}.contact")
        self.cluster.sql("CHECKPOINT")

    def count(self):
        return self.cluster.one(f"SELECT count(*) FROM {self.name}.contact")


def by_probe(table, kind):
    with table.cluster.connect() as db:
        db.execute("SET search_path = pg_catalog")
        seconds, written = db.execute("CALL public.probe_ingest(%s, 'contacts', %s, true, 0, 0)",
                                      (table.name, table.files["changed" if kind == "changed" else "new"])).fetchone()
    assert written == (0 if kind == "same" else table.rows), (kind, written)
    return seconds


def began(table):
    """When the canned server was first asked for a page since the last call of this; None: it was not."""
    return json.loads(urllib.request.urlopen(table.origin + "/__began").read())


def cpu_seconds(cluster):
    """Of the sync process: user and system."""
    with open(f"/proc/{cluster.worker_pids('sequin_proxy sync')[0]}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def by_sync(table, used):
    """A backfill by the sync process; the sync is made anew for it.  Adds its seconds of CPU to `used`."""
    began(table)
    cpu = cpu_seconds(table.cluster)
    table.cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (table.name,))
    table.create(reads=True)
    with table.cluster.connect() as db:
        live = "SELECT phase = 'live' FROM sequin.sync_progress WHERE sync = %s"
        wait_until("the table is live", lambda: db.execute(live, (table.name,)).fetchone()[0], timeout=600, interval=0.005)
    ended = time.time()
    assert table.count() == table.rows
    used.append(cpu_seconds(table.cluster) - cpu)
    return ended - began(table)


def by_copy(table):
    began = time.perf_counter()
    table.cluster.sql(f"COPY {table.name}.contact FROM '{table.files['copy']}'")
    return time.perf_counter() - began


def by_peer(table, limit):
    """A script as one would write it: parse, bind, upsert, commit per page.  Of the first `limit` rows."""
    names = [p["name"] for p in properties(table.columns)]
    columns = ["id", "created_at", "updated_at", *names]
    sets = ", ".join(f"{c} = excluded.{c}" for c in columns[1:])
    lists = {p["name"] for p in properties(table.columns) if p["fieldType"] == "checkbox"}
    sql = (f"INSERT INTO {table.name}.contact ({', '.join(columns)}, _sync_updated_at) VALUES ({', '.join(['%s'] * len(columns))}, now()) "
           f"ON CONFLICT (id) DO UPDATE SET {sets}, _sync_updated_at = now()")
    with open(table.files["new"], "rb") as f:
        bodies = [line for _, line in zip(range(limit // PAGE), f)]
    with table.cluster.connect(autocommit=False) as db:
        began = time.perf_counter()
        for body in bodies:
            for r in json.loads(body)["results"]:
                given = [r["properties"][n] if n not in lists or r["properties"][n] is None else r["properties"][n].split(";") for n in names]
                db.execute(sql, [r["id"], r["createdAt"], r["updatedAt"], *given], prepare=True)
            db.commit()
        return time.perf_counter() - began


def run(cluster, args, columns, directory):
    rows = args.rows if columns < 100 else args.rows // 5
    table = Table(cluster, rows, columns, directory)
    table.create(reads=args.by == "sync")
    got, used = {}, []

    def note(what, seconds, n=rows):
        got.setdefault(what, []).append(n / seconds)

    wait_until("the sync is at rest", lambda: args.by == "probe" or table.count() == rows, timeout=600)
    table.empty()
    by_probe(table, "new")
    cluster.sql(f"COPY {table.name}.contact TO '{table.files['copy']}'")
    for _ in range(args.rounds):
        table.empty()
        note("COPY", by_copy(table))
        table.empty()
        if args.by == "sync":
            note("sync process, backfill", by_sync(table, used))
        else:
            note("mirror_apply, new rows", by_probe(table, "new"))
            note("mirror_apply, unchanged", by_probe(table, "same"))
            note("mirror_apply, changed rows", by_probe(table, "changed"))
        table.empty()
        peer = min(rows, 3000)
        note("row-by-row client", by_peer(table, peer), peer)
    table.server.terminate()
    report(columns, rows, got, args)
    if used:
        print(f"{'CPU of the sync process, µs/row':30}{statistics.median(used) / rows * 1e6:10.1f}")
    if args.json:
        with open(args.json, "a", encoding="ascii") as f:
            f.writelines(json.dumps([f"{what}, {columns} columns", round_, rate]) + "\n" for what, rates in got.items() for round_, rate in enumerate(rates))


def report(columns, rows, got, args):
    medians = {k: statistics.median(v) for k, v in got.items()}
    print(f"\n{columns} columns, {rows} rows, medians of {args.rounds} rounds" + (
        " (response bytes in memory -> mirror_apply -> commit; no HTTP)" if args.by == "probe" else " (canned HTTP server -> sync process)"))
    print(f"{'':30}{'rows/s':>10}{'of COPY':>10}{'of peer':>10}{'min..max':>22}")
    for k, m in medians.items():
        print(f"{k:30}{m:10.0f}{m / medians['COPY']:10.2f}{m / medians['row-by-row client']:10.1f}{min(got[k]):12.0f}..{max(got[k]):.0f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rows", type=int, default=50000)
    p.add_argument("--columns", default="15,200")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--by", choices=["probe", "sync"], default="probe")
    p.add_argument("--json", help="file to which every figure goes too")
    args = p.parse_args()
    module = subprocess.run([os.path.join(ROOT, "tools/mirror_probe.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as directory, Cluster(workers=1, settings={
            "fsync": "on", "shared_buffers": "'512MB'", "max_wal_size": "'8GB'", "autovacuum": "off"}) as cluster:
        cluster.sql("CREATE PROCEDURE public.probe_ingest(text, text, text, boolean, INOUT seconds float8, INOUT written bigint) "
                    f"LANGUAGE c AS '{module}', 'probe_ingest'")
        for columns in map(int, args.columns.split(",")):
            run(cluster, args, columns, directory)


if __name__ == "__main__":
    main()
