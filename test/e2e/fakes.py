"""Runs test/fakeapi as a process and speaks to its control plane (/__ctl/)."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


class Fake:
    """One stand-in API: its origin and its control plane."""

    def __init__(self, origin, context=None):
        self.origin = origin
        self.context = context

    def ctl(self, method, path, data=None):
        request = urllib.request.Request(
            f"{self.origin}/__ctl/{path}", method=method,
            data=None if data is None else json.dumps(data).encode(), headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30, context=self.context) as r:
            return json.loads(r.read() or b"null")

    def reset(self, **seed):
        return self.ctl("POST", "reset", seed)

    def config(self, **config):
        return self.ctl("POST", "config", config)

    def fault(self, action, method=None, path=None, times=1, **more):
        match = {}
        if method:
            match["method"] = method
        if path:
            match["path_regex"] = path
        return self.ctl("POST", "fault", {"match": match, "times": times, "action": action, **more})

    def log(self):
        """Every request since the log was cleared; bodies decoded to bytes."""
        entries = self.ctl("GET", "log")["log"]
        for e in entries:
            if isinstance(e.get("body"), str):
                e["body"] = base64.b64decode(e["body"])
        return entries

    def clear_log(self):
        self.ctl("DELETE", "log")

    def state(self):
        return self.ctl("GET", "state")

    def edit(self, **edit):
        return self.ctl("POST", "edit", edit)

    def judge(self):
        return self.ctl("GET", "judge")


class Fakes:
    """Both stand-ins in one process."""

    def __init__(self, tls=None):
        args = [sys.executable, "-m", "fakeapi", "--hubspot-port", "0", "--airtable-port", "0"]
        if tls:
            args += ["--tls", *tls]
        env = dict(os.environ, PYTHONPATH=os.path.dirname(HERE))
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, env=env, text=True)
        line = self.process.stdout.readline()
        ports = json.loads(line)
        scheme = "https" if tls else "http"
        self.hubspot = Fake(f"{scheme}://127.0.0.1:{ports['hubspot']}")
        self.airtable = Fake(f"{scheme}://127.0.0.1:{ports['airtable']}")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
