"""Compares HubSpot's mirror tables with the stand-in's state: records by told property, links by labels."""

import datetime
import decimal
import json

from cluster import wait_until


def typed(text, column_type):
    """What a column of this type should hold for HubSpot's string."""
    if text is None or (text == "" and column_type != "text"):
        return None
    if column_type == "numeric":
        return decimal.Decimal(text)
    if column_type == "boolean":
        return {"true": True, "false": False}[text]
    if column_type == "date":
        return datetime.date.fromisoformat(text)
    if column_type.startswith("timestamp"):
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if column_type == "text[]":
        return text.split(";")
    if column_type == "jsonb":
        return json.loads(text)
    return text


class Account:
    """One sync beside its stand-in."""

    def __init__(self, sync):
        self.sync = sync
        self.fake = sync.fake
        self.types = {}
        for type_id, kind in self.fake.ctl("GET", "state?meta")["types"].items():
            for name in (type_id, kind["plural"], kind["singular"], kind["fqn"]):
                self.types[name] = type_id

    def api(self, kind, record_id):
        """The live record in the stand-in, or None."""
        records = self.fake.ctl("GET", f"state?type={self.types[kind]}")["records"].get(self.types[kind], [])
        return next((r for r in records if r["id"] == str(record_id) and not r["archived"]), None)

    def held(self, kind):
        """Every live record in the stand-in, by id."""
        records = self.fake.ctl("GET", f"state?type={self.types[kind]}")["records"].get(self.types[kind], [])
        return {r["id"]: r for r in records if not r["archived"]}

    def wrong(self, kind, most=8):
        """What differs between the mirror and the API: [(id, property, mirror, API)], each record and property."""
        held = self.held(kind)
        rows = {r["id"]: r for r in self.sync.rows(self.table(kind))}
        columns = self.columns(kind)
        out = [(i, "not in the mirror") for i in held.keys() - rows.keys()] + [(i, "not in the API") for i in rows.keys() - held.keys()]
        for i in held.keys() & rows.keys():
            for name, (column, column_type) in columns.items():
                if name.startswith("num_associated"):
                    continue        # links move these, and the API tells nobody
                want = typed(held[i]["properties"].get(name), column_type)
                if rows[i][column] != want:
                    out.append((i, name, rows[i][column], want))
            if rows[i]["updated_at"] != typed(held[i]["updatedAt"], "timestamptz"):
                out.append((i, "updated_at", rows[i]["updated_at"], held[i]["updatedAt"]))
        return out[:most]

    def table(self, kind):
        return self.sync.cluster.one("SELECT table_name FROM sequin.mirror_table WHERE sync = %s AND collection = %s",
                                     (self.sync.name, self.types[kind]))

    def columns(self, kind):
        """Property name -> (column, type)."""
        return {r["field"]: (r["column_name"], r["column_type"]) for r in self.sync.cluster.dicts(
            "SELECT field, column_name, column_type FROM sequin.mirror_column WHERE sync = %s AND collection = %s",
            (self.sync.name, self.types[kind]))}

    def row(self, kind, record_id):
        return self.sync.row(self.table(kind), str(record_id))

    def differences(self, kind, record_id, told, record=None, columns=None):
        """[(property, in the mirror, in the API)] of the told properties."""
        record = record or self.api(kind, record_id)
        row = self.row(kind, record_id)
        assert record is not None, f"{kind} {record_id} is not in the API"
        assert row is not None, f"{kind} {record_id} is not in the mirror"
        columns = columns or self.columns(kind)
        out = []
        for name in told:
            column, column_type = columns[name]
            want = typed(record["properties"].get(name), column_type)
            if row[column] != want and not str(row[column]) == str(want) == "NaN":
                out.append((name, row[column], want))
        for ours, theirs in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
            want = typed(record[theirs], "timestamptz")
            if row[ours] != want:
                out.append((ours, row[ours], want))
        return out

    def same(self, kind, record_id, told):
        """The row holds what the API told of the record."""
        wrong = self.differences(kind, record_id, told)
        assert wrong == [], f"{kind} {record_id}: (property, mirror, API) = {wrong}"

    def same_as_answer(self, kind, answer_record, sent=()):
        """An answer's record: all that it tells and all that was sent must be in the row."""
        self.same(kind, answer_record["id"], {*answer_record["properties"], *sent})

    def gone(self, kind, *ids):
        for record_id in ids:
            assert self.row(kind, record_id) is None, f"{kind} {record_id} is still in the mirror"

    # -- links

    def link_table(self, a, b):
        """(table, column of a, column of b)"""
        one, two = sorted((self.table(a), self.table(b)))
        if self.types[a] == self.types[b]:
            return f"associations_{one}_{two}", f"from_{one}_id", f"to_{two}_id"
        return f"associations_{one}_{two}", f"{self.table(a)}_id", f"{self.table(b)}_id"

    def labels(self, a, a_id, b, b_id):
        """The mirrored labels of a pair, sorted; None when there is no such link."""
        table, a_column, b_column = self.link_table(a, b)
        either = f"OR ({a_column}, {b_column}) = (%(b)s, %(a)s)" if self.types[a] == self.types[b] else ""
        rows = self.sync.cluster.dicts(
            f'SELECT labels FROM "{self.sync.name}"."{table}" WHERE ({a_column}, {b_column}) = (%(a)s, %(b)s) {either}',
            {"a": str(a_id), "b": str(b_id)})
        return sorted({label for r in rows for label in r["labels"]}) if rows else None

    def api_links(self):
        """{frozenset of both ends: sorted labels}"""
        return {frozenset(((x["from_type"], x["from_id"]), (x["to_type"], x["to_id"]))): x["labels"]
                for x in self.fake.state()["associations"]}

    def api_labels(self, a, a_id, b, b_id):
        return self.api_links().get(frozenset(((self.types[a], str(a_id)), (self.types[b], str(b_id)))))

    def same_link(self, a, a_id, b, b_id):
        """The pair is as the API has it; returns its labels."""
        have, want = self.labels(a, a_id, b, b_id), self.api_labels(a, a_id, b, b_id)
        assert have == want, f"{a} {a_id} - {b} {b_id}: mirror {have}, API {want}"
        return have

    # -- past the proxy

    def edit(self, op, **edit):
        """An edit in the stand-in; its result (see its README), which must not be an error."""
        result = self.fake.edit(op=op, **edit)["results"][0]
        assert result.get("status", 200) < 300, result
        return result

    # -- the journal

    def settled(self, timeout=20):
        """Until no write of the sync waits for recovery."""
        wait_until("every write of the journal is settled", lambda: self.sync.cluster.one(
            "SELECT count(*) = 0 FROM sequin.write_log WHERE sync = %s AND state IN ('intent', 'deferred')",
            (self.sync.name,)), timeout)
