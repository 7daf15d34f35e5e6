"""Names the user to the document server in request headers.

    sign_on = { headers = { QVUSER = "{domain}\\\\{account}" }, encoding = "utf-8" }

A client that can send such a header to the document server is that user. So the gateway deletes these headers from
every incoming request, and a firewall lets only the gateway connect to the document server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import AfterValidator, Field

from calgate.plugin import Section, Services
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
    """Header names, and templates for their values with {domain}, {account}, {name}, {display_name} and {key}."""
    encoding: Encoding = "utf-8"
    """How names outside ASCII are written: "utf-8", "latin-1", or "percent" for percent-encoded UTF-8."""


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Headers]:
    """Yields the `SignOn` of one route."""
    yield Headers({name: parse(text) for name, text in config.headers.items()}, config.encoding)
