"""Each step of exchange, commit, journal and sync page: killed there, failing there, standing still there, under load.

Afterwards, without anybody's help: every answer was kept, nothing was sent twice, the journal is settled and the mirror is the API.
"""

import threading
import time

import psycopg
import pytest

from cluster import Cluster, wait_until
from conftest import fakes, make_sync     # noqa: F401 (a fixture)
from hubspot_mirror import Account
from load import CONTACTS, UNKNOWN, Load, sent_twice
from points import Arm, cases, in_source

CONFIG = {"sync": True, "poll_interval": "1s", "sweep_interval": "2s"}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(workers=2, settings={"sequin_proxy.queue_timeout": "'5s'", "sequin_proxy.upstream_timeout": "'3s'",
                                      "sequin_proxy.commit_timeout": "'500ms'"}) as c:
        c.wait_proxy()
        yield c
        assert [line for line in c.crashes() if "signal 9" not in line] == []


@pytest.fixture(scope="module")
def sync(cluster, fakes):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    fakes.hubspot.edit(op="create", type="contacts", count=500, properties={"email": "u{n}@x.com", "firstname": "F{n}"})
    made = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], config=CONFIG)
    assert cluster.one("SELECT sequin.wait_for(%s, 'live', '30s')", (made.name,))
    return made


def unsettled(sync, creates=False):
    """Creates that name no record are settled by a poll that is late enough (some 26 s here): looked at once, at the end."""
    return sync.cluster.dicts("SELECT id, state, method, path, error, attempts FROM sequin.write_log WHERE sync = %s "
                              "AND state IN ('intent', 'deferred') AND (%s OR error IS NULL OR error NOT LIKE %s)",
                              (sync.name, creates, "the request names no record%"))


def quiet(what, condition):
    """Polled while a server may be restarting."""
    def asked():
        try:
            return condition()
        except psycopg.OperationalError:
            return False
    wait_until(what, asked, 40, 0.1)


# What ordinary load does not do: a re-read, a repair, a new field, a table read anew.

def break_an_answer(sync, hot):
    sync.fake.fault("malformed", method="PATCH", path=f"contacts/{hot}", times=2)


def lose_an_answer(sync, hot):
    sync.fake.fault("reset_after", method="PATCH", path=f"contacts/{hot}", times=3)


def add_a_field(sync, hot):
    name = f"field_{time.monotonic_ns()}"
    sync.fake.edit(op="property_create", type="contacts", property={"name": name, "label": name, "type": "string", "fieldType": "text",
                                                                   "groupName": "contactinformation"})
    try:
        sync.client.patch(f"{CONTACTS}/{hot}", {"properties": {name: "x"}})     # whose answer shows it
    except UNKNOWN:
        pass


def read_anew(sync, hot):
    sync.cluster.sql("SELECT sequin.resync(%s, NULL)", (sync.name,))


def lose_rows(sync, hot):
    """A backfill finds page after page of rows that are new to it."""
    with sync.cluster.connect(autocommit=False) as db:
        db.execute(f"DELETE FROM \"{sync.name}\".contact WHERE email LIKE 'u%%' AND id <> %s", (hot,))
        db.execute("SELECT sequin.resync(%s, NULL)", (sync.name,))
        db.commit()


def lock_the_table(sync, hot):
    with sync.cluster.connect(autocommit=False) as db:
        db.execute(f'LOCK TABLE "{sync.name}".contact IN SHARE MODE')
        time.sleep(0.2)             # long enough for the workers to run into it
        db.rollback()


def delete_past_the_proxy(sync, hot):
    gone = next(i for i, r in Account(sync).held("contacts").items() if i != hot and r["properties"]["email"].startswith("u"))
    sync.fake.edit(op="archive", type="contacts", id=gone)


PROVOKE = {"exchange.reread": break_an_answer, "recovery.reread": lose_an_answer, "recovery.applied": lose_an_answer,
           "schema.followed": add_a_field, "page.saved": read_anew, "mirror.inserted": lose_rows,
           "commit.alone": lock_the_table, "page.reread": delete_past_the_proxy}


def provoke(sync, point, hot):
    try:
        PROVOKE.get(point, lambda *_: None)(sync, hot)
    except psycopg.OperationalError:
        pass                        # it has fired, and the server restarts


def reach(sync, arm, point, hot):
    arm.arm()
    if point == "recovery.adopted":
        sync.cluster.kill_postmaster()
        sync.cluster.start(extension=False)
    began = time.monotonic()
    while not arm.reached():
        threading.Thread(target=provoke, args=(sync, point, hot)).start()     # it may be the one that is held up
        assert time.monotonic() < began + 20, f"{point} was not reached"
        time.sleep(0.3 if point in PROVOKE else 0.05)
    if arm.action == "pause":
        time.sleep(0.7)             # the other processes go on meanwhile
    arm.release()


@pytest.mark.parametrize("point,action", cases())
def test_a_fault_at(sync, point, action):
    hot = next(i for i, r in Account(sync).held("contacts").items() if r["properties"].get("email") == "u2@x.com")
    sync.fake.clear_log()
    arm = Arm(sync.cluster, point, action)
    try:
        with Load(sync, hot) as load:
            reach(sync, arm, point, hot)
            answered = load.answered
            quiet("callers are answered again", lambda: load.answered > answered + 20)
    finally:
        arm.release()
        sync.fake.ctl("DELETE", "fault")
    assert load.wrong == []
    assert sent_twice(sync.fake) == []
    sync.cluster.wait_proxy()
    quiet("every write is settled", lambda: not unsettled(sync))
    quiet("a sweep has been done", lambda: sync.cluster.one("SELECT sequin.wait_for(%s, 'swept', '20s')", (sync.name,)))
    assert Account(sync).wrong("contacts") == []


def test_creates_without_an_answer_are_settled_too(sync):
    quiet("every create is settled", lambda: not unsettled(sync, creates=True))
    assert sync.cluster.one("SELECT count(*) FROM sequin.write_log WHERE sync = %s AND state = 'failed' AND error <> 'not sent'", (sync.name,)) == 0
    assert Account(sync).wrong("contacts") == []


def test_every_way_to_provoke_a_point_is_one_of_a_point():
    assert PROVOKE.keys() <= in_source().keys()
    assert len(in_source()) >= 25
