"""Failover: a streaming pair.  The workers are where the primary is, nothing answered is lost, the limit holds across both.

One drill for all: a synchronous standby follows, the primary is killed under load and in the midst of writes, the
standby is promoted.  Its tests then ask what the drill left; the later ones go on with the new primary.
"""

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import Cluster, Standby, wait_until
from conftest import make_sync
from proxy import Client

CONTACTS = "/crm/v3/objects/contacts"
LIMIT, SECONDS = 30, 3
LIMITED = CONTACTS + "?limit=7"      # what the limited sync asks for, to be known in the API's log


def create(client, email, firstname="new", **kw):
    return client.post(CONTACTS, {"properties": {"email": email, "firstname": firstname}}, **kw)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        return True
    except OSError:
        return False


def quiet(call):
    """Its answer, None when the server went away meanwhile."""
    try:
        return call()
    except (OSError, http.client.HTTPException):
        return None


class Drill:
    """What was done before the primary died, and what was seen on the standby."""

    def __init__(self, primary, standby, fake):
        self.primary, self.standby, self.fake = primary, standby, fake
        self.acknowledged = {}      # id -> firstname: answered `committed`
        self.odd = []

    def prepare(self):
        """Syncs that the base backup does not know: one for the load, one that uses its whole limit."""
        self.sync = make_sync(self.primary, self.fake, "hubspot", name="pair", tables=["contacts"])
        self.limited = make_sync(self.primary, self.fake, "hubspot", name="limited", tables=["contacts"], rate_limit=f"{LIMIT}/{SECONDS}s, 1000/1d")
        self.primary.set(synchronous_standby_names="'standby'")
        wait_until("it is synchronous", lambda: self.primary.one("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1)
        c = self.sync.client
        self.cut = create(c, "cut@example.com", "Before").json["id"]
        self.gone = create(c, "gone@example.com").json["id"]
        self.late = create(c, "late@example.com", "Before").json["id"]
        self.on_standby = self.look_at_standby()

    def look_at_standby(self):
        s = self.standby
        return {
            "workers": s.one("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sequin%%'", ()),
            "listening": s.one("SELECT count(*) FROM sequin.proxy_stats WHERE listening"),
            "open": is_open(s.proxy_port),
            "said": [line for line in s.log().splitlines() if "sequin_proxy" in line],
        }

    def load(self, stop):
        n = 0
        while not stop.is_set():
            n += 1
            a = quiet(lambda: create(self.sync.client, f"l{n}x{time.monotonic_ns()}@example.com", f"F{n}"))
            if a is not None and a.commit == "committed":
                self.acknowledged[a.json["id"]] = f"F{n}"
            elif a is not None and a.commit != "deferred":       # a busy machine may keep the standby waiting
                self.odd.append(a)

    def defer_one(self):
        """A write whose row somebody holds: accepted and deferred, and it stays so until the primary dies."""
        self.holder = self.primary.connect(autocommit=False)
        self.holder.execute("SELECT FROM pair.contact WHERE id = %s FOR UPDATE", (self.late,))
        self.deferred = self.sync.client.patch(f"{CONTACTS}/{self.late}", {"properties": {"firstname": "After"}})

    def use_the_limit(self):
        wait_until("the limit is free", lambda: self.primary.one(
            "SELECT used_by_proxy + used_by_sync FROM sequin.rate_limit_usage WHERE sync = 'limited' AND period = %s AND bucket = 'default'", (f"{SECONDS}s",)) == 0)
        self.fake.clear_log()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: quiet(lambda: self.limited.client.get(LIMITED)), range(LIMIT)))

    def remember_the_day(self):
        """As the sync process does twice a minute; it knows of more than was sent here."""
        self.primary.sql("INSERT INTO sequin.limit_memory VALUES ('limited', 'default', 86400000000, 600, now() - interval '1 hour') "
                         "ON CONFLICT (sync, bucket, period_us) DO UPDATE SET used = excluded.used, at = excluded.at")

    def run(self):
        stop = threading.Event()
        writers = [threading.Thread(target=self.load, args=(stop,)) for _ in range(4)]
        self.defer_one()
        self.remember_the_day()
        self.use_the_limit()
        self.fake.fault("hang", method="PATCH", apply=True)
        self.fake.fault("hang", method="DELETE", apply=True)
        for t in writers:
            t.start()
        with ThreadPoolExecutor(2) as pool:
            cut = [pool.submit(quiet, lambda: self.sync.client.patch(f"{CONTACTS}/{self.cut}", {"properties": {"firstname": "After"}})),
                   pool.submit(quiet, lambda: self.sync.client.delete(f"{CONTACTS}/{self.gone}"))]
            wait_until("two writes hang at the API", lambda: self.primary.one(
                "SELECT count(*) FROM sequin.write_log WHERE state = 'intent' AND method <> 'POST'") == 2)
            wait_until("the load runs", lambda: len(self.acknowledged) > 30)
            self.primary.kill_postmaster()
            stop.set()
            self.cut_answers = [f.result() for f in cut]
        self.fake.ctl("DELETE", "fault")
        for t in writers:
            t.join()
        self.promote()

    def promote(self):
        self.standby.promote()
        began = time.monotonic()
        port = self.standby.proxy_port
        wait_until("the new primary's proxy listens", lambda: is_open(port))
        self.took = time.monotonic() - began
        for sync in (self.sync, self.limited):
            sync.cluster = self.standby
            sync.client = Client(sync.client.root.replace(str(self.primary.proxy_port), str(port)), sync.client.key)


@pytest.fixture(scope="module")
def drill(fakes):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    settings = {"sequin_proxy.commit_timeout": "'600ms'", "sequin_proxy.queue_timeout": "'10s'", "sequin_proxy.upstream_timeout": "'30s'"}
    primary = Cluster(settings=settings)
    standby = None
    try:
        primary.start()
        standby = Standby(primary).start()
        primary.wait_proxy()
        standby.wait_streaming()
        d = Drill(primary, standby, fakes.hubspot)
        d.prepare()
        d.run()
        yield d
        assert standby.crashes() == []
    finally:
        fakes.hubspot.ctl("DELETE", "fault")
        for c in (standby, primary):
            if c is not None:
                c.destroy()


def test_the_standby_has_no_worker_and_no_port(drill):
    assert drill.on_standby == {"workers": 0, "listening": 0, "open": False, "said": []}


def test_the_new_primary_never_exceeds_the_limit_that_the_old_one_had_used_up(drill):
    """The backup was taken before this sync was made: nothing in the standby's files knows of it."""
    sync = drill.limited
    end = time.monotonic() + SECONDS + 1.5
    answers = []

    def crowd():
        while time.monotonic() < end:
            answers.append(sync.client.get(LIMITED))
    threads = [threading.Thread(target=crowd) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {a.status for a in answers} == {200}, answers
    times = sorted(e["time"] for e in sync.fake.log() if e["target"] == LIMITED)
    most = max(sum(1 for t in times[i:] if t < times[i] + SECONDS) for i in range(len(times)))
    assert (len(times), most) == (LIMIT + len(answers), LIMIT)
    assert len(answers) >= LIMIT        # it did go on


def test_the_new_primary_knows_what_a_long_window_holds(drill):
    used = drill.standby.one("SELECT used_by_proxy + used_by_sync FROM sequin.rate_limit_usage WHERE sync = 'limited' AND period = '1 day'")
    left = drill.standby.one("SELECT max_requests FROM sequin.rate_limit WHERE sync = 'limited' AND period = '1 day'") - 600 - used
    drill.standby.sql("SELECT sequin.alter_sync('limited', rate_limit => %s)", (f"1000/1s, {600 + used + 5}/1d",))
    assert left > 0
    drill.standby.set(sequin_proxy__queue_timeout="'300ms'")
    wait_until("queue_timeout is short", lambda: drill.standby.one("SHOW sequin_proxy.queue_timeout") == "300ms")
    answers = [drill.limited.client.get(LIMITED) for _ in range(7)]
    assert [a.error or a.status for a in answers] == [200] * 5 + ["queue_timeout"] * 2
    drill.standby.set(sequin_proxy__queue_timeout="'10s'")


def test_every_answered_commit_is_on_the_new_primary(drill):
    rows = {r["id"]: r["firstname"] for r in drill.sync.rows("contact")}
    assert len(drill.acknowledged) > 30
    assert {i: rows.get(i) for i in drill.acknowledged} == drill.acknowledged
    assert drill.odd == []


def test_writes_that_were_at_the_api_are_resolved_there(drill):
    assert drill.cut_answers == [None, None]
    wait_until("the change is in", lambda: drill.sync.row("contact", drill.cut)["firstname"] == "After", 8)
    wait_until("the deleted row is gone", lambda: drill.sync.row("contact", drill.gone) is None, 8)


def test_a_deferred_write_is_resolved_there(drill):
    assert (drill.deferred.status, drill.deferred.commit) == (200, "deferred")
    wait_until("it is in", lambda: drill.sync.row("contact", drill.late)["firstname"] == "After", 8)
    wait_until("the journal is settled", lambda: drill.standby.one(
        "SELECT count(*) FROM sequin.write_log WHERE sync = 'pair' AND (state = 'intent' OR state = 'deferred' AND method <> 'POST')") == 0)


def test_the_new_primary_commits(drill):
    a = create(drill.sync.client, "new@example.com")
    assert (a.status, a.commit) == (201, "committed")
    assert drill.sync.row("contact", a.json["id"]) is not None
    assert drill.took < 5


# ---- a synchronous standby that is not there, and one that comes back ----

@pytest.fixture
def alone(drill):
    """The new primary, told to wait for a standby that nobody knows; commit_timeout is 600 ms."""
    c = drill.standby
    c.set(synchronous_standby_names="'nobody'")
    yield drill
    if c.running():
        c.set(synchronous_standby_names="''")


def timed(call):
    began = time.monotonic()
    return call(), time.monotonic() - began


def test_without_its_standby_a_new_write_is_refused_before_it_is_sent_and_reads_go_on(alone):
    sync = alone.sync
    sync.fake.clear_log()

    def refused():
        a, took = timed(lambda: create(sync.client, "refused@example.com"))
        assert (a.status, a.error, a.json["error"]["sent_upstream"]) == (503, "not_ready", False)
        assert took < 3
        return took > 0.2
    wait_until("the standby is waited for, as long as commit_timeout", refused)
    assert [e for e in sync.fake.log() if e["method"] == "POST"] == []
    assert sync.client.get(CONTACTS + "?limit=1").status == 200
    assert "the synchronous standby has not confirmed it" in alone.standby.log()


def standing_write(drill, firstname, while_at_the_api):
    """A write that is at the API while that is done; then its answer comes."""
    sync, c = drill.sync, drill.standby
    c.set(synchronous_standby_names="''")
    wait_until("no standby is waited for", lambda: create(sync.client, f"{firstname}{time.monotonic_ns()}@example.com").commit == "committed")
    sync.fake.fault("delay", method="PATCH", delay_ms=1500, delay_after=True)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: quiet(lambda: sync.client.patch(f"{CONTACTS}/{drill.late}", {"properties": {"firstname": firstname}})))
        wait_until("it is at the API", lambda: c.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 1)
        while_at_the_api()
        return future.result()


def test_an_accepted_write_that_the_standby_does_not_confirm_is_deferred_not_committed(drill):
    c = drill.standby
    a = standing_write(drill, "unconfirmed", lambda: c.set(synchronous_standby_names="'nobody'"))
    assert (a.status, a.commit) == (200, "deferred")
    assert drill.sync.row("contact", drill.late)["firstname"] == "unconfirmed"      # it stands here
    c.set(synchronous_standby_names="''")
    wait_until("commits are confirmed again", lambda: create(drill.sync.client, f"{time.monotonic_ns()}@example.com").commit == "committed")


def test_a_wait_for_the_standby_that_an_administrator_cancels_is_no_commit(drill):
    """PostgreSQL only warns then; the answer must not say `committed`."""
    c = drill.standby
    c.set(sequin_proxy__commit_timeout="'30s'")

    def cancel():
        c.set(synchronous_standby_names="'nobody'")
        wait_until("the worker waits for the standby", lambda: c.one(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'sequin_proxy worker'") == 1)
        c.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sequin_proxy worker'")
    a = standing_write(drill, "cancelled", cancel)
    assert (a.status, a.commit) == (200, "deferred")
    c.set(synchronous_standby_names="''")


def test_a_stop_with_many_writes_that_wait_for_the_standby_is_quick_and_calls_none_committed(drill):
    """Ends the drill: afterwards the new primary is a standby again, and has no workers."""
    c, sync = drill.standby, drill.sync
    c.set(sequin_proxy__commit_timeout="'30s'", synchronous_standby_names="''")
    sync.fake.clear_log()
    wait_until("it commits", lambda: create(sync.client, f"{time.monotonic_ns()}@example.com").commit == "committed")
    sync.fake.fault("delay", method="PATCH", times=-1, delay_ms=600, delay_after=True)
    with ThreadPoolExecutor(30) as pool:
        futures = [pool.submit(lambda i=i: quiet(lambda: sync.client.patch(f"{CONTACTS}/{i}", {"properties": {"firstname": "stop"}})))
                   for i in list(drill.acknowledged)[:30]]
        wait_until("they are at the API", lambda: c.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 30)
        c.set(synchronous_standby_names="'nobody'")
        wait_until("the worker waits for the standby", lambda: c.one(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'sequin_proxy worker'") == 1)
        _, took = timed(lambda: c.stop("fast"))
        answers = [f.result() for f in futures]
    sync.fake.ctl("DELETE", "fault")
    assert took < 5
    assert len(answers) == 30 and {a and (a.commit or a.error) for a in answers} <= {"deferred", "shutting_down", None}
    assert sum(a is not None and a.commit == "deferred" for a in answers) > 0
    c.be_standby()
    c.start()
    assert drill.look_at_standby() | {"said": []} == {"workers": 0, "listening": 0, "open": False, "said": []}
