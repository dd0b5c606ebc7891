"""SELECTs of hot records and links, each written to the history with when it began and ended."""

import asyncio

import psycopg

from .history import now
from .models import BY_KEY, PAIR_BY_KEY

VERSION = "(extract(epoch from updated_at) * 1000)::bigint::text"


def records_sql(schema, collection):
    shown = ", ".join(VERSION if c == "updated_at" else f"{c}::text" for c in collection.columns.values())
    return f'SELECT id, {shown} FROM "{schema}".{collection.table}'


def links_sql(schema, pair):
    return (f"SELECT {pair.one} || ':' || {pair.two}, array_to_string(ARRAY(SELECT unnest(labels) ORDER BY 1), ';')"
            f' FROM "{schema}".{pair.table} WHERE ({pair.one} || \':\' || {pair.two}) = ANY (%s) AND {pair.one} = ANY (%s)')


class Reader:
    """One database session of a client; made anew when the server went away."""

    def __init__(self, conninfo, schemas, history):
        self.conninfo = conninfo
        self.schemas = schemas          # api -> schema
        self.history = history
        self.db = None
        self.count = 0

    async def fetch(self, query, args):
        """(rows, begun, ended); None when the server is not there."""
        try:
            if self.db is None:
                self.db = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True, connect_timeout=5)
            t0 = now()
            rows = await (await self.db.execute(query, args)).fetchall()
            self.count += 1
            return rows, t0, now()
        except psycopg.OperationalError:
            await self.close()
            await asyncio.sleep(0.1)
            return None

    async def records(self, key, ids=None):
        """Reads these, or the whole table; returns the ids that are there, None without an answer."""
        collection = BY_KEY[key]
        query = records_sql(self.schemas[collection.api], collection)
        done = await self.fetch(query if ids is None else query + " WHERE id = ANY (%s)", None if ids is None else (ids,))
        if done is None:
            return None
        rows = {r[0]: list(r[1:]) for r in done[0]}
        self.history.add(k="r", c=key, t0=done[1], t1=done[2], asked=ids, rows=rows)
        return list(rows)

    async def links(self, key, ids):
        done = await self.fetch(links_sql(self.schemas["hubspot"], PAIR_BY_KEY[key]), (ids, [i.split(":")[0] for i in ids]))
        if done is not None:
            self.history.add(k="l", c=key, t0=done[1], t1=done[2], asked=ids, rows={r[0]: [r[1] or None] for r in done[0]})

    async def close(self):
        if self.db is not None:
            await self.db.close()
        self.db = None
