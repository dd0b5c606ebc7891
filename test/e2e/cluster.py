"""A throw-away PostgreSQL cluster with sequin_proxy preloaded, and helpers to watch it.

Uses the private installation that tools/prefix.sh made (SEQUIN_PREFIX_BIN names its bin directory).
Nothing here sleeps for luck: wait_until polls a condition and names it when it fails.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg


def free_port():
    """A TCP port that nobody listens on just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, timeout=20.0, interval=0.02):
    """Polls condition until it is true and returns its value; fails naming `what`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(interval)


def server_env(more=None):
    """The server's environment; SEQUIN_SERVER_ENV (JSON) adds to that of every cluster, for tools/check_asan.sh."""
    every = json.loads(os.environ.get("SEQUIN_SERVER_ENV", "{}"))
    env = {**os.environ, **every, **(more or {})}
    preload = " ".join(e["LD_PRELOAD"] for e in (every, more or {}) if "LD_PRELOAD" in e)
    return {**env, "LD_PRELOAD": preload} if preload else env


class Cluster:
    """One cluster in a temporary directory; start it with `with Cluster(...)` or start()/destroy().

    env: added to the environment of the server; wrapper: a command that starts pg_ctl (["unshare", ...]).
    """

    def __init__(self, workers=1, database="postgres", settings=None, env=None, wrapper=()):
        self.env = env
        self.wrapper = list(wrapper)
        self.bin = os.environ["SEQUIN_PREFIX_BIN"]
        self.dir = tempfile.mkdtemp(prefix="sequin_test_", dir="/tmp")
        self.data = os.path.join(self.dir, "data")
        self.log_path = os.path.join(self.dir, "log")
        self.port = free_port()
        self.proxy_port = free_port()
        self.database = database
        self.settings = {
            "listen_addresses": "''",
            "port": self.port,
            "unix_socket_directories": f"'{self.dir}'",
            "shared_preload_libraries": "'sequin_proxy'",
            "fsync": "off",  # kill -9 of processes keeps the page cache
            "log_line_prefix": "'%m [%p] %b '",
            "max_worker_processes": 80,
            "sequin_proxy.port": self.proxy_port,
            "sequin_proxy.workers": workers,
            "sequin_proxy.database": f"'{database}'",
            **(settings or {}),
        }
        self.make_data()
        self.write_settings()

    def make_data(self):
        subprocess.run(
            [f"{self.bin}/initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
            check=True, stdout=subprocess.DEVNULL)

    def write_settings(self):
        """At once: a process that reads the file for an earlier reload must not meet half of it."""
        path = os.path.join(self.data, "postgresql.auto.conf")
        with open(path + ".new", "w", encoding="utf-8") as f:
            for name, value in self.settings.items():
                f.write(f"{name} = {value}\n")
        os.replace(path + ".new", path)

    def set(self, **settings):
        """Changes settings (double underscore for the dot) and reloads."""
        for name, value in settings.items():
            self.settings[name.replace("__", ".")] = value
        self.write_settings()
        subprocess.run([f"{self.bin}/pg_ctl", "-D", self.data, "reload"], check=True, stdout=subprocess.DEVNULL)

    def start(self, extension=True):
        started = subprocess.run([*self.wrapper, f"{self.bin}/pg_ctl", "-D", self.data, "-l", self.log_path, "-w", "-t", "60", "start"],
                                 stdout=subprocess.DEVNULL, env=server_env(self.env))
        if started.returncode != 0:
            raise AssertionError("the cluster does not start:\n" + self.log()[-3000:])
        if extension:
            if self.database != "postgres":
                with self.connect("postgres") as db:
                    db.execute(f'CREATE DATABASE "{self.database}"')
            self.sql("CREATE EXTENSION IF NOT EXISTS sequin_proxy")
        return self

    def stop(self, mode="fast", timeout=30):
        subprocess.run([f"{self.bin}/pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", str(timeout), "stop"],
                       check=True, stdout=subprocess.DEVNULL)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start(extension=False)

    def running(self):
        return subprocess.run([f"{self.bin}/pg_ctl", "-D", self.data, "status"], stdout=subprocess.DEVNULL).returncode == 0

    def kill_postmaster(self):
        """kill -9 of the postmaster and every child: as near to a power cut as processes go."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as f:
            pid = int(f.readline())
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
        for p in [pid, *map(int, children)]:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until("the postmaster is gone", lambda: not os.path.exists(f"/proc/{pid}"))
        for p in map(int, children):
            wait_until("its children are gone", lambda p=p: not os.path.exists(f"/proc/{p}"))

    def destroy(self):
        if self.running():
            self.stop("immediate")
        self.keep_reports()
        if not os.environ.get("KEEP_CLUSTERS"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def keep_reports(self):
        """A sanitizer writes to the server's log: with SEQUIN_REPORTS (a directory) a log that holds a report is kept."""
        reports = os.environ.get("SEQUIN_REPORTS")
        if reports and os.path.exists(self.log_path) and re.search("runtime error:|AddressSanitizer", self.log()):
            shutil.copy(self.log_path, os.path.join(reports, os.path.basename(self.dir)))

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.destroy()

    def connect(self, database=None, user="postgres", **kw):
        return psycopg.connect(host=self.dir, port=self.port, dbname=database or self.database, user=user,
                               autocommit=kw.pop("autocommit", True), **kw)

    def sql(self, query, params=None):
        """Runs one statement in a session of its own; returns the rows, if any."""
        with self.connect() as db:
            cur = db.execute(query, params)
            return cur.fetchall() if cur.description else None

    def one(self, query, params=None):
        rows = self.sql(query, params)
        return rows[0][0] if rows else None

    def dicts(self, query, params=None):
        with self.connect(row_factory=psycopg.rows.dict_row) as db:
            return db.execute(query, params).fetchall()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def worker_pids(self, kind="sequin_proxy worker"):
        return [r[0] for r in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = %s ORDER BY pid", (kind,))]

    def crashes(self):
        """Signs in the log that a process died or an assertion failed."""
        return re.findall(r".*(?:terminated by signal|PANIC|TRAP|server process .* was terminated).*", self.log())

    def wait_proxy(self):
        """Until every worker listens; a database that recovers after a crash is waited for too."""
        def listening():
            try:
                return self.one("SELECT count(*) > 0 AND bool_and(listening) FROM sequin.proxy_stats")
            except psycopg.OperationalError:
                return False

        wait_until("the proxy listens", listening)


class Standby(Cluster):
    """A streaming standby of a running primary, with ports of its own; promote() makes it the primary."""

    def __init__(self, primary, name="standby"):
        self.primary = primary
        self.name = name
        super().__init__(settings={k: v for k, v in primary.settings.items()
                                   if k not in ("port", "unix_socket_directories", "sequin_proxy.port", "synchronous_standby_names")})

    def make_data(self):
        subprocess.run([f"{self.bin}/pg_basebackup", "-D", self.data, "-h", self.primary.dir, "-p", str(self.primary.port), "-U", "postgres",
                        "-c", "fast", "-X", "stream", "--no-sync"], check=True, stdout=subprocess.DEVNULL)
        self.settings["primary_conninfo"] = (f"'host={self.primary.dir} port={self.primary.port} user=postgres "
                                             f"application_name={self.name}'")
        self.be_standby()

    def be_standby(self):
        with open(os.path.join(self.data, "standby.signal"), "w", encoding="ascii"):
            pass

    def start(self, extension=False):
        super().start(extension=False)
        return self

    def wait_streaming(self):
        wait_until("the standby streams", lambda: self.primary.one(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = %s", (self.name,)) == 1)

    def promote(self):
        subprocess.run([f"{self.bin}/pg_ctl", "-D", self.data, "-w", "-t", "60", "promote"], check=True, stdout=subprocess.DEVNULL)
