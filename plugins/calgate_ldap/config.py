"""The plugin's section of the settings file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from calgate.setting import Duration, Secret, Section


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


class Config(Section):
    """`[ldap]`."""

    servers: tuple[Annotated[ServerAddress, BeforeValidator(_address)], ...] = Field(min_length=1)
    ca: Path | None = None  # left out: the system's certificate authorities
    bind: Bind
    base: str = Field(min_length=1)  # the domain's DN
    cache: Duration = 300.0  # how long an answer serves
    grace: Duration = 0.0  # how much longer while no server answers
