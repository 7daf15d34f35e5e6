"""The demonstration's users, its files, and what to try."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from shlex import quote

DOMAIN = "DEMO"
PASSWORD = "demo"  # noqa: S105 - the password of every user of the demonstration
NT_HASH = "527c9c819b286efb8ec4ebb5b5ae71cf"  # of PASSWORD


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the domain DEMO."""

    account: str
    display_name: str
    groups: tuple[str, ...]
    part: str  # what the user demonstrates
    owns_cal: bool = False  # a Named CAL is assigned to the user at the start
    needs_session: bool = False  # a Session CAL is the only one that the user can have


PEOPLE = (
    Person("alice", "Alice Archer", ("BI Users",), "owns a Named CAL, so she always gets in", owns_cal=True),
    Person("bob", "Bob Baker", ("BI Users",), "takes a Session CAL", needs_session=True),
    Person("carol", "Carol Cooper", ("BI Users",), "takes the other Session CAL", needs_session=True),
    Person(
        "dave",
        "Dave Dyer",
        ("BI Users",),
        "is in the group, but no CAL is left: waits in the queue",
        needs_session=True,
    ),
    Person("mallory", "Mallory Mason", ("Contractors",), "is not in the group, so no CAL is looked for"),
)

_PART_AMONG_MANY = "needs a Session CAL, and may have to wait for one"

STAFF = tuple(
    Person(name.casefold(), f"{name} of the staff", ("BI Users",), "is one of many on a busy morning")
    for name in (
        *("Anton", "Beatrice", "Cedric", "Dora", "Emil", "Frida", "Gustav"),
        *("Hilda", "Ivan", "Julia", "Konrad", "Lena", "Max", "Nora"),
    )
)

ADMIN = Person("admin", "Ada Adler", ("CAL Admins",), "sees the console")

_SESSION = 'session = { in_license = 2, minimum = "2m", idle_timeout = "5m" }'
_BUSY_SESSION = 'session = { in_license = 5, minimum = "10s", idle_timeout = "20s" }'
_DOCUMENT = "/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@demo"


def prepare(folder: Path, bind: str, upstream: str, console: str, *, is_busy: bool = False) -> Path:
    """Writes the users file and the settings file into the folder, and returns the path of the latter.

    `bind` and `console` are the addresses of the documents and of the console. `is_busy`: for many people,
    whose CALs come back within seconds.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    users = folder / "users.toml"
    _write(users, _users(STAFF if is_busy else ()))
    settings = folder / "calgate.toml"
    template = files("calgate.demo").joinpath("calgate.toml").read_text(encoding="utf-8")
    values = {
        "BIND": bind,
        "STATE": str(folder / "state"),
        "USERS": str(users),
        "UPSTREAM": upstream,
        "CONSOLE": console,
    }
    if is_busy:
        assert _SESSION in template
        template = template.replace(_SESSION, _BUSY_SESSION)
    for name, value in values.items():
        template = template.replace(f'"@{name}@"', _toml_string(value))
    _write(settings, template)
    return settings


def things_to_try(url: str, settings: Path, console: str, *, is_busy: bool = False) -> Sequence[str]:
    """Returns the lines that a terminal shows about what to do next. `url` has no slash at its end."""
    busy = (
        f"{len(STAFF)} people are at work: they open documents, wait for a license, and leave. In a minute the",
        "console has much to show.",
        "",
    )
    return (
        *(busy if is_busy else ()),
        f"Open {url}/ in a browser and sign in as one of these; the password of each is {PASSWORD}:",
        "",
        *(f"  DEMO\\{person.account:<9} {_part(person, is_busy)}" for person in PEOPLE),
        "",
        "Or in a terminal, in this order:",
        "",
        f"  {_curl('alice', url, '/')}",
        *(f"  {_curl(person.account, url, _DOCUMENT)}" for person in PEOPLE),
        "",
        f"To see the administrators' console, open this and sign in as DEMO\\{ADMIN.account}, with the same password:",
        "",
        f"  {console}",
        "",
        "To see who holds which CAL:",
        "",
        f"  {_program()} cals list -c {quote(str(settings))}",
    )


def _part(person: Person, is_busy: bool) -> str:
    return _PART_AMONG_MANY if is_busy and person.needs_session else person.part


def _program() -> str:
    """Returns the command that runs this calgate, which might not be on the PATH."""
    ours = Path(sys.executable).with_name("calgate")
    if shutil.which("calgate") == str(ours):
        return "calgate"
    return quote(str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours))


def _curl(account: str, url: str, path: str) -> str:
    return f"curl -s --ntlm -u {account}:{PASSWORD} {quote(url + path)}"


def _users(others: Sequence[Person]) -> str:
    lines = ["# `calgate demo` writes this file at each start.", 'domains = ["DEMO"]', ""]
    for person in (*PEOPLE, ADMIN, *others):
        lines += [
            "[[users]]",
            f'name = "{person.account}"',
            f'display_name = "{person.display_name}"',
            f"groups = [{', '.join(map(_toml_string, person.groups))}]",
            f'nt_hash = "{NT_HASH}"',
            "",
        ]
    return "\n".join(lines)


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(file: Path, text: str) -> None:
    """Creates the file with mode 0600: a users file that others can read is refused."""
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
