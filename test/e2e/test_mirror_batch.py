"""Batched writes to the mirror: through the proxy's batch endpoints, and, for pages, by the probe module.

The probe (test/mirror/mirror_probe.c) calls mirror_apply as the sync process does, with changes given as JSON.
"""

import concurrent.futures
import json
import os
import subprocess

import pytest

from cluster import wait_until
from conftest import make_sync

CONTACTS = "/crm/v3/objects/contacts"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
T1, T2, T3 = ("2024-05-01T10:00:0%d.000Z" % i for i in (1, 2, 3))
CONTACT, COMPANY = "0-1", "0-2"


def batch(sync, verb, inputs, **kw):
    return sync.client.post(f"{CONTACTS}/batch/{verb}", {"inputs": inputs, **kw})


def made(sync, n, **properties):
    a = batch(sync, "create", [{"properties": {"email": f"b{i}@example.com", **properties}, "associations": []} for i in range(n)])
    assert (a.status, a.commit) == (201, "committed"), a
    return sorted(r["id"] for r in a.json["results"])


def errors(sync):
    return sync.cluster.dicts("SELECT id, column_name, value FROM sequin.cast_error WHERE sync = %s ORDER BY id", (sync.name,))


# ---- through the proxy ----

def test_records_of_one_batch_that_set_different_columns_each_keep_what_they_did_not_set(hub):
    ids = made(hub, 9, firstname="F", lastname="L")
    inputs = [{"id": i, "properties": {"firstname": f"f{n}"} if n % 3 == 0 else {"lastname": None if n % 3 == 1 else "x"}}
              for n, i in enumerate(ids)]
    a = batch(hub, "update", [{**i, "properties": {k: v or "" for k, v in i["properties"].items()}} for i in inputs])
    assert a.commit == "committed", a
    got = {r["id"]: (r["firstname"], r["lastname"]) for r in hub.rows("contact")}
    assert got == {i: (f"f{n}" if n % 3 == 0 else "F", ["L", None, "x"][n % 3]) for n, i in enumerate(ids)}


def test_a_full_batch_is_one_statement(hub):
    hub.cluster.sql(f'CREATE TABLE "{hub.name}".statements (n int)')
    hub.cluster.sql(f"""CREATE FUNCTION "{hub.name}".count_statement() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO "{hub.name}".statements VALUES (1); RETURN NULL; END$$""")
    hub.cluster.sql(f"""CREATE TRIGGER counted AFTER INSERT ON "{hub.name}".contact
        FOR EACH STATEMENT EXECUTE FUNCTION "{hub.name}".count_statement()""")
    made(hub, 100)
    assert len(hub.rows("contact")) == 100
    assert hub.cluster.one(f'SELECT count(*) FROM "{hub.name}".statements') == 1


def test_a_trigger_that_swallows_rows_keeps_these_alone_out(hub):
    ids = made(hub, 6, firstname="old")
    hub.cluster.sql(f"""CREATE FUNCTION "{hub.name}".swallow() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF NEW.firstname LIKE 'no%' THEN RETURN NULL; END IF; NEW.lastname := 'seen'; RETURN NEW; END$$""")
    hub.cluster.sql(f"""CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON "{hub.name}".contact
        FOR EACH ROW EXECUTE FUNCTION "{hub.name}".swallow()""")
    hub.fake.clear_log()
    a = batch(hub, "update", [{"id": i, "properties": {"firstname": ("no" if n % 2 else "yes") + str(n)}} for n, i in enumerate(ids)])
    assert a.commit == "committed", a
    got = {r["id"]: (r["firstname"], r["lastname"]) for r in hub.rows("contact")}
    assert got == {i: ("old", None) if n % 2 else (f"yes{n}", "seen") for n, i in enumerate(ids)}
    assert len(hub.fake.log()) == 1, "swallowed rows are not asked for again"


def test_a_column_that_the_user_gave_another_type_costs_no_row_of_the_batch(hub):
    ids = made(hub, 5)
    hub.cluster.sql(f'ALTER TABLE "{hub.name}".contact ALTER firstname TYPE integer USING NULL, ALTER lastname TYPE varchar(4)')
    a = batch(hub, "update", [{"id": i, "properties": {"firstname": str(n) if n % 2 else "word", "lastname": "abcdef"[:n + 2]}}
                              for n, i in enumerate(ids)])
    assert a.commit == "committed", a
    got = [(r["firstname"], r["lastname"]) for r in hub.rows("contact")]
    assert got == [(n if n % 2 else None, "abcdef"[:n + 2] if n < 3 else None) for n in range(5)]
    assert [(e["id"], e["column_name"]) for e in errors(hub)] == [
        (i, c) for n, i in enumerate(ids) for c in ("firstname", "lastname") if (n % 2 == 0 if c == "firstname" else n >= 3)]


def test_row_security_that_binds_the_owner_defers_a_batch_until_it_does_not(hub, cluster):
    ids = made(hub, 4, firstname="before")
    table = f'"{hub.name}".contact'
    cluster.sql("DROP ROLE IF EXISTS batch_owner")
    cluster.sql("CREATE ROLE batch_owner")
    cluster.sql(f'GRANT USAGE, CREATE ON SCHEMA "{hub.name}" TO batch_owner')
    cluster.sql("UPDATE sequin.sync SET owner = 'batch_owner' WHERE name = %s", (hub.name,))
    try:
        cluster.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        a = batch(hub, "update", [{"id": i, "properties": {"firstname": "after"}} for i in ids])
        assert a.commit == "committed", hub.write_log()      # policies do not bind a table's owner
        cluster.sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        a = batch(hub, "update", [{"id": i, "properties": {"firstname": "bound"}} for i in ids])
        assert a.commit == "deferred" and "row-level security" in hub.write_log()[-1]["error"]
        assert {r["firstname"] for r in hub.rows("contact")} == {"after"}
        cluster.sql(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        wait_until("they are in", lambda: {r["firstname"] for r in hub.rows("contact")} == {"bound"})
    finally:
        cluster.sql("UPDATE sequin.sync SET owner = 'postgres' WHERE name = %s", (hub.name,))
        cluster.sql("DROP OWNED BY batch_owner")
        cluster.sql("DROP ROLE batch_owner")


# ---- pages, by the probe ----

@pytest.fixture(scope="module")
def probe(cluster):
    path = subprocess.run([os.path.join(ROOT, "tools/mirror_probe.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    cluster.sql(f"CREATE FUNCTION public.probe_apply(text, text) RETURNS text LANGUAGE c SET search_path = pg_catalog AS '{path}', 'probe_apply'")
    yield
    cluster.sql("DROP FUNCTION public.probe_apply")


class Pages:
    def __init__(self, sync):
        self.sync = sync

    def apply(self, *items):
        return json.loads(self.sync.cluster.one("SELECT public.probe_apply(%s, %s)", (self.sync.name, json.dumps(items))))

    def page(self, *changes, ago_ms=0, page=True):
        return self.apply({"page": page, "ago_ms": ago_ms, "changes": changes})[0]

    def versions(self, table="contact"):
        """Where each row is: a row that was rewritten, or even locked, shows."""
        return self.sync.cluster.sql(f'SELECT ctid, xmin, xmax, _sync_updated_at FROM "{self.sync.name}"."{table}" ORDER BY ctid')


@pytest.fixture
def pages(hub, probe):
    return Pages(hub)


def record(n, updated=T1, **fields):
    return {"op": "patch", "collection": CONTACT, "id": str(n), "created_at": T1, "updated_at": updated,
            "fields": {"email": f"p{n}@example.com", **fields}}


def link(a, b, *labels, replace=True):
    return {"op": "link", "collection": CONTACT, "id": str(a), "to_collection": COMPANY, "to_id": str(b), "labels": labels, "replace": replace}


def rest(a, *keep):
    return {"op": "unlink", "collection": CONTACT, "id": str(a), "to_collection": COMPANY, "keep": [str(k) for k in keep]}


def links(sync):
    return {(r["contact_id"], r["company_id"]): r["labels"] for r in sync.rows("associations_company_contact")}


def test_a_page_that_tells_nothing_new_touches_no_row(pages, hub):
    rows = [record(n, firstname=None if n % 2 else "F", lifecyclestage="lead") for n in range(50)]
    assert pages.page(*rows) == {"verdict": "applied", "nwritten": 50, "written": [1] * 50, "rereads": []}
    before = pages.versions()
    for ago in (0, 60_000):     # asked after, and before the rows were confirmed
        assert pages.page(*rows, ago_ms=ago) == {"verdict": "applied", "nwritten": 0, "written": [0] * 50, "rereads": []}
    assert pages.versions() == before
    rows[7] = record(7, T2, firstname="changed", lifecyclestage="lead")
    rows.append(record(99))
    assert pages.page(*rows)["written"] == [int(n in (7, 50)) for n in range(51)]
    assert hub.row("contact", "7")["firstname"] == "changed"
    assert len([v for v in pages.versions() if v in before]) == 49


def test_in_the_course_of_one_session_new_pages_and_known_ones_may_alternate(pages, hub):
    first, second = [record(n) for n in range(30)], [record(n) for n in range(20, 60)]
    with hub.cluster.connect() as db:
        def page(rows):
            return json.loads(db.execute("SELECT public.probe_apply(%s, %s)", (hub.name, json.dumps(
                [{"page": True, "changes": rows}]))).fetchone()[0])[0]["nwritten"]
        assert [page(first), page(first), page(second), page(second), page(first), page(second)] == [30, 0, 30, 0, 0, 0]
        assert page([record(n) for n in range(100, 150)]) == 50
        assert page([record(n) for n in range(120, 170)]) == 20     # while all rows are expected to be new
        assert page([record(n) for n in range(120, 170)]) == 0
    assert len(hub.rows("contact")) == 60 + 70


# Pages that follow on one that was all new are inserted as such, in a subtransaction; with a known row they fall back.

class Session:
    """One session that reads pages as a backfill does; its first ones are new."""

    def __init__(self, sync, new=40):
        self.sync, self.table = sync, f'"{sync.name}".contact'
        self.db = sync.cluster.connect()
        if new:
            assert self.page(*[record(n) for n in range(1000, 1000 + new)])["nwritten"] == new

    def page(self, *changes, ago_ms=0):
        return json.loads(self.db.execute("SELECT public.probe_apply(%s, %s)", (self.sync.name, json.dumps(
            [{"page": True, "ago_ms": ago_ms, "changes": changes}]))).fetchone()[0])[0]

    def inserted_as_new(self, *changes):
        """Were these rows written by a subtransaction?"""
        with self.db.transaction():
            xid = self.db.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()[0]
            assert self.page(*changes)["nwritten"] == len(changes)
            mine = self.db.execute(f"SELECT count(*) FROM {self.table} WHERE xmin::text = %s", (xid,)).fetchone()[0]
        assert mine in (0, len(changes))
        return mine == 0

    def wrote(self, **states):
        rows = {r["id"]: r["firstname"] for r in self.sync.rows("contact")}
        assert {k: rows.get(k) for k in states} == states


@pytest.fixture
def session(hub, probe):
    s = Session(hub)
    yield s
    s.db.close()


def test_new_rows_that_follow_on_new_rows_are_inserted_as_such(session, hub):
    hub.cluster.sql(f"ALTER TABLE {session.table} ALTER lastname TYPE integer USING NULL")
    with hub.cluster.connect() as db:
        fresh = Session(hub, new=0)
        fresh.db = db
        assert not fresh.inserted_as_new(*[record(n) for n in range(100, 130)])     # nobody knows yet
        assert fresh.inserted_as_new(*[record(n, firstname="F", lastname="L" if n < 132 else "5") for n in range(130, 160)])
        assert not fresh.inserted_as_new(*[record(n) for n in range(160, 169)])     # too few
        assert not fresh.inserted_as_new(*[record(n) for n in range(200, 300)])     # more than went well so far
    assert [(e["id"], e["value"]) for e in errors(hub)] == [("130", "L"), ("131", "L")]
    assert len(hub.rows("contact")) == 40 + 30 + 30 + 9 + 100
    assert hub.row("contact", "131")["firstname"] == "F" and hub.row("contact", "140")["lastname"] == 5


def test_a_known_row_among_those_taken_for_new_is_written_by_its_fence(session, hub):
    session.page(*[record(n) for n in range(10, 30)])
    hub.cluster.sql(f"UPDATE {session.table} SET updated_at = %s, firstname = 'newer' WHERE id IN ('11', '12')", (T2,))
    got = session.page(*[record(n, T1, firstname="page") for n in range(12, 13)], *[record(n, T3, firstname="page") for n in range(20, 45)], ago_ms=60_000)
    assert (got["verdict"], got["rereads"], got["nwritten"]) == ("reread", ["12"], 25)
    session.wrote(**{"11": "newer", "12": "newer", "20": "page", "44": "page"})
    assert not session.inserted_as_new(*[record(n) for n in range(100, 110)])
    assert session.inserted_as_new(*[record(n) for n in range(110, 120)])


def test_a_row_that_another_writer_has_just_put_there_is_not_overwritten(session, hub):
    """The page waits for the other's transaction, and must then judge its row as any other."""
    with hub.cluster.connect(autocommit=False) as other, concurrent.futures.ThreadPoolExecutor() as pool:
        other.execute(f"INSERT INTO {session.table} (id, updated_at, firstname, _sync_updated_at) VALUES ('25', %s, 'theirs', now())", (T3,))
        page = pool.submit(session.page, *[record(n, firstname="page") for n in range(10, 40)])
        wait_until("the page waits", lambda: hub.cluster.one(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%probe_apply%%'"))
        other.commit()
        got = page.result(30)
    assert (got["verdict"], got["rereads"], got["nwritten"]) == ("reread", ["25"], 29)
    session.wrote(**{"24": "page", "25": "theirs", "26": "page"})


@pytest.mark.parametrize("event", ["BEFORE INSERT", "AFTER INSERT", "BEFORE INSERT OR UPDATE"])
def test_a_trigger_sees_each_row_once_even_where_it_was_taken_for_new(session, hub, event):
    """What a trigger does is not always undone with the transaction: a sequence moves on, a mail is sent."""
    name = f'"{hub.name}"'
    hub.cluster.sql(f"CREATE SEQUENCE {name}.seen")
    hub.cluster.sql(f"""CREATE FUNCTION {name}.see() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_catalog.nextval('{name}.seen'); RETURN NEW; END$$""")
    hub.cluster.sql(f"CREATE TRIGGER see {event} ON {session.table} FOR EACH ROW EXECUTE FUNCTION {name}.see()")
    for n in range(3):
        assert not session.inserted_as_new(*[record(i) for i in range(n * 10, n * 10 + 10)])
    assert hub.cluster.one(f"SELECT last_value FROM {name}.seen") == 30
    assert session.page(*[record(n) for n in range(30, 60)], record(9))["nwritten"] == 30
    once = 30 + event.startswith("BEFORE")      # ON CONFLICT tries the known one, too
    assert hub.cluster.one(f"SELECT last_value FROM {name}.seen") == 30 + once


def test_a_policy_that_binds_the_owner_rules_new_rows_too(session, hub):
    hub.cluster.sql("DROP ROLE IF EXISTS new_rows_owner")
    hub.cluster.sql("CREATE ROLE new_rows_owner")
    hub.cluster.sql(f'GRANT USAGE, CREATE ON SCHEMA "{hub.name}" TO new_rows_owner')
    hub.cluster.sql("UPDATE sequin.sync SET owner = 'new_rows_owner' WHERE name = %s", (hub.name,))
    try:
        hub.cluster.sql(f"ALTER TABLE {session.table} ENABLE ROW LEVEL SECURITY")
        hub.cluster.sql(f"CREATE POLICY puts ON {session.table} FOR INSERT WITH CHECK (true)")
        hub.cluster.sql(f"CREATE POLICY sees ON {session.table} FOR SELECT USING (id <> '25')")
        with hub.cluster.connect() as db:
            session = Session(hub, new=0)
            session.db = db
            session.page(*[record(n) for n in range(2000, 2040)])
            assert session.inserted_as_new(*[record(n) for n in range(10, 20)])     # does not bind a table's owner
            hub.cluster.sql(f"ALTER TABLE {session.table} FORCE ROW LEVEL SECURITY")
            assert not session.inserted_as_new(*[record(n) for n in range(100, 120)])
            assert not session.inserted_as_new(*[record(n) for n in range(120, 140)])
            with pytest.raises(Exception, match="row-level security"):
                session.page(*[record(n) for n in range(20, 40)])
        assert len(hub.rows("contact")) == 40 + 40 + 10 + 40
    finally:
        hub.cluster.sql("UPDATE sequin.sync SET owner = 'postgres' WHERE name = %s", (hub.name,))
        hub.cluster.sql("DROP OWNED BY new_rows_owner")
        hub.cluster.sql("DROP ROLE new_rows_owner")


def test_a_unique_index_of_the_users_fails_a_page_of_new_rows_as_it_ever_did(session, hub):
    hub.cluster.sql(f"CREATE UNIQUE INDEX ON {session.table} (email)")
    rows = [record(n) for n in range(10, 30)]
    rows[15]["fields"]["email"] = rows[3]["fields"]["email"]
    with pytest.raises(Exception, match="duplicate key.*email"):
        session.page(*rows)
    assert len(hub.rows("contact")) == 40
    rows[15]["fields"]["email"] = "other@example.com"
    assert session.page(*rows)["nwritten"] == 20


def test_new_links_that_follow_on_new_links_are_inserted_and_known_ones_left_alone(pages, hub):
    with hub.cluster.connect() as db:
        session = Session(hub, new=0)
        session.db, session.table = db, f'"{hub.name}".associations_company_contact'
        assert not session.inserted_as_new(*[link(1, n, "A") for n in range(20)])
        assert session.inserted_as_new(*[link(2, n, "B", "A") for n in range(20)])
        got = session.page(*[link(2, n, "A", "B", "C") if n == 7 else link(2, n, "A", "B") for n in range(30)])
        assert (got["verdict"], got["written"]) == ("applied", [int(n == 7 or n >= 20) for n in range(30)])
    assert links(hub)[("2", "7")] == ["A", "B", "C"] and links(hub)[("2", "8")] == ["A", "B"]
    assert len(links(hub)) == 50


def test_a_write_that_is_no_page_is_always_stamped(pages, hub):
    pages.page(record(1), record(2))
    before = pages.versions()
    assert pages.page(record(1), record(2), page=False)["written"] == [1, 1]
    assert not set(pages.versions()) & set(before)


def test_a_page_asked_for_before_a_newer_state_is_asked_for_again_unless_it_says_the_same(pages, hub):
    pages.page(record(1, T2, firstname="new"), record(2, T2, firstname="new"), record(3, T1, firstname="new"), page=False)
    got = pages.page(record(1, T1, firstname="old"), record(2, T2, firstname="new"), record(3, T1, firstname="other"),
                     record(4, T1), ago_ms=60_000)
    assert got == {"verdict": "reread", "nwritten": 1, "written": [0, 0, 0, 1], "rereads": ["1", "3"]}
    assert [r["firstname"] for r in hub.rows("contact")] == ["new", "new", "new", None]


def test_pages_and_writes_may_share_a_transaction_each_by_its_own_fence(pages, hub):
    pages.page(record(1, firstname="a"), record(2, firstname="a"), record(3, firstname="a"))
    got = pages.apply(
        {"page": True, "ago_ms": 0, "changes": [record(1, firstname="a"), record(4)]},
        {"page": False, "ago_ms": 60_000, "changes": [record(2, firstname="b"), record(5)]},
        {"page": False, "ago_ms": 0, "changes": [record(3, firstname="b"), record(6)]})
    assert [(g["verdict"], g["written"], g["rereads"]) for g in got] == [
        ("applied", [0, 1], []), ("reread", [0, 1], ["2"]), ("applied", [1, 1], [])]
    assert [r["firstname"] for r in hub.rows("contact")] == ["a", "a", "b", None, None, None]


@pytest.mark.parametrize("page", [True, False])
def test_of_two_changes_of_a_record_in_one_page_the_last_stands(pages, hub, page):
    got = pages.page(record(1, firstname="a", lastname="x"), record(2), record(1, firstname="b"), record(3), record(1, T2, firstname="c"), page=page)
    assert (got["verdict"], got["nwritten"]) == ("applied", 5)
    assert [(r["id"], r["firstname"], r["lastname"]) for r in hub.rows("contact")] == [("1", "c", "x"), ("2", None, None), ("3", None, None)]
    delete = {"op": "delete", "collection": CONTACT, "id": "2"}
    got = pages.page(delete, record(2, firstname="again"), {**delete, "id": "3"}, {**delete, "id": "77"}, page=page)
    assert (got["verdict"], got["written"]) == ("applied", [1, 1, 1, 0])
    assert [(r["id"], r["firstname"]) for r in hub.rows("contact")] == [("1", "c"), ("2", "again")]


def test_a_deleted_record_does_not_come_back_from_a_page_that_was_asked_for_earlier(pages, hub):
    pages.page(*[record(n) for n in range(5)])
    pages.page({"op": "delete", "collection": CONTACT, "id": "3"})
    got = pages.page(*[record(n, T2) for n in range(5)], ago_ms=60_000)
    assert (got["written"], got["rereads"]) == ([1, 1, 1, 0, 1], ["3"])
    assert [r["id"] for r in hub.rows("contact")] == ["0", "1", "2", "4"]


def test_a_value_that_fits_no_column_is_noted_once_not_with_every_sweep(pages, hub):
    hub.cluster.sql(f'ALTER TABLE "{hub.name}".contact ALTER firstname TYPE integer USING NULL')
    rows = [record(1, firstname="word"), record(2, firstname="12")]
    assert [pages.page(*rows)["nwritten"] for _ in range(3)] == [2, 0, 0]
    assert [(e["id"], e["value"]) for e in errors(hub)] == [("1", "word")]


def test_numbers_keep_their_value_and_their_digits(pages, hub):
    hub.cluster.sql(f'ALTER TABLE "{hub.name}".contact ADD amount numeric')
    hub.cluster.sql("INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type) "
                    "VALUES (%s, %s, 'amount', 'amount', 'amount', 'numeric')", (hub.name, CONTACT))
    numbers = ["0", "-0", "0.00", "-0.00", "1", "-1", "10", "9999", "10000", "10001", "1.5", "1.50", "-12.340", "007", "+5", "5.", ".5", "-.05", "0.0001",
               "0.00010", "0.00001", "10000.0001", "99999999999.9999", "999999999999999", "-999999999999999", ".000000000000001", "9999999999999999",
               "123456789012345.6", "1e3", "1.5e-3", "100000000", "0.10", "12345.678"]
    numbers += [f"{sign}{10**whole // 3}.{'7' * scale}" for sign in ("", "-") for whole in range(9) for scale in range(8)]
    pages.page(*[record(n, amount=text) for n, text in enumerate(numbers)])
    got = hub.cluster.sql(f'SELECT c.amount::text, c.amount = w.n::numeric, w.n::numeric::text'
                          f' FROM "{hub.name}".contact AS c JOIN unnest(%s::text[]) WITH ORDINALITY AS w(n, i) ON c.id = (i - 1)::text', (numbers,))
    assert len(got) == len(numbers)
    assert [g for g in got if g[0] != g[2] or not g[1]] == []


@pytest.mark.parametrize("type_", ["json", "xml", "varchar(20)", "numeric(8,2)", "char(5)", "integer[]", "point", 'text COLLATE "C"'])
def test_a_column_of_any_type_can_be_compared(pages, hub, type_):
    value = {"json": '{"a": 1}', "xml": "<a/>", "numeric(8,2)": "1.5", "integer[]": "{1,2}", "point": "(1,2)"}.get(type_, "abc")
    other = {"json": '{"a":1}', "xml": "<b/>", "numeric(8,2)": "2", "integer[]": "{2}", "point": "(1,3)"}.get(type_, "abd")
    using = "NULL" if "COLLATE" not in type_ else "firstname"
    hub.cluster.sql(f'ALTER TABLE "{hub.name}".contact ALTER firstname TYPE {type_} USING {using}')
    assert [pages.page(record(1, firstname=v))["nwritten"] for v in (value, value, None, None, value, other, other)] == [1, 0, 1, 0, 1, 1, 0]


def test_every_type_of_ours_is_left_alone_when_it_is_the_same(fakes, cluster, probe):
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    air = make_sync(cluster, fakes.airtable, "airtable")
    pages = Pages(air)
    try:
        tables = cluster.dicts("SELECT collection, table_name FROM sequin.mirror_table WHERE sync = %s", (air.name,))
        seen = set()
        samples = {"text": "t", "numeric": 1.50, "boolean": True, "date": "2024-02-29", "timestamp with time zone": T1,
                   "text[]": ["b", "a"], "jsonb": {"k": [1, None, "x"]}, "integer": 7, "bigint": 2**40}
        for t in tables:
            columns = cluster.dicts("SELECT field, column_type FROM sequin.mirror_column WHERE sync = %s AND collection = %s",
                                    (air.name, t["collection"]))
            seen |= {c["column_type"] for c in columns}
            rows = [{"op": "upsert", "collection": t["collection"], "id": f"rec{n}", "created_at": T1,
                     "fields": {c["field"]: samples[c["column_type"]] for c in columns if (hash(c["field"]) + n) % 3}} for n in range(12)]
            assert pages.page(*rows)["nwritten"] == 12
            before = pages.versions(t["table_name"])
            assert pages.page(*rows, ago_ms=60_000)["nwritten"] == 0
            assert pages.versions(t["table_name"]) == before
            for c in columns:       # each column by itself makes a row different
                missing = {**rows[0], "fields": {k: v for k, v in rows[0]["fields"].items() if k != c["field"]}}
                assert pages.page(missing)["nwritten"] == int(c["field"] in rows[0]["fields"]), c
                pages.page(rows[0])
        assert {"text", "numeric", "boolean", "text[]", "jsonb"} <= seen
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (air.name,))


def test_a_wide_table_is_written_and_left_alone_like_any_other(pages, hub):
    columns = [f"w{n:03}" for n in range(300)]
    hub.cluster.sql(f'ALTER TABLE "{hub.name}".contact ' + ", ".join(f"ADD {c} numeric" for c in columns))
    hub.cluster.sql("INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type) "
                    "SELECT %s, %s, c, c, c, 'numeric' FROM unnest(%s::text[]) AS c", (hub.name, CONTACT, columns))
    rows = [record(n, **{c: str(n * i) for i, c in enumerate(columns)}) for n in range(100)]
    assert [pages.page(*rows)["nwritten"] for _ in range(2)] == [100, 0]
    rows[50]["fields"]["w299"] = "0.5"
    assert pages.page(*rows)["nwritten"] == 1
    assert hub.cluster.one(f'SELECT sum(w299) FROM "{hub.name}".contact') == sum(n * 299 for n in range(100)) - 50 * 299 + 0.5


def test_a_page_of_links_that_tells_nothing_new_touches_no_row(pages, hub):
    known = [change for a in range(100) for change in (rest(a, *range(a, a + 5)), *(link(a, b, "L2", "L1") for b in range(a, a + 5)))]
    got = pages.page(*known)
    assert (got["verdict"], got["nwritten"]) == ("applied", 500)
    before = pages.versions("associations_company_contact")
    for ago in (0, 60_000):
        assert pages.page(*known, ago_ms=ago) == {"verdict": "applied", "nwritten": 0, "written": [0] * 600, "rereads": []}
    assert pages.versions("associations_company_contact") == before
    assert set(map(tuple, links(hub).values())) == {("L1", "L2")}
    got = pages.page(rest(1, 1, 2), link(1, 1, "L1", "L2"), link(1, 2, "L3"))
    assert got["written"] == [1, 0, 1]
    assert {b: l for (a, b), l in links(hub).items() if a == "1"} == {"1": ["L1", "L2"], "2": ["L3"]}
    assert len(links(hub)) == 497


def test_a_pair_that_a_complete_answer_did_not_show_does_not_come_back_from_an_older_one(pages, hub):
    pages.page(link(1, 1), link(1, 2), link(2, 2))
    assert pages.page(rest(1, 1))["written"] == [1]
    got = pages.page(rest(1, 1, 2), link(1, 1), link(1, 2), ago_ms=60_000)
    assert (got["rereads"], got["nwritten"]) == (["1:2"], 0)
    assert set(links(hub)) == {("1", "1"), ("2", "2")}


def test_a_link_made_since_a_page_was_asked_for_stays(pages, hub):
    pages.page(link(1, 1, "A", replace=False), link(1, 2), page=False)
    got = pages.page(rest(1, 2), link(1, 2), ago_ms=60_000)
    assert (got["verdict"], got["nwritten"]) == ("applied", 0)
    got = pages.page(link(1, 1, "B"), ago_ms=60_000)
    assert (got["rereads"], links(hub)[("1", "1")]) == (["1:1"], ["A"])


def test_links_of_one_item_that_name_a_pair_twice_are_written_in_order(pages, hub):
    for page in (True, False):
        got = pages.page(link(1, 1, "A"), link(1, 1, "B", replace=False), link(1, 2, "C"), link(1, 2, "D"), page=page)
        assert got["verdict"] == "applied"
        assert links(hub) == {("1", "1"): ["A", "B"], ("1", "2"): ["D"]}


def test_rest_of_the_other_side_goes_and_deleted_records_lose_their_links(pages, hub):
    pages.page(*[link(a, b) for a in range(4) for b in range(4)])
    got = pages.page({"op": "unlink", "collection": COMPANY, "id": "2", "to_collection": CONTACT, "keep": ["0"]})
    assert got["written"] == [1]
    assert {k for k in links(hub) if k[1] == "2"} == {("0", "2")}
    pages.page(*[record(n) for n in range(4)])
    got = pages.page(*[{"op": "delete", "collection": CONTACT, "id": str(n)} for n in (1, 2)])
    assert got["nwritten"] == 2
    assert {a for a, _ in links(hub)} == {"0", "3"}


def test_pairs_of_one_type_are_known_in_either_direction(pages, fakes, cluster):
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    hub = make_sync(cluster, fakes.hubspot, "hubspot", tables=["companies"])
    own = Pages(hub)
    try:
        def pair(a, b, *labels):
            return {"op": "link", "collection": COMPANY, "id": str(a), "to_collection": COMPANY, "to_id": str(b), "labels": labels, "replace": True}

        def rows():
            return [(r["from_company_id"], r["to_company_id"], r["labels"]) for r in hub.rows("associations_company_company")]
        assert own.page(pair(1, 2, "A"), pair(4, 3))["nwritten"] == 2
        assert own.page(pair(2, 1, "A"), pair(3, 4), ago_ms=60_000)["nwritten"] == 0
        assert own.page(pair(2, 1, "B"), pair(5, 6))["written"] == [1, 1]
        assert rows() == [("1", "2", ["B"]), ("4", "3", []), ("5", "6", [])]
        got = own.page({"op": "unlink", "collection": COMPANY, "id": "3", "to_collection": COMPANY, "keep": []})
        assert (got["written"], len(rows())) == ([1], 2)
        assert own.page(pair(3, 4), ago_ms=60_000)["rereads"] == ["3:4"]
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (hub.name,))
