"""A gateway in front of the lab's domain: its settings, and clients with tickets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.domain import BASE, DOMAIN, HOST, SERVICE_PASSWORD, Lab
from support.gateway_process import DocumentServer, Gateway, document_server, gateway
from support.ports import free_port

SETTINGS = """
state_dir = "{folder}/state"

[listen]
bind = ["127.0.0.1:{port}", "127.0.0.80:{port}"]
{listen}

[store]
{store}

[session]
{session}

[negotiate]
keytab = "{keytab}"
{negotiate}
{password}

[ldap]
servers = [{servers}]
ca = "{ca}"
bind = {{ user = "gateway@{domain}", password = {{ file = "{folder}/secret" }} }}
base = "{base}"
{ldap}

[[access]]
name = "app users"
groups = ["CORP\\\\app-users"]

[licenses.demo]
named = {{ in_license = 2 }}
session = {{ in_license = 2 }}
contact = "help@corp.example.test"

[[routes]]
path = "/"
upstreams = ["http://127.0.0.1:{upstream}"]
license = "demo"
opens = '^/docs/(?P<document>[^?/]+)$'
uses = '^/docs/(?P<document>[^?/]+)/click$'
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
"""


class Front:
    """The running gateway and the document server behind it."""

    def __init__(self, gate: Gateway, server: DocumentServer) -> None:
        self.gate = gate
        self.server = server
        self.url = f"{gate.scheme}://{HOST}:{gate.port}"

    def users(self) -> list[str]:
        """Returns the user of each request that reached the document server."""
        return [user for exchange in self.server.seen for user in exchange.values("QVUSER")]


@asynccontextmanager
async def front(lab: Lab, folder: Path, **more: str) -> AsyncIterator[Front]:
    """Starts both; `more` goes into the settings: listen, session, negotiate, password, ldap, keytab and so on."""
    (folder / "secret").write_text(SERVICE_PASSWORD)
    async with document_server() as server:
        values = {
            "folder": str(folder),
            "port": str(free_port()),
            "listen": "",
            "store": "",
            "session": "",
            "keytab": str(lab.keytab),
            "negotiate": "",
            "password": "",
            "servers": f'"ldaps://dc1.{DOMAIN}"',
            "ca": str(lab.ca),
            "ldap": "",
            "domain": DOMAIN,
            "base": BASE,
            "upstream": str(server.port),
        } | more
        settings = folder / "calgate.toml"
        settings.write_text(SETTINGS.format(**values))
        async with gateway(settings) as gate:
            yield Front(gate, server)
