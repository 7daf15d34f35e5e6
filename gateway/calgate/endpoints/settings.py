"""`[forward_auth]`: another proxy asks before it forwards. `[console]`: the administrators' console."""

import re
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calgate.http.settings import Address, read_address
from calgate.plugin.settings import Network, Secret, Section


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]*", value):
        raise ValueError(f'a host is a name without a port, like "cal-admin.corp.example", not {value!r}')
    return value.lower()


class ForwardAuthSection(Section):
    """`[forward_auth]`: which proxies may ask for decisions."""

    secret: Secret
    """The secret that a proxy sends in X-Calgate-Secret; forward-auth requests without it are refused."""


class ConsoleSection(Section):
    """`[console]`: the administrators' console, on an origin of its own."""

    bind: Annotated[Address | None, BeforeValidator(read_address, json_schema_input_type=str)] = None
    """An address for the console alone, such as "0.0.0.0:8443": another port of the site's own name, with the same
    certificate and sign-in. Nothing else is served there. Either this or `host`.
    """
    host: Annotated[str, AfterValidator(_host_name)] = ""
    """A host name for the console alone, such as "cal-admin.corp.example", on the addresses of `listen.bind`. No route
    is served under it. Either this or `bind`.
    """
    admins: tuple[str, ...] = Field(default=(), min_length=1)
    """Groups whose members may do everything in the console: name, SID or DN."""
    helpdesk: tuple[str, ...] = Field(default=(), min_length=1)
    """Groups whose members may look, explain, end sessions and lift blocked sign-ins."""
    readers: tuple[str, ...] = Field(default=(), min_length=1)
    """Groups whose members may look."""
    networks: tuple[Network, ...] = Field(min_length=1)
    """Client networks, in CIDR notation, from which the console may be used. There is no default."""

    @model_validator(mode="after")
    def _has_a_place_and_people(self) -> Self:
        if (self.bind is None) == (not self.host):
            raise ValueError("give either bind or host: the console needs an origin that it shares with no document")
        if not self.groups:
            raise ValueError("name at least one group in admins, helpdesk or readers: nobody else may enter")
        return self

    @property
    def groups(self) -> Sequence[str]:
        """Every group that must be resolved before anybody may enter."""
        return sorted({*self.admins, *self.helpdesk, *self.readers})
