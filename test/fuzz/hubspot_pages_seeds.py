#!/usr/bin/python3
"""Writes seeds for fuzz_hubspot_pages: hubspot_pages_seeds.py DIR. The format of an input is told in that file."""
import json
import os
import sys

T = "2024-01-01T00:00:00.000Z"
LIST, DOWN, CHANGES, FIELD, LINKS = range(5)
CONTACTS, COMPANIES, OWNERS = 0, 8, 16
BOTH, SELF, TURNED = 0, 8, 16


def record(rid, **properties):
    return {"id": rid, "properties": {"hs_object_id": rid, **properties}, "createdAt": T, "updatedAt": T, "archived": False}


def page(*results, after=None, **more):
    return {**more, "results": list(results), **({"paging": {"next": {"after": after}}} if after else {})}


def links(rid, *to, after=None):
    return {"from": {"id": rid}, "to": [{"toObjectId": i, "associationTypes": [{"category": c, "typeId": 7, "label": label}]} for i, c, label in to],
            **({"paging": {"next": {"after": after}}} if after else {})}


BOSS = ("8", "USER_DEFINED", "boss")
# first byte, second byte, cursor, until_id, answers...
SEEDS = [
    (LIST | CONTACTS, 0, "", "", page(record("1", email="a", amount="1"), record("2", email=None, new="x"), after="2")),
    (LIST | CONTACTS, 0, "2|tok", "9", page(record("3", hs_merged_object_ids="1;2;3"), record("9"), record("3"), after="9")),
    (LIST | CONTACTS, 0, "2|tok", "", page(dict(record("3"), archived=True), record(4))),
    (LIST | COMPANIES, 0, "", "", page(record("1"), record("2"), after="x")),
    (LIST | OWNERS, 0, "", "", page({"id": "1", "email": "o", "teams": [{"id": "1"}], "archived": False, "updatedAt": T})),
    (DOWN | CONTACTS, 0, "50", "7", page(record("49"), record("8"), after="2", total=7)),
    (DOWN | COMPANIES, 5, "", "", {"category": "MISSING_SCOPES", "message": "no", "errors": [{"context": {"requiredGranularScopes": ["crm.objects.read"]}}]}),
    (CHANGES | CONTACTS, 0, "1", "", page(record("2", amount="1"), record("10", amount=None), total=2)),
    (FIELD | CONTACTS, 0, "", "", page(record("2", email="x"), total="1")),
    (LINKS | BOTH | TURNED, 0, "", "", page(links("1", BOSS, ("9", "HUBSPOT_DEFINED", "Primary")), links("17", ("9", "HUBSPOT_DEFINED", None), after="n")),
     page(links("17", BOSS)), page(links("8", ("1", "USER_DEFINED", "led"), after="m")), page(links("8", ("17", "USER_DEFINED", "led")))),
    (LINKS | SELF, 3, "", "", page(links(1, BOSS), numErrors=1, errors=[{"category": "OBJECT_NOT_FOUND", "subCategory": "NO_ASSOCIATIONS_FOUND"}]), page(links(8, ("1", "USER_DEFINED", "led")))),
    (LINKS | BOTH, 6, "", "", {"category": "OBJECT_NOT_FOUND"}, page(links("2", BOSS)), page()),
]


def main(where):
    os.makedirs(os.path.join(where, "seeds"), exist_ok=True)
    for i, (choice, status, *pieces) in enumerate(SEEDS):
        with open(os.path.join(where, "seeds", f"{i:02}"), "wb") as seed:
            seed.write(bytes([choice, status]) + b"\xff".join(p.encode() if isinstance(p, str) else json.dumps(p).encode() for p in pieces))


if __name__ == "__main__":
    main(sys.argv[1])
