"""The section `[password]` of the settings file, and what it takes from other sections."""

from pathlib import Path

from pydantic import Field

from calgate.plugin import Section, Services
from calgate_negotiate.settings import Config as NegotiateConfig


class Config(Section):
    """`[password]`: sign-in by name and password on a page."""

    realms: dict[str, str] = Field(default_factory=dict)
    """NetBIOS names of domains and their Kerberos realms; the first is for a name without a domain. By default
    the keytab's realm, with its first label as the name of the domain."""
    keytab: Path | None = None
    """The keytab that proves that the domain itself responded; by default negotiate.keytab."""
    basic: bool = False
    """Whether programs may send name and password as `Authorization: Basic`, over https. It is offered to nobody, and
    each request without the session cookie is verified again."""
    change: bool = True
    """Whether users can change an expired password on a page, which [ldap] does for them."""
    insecure: bool = False
    """Whether passwords may be sent in clear text, for a trial without TLS."""

    def keytab_beside(self, services: Services) -> Path | None:
        """Returns the keytab that counts: the section's own, or that of `[negotiate]`."""
        negotiate = negotiate_beside(services)
        return self.keytab or (negotiate.keytab if negotiate is not None else None)

    @property
    def keytab_setting(self) -> str:
        """The setting that names the keytab."""
        return "password.keytab" if self.keytab is not None else "negotiate.keytab"

    def fault_beside(self, services: Services) -> str:
        """Returns why nobody could sign in, or everybody could read the passwords; "" if neither is so."""
        if not services.can_be_https and not self.insecure:
            return (
                "passwords would be sent in clear text; set listen.tls, listen.trusted_proxies for a proxy that ends"
                " TLS, or insecure = true for a trial"
            )
        if self.keytab_beside(services) is None and services.ntlm_verifier is None:
            return "needs negotiate.keytab (it proves that the domain itself responded) or a [users] file"
        return ""


def negotiate_beside(services: Services) -> NegotiateConfig | None:
    """Returns the section `[negotiate]`, if the file has one."""
    section = services.siblings.get("negotiate")
    return section if isinstance(section, NegotiateConfig) else None
