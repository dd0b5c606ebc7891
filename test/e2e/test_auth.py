"""Who may ask what, and that no secret is ever shown."""

import json
import subprocess
from urllib.parse import urlsplit

import pytest

from cluster import wait_until
from conftest import AIRTABLE_BASE, HUBSPOT_TOKEN, make_sync
from raw import Wire, ask, request

HOST = "api.hubapi.com"
LIST = HOST + "/crm/v3/objects/contacts"
ROUNDS = 30  # each on a connection of its own, so that both workers are met


def key(cluster, sync, **args):
    names = "".join(f", {n} => %({n})s" for n in args)
    return cluster.one(f"SELECT sequin.create_key(%(sync)s{names})", {"sync": sync.name, **args})


def get(sync, *headers, method="GET", target=LIST, body=b""):
    return ask(sync.client.root, method, target, headers, body)


def refused(m, code):
    assert (m.status, m.get("Sequin-Error")) == (403, code), m
    error = json.loads(m.body)["error"]
    assert error["sent_upstream"] is False and error["hint"]


def both_workers(sync, n=ROUNDS):
    """Connections that both workers serve: kept open, asked by turns."""
    return [Wire(urlsplit(sync.client.root).port) for _ in range(n)]


def test_the_key_comes_as_bearer_or_sequin_key(hub):
    k = hub.client.key
    for header in (("Authorization", f"Bearer {k}"), ("authorization", f"bearer {k}"), ("Authorization", f"BEARER  {k}"), ("sequin-key", k)):
        assert get(hub, header).status == 200
    assert get(hub, ("Sequin-Key", k), ("Authorization", "Basic eA==")).status == 200
    for e in hub.fake.log():
        assert [v for n, v in e["headers"] if n.lower() == "authorization"] == [f"Bearer {HUBSPOT_TOKEN}"]
        assert all(k not in v for _, v in e["headers"]) and not any(n.lower() == "sequin-key" for n, _ in e["headers"])


def test_what_is_no_key_is_refused_before_anything_is_sent(hub):
    k = hub.client.key
    for headers in ((), [("Authorization", "")], [("Authorization", "Bearer")], [("Authorization", "Basic " + k)], [("Authorization", k)], [("Sequin-Key", "")]):
        refused(get(hub, *headers), "missing_key")
    for wrong in (k[:-1], k + "x", k.upper(), "sqk_", HUBSPOT_TOKEN, "a" * 5000, "sqk_" + "0" * 43):
        refused(get(hub, ("Authorization", f"Bearer {wrong}")), "invalid_key")
    assert hub.fake.log() == []


def test_another_sync_s_key_does_not_open_this_one(cluster, hub):
    other = make_sync(cluster, hub.fake, "hubspot", tables=["contacts"], wait=False)
    refused(get(hub, ("Sequin-Key", other.client.key)), "invalid_key")
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (other.name,))


def test_a_key_s_methods_limit_it(cluster, hub):
    k = key(cluster, hub, methods=["GET", "PATCH"])
    assert get(hub, ("Sequin-Key", k)).status == 200
    for method in ("POST", "DELETE", "HEAD", "get", "PROPFIND"):
        m = get(hub, ("Sequin-Key", k), method=method)
        assert (m.status, m.get("Sequin-Error")) == (403, "method_not_allowed_for_key")


def test_a_read_only_key_reads_by_post_too_and_writes_nothing(cluster, hub):
    k = ("Sequin-Key", key(cluster, hub, read_only=True))
    for path in ("/search", "/batch/read"):
        assert get(hub, k, ("Content-Type", "application/json"), method="POST", target=LIST + path, body=b'{"inputs":[],"limit":1}').get("Sequin-Error") is None
    assert get(hub, k).status == 200 and get(hub, k, method="HEAD").get("Sequin-Error") is None
    hub.fake.clear_log()
    for method, path in (("POST", ""), ("PATCH", "/1"), ("DELETE", "/1"), ("POST", "/batch/create"), ("POST", "/merge"), ("PUT", "/1"), ("POST", "/batch/upsert")):
        refused(get(hub, k, method=method, target=LIST + path, body=b"{}"), "read_only_key")
    assert hub.fake.log() == []


def test_a_read_only_key_may_list_airtable_records(cluster, air):
    k = ("Sequin-Key", key(cluster, air, read_only=True))
    table = f"api.airtable.com/v0/{AIRTABLE_BASE}/Product%20Inventory"
    assert get(air, k, ("Content-Type", "application/json"), method="POST", target=table + "/listRecords", body=b"{}").status == 200
    refused(get(air, k, method="POST", target=table, body=b'{"fields":{}}'), "read_only_key")


def test_an_expired_key_is_refused_and_one_that_expires_ends(cluster, hub):
    gone = key(cluster, hub, label="gone", expires_at="2001-01-01")
    refused(get(hub, ("Sequin-Key", gone)), "expired_key")
    soon = key(cluster, hub, label="soon", expires_at=cluster.one("SELECT now() + interval '1 second'"))
    assert get(hub, ("Sequin-Key", soon)).status == 200
    wait_until("the key expires", lambda: get(hub, ("Sequin-Key", soon)).get("Sequin-Error") == "expired_key", 5)


def test_a_revocation_is_seen_by_the_very_next_request_of_every_worker(cluster, hub):
    wires = both_workers(hub, 8)
    with cluster.connect() as db:
        for i in range(ROUNDS):
            k = db.execute("SELECT sequin.create_key(%s, label => %s)", (hub.name, f"k{i}")).fetchone()[0]
            for status in (200, 403):
                for wire in wires:
                    wire.send(request(hub.client.root, "GET", LIST + "?limit=1", [("Sequin-Key", k)]))
                assert [w.read().status for w in wires] == [status] * len(wires)
                if status == 200:
                    db.execute("SELECT sequin.revoke_key(%s, %s)", (hub.name, f"k{i}"))
    for w in wires:
        w.socket.close()


def test_a_connection_s_right_key_opens_nothing_for_another_one(cluster, hub):
    """What a connection has shown once is remembered: for that key alone, and its sync alone."""
    k, other = hub.client.key, make_sync(cluster, hub.fake, "hubspot", tables=["contacts"], wait=False)
    second = key(cluster, hub, methods=["POST"])
    with Wire(urlsplit(hub.client.root).port) as wire:
        def ask_again(root, k):
            wire.send(request(root, "GET", LIST, [("Sequin-Key", k)]))
            return wire.read()
        for i in range(len(k)):
            assert ask_again(hub.client.root, k).status == 200
            refused(ask_again(hub.client.root, k[:i] + ("A" if k[i] != "A" else "B") + k[i + 1:]), "invalid_key")
        refused(ask_again(hub.client.root, k[:-1]), "invalid_key")
        refused(ask_again(other.client.root, k), "invalid_key")
        refused(ask_again(hub.client.root, second), "method_not_allowed_for_key")
        assert ask_again(hub.client.root, k).status == 200
        refused(ask_again(hub.client.root, second), "method_not_allowed_for_key")
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (other.name,))


def test_a_revocation_holds_while_the_new_configuration_cannot_be_read(cluster, hub):
    """A lock keeps the workers from reading it: the old one must not decide meanwhile."""
    k = key(cluster, hub, label="locked out")
    wires = both_workers(hub, 8)

    def ask_all():
        for w in wires:
            w.send(request(hub.client.root, "GET", LIST, [("Sequin-Key", k)]))
        return {w.read().status for w in wires}
    assert ask_all() == {200}
    with cluster.connect(autocommit=False) as db:
        db.execute("LOCK TABLE sequin.rate_limit IN ACCESS EXCLUSIVE MODE")
        cluster.sql("SELECT sequin.revoke_key(%s, 'locked out')", (hub.name,))
        hub.fake.clear_log()
        assert ask_all() <= {403, 503}  # within queue_timeout
    assert hub.fake.log() == []
    assert ask_all() == {403}
    for w in wires:
        w.socket.close()


def test_passthrough_sends_the_caller_s_own_authorization(cluster, fakes):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off", tokens=[HUBSPOT_TOKEN, "caller-token"])
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], auth="passthrough")
    try:
        fakes.hubspot.clear_log()
        refused(get(sync), "missing_key")
        refused(get(sync, ("Authorization", "")), "missing_key")
        refused(get(sync, ("Sequin-Key", sync.client.key)), "missing_key")
        assert fakes.hubspot.log() == []
        assert get(sync, ("Authorization", "Bearer caller-token"), ("Sequin-Key", "x")).status == 200
        m = get(sync, ("Authorization", "Bearer nobody"))
        assert (m.status, m.get("Sequin-Error"), m.get("Sequin-Commit")) == (401, None, "none")
        log = fakes.hubspot.log()
        assert [[v for n, v in e["headers"] if n == "Authorization"] for e in log] == [["Bearer caller-token"], ["Bearer nobody"]]
        assert not any(n.lower().startswith("sequin") for e in log for n, _ in e["headers"])
        m = get(sync, ("Authorization", "Bearer caller-token"), ("Content-Type", "application/json"), method="POST", body=b'{"properties":{"email":"p@x.org"}}')
        assert (m.status, m.get("Sequin-Commit")) == (201, "committed")
        assert [r["key_label"] for r in sync.write_log()] == [None]
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def test_the_journal_tells_with_which_key_a_write_came(cluster, hub):
    other = cluster.one("SELECT sequin.create_key(%s, label => 'billing app')", (hub.name,))
    path, body = "/crm/v3/objects/contacts", {"properties": {"email": "who@x.org"}}
    assert hub.client.post(path, body).commit == "committed"
    made = hub.client.post(path, {"properties": {"email": "who2@x.org"}}, headers={"Authorization": f"Bearer {other}"})
    hub.fake.fault("reset_after", method="PATCH")
    assert hub.client.patch(f"{path}/{made.json['id']}", {"properties": {"firstname": "A"}}, headers={"Authorization": f"Bearer {other}"}).status == 502
    assert [(r["key_label"], r["method"]) for r in hub.write_log()] == [("test", "POST"), ("billing app", "POST"), ("billing app", "PATCH")]


def test_no_secret_is_shown_anywhere(cluster, fakes, tmp_path):
    secret, caller = "pat-very-secret-0815", "Bearer caller-secret-4711"
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off", tokens=[secret])
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], credential=secret)
    k = sync.client.key
    file = tmp_path / "token"
    file.write_text(secret + "\n")
    said = []
    try:
        said += [get(sync, ("Sequin-Key", k)), get(sync, ("Sequin-Key", k + "x")), get(sync, ("Sequin-Key", k), ("X-Bad", "\x01")),
                 get(sync, ("Sequin-Key", k), method="POST", body=b'{"properties":{"email":"s@x.org"}}')]
        fakes.hubspot.fault("garbage")
        said.append(get(sync, ("Authorization", f"Bearer {k}"), method="POST", body=b"{}"))
        cluster.sql("SELECT sequin.alter_sync(%s, upstream_url => 'http://127.0.0.1:1')", (sync.name,))
        said += [get(sync, ("Sequin-Key", k)), get(sync, ("Authorization", caller))]
        shown = [repr(m) for m in said] + [cluster.log()]
        shown += [repr(cluster.sql(f"SELECT x::text FROM {view} x")) for view in (
            "pg_stat_activity", "pg_settings", "sequin.write_log", "sequin.syncs", "sequin.sync", "sequin.proxy_key", "sequin.proxy_stats", "sequin.cast_error")]
        dump = subprocess.run([f"{cluster.bin}/pg_dump", "-h", cluster.dir, "-p", str(cluster.port), "-U", "postgres", cluster.database], capture_output=True, text=True, check=True).stdout
        assert "sequin.proxy_key" in dump and sync.name in dump
        shown.append(dump)
        logged = [s for s in ("create_sync", "create_key") if s in cluster.log()]
        assert logged == []  # nobody logs statements here: what follows would blame PostgreSQL
        for text in shown:
            for hidden in (secret, k, caller.split()[1]):
                assert hidden not in text
        cluster.sql("SELECT sequin.alter_sync(%s, credential => %s)", (sync.name, f"file:{file}"))
        dump = subprocess.run([f"{cluster.bin}/pg_dump", "-h", cluster.dir, "-p", str(cluster.port), "-U", "postgres", cluster.database], capture_output=True, text=True, check=True).stdout
        assert f"file:{file}" in dump and secret not in dump
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def test_the_tables_of_secrets_are_the_owner_s_alone(cluster):
    cluster.sql("CREATE ROLE nobody_special LOGIN")
    try:
        with cluster.connect(user="nobody_special") as db:
            for what in ("sequin.credential", "sequin.proxy_key", "sequin.sync"):
                with pytest.raises(Exception, match="permission denied"):
                    db.execute(f"SELECT * FROM {what}")
            for call in ("sequin.create_key('x')", "sequin.api_root('x')", "sequin.drop_sync('x')"):
                with pytest.raises(Exception, match="permission denied"):
                    db.execute(f"SELECT {call}")
    finally:
        cluster.sql("DROP ROLE nobody_special")
