"""`calgate check` of the `[oidc]` section: the discovery document, the clock, the claims, and addresses to register."""

from collections.abc import AsyncIterator, Sequence

from calgate.plugin import CheckContext, Finding
from calgate_oidc.client_proof import ClientProof
from calgate_oidc.discovery import Metadata, ProviderFaultError
from calgate_oidc.method import BACK, LOGOUT, PATH
from calgate_oidc.provider import Provider, open_provider
from calgate_oidc.settings import Config
from calgate_oidc.tokens import LEEWAY


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Tries everything that a sign-in needs but the user and the client's secret."""
    try:
        proof = ClientProof(config.client)
    except (OSError, ValueError) as error:
        yield Finding("fail", "oidc client", str(error), "give key and certificate as PEM files that belong together")
        return
    try:
        async with open_provider(config.issuer, proof, config.ca) as provider:
            async for finding in _provider(config, provider, context):
                yield finding
    except OSError as error:
        yield Finding("fail", "oidc.ca", f"the CA file cannot be used: {error}", "give the CA's certificate as PEM")
    for host in context.hosts:
        what = (
            f"to be registered at the provider: https://{host}{PATH}{BACK} (redirect URI),"
            f" https://{host}{PATH}{LOGOUT} (back-channel logout, session required),"
            f" https://{host}/_calgate/signed-out (post-logout redirect URI)"
        )
        yield Finding("note", "oidc", what)


async def _provider(config: Config, provider: Provider, context: CheckContext) -> AsyncIterator[Finding]:
    try:
        metadata = await provider.metadata()
        keys = await provider.keys()
    except ProviderFaultError as error:
        yield Finding("fail", config.issuer, str(error), remedy_for(str(error)))
        return
    verify = "1 key that verifies" if len(keys) == 1 else f"{len(keys)} keys that verify"
    yield Finding("ok", config.issuer, f"it responds, and lists {verify} tokens")
    offset = await provider.clock_offset(context.now)
    if offset is not None:
        yield _clock(offset)
    for finding in _advice(config, metadata):
        yield finding


def remedy_for(fault: str) -> str:
    """Returns what to do about a fault of the provider."""
    if "CERTIFICATE_VERIFY_FAILED" in fault:
        return "set oidc.ca to the certificate of the CA that signed the provider's"
    if "issuer" in fault:
        return "write oidc.issuer exactly as the provider's discovery document has it"
    return "compare oidc.issuer, and open the firewall to the provider"


def _clock(offset: float) -> Finding:
    if abs(offset) > LEEWAY:
        remedy = "synchronize this machine's clock (chronyc tracking)"
        return Finding("fail", "oidc clock", f"it differs from the provider's by {offset:.0f} seconds", remedy)
    return Finding("ok", "oidc clock", f"it differs from the provider's by {abs(offset):.0f} seconds")


def _advice(config: Config, metadata: Metadata) -> Sequence[Finding]:
    claim = config.person.sid or config.person.account
    found = []
    if claim in metadata.claims:
        found.append(Finding("ok", "oidc.person", f"the provider lists the claim {claim}"))
    elif metadata.claims:
        what = f"the provider does not list the claim {claim}, on which every sign-in depends"
        found.append(
            Finding("warn", "oidc.person", what, "add the claim to the ID token; some providers list only a few")
        )
    if not metadata.backchannel_logout:
        what = "the provider announces no back-channel logout: a sign-out there does not end sessions here"
        found.append(Finding("note", "oidc", what))
    if not metadata.end_session_endpoint and config.sign_out == "provider":
        found.append(Finding("note", "oidc", "the provider has no sign-out endpoint: a sign-out here does not end it"))
    return found
