"""What a run found, in words: one line of figures, and for each anomaly the history of its record."""

import json

from .judge import KINDS

SHOWN = 4


def figures(run):
    """One line: what was done and what was found."""
    f, s = run.figures, run.settings
    ops = f["requests"] + f["selects"]
    done = f"{ops} operations ({f['requests']} requests, {f['selects']} SELECTs of {f['rows']} rows) in {f['seconds']:.0f} s = {ops / f['seconds']:.0f}/s"
    kills = ", ".join(f"{n} {k}" for k, n in sorted(f["kills"].items()))
    found = ", ".join(f"{k} {run.verdict.count[k]}" for k in KINDS)
    return f"seed {s.seed}: {done}; {f['accepted']} writes accepted{'; killed: ' + kills if s.kill else ''}; {found}"


def command(settings):
    return f"make consistency OPS={settings.ops} SEED={settings.seed}" + (" KILL=1" if settings.kill else "")


def outcomes(run):
    """How the requests ended, for a feeling of what was tried."""
    out = {}
    for judge in run.judges.values():
        for w in judge.writes:
            end = w["error"] or f"{w['status']} {w['commit']}" if w["status"] else "hung up" if w["hung_up"] else "cut"
            out[end if w["via"] == "proxy" else "direct"] = out.get(end if w["via"] == "proxy" else "direct", 0) + 1
    return dict(sorted(out.items(), key=lambda x: -x[1]))


def story(run, key):
    """All that is known of one record, in the order of time."""
    judge = run.judges["airtable" if key[0].startswith("tbl") else "hubspot"]
    told = [(c["t"], "API", c) for c in judge.timeline.story(key)]
    mine = {c["op"] for _, _, c in told}
    told += [(w["t1"], "answered", w) for w in judge.writes if w["op"] in mine]
    for r in judge.reads:
        if r["c"] == key[0] and (key[1] in r["rows"] or key[1] in (r["asked"] or ())):
            told.append((r["t0"], "SELECT", {"t1": r["t1"], "row": r["rows"].get(key[1])}))
    return sorted(told, key=lambda x: x[0])


def explain(run, file):
    """The first anomalies of each kind with their record's history around them."""
    seen = {}
    for kind, key, what in run.verdict.found:
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] > SHOWN:
            continue
        print(f"\n{kind} {key}: {json.dumps(what, default=str)}", file=file)
        if key is None:
            continue
        lines = story(run, key)
        if "at" in what:
            lines = [x for x in lines if what["at"] - 3 < x[0] < what["at"] + 1]
        for t, who, line in lines[-60:]:
            print(f"  {t:.4f} {who:8} {json.dumps(line, default=str)[:400]}", file=file)


def tell(run, file):
    print(figures(run), file=file)
    if not run.verdict.clean:
        explain(run, file)
        print(f"\nhistories: {run.dir}\nagain: {command(run.settings)}", file=file)
