"""What breaks: the API's connection, a worker, the whole cluster.  Never twice (G8), nothing lost (G4, G5)."""

import http.client
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import Cluster, wait_until
from conftest import make_sync
from crowd import Crowd

CONTACTS = "/crm/v3/objects/contacts"


def create(sync, email, **properties):
    return sync.client.post(CONTACTS, {"properties": {"email": email, **properties}})


def proxied(sync, method=None):
    """The stand-in's log without the sync process's own re-reads."""
    return [e for e in sync.fake.log() if header(e, "user-agent") != "sequin_proxy/1.0" and method in (None, e["method"])]


def header(entry, name):
    return next((v for k, v in entry["headers"] if k.lower() == name), None)


def unsettled(sync):
    return sync.cluster.dicts("SELECT id, state, method, error FROM sequin.write_log "
                              "WHERE sync = %s AND state IN ('intent', 'deferred')", (sync.name,))


def in_api(sync):
    """The API's live contacts: id -> (email, firstname)."""
    found, after = {}, ""
    while True:
        page = sync.client.get(f"{CONTACTS}?limit=100&properties=email,firstname{after}").json
        found.update({r["id"]: (r["properties"].get("email"), r["properties"].get("firstname")) for r in page["results"]})
        if "paging" not in page:
            return found
        after = "&after=" + page["paging"]["next"]["after"]


def in_mirror(sync):
    return {r["id"]: (r["email"], r["firstname"]) for r in sync.rows("contact")}


# ---- the API's connection breaks ----

# action, its arguments, status and code that the caller gets
BREAKS = [
    ("reset_before", {}, 502, "upstream_protocol_error"),
    ("reset_after", {}, 502, "upstream_protocol_error"),
    ("close_after_request", {}, 502, "upstream_protocol_error"),
    ("truncate", {}, 502, "upstream_protocol_error"),
    ("truncate_head", {}, 502, "upstream_protocol_error"),
    ("garbage", {"body": "this is not HTTP\r\n\r\n"}, 502, "upstream_protocol_error"),
    ("hang", {}, 504, "upstream_timeout"),
    ("drip", {"delay_ms": 400}, 504, "upstream_timeout"),
    ("huge", {"size": 3_000_000}, 502, "upstream_response_too_large"),
]


@pytest.fixture(scope="module")
def quick(fakes):
    """Short upstream timeouts, a small max_response_body."""
    with Cluster(workers=1, settings={
            "sequin_proxy.upstream_timeout": "'700ms'", "sequin_proxy.max_response_body": "'2MB'",
            "sequin_proxy.commit_timeout": "'300ms'", "sequin_proxy.queue_timeout": "'5s'"}) as c:
        c.wait_proxy()
        fakes.hubspot.reset()
        fakes.hubspot.config(limits="off")
        yield make_sync(c, fakes.hubspot, "hubspot", name="quick", tables=["contacts"])
        assert c.crashes() == []


def request_for(sync, method):
    """A call of that method; the record that it is about, None for a create."""
    if method == "POST":
        return lambda: create(sync, "broken@example.com"), None
    made = create(sync, "made@example.com", firstname="Before").json["id"]
    path = f"{CONTACTS}/{made}"
    if method == "PATCH":
        return lambda: sync.client.patch(path, {"properties": {"firstname": "After"}}), made
    if method == "DELETE":
        return lambda: sync.client.delete(path), made
    return lambda: sync.client.get(path), made


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("action,args,status,code", BREAKS, ids=[b[0] for b in BREAKS])
def test_a_broken_answer_is_named_and_the_request_is_sent_once(quick, action, args, status, code, method):
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, _ = request_for(quick, method)
    quick.fake.clear_log()
    quick.fake.fault(action, method=method, path="contacts", **args)
    a = call()
    quick.fake.ctl("DELETE", "fault")
    if not (method == "DELETE" and action in ("truncate", "huge")):      # a 204 has no body to break
        assert (a.status, a.error, a.commit) == (status, code, None), a
        assert a.json["error"]["sent_upstream"] is True
        assert a.json["error"]["source"] == "sequin_proxy"
    sent = [e for e in proxied(quick, method) if "contacts" in e["target"]]
    assert len(sent) <= 1 if action == "garbage" else len(sent) == 1, [(e["method"], e["target"], e["fault"]) for e in sent]


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("action", ["reset_before", "reset_after", "close_after_request"])
def test_a_kept_connection_that_breaks_is_not_written_to_twice(quick, action, method):
    """libcurl silently sends again what broke on a reused connection: here it may not."""
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, _ = request_for(quick, method)
    quick.client.get(CONTACTS + "?limit=1")        # the connection is there and kept
    quick.fake.clear_log()
    quick.fake.fault(action, method=method, path="contacts", times=-1)
    a = call()
    quick.fake.ctl("DELETE", "fault")
    assert (a.status, a.error) == (502, "upstream_protocol_error")
    assert a.json["error"]["sent_upstream"] is True
    assert len(proxied(quick, method)) == 1


def test_a_connection_that_the_api_closes_between_requests_costs_nobody_anything(quick):
    quick.fake.reset()
    quick.fake.config(limits="off")
    quick.fake.clear_log()
    quick.fake.fault("close_after_response", times=-1)
    answers = [create(quick, f"c{i}@example.com") for i in range(10)]
    quick.fake.ctl("DELETE", "fault")
    assert {(a.status, a.commit) for a in answers} == {(201, "committed")}
    assert len(proxied(quick, "POST")) == 10


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_answer_that_is_not_json_passes_and_the_record_is_read_again(quick, method):
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, made = request_for(quick, method)
    quick.fake.clear_log()
    quick.fake.fault("malformed", method=method, path="contacts")
    a = call()
    assert (a.status in (200, 201), a.commit, a.error) == (True, "deferred", None)
    assert len(proxied(quick, method)) == 1
    if made:
        wait_until("the mirror has it", lambda: in_mirror(quick)[made] == ("made@example.com", "After"))


@pytest.mark.parametrize("action", ["reset_after", "truncate", "garbage", "hang", "drip", "huge"])
def test_the_unknown_outcome_of_a_patch_finds_its_way_into_the_mirror(quick, action):
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, made = request_for(quick, "PATCH")
    args = dict(next(b[1] for b in BREAKS if b[0] == action))
    quick.fake.fault(action, method="PATCH", apply=True, **args)
    a = call()
    assert a.error in ("upstream_protocol_error", "upstream_timeout", "upstream_response_too_large")
    wait_until("the mirror has it", lambda: in_mirror(quick).get(made) == ("made@example.com", "After"))
    log = wait_until("the journal is settled", lambda: [r for r in quick.write_log() if r["request_id"] == a.json["error"]["request_id"]
                                                        and r["state"] == "resolved"])
    assert log[0]["targets"][0]["id"] == made


@pytest.mark.parametrize("action", ["reset_after", "close_after_request", "hang"])
def test_the_unknown_outcome_of_a_delete_finds_its_way_into_the_mirror(quick, action):
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, made = request_for(quick, "DELETE")
    quick.fake.fault(action, method="DELETE", apply=True)
    assert call().error is not None
    wait_until("the row is gone", lambda: made not in in_mirror(quick))


def test_a_write_that_the_api_never_carried_out_changes_nothing(quick):
    quick.fake.reset()
    quick.fake.config(limits="off")
    call, made = request_for(quick, "DELETE")
    quick.fake.fault("reset_before", method="DELETE")
    a = call()
    assert a.error == "upstream_protocol_error"
    wait_until("the journal is settled", lambda: [r for r in quick.write_log() if r["request_id"] == a.json["error"]["request_id"]
                                                  and r["state"] == "resolved"])
    assert in_mirror(quick)[made] == ("made@example.com", "Before")


def test_an_api_that_does_not_listen_is_named_and_nothing_counts_as_sent(quick, fakes):
    sync = make_sync(quick.cluster, fakes.hubspot, "hubspot", name="gone", tables=["contacts"])
    quick.cluster.sql("UPDATE sequin.sync SET upstream_url = 'http://127.0.0.1:1' WHERE name = 'gone'")
    a = create(sync, "gone@example.com")
    assert (a.status, a.error) == (502, "upstream_unreachable")
    assert a.json["error"]["sent_upstream"] is False
    assert wait_until("the journal is settled", lambda: [r["state"] for r in sync.write_log()] == ["failed"])
    quick.cluster.sql("SELECT sequin.drop_sync('gone', true)")


def test_no_transaction_or_snapshot_is_held_while_the_api_is_asked(cluster, hub):
    made = create(hub, "xmin@example.com").json["id"]
    hub.fake.fault("hang", method="PATCH", apply=True, times=1)
    seen = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "X"}}))
        wait_until("it is at the API", lambda: cluster.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 1)
        while not future.done() and len(seen) < 10:
            seen += cluster.sql("SELECT xact_start, backend_xmin, backend_xid FROM pg_stat_activity WHERE backend_type LIKE 'sequin%%'", ())
            time.sleep(0.05)
        assert cluster.one("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                           "WHERE backend_type LIKE 'sequin%%' AND l.granted AND l.locktype <> 'virtualxid'", ()) == 0
        assert future.result().error == "upstream_timeout"
    assert len(seen) >= 10 and set(seen) == {(None, None, None)}


# ---- processes die ----

class Load(Crowd):
    """Clients that create, patch and delete until stopped; knows what was acknowledged."""

    def __init__(self, sync, n=6):
        super().__init__(n)
        self.sync = sync
        self.acknowledged = {}        # id -> firstname, None: deleted; only what was `committed`
        self.unknown = set()          # ids whose last write had no answer
        self.count = 0
        self.odd = []

    def ask(self, method, path, data=None):
        try:
            a = self.sync.client.call(method, path, json=data, timeout=10)
        except (OSError, http.client.HTTPException):
            return None
        if a.error is None and a.commit != "committed" or a.error and a.error not in ("shutting_down", "upstream_protocol_error", "not_ready"):
            self.odd.append((method, path, a))
        return a if a.commit == "committed" else None

    def run(self, i):
        n = 0
        while not self.stop.is_set():
            n += 1
            a = self.ask("POST", CONTACTS, {"properties": {"email": f"l{i}x{n}x{time.monotonic_ns()}@example.com", "firstname": "new"}})
            if a is None:
                continue
            record = a.json["id"]
            self.acknowledged[record] = "new"
            for firstname in ("one", "two"):
                self.unknown.add(record)
                if self.ask("PATCH", f"{CONTACTS}/{record}", {"properties": {"firstname": firstname}}) is None:
                    break
                self.unknown.discard(record)
                self.acknowledged[record] = firstname
            else:
                if n % 3 == 0:
                    self.unknown.add(record)
                    if self.ask("DELETE", f"{CONTACTS}/{record}") is not None:
                        self.unknown.discard(record)
                        self.acknowledged[record] = None
            self.count += 1


def check_nothing_lost(load, sync):
    """Every acknowledged write is in the mirror now; the unknown ones in a moment, as the API has them."""
    mirror = in_mirror(sync)
    for record, firstname in load.acknowledged.items():
        if record in load.unknown:
            continue
        have = mirror.get(record)
        assert have is None if firstname is None else have is not None and have[1] == firstname, (record, firstname, have)
    api = in_api(sync)

    def differences():
        mirror = in_mirror(sync)
        return [(r, mirror.get(r), api.get(r), r in load.unknown) for r in load.acknowledged if mirror.get(r) != api.get(r)]
    try:
        wait_until("the writes of unknown outcome are in the mirror", lambda: not differences())
    except AssertionError:
        assert differences() == [], unsettled(sync)
    wait_until("no intent is left open", lambda: not [r for r in unsettled(sync) if r["state"] == "intent" or r["method"] != "POST"])


@pytest.fixture(scope="module")
def fragile(fakes):
    with Cluster(workers=2, settings={"sequin_proxy.upstream_timeout": "'3s'", "sequin_proxy.commit_timeout": "'500ms'"}) as c:
        c.wait_proxy()
        fakes.hubspot.reset(empty=True)
        fakes.hubspot.config(limits="off")
        yield make_sync(c, fakes.hubspot, "hubspot", name="fragile", tables=["contacts"], rate_limit="1000/1s")


def under_load(sync, disaster):
    before = sync.cluster.one("SELECT count(*) FROM sequin.write_log")
    with Load(sync) as load:
        wait_until("the load runs", lambda: load.count > 8)
        disaster()
        sync.cluster.wait_proxy()
        count = load.count
        wait_until("the load runs again", lambda: load.count > count + 8)
    assert load.odd == []
    assert sync.cluster.one("SELECT count(*) FROM sequin.write_log") > before
    check_nothing_lost(load, sync)
    return load


def test_terminated_workers_come_back_and_nothing_is_lost(fragile):
    c = fragile.cluster
    pids = c.worker_pids()

    def disaster():
        c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sequin_proxy worker'")
        wait_until("new workers", lambda: len(set(c.worker_pids()) - set(pids)) == 2)
    under_load(fragile, disaster)
    assert c.crashes() == []


def test_slots_of_a_terminated_worker_are_not_leaked(fragile):
    c = fragile.cluster
    usage = lambda: c.sql("SELECT used_by_proxy + used_by_sync, proxy_waiting FROM sequin.rate_limit_usage WHERE sync = 'fragile' AND bucket = 'default'")
    pids = c.worker_pids()
    fragile.fake.fault("delay", method="GET", times=20, delay_ms=500)
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(lambda: fragile.client.get(CONTACTS + "?limit=1")) for _ in range(20)]
        wait_until("they are at the API", lambda: c.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 20)
        c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sequin_proxy worker'")
        assert [f.result().status for f in futures] == [200] * 20
    wait_until("new workers", lambda: len(set(c.worker_pids()) - set(pids)) == 2)
    c.wait_proxy()
    wait_until("no slot is taken", lambda: usage() == [(0, 0)])


def test_a_killed_worker_restarts_the_database_and_nothing_is_lost(fragile):
    """SIGKILL of a worker is a crash restart of the cluster: new shared memory under the same postmaster."""
    c = fragile.cluster

    def disaster():
        os.kill(c.worker_pids()[0], signal.SIGKILL)
        wait_until("the database is back", lambda: alive(c))
    under_load(fragile, disaster)


def alive(c):
    try:
        return len(c.worker_pids()) == 2 and "all server processes terminated" in c.log()
    except Exception:
        return False


def test_a_write_that_was_at_the_api_when_a_worker_was_killed_is_in_the_mirror(fragile):
    c = fragile.cluster
    made = create(fragile, "cut@example.com", firstname="Before").json["id"]
    fragile.fake.fault("delay", method="PATCH", delay_ms=400, delay_after=True)

    def ask():
        try:
            return fragile.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "After"}})
        except (OSError, http.client.HTTPException):
            return None
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask)
        wait_until("it is at the API", lambda: c.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 1)
        os.kill(c.worker_pids()[0], signal.SIGKILL)
        future.result()
    wait_until("the database is back", lambda: alive(c))
    wait_until("the mirror has it", lambda: fragile.row("contact", made)["firstname"] == "After")
    wait_until("no intent is left open", lambda: not [r for r in unsettled(fragile) if r["method"] != "POST"])


def test_kill_9_of_everything_loses_no_acknowledged_write(fragile):
    c = fragile.cluster

    def disaster():
        c.kill_postmaster()
        c.start(extension=False)
    under_load(fragile, disaster)
    after = c.log().rsplit("database system was interrupted", 1)[1]
    assert "PANIC" not in after and "terminated by signal" not in after
    assert after.count("sequin_proxy: listening on") == 2        # no crash loop


def test_a_fast_stop_under_load_loses_nothing(fragile):
    under_load(fragile, lambda: fragile.cluster.restart("fast"))
    after = fragile.cluster.log().rsplit("received fast shutdown request", 1)[1]
    assert "PANIC" not in after and "terminated by signal" not in after


def test_no_secret_is_in_the_log_after_all_this(fragile, quick):
    for sync in (fragile, quick):
        assert "pat-na1-test" not in sync.cluster.log()
        assert sync.client.key not in sync.cluster.log()
