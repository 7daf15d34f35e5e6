"""What administrators change apart from licenses: kept in the store, shown by `calgate changes` and in the console."""

import getpass
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import click

from calgate.plugin.services import Store
from calgate.plugin.values import as_text, milliseconds

_MOST = 100_000
_PAGE = 1000
_LONGEST = 500  # characters of each part

reason_option = click.option(
    "--reason", default="", help="Why, in your words: it is in the record of what this changes."
)
"""Decorates a command that changes something with --reason."""


def actor() -> str:
    """Returns the operating system's user and machine, as root@gateway1; under sudo, the user who ran it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = "unknown"
    if os.geteuid() == 0:  # only root's environment can be believed
        user = os.environ.get("SUDO_USER", user)
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an administrator changed."""

    at: float  # Unix time
    what: str  # "session-ended", "server-drained", "server-restored", "block-lifted", "token-made" or "token-revoked"
    subject: str
    by: str  # as `actor` or `Visitor.actor` returns it
    reason: str = ""


class ChangeLog:
    """The record of changes, kept like those of licenses (`store.audit_keep`). Every method raises Unavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = f"{store.prefix}:changes"

    async def record(self, what: str, subject: str, by: str, reason: str) -> None:
        """Records a change that was made just now."""
        facts = {"what": what, "subject": subject, "by": by, "reason": reason}
        words = [word for name, text in facts.items() for word in (name, " ".join(text.split())[:_LONGEST])]
        await self._store.execute("XADD", self._key, "MAXLEN", "~", _MOST, "*", *words)
        oldest = max(0, milliseconds(time.time() - self._store.audit_keep))
        await self._store.execute("XTRIM", self._key, "MINID", "~", oldest)

    async def latest(self) -> AsyncIterator[Change]:
        """Yields the changes, the newest first."""
        last = "+"
        while True:
            entries = await self._store.execute("XREVRANGE", self._key, last, "-", "COUNT", _PAGE)
            for id_, fields in entries:
                facts = {as_text(name): as_text(value) for name, value in fields.items()}
                at = int(as_text(id_).partition("-")[0]) / 1000
                yield Change(at, facts["what"], facts["subject"], facts["by"], facts["reason"])
            if len(entries) < _PAGE:
                return
            last = f"({as_text(entries[-1][0])}"
