"""Names the user to the document server in a signed token (JWT, RFC 7519) that it can verify.

    sign_on = { plugin = "assertion", keys = ["/etc/calgate/assertion.pem"], issuer = "https://bi.corp.example",
                audience = "https://portal.corp.example" }

The public keys are at `/_calgate/keys`. A token proves its sender, so the document server need not trust an address.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.plugin import Services
from calgate_assertion.assertion import Assertion
from calgate_assertion.commands import commands
from calgate_assertion.keys import KeyRing
from calgate_assertion.settings import Config

__all__ = ["Config", "commands", "role", "start"]

role = "sign-on"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Assertion]:
    """Yields the `SignOn` of one route. Raises ValueError if a key cannot be used."""
    yield Assertion(config, KeyRing.read(config.keys, config.algorithm), services.directory)
