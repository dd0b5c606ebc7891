"""The sceptical outsider: the proxy against stand-ins that take every liberty the facts leave (other_api.py)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import Cluster, wait_until
from conftest import HUBSPOT_TOKEN, make_sync
from other_api import Airtable, HubSpot

TABLE = "/v0/appOther000000001/L%C3%B6wen%20%26%20Caf%C3%A9%2F1%20%F0%9F%A6%81"


@pytest.fixture
def api():
    a = HubSpot()
    yield a
    a.stop()


@pytest.fixture
def hub(cluster, api):
    sync = make_sync(cluster, api, "hubspot", tables=["contacts", "companies", "deals"])
    yield sync
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


@pytest.fixture
def air(cluster):
    a = Airtable()
    sync = make_sync(cluster, a, "airtable", config={"base_id": Airtable.BASE})
    yield sync
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))
    a.stop()


CONTACTS = "/crm/v3/objects/contacts"


def create(hub, **properties):
    a = hub.client.post(CONTACTS, {"properties": properties})
    assert a.status in (200, 201) and a.commit == "committed", a
    return str(a.json["id"])


def settled(hub):
    wait_until("the log is settled", lambda: all(r["state"] in ("committed", "resolved", "none") for r in hub.write_log()))


def same(hub):
    """Every contact that the API holds is in the mirror as the API holds it, and no other."""
    held = {str(o["id"]): o["properties"] for o in hub.fake.objects["0-1"].values()}
    rows = {r["id"]: r for r in hub.rows("contact")}
    assert rows.keys() == held.keys()
    for id, properties in held.items():
        for name, value in properties.items():
            assert str(rows[id][name] if rows[id][name] is not None else "") == str(value or ""), (id, name, rows[id], properties)


def test_an_id_that_is_a_number_beyond_double_precision_is_kept_exactly(hub):
    id = create(hub, email="n@example.com")
    assert id == "9007199254740993"
    assert hub.row("contact", id)["email"] == "n@example.com"


@pytest.mark.parametrize("clear, updated", [("missing", "none"), ("null", "s"), ("empty", "equal"), ("missing", "ms")])
def test_writes_are_in_the_mirror_whatever_the_answers_version_and_cleared_values_look_like(hub, clear, updated):
    hub.fake.clear, hub.fake.updated = clear, updated
    id = create(hub, email="e@example.com", firstname="A", lastname="L", age="17")
    for change in ({"firstname": "B"}, {"firstname": ""}, {"lastname": "", "firstname": "C"}, {"age": "", "email": ""}):
        a = hub.client.patch(f"{CONTACTS}/{id}", {"properties": change})
        assert (a.status, a.commit) == (200, "committed"), a
        same(hub)


def test_batches_in_another_order_and_with_missing_ids_are_applied_by_id(hub):
    a = hub.client.post(f"{CONTACTS}/batch/create", {"inputs": [{"properties": {"email": f"{i}@b.com", "firstname": str(i)}} for i in range(5)]})
    assert a.commit == "committed", a
    same(hub)
    ids = [str(r["id"]) for r in a.json["results"]]
    inputs = [{"id": i, "properties": {"lastname": "x" + i, "firstname": ""}} for i in ids] + [{"id": "77", "properties": {"firstname": "no"}}]
    a = hub.client.post(f"{CONTACTS}/batch/update", {"inputs": inputs})
    assert (a.status, a.commit) == (207, "committed"), a
    same(hub)
    a = hub.client.post(f"{CONTACTS}/batch/archive", {"inputs": [{"id": ids[0]}, {"id": "77"}]})
    assert (a.status, a.commit) == (204, "committed"), a
    same(hub)


def test_a_merge_leaves_only_the_survivor(hub):
    a, b = create(hub, email="a@m.com", firstname="A"), create(hub, email="b@m.com", lastname="B")
    m = hub.client.post(f"{CONTACTS}/merge", {"primaryObjectId": a, "objectIdToMerge": b})
    assert (m.status, m.commit) == (200, "committed"), m
    same(hub)


def test_a_default_association_answered_in_both_directions_is_one_row(hub):
    contact = create(hub, email="l@l.com")
    company = str(hub.client.post("/crm/v3/objects/companies", {"properties": {"firstname": "Co"}}).json["id"])
    a = hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    assert (a.status, a.commit) == (200, "committed"), a
    assert [(r["company_id"], r["contact_id"]) for r in hub.rows("associations_company_contact")] == [(company, contact)]
    a = hub.client.delete(f"/crm/v4/objects/companies/{company}/associations/contacts/{contact}")
    assert (a.status, a.commit) == (204, "committed"), a
    assert hub.rows("associations_company_contact") == []


def test_a_refusal_in_html_is_passed_on_as_the_apis_own(hub):
    hub.fake.trick("contacts$", "POST", instead=(502, b"<html>bad</html>"), type="text/html", headers={"Sequin-Error": "fake", "Sequin-Commit": "committed"})
    a = hub.client.post(CONTACTS, {"properties": {"email": "x@x"}})
    assert (a.status, a.error, a.commit, a.body) == (502, None, "none", b"<html>bad</html>")
    assert hub.rows("contact") == []


@pytest.mark.parametrize("body", [b"", b"<html>ok</html>", b"[]", b'{"id":', b'{"id":9007199254740993,"properties":[]}', b"\xff\xfe{}"])
def test_a_success_that_cannot_be_read_is_never_called_committed_while_the_row_is_not_there(hub, body):
    id = create(hub, email="q@q.com", firstname="old")
    hub.fake.save("0-1", id, {"firstname": "new"})
    hub.fake.trick(id, "PATCH", instead=(200, body))
    a = hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": "new"}})
    assert (a.status, a.error, a.body) == (200, None, body)
    if a.commit == "committed":
        same(hub)
    else:
        assert a.commit == "deferred"
        wait_until("the deferred write is in", lambda: hub.row("contact", id)["firstname"] == "new")


def test_an_answer_cut_off_is_reread_and_never_sent_again(hub):
    id = create(hub, email="c@c.com", firstname="old")
    hub.fake.trick(id, "PATCH", cut=True)
    a = hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": "new"}})
    assert (a.status, a.error, a.json["error"]["sent_upstream"]) == (502, "upstream_protocol_error", True)
    wait_until("the cut write is in", lambda: hub.row("contact", id)["firstname"] == "new")
    assert len(hub.fake.sent("PATCH", id)) == 1


def test_a_write_that_the_api_applies_only_after_our_timeout_and_first_reread_is_found_all_the_same(hub):
    id = create(hub, email="slow@s.com")
    slow = threading.Event()
    hub.fake.trick(id, "PATCH", wait=slow)
    a = hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": "slow"}})
    assert (a.status, a.error) == (504, "upstream_timeout")
    settled(hub)
    assert hub.row("contact", id)["firstname"] is None
    slow.set()
    wait_until("the slow write is in", lambda: hub.row("contact", id)["firstname"] == "slow")
    assert len(hub.fake.sent("PATCH", id)) == 1


@pytest.mark.parametrize("updated", ["ms", "s", "equal", "none"])
def test_an_answer_that_arrives_late_never_overwrites_a_newer_one(hub, updated):
    hub.fake.updated = updated
    id = create(hub, email="o@o.com", firstname="0")
    late = threading.Event()
    hub.fake.trick(id, "PATCH", then=late)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hub.client.patch, f"{CONTACTS}/{id}", {"properties": {"firstname": "1"}})
        wait_until("the first write is at the API", lambda: hub.fake.objects["0-1"][int(id)]["properties"]["firstname"] == "1")
        second = hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": "2"}})
        assert second.commit == "committed"
        assert hub.row("contact", id)["firstname"] == "2"
        late.set()
        assert first.result().status == 200
    settled(hub)
    same(hub)


def test_a_reread_that_another_write_overtook_is_asked_for_once_more(hub):
    """The late first write is re-read; before that answer arrives a third write lands, which says nothing of the first's fields."""
    id = create(hub, email="r@r.com")
    late, overtaken = threading.Event(), threading.Event()
    hub.fake.trick(id, "PATCH", then=late)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hub.client.patch, f"{CONTACTS}/{id}", {"properties": {"firstname": "1"}})
        wait_until("the first write is at the API", lambda: hub.fake.objects["0-1"][int(id)]["properties"].get("firstname") == "1")
        assert hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"lastname": "2"}}).commit == "committed"
        hub.fake.trick("batch/read", "POST", then=overtaken)
        late.set()
        wait_until("the re-read is answered", lambda: any("answered" in e for e in hub.fake.sent("POST", "batch/read")))
        assert hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"age": "3"}}).commit == "committed"
        overtaken.set()
        assert first.result().commit == "committed"
    same(hub)


def test_a_deferred_write_whose_reread_another_write_overtook_stays_deferred_until_it_is_in(hub):
    hub.fake.unlisted = False
    id = create(hub, email="s@s.com")
    overtaken = threading.Event()
    hub.fake.trick(id, "PATCH", cut=True)
    hub.fake.trick("batch/read", "POST", then=overtaken)
    assert hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": "1"}}).status == 502
    wait_until("recovery's re-read is answered", lambda: any("answered" in e for e in hub.fake.sent("POST", "batch/read")))
    assert hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"lastname": "2"}}).commit == "committed"
    overtaken.set()
    settled(hub)
    same(hub)


def test_an_update_that_arrives_after_the_delete_brings_nothing_back(hub):
    id = create(hub, email="d@d.com")
    late = threading.Event()
    hub.fake.trick(id, "PATCH", then=late)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hub.client.patch, f"{CONTACTS}/{id}", {"properties": {"firstname": "1"}})
        wait_until("the write is at the API", lambda: "firstname" in hub.fake.objects["0-1"][int(id)]["properties"])
        assert hub.client.delete(f"{CONTACTS}/{id}").commit == "committed"
        late.set()
        first.result()
    settled(hub)
    same(hub)


@pytest.mark.parametrize("updated", ["ms", "s", "none"])
def test_eight_writers_on_the_same_few_records_end_with_what_the_api_holds(hub, updated):
    hub.fake.updated = updated
    ids = [create(hub, email=f"w{i}@w.com") for i in range(3)]
    wrong = []

    def write(n):
        for i in range(6):
            id = ids[(n + i) % 3]
            a = hub.client.patch(f"{CONTACTS}/{id}", {"properties": {"firstname": f"{n}.{i}", f"{'lastname' if i % 2 else 'email'}": f"{n}-{i}"}})
            if a.status != 200 or a.commit not in ("committed", "deferred"):
                wrong.append(a)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert wrong == []
    settled(hub)
    same(hub)


def test_the_rate_at_the_api_is_never_above_the_limit(cluster, api):
    sync = make_sync(cluster, api, "hubspot", tables=["contacts"], rate_limit="10/1s, search:2/1s")
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: sync.client.post(CONTACTS, {"properties": {"email": f"r{i}@r.com"}}), range(35)))
        assert {a.commit for a in answers} == {"committed"}, answers
        times = sorted(e["at"] for e in api.log)
        assert [(a, b) for a, b in zip(times, times[10:]) if b - a < 0.97] == []  # this judge's clock reads late, by its threads' turn
        same(sync)
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def test_a_locked_row_defers_only_its_own_write(cluster, hub):
    held, free = create(hub, email="1@k.com"), create(hub, email="2@k.com")
    with cluster.connect(autocommit=False) as db:
        db.execute(f'SELECT * FROM "{hub.name}".contact WHERE id = %s FOR UPDATE', (held,))
        with ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(hub.client.patch, f"{CONTACTS}/{held}", {"properties": {"firstname": "x"}})
            a = hub.client.patch(f"{CONTACTS}/{free}", {"properties": {"firstname": "y"}})
            assert a.commit == "committed"
            assert stuck.result().commit == "deferred"
    wait_until("the deferred write is in", lambda: hub.row("contact", held)["firstname"] == "x")
    same(hub)


def test_airtable_names_that_collide_and_types_nobody_knows_get_columns(air):
    columns = air.columns("löwen_café_1")
    assert list(columns)[0] == "id"
    assert {"full_name", "full_name_2", "full_name_3"} <= columns.keys() or {"full_name", "full_name_", "full_name_2"} <= columns.keys(), columns
    assert {"id_", "done", "weird", "_sync_updated_at"} <= columns.keys(), columns


def test_airtable_answers_without_a_created_time_keep_the_row_whole(air):
    a = air.client.post(TABLE, {"fields": {"Full Name": "A", "full-name": "B", "FullName": 3, "Done?": True, "Weird": {"q": 1}, "id": "mine", "Tags": ["x"]}})
    assert (a.status, a.commit) == (200, "committed"), a
    id = a.json["id"]
    made = air.row("löwen_café_1", id)
    assert (made["full_name"], made["done"], made["id_"], made["tags"]) == ("A", True, "mine", ["x"])
    air.fake.created = False
    a = air.client.patch(f"{TABLE}/{id}", {"fields": {"Full Name": "", "Done?": False}})
    assert (a.status, a.commit) == (200, "committed"), a
    row = air.row("löwen_café_1", id)
    assert (row["full_name"], row["done"], row["id_"]) == (None, False, "mine")
    assert row["created_time"] == made["created_time"] is not None
    a = air.client.put(TABLE + "/", {"records": [{"id": id, "fields": {"FullName": 4}}]})
    assert (a.status, a.commit) == (200, "committed"), a
    row = air.row("löwen_café_1", id)
    assert (row["id_"], row["tags"], row["done"]) == (None, None, False)
    a = air.client.delete(f"{TABLE}?records[]={id}")
    assert (a.status, a.commit) == (200, "committed"), a
    assert air.rows("löwen_café_1") == []


def test_an_airtable_error_that_is_a_string_is_passed_on(air):
    a = air.client.patch(f"{TABLE}/recNowhere0000001", {"fields": {"Full Name": "A"}})
    assert (a.status, a.commit, a.error, a.json) == (404, "none", None, {"error": "NOT_FOUND"})
    assert air.rows("löwen_café_1") == []


def same_air(air):
    held = air.fake.records
    rows = {r["id"]: r for r in air.rows("löwen_café_1")}
    assert rows.keys() == held.keys()
    for id, r in held.items():
        got = (rows[id]["full_name"], rows[id]["id_"], rows[id]["tags"] or [], rows[id]["done"])
        f = r["fields"]
        assert got == (f.get("Full Name") or None, f.get("id") or None, f.get("Tags") or [], bool(f.get("Done?"))), id


def test_eight_airtable_writers_with_deletes_among_them_end_with_what_the_base_holds(air):
    ids = [air.client.post(TABLE, {"fields": {"Full Name": str(i)}}).json["id"] for i in range(4)]
    wrong = []

    def write(n):
        for i in range(8):
            id = ids[(n + i) % 4]
            if (n, i) == (3, 6):
                a = air.client.delete(f"{TABLE}/{id}")
            elif i % 3 == 2:
                a = air.client.put(f"{TABLE}/{id}", {"fields": {"id": f"{n}.{i}"}})
            else:
                a = air.client.patch(f"{TABLE}/{id}", {"fields": {"Full Name": f"{n}.{i}", "Tags": [str(n)] if i % 2 else [], "Done?": bool(i % 2)}})
            if a.error or a.status == 200 and a.commit == "none":
                wrong.append(a)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert wrong == []
    settled(air)
    same_air(air)


def test_a_success_without_a_body_is_found_by_its_relative_location(hub):
    made = hub.fake.save("0-1", None, {"email": "loc@l.com"})["id"]
    hub.fake.trick("contacts$", "POST", instead=(201, b""), headers={"LOCATION": f"/crm/v3/objects/contacts/{made}"})
    a = hub.client.post(CONTACTS, {"properties": {"email": "loc@l.com"}})
    assert (a.status, a.error, a.body) == (201, None, b"")
    settled(hub)
    same(hub)


def test_an_api_that_hangs_up_after_each_answer_harms_no_write(hub):
    """A connection that is seen closed is not used again: each write is committed, and sent once."""
    answers = []
    for i in range(6):
        closed = hub.fake.server.closed
        hub.fake.trick("contacts$", "POST", hang_up=True)
        answers.append(hub.client.post(CONTACTS, {"properties": {"email": f"{i}@h.com"}}))
        wait_until("the API has hung up", lambda: hub.fake.server.closed > closed)
    assert [(a.error, a.commit) for a in answers] == [(None, "committed")] * 6
    assert len(hub.fake.sent("POST", "contacts$")) == len(hub.fake.objects["0-1"]) == 6
    same(hub)


def test_a_hang_up_that_crosses_the_next_request_is_an_honest_502_and_nothing_is_sent_twice(hub):
    answers = []
    for i in range(12):
        hub.fake.trick("contacts$", "POST", hang_up=True)
        answers.append(hub.client.post(CONTACTS, {"properties": {"email": f"{i}@h.com"}}))
    crossed = [a for a in answers if a.status == 502]
    assert all(a.error == "upstream_protocol_error" and a.json["error"]["sent_upstream"] for a in crossed)
    assert all(a.commit == "committed" for a in answers if a not in crossed), answers
    assert len(hub.fake.sent("POST", "contacts$")) == len(hub.fake.objects["0-1"]) == 12 - len(crossed)
    same(hub)


def test_our_own_read_is_asked_again_when_its_connection_breaks_and_the_write_is_committed(hub):
    hub.fake.trick("properties/", "GET", cut=True)
    a = hub.client.post(CONTACTS, {"properties": {"email": "cut@h.com"}})
    assert (a.error, a.commit) == (None, "committed")
    assert len(hub.fake.sent("GET", "properties/")) >= 2
    same(hub)


def test_links_and_unlinks_of_one_pair_by_many_end_as_the_api_holds_it(hub):
    contact = create(hub, email="p@p.com")
    company = str(hub.client.post("/crm/v3/objects/companies", {"properties": {"firstname": "Co"}}).json["id"])
    wrong = []

    def write(n):
        for i in range(6):
            if (n + i) % 2:
                a = hub.client.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
            else:
                a = hub.client.delete(f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}")
            if a.error or a.commit not in ("committed", "deferred"):
                wrong.append(a)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert wrong == []
    settled(hub)
    assert len(hub.rows("associations_company_contact")) == len(hub.fake.links)


@pytest.fixture(scope="module")
def fragile():
    with Cluster(workers=2, settings={"sequin_proxy.queue_timeout": "'5s'", "sequin_proxy.drain_timeout": "'1s'"}) as c:
        c.wait_proxy()
        yield c


@pytest.mark.parametrize("how", ["terminate", "fast", "immediate", "kill"])
def test_writes_cut_off_by_a_stop_are_in_the_mirror_after_the_restart_and_were_sent_once(fragile, api, how):
    hub = make_sync(fragile, api, "hubspot", tables=["contacts"])
    ids = [create(hub, email=f"{i}@f.com") for i in range(8)]
    answers = []

    def write(n):
        for i in range(200):
            try:
                a = hub.client.patch(f"{CONTACTS}/{ids[n]}", {"properties": {"firstname": f"{n}.{i}"}})
            except OSError:
                return
            answers.append(a)
            if a.error:
                return

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    wait_until("writes flow", lambda: len(answers) > 40)
    if how == "terminate":
        fragile.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'sequin_proxy%%'")
    elif how == "kill":
        fragile.kill_postmaster()
    else:
        fragile.stop(how)
    if how != "terminate":
        for t in threads:
            t.join()
        fragile.start(extension=False)
    for t in threads:
        t.join()
    fragile.wait_proxy()
    assert all(a.status == 200 or a.error for a in answers), [a for a in answers if a.status != 200 and not a.error]
    settled(hub)
    same(hub)
    bodies = [(e["path"], e["body"]) for e in api.sent("PATCH", "contacts/")]
    assert len(bodies) == len(set(bodies))
    log = fragile.log()
    assert HUBSPOT_TOKEN not in log and hub.client.key not in log
    fragile.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (hub.name,))
