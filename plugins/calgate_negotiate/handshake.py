"""One sign-in, token by token: which mechanism it is, and what comes next.

    NTLM scheme        NEGOTIATE -> CHALLENGE -> AUTHENTICATE
    Negotiate scheme   the same, raw; or inside SPNEGO; or a Kerberos token, raw or inside SPNEGO

A conversation is stepped until it proves somebody or fails, and never again after that.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from calgate.plugin import Authenticated, AuthenticationFailed, Continue, Peer
from calgate_negotiate import ntlm, ntlm_messages, spnego
from calgate_negotiate.channel_binding import ChannelBindingPolicy
from calgate_negotiate.guard import Guard
from calgate_negotiate.ntlm import NtlmVerifier
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, State

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor

LONGEST_TOKEN = 49152
"""Bytes: what a header field of 65,536 characters can carry in base64. A ticket with 1000 groups has 9,500."""

Step = Callable[[bytes], Awaitable[Continue | Authenticated]]


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """What this gateway can accept."""

    kerberos: "Acceptor | None" = None
    prover: NtlmVerifier | None = None  # NTLM is on where there is one
    guard: Guard | None = None  # before the prover; None: nobody counts
    ntlm_from: Sequence[IPv4Network | IPv6Network] | None = None  # clients that may use it; None: all
    binder: ChannelBindingPolicy = field(default_factory=lambda: ChannelBindingPolicy("off", None))


class NegotiateAuthenticator:
    """The `Authenticator` of this plugin."""

    def __init__(self, mechanisms: Mechanisms) -> None:
        self._mechanisms = mechanisms
        self.schemes: Sequence[str] = [
            *(["Negotiate"] if mechanisms.kerberos is not None else []),
            *(["NTLM"] if mechanisms.prover is not None else []),
        ]

    def begin(self, peer: Peer) -> "NegotiateHandshake":
        return NegotiateHandshake(self._mechanisms, peer)


class NegotiateHandshake:
    """The `Handshake` of this plugin: finds the conversation by its first token, and keeps to it."""

    def __init__(self, mechanisms: Mechanisms, peer: Peer) -> None:
        self._mechanisms = mechanisms
        self._peer = peer
        self._scheme = ""
        self._next: Step | None = self._first

    async def step(self, scheme: str, credentials: str) -> Continue | Authenticated:
        try:
            token = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError) as error:
            raise AuthenticationFailed("the token is not base64") from error
        return await self.step_token(scheme, token)

    async def step_token(self, scheme: str, token: bytes) -> Continue | Authenticated:
        """Takes one token, decoded."""
        step, self._next = self._next, None  # whatever happens now, this state is not entered twice
        if step is None:
            raise AuthenticationFailed("a finished handshake was stepped again")
        if len(token) > LONGEST_TOKEN:
            raise AuthenticationFailed(f"a token of {len(token)} bytes is longer than any real one")
        scheme = scheme.casefold()
        if self._scheme not in ("", scheme):
            raise AuthenticationFailed(
                f"the scheme changed from {self._scheme} to {scheme} in the middle of a handshake"
            )
        self._scheme = scheme
        return await step(token)

    def _goes_on(self, token: bytes, step: Step) -> Continue:
        self._next = step
        return Continue(token)

    async def _first(self, token: bytes) -> Continue | Authenticated:
        if ntlm_messages.message_type(token) is not None:
            return await self._begin_ntlm(token)
        if self._scheme == "ntlm":
            raise AuthenticationFailed("the NTLM scheme without an NTLM message")
        try:
            opening = spnego.read(token)
        except ValueError as error:
            raise AuthenticationFailed(f"not a Negotiate token: {error}") from error
        if isinstance(opening, spnego.Response):
            raise AuthenticationFailed("a Negotiate handshake cannot begin with a response")
        if opening is None or self._choose(opening.mechanisms) == KERBEROS:
            return await self._begin_kerberos(token)
        return await self._begin_spnego_ntlm(opening)

    def _choose(self, offered: Sequence[bytes]) -> bytes:
        """The first that the client offers and we take; else the one whose refusal tells most."""
        for oid in offered:
            if oid in (KERBEROS, MS_KERBEROS) and self._mechanisms.kerberos is not None:
                return KERBEROS
            if oid == NTLM and self._mechanisms.prover is not None:
                return NTLM
        return NTLM if NTLM in offered else KERBEROS

    # ------------------------------------------------------------------ Kerberos

    async def _begin_kerberos(self, token: bytes) -> Continue | Authenticated:
        if self._mechanisms.kerberos is None:
            raise AuthenticationFailed("the client sent a Kerberos token, but no keytab is set")
        ticket = self._mechanisms.kerberos.begin(self._mechanisms.binder.bound(self._peer))

        async def step(token: bytes) -> Continue | Authenticated:
            outcome = await ticket.step(token)
            return self._goes_on(outcome.token, step) if isinstance(outcome, Continue) else outcome

        return await step(token)

    # ------------------------------------------------------------------ NTLM

    def _exchange(self) -> ntlm.NtlmExchange:
        if self._mechanisms.prover is None:
            raise AuthenticationFailed(
                "the browser sent NTLM, but only Kerberos is on: check the SPN, the intranet zone, and that the address"
                " is a name and not a number",
                code="ntlm-off",
            )
        if self._peer.behind_proxy:
            raise AuthenticationFailed(
                "NTLM through a trusted proxy is refused: it signs a connection in, and a proxy's may carry many users",
                code="ntlm-behind-proxy",
            )
        if not _is_in(self._peer.address, self._mechanisms.ntlm_from):
            raise AuthenticationFailed(
                "NTLM from this address is off: it is in none of negotiate.ntlm_from", code="ntlm-off"
            )
        bound = self._mechanisms.binder.bound(self._peer)
        return ntlm.NtlmExchange(self._mechanisms.prover, self._mechanisms.guard, self._peer.address, bound)

    async def _begin_ntlm(self, token: bytes) -> Continue:
        exchange = self._exchange()
        if ntlm_messages.message_type(token) != ntlm_messages.NEGOTIATE:
            raise AuthenticationFailed("an NTLM handshake begins with NEGOTIATE")

        async def finish(token: bytes) -> Authenticated:
            return Authenticated((await exchange.prove(token)).identity)

        return self._goes_on(await exchange.challenge(token), finish)

    async def _begin_spnego_ntlm(self, opening: spnego.Init) -> Continue:
        """NTLM was chosen. Where it was not the client's first choice, its token is for another mechanism: ask anew."""
        exchange = self._exchange()
        if opening.mechanisms[0] == NTLM:
            if opening.token is None:
                raise AuthenticationFailed("SPNEGO offers NTLM first and sends no message")
            challenge = await exchange.challenge(opening.token)
            answer = spnego.Response(State.ACCEPT_INCOMPLETE, NTLM, challenge)
            return self._goes_on(spnego.write(answer), _SpnegoNtlm(exchange, opening, mic_due=False).finish)

        async def challenge_now(token: bytes) -> Continue:
            challenge = await exchange.challenge(_inner(token)[0])
            answer = spnego.Response(State.ACCEPT_INCOMPLETE, token=challenge)
            return self._goes_on(spnego.write(answer), _SpnegoNtlm(exchange, opening, mic_due=True).finish)

        # RFC 4178 section 5: our choice is not the client's first, so both must sign the list it was chosen from
        return self._goes_on(spnego.write(spnego.Response(State.REQUEST_MIC, NTLM)), challenge_now)


@dataclass(frozen=True, slots=True)
class _SpnegoNtlm:
    exchange: ntlm.NtlmExchange
    opening: spnego.Init
    mic_due: bool

    async def finish(self, token: bytes) -> Authenticated:
        message, mic = _inner(token)
        session = await self.exchange.prove(message)
        ours = None
        if mic is not None:
            if not session.is_signed_by_client(self.opening.mechanism_list, mic):
                raise AuthenticationFailed("the list of mechanisms was changed on its way: mechListMIC does not fit")
            ours = session.sign(self.opening.mechanism_list)
        elif self.mic_due:
            raise AuthenticationFailed("the list of mechanisms is not signed: mechListMIC is missing")
        return Authenticated(session.identity, spnego.write(spnego.Response(State.ACCEPT_COMPLETED, mic=ours)))


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network] | None) -> bool:
    if networks is None:
        return True
    try:
        client = ip_address(address)
    except ValueError:  # a unix socket's peer has none
        return False
    return any(client in network for network in networks)


def _inner(token: bytes) -> tuple[bytes, bytes | None]:
    """The mechanism's token of a SPNEGO response, and the mechListMIC with it; raises Unproven."""
    try:
        response = spnego.read(token)
    except ValueError as error:
        raise AuthenticationFailed(f"not a Negotiate token: {error}") from error
    if not isinstance(response, spnego.Response) or response.token is None or response.state == State.REJECT:
        raise AuthenticationFailed("SPNEGO goes on with a token that carries none of its mechanism's")
    return response.token, response.mic
