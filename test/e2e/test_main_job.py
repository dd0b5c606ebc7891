"""The main job: got a 2xx, can SELECT it."""


def test_a_created_contact_is_in_the_mirror_before_the_answer(hub):
    a = hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "ada@example.com", "firstname": "Ada"}})
    assert (a.status, a.commit, a.error) == (201, "committed", None)
    row = hub.row("contact", a.json["id"])
    assert (row["email"], row["firstname"]) == ("ada@example.com", "Ada")
    assert row["_sync_updated_at"] is not None


def test_an_update_changes_only_what_it_names(hub):
    made = hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "b@example.com", "firstname": "Bea", "lastname": "Bee"}}).json
    a = hub.client.patch(f"/crm/v3/objects/contacts/{made['id']}", {"properties": {"firstname": "Beatrix"}})
    assert (a.status, a.commit) == (200, "committed")
    row = hub.row("contact", made["id"])
    assert (row["email"], row["firstname"], row["lastname"]) == ("b@example.com", "Beatrix", "Bee")


def test_a_deleted_contact_is_gone(hub):
    made = hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "c@example.com"}}).json
    a = hub.client.delete(f"/crm/v3/objects/contacts/{made['id']}")
    assert (a.status, a.commit, a.body) == (204, "committed", b"")
    assert hub.row("contact", made["id"]) is None


def test_a_refused_write_changes_nothing(hub):
    hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "d@example.com"}})
    before = hub.rows("contact")
    a = hub.client.post("/crm/v3/objects/contacts", {"properties": {"email": "d@example.com"}})
    assert (a.status, a.commit, a.error) == (409, "none", None)
    assert hub.rows("contact") == before


def test_a_read_passes_through_untouched(hub):
    a = hub.client.get("/crm/v3/objects/contacts?limit=2")
    assert (a.status, a.commit) == (200, "none")
    assert len(a.json["results"]) == 2
    assert hub.rows("contact") == []


def test_an_airtable_record_is_in_the_mirror_before_the_answer(air):
    a = air.client.post("/v0/appFakeBase000001/Product%20Inventory", {"fields": {"Name": "Brass cog"}})
    assert (a.status, a.commit) == (200, "committed")
    assert air.row("product_inventory", a.json["id"])["name"] == "Brass cog"
