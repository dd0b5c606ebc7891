"""Bytes as they are on the wire: a raw client, and an API that records what it got and says what it is told.

The API relays what no script matches to a stand-in, so that a sync can discover through it.
"""

import http.client
import socket
import threading
from urllib.parse import urlsplit


class Message:
    """A request or response as received: first line, (name, value) pairs in order, body."""

    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.pairs = [(n, v.strip(" \t")) for n, _, v in (line.partition(":") for line in lines[1:] if line)]
        self.body = body

    @property
    def status(self):
        return int(self.line.split(" ")[1])

    @property
    def target(self):
        return self.line.split(" ")[1]

    def all(self, name):
        return [v for n, v in self.pairs if n.lower() == name.lower()]

    def get(self, name):
        return (self.all(name) or [None])[0]

    def __repr__(self):
        return f"<{self.line!r} {self.pairs} {self.body[:300]!r}>"


def _read_chunks(stream):
    body = b""
    while True:
        size = int(stream.readline().split(b";")[0], 16)
        if size == 0:
            while stream.readline().strip():
                pass
            return body
        body += stream.read(size)
        stream.readline()


def read_message(stream, head_only=False, until_close=False):
    """One message from a buffered stream; None when the peer has closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    m = Message(head[:-4], b"")
    if m.line.startswith("HTTP/") and (m.status in (204, 304) or m.status < 200):
        head_only = True
    if head_only:
        return m
    if "chunked" in (m.get("Transfer-Encoding") or "").lower():
        m.body = _read_chunks(stream)
    elif m.get("Content-Length") is not None:
        m.body = stream.read(int(m.get("Content-Length")))
    elif until_close:
        m.body = stream.read()
    return m


class Wire:
    """A client connection that sends exactly the bytes it is given."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.stream = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def read(self, head_only=False):
        return read_message(self.stream, head_only, until_close=True)

    def closed(self):
        """Has the server closed, with nothing more said?"""
        return self.stream.read() == b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stream.close()
        self.socket.close()


def request(root, method, target, headers, body=b""):
    """The bytes of a request for `target` (host and path) behind an API root."""
    url = urlsplit(root)
    lines = [f"{method} {url.path}/{target} HTTP/1.1", "Host: proxy.example", *(f"{n}: {v}" if v else f"{n}:" for n, v in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def ask(root, method, target, headers=(), body=b""):
    with Wire(urlsplit(root).port) as wire:
        wire.send(request(root, method, target, headers, body))
        return wire.read(head_only=method == "HEAD")


class RawApi:
    """An API of bytes: `answers[marker] = bytes` answers what has marker in its target; the rest goes to `behind`."""

    def __init__(self, behind):
        self.behind = urlsplit(behind)
        self.answers = {}
        self.seen = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with conn, conn.makefile("rb") as stream:
            while True:
                try:
                    m = read_message(stream)
                except OSError:
                    return
                if m is None:
                    return
                answer = next((a for marker, a in self.answers.items() if marker in m.target), None)
                if answer is None:
                    conn.sendall(self._relay(m))
                    continue
                self.seen.append(m)
                conn.sendall(answer)
                if b"connection: close" in answer.lower():
                    return

    def _relay(self, m):
        behind = http.client.HTTPConnection(self.behind.hostname, self.behind.port, timeout=20)
        behind.request(m.line.split(" ")[0], m.target, body=m.body or None,
                       headers={n: v for n, v in m.pairs if n.lower() not in ("host", "content-length")})
        r = behind.getresponse()
        body = r.read()
        behind.close()
        lines = [f"HTTP/1.1 {r.status} X", *(f"{n}: {v}" for n, v in r.getheaders()
                                           if n.lower() not in ("content-length", "transfer-encoding", "connection"))]
        if r.status != 204:
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

    def stop(self):
        self.server.close()
