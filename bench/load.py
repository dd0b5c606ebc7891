"""wrk as the load, and the CPU time that it cost the servers: one Sample per run."""

import dataclasses
import json
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass
class Sample:
    rate: float      # requests per second
    p50: float       # ms
    p99: float       # ms
    cpu: float       # µs of CPU per request, of the process that is measured
    cpu_all: float   # the same and its database's backends
    errors: int


def cpu_ns(pids):
    """CPU time of these processes so far.  schedstat counts nanoseconds, where stat counts ticks of 10 ms."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def wrk(url, method, path, body=None, key=None, spread=1, seconds=2.0, connections=64, timeout=30, stagger=0):
    """One run; seconds may be a fraction."""
    whole = max(1, round(seconds))
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{whole}s", f"--timeout={timeout}s", "-s", os.path.join(HERE, "load.lua"), url,
                           "--", method, path, body or "-", key or "-", str(spread), str(stagger)], capture_output=True, text=True, check=False)
    line = next((l for l in done.stdout.splitlines() if l.startswith("JSON ")), None)
    if done.returncode != 0 or line is None:
        raise RuntimeError(f"wrk {url}{path}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return json.loads(line[5:])


def sample(target, method, path, pids, helpers=(), **how):
    """Runs the load; pids() and helpers() name the processes whose CPU counts."""
    before, before_all = cpu_ns(pids()), cpu_ns(helpers() if helpers else [])
    got = wrk(target, method, path, **how)
    cpu = cpu_ns(pids()) - before
    also = (cpu_ns(helpers()) - before_all) if helpers else 0
    n = max(1, got["requests"])
    return Sample(got["requests"] / (got["us"] / 1e6), got["p50"] / 1e3, got["p99"] / 1e3, cpu / n / 1e3, (cpu + also) / n / 1e3,
                  got["errors"])
