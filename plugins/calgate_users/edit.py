"""Changes a users file: keeps comments, loses no concurrent change, and replaces the file atomically."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import tomlkit
from tomlkit import TOMLDocument

from calgate_users import users_file
from calgate_users.users_file import UsersFile

T = TypeVar("T")


class ChangeError(ValueError):
    """The change cannot be made; the text says why."""


def add(
    file: Path, name: str, *, domain: str | None, display_name: str | None, groups: tuple[str, ...], nt_hash: bytes
) -> str:
    """Adds a user, or replaces the user of that name. Returns "added" or "replaced". Creates a missing file."""

    def change(document: TOMLDocument, before: UsersFile | None) -> str:
        if before is None:
            if not domain:
                raise ChangeError(f"{file}: a new file needs its domain; give --domain DEMO")
            document["domains"] = [domain]
            document["groups"] = tomlkit.array()
        key = users_file.canonical(domain or (before.domains[0] if before else ""), name)
        entry = tomlkit.table()
        entry["name"] = name
        if display_name:
            entry["display_name"] = display_name
        if domain and before is not None and domain.casefold() != before.domains[0].casefold():
            entry["domain"] = before.domain(domain) or domain
        entry["groups"] = list(groups)
        entry["nt_hash"] = nt_hash.hex()
        replaced = _drop(document, before, key)
        document.setdefault("users", tomlkit.aot()).append(entry)
        return "replaced" if replaced else "added"

    return _edit(file, change)


def remove(file: Path, name: str, *, domain: str | None) -> None:
    """Removes a user. Groups that lose their last member stay listed, so that rules can still name them."""

    def change(document: TOMLDocument, before: UsersFile | None) -> None:
        if before is None or not _drop(document, before, users_file.canonical(domain or before.domains[0], name)):
            raise ChangeError(f"{file}: no user {name}; `calgate users list` lists all")
        after = users_file.parse(tomlkit.dumps(document), str(file))
        orphans = sorted(before.groups - after.groups)
        if orphans:
            document["groups"] = [*document.get("groups", []), *orphans]

    _edit(file, change)


def _drop(document: TOMLDocument, before: UsersFile | None, key: str) -> bool:
    """Deletes the user's entry. Returns whether there was one."""
    entries = document.get("users", [])
    for index, entry in enumerate(entries):
        domain = entry.get("domain", before.domains[0] if before else "")
        if users_file.canonical(str(domain), str(entry["name"])) == key:
            del entries[index]
            return True
    return False


def _edit(file: Path, change: Callable[[TOMLDocument, UsersFile | None], T]) -> T:
    """Applies the change to the file. Raises ChangeError, UsersFileError or OSError; then the file is unchanged."""
    file = Path(os.path.realpath(file))  # a link's target is replaced, not the link
    with _locked(file.parent):
        before = users_file.read(file) if file.exists() else None
        document = tomlkit.parse(file.read_text(encoding="utf-8")) if before is not None else tomlkit.document()
        result = change(document, before)
        text = tomlkit.dumps(document)
        users_file.parse(text, str(file))
        _replace(file, text)
    return result


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            if file.exists():
                owner = file.stat()
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
