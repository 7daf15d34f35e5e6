"""What `calgate check` finds out, and what a plugin's own commands work with."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from calgate.plugin.services import Services
from calgate.plugin.settings import Section


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: fine, told by the way, unwise or broken, and what to do about it.

    "untried": it needs something that failed, so only that is told as a failure: one cause, one line.
    """

    level: Literal["ok", "note", "untried", "warn", "fail"]
    subject: str  # "keytab", "ldaps://dc1…", …
    what: str
    remedy: str = ""
    blocks: Literal["", "directory", "login"] = ""  # what nobody else need try, since this failed


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who holds a service principal name."""

    name: str
    key_version: int
    encryption_types: int  # msDS-SupportedEncryptionTypes; 0: the domain's default
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class Lockout:
    """After how many wrong passwords an account is locked (0: never), and for how many seconds they are remembered."""

    threshold: int
    window: float


@runtime_checkable
class DomainInfo(Protocol):
    """A directory that knows what its domain is set up for. Every method raises Unavailable."""

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        """Those who hold a name such as "HTTP/gateway.corp.example"; of HOST/ where nobody holds it itself."""

    async def clock(self) -> float:
        """The domain controller's Unix time."""

    async def lockout(self) -> Lockout: ...


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check has to work with."""

    services: Services
    hosts: Sequence[str]  # public host names
    registry: DomainInfo | None = None
    login: tuple[str, str] | None = None  # somebody to try a sign-in with, and the password
    blocked: Mapping[str, str] = field(default_factory=dict)  # Finding.blocks -> the subject that failed
    now: Callable[[], float] = time.time  # this machine's Unix time


class CommandContext(Protocol):
    """What a plugin's command line has to work with."""

    def read(self, file: Path) -> Section:
        """The plugin's own section of a settings file. Ends the command with exit 2 and every fault if it is faulty."""

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        """The section, with store and directories of the running gateway (or its embedded store, started for this)."""
