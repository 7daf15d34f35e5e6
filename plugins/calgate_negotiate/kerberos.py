"""Accepts Kerberos tickets with a keytab, through MIT krb5.

The library unwraps SPNEGO itself, finds the right key among several versions, and re-reads the keytab for every ticket,
so a rotated keytab needs no restart. A step takes 0.4 ms of CPU time, so it runs in a thread.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gssapi
from gssapi import raw

from calgate.plugin import Authenticated, AuthenticationFailed, Continue, Identity
from calgate_negotiate import keytab as keytabs
from calgate_negotiate import name_checks, pac, ticket
from calgate_negotiate.channel_binding import OTHER_CHANNEL, ExpectedBinding
from calgate_negotiate.keytab import AES, ENCRYPTION_TYPES, RC4, USE_AES

logger = logging.getLogger(__name__)

_LOGON_INFO = b"urn:mspac:logon-info"
_KERBEROS_ONLY = {gssapi.MechType.kerberos}
_BOTH = {gssapi.MechType.kerberos, gssapi.OID.from_int_seq("1.3.6.1.5.5.2")}
_CHANNEL_BOUND = 2048  # GSS_C_CHANNEL_BOUND_FLAG: the client sent a binding, and it fits
_THREADS = 8
_MAX_STEPS = 4
_MAX_MESSAGE = 600  # characters: it repeats names from the token

# MIT krb5's messages (lib/krb5/krb/rd_req_dec.c, lib/krb5/error_tables), and a remedy for each
_REMEDIES = (
    (
        "keytab is likely out of date",
        "the service account's password was changed after the keytab was exported: export the keytab again",
    ),
    ("not with enctype", "the keytab lacks the ticket's encryption type: export it with AES keys"),
    (
        "cannot decrypt ticket",
        "the keytab's key is not the key of the ticket: another account holds the SPN, or its password was set again"
        " without a new keytab",
    ),
    (
        "not found in keytab",
        "the keytab has no key for the name of the ticket: add the SPN to the account, and export the keytab again",
    ),
    ("clock skew", "the clocks differ by more than five minutes: set the time here, on the client, and on the servers"),
    ("not yet valid", "the clocks differ: set the time here, on the client, and on the servers"),
    ("expired", "the client's ticket has expired: lock and unlock Windows to get a new one"),
    (
        "replay",
        "the same token was sent twice: if users see this, two gateways share one address without session affinity",
    ),
)


class Acceptor:
    """Has the keytab's keys, and the threads in which tickets are checked."""

    def __init__(self, keytab: Path, setting: str = "negotiate.keytab") -> None:
        """`setting` names the keytab in faults. Raises ValueError if it cannot be used."""
        self._credentials = _acquire(keytab, setting)
        _require_aes(keytab, setting)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kerberos")

    def begin(self, expected: ExpectedBinding) -> "KerberosAcceptance":
        return KerberosAcceptance(self._credentials, expected, self._threads)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class KerberosAcceptance:
    """The acceptance of one ticket: nearly always a single step."""

    def __init__(self, credentials: gssapi.Credentials, expected: ExpectedBinding, threads: ThreadPoolExecutor) -> None:
        self._expected = expected
        is_compared = expected.mode != "off" and expected.channel is not None
        self._bindings = raw.ChannelBindings(application_data=expected.channel) if is_compared else None
        self._credentials = credentials
        self._context: raw.SecurityContext | None = None
        self._threads = threads
        self._steps = 0
        self._ticket: ticket.Ticket | None = None

    async def step(self, token: bytes) -> Continue | Authenticated:
        """Raises AuthenticationFailed."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise AuthenticationFailed("Kerberos: a handshake of more steps than any real one")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.step_blocking, token)

    def step_blocking(self, token: bytes) -> Continue | Authenticated:
        """Like `step`, but in the calling thread."""
        try:
            self._demand_aes(token)
            # not SecurityContext.step: its wrappers cost as much as the library's own work
            result = raw.accept_sec_context(token, self._credentials, self._context, self._bindings)
            self._context = result.context
            if result.more_steps:
                return Continue(result.token or b"")
            if not int(result.flags) & _CHANNEL_BOUND:
                self._expected.check_missing()  # the library accepts a token without a binding
            if self._ticket is None:
                raise AuthenticationFailed("Kerberos: the client sent no ticket whose encryption type can be read")
            return Authenticated(_identity(result.initiator_name), result.token)
        except AuthenticationFailed:
            raise
        except gssapi.exceptions.BadChannelBindingsError as error:
            raise AuthenticationFailed(OTHER_CHANNEL) from error
        except gssapi.exceptions.GSSError as error:
            raise AuthenticationFailed(explain(_text(error))) from error
        except Exception as error:
            raise AuthenticationFailed(
                f"Kerberos: the token cannot be read: {type(error).__name__}: {error}"
            ) from error

    def _demand_aes(self, token: bytes) -> None:
        """Refuses tickets that are not encrypted with AES; the library may accept RC4, whose key is the NT hash.

        The encryption type is readable next to the encrypted part (RFC 4120 section 5.2.9), and the library decrypts
        with a key of that type only. A token that this reader cannot read is refused, so no other encoding bypasses it.
        """
        try:
            found = ticket.presented(token)
        except ValueError as error:
            raise AuthenticationFailed(f"Kerberos: the token cannot be read: {error}") from error
        if found is None:
            return
        self._ticket = found
        if found.encryption_type not in AES:
            enctype = ENCRYPTION_TYPES.get(found.encryption_type, f"type {found.encryption_type}")
            raise AuthenticationFailed(
                f"Kerberos: the ticket for {found.service} is encrypted with {enctype}, not AES: {USE_AES}"
            )


def explain(message: str) -> str:
    """Returns the library's message, cut to `_MAX_MESSAGE`, with a remedy if one is known."""
    message = message[:_MAX_MESSAGE]
    lowered = message.casefold()
    for part, remedy in _REMEDIES:
        if part in lowered:
            return f"Kerberos: {remedy} ({message})"
    return f"Kerberos: {message}"


def _text(error: gssapi.exceptions.GSSError) -> str:
    """Returns the mechanism's own message if there is one, else GSSAPI's."""
    in_mechanism = bool(error.min_code)
    code = error.min_code if in_mechanism else error.maj_code
    return "; ".join(error.get_all_statuses(code, not in_mechanism))


def _acquire(keytab: Path, setting: str) -> gssapi.Credentials:
    try:
        keytab.open("rb").close()
    except OSError as error:
        raise ValueError(f"{setting}: {keytabs.why_unreadable(keytab, error)}") from error
    try:
        # A service without a host accepts any HTTP/ key, so one gateway can have several names. With both mechanisms at
        # once a keytab without keys goes unnoticed, because SPNEGO succeeds: so Kerberos is tried on its own first.
        for mechanisms in (_KERBEROS_ONLY, _BOTH):
            credentials = gssapi.Credentials(
                name=gssapi.Name("HTTP", gssapi.NameType.hostbased_service),
                usage="accept",
                mechs=mechanisms,
                store={"keytab": f"FILE:{keytab}"},
            )
        return credentials
    except gssapi.exceptions.GSSError as error:
        raise ValueError(
            f"{setting}: {keytab} has no usable key of an HTTP/ principal ({_text(error)});"
            " export one for HTTP/ and the public name of the gateway"
        ) from error


def _require_aes(keytab: Path, setting: str) -> None:
    """Raises ValueError for a keytab all of whose tickets would be refused; warns about needless RC4 keys."""
    try:
        types = keytabs.service_types(keytabs.read(keytab))
    except ValueError as error:
        raise ValueError(f"{setting}: {keytab}: {error}") from error
    if not types & AES:
        held = ", ".join(ENCRYPTION_TYPES.get(one, f"type {one}") for one in sorted(types))
        raise ValueError(f"{setting}: {keytab} has no AES key of HTTP/, only {held}: {USE_AES}")
    if RC4 in types:
        logger.warning(
            "%s: %s has RC4 keys as well as AES keys; RC4 tickets are refused: export it without RC4",
            setting,
            keytab,
        )


def _identity(initiator: raw.Name) -> Identity:
    info = _logon_info(initiator)
    if info is not None:
        domain, account, sid, groups = info.domain, info.account, info.sid, info.groups
    else:
        account, at, domain = raw.display_name(initiator, name_type=False).name.decode("utf-8").rpartition("@")
        sid, groups = None, frozenset()
        if not at:
            raise AuthenticationFailed("Kerberos: the principal has no realm")
    try:
        name_checks.check_part(account)
        name_checks.check_part(domain)
    except ValueError as error:
        raise AuthenticationFailed(f"Kerberos: {error}") from error
    return Identity(domain=domain, account=account, mechanism="kerberos", sid=sid, groups=groups)


def _logon_info(initiator: raw.Name) -> pac.LogonInfo | None:
    """Returns the user in the ticket's PAC, or None if it has none. Raises AuthenticationFailed if it is not signed."""
    try:
        attribute = raw.get_name_attribute(initiator, _LOGON_INFO)
    except gssapi.exceptions.GSSError:
        return None  # a realm other than a Windows domain, or NO_AUTH_DATA_REQUIRED on the service account
    if not attribute.authenticated or not attribute.values:
        raise AuthenticationFailed("Kerberos: the ticket's PAC is not signed with the key in the keytab")
    try:
        return pac.read(attribute.values[0])
    except ValueError as error:
        raise AuthenticationFailed(f"Kerberos: {error}") from error
