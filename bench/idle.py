"""10,000 connections that have made a request each and now do nothing: their memory, and the CPU time of the loop."""

import resource
import select
import socket
import time

import load
from core import ITEM, Ours
from stage import private_kb


def ask_all(connections, request):
    """One request on each, 100 at a time; every answer must be a 200."""
    for start in range(0, len(connections), 100):
        group = connections[start:start + 100]
        for s in group:
            s.sendall(request)
        for s in group:
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 500:
                piece = s.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


def connect(port, n):
    out = []
    while len(out) < n:
        s = socket.create_connection(("127.0.0.1", port))
        out.append(s)
        if len(out) % 200 == 0:
            select.select([], [], [], 0.02)   # the backlog is not what is measured
    return out


def measure(name, port, path, key, pid, n, seconds, note):
    request = (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "") + "\r\n").encode()
    warm = connect(port, 100)
    ask_all(warm, request)
    before = private_kb(pid)
    held = connect(port, n)
    fresh = private_kb(pid)
    ask_all(held, request)
    after = private_kb(pid)
    time.sleep(1)
    cpu = load.cpu_ns([pid])
    time.sleep(seconds)
    cpu = load.cpu_ns([pid]) - cpu
    for s in held + warm:
        s.close()
    note("idle", name, 0, {"connections": n, "KB before a request": (fresh - before) / n, "KB per connection": (after - before) / n,
                           "idle CPU ms/s": cpu / 1e6 / seconds})


def affordable(n):
    """A worker takes as many clients as a third of the files that it may open; of `make bench` as root that is enough."""
    return min(n, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 3 - 200)


def run(stage, n, seconds, note):
    n = affordable(n)
    o = Ours(stage, 1, True, *stage.upstreams)     # whose memory has not grown yet
    measure("sequin_proxy", o.cluster.proxy_port, o.root + ITEM.replace("%d", "1"), o.key, o.cluster.worker_pids()[0], n, seconds, note)
    nginx, port = stage.reverse
    measure("nginx", port, ITEM.replace("%d", "1"), None, nginx, min(n, 7000), 1, note)
