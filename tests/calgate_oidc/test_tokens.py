"""Which tokens are accepted, rule by rule; the keys are real ones."""

import base64
import hmac
import json
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, RSAKey

from calgate_oidc.discovery import ProviderFaultError, read_keys
from calgate_oidc.tokens import (
    Claims,
    Expected,
    LogoutNotice,
    TokenRefusedError,
    UnknownKeyError,
    read_id_token,
    read_logout_token,
)
from support.oidc_provider import EVENT, key

NOW = 1_800_000_000.0
EXPECTED = Expected("https://idp.example", "calgate")
RIGHT: dict[str, Any] = {
    "iss": "https://idp.example",
    "aud": "calgate",
    "sub": "a",
    "iat": NOW,
    "exp": NOW + 60,
    "nonce": "n",
}
LOGOUT: dict[str, Any] = {
    "iss": RIGHT["iss"],
    "aud": "calgate",
    "iat": NOW,
    "exp": NOW + 60,
    "jti": "j",
    "sid": "s",
    "events": {EVENT: {}},
}
ELLIPTIC = ECKey.generate_key("P-256", {"kid": "elliptic"})
KEYS = read_keys({"keys": [key("first").as_dict(private=False), ELLIPTIC.as_dict(private=False)]})


def sign(claims: dict[str, Any], **header: Any) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first", **header}, claims, key("first"), algorithms=["RS256"])


def read(text: str, nonce: str = "n", since: float | None = None) -> Claims:
    return read_id_token(text, KEYS, EXPECTED, nonce=nonce, now=NOW, proved_since=since)


def with_header(header: dict[str, Any], key_of: Any) -> str:
    """Signs the right claims with any key and header, as an attacker can."""
    alg = header["alg"]
    return jwt.encode(header, RIGHT, key_of, algorithms=[alg])


def test_right_token_is_read() -> None:
    assert read(sign(RIGHT))["sub"] == "a"
    assert read(sign(RIGHT | {"aud": ["calgate", "other"], "azp": "calgate"}))["sub"] == "a"
    assert read(with_header({"alg": "ES256", "kid": "elliptic"}, ELLIPTIC))["sub"] == "a"
    assert read(sign(RIGHT | {"auth_time": NOW}), since=NOW)["sub"] == "a"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://idp.example/"}, "issuer"),
        ({"iss": ["https://idp.example"]}, "issuer"),
        ({"aud": "other"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["calgate", "other"]}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"exp": NOW - 61}, "expired"),
        ({"exp": str(NOW + 60)}, "not a time"),
        ({"exp": True}, "not a time"),
        ({"exp": None}, "not a time"),
        ({"iat": NOW + 61}, "issued just now"),
        ({"iat": NOW - 601}, "issued just now"),
        ({"iat": 1e300}, "not a time"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"nonce": "m"}, "another sign-in"),
        ({"nonce": None}, "not a text"),
        ({"nonce": ""}, "another sign-in"),
        ({"sub": ""}, "no subject"),
        ({"sub": "x" * 256}, "no subject"),
        ({"sub": 7}, "not a text"),
    ],
)
def test_claim_that_is_wrong_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefusedError, match=why):
        read(sign(RIGHT | changed))


@pytest.mark.parametrize("claim", ["nonce", "sub"])
def test_half_a_surrogate_pair_is_no_text(claim: str) -> None:
    written = json.dumps(RIGHT | {claim: "\ud800"}).encode()
    token = jws.serialize_compact({"alg": "RS256", "kid": "first"}, written, key("first"))
    with pytest.raises(TokenRefusedError, match="not a text"):
        read(token)


def test_token_without_nonce_is_refused() -> None:
    with pytest.raises(TokenRefusedError, match="another sign-in"):
        read(sign({name: value for name, value in RIGHT.items() if name != "nonce"}))


@pytest.mark.parametrize("auth_time", [NOW - 61, None])
def test_user_who_was_not_asked_again_is_refused_where_a_fresh_proof_is_wanted(auth_time: float | None) -> None:
    with pytest.raises(TokenRefusedError, match="auth_time"):
        read(sign(RIGHT | {"auth_time": auth_time}), since=NOW)


def test_algorithm_is_never_the_choice_of_the_token() -> None:
    part = base64.urlsafe_b64encode(json.dumps(RIGHT).encode()).rstrip(b"=").decode()
    for algorithm in ("none", "None", "NONE"):
        head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "first"}).encode()).rstrip(b"=").decode()
        with pytest.raises(TokenRefusedError, match="algorithm"):
            read(f"{head}.{part}.")
    secret = OctKey.import_key("a-secret-of-32-characters-or-more")
    with pytest.raises(TokenRefusedError, match="algorithm"):
        read(with_header({"alg": "HS256", "kid": "first"}, secret))
    # HMAC under the public key: the library refuses to make such a token, so it is made by hand
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=").decode()
    mac = hmac.digest(key("first").as_pem(private=False), f"{head}.{part}".encode(), "sha256")
    with pytest.raises(TokenRefusedError, match="algorithm"):
        read(f"{head}.{part}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")
    with pytest.raises(TokenRefusedError, match="does not belong to a key"):
        read(with_header({"alg": "RS256", "kid": "elliptic"}, key("first")))


def test_key_that_the_provider_does_not_list_is_unknown() -> None:
    with pytest.raises(UnknownKeyError):
        read(with_header({"alg": "RS256", "kid": "second"}, key("second")))
    with pytest.raises(UnknownKeyError):
        read(with_header({"alg": "RS256"}, key("first")))  # two keys, none named


def test_signature_by_another_key_of_the_same_name_is_refused() -> None:
    with pytest.raises(TokenRefusedError, match="BadSignature"):
        read(with_header({"alg": "RS256", "kid": "first"}, key("second")))
    with pytest.raises(TokenRefusedError):
        read(with_header({"alg": "RS256", "kid": "first", "jwk": key("second").as_dict(private=False)}, key("second")))


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c.d", "ä.b.c", "e30.e30.e30", "W10.W10.", "!!.e30.x", "x" * 70_000, f"{'Ww' * 30_000}.x.y"],
)
def test_text_that_is_not_a_token_is_refused(text: str) -> None:
    with pytest.raises(TokenRefusedError):
        read(text)


def test_logout_token_names_what_ends() -> None:
    assert read_logout_token(sign(LOGOUT), KEYS, EXPECTED, now=NOW) == LogoutNotice("", "s", "j")
    typed = sign(LOGOUT | {"sub": "a"}, typ="logout+jwt")
    assert read_logout_token(typed, KEYS, EXPECTED, now=NOW).subject == "a"


@pytest.mark.parametrize(
    "changed",
    [
        {"events": {}},
        {"events": None},
        {"events": {EVENT: "x"}},
        {"events": [EVENT]},
        {"nonce": "n"},
        {"nonce": None},
        {"sid": ""},
        {"jti": ""},
        {"iss": "https://evil.example"},
        {"aud": "other"},
        {"exp": NOW - 61},
        {"iat": NOW - 601},
    ],
)
def test_logout_token_that_proves_nothing_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(TokenRefusedError):
        read_logout_token(sign(LOGOUT | changed), KEYS, EXPECTED, now=NOW)


def test_id_token_is_not_a_logout_token() -> None:
    with pytest.raises(TokenRefusedError, match="logout"):
        read_logout_token(sign(RIGHT | {"jti": "j", "sid": "s"}), KEYS, EXPECTED, now=NOW)


def test_keys_that_must_not_verify_are_left_out() -> None:
    secret = OctKey.import_key("a-secret-of-32-characters-or-more").as_dict(private=True) | {"kid": "secret"}
    encryption = key("first").as_dict(private=False) | {"use": "enc", "kid": "enc"}
    broken = {"kty": "RSA", "n": "x", "e": "!", "kid": "broken"}
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    listed = [key("first").as_dict(private=False), secret, encryption, broken, weak, 7, {"kty": "EC", "crv": []}]
    with pytest.warns(SecurityWarning):
        assert list(read_keys({"keys": listed})) == ["first"]
    documents: list[dict[str, Any]] = [{}, {"keys": {}}, {"keys": []}, {"keys": [secret]}]
    documents += [{"keys": [{}] * 101}, {"keys": [key("first").as_dict(private=False)] * 101}]
    for document in documents:
        with pytest.raises(ProviderFaultError):
            read_keys(document)
