"""Signs users in at an OpenID Connect provider: Entra ID, ADFS, Keycloak and others.

The provider proves who the user is; their account and groups come from the directory, found by SID or account.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from calgate.plugin import Services
from calgate_oidc.check import check
from calgate_oidc.client_proof import ClientProof
from calgate_oidc.method import OidcMethod
from calgate_oidc.provider import open_provider
from calgate_oidc.settings import Config

__all__ = ["Config", "check", "role", "start", "warnings"]

role = "sign-in"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[OidcMethod]:
    """Yields the sign-in method, even if the provider does not respond yet. Raises ValueError or OSError."""
    if not services.can_be_https and not config.issuer.startswith("http:"):
        raise ValueError("without TLS: the provider's responses would be sent in clear text; set listen.tls")
    async with open_provider(config.issuer, ClientProof(config.client), config.ca) as provider:
        yield OidcMethod(config, provider, services.store)


def warnings(config: Config) -> Sequence[str]:
    """Returns sentences about settings that are allowed but unwise."""
    found = []
    if config.issuer.startswith("http:"):
        found.append("oidc.issuer: http, so nothing proves that the provider responded; use it for a trial only")
    if config.person.account is not None:
        found.append(
            "oidc.person: an account's name can be given to somebody else after its user has left; a SID never is:"
            ' use { sid = "…" } if the provider has it'
        )
    return found
