"""`calgate check` of the `[negotiate]` section: Kerberos, winbindd, the guard, a TLS terminator's certificate."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from cryptography import x509

from calgate.plugin import CheckContext, DomainInfo, Finding, NtlmAttempt, Refusal, Unavailable
from calgate_negotiate.check_kerberos import check_kerberos, compared
from calgate_negotiate.settings import Config
from calgate_negotiate.winbind import Winbind

_NO_DOMAIN_CONTROLLER = (
    "NT_STATUS_NO_LOGON_SERVERS",
    "NT_STATUS_DOMAIN_CONTROLLER_NOT_FOUND",
    "NT_STATUS_HOST_UNREACHABLE",
)


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Tries everything that the section names, in the order in which a sign-in needs it."""
    if config.keytab is not None:
        async for finding in check_kerberos(config.keytab, context):
            yield finding
    if config.ntlm == "domain":
        async for finding in _winbind(config, context):
            yield finding
        if context.registry is not None:
            yield await compared("guard", context, partial(_guard, config=config))
    if fault := config.binding_fault(has_tls=context.has_tls):
        what, _, remedy = fault.partition("; ")
        yield Finding("fail", "channel binding", what, remedy)
    if config.binding_certificate is not None:
        yield await asyncio.to_thread(_terminator, config.binding_certificate, context.hosts)


# ---------------------------------------------------------------- NTLM


async def _winbind(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    try:
        winbind = Winbind(config.domains)
    except ValueError as error:
        yield Finding("fail", "winbindd", str(error))
        return
    try:
        member = await winbind.membership()
        yield Finding("ok", "winbindd", f"this machine is {member.computer} in {member.domain} ({member.dns_domain})")
        trust = await _trust(winbind, context)
        yield trust
        if trust.level == "ok":
            yield await _proof(winbind, member.domain)
    except Unavailable as refusal:
        yield Finding("fail", "winbindd", refusal.detail, "systemctl start winbind; wbinfo -t")
    finally:
        winbind.close()


async def _trust(winbind: Winbind, context: CheckContext) -> Finding:
    """Checks the trust through the privileged pipe, as sign-ins do."""
    try:
        status = await winbind.check_trust()
    except Unavailable as refusal:
        remedy = "add the gateway's user to the group winbindd_priv, and restart the gateway"
        return Finding("fail", "winbindd", refusal.detail, remedy)
    if not status:
        return Finding("ok", "winbindd", "the domain trusts this machine")
    if "directory" in context.blocked:
        why = f"{context.blocked['directory']} failed"
        return Finding("untried", "winbindd", f"the domain's trust in this machine: {why}")
    if status in _NO_DOMAIN_CONTROLLER:
        remedy = "open the firewall to the domain controllers; wbinfo --ping-dc"
        return Finding("fail", "winbindd", f"no domain controller responds to it ({status})", remedy)
    what = f"the domain does not trust this machine: {status}"
    return Finding("fail", "winbindd", what, "join the machine again: net ads join; then wbinfo -t")


async def _proof(winbind: Winbind, domain: str) -> Finding:
    """Verifies a response that cannot be right, for a user who cannot exist: it needs all that a real one needs."""
    attempt = NtlmAttempt(domain, "calgate-check-nobody", "", bytes(8), bytes(16) + b"\1\1" + bytes(42), b"")
    try:
        await winbind.verify(attempt)
    except Unavailable:
        raise
    except Refusal:
        pass
    return Finding("ok", "winbindd", "it verifies users")


async def _guard(registry: DomainInfo, config: Config) -> Finding:
    policy, limit = await registry.lockout(), config.guard.account
    if not policy.threshold:
        return Finding("ok", "guard", "the domain locks no accounts")
    domain = f"the domain locks after {policy.threshold} failures within {policy.window / 60:.0f} minutes"
    if limit.failures >= policy.threshold:
        remedy = f"negotiate.guard.account: failures = {policy.threshold - 1}"
        return Finding("warn", "guard", f"{domain}, the gateway stops after {limit.failures}", remedy)
    if min(limit.wait, limit.within) < policy.window:
        minutes = f"{policy.window / 60:.0f}m"
        remedy = f'negotiate.guard.account: within = "{minutes}", wait = "{minutes}"'
        return Finding("warn", "guard", f"{domain}, the gateway forgets sooner: a stranger can lock accounts", remedy)
    return Finding("ok", "guard", f"{domain}, the gateway stops after {limit.failures}")


# ---------------------------------------------------------------- channel binding


def _terminator(file: Path, hosts: Sequence[str]) -> Finding:
    subject = "binding certificate"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return Finding(
            "fail", subject, f"{file} is not a certificate: {error}", "give the TLS terminator's certificate, as PEM"
        )
    if certificate.not_valid_after_utc.timestamp() < time.time():
        return Finding(
            "fail",
            subject,
            f"{file} has expired, so browsers see another one",
            "copy the TLS terminator's current certificate",
        )
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [name.casefold() for name in alternatives.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        names = []
    strangers = [host for host in hosts if not any(_covers(name, host.casefold()) for name in names)]
    if strangers:
        return Finding(
            "warn",
            subject,
            f"{file} is not for {', '.join(strangers)}",
            "give the TLS terminator's certificate for that name",
        )
    return Finding("ok", subject, f"{file} is good until {certificate.not_valid_after_utc:%Y-%m-%d}")


def _covers(name: str, host: str) -> bool:
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])
