"""How long sequin.write_log and the tombstones are kept: settled rows go, oldest first; open ones never do."""

import pytest

from cluster import wait_until

INSERT = ("INSERT INTO sequin.write_log (request_id, sync, method, path, state, at, next_attempt_at, error) "
          "SELECT 'r' || n, 'kept', 'POST', '/x', %s, now() - %s::interval, %s, %s FROM generate_series(1, %s) n")


@pytest.fixture
def log(cluster):
    """A journal of our own making, and the settings as they were afterwards."""
    before = dict(cluster.settings)
    cluster.sql("DELETE FROM sequin.write_log WHERE state NOT IN ('intent', 'deferred')")
    yield cluster
    cluster.settings.pop("sequin_proxy.journal_retention", None)
    cluster.settings.pop("sequin_proxy.journal_max_rows", None)
    cluster.set()
    cluster.sql("DELETE FROM sequin.write_log WHERE sync = 'kept'")
    assert cluster.settings == before


def add(log, state, age, n=3, next_attempt=None, error=None):
    log.sql(INSERT, (state, age, next_attempt, error, n))


def states(log):
    return dict(log.sql("SELECT state || CASE WHEN at < now() - interval '2 days' THEN ' old' ELSE '' END, count(*) "
                        "FROM sequin.write_log WHERE sync = 'kept' GROUP BY 1"))


def test_settled_rows_go_when_they_are_too_old_and_open_ones_stay(log):
    for state in ("committed", "none", "resolved", "failed"):
        add(log, state, "10 days")
    add(log, "committed", "1 day")
    add(log, "deferred", "10 days", next_attempt="2100-01-01", error="still open")
    log.set(sequin_proxy__journal_retention="'30d'")
    assert states(log) == {"committed old": 3, "none old": 3, "resolved old": 3, "failed old": 3, "committed": 3, "deferred old": 3}
    log.set(sequin_proxy__journal_retention="'7d'")
    wait_until("the old ones are gone", lambda: states(log) == {"committed": 3, "deferred old": 3})


def test_no_more_than_so_many_settled_rows_are_kept(log):
    add(log, "deferred", "10 days", next_attempt="2100-01-01", error="still open")
    add(log, "committed", "1 hour", n=25000)
    log.set(sequin_proxy__journal_max_rows=100)
    wait_until("the newest 100 are left, chunk after chunk", lambda: states(log) == {"committed": 100, "deferred old": 3})


def test_a_second_look_keeps_its_row(log):
    """A write that is re-read once more is not settled yet, though it is called resolved."""
    add(log, "resolved", "10 days", next_attempt="2100-01-01")
    add(log, "committed", "10 days")
    log.set(sequin_proxy__journal_retention="'7d'")
    wait_until("the settled ones are gone", lambda: states(log) == {"resolved old": 3})


def test_old_tombstones_go_and_young_ones_stay(cluster, hub):
    cluster.sql("INSERT INTO sequin.tombstone (sync, collection, id, at) SELECT %s, '0-1', 'old' || n, now() - interval '3 days' "
                "FROM generate_series(1, 5) n", (hub.name,))
    cluster.sql("INSERT INTO sequin.tombstone (sync, collection, id) VALUES (%s, '0-1', 'young')", (hub.name,))
    cluster.set()
    wait_until("only the young one is left", lambda: cluster.sql("SELECT id FROM sequin.tombstone WHERE sync = %s", (hub.name,)) == [("young",)])
