"""HubSpot's association writes (API_FACTS A9, A16): after `committed` the pair and its labels are the API's."""

import pytest

from hubspot_mirror import Account

V4 = ["/crm/v4", "/crm/objects/2026-03", "/crm/objects/2026-09"]
PRIMARY = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}
PLAIN = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}


@pytest.fixture
def account(hub):
    return Account(hub)


@pytest.fixture(params=["v4", "2026-03", "2026-09"])
def version(request):
    return request.param


def singles(version):
    return "/crm/v4/objects" if version == "v4" else f"/crm/objects/{version}"


def batches(version, source="contacts", target="companies"):
    return f"/crm/v4/associations/{source}/{target}/batch" if version == "v4" \
        else f"/crm/associations/{version}/{source}/{target}/batch"


def make(hub, kind="contacts", **properties):
    a = hub.client.post(f"/crm/v3/objects/{kind}", {"properties": properties})
    assert (a.status, a.commit) == (201, "committed"), a
    return a.json["id"]


def committed(answer, *statuses):
    assert answer.status in statuses and (answer.commit, answer.error) == ("committed", None), answer
    return answer


@pytest.fixture
def pair(hub):
    """A contact and a company, not linked."""
    return make(hub, email="pair@example.com"), make(hub, "companies", name="Pair")


def define(hub, source, target, label, inverse=None):
    """A label of the user's own, through the proxy; returns (type id, inverse type id)."""
    body = {"label": label, "name": label.lower().replace(" ", "_")}
    if inverse:
        body["inverseLabel"] = inverse
    a = committed(hub.client.post(f"/crm/v4/associations/{source}/{target}/labels", body), 200)
    ids = [r["typeId"] for r in a.json["results"]]
    return ids[0], ids[-1]


def own(type_id):
    return {"associationCategory": "USER_DEFINED", "associationTypeId": type_id}


# -- one pair

def test_a_default_association_is_a_link_without_labels(hub, account, pair, version):
    contact, company = pair
    committed(hub.client.put(f"{singles(version)}/contacts/{contact}/associations/default/companies/{company}"), 200)
    assert account.same_link("contacts", contact, "companies", company) == []


def test_a_default_association_told_from_both_ends_is_one_link(hub, account, pair):
    hub.fake.config(default_shows_inverse=True)
    contact, company = pair
    committed(hub.client.put(f"/crm/v4/objects/companies/{company}/associations/default/contacts/{contact}"), 200)
    assert account.same_link("contacts", contact, "companies", company) == []
    assert len(hub.rows("associations_company_contact")) == 1


def test_a_labelled_association_has_its_label_and_a_later_one_adds_to_it(hub, account, pair, version):
    contact, company = pair
    mine, _ = define(hub, "contacts", "companies", "Billing contact")
    path = f"{singles(version)}/contacts/{contact}/associations/companies/{company}"
    committed(hub.client.put(path, [PRIMARY]), 201)
    assert account.same_link("contacts", contact, "companies", company) == ["Primary"]
    committed(hub.client.put(path, [own(mine)]), 201)
    assert account.same_link("contacts", contact, "companies", company) == ["Billing contact", "Primary"]


def test_labels_that_are_replaced_follow(hub, account, pair):
    hub.fake.config(put_labels="replace")
    contact, company = pair
    mine, _ = define(hub, "contacts", "companies", "Billing contact")
    path = f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}"
    committed(hub.client.put(path, [PRIMARY]), 201)
    committed(hub.client.put(path, [own(mine)]), 201)
    assert account.same_link("contacts", contact, "companies", company) == ["Billing contact"]


def test_labels_of_both_directions_are_united(hub, account, pair):
    contact, company = pair
    mine, inverse = define(hub, "contacts", "companies", "Employee", "Employer")
    committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", [own(mine)]), 201)
    assert account.same_link("contacts", contact, "companies", company) == ["Employee", "Employer"]
    other = make(hub, "companies", name="Other")
    committed(hub.client.put(f"/crm/v4/objects/companies/{other}/associations/contacts/{contact}", [own(inverse)]), 201)
    assert account.same_link("companies", other, "contacts", contact) == ["Employee", "Employer"]


def test_an_unlabelled_put_keeps_the_labels_that_are_there(hub, account, pair):
    contact, company = pair
    path = f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}"
    committed(hub.client.put(path, [PRIMARY]), 201)
    committed(hub.client.put(path, [PLAIN]), 201)
    committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}"), 200)
    assert account.same_link("contacts", contact, "companies", company) == ["Primary"]


def test_a_primary_takes_the_label_from_the_old_one(hub, account, pair):
    contact, company = pair
    other = make(hub, "companies", name="Other")
    for one in (company, other):
        committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{one}", [PRIMARY]), 201)
    assert account.same_link("contacts", contact, "companies", other) == ["Primary"]
    assert account.same_link("contacts", contact, "companies", company) == []


def test_a_delete_takes_the_pair_whole_from_either_side(hub, account, pair, version):
    contact, company = pair
    for source, target in (((("contacts", contact)), ("companies", company)), (("companies", company), ("contacts", contact))):
        committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", [PRIMARY]), 201)
        committed(hub.client.delete(f"{singles(version)}/{source[0]}/{source[1]}/associations/{target[0]}/{target[1]}"), 204)
        assert account.same_link("contacts", contact, "companies", company) is None


def test_the_old_v3_put_and_delete(hub, account, pair):
    contact, company = pair
    base = f"/crm/v3/objects/contacts/{contact}/associations/companies/{company}"
    committed(hub.client.put(f"{base}/contact_to_company"), 200)
    assert account.same_link("contacts", contact, "companies", company) == ["Primary"]
    committed(hub.client.delete(f"{base}/contact_to_company"), 204)
    assert account.same_link("contacts", contact, "companies", company) == []
    committed(hub.client.delete(f"{base}/contact_to_company_unlabeled"), 204)
    assert account.same_link("contacts", contact, "companies", company) is None
    committed(hub.client.put(f"{base}/279"), 200)
    assert account.same_link("contacts", contact, "companies", company) == []
    deal = make(hub, "deals", dealname="D")
    committed(hub.client.put(f"/crm/v3/objects/deals/{deal}/associations/contacts/{contact}/deal_to_contact"), 200)
    assert account.same_link("deals", deal, "contacts", contact) == []
    committed(hub.client.delete(f"/crm/v3/objects/deals/{deal}/associations/contacts/{contact}/3"), 204)
    assert account.same_link("deals", deal, "contacts", contact) is None


def test_two_records_of_one_type_are_one_link_whichever_side_made_it(hub, account):
    one, two = make(hub, "companies", name="One"), make(hub, "companies", name="Two")
    base = "/crm/v4/objects/companies"
    child = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 13}
    committed(hub.client.put(f"{base}/{one}/associations/default/companies/{two}"), 200)
    assert account.same_link("companies", one, "companies", two) == []
    committed(hub.client.put(f"{base}/{two}/associations/companies/{one}", [child]), 201)
    assert account.same_link("companies", one, "companies", two) == ["Child Company", "Parent Company"]
    committed(hub.client.delete(f"{base}/{one}/associations/companies/{two}"), 204)
    assert account.same_link("companies", one, "companies", two) is None


# -- batches

def pairs(hub, n=3):
    return [(make(hub, email=f"n{i}@example.com"), make(hub, "companies", name=f"N{i}")) for i in range(n)]


def test_batch_create_and_archive(hub, account, version):
    made = pairs(hub)
    specs = [[PLAIN], [PRIMARY], [PRIMARY, PLAIN]]
    body = {"inputs": [{"from": {"id": a}, "to": {"id": b}, "types": t} for (a, b), t in zip(made, specs)]}
    committed(hub.client.post(f"{batches(version)}/create", body), 200, 201)
    assert [account.same_link("contacts", a, "companies", b) for a, b in made] == [[], ["Primary"], ["Primary"]]
    body = {"inputs": [{"from": {"id": made[0][0]}, "to": [{"id": b} for _, b in made]},
                       {"from": {"id": made[1][0]}, "to": [{"id": made[1][1]}]}]}
    committed(hub.client.post(f"{batches(version)}/archive", body), 200, 204)
    assert [account.same_link("contacts", a, "companies", b) for a, b in made] == [None, None, ["Primary"]]


def test_a_batch_create_with_failures_commits_the_rest(hub, account):
    made = pairs(hub, 2)
    body = {"inputs": [{"from": {"id": made[0][0]}, "to": {"id": made[0][1]}, "types": [PRIMARY]},
                       {"from": {"id": made[1][0]}, "to": {"id": "999999"}, "types": [PLAIN]}]}
    committed(hub.client.post(f"{batches('v4')}/create", body), 207)
    assert account.same_link("contacts", *(made[0][0], "companies", made[0][1])) == ["Primary"]
    assert len(hub.rows("associations_company_contact")) == 1


def test_batch_default_links_every_pair(hub, account, version):
    made = pairs(hub)
    body = {"inputs": [{"from": {"id": b}, "to": {"id": a}} for a, b in made]}
    committed(hub.client.post(f"{batches(version, 'companies', 'contacts')}/associate/default", body), 200)
    assert [account.same_link("contacts", a, "companies", b) for a, b in made] == [[]] * 3


def test_archiving_labels_leaves_the_link_unless_the_plain_one_is_among_them(hub, account, version):
    made = pairs(hub)
    mine, inverse = define(hub, "contacts", "companies", "Employee", "Employer")
    same, _ = define(hub, "contacts", "companies", "Friend")
    for a, b in made:
        committed(hub.client.put(f"/crm/v4/objects/contacts/{a}/associations/companies/{b}", [own(mine), own(same), PRIMARY]), 201)
    types = [[own(mine)], [own(same), PRIMARY], [PLAIN]]
    body = {"inputs": [{"from": {"id": a}, "to": {"id": b}, "types": t} for (a, b), t in zip(made, types)]}
    committed(hub.client.post(f"{batches(version)}/labels/archive", body), 200, 204)
    have = [account.same_link("contacts", a, "companies", b) for a, b in made]
    assert have == [["Friend", "Primary"], ["Employee", "Employer"], None]


def test_v3_batch_create_and_archive(hub, account):
    made = pairs(hub)
    types = ["contact_to_company", "contact_to_company_unlabeled", "1"]
    body = {"inputs": [{"from": {"id": a}, "to": {"id": b}, "type": t} for (a, b), t in zip(made, types)]}
    committed(hub.client.post("/crm/v3/associations/contacts/companies/batch/create", body), 201)
    assert [account.same_link("contacts", a, "companies", b) for a, b in made] == [["Primary"], [], ["Primary"]]
    committed(hub.client.post("/crm/v3/associations/Contacts/Companies/batch/archive", body), 204)
    assert [account.same_link("contacts", a, "companies", b) for a, b in made] == [[], None, []]


# -- creates with associations

def test_a_create_with_associations_links_at_once(hub, account, version):
    company, deal = make(hub, "companies", name="I"), make(hub, "deals", dealname="I")
    base = "/crm/v3/objects" if version == "v4" else f"/crm/objects/{version}"
    body = {"properties": {"email": "inline@example.com"}, "associations": [
        {"to": {"id": company}, "types": [PRIMARY]},
        {"to": {"id": deal}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 4}]}]}
    one = committed(hub.client.post(f"{base}/contacts", body), 201).json["id"]
    assert account.same_link("contacts", one, "companies", company) == ["Primary"]
    assert account.same_link("contacts", one, "deals", deal) == []


def test_a_batch_create_with_associations_links_each_to_its_own(hub, account):
    companies = [make(hub, "companies", name=f"I{n}") for n in range(3)]
    body = {"inputs": [{"properties": {"email": f"i{n}@example.com"}, "associations": [
        {"to": {"id": c}, "types": [PRIMARY if n else PLAIN]}]} for n, c in enumerate(companies)]}
    a = committed(hub.client.post("/crm/v3/objects/contacts/batch/create", body), 201)
    ids = {r["properties"]["email"]: r["id"] for r in a.json["results"]}
    have = [account.same_link("contacts", ids[f"i{n}@example.com"], "companies", c) for n, c in enumerate(companies)]
    assert have == [[], ["Primary"], ["Primary"]]
    assert len(hub.rows("associations_company_contact")) == 3


def test_a_batch_of_twins_with_associations_links_each_to_its_own(hub, account):
    companies = [make(hub, "companies", name=f"T{n}") for n in range(3)]
    spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 341}
    body = {"inputs": [{"properties": {"dealname": "twin"}, "associations": [{"to": {"id": c}, "types": [spec]}]} for c in companies]}
    a = committed(hub.client.post("/crm/v3/objects/deals/batch/create", body), 201)
    for record in a.json["results"]:
        for company in companies:
            account.same_link("deals", record["id"], "companies", company)
    assert len(hub.rows("associations_company_deal")) == 3


def test_a_label_made_past_the_proxy_is_known_at_its_first_use(hub, account, pair):
    contact, company = pair
    made = hub.fake.edit(request={"method": "POST", "path": "/crm/v4/associations/contacts/companies/labels",
                                  "body": {"label": "Stranger", "name": "stranger"}})
    type_id = next(d["typeId"] for d in hub.client.get("/crm/v4/associations/contacts/companies/labels").json["results"]
                   if d["label"] == "Stranger")
    assert made
    body = {"properties": {"email": "s@example.com"}, "associations": [{"to": {"id": company}, "types": [own(type_id)]}]}
    one = committed(hub.client.post("/crm/v3/objects/contacts", body), 201).json["id"]
    assert account.same_link("contacts", one, "companies", company) == ["Stranger"]
    committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", [own(type_id)]), 201)
    assert account.same_link("contacts", contact, "companies", company) == ["Stranger"]


def test_a_link_to_a_type_that_is_not_mirrored_commits_no_link(hub, account):
    contact = make(hub, email="nm@example.com")
    ticket = hub.client.post("/crm/v3/objects/tickets", {"properties": {"subject": "T"}}).json["id"]
    a = hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/default/tickets/{ticket}")
    assert (a.status, a.commit, a.error) == (200, "none", None)
    body = {"properties": {"email": "nm2@example.com"}, "associations": [
        {"to": {"id": ticket}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 15}]}]}
    committed(hub.client.post("/crm/v3/objects/contacts", body), 201)


def test_many_links_of_one_record_are_read_page_by_page(hub, account):
    hub.fake.config(association_page=2)
    contact = make(hub, email="many@example.com")
    companies = [make(hub, "companies", name=f"M{n}") for n in range(5)]
    mine, _ = define(hub, "contacts", "companies", "Many")
    for company in companies:
        committed(hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", [own(mine)]), 201)
    assert [account.same_link("contacts", contact, "companies", c) for c in companies] == [["Many"]] * 5
    other = make(hub, email="other@example.com")
    a = committed(hub.client.post("/crm/v3/objects/contacts/merge", {"primaryObjectId": contact, "objectIdToMerge": other}), 200)
    assert [account.same_link("contacts", a.json["id"], "companies", c) for c in companies] == [["Many"]] * 5


@pytest.mark.parametrize("shows_inverse", [False, True])
@pytest.mark.parametrize("how", ["put", "default", "batch"])
def test_a_link_by_an_id_that_was_merged_away_is_the_survivors(hub, account, how, shows_inverse):
    hub.fake.config(default_shows_inverse=shows_inverse)
    one, two, firm = make(hub, email="one@x.com"), make(hub, email="two@x.com"), make(hub, "companies", domain="f.example")
    survivor = account.edit("merge", type="contacts", primary=one, other=two)["id"]
    if how == "put":
        committed(hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/companies/{firm}", [PLAIN]), 201)
    elif how == "default":
        committed(hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/default/companies/{firm}"), 200)
    else:
        committed(hub.client.post("/crm/v4/associations/contacts/companies/batch/create", {"inputs": [
            {"from": {"id": one}, "to": {"id": firm}, "types": [PLAIN]}]}), 201)
    assert account.same_link("contacts", survivor, "companies", firm) == []
    assert account.labels("contacts", one, "companies", firm) is None


@pytest.mark.parametrize("how", ["delete", "batch", "label"])
def test_an_unlink_by_an_id_that_was_merged_away_takes_the_survivors_link(hub, account, how):
    one, two, firm = make(hub, email="one@x.com"), make(hub, email="two@x.com"), make(hub, "companies", domain="f.example")
    committed(hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/companies/{firm}", [PRIMARY]), 201)
    survivor = committed(hub.client.post("/crm/v3/objects/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": two}), 200).json["id"]
    assert account.same_link("contacts", survivor, "companies", firm) == ["Primary"]
    if how == "delete":
        committed(hub.client.delete(f"/crm/v4/objects/contacts/{two}/associations/companies/{firm}"), 204)
    elif how == "batch":
        committed(hub.client.post("/crm/v4/associations/contacts/companies/batch/archive", {"inputs": [
            {"from": {"id": two}, "to": [{"id": firm}]}]}), 204)
    else:
        committed(hub.client.post("/crm/v4/associations/contacts/companies/batch/labels/archive", {"inputs": [
            {"from": {"id": two}, "to": {"id": firm}, "types": [PRIMARY]}]}), 204)
    assert account.same_link("contacts", survivor, "companies", firm) == ([] if how == "label" else None)


def test_a_link_of_unknown_outcome_between_records_that_are_no_more_is_settled(hub, account):
    one, firm = make(hub, email="one@x.com"), make(hub, "companies", domain="f.example")
    hub.fake.fault("reset_after", method="PUT", path="associations", apply=False)
    hub.fake.fault("delay", method="POST", path="batch/read", delay_ms=1000)
    assert hub.client.put(f"/crm/v4/objects/contacts/{one}/associations/companies/{firm}", [PLAIN]).error == "upstream_protocol_error"
    committed(hub.client.delete(f"/crm/v3/objects/contacts/{one}"), 204)
    committed(hub.client.delete(f"/crm/v3/objects/companies/{firm}"), 204)
    account.settled()
    assert account.labels("contacts", one, "companies", firm) is None
