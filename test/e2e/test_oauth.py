"""OAuth credentials: tokens are refreshed in time, once, and stored before they are used."""

import json
import os
import subprocess
import threading
import time

import pytest

from cluster import Cluster, wait_until
from conftest import AIRTABLE_BASE, AIRTABLE_TOKEN, make_sync

CONTACTS = "/crm/v3/objects/contacts"
PRODUCTS = f"/v0/{AIRTABLE_BASE}/Product%20Inventory"
TOKEN_PATHS = ("/oauth/v1/token", "/oauth2/v1/token")
SECRETS = ("fake-client-secret", "fake-refresh-", "oaa-", "oar-", "secretsecret", "ZmFrZS1jbGllbnQ6")


def credential(fake, refresh=None, secret="fake-client-secret"):
    """What a user would give."""
    given = {"client_id": "fake-client", "client_secret": secret, "refresh_token": refresh or first_refresh(fake)}
    return json.dumps({k: v for k, v in given.items() if v is not None})


def first_refresh(fake):
    return fake.ctl("GET", "oauth")["refresh"][0]


def tokens(fake):
    return fake.ctl("GET", "oauth")


class Api:
    """A provider with its stand-in and a request that reads."""

    def __init__(self, provider, fake, path):
        self.provider = provider
        self.fake = fake
        self.path = path
        self.fake.reset()
        self.fake.config(limits="off")

    def sync(self, cluster, **args):
        tables = ["contacts"] if self.provider == "hubspot" else None
        return make_sync(cluster, self.fake, self.provider, tables=tables, credential=args.pop("credential", credential(self.fake)), **args)

    def calls(self, token=False):
        return [e for e in self.fake.log() if (e["target"] in TOKEN_PATHS) is token]


@pytest.fixture(params=["hubspot", "airtable"])
def api(request, fakes):
    return Api(request.param, getattr(fakes, request.param), CONTACTS if request.param == "hubspot" else PRODUCTS)


@pytest.fixture
def hubspot(fakes):
    return Api("hubspot", fakes.hubspot, CONTACTS)


@pytest.fixture
def airtable(fakes):
    return Api("airtable", fakes.airtable, PRODUCTS)


@pytest.fixture
def dropped(cluster):
    """Drops at the end what a test has made."""
    made = []
    yield lambda sync: made.append(sync) or sync
    for sync in made:
        if cluster.one("SELECT count(*) FROM sequin.sync WHERE name = %s", (sync.name,)):
            cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def last_error(cluster, sync):
    return cluster.one("SELECT last_error FROM sequin.syncs WHERE name = %s", (sync.name,))


def row(cluster, sync):
    return cluster.dicts("SELECT * FROM sequin.oauth_token WHERE sync = %s", (sync.name,))[0]


def rediscover(cluster, sync):
    """Lets the sync process make calls of its own and waits for them."""
    cluster.sql("UPDATE sequin.sync_state SET next_attempt_at = now() WHERE sync = %s", (sync.name,))
    cluster.sql("UPDATE sequin.sync SET auth = auth WHERE name = %s", (sync.name,))  # the process looks
    wait_until("the discovery is over", lambda: cluster.one(
        "SELECT next_attempt_at > now() AND state = 'ready' FROM sequin.sync_state WHERE sync = %s", (sync.name,)))


def failures(cluster, sync):
    """How often a discovery of it has failed."""
    return cluster.log().count(f'sync "{sync.name}" is not ready')


def bearer(entry):
    return [v for n, v in entry["headers"] if n.lower() == "authorization"]


class Load:
    """Clients that read as fast as they can, until stopped; every status is kept."""

    def __init__(self, sync, path, clients=8):
        self.answers = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(sync, path)) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def _run(self, sync, path):
        while not self.stopped.is_set():
            try:
                answer = sync.client.get(path)
                self.answers.append((answer.status, answer.error))
            except OSError as err:
                self.answers.append((0, str(err)))

    def stop(self):
        self.stopped.set()
        for t in self.threads:
            t.join()
        return self.answers


def test_discovery_and_proxied_requests_work(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    assert sync.client.get(api.path).status == 200
    body = {"properties": {"email": "o@x.org"}} if api.provider == "hubspot" else {"fields": {}}
    assert sync.client.post(api.path, body).commit == "committed"
    [asked] = api.calls(token=True)
    form = asked["body"].decode()
    assert asked["method"] == "POST" and "grant_type=refresh_token" in form and "refresh_token=fake-refresh-" in form
    assert bearer(asked) == ([] if api.provider == "hubspot" else ["Basic ZmFrZS1jbGllbnQ6ZmFrZS1jbGllbnQtc2VjcmV0"])
    assert ("client_secret" in form) is (api.provider == "hubspot")
    [token] = tokens(api.fake)["access"]
    assert {v for e in api.calls() for v in bearer(e)} == {f"Bearer {token}"}
    stored = row(cluster, sync)
    assert (stored["access_token"], [stored["refresh_token"]], stored["error"]) == (token, tokens(api.fake)["refresh"], None)
    assert 3600 >= (stored["expires_at"] - stored["refreshed_at"]).total_seconds() >= 1800


def test_a_public_client_of_airtable_names_itself_in_the_form(cluster, airtable, dropped):
    airtable.fake.config(oauth_client_secret=None)
    sync = dropped(airtable.sync(cluster, credential=credential(airtable.fake, secret=None)))
    assert sync.client.get(PRODUCTS).status == 200
    [asked] = airtable.calls(token=True)
    assert b"client_id=fake-client&" in asked["body"] and bearer(asked) == []


def test_a_credential_in_a_file_begins_anew_when_the_file_has_another(cluster, api, dropped, tmp_path):
    file = tmp_path / "client.json"
    file.write_text(json.dumps(json.loads(credential(api.fake)), indent=2) + "\n")
    sync = dropped(api.sync(cluster, credential=f"file:{file}"))
    before = row(cluster, sync)
    api.fake.ctl("POST", "oauth", {"issue": "fake-refresh-new"})
    new = tmp_path / "new"
    new.write_text(credential(api.fake, "fake-refresh-new"))
    wait_until("a second has passed since the last refresh", lambda: time.time() - before["refreshed_at"].timestamp() > 1.1)
    os.replace(new, file)
    assert sync.client.get(api.path).status == 200
    after = row(cluster, sync)
    assert after["source_hash"] != before["source_hash"] and after["access_token"] != before["access_token"]
    assert b"fake-refresh-new" in api.calls(token=True)[-1]["body"]


def test_a_token_is_renewed_before_it_ends_and_once_under_load(cluster, api, dropped):
    """Two workers, many clients: the API sees no dead token, and a refresh per life."""
    api.fake.config(oauth_life_s=3)
    sync = dropped(api.sync(cluster))
    before = tokens(api.fake)["refreshes"]
    begun = time.monotonic()
    load = Load(sync, api.path)
    wait_until("three refreshes", lambda: tokens(api.fake)["refreshes"] >= before + 3, 30)
    answers = load.stop()
    spent = time.monotonic() - begun
    assert set(answers) == {(200, None)} and len(answers) > 100
    report = tokens(api.fake)
    assert report["refreshes"] - before <= spent / 2.5 + 1 and (report["refused"], report["conflicts"]) == (0, 0)
    assert [e["status"] for e in api.fake.log() if e["status"] != 200] == []


def test_those_in_the_queue_wait_for_a_token_that_is_replaced_meanwhile(cluster, airtable, dropped):
    """More clients than the limit lets through: whoever stands in line when the token ends goes with the next."""
    airtable.fake.config(oauth_life_s=3)
    sync = dropped(airtable.sync(cluster, rate_limit="20/1s"))
    airtable.fake.fault("delay", path="token$", delay_ms=500, times=-1)  # slots are granted meanwhile
    before = tokens(airtable.fake)["refreshes"]
    load = Load(sync, PRODUCTS, clients=30)
    wait_until("three refreshes", lambda: tokens(airtable.fake)["refreshes"] >= before + 3, 30)
    assert set(load.stop()) == {(200, None)}
    assert [e["status"] for e in airtable.fake.log() if e["status"] != 200] == []


def test_an_idle_sync_s_token_is_replaced_while_it_is_good(cluster, api, dropped):
    api.fake.config(oauth_life_s=10)
    sync = dropped(api.sync(cluster))
    before = row(cluster, sync)
    after = wait_until("it is replaced", lambda: (r := row(cluster, sync))["access_token"] != before["access_token"] and r)
    assert 0.5 < (before["expires_at"] - after["refreshed_at"]).total_seconds() <= 1.1  # at the last tenth


def test_a_request_waits_for_the_first_token(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    api.fake.fault("status", path="token$", status=503, body={}, times=2)
    cluster.sql("UPDATE sequin.oauth_token SET access_token = NULL, expires_at = NULL WHERE sync = %s", (sync.name,))
    answer = sync.client.get(api.path)
    assert (answer.status, answer.error) == (200, None)
    assert [e["status"] for e in api.calls(token=True)] == [200, 503, 503, 200]


def test_what_waits_in_vain_is_told_so(cluster, hubspot, dropped):
    sync = dropped(hubspot.sync(cluster))
    hubspot.fake.fault("status", path="token$", status=500, body={"error": "server_error"}, times=-1)
    cluster.sql("UPDATE sequin.oauth_token SET access_token = NULL WHERE sync = %s", (sync.name,))
    answer = sync.client.get(CONTACTS)
    assert (answer.status, answer.error) == (503, "not_ready") and answer.json["error"]["sent_upstream"] is False
    assert "access token" in answer.json["error"]["message"]
    assert last_error(cluster, sync) == "HubSpot gave no token (500 server_error): it is asked again"
    hubspot.fake.ctl("DELETE", "fault")
    wait_until("it works again", lambda: sync.client.get(CONTACTS).status == 200)
    assert last_error(cluster, sync) is None


def test_trouble_with_a_refresh_leaves_the_good_token_in_use(cluster, airtable, dropped):
    airtable.fake.config(oauth_life_s=20)
    sync = dropped(airtable.sync(cluster))
    airtable.fake.fault("status", path="token$", status=503, body={}, times=-1)
    wait_until("a refresh was tried", lambda: last_error(cluster, sync), 30)
    assert sync.client.get(PRODUCTS).status == 200
    airtable.fake.ctl("DELETE", "fault")
    wait_until("it was mended", lambda: last_error(cluster, sync) is None)
    assert tokens(airtable.fake)["refused"] == 0


def test_a_revoked_token_costs_our_own_call_one_more(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    wait_until("a second has passed since the last refresh", lambda: time.time() - row(cluster, sync)["refreshed_at"].timestamp() > 1.1)
    api.fake.clear_log()
    api.fake.ctl("POST", "oauth", {"revoke": "access"})
    rediscover(cluster, sync)
    assert tokens(api.fake)["refreshes"] == 2 and len(api.calls(token=True)) == 1
    refused = [e["target"] for e in api.calls() if e["status"] == 401]
    assert refused and sorted(refused) == sorted(set(refused))  # each once
    assert failures(cluster, sync) == 0 and last_error(cluster, sync) is None


def test_a_second_401_is_the_failure(cluster, hubspot, dropped):
    """The API refuses even a fresh token: told, and the endpoint is not asked again and again."""
    sync = dropped(hubspot.sync(cluster))
    hubspot.fake.fault("status", path="^/crm/", status=401, body={"message": "no"}, times=-1)
    cluster.sql("UPDATE sequin.sync SET tables = ARRAY['contacts', 'deals'] WHERE name = %s", (sync.name,))
    wait_until("the failure is shown", lambda: "401" in (last_error(cluster, sync) or ""))
    assert failures(cluster, sync) == 1
    asked = [e["target"] for e in hubspot.calls() if e["status"] == 401]
    assert asked and max(asked.count(t) for t in asked) == 2
    begun, before = time.monotonic(), tokens(hubspot.fake)["refreshes"]
    load = Load(sync, CONTACTS, clients=4)
    wait_until("four seconds", lambda: time.monotonic() - begun > 4)
    assert {status for status, _ in load.stop()} == {401}
    assert tokens(hubspot.fake)["refreshes"] - before <= 4


def test_a_proxied_request_shows_its_401_and_the_next_one_works(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    wait_until("a second has passed since the last refresh", lambda: time.time() - row(cluster, sync)["refreshed_at"].timestamp() > 1.1)
    api.fake.clear_log()
    api.fake.ctl("POST", "oauth", {"revoke": "access"})
    answer = sync.client.get(api.path)
    assert (answer.status, answer.error, answer.commit) == (401, None, "none")
    wait_until("there is a new token", lambda: tokens(api.fake)["refreshes"] == 2)
    wait_until("it is stored", lambda: row(cluster, sync)["access_token"] == tokens(api.fake)["access"][0])
    assert sync.client.get(api.path).status == 200
    assert [e["status"] for e in api.calls()] == [401, 200]


def test_a_refused_refresh_token_is_shown_and_mended_by_alter_sync(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    wait_until("a second has passed since the last refresh", lambda: time.time() - row(cluster, sync)["refreshed_at"].timestamp() > 1.1)
    api.fake.ctl("POST", "oauth", {"revoke": "refresh"})
    api.fake.ctl("POST", "oauth", {"revoke": "access"})
    assert sync.client.get(api.path).status == 401
    name = "HubSpot" if api.provider == "hubspot" else "Airtable"
    wait_until("the reason is shown", lambda: last_error(cluster, sync) ==
               f"{name} refused the refresh token (400 invalid_grant): authorise the app again and set the new credential")
    assert sync.client.get(api.path).status == 401  # who spoke: the API
    assert tokens(api.fake)["refused"] == 1  # no more is asked with that one
    api.fake.ctl("POST", "oauth", {"issue": "fake-refresh-2"})
    cluster.sql("SELECT sequin.alter_sync(%s, credential => %s)", (sync.name, credential(api.fake, "fake-refresh-2")))
    assert sync.client.get(api.path).status == 200
    wait_until("nothing is wrong any more", lambda: last_error(cluster, sync) is None)


def test_a_wrong_secret_is_told_from_a_dead_token(cluster, api, dropped):
    sync = dropped(api.sync(cluster, wait=False, credential=credential(api.fake, secret="wrong-secretsecret")))
    wait_until("the reason is shown", lambda: "refused the client (401 invalid_client)" in (last_error(cluster, sync) or ""))
    cluster.sql("SELECT sequin.alter_sync(%s, credential => %s)", (sync.name, credential(api.fake)))
    assert cluster.one("SELECT sequin.wait_for(%s, 'ready', '20s')", (sync.name,))


def test_a_token_for_nothing_but_a_token_is_dropped(cluster, api, dropped):
    sync = dropped(api.sync(cluster))
    plain = "pat-na1-test" if api.provider == "hubspot" else AIRTABLE_TOKEN
    cluster.sql("SELECT sequin.alter_sync(%s, credential => %s)", (sync.name, plain))
    assert sync.client.get(api.path).status == 200
    assert bearer(api.calls()[-1]) == [f"Bearer {plain}"]
    wait_until("the old one is gone", lambda: cluster.one("SELECT count(*) FROM sequin.oauth_token WHERE sync = %s", (sync.name,)) == 0)


def test_the_token_goes_with_the_sync(cluster, airtable, dropped):
    sync = airtable.sync(cluster)
    kept = row(cluster, sync)["access_token"]
    cluster.sql("UPDATE sequin.sync SET name = 'renamed_oauth' WHERE name = %s", (sync.name,))
    sync.name = "renamed_oauth"
    dropped(sync)
    assert row(cluster, sync)["access_token"] == kept and sync.client.get(PRODUCTS).status == 200
    cluster.sql("SELECT sequin.drop_sync('renamed_oauth', drop_tables => true)")
    assert cluster.one("SELECT count(*) FROM sequin.oauth_token WHERE access_token = %s", (kept,)) == 0
    assert tokens(airtable.fake)["refreshes"] == 1


def test_a_rotated_token_is_kept_until_it_can_be_stored(cluster, airtable, dropped):
    """Nobody may write the table when the answer comes: it is not lost, and nothing is asked twice."""
    sync = dropped(airtable.sync(cluster))
    wait_until("a second has passed since the last refresh", lambda: time.time() - row(cluster, sync)["refreshed_at"].timestamp() > 1.1)
    airtable.fake.clear_log()
    airtable.fake.fault("delay", path="token$", delay_ms=700)
    airtable.fake.ctl("POST", "oauth", {"revoke": "access"})
    assert sync.client.get(PRODUCTS).status == 401
    wait_until("the endpoint is asked", lambda: airtable.calls(token=True))
    with cluster.connect(autocommit=False) as db:
        db.execute("LOCK TABLE sequin.oauth_token IN EXCLUSIVE MODE")
        wait_until("the answer has come", lambda: tokens(airtable.fake)["refreshes"] == 2)
        wait_until("storing it has failed", lambda: f"could not store the new token of sync \"{sync.name}\"" in cluster.log())
        db.rollback()
    assert sync.client.get(PRODUCTS).status == 200
    assert tokens(airtable.fake)["refused"] == 0 and len(airtable.calls(token=True)) == 1


def test_no_secret_is_shown_anywhere(cluster, api, dropped, tmp_path):
    offset = len(cluster.log())
    wrong = []
    for bad in ('{"client_id": "fake-client", "client_secret": "fake-client-secret"}', credential(api.fake)[:-1], "{}",
                '{"client_id": 1, "client_secret": "fake-client-secret", "refresh_token": "fake-refresh-x"}'):
        with pytest.raises(Exception) as failed:
            api.sync(cluster, credential=bad)
        wrong.append(str(failed.value))
    sync = dropped(api.sync(cluster))
    api.fake.fault("garbage", path="token$", body="secretsecret")
    api.fake.fault("status", path="token$", status=200, body={"access_token": "secretsecret\r\nX-Evil: 1"})
    api.fake.fault("status", path="token$", status=418, body={"error": "secretsecret fake-refresh-"})
    cluster.sql("UPDATE sequin.oauth_token SET access_token = NULL WHERE sync = %s", (sync.name,))
    answers = [sync.client.get(api.path)]
    seen = set()

    def mended():
        seen.update(repr(r) for r in cluster.sql("SELECT x::text FROM pg_stat_activity x WHERE pid <> pg_backend_pid()"))
        seen.add(repr(last_error(cluster, sync)))
        return tokens(api.fake)["refreshes"] == 2
    wait_until("it is mended", mended, 30)
    api.fake.ctl("POST", "oauth", {"revoke": "refresh"})
    api.fake.ctl("POST", "oauth", {"revoke": "access"})
    answers.append(sync.client.get(api.path))
    wait_until("the refusal is shown", lambda: "invalid_grant" in (last_error(cluster, sync) or ""))
    shown = [*wrong, *seen, *map(repr, answers), cluster.log()[offset:]]
    shown += [repr(cluster.sql(f"SELECT x::text FROM {view} x")) for view in (
        "pg_settings", "sequin.write_log", "sequin.syncs", "sequin.sync", "sequin.proxy_stats", "sequin.sync_state")]
    dump = subprocess.run([f"{cluster.bin}/pg_dump", "-h", cluster.dir, "-p", str(cluster.port), "-U", "postgres", cluster.database],
                          capture_output=True, text=True, check=True).stdout
    assert sync.name in dump
    for text in [*shown, dump]:
        for hidden in SECRETS:
            assert hidden not in text, text[max(0, text.index(hidden) - 200):][:400]


def test_a_token_file_that_changes_during_a_call_is_read_again(cluster, hubspot, dropped, tmp_path):
    file = tmp_path / "token"
    file.write_text("pat-na1-old")
    hubspot.fake.config(tokens=["pat-na1-old"])
    sync = dropped(hubspot.sync(cluster, credential=f"file:{file}"))
    hubspot.fake.config(tokens=["pat-na1-next"])
    hubspot.fake.fault("delay", path="^/crm", delay_ms=500, times=-1)
    hubspot.fake.clear_log()
    cluster.sql("UPDATE sequin.sync_state SET next_attempt_at = now() WHERE sync = %s", (sync.name,))
    cluster.sql("UPDATE sequin.sync SET auth = auth WHERE name = %s", (sync.name,))
    wait_until("it asks", hubspot.calls)
    (tmp_path / "new").write_text("pat-na1-next\n")
    os.replace(tmp_path / "new", file)
    wait_until("the discovery is over", lambda: cluster.one("SELECT next_attempt_at > now() AND state = 'ready' FROM sequin.sync_state WHERE sync = %s", (sync.name,)))
    statuses = [e["status"] for e in hubspot.calls()]
    assert 401 in statuses and failures(cluster, sync) == 0 and last_error(cluster, sync) is None


def test_a_literal_token_that_is_refused_is_not_tried_twice(cluster, hubspot, dropped):
    sync = dropped(hubspot.sync(cluster, credential="pat-na1-test"))
    hubspot.fake.config(tokens=[])
    hubspot.fake.clear_log()
    cluster.sql("UPDATE sequin.sync SET tables = ARRAY['contacts', 'deals'] WHERE name = %s", (sync.name,))
    wait_until("it is shown", lambda: "401" in (last_error(cluster, sync) or ""))
    asked = [e["target"] for e in hubspot.calls()]
    assert len(asked) == len(set(asked)) and failures(cluster, sync) == 1
    assert "HubSpot refused the credential (401 INVALID_AUTHENTICATION" in last_error(cluster, sync)


@pytest.fixture
def own_cluster():
    with Cluster(workers=2, settings={"synchronous_commit": "off", "wal_writer_delay": "'10s'", "sequin_proxy.queue_timeout": "'8s'"}) as c:
        c.wait_proxy()
        yield c


def test_rotation_survives_restarts_and_kills(own_cluster, airtable):
    """Each time by another refresh, with clients at work; the old tokens are dead for good."""
    c = own_cluster
    airtable.fake.config(oauth_life_s=4, oauth_conflict_ms=0)
    sync = airtable.sync(c)
    for how in ("restart", "kill", "restart", "kill"):
        before = tokens(airtable.fake)["refreshes"]
        load = Load(sync, PRODUCTS, clients=2)
        wait_until("a refresh", lambda b=before: tokens(airtable.fake)["refreshes"] > b)
        wait_until("its token is stored", lambda: row(c, sync)["access_token"] == tokens(airtable.fake)["access"][0])
        if how == "restart":
            c.restart()
        else:
            c.kill_postmaster()
            c.start(extension=False)
        load.stop()
        c.wait_proxy()
        answer = sync.client.get(PRODUCTS)
        assert (answer.status, answer.error) == (200, None)
        assert tokens(airtable.fake)["refused"] == 0 and last_error(c, sync) is None


def test_a_stop_waits_for_a_token_that_is_on_its_way(own_cluster, airtable):
    c = own_cluster
    sync = airtable.sync(c)
    wait_until("a second has passed since the last refresh", lambda: time.time() - row(c, sync)["refreshed_at"].timestamp() > 1.1)
    airtable.fake.clear_log()
    airtable.fake.fault("delay", path="token$", delay_ms=1000, delay_after=True)  # rotated, not yet answered
    airtable.fake.ctl("POST", "oauth", {"revoke": "access"})
    assert sync.client.get(PRODUCTS).status == 401
    wait_until("it is rotated", lambda: tokens(airtable.fake)["refreshes"] == 2)
    c.restart()
    c.wait_proxy()
    assert sync.client.get(PRODUCTS).status == 200
    assert tokens(airtable.fake)["refused"] == 0 and len(airtable.calls(token=True)) == 1
