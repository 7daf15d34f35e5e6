"""One connection to one domain controller, bound and secured: the one file that imports ldap3.

Every call blocks, and is made in a thread. Whatever goes wrong with this server is a `BrokenError`: ask another.
"""

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ldap3
from ldap3.core.exceptions import (
    LDAPException,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPSessionTerminatedByServerError,
)
from ldap3.utils.conv import escape_filter_chars

from calgate_ldap.settings import ServerAddress

CONNECT_TIMEOUT = 2
"""Seconds for TCP's handshake. With the next, it keeps a silent server from costing more than three seconds."""
ANSWER_TIMEOUT = 2
"""Seconds of silence, in TLS's handshake too. A search for a person in 1000 groups takes 0.1."""


class BrokenError(Exception):
    """This server does not serve now: another may.

    `is_hang_up`: it closed a connection that it had before, which says nothing of the next.
    """

    def __init__(self, detail: str, *, is_hang_up: bool = False) -> None:
        super().__init__(detail)
        self.is_hang_up = is_hang_up


class BindError(Exception):
    """The server knows the account and says no: asking again, here or elsewhere, would lock it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the directory."""

    dn: str
    attributes: Mapping[str, Sequence[bytes]]  # by lower-case name, as they came

    def first(self, name: str) -> bytes | None:
        """The first value, or None where there is none."""
        return next(iter(self.attributes.get(name.lower(), ())), None)

    def text(self, name: str) -> str:
        """The first value as text, empty where there is none."""
        return (self.first(name) or b"").decode("utf-8", "replace")

    def number(self, name: str) -> int:
        """The first value as a number, 0 where there is none."""
        return int(self.first(name) or b"0")


class _VerifiedTls(ldap3.Tls):
    """TLS whose certificate OpenSSL checks, name and all; ldap3 would check nothing unless told."""

    def __init__(self, host: str, ca: Path | None) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._host = host
        self._context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


class Connection:
    """To one server, over TLS. Not for two threads at once."""

    def __init__(self, address: ServerAddress, ca: Path | None) -> None:
        """Connects and secures; raises BrokenError."""
        self.address = address
        server = ldap3.Server(
            address.host,
            port=address.port,
            use_ssl=address.tls_first,
            tls=_VerifiedTls(address.host, ca),
            get_info=ldap3.NONE,
            mode=ldap3.IP_V4_PREFERRED,
            connect_timeout=CONNECT_TIMEOUT,
        )
        self._ldap = ldap3.Connection(
            server,
            client_strategy=ldap3.SAFE_SYNC,
            auto_referrals=False,  # else the credentials follow a referral to any host
            check_names=False,
            raise_exceptions=True,
            receive_timeout=ANSWER_TIMEOUT,
        )
        try:
            self._ldap.open(read_server_info=False)
            if not address.tls_first:
                self._ldap.start_tls(read_server_info=False)
            # ldap3 sends a request in several writes: with Nagle's algorithm a bind takes 48 ms instead of 4
            self._ldap.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (LDAPException, OSError) as error:
            self.close()
            raise BrokenError(f"{address}: {_why(error)}") from error

    def bind(self, user: str, password: str) -> None:
        """Raises BrokenError, or BindError where the account itself is refused."""
        try:
            self._ldap.user, self._ldap.password, self._ldap.authentication = user, password, ldap3.SIMPLE
            self._ldap.bind(read_server_info=False)
        except LDAPInvalidCredentialsResult as error:
            self.close()
            raise BindError(f"{self.address} refuses ldap.bind's user or password ({error.message})") from error
        except (LDAPException, OSError) as error:
            self.close()
            raise BrokenError(f"{self.address}: {_why(error)}") from error

    @staticmethod
    def check_ca(ca: Path) -> None:
        """Raises ValueError where the file holds no certificate authority."""
        try:
            ssl.create_default_context(cafile=str(ca))
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(
                f"ldap.ca {ca} cannot be used ({error.strerror or error}): give the CA's certificate as a PEM file"
            ) from error

    def read(self, dn: str, attributes: Sequence[str]) -> Entry | None:
        """One object by its DN, or by `<SID=…>`; None where there is none."""
        entries = self._search(dn, "(objectClass=*)", "BASE", attributes)
        return entries[0] if entries else None

    def find(self, base: str, filter_: str, attributes: Sequence[str]) -> list[Entry]:
        """All objects below `base` that fit; a base that is not there is a BrokenError, for it is no answer."""
        return self._search(base, filter_, "SUBTREE", attributes)

    def _search(
        self, base: str, filter_: str, scope: Literal["BASE", "SUBTREE"], attributes: Sequence[str]
    ) -> list[Entry]:
        try:
            _ok, _result, response, _request = self._ldap.search(base, filter_, scope, attributes=list(attributes))
        except (LDAPNoSuchObjectResult, LDAPInvalidDNSyntaxResult) as error:
            if scope == "BASE":
                return []
            raise BrokenError(f"{self.address}: ldap.base {base} is not there: {error.description}") from error
        except (LDAPException, OSError) as error:
            self.close()
            hang_up = isinstance(error, LDAPSessionTerminatedByServerError | ConnectionError)
            raise BrokenError(f"{self.address}: {_why(error)}", is_hang_up=hang_up) from error
        return [
            Entry(item["dn"], {name.lower(): values for name, values in item["raw_attributes"].items()})
            for item in response or ()
            if item["type"] == "searchResEntry"
        ]

    def close(self) -> None:
        """Lets go of the socket, without a word: the server may be the one that does not listen."""
        if self._ldap.socket is not None:
            self._ldap.socket.close()


def escape(value: str) -> str:
    """The value as it may stand in a filter (RFC 4515 section 3)."""
    escaped: str = escape_filter_chars(value)
    return escaped


def _why(error: Exception) -> str:
    """A library's exception in words an administrator can act on."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        remedy = "check ldap.ca, and that the name in ldap.servers is the certificate's"
        return f"its certificate is not accepted ({reason}): {remedy}"
    return text or type(error).__name__
