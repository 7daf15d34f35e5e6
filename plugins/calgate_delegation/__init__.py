"""Signs users in at a document server with Windows authentication, as themselves and without their password.

    sign_on = { plugin = "delegation", keytab = "/etc/calgate/http.keytab", account = "svc-calgate@CORP.EXAMPLE" }

Kerberos calls this constrained delegation with protocol transition (MS-SFU): the gateway requests a ticket for itself
in the user's name (S4U2Self), and with it one for the document server (S4U2Proxy). So it does not matter how the user
signed in, nor on which gateway.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from calgate.plugin import Services
from calgate_delegation.check import check
from calgate_delegation.open_tickets import open_tickets
from calgate_delegation.settings import Config
from calgate_delegation.sign_on import Delegation

__all__ = ["Config", "check", "role", "start", "warnings"]

role = "sign-on"


def warnings(config: Config) -> Sequence[str]:
    """Returns a warning about "any authentication protocol", where its meaning is not obvious."""
    return [
        f'delegation: if {config.account} may use "any authentication protocol", anyone who has {config.keytab} can act'
        f" as any user at {config.service}; give the file to the gateway's user only, and mark administrators as"
        ' "sensitive and cannot be delegated"'
    ]


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Delegation]:
    """Yields the `ServerSignOn` of one route. Raises ValueError if Kerberos or the keytab cannot be used."""
    with open_tickets(config, services.state_dir) as tickets:
        delegation = Delegation(config, services, tickets)
        try:
            yield delegation
        finally:
            delegation.close()
