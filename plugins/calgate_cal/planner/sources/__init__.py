"""Reads histories from files; the kind of each file is recognized by its first line, never by its name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Protocol

from calgate_cal.planner import collector
from calgate_cal.planner.clock import AmbiguousDateError, Dates, LocalTimes
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.sources import sessions, table, w3c
from calgate_cal.planner.sources.reading import DocumentOf, How, Progress, lines

__all__ = ["SourceError", "read_files"]


class Format(Protocol):
    """One kind of file."""

    NAME: str

    def matches(self, first_line: str) -> bool: ...

    def order_of_dates(self, rows: Iterable[str]) -> Dates | None: ...

    def read(self, name: str, rows: Iterator[str], history: History, how: How) -> None: ...


_FORMATS: tuple[Format, ...] = (sessions, table, w3c)


@collector.paused()
def read_files(
    paths: Sequence[Path],
    zone: tzinfo | None,
    *,
    dates: Dates | None = None,
    logged_idle: float = 1800.0,
    document_of: DocumentOf = lambda method, target: None,
    identity: str = "cs-username",
    progress: Progress = lambda _: None,
) -> History:
    """Reads files and folders into one history. Raises SourceError, which names the file."""
    history = History()
    files = _recognized(paths, history)
    orders = _orders(files, dates)
    times = {order: LocalTimes(zone, order) for order in orders.values()}
    done = 0
    for path, kind in files:
        how = How(times[orders[path]], logged_idle, document_of, identity)
        try:
            kind.read(path.name, lines(path, _after(done, progress), partial(history.fault, path.name)), history, how)
        except AmbiguousDateError as fault:
            raise SourceError(f"{path}, {fault} has two readings; say --dates dmy or --dates mdy") from fault
        done += path.stat().st_size
        progress(done)
    history.add_open_visits()
    return history


def _orders(files: Sequence[tuple[Path, Format]], dates: Dates | None) -> Mapping[Path, Dates | None]:
    """Decides the order of day and month of each file: by a date in it, else by the other files if they agree."""
    if dates is not None:
        return dict.fromkeys((path for path, _ in files), dates)
    own = {path: kind.order_of_dates(lines(path)) for path, kind in files}
    decided = {order for order in own.values() if order is not None}
    others = decided.pop() if len(decided) == 1 else None
    return {path: order or others for path, order in own.items()}


def _after(done: int, progress: Progress) -> Progress:
    return lambda at: progress(done + at)


def size(paths: Sequence[Path]) -> int:
    """Returns how many bytes there are to read."""
    return sum(path.stat().st_size for path in _files(paths))


def _files(paths: Sequence[Path]) -> list[Path]:
    """Every file, those of folders in the order of their names. Raises SourceError."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            path.stat()
            each = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        found |= dict.fromkeys(each)
    return list(found)


def _recognized(paths: Sequence[Path], history: History) -> list[tuple[Path, Format]]:
    files: list[tuple[Path, Format]] = []
    for path in _files(paths):
        first = next(lines(path), "")
        kind = next((kind for kind in _FORMATS if kind.matches(first)), None)
        if kind is not None:
            files.append((path, kind))
        elif path in paths:
            raise SourceError(
                f"{path}: not a session log, a W3C log or a table with the columns start, end and user (line 1)"
            )
        else:
            history.counts["other files"] += 1
    if not files:
        raise SourceError(f"{', '.join(map(str, paths))}: no session log, W3C log or table of visits")
    kinds = {kind.NAME: path for path, kind in reversed(files)}
    if len(kinds) > 1:
        named = ", ".join(f"{path} ({name})" for name, path in sorted(kinds.items()))
        raise SourceError(f"the files are of different kinds, such as {named}; plan each kind by itself")
    return files
