"""The plugin's section of the settings file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from calgate.plugin import Duration, Secret, Section


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One domain controller. Without `tls_first` a connection begins plain, and StartTLS secures it before the bind."""

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
    """`ldap.bind`: the account that asks; it needs no more than to read."""

    user: str = Field(min_length=1)
    password: Secret


Servers = Annotated[
    tuple[Annotated[ServerAddress, BeforeValidator(_address, json_schema_input_type=str)], ...], Field(min_length=1)
]


class OtherDomain(Section):
    """One of `[[ldap.domains]]`: of the same forest, or trusted. What is left out is as in `[ldap]`."""

    servers: Servers
    base: str = Field(min_length=1)
    ca: Path | None = None
    bind: Bind | None = None


class Config(Section):
    """`[ldap]`."""

    servers: Servers
    ca: Path | None = None  # left out: the system's certificate authorities
    bind: Bind
    base: str = Field(min_length=1)  # the domain's DN
    cache: Duration = 300.0  # how long an answer serves
    grace: Duration = 0.0  # how much longer while no server answers
    domains: tuple[OtherDomain, ...] = ()

    def each_domain(self) -> Sequence["Config"]:
        """The settings of every domain by itself, this one first."""
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
