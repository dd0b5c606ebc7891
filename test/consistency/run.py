"""One run: a cluster, the stand-ins, two syncs that poll and sweep, client processes, perhaps a killer, and the verdict."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

from cluster import Cluster, wait_until
from fakes import Fakes

from . import compare
from .history import read
from .judge import Judge, Verdict
from .killer import Killer

BASE = "appFakeBase000001"
TOKENS = {"hubspot": "pat-na1-test", "airtable": "patFakeToken00001.secret"}
TABLES = {"hubspot": ["contacts", "companies", "deals"], "airtable": ["Suppliers", "2024 Budget"]}
LIVELY = {"poll_interval": "1s", "sweep_interval": "3s"}
QUIET = {"poll_interval": "1h", "sweep_interval": "1h"}
JITTER = {"before_ms": [0, 8], "after_ms": [0, 25], "slow": 0.06, "slow_ms": [80, 500],
          "faults": {"status": 0.003, "reset_after": 0.002, "reset_before": 0.002, "truncate": 0.001, "malformed": 0.001},
          "fault_args": {"status": {"status": 502, "body": {"status": "error", "message": "bad gateway"}}}}


@dataclass
class Settings:
    """How large, how hostile.  `rounds`: (operations, what the sync does meanwhile)."""

    seed: int
    ops: int
    kill: bool = False
    processes: int = 2
    workers: int = 3
    hot: int = 14
    clients: dict = field(default_factory=lambda: {"hubspot": 10, "airtable": 4})
    patient: bool = True        # wait for creates without an answer too: their poll comes after 20 s
    out: str = None             # where histories go

    @property
    def rounds(self):
        """With kills the last part has no polls and sweeps, which would make good what recovery forgot."""
        if self.kill:
            return [(self.ops * 2 // 3, LIVELY), (self.ops - self.ops * 2 // 3, QUIET)]
        return [(self.ops, LIVELY)]


class Run:
    """Use with `with`; go() runs all rounds and returns the Verdict."""

    def __init__(self, settings):
        self.settings = settings
        self.verdict = Verdict()
        self.figures = {"requests": 0, "selects": 0, "seconds": 0.0, "kills": {}}
        self.dir = settings.out or tempfile.mkdtemp(prefix="sequin_consistency_")
        os.makedirs(self.dir, exist_ok=True)
        self.stack = ExitStack()
        self.numbers = 0
        self.files = []

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stack.close()
            raise

    def start(self):
        self.fakes = Fakes()
        self.stack.callback(self.fakes.stop)
        self.cluster = Cluster(workers=self.settings.workers, settings={
            "sequin_proxy.upstream_timeout": "'3s'", "sequin_proxy.commit_timeout": "'2s'", "sequin_proxy.queue_timeout": "'10s'",
            "max_connections": 200, "restart_after_crash": "on"})
        self.stack.enter_context(self.cluster)
        self.cluster.wait_proxy()
        self.sides = {}
        for api, fake in (("hubspot", self.fakes.hubspot), ("airtable", self.fakes.airtable)):
            self.sides[api] = self.set_up(api, fake)
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def set_up(self, api, fake):
        fake.reset(**({"empty": True, "custom": False} if api == "hubspot" else {"records": 0, "suppliers": 0}))
        # whether HubSpot's DELETE of a merged-away id deletes the survivor is not known; its 204 would not tell
        fake.config(limits="off", **({"delete_merged": "ignore"} if api == "hubspot" else {}))
        self.cluster.sql("SELECT sequin.create_sync(%s, %s, credential => %s, config => %s, tables => %s, rate_limit => %s, upstream_url => %s)",
                         (api, api, TOKENS[api], self.config(api, LIVELY), TABLES[api],
                          "100000/1s, search:100000/1s" if api == "hubspot" else "100000/1s", fake.origin))
        assert self.cluster.one("SELECT sequin.wait_for(%s, 'live', '60s')", (api,)), self.cluster.sql("SELECT * FROM sequin.syncs")
        self.keys = {**getattr(self, "keys", {}), api: self.cluster.one("SELECT sequin.create_key(%s)", (api,))}
        fake.ctl("POST", "history")
        return compare.Side(self.cluster, api, fake)

    @staticmethod
    def config(api, intervals):
        return json.dumps({**intervals, **({"base_id": BASE} if api == "airtable" else {})})

    # -- rounds

    def go(self):
        for number, (ops, intervals) in enumerate(self.settings.rounds):
            self.round(number, ops, intervals)
        self.judge()
        return self.verdict

    def round(self, number, ops, intervals):
        for api, side in self.sides.items():
            self.cluster.sql("SELECT sequin.alter_sync(%s, config => %s)", (api, self.config(api, intervals)))
            side.fake.ctl("POST", "jitter", {"seed": f"{self.settings.seed}/{api}", **JITTER})
        began = time.monotonic()
        killer = Killer(self.cluster, f"{self.settings.seed}/{number}") if self.settings.kill else nullcontext()
        with killer:
            self.clients(number, ops)
        self.figures["seconds"] += time.monotonic() - began
        if self.settings.kill:
            for what, n in killer.kills.items():
                self.figures["kills"][what] = self.figures["kills"].get(what, 0) + n
        for side in self.sides.values():
            side.fake.ctl("DELETE", "jitter")
        self.last = self.after(intervals)

    def clients(self, number, ops):
        """Runs all client processes to their end."""
        running = []
        for p in range(self.settings.processes):
            self.files.append(os.path.join(self.dir, f"clients.{number}.{p}.jsonl"))
            running.append(subprocess.Popen([sys.executable, "-m", "consistency.client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            running[-1].stdin.write(json.dumps(self.orders(number, p, ops // self.settings.processes)))
            running[-1].stdin.close()
        try:
            while any(c.poll() is None for c in running):
                time.sleep(0.5)
                for side in self.sides.values():
                    side.fake.clear_log()
            for c in running:
                assert c.returncode == 0, f"a client process ended with {c.returncode}"
                done = json.loads(c.stdout.read())
                self.figures["requests"] += done["requests"]
                self.figures["selects"] += done["selects"]
        finally:
            for c in running:
                c.kill()
                c.wait()

    def orders(self, number, p, ops):
        s = self.settings
        self.numbers += 1
        apis = {api: {"root": self.cluster.one("SELECT sequin.api_root(%s)", (api,)), "key": self.keys[api], "origin": side.fake.origin,
                      "token": TOKENS[api], "schema": api} for api, side in self.sides.items()}
        return {"seed": s.seed, "process": f"{number}.{p}", "first": self.numbers * 10_000_000, "ops": ops, "apis": apis, "hot": s.hot,
                "clients": s.clients, "readers": 2, "reads": 0.6, "pause": 0.1 if s.kill else 0.01,
                "think": 0.3 if s.kill else 0.0, "direct": 0.03, "hang_up": 0.02 if s.kill else 0.005,
                "conninfo": f"host={self.cluster.dir} port={self.cluster.port} dbname=postgres user=postgres",
                "history": self.files[-1]}

    # -- after the clients

    def unsettled(self, api):
        """Writes of the journal that wait for recovery."""
        patient = "" if self.settings.patient else " AND (state = 'intent' OR method <> 'POST')"
        return self.cluster.dicts(f"SELECT * FROM sequin.write_log WHERE sync = %s AND state IN ('intent', 'deferred'){patient}", (api,))

    def after(self, intervals):
        """Waits for recovery, takes a picture of the mirror, then lets the sync poll and sweep and compares."""
        pictures = {}
        for api, side in self.sides.items():
            try:
                wait_until(f"the journal of {api} is settled", lambda api=api: not self.unsettled(api), timeout=90, interval=0.2)
            except AssertionError:
                raise AssertionError(f"not settled: {self.unsettled(api)[:5]}") from None
            if not self.settings.patient:
                assert self.cluster.one("SELECT sequin.wait_for(%s, 'fresh', '60s')", (api,))
            pictures[api] = compare.picture(side, api)
        for api, side in self.sides.items():
            for state in ("fresh", "swept"):
                assert self.cluster.one("SELECT sequin.wait_for(%s, %s, '90s')", (api, state)), self.cluster.sql("SELECT * FROM sequin.sync_progress")
            for key, *what in compare.differences(side, api):
                self.verdict.add("divergent", key, dict(zip(("field", "value", "must be"), what)))
        return pictures

    # -- the verdict

    def told(self, side, what):
        """All that the stand-in recorded."""
        out = []
        while True:
            page = side.fake.ctl("GET", f"history?{what}={len(out)}&{'arrivals' if what == 'changes' else 'changes'}=1000000000")[what]
            out += page
            if not page:
                return out

    def judge(self):
        lines = read(self.files)
        self.judges = {}
        for api, side in self.sides.items():
            mine = [x for x in lines if (x["by"].split(".")[2] == api if x["k"] == "w" else x["c"].startswith("tbl") == (api == "airtable"))]
            judge = Judge(self.told(side, "changes"), self.told(side, "arrivals"), mine, self.verdict).run()
            judge.lost(self.last[api])
            self.judges[api] = judge
        self.figures["rows"] = sum(j.checked for j in self.judges.values())
        self.figures["accepted"] = sum(len(j.accepted_by_proxy()) for j in self.judges.values())
        self.figures["crashes"] = len(self.cluster.crashes())
