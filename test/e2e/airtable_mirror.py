"""Compares Airtable's mirror tables with the stand-in's state, field by field."""

import datetime
import decimal

BASE = "/v0/appFakeBase000001"
PRODUCTS = f"{BASE}/Product%20Inventory"
SUPPLIERS = f"{BASE}/Suppliers"
# What a write to one record changes in others too, without saying so in its answer.
FROM_OTHERS = {"multipleRecordLinks", "count", "rollup", "multipleLookupValues"}


def typed(value, column_type):
    """What a column of this type should hold for a cell that the API shows so (None: it does not show it)."""
    if column_type == "boolean":
        return bool(value)
    if value is None or column_type == "jsonb":
        return value
    if isinstance(value, dict):
        value = value.get("specialValue")
        if value is None:
            return None
    if column_type == "numeric":
        return decimal.Decimal(str(value))
    if column_type == "date":
        return datetime.date.fromisoformat(value)
    if column_type.startswith("timestamp"):
        return datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    return value


def same(mirrored, expected):
    if isinstance(expected, decimal.Decimal) and expected.is_nan():
        return isinstance(mirrored, decimal.Decimal) and mirrored.is_nan()
    return mirrored == expected


def without_urls(cell):
    """Attachments: their URLs expire, their sizes and thumbnails come late."""
    return [a["id"] for a in cell] if cell else cell


class Mirror:
    """One sync beside its stand-in's base."""

    def __init__(self, sync):
        self.sync = sync
        self.fake = sync.fake

    def base(self):
        return self.fake.state()["bases"]["appFakeBase000001"]["tables"]

    def tables(self):
        """Table id -> mirror table."""
        return {r["collection"]: r["table_name"] for r in self.sync.cluster.dicts(
            "SELECT collection, table_name FROM sequin.mirror_table WHERE sync = %s AND removed_at IS NULL", (self.sync.name,))}

    def columns(self, table_id):
        """Field id -> (column, type)."""
        return {r["field"]: (r["column_name"], r["column_type"]) for r in self.sync.cluster.dicts(
            "SELECT field, column_name, column_type FROM sequin.mirror_column WHERE sync = %s AND collection = %s",
            (self.sync.name, table_id))}

    def differences(self, ids, skip=FROM_OTHERS):
        """[(record, table, field or "row", in the mirror, in the API)] of these records, in every table."""
        out = []
        names = self.tables()
        for table_id, table in self.base().items():
            if table_id not in names:
                continue
            held = {r["id"]: r for r in self.sync.rows(names[table_id])}
            real = {r["id"]: r for r in table["records"]}
            columns = self.columns(table_id)
            for rid in ids:
                if (rid in held) != (rid in real):
                    out.append((rid, table["name"], "row", rid in held, rid in real))
                elif rid in held:
                    out += [(rid, table["name"], *d) for d in self.cells(held[rid], real[rid], table["fields"], columns, skip)]
        return out

    @staticmethod
    def cells(row, record, fields, columns, skip):
        created = datetime.datetime.fromisoformat(record["createdTime"].replace("Z", "+00:00"))
        if row["created_time"] != created:
            yield "created_time", row["created_time"], created
        for field in fields:
            if field["type"] in skip or field["type"] == "manualSort":
                continue
            column, column_type = columns[field["id"]]
            mirrored = row[column]
            expected = typed(record["fieldsById"].get(field["id"]), column_type)
            if field["type"] == "multipleAttachments":
                mirrored, expected = without_urls(mirrored), without_urls(expected)
            if not same(mirrored, expected):
                yield field["name"], mirrored, expected
