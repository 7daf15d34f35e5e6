"""The plugin's section of the settings file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from calgate.plugin import Duration, Secret, Section


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One domain controller. Without `tls_first` the connection begins in the clear; StartTLS precedes the bind."""

    host: str
    port: int
    tls_first: bool

    def __str__(self) -> str:
        return f"{'ldaps' if self.tls_first else 'ldap'}://{self.host}:{self.port}"


def _address(value: object) -> object:
    if isinstance(value, ServerAddress):
        return value
    parts = urlsplit(value) if isinstance(value, str) else None
    try:
        if parts is None or parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
            raise ValueError("no scheme or host")
        if parts.path not in ("", "/") or parts.query or parts.username is not None:
            raise ValueError("more than scheme, host and port")
        port = parts.port
    except ValueError as error:
        raise ValueError(
            f"a server is written like ldaps://dc1.corp.example, or ldap://dc1.corp.example for StartTLS, not {value!r}"
        ) from error
    tls_first = parts.scheme == "ldaps"
    return ServerAddress(parts.hostname, port or (636 if tls_first else 389), tls_first)


class Bind(Section):
    """`ldap.bind`: the account that reads the directory."""

    user: str = Field(min_length=1)
    """The account: name@domain, DOMAIN\\name, or its DN. It needs read access to users and groups, nothing else."""
    password: Secret
    """Its password: a string, or better { file = "..." } or { env = "..." }; re-read for every new connection."""


_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")  # RFC 4512, 1.4


def _attribute(name: str) -> str:
    if not _ATTRIBUTE.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an LDAP attribute, such as mail")
    return name


Servers = Annotated[
    tuple[Annotated[ServerAddress, BeforeValidator(_address, json_schema_input_type=str)], ...], Field(min_length=1)
]


class OtherDomain(Section):
    """One of `[[ldap.domains]]`: another domain of the forest, or a trusted one."""

    servers: Servers
    """Its domain controllers, in order of preference, as in `[ldap]`."""
    base: str = Field(min_length=1)
    """Its DN, such as DC=partner,DC=example."""
    ca: Path | None = None
    """The CA of its servers' certificates (PEM); by default that of `[ldap]`."""
    bind: Bind | None = None
    """The account that reads it; by default that of `[ldap]`."""


class Config(Section):
    """`[ldap]`: users, groups and account states from Active Directory."""

    servers: Servers
    """Domain controllers in order of preference: ldaps://dc1.corp.example, or ldap://... with StartTLS."""
    ca: Path | None = None
    """The CA of the servers' certificates (PEM); by default the system's CAs."""
    bind: Bind
    """The account that reads the directory."""
    base: str = Field(min_length=1)
    """The domain's DN, such as DC=corp,DC=example."""
    cache: Duration = 300.0
    """Time for which a user's groups and state are reused; a change in the domain takes effect within it."""
    grace: Duration = 0.0
    """Additional time for which they are reused while no domain controller responds."""
    attributes: tuple[Annotated[str, AfterValidator(_attribute)], ...] = ()
    """Attributes of users that sign-on headers may name, such as "mail"; the first value of each is read."""
    domains: tuple[OtherDomain, ...] = ()
    """Other domains whose users sign in here."""

    def each_domain(self) -> Sequence["Config"]:
        """Returns the settings of each domain on its own, this one first."""
        return [
            self.model_copy(update={"domains": ()}),
            *(
                self.model_copy(
                    update={
                        "servers": other.servers,
                        "base": other.base,
                        "ca": other.ca or self.ca,
                        "bind": other.bind or self.bind,
                        "domains": (),
                    }
                )
                for other in self.domains
            ),
        ]
