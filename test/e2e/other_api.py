"""A second, independent pair of stand-ins, written from the APIs' facts alone.

Wherever the facts leave room they choose otherwise than test/fakeapi: ids as numbers, property lists without
the standard ones, no labels endpoint, results in another order, chunked answers, lower-case headers, unknown keys.
They run as threads of the test, so a test reads and bends their state directly.
"""

import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    closed = 0  # connections that are gone

    def shutdown_request(self, request):
        super().shutdown_request(request)
        self.closed += 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api = self.server.api
        url = urlsplit(self.path)
        entry = {"at": time.monotonic(), "method": self.command, "path": url.path, "query": url.query,
                 "headers": dict(self.headers.items()), "body": body}
        with api.lock:
            api.log.append(entry)
            trick = next((t for t in api.tricks if t["method"] in (None, self.command) and re.search(t["path"], url.path)), None)
            if trick:
                trick["times"] -= 1
                if trick["times"] <= 0:
                    api.tricks.remove(trick)
        if trick and "wait" in trick:
            trick["wait"].wait(20)
        if trick and "instead" in trick:
            status, answer = trick["instead"]
        else:
            with api.lock:
                status, answer = api.answer(self.command, url.path, parse_qs(url.query), json.loads(body) if body.startswith((b"{", b"[")) else None)
                entry["answered"] = (status, json.loads(json.dumps(answer)))
        if trick and "then" in trick:
            trick["then"].wait(20)
        if trick and trick.get("cut"):
            self.close_connection = True
            self.connection.close()
            return
        self.send(api, status, answer, trick or {})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def send(self, api, status, answer, trick):
        body = b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", trick.get("type", next(api.types)))
        self.send_header("x-unknown", "a, b")
        for name, value in trick.get("headers", {}).items():
            self.send_header(name, value)
        if status == 201:
            self.send_header("location", "/relative/one")
        close = api.close_connections or trick.get("hang_up")
        if close and not trick.get("hang_up"):  # hang_up: without a word of it
            self.send_header("connection", "close")
        if status == 204:
            self.end_headers()
        elif next(api.counter) % 2:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for i in range(0, len(body), 37):
                part = body[i:i + 37]
                self.wfile.write(b"%x;ext=1\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\nx-trailer: 1\r\n\r\n")
        else:
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = close


class Api:
    """What both stand-ins share: the server, the log, the tricks."""

    def __init__(self):
        self.lock = threading.RLock()
        self.log = []
        self.tricks = []
        self.counter = itertools.count(1)
        self.types = itertools.cycle(["application/json", "application/json;charset=utf-8", 'Application/JSON; Charset="UTF-8"'])
        self.close_connections = False
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.api = self
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def trick(self, path, method=None, times=1, **what):
        """The next `times` matching requests: wait=Event before, then=Event after applying, cut, instead=(status, body), hang_up."""
        self.tricks.append({"path": path, "method": method, "times": times, **what})

    def sent(self, method, path):
        with self.lock:
            return [e for e in self.log if e["method"] == method and re.search(path, e["path"])]


VERSION = r"(?:v\d+|\d{4}-\d\d(?:-beta)?)"
TYPES = {"contacts": "0-1", "companies": "0-2", "deals": "0-3"}


class HubSpot(Api):
    """Objects with numeric ids in answers; `updated` says how updatedAt looks: 'ms', 's', 'equal', 'none'.

    `clear` says how a cleared value is answered, `unlisted` whether answers hold properties that the schema does not list.
    """

    def __init__(self):
        super().__init__()
        self.objects = {"0-1": {}, "0-2": {}, "0-3": {}}
        self.links = set()
        self.gone = {}
        self.updated = "ms"
        self.ids = itertools.count(9007199254740993)
        self.properties = {t: {"email": "string", "firstname": "string", "lastname": "string", "age": "number", "vip": "bool",
                               "born": "date", "seen": "datetime", "tags": "enumeration", "lastmodifieddate": "datetime",
                               "odd": "no_such_type"} for t in self.objects}
        self.clear = "missing"
        self.unlisted = True

    def answer(self, method, path, query, body):
        for pattern, what in (
                (rf"/crm/(?:{VERSION}/properties|properties/{VERSION})/([^/]+)", self.list_properties),
                (rf"/crm/(?:{VERSION}/objects|objects/{VERSION})/([^/]+)/batch/([a-z]+)", self.batch),
                (rf"/crm/(?:{VERSION}/objects|objects/{VERSION})/([^/]+)/merge", self.merge),
                (rf"/crm/(?:{VERSION}/objects|objects/{VERSION})/([^/]+)/([^/]+)/associations/default/([^/]+)/([^/]+)", self.link),
                (rf"/crm/(?:{VERSION}/objects|objects/{VERSION})/([^/]+)/([^/]+)/associations/([^/]+)/([^/]+)", self.unlink),
                (rf"/crm/(?:{VERSION}/objects|objects/{VERSION})/([^/]+)(?:/([^/]+))?", self.one)):
            m = re.fullmatch(pattern, path)
            if m:
                return what(method, body, *m.groups())
        m = re.fullmatch(rf"/crm/(?:{VERSION}/associations|associations/{VERSION})/([^/]+)/([^/]+)/batch/read", path)
        if m:
            return self.read_links(body, self.type(m[1]), self.type(m[2]))
        if "schemas" in path:
            return 403, {"category": "MISSING_SCOPES", "message": "no"}
        return 404, {"message": "resource not found"}

    def type(self, name):
        return TYPES.get(name.lower(), name)

    def list_properties(self, method, body, t):
        return 200, {"extra": [1], "results": [
            {"zz": None, "type": kind, "name": name, "label": name.title(), "fieldType": "checkbox" if name == "tags" else "text"}
            for name, kind in self.properties[self.type(t)].items()]}

    def now(self):
        t = time.time()
        if self.updated == "equal":
            return "2026-01-01T00:00:00Z"
        form = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t))
        return form + "Z" if self.updated == "s" else form + f".{int(t % 1 * 1000):03d}Z"

    def show(self, o, names=None):
        shown = {"zzz": {"deep": [None]}, "archived": False, "createdAt": o["created"], "id": o["id"],
                 "properties": {k: v for k, v in o["properties"].items() if names is None or k in names}}
        if self.clear == "missing":
            shown["properties"] = {k: v for k, v in shown["properties"].items() if v not in ("", None)}
        elif self.clear == "null":
            shown["properties"] = {k: v if v != "" else None for k, v in shown["properties"].items()}
        if self.unlisted:
            shown["properties"].update(hs_object_id=str(o["id"]), createdate=o["created"])
        if self.updated != "none":
            shown["updatedAt"] = o["updated"]
        return shown

    def save(self, t, id, properties):
        id = next(self.ids) if id is None else int(id)
        o = self.objects[t].setdefault(id, {"id": id, "created": self.now(), "properties": {}})
        o["properties"].update(properties)
        o["updated"] = self.now()
        return o

    def find(self, t, id):
        id = int(id) if str(id).isdigit() else None
        return self.objects[t].get(self.gone.get(id, id))

    def one(self, method, body, t, id):
        t = self.type(t)
        if id is None and method == "POST":
            o = self.save(t, None, body["properties"])
            return 200 if next(self.counter) % 2 else 201, self.show(o, body["properties"])
        if id is None:
            return 200, {"results": [self.show(o) for o in self.objects[t].values()]}
        o = self.find(t, id)
        if method == "DELETE":
            if o:
                del self.objects[t][o["id"]]
            return 204, None
        if not o:
            return 404, {"message": "resource not found"}
        if method == "PATCH":
            self.save(t, o["id"], body["properties"])
            return 200, self.show(o, body["properties"])
        return 200, self.show(o)

    def batch(self, method, body, t, what):
        t = self.type(t)
        if what == "archive":
            for i in body["inputs"]:
                self.objects[t].pop(int(i["id"]), None)
            return 204, None
        shown, missing = [], []
        for i in body["inputs"]:
            o = self.find(t, i["id"]) if "id" in i else None
            if what != "create" and not o:
                missing.append(i["id"])
                continue
            if what != "read":
                o = self.save(t, o and o["id"], i["properties"])
            shown.append(self.show(o, body.get("properties") if what == "read" else i["properties"]))
        answer = {"results": shown[::-1], "status": "COMPLETE", "startedAt": self.now()}
        if missing:
            answer.update(numErrors=1, errors=[{"category": "OBJECT_NOT_FOUND", "context": {"ids": missing}}])
        return 207 if missing else 200, answer

    def merge(self, method, body, t):
        t = self.type(t)
        a, b = self.find(t, body["primaryObjectId"]), self.find(t, body["objectIdToMerge"])
        del self.objects[t][a["id"]], self.objects[t][b["id"]]
        o = self.save(t, None, {**b["properties"], **a["properties"]})
        self.gone.update({a["id"]: o["id"], b["id"]: o["id"]})
        return 200, self.show(o, [])

    def link(self, method, body, t, id, to, to_id):
        self.links.add((self.type(t), int(id), self.type(to), int(to_id)))
        spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}
        return 200, {"status": "COMPLETE", "results": [
            {"to": {"id": int(to_id)}, "from": {"id": int(id)}, "associationSpec": spec},
            {"to": {"id": int(id)}, "from": {"id": int(to_id)}, "associationSpec": {**spec, "associationTypeId": 280}}]}

    def unlink(self, method, body, t, id, to, to_id):
        if method != "DELETE":
            return 404, {"message": "resource not found"}
        self.links.discard((self.type(t), int(id), self.type(to), int(to_id)))
        return 204, None


    def read_links(self, body, t, to):
        found = {int(i["id"]): [] for i in body["inputs"]}
        for a, a_id, b, b_id in self.links | {(b, b_id, a, a_id) for a, a_id, b, b_id in self.links}:
            if (a, b) == (t, to) and a_id in found:
                found[a_id].append({"toObjectId": b_id, "associationTypes": [{"label": None, "typeId": 279, "category": "HUBSPOT_DEFINED"}]})
        lonely = [str(i) for i, links in found.items() if not links]
        answer = {"results": [{"to": links, "from": {"id": str(i)}} for i, links in found.items() if links], "status": "COMPLETE"}
        if lonely:
            answer["errors"] = [{"status": "error", "category": "OBJECT_NOT_FOUND", "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND", "context": {"fromObjectId": lonely}}]
        return 207 if lonely else 200, answer


class Airtable(Api):
    """A base with odd names and types; `created` false leaves createdTime out of answers to updates."""

    BASE = "appOther000000001"

    def __init__(self):
        super().__init__()
        self.ids = itertools.count(1)
        self.tables = {"tblOther000000001": {"name": "Löwen & Café/1 🦁", "fields": [
            ("Full Name", "singleLineText"), ("full-name", "singleLineText"), ("FullName", "number"), ("Done?", "checkbox"),
            ("When", "dateTime"), ("Weird", "quantumField"), ("id", "singleLineText"), ("Tags", "multipleSelects"),
            ("Sum", "formula"), ("_sync_updated_at", "singleLineText")]}}
        self.records = {}
        self.created = True

    def show(self, r, created=True):
        fields = {k: v for k, v in r["fields"].items() if v not in (None, "", [], False)}
        shown = {"fields": fields, "unknownKey": {"a": 1}, "id": r["id"]}
        return {"createdTime": r["created"], **shown} if created else shown

    def save(self, id, fields, replace=False):
        id = id or f"recOther{next(self.ids):09d}"
        r = self.records.setdefault(id, {"id": id, "created": "2026-01-02T03:04:05.000Z", "fields": {}})
        r["fields"] = dict(fields) if replace else {**r["fields"], **fields}
        return r

    def answer(self, method, path, query, body):
        if path.startswith("/v0/meta/bases/"):
            return 200, {"tables": [{"id": t, "name": v["name"], "primaryFieldId": "fld00000000000000", "views": [], "fields": [
                {"id": f"fld{i:014d}", "name": n, "type": k, **({"options": {"result": None}} if k == "formula" else {})}
                for i, (n, k) in enumerate(v["fields"])]} for t, v in self.tables.items()]}
        parts = [unquote(p) for p in path.split("/")][3:]
        if not parts or not any(parts[0] in (t, v["name"]) for t, v in self.tables.items()):
            return 404, {"error": "NOT_FOUND"}
        id = parts[1] if len(parts) > 1 and parts[1] else None
        if method == "GET" or id == "listRecords":
            return self.read(id, body, query)
        if method == "DELETE":
            ids = [id] if id else query["records[]"]
            if any(i not in self.records for i in ids):
                return 404, {"error": "NOT_FOUND"}
            done = [{"deleted": self.records.pop(i) is not None, "id": i} for i in ids]
            return 200, done[0] if id else {"records": done}
        if id and id not in self.records:
            return 404, {"error": "NOT_FOUND"}
        inputs = body["records"] if "records" in body else [{**body, "id": id} if id else body]
        shown = [self.show(self.save(i.get("id"), i["fields"], method == "PUT"), self.created or method == "POST") for i in inputs]
        return 200, {"records": shown} if "records" in body else shown[0]

    def read(self, id, body, query):
        if id and id != "listRecords":
            return (200, self.show(self.records[id])) if id in self.records else (404, {"error": "NOT_FOUND"})
        formula = (body or {}).get("filterByFormula") or query.get("filterByFormula", [""])[0]
        wanted = re.findall(r"rec\w+", formula)
        records = [self.show(r) for i, r in sorted(self.records.items(), reverse=True) if not formula or i in wanted]
        return 200, {"records": records}
