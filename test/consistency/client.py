"""One process of clients: writers through the proxy (now and then past it), readers of the mirror, a scan of all.

`python3 -m consistency.client` reads its orders as JSON from stdin (see run.py) and ends when its share is done.
Each client's decisions come from an RNG of its own, seeded by the run's seed, the process and the client.
"""

import asyncio
import json
import random
import sys
import zlib
from urllib.parse import urlsplit

from .airtable import AirtableWriter
from .history import Writer as History, now
from .hubspot import HubSpotWriter
from .models import AIRTABLE_TABLES, HUBSPOT_TYPES, PAIRS
from .pool import Pool
from .reader import Reader
from .wire import Connection, Cut

HOSTS = {"hubspot": "api.hubapi.com", "airtable": "api.airtable.com"}
WRITERS = {"hubspot": HubSpotWriter, "airtable": AirtableWriter}
COLLECTIONS = {"hubspot": HUBSPOT_TYPES, "airtable": AIRTABLE_TABLES}


class Process:
    """What the clients of one process share."""

    def __init__(self, orders):
        self.orders = orders
        self.history = History(orders["history"])
        self.pools = {api: Pool(COLLECTIONS[api], orders["hot"]) for api in orders["apis"]}
        self.schemas = {api: o["schema"] for api, o in orders["apis"].items()}
        self.requests = 0
        self.readers = []
        self.count = 0

    @property
    def done(self):
        return self.requests + sum(r.count for r in self.readers) >= self.orders["ops"]

    def number(self):
        """Another for every call, in all processes."""
        self.count += 1
        return self.orders["first"] + self.count

    def reader(self):
        self.readers.append(Reader(self.orders["conninfo"], self.schemas, self.history))
        return self.readers[-1]

    def rng(self, *who):
        return random.Random("/".join(map(str, (self.orders["seed"], self.orders["process"], *who))))


class Client:
    """Writes, and reads what it has just written."""

    def __init__(self, process, api, number):
        self.process = process
        self.api = api
        self.rng = process.rng(api, number)
        self.name = f"{process.orders['process']}.{api}.{number}"
        self.pool = process.pools[api]
        self.writer = WRITERS[api](self.pool, self.rng, process.number)
        self.reader = process.reader()
        orders = process.orders["apis"][api]
        proxy, origin = urlsplit(orders["root"]), urlsplit(orders["origin"])
        self.ways = {"proxy": (Connection(proxy.hostname, proxy.port), f"{proxy.path}/{HOSTS[api]}", orders["key"]),
                     "direct": (Connection(origin.hostname, origin.port), "", orders["token"])}

    def hang_up(self):
        if self.rng.random() >= self.process.orders["hang_up"]:
            return None
        if self.rng.random() < 0.3:
            return "body", self.rng.random()
        return "answer", self.rng.random() ** 2 * 0.1

    async def send(self, op):
        """Sends it once, notes what came of it, and learns from a 2xx."""
        via = "direct" if self.rng.random() < self.process.orders["direct"] else "proxy"
        connection, prefix, token = self.ways[via]
        marker = f"o{self.process.number()}"
        line = dict(k="w", op=marker, by=self.name, m=op.method, path=op.path, via=via)
        body = b"" if op.body is None else json.dumps(op.body).encode()
        headers = {"Authorization": f"Bearer {token}", "X-Test-Op": marker, "Content-Type": "application/json"}
        hang_up = self.hang_up() if via == "proxy" else None
        line["t0"] = now()
        try:
            status, got, raw = await connection.ask(op.method, prefix + op.path, headers, body, hang_up)
        except Cut as cut:
            self.process.history.add(**line, t1=now(), status=None, cut=str(cut), hung_up=bool(hang_up), reached=cut.sent)
            self.process.requests += cut.sent
            await asyncio.sleep(0 if cut.sent else 0.1)
            return None
        line.update(t1=now(), status=status, commit=got.get("sequin-commit"), error=got.get("sequin-error"), crc=zlib.crc32(raw))
        if line["error"]:
            line["says"] = json.loads(raw)["error"]
        self.process.history.add(**line)
        self.process.requests += 1
        if 200 <= status < 300 and op.learn:
            self.learn(op, raw)
        if line["error"]:
            await asyncio.sleep(0.02)
        return status

    @staticmethod
    def learn(op, raw):
        try:
            answer = json.loads(raw) if raw else None
        except ValueError:
            return                  # a fault of the stand-in broke its JSON
        op.learn(answer)

    async def run(self):
        while not self.process.done:
            op = self.writer.next()
            await self.send(op)
            if op.writes and self.rng.random() < self.process.orders["reads"]:
                await self.look(op)
            if think := self.process.orders["think"]:
                await asyncio.sleep(self.rng.uniform(0, 2 * think))

    async def look(self, op):
        by_key = {}
        for key, one in op.about:
            by_key.setdefault(key, []).append(one)
        for key, ids in by_key.items():
            await self.reader.records(key, ids)
        for key, ids in op.pairs:
            await self.reader.links(key, [ids])


async def watch(process, api, number):
    """A reader: hot records and links, those that are gone among them."""
    rng, pool, reader = process.rng("reader", api, number), process.pools[api], process.reader()
    while not process.done:
        collection = rng.choice(COLLECTIONS[api])
        if api == "hubspot" and rng.random() < 0.3:
            pair = rng.choice(PAIRS)
            ids = list(dict.fromkeys(rng.sample(pool.pairs[pair.key], min(6, len(pool.pairs[pair.key])))))
            await (reader.links(pair.key, ids) if ids else asyncio.sleep(0.05))
            continue
        gone = pool.gone[collection.key]
        ids = pool.pick(rng, collection.key, 5) + rng.sample(gone, min(2, len(gone)))
        await (reader.records(collection.key, ids) if ids else asyncio.sleep(0.05))
        await asyncio.sleep(process.orders["pause"])


async def scan(process, api):
    """Reads whole tables, and so learns which records there are."""
    reader = process.reader()
    while not process.done:
        for collection in COLLECTIONS[api]:
            ids = await reader.records(collection.key)
            if ids is not None:
                process.pools[api].refresh(collection.key, ids)
        await asyncio.sleep(0.25)


async def main():
    orders = json.load(sys.stdin)
    process = Process(orders)
    work = []
    for api in orders["apis"]:
        work.append(scan(process, api))
        work += [Client(process, api, n).run() for n in range(orders["clients"][api])]
        work += [watch(process, api, n) for n in range(orders["readers"])]
    await asyncio.gather(*work)
    for reader in process.readers:
        await reader.close()
    process.history.close()
    print(json.dumps({"requests": process.requests, "selects": sum(r.count for r in process.readers)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
