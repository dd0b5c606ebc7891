"""HubSpot's record writes (API_FACTS A16), each through every version of the path; see also test_hubspot_*.py."""

import pytest

from hubspot_mirror import Account

VERSIONS = {"v3": "/crm/v3/objects", "2026-03": "/crm/objects/2026-03", "2026-09": "/crm/objects/2026-09"}


@pytest.fixture(params=VERSIONS)
def base(request):
    """The path of the objects API in one version."""
    return VERSIONS[request.param]


@pytest.fixture
def account(hub):
    return Account(hub)


def make(hub, kind="contacts", **properties):
    """A record through the proxy; returns its id."""
    a = hub.client.post(f"/crm/v3/objects/{kind}", {"properties": properties})
    assert (a.status, a.commit) == (201, "committed"), a
    return a.json["id"]


def committed(answer, status):
    assert (answer.status, answer.commit, answer.error) == (status, "committed", None), answer
    return answer


# -- one record

def test_a_create_keeps_what_was_answered_and_what_was_only_sent(hub, account, base):
    sent = {"email": "Ada@Example.com", "firstname": "Ada", "annualrevenue": "12.50", "is_vip": "true",
            "favorite_colors": "red;blue", "date_of_birth": "1980-02-29", "last_seen": "1704067200123", "prefs": '{"a": [1]}',
            "jobtitle": ""}
    a = committed(hub.client.post(f"{base}/contacts", {"properties": sent}), 201)
    account.same_as_answer("contacts", a.json, sent)
    row = hub.row("contact", a.json["id"])
    assert (row["email"], row["jobtitle"], row["favorite_colors"]) == ("ada@example.com", None, ["red", "blue"])
    assert row["lastname"] is None


def test_a_type_may_be_spelled_in_every_way(hub, account):
    for n, name in enumerate(("contacts", "contact", "Contacts", "CONTACT", "0-1")):
        a = committed(hub.client.post(f"/crm/v3/objects/{name}", {"properties": {"email": f"{n}@spell.example"}}), 201)
        account.same_as_answer("contacts", a.json)


@pytest.mark.parametrize("cleared", ["absent", "null", "empty"])
def test_an_empty_string_clears_a_property(hub, account, cleared):
    hub.fake.config(cleared=cleared)
    one = make(hub, email="c@example.com", firstname="C", annualrevenue="5", favorite_colors="red", is_vip="true",
               date_of_birth="2000-01-01", last_seen="2020-01-01T00:00:00Z", prefs="{}")
    sent = {"firstname": "", "annualrevenue": "", "favorite_colors": "", "is_vip": None, "date_of_birth": "", "last_seen": "",
            "prefs": ""}
    a = committed(hub.client.patch(f"/crm/v3/objects/contacts/{one}", {"properties": sent}), 200)
    account.same_as_answer("contacts", a.json, {*sent, "email"})
    row = hub.row("contact", one)
    assert [row[c] for c in sent] == [None] * len(sent)
    assert row["email"] == "c@example.com"


def test_a_patch_changes_what_it_names_and_no_more(hub, account, base):
    one = make(hub, email="p@example.com", firstname="P", lastname="Q")
    a = committed(hub.client.patch(f"{base}/contacts/{one}", {"properties": {"firstname": "Péter 🚀"}}), 200)
    account.same_as_answer("contacts", a.json, ("firstname", "lastname", "email"))


def test_a_patch_by_email_goes_to_the_answered_record(hub, account, base):
    one = make(hub, email="by@example.com", firstname="Old")
    a = committed(hub.client.patch(f"{base}/contacts/by%40example.com?idProperty=email", {"properties": {"firstname": "New"}}), 200)
    assert a.json["id"] == one
    account.same("contacts", one, ("firstname", "email"))
    assert len(hub.rows("contact")) == 1


def test_a_patch_by_email_of_a_record_not_mirrored_yet_tells_its_email(hub, account):
    one = account.edit("create", type="contacts", properties={"email": "late@example.com", "lastname": "L"})["id"]
    committed(hub.client.patch("/crm/v3/objects/contacts/LATE%40example.com?idProperty=email", {"properties": {"firstname": "F"}}), 200)
    account.same("contacts", one, ("firstname", "email"))


def test_a_patch_that_changes_the_email_it_goes_by_keeps_the_new_one(hub, account):
    one = make(hub, email="before@example.com")
    committed(hub.client.patch("/crm/v3/objects/contacts/before@example.com?idProperty=email", {"properties": {"email": "after@example.com"}}), 200)
    account.same("contacts", one, ("email",))


def test_a_patch_by_a_merged_away_id_goes_to_the_survivor(hub, account):
    one, two = make(hub, email="m1@example.com", firstname="M1"), make(hub, email="m2@example.com", lastname="M2")
    survivor = account.edit("merge", type="contacts", primary=one, other=two)["id"]
    a = committed(hub.client.patch(f"/crm/v3/objects/contacts/{one}", {"properties": {"jobtitle": "Boss"}}), 200)
    assert a.json["id"] == survivor
    account.gone("contacts", one)
    account.same("contacts", survivor, account.columns("contacts"))


def test_a_deleted_record_takes_its_links_along(hub, account, base):
    one, company = make(hub, email="d@example.com"), make(hub, "companies", name="D")
    committed(hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/default/companies/{company}"), 200)
    assert account.same_link("contacts", one, "companies", company) == []
    committed(hub.client.delete(f"{base}/contacts/{one}"), 204)
    account.gone("contacts", one)
    assert account.same_link("contacts", one, "companies", company) is None
    committed(hub.client.delete(f"{base}/contacts/{one}"), 204)


@pytest.mark.parametrize("by", ["id", "email"])
def test_a_gdpr_delete_removes_the_row(hub, account, base, by):
    one, other = make(hub, email="g@example.com"), make(hub, email="h@example.com")
    company = make(hub, "companies", name="G")
    committed(hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/default/companies/{company}"), 200)
    body = {"objectId": one} if by == "id" else {"objectId": "G@example.com", "idProperty": "email"}
    committed(hub.client.post(f"{base}/contacts/gdpr-delete", body), 204)
    account.gone("contacts", one)
    assert account.same_link("contacts", one, "companies", company) is None
    assert [r["id"] for r in hub.rows("contact")] == [other]


def test_a_gdpr_delete_of_an_unknown_email_changes_no_row(hub):
    one = make(hub, email="stay@example.com")
    a = hub.client.post("/crm/v3/objects/contacts/gdpr-delete", {"objectId": "nobody@example.com", "idProperty": "email"})
    assert (a.status, a.error) == (204, None)
    assert [r["id"] for r in hub.rows("contact")] == [one]


# -- merges

@pytest.mark.parametrize("mints", [True, False])
def test_a_merge_leaves_one_row_with_every_column_and_link(hub, account, base, mints):
    hub.fake.config(merge_mints=mints)
    one = make(hub, email="one@example.com", firstname="One", jobtitle="Boss")
    two = make(hub, email="two@example.com", firstname="Two", phone="123")
    companies = [make(hub, "companies", name=n) for n in "AB"]
    deal = make(hub, "deals", dealname="Deal")
    for source, target in ((one, companies[0]), (two, companies[1])):
        committed(hub.client.put(f"/crm/v4/objects/contacts/{source}/associations/companies/{target}",
                                 [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]), 201)
    committed(hub.client.put(f"/crm/v4/objects/deals/{deal}/associations/default/contacts/{two}"), 200)
    a = committed(hub.client.post(f"{base}/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": two}), 200)
    survivor = a.json["id"]
    assert (survivor == one) is not mints
    account.gone("contacts", *({one, two} - {survivor}))
    account.same("contacts", survivor, account.columns("contacts"))
    assert hub.row("contact", survivor)["phone"] == "123"
    for company in companies:
        assert account.same_link("contacts", survivor, "companies", company) is not None
    assert account.same_link("contacts", survivor, "deals", deal) == []
    assert len(hub.rows("associations_company_contact")) == 2
    assert len(hub.rows("associations_contact_deal")) == 1


def test_a_merge_by_an_id_that_was_merged_away_deletes_what_it_stands_for(hub, account):
    one, two, three = (make(hub, email=f"{n}@x.com") for n in ("one", "two", "three"))
    between = committed(hub.client.post("/crm/v3/objects/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": two}), 200).json["id"]
    last = committed(hub.client.post("/crm/v3/objects/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": three}), 200).json["id"]
    account.gone("contacts", one, two, three, between)
    account.same("contacts", last, {"email"})


def test_a_merge_of_companies_keeps_the_links_of_both_with_their_labels(hub, account):
    one, two = make(hub, "companies", name="One"), make(hub, "companies", name="Two", city="Here")
    contacts = [make(hub, email=f"{n}@mc.example") for n in range(3)]
    for company, contact in ((one, contacts[0]), (two, contacts[1]), (two, contacts[2])):
        committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}",
                                 [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]), 201)
    a = committed(hub.client.post("/crm/objects/2026-09/companies/merge", {"primaryObjectId": one, "objectIdToMerge": two}), 200)
    account.same("companies", a.json["id"], account.columns("companies"))
    for contact in contacts:
        assert account.same_link("contacts", contact, "companies", a.json["id"]) == ["Primary"]
    assert len(hub.rows("associations_company_contact")) == 3


# -- batches

def test_a_batch_create_commits_every_result(hub, account, base):
    inputs = [{"properties": {"email": f"b{n}@example.com", "firstname": f"B{n}", "jobtitle": ""}} for n in range(5)]
    a = committed(hub.client.post(f"{base}/contacts/batch/create", {"inputs": inputs}), 201)
    assert len(a.json["results"]) == 5
    for record in a.json["results"]:
        account.same_as_answer("contacts", record, ("firstname", "jobtitle"))
    assert len(hub.rows("contact")) == 5


def test_a_batch_of_records_that_only_the_row_tells_apart_is_right(hub, account):
    inputs = [{"properties": {"dealname": "same", "amount": str(n), "description": ""}} for n in range(4)]
    a = committed(hub.client.post("/crm/v3/objects/deals/batch/create", {"inputs": inputs}), 201)
    for record in a.json["results"]:
        account.same_as_answer("deals", record, ("dealname", "amount", "description"))


def test_a_batch_of_a_hundred_is_committed_whole(hub):
    inputs = [{"properties": {"email": f"h{n}@example.com"}} for n in range(100)]
    committed(hub.client.post("/crm/v3/objects/contacts/batch/create", {"inputs": inputs}), 201)
    assert len(hub.rows("contact")) == 100


@pytest.mark.parametrize("cleared", ["absent", "null"])
def test_a_batch_update_clears_and_sets_by_record(hub, account, base, cleared):
    hub.fake.config(cleared=cleared)
    ids = [make(hub, email=f"u{n}@example.com", firstname="F", lastname="L") for n in range(3)]
    inputs = [{"id": ids[0], "properties": {"firstname": ""}}, {"id": ids[1], "properties": {"lastname": "", "firstname": "G"}},
              {"id": "u2@example.com", "idProperty": "email", "properties": {"jobtitle": "J"}}]
    a = committed(hub.client.post(f"{base}/contacts/batch/update", {"inputs": inputs}), 200)
    assert len(a.json["results"]) == 3
    for one in ids:
        account.same("contacts", one, ("email", "firstname", "lastname", "jobtitle"))


def test_a_batch_update_of_a_merged_away_id_retires_it(hub, account):
    one, two = make(hub, email="x1@example.com"), make(hub, email="x2@example.com")
    survivor = account.edit("merge", type="contacts", primary=one, other=two)["id"]
    committed(hub.client.post("/crm/v3/objects/contacts/batch/update",
                              {"inputs": [{"id": two, "properties": {"firstname": "X"}}]}), 200)
    account.gone("contacts", two)
    account.same("contacts", survivor, account.columns("contacts"))


def test_two_inputs_of_a_batch_that_mean_one_record_end_as_the_api_has_it(hub, account):
    """By two ids that were merged away: results come in any order, with the same updatedAt."""
    one, two = make(hub, email="one@x.com"), make(hub, email="two@x.com")
    survivor = account.edit("merge", type="contacts", primary=one, other=two)["id"]
    hub.fake.config(freeze_clock=1900000000000)
    a = committed(hub.client.post("/crm/v3/objects/contacts/batch/update", {"inputs": [
        {"id": one, "properties": {"firstname": "first"}}, {"id": two, "properties": {"firstname": "second"}}]}), 200)
    assert [r["id"] for r in a.json["results"]] == [survivor, survivor]
    account.same("contacts", survivor, {"email", "firstname"})
    account.gone("contacts", one, two)


def test_a_batch_upsert_creates_and_updates(hub, account, base):
    old = make(hub, email="old@example.com", firstname="Old")
    inputs = [{"id": "old@example.com", "idProperty": "email", "properties": {"firstname": "Changed", "lastname": ""}},
              {"id": "new@example.com", "idProperty": "email", "properties": {"firstname": "New"}}]
    a = committed(hub.client.post(f"{base}/contacts/batch/upsert", {"inputs": inputs}), 200)
    assert sorted(r["new"] for r in a.json["results"]) == [False, True]
    for record in a.json["results"]:
        account.same_as_answer("contacts", record, ("email", "firstname", "lastname"))
    assert {r["email"] for r in hub.rows("contact")} == {"old@example.com", "new@example.com"}
    assert hub.row("contact", old)["firstname"] == "Changed"


def test_a_batch_upsert_by_another_unique_property_fills_it(hub, account):
    inputs = [{"id": f"e-{n}", "idProperty": "ext_id", "properties": {"firstname": f"E{n}"}} for n in range(3)]
    a = committed(hub.client.post("/crm/v3/objects/contacts/batch/upsert", {"inputs": inputs}), 200)
    for record in a.json["results"]:
        account.same_as_answer("contacts", record, ("ext_id", "firstname"))


def test_a_batch_archive_removes_rows_and_links(hub, account, base):
    ids = [make(hub, "companies", name=f"C{n}") for n in range(3)]
    contact = make(hub, email="a@example.com")
    for company in ids:
        committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}"), 200)
    committed(hub.client.post(f"{base}/companies/batch/archive", {"inputs": [{"id": ids[0]}, {"id": ids[1]}, {"id": "999999"}]}), 204)
    assert [r["id"] for r in hub.rows("company")] == [ids[2]]
    assert [r["company_id"] for r in hub.rows("associations_company_contact")] == [ids[2]]


def test_a_207_commits_what_succeeded(hub, account):
    make(hub, email="taken@example.com")
    inputs = [{"objectWriteTraceId": f"t{n}", "properties": {"email": e, "firstname": f"N{n}", "jobtitle": ""}}
              for n, e in enumerate(("ok1@example.com", "taken@example.com", "not an address", "ok2@example.com"))]
    a = committed(hub.client.post("/crm/v3/objects/contacts/batch/create", {"inputs": inputs}), 207)
    assert a.json["numErrors"] == 2
    for record in a.json["results"]:
        account.same_as_answer("contacts", record, ("firstname", "jobtitle"))
    assert len(hub.rows("contact")) == 3


def test_a_207_of_updates_leaves_the_failed_alone(hub, account, base):
    one, two = make(hub, email="k1@example.com", firstname="K"), make(hub, email="k2@example.com", firstname="K")
    inputs = [{"id": one, "objectWriteTraceId": "a", "properties": {"firstname": "Z"}},
              {"id": two, "objectWriteTraceId": "b", "properties": {"email": "nonsense"}},
              {"id": "999999", "objectWriteTraceId": "c", "properties": {"firstname": "Z"}}]
    a = hub.client.post(f"{base}/contacts/batch/update", {"inputs": inputs})
    committed(a, 200 if "2026-09" in base else 207)
    for record in (one, two):
        account.same("contacts", record, ("firstname", "email"))
    assert len(hub.rows("contact")) == 2


def test_a_207_without_any_result_changes_nothing(hub):
    inputs = [{"id": "999998", "properties": {"firstname": "Z"}}]
    a = hub.client.post("/crm/v3/objects/contacts/batch/update", {"inputs": inputs})
    assert (a.status, a.error) == (207, None)
    assert hub.rows("contact") == []


# -- what must not change a row

def test_reads_never_change_a_row(hub, account):
    one = make(hub, email="r@example.com", firstname="Mirror")
    account.edit("raw", type="contacts", id=one, properties={"firstname": "Elsewhere"})
    before = hub.rows("contact")
    reads = [hub.client.get(f"/crm/v3/objects/contacts/{one}"),
             hub.client.get("/crm/v3/objects/contacts?limit=100"),
             hub.client.get("/crm/objects/2026-03/contacts?archived=true"),
             hub.client.post("/crm/v3/objects/contacts/search", {"filterGroups": [], "limit": 5}),
             hub.client.post("/crm/objects/2026-09/contacts/search", {"filterGroups": []}),
             hub.client.post("/crm/v3/objects/contacts/batch/read", {"inputs": [{"id": one}], "properties": ["firstname"]}),
             hub.client.post("/crm/v4/associations/contacts/companies/batch/read", {"inputs": [{"id": "1001"}]}),
             hub.client.post("/crm/v3/associations/contacts/companies/batch/read", {"inputs": [{"id": "1001"}]}),
             hub.client.get("/crm/v3/properties/contacts"), hub.client.get("/crm/v3/owners"), hub.client.get("/crm/v3/pipelines/deals")]
    assert [(r.status in (200, 207), r.commit, r.error) for r in reads] == [(True, "none", None)] * len(reads)
    assert hub.rows("contact") == before


def test_a_write_of_a_type_that_is_not_mirrored_commits_none(hub):
    a = hub.client.post("/crm/v3/objects/tickets", {"properties": {"subject": "T"}})
    assert (a.status, a.commit, a.error) == (201, "none", None)
    a = hub.client.post("/crm/v3/objects/cars", {"properties": {"vin": "V"}})
    assert (a.status, a.commit, a.error) == (201, "none", None)
    a = hub.client.post("/crm/v3/pipelines/deals", {"label": "P", "displayOrder": 1, "stages": []})
    assert (a.status, a.commit, a.error) == (201, "none", None)


@pytest.mark.parametrize("method, path, modern", [
    ("POST", "/contacts/v1/contact", "/crm/v3/objects/contacts"), ("PUT", "/companies/v2/companies/1", "/crm/v3/objects/companies"),
    ("POST", "/deals/v1/deal", "/crm/v3/objects/deals"), ("POST", "/engagements/v1/engagements", "notes"),
    ("PUT", "/crm-associations/v1/associations", "/crm/v4/associations")])
def test_a_legacy_write_is_refused_with_the_modern_path(hub, method, path, modern):
    hub.fake.clear_log()
    a = hub.client.call(method, path, json={})
    assert (a.status, a.error, a.commit) == (404, "unsupported_path", None)
    error = a.json["error"]
    assert error["sent_upstream"] is False and modern in error["hint"]
    assert [e for e in hub.fake.log() if path in e["target"]] == []


# -- bodies that cannot be read

@pytest.mark.parametrize("fault", ["malformed", "gzip"])
@pytest.mark.parametrize("write", ["create", "patch", "batch", "merge", "delete"])
def test_an_unreadable_2xx_is_deferred_and_resolved_soon(hub, account, fault, write):
    one, two = make(hub, email="f1@example.com", firstname="F"), make(hub, email="f2@example.com")
    base = "/crm/v3/objects/contacts"
    hub.fake.fault(fault, method="DELETE" if write == "delete" else "PATCH" if write == "patch" else "POST", path="objects/contacts")
    if write == "create":
        company = make(hub, "companies", name="F")
        a = hub.client.post(base, {"properties": {"email": "f3@example.com"}, "associations": [{"to": {"id": company}, "types": [
            {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]}]})
    elif write == "patch":
        a = hub.client.patch(f"{base}/{one}", {"properties": {"firstname": "G"}})
    elif write == "batch":
        a = hub.client.post(f"{base}/batch/update", {"inputs": [{"id": i, "properties": {"firstname": "G"}} for i in (one, two)]})
    elif write == "merge":
        a = hub.client.post(f"{base}/merge", {"primaryObjectId": one, "objectIdToMerge": two})
    else:
        a = hub.client.delete(f"{base}/{one}")
    assert a.status < 300 and a.error is None
    if write == "delete":       # an empty body says all there is to say
        assert a.commit in ("committed", "deferred")
    else:
        assert a.commit == "deferred", a
    account.settled()
    assert {e["state"] for e in hub.write_log()} <= {"committed", "resolved", "none", "failed"}
    assert "failed" not in {e["state"] for e in hub.write_log()}, hub.write_log()
    live = {r["id"]: r for r in hub.fake.ctl("GET", "state?type=contacts")["records"]["0-1"] if not r["archived"]}
    for row in hub.rows("contact"):
        assert row["id"] in live
        account.same("contacts", row["id"], ("firstname", "email"))
    assert len(hub.rows("contact")) == {"create": 3, "merge": 1, "delete": 1}.get(write, 2)
    assert [r["labels"] for r in hub.rows("associations_company_contact")] == ([["Primary"]] if write == "create" else [])


def test_a_truncated_answer_is_the_proxys_own_error_and_the_write_is_found_again(hub, account):
    one = make(hub, email="t@example.com", firstname="T")
    hub.fake.fault("truncate", method="PATCH")
    a = hub.client.patch(f"/crm/v3/objects/contacts/{one}", {"properties": {"firstname": "Cut"}})
    assert (a.status, a.error) == (502, "upstream_protocol_error") and a.json["error"]["sent_upstream"] is True
    account.settled()
    account.same("contacts", one, ("firstname",))
