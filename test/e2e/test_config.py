"""Configuration: seen by the very next request when committed, never when rolled back; and the life of the workers."""

import json
import socket
import subprocess
import threading
import time
from urllib.parse import urlsplit

import pytest

from cluster import Cluster, free_port, wait_until
from conftest import HUBSPOT_TOKEN, make_sync
from fakes import Fakes
from raw import Wire, ask, request

HOST = "api.hubapi.com"
LIST = HOST + "/crm/v3/objects/contacts?limit=1"
CONTACTS = HOST + "/crm/v3/objects/contacts"


class Everybody:
    """Kept-alive connections that meet every worker, asked all at once."""

    def __init__(self, root, key, n=8):
        self.root, self.key = root, key
        self.wires = [Wire(urlsplit(root).port) for _ in range(n)]

    def ask(self, root=None, key=None, target=LIST):
        for w in self.wires:
            w.send(request(root or self.root, "GET", target, [("Sequin-Key", key or self.key)]))
        answers = {(m.status, m.get("Sequin-Error")) for m in [w.read() for w in self.wires]}
        assert len(answers) == 1, answers
        return answers.pop()

    def close(self):
        for w in self.wires:
            w.socket.close()


@pytest.fixture
def everybody(hub):
    e = Everybody(hub.client.root, hub.client.key)
    yield e
    e.close()


def post(sync, email, results=None):
    m = ask(sync.client.root, "POST", CONTACTS, [("Sequin-Key", sync.client.key), ("Content-Type", "application/json")],
            json.dumps({"properties": {"email": email}}).encode())
    if results is not None:
        results.append(m)
    return m


def in_background(sync, fake, n=3):
    """Writes that hang at the API; returns their threads and the list that their answers go to."""
    results = []
    fake.clear_log()
    fake.fault("hang", method="POST", path="objects/contacts$", times=n)
    threads = [threading.Thread(target=post, args=(sync, f"hang{i}@x.org", results), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    wait_until("the writes are at the API", lambda: len([e for e in fake.log() if e["method"] == "POST"]) == n)
    return threads, results


def code(m):
    return m.status, m.get("Sequin-Error")


# ---- changes ----

def test_both_workers_are_met(cluster, everybody):
    assert everybody.ask() == (200, None)
    assert len(cluster.worker_pids()) == 2
    wait_until("each worker has some of the connections", lambda: cluster.one("SELECT min(connections) > 0 FROM sequin.proxy_stats"))


def test_every_kind_of_change_is_seen_by_the_very_next_request_of_every_worker(cluster, hub, everybody):
    name, root, key = hub.name, hub.client.root, hub.client.key
    with cluster.connect() as db:
        def do(query, *params):
            cur = db.execute(query, params)
            return cur.fetchone()[0] if cur.description else None
        for _ in range(5):
            # the key, by function and by hand
            fresh = do("SELECT sequin.create_key(%s, label => 'fresh')", name)
            assert everybody.ask(key=fresh) == (200, None)
            do("UPDATE sequin.proxy_key SET methods = '{POST}' WHERE label = 'fresh'")
            assert everybody.ask(key=fresh) == (403, "method_not_allowed_for_key")
            do("UPDATE sequin.proxy_key SET methods = NULL, expires_at = now() - interval '1 s' WHERE label = 'fresh'")
            assert everybody.ask(key=fresh) == (403, "expired_key")
            do("UPDATE sequin.proxy_key SET expires_at = NULL WHERE label = 'fresh'")
            assert everybody.ask(key=fresh) == (200, None)
            do("CREATE TEMP TABLE kept AS SELECT * FROM sequin.proxy_key WHERE label = 'fresh'")
            do("DELETE FROM sequin.proxy_key WHERE label = 'fresh'")
            assert everybody.ask(key=fresh) == (403, "invalid_key")
            do("INSERT INTO sequin.proxy_key SELECT * FROM kept")
            assert everybody.ask(key=fresh) == (200, None)
            do("DROP TABLE kept")
            do("SELECT sequin.revoke_key(%s, 'fresh')", name)
            assert everybody.ask(key=fresh) == (403, "invalid_key")
            # the sync
            do("SELECT sequin.alter_sync(%s, auth => 'passthrough')", name)
            assert everybody.ask() == (403, "missing_key")
            do("UPDATE sequin.sync SET auth = 'key' WHERE name = %s", name)
            assert everybody.ask() == (200, None)
            do("SELECT sequin.alter_sync(%s, credential => 'wrong-token')", name)
            assert everybody.ask() == (401, None)
            do("SELECT sequin.alter_sync(%s, credential => %s)", name, HUBSPOT_TOKEN)
            assert everybody.ask() == (200, None)
            do("SELECT sequin.rotate_identifier(%s)", name)
            assert everybody.ask() == (404, "unknown_sync")
            do("UPDATE sequin.sync SET identifier = %s WHERE name = %s", urlsplit(root).path[1:], name)
            assert everybody.ask() == (200, None)
    assert everybody.ask(key=key) == (200, None)


def test_a_sync_that_is_created_renamed_and_dropped_is_known_at_once(cluster, hub, everybody):
    for i in range(5):
        other = make_sync(cluster, hub.fake, "hubspot", tables=["contacts"], wait=False)
        assert everybody.ask(other.client.root, other.client.key) == (200, None)
        cluster.sql("UPDATE sequin.sync SET name = %s WHERE name = %s", (f"renamed{i}", other.name))
        assert everybody.ask(other.client.root, other.client.key) == (200, None)
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (f"renamed{i}",))
        assert everybody.ask(other.client.root, other.client.key) == (404, "unknown_sync")


def test_a_rolled_back_change_is_never_seen(cluster, hub, everybody):
    with cluster.connect(autocommit=False) as db:
        for change in ("SELECT sequin.revoke_key(%(s)s, 'test')", "DELETE FROM sequin.proxy_key", "UPDATE sequin.sync SET auth = 'passthrough'", "SELECT sequin.drop_sync(%(s)s)",
                       "SELECT sequin.rotate_identifier(%(s)s)", "DELETE FROM sequin.sync", "TRUNCATE sequin.proxy_key", "SELECT sequin.alter_sync(%(s)s, credential => 'wrong')"):
            db.execute(change, {"s": hub.name})
            assert everybody.ask() == (200, None)
            db.rollback()
            assert everybody.ask() == (200, None)
        new = db.execute("SELECT sequin.create_key(%s)", (hub.name,)).fetchone()[0]
        assert everybody.ask(key=new) == (403, "invalid_key")
        db.execute("SAVEPOINT a")
        db.execute("DELETE FROM sequin.proxy_key")
        db.execute("ROLLBACK TO a")
        db.commit()
        assert everybody.ask(key=new) == (200, None)


def test_a_lock_on_the_configuration_holds_up_no_worker(cluster, hub, everybody):
    """The configuration cannot be read: who asks waits, or is told; /healthz and others' connections go on."""
    assert everybody.ask() == (200, None)
    with cluster.connect(autocommit=False) as lock:
        lock.execute("LOCK TABLE sequin.rate_limit IN ACCESS EXCLUSIVE MODE")
        cluster.sql("SELECT sequin.create_key(%s, label => 'more')", (hub.name,))
        wires = [Wire(cluster.proxy_port) for _ in range(8)]
        for w in wires:
            w.send(request(hub.client.root, "GET", LIST, [("Sequin-Key", hub.client.key)]))
        for _ in range(8):
            with Wire(cluster.proxy_port, timeout=3) as w:
                w.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert w.read().status == 200
        lock.rollback()
        assert {w.read().status for w in wires} == {200}
    assert everybody.ask() == (200, None)


def test_a_limit_by_hand_holds_at_once(cluster, hub, everybody):
    cluster.sql("DELETE FROM sequin.rate_limit WHERE sync = %s", (hub.name,))
    assert everybody.ask() == (200, None)
    cluster.set(sequin_proxy__queue_timeout="'200ms'")
    try:
        cluster.sql("SELECT sequin.alter_sync(%s, rate_limit => '1/1d')", (hub.name,))
        wait_until("the reload", lambda: code(ask(hub.client.root, "GET", LIST, [("Sequin-Key", hub.client.key)])) == (504, "queue_timeout"), 10)
    finally:
        cluster.set(sequin_proxy__queue_timeout="'5s'")


# ---- readiness ----

def test_a_sync_with_a_wrong_credential_is_not_ready_says_what_to_fix_and_recovers(cluster, fakes):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    cluster.set(sequin_proxy__queue_timeout="'1s'")
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], credential="wrong-secret-token", wait=False)
    try:
        def last_error():
            return cluster.one("SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,))
        wait_until("last_error is told", last_error)
        assert "credential" in last_error() and "wrong-secret-token" not in last_error()
        fakes.hubspot.clear_log()
        started = time.monotonic()
        m = wait_until("queue_timeout is reloaded", lambda: post(sync, "a@x.org"))
        error = json.loads(m.body)["error"]
        assert (code(m), error["sent_upstream"]) == ((503, "not_ready"), False)
        assert 0.9 < time.monotonic() - started < 6.5
        assert [e for e in fakes.hubspot.log() if e["method"] == "POST"] == []
        cluster.sql("SELECT sequin.alter_sync(%s, credential => %s)", (sync.name, HUBSPOT_TOKEN))
        assert cluster.one("SELECT sequin.wait_for(%s, 'ready', '20s')", (sync.name,))
        assert post(sync, "a@x.org").get("Sequin-Commit") == "committed"
        assert not last_error()
    finally:
        cluster.set(sequin_proxy__queue_timeout="'5s'")
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


# ---- workers: a cluster of our own, since these stop and break it ----

@pytest.fixture(scope="module")
def own():
    c = Cluster(workers=2, database="proxydb", settings={"sequin_proxy.queue_timeout": "'5s'", "sequin_proxy.upstream_timeout": "'4s'",
                                                         "sequin_proxy.commit_timeout": "'500ms'", "sequin_proxy.drain_timeout": "'1s'"})
    with c:
        c.wait_proxy()
        yield c
        assert c.crashes() == []


@pytest.fixture
def own_hub(own, fakes):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    return make_sync(own, fakes.hubspot, "hubspot", tables=["contacts"], name=f"own{time.monotonic_ns()}")


def health(port, path="/healthz", host="127.0.0.1"):
    try:
        with Wire(port, timeout=5) as w:
            w.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
            m = w.read()
            return m and m.status
    except OSError:
        return None


def test_a_changed_port_rebinds_without_a_restart(own):
    pids, old, new = own.worker_pids(), own.proxy_port, free_port()
    with Wire(old) as kept:
        own.set(sequin_proxy__port=new)
        wait_until("the new port answers", lambda: health(new) == 200)
        wait_until("the old port is closed", lambda: health(old) is None)
        kept.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.read().status == 200  # an open connection lives on
    own.set(sequin_proxy__listen_addresses="'127.0.0.2'")
    wait_until("the old address is closed", lambda: health(new) is None)
    with socket.create_connection(("127.0.0.2", new), 5):
        pass
    own.set(sequin_proxy__listen_addresses="'localhost'", sequin_proxy__port=old)
    wait_until("the first port answers again", lambda: health(old) == 200)
    own.wait_proxy()
    assert own.worker_pids() == pids


def test_a_port_in_use_is_loud_and_tried_again(own):
    taken = socket.create_server(("127.0.0.1", 0))
    port, old = taken.getsockname()[1], own.proxy_port
    own.set(sequin_proxy__port=port)
    wait_until("the log names the port", lambda: f"could not listen on 127.0.0.1:{port}" in own.log())
    taken.close()
    wait_until("the port is taken as soon as it is free", lambda: health(port) == 200)
    own.set(sequin_proxy__port=old)
    wait_until("back", lambda: health(old) == 200)
    own.wait_proxy()


def test_drop_extension_with_requests_in_flight_and_create_again(own, own_hub, fakes):
    threads, results = in_background(own_hub, fakes.hubspot)
    own.sql("DROP EXTENSION sequin_proxy CASCADE")
    m = ask(own_hub.client.root, "GET", LIST, [("Sequin-Key", own_hub.client.key)])
    assert code(m) == (404, "unknown_sync")
    assert health(own.proxy_port) == 503 or wait_until("unhealthy", lambda: health(own.proxy_port) == 503)
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    own.sql("CREATE EXTENSION sequin_proxy")
    wait_until("healthy", lambda: health(own.proxy_port) == 200)
    own.sql(f'DROP SCHEMA IF EXISTS "{own_hub.name}" CASCADE')
    again = make_sync(own, fakes.hubspot, "hubspot", tables=["contacts"], name="again")
    assert post(again, "again@x.org").get("Sequin-Commit") == "committed"
    for t in threads:
        t.join(25)
    assert all(code(m)[0] in (502, 503, 504) for m in results) and len(results) == 3
    own.sql("SELECT sequin.drop_sync('again', drop_tables => true)")


def test_another_database_can_be_dropped_at_any_time(own, own_hub):
    own.sql("CREATE DATABASE other")
    own.sql("DROP DATABASE other")
    assert post(own_hub, "other@x.org").get("Sequin-Commit") == "committed"
    own.sql("CREATE DATABASE copy TEMPLATE template1")
    own.sql("ALTER DATABASE copy RENAME TO copy2")
    own.sql("DROP DATABASE copy2")


def test_the_proxy_s_database_can_be_dropped_with_requests_in_flight_and_made_again(own, own_hub, fakes):
    threads, results = in_background(own_hub, fakes.hubspot)
    started = time.monotonic()
    with own.connect("postgres") as db:
        db.execute("DROP DATABASE proxydb")
        assert time.monotonic() - started < 8
        for t in threads:
            t.join(10)
        assert len(results) == 3 and all(m is None or code(m) == (503, "shutting_down") for m in results), results
        fakes.hubspot.reset()
        fakes.hubspot.config(limits="off")
        db.execute("CREATE DATABASE proxydb")
    own.sql("CREATE EXTENSION sequin_proxy")
    wait_until("the proxy serves again", lambda: health(own.proxy_port) == 200, 30)
    again = make_sync(own, fakes.hubspot, "hubspot", tables=["contacts"], name="after_drop")
    assert post(again, "again@x.org").get("Sequin-Commit") == "committed"


def test_a_fast_shutdown_ends_in_five_seconds_and_tells_who_waits(own, own_hub, fakes):
    threads, results = in_background(own_hub, fakes.hubspot)
    started = time.monotonic()
    own.stop("fast")
    assert time.monotonic() - started < 5
    for t in threads:
        t.join(5)
    assert [code(m) for m in results] == [(503, "shutting_down")] * 3
    assert all(json.loads(m.body)["error"]["sent_upstream"] is True for m in results)
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    own.start(extension=False)
    own.wait_proxy()
    assert post(own_hub, "later@x.org").get("Sequin-Commit") == "committed"


def test_a_fast_shutdown_does_not_wait_for_a_synchronous_standby_that_is_not_there(own, own_hub):
    own.set(synchronous_standby_names="'nobody'")
    results = []
    thread = threading.Thread(target=post, args=(own_hub, "nobody@x.org", results), daemon=True)
    thread.start()
    wait_until("a worker waits for the standby", lambda: own.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type LIKE 'sequin%'") > 0)
    own.settings["synchronous_standby_names"] = "''"
    own.write_settings()  # for the next start; not reloaded
    started = time.monotonic()
    own.stop("fast")
    assert time.monotonic() - started < 5
    thread.join(5)
    own.start(extension=False)
    own.wait_proxy()
    assert post(own_hub, "somebody@x.org").get("Sequin-Commit") == "committed"


# ---- TLS to the API ----

def openssl(directory, *args):
    subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, another CA, and certificates: right, of another host, expired."""
    d = tmp_path_factory.mktemp("pki")
    for ca in ("ca", "other"):
        openssl(d, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "30", "-subj", f"/CN={ca}")
    (d / "index").touch()
    (d / "ca.cnf").write_text("[ca]\ndefault_ca=c\n[c]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\npolicy=p\n[p]\ncommonName=supplied\n")
    for name, san, start, end in (("right", "IP:127.0.0.1", "20200101", "20490101"), ("host", "DNS:elsewhere.example", "20200101", "20490101"),
                                  ("expired", "IP:127.0.0.1", "20200101", "20200201")):
        (d / f"{name}.ext").write_text(f"subjectAltName={san}\n")
        openssl(d, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(d, "ca", "-batch", "-config", "ca.cnf", "-in", f"{name}.csr", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", f"{name}.pem", "-extfile", f"{name}.ext",
                "-startdate", start + "000000Z", "-enddate", end + "000000Z", "-notext")
    for f in d.iterdir():
        f.chmod(0o644)
    return d


def test_tls_to_the_api_is_verified(cluster, pki, fakes):
    import ssl
    running = []
    cluster.set(sequin_proxy__upstream_ca_file=f"'{pki}/ca.pem'")
    try:
        for name in ("right", "host", "expired"):
            f = Fakes(tls=(str(pki / f"{name}.pem"), str(pki / f"{name}.key")))
            f.hubspot.context = ssl._create_unverified_context()  # of the control plane only
            f.hubspot.config(limits="off")
            running.append(f.hubspot)
            f.hubspot.running = f
        right, host, expired = running
        wait_until("the CA file is reloaded", lambda: cluster.one("SHOW sequin_proxy.upstream_ca_file") == f"{pki}/ca.pem")
        sync = make_sync(cluster, right, "hubspot", tables=["contacts"])
        assert post(sync, "tls@x.org").get("Sequin-Commit") == "committed"

        def unreachable():
            m = ask(sync.client.root, "GET", LIST, [("Sequin-Key", sync.client.key)])
            error = json.loads(m.body).get("error", {})
            return code(m) == (502, "upstream_unreachable") and error["sent_upstream"] is False and error["message"]
        for wrong in (host, expired):
            cluster.sql("SELECT sequin.alter_sync(%s, upstream_url => %s)", (sync.name, wrong.origin))
            assert "certificate" in unreachable()
        cluster.sql("SELECT sequin.alter_sync(%s, upstream_url => %s)", (sync.name, right.origin))
        assert ask(sync.client.root, "GET", LIST, [("Sequin-Key", sync.client.key)]).status == 200
        cluster.set(sequin_proxy__upstream_ca_file=f"'{pki}/other.pem'")
        wait_until("the wrong CA is trusted no more", unreachable)
        assert not any(e["method"] == "GET" for e in host.log() + expired.log())
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))
    finally:
        cluster.set(sequin_proxy__upstream_ca_file="''")
        for hubspot in running:
            hubspot.running.stop()


def test_a_sync_that_is_made_while_the_configuration_cannot_be_read_is_discovered_soon_after(cluster, fakes):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    with cluster.connect(autocommit=False) as other:
        other.execute("LOCK TABLE sequin.proxy_key IN ACCESS EXCLUSIVE MODE")
        cluster.sql("SELECT sequin.create_sync('locked', 'hubspot', credential => %s, tables => '{contacts}', config => '{\"sync\": false}',"
                    " upstream_url => %s)", (HUBSPOT_TOKEN, fakes.hubspot.origin))
        time.sleep(0.5)         # by then every worker has tried in vain
        other.rollback()
    assert cluster.one("SELECT sequin.wait_for('locked', 'ready', '10s')")
    cluster.sql("SELECT sequin.drop_sync('locked', true)")
