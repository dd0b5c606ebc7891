"""Side by side: what nginx does, what we do, what a Node service does, at 64 connections.

Every round runs every case once, in the same order, so that what else the machine does meets all alike.
"""

import os
import subprocess

import load
from stage import add_sync, backends

POST, ITEM = "/crm/v3/objects/contacts", "/crm/v3/objects/contacts/%d"
BODY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "request.json")
RECORDS = 100000     # PATCHes go to so many ids


class Case:
    def __init__(self, name, port, method, path, pids, helpers=None, key=None, root=""):
        self.name, self.port, self.method, self.path = name, port, method, root + path
        self.pids, self.helpers, self.key = pids, helpers or (lambda: []), key

    def run(self, seconds, connections=64):
        body = None if self.method == "GET" else BODY
        return load.sample(f"http://127.0.0.1:{self.port}", self.method, self.path, self.pids, self.helpers, body=body, key=self.key,
                           spread=RECORDS, seconds=seconds, connections=connections)


def fixed(*pids):
    return lambda: list(pids)


class Ours:
    """One cluster with the canned API as its sync's upstream, in plain HTTP and in TLS."""

    def __init__(self, stage, workers, journal, plain, secure, cert):
        self.cluster = stage.cluster(workers, journal, **{"sequin_proxy.upstream_ca_file": f"'{cert}'"})
        self.root, self.key = add_sync(self.cluster, f"http://127.0.0.1:{plain}")
        self.tls_root, self.tls_key = add_sync(self.cluster, f"https://localhost:{secure}", "tls")
        self.pids = self.cluster.worker_pids()
        self.label = f"{workers} worker{'s' if workers > 1 else ''}, journal {'on' if journal else 'off'}"

    def case(self, what, method, path, tls=False):
        # wal writer, checkpointer and the like: what the cluster spends besides
        helpers = fixed(*backends(self.cluster))
        return Case(f"sequin_proxy {what}", self.cluster.proxy_port, method, path, fixed(*self.pids), helpers, self.tls_key if tls else self.key,
                    self.tls_root if tls else self.root)


def prepare(stage):
    """Starts the contestants and checks them; leaves the cases on the stage, in the order in which a round runs them."""
    plain, secure, cert = stage.upstream()
    proxy, port, tls_port = stage.reverse_proxy(plain, secure, cert)
    ours = {(w, j): Ours(stage, w, j, plain, secure, cert) for w in (1, 2) for j in (False, True)}
    peer_db = ours[1, False].cluster
    peer, peer_port = stage.peer(plain, peer_db)
    peer_backends = lambda: backends(peer_db)     # its pool opens connections as it goes
    stage.upstreams, stage.plain, stage.ours, stage.peer_port, stage.reverse = (plain, secure, cert), plain, ours, peer_port, (proxy, port)
    stage.cases = [
        Case("nginx GET", port, "GET", ITEM, fixed(proxy)),
        ours[1, False].case("GET, 1 worker", "GET", ITEM),
        Case("nginx POST", port, "POST", POST, fixed(proxy)),
        ours[1, False].case("POST, 1 worker, journal off", "POST", POST),
        ours[1, True].case("POST, 1 worker, journal on", "POST", POST),
        ours[2, False].case("POST, 2 workers, journal off", "POST", POST),
        ours[2, True].case("POST, 2 workers, journal on", "POST", POST),
        Case("Node peer POST", peer_port, "POST", POST, fixed(peer), peer_backends),
        Case("nginx PATCH", port, "PATCH", ITEM, fixed(proxy)),
        ours[1, False].case("PATCH, 1 worker, journal off", "PATCH", ITEM),
        ours[1, True].case("PATCH, 1 worker, journal on", "PATCH", ITEM),
        ours[2, True].case("PATCH, 2 workers, journal on", "PATCH", ITEM),
        Case("Node peer PATCH", peer_port, "PATCH", ITEM, fixed(peer), peer_backends),
        Case("nginx POST, TLS upstream", tls_port, "POST", POST, fixed(proxy)),
        ours[1, True].case("GET, TLS upstream", "GET", ITEM, tls=True),
        ours[1, True].case("POST, TLS upstream, journal on", "POST", POST, tls=True),
    ]
    check(stage)


def check(stage):
    """That the cases do what their names say: a write answered `committed`, a read `none`, the peer's row there."""
    for o in stage.ours.values():
        for method, want in (("POST", "committed"), ("GET", "none")):
            path = POST if method == "POST" else ITEM.replace("%d", "1")
            done = subprocess.run(["curl", "-si", "-X", method, f"http://127.0.0.1:{o.cluster.proxy_port}{o.root}{path}", "-H", f"Authorization: Bearer {o.key}",
                                   *(["-H", "Content-Type: application/json", "--data-binary", f"@{BODY}"] if method == "POST" else [])],
                                  capture_output=True, text=True, check=True).stdout
            assert f"sequin-commit: {want}" in done.lower(), f"{o.label}: {method} should be {want}:\n{done}"
        journalled = o.cluster.one("SELECT count(*) FROM sequin.write_log")
        assert (journalled > 0) == o.label.endswith("on"), f"{o.label}: {journalled} rows in the journal"
    url = f"http://127.0.0.1:{stage.peer_port}{POST}"
    subprocess.run(["curl", "-sf", "-o", "/dev/null", url, "-H", "Content-Type: application/json", "--data-binary", f"@{BODY}"], check=True)
    assert stage.ours[1, False].cluster.one("SELECT count(*) FROM peer.contact") == 1


def run(stage, rounds, seconds, note, only=None):
    chosen = [c for c in stage.cases if not only or only in c.name]
    for case in chosen:
        case.run(1)              # connections, plans and caches are warm from here on
    for r in range(rounds):
        for o in stage.ours.values():
            o.cluster.sql("CHECKPOINT")
        for case in chosen:
            note("core", case.name, r, case.run(seconds))
    for o in stage.ours.values():
        assert not o.cluster.crashes(), o.cluster.crashes()
