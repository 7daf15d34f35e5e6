"""A provider's description of itself: the discovery document and the signing keys. Pure.

OpenID Connect Discovery 1.0, sections 3 and 4; RFC 7517 for the keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from calgate_oidc.addresses import is_safe_url

MOST_KEYS = 100
_SMALLEST_RSA = 2048  # bits (RFC 7518, section 3.3)

Key = RSAKey | ECKey


class ProviderFaultError(Exception):
    """The provider did not respond, or its response cannot be used."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of the discovery document that the gateway uses."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str  # "": the provider has none
    sends_issuer: bool  # its authorization responses carry `iss` (RFC 9207)
    takes_basic: bool  # the client's secret is sent in the Authorization header, not in the form
    backchannel_logout: bool
    claims: Sequence[str]  # that it says it can send


def read_metadata(document: Mapping[str, object], issuer: str) -> Metadata:
    """Reads a discovery document. Raises ProviderFaultError for one that cannot be used."""
    if document.get("issuer") != issuer:
        raise ProviderFaultError(
            f"the discovery document is of the issuer {_shown(document.get('issuer'))}, not {issuer!r}; set oidc.issuer"
            " to what the provider calls itself"
        )
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Metadata(
        issuer=issuer,
        authorization_endpoint=_endpoint(document, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(document, "token_endpoint", issuer),
        jwks_uri=_endpoint(document, "jwks_uri", issuer),
        end_session_endpoint=_endpoint(document, "end_session_endpoint", issuer, needed=False),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        takes_basic=isinstance(methods, list) and "client_secret_basic" in methods,
        backchannel_logout=document.get("backchannel_logout_supported") is True,
        claims=_texts(document.get("claims_supported")),
    )


def read_keys(document: Mapping[str, object]) -> Mapping[str, Key]:
    """Returns the keys that can verify a token, by their id; "" for one without. Raises ProviderFaultError if none.

    Ignores keys of other kinds: a secret among them (kty "oct") must never verify anything.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ProviderFaultError(f"the key set is not a list of at most {MOST_KEYS} keys")
    keys: dict[str, Key] = {}
    for one in listed:
        if isinstance(one, dict) and (key := _read_key(one)) is not None:
            name = one.get("kid", "")
            keys[name if isinstance(name, str) else ""] = key
    if not keys:
        raise ProviderFaultError("the key set has no RSA or EC key that verifies signatures")
    return keys


def _read_key(one: Mapping[str, object]) -> Key | None:
    if one.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in one.items() if isinstance(value, str)}
    try:
        if one.get("kty") == "RSA":
            key = RSAKey.import_key({name: public[name] for name in ("kty", "n", "e")})
            return key if key.public_key.key_size >= _SMALLEST_RSA else None
        if one.get("kty") == "EC":
            return ECKey.import_key({name: public[name] for name in ("kty", "crv", "x", "y")})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None


def _endpoint(document: Mapping[str, object], name: str, issuer: str, *, needed: bool = True) -> str:
    url = document.get(name)
    if url is None and not needed:
        return ""
    if not isinstance(url, str) or not is_safe_url(url, issuer):
        raise ProviderFaultError(f"the discovery document's {name} is not an https address: {_shown(url)}")
    return url


def _texts(value: object) -> Sequence[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _shown(value: object) -> str:
    return repr(value)[:200]
