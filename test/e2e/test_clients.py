"""The official clients, unmodified, against the proxy: runs test/clients/*.test.mjs with node."""

import json
import os
import shutil
import subprocess
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLIENTS = os.path.join(ROOT, "test", "clients")


def npm_ci(folder):
    """Installs the locked packages; which registry, the environment's npm settings say."""
    os.makedirs(folder, exist_ok=True)
    for name in sorted(os.listdir(CLIENTS)):
        if name != "node_modules":
            shutil.copy(os.path.join(CLIENTS, name), folder)
    done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"npm ci failed in {folder}:\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def clients():
    """A folder with the tests and their node_modules."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if os.path.isdir(os.path.join(CLIENTS, "node_modules")):
        yield CLIENTS
        return
    build = os.path.join(ROOT, "build")
    if os.access(build if os.path.isdir(build) else ROOT, os.W_OK):
        npm_ci(os.path.join(build, "clients"))
        yield os.path.join(build, "clients")
        return
    with tempfile.TemporaryDirectory(prefix="sequin_clients_") as folder:  # run by another user than the tree's
        npm_ci(folder)
        yield folder


def run(clients, sync, file):
    cluster = sync.cluster
    env = dict(os.environ, SEQUIN_API_ROOT=sync.client.root, SEQUIN_KEY=sync.client.key, SEQUIN_SCHEMA=sync.name,
               SEQUIN_PSQL=json.dumps([f"{cluster.bin}/psql", "-h", cluster.dir, "-p", str(cluster.port),
                                       "-U", "postgres", "-d", cluster.database]))
    done = subprocess.run(["node", "--test", file], cwd=clients, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"node --test {file}:\n{done.stdout}{done.stderr}"


def test_airtable_js_writes_and_finds_its_writes_in_the_mirror(clients, air):
    run(clients, air, "airtable.test.mjs")


def test_the_hubspot_client_writes_and_finds_its_writes_in_the_mirror(clients, hub):
    run(clients, hub, "hubspot.test.mjs")
