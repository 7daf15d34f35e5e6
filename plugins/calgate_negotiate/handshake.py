"""The sign-in handshake: finds the mechanism from the first token, and keeps to it until the handshake ends.

`State` has the table of transitions. Every state is entered at most once: a handshake that has ended, or that is still
at work on a token, refuses any further one.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from calgate.plugin import Authenticated, AuthenticationFailed, Continue, Peer
from calgate_negotiate import ntlm, ntlm_messages, spnego
from calgate_negotiate.channel_binding import ChannelBindingPolicy
from calgate_negotiate.guard import Guard
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, NegState

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor, KerberosAcceptance

MAX_TOKEN = 49152
"""Bytes: what a header of 65,536 characters can carry in base64. A ticket with 1000 groups has 9,500."""

_Next = tuple["State", bytes]  # the state that the next token finds, and the token to send with the 401


class State(Enum):
    """The states of a handshake, named by the token that is expected next.

    ================= ============================================= ==================================================
    state             token                                         next state, and what is sent
    ================= ============================================= ==================================================
    FIRST             NTLM NEGOTIATE, raw                           NTLM_RESPONSE, CHALLENGE
    FIRST             SPNEGO, NTLM chosen and offered first         SPNEGO_RESPONSE, CHALLENGE in SPNEGO
    FIRST             SPNEGO, NTLM chosen but not offered first     SPNEGO_NEGOTIATE, "request-mic"
    FIRST             Kerberos, raw or in SPNEGO                    COMPLETE, or KERBEROS with the library's token
    KERBEROS          Kerberos or SPNEGO                            COMPLETE, or KERBEROS with the library's token
    SPNEGO_NEGOTIATE  NTLM NEGOTIATE in SPNEGO                      SPNEGO_RESPONSE, CHALLENGE in SPNEGO
    NTLM_RESPONSE     NTLM AUTHENTICATE, raw                        COMPLETE
    SPNEGO_RESPONSE   NTLM AUTHENTICATE in SPNEGO                   COMPLETE, "accept-completed"
    WORKING           any                                           refused: the token before is still being worked on
    COMPLETE, FAILED  any                                           refused: the handshake has ended
    ================= ============================================= ==================================================

    Any other token, and any exception, leads to FAILED. The scheme is that of the first token throughout.
    """

    FIRST = auto()
    KERBEROS = auto()
    SPNEGO_NEGOTIATE = auto()
    NTLM_RESPONSE = auto()
    SPNEGO_RESPONSE = auto()
    WORKING = auto()
    COMPLETE = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """The mechanisms that this gateway accepts, and their conditions."""

    kerberos: "Acceptor | None" = None
    ntlm_verifier: ntlm.Verifier | None = None  # None: NTLM is off
    guard: Guard | None = None  # limits the attempts that reach the verifier; None: no limit
    ntlm_from: Sequence[IPv4Network | IPv6Network] | None = None  # clients that may use NTLM; None: all
    offer_to: Sequence[IPv4Network | IPv6Network] | None = None  # clients that are challenged; None: all
    channel_binding: ChannelBindingPolicy = field(default_factory=lambda: ChannelBindingPolicy("off", None))

    def why_not_ntlm(self, peer: Peer) -> AuthenticationFailed | None:
        """Returns the refusal of NTLM for this peer, or None if NTLM can succeed."""
        if self.ntlm_verifier is None:
            return AuthenticationFailed(
                "the browser sent NTLM, but only Kerberos is on: check the SPN, the intranet zone, and that the address"
                " is a name and not a number",
                code="ntlm-off",
            )
        if peer.behind_proxy:
            return AuthenticationFailed(
                "NTLM through a trusted proxy is refused: it signs a connection in, and a proxy's connection may carry"
                " many users",
                code="ntlm-behind-proxy",
            )
        if not _is_in(peer.address, self.ntlm_from):
            return AuthenticationFailed(
                "NTLM is off for this address: no network of negotiate.ntlm_from contains it", code="ntlm-off"
            )
        return None


class NegotiateAuthenticator:
    """The `Authenticator` of this plugin."""

    def __init__(self, mechanisms: Mechanisms) -> None:
        self._mechanisms = mechanisms
        self.schemes: Sequence[str] = [
            *(["Negotiate"] if mechanisms.kerberos is not None else []),
            *(["NTLM"] if mechanisms.ntlm_verifier is not None else []),
        ]
        self.mechanisms: Sequence[str] = [
            *(["kerberos"] if mechanisms.kerberos is not None else []),
            *(["ntlm"] if mechanisms.ntlm_verifier is not None else []),
        ]

    def schemes_for(self, peer: Peer) -> Sequence[str]:
        """Does not offer NTLM to a client that is refused it: the browser's password box could never succeed."""
        if not _is_in(peer.address, self._mechanisms.offer_to):
            return []
        is_refused = self._mechanisms.why_not_ntlm(peer) is not None
        return [scheme for scheme in self.schemes if scheme != "NTLM" or not is_refused]

    async def count_guess(self, address: str) -> None:
        if self._mechanisms.guard is not None:
            await self._mechanisms.guard.count_guess(address)

    def begin(self, peer: Peer) -> "NegotiateHandshake":
        return NegotiateHandshake(self._mechanisms, peer)


class NegotiateHandshake:
    """The `Handshake` of this plugin: one attempt to sign in; `State` describes it."""

    def __init__(self, mechanisms: Mechanisms, peer: Peer) -> None:
        self._mechanisms = mechanisms
        self._peer = peer
        self._scheme = ""
        self._state = State.FIRST
        self._kerberos: KerberosAcceptance | None = None
        self._ntlm: ntlm.NtlmExchange | None = None
        self._offer: spnego.Init | None = None  # the client's list of mechanisms, from which NTLM was chosen

    @property
    def state(self) -> State:
        return self._state

    async def step(self, scheme: str, credentials: str) -> Continue | Authenticated:
        try:
            token = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError) as error:
            self._state = State.FAILED
            raise AuthenticationFailed("the token is not base64") from error
        return await self.step_token(scheme, token)

    async def step_token(self, scheme: str, token: bytes) -> Continue | Authenticated:
        """Takes one token, decoded."""
        handler = self._handler()
        self._state = State.WORKING if handler is not None else State.FAILED
        if handler is None:
            raise AuthenticationFailed("a finished handshake was stepped again")
        try:
            self._check(scheme.casefold(), token)
            outcome = await handler(token)
        except BaseException:
            self._state = State.FAILED
            raise
        if isinstance(outcome, Authenticated):
            self._state = State.COMPLETE
            return outcome
        self._state, response = outcome
        return Continue(response)

    def _handler(self) -> Callable[[bytes], Awaitable[_Next | Authenticated]] | None:
        match self._state:
            case State.FIRST:
                return self._first
            case State.KERBEROS:
                return self._step_kerberos
            case State.SPNEGO_NEGOTIATE:
                return self._challenge_spnego_ntlm
            case State.NTLM_RESPONSE:
                return self._finish_ntlm
            case State.SPNEGO_RESPONSE:
                return self._finish_spnego_ntlm
            case _:
                return None

    def _check(self, scheme: str, token: bytes) -> None:
        if len(token) > MAX_TOKEN:
            raise AuthenticationFailed(f"a token of {len(token)} bytes is longer than any real one")
        if self._scheme not in ("", scheme):
            raise AuthenticationFailed(
                f"the scheme changed from {self._scheme} to {scheme} in the middle of a handshake"
            )
        self._scheme = scheme

    async def _first(self, token: bytes) -> _Next | Authenticated:
        if ntlm_messages.message_type(token) is not None:
            return await self._begin_ntlm(token)
        if self._scheme == "ntlm":
            raise AuthenticationFailed("the NTLM scheme without an NTLM message")
        offer = _read_spnego(token)
        if isinstance(offer, spnego.Response):
            raise AuthenticationFailed("a Negotiate handshake cannot begin with a response")
        if offer is None or self._choose(offer.mechanisms) == KERBEROS:
            return await self._begin_kerberos(token)
        return await self._begin_spnego_ntlm(offer)

    def _choose(self, offered: Sequence[bytes]) -> bytes:
        """Returns the first mechanism that both sides accept, else the one whose refusal explains most."""
        for oid in offered:
            if oid in (KERBEROS, MS_KERBEROS) and self._mechanisms.kerberos is not None:
                return KERBEROS
            if oid == NTLM and self._mechanisms.ntlm_verifier is not None:
                return NTLM
        return NTLM if NTLM in offered else KERBEROS

    # ------------------------------------------------------------------ Kerberos

    async def _begin_kerberos(self, token: bytes) -> _Next | Authenticated:
        if self._mechanisms.kerberos is None:
            raise AuthenticationFailed("the client sent a Kerberos token, but no keytab is set")
        self._kerberos = self._mechanisms.kerberos.begin(self._mechanisms.channel_binding.expected(self._peer))
        return await self._step_kerberos(token)

    async def _step_kerberos(self, token: bytes) -> _Next | Authenticated:
        assert self._kerberos is not None
        outcome = await self._kerberos.step(token)
        return (State.KERBEROS, outcome.token) if isinstance(outcome, Continue) else outcome

    # ------------------------------------------------------------------ NTLM

    def _exchange(self) -> ntlm.NtlmExchange:
        if (refusal := self._mechanisms.why_not_ntlm(self._peer)) is not None:
            raise refusal
        assert self._mechanisms.ntlm_verifier is not None
        expected = self._mechanisms.channel_binding.expected(self._peer)
        return ntlm.NtlmExchange(self._mechanisms.ntlm_verifier, self._mechanisms.guard, self._peer.address, expected)

    async def _begin_ntlm(self, token: bytes) -> _Next:
        self._ntlm = self._exchange()
        if ntlm_messages.message_type(token) != ntlm_messages.NEGOTIATE:
            raise AuthenticationFailed("an NTLM handshake begins with NEGOTIATE")
        return State.NTLM_RESPONSE, await self._ntlm.challenge(token)

    async def _finish_ntlm(self, token: bytes) -> Authenticated:
        assert self._ntlm is not None
        return Authenticated((await self._ntlm.finish(token)).identity)

    async def _begin_spnego_ntlm(self, offer: spnego.Init) -> _Next:
        """Begins NTLM. Requests a token for it if the client offered, and sent one for, another mechanism first."""
        self._ntlm = self._exchange()
        self._offer = offer
        if offer.mechanisms[0] != NTLM:
            # RFC 4178 section 5: our choice is not the client's first, so both sides must sign the list
            return State.SPNEGO_NEGOTIATE, spnego.write(spnego.Response(NegState.REQUEST_MIC, NTLM))
        if offer.token is None:
            raise AuthenticationFailed("SPNEGO offers NTLM first and sends no message")
        challenge = await self._ntlm.challenge(offer.token)
        response = spnego.Response(NegState.ACCEPT_INCOMPLETE, NTLM, challenge)
        return State.SPNEGO_RESPONSE, spnego.write(response)

    async def _challenge_spnego_ntlm(self, token: bytes) -> _Next:
        assert self._ntlm is not None
        challenge = await self._ntlm.challenge(_inner(token)[0])
        return State.SPNEGO_RESPONSE, spnego.write(spnego.Response(NegState.ACCEPT_INCOMPLETE, token=challenge))

    async def _finish_spnego_ntlm(self, token: bytes) -> Authenticated:
        assert self._ntlm is not None
        assert self._offer is not None
        message, mic = _inner(token)
        session = await self._ntlm.finish(message)
        ours = None
        if mic is not None:
            if not session.is_signed_by_client(self._offer.mechanism_list, mic):
                raise AuthenticationFailed("the list of mechanisms was changed in transit: mechListMIC does not fit")
            ours = session.sign(self._offer.mechanism_list)
        elif self._offer.mechanisms[0] != NTLM:
            raise AuthenticationFailed("the list of mechanisms is not signed: mechListMIC is missing")
        response = spnego.Response(NegState.ACCEPT_COMPLETED, mic=ours)
        return Authenticated(session.identity, spnego.write(response))


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network] | None) -> bool:
    if networks is None:
        return True
    try:
        client = ip_address(address)
    except ValueError:  # the peer of a Unix socket has no address
        return False
    return any(client in network for network in networks)


def _read_spnego(token: bytes) -> spnego.Init | spnego.Response | None:
    try:
        return spnego.read(token)
    except ValueError as error:
        raise AuthenticationFailed(f"not a Negotiate token: {error}") from error


def _inner(token: bytes) -> tuple[bytes, bytes | None]:
    """Returns the mechanism's token in a SPNEGO response, and its mechListMIC. Raises AuthenticationFailed."""
    response = _read_spnego(token)
    if not isinstance(response, spnego.Response) or response.token is None or response.state == NegState.REJECT:
        raise AuthenticationFailed("SPNEGO: a later token carries none of the chosen mechanism")
    return response.token, response.mic
