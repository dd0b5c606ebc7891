"""How long one write takes: alone on its connection, and among 1,000 at an API that takes 150 ms."""

import load
from core import BODY, POST
from stage import add_sync, fdatasync_us, private_kb


def one_connection(stage, rounds, seconds, note):
    """A proxied durable write against the direct call, and the time of a flush measured in the same round."""
    contestants = [("direct call", stage.plain, POST, None, 0)]
    for journal, flushes in ((False, 1), (True, 2)):
        o = stage.ours[1, journal]
        contestants.append((f"sequin_proxy, journal {'on' if journal else 'off'}", o.cluster.proxy_port, o.root + POST, o.key, flushes))
    contestants.append(("Node peer", stage.peer_port, POST, None, 1))
    for r in range(rounds):
        flush = fdatasync_us(stage.ours[1, False].cluster.dir)
        note("one", "fdatasync of 8 kB", r, {"p50": flush})
        direct = None
        for name, port, path, key, flushes in contestants:
            got = load.wrk(f"http://127.0.0.1:{port}", "POST", path, body=BODY, key=key, seconds=seconds, connections=1)
            direct = direct or got["p50"]
            note("one", name, r, {"p50": got["p50"], "p99": got["p99"], "over direct": got["p50"] - direct,
                                  "over direct and flushes": got["p50"] - direct - flushes * flush, "errors": got["errors"]})


def in_flight(stage, rounds, seconds, note, connections=1000, delay_ms=150):
    """Spread over the delay as they begin; connections that begin together would stay together, and queue for each other."""
    port = stage.canned(stage.columns, delay_ms=delay_ms)
    ours = []
    for workers in (1, 2):
        cluster = stage.cluster(workers, True)     # whose memory has not grown yet
        path, key = add_sync(cluster, f"http://127.0.0.1:{port}")
        pids = cluster.worker_pids()
        ours.append((f"sequin_proxy, {workers} worker{'s' if workers > 1 else ''}", cluster.proxy_port, path, key, pids, sum(map(private_kb, pids))))
    for r in range(rounds):
        how = {"body": BODY, "seconds": seconds, "connections": connections, "stagger": connections}
        direct = load.wrk(f"http://127.0.0.1:{port}", "POST", POST, **how)
        note("flight", "direct call", r, {"req/s": direct["requests"] / direct["us"] * 1e6, "p50": direct["p50"] / 1e3, "p99": direct["p99"] / 1e3,
                                          "errors": direct["errors"]})
        for name, proxy_port, path, key, pids, before in ours:
            got, kb = with_memory(pids, lambda: load.wrk(f"http://127.0.0.1:{proxy_port}", "POST", path + POST, key=key, **how))
            note("flight", name, r, {"req/s": got["requests"] / got["us"] * 1e6, "p50": got["p50"] / 1e3, "p99": got["p99"] / 1e3,
                                     "added p50": (got["p50"] - direct["p50"]) / 1e3, "added p99": (got["p99"] - direct["p99"]) / 1e3,
                                     "KB per exchange": (kb - before) / connections, "errors": got["errors"]})


def with_memory(pids, run):
    """Runs it; returns its result and the most private memory that the processes had meanwhile."""
    import threading

    most, done = [0], threading.Event()

    def watch():
        while not done.wait(0.2):
            most[0] = max(most[0], sum(map(private_kb, pids)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return run(), most[0]
    finally:
        done.set()
        thread.join()
