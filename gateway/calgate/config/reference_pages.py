"""The reference of all settings as pages: Markdown for a forge, roff for `man calgate.toml`, and the JSON Schema.

    python -m calgate.config.reference_pages FOLDER

writes them; `make reference` calls it for `deploy/`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from calgate.config.reference import Table, schema, tables

_INTRODUCTION = (
    "Every key of `calgate.toml`, with its default. A duration is written `30s`, `15m`, `10h` or `7d`; unknown keys "
    "are refused. Made from the code by `make reference`."
)


def pages() -> dict[str, str]:
    """Every page, by its file's name."""
    found = tables()
    return {
        "settings.md": markdown(found),
        "calgate.toml.5": man_page(found),
        "calgate.schema.json": json.dumps(schema(), ensure_ascii=False, indent=1) + "\n",
    }


def markdown(found: Sequence[Table]) -> str:
    """Returns the settings as a Markdown page."""
    return "\n".join(["# Settings", "", _INTRODUCTION, *(line for table in found for line in _section(table))]) + "\n"


def _section(table: Table) -> Iterator[str]:
    yield from ("", f"## `{table.heading}`" if table.path else f"## {table.heading}", "", table.text, "")
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for entry in table.entries:
        default = f"`{entry.default}`" if entry.default and entry.default != "required" else entry.default or "not set"
        cells = (f"`{entry.key}`", entry.kind, default, entry.text)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def man_page(found: Sequence[Table]) -> str:
    """Returns the settings as a manual page."""
    lines = [f'.TH CALGATE.TOML 5 "" "calgate {version("calgate")}" "File formats"']
    lines += [".SH NAME", r"calgate.toml \- settings of the calgate gateway", ".SH DESCRIPTION"]
    lines += [_roff("Durations are written 30s, 15m, 10h or 7d. Unknown keys are refused."), ".SH SETTINGS"]
    for table in found:
        lines += [f".SS {_roff(table.heading)}", _roff(table.text)]
        for entry in table.entries:
            default = entry.default or "not set"
            lines += [".TP", f".B {_roff(entry.key)}", _roff(f"({entry.kind}; default: {default}) {entry.text}")]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR calgate (1)"]) + "\n"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "").replace("…", "...")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(folder: Path) -> None:
    """Writes every page into the folder."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
