"""The canned API: what nginx (its configuration) and canned.c (its files) answer as HubSpot; the same bytes for every contestant.

nginx: a POST's id is made of the connection's number and the request's, so every write is a new row; a PATCH's and
a GET's is the one in the path.  updatedAt is the time of the answer.  Enough of the schema is there to be discovered.
"""

import json

KINDS = [("string", "text"), ("string", "text"), ("enumeration", "select"), ("number", "number"), ("datetime", "date"),
         ("bool", "booleancheckbox"), ("string", "text"), ("enumeration", "checkbox"), ("number", "number"), ("date", "date")]
NAMES = ["firstname", "lastname", "lifecyclestage", "num_notes", "first_visit", "opted_out", "company", "interests", "total_revenue",
         "birthday", "jobtitle", "email", "hs_lead_status", "num_contacted", "last_contacted", "is_unworked", "city", "hs_buying_role",
         "annualrevenue", "start_date", "website", "phone", "hs_language"]
VALUES = {"text": "Augusta Ada King-Noel", "select": "salesqualifiedlead", "number": "184467.25", "date": "2024-03-17T09:15:30.125Z",
          "booleancheckbox": "true", "checkbox": "analysis;engines;poetry"}


def names(columns):
    return (NAMES + [f"extra_{i:03}" for i in range(len(NAMES), columns)])[:columns]


def value(kind):
    return "2023-11-05" if kind[0] == "date" else VALUES[kind[1]]


def schema(columns):
    return [{"name": n, "label": n.title(), "type": KINDS[i % 10][0], "fieldType": KINDS[i % 10][1], "archived": False,
             "hubspotDefined": False, "options": []} for i, n in enumerate(names(columns))]


def properties(columns):
    return {n: value(KINDS[i % 10]) for i, n in enumerate(names(columns))}


def lists(columns):
    """property -> does its column hold a list: what the peer has to know."""
    return {n: KINDS[i % 10][1] == "checkbox" for i, n in enumerate(names(columns))}


def record(identity, columns, padding=0):
    """One record as the API answers it, with nginx's variables in it."""
    values = properties(columns)
    if padding:
        values[NAMES[0]] = "x" * padding
    return {"id": identity, "properties": values, "createdAt": "2024-01-01T00:00:00.000Z", "updatedAt": "$utc.000Z", "archived": False}


def text(value_):
    return json.dumps(value_, separators=(",", ":"))


def answer(columns, records=1, padding=0):
    """A write's answer for canned.c, which puts ten digits in each @@@@@@@@@@."""
    rows = [dict(record("@" * 10, columns, padding), updatedAt="2024-05-01T00:00:00.000Z") for _ in range(records)]
    return text(rows[0] if records == 1 else {"status": "COMPLETE", "results": rows, "startedAt": "2024-05-01T00:00:00.000Z",
                                              "completedAt": "2024-05-01T00:00:00.000Z"})


def locations(columns, directory):
    """nginx locations of one API whose contacts have so many properties."""
    created = text(record("${connection}000${connection_requests}", columns))
    named = text(record("${contact}", columns))
    return f"""
        default_type application/json;
        location = /crm/v3/objects/contacts {{ return 201 '{created}'; }}
        location ~ ^/crm/v3/objects/contacts/(?<contact>[0-9]+)$ {{ return 200 '{named}'; }}
        location ~ /properties/contacts$ {{ alias {directory}/schema.json; }}
        location / {{ return 200 '{{"results":[]}}'; }}"""
