"""A document server with Kerberos behind the gateway: Apache in the domain, and a gateway that delegates to it."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.domain import ADDRESS, BASE, DOMAIN, HOST, OLD_HOST, SERVICE_PASSWORD, Lab, run
from support.gateway_process import Gateway, curl, gateway, has_status
from support.ports import free_port
from support.waiting import until

SERVICE = f"HTTP/{OLD_HOST}"
REALM = DOMAIN.upper()
MODULES = Path("/usr/lib/apache2/modules")

SETTINGS = """
state_dir = "{folder}/state"

[listen]
bind = ["127.0.0.1:{port}", "127.0.0.80:{port}"]
{listen}

[negotiate]
keytab = "{keytab}"
ntlm = "domain"
{negotiate}
{more}

[ldap]
servers = ["ldaps://dc1.{domain}"]
ca = "{ca}"
bind = {{ user = "gateway@{domain}", password = {{ file = "{folder}/secret" }} }}
base = "{base}"
{ldap}

[[access]]
name = "everybody"
everybody = true

[[routes]]
path = "/"
upstreams = ["http://{host}:{upstream}"]
sign_on = {{ plugin = "delegation", keytab = "{keytab}", account = "gateway@{realm}", service = "{service}"{sign_on} }}
"""

APACHE = """
ServerRoot {folder}
Listen {address}:{port}
PidFile {folder}/pid
ErrorLog {folder}/error.log
User www-data
Group www-data
ServerName {host}
LimitRequestFieldSize 16384
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule auth_gssapi_module {modules}/mod_auth_gssapi.so
DocumentRoot {folder}/htdocs
<Directory {folder}/htdocs>
Require all granted
</Directory>
<Location />
AuthType GSSAPI
AuthName docs
GssapiCredStore keytab:{folder}/keytab
Require valid-user
Header always set X-Seen "expr=%{{REMOTE_USER}}"
</Location>
<Location /bound/>
AuthType GSSAPI
AuthName docs
GssapiCredStore keytab:{folder}/keytab
GssapiConnectionBound On
</Location>
"""


@pytest.fixture(scope="module")
def docs_keytab(domain: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The keytab of the document server's account; the gateway's account may delegate to it by any protocol."""
    keytab = tmp_path_factory.mktemp("docs") / "docs.keytab"
    password = "Docs-Passw0rd-1!"
    domain.samba_tool("user", "create", "docs", password)
    domain.samba_tool("spn", "add", SERVICE, "docs")
    attribute = "msDS-SupportedEncryptionTypes"
    change = f"dn: CN=docs,CN=Users,{BASE}\nchangetype: modify\nreplace: {attribute}\n{attribute}: 24\n"
    run("ldbmodify", "-H", str(domain.folder / "dc/private/sam.ldb"), stdin=change)
    domain.samba_tool("user", "setpassword", "docs", f"--newpassword={password}")  # keys are made with a password
    domain.samba_tool("domain", "exportkeytab", str(keytab), f"--principal={SERVICE}")
    domain.samba_tool("delegation", "add-service", "gateway", SERVICE)
    domain.samba_tool("delegation", "for-any-protocol", "gateway", "on")
    yield keytab
    domain.samba_tool("delegation", "for-any-protocol", "gateway", "off")
    domain.samba_tool("delegation", "del-service", "gateway", SERVICE)
    domain.samba_tool("user", "delete", "docs")


@pytest.fixture(scope="module")
def apache(domain: Lab, docs_keytab: Path) -> Iterator[int]:
    """Starts Apache with Kerberos; returns its port. It responds with the user it sees in X-Seen."""
    if not (MODULES / "mod_auth_gssapi.so").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("needs apache2 and libapache2-mod-auth-gssapi")
        pytest.skip("needs apache2 and libapache2-mod-auth-gssapi")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to www-data
        yield from started_apache(domain, docs_keytab, Path(name))


def started_apache(lab: Lab, docs_keytab: Path, folder: Path) -> Iterator[int]:
    folder.chmod(0o755)
    (folder / "htdocs" / "bound").mkdir(parents=True)
    for page in ("index.html", "bound/index.html"):
        (folder / "htdocs" / page).write_text("hello")
    keytab = folder / "keytab"
    keytab.write_bytes(docs_keytab.read_bytes())
    keytab.chmod(0o644)
    port = free_port()
    settings = folder / "apache.conf"
    settings.write_text(
        APACHE.format(folder=folder, address=ADDRESS, port=port, host=OLD_HOST, modules=MODULES), encoding="utf-8"
    )
    with lab.entered():
        run("apache2", "-d", str(folder), "-f", str(settings), "-k", "start")
    yield port
    run("apache2", "-d", str(folder), "-f", str(settings), "-k", "stop")


@asynccontextmanager
async def in_front_of(
    lab: Lab, folder: Path, upstream: int, host: str = "127.0.0.1", service: str = SERVICE, **more: str
) -> AsyncIterator[Gateway]:
    """A gateway that delegates to a document server on this port; `more`: listen, negotiate, ldap and so on."""
    (folder / "secret").write_text(SERVICE_PASSWORD)
    settings = folder / "calgate.toml"
    values = {"keytab": lab.keytab, "domain": DOMAIN, "ca": lab.ca, "base": BASE, "realm": REALM}
    server = {"upstream": upstream, "host": host, "service": service}
    added = {"listen": "", "negotiate": "", "ldap": "", "more": "", "sign_on": ""} | more
    settings.write_text(SETTINGS.format(folder=folder, port=free_port(), **server, **values, **added))
    async with gateway(settings) as gate:
        await until(lambda: has_status(curl(f"{gate.scheme}://{HOST}:{gate.port}/_calgate/health", "-k"), 200))
        yield gate


def seen(values: Sequence[str]) -> list[str]:
    return [value.encode("latin-1").decode("utf-8") for value in values]
