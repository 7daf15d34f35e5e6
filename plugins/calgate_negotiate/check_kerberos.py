"""The Kerberos part of `calgate check`: keytab and SPNs against the directory, clocks, names, a ticket.

One cause, one failure: what cannot work because something else failed is reported as not tried.
"""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from calgate.plugin import (
    AuthenticationFailed,
    CheckContext,
    DomainInfo,
    Finding,
    ServiceAccount,
    Unavailable,
    closing_command,
)
from calgate_negotiate import keytab
from calgate_negotiate.keytab import AES, ENCRYPTION_TYPES, RC4, USE_AES, Key
from calgate_negotiate.load_kerberos import open_keytab

SKEW_FAILS = 300.0  # seconds: Kerberos' own limit
SKEW_WARNS = 60.0
_AES_BITS = 0x18  # of msDS-SupportedEncryptionTypes (MS-KILE 2.2.7)
_EXPORT = "export the keytab again, with ktpass or samba-tool domain exportkeytab"


async def check_kerberos(file: Path, context: CheckContext) -> AsyncIterator[Finding]:
    """Checks everything that a ticket needs, and then a ticket from end to end."""
    broken = ""
    async for finding in _before_a_ticket(file, context):
        if finding.level in ("fail", "untried"):
            broken = broken or finding.subject
        yield finding
    yield await _ticket(file, context, broken)


async def compared(subject: str, context: CheckContext, compare: Callable[[DomainInfo], Awaitable[Finding]]) -> Finding:
    """Returns the finding of a comparison with the directory, or why there is none."""
    assert context.registry is not None
    if "directory" in context.blocked:
        return Finding("untried", subject, f"not compared with the directory: see {context.blocked['directory']}")
    try:
        return await compare(context.registry)
    except Unavailable as refusal:
        what = f"no reply about {subject}: {refusal.detail}"
        remedy = "check the domain controllers and the rights of the bind account, then run this again"
        return Finding("fail", "directory", what, remedy, blocks="directory")


async def _before_a_ticket(file: Path, context: CheckContext) -> AsyncIterator[Finding]:
    keys, found = await asyncio.to_thread(check_keytab, file, context.services.state_dir)
    for finding in found:
        yield finding
    if context.registry is not None:
        yield await compared("clock", context, partial(_clock, now=context.now))
    if not context.hosts:
        yield Finding("note", "SPN", "no route names a host, so SPNs cannot be checked", "give --host NAME")
    for host in context.hosts:
        name = await asyncio.to_thread(_names, host)
        yield name
        if name.level == "fail":
            yield Finding("untried", "SPN", f"the holder of HTTP/{host}: the name is not in the DNS")
        elif context.registry is not None:
            yield await compared("SPN", context, partial(check_holder, service=f"HTTP/{host}", keys=keys))


def check_keytab(file: Path, state_dir: Path) -> tuple[Sequence[Key], Sequence[Finding]]:
    """Returns the entries of a keytab, and the findings about the file."""
    try:
        keys = keytab.read(file)
    except OSError as error:
        what, _, remedy = keytab.why_unreadable(file, error).partition("; ")
        return (), [Finding("fail", "keytab", what, remedy)]
    except ValueError as error:
        return (), [Finding("fail", "keytab", f"{file}: {error}", _EXPORT)]
    return keys, list(_keytab(file, keys, state_dir))


def _keytab(file: Path, keys: Sequence[Key], state_dir: Path) -> Iterator[Finding]:
    yield _held(file, keys)
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o007:
        what = f"every user of this machine can read {file} (mode {mode:04o})"
        yield Finding("warn", "keytab", what, closing_command(file, state_dir))


def _held(file: Path, keys: Sequence[Key]) -> Finding:
    ours = [key for key in keys if key.principal.startswith("HTTP/")]
    if not ours:
        others = ", ".join(sorted({key.principal for key in keys})) or "nothing"
        return Finding("fail", "keytab", f"{file} has no HTTP/ key, but {others}", _EXPORT)
    names = ", ".join(sorted({f"{key.principal} (kvno {key.version})" for key in ours}))
    types = keytab.service_types(keys)
    spelled = ", ".join(ENCRYPTION_TYPES.get(one, str(one)) for one in sorted(types))
    if not types & AES:
        return Finding("fail", "keytab", f"{names}: only {spelled}", USE_AES)
    if RC4 in types:
        return Finding("warn", "keytab", f"{names}: {spelled}", "RC4 is obsolete: " + _EXPORT + " without it")
    try:
        open_keytab(file).close()
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        return Finding("fail", "keytab", what, remedy)
    return Finding("ok", "keytab", f"{names}: {spelled}")


async def _clock(registry: DomainInfo, now: Callable[[], float]) -> Finding:
    began = now()
    theirs = await registry.clock()
    skew = theirs - (began + now()) / 2
    what = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the domain controller"
    if abs(skew) >= SKEW_FAILS:
        return Finding(
            "fail",
            "clock",
            f"{what}: no ticket is accepted",
            "synchronize this machine's clock with the domain's (chrony)",
        )
    if abs(skew) >= SKEW_WARNS:
        return Finding("warn", "clock", what, "synchronize this machine's clock with the domain's (chrony)")
    return Finding("ok", "clock", "agrees with the domain controller's")


async def check_holder(registry: DomainInfo, service: str, keys: Sequence[Key]) -> Finding:
    """Compares the account that holds an SPN with the keys of a keytab."""
    held_by = await registry.holders(service)
    if not held_by:
        return Finding(
            "fail", "SPN", f"no account holds {service}, so browsers get no ticket", f"setspn -S {service} ACCOUNT"
        )
    if len(held_by) > 1:
        names = ", ".join(sorted(holder.name for holder in held_by))
        remedy = f"remove it from all but one: setspn -D {service} ACCOUNT"
        return Finding("fail", "SPN", f"{service} is held by {names}, so the KDC issues no ticket", remedy)
    return _holder(service, held_by[0], keys)


def _holder(service: str, holder: ServiceAccount, keys: Sequence[Key]) -> Finding:
    if holder.is_disabled:
        return Finding("fail", "SPN", f"{holder.name}, which holds {service}, is disabled", "enable the account")
    types = keytab.service_types(keys)
    is_reported = bool(types) and not types & AES  # by the keytab's finding, with the same remedy
    if holder.encryption_types and not holder.encryption_types & _AES_BITS and not is_reported:
        return Finding("fail", "SPN", f"{holder.name}, which holds {service}, does not allow AES", USE_AES)
    mine = {key.version for key in keys if key.principal.casefold() == service.casefold()}
    mine = mine or {key.version for key in keys if key.principal.startswith("HTTP/")}
    if not mine:  # the keytab's own finding says so
        return Finding("ok", "SPN", f"{service} is held by {holder.name}")
    if holder.key_version not in mine:
        what = f"{holder.name}'s key for {service} is version {holder.key_version}, the keytab has"
        return Finding("fail", "SPN", f"{what} {', '.join(map(str, sorted(mine)))}", _EXPORT)
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
        return Finding("warn", "DNS", f"{host} is {addresses[0]}, whose name is {reverse}", remedy)
    return Finding("ok", "DNS", f"{host} is {', '.join(addresses)}, and back")


async def _ticket(file: Path, context: CheckContext, broken: str) -> Finding:
    if context.login is None or not context.hosts:
        return Finding("note", "ticket", "no sign-in was tried", "give --as USER to try one from end to end")
    if broken or "login" in context.blocked:
        return Finding("untried", "ticket", f"no sign-in from end to end: see {broken or context.blocked['login']}")
    user, password = context.login
    if not password:
        return Finding("note", "ticket", f"no sign-in was tried: there is no password of {user}")
    try:
        from calgate_negotiate.check_sign_in import sign_in

        identity = await asyncio.to_thread(sign_in, file, context.hosts[0], user, password)
    except (AuthenticationFailed, ValueError) as error:
        remedy = (
            "check the name and the password, and /etc/krb5.conf: it must find the domain's KDCs, and have rdns = false"
            " where the address resolves to another name"
        )
        return Finding("fail", "ticket", f"{user} for HTTP/{context.hosts[0]}: {error}", remedy)
    return Finding(
        "ok", "ticket", f"accepted from end to end: {identity.name}, {len(identity.groups)} groups in the PAC"
    )
