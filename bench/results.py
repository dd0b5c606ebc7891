"""What was measured: kept as CSV, printed as tables of medians and ratios, and held against the figures to reach."""

import csv
import statistics
import sys

FIELDS = ["rate", "p50", "p99", "cpu", "cpu_all", "errors"]


class Results:
    def __init__(self):
        self.rows = []       # (part, case, round, field, value)

    def note(self, part, case, round_, sample):
        values = sample if isinstance(sample, dict) else {f: getattr(sample, f) for f in FIELDS}
        for field, value in values.items():
            self.rows.append((part, case, round_, field, float(value)))
        if sys.stderr.isatty():
            print(f"\r{part}: {case}, round {round_ + 1}".ljust(100), end="\r", file=sys.stderr)
        if values.get("errors"):
            print(f"{part}: {case}: {values['errors']:.0f} errors", file=sys.stderr)

    def cases(self, part):
        return list(dict.fromkeys(c for p, c, *_ in self.rows if p == part))

    def values(self, part, case, field):
        return [v for p, c, _, f, v in self.rows if (p, c, f) == (part, case, field)]

    def median(self, part, case, field):
        values = self.values(part, case, field)
        return statistics.median(values) if values else None

    def ratio(self, part, case, base, field="rate"):
        """The median of the rounds' own ratios: what a round met, it met on both sides."""
        pairs = [(a, b) for a, b in zip(self.values(part, case, field), self.values(part, base, field)) if b]
        return statistics.median(a / b for a, b in pairs) if pairs else None

    def save(self, path):
        with open(path, "w", encoding="ascii", newline="") as f:
            out = csv.writer(f)
            out.writerow(["part", "case", "round", "field", "value"])
            for part, case, round_, field, value in self.rows:
                out.writerow([part, case, round_ + 1, field, f"{value:.6g}"])


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def table(head, rows, out=print):
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, *rows]:
        out("  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w) for i, (c, w) in enumerate(zip(r, widths))))


def core_table(results, out=print):
    part, base = "core", "nginx POST"
    rows = []
    for case in results.cases(part):
        method = case.split()[1].rstrip(",") if not case.startswith("Node") else case.split()[2]
        base = f"nginx {method}, TLS upstream" if "TLS" in case and method == "POST" else f"nginx {method}"
        peer = f"Node peer {method}"
        rows.append([case, number(results.median(part, case, "rate"), 0), number(results.median(part, case, "p50"), 2), number(results.median(part, case, "p99"), 2),
                     number(results.median(part, case, "cpu")), number(results.median(part, case, "cpu_all")), number(results.ratio(part, case, base), 2),
                     number(results.ratio(part, case, peer), 2)])
    out("\n64 connections; CPU in µs per request: of the proxy's processes, and with its database's\n")
    table(["case", "req/s", "p50 ms", "p99 ms", "CPU", "CPU, all", "of nginx", "of Node"], rows, out)


def plain_tables(results, out=print):
    """The other parts: a line per case and a column per thing measured."""
    titles = {"one": "One connection (µs)", "flight": "1,000 in flight at an API that takes 150 ms (ms)", "idle": "10,000 idle connections",
              "ingest": "Ingest: bytes of pages of 100 -> durable rows, a transaction per page", "instructions": "Instructions per run of the pure cores"}
    for part, title in titles.items():
        cases = results.cases(part)
        if not cases:
            continue
        fields = list(dict.fromkeys(f for p, _, _, f, _ in results.rows if p == part and f != "errors"))
        out(f"\n{title}\n")
        table(["case", *fields], [[c, *(figure(results.median(part, c, f)) for f in fields)] for c in cases], out)


def growth_table(results, out=print):
    """Pairs of steps: what grew, by how much, and what a request costs then."""
    cases, part = results.cases("growth"), "growth"
    rows = []
    for few, many in zip(cases[::2], cases[1::2]):
        grew = int(many.split()[0].replace(",", "")) / int(few.split()[0].replace(",", ""))
        ratio = results.ratio(part, many, few, "CPU")
        rows.append([f"{few} -> {many}", figure(results.median(part, few, "CPU")), figure(results.median(part, many, "CPU")), f"x {ratio:.2f}", f"x {grew:,.0f}",
                     figure(results.median(part, few, "p50")), figure(results.median(part, many, "p50")),
                     "yes" if ratio <= (1.25 if few.endswith(("syncs", "keys")) else grew) else "NO"])
    if rows:
        out("\nGrowth: durable POST, journal on; CPU in µs per request\n")
        table(["from -> to", "CPU", "CPU then", "ratio", "grew by", "p50 ms", "p50 then", "as wanted"], rows, out)


def figure(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def targets(results):
    """(what, measured, the figure to reach, reached)."""
    out = []

    def want(what, value, limit, at_least=True):
        if value is not None:
            out.append((what, value, limit, value >= limit if at_least else value <= limit, at_least))

    ours = "sequin_proxy POST, {} journal {}"
    best = {j: max((results.ratio("core", ours.format(w, j), "nginx POST") or 0 for w in ("1 worker,", "2 workers,")), default=0) for j in ("off", "on")}
    peer = {j: max((results.ratio("core", ours.format(w, j), "Node peer POST") or 0 for w in ("1 worker,", "2 workers,")), default=0) for j in ("off", "on")}
    if results.cases("core"):
        want("durable POST, journal off, of nginx", best["off"], 0.40)
        want("durable POST, journal off, of the Node peer", peer["off"], 3)
        want("durable POST, journal on, of nginx", best["on"], 0.33)
        want("durable POST, journal on, of the Node peer", peer["on"], 2.5)
        want("pass-through GET, of nginx", results.ratio("core", "sequin_proxy GET, 1 worker", "nginx GET"), 0.80)
        want("p99 over p50, 64 connections, journal on", p99_over_p50(results, ours.format("1 worker,", "on")), 3, False)
    want("one write over the direct call and a flush, journal off, µs", results.median("one", "sequin_proxy, journal off", "over direct and flushes"), 200, False)
    want("one write over the direct call and two flushes, journal on, µs", results.median("one", "sequin_proxy, journal on", "over direct and flushes"), 200, False)
    for field, most in (("added p50", 2), ("added p99", 10)):
        measured = [results.median("flight", c, field) for c in results.cases("flight") if c.startswith("sequin_proxy")]
        want(f"1,000 in flight at 150 ms: {field}, ms", min(measured, default=None), most, False)
    want("idle connection after a request, KB", results.median("idle", "sequin_proxy", "KB per connection"), 6, False)
    want("idle CPU, ms per second", results.median("idle", "sequin_proxy", "idle CPU ms/s"), 1, False)
    for columns, least in ((15, 0.75), (200, 0.6)):
        want(f"ingest, {columns} columns, of COPY", results.ratio("ingest", f"mirror_apply, new rows, {columns} columns", f"COPY, {columns} columns", "rows/s"), least)
        want(f"ingest, {columns} columns, of a row-by-row client",
             results.ratio("ingest", f"mirror_apply, new rows, {columns} columns", f"row-by-row client, {columns} columns", "rows/s"), 10)
    return out


def p99_over_p50(results, case):
    pairs = list(zip(results.values("core", case, "p99"), results.values("core", case, "p50")))
    return statistics.median(a / b for a, b in pairs) if pairs else None


def target_table(results, out=print):
    rows = [[what, number(value, 2), f"{'>=' if least else '<='} {limit:g}", "yes" if ok else "NO"] for what, value, limit, ok, least in targets(results)]
    if rows:
        out("\nFigures to reach\n")
        table(["figure", "measured", "wanted", "reached"], rows, out)
