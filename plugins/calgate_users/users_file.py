"""The users file: its format, and a reader that reports every fault at once.

    domains = ["DEMO"]                      # the first is the domain of a bare name
    groups = ["BI Users"]                   # groups without members; the others need not be listed

    [[users]]
    name = "alice"
    display_name = "Alice Archer"           # optional
    domain = "DEMO"                         # optional
    groups = ["BI Users", "Sales"]
    nt_hash = "…"                           # 32 hexadecimal digits; `calgate users add` writes it
    disabled = false                        # optional

An NT hash is as good as the password, so only the file's owner may read it.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calgate.plugin import parse_group, parse_user

_TOP = {"domains": list, "groups": list, "users": list}
_USER = {"name": str, "display_name": str, "domain": str, "groups": list, "nt_hash": str, "disabled": bool}
_KINDS = {list: "a list", str: "a string", bool: "true or false"}


class UsersFileError(ValueError):
    """The faults of the file, one on each line."""


@dataclass(frozen=True, slots=True)
class User:
    """One entry."""

    domain: str
    name: str
    display_name: str
    written_groups: tuple[str, ...]  # as the file spells them
    groups: frozenset[str]  # the same in canonical spelling
    nt_hash: bytes = field(repr=False)  # 16 bytes
    disabled: bool = False

    @property
    def key(self) -> str:
        """The person's key: it changes with domain and name only."""
        return canonical(self.domain, self.name)


@dataclass(frozen=True, slots=True)
class UsersFile:
    """The content of a users file without faults."""

    domains: tuple[str, ...]
    groups: frozenset[str]  # canonical
    users: Mapping[str, User]  # by key

    def domain(self, name: str) -> str | None:
        """Returns the domain as the file spells it: the first for an empty name, None for an unknown domain."""
        if not name:
            return self.domains[0]
        return next((domain for domain in self.domains if domain.casefold() == name.casefold()), None)

    def find(self, domain: str, account: str) -> User | None:
        """Returns the user, given in any case, or by a UPN with an empty domain."""
        if not domain:
            name = parse_user(account)
            domain, account = name.domain, name.account
        return self.users.get(canonical(domain or self.domains[0], account))


def canonical(domain: str, name: str) -> str:
    """Returns one spelling for a user's or group's name in any case."""
    return f"{domain}\\{name}".casefold()


def group_key(name: str, default: str) -> str:
    """Returns a group's canonical name. A bare name is in the default domain."""
    group = parse_group(name)
    return canonical(group.domain or default, group.account)


def remedy(error: OSError) -> str:
    """Returns what to do about a file that cannot be read; only a missing file may be created."""
    if isinstance(error, FileNotFoundError):
        return "correct users.file, or let `calgate users add` create the file"
    if isinstance(error, PermissionError):
        return "make the gateway's user its owner: chown calgate, chmod 600; the folder must be readable, too"
    return "make users.file a file that the gateway's user can read"


def read(file: Path) -> UsersFile:
    """Returns the file's content. Raises UsersFileError, or OSError if it cannot be read."""
    with file.open("rb") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if mode & 0o077:
            raise UsersFileError(
                f"{file}: mode {mode:04o} gives others access, and NT hashes are as good as passwords; chmod 600 {file}"
            )
        text = stream.read()
    try:
        return parse(text.decode("utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise UsersFileError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def parse(text: str, file: str) -> UsersFile:
    """Parses the text. Raises UsersFileError with a line for each fault, which names file and entry."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsersFileError(f"{file}: not TOML: {error}") from error
    faults = [f"{file}: {fault}" for fault in _faults(table)]
    if faults:
        raise UsersFileError("\n".join(faults))
    domains = tuple(table["domains"])
    users = [_user(entry, domains[0]) for entry in table.get("users", [])]
    declared = {group_key(name, domains[0]) for name in table.get("groups", [])}
    groups = declared.union(*(user.groups for user in users))
    return UsersFile(domains, frozenset(groups), {user.key: user for user in users})


def _user(entry: Mapping[str, object], default: str) -> User:
    name, domain = str(entry["name"]), str(entry.get("domain", default))
    groups = entry.get("groups", [])
    assert isinstance(groups, list)
    return User(
        domain=domain,
        name=name,
        display_name=str(entry.get("display_name", name)),
        written_groups=tuple(groups),
        groups=frozenset(group_key(group, default) for group in groups),
        nt_hash=bytes.fromhex(str(entry["nt_hash"])),
        disabled=bool(entry.get("disabled", False)),
    )


# ---------------------------------------------------------------- faults


def _faults(table: Mapping[str, object]) -> Iterator[str]:
    yield from _shape(table, _TOP, "")
    domains = table.get("domains")
    if not isinstance(domains, list) or not domains or not all(_is_plain(domain) for domain in domains):
        yield 'domains: missing or malformed; give the names, the default first: domains = ["DEMO"]'
        domains = []
    yield from _group_faults(table.get("groups"), "")
    seen: set[str] = set()
    users = table.get("users")
    for number, entry in enumerate(users if isinstance(users, list) else [], 1):
        yield from _user_faults(entry, number, domains, seen)


def _user_faults(entry: object, number: int, domains: list[str], seen: set[str]) -> Iterator[str]:
    where = f"users entry {number}: "
    if not isinstance(entry, dict):
        yield f"{where}not a table; write [[users]] above each user"
        return
    name = entry.get("name")
    if not _is_plain(name):
        yield f"{where}name: must be a name without \\ / @ and control characters, not {name!r}"
    else:
        where = f"users entry {number} ({name}): "
    yield from _shape(entry, _USER, where)
    yield from _group_faults(entry.get("groups"), where)
    if not _is_nt_hash(entry.get("nt_hash")):
        yield f"{where}nt_hash: must be 32 hexadecimal digits; `calgate users add` writes them from a password"
    domain = entry.get("domain", domains[0] if domains else "")
    if domains and domain not in domains:
        yield f"{where}domain: {domain!r} is not in domains ({', '.join(domains)})"
    key = canonical(str(domain), str(name))
    if key in seen:
        yield f"{where}the user is listed twice; remove one entry"
    seen.add(key)


def _shape(table: Mapping[str, object], keys: Mapping[str, type], where: str) -> Iterator[str]:
    for key, value in table.items():
        if key not in keys:
            yield f"{where}{key}: unknown key; known are {', '.join(keys)}"
        elif not isinstance(value, keys[key]):
            yield f"{where}{key}: must be {_KINDS[keys[key]]}"


def _group_faults(groups: object, where: str) -> Iterator[str]:
    for group in groups if isinstance(groups, list) else []:
        if not isinstance(group, str) or not all(map(_is_plain, group.split("\\"))) or group.count("\\") > 1:
            yield f"{where}groups: {group!r} is not a group's name"


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.strip() == name != "" and name.isprintable() and not set(name) & set("\\/@")


def _is_nt_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 32 and all(c in "0123456789abcdefABCDEF" for c in value)
