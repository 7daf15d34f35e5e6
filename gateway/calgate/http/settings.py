"""`[listen]`: where the gateway listens, its certificates, and whom it believes."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calgate.plugin.settings import Duration, Network, ReadableFile, Section


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and port, or a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


def read_address(value: object) -> Address:
    """An address as the file writes it; raises ValueError with an example."""
    if isinstance(value, Address):
        return value
    text = str(value)
    if text.startswith("unix:/"):
        return Address("", 0, text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(
            f'an address is written like "0.0.0.0:443", "[::]:443" or "unix:/run/calgate.sock", not {text!r}'
        )
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what a bare ":443" means everywhere


def _addresses(value: object) -> object:
    return tuple(read_address(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _method(value: str) -> str:
    if not value.isascii() or not value.isalpha() or not value.isupper():
        raise ValueError(f'a method is written in capitals, like "GET", not {value!r}')
    return value


class Tls(Section):
    """The certificate (with its chain) and key of the listener, PEM."""

    certificate: ReadableFile
    key: ReadableFile


class Listen(Section):
    """`[listen]`: where the gateway answers, and whom it believes."""

    bind: Annotated[tuple[Address, ...], BeforeValidator(_addresses), Field(min_length=1)]
    tls: Tls | None = None
    sni: tuple[Tls, ...] = ()  # further certificates, each for the names that stand in it
    trusted_proxies: tuple[Network, ...] = ()
    redirect_http: Annotated[Address, BeforeValidator(read_address)] | None = None
    methods: tuple[Annotated[str, AfterValidator(_method)], ...] = Field(
        default=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), min_length=1
    )
    drain: Duration = 20.0
    workers: int = Field(default=1, ge=1, le=64)
    proxy_protocol: bool = False  # connections of trusted_proxies begin with a PROXY header, and no others are taken
    admin: Annotated[Address, BeforeValidator(read_address)] | None = None  # /metrics, /healthz, /readyz

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.redirect_http is not None and self.tls is None:
            raise ValueError("redirect_http answers with the https address, so it needs tls")
        if self.sni and self.tls is None:
            raise ValueError("sni holds further certificates beside that of tls, which is missing")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: a PROXY header is believed from them only")
        return self
