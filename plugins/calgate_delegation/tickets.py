"""Tickets in a user's name, from the KDC. Everything here blocks."""

import itertools
from collections.abc import Callable
from pathlib import Path

import gssapi

from calgate.plugin import AccountRefused, Refusal, Unavailable
from calgate_delegation.settings import Config

_KERBEROS = gssapi.MechType.kerberos
_SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
_ERROR_TABLE = 0x96C73A00  # ERROR_TABLE_BASE_krb5: the code of RFC 4120, section 7.5.9, is added to it
_BAD_OPTION = 13
_SERVICE_UNKNOWN = 7
_ACCOUNT_STATES = {  # of the user, as the KDC reports it in S4U2Self
    1: ("has expired", "account-expired"),
    12: ("is disabled, or may not sign in now", "account-disabled"),
    18: ("is locked or disabled", "account-locked"),
    23: ("has an expired password", "password-expired"),
}
_CLIENT_UNKNOWN = 6
_numbers = itertools.count(1)


class NotDelegatedError(AccountRefused):
    """The KDC refuses the delegation (BADOPTION), without saying which condition of it is not met."""

    code = "not-delegated"


class Tickets:
    """Requests tickets with the keys of the gateway's account. Any thread may call it."""

    def __init__(self, config: Config, keys: Path) -> None:
        """`keys`: the keytab that has the keys under the account's own name."""
        self._config = config
        # in this process's memory, so that no ticket is on disk; the library renews it from the keytab
        self._store = {"client_keytab": f"FILE:{keys}", "ccache": f"MEMORY:calgate-delegation-{next(_numbers)}"}

    def impersonate(self, account: str) -> gssapi.Credentials:
        """Returns the credentials of a user of our realm (S4U2Self). Raises AccountRefused, Unavailable."""
        own = self._own([_KERBEROS, _SPNEGO])
        name = gssapi.Name(f"{account}@{self._config.realm}", gssapi.NameType.kerberos_principal)
        try:
            # Both mechanisms: SPNEGO cannot use a credential of Kerberos alone, and takes the process's own instead.
            return own.impersonate(name, mechs=[_KERBEROS, _SPNEGO])
        except gssapi.exceptions.GSSError as error:
            own = self._own([_KERBEROS])
            cause = _cause(lambda: own.impersonate(name, mechs=[_KERBEROS]), error)
            raise self._refusal_of_user(account, cause) from error

    def _own(self, mechanisms: list[gssapi.OID]) -> gssapi.Credentials:
        """Returns the gateway's own credentials. Raises Unavailable."""
        try:
            own = gssapi.Credentials(usage="initiate", mechs=mechanisms, store=self._store)
            own.lifetime  # noqa: B018 - obtains the ticket, or fails here, where the cause is clear
        except gssapi.exceptions.GSSError as error:
            raise self._unavailable(f"the gateway's account {self._config.account} gets no ticket", error) from error
        return own

    def token(self, credentials: gssapi.Credentials, account: str, service: str) -> bytes:
        """Returns a token for one request to a service (S4U2Proxy). Raises AccountRefused, Unavailable."""
        target = gssapi.Name(f"{service}@{self._config.realm}", gssapi.NameType.kerberos_principal)

        def step(mechanism: gssapi.OID) -> bytes:
            # no flags: mutual authentication would need the document server's reply, and a second token
            context = gssapi.SecurityContext(name=target, creds=credentials, usage="initiate", mech=mechanism, flags=[])
            return bytes(context.step() or b"")

        try:
            token = step(_SPNEGO)
        except gssapi.exceptions.GSSError as error:
            raise self._refusal_of_service(account, service, _cause(lambda: step(_KERBEROS), error)) from error
        if not token:
            raise Unavailable("Kerberos: the library made no token", code="logon-server-unavailable")
        return token

    def _refusal_of_user(self, account: str, error: gssapi.exceptions.GSSError) -> Refusal:
        code = _code(error)
        if code in _ACCOUNT_STATES:
            why, word = _ACCOUNT_STATES[code]
            return AccountRefused(f"Kerberos: {account} {why} ({_text(error)})", code=word)
        if code == _CLIENT_UNKNOWN:
            return AccountRefused(
                f"Kerberos: {self._config.realm} has no account {account} ({_text(error)})", code="account-unknown"
            )
        return self._unavailable(f"no ticket in the name of {account}", error)

    def _refusal_of_service(self, account: str, service: str, error: gssapi.exceptions.GSSError) -> Refusal:
        code = _code(error)
        if code == _BAD_OPTION:
            return NotDelegatedError(
                f"Kerberos: the domain does not let {self._config.account} act as {account} at {service};"
                f" run `calgate check --as {account}` to see why ({_text(error)})"
            )
        if code == _SERVICE_UNKNOWN:
            return Unavailable(
                f"Kerberos: no account holds {service}: run `setspn -S {service} ACCOUNT`, or set the route's"
                f" sign_on.service to the name that the document server runs under ({_text(error)})",
                code="logon-server-unavailable",
            )
        if code in _ACCOUNT_STATES:
            return self._refusal_of_user(account, error)
        return self._unavailable(f"no ticket for {service} in the name of {account}", error)

    def _unavailable(self, what: str, error: gssapi.exceptions.GSSError) -> Unavailable:
        return Unavailable(f"Kerberos: {what}: {_text(error)}", code="logon-server-unavailable")


def _cause(attempt: Callable[[], object], error: gssapi.exceptions.GSSError) -> gssapi.exceptions.GSSError:
    """Returns the error of the same attempt by Kerberos alone: SPNEGO replaces its code by a number of its own."""
    try:
        attempt()
    except gssapi.exceptions.GSSError as cause:
        return cause
    return error


def _code(error: gssapi.exceptions.GSSError) -> int:
    return int((error.min_code & 0xFFFFFFFF) - _ERROR_TABLE)


def _text(error: gssapi.exceptions.GSSError) -> str:
    in_mechanism = bool(error.min_code)
    code = error.min_code if in_mechanism else error.maj_code
    return "; ".join(error.get_all_statuses(code, not in_mechanism))
