"""Verifies a password with the domain by Kerberos, and that it was the domain that responded.

Anybody who poses as a domain controller could accept a password. So the ticket-granting ticket is used to get a
ticket for our own service, which is then accepted with our own keytab: only a KDC that has our key can make one. It
also brings the PAC, so SID and groups are those of a browser's ticket, read by the same code.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gssapi
from gssapi import raw

from calgate.plugin import AccountRefused, Authenticated, AuthenticationFailed, Unavailable
from calgate_negotiate import keytab as keytabs
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.guard import NothingLearnedError, UndecidedError
from calgate_negotiate.kerberos import Acceptor
from calgate_negotiate.password_names import PasswordName, Realms
from calgate_negotiate.password_verifiers import Attempt

_ENTERPRISE = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2.6")  # GSS_KRB5_NT_ENTERPRISE_NAME: a UPN of any suffix
_THREADS = 8
_MOST_WAITING = 100  # further ones get 503: each takes 50 to 100 ms of the KDC's hashing

_BASE = 0x96C73A00  # of krb5's error codes (RFC 4120, section 7.5.9)
_UNKNOWN, _REVOKED, _KEY_EXPIRED, _WRONG, _SKEW = 6, 18, 23, 24, 37
_NO_KDC = frozenset({156, 155})  # KRB5_KDC_UNREACH, KRB5_REALM_UNKNOWN


class DomainVerifier:
    """The `PasswordVerifier` for users of Windows domains."""

    def __init__(self, keytab: Path, realms: Mapping[str, str], setting: str) -> None:
        """`setting` names the keytab in faults. Raises ValueError if it cannot be used."""
        self._acceptor = Acceptor(keytab, setting)
        own = keytabs.own_key(keytabs.read(keytab))
        self._service = gssapi.Name(f"{own.principal}@{own.realm}", gssapi.NameType.kerberos_principal)
        self._realms = Realms(realms, own.realm)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._waiting = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._acceptor.close()

    @property
    def realms(self) -> Mapping[str, str]:
        """The realms by the names of their domains; the first is for a name without a domain."""
        return self._realms.by_domain

    def knows(self, name: PasswordName) -> bool:
        """Whether this verifier knows the domain of a name."""
        return self._realms.realm_of(name) is not None

    def canonical(self, name: PasswordName) -> str:
        """Returns one spelling for every spelling of an account."""
        return self._realms.canonical(name)

    async def verify(self, name: PasswordName, password: str) -> Attempt:
        """Raises AuthenticationFailed, AccountRefused or Unavailable."""
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("password: too many passwords are being verified", code="logon-server-unavailable")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._verify, name, password)
        finally:
            self._waiting -= 1

    def _verify(self, name: PasswordName, password: str) -> Attempt:
        shown = self.canonical(name)
        try:
            credentials = raw.acquire_cred_with_password(
                self._principal(name), password.encode("utf-8"), mechs=[gssapi.MechType.kerberos], usage="initiate"
            ).creds
        except gssapi.exceptions.GSSError as error:
            raise _refusal(error, shown) from error
        try:
            token = raw.init_sec_context(self._service, credentials, mech=gssapi.MechType.kerberos, flags=[]).token
        except gssapi.exceptions.GSSError as error:
            raise UndecidedError(
                f"Kerberos: no ticket for {self._service}: {_text(error)}", code="logon-server-unavailable"
            ) from error
        try:
            result = self._acceptor.begin(ExpectedBinding("off", None)).step_blocking(token)
        except AuthenticationFailed as error:
            raise NothingLearnedError(
                f"Kerberos: a KDC that does not know the key in the keytab accepted {shown}: either the keytab is old,"
                f" or somebody poses as the KDC ({error.detail})"
            ) from error
        if not isinstance(result, Authenticated):
            raise NothingLearnedError(f"Kerberos: the ticket of {shown} was not accepted in one step")
        return Attempt(replace(result.identity, mechanism="password"))

    def _principal(self, name: PasswordName) -> gssapi.Name:
        realm = self._realms.realm_of(name)
        if name.suffix:
            return gssapi.Name(f"{name.account}@{name.suffix}", _ENTERPRISE)
        return gssapi.Name(f"{name.account}@{realm}", gssapi.NameType.kerberos_principal)


def _refusal(error: gssapi.exceptions.GSSError, shown: str) -> AuthenticationFailed | AccountRefused | Unavailable:
    """Returns the refusal for the KDC's error; one that is not known counts as a failure, as the KDC may count it."""
    number = (error.min_code & 0xFFFFFFFF) - _BASE
    text = f"Kerberos: {_text(error)}: {shown}"
    if number in (_UNKNOWN, _WRONG):
        return AuthenticationFailed(text)
    if number == _REVOKED:  # some KDCs say so before they look at the password, so the page must be the same
        return AuthenticationFailed(f"{text}: the account is disabled, locked or expired")
    if number == _KEY_EXPIRED:
        return AccountRefused(text, code="password-expired")
    if number == _SKEW:
        return Unavailable(f"{text}: set the clock of this machine", code="logon-server-unavailable")
    if number in _NO_KDC:
        return Unavailable(text, code="logon-server-unavailable")
    return UndecidedError(text, code="logon-server-unavailable")


def _text(error: gssapi.exceptions.GSSError) -> str:
    code, in_mechanism = (error.min_code, True) if error.min_code else (error.maj_code, False)
    return "; ".join(error.get_all_statuses(code, not in_mechanism))[:300]
