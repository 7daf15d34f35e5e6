"""One bound connection to one domain controller, over TLS: the only file that imports ldap3.

Every call blocks, so it is made in a thread. Every fault of the server is a `BrokenError`: another one may serve.
"""

import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import ldap3
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPException,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPSessionTerminatedByServerError,
    LDAPUnwillingToPerformResult,
)
from ldap3.core.results import (
    RESULT_REFERRAL,
    RESULT_SIZE_LIMIT_EXCEEDED,
    RESULT_SUCCESS,
    RESULT_TIME_LIMIT_EXCEEDED,
)
from ldap3.utils.conv import escape_filter_chars

from calgate.plugin import Unavailable
from calgate_ldap.settings import ServerAddress

T = TypeVar("T")

CONNECT_TIMEOUT = 2
"""Seconds for the TCP handshake. With `ANSWER_TIMEOUT` it limits the cost of a silent server to three seconds."""
ANSWER_TIMEOUT = 2
"""Seconds of silence, also in the TLS handshake. A search for a user in 1000 groups takes 0.1."""
SEARCH_TIME = 1
"""Seconds that a server may search for people; it must end before `ANSWER_TIMEOUT` does."""
_PAGE = 500  # objects
_SPN = "servicePrincipalName"
_PAGED_RESULTS = "1.2.840.113556.1.4.319"  # the control of RFC 2696


class BrokenError(Exception):
    """This server does not serve now; another one may.

    `is_hang_up`: the server closed an idle connection, so a new one to the same server may work.
    """

    def __init__(self, detail: str, *, is_hang_up: bool = False) -> None:
        super().__init__(detail)
        self.is_hang_up = is_hang_up


class BindError(Exception):
    """The server refused ldap.bind's account: trying again, here or elsewhere, could lock it."""


_NO_RIGHT = "cannot be read: ldap.bind's account lacks the right; `calgate check` says how to grant it"
_MALFORMED = "has a value that no such attribute can have; look at it in the directory"


class UnreadableError(Unavailable):
    """An attribute that every such object has is missing, or its value is malformed.

    A server leaves attributes that the bind account may not read out of its reply without an error, so absence never
    means "none" or "zero".
    """

    def __init__(self, dn: str, attributes: Sequence[str], why: str = _NO_RIGHT) -> None:
        super().__init__(f"ldap: {', '.join(attributes)} of {dn} {why}", code="directory-unavailable")
        self.attributes = tuple(attributes)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the directory."""

    dn: str
    attributes: Mapping[str, Sequence[bytes]]  # by lower-case name

    def first(self, name: str) -> bytes | None:
        """Returns the first value, or None if there is none."""
        return next(iter(self.attributes.get(name.lower(), ())), None)

    def text(self, name: str) -> str:
        """Returns the first value as text, "" if there is none."""
        return (self.first(name) or b"").decode("utf-8", "replace")

    def number(self, name: str) -> int:
        """Returns the first value as a number, 0 if there is none. Use `require` first where 0 would be wrong.

        Raises UnreadableError for a value that is not a number.
        """
        return self.parsed(name, int) if self.first(name) else 0

    def sids(self, name: str) -> list[str]:
        """Returns the SIDs that an attribute holds. Raises UnreadableError for a value that is not a SID."""
        return [self._parse(name, sid_text, value) for value in self.attributes.get(name.lower(), ())]

    def sid(self) -> str:
        """Returns the object's own SID. Raises UnreadableError if it is missing or malformed."""
        self.require(["objectSid"])
        return self.sids("objectSid")[0]

    def parsed(self, name: str, parse: Callable[[bytes], T]) -> T:
        """Returns the first value, parsed. Raises UnreadableError if there is none, or if `parse` raises ValueError."""
        self.require([name])
        return self._parse(name, parse, self.first(name) or b"")

    def _parse(self, name: str, parse: Callable[[bytes], T], value: bytes) -> T:
        try:
            return parse(value)
        except ValueError as error:
            raise UnreadableError(self.dn, [name], _MALFORMED) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        """Returns the attributes without a value."""
        return [name for name in names if not self.attributes.get(name.lower())]

    def require(self, names: Sequence[str]) -> None:
        """Raises UnreadableError unless every attribute has a value."""
        if missing := self.missing(names):
            raise UnreadableError(self.dn, missing)


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a search."""

    entries: list[Entry]
    cookie: bytes | None = None  # of the next page (RFC 2696)
    is_cut: bool = False  # the server stopped at its limit of time or size


class _VerifiedTls(ldap3.Tls):
    """TLS whose certificate and host name OpenSSL verifies; by default ldap3 verifies nothing."""

    def __init__(self, host: str, ca: Path | None) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._host = host
        self._context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


class Connection:
    """A connection to one server, over TLS. Not for two threads at once."""

    def __init__(self, address: ServerAddress, ca: Path | None) -> None:
        """Connects and starts TLS. Raises BrokenError."""
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
            auto_referrals=False,  # otherwise the credentials follow a referral to any host
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
        """Raises BrokenError, or BindError if the account itself is refused."""
        try:
            self._ldap.user, self._ldap.password, self._ldap.authentication = user, password, ldap3.SIMPLE
            _ok, result, _response, _request = self._ldap.bind(read_server_info=False)
        except LDAPInvalidCredentialsResult as error:
            self.close()
            raise BindError(f"{self.address} refuses ldap.bind's user or password ({_refusal(error)})") from error
        except (LDAPException, OSError) as error:
            self.close()
            raise BrokenError(f"{self.address}: {_why(error)}") from error
        if result["result"] != RESULT_SUCCESS:  # for a referral, ldap3 raises nothing
            self.close()
            raise BrokenError(f"{self.address}: the bind was not completed: {result['description']}")

    @staticmethod
    def check_ca(ca: Path) -> None:
        """Raises ValueError if the file has no CA certificate."""
        try:
            ssl.create_default_context(cafile=str(ca))
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(
                f"ldap.ca: {ca} cannot be used ({error.strerror or error}); give the CA's certificate as a PEM file"
            ) from error

    def read(self, dn: str, attributes: Sequence[str]) -> Entry | None:
        """Returns one object by its DN or by `<SID=…>`, or None if it does not exist."""
        entries = self._search(dn, "(objectClass=*)", "BASE", attributes)
        return entries[0] if entries else None

    def find(self, base: str, filter_: str, attributes: Sequence[str]) -> list[Entry]:
        """Returns all objects below `base` that match. Raises BrokenError if the base does not exist."""
        return self._search(base, filter_, "SUBTREE", attributes)

    def sample(self, base: str, filter_: str, attributes: Sequence[str], size: int) -> list[Entry]:
        """Returns up to `size` objects below `base` that match."""
        return self._search(base, filter_, "SUBTREE", attributes, size)

    def find_by_spn(self, base: str, service: str, attributes: Sequence[str]) -> list[Entry]:
        """Returns the accounts with a service principal name.

        Raises UnreadableError if no account's can be read: each domain controller has some, so none never means nobody.
        """
        found = self.find(base, f"({_SPN}={escape(service)})", attributes)
        if not found and not self.sample(base, f"({_SPN}=*)", [_SPN], 1):
            remedy = f'dsacls "{base}" /I:S /G "ACCOUNT:RP;{_SPN}"'
            raise UnreadableError(
                f"every account below {base}", [_SPN], f"cannot be read by ldap.bind's account: {remedy}"
            )
        return found

    def first(self, base: str, filter_: str, attributes: Sequence[str], size: int) -> tuple[list[Entry], bool]:
        """Returns up to `size` objects below `base` that match, and whether more do.

        The server stops searching before this end would give it up, and what it has found until then is returned.
        """
        page = self._page(base, filter_, "SUBTREE", attributes, size + 1, None, SEARCH_TIME)
        return page.entries[:size], page.is_cut or len(page.entries) > size or page.cookie is not None

    def find_all(self, base: str, filter_: str, attributes: Sequence[str]) -> list[Entry]:
        """Like `find`, page by page: a domain controller returns at most 1,000 objects at once (MaxPageSize)."""
        found: list[Entry] = []
        cookie: bytes | None = None
        while True:
            page = self._page(base, filter_, "SUBTREE", attributes, _PAGE, cookie)
            found += page.entries
            if not (cookie := page.cookie):
                return found

    def _search(
        self,
        base: str,
        filter_: str,
        scope: Literal["BASE", "SUBTREE"],
        attributes: Sequence[str],
        size: int | None = None,
    ) -> list[Entry]:
        return self._page(base, filter_, scope, attributes, size, None).entries

    def _page(
        self,
        base: str,
        filter_: str,
        scope: Literal["BASE", "SUBTREE"],
        attributes: Sequence[str],
        size: int | None,
        cookie: bytes | None,
        time: int = 0,
    ) -> _Page:
        """Returns one page of the objects found.

        `time`: seconds after which the server ends the search; the page is then what it has found. 0: a page that is
        cut short is an error.
        """
        try:
            _ok, result, response, _request = self._ldap.search(
                *(base, filter_, scope),
                attributes=list(attributes),
                paged_size=size,
                paged_cookie=cookie,
                time_limit=time,
            )
        except (LDAPNoSuchObjectResult, LDAPInvalidDNSyntaxResult) as error:
            if scope == "BASE":
                return _Page([])
            raise BrokenError(f"{self.address}: ldap.base {base} does not exist: {error.description}") from error
        except (LDAPException, OSError) as error:
            self.close()
            hang_up = isinstance(error, LDAPSessionTerminatedByServerError | ConnectionError)
            raise BrokenError(f"{self.address}: {_why(error)}", is_hang_up=hang_up) from error
        if result["result"] == RESULT_REFERRAL and scope == "BASE":
            return _Page([])  # the object is in another domain, and this server works
        is_cut = time > 0 and result["result"] in (RESULT_TIME_LIMIT_EXCEEDED, RESULT_SIZE_LIMIT_EXCEEDED)
        if not is_cut:
            self._demand_whole(result, base)
        entries = [
            Entry(item["dn"], {name.lower(): values for name, values in item["raw_attributes"].items()})
            for item in response or ()
            if item["type"] == "searchResEntry"
        ]
        control = (result.get("controls") or {}).get(_PAGED_RESULTS) or {}
        return _Page(entries, (control.get("value") or {}).get("cookie") or None, is_cut)

    def _demand_whole(self, result: Mapping[str, Any], base: str) -> None:
        """Raises BrokenError or Unavailable for a result that is cut short, for which ldap3 raises nothing."""
        if result["result"] == RESULT_SIZE_LIMIT_EXCEEDED:  # every server has the same limit
            detail = f"ldap: {self.address} returned only the first objects below {base}: {result['description']}"
            raise Unavailable(detail, code="directory-unavailable")
        if result["result"] != RESULT_SUCCESS:
            raise BrokenError(f"{self.address}: a search below {base} was not completed: {result['description']}")

    def change_password(self, dn: str, old: str, new: str) -> str:
        """Changes a user's password by the right of everybody who knows it (MS-ADTS 3.1.1.3.1.5.1).

        Returns "" if it is changed, or the server's message. Raises Unavailable if the connection is lost:
        the change may have been made, so it is not tried again on another server.
        """
        change = {"unicodePwd": [(ldap3.MODIFY_DELETE, [_quoted(old)]), (ldap3.MODIFY_ADD, [_quoted(new)])]}
        try:
            _ok, result, _response, _request = self._ldap.modify(dn, change)  # type: ignore[no-untyped-call]
        except (LDAPConstraintViolationResult, LDAPUnwillingToPerformResult, LDAPInvalidCredentialsResult) as error:
            return str(error.message) or error.description
        except (LDAPException, OSError) as error:
            self.close()
            raise Unavailable(f"{self.address}: {_why(error)}", code="directory-unavailable") from error
        if result["result"] != RESULT_SUCCESS:  # a read-only domain controller refers to a writable one
            what = f"ldap: {self.address} does not change passwords itself ({result['description']})"
            remedy = "put a writable domain controller first in ldap.servers"
            raise Unavailable(f"{what}; {remedy}", code="directory-unavailable")
        return ""

    def close(self) -> None:
        """Closes the socket without an unbind: the server may be one that does not respond."""
        if self._ldap.socket is not None:
            self._ldap.socket.close()


def escape(value: str) -> str:
    """Returns the value escaped for a filter (RFC 4515 section 3)."""
    escaped: str = escape_filter_chars(value)
    return escaped


def sid_text(binary: bytes) -> str:
    """Returns a SID in its usual notation (MS-DTYP 2.4.2). Raises ValueError for other bytes."""
    if len(binary) < 8 or len(binary) != 8 + 4 * binary[1]:
        raise ValueError(f"not a SID: {binary.hex()}")
    authority = int.from_bytes(binary[2:8], "big")
    rest = (int.from_bytes(binary[at : at + 4], "little") for at in range(8, len(binary), 4))
    return "-".join(["S", str(binary[0]), str(authority), *map(str, rest)])


def _quoted(password: str) -> bytes:
    """Returns the value of unicodePwd (MS-ADTS 3.1.1.3.1.5)."""
    return f'"{password}"'.encode("utf-16-le")


# the "data" codes of Active Directory's diagnostic message for result 49
_BIND_REFUSALS = {
    "525": "no such user",
    "52e": "wrong user or password",
    "530": "not at this hour",
    "531": "not from this workstation",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password has to be changed",
    "775": "the account is locked",
}


def _refusal(error: LDAPInvalidCredentialsResult) -> str:
    message = str(error.message)
    code = re.search(r"\bdata ([0-9a-f]{3})\b", message)
    meaning = _BIND_REFUSALS.get(code.group(1)) if code is not None else None
    return f"{meaning}: {message}" if meaning is not None else message


def _why(error: Exception) -> str:
    """Returns a library's exception in words that an administrator can act on."""
    text = str(error)
    if "invalid server address" in text:
        return "its name has no address in the DNS: check the name in ldap.servers, and this machine's DNS servers"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        remedy = "check ldap.ca, and that the name in ldap.servers is the certificate's"
        return f"its certificate is not accepted ({reason}): {remedy}"
    return text or type(error).__name__
