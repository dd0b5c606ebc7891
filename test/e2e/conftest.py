"""Fixtures: one cluster and one pair of stand-ins per session; a fresh sync and a reset API per test."""

import itertools
import json

import pytest

from cluster import Cluster, wait_until
from fakes import Fakes
from proxy import Client

AIRTABLE_BASE = "appFakeBase000001"
AIRTABLE_TOKEN = "patFakeToken00001.secret"
HUBSPOT_TOKEN = "pat-na1-test"

_names = itertools.count(1)


@pytest.fixture(scope="session")
def fakes():
    running = Fakes()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def cluster():
    """Two workers, short timeouts; shared by all tests that do not break it."""
    c = Cluster(workers=2, settings={
        "sequin_proxy.commit_timeout": "'500ms'",
        "sequin_proxy.queue_timeout": "'5s'",
        "sequin_proxy.upstream_timeout": "'3s'",
    })
    with c:
        c.wait_proxy()
        yield c
        assert c.crashes() == []


class Sync:
    """A sync with its client: `sync.client.post(...)`, `sync.rows('contact')`."""

    def __init__(self, cluster, name, client, fake):
        self.cluster = cluster
        self.name = name
        self.client = client
        self.fake = fake

    def rows(self, table, where="true"):
        return self.cluster.dicts(f'SELECT * FROM "{self.name}"."{table}" WHERE {where} ORDER BY 1')

    def row(self, table, record_id):
        rows = self.cluster.dicts(f'SELECT * FROM "{self.name}"."{table}" WHERE id = %s', (record_id,))
        return rows[0] if rows else None

    def columns(self, table):
        return {r["column_name"]: r["data_type"] for r in self.cluster.dicts(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            (self.name, table))}

    def write_log(self):
        return self.cluster.dicts("SELECT * FROM sequin.write_log WHERE sync = %s ORDER BY id", (self.name,))


def make_sync(cluster, fake, provider, name=None, wait=True, credential=None, tables=None, config=None, rate_limit="off", **args):
    """Creates a sync against a stand-in, waits until it is ready, and gives it a key.

    A proxy alone, unless config says {"sync": True}: so that a table holds what the test wrote, and the log its calls.
    """
    name = name or f"s{next(_names)}"
    credential = credential or (HUBSPOT_TOKEN if provider == "hubspot" else AIRTABLE_TOKEN)
    if provider == "airtable" and config is None:
        config = {"base_id": AIRTABLE_BASE}
    config = {"sync": False, **(config or {})}
    if rate_limit == "off":
        rate_limit = "100000/1s, search:100000/1s" if provider == "hubspot" else "100000/1s"
    cluster.sql(
        "SELECT * FROM sequin.create_sync(%s, %s, credential => %s, config => %s, tables => %s, rate_limit => %s, upstream_url => %s, auth => %s)",
        (name, provider, credential, json.dumps(config), tables, rate_limit, args.pop("upstream_url", fake.origin), args.pop("auth", "key")))
    if wait:
        ready = cluster.one("SELECT sequin.wait_for(%s, 'ready', '30s')", (name,))
        assert ready, cluster.sql("SELECT * FROM sequin.syncs WHERE name = %s", (name,))
    key = cluster.one("SELECT sequin.create_key(%s, label => 'test')", (name,))
    client = Client(cluster.one("SELECT sequin.api_root(%s)", (name,)), key,
                    "api.hubapi.com" if provider == "hubspot" else "api.airtable.com")
    return Sync(cluster, name, client, fake)


@pytest.fixture
def hub(cluster, fakes):
    """A HubSpot sync of contacts, companies and deals on a freshly reset stand-in."""
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts", "companies", "deals"])
    fakes.hubspot.clear_log()
    yield sync
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


@pytest.fixture
def air(cluster, fakes):
    """An Airtable sync of the seeded base on a freshly reset stand-in."""
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    sync = make_sync(cluster, fakes.airtable, "airtable")
    fakes.airtable.clear_log()
    yield sync
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


@pytest.fixture(scope="module")
def air_shared(cluster, fakes):
    """An Airtable sync for all tests of a module that mind nobody else's rows."""
    fakes.airtable.reset()
    fakes.airtable.config(limits="off")
    sync = make_sync(cluster, fakes.airtable, "airtable")
    yield sync
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))
