"""The plugin's section of the settings file."""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from calgate.plugin import Secret, Section
from calgate.plugin import mark as _
from calgate_oidc.addresses import is_safe_url

# Users can choose these at many providers, or they are given again to somebody else: they prove no account.
_NOT_AN_ACCOUNT = frozenset({"email", "upn", "preferred_username", "name"})
_MANY_TENANTS = frozenset({"common", "organizations", "consumers"})
_IDENTIFIER = r"^[^\s\x00-\x1f\x7f]{1,255}$"


class Client(Section):
    """`oidc.client`: how the provider knows the gateway. It has a secret, or a key and its certificate."""

    id: str = Field(pattern=_IDENTIFIER)
    """The client's id, as the provider shows it."""
    secret: Secret | None = None
    """The client's secret."""
    key: Path | None = None
    """A private key (PEM) that signs a statement in place of the secret (private_key_jwt)."""
    certificate: Path | None = None
    """The certificate (PEM) of `key`, as it was uploaded to the provider."""

    @model_validator(mode="after")
    def _has_one_proof(self) -> Self:
        if (self.secret is None) == (self.key is None):
            raise ValueError("give either the client's secret, or its key and certificate")
        if (self.key is None) != (self.certificate is None):
            raise ValueError("key and certificate belong together: give both")
        return self


class PersonClaim(Section):
    """`oidc.person`: which claim of the ID token names the user in the directory."""

    sid: str | None = Field(default=None, pattern=_IDENTIFIER)
    """The claim with the user's SID, such as "onprem_sid" (Entra) or "primarysid" (ADFS)."""
    account: str | None = Field(default=None, pattern=_IDENTIFIER)
    """The claim with the user's sAMAccountName, such as "onprem_sam_account_name"; it needs `domain`."""
    domain: str | None = Field(default=None, min_length=1)
    """The NetBIOS name of the domain that accounts belong to."""

    @model_validator(mode="after")
    def _names_one_claim(self) -> Self:
        if (self.sid is None) == (self.account is None):
            raise ValueError('name one claim: { sid = "…" }, or { account = "…", domain = "CORP" }')
        if (self.account is None) != (self.domain is None):
            raise ValueError('account and domain belong together: { account = "…", domain = "CORP" }')
        for claim in (self.sid, self.account):
            if claim is not None and claim.lower() in _NOT_AN_ACCOUNT:
                raise ValueError(
                    f"the claim {claim!r} does not prove an account: users can change it, or it is given to somebody"
                    " else later; use the SID, or a claim that the provider copies from sAMAccountName"
                )
        return self


class Config(Section):
    """`[oidc]`: sign-in at an OpenID Connect provider, such as Entra ID, ADFS or Keycloak."""

    issuer: str
    """The provider's issuer, exactly as its discovery document writes it."""
    client: Client
    """How the provider knows the gateway."""
    person: PersonClaim
    """Which claim names the user in the directory. Groups always come from the directory."""
    label: str = Field(default=_("Sign in with your company account"), min_length=1, max_length=80)
    """The link on the sign-in page."""
    start: Literal["link", "at once"] = "link"
    """The response to a browser that is offered no other sign-in: the page with a "link", or the provider "at once"."""
    sign_out: Literal["provider", "here"] = "provider"
    """Where a sign-out ends the session: at the "provider" as well, or only "here"."""
    scopes: tuple[str, ...] = ("openid",)
    """The scopes that are requested. Some providers put the claim of `person` into the token only for a scope."""
    ca: Path | None = None
    """The CA of the provider's certificate (PEM); by default the system's CAs."""

    @field_validator("issuer")
    @classmethod
    def _is_one_issuer(cls, issuer: str) -> str:
        if not is_safe_url(issuer, issuer) or "?" in issuer:
            raise ValueError(f"an issuer is written like https://login.example/tenant, not {issuer!r}")
        first = urlsplit(issuer).path.strip("/").partition("/")[0].lower()
        if first in _MANY_TENANTS:
            raise ValueError(
                f"{issuer!r} is the issuer of many tenants, so that strangers could sign in; write your tenant's id"
                f" in place of {first!r}"
            )
        return issuer

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) for scope in scopes):
            raise ValueError("a scope is a word without spaces (RFC 6749, section 3.3)")
        return scopes if "openid" in scopes else ("openid", *scopes)
