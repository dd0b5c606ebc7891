"""What the processes hold: memory, descriptors, plans, snapshots.  The short version of `make soak` (test/soak/soak.py)."""

import os
import sys
import threading

import pytest

from cluster import Cluster, wait_until
from conftest import make_sync

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "soak"))
import soak  # noqa: E402


measured = pytest.mark.skipif("SEQUIN_SERVER_ENV" in os.environ, reason="a sanitizer's own memory would be measured")


@pytest.fixture(scope="module")
def small():
    with Cluster(env={"MALLOC_PERTURB_": "90"}, settings={"sequin_proxy.upstream_timeout": "'2s'", "autovacuum": "off"}) as c:
        c.wait_proxy()
        yield c
        assert c.crashes() == []


@measured
def test_a_worker_does_not_grow_with_requests_connections_or_changes_of_the_configuration(small):
    with soak.Upstream() as up:
        samples = soak.load(small, up.origin, requests=20000, connections=1000, rounds=8, warm=3, changes=25)
    assert soak.unflat(samples, memory_kb=1024) == {}
    stats = small.dicts("SELECT requests, s2xx, commits, accepted FROM sequin.proxy_stats")[0]
    assert stats["requests"] >= 20000 * 0.9 and stats["commits"] > 5000 and stats["accepted"] > 1000, stats


@measured
def test_what_a_worker_reads_of_its_journal_does_not_grow_with_it(small):
    """Its plan is made while the journal is empty, and autovacuum has not been here since."""
    rows = small.one("SELECT count(*) FROM sequin.write_log")
    read = small.one("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = 'sequin.write_log'::regclass")
    assert rows > 5000 and read < 20 * rows, (rows, read)


@measured
def test_the_sync_process_needs_no_more_memory_for_ten_times_the_records(small):
    few, _ = soak.backfill(small, 10000)
    many, _ = soak.backfill(small, 100000)
    assert many < few + 2048, (few, many)


@pytest.mark.parametrize("what", ["the list", "a discovery"])
def test_the_sync_process_holds_no_transaction_while_the_api_hangs(small, fakes, what):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    sync = make_sync(small, fakes.hubspot, "hubspot", name="hang", tables=["contacts"], config={"sync": True, "sweep_interval": "1 day"})
    assert small.one("SELECT sequin.wait_for('hang', 'live')")
    fakes.hubspot.clear_log()
    fakes.hubspot.fault("hang", path="objects/contacts" if what == "the list" else "properties/contacts", times=-1)
    try:
        if what == "the list":
            small.sql("SELECT sequin.resync('hang')")
        else:
            small.sql("SELECT sequin.alter_sync('hang', credential => 'pat-na1-test', tables => '{contacts,deals}')")
        wait_until("the API hangs", lambda: [e for e in fakes.hubspot.log() if e["fault"]])
        held = "SELECT count(*) FILTER (WHERE state = 'idle' OR state = 'active'), count(xact_start), count(backend_xmin), count(backend_xid) " \
               "FROM pg_stat_activity WHERE backend_type LIKE 'sequin%%'"
        seen = {small.sql(held, ())[0] for _ in range(20)}
        locks = small.one("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE backend_type LIKE 'sequin%%' "
                          "AND granted AND locktype <> 'virtualxid'", ())
        assert (seen, locks) == ({(2, 0, 0, 0)}, 0)
    finally:
        fakes.hubspot.ctl("DELETE", "fault")
        small.sql("SELECT sequin.drop_sync('hang', true)")


def test_reading_goes_on_while_the_configuration_changes_all_the_time(small):
    """A snapshot of the configuration lives as long as anybody in the turn may look at it (freed memory is overwritten here)."""
    stop = threading.Event()

    def change(label):
        with small.connect() as db:
            while not stop.is_set():
                db.execute("SELECT sequin.create_key('busy', label => %s)", (label,))
                db.execute("SELECT sequin.revoke_key('busy', %s)", (label,))
    pid = small.worker_pids("sequin_proxy sync")
    with soak.Upstream(10000) as up:
        soak.make_sync(small, "busy", up.origin, reads=True)
        changers = [threading.Thread(target=change, args=(f"k{n}",)) for n in range(3)]
        for t in changers:
            t.start()
        try:
            for _ in range(2):
                assert small.one("SELECT sequin.wait_for('busy', 'live', '60s')")
                small.sql("SELECT sequin.resync('busy')")
            assert small.one("SELECT sequin.wait_for('busy', 'live', '60s')")
        finally:
            stop.set()
            for t in changers:
                t.join()
        assert small.one("SELECT count(*) FROM busy.contact") == 10000
        small.sql("SELECT sequin.drop_sync('busy', true)")
    assert small.worker_pids("sequin_proxy sync") == pid
