"""Names the user to the document server in request headers.

    sign_on = { headers = { QVUSER = "{domain}\\\\{account}" }, encoding = "utf-8" }

A client that can send such a header to the document server is that user. So the gateway deletes these headers from
every incoming request, and a firewall lets only the gateway connect to the document server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from calgate.plugin import NamedGroups, Section, Services
from calgate_headers.headers import Headers
from calgate_headers.template import Encoding, demand_name, parse

__all__ = ["Config", "default_for", "role", "start"]


def _is_name(name: str) -> str:
    demand_name(name)
    return name


def _is_template(text: str) -> str:
    parse(text)
    return text


role = "sign-on"
default_for = "sign_on"


class Config(Section):
    """A route's `sign_on`: headers that name the user to the document server."""

    headers: dict[Annotated[str, AfterValidator(_is_name)], Annotated[str, AfterValidator(_is_template)]] = Field(
        min_length=1
    )
    """Header names, and templates for their values with {domain}, {account}, {name}, {display_name} and {key}.
    {attributes.mail} is an attribute that `[ldap] attributes` names, {groups} those of `groups` that the user is in:
    without a value there is no header."""
    encoding: Encoding = "utf-8"
    """How names outside ASCII are written: "utf-8", "latin-1", or "percent" for percent-encoded UTF-8."""
    groups: tuple[str, ...] = ()
    """Groups that {groups} names where the user is in them, in this order; other groups are never named."""
    separator: str = Field(default=",", min_length=1, pattern=r"^[\x20-\x7e]+$")
    """The separator between two groups."""
    limit: int = Field(default=8192, ge=64, le=65536)
    """The most bytes of a value. A longer one is refused, never cut."""

    @model_validator(mode="after")
    def _groups_can_be_told_apart(self) -> Self:
        uses = [name for name, text in self.headers.items() if parse(text).names_groups]
        if bool(uses) != bool(self.groups):
            raise ValueError("{groups} in a header and the setting groups belong together; give both or neither")
        for group in self.groups:
            if self.separator in group:
                raise ValueError(f"the group {group!r} contains the separator {self.separator!r}; choose another")
        return self


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Headers]:
    """Yields the `SignOn` of one route."""
    groups = NamedGroups(config.groups, services.directory) if config.groups else None
    templates = {name: parse(text) for name, text in config.headers.items()}
    yield Headers(templates, config.encoding, groups, config.separator, config.limit)
