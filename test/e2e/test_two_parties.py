"""One limit, two parties (DESIGN 6): how much of it the proxy and the sync use, alone and together, by the stand-in's clock.

SEQUIN_LIMIT_SECONDS=60 measures for a minute each, as docs/guarantees.md tells; the default is what a test run can spare.
"""

import os
import time

import pytest

from cluster import wait_until
from conftest import make_sync
from crowd import Crowd

SECONDS = float(os.environ.get("SEQUIN_LIMIT_SECONDS", "3"))
LEAST = 0.98 if SECONDS >= 30 else 0.93     # a slot more or less is 1 % of a short run
CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture
def shared(cluster, fakes):
    """A sync that has far more to read than the limit lets it; its stand-in judges that limit."""
    made = []

    def make(limit, reads, **config):
        fake = fakes.hubspot
        fake.reset(empty=True)
        # It sees a request when its one thread comes to it, which renders a page of another just then.
        fake.config(limits={"default": [[limit, 1]]}, slack_ms=15, rate_headers=False)
        # ... or searches for 100 ms among so many records
        fake.fault("status", path="/search", times=-1, status=403, body='{"category": "MISSING_SCOPES", "message": "no search"}')
        fake.edit(op="create", type="contacts", count=int(limit * (SECONDS + 3) * 120) if reads else 1, properties={"firstname": "F{n}"})
        sync = make_sync(cluster, fake, "hubspot", tables=["contacts"], rate_limit=f"{limit}/1s, search:1/1s", config={"sync": reads, **config})
        if not reads:
            fake.clear_log()
        made.append(sync)
        return sync
    yield make
    for sync in made:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def is_ours(entry):
    return any(k.lower() == "user-agent" and v == "sequin_proxy/1.0" for k, v in entry["headers"])


class Callers(Crowd):
    """Threads that ask again and again; pause: seconds between the answer and the next question."""

    def __init__(self, sync, threads, pause=0.0):
        super().__init__(threads)
        self.sync, self.pause = sync, pause

    def run(self, i):
        while not self.stop.is_set():
            self.sync.client.get(CONTACTS + "?limit=1&proxied=1")
            self.stop.wait(self.pause)


def spend(sync, threads, pause=0.0):
    """(proxied, sync's) calls of so many seconds, with both parties at it from before to after them.

    The stand-in is asked nothing meanwhile: it would answer late.
    """
    with Callers(sync, threads, pause):
        began = time.monotonic() + 1.5          # what went before it is out of the window
        wait_until("the time is over", lambda: time.monotonic() > began + SECONDS + 0.2, timeout=SECONDS + 30)
    verdict = sync.fake.judge()
    got = [e for e in sync.fake.log() if began <= e["time"] < began + SECONDS and "/search" not in e["target"]]
    early = [(v["bucket"], v["too_early_ms"]) for v in verdict["violations"] if began <= v["at"] < began + SECONDS]
    assert early == []
    return len([e for e in got if not is_ours(e)]), len([e for e in got if is_ours(e)])


def test_the_sync_alone_uses_the_limit(shared):
    sync = shared(20, True)
    proxied, synced = spend(sync, 0)
    print("sync alone", synced, "of", 20 * SECONDS)
    assert proxied == 0 and synced >= LEAST * 20 * SECONDS, (proxied, synced)


def test_callers_alone_use_the_limit(shared):
    sync = shared(20, False)
    proxied, synced = spend(sync, 6)
    print("callers alone", proxied, "of", 20 * SECONDS)
    assert synced == 0 and proxied >= LEAST * 20 * SECONDS, (proxied, synced)


def test_both_together_use_it_and_callers_go_first(shared):
    """Few callers leave the rest to the sync."""
    sync = shared(20, True)
    proxied, synced = spend(sync, 2, pause=0.15)
    print("both", proxied, synced, "of", 20 * SECONDS)
    assert proxied + synced >= LEAST * 20 * SECONDS, (proxied, synced)
    assert proxied >= 0.3 * 20 * SECONDS and synced >= 0.1 * 20 * SECONDS, (proxied, synced)


def test_a_flood_of_callers_leaves_the_sync_nothing_but_its_reserve(shared):
    sync = shared(20, True, sync_reserve=0.2)
    proxied, synced = spend(sync, 12)
    print("flood", proxied, synced, "of", 20 * SECONDS)
    assert proxied + synced >= LEAST * 20 * SECONDS, (proxied, synced)
    assert 0.15 * 20 * SECONDS <= synced <= 0.25 * 20 * SECONDS, (proxied, synced)
