"""HubSpot's types, properties and names: what discovery makes of them, and how the mirror follows changes."""

import datetime
import decimal

import pytest

from cluster import wait_until
from conftest import make_sync
from hubspot_mirror import Account

ODD = {"annualrevenue": "NaN", "is_vip": "TRUE", "date_of_birth": "1709164800000", "last_seen": "2024-02-29T12:00:00.5+05:30",
       "favorite_colors": ";red;;light grey;", "prefs": '{"a": "\\u00e9", "n": 1e400}', "phone": "+1 (2) 3", "firstname": "a'b\\\"\n\t€"}


@pytest.fixture
def account(hub):
    return Account(hub)


def committed(answer, *statuses):
    assert answer.status in statuses and (answer.commit, answer.error) == ("committed", None), answer
    return answer


def make(hub, kind="contacts", **properties):
    return committed(hub.client.post(f"/crm/v3/objects/{kind}", {"properties": properties}), 201).json["id"]


def cast_errors(sync, column=None):
    return {(r["table_name"], r["id"], r["column_name"], r["value"]) for r in sync.cluster.dicts(
        "SELECT * FROM sequin.cast_error WHERE sync = %s", (sync.name,)) if column in (None, r["column_name"])}


@pytest.fixture
def sync_of(cluster, fakes):
    """Makes syncs of a freshly reset stand-in, dropped at the end."""
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    made = []

    def create(**kw):
        made.append(make_sync(cluster, fakes.hubspot, "hubspot", **kw))
        return made[-1]
    yield create
    for sync in made:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


# -- values

def test_columns_have_the_types_of_their_properties(hub):
    have = hub.columns("contact")
    want = {"email": "text", "phone": "text", "annualrevenue": "numeric", "date_of_birth": "date", "is_vip": "boolean",
            "last_seen": "timestamp with time zone", "newsletter": "text", "hs_lead_status": "text", "favorite_colors": "ARRAY",
            "prefs": "jsonb", "hs_origin": "text", "hubspot_owner_id": "text", "created_at": "timestamp with time zone",
            "updated_at": "timestamp with time zone", "_sync_updated_at": "timestamp with time zone", "id": "text"}
    assert {k: have.get(k) for k in want} == want


def test_odd_values_become_typed_ones(hub, account):
    a = hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "odd@example.com", **ODD}})
    row = hub.row("contact", committed(a, 201).json["id"])
    assert row["annualrevenue"].is_nan() and row["is_vip"] is True
    assert row["date_of_birth"] == datetime.date(2024, 2, 29)
    assert row["last_seen"] == datetime.datetime(2024, 2, 29, 6, 30, 0, 500000, tzinfo=datetime.timezone.utc)
    assert row["favorite_colors"] == ["red", "light grey"]
    assert (row["prefs"]["a"], row["phone"], row["firstname"]) == ("é", "+1 (2) 3", ODD["firstname"])
    assert cast_errors(hub) == set()


@pytest.mark.parametrize("column, value, want", [
    ("annualrevenue", "1e3", decimal.Decimal(1000)), ("annualrevenue", "-0.000000000000000001", decimal.Decimal("-1e-18")),
    ("annualrevenue", "Infinity", decimal.Decimal("Infinity")), ("annualrevenue", "twelve", None), ("annualrevenue", "1,5", None),
    ("is_vip", "maybe", None), ("date_of_birth", "2024-02-30", None), ("date_of_birth", "0", datetime.date(1970, 1, 1)),
    ("date_of_birth", "2024-02-29T00:00:00Z", datetime.date(2024, 2, 29)), ("last_seen", "yesterday", None),
    ("last_seen", "-1", datetime.datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=datetime.timezone.utc)),
    ("last_seen", "99999999999999999999", None), ("prefs", "{not json", "{not json"), ("prefs", "\"\\u0000\"", None),
    ("favorite_colors", "red;unknown option", ["red", "unknown option"]), ("newsletter", "perhaps", "perhaps")])
def test_historic_values_are_typed_or_null_with_a_cast_error(hub, account, column, value, want):
    one = make(hub, email="raw@example.com", firstname="R")
    account.edit("raw", type="contacts", id=one, properties={column: value})
    # A merge with an empty record makes the proxy read every column again.
    other = make(hub, email="raw2@example.com")
    hub.fake.config(merge_mints=False)
    committed(hub.client.post("/crm/v3/objects/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": other}), 200)
    row = hub.row("contact", one)
    assert (row[column], row["firstname"]) == (want, "R")
    assert cast_errors(hub, column) == ({("contact", one, column, value)} if want is None else set())


# -- the schema moves

@pytest.mark.parametrize("path", ["/crm/v3/properties/contacts", "/crm/properties/2026-03/contacts", "/crm/properties/2026-09/0-1"])
def test_a_new_property_is_a_column_when_its_answer_comes(hub, account, path):
    body = {"name": "shoe_size", "label": "Shoe size", "type": "number", "fieldType": "number", "groupName": "information"}
    committed(hub.client.post(path, body), 201)
    assert hub.columns("contact")["shoe_size"] == "numeric"
    one = make(hub, email="shoe@example.com", shoe_size="42.5")
    account.same("contacts", one, ("shoe_size",))


def test_a_reader_who_holds_the_table_defers_a_new_column_and_nothing_else(hub, account):
    """The wait for the lock ends inside a subtransaction: the worker must be out of both."""
    body = {"name": "shoe_size", "label": "Shoe size", "type": "number", "fieldType": "number", "groupName": "information"}
    with hub.cluster.connect(autocommit=False) as db:
        db.execute(f'SELECT FROM "{hub.name}".contact')
        assert hub.client.post("/crm/v3/properties/contacts", body).commit == "deferred"
        for n in range(5):      # whichever worker it was
            make(hub, email=f"meanwhile{n}@example.com")
        db.rollback()
    wait_until("the column is there", lambda: "shoe_size" in hub.columns("contact"))
    make(hub, email="shoe@example.com", shoe_size="42.5")


def test_a_batch_of_new_properties_are_columns(hub):
    inputs = [{"name": f"p{n}", "label": f"P{n}", "type": t, "fieldType": f, "groupName": "information"}
              for n, (t, f) in enumerate((("string", "text"), ("bool", "booleancheckbox"), ("enumeration", "checkbox"), ("date", "date"),
                                          ("datetime", "date"), ("phone_number", "phonenumber"), ("json", "text")))]
    committed(hub.client.post("/crm/v3/properties/contacts/batch/create", {"inputs": inputs}), 201)
    columns = hub.columns("contact")
    assert [columns[f"p{n}"] for n in range(7)] == ["text", "boolean", "ARRAY", "date", "timestamp with time zone", "text", "jsonb"]


def test_a_row_of_many_short_values_is_stored_whole_and_a_long_text_apart(sync_of):
    sync = sync_of(tables=["contacts"])
    names = [f"wide_{i:03}" for i in range(100)]
    inputs = [{"name": name, "label": name, "groupName": "information", "type": "string", "fieldType": "text"} for name in names]
    committed(sync.client.post("/crm/v3/properties/contacts/batch/create", {"inputs": inputs}), 201)

    def apart():
        return sync.cluster.one(f"SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = '{sync.name}.contact'::regclass")

    make(sync, **{name: f"{name} has thirty characters" for name in names})
    assert apart() == 0
    make(sync, firstname="".join(chr(0x4e00 + i * 7919 % 20000) for i in range(9000)))
    assert apart() > 0


def test_an_archived_property_keeps_its_column(hub, cluster):
    body = {"name": "brief", "label": "Brief", "type": "string", "fieldType": "text", "groupName": "information"}
    committed(hub.client.post("/crm/v3/properties/contacts", body), 201)
    make(hub, email="brief@example.com", brief="kept")
    committed(hub.client.delete("/crm/v3/properties/contacts/brief"), 204)
    assert hub.rows("contact")[0]["brief"] == "kept"
    assert cluster.one("SELECT removed_at IS NOT NULL FROM sequin.mirror_column WHERE sync = %s AND field = 'brief'", (hub.name,))


def test_a_property_of_a_type_that_is_not_mirrored_commits_none(hub):
    body = {"name": "elsewhere", "label": "E", "type": "string", "fieldType": "text", "groupName": "information"}
    a = hub.client.post("/crm/v3/properties/tickets", body)
    assert (a.status, a.commit, a.error) == (201, "none", None)


@pytest.mark.parametrize("write", ["create", "patch", "batch", "merge"])
def test_a_property_made_past_the_proxy_gets_its_column_with_the_row(hub, account, write):
    one, two = make(hub, email="n1@example.com"), make(hub, email="n2@example.com")
    for name, kind in (("surprise", "number"), ("wonder", "string")):
        account.edit("property_create", type="contacts", property={"name": name, "type": kind})
    new = {"surprise": "7", "wonder": "w"}
    base = "/crm/v3/objects/contacts"
    if write == "create":
        one = committed(hub.client.post(base, {"properties": {"email": "n3@example.com", **new}}), 201).json["id"]
    elif write == "patch":
        committed(hub.client.patch(f"{base}/{one}", {"properties": new}), 200)
    elif write == "batch":
        committed(hub.client.post(f"{base}/batch/update", {"inputs": [{"id": i, "properties": new} for i in (one, two)]}), 200)
    else:
        account.edit("update", type="contacts", id=one, properties=new)
        one = committed(hub.client.post(f"{base}/merge", {"primaryObjectId": one, "objectIdToMerge": two}), 200).json["id"]
        committed(hub.client.patch(f"{base}/{one}", {"properties": {"wonder": "w"}}), 200)
    account.same("contacts", one, ("wonder", "email"))
    if write != "merge":
        account.same("contacts", one, new)
        assert hub.row("contact", one)["surprise"] == 7


def test_a_property_made_past_the_proxy_and_cleared_gets_its_column_too(hub, account):
    one = make(hub, email="n1@example.com")
    account.edit("property_create", type="contacts", property={"name": "surprise"})
    committed(hub.client.patch(f"/crm/v3/objects/contacts/{one}", {"properties": {"surprise": ""}}), 200)
    assert hub.row("contact", one)["surprise"] is None


# -- names

def test_names_that_collide_or_are_too_long_have_columns_of_their_own(hub, account, cluster):
    long_a, long_b = "x" * 70 + "a", "x" * 70 + "b"
    names = ["id", "created_at", "_x"[1:] + "_sync_updated_at", "order", "user", "select", "a__b", "a_b", "a___b", "hs2name", "hs_2name",
             "h2o", long_a, long_b, "x" * 63, "x" * 64]
    names = list(dict.fromkeys(names))
    for name in names:
        body = {"name": name, "label": name, "type": "string", "fieldType": "text", "groupName": "information"}
        committed(hub.client.post("/crm/v3/properties/contacts", body), 201)
    one = make(hub, email="names@example.com", **{n: f"value of {n[:5]} {i}" for i, n in enumerate(names)})
    columns = account.columns("contacts")
    assert len({columns[n][0] for n in names}) == len(names)
    assert all(len(columns[n][0].encode()) <= 63 for n in names)
    assert (columns["id"][0], columns["created_at"][0], columns["order"][0], columns["user"][0]) == ("id_", "created_at_", "order", "user")
    assert columns["x" * 63][0] == "x" * 63 and columns[long_a][0].startswith("x" * 54 + "_")
    account.same("contacts", one, names)


def test_types_named_as_reserved_words_work(sync_of):
    sync = sync_of(tables=["orders", "users", "contacts", "goal_targets", "postal_mail"])
    account = Account(sync)
    one = make(sync, "orders", name="O")
    account.same("orders", one, ("name",))
    assert sync.row("order", one)["name"] == "O"
    make(sync, "users", name="U")
    contact = make(sync, email="o@example.com")
    committed(sync.client.put(f"/crm/v4/objects/orders/{one}/associations/default/contacts/{contact}"), 200)
    assert account.same_link("orders", one, "contacts", contact) == []
    committed(sync.client.delete(f"/crm/v3/objects/orders/{one}"), 204)
    assert account.same_link("orders", one, "contacts", contact) is None


# -- custom objects, owners, discovery

@pytest.mark.parametrize("chosen", ["cars", "p4711_cars", "2-7000001", "Cars"])
def test_a_custom_object_is_selected_and_written_by_any_of_its_names(sync_of, chosen):
    sync = sync_of(tables=[chosen, "contacts"])
    account = Account(sync)
    contact = make(sync, email="car@example.com")
    for n, name in enumerate(("cars", "p4711_cars", "2-7000001", "P4711_CARS")):
        one = make(sync, name, vin=f"NEW{n}", doors="5", bought="2020-05-06")
        account.same("cars", one, ("vin", "doors", "bought", "make"))
        committed(sync.client.patch(f"/crm/objects/2026-03/{name}/{one}", {"properties": {"make": "Fiat"}}), 200)
        account.same("cars", one, ("make",))
        committed(sync.client.put(f"/crm/v4/objects/{name}/{one}/associations/default/contacts/{contact}"), 200)
        assert account.same_link("cars", one, "contacts", contact) == []
        committed(sync.client.delete(f"/crm/v3/objects/{name}/{one}"), 204)
        account.gone("cars", one)
    assert sync.rows("associations_cars_contact") == []


def schema(name):
    return {"name": name, "labels": {"singular": name, "plural": name}, "requiredProperties": ["title"], "primaryDisplayProperty": "title",
            "searchableProperties": [], "associatedObjects": ["CONTACT"],
            "properties": [{"name": "title", "label": "Title", "type": "string", "fieldType": "text"},
                           {"name": "weight", "label": "Weight", "type": "number", "fieldType": "number"}]}


def test_with_all_tables_chosen_a_new_custom_object_is_a_table_at_once(sync_of):
    sync = sync_of()
    for path, name in (("/crm/v3/schemas", "boat"), ("/crm-object-schemas/2026-03/schemas", "kite")):
        committed(sync.client.post(path, schema(name)), 201)
        one = make(sync, name, title="T", weight="1.5")
        assert (sync.row(name, one)["title"], sync.row(name, one)["weight"]) == ("T", decimal.Decimal("1.5"))
        contact = make(sync, email=f"{name}@example.com")
        committed(sync.client.put(f"/crm/v4/objects/{name}/{one}/associations/default/contacts/{contact}"), 200)
        assert Account(sync).same_link(name, one, "contacts", contact) == []


def test_without_tables_everything_readable_is_discovered(sync_of, fakes, cluster):
    fakes.hubspot.config(forbidden_types=["tickets", "0-14"])
    sync = sync_of()
    tables = {r["table_name"] for r in cluster.dicts("SELECT table_name FROM sequin.mirror_table WHERE sync = %s", (sync.name,))}
    assert {"contact", "company", "deal", "line_item", "order", "user", "owner", "cars", "associations_company_contact"} <= tables
    assert not {"ticket", "quote"} & tables
    assert all(cluster.one("SELECT to_regclass(%s) IS NOT NULL", (f'"{sync.name}"."{t}"',)) for t in tables)
    said = cluster.one("SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,))
    assert "ticket" in said and "quote" in said and "pat-na1-test" not in said
    a = sync.client.post("/crm/v3/objects/tickets", {"properties": {"subject": "T"}})
    assert (a.status, a.commit, a.error) == (403, "none", None)


def test_a_forbidden_type_that_was_asked_for_is_noted_and_the_others_work(sync_of, fakes, cluster):
    fakes.hubspot.config(forbidden_types=["tickets"])
    sync = sync_of(tables=["contacts", "tickets"])
    assert "ticket" in cluster.one("SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,))
    make(sync, email="f@example.com")


def test_owners_are_a_table_with_their_columns(sync_of):
    sync = sync_of(tables=["owners", "contacts"])
    columns = sync.columns("owner")
    assert {"id", "email", "first_name", "last_name", "created_at", "updated_at", "_sync_updated_at"} <= set(columns)
    make(sync, email="own@example.com", hubspot_owner_id="501")
    assert sync.rows("contact", "email = 'own@example.com'")[0]["hubspot_owner_id"] == "501"
