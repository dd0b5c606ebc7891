"""The processes of the benchmark: nginx, the peer, canned APIs and clusters; all of ours end with the Stage.

Everything listens on 127.0.0.1 and keeps its files in the Stage's directory.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import api

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test/e2e"))

from cluster import Cluster, free_port, wait_until  # noqa: E402

DATABASE = {"fsync": "on", "shared_buffers": "'512MB'", "max_wal_size": "'4GB'", "max_connections": 200,
            "sequin_proxy.max_connections": 12000, "checkpoint_timeout": "'15min'"}

NGINX = """
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    {http}
}}
"""

# The time of the answer as HubSpot writes it: the bench runs with TZ=UTC.
UTC = "map $time_iso8601 $utc { ~^(?<t>[^+]+) $t; }"


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Stage:
    def __init__(self, directory, columns=23):
        self.dir, self.columns = directory, columns
        self.processes = []
        self.clusters = []
        with open(os.path.join(directory, "schema.json"), "w", encoding="ascii") as f:
            f.write(api.text({"results": api.schema(columns)}))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(10)
        for cluster in self.clusters:
            cluster.destroy()

    # ---- processes ----

    def run(self, command, port, **env):
        """Starts a server and waits for its port; returns the process."""
        log = open(os.path.join(self.dir, "servers.log"), "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TZ": "UTC", **env})
        self.processes.append(process)

        def up():
            assert process.poll() is None, f"{command[0]} ended: see {log.name}:\n" + open(log.name, encoding="utf-8").read()[-2000:]
            return listening(port)

        wait_until(f"{command[0]} listens", up)
        return process

    def nginx(self, name, http, port):
        """One nginx with one worker; returns that worker's pid."""
        directory = os.path.join(self.dir, name)
        os.mkdir(directory)
        config = os.path.join(directory, "nginx.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write(NGINX.format(dir=directory, http=http))
        master = self.run(["nginx", "-p", directory, "-e", os.path.join(directory, "error.log"), "-c", config], port)
        children = subprocess.run(["pgrep", "-P", str(master.pid)], capture_output=True, text=True, check=True).stdout.split()
        return int(children[0])

    def upstream(self):
        """The canned API in plain HTTP and in TLS; returns their ports and the CA file."""
        plain, secure = free_port(), free_port()
        key, cert = os.path.join(self.dir, "key.pem"), os.path.join(self.dir, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        where = api.locations(self.columns, self.dir)
        self.upstream_pid = self.nginx("upstream", f"""{UTC}
            server {{ listen 127.0.0.1:{plain}; {where} }}
            server {{ listen 127.0.0.1:{secure} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; {where} }}""", plain)
        return plain, secure, cert

    def reverse_proxy(self, plain, secure, cert):
        """nginx with kept-alive upstream connections: the baseline.  Returns (pid, port, TLS port)."""
        port, tls = free_port(), free_port()
        pid = self.nginx("proxy", f"""
            upstream plain {{ server 127.0.0.1:{plain}; keepalive 256; keepalive_requests 1000000000; }}
            upstream secure {{ server 127.0.0.1:{secure}; keepalive 256; keepalive_requests 1000000000; }}
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://plain; }} }}
            server {{ listen 127.0.0.1:{tls}; location / {{
                proxy_pass https://secure; proxy_ssl_verify on; proxy_ssl_trusted_certificate {cert}; proxy_ssl_name localhost; }} }}""", port)
        return pid, port, tls

    def canned(self, columns, records=1, padding=0, delay_ms=0):
        """canned.c on a port of its own; returns the port."""
        port, tag = free_port(), f"{columns}_{records}_{padding}_{delay_ms}"
        schema, answer = (os.path.join(self.dir, f"{kind}_{tag}.json") for kind in ("schema", "answer"))
        with open(schema, "w", encoding="ascii") as f:
            f.write(api.text({"results": api.schema(columns)}))
        with open(answer, "w", encoding="ascii") as f:
            f.write(api.answer(columns, records, padding))
        program = os.path.join(self.dir, "canned")
        if not os.path.exists(program):
            subprocess.run(["gcc", "-O2", "-o", program, os.path.join(ROOT, "bench/canned.c")], check=True)
        self.run([program, str(port), str(delay_ms), schema, answer], port)
        return port

    def peer(self, upstream, cluster):
        """The Node service; returns (pid, port)."""
        folder = os.path.join(ROOT, "build/peer")
        if not os.path.isdir(os.path.join(folder, "node_modules")):
            shutil.copytree(os.path.join(ROOT, "bench/peer"), folder, dirs_exist_ok=True)
            done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=folder, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"npm install failed in {folder}:\n{done.stdout}{done.stderr}"
        shutil.copy(os.path.join(ROOT, "bench/peer/server.mjs"), folder)
        cluster.sql("CREATE SCHEMA peer; CREATE TABLE peer.contact (LIKE crm.contact INCLUDING ALL)")
        port = free_port()
        process = self.run(["node", os.path.join(folder, "server.mjs")], port, PORT=str(port), UPSTREAM=f"http://127.0.0.1:{upstream}",
                           PGHOST=cluster.dir, PGPORT=str(cluster.port), COLUMNS=json.dumps(api.lists(self.columns)))
        return process.pid, port

    # ---- clusters ----

    def cluster(self, workers=1, journal=True, **settings):
        cluster = Cluster(workers=workers, settings={**DATABASE, "sequin_proxy.journal": "on" if journal else "off", **settings})
        self.clusters.append(cluster)
        cluster.start()
        cluster.wait_proxy()
        return cluster


def add_sync(cluster, origin, name="crm", reads=False):
    """A discovered sync of contacts with a limit that never binds; returns (path of its API root, key)."""
    cluster.sql("SELECT sequin.create_sync(%s, 'hubspot', credential => 'x', tables => '{contacts}', config => %s, "
                "rate_limit => '1000000/1s, search:1000000/1s', upstream_url => %s)", (name, json.dumps({"sync": reads}), origin))
    if not cluster.one("SELECT sequin.wait_for(%s, 'ready', '60s')", (name,)):
        raise RuntimeError(f"the sync is not ready: {cluster.sql('SELECT * FROM sequin.syncs')}")
    key = cluster.one("SELECT sequin.create_key(%s, label => 'bench')", (name,))
    root = cluster.one("SELECT sequin.api_root(%s)", (name,))
    return "/" + root.rsplit("/", 1)[1] + "/api.hubapi.com", key


def backends(cluster):
    """The pids of all processes of the cluster but the proxy's own workers."""
    rows = cluster.sql("SELECT pid FROM pg_stat_activity WHERE backend_type NOT LIKE 'sequin%%' AND pid <> pg_backend_pid()", ())
    return [r[0] for r in rows]


def private_kb(pid):
    """Heap and stack.  Not Private_*, which counts a page of shared_buffers for the one process that has touched it so far."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))


def fdatasync_us(directory, n=200):
    """Median time of a write of 8 kB and its flush, where the clusters' WAL lies."""
    path = os.path.join(directory, "flush")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    page = b"x" * 8192
    os.pwrite(fd, page * 128, 0)
    os.fsync(fd)
    times = []
    for i in range(n):
        began = time.perf_counter()
        os.pwrite(fd, page, (i % 128) * 8192)
        os.fdatasync(fd)
        times.append(time.perf_counter() - began)
    os.close(fd)
    return sorted(times)[n // 2] * 1e6
