"""Which Authorization headers are the application's own: a route with `authorization = "pass"` forwards them."""

import base64
import binascii
import re
from collections.abc import Collection

TOKEN_PREFIX = "calgate_"  # noqa: S105 - what all of them have in common, and no secret
"""What every API token of the gateway begins with, so that one that is revoked is known as ours, too."""

# These sign a connection in (RFC 4559), and document servers' connections are shared by many users.
_OF_CONNECTIONS = frozenset({"negotiate", "ntlm", "kerberos", "credssp"})
# Blanks alone, and no tab: Apache ends a scheme at a tab too, and would find Negotiate where we find something else.
_CREDENTIALS = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) +([^ ].*)")  # RFC 9110, 11.4


def is_applications(value: bytes, our_schemes: Collection[str]) -> bool:
    """Whether the header's value means the application: no scheme by which users sign in here, and no API token.

    `our_schemes`: those of all authenticators, in lower case, offered or not.
    """
    read = _CREDENTIALS.fullmatch(value.decode("latin-1").strip(" \t"))
    if read is None:
        return False
    scheme, credentials = read[1].lower(), read[2]
    if scheme in _OF_CONNECTIONS or scheme in our_schemes:
        return False
    return not _has_token(scheme, credentials)


def _has_token(scheme: str, credentials: str) -> bool:
    """Whether one of our tokens is in the credentials: as they are, or as user or password of Basic (RFC 7617)."""
    if TOKEN_PREFIX in credentials.lower():
        return True
    if scheme != "basic":
        return False
    try:
        return TOKEN_PREFIX.encode() in base64.b64decode(credentials).lower()
    except (binascii.Error, ValueError):
        return True  # nothing that an application could read either
