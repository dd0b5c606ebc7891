"""The sync process on real processes: backfill, polls, sweeps, associations; against test/fakeapi."""

import json

import pytest

from cluster import wait_until
from conftest import make_sync

QUIET = {"sync": True, "poll_interval": "1 hour", "sweep_interval": "1 day"}


@pytest.fixture
def hubspot(fakes):
    fakes.hubspot.reset(empty=True)
    fakes.hubspot.config(limits="off")
    return fakes.hubspot


@pytest.fixture
def synced(cluster, hubspot):
    """Makes HubSpot syncs that are dropped at the end."""
    made = []

    def make(tables=("contacts",), config=QUIET, **args):
        made.append(make_sync(cluster, hubspot, "hubspot", tables=list(tables), config={"sync": True, **config}, **args))
        return made[-1]

    yield make
    for sync in made:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def wait(sync, state, timeout="30s"):
    assert sync.cluster.one("SELECT sequin.wait_for(%s, %s, %s)", (sync.name, state, timeout)), (
        state, sync.cluster.dicts("SELECT * FROM sequin.sync_progress WHERE sync = %s", (sync.name,)),
        sync.cluster.dicts("SELECT * FROM sequin.syncs WHERE name = %s", (sync.name,)))


def count(sync, table):
    return sync.cluster.one(f'SELECT count(*) FROM "{sync.name}"."{table}"')


def progress_of(sync):
    return sync.cluster.dicts("SELECT * FROM sequin.sync_progress WHERE sync = %s", (sync.name,))


def seed(fake, n, type="contacts"):
    properties = {"email": "u{n}@x.com", "firstname": "F{n}"} if type == "contacts" else {"name": "N{n}"}
    fake.edit(op="create", type=type, count=n, properties=properties)


def data_calls(fake):
    return [e for e in fake.log() if "/crm/v3/objects/contacts" in e["target"]]


def test_a_backfill_brings_every_record_in_one_call_per_page(synced, hubspot):
    seed(hubspot, 1050)
    sync = synced()
    wait(sync, "live")
    assert count(sync, "contact") == 1050
    row = sync.rows("contact", "email = 'u7@x.com'")[0]
    assert row["firstname"] == "F7" and row["updated_at"] is not None
    progress = {p["table_name"]: p for p in progress_of(sync)}
    assert {p["phase"] for p in progress.values()} == {"live"} and progress["contact"]["rows_total"] == progress["contact"]["rows_done"] == 1050
    assert progress["contact"]["last_error"] is None
    assert sync.cluster.one("SELECT state FROM sequin.syncs WHERE name = %s", (sync.name,)) == "live"
    assert len(data_calls(hubspot)) <= 11 + 4


def test_a_change_made_past_the_proxy_arrives_with_the_next_poll(synced, hubspot):
    seed(hubspot, 30)
    sync = synced(config={"poll_interval": "200ms", "sweep_interval": "1 day"})
    wait(sync, "live")
    id = sync.rows("contact", "email = 'u3@x.com'")[0]["id"]
    hubspot.edit(op="update", type="contacts", id=id, properties={"firstname": "Changed"})
    hubspot.edit(op="create", type="contacts", properties={"email": "new@x.com"})
    wait_until("the change is here", lambda: sync.row("contact", id)["firstname"] == "Changed")
    wait_until("the new record is here", lambda: sync.rows("contact", "email = 'new@x.com'"))


def test_fresh_polls_at_once_and_swept_takes_deletes_and_associations_along(synced, hubspot):
    seed(hubspot, 130)
    seed(hubspot, 5, "companies")
    sync = synced(["contacts", "companies"])
    wait(sync, "live")
    ids = [r["id"] for r in sync.rows("contact")]
    companies = [r["id"] for r in sync.rows("company")]
    hubspot.edit(op="update", type="contacts", id=ids[0], properties={"firstname": "Changed"})
    wait(sync, "fresh")
    assert sync.row("contact", ids[0])["firstname"] == "Changed"
    hubspot.edit(op="archive", type="contacts", ids=ids[1:4])
    hubspot.edit(op="associate", from_type="contacts", from_id=ids[5], to_type="companies", to_id=companies[0])
    wait(sync, "swept")
    assert sync.rows("contact", f"id IN ('{ids[1]}', '{ids[2]}', '{ids[3]}')") == []
    assert count(sync, "contact") == 127
    assert [(r["company_id"], r["contact_id"]) for r in sync.rows("associations_company_contact")] == [(companies[0], ids[5])]
    hubspot.edit(op="dissociate", from_type="contacts", from_id=ids[5], to_type="companies", to_id=companies[0])
    wait(sync, "swept")
    assert sync.rows("associations_company_contact") == []


def test_a_sweep_that_finds_nothing_changed_writes_nothing(synced, hubspot):
    seed(hubspot, 250)
    sync = synced()
    wait(sync, "live")
    versions = sync.cluster.sql(f'SELECT id, xmin::text, ctid::text FROM "{sync.name}".contact ORDER BY id')
    wait(sync, "swept")
    assert sync.cluster.sql(f'SELECT id, xmin::text, ctid::text FROM "{sync.name}".contact ORDER BY id') == versions


def test_our_own_writes_coming_back_change_nothing(synced, hubspot):
    sync = synced()
    wait(sync, "live")
    a = sync.client.post("/crm/v3/objects/contacts", {"properties": {"email": "own@x.com"}})
    assert a.commit == "committed"
    wait(sync, "fresh")                 # completes the row: the answer held a part of it
    before = sync.cluster.sql(f'SELECT id, xmin::text FROM "{sync.name}".contact')
    wait(sync, "fresh")
    assert sync.cluster.sql(f'SELECT id, xmin::text FROM "{sync.name}".contact') == before


def test_resync_reads_anew_without_a_moment_of_missing_rows(synced, hubspot):
    seed(hubspot, 350)
    sync = synced()
    wait(sync, "live")
    id = sync.rows("contact")[0]["id"]
    sync.cluster.sql(f"""UPDATE "{sync.name}".contact SET firstname = 'spoilt'""")
    sync.cluster.sql(f"""INSERT INTO "{sync.name}".contact (id) VALUES ('987654321')""")
    assert sync.cluster.one("SELECT sequin.resync(%s, 'contact')", (sync.name,)) == 1
    seen = set()

    def done():
        seen.add(count(sync, "contact") >= 350)
        return sync.row("contact", "987654321") is None

    wait_until("the stranger is swept", done)
    wait(sync, "live")
    assert seen == {True} and sync.row("contact", id)["firstname"] != "spoilt"
    assert sync.rows("contact", "firstname = 'spoilt'") == []


def test_a_column_that_is_new_in_the_api_is_filled_for_old_rows_by_asking_for_those_alone(synced, hubspot):
    seed(hubspot, 420)
    sync = synced(config={**QUIET, "schema_interval": "300ms"})
    wait(sync, "live")
    id = sync.rows("contact")[0]["id"]
    hubspot.ctl("POST", "edit", [
        {"op": "property_create", "type": "contacts", "property": {"name": "colour", "type": "string", "fieldType": "text", "label": "Colour"}},
        {"op": "raw", "type": "contacts", "id": id, "properties": {"colour": "red"}}])
    hubspot.clear_log()
    wait_until("the column is filled", lambda: (sync.row("contact", id) or {}).get("colour") == "red")
    wait(sync, "live")
    asked = [e for e in data_calls(hubspot) if e["method"] == "POST" or "limit=100" in e["target"]]
    assert len(asked) == 1 and b"HAS_PROPERTY" in asked[0]["body"]


def test_a_paused_sync_asks_nothing_and_goes_on_when_resumed(synced, hubspot):
    seed(hubspot, 20)
    sync = synced(config={"poll_interval": "100ms"})
    wait(sync, "live")
    sync.cluster.sql("SELECT sequin.pause_sync(%s)", (sync.name,))
    wait_until("what was under way has ended", lambda: not sync.cluster.one(
        "SELECT sequin.wait_for(%s, 'fresh', '300ms')", (sync.name,)))
    hubspot.clear_log()
    assert not sync.cluster.one("SELECT sequin.wait_for(%s, 'fresh', '500ms')", (sync.name,))
    assert hubspot.log() == []
    sync.cluster.sql("SELECT sequin.resume_sync(%s)", (sync.name,))
    wait(sync, "fresh")


def test_an_api_that_fails_is_shown_and_the_sync_goes_on_by_itself(synced, hubspot):
    seed(hubspot, 20)
    sync = synced(config={"poll_interval": "200ms"})
    wait(sync, "live")
    hubspot.fault("status", path="/search", times=-1, status=500)
    wait_until("the error is shown", lambda: "500" in (sync.cluster.one(
        "SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,)) or ""), timeout=90)
    hubspot.ctl("DELETE", "fault")
    wait_until("it is gone again", lambda: sync.cluster.one(
        "SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,)) is None, timeout=90)


def test_a_create_whose_answer_never_came_is_found_by_the_poll_and_its_journal_row_resolved(synced, hubspot):
    sync = synced(config={"poll_interval": "1 hour"})
    wait(sync, "live")
    hubspot.fault("reset_after", method="POST", path="/contacts$")
    a = sync.client.post("/crm/v3/objects/contacts", {"properties": {"email": "lost@x.com"}})
    assert (a.error, a.json["error"]["sent_upstream"]) == ("upstream_protocol_error", True)
    wait_until("the record is here", lambda: sync.rows("contact", "email = 'lost@x.com'"))
    assert "next poll" in sync.write_log()[0]["error"]
    # as if the API could have acted on it no later
    sync.cluster.sql("UPDATE sequin.write_log SET at = at - interval '1 hour' WHERE sync = %s", (sync.name,))
    wait_until("the journal says so", lambda: [r["state"] for r in sync.write_log()] == ["resolved"], timeout=60)
