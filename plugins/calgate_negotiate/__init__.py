"""Signs people in by HTTP Negotiate and NTLM.

Kerberos is accepted against a keytab (RFC 4559); NTLM, raw and inside SPNEGO, by an acceptor of our own whose proof
comes from whatever knows the NT hashes. Only NTLMv2 is accepted.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from calgate.plugin import Authenticator, Services
from calgate_negotiate.channel_binding import ChannelBindingPolicy
from calgate_negotiate.check import check
from calgate_negotiate.commands import commands, ntlm_report
from calgate_negotiate.explain import explain_credentials as explain
from calgate_negotiate.guard import Guard
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.load_kerberos import open_keytab
from calgate_negotiate.ntlm import NtlmVerifier, UsersVerifier
from calgate_negotiate.settings import Config
from calgate_negotiate.winbind import Winbind

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor

__all__ = ["Config", "check", "commands", "explain", "ntlm_report", "role", "start", "warnings"]

role = "authenticator"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Authenticator]:
    """Yields the authenticator; raises ValueError with a sentence where a setting cannot be used as it is."""
    binder = ChannelBindingPolicy(config.channel_binding, config.binding_certificate)
    with ExitStack() as opened:
        mechanisms = Mechanisms(
            kerberos=_kerberos(config, opened),
            prover=_prover(config, services, opened),
            guard=Guard(services.store, config.guard, passed_on=config.ntlm == "domain"),
            ntlm_from=config.ntlm_from,
            binder=binder,
        )
        following = asyncio.create_task(binder.follow())
        opened.callback(following.cancel)
        yield NegotiateAuthenticator(mechanisms)


def warnings(config: Config) -> Sequence[str]:
    """Settings that are allowed and unwise."""
    if config.keytab is None:
        return [
            "negotiate.ntlm without negotiate.keytab: browsers can sign in by NTLM only, which Windows is giving up;"
            " a keytab adds Kerberos"
        ]
    return []


def _kerberos(config: Config, opened: ExitStack) -> "Acceptor | None":
    if config.keytab is None:
        return None
    acceptor = open_keytab(config.keytab)
    opened.callback(acceptor.close)
    return acceptor


def _prover(config: Config, services: Services, opened: ExitStack) -> NtlmVerifier | None:
    if config.ntlm == "domain":
        winbind = Winbind(config.domains)
        opened.callback(winbind.close)
        return winbind
    if config.ntlm == "users":
        if services.prover is None:
            raise ValueError('negotiate.ntlm = "users" needs a [users] section: its file knows the NT hashes')
        return UsersVerifier(services.prover)
    return None
