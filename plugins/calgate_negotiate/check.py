"""`calgate check` of the `[negotiate]` section: keytab and SPNs against the directory, clocks, winbindd, guard."""

import asyncio
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from cryptography import x509

from calgate.contract import Finding, NtlmAttempt, Registry, ServiceAccount, Survey
from calgate.refusal import Refusal, Unavailable, Unproven
from calgate_negotiate import keytab
from calgate_negotiate.keytab import AES, ENCRYPTION_TYPES, RC4, USE_AES, Key
from calgate_negotiate.settings import Config
from calgate_negotiate.winbind import Winbind

SKEW_FAILS = 300.0  # seconds: Kerberos' own limit
SKEW_WARNS = 60.0
_AES_BITS = 0x18  # of msDS-SupportedEncryptionTypes (MS-KILE 2.2.7)


async def check(config: Config, survey: Survey) -> AsyncIterator[Finding]:
    """Everything that the section names, in the order in which a sign-in needs it."""
    if config.keytab is not None:
        async for finding in _kerberos(config.keytab, survey):
            yield finding
    if config.ntlm == "domain":
        async for finding in _winbind(config, survey.registry):
            yield finding
    if config.binding_certificate is not None:
        yield await asyncio.to_thread(_terminator, config.binding_certificate, survey.hosts)


# ---------------------------------------------------------------- Kerberos


async def _kerberos(file: Path, survey: Survey) -> AsyncIterator[Finding]:
    try:
        keys = await asyncio.to_thread(keytab.read, file)
    except (OSError, ValueError) as error:
        yield Finding("fail", "keytab", f"{file} cannot be read: {error}", _EXPORT)
        return
    for finding in _keytab(file, keys):
        yield finding
    if survey.registry is not None:
        yield await _compared("clock", _clock(survey.registry, survey.now))
    if not survey.hosts:
        yield Finding("note", "SPN", "no route names a host, so SPNs cannot be checked", "give --host NAME")
    for host in survey.hosts:
        yield await asyncio.to_thread(_names, host)
        if survey.registry is not None:
            yield await _compared("SPN", _spn(survey.registry, host, keys))
    yield await _ticket(file, survey)


_EXPORT = "export the keytab anew, with ktpass or samba-tool domain exportkeytab"


def _keytab(file: Path, keys: Sequence[Key]) -> Iterator[Finding]:
    ours = [key for key in keys if key.principal.startswith("HTTP/")]
    if not ours:
        others = ", ".join(sorted({key.principal for key in keys})) or "nothing"
        yield Finding("fail", "keytab", f"{file} holds no HTTP/ key, but {others}", _EXPORT)
        return
    names = ", ".join(sorted({f"{key.principal} (kvno {key.version})" for key in ours}))
    types = keytab.service_types(keys)
    spelled = ", ".join(ENCRYPTION_TYPES.get(one, str(one)) for one in sorted(types))
    if not types & AES:
        yield Finding("fail", "keytab", f"{names}: only {spelled}", USE_AES)
    elif RC4 in types:
        yield Finding("warn", "keytab", f"{names}: {spelled}", "RC4 is at its end: " + _EXPORT + " without it")
    else:
        yield Finding("ok", "keytab", f"{names}: {spelled}")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o007:
        yield Finding("warn", "keytab", f"everybody may read {file} (mode {mode:04o})", f"chmod o= {file}")


async def _compared(subject: str, comparing: Awaitable[Finding]) -> Finding:
    try:
        return await comparing
    except Unavailable as refusal:
        return Finding("fail", subject, f"could not be compared with the directory: {refusal.detail}", "see ldap")


async def _clock(registry: Registry, now: Callable[[], float]) -> Finding:
    began = now()
    theirs = await registry.clock()
    skew = theirs - (began + now()) / 2
    what = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the domain controller"
    if abs(skew) >= SKEW_FAILS:
        return Finding(
            "fail", "clock", f"{what}: no ticket is taken", "set this machine's clock by the domain's (chrony)"
        )
    if abs(skew) >= SKEW_WARNS:
        return Finding("warn", "clock", what, "set this machine's clock by the domain's (chrony)")
    return Finding("ok", "clock", "agrees with the domain controller's")


async def _spn(registry: Registry, host: str, keys: Sequence[Key]) -> Finding:
    service = f"HTTP/{host}"
    held_by = await registry.holders(service)
    if not held_by:
        return Finding(
            "fail", "SPN", f"nobody holds {service}, so browsers get no ticket", f"setspn -S {service} ACCOUNT"
        )
    if len(held_by) > 1:
        names = ", ".join(sorted(holder.name for holder in held_by))
        remedy = f"remove it from all but one: setspn -D {service} ACCOUNT"
        return Finding("fail", "SPN", f"{service} is held by {names}: the KDC gives no ticket then", remedy)
    return _holder(service, held_by[0], keys)


def _holder(service: str, holder: ServiceAccount, keys: Sequence[Key]) -> Finding:
    if holder.is_disabled:
        return Finding("fail", "SPN", f"{holder.name}, who holds {service}, is disabled", "enable the account")
    if holder.encryption_types and not holder.encryption_types & _AES_BITS:
        return Finding(
            "fail",
            "SPN",
            f"{holder.name}, who holds {service}, takes no AES",
            USE_AES,
        )
    mine = {key.version for key in keys if key.principal.casefold() == service.casefold()}
    mine = mine or {key.version for key in keys if key.principal.startswith("HTTP/")}
    if holder.key_version not in mine:
        what = f"{holder.name}'s key for {service} is version {holder.key_version}, the keytab has"
        return Finding("fail", "SPN", f"{what} {', '.join(map(str, sorted(mine))) or 'none'}", _EXPORT)
    return Finding("ok", "SPN", f"{service} is held by {holder.name}, key version {holder.key_version}")


def _names(host: str) -> Finding:
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, 443)})
    except OSError as error:
        return Finding("fail", "DNS", f"{host} is not found: {error.strerror or error}", "add it to the DNS")
    try:
        reverse = socket.gethostbyaddr(addresses[0])[0]
    except OSError:
        reverse = host
    if reverse.casefold() != host.casefold():
        remedy = f"hold HTTP/{reverse} too, or correct the PTR record: some clients ask for a ticket by that name"
        return Finding("warn", "DNS", f"{host} is {addresses[0]}, which is called {reverse}", remedy)
    return Finding("ok", "DNS", f"{host} is {', '.join(addresses)}, and back")


async def _ticket(file: Path, survey: Survey) -> Finding:
    if survey.login is None or not survey.hosts:
        return Finding("note", "ticket", "no sign-in was tried", "give --as USER to try one from end to end")
    from calgate_negotiate.trial import sign_in

    user, password = survey.login
    try:
        identity = await asyncio.to_thread(sign_in, file, survey.hosts[0], user, password)
    except (Unproven, ValueError) as error:
        return Finding("fail", "ticket", f"{user} for HTTP/{survey.hosts[0]}: {error}", "see the findings above")
    return Finding("ok", "ticket", f"taken from end to end: {identity.name}, {len(identity.groups)} groups in the PAC")


# ---------------------------------------------------------------- NTLM


async def _winbind(config: Config, registry: Registry | None) -> AsyncIterator[Finding]:
    try:
        winbind = Winbind(config.domains)
    except ValueError as error:
        yield Finding("fail", "winbindd", str(error))
        return
    try:
        member = await winbind.membership()
        yield Finding("ok", "winbindd", f"this machine is {member.computer} in {member.domain} ({member.dns_domain})")
        yield await _trust(winbind)
        yield await _pipe(winbind, member.domain)
    except Unavailable as refusal:
        yield Finding("fail", "winbindd", refusal.detail, "systemctl start winbind; wbinfo -t")
    finally:
        winbind.close()
    if registry is not None:
        yield await _compared("guard", _guard(registry, config))


async def _trust(winbind: Winbind) -> Finding:
    try:
        await winbind.check_trust()
    except Unavailable as refusal:
        return Finding("fail", "winbindd", refusal.detail, "join the machine anew: net ads join; then wbinfo -t")
    return Finding("ok", "winbindd", "the domain trusts this machine's secret")


async def _pipe(winbind: Winbind, domain: str) -> Finding:
    """An answer that cannot be right, for somebody who cannot be there: harmless, and as good as a real one."""
    nobody = NtlmAttempt(domain, "calgate-check-nobody", "", bytes(8), bytes(16) + b"\1\1" + bytes(42), b"")
    try:
        await winbind.prove(nobody)
    except Unavailable as refusal:
        remedy = "add the gateway's user to the group winbindd_priv, and start it anew"
        return Finding("fail", "winbindd", f"it proves nobody to us: {refusal.detail}", remedy)
    except Refusal:
        pass
    return Finding("ok", "winbindd", "it proves people to us")


async def _guard(registry: Registry, config: Config) -> Finding:
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
        return Finding("fail", subject, f"{file} is no certificate: {error}", "give the terminator's, as PEM")
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
