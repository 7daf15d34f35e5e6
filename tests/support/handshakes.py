"""Shakes hands in memory: an independent client (pyspnego) against our authenticator."""

import base64
from collections.abc import Callable
from pathlib import Path

import spnego

from calgate.plugin.identity import Authenticated, Continue, Handshake, Peer
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.ntlm import PluginVerifier
from calgate_users.directory import UsersDirectory

PEER = Peer(address="192.0.2.7", behind_proxy=False)
Tamper = Callable[[int, bytes], bytes]


def authenticator(users_file: Path) -> NegotiateAuthenticator:
    """NTLM by a users file, no Kerberos."""
    return NegotiateAuthenticator(Mechanisms(ntlm_verifier=PluginVerifier(UsersDirectory(users_file))))


def ntlm_client(user: str, password: str = "demo", *, spnego_wrapped: bool = False) -> "spnego.ContextProxy":
    """A client that responds as Windows does: with a MIC, and with mechListMIC inside SPNEGO."""
    context = spnego.client(
        user,
        password,
        hostname="gateway",
        service="HTTP",
        protocol="negotiate" if spnego_wrapped else "ntlm",
        options=spnego.NegotiateOptions.use_negotiate if spnego_wrapped else spnego.NegotiateOptions.use_ntlm,
    )
    assert context is not None
    return context


async def shake(
    handshake: Handshake, client: "spnego.ContextProxy", scheme: str, tamper: Tamper = lambda _leg, token: token
) -> Authenticated:
    """Takes all steps; `tamper` may change each of the client's tokens in transit."""
    token = client.step()
    for leg in range(1, 5):
        assert token is not None
        outcome = await handshake.step(scheme, base64.b64encode(tamper(leg, token)).decode())
        if isinstance(outcome, Authenticated):
            if outcome.token is not None and not client.complete:
                client.step(outcome.token)
            return outcome
        assert isinstance(outcome, Continue)
        token = client.step(outcome.token)
    raise AssertionError("the handshake does not end")
