"""`calgate check` of the `[negotiate]` section: Kerberos, winbindd, the guard, a terminator's certificate."""

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

_NOBODY_THERE = ("NT_STATUS_NO_LOGON_SERVERS", "NT_STATUS_DOMAIN_CONTROLLER_NOT_FOUND", "NT_STATUS_HOST_UNREACHABLE")


async def check(config: Config, survey: CheckContext) -> AsyncIterator[Finding]:
    """Everything that the section names, in the order in which a sign-in needs it."""
    if config.keytab is not None:
        async for finding in check_kerberos(config.keytab, survey):
            yield finding
    if config.ntlm == "domain":
        async for finding in _winbind(config, survey):
            yield finding
        if survey.registry is not None:
            yield await compared("guard", survey, partial(_guard, config=config))
    if config.binding_certificate is not None:
        yield await asyncio.to_thread(_terminator, config.binding_certificate, survey.hosts)


# ---------------------------------------------------------------- NTLM


async def _winbind(config: Config, survey: CheckContext) -> AsyncIterator[Finding]:
    try:
        winbind = Winbind(config.domains)
    except ValueError as error:
        yield Finding("fail", "winbindd", str(error))
        return
    try:
        member = await winbind.membership()
        yield Finding("ok", "winbindd", f"this machine is {member.computer} in {member.domain} ({member.dns_domain})")
        trust = await _trust(winbind, survey)
        yield trust
        if trust.level == "ok":
            yield await _proof(winbind, member.domain)
    except Unavailable as refusal:
        yield Finding("fail", "winbindd", refusal.detail, "systemctl start winbind; wbinfo -t")
    finally:
        winbind.close()


async def _trust(winbind: Winbind, survey: CheckContext) -> Finding:
    """Asked over the privileged pipe, as sign-ins are."""
    try:
        status = await winbind.check_trust()
    except Unavailable as refusal:
        remedy = "add the gateway's user to the group winbindd_priv, and start it anew"
        return Finding("fail", "winbindd", refusal.detail, remedy)
    if not status:
        return Finding("ok", "winbindd", "the domain trusts this machine's secret")
    if "directory" in survey.blocked:
        why = f"{survey.blocked['directory']} does not serve"
        return Finding("untried", "winbindd", f"whether the domain trusts this machine: {why}")
    if status in _NOBODY_THERE:
        remedy = "open the way to the domain controllers; wbinfo --ping-dc"
        return Finding("fail", "winbindd", f"no domain controller answers it ({status})", remedy)
    what = f"the domain does not trust this machine: {status}"
    return Finding("fail", "winbindd", what, "join the machine anew: net ads join; then wbinfo -t")


async def _proof(winbind: Winbind, domain: str) -> Finding:
    """An answer that cannot be right, for somebody who cannot be there: harmless, and as good as a real one."""
    nobody = NtlmAttempt(domain, "calgate-check-nobody", "", bytes(8), bytes(16) + b"\1\1" + bytes(42), b"")
    try:
        await winbind.verify(nobody)
    except Unavailable:
        raise
    except Refusal:
        pass
    return Finding("ok", "winbindd", "it proves people to us")


async def _guard(registry: DomainInfo, config: Config) -> Finding:
    policy, limit = await registry.lockout(), config.guard.account
    if not policy.threshold:
        return Finding("ok", "guard", "the domain locks nobody")
    domain = f"the domain locks at {policy.threshold} within {policy.window / 60:.0f} minutes"
    if limit.failures >= policy.threshold:
        remedy = f"negotiate.guard.account: failures = {policy.threshold - 1}"
        return Finding("warn", "guard", f"{domain}, the gateway stops at {limit.failures}", remedy)
    if min(limit.wait, limit.within) < policy.window:
        minutes = f"{policy.window / 60:.0f}m"
        remedy = f'negotiate.guard.account: within = "{minutes}", wait = "{minutes}"'
        return Finding("warn", "guard", f"{domain}, the gateway forgets sooner: a stranger can add up to that", remedy)
    return Finding("ok", "guard", f"{domain}, the gateway stops at {limit.failures}")


# ---------------------------------------------------------------- channel binding


def _terminator(file: Path, hosts: Sequence[str]) -> Finding:
    subject = "binding certificate"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return Finding("fail", subject, f"{file} is not a certificate: {error}", "give the terminator's, as PEM")
    if certificate.not_valid_after_utc.timestamp() < time.time():
        return Finding("fail", subject, f"{file} has expired: browsers see another by now", "copy the terminator's")
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [name.casefold() for name in alternatives.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        names = []
    strangers = [host for host in hosts if not any(_covers(name, host.casefold()) for name in names)]
    if strangers:
        return Finding(
            "warn", subject, f"{file} is not for {', '.join(strangers)}", "give the terminator's for that name"
        )
    return Finding("ok", subject, f"{file} is good until {certificate.not_valid_after_utc:%Y-%m-%d}")


def _covers(name: str, host: str) -> bool:
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])
