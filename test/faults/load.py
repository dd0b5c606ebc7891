"""Callers that write while something goes wrong, and what they know for certain afterwards.

Each caller owns its records, so every answer can be compared with the row at once (read your writes);
a hot record is everybody's.  What an API got is told by the stand-in: each request bears its own number.
"""

import http.client
import itertools

import psycopg

from crowd import Crowd

CONTACTS = "/crm/v3/objects/contacts"
UNKNOWN = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


class Load(Crowd):
    """`with Load(sync, hot)`: four callers write until the block ends; then `wrong` holds what broke a promise."""

    numbers = itertools.count(1)

    def __init__(self, sync, hot, callers=4):
        super().__init__(callers)
        self.sync, self.hot = sync, hot
        self.wrong = []
        self.answered = 0

    def call(self, method, path, properties=None):
        """The answer, or None where the connection broke (a worker died): then nobody promised anything."""
        try:
            a = self.sync.client.call(method, path, json={"properties": properties} if properties else None,
                                      headers={"X-Number": str(next(self.numbers))}, timeout=30)
        except UNKNOWN:
            self.stop.wait(0.05)
            return None
        self.answered += 1
        if (a.error is None) == (a.commit is None):
            self.wrong.append(("nobody can tell who answered", method, path, a))
        return a

    def check(self, a, record_id, firstname):
        """After `committed` the row is there, or gone, as the answer said."""
        if a is None or a.commit != "committed":
            return
        try:
            row = self.sync.row("contact", record_id)
        except psycopg.OperationalError:
            return                  # the server restarts: nothing was read
        if (row["firstname"] if row else None) != firstname:
            self.wrong.append(("not what was answered", record_id, firstname, row and row["firstname"], a))

    def run(self, i):
        for n in itertools.count():
            if self.stop.is_set():
                return
            mine = f"{i}.{n}"
            a = self.call("POST", CONTACTS, {"email": f"f{next(self.numbers)}@x.com", "firstname": mine})
            if a is not None and a.status == 201:
                record_id = a.json["id"]
                self.check(a, record_id, mine)
                self.check(self.call("PATCH", f"{CONTACTS}/{record_id}", {"firstname": mine + "b"}), record_id, mine + "b")
                if n % 3 == 0:
                    self.check(self.call("DELETE", f"{CONTACTS}/{record_id}"), record_id, None)
            self.call("PATCH", f"{CONTACTS}/{self.hot}", {"firstname": mine})


def sent_twice(fake):
    """Numbers of requests that the API got more than once."""
    seen, twice = set(), []
    for e in fake.log():
        number = next((v for k, v in e["headers"] if k.lower() == "x-number"), None)
        if number in seen:
            twice.append((number, e["method"], e["target"]))
        if number is not None:
            seen.add(number)
    return twice
