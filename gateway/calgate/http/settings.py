"""`[listen]`: addresses, certificates, trusted proxies."""

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from os.path import realpath
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calgate.http.origin import normalize_origin
from calgate.plugin.settings import Duration, Network, ReadableFile, Section, is_origin

_LONGEST_PATH = 107  # bytes: sun_path has 108 with the NUL at its end (unix(7))
_ADDRESS = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+(%[\w.-]+)?)\]|(?P<host>[\w.-]*)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: a host and port, or a unix socket."""

    host: str
    port: int
    path: str = ""

    def overlaps(self, other: "Address") -> bool:
        """Whether a connection could belong to either; port 0 stands for any free one."""
        if self.path or other.path or not self.port or self.port != other.port:
            return bool(self.path and other.path) and realpath(self.path) == realpath(other.path)
        wildcards = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        is_same_family = (":" in self.host) == (":" in other.host)
        hosts = {_canonical(self.host), _canonical(other.host)}
        return is_same_family and (len(hosts) == 1 or bool(hosts & wildcards))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


def _canonical(host: str) -> str:
    """Returns one spelling of an address: the system also takes 127.1, 0, [0::0] and localhost."""
    with suppress(ValueError):
        return str(ip_address(host))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return "127.0.0.1" if host.lower() == "localhost" else host.lower()


def read_address(value: object) -> Address:
    """Reads an address as the file writes it. Raises ValueError with an example."""
    if isinstance(value, Address):
        return value
    text = str(value)
    if text.startswith("unix:/") and text.isprintable():
        path = text.removeprefix("unix:")
        if len(path.encode()) > _LONGEST_PATH:
            raise ValueError(f"the path of a unix socket has at most {_LONGEST_PATH} bytes, unlike {path!r}")
        return Address("", 0, path)
    written = _ADDRESS.fullmatch(text)
    if written is None or int(written["port"]) > 65535:
        raise ValueError(
            f'an address is written like "0.0.0.0:443", "[::]:443" or "unix:/run/calgate.sock", not {text!r}'
        )
    host = written["v6"] or written["host"] or "0.0.0.0"  # noqa: S104 - what a bare ":443" means everywhere
    return Address(host, int(written["port"]))


def _addresses(value: object) -> object:
    return tuple(read_address(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _method(value: str) -> str:
    if not value.isascii() or not value.isalpha() or not value.isupper():
        raise ValueError(f'a method is written in capitals, like "GET", not {value!r}')
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _public_origin(value: str) -> str:
    if not is_origin(value) or not (origin := normalize_origin(value.rstrip("/"))):
        raise ValueError(
            f'an origin is written like "https://bi.corp.example", not {value!r}; a name that is not ASCII'
            " begins with xn--, as browsers send it"
        )
    return origin


class Tls(Section):
    """The certificate (with its chain) and key of the listener, PEM."""

    certificate: ReadableFile
    """The certificate and its chain, as PEM; loaded again when the file changes."""
    key: ReadableFile
    """The private key that the certificate was made for, as PEM."""


class Listen(Section):
    """`[listen]`: where the gateway listens, and which proxies it trusts."""

    bind: Annotated[
        tuple[Address, ...], BeforeValidator(_addresses, json_schema_input_type=str | list[str]), Field(min_length=1)
    ]
    """Addresses to listen on, such as "0.0.0.0:443", "[::]:443" or "unix:/run/calgate/calgate.sock"; one, or a list."""
    tls: Tls | None = None
    """The certificate and key of the listener. Without it the gateway speaks plain http."""
    sni: tuple[Tls, ...] = ()
    """Further certificates, each for the names that it contains; a browser gets the one for the name it asks for."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of the proxies whose X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, PROXY header and
    traceparent are believed.
    Name the balancers themselves, and nothing wider.
    """
    public_origin: Annotated[
        tuple[Annotated[str, AfterValidator(_public_origin)], ...],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = ()
    """What users have in their address bar, such as "https://bi.corp.example"; one, or a list. Only pages of these
    origins may send POST requests and open WebSockets. Needed where a proxy changes the Host header and sends no
    X-Forwarded-Host; by default the origin follows from Host.
    """
    redirect_http: Annotated[Address, BeforeValidator(read_address, json_schema_input_type=str)] | None = None
    """An address that redirects every http request to the https address. Needs `tls`."""
    hsts: Duration | None = None
    """How long browsers must use https for this site (Strict-Transport-Security: max-age). Absent: the header is not
    sent. "0s" takes an earlier value back.
    """
    hsts_subdomains: bool = False
    """Extends `hsts` to all subdomains (includeSubDomains)."""
    methods: tuple[Annotated[str, AfterValidator(_method)], ...] = Field(
        default=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), min_length=1
    )
    """The HTTP methods that are accepted; any other is refused with 405."""
    drain: Duration = 20.0
    """How long open requests may take to finish at a reload, an upgrade or a stop."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that share the listening addresses; one for each core."""
    proxy_protocol: bool = False
    """Connections of `trusted_proxies` begin with a PROXY header (TCP load balancers); connections from elsewhere
    are closed.
    """
    admin: Annotated[Address, BeforeValidator(read_address, json_schema_input_type=str)] | None = None
    """The address of /metrics, /healthz and /readyz, for monitoring. It needs no sign-in, so users must not reach
    it.
    """

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.redirect_http is not None and self.tls is None:
            raise ValueError("redirect_http redirects to the https address, so it needs tls")
        if self.sni and self.tls is None:
            raise ValueError("sni holds further certificates in addition to that of tls, which is missing")
        wanted = [("bind", address) for address in self.bind]
        wanted += [("redirect_http", self.redirect_http)] if self.redirect_http is not None else []
        wanted += [("admin", self.admin)] if self.admin is not None else []
        for number, (setting, address) in enumerate(wanted):
            for earlier, other in wanted[:number]:
                if address.overlaps(other):
                    # the kernel would spread the connections of users over both listeners
                    raise ValueError(f"{setting}: {address} overlaps {earlier}, {other}; each needs its own address")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: a PROXY header is believed from them only")
        if self.hsts_subdomains and self.hsts is None:
            raise ValueError("hsts_subdomains needs hsts, which says for how long")
        return self
