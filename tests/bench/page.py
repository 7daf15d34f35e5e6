"""The figures as a page for people: tests/bench/README.md with a picture, made from results.json after each run."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
WIDTH, ROW, LEFT = 860, 26, 330
COLOURS = {True: "#1a7f37", False: "#bc4c00"}

HEAD = """# Benchmarks

`make bench` runs all of them and writes `results.json` and this page; `make bench NAME=data_plane` runs one. Each
program starts all its sides itself and asks them in turn in one run, so that a ratio holds where a machine is noisy;
the absolute figures are this machine's on that day. CPU is user and system time of all processes of a side, for each
request.

- `data_plane`: a warm request (signed in, leased, sign-on header set) beside bare nginx and beside the nearest peer,
  Apache with mod_auth_gssapi, mod_session, mod_authnz_ldap and mod_proxy ([its file](apache.conf)), on a domain of its
  own
- `sign_in`: a Kerberos sign-in, the whole path, each from another address: a session made, a Session CAL taken
- `ntlm`: thirty NTLM sign-ins at once against a domain, by winbindd, and how late the event loop is meanwhile
- `memory`: what an idle kept connection costs
- `cal`: CAL claims beside a function that does nothing on the same server

"""


def write(file: Path = HERE / "results.json") -> None:
    """Writes the page and its picture."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    judged = [row for row in rows if row["goal"] is not None and row["unit"] != "requests"]
    (HERE / "goals.svg").write_text(_picture(judged))
    machine = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    lines = [HEAD, f"Last run on {max(row['date'] for row in rows)}: {machine}, two cores.\n"]
    lines += ["![each figure against its goal](goals.svg)\n", "## Figures with a goal\n", *_table(judged)]
    lines += ["\n## All figures\n", *_table(rows)]
    (HERE / "README.md").write_text("\n".join(lines) + "\n")


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| figure | value | goal | holds |", "|---|---|---|---|"]
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        holds = {None: "", True: "yes", False: "**no**"}[row["holds"]]
        lines.append(f"| {row['name']} | {row['value']:.4g} {row['unit']} | {goal} | {holds} |")
    return lines


def _picture(rows: Sequence[dict[str, Any]]) -> str:
    """A bar for each figure, as long as it is in relation to its goal: the line is the goal."""
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
        width = row["value"] / row["goal"] * scale
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(row["name"])}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="18" fill="{COLOURS[row["holds"]]}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{row["value"]:.3g} {escape(row["unit"])}</text>')
    parts.append(f'<line x1="{goal:.1f}" x2="{goal:.1f}" y1="16" y2="{height - 12}" stroke="#000"/>')
    parts.append(f'<text x="{goal:.1f}" y="12" text-anchor="middle">goal</text></svg>')
    return "\n".join(parts)
