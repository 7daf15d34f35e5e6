"""The findings of `calgate check`, and what checks and commands of plugins work with."""

import grp
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from calgate.plugin.services import Services
from calgate.plugin.settings import Section
from calgate.plugin.sign_on import DocumentServer


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check and what to do about it.

    "untried" stands for a check that needs something that failed: only the cause is reported as a failure.
    """

    level: Literal["ok", "note", "untried", "warn", "fail"]
    subject: str  # "keytab", "ldaps://dc1…", …
    what: str
    remedy: str = ""
    blocks: Literal["", "directory", "login"] = (
        ""  # the subject of later checks that are not tried because this one failed
    )


def closing_command(file: Path, state_dir: Path | None = None) -> str:
    """Returns the command that closes a file to other users, but not to the gateway.

    The state folder belongs to the gateway's user; without it, that is this process's user.
    """
    found = file.stat()
    service = (state_dir if state_dir is not None and state_dir.exists() else Path("/proc/self")).stat()
    if service.st_uid in (0, found.st_uid) or (service.st_gid == found.st_gid and found.st_mode & stat.S_IRGRP):
        return f"chmod o= {file}"
    try:
        group = grp.getgrgid(service.st_gid).gr_name
    except KeyError:
        group = str(service.st_gid)
    return f"chgrp {group} {file} && chmod g+r,o= {file}"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account that holds a service principal name."""

    name: str
    key_version: int
    encryption_types: int  # msDS-SupportedEncryptionTypes; 0: the domain's default
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class Lockout:
    """The domain's lockout policy: wrong passwords until an account is locked (0: never), and the window in seconds."""

    threshold: int
    window: float


@runtime_checkable
class DomainInfo(Protocol):
    """A directory that can describe its domain. Every method raises Unavailable."""

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        """Returns the accounts that hold a name such as "HTTP/gateway.corp.example", or else the HOST/ name."""

    async def clock(self) -> float:
        """Returns the domain controller's Unix time."""

    async def lockout(self) -> Lockout:
        """Returns the domain's lockout policy."""


@dataclass(frozen=True, slots=True)
class DelegationRights:
    """The rights of an account at a service in the name of users, as the domain grants them (MS-SFU)."""

    is_listed: bool  # msDS-AllowedToDelegateTo of the account names the service
    any_protocol: bool  # and for users who did not show the account a ticket: TRUSTED_TO_AUTH_FOR_DELEGATION
    by_service: bool  # msDS-AllowedToActOnBehalfOfOtherIdentity of the service's account allows the account


@runtime_checkable
class DelegationInfo(Protocol):
    """A directory that can tell who may act for whom. Every method raises Unavailable."""

    async def delegation(self, account: str, service: str) -> DelegationRights:
        """Returns what an account, given by its logon name, may do at a service such as "HTTP/qvws1.corp.example"."""

    async def is_sensitive(self, account: str) -> bool:
        """Returns whether nobody may act for this user ("sensitive and cannot be delegated")."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """The context of a check."""

    services: Services
    hosts: Sequence[str]  # public host names
    registry: DomainInfo | None = None
    login: tuple[str, str] | None = None  # a user to try a sign-in with, and their password
    blocked: Mapping[str, str] = field(default_factory=dict)  # Finding.blocks -> the subject that failed
    now: Callable[[], float] = time.time  # this machine's Unix time
    has_tls: bool = True  # whether the gateway's own listener has a certificate
    servers: Sequence[DocumentServer] = ()  # those of the route, in the check of a sign-on


class CommandContext(Protocol):
    """The context of a plugin's command."""

    def read(self, file: Path) -> Section:
        """Returns the plugin's section of a settings file; ends the command with exit 2 if the file has faults."""

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        """Yields the section, and the store and directories of the running gateway.

        If no gateway runs, its private store is started for as long as the command lasts.
        """

    def document_of(self, method: str, target: str) -> str | None:
        """Returns the document that a request in a web server's log opened or used; None: none."""
