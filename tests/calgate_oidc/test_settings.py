"""The settings that the section [oidc] accepts."""

from typing import Any

import pytest
from pydantic import ValidationError

from calgate_oidc.addresses import is_safe_url
from calgate_oidc.settings import Config

TENANT = "https://login.example/6f2a/v2.0"


def section(**changed: Any) -> Config:
    """Reads a section that is right but for the changes."""
    right = {"issuer": TENANT, "client": {"id": "c", "secret": "s"}, "person": {"sid": "onprem_sid"}}
    return Config.model_validate(right | changed)


def test_section_has_the_documented_defaults() -> None:
    config = section()
    assert (config.start, config.sign_out, config.scopes) == ("link", "provider", ("openid",))
    assert section(scopes=["profile"]).scopes == ("openid", "profile")


@pytest.mark.parametrize("claim", ["email", "upn", "preferred_username", "name", "UPN", "Email"])
def test_claim_that_users_can_choose_is_a_fault(claim: str) -> None:
    with pytest.raises(ValidationError, match="does not prove an account"):
        section(person={"account": claim, "domain": "CORP"})
    with pytest.raises(ValidationError, match="does not prove an account"):
        section(person={"sid": claim})


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers", "Common"])
def test_issuer_of_many_tenants_is_a_fault(tenant: str) -> None:
    with pytest.raises(ValidationError, match="issuer of many tenants"):
        section(issuer=f"https://login.microsoftonline.com/{tenant}/v2.0")


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://login.example/"},
        {"issuer": "https://user:word@login.example/"},
        {"issuer": "https://login.example/?tenant=1"},
        {"issuer": "login.example"},
        {"client": {"id": "c"}},
        {"client": {"id": "c", "secret": "s", "key": "/k", "certificate": "/c"}},
        {"client": {"id": "c", "key": "/k"}},
        {"client": {"id": "c d", "secret": "s"}},
        {"person": {}},
        {"person": {"sid": "a", "account": "b", "domain": "C"}},
        {"person": {"account": "b"}},
        {"scopes": ["a b"]},
    ],
)
def test_section_that_cannot_work_is_a_fault(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section(**changed)


@pytest.mark.parametrize(
    ("url", "issuer", "is_safe"),
    [
        ("https://a.example/x", TENANT, True),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9", True),
        ("http://[::1]:9/x", "http://localhost:9", True),
        ("http://127.0.0.1:9/x", TENANT, False),  # a provider elsewhere must not send us to our own ports
        ("http://127.0.0.1.evil.example/", "http://127.0.0.1", False),
        ("https://a.example/#f", TENANT, False),
        ("https://a.example\\@evil.example/", TENANT, False),
        ("https://a.example:x/", TENANT, False),
        ("https:///x", TENANT, False),
        ("javascript:alert(1)", TENANT, False),
        ("https://a.example/\r\nX: y", TENANT, False),
    ],
)
def test_url_of_provider_is_https_or_on_this_host(url: str, issuer: str, is_safe: bool) -> None:
    assert is_safe_url(url, issuer) is is_safe
