"""Finds the line of a key in a TOML file, which the standard parser does not report."""

import re
from collections.abc import Sequence

_HEADER = re.compile(r"\s*\[(\[)?([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")

Path = tuple[str | int, ...]


class LineNumbers:
    """Finds the line of a key path, or of the nearest key around it (keys of an inline table have its line)."""

    def __init__(self, text: str) -> None:
        self._at: dict[Path, int] = {}
        tables: dict[Path, int] = {}
        here: Path = ()
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                here = self._enter(_parts(header[2]), bool(header[1]), tables)
                self._at.setdefault(here, number)
            elif key := _KEY.match(line):
                self._at.setdefault((*here, *_parts(key[1])), number)

    def _enter(self, name: Path, is_array: bool, tables: dict[Path, int]) -> Path:
        """Returns the path of a table; inside an array of tables it contains the index of the current one."""
        here: Path = ()
        for index, part in enumerate(name):
            here = (*here, part)
            if is_array and index == len(name) - 1:
                tables[here] = tables.get(here, -1) + 1
            if here in tables:
                here = (*here, tables[here])
        return here

    def of(self, path: Sequence[str | int]) -> int:
        """Returns the line, from 1; that of the nearest enclosing key or table if the key has none; else 1."""
        key = tuple(path)
        while key and key not in self._at:
            key = key[:-1]
        return self._at.get(key, 1)


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
