#!/usr/bin/env python3
"""What grows: a worker under mixed load, the sync process by the number of records.

    tools/soak.sh [--requests 1000000] [--connections 10000] [--records 10000,1000000]

The load (wrk with mix.lua against canned.py) goes in rounds, each with connections that are opened and closed and
changes of the configuration beside it.  After each round the idle worker is looked at: private memory, descriptors,
PostgreSQL's own memory contexts (all bytes, cached plans, snapshots of the configuration).  The first rounds warm it
up; the rest must be flat.  test/e2e/test_memory.py runs a short version of the same.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from cluster import Cluster, wait_until  # noqa: E402

CHANGES = 20        # of the configuration, per round


class Upstream:
    """canned.py in a process of its own."""

    def __init__(self, rows=0):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "canned.py"), str(rows)], stdout=subprocess.PIPE, text=True)
        self.origin = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait()


def make_sync(cluster, name, origin, reads=False):
    """Its API root and key."""
    config = '{"poll_interval": "1 day", "sweep_interval": "30 days"}' if reads else '{"sync": false}'
    cluster.sql("SELECT sequin.create_sync(%s, 'hubspot', credential => 'x', tables => '{contacts}', config => %s, "
                "rate_limit => '1000000/1s, search:1000000/1s', upstream_url => %s)", (name, config, origin))
    assert cluster.one("SELECT sequin.wait_for(%s, 'ready', '30s')", (name,)), cluster.sql("SELECT * FROM sequin.syncs")
    return cluster.one("SELECT sequin.api_root(%s)", (name,)), cluster.one("SELECT sequin.create_key(%s, label => 'load')", (name,))


# ---- looking at a process ----

def private_kb(pid):
    """Its own memory.  Not the kernel's Private_*: a page of shared_buffers that only this process has touched counts there."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))


def contexts(cluster, pid):
    """What PostgreSQL's allocator holds: {"total_kb", "plans", "snapshots"}."""
    before = len(cluster.log())
    cluster.sql("SELECT pg_log_backend_memory_contexts(%s)", (pid,))

    def told():
        text = cluster.log()[before:]
        return text if "Grand total" in text else None
    text = wait_until("the process tells its memory contexts", told)
    return {"total_kb": int(re.search(r"Grand total: (\d+) bytes", text)[1]) // 1024,
            "plans": len(re.findall(r"level: \d+; CachedPlanSource", text)),
            "snapshots": len(re.findall(r"level: \d+; sequin catalog", text))}


def look(cluster, pid):
    return {"private_kb": private_kb(pid), "fds": len(os.listdir(f"/proc/{pid}/fd")), **contexts(cluster, pid)}


# ---- the load ----

def run_wrk(root, key, requests, rate):
    """So many requests, about: wrk counts seconds, so a first short run tells how many there are in one.  Returns (sent, rate)."""
    url = urlsplit(root)
    env = dict(os.environ, ROOT=url.path + "/api.hubapi.com", KEY=key)
    sent = 0
    while sent < requests:
        seconds = max(1, min(600, int((requests - sent) / rate + 0.5))) if rate else 1
        out = subprocess.run(["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", os.path.join(HERE, "mix.lua"), f"http://127.0.0.1:{url.port}"],
                             env=env, capture_output=True, text=True, check=True).stdout
        n = int(re.search(r"(\d+) requests in", out)[1])
        sent, rate = sent + n, n / seconds
    return sent, rate


def churn(port, n):
    """Connections that come and go: with a request, without one, in the midst of one."""
    for i in range(n):
        with socket.create_connection(("127.0.0.1", port)) as s:
            if i % 3 == 0:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while s.recv(4096):
                    pass
            elif i % 3 == 1:
                s.sendall(b"POST /x/api.hubapi.com/crm HTTP/1.1\r\nHost: x\r\nContent-Le")


def change(cluster, name, n):
    """The configuration moves n times; ends as it began."""
    with cluster.connect() as db:
        for i in range(n):
            db.execute("SELECT sequin.create_key(%s, label => %s)", (name, f"k{i}"))
            db.execute("SELECT sequin.revoke_key(%s, %s)", (name, f"k{i}"))


def settled(cluster):
    return cluster.one("SELECT sum(connections + in_flight + queued) FROM sequin.proxy_stats") == 0


def round_of_load(cluster, name, root, key, requests, connections, changes, rate):
    beside = [threading.Thread(target=churn, args=(urlsplit(root).port, connections)),
              threading.Thread(target=change, args=(cluster, name, changes))]
    for t in beside:
        t.start()
    sent, rate = run_wrk(root, key, requests, rate)
    for t in beside:
        t.join()
    wait_until("the worker is idle", lambda: settled(cluster))
    return sent, rate


def load(cluster, origin, requests, connections, rounds, warm, changes=CHANGES, tell=None):
    """Rounds of load; [(requests so far, what the worker holds)], the warm-up's rounds left out."""
    root, key = make_sync(cluster, "soak", origin)
    pid = cluster.worker_pids()[0]
    samples, sent, rate = [], 0, 0
    for i in range(rounds):
        n, rate = round_of_load(cluster, "soak", root, key, requests // rounds, connections // rounds, changes, rate)
        sent += n
        seen = look(cluster, pid)
        if tell:
            tell(i, sent, rate, seen)
        if i >= warm:
            samples.append((sent, seen))
    assert cluster.worker_pids()[0] == pid
    return samples


def growth(samples, what):
    """By least squares, from the first sample to the last; and per request."""
    xs, ys = [s[0] for s in samples], [s[1][what] for s in samples]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)
    return slope * (xs[-1] - xs[0]), slope


def unflat(samples, memory_kb):
    """What grew: plans and snapshots by one or more, descriptors by more than kept connections do, memory by more than that."""
    most = {"private_kb": memory_kb, "total_kb": memory_kb, "fds": 64, "plans": 1, "snapshots": 1}
    return {what: (round(growth(samples, what)[0], 1), [s[1][what] for s in samples]) for what, limit in most.items()
            if growth(samples, what)[0] > limit}


# ---- the sync process ----

def backfill(cluster, records):
    """Fills a table from the list endpoint; the most that the sync process held meanwhile, in kB, and the seconds it took."""
    name = f"fill{records}"
    pid = cluster.worker_pids("sequin_proxy sync")[0]
    before = private_kb(pid)
    with Upstream(records) as up:
        began = time.monotonic()
        make_sync(cluster, name, up.origin, reads=True)
        most = before
        while not cluster.one("SELECT sequin.wait_for(%s, 'live', '0.2s')", (name,)):
            most = max(most, private_kb(pid))
            assert time.monotonic() - began < 3600, cluster.sql("SELECT * FROM sequin.sync_progress")
        took = time.monotonic() - began
        assert cluster.one(f"SELECT count(*) FROM {name}.contact") == records
        cluster.sql("SELECT sequin.drop_sync(%s, true)", (name,))
    return max(most, private_kb(pid)), took


# ---- the long version ----

def soak_worker(args):
    def tell(i, sent, rate, seen):
        print(f"round {i + 1:2}: {sent:8} requests, {rate:6.0f}/s, {seen}", flush=True)
    with Upstream() as up, Cluster() as c:
        c.wait_proxy()
        samples = load(c, up.origin, args.requests, args.connections, rounds=12, warm=2, tell=tell)
        assert c.crashes() == []
        print(c.dicts("SELECT requests, commits, deferred, accepted FROM sequin.proxy_stats")[0])
    for what in samples[0][1]:
        total, slope = growth(samples, what)
        print(f"{what:12} {total:+10.1f} over {samples[-1][0] - samples[0][0]} requests ({slope * 1000:+.4f} per 1000)")
    return unflat(samples, 2048)


def soak_sync(args):
    most = {}
    with Cluster() as c:
        c.wait_proxy()
        for records in [int(n) for n in args.records.split(",")]:
            most[records], took = backfill(c, records)
            print(f"backfill of {records} records: sync process at most {most[records]} kB, {records / took:.0f} records/s", flush=True)
    values = list(most.values())
    return {"sync process": most} if values[-1] > values[0] + 4096 else {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1000000)
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--records", default="10000,1000000")
    args = parser.parse_args()
    grew = {**soak_worker(args), **soak_sync(args)}
    print("soak: FAILED, this grew: " + str(grew) if grew else "soak: flat")
    sys.exit(1 if grew else 0)


if __name__ == "__main__":
    main()
