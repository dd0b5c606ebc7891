"""The commit (DESIGN 5): group commit, bad rows, the owner's rights, strangers' locks, tables changed by hand."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import wait_until
from conftest import HUBSPOT_TOKEN, Sync
from crowd import Crowd
from proxy import Client

CONTACTS = "/crm/v3/objects/contacts"
COMPANIES = "/crm/v3/objects/companies"


def at_once(calls):
    """Runs the calls in a thread each; returns their answers in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(c) for c in calls]]


def create(sync, email, path=CONTACTS, **properties):
    key = "email" if path == CONTACTS else "domain"
    return sync.client.post(path, {"properties": {key: email, **properties}})


def totals(cluster):
    return cluster.dicts("SELECT sum(commits) AS commits, sum(batches) AS batches, sum(deferred) AS deferred FROM sequin.proxy_stats")[0]


def states(sync):
    return [r["state"] for r in sync.write_log()]


def unsettled(sync):
    return sync.cluster.dicts("SELECT id, state, error FROM sequin.write_log WHERE sync = %s AND state IN ('intent', 'deferred')", (sync.name,))


def api_properties(sync, record_id, kind="contacts"):
    return sync.client.get(f"/crm/v3/objects/{kind}/{record_id}?properties=firstname,lastname,email").json["properties"]


class Writers(Crowd):
    """Clients that keep writing companies; knows the longest that any of them waited."""

    def __init__(self, sync, path=COMPANIES, n=3):
        super().__init__(n)
        self.sync, self.path = sync, path
        self.worst = 0.0
        self.answers = []

    def run(self, i):
        sync, path, n = self.sync, self.path, 0
        while not self.stop.is_set():
            n += 1
            began = time.monotonic()
            answer = create(sync, f"crowd{i}x{n}.example.com" if path == COMPANIES else f"crowd{i}x{n}@example.com", path)
            self.worst = max(self.worst, time.monotonic() - began)
            self.answers.append(answer)


# ---- group commit ----

def test_concurrent_writes_share_transactions_and_each_is_committed_when_answered(cluster, hub):
    hub.fake.fault("delay", method="POST", times=-1, delay_ms=300)
    before = totals(cluster)

    def write(i):
        a = create(hub, f"g{i}@example.com")
        with_row = hub.row("contact", a.json["id"])
        return a, with_row

    results = at_once([lambda i=i: write(i) for i in range(64)])
    after = totals(cluster)
    assert {(a.status, a.commit) for a, _ in results} == {(201, "committed")}
    assert all(row["email"] == a.json["properties"]["email"] for a, row in results)
    assert after["commits"] - before["commits"] == 64
    assert 0 < after["batches"] - before["batches"] < 64
    assert states(hub) == ["committed"] * 64


def test_a_row_that_a_check_refuses_never_harms_its_neighbours(cluster, hub):
    cluster.sql(f"ALTER TABLE \"{hub.name}\".contact ADD CONSTRAINT no_evil CHECK (firstname <> 'Evil')")
    hub.fake.fault("delay", method="POST", times=-1, delay_ms=300)
    answers = at_once([lambda i=i: create(hub, f"n{i}@example.com", firstname="Evil" if i in (3, 11) else "Good") for i in range(16)])
    hub.fake.ctl("DELETE", "fault")
    assert [a.status for a in answers] == [201] * 16
    assert [i for i, a in enumerate(answers) if a.commit == "deferred"] == [3, 11]
    assert {a.commit for i, a in enumerate(answers) if i not in (3, 11)} == {"committed"}
    assert len(hub.rows("contact")) == 14
    assert "no_evil" in unsettled(hub)[0]["error"]
    cluster.sql(f'ALTER TABLE "{hub.name}".contact DROP CONSTRAINT no_evil')
    wait_until("the deferred writes are in", lambda: sorted(states(hub)) == ["committed"] * 14 + ["resolved"] * 2)
    assert hub.row("contact", answers[3].json["id"])["firstname"] == "Evil"


def test_a_trigger_that_raises_defers_that_exchange_only(cluster, hub):
    cluster.sql(f"""
        CREATE FUNCTION "{hub.name}".refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.firstname = 'Evil' THEN RAISE EXCEPTION 'not this one'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON "{hub.name}".contact FOR EACH ROW EXECUTE FUNCTION "{hub.name}".refuse()""")
    hub.fake.fault("delay", method="POST", times=-1, delay_ms=300)
    answers = at_once([lambda i=i: create(hub, f"t{i}@example.com", firstname="Evil" if i == 2 else "Good") for i in range(8)])
    assert [a.commit for a in answers] == ["committed"] * 2 + ["deferred"] + ["committed"] * 5
    assert [r["error"] for r in unsettled(hub)] == ["not this one"]
    cluster.sql(f'DROP FUNCTION "{hub.name}".refuse() CASCADE')


def test_many_writes_to_one_record_at_once_end_as_the_api_has_it(hub):
    made = create(hub, "same@example.com").json["id"]
    hub.fake.fault("delay", method="PATCH", times=-1, delay_ms=150)
    answers = at_once([lambda i=i: hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": f"F{i}", "lastname": f"L{i}"}})
                       for i in range(24)])
    assert {a.status for a in answers} == {200}
    assert {a.commit for a in answers} <= {"committed", "deferred"}
    wait_until("no write is open", lambda: unsettled(hub) == [])
    row, api = hub.row("contact", made), api_properties(hub, made)
    assert (row["firstname"], row["lastname"]) == (api["firstname"], api["lastname"])


def test_one_request_may_write_many_rows_and_all_are_in(hub):
    a = hub.client.post(CONTACTS + "/batch/create", {"inputs": [{"properties": {"email": f"b{i}@example.com"}} for i in range(50)]})
    assert (a.status, a.commit) == (201, "committed")
    assert {r["id"] for r in hub.rows("contact")} == {r["id"] for r in a.json["results"]}


def test_an_airtable_answer_is_the_whole_row_and_empty_fields_become_null(air):
    path = "/v0/appFakeBase000001/Product%20Inventory"
    made = air.client.post(path, {"fields": {"Name": "Cog", "Notes": "C-1"}})
    assert made.commit == "committed", made
    before = air.row("product_inventory", made.json["id"])
    assert (before["name"], before["notes"]) == ("Cog", "C-1")
    a = air.client.patch(f"{path}/{made.json['id']}", {"fields": {"Notes": None}})
    assert (a.status, a.commit) == (200, "committed")
    after = air.row("product_inventory", made.json["id"])
    assert (after["name"], after["notes"]) == ("Cog", None)


# ---- the owner's rights ----

@pytest.fixture(scope="module")
def owner(cluster):
    """A role that has what create_sync needs, and nothing else."""
    cluster.sql("CREATE ROLE crm_owner LOGIN")
    cluster.sql("GRANT CREATE ON DATABASE postgres TO crm_owner")
    cluster.sql("GRANT EXECUTE ON FUNCTION sequin.create_sync, sequin.create_key, sequin.api_root, sequin.wait_for, sequin.drop_sync TO crm_owner")
    yield "crm_owner"
    cluster.sql("DROP OWNED BY crm_owner")
    cluster.sql("DROP ROLE crm_owner")


@pytest.fixture
def owned(cluster, fakes, owner):
    """A HubSpot sync of a non-superuser."""
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    with cluster.connect(autocommit=False) as db:
        db.execute(f"SET LOCAL ROLE {owner}")
        db.execute("SELECT sequin.create_sync('owned', 'hubspot', credential => %s, config => '{\"sync\": false}', tables => '{contacts,companies,deals}', "
                   "rate_limit => '100000/1s')", (HUBSPOT_TOKEN,))
        db.execute("RESET ROLE")
        db.execute("UPDATE sequin.sync SET upstream_url = %s WHERE name = 'owned'", (fakes.hubspot.origin,))
        db.commit()
    assert cluster.one("SELECT sequin.wait_for('owned', 'ready', '30s')"), cluster.dicts("SELECT * FROM sequin.syncs")
    with cluster.connect(user=owner) as db:
        key = db.execute("SELECT sequin.create_key('owned')").fetchone()[0]
        root = db.execute("SELECT sequin.api_root('owned')").fetchone()[0]
    yield Sync(cluster, "owned", Client(root, key), fakes.hubspot)
    cluster.sql("SELECT sequin.drop_sync('owned', drop_tables => true)")
    cluster.sql("DROP SCHEMA IF EXISTS owned CASCADE")


ESCALATIONS = [
    "ALTER ROLE crm_owner SUPERUSER",
    "SET ROLE postgres",
    "RESET ROLE; CREATE ROLE made_by_trigger",
    "SET SESSION AUTHORIZATION postgres",
    "RESET SESSION AUTHORIZATION; CREATE ROLE made_by_trigger",
    "CREATE ROLE made_by_trigger SUPERUSER",
    "PERFORM value FROM sequin.credential",
    "PERFORM hash FROM sequin.proxy_key",
    "PERFORM pg_read_file('/etc/passwd')",
    "PERFORM sequin._run_as('postgres', 'CREATE ROLE made_by_trigger')",
    "UPDATE sequin.sync SET owner = 'postgres'",
    "UPDATE sequin.mirror_table SET table_name = 'x'",
    "INSERT INTO sequin.write_log (request_id, sync, method, path, state) VALUES ('x', 'x', 'x', 'x', 'failed')",
    "ALTER SYSTEM SET log_min_messages = 'debug5'",
    "EXECUTE $q$CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS 'sequin_proxy'$q$",
    "CREATE TEMP TABLE hidden (a int)",
]


def install_escalations(cluster):
    """A trigger on owned.contact that tries everything and notes what happened."""
    attempts = "\n".join(
        f"BEGIN {sql}; INSERT INTO owned.seen VALUES ({i}, 'went through'); "
        f"EXCEPTION WHEN OTHERS THEN INSERT INTO owned.seen VALUES ({i}, SQLERRM); END;" for i, sql in enumerate(ESCALATIONS))
    with cluster.connect(user="crm_owner") as db:
        db.execute("CREATE TABLE owned.seen (n int, what text, who text DEFAULT current_user || ' ' || current_setting('is_superuser'))")
        db.execute(f"CREATE FUNCTION owned.escalate() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {attempts} RETURN NULL; END $f$")


def check_no_escalation(cluster, seen):
    assert [r["n"] for r in seen] == list(range(len(ESCALATIONS)))
    assert [ESCALATIONS[r["n"]] for r in seen if r["what"] == "went through"] == []
    assert {r["who"].split()[0] for r in seen} == {"crm_owner"}
    assert not cluster.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'crm_owner'")
    assert cluster.one("SELECT count(*) FROM pg_roles WHERE rolname = 'made_by_trigger'") == 0


def test_a_sync_of_a_plain_role_commits_and_its_tables_are_its_own(cluster, owned):
    a = create(owned, "plain@example.com")
    assert (a.status, a.commit) == (201, "committed")
    assert {r[0] for r in cluster.sql("SELECT tableowner FROM pg_tables WHERE schemaname = 'owned'")} == {"crm_owner"}


@pytest.mark.parametrize("kind", ["TRIGGER escalate AFTER INSERT", "CONSTRAINT TRIGGER escalate AFTER INSERT"])
def test_a_trigger_on_a_mirror_table_has_its_owners_rights_only(cluster, owned, kind):
    install_escalations(cluster)
    deferred = " DEFERRABLE INITIALLY DEFERRED" if kind.startswith("CONSTRAINT") else ""
    with cluster.connect(user="crm_owner") as db:
        db.execute(f"CREATE {kind} ON owned.contact{deferred} FOR EACH ROW EXECUTE FUNCTION owned.escalate()")
    a = create(owned, "esc@example.com")
    assert (a.status, a.commit) == (201, "committed")
    check_no_escalation(cluster, cluster.dicts("SELECT * FROM owned.seen ORDER BY n"))


def test_a_trigger_cannot_put_itself_off_until_the_worker_is_itself_again(cluster, owned):
    install_escalations(cluster)
    with cluster.connect(user="crm_owner") as db:
        db.execute("CREATE TABLE owned.later (a int)")
        db.execute("CREATE CONSTRAINT TRIGGER escalate AFTER INSERT ON owned.later DEFERRABLE INITIALLY DEFERRED "
                   "FOR EACH ROW EXECUTE FUNCTION owned.escalate()")
        db.execute("CREATE FUNCTION owned.put_off() RETURNS trigger LANGUAGE plpgsql AS "
                   "$$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO owned.later VALUES (1); RETURN NULL; END $$")
        db.execute("CREATE TRIGGER put_off AFTER INSERT ON owned.contact FOR EACH ROW EXECUTE FUNCTION owned.put_off()")
    a = create(owned, "later@example.com")
    assert a.status == 201 and a.commit in ("committed", "deferred")
    assert {r["who"].split()[0] for r in cluster.dicts("SELECT * FROM owned.seen")} <= {"crm_owner"}
    assert not cluster.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'crm_owner'")
    with cluster.connect(user="crm_owner") as db:
        db.execute("DROP TRIGGER put_off ON owned.contact")
    wait_until("the write is in", lambda: owned.row("contact", a.json["id"]) and unsettled(owned) == [])


def test_code_in_a_columns_type_runs_as_the_owner(cluster, owned):
    install_escalations(cluster)
    attempts = "BEGIN PERFORM value FROM sequin.credential; RETURN false; EXCEPTION WHEN insufficient_privilege THEN RETURN current_user = 'crm_owner'; END"
    with cluster.connect(user="crm_owner") as db:
        db.execute(f"CREATE FUNCTION owned.harmless(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {attempts}; END $$")
        db.execute("CREATE DOMAIN owned.odd AS text CHECK (owned.harmless(VALUE))")
        db.execute("ALTER TABLE owned.contact ALTER COLUMN firstname TYPE owned.odd")
    a = create(owned, "domain@example.com", firstname="Ada")
    assert (a.status, a.commit) == (201, "committed")
    assert owned.row("contact", a.json["id"])["firstname"] == "Ada"


def test_deferrable_foreign_keys_and_constraint_triggers_on_mirror_tables_work(cluster, owned):
    with cluster.connect(user="crm_owner") as db:
        db.execute("CREATE TABLE owned.city (name text PRIMARY KEY)")
        db.execute("INSERT INTO owned.city VALUES ('Ada')")
        db.execute("ALTER TABLE owned.contact ADD FOREIGN KEY (firstname) REFERENCES owned.city DEFERRABLE INITIALLY DEFERRED")
    good, bad = create(owned, "fk1@example.com", firstname="Ada"), create(owned, "fk2@example.com", firstname="Bob")
    assert (good.commit, bad.commit) == ("committed", "deferred")
    assert "foreign key" in unsettled(owned)[0]["error"]
    cluster.sql("INSERT INTO owned.city VALUES ('Bob')")
    wait_until("the deferred write is in", lambda: unsettled(owned) == [])
    assert owned.row("contact", bad.json["id"])["firstname"] == "Bob"


def test_an_owner_that_may_not_write_defers_clearly_until_it_may(cluster, owned):
    cluster.sql("REVOKE ALL ON owned.contact FROM crm_owner")
    a = create(owned, "revoked@example.com")
    assert (a.status, a.commit) == (201, "deferred")
    assert "permission denied" in unsettled(owned)[0]["error"]
    other = create(owned, "granted.example.com", COMPANIES)
    assert (other.status, other.commit) == (201, "committed")
    cluster.sql("GRANT ALL ON owned.contact TO crm_owner")
    wait_until("the deferred write is in", lambda: unsettled(owned) == [])
    assert owned.row("contact", a.json["id"])["email"] == "revoked@example.com"


# ---- strangers' locks ----

def test_a_locked_row_delays_nobody_else_and_is_resolved_when_the_lock_goes(cluster, hub):
    made = create(hub, "locked@example.com").json["id"]
    with cluster.connect(autocommit=False) as db:
        db.execute(f'SELECT FROM "{hub.name}".contact WHERE id = %s FOR UPDATE', (made,))
        with Writers(hub, CONTACTS) as crowd:
            began = time.monotonic()
            a = hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "Late"}})
            took = time.monotonic() - began
        assert (a.status, a.commit) == (200, "deferred")
        assert 0.4 < took < 1.5
        assert len(crowd.answers) > 5 and {x.commit for x in crowd.answers} == {"committed"}
        assert crowd.worst < 0.5
        assert hub.row("contact", made)["firstname"] is None
        db.rollback()
    wait_until("the deferred write is in", lambda: unsettled(hub) == [])
    assert hub.row("contact", made)["firstname"] == "Late"
    assert "resolved" in states(hub)


def test_a_deferred_write_is_answered_in_time_when_nothing_else_happens(cluster, hub):
    """Nothing but its own timer may be needed to end the wait for a lock."""
    made = create(hub, "quiet@example.com").json["id"]
    with cluster.connect(autocommit=False) as db:
        db.execute(f'SELECT FROM "{hub.name}".contact WHERE id = %s FOR UPDATE', (made,))
        for _ in range(2):
            began = time.monotonic()
            a = hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "Quiet"}})
            assert (a.status, a.commit) == (200, "deferred")
            assert time.monotonic() - began < 0.75
        db.rollback()
    wait_until("the deferred writes are in", lambda: unsettled(hub) == [])


def test_a_lock_that_goes_within_the_timeout_is_waited_for(cluster, hub):
    made = create(hub, "brief@example.com").json["id"]
    with cluster.connect(autocommit=False) as db:
        db.execute(f'SELECT FROM "{hub.name}".contact WHERE id = %s FOR UPDATE', (made,))
        release = threading.Timer(0.2, db.rollback)
        release.start()
        a = hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "Soon"}})
        release.join()
    assert (a.status, a.commit) == (200, "committed")
    assert hub.row("contact", made)["firstname"] == "Soon"


def test_a_locked_table_delays_no_other_table_and_no_read(cluster, hub):
    with cluster.connect(autocommit=False) as db:
        db.execute(f'LOCK TABLE "{hub.name}".contact IN ACCESS EXCLUSIVE MODE')
        with Writers(hub) as crowd:
            answers = at_once([lambda i=i: create(hub, f"tl{i}@example.com") for i in range(12)])
            began = time.monotonic()
            read = hub.client.get(CONTACTS + "?limit=1")
            assert (read.status, read.commit) == (200, "none") and time.monotonic() - began < 0.5
        assert {(a.status, a.commit) for a in answers} == {(201, "deferred")}
        assert len(crowd.answers) > 5 and {x.commit for x in crowd.answers} == {"committed"}
        assert crowd.worst < 0.5
        db.rollback()
    wait_until("the deferred writes are in", lambda: unsettled(hub) == [])
    assert len(hub.rows("contact")) == 12


# ---- tables changed by hand ----

def test_a_dropped_column_comes_back_with_the_next_write(cluster, hub):
    cluster.sql(f'ALTER TABLE "{hub.name}".contact DROP COLUMN firstname')
    a = create(hub, "dropped@example.com", firstname="Back")
    assert (a.status, a.commit) == (201, "committed")
    assert hub.row("contact", a.json["id"])["firstname"] == "Back"


def test_a_dropped_table_comes_back_with_the_next_write(cluster, hub):
    cluster.sql(f'DROP TABLE "{hub.name}".contact CASCADE')
    a = create(hub, "table@example.com")
    assert (a.status, a.commit) == (201, "committed")
    assert hub.row("contact", a.json["id"])["email"] == "table@example.com"


@pytest.mark.parametrize("change", [
    "ALTER TABLE contact RENAME COLUMN firstname TO given_name",
    "ALTER TABLE contact RENAME TO person",
    "ALTER TABLE contact DROP COLUMN _sync_updated_at",
    "ALTER TABLE contact DROP CONSTRAINT contact_pkey",
    "DELETE FROM contact; ALTER TABLE contact ADD COLUMN mine text NOT NULL",
    "ALTER TABLE contact RENAME COLUMN id TO contact_id",
    "ALTER TABLE contact ALTER COLUMN id TYPE bigint USING id::bigint",
    "DROP TABLE contact CASCADE; CREATE VIEW contact AS SELECT 1 AS id",
    "DROP TABLE contact CASCADE; CREATE TABLE contact (id int)",
    "ALTER TABLE contact ENABLE ROW LEVEL SECURITY; ALTER TABLE contact FORCE ROW LEVEL SECURITY",
    "ALTER TABLE contact ALTER COLUMN email TYPE integer USING NULL",
    "DROP SCHEMA CASCADE",
])
def test_a_table_changed_by_hand_ends_in_a_clear_state_and_stops_nobody(cluster, hub, change):
    first = create(hub, "first@example.com").json["id"]
    pids = cluster.worker_pids()
    if change == "DROP SCHEMA CASCADE":
        cluster.sql(f'DROP SCHEMA "{hub.name}" CASCADE')
    else:
        with cluster.connect() as db:
            db.execute(f'SET search_path TO "{hub.name}"')
            db.execute(change)
    for a in (create(hub, "hand@example.com", firstname="Hand"),
              hub.client.patch(f"{CONTACTS}/{first}", {"properties": {"firstname": "Again"}}),
              create(hub, "other.example.com", COMPANIES)):
        assert a.status in (200, 201) and a.commit in ("committed", "deferred"), (change, a)
    assert change == "DROP SCHEMA CASCADE" or a.commit == "committed"
    assert all(r["error"] for r in unsettled(hub))
    assert cluster.worker_pids() == pids and cluster.crashes() == []


def test_a_column_of_another_type_takes_what_fits_and_notes_what_does_not(cluster, hub):
    cluster.sql(f'ALTER TABLE "{hub.name}".contact ALTER COLUMN firstname TYPE integer USING NULL')
    a, b = create(hub, "int1@example.com", firstname="42"), create(hub, "int2@example.com", firstname="Ada")
    assert (a.commit, b.commit) == ("committed", "committed")
    assert [hub.row("contact", x.json["id"])["firstname"] for x in (a, b)] == [42, None]
    errors = cluster.dicts("SELECT id, column_name, value FROM sequin.cast_error WHERE sync = %s", (hub.name,))
    assert errors == [{"id": b.json["id"], "column_name": "firstname", "value": "Ada"}]


def test_a_locked_journal_sends_nothing_new_and_loses_nothing_that_was_sent(cluster, hub):
    made = create(hub, "journal@example.com").json["id"]
    hub.fake.clear_log()
    hub.fake.fault("delay", method="PATCH", delay_ms=300)
    with ThreadPoolExecutor(1) as pool, cluster.connect(autocommit=False) as db:
        flying = pool.submit(lambda: hub.client.patch(f"{CONTACTS}/{made}", {"properties": {"firstname": "Flew"}}))
        wait_until("it is at the API", lambda: cluster.one("SELECT sum(in_flight) FROM sequin.proxy_stats") == 1)
        db.execute("LOCK TABLE sequin.write_log IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        refused = create(hub, "refused@example.com")
        assert (refused.status, refused.error) == (503, "not_ready") and time.monotonic() - began < 0.5
        assert refused.json["error"]["sent_upstream"] is False
        assert hub.client.get(CONTACTS + "?limit=1").status == 200
        a = flying.result()
        assert (a.status, a.commit) == (200, "deferred")
        db.rollback()
    assert [e["method"] for e in hub.fake.log() if e["method"] == "POST" and e["target"].endswith("contacts")] == []
    wait_until("the write is in", lambda: hub.row("contact", made)["firstname"] == "Flew")
    wait_until("its row is settled", lambda: unsettled(hub) == [])
