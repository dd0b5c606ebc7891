"""Airtable through the proxy: every write of the API, from 2xx to mirror, and what is no write."""

import base64
import json
import urllib.parse

import pytest

from airtable_mirror import BASE, PRODUCTS, SUPPLIERS, Mirror
from cluster import wait_until
from conftest import make_sync
from proxy import Client

P1, P2, P3 = (f"recProd{n:010d}" for n in (1, 2, 3))
S1, S2 = (f"recSupp{n:010d}" for n in (1, 2))
ROCKET = f"{BASE}/{urllib.parse.quote('🚀 Launch Plan', safe='')}"


@pytest.fixture
def mirror(air):
    return Mirror(air)


def made(air, path=PRODUCTS, **fields):
    a = air.client.post(path, {"fields": {"Name": "made", **fields}})
    assert (a.status, a.commit) == (200, "committed"), a
    return a.json["id"]


def check(a, commit="committed", status=200):
    assert (a.status, a.commit, a.error) == (status, commit, None), a
    return a.json


# -- the path

@pytest.mark.parametrize("path, table", [
    (PRODUCTS, "product_inventory"), (PRODUCTS + "/", "product_inventory"), (f"{BASE}/tblProducts000001", "product_inventory"),
    (f"{BASE}/tblProducts000001/", "product_inventory"), (ROCKET, "launch_plan"), (f"{BASE}/A%2FB%20Tests", "a_b_tests"),
    (f"{BASE}/A%2fB%20Tests/", "a_b_tests"), (f"{BASE}/2024%20Budget", "_2024_budget"), (f"{BASE}/100%25%20done%3F", "_100_done"),
    (f"{BASE}/%50roduct%20Inventory", "product_inventory"), (f"{BASE}/tblLaunch00000002", "tbl_launch00000002"),
])
def test_a_table_is_known_by_each_of_its_spellings(air_shared, path, table):
    air_shared.fake.clear_log()
    got = check(air_shared.client.post(path, {"fields": {"Name": "spelled"}}))
    assert air_shared.row(table, got["id"])["name"] == "spelled"
    assert [e["target"] for e in air_shared.fake.log()] == [path]


def test_names_that_differ_by_case_or_punctuation_are_different_tables(air_shared):
    names = {"Product%20Inventory": None, "Product-Inventory": None, "product%20inventory": None}
    tables = {r["collection"]: r["table_name"] for r in air_shared.cluster.dicts(
        "SELECT collection, table_name FROM sequin.mirror_table WHERE sync = %s", (air_shared.name,))}
    for name, table_id in zip(names, ("tblProducts000001", "tblProductsDup001", "tblproducts000001")):
        got = check(air_shared.client.post(f"{BASE}/{name}", {"fields": {"Name": name}}))
        for other in ("tblProducts000001", "tblProductsDup001", "tblproducts000001"):
            row = air_shared.row(tables[other], got["id"])
            assert (row is not None) == (other == table_id)
    assert sorted(tables[t] for t in ("tblProducts000001", "tblProductsDup001", "tblproducts000001")) == [
        "product_inventory", "product_inventory_", "product_inventory_2"]


@pytest.mark.parametrize("host, path, code, hint", [
    ("api.airtable.com", "/v0/appFakeBase000002/Only%20Table", "unsupported_path", "appFakeBase000001"),
    ("api.airtable.com", "/v0/meta/bases/appFakeBase000002/tables", "unsupported_path", "appFakeBase000001"),
    ("airtable.com", f"{BASE}/Suppliers", "bad_hostname", "api.airtable.com"),
    ("api.hubapi.com", f"{BASE}/Suppliers", "bad_hostname", "api.airtable.com"),
    ("content.airtable.com", f"{BASE}/Suppliers", "unsupported_path", "api.airtable.com"),
    ("api.airtable.com", f"{BASE}/{P1}/Photos/uploadAttachment", "unsupported_path", "content.airtable.com"),
    ("api.airtable.com", f"{BASE}/Suppliers/{S1}/sync/x", "unsupported_path", "/v0/"),
    ("api.airtable.com", f"{BASE}//Suppliers", "unsupported_path", "%2F"),
])
def test_another_base_host_or_path_is_refused_with_the_right_hint(air_shared, host, path, code, hint):
    air_shared.fake.clear_log()
    a = air_shared.client.post(path, {"fields": {"Name": "x"}}, host=host)
    assert (a.status, a.error, a.commit) == (404, code, None)
    assert hint in a.json["error"]["hint"]
    assert air_shared.fake.log() == []


# -- create, update, delete

def test_single_and_batch_creates(air, mirror):
    one = check(air.client.post(PRODUCTS, {"fields": {"Name": "one", "Quantity": 3, "In Stock?": True, "Tags": ["red", "a, b"]}}))
    many = check(air.client.post(PRODUCTS, {"records": [{"fields": {"Name": f"n{i}"}} for i in range(10)]}))
    none = check(air.client.post(PRODUCTS, {"fields": {}}))
    assert mirror.differences([one["id"], none["id"], *(r["id"] for r in many["records"])]) == []
    row = air.row("product_inventory", one["id"])
    assert (row["in_stock"], row["tags"], row["notes"]) == (True, ["red", "a, b"], None)
    assert air.row("product_inventory", none["id"])["in_stock"] is False


def test_a_refused_batch_changes_nothing(air):
    before = air.rows("product_inventory")
    check(air.client.post(PRODUCTS, {"records": [{"fields": {"Name": str(i)}} for i in range(11)]}), "none", 422)
    check(air.client.post(PRODUCTS, {"records": [{"fields": {"Name": "a"}}, {"fields": {"Nope": 1}}]}), "none", 422)
    check(air.client.patch(PRODUCTS, {"records": [{"id": S1, "fields": {"Name": "a"}}]}), "none", 422)
    assert air.rows("product_inventory") == before


def test_patch_keeps_and_put_clears_what_is_not_named(air, mirror):
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Name": "patched"}}))
    row = air.row("product_inventory", P1)
    assert (row["name"], row["contact_email"], row["in_stock"]) == ("patched", "p1@example.com", True)
    check(air.client.put(f"{PRODUCTS}/{P1}", {"fields": {"Name": "put"}}))
    row = air.row("product_inventory", P1)
    assert (row["name"], row["contact_email"], row["in_stock"], row["tags"]) == ("put", None, False, None)
    check(air.client.put(PRODUCTS, {"records": [{"id": P3, "fields": {"Name": "put"}}, {"id": P2, "fields": {}}]}))
    assert air.row("product_inventory", P2)["name"] is None
    assert mirror.differences([P1, P2, P3]) == []


def test_an_unchecked_box_is_false_and_an_emptied_cell_is_null(air):
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"In Stock?": True, "Notes": "x", "Quantity": 0}}))
    assert air.row("product_inventory", P1)["in_stock"] is True
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"In Stock?": False, "Notes": "", "Tags": []}}))
    row = air.row("product_inventory", P1)
    assert (row["in_stock"], row["notes"], row["tags"], row["quantity"]) == (False, None, None, 0)


def test_upserts_create_and_update(air, mirror):
    rid = made(air, Phone="1")
    got = check(air.client.patch(PRODUCTS, {"performUpsert": {"fieldsToMergeOn": ["Phone"]}, "records": [
        {"fields": {"Phone": "1", "Name": "updated"}}, {"fields": {"Phone": "2", "Name": "created"}},
        {"id": P1, "fields": {"Phone": "3", "Name": "by id"}}]}))
    ids = [r["id"] for r in got["records"]]
    assert (ids[0], ids[2], got["createdRecords"]) == (rid, P1, [ids[1]])
    assert [air.row("product_inventory", i)["name"] for i in ids] == ["updated", "created", "by id"]
    assert mirror.differences(ids) == []


def test_single_and_batch_deletes(air):
    ids = [made(air) for _ in range(4)]
    check(air.client.delete(f"{PRODUCTS}/{ids[0]}"))
    check(air.client.delete(f"{PRODUCTS}/?records[]={ids[1]}&records%5B%5D={ids[2]}"))
    assert [air.row("product_inventory", i) is None for i in ids] == [True, True, True, False]
    check(air.client.delete(f"{PRODUCTS}/{ids[0]}"), "none", 404)


# -- record ids are base-wide

@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_write_through_the_wrong_table_changes_the_true_row(air, mirror, method, mirrored):
    if mirrored:
        check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Notes": "seen"}}))
    check(air.client.call(method, f"{SUPPLIERS}/{P1}", json={"fields": {"Name": "through suppliers"}}))
    assert air.row("product_inventory", P1)["name"] == "through suppliers"
    assert mirror.differences([P1]) == []


def test_tables_with_the_same_fields_are_not_mistaken_for_each_other(air, mirror):
    """Nothing in the answer tells that the record is another table's."""
    check(air.client.patch(f"{ROCKET}/recOdd00200000001", {"fields": {"Value": 77}}))
    assert air.row("a_b_tests", "recOdd00200000001")["value"] == 77
    assert mirror.differences(["recOdd00200000001"]) == []


def test_a_deleted_and_restored_record_is_not_taken_for_the_paths(air, mirror):
    """A delete leaves tombstones in all tables."""
    rid = "recOdd00200000001"
    check(air.client.delete(f"{ROCKET}/{rid}"))
    air.fake.edit(op="create", table="A/B Tests", id=rid, fields={"Name": "back", "Value": 1})
    check(air.client.patch(f"{ROCKET}/{rid}", {"fields": {"Value": 2}}))
    assert air.row("a_b_tests", rid)["value"] == 2
    assert mirror.differences([rid]) == []


def test_a_record_of_a_table_that_nobody_chose_leaves_no_row(cluster, fakes):
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    sync = make_sync(cluster, fakes.airtable, "airtable", tables=["Launch Plan", "🚀 Launch Plan"])
    got = sync.client.patch(f"{ROCKET}/recOdd00200000001", {"fields": {"Value": 5}})  # of A/B Tests
    assert (got.status, got.error) == (200, None)
    assert sync.rows("launch_plan") == []
    check(sync.client.patch(f"{ROCKET}/recOdd00100000001", {"fields": {"Value": 6}}))
    assert sync.row("launch_plan", "recOdd00100000001")["value"] == 6
    check(sync.client.post(SUPPLIERS, {"fields": {"Name": "x"}}), "none")


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_delete_through_the_wrong_table_deletes_the_true_row(air, mirrored):
    if mirrored:
        check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Notes": "seen"}}))
    check(air.client.delete(f"{SUPPLIERS}/{P1}"))
    assert air.row("product_inventory", P1) is None


def test_record_ids_are_case_sensitive(air):
    for rid in ("recCaseTwin00000a", "recCaseTwin00000A"):
        check(air.client.patch(f"{PRODUCTS}/{rid}", {"fields": {"Notes": rid}}))
    check(air.client.delete(f"{PRODUCTS}/recCaseTwin00000a"))
    assert air.row("product_inventory", "recCaseTwin00000a") is None
    assert air.row("product_inventory", "recCaseTwin00000A")["notes"] == "recCaseTwin00000A"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_cut_off_write_through_the_wrong_table_reaches_the_true_row(air, mirror, method):
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Notes": "seen"}}))
    air.fake.fault("reset_after", method=method, path="Suppliers")
    a = air.client.call(method, f"{SUPPLIERS}/{P1}", json={"fields": {"Name": "late"}} if method == "PATCH" else None)
    assert (a.status, a.error, a.json["error"]["sent_upstream"]) == (502, "upstream_protocol_error", True)
    wait_until("the journal has repaired it", lambda: air.write_log()[-1]["state"] == "resolved")
    assert mirror.differences([P1]) == []
    row = air.row("product_inventory", P1)
    assert row is None if method == "DELETE" else row["name"] == "late"


# -- what the answer cannot tell, or tells in another way

@pytest.mark.parametrize("spelling", ["body", "query"])
def test_fields_by_id(air, mirror, spelling):
    body = {"fields": {"fldProd0000000001": "by id", "Quantity": 5}}
    query = ""
    if spelling == "body":
        body["returnFieldsByFieldId"] = True
    else:
        query = "?returnFieldsByFieldId=true"
    got = check(air.client.post(PRODUCTS + query, body))
    assert got["fields"]["fldProd0000000001"] == "by id"
    assert mirror.differences([got["id"]]) == []


def test_display_strings_never_reach_the_mirror(air, mirror):
    """The stand-in ignores cellFormat on writes; the fault shows what an API that heeds it may answer."""
    shown = json.dumps({"id": P1, "createdTime": "2024-01-01T00:00:00.000Z", "fields": {"Name": "x", "Price": "$1.99", "In Stock?": "checked"}})
    air.fake.fault("malformed", method="PATCH", body=shown)
    check(air.client.patch(f"{PRODUCTS}/{P1}?cellFormat=string&timeZone=utc&userLocale=en", {"fields": {"Name": "x", "Price": 1.99}}))
    row = air.row("product_inventory", P1)
    assert (row["name"], float(row["price"]), row["in_stock"]) == ("x", 1.99, True)
    assert mirror.differences([P1]) == []


def test_an_uploaded_attachment_sets_its_one_cell(air, mirror):
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Notes": "kept"}}))
    for field in ("Photos", "fldProd0000000020"):
        a = air.client.post(f"{BASE}/{P1}/{field}/uploadAttachment", host="content.airtable.com", json={
            "contentType": "text/plain", "filename": "a.txt", "file": base64.b64encode(b"hello").decode()})
        check(a)
    row = air.row("product_inventory", P1)
    assert (row["notes"], [p["filename"] for p in row["photos"]][-2:]) == ("kept", ["a.txt", "a.txt"])
    assert mirror.differences([P1]) == []


def test_an_attachment_of_a_record_that_is_not_mirrored_yet(air, mirror):
    check(air.client.post(f"{BASE}/{P3}/Photos/uploadAttachment", host="content.airtable.com", json={
        "contentType": "text/plain", "filename": "b.txt", "file": ""}))
    assert mirror.differences([P3]) == []


def test_a_partial_success_is_committed_as_it_is(air, mirror):
    got = check(air.client.post(PRODUCTS, {"fields": {"Name": "p", "Photos": [
        {"url": "https://example.com/a.png"}, {"url": "https://fail.invalid/b.png"}]}}))
    assert got["details"]["message"] == "partialSuccess"
    assert len(air.row("product_inventory", got["id"])["photos"]) == 1
    assert mirror.differences([got["id"]]) == []


def test_typecast_makes_choices_and_linked_records(air, mirror):
    got = check(air.client.patch(PRODUCTS, {"typecast": True, "records": [
        {"id": P2, "fields": {"Status": "Brand new", "Tags": "red, blue", "Price": "$12.5", "Suppliers": "Supplier 1, Nobody yet"}}]}))
    row = air.row("product_inventory", P2)
    assert (row["status"], row["tags"], float(row["price"])) == ("Brand new", ["red", "blue"], 12.5)
    assert row["suppliers"] == got["records"][0]["fields"]["Suppliers"]
    assert mirror.differences([P2], skip=()) == []


# -- what is no write of a record

def test_reads_pass_and_a_read_only_key_may_make_them(cluster, air):
    key = cluster.one("SELECT sequin.create_key(%s, label => 'reader', read_only => true)", (air.name,))
    reader = Client(air.client.root, key, "api.airtable.com")
    before = air.rows("product_inventory")
    assert len(check(reader.post(PRODUCTS + "/listRecords", {"pageSize": 3}), "none")["records"]) == 3
    assert len(check(reader.get(PRODUCTS + "?pageSize=2&cellFormat=string&timeZone=utc&userLocale=en"), "none")["records"]) == 2
    assert check(reader.get(f"{SUPPLIERS}/{P1}"), "none")["id"] == P1
    assert check(reader.get("/v0/meta/whoami"), "none")["id"]
    assert check(reader.get("/v0/meta/bases/appFakeBase000001/tables"), "none")["tables"]
    for a in (reader.post(PRODUCTS, {"fields": {}}), reader.patch(f"{PRODUCTS}/{P1}", {"fields": {}}),
              reader.delete(f"{PRODUCTS}/{P1}"), reader.post(f"{PRODUCTS}/{P1}/comments", {"text": "x"})):
        assert (a.status, a.error) == (403, "read_only_key")
    assert air.rows("product_inventory") == before


def test_comments_and_webhooks_change_no_row(air):
    before = air.rows("product_inventory")
    made_id = check(air.client.post(f"{PRODUCTS}/{P1}/comments", {"text": "hi"}), "none")["id"]
    check(air.client.patch(f"{PRODUCTS}/{P1}/comments/{made_id}", {"text": "ho"}), "none")
    check(air.client.delete(f"{PRODUCTS}/{P1}/comments/{made_id}"), "none")
    spec = {"specification": {"options": {"filters": {"dataTypes": ["tableData"]}}}}
    hook = check(air.client.post("/v0/bases/appFakeBase000001/webhooks", spec), "none")["id"]
    check(air.client.delete(f"/v0/bases/appFakeBase000001/webhooks/{hook}"), "none")
    assert air.rows("product_inventory") == before
    assert air.write_log() == []
