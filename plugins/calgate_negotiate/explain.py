"""Explains a Negotiate or NTLM token to an administrator who copied it from a browser's tools or a trace."""

import base64
import binascii
from collections.abc import Iterator, Sequence

from calgate.plugin import Finding
from calgate_negotiate import ntlm_messages, spnego, ticket
from calgate_negotiate.keytab import AES, ENCRYPTION_TYPES, USE_AES
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM

_NAMES = {
    KERBEROS: "Kerberos",
    MS_KERBEROS: "Kerberos (Microsoft's OID)",
    NTLM: "NTLM",
    bytes.fromhex("060a2b06010401823702021e"): "NEGOEX",
}
_WHY_NTLM = (
    "a browser falls back to NTLM if it gets no ticket: the SPN is missing or held twice, the address is a number or"
    " an alias, the site is not in the intranet zone, the PC is not in the domain, or it cannot reach the KDC"
)


def explain_credentials(scheme: str, credentials: str) -> Sequence[Finding]:
    """Explains the credentials of an Authorization header; none of another scheme."""
    if scheme.casefold() not in ("", "negotiate", "ntlm"):
        return ()
    try:
        token = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return [Finding("fail", "token", "not base64", "copy all of what follows the scheme, and nothing else")]
    return explain(token)


def explain(token: bytes) -> Sequence[Finding]:
    """Returns one finding for each layer of the token."""
    try:
        return list(_layers(token))
    except ValueError as error:
        return [Finding("fail", "token", f"neither a Negotiate nor an NTLM token: {error}", "copy all of it")]


def _layers(token: bytes) -> Iterator[Finding]:
    if ntlm_messages.message_type(token) is not None:
        yield _ntlm(token)
        return
    opening = spnego.read(token)
    if opening is None:
        yield _kerberos(token)
        return
    if isinstance(opening, spnego.Init):
        offered = ", ".join(_NAMES.get(oid, oid.hex()) for oid in opening.mechanisms)
        yield Finding("ok", "SPNEGO", f"a first token; offers {offered}")
    else:
        yield Finding(
            "ok", "SPNEGO", f"a later token, state {opening.state.name if opening.state is not None else 'not given'}"
        )
    if opening.token is None:
        yield Finding("note", "SPNEGO", "carries no token of any mechanism")
    elif ntlm_messages.message_type(opening.token) is not None:
        yield _ntlm(opening.token)
    else:
        yield _kerberos(opening.token)


def _ntlm(token: bytes) -> Finding:
    kind = ntlm_messages.message_type(token)
    if kind == ntlm_messages.NEGOTIATE:
        return Finding("warn", "NTLM", "the first of three messages; it names no user yet", _WHY_NTLM)
    if kind != ntlm_messages.AUTHENTICATE:
        return Finding("ok", "NTLM", "a server's challenge")
    try:
        message = ntlm_messages.read_authenticate(token)
    except ntlm_messages.MalformedError as error:
        return Finding("fail", "NTLM", str(error), "set LmCompatibilityLevel to 3 or more on the client")
    user = f"{message.domain}\\{message.account} from {message.workstation or 'an unnamed workstation'}"
    mic = "with" if message.mic_promised else "without"
    bound = "bound to a TLS connection" if message.binding and any(message.binding) else "not bound to a TLS connection"
    return Finding("warn", "NTLM", f"the last of three messages: {user}, NTLMv2, {mic} a MIC, {bound}", _WHY_NTLM)


def _kerberos(token: bytes) -> Finding:
    found = ticket.read(token)
    enctype = ENCRYPTION_TYPES.get(found.encryption_type, found.encryption_type)
    what = f"a ticket for {found.service}@{found.realm}, key version {found.version}, {enctype}"
    if found.encryption_type not in AES:
        return Finding("warn", "Kerberos", what, USE_AES)
    return Finding("ok", "Kerberos", what)
