"""When the environment fails: disk, shared memory, connections, descriptors, worker slots, clock, names, read-only.

Each fault: no wrong answer (an accepted write is `deferred` or refused before it is sent), no crash, a word in the log
or a view, and recovery by itself when the cause goes.  Elsewhere: a port in use (test_listen, test_config), locks
(test_commit), a missing standby (test_failover), what the API does (test_faults, test_sync_faults).
"""

import random
import select
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest

from cluster import Cluster, wait_until
from conftest import AIRTABLE_BASE, make_sync
from raw import Wire
from shim import Shim

CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture(scope="module")
def shim():
    made = Shim()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def frail(shim):
    """A cluster in the shim's environment, with little shared memory and few connections; commits are asynchronous by its settings."""
    with Cluster(workers=2, env=shim.env, settings={
            "max_connections": 14, "max_worker_processes": 8, "max_wal_senders": 2, "max_locks_per_transaction": 10,
            "synchronous_commit": "off", "wal_writer_delay": "'10s'", "autovacuum": "off",
            "sequin_proxy.commit_timeout": "'300ms'", "sequin_proxy.upstream_timeout": "'5s'", "sequin_proxy.connect_timeout": "'1s'",
            "sequin_proxy.queue_timeout": "'5s'"}) as c:
        c.wait_proxy()
        yield c
        assert c.crashes() == []


@pytest.fixture(scope="module")
def mirrored(frail, fakes):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    return make_sync(frail, fakes.hubspot, "hubspot", name="crm", tables=["contacts"], rate_limit="100000/1s, 1000000/1d, search:100000/1s")


@pytest.fixture(autouse=True)
def whole_again(fakes):
    yield
    fakes.hubspot.ctl("DELETE", "fault")


def noise(n=1800):
    """What neither compresses nor goes out of line."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=n))


def create(sync, firstname="x"):
    return sync.client.post(CONTACTS, {"properties": {"email": f"e{time.monotonic_ns()}@example.com", "firstname": firstname}})


def patch(sync, record, firstname):
    return sync.client.patch(f"{CONTACTS}/{record}", {"properties": {"firstname": firstname}})


def firstname(sync, record):
    row = sync.row("contact", record)
    return row and row["firstname"]


def refused(a):
    return a.error == "not_ready" and a.status == 503 and a.json["error"]["sent_upstream"] is False


def is_committing(sync):
    try:
        return create(sync).commit == "committed"
    except OSError:
        return False


def unsettled(sync):
    return sync.cluster.dicts("SELECT * FROM sequin.write_log WHERE sync = %s AND state IN ('intent', 'deferred')", (sync.name,))


def through_the_fault(sync, fault, cleared):
    """Eight writes are at the API when the fault begins, more come meanwhile; what is answered, then what is true afterwards."""
    ids = [create(sync).json["id"] for _ in range(8)]
    pids = sync.cluster.worker_pids()
    sync.fake.fault("delay", method="PATCH", times=8, delay_ms=400, delay_after=True)
    wanted = {i: noise() for i in ids}
    with ThreadPoolExecutor(8) as pool:
        at_api = [pool.submit(patch, sync, i, wanted[i]) for i in ids]
        wait_until("they are at the API", lambda: sum(e["fault"] is not None for e in sync.fake.log()) >= 8)
        sync.fake.clear_log()
        with fault:
            answers = [f.result() for f in at_api]
            late = [create(sync, noise()) for _ in range(4)]
            while not any(map(refused, late)) and len(late) < 200:      # until the journal has no room either
                late.append(create(sync))
            assert sync.client.get(f"{CONTACTS}/{ids[0]}").status == 200      # reads go on
            log = sync.cluster.log()
    cleared()
    assert {a.status for a in answers} == {200} and {a.commit for a in answers} <= {"deferred", "committed"}, answers
    for a, i in zip(answers, ids):
        if a.commit == "committed":
            assert firstname(sync, i) == wanted[i]
    assert all(a.commit in ("committed", "deferred") or refused(a) for a in late), late
    wait_until("it commits again", lambda: is_committing(sync))
    wait_until("all that was accepted is in", lambda: {i: firstname(sync, i) for i in ids} == wanted)
    made = [a.json["id"] for a in late if a.error is None]
    wait_until("so is what was created", lambda: all(firstname(sync, i) for i in made))
    wait_until("the journal is settled", lambda: not unsettled(sync))
    assert sync.cluster.worker_pids() == pids       # nobody had to be restarted
    return answers, late, log


# ---- a disk that is full ----

def test_a_full_disk_defers_or_refuses_and_all_is_well_when_there_is_space_again(mirrored, shim):
    answers, late, log = through_the_fault(mirrored, shim.failing("full"), lambda: None)
    assert any(a.commit == "deferred" for a in answers)
    assert any(refused(a) for a in late)
    assert "No space left on device" in log


# ---- shared memory for locks ----

class LockTable:
    """A session that holds every lock that the lock table has room for."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __enter__(self):
        self.db = self.cluster.connect()
        for size in (100, 1):
            for n in range(1000):
                try:
                    self.db.execute("SELECT count(pg_advisory_lock(%s, g)) FROM generate_series(1, %s) g", (n + size * 10000, size))
                except psycopg.errors.OutOfMemory:
                    break

    def __exit__(self, *exc):
        self.db.close()


def test_no_shared_memory_for_locks_defers_or_refuses_until_there_is_some(mirrored):
    answers, late, log = through_the_fault(mirrored, LockTable(mirrored.cluster), lambda: None)
    assert any(a.commit == "deferred" for a in answers)
    assert any(refused(a) for a in late)
    assert "out of shared memory" in log


# ---- connections ----

def test_clients_that_take_every_connection_leave_the_workers_theirs(mirrored):
    c = mirrored.cluster
    taken = []
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                taken.append(c.connect())
        assert is_committing(mirrored)
        taken[0].execute("SELECT sequin.alter_sync('crm', rate_limit => '99999/1s, 1000000/1d, search:99999/1s')")
        assert is_committing(mirrored)
    finally:
        for db in taken:
            db.close()
    wait_until("there is room again", lambda: quiet_sql(c) == 1)


def quiet_sql(c):
    try:
        return c.one("SELECT 1")
    except psycopg.OperationalError:
        return None


# ---- read-only ----

@pytest.mark.parametrize("how", ["system", "database"])
def test_a_database_that_is_read_only_by_default_is_still_written_to(mirrored, how):
    """It is a default: the workers set their own, as pg_dump and others do.  A standby cannot be written to: test_failover."""
    c = mirrored.cluster
    try:
        if how == "system":
            c.set(default_transaction_read_only="on")
        else:
            c.sql("ALTER DATABASE postgres SET default_transaction_read_only = on")
            c.restart()
            c.wait_proxy()
        wait_until("sessions are read-only", lambda: c.one("SHOW transaction_read_only") == "on")
        assert is_committing(mirrored)
    finally:
        c.set(default_transaction_read_only="off")
        with c.connect(options="-c default_transaction_read_only=off") as db:
            db.execute("ALTER DATABASE postgres RESET default_transaction_read_only")


# ---- the clock ----

@pytest.fixture
def clock(shim):
    yield shim.set_clock
    shim.set_clock(0)


JUMPS = [3600, -7200, 86400 * 3]


def test_the_rate_limit_holds_and_is_used_while_the_clock_jumps(frail, fakes, clock):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits={"default": [[5, 1]]}, rate_headers=False)
    sync = make_sync(frail, fakes.hubspot, "hubspot", name="paced", tables=["contacts"], rate_limit="5/1s")
    wait_until("discovery's calls are out of the window", lambda: frail.one(
        "SELECT used_by_proxy + used_by_sync FROM sequin.rate_limit_usage WHERE sync = 'paced' AND bucket = 'default'") == 0)
    fakes.hubspot.ctl("DELETE", "judge")
    answers, end = [], time.monotonic() + 4

    def run():
        while time.monotonic() < end:
            answers.append(sync.client.get(CONTACTS + "?limit=1"))
    threads = [threading.Thread(target=run) for _ in range(6)]
    for t in threads:
        t.start()
    for jump in JUMPS:
        seen = len(answers)
        clock(jump)
        wait_until("it goes on", lambda: len(answers) >= seen + 4, 5)
    for t in threads:
        t.join()
    fakes.hubspot.config(limits="off")
    frail.sql("SELECT sequin.drop_sync('paced', true)")
    assert fakes.hubspot.judge()["violation_count"] == 0
    assert {a.status for a in answers} == {200}
    assert len(answers) >= 18


def test_writes_are_committed_and_read_back_whatever_the_clock_says(frail, fakes, mirrored, clock):
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    air = make_sync(frail, fakes.airtable, "airtable", name="air")
    table = frail.one("SELECT collection FROM sequin.mirror_table WHERE sync = 'air' AND collection_name = 'Products'") or \
        frail.one("SELECT min(collection) FROM sequin.mirror_table WHERE sync = 'air'")
    mine = frail.one("SELECT table_name FROM sequin.mirror_table WHERE sync = 'air' AND collection = %s", (table,))
    row = frail.dicts("SELECT field_name, column_name FROM sequin.mirror_column WHERE sync = 'air' AND collection = %s "
                      "AND column_type = 'text' AND field_name ~ '^(Name|Title)$'", (table,))[0]
    made = air.client.post(f"/v0/{AIRTABLE_BASE}/{table}", {"fields": {row["field_name"]: "first"}})
    assert made.commit == "committed", made
    record = create(mirrored).json["id"]
    for n, jump in enumerate([*JUMPS, 0, "restarted", -7200, "restarted"]):
        if jump == "restarted":     # the new life knows how far the old one was
            frail.restart()
            frail.wait_proxy()
        else:
            clock(jump)
        a = patch(mirrored, record, f"jump{n}")
        assert (a.commit, firstname(mirrored, record)) == ("committed", f"jump{n}")
        a = air.client.patch(f"/v0/{AIRTABLE_BASE}/{table}/{made.json['id']}", {"fields": {row["field_name"]: f"jump{n}"}})
        assert (a.status, a.commit) == (200, "committed"), (jump, a)
        assert air.row(mine, made.json["id"])[row["column_name"]] == f"jump{n}", jump
    a = air.client.delete(f"/v0/{AIRTABLE_BASE}/{table}/{made.json['id']}")
    assert a.commit == "committed" and air.row(mine, made.json["id"]) is None
    frail.sql("SELECT sequin.drop_sync('air', true)")


def test_polls_sweeps_and_retries_go_on_when_the_clock_is_set_back(frail, fakes, clock):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    sync = make_sync(frail, fakes.hubspot, "hubspot", name="kept", tables=["contacts"],
                     config={"sync": True, "poll_interval": 0.3, "sweep_interval": 1.0})
    clock(3600)
    kept, gone = (create(sync).json["id"] for _ in range(2))
    assert frail.one("SELECT sequin.wait_for('kept', 'swept', '10s')")
    with frail.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM kept.contact WHERE id = %s FOR UPDATE", (kept,))
        assert patch(sync, kept, "deferred").commit == "deferred"
        clock(-3600)
        holder.rollback()
    fakes.hubspot.edit(op="archive", type="contacts", id=gone)
    new = fakes.hubspot.edit(op="create", type="contacts", properties={"firstname": "past the proxy"})["results"][0]["ids"][0]
    wait_until("the deferred write is in", lambda: firstname(sync, kept) == "deferred", 10)
    wait_until("the journal is settled", lambda: not unsettled(sync), 10)
    wait_until("a poll brought what is new", lambda: firstname(sync, new) == "past the proxy", 10)
    wait_until("a sweep took what is gone", lambda: sync.row("contact", gone) is None, 10)
    assert frail.one("SELECT sequin.wait_for('kept', 'fresh', '10s')")
    frail.sql("SELECT sequin.drop_sync('kept', true)")


# ---- names ----

def by_name(frail, fakes, name, host, **more):
    """A sync whose API is known by a name."""
    return make_sync(frail, fakes.hubspot, "hubspot", name=name, tables=["contacts"],
                     upstream_url=f"http://{host}.test:{urlsplit(fakes.hubspot.origin).port}", **more)


def test_a_name_that_does_not_resolve_is_told_and_found_again(frail, fakes, shim):
    fakes.hubspot.reset()
    sync = by_name(frail, fakes, "named", "fails")
    frail.sql("UPDATE sequin.sync SET upstream_url = replace(upstream_url, 'fails', 'fails2') WHERE name = 'named'")
    with shim.failing("dns_fail"):
        a = create(sync)
        assert (a.status, a.error, a.json["error"]["sent_upstream"]) == (502, "upstream_unreachable", False)
        assert "resolve" in a.json["error"]["message"]
    wait_until("it is found again", lambda: is_committing(sync))
    frail.sql("SELECT sequin.drop_sync('named', true)")


def test_a_resolver_that_hangs_stalls_nobody_else_and_no_shutdown(frail, fakes, mirrored, shim):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    other = make_sync(frail, fakes.hubspot, "hubspot", name="other", tables=["contacts"], config={"sync": True, "poll_interval": "1 hour"})
    hung = by_name(frail, fakes, "hung", "hangs")
    frail.sql("UPDATE sequin.sync SET upstream_url = replace(upstream_url, 'hangs', 'hangs2') WHERE name = 'hung'")
    with shim.failing("dns_hang"):
        frail.sql("SELECT sequin.create_sync('hung2', 'hubspot', credential => 'x', tables => '{contacts}', upstream_url => %s)",
                  (f"http://hangs3.test:{urlsplit(fakes.hubspot.origin).port}",))      # the sync process meets it too
        with ThreadPoolExecutor(100) as pool:
            waiting = [pool.submit(hung.client.get, CONTACTS + "?limit=1") for _ in range(100)]
            longest = 0
            while not all(f.done() for f in waiting):
                began = time.monotonic()
                assert is_committing(mirrored)
                longest = max(longest, time.monotonic() - began)
            assert {(f.result().status, f.result().error) for f in waiting} == {(502, "upstream_unreachable")}
        assert longest < 0.7, longest
        assert frail.one("SELECT sequin.wait_for('other', 'fresh', '5s')")
        assert frail.one("SELECT sequin.wait_for('hung2', 'ready', '1s')") is False
        began = time.monotonic()
        frail.restart()
        assert time.monotonic() - began < 6
        frail.wait_proxy()
    wait_until("it is found again", lambda: is_committing(hung))
    for name in ("hung", "hung2", "other"):
        frail.sql("SELECT sequin.drop_sync(%s, true)", (name,))


# ---- restarts and kills ----

def test_what_long_windows_hold_is_saved_where_a_standby_sees_it(mirrored):
    """Twice a minute, and when the sync process starts: this cluster has been restarted above."""
    c = mirrored.cluster
    c.restart()
    wait_until("it is saved", lambda: c.one("SELECT used FROM sequin.limit_memory WHERE sync = 'crm' AND bucket = 'default'"))
    assert c.sql("SELECT period_us FROM sequin.limit_memory WHERE sync = 'crm'") == [(86400000000,)]
    c.wait_proxy()

def test_an_answered_commit_is_durable_though_commits_are_asynchronous_by_default(mirrored):
    """Ends this cluster's part: its postmaster is killed with all its children right after the answers."""
    c = mirrored.cluster
    made = [create(mirrored).json["id"] for _ in range(20)]
    c.kill_postmaster()
    c.start(extension=False)
    assert [i for i in made if firstname(mirrored, i) is None] == []


# ---- descriptors ----

def test_more_clients_than_descriptors_are_told_so_and_the_database_lives(fakes):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    with Cluster(wrapper=["prlimit", "--nofile=256:256"]) as c:
        c.wait_proxy()
        sync = make_sync(c, fakes.hubspot, "hubspot", name="crm", tables=["contacts"])
        clients = []
        try:
            for _ in range(400):
                clients.append(Wire(c.proxy_port, timeout=5))
            for w in clients[:25]:      # all at once, each needs a connection to the API too
                w.send(f"GET {urlsplit(sync.client.root).path}/api.hubapi.com{CONTACTS}?limit=1 HTTP/1.1\r\nHost: x\r\nSequin-Key: {sync.client.key}\r\n\r\n")
            answers = [w.read() for w in clients[:25]]
            assert {m and m.status for m in answers} == {200}
            for n in range(4):          # the worker needs a descriptor for each new segment of WAL, or all goes down
                c.sql("SELECT pg_switch_wal()")
                w = clients[n]
                body = f'{{"properties":{{"email":"fd{n}@example.com"}}}}'
                w.send(f"POST {urlsplit(sync.client.root).path}/api.hubapi.com{CONTACTS} HTTP/1.1\r\nHost: x\r\nSequin-Key: {sync.client.key}\r\n"
                       f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
                m = w.read()
                assert (m.status, m.get("Sequin-Commit")) == (201, "committed")
            told = [w.read() for w in clients if select.select([w.socket], [], [], 0)[0]]
            told = [m for m in told if m]
            assert told and {m.status for m in told} == {503}
            assert "may not open enough files" in c.log()
        finally:
            for w in clients:
                w.__exit__()
        wait_until("it serves as before", lambda: is_committing(sync))
        assert c.crashes() == []


# ---- worker slots ----

def test_without_a_worker_slot_the_log_and_the_view_say_what_to_raise():
    with Cluster(workers=2, settings={"max_worker_processes": 2}) as c:
        wait_until("one worker listens", lambda: c.one("SELECT count(*) FROM sequin.proxy_stats WHERE listening") == 1)
        assert "too many background workers" in c.log() and "max_worker_processes" in c.log()
        missing = c.dicts("SELECT * FROM sequin.proxy_stats WHERE NOT listening")
        assert len(missing) == 1 and "max_worker_processes" in missing[0]["listen_error"]
