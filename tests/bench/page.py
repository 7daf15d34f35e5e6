"""Writes the results for people: tests/bench/README.md and its pictures, from results.json after each run."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
WIDTH, ROW, LEFT = 860, 26, 330
COLUMNS = ("CPU", "kernel", "rate", "p50", "p99", "errors")
COLORS = {True: "#1a7f37", False: "#bc4c00"}

HEAD = """# Benchmarks

`make bench` runs all of them and writes `results.json` and this page; `make bench NAME=data_plane` runs one. Each
program starts all proxies itself and loads them in turn in one run, so that a ratio holds where a machine is noisy; the
absolute values are this machine's on that day. CPU is the user and system time of all processes of a proxy, for each
request, and kernel the part of it that the kernel took: reading, writing and waiting. `ROUNDS=1 SECONDS=1` tries a
benchmark and keeps no results. `AGAINST=/other/checkout` with `data_plane` or `sign_in` compares this checkout with
another one: both gateways run at once and take turns, and the least of six rounds counts.

- `data_plane`: a warm request (signed in, with a lease, sign-on header set), compared with bare nginx and with the
  nearest peer, Apache with mod_auth_gssapi, mod_session, mod_authnz_ldap and mod_proxy ([its file](apache.conf)), in a
  domain made for the benchmark; and nginx that forwards by itself and sends each request to the gateway first
  (forward-auth), where the work of both counts
- `sign_in`: a Kerberos sign-in from end to end, each from another address: a new session, a Session CAL taken
- `ntlm`: thirty NTLM sign-ins at once with a domain, by winbindd, and how late the event loop is during that time
- `memory`: the memory of an idle kept connection
- `cal`: CAL claims, compared with a function that does nothing on the same server
- `planner`: reading, merging and planning 100,000 and 1,000,000 rows
- `truth`: plans made from a year of records, compared with a truth that is known, over 20 seeds (ten minutes)
- `mixed_load`, by `make mixed-load MINUTES=15` only: every kind of load at once, and the memory in each second

"""


def write(file: Path = HERE / "results.json") -> None:
    """Writes the page and its picture of the goals."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    judged = [row for row in rows if row["goal"]]  # a goal of zero has no length to draw
    (HERE / "goals.svg").write_text(_picture(judged))
    machine = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    lines = [HEAD, f"Last run on {max(row['date'] for row in rows)}: {machine}, two cores.\n"]
    lines += ["![each result and its goal](goals.svg)\n", "## Results with a goal\n", *_table(judged)]
    if (HERE / "mixed-load.svg").exists():
        lines += ["\n![memory under mixed load](mixed-load.svg)"]
    lines += ["\n## Proxies compared\n", *_comparison(rows), "\n## Other results\n"]
    lines += _table([row for row in rows if not _of_a_proxy(row) and row not in judged])
    (HERE / "README.md").write_text("\n".join(lines) + "\n")


def _of_a_proxy(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Returns (scenario, proxy, measure) of a result that every proxy has, else None."""
    match row["name"].split(": "):
        case [scenario, proxy, measure] if measure in COLUMNS and " / " not in proxy:
            return scenario, proxy, measure
    return None


def _comparison(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a table with one line for each scenario and proxy."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if name := _of_a_proxy(row):
            found.setdefault(name[:2], {})[name[2]] = row["value"]
    lines = [
        "| scenario | proxy | CPU, µs | kernel, µs | a second | p50, ms | p99, ms | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    before = ""
    for (scenario, proxy), figures in found.items():
        cells = [_number(figures[measure]) if measure in figures else "" for measure in COLUMNS]
        lines.append(f"| {scenario if scenario != before else ''} | {proxy} | {' | '.join(cells)} |")
        before = scenario
    return lines


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| result | value | goal | holds |", "|---|---|---|---|"]
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        holds = {None: "", True: "yes", False: "**no**"}[row["holds"]]
        lines.append(f"| {row['name']} | {_number(row['value'])} {row['unit']} | {goal} | {holds} |")
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _picture(rows: Sequence[dict[str, Any]]) -> str:
    """Draws a bar for each result, in proportion to its goal, which is the vertical line."""
    height = ROW * len(rows) + 40
    most = max([row["value"] / row["goal"] for row in rows] + [1.0])
    scale = (WIDTH - LEFT - 90) / most
    goal = LEFT + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif"',
        ' font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, row in enumerate(rows):
        y = 24 + number * ROW
        width = max(row["value"], 0) / row["goal"] * scale
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(row["name"])}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="18" fill="{COLORS[row["holds"]]}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{row["value"]:.3g} {escape(row["unit"])}</text>')
    parts.append(f'<line x1="{goal:.1f}" x2="{goal:.1f}" y1="16" y2="{height - 12}" stroke="#000"/>')
    parts.append(f'<text x="{goal:.1f}" y="12" text-anchor="middle">goal</text></svg>')
    return "\n".join(parts)


def memory_line(lines: Mapping[str, Sequence[int]]) -> str:
    """Draws bytes in use, one value a second, on a scale from zero, so that growth is not exaggerated."""
    height, bottom, left = 300, 270, 60
    most = max(max(values) for values in lines.values()) * 1.15
    seconds = max(len(values) for values in lines.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif"',
        ' font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - 20)
        parts.append(f'<line x1="{left}" x2="{WIDTH - 70}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{share * most / 2**20:.0f} MB</text>')
        x = left + share * (WIDTH - 70 - left)
        parts.append(f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{share * seconds / 60:.3g} min</text>')
    for (name, values), color in zip(lines.items(), COLORS.values(), strict=True):
        points = [
            (left + second / seconds * (WIDTH - 70 - left), bottom - values[second] / most * (bottom - 20))
            for second in range(0, len(values), max(1, seconds // 300))
        ]
        path = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts.append(f'<text x="{WIDTH - 64}" y="{points[-1][1] + 4:.0f}" fill="{color}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
