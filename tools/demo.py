"""The main job, shown: writes through the proxy with curl, each answer beside its rows in SQL.

On the stand-in APIs (test/fakeapi) by default; on the real ones with HUBSPOT_TOKEN= or
AIRTABLE_TOKEN= AIRTABLE_BASE= (reads only, unless WRITE=1).  KEEP=1 leaves everything running.
"""

import json
import os
import shlex
import subprocess
import sys
import textwrap
import time

from cluster import Cluster
from fakes import Fakes

CONTACTS = 5000
COLOR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
BOLD, DIM, GREEN, CYAN, OFF = ("\033[1m", "\033[2m", "\033[32m", "\033[36m", "\033[0m") if COLOR else ("",) * 5
SHOWN_HEADERS = ("sequin-", "content-type", "location", "http/")


def title(text):
    print(f"\n{BOLD}{text}{OFF}\n{'-' * len(text)}")


def say(text):
    print(textwrap.fill(text, 100))


class Stage:
    """The cluster, the shell variables that the transcript uses, and its two tools: psql and curl."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.vars = {}

    def psql(self, query, quiet=False):
        """Shows and runs a statement as psql would; returns the first value."""
        if not quiet:
            shown = textwrap.dedent(query).strip()
            print(f"{CYAN}postgres=# {OFF}{shown};")
        out = subprocess.run(
            [f"{self.cluster.bin}/psql", "-X", "-h", self.cluster.dir, "-p", str(self.cluster.port), "-U", "postgres",
             "-P", "pager=off", "-P", "footer=off", "-c", query], capture_output=True, text=True)
        if out.returncode != 0:
            sys.exit(f"psql failed:\n{out.stderr}")
        if not quiet:
            print(indent(out.stdout.rstrip()))
        return out.stdout

    def curl(self, method, root, path, data=None, key="KEY", headers=(), note=None):
        """Shows the command with its variables and the answer; returns (status, headers, json)."""
        if note:
            print(f"{DIM}# {note}{OFF}")
        shown = ["curl", "-s", "-X", method, f'"${root}/{path}"']
        real = ["curl", "-sS", "-i", "-g", "-X", method, f"{self.vars[root]}/{path}"]
        if key:
            shown += ["-H", f'"Authorization: Bearer ${key}"']
            real += ["-H", f"Authorization: Bearer {self.vars[key]}"]
        for h in headers:
            shown += ["-H", shlex.quote(h)]
            real += ["-H", h]
        if data is not None:
            text = json.dumps(data, ensure_ascii=False)
            shown += ["--json", shlex.quote(text)]
            real += ["-H", "Content-Type: application/json", "--data-binary", text]
        print(f"{CYAN}$ {OFF}" + " ".join(shown))
        began = time.monotonic()
        raw = subprocess.run(real, capture_output=True).stdout.decode()
        elapsed = (time.monotonic() - began) * 1000
        head, _, body = raw.partition("\r\n\r\n")
        while head.startswith("HTTP/1.1 100"):
            head, _, body = body.partition("\r\n\r\n")
        for line in head.splitlines():
            if line.lower().startswith(SHOWN_HEADERS):
                print(indent((GREEN if line.lower().startswith("sequin-commit") else "") + line + OFF))
        print(indent(pretty(body)) + f"   {DIM}({elapsed:.0f} ms){OFF}")
        status = int(head.split()[1])
        return status, head, json.loads(body) if body.strip().startswith(("{", "[")) else None


def indent(text):
    return textwrap.indent(text, "    ")


def pretty(body):
    """One line where it is short, else indented and cut."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip() or "(no body)"
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= 160:
        return line
    lines = json.dumps(value, ensure_ascii=False, indent=1).splitlines()
    return "\n".join(lines[:16] + (["  ..."] if len(lines) > 16 else []))


def quote(text):
    return "'" + text.replace("'", "''") + "'"


def create_sync(stage, name, provider, credential, upstream=None, config=None, tables=None, rate_limit=None, root="CRM", key="KEY"):
    args = [quote(name), quote(provider), f"credential => {quote(credential)}"]
    if config:
        args.append(f"config => {quote(json.dumps(config))}")
    if tables:
        args.append("tables => ARRAY[" + ", ".join(map(quote, tables)) + "]")
    if rate_limit:
        args.append(f"rate_limit => {quote(rate_limit)}")
    if upstream:
        args.append(f"upstream_url => {quote(upstream)}")
    statement = f"SELECT * FROM sequin.create_sync({', '.join(args)})"
    shown = statement.replace(credential, credential[:4] + "...") if not upstream else statement
    print(f"{CYAN}postgres=# {OFF}{shown};")
    print(indent(stage.psql(statement, quiet=True).rstrip()))
    stage.psql(f"SELECT sequin.wait_for({quote(name)}, 'ready')")
    stage.vars[root] = stage.cluster.one("SELECT sequin.api_root(%s)", (name,))
    stage.vars[key] = stage.cluster.one("SELECT sequin.create_key(%s, label => 'demo')", (name,))
    print(f"{CYAN}$ {OFF}{root}=$(psql -Atc \"SELECT sequin.api_root('{name}')\")   {DIM}# {stage.vars[root]}{OFF}")
    print(f"{CYAN}$ {OFF}{key}=$(psql -Atc \"SELECT sequin.create_key('{name}', label => 'demo')\")   {DIM}# {stage.vars[key][:8]}... shown once{OFF}")


def watch_backfill(stage, sync, table, seconds):
    """Shows one table's progress twice a second until it is live (True) or the time is over (False)."""
    query = ("SELECT phase, rows_done, rows_total, rows_per_second, eta FROM sequin.sync_progress"
             f" WHERE sync = {quote(sync)} AND table_name = {quote(table)}")
    print(f"{CYAN}postgres=# {OFF}{query} \\watch 0.5")
    print(indent("  phase   | rows_done | rows_total | rows_per_second | eta"))
    print(indent("----------+-----------+------------+-----------------+---------"))
    deadline = time.monotonic() + seconds
    while True:
        phase, done, total, rate, eta = stage.cluster.sql(query)[0]
        shown = [f"{eta.total_seconds():.1f} s" if eta is not None else "", *("" if v is None else v for v in (total, rate))]
        print(indent(f" {phase:<8} | {done:>9} | {shown[1]:>10} | {shown[2]:>15} | {shown[0]:>7}"), flush=True)
        if phase == "live" or time.monotonic() > deadline:
            return phase == "live"
        time.sleep(0.5)


def wait_for(stage, sync, state, seconds):
    """Shows and runs wait_for; a timeout ends neither the demo nor its truth."""
    reached = "t" in stage.psql(f"SELECT sequin.wait_for({quote(sync)}, {quote(state)}, '{seconds}s')").split()
    if not reached:
        say(f"Not within {seconds} s: the sync goes on meanwhile, and says where it is:")
        stage.psql(f"SELECT table_name, phase, rows_done, rows_total, eta, last_error FROM sequin.sync_progress WHERE sync = {quote(sync)} ORDER BY 1")
        stage.psql(f"SELECT name, state, last_error, feed_error FROM sequin.syncs WHERE name = {quote(sync)}")
    return reached


def past_the_proxy(text):
    print(f"{DIM}# in the API itself, past the proxy: {text}{OFF}")


def hubspot_backfill(stage, fakes):
    title("1. A HubSpot account becomes tables")
    fakes.hubspot.reset(contacts=CONTACTS)
    say(f"The stand-in holds {CONTACTS} contacts. A rate limit that is lower than HubSpot's makes their first reading last long enough to be watched.")
    create_sync(stage, "crm", "hubspot", "pat-na1-test", fakes.hubspot.origin, tables=["contacts", "companies", "deals"],
                rate_limit="8/1s, search:2/1s")
    watch_backfill(stage, "crm", "contact", 60)
    wait_for(stage, "crm", "live", 60)
    stage.psql("SELECT table_name, phase, rows_done, (SELECT count(*) FROM sequin.mirror_column c WHERE c.sync = p.sync AND c.collection = t.collection) AS columns FROM sequin.sync_progress p JOIN sequin.mirror_table t USING (sync, table_name) WHERE sync = 'crm' ORDER BY 1")
    stage.psql("SELECT o.name, count(*) AS contacts FROM crm.associations_company_contact a JOIN crm.company o ON o.id = a.company_id GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3")
    stage.psql("SELECT sequin.alter_sync('crm', rate_limit => '')")
    say("'' gives HubSpot's own limits back, 100 calls in 10 s; the very next call obeys.")


def hubspot_freshness(stage, fakes):
    title("8. What others change arrives too")
    hub = fakes.hubspot
    ids = [r[0] for r in stage.cluster.sql("SELECT id FROM crm.contact WHERE email IN ('contact7@example.com', 'contact8@example.com') ORDER BY email")]
    changed, gone = ids
    row = f"SELECT id, email, lastname, updated_at FROM crm.contact WHERE id = '{changed}'"
    past_the_proxy(f"contact {changed} gets the lastname 'Byron'")
    hub.edit(op="update", type="contacts", id=changed, properties={"lastname": "Byron"})
    stage.psql(row)
    say("A poll would bring it within 30 s (poll_interval). Who cannot wait asks for one now:")
    wait_for(stage, "crm", "fresh", 30)
    stage.psql(row)

    title("9. What others delete goes")
    row = f"SELECT id, email FROM crm.contact WHERE id = '{gone}'"
    past_the_proxy(f"contact {gone} is deleted")
    hub.edit(op="archive", type="contacts", id=gone)
    stage.psql(row)
    say("No poll tells of it: the hourly sweep does (sweep_interval), or one asked for now, which reads the whole "
        "account once more and asks for each missing record by its id before it deletes a row:")
    wait_for(stage, "crm", "swept", 60)
    stage.psql(row)


def hubspot_story(stage, fakes):
    hubspot_backfill(stage, fakes)

    title("2. Create: the API answers 201, and the row is there")
    hub = "api.hubapi.com/crm/v3/objects"
    _, _, contact = stage.curl("POST", "CRM", f"{hub}/contacts", {"properties": {"email": "ada@example.com", "firstname": "Ada", "lastname": "Lovelace"}})
    ada = contact["id"]
    row = f"SELECT id, email, firstname, lastname, lifecyclestage, updated_at FROM crm.contact WHERE id = '{ada}'"
    stage.psql(row)

    title("3. Update: only what changed; the other columns stay")
    stage.curl("PATCH", "CRM", f"{hub}/contacts/{ada}", {"properties": {"lifecyclestage": "customer", "firstname": "Augusta Ada"}})
    stage.psql(row)

    title("4. A batch, and an association")
    _, _, batch = stage.curl("POST", "CRM", f"{hub}/companies/batch/create",
                             {"inputs": [{"properties": {"name": "Analytical Engines"}}, {"properties": {"name": "Difference Ltd"}}]})
    company = batch["results"][0]["id"]
    stage.curl("PUT", "CRM", f"api.hubapi.com/crm/v4/objects/contacts/{ada}/associations/default/companies/{company}")
    stage.psql(f"SELECT c.email, o.name, a.labels FROM crm.associations_company_contact a JOIN crm.contact c ON c.id = a.contact_id JOIN crm.company o ON o.id = a.company_id WHERE c.id = '{ada}'")

    title("5. The API says no: its words, and nothing changes")
    stage.curl("POST", "CRM", f"{hub}/contacts", {"properties": {"email": "ada@example.com"}})
    stage.psql("SELECT count(*) AS adas FROM crm.contact WHERE email = 'ada@example.com'")

    title("6. The proxy says no: cannot be mistaken for the API")
    stage.curl("GET", "CRM", "api.hubspot.com/crm/v3/objects/contacts", note="the classic wrong host name")
    stage.curl("DELETE", "CRM", f"{hub}/contacts/{ada}", key=None, note="no key")

    title("7. Delete: gone there, gone here")
    stage.curl("DELETE", "CRM", f"{hub}/contacts/{ada}")
    stage.psql(f"SELECT count(*) AS contacts FROM crm.contact WHERE id = '{ada}'")

    hubspot_freshness(stage, fakes)


def airtable_story(stage, fakes, base):
    title("10. An Airtable base, the same way")
    create_sync(stage, "ops", "airtable", base["token"], fakes.airtable.origin, config={"base_id": base["id"]}, root="OPS", key="OPS_KEY")
    stage.psql("SELECT table_name, collection_name FROM sequin.mirror_table WHERE sync = 'ops' ORDER BY 1")
    columns = stage.cluster.dicts(
        "SELECT field_name, column_name, column_type FROM sequin.mirror_column c JOIN sequin.mirror_table t USING (sync, collection)"
        " WHERE sync = 'ops' AND t.collection_name = 'Product Inventory' ORDER BY field_name")
    text = next(c for c in columns if c["column_type"] == "text" and c["field_name"].lower() in ("name", "product", "title"))
    path = f"api.airtable.com/v0/{base['id']}/Product%20Inventory"
    _, _, made = stage.curl("POST", "OPS", path, {"records": [{"fields": {text["field_name"]: "Brass cog"}}, {"fields": {text["field_name"]: "Punched cards"}}]}, key="OPS_KEY")
    first, second = (r["id"] for r in made["records"])
    stage.psql(f"SELECT id, created_time, {text['column_name']} FROM ops.product_inventory WHERE id IN ('{first}', '{second}')")
    stage.curl("DELETE", "OPS", f"{path}/{first}", key="OPS_KEY")
    stage.psql(f"SELECT id, {text['column_name']} FROM ops.product_inventory WHERE id IN ('{first}', '{second}')")

    title("11. A base tells what changed: one call for all its tables")
    wait_for(stage, "ops", "live", 30)
    stage.psql("SELECT table_name, phase, rows_done FROM sequin.sync_progress WHERE sync = 'ops' ORDER BY 1")
    rows = stage.cluster.sql("SELECT id FROM ops.product_inventory WHERE id NOT IN (%s, %s) ORDER BY id LIMIT 2", (first, second))
    changed, gone = (r[0] for r in rows)
    query = f"SELECT id, {text['column_name']} FROM ops.product_inventory WHERE id IN ('{changed}', '{gone}') ORDER BY id"
    past_the_proxy(f"{changed} gets another {text['field_name']}, {gone} is deleted")
    fakes.airtable.edit(op="update", table="Product Inventory", id=changed, fields={text["field_name"]: "Silver cog"})
    fakes.airtable.edit(op="delete", table="Product Inventory", id=gone)
    stage.psql(query)
    wait_for(stage, "ops", "fresh", 30)
    stage.psql(query)
    say("The base's webhook, read by polling, tells deletes as well: no sweep was needed.")


def epilogue(stage):
    title("12. Who wrote what, and what it cost")
    stage.psql("SELECT sync, key_label AS who, method, left(path, 50) AS path, status, state FROM sequin.write_log ORDER BY id")
    stage.psql("SELECT * FROM sequin.rate_limit_usage")


def watch_real(stage, sync, seconds):
    """A real account may be large: its backfill is watched for a while, then stopped."""
    table = stage.cluster.one("SELECT table_name FROM sequin.mirror_table WHERE sync = %s AND kind = 'records' AND enabled ORDER BY 1 LIMIT 1", (sync,))
    if not watch_backfill(stage, sync, table, seconds):
        say(f"That was {seconds} s of it; it would go on from there, after a restart too.")
    stage.psql(f"SELECT sequin.pause_sync({quote(sync)})")
    stage.psql(f"SELECT count(*) FROM {sync}.{table}")


def real_hubspot(stage, token):
    title("A real HubSpot account")
    create_sync(stage, "crm", "hubspot", token, tables=["contacts"])
    watch_real(stage, "crm", 20)
    stage.curl("GET", "CRM", "api.hubapi.com/crm/v3/objects/contacts?limit=3")
    if os.environ.get("WRITE") == "1":
        _, _, made = stage.curl("POST", "CRM", "api.hubapi.com/crm/v3/objects/contacts",
                                {"properties": {"email": f"sequin-demo-{int(time.time())}@example.com"}})
        stage.psql(f"SELECT id, email FROM crm.contact WHERE id = '{made['id']}'")
        stage.curl("DELETE", "CRM", f"api.hubapi.com/crm/v3/objects/contacts/{made['id']}")
    else:
        say("Reads only; WRITE=1 also creates a contact and deletes it again.")


def real_airtable(stage, token, base):
    title("A real Airtable base")
    # a sync may set up a webhook, which is a write: first a proxy alone, that finds the tables
    create_sync(stage, "ops", "airtable", token, config={"base_id": base, "sync": False}, root="OPS", key="OPS_KEY")
    stage.psql("SELECT table_name, collection FROM sequin.mirror_table WHERE sync = 'ops' ORDER BY 1")
    table = stage.cluster.one("SELECT collection FROM sequin.mirror_table WHERE sync = 'ops' ORDER BY table_name LIMIT 1")
    stage.curl("GET", "OPS", f"api.airtable.com/v0/{base}/{table}?maxRecords=3", key="OPS_KEY")
    if os.environ.get("WRITE") == "1":
        _, _, made = stage.curl("POST", "OPS", f"api.airtable.com/v0/{base}/{table}", {"fields": {}}, key="OPS_KEY")
        stage.curl("DELETE", "OPS", f"api.airtable.com/v0/{base}/{table}/{made['id']}", key="OPS_KEY")
        others = f"UPDATE sequin.mirror_table SET enabled = false WHERE sync = 'ops' AND collection <> {quote(table)}"
        stage.psql(others)
        stage.psql(f"SELECT sequin.alter_sync('ops', config => {quote(json.dumps({'base_id': base}))})")
        watch_real(stage, "ops", 20)
    else:
        say("Reads only, and no sync: it would make a webhook in the base, where the token may. "
            "WRITE=1 fills one table, and also creates a record and deletes it again.")


def keep(stage, fakes):
    title("Left running (KEEP=1)")
    c = stage.cluster
    print(f"  psql -h {c.dir} -p {c.port} -U postgres")
    for name, value in stage.vars.items():
        print(f"  {name}={value}")
    print("  curl -s \"$CRM/api.hubapi.com/crm/v3/objects/contacts\" -H \"Authorization: Bearer $KEY\"")
    print("  SELECT * FROM sequin.syncs;  SELECT * FROM sequin.sync_progress;  SELECT * FROM sequin.proxy_stats;")
    print(f"  log: {c.log_path}")
    # by signal: pg_ctl refuses root, who may have started this through tools/as_user.sh
    stop = f"kill -INT $(head -1 {c.data}/postmaster.pid)" + (f"; kill {fakes.process.pid}" if fakes else "")
    print(f"  to stop it: {stop}")


def main():
    hubspot, airtable = os.environ.get("HUBSPOT_TOKEN"), os.environ.get("AIRTABLE_TOKEN")
    if airtable and not os.environ.get("AIRTABLE_BASE"):
        sys.exit("AIRTABLE_TOKEN needs AIRTABLE_BASE=app... beside it")
    fakes = None if hubspot or airtable else Fakes()
    cluster = Cluster()
    stage = Stage(cluster)
    try:
        title("sequin_proxy: write through the API, read it in SQL")
        say("A PostgreSQL cluster in a temporary directory, with shared_preload_libraries = 'sequin_proxy'"
            + (", and stand-ins for the APIs of HubSpot and Airtable on this machine." if fakes else "."))
        cluster.start(extension=False)
        stage.psql("CREATE EXTENSION sequin_proxy")
        cluster.wait_proxy()
        if hubspot:
            real_hubspot(stage, hubspot)
        if airtable:
            real_airtable(stage, airtable, os.environ["AIRTABLE_BASE"])
        if fakes:
            hubspot_story(stage, fakes)
            airtable_story(stage, fakes, {"id": "appFakeBase000001", "token": "patFakeToken00001.secret"})
        epilogue(stage)
        if os.environ.get("KEEP") == "1":
            keep(stage, fakes)
            return
        title("That was the main job")
        say("KEEP=1 make demo leaves all of this running and prints what to try next.")
    finally:
        if os.environ.get("KEEP") != "1":
            cluster.destroy()
            if fakes:
                fakes.stop()


if __name__ == "__main__":
    main()
