"""Signs users in by HTTP Negotiate and NTLM.

Kerberos is accepted with a keytab (RFC 4559). NTLM, raw and inside SPNEGO, is accepted by our own acceptor; the domain
or another plugin that has the NT hashes verifies it. Only NTLMv2 is accepted.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from calgate.plugin import Authenticator, Services, start_task
from calgate_negotiate.channel_binding import ChannelBindingPolicy
from calgate_negotiate.check import check
from calgate_negotiate.commands import commands, ntlm_report
from calgate_negotiate.explain import explain_credentials as explain
from calgate_negotiate.guard import Guard
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.load_kerberos import open_keytab
from calgate_negotiate.ntlm import PluginVerifier, Verifier
from calgate_negotiate.screens import screens
from calgate_negotiate.settings import Config
from calgate_negotiate.winbind import Winbind

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor

__all__ = ["Config", "check", "commands", "explain", "ntlm_report", "role", "screens", "start", "warnings"]

role = "authenticator"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Authenticator]:
    """Yields the authenticator. Raises ValueError if a setting cannot be used."""
    if fault := config.binding_fault(has_tls=services.has_tls):
        raise ValueError(fault)
    policy = ChannelBindingPolicy(config.channel_binding, config.binding_certificate)
    async with AsyncExitStack() as stack:
        verifier = _verifier(config, services, stack)
        guard = Guard(services.store, config.guard, passed_on=config.ntlm == "domain")
        stack.push_async_callback(guard.close)  # before the verifier is closed
        mechanisms = Mechanisms(
            kerberos=_kerberos(config, stack),
            ntlm_verifier=verifier,
            guard=guard,
            ntlm_from=config.ntlm_from,
            offer_to=config.offer_to,
            channel_binding=policy,
        )
        watching = start_task(policy.follow(), "negotiate: binding certificate")
        stack.callback(watching.cancel)
        yield NegotiateAuthenticator(mechanisms)


def warnings(config: Config) -> Sequence[str]:
    """Returns sentences about settings that are allowed but unwise."""
    if config.keytab is None:
        return [
            "negotiate.keytab: not set, so browsers can sign in by NTLM only, which Windows is phasing out;"
            " add a keytab for Kerberos"
        ]
    return []


def _kerberos(config: Config, stack: AsyncExitStack) -> "Acceptor | None":
    if config.keytab is None:
        return None
    acceptor = open_keytab(config.keytab)
    stack.callback(acceptor.close)
    return acceptor


def _verifier(config: Config, services: Services, stack: AsyncExitStack) -> Verifier | None:
    if config.ntlm == "domain":
        winbind = Winbind(config.domains)
        stack.callback(winbind.close)
        return winbind
    if config.ntlm == "users":
        if services.ntlm_verifier is None:
            raise ValueError('negotiate.ntlm = "users" needs a [users] section: its file has the NT hashes')
        return PluginVerifier(services.ntlm_verifier)
    return None
