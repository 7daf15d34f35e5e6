"""The common parts of all readers of files: lines, columns and times."""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import AnyStr

from calgate_cal.planner.clock import Dates, LocalTimes, is_unambiguous, order_in
from calgate_cal.planner.history import SourceError

_GZIP = b"\x1f\x8b"
_LONGEST_LINE = 1 << 20  # a file of another kind can be one line of any length

Progress = Callable[[int], None]
DocumentOf = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class How:
    """How files are read."""

    times: LocalTimes
    logged_idle: float  # seconds after which the server that wrote a log ended an idle session
    document_of: DocumentOf  # the document that a request (method, target) opens or uses, None if none
    identity: str = "cs-username"  # the field of a web server's log that names the user


def lines(
    path: Path, progress: Progress = lambda _: None, torn: Callable[[int, str], None] = lambda line, why: None
) -> Iterator[str]:
    """Yields the lines of a file, unpacked and decoded; bytes that are not UTF-8 are taken as Windows-1252.

    Of a packed file that is torn or damaged it yields the lines before; `torn` gets the last one's number and the
    reason. Raises SourceError if there is none.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            with gzip.open(raw) if packed else raw as stream:
                for line in _lines(stream):
                    number += 1
                    if not number % 1024:
                        progress(raw.tell())
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        if number and isinstance(error, (EOFError, gzip.BadGzipFile, zlib.error)):
            torn(number, f"the packed file is torn or damaged after this line: {error}")
            return
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SourceError(f"{path}: cannot be read after line {number}: {reason}") from error


def _lines(stream: io.BufferedReader | gzip.GzipFile) -> Iterator[str]:
    encoding = _wide(stream.peek(2)[:2])
    if encoding is None:
        yield from map(_text, _bounded(stream.readline))
        return
    # "replace": half a character at the end is a torn line
    with io.TextIOWrapper(stream, encoding, "replace", newline="\n") as text:
        yield from (line.rstrip("\r\n") for line in _bounded(text.readline))


def _wide(begin: bytes) -> str | None:
    """Returns the UTF-16 that a file begins with, by its mark or by the zero byte of its first letter."""
    if begin in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if begin[1:] == b"\0" != begin[:1]:
        return "utf-16-le"
    return "utf-16-be" if begin[:1] == b"\0" != begin[1:] else None


def _bounded(readline: Callable[[int], AnyStr]) -> Iterator[AnyStr]:
    """Yields lines; of one that is too long only the beginning."""
    while line := readline(_LONGEST_LINE):
        rest = line
        while len(rest) == _LONGEST_LINE:
            rest = readline(_LONGEST_LINE)
        yield line


def _text(line: bytes) -> str:
    line = line.rstrip(b"\r\n")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def delimiter(header: str) -> str:
    """Guesses what separates the columns of a table."""
    return max("\t;,", key=header.count)


def cells(header: str, rows: Iterable[str]) -> Iterator[list[str]]:
    """Yields the cells of each row of a table, quoted or not; a quote that is never closed is a character."""
    separator = delimiter(header)
    width = header.count(separator) + 1
    for row in rows:
        fields = row.split(separator)
        if '"' in row:
            with contextlib.suppress(csv.Error):  # a carriage return within the line, or a cell of many kilobytes
                quoted = next(csv.reader([row], delimiter=separator), [])
                fields = quoted if len(quoted) == width else fields
        yield fields


def columns(header: Sequence[str]) -> dict[str, int]:
    """Maps each column's name, in lower case, to its position; of two equal names the first counts."""
    found: dict[str, int] = {}
    for index, name in enumerate(header):
        found.setdefault(name.strip().strip('"').casefold(), index)
    return found


def order_of_dates(rows: Iterable[str], column: str) -> Dates | None:
    """Decides the order of day and month by the first value above 12 in a column; None if there is none.

    A file whose dates have another form is not read to its end for that.
    """
    rows = iter(rows)
    header = next(rows, "")
    at = columns(header.split(delimiter(header))).get(column, 0)
    for row in cells(header, rows):
        if len(row) > at and (order := order_in(row[at])):
            return order
        if len(row) > at and is_unambiguous(row[at]):
            return None
    return None
