"""At quiescence: is the mirror the API, row by row and column by column?  Also a plain picture of the mirror now."""

from airtable_mirror import Mirror
from hubspot_mirror import Account, typed

from .models import AIRTABLE_TABLES, BY_KEY, HUBSPOT_TYPES, PAIRS
from .reader import records_sql


class Side:
    """One sync beside its stand-in, as test/e2e's helpers want it."""

    def __init__(self, cluster, name, fake):
        self.cluster = cluster
        self.name = name
        self.fake = fake

    def rows(self, table):
        return self.cluster.dicts(f'SELECT * FROM "{self.name}"."{table}" ORDER BY 1')


def picture(side, api):
    """{(collection, id): {field: value as text}} of the mirror now."""
    out = {}
    for c in HUBSPOT_TYPES if api == "hubspot" else AIRTABLE_TABLES:
        for row in side.cluster.sql(records_sql(side.name, c)):
            out[c.key, row[0]] = dict(zip(BY_KEY[c.key].columns, row[1:]))
    for pair in PAIRS if api == "hubspot" else ():
        for one, two in side.cluster.sql(f'SELECT {pair.one}, {pair.two} FROM "{side.name}".{pair.table}'):
            out[pair.key, f"{one}:{two}"] = {}
    return out


def hubspot_differences(side):
    """[(key, field, in the mirror, in the API)] of all columns of all records, and of all links."""
    account, out = Account(side), []
    for c in HUBSPOT_TYPES:
        held = {r["id"]: r for r in side.rows(c.table)}
        real = {r["id"]: r for r in side.fake.ctl("GET", f"state?type={c.key}")["records"].get(c.key, []) if not r["archived"]}
        columns = account.columns(c.path)
        for one in held.keys() ^ real.keys():
            out.append(((c.key, one), "(exists)", one in held, one in real))
        for one in held.keys() & real.keys():
            out += [((c.key, one), *d) for d in record_differences(held[one], real[one], columns)]
    return out + link_differences(side, account)


def record_differences(row, record, columns):
    for name, (column, column_type) in columns.items():
        want = typed(record["properties"].get(name), column_type)
        if row[column] != want and not (want == [] and row[column] is None):
            yield name, row[column], want
    for ours, theirs in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
        want = typed(record[theirs], "timestamptz")
        if row[ours] != want:
            yield ours, row[ours], want


def link_differences(side, account):
    real = {f"{t1}:{t2}": {} for t1, t2 in (p.key.split(":") for p in PAIRS)}
    for ends, labels in account.api_links().items():
        one, two = sorted(ends) if len(ends) == 2 else (next(iter(ends)),) * 2
        key = f"{one[0]}:{two[0]}"
        if key in real:
            real[key][f"{one[1]}:{two[1]}"] = labels
    out = []
    for pair in PAIRS:
        held = {f"{r[pair.one]}:{r[pair.two]}": sorted(r["labels"]) for r in side.rows(pair.table)}
        out += [((pair.key, one), "labels", held.get(one), real[pair.key].get(one))
                for one in held.keys() | real[pair.key].keys() if held.get(one) != real[pair.key].get(one)]
    return out


def airtable_differences(side):
    mirror, out = Mirror(side), []
    base = mirror.base()
    for c in AIRTABLE_TABLES:
        table = base[c.key]
        held, real = {r["id"]: r for r in side.rows(c.table)}, {r["id"]: r for r in table["records"]}
        columns = mirror.columns(c.key)
        for one in held.keys() ^ real.keys():
            out.append(((c.key, one), "(exists)", one in held, one in real))
        for one in held.keys() & real.keys():
            out += [((c.key, one), *d) for d in mirror.cells(held[one], real[one], table["fields"], columns, ())]
    return out


def differences(side, api):
    return hubspot_differences(side) if api == "hubspot" else airtable_differences(side)
