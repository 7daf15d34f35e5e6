"""ID tokens and logout tokens: which are accepted. Pure; every rule has the section that it comes from.

Core: OpenID Connect Core 1.0. Logout: OpenID Connect Back-Channel Logout 1.0.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError

from calgate_oidc.discovery import Key

# Fixed, whatever a token or the provider says: never "none", never HS256 under the client's secret (RFC 8725, 3.1).
ALGORITHMS = ("RS256", "PS256", "ES256")
LEEWAY = 60.0  # seconds that the provider's clock can differ from ours
LONGEST = 65_536  # characters
_OLDEST = 600.0  # seconds since a token was issued; it is fetched within seconds
_KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

Claims = Mapping[str, object]


class TokenRefusedError(Exception):
    """The token proves nothing; the text is for the log."""


class UnknownKeyError(TokenRefusedError):
    """The token names a key that is not among the known ones: the provider may have new keys."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The conditions that every token must meet."""

    issuer: str
    client_id: str


@dataclass(frozen=True, slots=True)
class LogoutNotice:
    """A session that has ended at the provider, or all sessions of a user."""

    subject: str  # "": only the session is named
    sid: str  # "": all sessions of the user
    token_id: str


def read_id_token(
    text: str, keys: Mapping[str, Key], expected: Expected, *, nonce: str, now: float, proved_since: float | None = None
) -> Claims:
    """Returns the claims of an ID token (Core, 3.1.3.7). Raises TokenRefusedError, UnknownKeyError among them.

    `proved_since`: the user must have proved who they are since that Unix time (`max_age`, 3.1.2.1).
    """
    claims = _verified(text, keys)
    _demand_ours(claims, expected)
    _demand_current(claims, now)
    if not secrets.compare_digest(_text(claims, "nonce").encode(), nonce.encode()):
        raise TokenRefusedError("its nonce is that of another sign-in")
    subject = _text(claims, "sub")
    if not 1 <= len(subject) <= 255:
        raise TokenRefusedError("it names no subject")
    if proved_since is not None and _time(claims, "auth_time") < proved_since - LEEWAY:
        raise TokenRefusedError("the user did not sign in again at the provider (auth_time)")
    return claims


def read_logout_token(text: str, keys: Mapping[str, Key], expected: Expected, *, now: float) -> LogoutNotice:
    """Returns what a logout token ends (Logout, 2.6). Raises TokenRefusedError, UnknownKeyError among them."""
    claims = _verified(text, keys)
    _demand_ours(claims, expected)
    _demand_current(claims, now)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
        raise TokenRefusedError("it is not a logout token: it has no logout event")
    if "nonce" in claims:
        raise TokenRefusedError("it is not a logout token: it has a nonce")
    notice = LogoutNotice(_text(claims, "sub"), _text(claims, "sid"), _text(claims, "jti"))
    if not notice.token_id or not (notice.subject or notice.sid):
        raise TokenRefusedError("it names neither a subject nor a session, or has no jti")
    return notice


def _verified(text: str, keys: Mapping[str, Key]) -> Claims:
    header = _header(text)
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS:
        raise TokenRefusedError(f"its algorithm is {str(algorithm)[:20]!r}; accepted: {', '.join(ALGORITHMS)}")
    key = _key(header, keys)
    if key.key_type != _KINDS[algorithm]:
        raise TokenRefusedError(f"its algorithm {algorithm} does not belong to a key of type {key.key_type}")
    try:
        return dict(jwt.decode(text, key, algorithms=[algorithm]).claims)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise TokenRefusedError(f"{type(error).__name__}: {error}"[:200]) from error


def _header(text: str) -> Mapping[str, object]:
    parts = text.split(".")
    if len(text) > LONGEST or len(parts) != 3 or not text.isascii():
        raise TokenRefusedError("it is not a signed JWT")
    try:
        padded = parts[0] + "=" * (-len(parts[0]) % 4)
        header = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise TokenRefusedError("its header cannot be read") from error
    if not isinstance(header, dict):
        raise TokenRefusedError("its header is not an object")
    return header


def _key(header: Mapping[str, object], keys: Mapping[str, Key]) -> Key:
    name = header.get("kid")
    if name is None and len(keys) == 1:
        return next(iter(keys.values()))
    if not isinstance(name, str) or name not in keys:
        raise UnknownKeyError(f"it is signed by the key {str(name)[:80]!r}, which the provider does not list")
    return keys[name]


def _demand_ours(claims: Claims, expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise TokenRefusedError(f"it is from the issuer {str(claims.get('iss'))[:200]!r}")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        raise TokenRefusedError("it is for another client (aud)")
    party = claims.get("azp")
    if (len(audiences) > 1 or party is not None) and party != expected.client_id:
        raise TokenRefusedError("it was issued to another client (azp)")


def _demand_current(claims: Claims, now: float) -> None:
    if _time(claims, "exp") <= now - LEEWAY:
        raise TokenRefusedError("it has expired, or the clocks differ by more than a minute")
    issued = _time(claims, "iat")
    if not now - _OLDEST <= issued <= now + LEEWAY:
        raise TokenRefusedError("it was not issued just now, or the clocks differ by more than a minute")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY:
        raise TokenRefusedError("it is not valid yet, or the clocks differ by more than a minute")


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise TokenRefusedError(f"its {name} is not a time")
    return float(value)


def _text(claims: Claims, name: str) -> str:
    """Returns a claim that must be a text where it is there; "" where it is not."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > 1000:
        raise TokenRefusedError(f"its {name} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which JSON can carry
        raise TokenRefusedError(f"its {name} is not a text") from error
    return value
