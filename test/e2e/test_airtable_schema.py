"""Airtable's schema and values: types, names, fields that come and change, cells that do not fit."""

import datetime
import decimal
import json

import pytest

from airtable_mirror import BASE, PRODUCTS, SUPPLIERS, Mirror
from cluster import wait_until

META = "/v0/meta/bases/appFakeBase000001/tables"
P1, P2 = "recProd0000000001", "recProd0000000002"
UTC = datetime.timezone.utc
TYPES = {
    "name": "text", "notes": "text", "rich_notes": "text", "contact_email": "text", "website": "text", "phone": "text",
    "quantity": "numeric", "price": "numeric", "margin": "numeric", "stars": "integer", "build_time": "numeric",
    "in_stock": "boolean", "released": "date", "checked_at": "timestamp with time zone", "status": "text", "tags": "ARRAY",
    "owner": "jsonb", "team": "jsonb", "suppliers": "ARRAY", "photos": "jsonb", "barcode": "jsonb", "open": "jsonb",
    "summary_ai": "jsonb", "total": "numeric", "ratio": "numeric", "label": "text", "supplier_cost": "numeric",
    "average_cost": "numeric", "supplier_count": "numeric", "supplier_names": "ARRAY", "source": "text", "number": "bigint",
    "created": "timestamp with time zone", "modified": "timestamp with time zone", "created_by": "jsonb", "modified_by": "jsonb",
    # names that collide: with our own columns, with each other
    "id_": "text", "created_time_": "text", "created_time_2": "text", "first_name": "text", "first_name_": "text",
    "first_name_2": "text", "go": "text", "_2nd_choice": "text", "größe": "numeric", "_100_day_q_x": "text",
}


def check(a, commit="committed", status=200):
    assert (a.status, a.commit, a.error) == (status, commit, None), a
    return a.json


def snake(name):
    return "".join("_" + c.lower() if c.isupper() else c for c in str(name)).lstrip("_")


def errors(air, record_id):
    return {r["column_name"]: r["error"] for r in air.cluster.dicts(
        "SELECT column_name, error FROM sequin.cast_error WHERE sync = %s AND id = %s", (air.name, record_id))}


def field_of(air, kind, options=None, table="Suppliers", name="odd"):
    return air.fake.edit(op="field_create", table=table, field={"name": name, "type": kind, "options": options})["results"][0]["id"]


def test_every_field_type_has_its_column_and_every_name_its_own(air_shared):
    columns = air_shared.columns("product_inventory")
    long = [c for c in columns if c.startswith("a_very_long_field_name")]
    assert len(long) == 1 and len(long[0]) == 63
    assert columns == {"id": "text", "created_time": "timestamp with time zone", "_sync_updated_at": "timestamp with time zone",
                       long[0]: "text", **TYPES}


def test_a_full_and_a_nearly_empty_record_of_every_type(air):
    for rid in (P1, P2):
        check(air.client.patch(f"{PRODUCTS}/{rid}", {"fields": {"Notes": "x"}}))
    assert Mirror(air).differences([P1, P2], skip=()) == []
    assert errors(air, P1) == {}


ODD = [
    ("number", {"specialValue": "NaN"}, decimal.Decimal("NaN"), False),
    ("number", {"specialValue": "Infinity"}, decimal.Decimal("Infinity"), False),
    ("number", {"specialValue": "-Infinity"}, decimal.Decimal("-Infinity"), False),
    ("number", {"error": "#ERROR!"}, None, True),
    ("number", 12345678901234567890123, decimal.Decimal(12345678901234567890123), False),
    ("number", 1e-9, decimal.Decimal("1e-9"), False),
    ("number", 1e300, decimal.Decimal("1e300"), False),
    ("number", "abc", None, True),
    ("number", [1], None, True),
    ("percent", 0.123, decimal.Decimal("0.123"), False),
    ("rating", 5, 5, False),
    ("rating", 3.5, None, True),
    ("rating", 99999999999, None, True),
    ("duration", 3723.5, decimal.Decimal("3723.5"), False),
    ("checkbox", True, True, False),
    ("checkbox", {"error": "#ERROR!"}, None, True),
    ("date", "2024-02-29", datetime.date(2024, 2, 29), False),
    ("date", "2023-02-29", None, True),
    ("date", "0001-01-01", datetime.date(1, 1, 1), False),
    ("dateTime", "2024-02-29T12:34:56.789Z", datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, UTC), False),
    ("dateTime", {"error": "#ERROR!"}, None, True),
    ("dateTime", "soon", None, True),
    ("singleLineText", "a\u0000b", None, True),
    ("singleLineText", "'); DROP TABLE x; --\\ \"", "'); DROP TABLE x; --\\ \"", False),
    ("singleLineText", {"specialValue": "NaN"}, "NaN", False),
    ("singleLineText", {"error": "#ERROR!"}, None, True),
    ("multipleSelects", ["a", None, "b, c", '"q"', "{}", "\\", "NULL", " x ", "é"],
     ["a", None, "b, c", '"q"', "{}", "\\", "NULL", " x ", "é"], False),
    ("multipleSelects", [1, True, None, 2.5], ["1", "true", None, "2.5"], False),
    ("multipleSelects", ["a\u0000b"], None, True),
    ("aiText", {"state": "error", "isStale": True, "value": None, "errorType": "x"},
     {"state": "error", "isStale": True, "value": None, "errorType": "x"}, False),
    ("barcode", {"text": "1"}, {"text": "1"}, False),
    ("aFutureType", [1, None, {"a": []}], [1, None, {"a": []}], False),
    ("aFutureType", "text", "text", False),
    ("aFutureType", 7, 7, False),
    ("aFutureType", {"a": "nul \u0000"}, None, True),
    ("singleCollaborator", {"id": "usr1"}, {"id": "usr1"}, False),
]


def test_a_value_that_does_not_fit_is_null_and_noted_and_never_blocks_the_row(air):
    options = {"result": {"type": "singleLineText"}}
    for n, (kind, _, _, _) in enumerate(ODD):
        field_of(air, kind, options if kind in ("date", "dateTime", "number") else {"choices": []}, name=f"odd {n}")
    rid = "recSupp0000000001"
    for n, (_, value, _, _) in enumerate(ODD):
        air.fake.edit(op="raw", table="Suppliers", id=rid, fields={f"odd {n}": value})
    check(air.client.patch(f"{SUPPLIERS}/{rid}", {"fields": {"Name": "still written"}}))
    row = air.row("suppliers", rid)
    noted = errors(air, rid)
    assert row["name"] == "still written"
    for n, (kind, value, expected, misfit) in enumerate(ODD):
        got = row[f"odd_{n}"]
        if isinstance(expected, decimal.Decimal) and expected.is_nan():
            assert got.is_nan()
        else:
            assert got == expected, (kind, value, got)
        assert (f"odd_{n}" in noted) == misfit, (kind, value, noted)


def test_a_computed_cell_with_a_special_value_or_an_error(air):
    for quantity, price in ((0, 5), (0, 0), (0, -5)):
        check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Quantity": quantity, "Price": price}}))
        assert Mirror(air).differences([P1]) == []
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Suppliers": []}}))  # the average of nothing
    assert Mirror(air).differences([P1], skip=()) == []


def test_a_field_made_past_the_proxy_has_its_column_in_the_same_answer(air):
    field_of(air, "checkbox", {}, table="Product Inventory", name="Late?")
    got = check(air.client.post(PRODUCTS, {"fields": {"Name": "x", "Late?": True}}))
    assert air.row("product_inventory", got["id"])["late"] is True
    got = check(air.client.post(PRODUCTS, {"fields": {"Name": "y"}}))
    assert air.row("product_inventory", got["id"])["late"] is False


def test_a_field_made_past_the_proxy_and_written_by_its_id(air):
    field = field_of(air, "number", {}, table="Product Inventory", name="By Id")
    got = check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {field: 7}, "returnFieldsByFieldId": True}))
    assert got["fields"][field] == 7
    assert air.row("product_inventory", P1)["by_id"] == 7


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_new_field_of_the_true_table_has_its_column_when_written_through_the_wrong_one(air, mirrored):
    if mirrored:
        check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Notes": "seen"}}))
    field_of(air, "number", {}, table="Product Inventory", name="Elsewhere")
    check(air.client.patch(f"{SUPPLIERS}/{P1}", {"fields": {"Elsewhere": 9}}))
    assert air.row("product_inventory", P1)["elsewhere"] == 9
    assert "elsewhere" not in air.columns("suppliers")
    assert Mirror(air).differences([P1]) == []


@pytest.mark.parametrize("path", [PRODUCTS, SUPPLIERS])
def test_a_cut_off_write_of_a_field_made_past_the_proxy_brings_its_column(air, path):
    field_of(air, "number", {}, table="Product Inventory", name="Cut Off")
    air.fake.fault("reset_after", method="PATCH")
    a = air.client.patch(f"{path}/{P1}", {"fields": {"Cut Off": 6}})
    assert (a.status, a.error) == (502, "upstream_protocol_error")
    wait_until("the journal has repaired it", lambda: air.write_log()[-1]["state"] == "resolved")
    assert air.row("product_inventory", P1)["cut_off"] == 6


def test_what_was_written_through_a_wrong_table_does_not_hide_a_new_field_there(air):
    check(air.client.patch(f"{SUPPLIERS}/recSupp0000000001", {"fields": {"Cost": 1}}))
    for _ in range(8):  # each worker has seen one
        check(air.client.patch(f"{SUPPLIERS}/{P1}", {"fields": {"Price": 2}}))
    field_of(air, "number", {}, name="Price")
    got = check(air.client.patch(f"{SUPPLIERS}/recSupp0000000001", {"fields": {"Price": 3}}))
    assert air.row("suppliers", got["id"])["price"] == 3


def test_an_attachment_in_a_field_made_past_the_proxy(air):
    field = field_of(air, "multipleAttachments", {}, name="Files")
    check(air.client.post(f"{BASE}/recSupp0000000001/{field}/uploadAttachment", host="content.airtable.com", json={
        "contentType": "text/plain", "filename": "a.txt", "file": ""}))
    assert [f["filename"] for f in air.row("suppliers", "recSupp0000000001")["files"]] == ["a.txt"]


def test_a_new_table_field_and_name_is_in_the_mirror_before_the_answer(air):
    table = check(air.client.post(META, {"name": "New Things", "fields": [{"name": "Name", "type": "singleLineText"}]}))["id"]
    assert air.columns("new_things")["name"] == "text"
    got = check(air.client.post(f"{BASE}/New%20Things", {"fields": {"Name": "first"}}))
    field = check(air.client.post(f"{META}/{table}/fields", {"name": "Weight", "type": "number", "options": {"precision": 1}}))["id"]
    assert air.columns("new_things")["weight"] == "numeric"
    check(air.client.patch(f"{BASE}/New%20Things/{got['id']}", {"fields": {"Weight": 1.5}}))
    check(air.client.patch(f"{META}/{table}/fields/{field}", {"name": "Heaviness"}))
    row = air.row("new_things", got["id"])
    assert (row["name"], float(row["heaviness"]), "weight" in row) == ("first", 1.5, False)
    check(air.client.patch(f"{META}/{table}", {"name": "Old Things"}))
    assert air.row("old_things", got["id"])["name"] == "first"
    check(air.client.post(f"{BASE}/Old%20Things", {"fields": {"Name": "second", "Heaviness": 2}}))
    assert len(air.rows("old_things")) == 2


def test_a_link_field_brings_its_mirror_image_in_the_other_table(air):
    check(air.client.post(f"{META}/tblProducts000001/fields", {
        "name": "Backup", "type": "multipleRecordLinks", "options": {"linkedTableId": "tblSuppliers00001"}}))
    assert air.columns("product_inventory")["backup"] == "ARRAY"
    assert air.columns("suppliers")["product_inventory"] == "ARRAY"


@pytest.mark.parametrize("result, column_type", [
    ("singleLineText", "text"), ("singleSelect", "text"), ("number", "numeric"), ("currency", "numeric"), ("percent", "numeric"),
    ("duration", "numeric"), ("checkbox", "boolean"), ("date", "date"), ("dateTime", "timestamp with time zone"),
    ("createdTime", "timestamp with time zone"), ("multipleSelects", "ARRAY"), ("multipleAttachments", "jsonb"), (None, "jsonb")])
def test_a_formulas_column_has_its_results_type(air_shared, result, column_type):
    options = {"formula": "1", "isValid": result is not None, "result": result and {"type": result}}
    field_of(air_shared, "formula", options, table="Empty", name=f"f {result}")
    check(air_shared.client.post(f"{META}/tblEmpty000000001/fields", {"name": f"trigger {result}", "type": "singleLineText"}))
    assert air_shared.columns("empty")[f"f_{snake(result)}"] == column_type


def test_a_locked_column_keeps_its_name_and_the_rename_still_finds_it(air):
    air.cluster.sql("UPDATE sequin.mirror_column SET column_name = 'land' WHERE sync = %s AND field = 'fldSupp0000000002'", (air.name,))
    check(air.client.patch(f"{META}/tblSuppliers00001/fields/fldSupp0000000002", {"name": "Nation"}))
    got = check(air.client.post(SUPPLIERS, {"fields": {"Name": "n", "Nation": "DE"}}))
    assert air.row("suppliers", got["id"])["land"] == "DE"
    assert "nation" not in air.columns("suppliers")


def test_a_field_that_is_not_mirrored_is_left_out_and_is_no_unknown_one(air):
    air.cluster.sql("UPDATE sequin.mirror_column SET enabled = false WHERE sync = %s AND field = 'fldSupp0000000002'", (air.name,))
    air.fake.clear_log()
    got = check(air.client.post(SUPPLIERS, {"fields": {"Name": "n", "Country": "DE"}}))
    assert air.row("suppliers", got["id"])["name"] == "n"
    assert [e["method"] for e in air.fake.log()] == ["POST"]


def test_a_dropped_column_or_table_is_made_again(air):
    air.cluster.sql(f'ALTER TABLE "{air.name}".suppliers DROP COLUMN cost')
    got = check(air.client.post(SUPPLIERS, {"fields": {"Name": "n", "Cost": 4}}))
    assert air.row("suppliers", got["id"])["cost"] == 4
    air.cluster.sql(f'DROP TABLE "{air.name}".suppliers')
    got = check(air.client.post(SUPPLIERS, {"fields": {"Name": "m", "Cost": 5}}))
    assert air.row("suppliers", got["id"])["cost"] == 5


def test_a_description_is_nothing_of_ours(air):
    """The schema was asked for, but nothing of the mirror is another: none."""
    check(air.client.patch(f"{META}/tblProducts000001", {"description": "new words"}), "none")
    check(air.client.patch(f"{META}/tblProducts000001/fields/fldProd0000000001", {"description": "new words"}), "none")
    assert [w["state"] for w in air.write_log()] == ["none", "none"]


def test_a_renamed_table_and_field_are_found_by_their_new_names(air):
    air.fake.edit(op="table_rename", table="Suppliers", name="Vendors")
    got = check(air.client.post(f"{BASE}/Vendors", {"fields": {"Name": "v"}}))
    assert air.row("vendors", got["id"])["name"] == "v"
    air.fake.edit(op="field_rename", table="Vendors", field="Country", name="Land")
    got = check(air.client.post(f"{BASE}/Vendors", {"fields": {"Name": "w", "Land": "DE"}}))
    assert air.row("vendors", got["id"])["land"] == "DE"


def test_two_tables_that_swap_their_names(air):
    """Rows follow the tables' identities, not their names."""
    air.fake.edit(op="table_rename", table="🚀 Launch Plan", name="tmp")
    air.fake.edit(op="table_rename", table="A/B Tests", name="🚀 Launch Plan")
    air.fake.edit(op="table_rename", table="tmp", name="A/B Tests")
    got = check(air.client.post(f"{BASE}/tblLaunch00000001", {"fields": {"Name": "launch"}}))
    table = air.cluster.one("SELECT table_name FROM sequin.mirror_table WHERE sync = %s AND collection = 'tblLaunch00000001'", (air.name,))
    assert air.row(table, got["id"])["name"] == "launch"


def test_a_type_that_changed_past_the_proxy_still_takes_the_row(air):
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Quantity": 3}}))
    air.fake.edit(op="field_type", table="Product Inventory", field="Quantity", type="singleLineText")
    check(air.client.patch(f"{PRODUCTS}/{P1}", {"fields": {"Quantity": "many"}}))
    assert air.row("product_inventory", P1)["quantity"] is None
    assert "quantity" in errors(air, P1)


def test_decode_tells_what_an_exchange_would_commit(air_shared):
    rows = air_shared.cluster.dicts("SELECT * FROM sequin.decode(%s, 'PATCH', %s, %s, 200, %s)", (
        air_shared.name, f"api.airtable.com{SUPPLIERS}/recX0000000000001", "{}",
        json.dumps({"id": "recX0000000000001", "createdTime": "2024-01-01T00:00:00.000Z", "fields": {"Name": "n"}})))
    assert [(r["op"], r["collection"], r["id"]) for r in rows] == [("upsert", "tblSuppliers00001", "recX0000000000001")]
