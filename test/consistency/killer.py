"""Kills -9: a worker, the sync process or the postmaster with all its children, every few seconds, and waits until all is back."""

import os
import random
import signal
import threading
from collections import Counter

import psycopg

from cluster import wait_until

WORKER, SYNC = "sequin_proxy worker", "sequin_proxy sync"


class Killer:
    """A thread that kills until it is stopped.  What it does next comes from the seed; when, from the clock."""

    def __init__(self, cluster, seed, every=(1.5, 3.5)):
        self.cluster = cluster
        self.rng = random.Random(f"{seed}/killer")
        self.every = every
        self.kills = Counter()
        self.failed = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.stopping.wait(self.rng.uniform(*self.every)):
                what = self.rng.choices(("worker", "sync", "postmaster", "worker_term"), (4, 3, 3, 1))[0]
                getattr(self, what)()
                self.kills[what] += 1
                self.cluster.wait_proxy()
        except Exception as e:
            self.failed = e

    def pids(self, kind):
        return wait_until(f"there is a {kind}", lambda: self.try_pids(kind))

    def try_pids(self, kind):
        try:
            return self.cluster.worker_pids(kind)
        except psycopg.OperationalError:
            return None

    def one(self, kind, sig):
        """Kills one; after a -9 PostgreSQL ends all processes and starts anew."""
        pid = self.rng.choice(self.pids(kind))
        os.kill(pid, sig)
        wait_until("another has come", lambda: (now := self.try_pids(kind)) and pid not in now, timeout=60)

    def worker(self):
        self.one(WORKER, signal.SIGKILL)

    def sync(self):
        self.one(SYNC, signal.SIGKILL)

    def worker_term(self):
        self.one(WORKER, signal.SIGTERM)

    def postmaster(self):
        self.cluster.kill_postmaster()
        self.cluster.start(extension=False)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        self.thread.join(120)
        if self.failed and not exc[0]:
            raise self.failed
