"""The plugin's section of the settings file."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator

from calgate.plugin import Section
from calgate_negotiate.channel_binding import Mode
from calgate_negotiate.guard import GuardSection


def _network(value: object) -> object:
    return ip_network(str(value))


class Config(Section):
    """`[negotiate]`."""

    keytab: Path | None = None  # Kerberos is on where this is given
    ntlm: Literal["off", "domain", "users"] = "off"  # who knows the NT hashes: the domain by winbindd, or [users]
    ntlm_from: tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...] | None = None
    domains: tuple[str, ...] = ()  # trusted ones whose people may come by NTLM, beside our own
    channel_binding: Mode = "allow"
    binding_certificate: Path | None = None  # of a TLS terminator in front
    guard: GuardSection = GuardSection()

    @model_validator(mode="after")
    def _somebody_can_sign_in(self) -> Self:
        if self.keytab is None and self.ntlm == "off":
            raise ValueError('nobody could sign in: give a keytab for Kerberos, or ntlm = "users" or "domain"')
        return self
