"""The figures as one SVG: bars of requests per second by case, with the spread of the rounds, and CPU per request."""

import html
import statistics

WIDTH, LEFT, BAR, GAP = 980, 300, 15, 9
COLOURS = {"nginx": "#9aa5b1", "sequin_proxy": "#2f6f9f", "Node peer": "#c2803a"}


def colour(case):
    return next((c for name, c in COLOURS.items() if case.startswith(name)), "#444")


def text(x, y, what, anchor="start", size=12, fill="#222"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{html.escape(str(what))}</text>'


def bars(results, part, field, title, unit, top):
    """Lines of SVG and the height they take."""
    cases = [c for c in results.cases(part) if results.values(part, c, field)]
    most = max(max(results.values(part, c, field)) for c in cases)
    scale = (WIDTH - LEFT - 110) / most
    out, y = [text(10, top + 16, title, size=15)], top + 30
    for case in cases:
        values = results.values(part, case, field)
        middle = statistics.median(values)
        out.append(text(LEFT - 8, y + BAR - 3, case, "end"))
        out.append(f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" height="{BAR}" fill="{colour(case)}"/>')
        low, high = min(values) * scale + LEFT, max(values) * scale + LEFT
        out.append(f'<path d="M{low:.1f} {y + BAR / 2}H{high:.1f}M{low:.1f} {y + 3}v{BAR - 6}M{high:.1f} {y + 3}v{BAR - 6}" stroke="#222" fill="none"/>')
        out.append(text(high + 8, y + BAR - 3, f"{middle:,.0f} {unit}"))
        y += BAR + GAP
    return out, y + 10


def svg(results):
    first, y = bars(results, "core", "rate", "Requests per second, 64 connections (median; the line spans the rounds)", "/s", 10)
    second, y = bars(results, "core", "cpu", "CPU time of the proxy's processes per request (µs)", "µs", y + 10)
    body = "\n".join(first + second)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}" viewBox="0 0 {WIDTH} {y:.0f}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n')
