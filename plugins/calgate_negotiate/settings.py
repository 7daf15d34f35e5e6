"""The plugin's section of the settings file."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from calgate.plugin import Network, Section
from calgate_negotiate.channel_binding import Mode
from calgate_negotiate.guard import GuardSection


class Config(Section):
    """`[negotiate]`: sign-in by Kerberos and NTLM."""

    keytab: Path | None = None
    """The file with the keys of HTTP/<public name>. Kerberos is on if it is given."""
    ntlm: Literal["off", "domain", "users"] = "off"
    """Who verifies NTLM: "off", the "domain" (through winbindd), or the file of [users]."""
    ntlm_from: tuple[Network, ...] | None = None
    """Networks whose clients may use NTLM; by default all. Other clients are offered Kerberos only."""
    offer_to: tuple[Network, ...] | None = None
    """Networks whose clients are challenged; by default all. Other clients get the sign-in page, with a link to
    Negotiate."""
    domains: tuple[str, ...] = ()
    """Trusted domains whose users may sign in by NTLM, in addition to our own; NetBIOS or DNS names."""
    channel_binding: Mode = "allow"
    """Whether a sign-in must be bound to the TLS connection: "off", "allow" (checked if sent), or "require"."""
    binding_certificate: Path | None = None
    """The certificate (PEM) of a TLS terminator in front of the gateway, for channel binding."""
    guard: GuardSection = GuardSection()
    """Limits on failed NTLM sign-ins."""

    def binding_fault(self, *, has_tls: bool) -> str:
        """Returns why `channel_binding` refuses every sign-in, or "" if it does not."""
        if self.channel_binding != "require" or has_tls or self.binding_certificate is not None:
            return ""
        return (
            'negotiate.channel_binding = "require": the listener has no TLS, so no sign-in can be bound to it;'
            " give it a certificate, or set negotiate.binding_certificate to that of the TLS terminator in front"
        )

    @model_validator(mode="after")
    def _has_a_mechanism(self) -> Self:
        if self.keytab is None and self.ntlm == "off":
            raise ValueError('no mechanism is on: give a keytab for Kerberos, or ntlm = "users" or "domain"')
        return self
