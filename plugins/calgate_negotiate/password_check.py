"""`calgate check` of the `[password]` section: whether browsers reach the form, the keytab, the KDCs, a sign-in.

What `[negotiate]` reports of the same keytab is not reported again.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from calgate.plugin import AuthenticationFailed, CheckContext, Finding, Network, Refusal, Unavailable
from calgate_negotiate import keytab as keytabs
from calgate_negotiate.check_kerberos import check_holder, check_keytab, compared
from calgate_negotiate.guard import NothingLearnedError
from calgate_negotiate.keytab import Key
from calgate_negotiate.load_password_kerberos import open_domain
from calgate_negotiate.password_names import PasswordName
from calgate_negotiate.password_settings import Config, negotiate_beside
from calgate_negotiate.settings import Config as NegotiateConfig

if TYPE_CHECKING:
    from calgate_negotiate.password_kerberos import DomainVerifier

_SUBJECT = "password"
_NOBODY = "calgate-check-nobody"  # a KDC that responds does not know this name


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Tries everything that the form needs, in the order in which a sign-in needs it."""
    if fault := config.fault_beside(context.services):
        what, _, remedy = fault.partition("; ")
        yield Finding("fail", _SUBJECT, what, remedy)
        return
    if not context.has_tls and not config.insecure:
        what = "the form is shown only where a trusted proxy says that the browser uses https"
        yield Finding("note", _SUBJECT, what, "let the proxy send X-Forwarded-Proto: https")
    negotiate = negotiate_beside(context.services)
    if negotiate is not None:
        for finding in _dialogs(negotiate):
            yield finding
    keytab = config.keytab_beside(context.services)
    if keytab is None:
        return
    if config.change and context.services.password_changer is None:
        what = "users cannot change an expired password here: no directory does it for them"
        yield Finding("note", _SUBJECT, what, "set up [ldap], or password.change = false")
    async for finding in _domain(config, keytab, context):
        yield finding


def _dialogs(negotiate: NegotiateConfig) -> Iterator[Finding]:
    """Yields why a browser shows its own dialog before the form, or the form to somebody who has a ticket."""
    if negotiate.ntlm != "off" and _are_all(negotiate.ntlm_from) and _are_all(negotiate.offer_to):
        what = "negotiate.ntlm is on for everybody: browsers show their own dialog before the form"
        yield Finding("warn", _SUBJECT, what, "set ntlm_from or offer_to")
    elif negotiate.keytab is not None and _are_all(negotiate.offer_to):
        what = (
            "everybody is challenged: browsers on Windows PCs outside the domain show their own dialog before the form"
        )
        yield Finding("note", _SUBJECT, what, "set negotiate.offer_to to the networks of the domain's PCs")
    elif negotiate.offer_to == ():
        what = "negotiate.offer_to is empty: nobody is challenged, so users with a ticket get the form too"
        yield Finding("note", _SUBJECT, what, "set negotiate.offer_to to the networks of the domain's PCs")


def _are_all(networks: Sequence[Network] | None) -> bool:
    return networks is None or any(network.prefixlen == 0 for network in networks)


# ---------------------------------------------------------------- the domain


async def _domain(config: Config, file: Path, context: CheckContext) -> AsyncIterator[Finding]:
    keys, found = await asyncio.to_thread(check_keytab, file, context.services.state_dir)
    if config.keytab is not None:
        for finding in found:
            yield finding
    try:
        verifier = await asyncio.to_thread(open_domain, file, config.realms, config.keytab_setting)
    except ValueError as error:
        why = "see keytab" if any(finding.level == "fail" for finding in found) else str(error)
        yield Finding("untried", _SUBJECT, f"no password can be verified: {why}")
        return
    broken = ""
    with closing(verifier):
        async for finding in _with_keys(keytabs.own_key(keys), keys, config, context, verifier):
            broken = broken or (finding.subject if finding.level in ("fail", "untried") else "")
            yield finding
        if config.keytab is not None or not context.hosts:  # else the ticket that [negotiate] tries shows the same
            yield await _sign_in(verifier, context, broken)


async def _with_keys(
    own: Key, keys: Sequence[Key], config: Config, context: CheckContext, verifier: "DomainVerifier"
) -> AsyncIterator[Finding]:
    is_compared = config.keytab is None and own.principal.removeprefix("HTTP/") in context.hosts
    if context.registry is not None and not is_compared:
        yield await compared("SPN", context, partial(check_holder, service=own.principal, keys=keys))
    for domain, realm in verifier.realms.items():
        yield await _kdc(verifier, domain, realm, context)


async def _kdc(verifier: "DomainVerifier", domain: str, realm: str, context: CheckContext) -> Finding:
    """Asks a realm's KDC about a user who cannot exist: the response needs all that a real one needs."""
    subject = f"KDC of {realm}"
    try:
        await verifier.verify(PasswordName(_NOBODY, domain=domain), secrets.token_urlsafe(16))
    except Unavailable as refusal:
        if "directory" in context.blocked:
            return Finding("untried", subject, f"it does not respond: see {context.blocked['directory']}")
        remedy = "open the firewall to port 88 of the domain controllers; check krb5.conf and password.realms"
        return Finding("fail", subject, f"it does not respond: {refusal.detail}", remedy)
    except Refusal:
        pass
    return Finding("ok", subject, "it responds")


async def _sign_in(verifier: "DomainVerifier", context: CheckContext, broken: str) -> Finding:
    if context.login is None or not context.login[1]:
        return Finding("note", _SUBJECT, "no sign-in was tried", "give --as USER to try one from end to end")
    if broken or "login" in context.blocked:
        return Finding("untried", _SUBJECT, f"no sign-in from end to end: see {broken or context.blocked['login']}")
    user, password = context.login
    try:
        attempt = await verifier.verify(PasswordName.read(user), password)
    except NothingLearnedError as refusal:
        return Finding("fail", _SUBJECT, refusal.detail, "export the keytab again; then look at krb5.conf and the DNS")
    except AuthenticationFailed as refusal:
        return Finding("fail", _SUBJECT, f"{user}: {refusal.detail}", "check the name and the password")
    except Refusal as refusal:
        return Finding("fail", _SUBJECT, f"{user}: {refusal.detail}", "look at the account")
    identity = attempt.identity
    what = f"accepted from end to end: {identity.name}, {len(identity.groups)} groups in the PAC"
    return Finding("ok", _SUBJECT, what)
