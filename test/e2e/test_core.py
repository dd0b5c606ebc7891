"""The core's seams: what one exchange may do to another, to the journal, and to a worker that stops."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import Cluster, wait_until
from conftest import AIRTABLE_BASE, make_sync
from raw import ask

HOST = "api.hubapi.com"
CONTACTS = "/crm/v3/objects/contacts"


def create(sync, email, **properties):
    return sync.client.post(CONTACTS, {"properties": {"email": email, **properties}})


def unsettled(cluster):
    return cluster.dicts("SELECT id, state, error FROM sequin.write_log WHERE state IN ('intent', 'deferred')")


def connections_to(port):
    """Established TCP connections of clients to that port of 127.0.0.1 or ::1."""
    n = 0
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(path, encoding="ascii") as f:
            n += sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in f)
    return n


@pytest.fixture(scope="module")
def brittle(fakes):
    """One worker whose freed memory is overwritten, so that a use after free shows at once."""
    os.environ["MALLOC_PERTURB_"] = "165"
    c = Cluster(workers=1, settings={
        "sequin_proxy.commit_timeout": "'500ms'",
        "sequin_proxy.upstream_timeout": "'2s'",
        "sequin_proxy.drain_timeout": "'1s'",
        "max_prepared_transactions": 5,
    })
    try:
        with c:
            c.wait_proxy()
            yield c
            assert c.crashes() == []
    finally:
        del os.environ["MALLOC_PERTURB_"]


@pytest.fixture
def people(brittle, fakes):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    sync = make_sync(brittle, fakes.hubspot, "hubspot", tables=["contacts"])
    fakes.hubspot.clear_log()
    yield sync
    brittle.sql("DELETE FROM sequin.sync WHERE name LIKE %s", (sync.name + "%",))
    brittle.sql("DELETE FROM sequin.write_log", ())


@pytest.fixture
def base(brittle, fakes):
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    sync = make_sync(brittle, fakes.airtable, "airtable")
    fakes.airtable.clear_log()
    yield sync
    brittle.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))
    brittle.sql("DELETE FROM sequin.write_log", ())


# ---- the journal ----

@pytest.mark.parametrize("record_id", ["1\0", "\0", "\ud800"])
def test_an_id_that_no_database_can_hold_is_passed_on_like_any_other(people, record_id):
    a = people.client.post(CONTACTS + "/batch/update", {"inputs": [{"id": record_id, "properties": {"firstname": "x"}}]})
    assert a.error is None, a
    assert create(people, "after@example.com").commit == "committed"
    assert [r for r in people.write_log() if r["state"] == "intent"] == []


def test_a_path_of_odd_bytes_leaves_a_journal_that_can_be_read(people):
    a = ask(people.client.root, "PATCH", HOST + CONTACTS + "/%FF%C3", [("Sequin-Key", people.client.key), ("Content-Type", "application/json")],
            b'{"properties": {"firstname": "x"}}')
    assert a.get("Sequin-Error") is None
    assert len(people.write_log()) == 1


def test_an_intent_that_cannot_be_journalled_keeps_no_other_write_from_being_sent(brittle, people):
    brittle.sql("CREATE FUNCTION public.no_patch() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN IF NEW.method = 'PATCH' THEN RAISE EXCEPTION 'not in this journal'; END IF; RETURN NEW; END$$")
    brittle.sql("CREATE TRIGGER no_patch BEFORE INSERT ON sequin.write_log FOR EACH ROW EXECUTE FUNCTION public.no_patch()")
    try:
        [pid] = brittle.worker_pids()
        with ThreadPoolExecutor(5) as pool:
            os.kill(pid, signal.SIGSTOP)  # so that all of them arrive in one turn
            try:
                calls = [pool.submit(create, people, f"n{i}@example.com") for i in range(4)]
                bad = pool.submit(people.client.patch, CONTACTS + "/1", {"properties": {"firstname": "x"}})
                wait_until("all connections are made", lambda: connections_to(brittle.proxy_port) >= 5)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert [c.result().commit for c in calls] == ["committed"] * 4
            assert (bad.result().status, bad.result().error) == (503, "not_ready")
    finally:
        brittle.sql("DROP FUNCTION public.no_patch CASCADE")
    assert [e for e in people.fake.log() if e["method"] == "PATCH"] == []


def test_a_locked_row_of_the_journal_holds_up_nobody_else(brittle, people):
    made = create(people, "locked@example.com").json["id"]
    people.fake.fault("reset_after", method="PATCH", delay_ms=500)
    with ThreadPoolExecutor(1) as pool, brittle.connect(autocommit=False) as db:
        flying = pool.submit(people.client.patch, f"{CONTACTS}/{made}", {"properties": {"firstname": "Flew"}})
        [row] = wait_until("it is at the API", lambda: [r for r in unsettled(brittle) if r["state"] == "intent"])
        db.execute("SELECT 1 FROM sequin.write_log WHERE id = %s FOR UPDATE", (row["id"],))
        assert flying.result().error == "upstream_protocol_error"
        until = time.monotonic() + 2.5  # the settling is tried every second
        n = 0
        while time.monotonic() < until:
            n += 1
            a = create(people, f"free{n}@example.com")
            assert a.commit == "committed", a
        db.rollback()
    wait_until("the write is in", lambda: people.row("contact", made)["firstname"] == "Flew")
    wait_until("its row is settled", lambda: unsettled(brittle) == [])


def test_a_locked_deferred_row_is_not_read_again_all_the_time(brittle, people):
    made = create(people, "due@example.com").json["id"]
    people.fake.fault("malformed", method="PATCH")
    people.fake.fault("delay", method="POST", path="batch/read", times=1, delay_ms=500)
    a = people.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "Due"}})
    assert a.commit == "deferred"
    with brittle.connect(autocommit=False) as db:
        db.execute("SELECT 1 FROM sequin.write_log WHERE state = 'deferred' FOR UPDATE")
        people.fake.clear_log()
        wait_until("it could not be updated", lambda: "could not update sequin.write_log" in brittle.log())
        time.sleep(1)
        reads = [e for e in people.fake.log() if "batch/read" in e["target"]]
        assert len(reads) <= 2, len(reads)
        db.rollback()
    wait_until("the write is in", lambda: people.row("contact", made)["firstname"] == "Due")


@pytest.mark.parametrize("rewrite", [
    ["DELETE FROM sequin.write_log WHERE state <> 'intent'", "VACUUM FULL sequin.write_log"],
    ["TRUNCATE sequin.write_log"],
    ["TRUNCATE sequin.write_log", "INSERT INTO sequin.write_log (request_id, sync, method, path, status, state) "
     "SELECT 'stranger', 'x', 'GET', '/', 418, 'none' FROM generate_series(1, 100)"],
])
def test_a_journal_that_is_rewritten_under_a_write_settles_that_write_or_nothing(brittle, people, rewrite):
    """Where the intent was put another row stands now, or none."""
    made = [create(people, f"moved{i}@example.com").json["id"] for i in range(20)][-1]
    people.fake.fault("delay", method="PATCH", delay_ms=700)
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(people.client.patch, f"{CONTACTS}/{made}", {"properties": {"firstname": "Moved"}})
        [row] = wait_until("it is at the API", lambda: [r for r in unsettled(brittle) if r["state"] == "intent"])
        for statement in rewrite:
            brittle.sql(statement)
        assert flying.result().commit == "committed"
    assert people.row("contact", made)["firstname"] == "Moved"
    rows = brittle.dicts("SELECT id, request_id, status, state FROM sequin.write_log")
    ours = [r for r in rows if r["id"] == row["id"]]
    assert [r["state"] for r in ours] == ([] if "TRUNCATE" in rewrite[0] else ["committed"])
    assert {(r["status"], r["state"]) for r in rows if r["request_id"] == "stranger"} <= {(418, "none")}


# ---- the configuration moves under a write ----

def test_a_write_at_the_api_is_committed_under_the_sync_s_new_name(brittle, people):
    made = create(people, "renamed@example.com").json["id"]
    people.fake.fault("delay", method="PATCH", delay_ms=600)
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(people.client.patch, f"{CONTACTS}/{made}", {"properties": {"firstname": "Kept"}})
        wait_until("it is at the API", lambda: brittle.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 1)
        brittle.sql("UPDATE sequin.sync SET name = %s WHERE name = %s", (people.name + "_new", people.name))
        assert flying.result().commit == "committed"
    assert people.row("contact", made)["firstname"] == "Kept"


def test_a_re_read_that_finds_no_table_and_then_no_schema_is_deferred(brittle, base):
    table = base.client.get(f"/v0/{AIRTABLE_BASE}/Suppliers?maxRecords=1").json["records"][0]["id"]
    brittle.sql(f'DROP TABLE "{base.name}".suppliers CASCADE')
    base.fake.fault("status", method="GET", path="meta/bases", times=-1, status=500, body="{}")
    a = base.client.patch(f"/v0/{AIRTABLE_BASE}/Suppliers/{table}?cellFormat=string&timeZone=UTC&userLocale=en", {"fields": {"Name": "Again"}})
    assert (a.status, a.commit) == (200, "deferred"), a
    base.fake.ctl("DELETE", "fault")
    wait_until("the mirror has followed", lambda: unsettled(brittle) == [], timeout=30)


def test_a_table_can_be_dropped_in_a_prepared_transaction(brittle):
    brittle.sql("CREATE TABLE public.theirs (id int)")
    with brittle.connect(autocommit=True) as db:
        db.execute("BEGIN")
        db.execute("DROP TABLE public.theirs")
        db.execute("PREPARE TRANSACTION 'theirs'")
        db.execute("COMMIT PREPARED 'theirs'")
    assert brittle.one("SELECT to_regclass('public.theirs')") is None


# ---- the worker ----

def test_cancels_at_any_moment_leave_the_worker_running(brittle, people):
    pids = brittle.worker_pids()
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            os.kill(pids[0], signal.SIGINT)
            time.sleep(0.0002)
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        answers = []
        for i in range(60):
            people.fake.fault("malformed", method="POST", path="objects/contacts$")  # each deferral writes to the log
            answers.append(create(people, f"cancel{i}@example.com"))
    finally:
        stop.set()
        thread.join()
    assert brittle.worker_pids() == pids
    assert all(a.commit == "deferred" or a.error == "not_ready" for a in answers), answers
    people.fake.ctl("DELETE", "fault")
    assert create(people, "calm@example.com").commit == "committed"


def test_many_requests_leave_no_memory_and_no_file_behind(brittle, people):
    [pid] = brittle.worker_pids()
    made = create(people, "leak@example.com").json["id"]

    def rss():
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            return int(next(line for line in f if line.startswith("Private_Dirty")).split()[1])

    def round_of(n):
        for i in range(n):
            people.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": f"v{i}"}})
            people.client.get(f"{CONTACTS}/{made}")
            people.client.get("/crm/v3/objects/nothing/here")
            people.client.call("GET", "/crm/v3", headers={"Authorization": "Bearer no"})
            if i % 20 == 0:
                brittle.sql("UPDATE sequin.proxy_key SET label = %s", (f"k{i}",))
    round_of(150)
    before, files = rss(), len(os.listdir(f"/proc/{pid}/fd"))
    round_of(int(os.environ.get("LEAK_ROUNDS", "150")))
    print("kB before and after:", before, rss())
    assert rss() - before < 1500 and len(os.listdir(f"/proc/{pid}/fd")) <= files + 2


# ---- the end ----

def test_a_stop_answers_who_waits_for_a_re_read_or_a_lock(brittle, base):
    record = base.client.get(f"/v0/{AIRTABLE_BASE}/Suppliers?maxRecords=1").json["records"][0]["id"]
    brittle.set(sequin_proxy__commit_timeout="'30s'")
    brittle.sql("SELECT sequin.alter_sync(%s, rate_limit => '100/60s')", (base.name,))
    used = brittle.one("SELECT used_by_proxy + used_by_sync FROM sequin.rate_limit_usage WHERE sync = %s", (base.name,))
    brittle.sql("SELECT sequin.alter_sync(%s, rate_limit => %s)", (base.name, f"{used + 2}/60s"))
    url = f"/v0/{AIRTABLE_BASE}/Suppliers/{record}"
    with brittle.connect(autocommit=False) as db, ThreadPoolExecutor(2) as pool:
        db.execute(f'LOCK TABLE "{base.name}".suppliers IN ACCESS EXCLUSIVE MODE')
        locked = pool.submit(base.client.patch, url, {"fields": {"Name": "Locked"}})
        wait_until("it is sent", lambda: sum(e["method"] == "PATCH" for e in base.fake.log()) == 1)
        asking = pool.submit(base.client.patch, url + "?cellFormat=string&timeZone=UTC&userLocale=en", {"fields": {"Name": "Asking"}})
        wait_until("both are sent", lambda: sum(e["method"] == "PATCH" for e in base.fake.log()) == 2)
        [pid] = brittle.worker_pids()
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)  # of the worker alone: a stop of the cluster would end the lock's holder too
        wait_until("the worker has ended", lambda: pid not in brittle.worker_pids())
        assert time.monotonic() - began < 5
        assert [(a.status, a.commit) for a in (locked.result(), asking.result())] == [(200, "deferred")] * 2
        db.rollback()
    brittle.sql("SELECT sequin.alter_sync(%s, rate_limit => '1000/1s')", (base.name,))
    brittle.set(sequin_proxy__commit_timeout="'500ms'")
    brittle.wait_proxy()
    wait_until("the last write is in", lambda: base.row("suppliers", record)["name"] == "Asking", timeout=30)
