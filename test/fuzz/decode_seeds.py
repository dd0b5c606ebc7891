#!/usr/bin/python3
"""Writes seeds and a dictionary for fuzz_decode: decode_seeds.py DIR, then
fuzz_decode -dict=DIR/dict DIR/seeds. The format of an input is told in fuzz_decode.c."""
import json
import os
import sys

BASE = "appBASE00000000001"
METHODS = {"GET": 0, "POST": 1, "PATCH": 2, "PUT": 3, "DELETE": 4, "HEAD": 5, "MOVE": 6}
AIRTABLE, HUBSPOT = 0, 1
T = "2024-01-01T00:00:00.000Z"


def record(rid, **fields):
    return {"id": rid, "createdTime": T, "fields": fields}


def hubspot_object(oid, **properties):
    return {"id": oid, "properties": properties, "createdAt": T, "updatedAt": T, "archived": False}


TABLES = {"tables": [{"id": "tblTasks", "name": "Tasks", "fields": [
    {"id": "fldName", "name": "Name", "type": "singleLineText"},
    {"id": "fldF", "name": "F", "type": "formula", "options": {"result": {"type": "number"}}},
    {"id": "fldL", "name": "L", "type": "multipleLookupValues", "options": {"result": {"type": "email"}}}]}]}
LIST = {"records": [record("recA1", fldName="a", fldEst=1)], "offset": "itr/rec"}
ASSOC = "/crm/v4/associations"

# provider, method, path, query, request, answer, further answers...
SEEDS = [
    (AIRTABLE, "POST", f"/v0/{BASE}/Tasks", "", {"fields": {"Name": "a"}, "typecast": True}, record("recA1", Name="a", Done=True, New=[1, {"a": None}]), TABLES),
    (AIRTABLE, "POST", f"/v0/{BASE}/A%2FB/", "returnFieldsByFieldId=true", {"records": []}, {"records": [record("recA1", fldName="a")]}, TABLES),
    (AIRTABLE, "PATCH", f"/v0/{BASE}/Tasks/recA1", "cellFormat=string", {"fields": {}}, record("recA1", Est="1"), LIST, {"records": []}, LIST),
    (AIRTABLE, "PATCH", f"/v0/{BASE}/tblTasks", "", {"performUpsert": {"fieldsToMergeOn": ["Name"]}, "records": [{"id": "recA1", "fields": {}}]},
     {"records": [record("recA1"), record("recA2")], "createdRecords": ["recA2"], "details": {"message": "partialSuccess"}}),
    (AIRTABLE, "DELETE", f"/v0/{BASE}/Nope/recA1", "", None, {"id": "recA1", "deleted": True}),
    (AIRTABLE, "DELETE", f"/v0/{BASE}/Tasks", "records[]=recA1&records%5B%5D=recA2", None, {"records": [{"id": "recA1", "deleted": True}, {"id": "recA2", "deleted": False}]}, LIST),
    (AIRTABLE, "POST", f"/v0/{BASE}/recA1/fldFiles/uploadAttachment", "", {"file": "eA=="}, record("recA1", fldFiles=[{"id": "att1"}])),
    (AIRTABLE, "POST", f"/v0/meta/bases/{BASE}/tables/tblTasks/fields", "", {}, {}, TABLES),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts", "", {"properties": {"email": "a@b", "nope": "1"}, "associations": [{"to": {"id": "7"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]}]},
     hubspot_object("1", email="a@b", lastmodifieddate=T), {"results": []}),
    (HUBSPOT, "PATCH", "/crm/v3/objects/0-1/a%40b", "idProperty=email", {"properties": {"firstname": ""}}, hubspot_object("1", firstname=None), {"results": []}),
    (HUBSPOT, "DELETE", "/crm/v3/objects/contacts/1", "", None, ""),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts/batch/update", "", {"inputs": [{"id": "1", "properties": {"amount": "1"}}]},
     {"status": "COMPLETE", "results": [hubspot_object("1", amount="1")], "numErrors": 1, "errors": [{}]}),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts/batch/upsert", "", {"inputs": [{"id": "a@b", "idProperty": "email", "properties": {"email": "a@b"}}]},
     {"status": "COMPLETE", "results": [dict(hubspot_object("1", email="a@b"), new=True)]}),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts/batch/archive", "", {"inputs": [{"id": "1"}, {"id": "2"}]}, ""),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts/merge", "", {"primaryObjectId": "1", "objectIdToMerge": "2"}, hubspot_object("3", hs_merged_object_ids="1;2")),
    (HUBSPOT, "POST", "/crm/v3/objects/contacts/gdpr-delete", "", {"objectId": "a@b", "idProperty": "email"}, ""),
    (HUBSPOT, "PUT", "/crm/v4/objects/contacts/1/associations/companies/2", "", [{"associationCategory": "USER_DEFINED", "associationTypeId": 7}],
     {"fromObjectTypeId": "0-1", "fromObjectId": 1, "toObjectTypeId": "0-2", "toObjectId": 2, "labels": ["boss"]}, {"results": []}),
    (HUBSPOT, "PUT", "/crm/v4/objects/contacts/1/associations/default/companies/2", "", None, {"status": "COMPLETE", "results": [{"from": {"id": "1"}, "to": {"id": "2"}}]}),
    (HUBSPOT, "DELETE", "/crm/v4/objects/contacts/1/associations/companies/2", "", None, ""),
    (HUBSPOT, "PUT", "/crm/v3/objects/contacts/1/associations/companies/2/contact_to_company", "", None, hubspot_object("1")),
    (HUBSPOT, "POST", ASSOC + "/contacts/companies/batch/create", "", {"inputs": [{"from": {"id": "1"}, "to": {"id": "2"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]}]},
     {"status": "COMPLETE", "results": [{"fromObjectTypeId": "0-1", "fromObjectId": 1, "toObjectTypeId": "0-2", "toObjectId": 2, "labels": []}]}),
    (HUBSPOT, "POST", ASSOC + "/contacts/companies/batch/archive", "", {"inputs": [{"from": {"id": "1"}, "to": [{"id": "2"}]}]}, ""),
    (HUBSPOT, "POST", ASSOC + "/contacts/companies/batch/labels/archive", "", {"inputs": [{"from": {"id": "1"}, "to": {"id": "2"}, "types": [{"associationTypeId": 7}]}]}, ""),
    (HUBSPOT, "POST", "/crm/v3/properties/contacts", "", {"name": "x"}, {"name": "x", "type": "number"}, {"results": [{"name": "x", "type": "enumeration", "fieldType": "checkbox"}]}),
    (HUBSPOT, "POST", "/crm/v3/schemas", "", {}, {"id": "5", "objectTypeId": "2-9"}, {"results": [{"objectTypeId": "2-9", "name": "cat", "labels": {"plural": "cats"}, "properties": []}]}),
]


def encode(piece):
    return piece.encode() if isinstance(piece, str) else b"" if piece is None else json.dumps(piece).encode()


def strings(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def main(where):
    os.makedirs(os.path.join(where, "seeds"), exist_ok=True)
    for i, (provider, method, *pieces) in enumerate(SEEDS):
        with open(os.path.join(where, "seeds", f"{i:02}"), "wb") as seed:
            seed.write(bytes([provider | METHODS[method] << 1]) + b"\xff".join(map(encode, pieces)))
    words = sorted({word for seed in SEEDS for word in strings(seed) if 0 < len(word) < 60} | set("{}[]\",:"))
    with open(os.path.join(where, "dict"), "w") as dictionary:
        for word in words:
            dictionary.write('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"\n')
        dictionary.write('"\\xff"\n')


if __name__ == "__main__":
    main(sys.argv[1])
