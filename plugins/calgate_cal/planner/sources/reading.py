"""What all readers of files share: lines, columns and how times are read."""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from calgate_cal.planner.clock import Dates, LocalTimes, order_in
from calgate_cal.planner.history import SourceError

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 1 << 20


class Readable(Protocol):
    """A file, packed or not."""

    def read(self) -> bytes: ...


Progress = Callable[[int], None]
DocumentOf = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class How:
    """How files are read."""

    times: LocalTimes
    logged_idle: float  # seconds after which the server that wrote a log ended an idle session
    document_of: DocumentOf  # the document that a request (method, target) opens or uses, None if none
    identity: str = "cs-username"  # the field of a web server's log that names the user


def lines(path: Path, progress: Progress = lambda _: None) -> Iterator[str]:
    """Yields the lines of a file, unpacked and decoded; bytes that are not UTF-8 are taken as Windows-1252.

    Raises SourceError.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            begin = raw.read(2)
            raw.seek(0)
            packed = begin == _GZIP
            with gzip.open(raw) if packed else raw as stream:
                if (stream.peek(2)[:2] if packed else begin) in _UTF16:
                    yield from _utf16(stream)
                    return
                for line in stream:
                    number += 1
                    if not number % 1024:
                        progress(raw.tell())
                    yield _text(line)
    except (OSError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read after line {number}: {error}") from error


def _utf16(stream: Readable) -> Iterator[str]:
    text = stream.read().decode("utf-16")
    yield from (line.rstrip("\r\n") for line in text.splitlines(keepends=True))


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
    """Yields the cells of each row of a table, quoted or not."""
    separator = delimiter(header)
    for row in rows:
        if '"' in row:
            yield next(csv.reader([row], delimiter=separator), [])
        else:
            yield row.split(separator)


def columns(header: Sequence[str]) -> dict[str, int]:
    """Maps each column's name, in lower case, to its position; of two equal names the first counts."""
    found: dict[str, int] = {}
    for index, name in enumerate(header):
        found.setdefault(name.strip().strip('"').casefold(), index)
    return found


def order_of_dates(times: Iterable[str]) -> Dates | None:
    """Decides the order of day and month by the first value above 12; None if there is none."""
    return next((order for text in times if (order := order_in(text))), None)
