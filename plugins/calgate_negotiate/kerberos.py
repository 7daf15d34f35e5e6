"""Accepts Kerberos tickets against a keytab, through MIT krb5: the one file that imports gssapi.

The library takes SPNEGO's wrapping off itself, finds the right key among several versions, and reads the keytab afresh
at every ticket, so a rotated keytab needs no restart. A step takes 0.4 ms of computing, so it runs in a thread.
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

_log = logging.getLogger(__name__)

_LOGON_INFO = b"urn:mspac:logon-info"
_KERBEROS_ALONE = {gssapi.MechType.kerberos}
_BOTH = {gssapi.MechType.kerberos, gssapi.OID.from_int_seq("1.3.6.1.5.5.2")}
_CHANNEL_BOUND = 2048  # GSS_C_CHANNEL_BOUND_FLAG: the client's binding was there and fits
_THREADS = 8
_MOST_LEGS = 4

# What MIT krb5 says (lib/krb5/krb/rd_req_dec.c, lib/krb5/error_tables), and what an administrator does about it.
_REMEDIES = (
    ("keytab is likely out of date", "the service account's password was changed and the keytab not: export it anew"),
    ("not with enctype", "the keytab lacks the ticket's encryption type: export it with AES keys"),
    (
        "cannot decrypt ticket",
        "the keytab's key is not the one that the ticket was made with: another account holds the SPN, or its password"
        " was set anew without a new keytab",
    ),
    (
        "not found in keytab",
        "the ticket is for a name that the keytab has no key of: add the SPN to the account, and export it anew",
    ),
    ("clock skew", "the clocks differ by more than five minutes: set the time here, on the client, and on the servers"),
    ("not yet valid", "the clocks differ: set the time here, on the client, and on the servers"),
    ("expired", "the client's ticket has ended: the user locks and unlocks Windows, and has a new one"),
    ("replay", "the same token was shown twice: if users see this, two gateways share one address without its cookie"),
)


class Acceptor:
    """The keytab's keys, and the threads in which tickets are looked at."""

    def __init__(self, keytab: Path) -> None:
        """Raises ValueError with a sentence where the keytab cannot be used."""
        self._credentials = _acquire(keytab)
        _require_aes(keytab)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kerberos")

    def begin(self, bound: ExpectedBinding) -> "KerberosAcceptance":
        return KerberosAcceptance(self._credentials, bound, self._threads)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class KerberosAcceptance:
    """One ticket's way: nearly always a single step."""

    def __init__(self, credentials: gssapi.Credentials, bound: ExpectedBinding, threads: ThreadPoolExecutor) -> None:
        self._bound = bound
        is_compared = bound.mode != "off" and bound.channel is not None
        self._bindings = raw.ChannelBindings(application_data=bound.channel) if is_compared else None
        self._credentials = credentials
        self._context: raw.SecurityContext | None = None
        self._threads = threads
        self._legs = 0
        self._ticket: ticket.Ticket | None = None

    async def step(self, token: bytes) -> Continue | Authenticated:
        """Raises Unproven."""
        self._legs += 1
        if self._legs > _MOST_LEGS:
            raise AuthenticationFailed("a Kerberos handshake does not take so many steps")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.step_here, token)

    def step_here(self, token: bytes) -> Continue | Authenticated:
        """The same in this thread; blocks."""
        try:
            self._look_at(token)
            # not SecurityContext.step, whose wrappers cost as much as the library's own work
            said = raw.accept_sec_context(token, self._credentials, self._context, self._bindings)
            self._context = said.context
            if said.more_steps:
                return Continue(said.token or b"")
            if not int(said.flags) & _CHANNEL_BOUND:
                self._bound.check_missing()  # the library takes a token without a binding for one that fits
            if self._ticket is None:
                raise AuthenticationFailed("Kerberos: a sign-in that showed no ticket whose encryption could be seen")
            return Authenticated(_identity(said.initiator_name), said.token)
        except AuthenticationFailed:
            raise
        except gssapi.exceptions.BadChannelBindingsError as error:
            raise AuthenticationFailed(OTHER_CHANNEL) from error
        except gssapi.exceptions.GSSError as error:
            raise AuthenticationFailed(explain(_text(error))) from error
        except Exception as error:
            raise AuthenticationFailed(f"the Kerberos token cannot be read: {type(error).__name__}: {error}") from error

    def _look_at(self, token: bytes) -> None:
        """Refuses what the library may still take: a ticket under RC4, whose key is the password's plain NT hash.

        The type stands in clear beside the sealed part (RFC 4120 section 5.2.9), and the library opens it with a key
        of that type alone. What this reader cannot read is refused, so that no other spelling gets past it.
        """
        try:
            found = ticket.presented(token)
        except ValueError as error:
            raise AuthenticationFailed(f"the Kerberos token cannot be read: {error}") from error
        if found is None:
            return
        self._ticket = found
        if found.encryption_type not in AES:
            enctype = ENCRYPTION_TYPES.get(found.encryption_type, f"type {found.encryption_type}")
            raise AuthenticationFailed(
                f"Kerberos: the ticket for {found.service} is under {enctype}, not AES: {USE_AES}"
            )


def explain(message: str) -> str:
    """The library's message, with what to do about it where that is known."""
    lowered = message.casefold()
    for sign, remedy in _REMEDIES:
        if sign in lowered:
            return f"Kerberos: {remedy} ({message})"
    return f"Kerberos: {message}"


def _text(error: gssapi.exceptions.GSSError) -> str:
    """The mechanism's own words where it has any, else GSSAPI's."""
    in_mechanism = bool(error.min_code)
    code = error.min_code if in_mechanism else error.maj_code
    return "; ".join(error.get_all_statuses(code, not in_mechanism))


def _acquire(keytab: Path) -> gssapi.Credentials:
    try:
        keytab.open("rb").close()
    except OSError as error:
        raise ValueError(
            f"negotiate.keytab {keytab} cannot be read: {error.strerror};"
            " export it with ktpass or samba-tool and let the gateway's user read it"
        ) from error
    try:
        # A service without a host: any HTTP/ key will do, so one gateway answers to several names. Asked for together,
        # SPNEGO succeeds where Kerberos finds no key, and says nothing: so Kerberos is asked alone first.
        for mechanisms in (_KERBEROS_ALONE, _BOTH):
            credentials = gssapi.Credentials(
                name=gssapi.Name("HTTP", gssapi.NameType.hostbased_service),
                usage="accept",
                mechs=mechanisms,
                store={"keytab": f"FILE:{keytab}"},
            )
        return credentials
    except gssapi.exceptions.GSSError as error:
        raise ValueError(
            f"negotiate.keytab {keytab} holds no usable key of an HTTP/ principal ({_text(error)});"
            " export one for HTTP/ and the public name of the gateway"
        ) from error


def _require_aes(keytab: Path) -> None:
    """Raises ValueError for a keytab whose every ticket would be refused; warns of what could be taken out of it."""
    try:
        types = keytabs.service_types(keytabs.read(keytab))
    except ValueError as error:
        raise ValueError(f"negotiate.keytab {keytab}: {error}") from error
    if not types & AES:
        held = ", ".join(ENCRYPTION_TYPES.get(one, f"type {one}") for one in sorted(types))
        raise ValueError(f"negotiate.keytab {keytab} holds no AES key of HTTP/, only {held}: {USE_AES}")
    if RC4 in types:
        _log.warning(
            "negotiate.keytab %s holds RC4 beside AES; tickets under RC4 are refused: export it anew without it", keytab
        )


def _identity(initiator: raw.Name) -> Identity:
    info = _logon_info(initiator)
    if info is not None:
        domain, account, sid, groups = info.domain, info.account, info.sid, info.groups
    else:
        account, at, domain = raw.display_name(initiator, name_type=False).name.decode("utf-8").rpartition("@")
        sid, groups = None, frozenset()
        if not at:
            raise AuthenticationFailed("Kerberos proved a name without a realm")
    try:
        name_checks.check_part(account)
        name_checks.check_part(domain)
    except ValueError as error:
        raise AuthenticationFailed(f"Kerberos: {error}") from error
    return Identity(domain=domain, account=account, mechanism="kerberos", sid=sid, groups=groups)


def _logon_info(initiator: raw.Name) -> pac.LogonInfo | None:
    """The person in the ticket's PAC where it has one that the domain signed."""
    try:
        attribute = raw.get_name_attribute(initiator, _LOGON_INFO)
    except gssapi.exceptions.GSSError:
        return None  # a realm that is no Windows domain, or a service account that asks for no PAC
    if not attribute.authenticated or not attribute.values:
        raise AuthenticationFailed("the ticket's PAC is not signed with the key in the keytab")
    try:
        return pac.read(attribute.values[0])
    except ValueError as error:
        raise AuthenticationFailed(f"Kerberos: {error}") from error
