"""The settings of a route's `sign_on`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from calgate.plugin import Duration, Section
from calgate_assertion.claims import demand_claim, demand_template

Algorithm = Literal["ES256", "RS256"]
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OF_HTTP = frozenset(
    {"connection", "content-length", "cookie", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)


def _header(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _OF_HTTP:
        raise ValueError(f"{name!r} cannot carry an assertion; write a header such as X-Calgate-Assertion")
    return name


def _scheme(text: str) -> str:
    if text and not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not a scheme such as Bearer")
    return text


class Config(Section):
    """A route's `sign_on`: a signed statement of who the user is."""

    keys: tuple[Path, ...] = Field(min_length=1)
    """Files of private keys (PEM), the newest first. All are published; a new one signs after an hour, so that no
    reader meets a signature before its key."""
    issuer: str = Field(min_length=1)
    """Who makes the statement, the claim `iss`: the gateway's public origin, such as "https://bi.corp.example"."""
    audience: str = Field(min_length=1)
    """Whom the statement is for, the claim `aud`: a name of this document server's own, such as its origin."""
    algorithm: Algorithm = "ES256"
    """"ES256" for keys on the curve P-256, or "RS256" for RSA keys of 2048 bits and more."""
    header: Annotated[str, AfterValidator(_header)] = "X-Calgate-Assertion"
    """The request header that carries the token."""
    scheme: Annotated[str, AfterValidator(_scheme)] = ""
    """The scheme before the token in the header, such as "Bearer"."""
    groups: tuple[str, ...] = ()
    """Groups that the claim `groups` names where the user is in them; other groups are never named."""
    claims: dict[Annotated[str, AfterValidator(demand_claim)], Annotated[str, AfterValidator(demand_template)]] = Field(
        default={}
    )
    """Further claims: names, and templates with {domain}, {account}, {name}, {display_name} and {key}."""
    lifetime: Duration = Field(default=300.0, ge=10, le=3600)
    """How long a token is valid. A user keeps one for half of it."""
