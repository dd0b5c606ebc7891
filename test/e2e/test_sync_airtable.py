"""The sync process and Airtable: lists, webhooks as a feed, formulas, sweeps; against test/fakeapi."""

import pytest

from cluster import wait_until
from conftest import AIRTABLE_TOKEN, make_sync
from test_sync import QUIET, count, progress_of, wait

ALL_SCOPES = ["data.records:read", "data.records:write", "schema.bases:read", "schema.bases:write", "webhook:manage"]


@pytest.fixture
def airtable(fakes):
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    return fakes.airtable


@pytest.fixture
def based(cluster, airtable):
    made = []

    def make(config=QUIET, tables=None, **args):
        made.append(make_sync(cluster, airtable, "airtable", tables=tables, config={"base_id": "appFakeBase000001", "sync": True, **config}, **args))
        return made[-1]

    yield make
    for sync in made:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def tables_of(fake):
    return list(fake.state()["bases"]["appFakeBase000001"]["tables"].values())


def test_a_base_is_filled(based, airtable):
    sync = based()
    wait(sync, "live")
    for row in progress_of(sync):
        held = [t for t in tables_of(airtable) if t["name"] == row["collection_name"]][0]
        assert count(sync, row["table_name"]) == len(held["records"]), row


def test_an_idle_base_with_a_webhook_costs_one_call_per_poll(based, airtable):
    sync = based()
    wait(sync, "live")
    wait(sync, "fresh")
    airtable.clear_log()
    wait(sync, "fresh")
    assert ["/payloads?" in e["target"] for e in airtable.log()] == [True]
    assert sync.cluster.one("SELECT feed_error FROM sequin.syncs WHERE name = %s", (sync.name,)) is None


def names(sync):
    return {p["collection_name"]: p["table_name"] for p in progress_of(sync)}


@pytest.mark.parametrize("webhooks", [True, False])
def test_creates_changes_and_deletes_past_the_proxy_arrive(based, airtable, webhooks):
    if not webhooks:
        airtable.config(scopes=[s for s in ALL_SCOPES if s != "webhook:manage"])
    sync = based()
    wait(sync, "live")
    name, table = sorted(names(sync).items())[0]
    held = [t for t in tables_of(airtable) if t["name"] == name][0]
    ids = [r["id"] for r in sync.rows(table)]
    airtable.edit(op="delete", table=name, id=ids[0])
    made = airtable.edit(op="create", table=name, fields={})
    wait(sync, "fresh")
    assert count(sync, table) >= len(held["records"]), made
    if webhooks:
        assert sync.row(table, ids[0]) is None
    wait(sync, "swept")
    assert sync.row(table, ids[0]) is None and count(sync, table) == len(held["records"])
    if not webhooks:
        assert "403" in sync.cluster.one("SELECT feed_error FROM sequin.syncs WHERE name = %s", (sync.name,))


def test_an_iterator_that_expires_starts_again_and_loses_nothing(based, airtable):
    airtable.reset(records=450)
    airtable.config(limits="off")
    airtable.fault("status", path="offset=", times=2, skip=1, status=422, body='{"error":{"type":"LIST_RECORDS_ITERATOR_NOT_AVAILABLE"}}')
    sync = based()
    wait(sync, "live")
    for row in progress_of(sync):
        held = [t for t in tables_of(airtable) if t["name"] == row["collection_name"]][0]
        assert count(sync, row["table_name"]) == len(held["records"])


def test_a_rename_in_the_base_renames_ours_and_values_stay(based, airtable):
    sync = based()
    wait(sync, "live")
    name, table = sorted(names(sync).items())[0]
    airtable.edit(op="table_rename", table=name, name="Entirely New")
    wait(sync, "fresh")
    wait_until("the table is renamed", lambda: "Entirely New" in names(sync))
    assert names(sync)["Entirely New"] == "entirely_new" and count(sync, "entirely_new") > 0


def test_a_webhook_that_was_lost_is_made_again_and_the_gap_is_swept(based, airtable):
    sync = based()
    wait(sync, "live")
    wait(sync, "fresh")
    name, table = sorted(names(sync).items())[0]
    id = sync.rows(table)[0]["id"]
    hooks = airtable.edit(request={"method": "GET", "path": "/v0/bases/appFakeBase000001/webhooks"})
    for hook in [h["id"] for h in _body(hooks)["webhooks"]]:
        airtable.edit(request={"method": "DELETE", "path": f"/v0/bases/appFakeBase000001/webhooks/{hook}"})
    airtable.edit(op="delete", table=name, id=id)
    wait(sync, "fresh")
    wait_until("the gap is swept", lambda: sync.row(table, id) is None)


def _body(result):
    return result["results"][0]["body"] if "results" in result else result.get("body", result)
