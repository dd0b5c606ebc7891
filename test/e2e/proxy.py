"""An HTTP client for the proxy that hides nothing: status, headers in order, raw body."""

import http.client
import json as jsonlib
from urllib.parse import urlsplit


class Answer:
    """A response: status, headers (http.client's message), body bytes."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return jsonlib.loads(self.body)

    @property
    def commit(self):
        return self.headers.get("Sequin-Commit")

    @property
    def error(self):
        """The proxy's own error code, None for an answer of the API."""
        return self.headers.get("Sequin-Error")

    def __repr__(self):
        return f"<{self.status} commit={self.commit} error={self.error} {self.body[:300]!r}>"


class Client:
    """Calls through one API root with one key; a connection per call unless keep is used."""

    def __init__(self, root, key=None, host="api.hubapi.com", headers=None):
        self.root = root
        self.key = key
        self.host = host
        self.headers = headers or {}

    def call(self, method, path, json=None, body=None, headers=None, host=None, timeout=60):
        url = urlsplit(self.root)
        send = dict(self.headers)
        if self.key:
            send["Authorization"] = f"Bearer {self.key}"
        if json is not None:
            body = jsonlib.dumps(json).encode()
            send["Content-Type"] = "application/json"
        send.update(headers or {})
        send = {k: v for k, v in send.items() if v is not None}
        conn = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
        try:
            conn.request(method, f"{url.path}/{host or self.host}{path}", body=body, headers=send)
            r = conn.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            conn.close()

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, json=None, **kw):
        return self.call("POST", path, json=json, **kw)

    def patch(self, path, json=None, **kw):
        return self.call("PATCH", path, json=json, **kw)

    def put(self, path, json=None, **kw):
        return self.call("PUT", path, json=json, **kw)

    def delete(self, path, **kw):
        return self.call("DELETE", path, **kw)
