"""A fast stand-in for HubSpot's contacts: every answer is made from a few numbers, nothing is kept.

    canned.py [rows]      prints its port; the list endpoint has so many records

For load, not for truth: test/fakeapi is the one that behaves as the API does.
"""

import asyncio
import json
import sys

PAGE = 100
PROPERTIES = [(f"p{i:02}", t) for i, t in enumerate(["string", "string", "number", "datetime", "bool", "string", "number", "string"])]
VALUES = {"string": lambda n: f"value {n}", "number": lambda n: str(n), "datetime": lambda n: f"2024-05-{n % 28 + 1:02}T10:00:00.000Z",
          "bool": lambda n: "true" if n % 2 else "false"}
STAMP = "2024-01-01T00:00:00.000Z"


def record(n, turn=0):
    """The text of record n; turn makes it another version."""
    props = ",".join(f'"{name}":"{VALUES[kind](n + turn)}"' for name, kind in PROPERTIES)
    return (f'{{"id":"{n}","properties":{{{props}}},"createdAt":"{STAMP}",'
            f'"updatedAt":"2024-05-01T{turn // 3600 % 24:02}:{turn // 60 % 60:02}:{turn % 60:02}.000Z","archived":false}}')


class Canned(asyncio.Protocol):
    rows = 0
    turn = 0
    schema = json.dumps({"results": [{"name": n, "label": n, "type": t, "fieldType": "text", "archived": False, "hubspotDefined": False,
                                      "options": []} for n, t in PROPERTIES]})

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            method, target, _ = head.split(b" ", 2)
            self.answer(method, target.decode(), rest[:length])

    def answer(self, method, target, body):
        path, _, query = target.partition("?")
        if path.endswith("/gone"):
            self.transport.abort()              # a connection that breaks: the outcome is unknown
            return
        status, text = self.say(method, path, query, body)
        self.transport.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    def say(self, method, path, query, body):
        Canned.turn += 1
        last = path.rsplit("/", 1)[1]
        if path.endswith("properties/contacts"):
            return 200, self.schema
        if path.endswith("/objects/contacts/search"):
            return (403, '{"status":"error","category":"MISSING_SCOPES"}') if self.rows else (200, f'{{"total":1,"results":[{record(7)}]}}')
        if path.endswith("/batch/read") or path.endswith("/batch/upsert") or path.endswith("/batch/update"):
            ids = [int(i["id"]) for i in json.loads(body)["inputs"]]
            return 200, '{"status":"COMPLETE","results":[' + ",".join(record(i, self.turn) for i in ids) + "]}"
        if path.endswith("/objects/contacts"):
            return (201, record(1000000 + self.turn % 20000, self.turn)) if method == b"POST" else (200, self.page(query))
        if "/objects/contacts/" in path and last.isdigit():
            if method == b"DELETE":
                return 204, ""
            return 200, record(int(last), self.turn)
        if last == "refused":
            return 400, '{"status":"error","category":"VALIDATION_ERROR","message":"no"}'
        if last == "broken":
            return 500, '{"status":"error"}'
        return 200, '{"results":[]}'

    def page(self, query):
        after = next((int(q[6:]) for q in query.split("&") if q.startswith("after=")), 0)
        end = min(after + PAGE, self.rows)
        results = ",".join(record(n + 1) for n in range(after, end))
        more = f',"paging":{{"next":{{"after":"{end}","link":"x"}}}}' if end < self.rows else ""
        return f'{{"results":[{results}]{more}}}'


async def main():
    Canned.rows = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
