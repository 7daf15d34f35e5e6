"""The proxies that are compared, each in front of the same backend and with a signed-in session."""

import base64
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.servers import Backend
from support import domain as labs
from support.ports import free_port

MODULES = Path("/usr/lib/apache2/modules")
CONNECTIONS = "keepalive 64; keepalive_requests 100000000;"
SECRET = "the secret of nginx in this benchmark"

SETTINGS = """
state_dir = "{folder}/state"
[listen]
bind = "127.0.0.80:{port}"
workers = {workers}
{listen}
[log]
level = "warning"
access = {access}
[negotiate]
keytab = "{keytab}"
[ldap]
servers = ["ldaps://dc1.corp.example.test"]
ca = "{ca}"
bind = {{ user = "gateway@corp.example.test", password = "{bind_password}" }}
base = "DC=corp,DC=example,DC=test"
[[access]]
name = "app users"
groups = ["CORP\\\\app-users"]
[licenses.bench]
session = {{ in_license = 100000 }}
[[routes]]
path = "/live"
upstreams = ["http://127.0.0.1:{sockets}"]
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
[[routes]]
path = "/QvAJAXZfc"
upstreams = ["http://127.0.0.1:{backend}"]
license = "bench"
dialect = "qlikview"
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
[[routes]]
path = "/two"
upstreams = ["http://127.0.0.1:{backend}", "http://127.0.0.1:{second}"]
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
[[routes]]
upstreams = ["{upstream}"]
{upstream_ca}
{per_user}
license = "bench"
opens = '^/(?P<document>1k|100k|10m)$'
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
"""
BARE = """
  upstream backend {{ server 127.0.0.1:{backend.port}; {connections} }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    proxy_http_version 1.1;
    location / {{ proxy_pass http://backend; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header QVUSER "DEMO\\\\alice"; }}
    location /live {{ proxy_pass http://127.0.0.1:{backend.sockets};
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}
  }}
"""
BARE_TLS = """
  upstream backend {{ server 127.0.0.1:{backend.tls}; {connections} }}
  server {{
    listen 127.0.0.1:{port} ssl reuseport backlog=4096;
    ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
    proxy_http_version 1.1; proxy_ssl_verify on; proxy_ssl_trusted_certificate {backend.ca}; proxy_ssl_name 127.0.0.1;
    location / {{ proxy_pass https://backend; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header QVUSER "DEMO\\\\alice"; }}
  }}
"""
# deploy/forward-auth/nginx.conf without TLS, with kept connections to both
FORWARD_AUTH = """
  upstream backend {{ server 127.0.0.1:{backend.port}; {connections} }}
  upstream calgate {{ server 127.0.0.80:{gate}; {connections} }}
  map $http_cookie $other_cookies {{
    default $http_cookie;
    "~^(?<before>.*); *calgate=[^;]*(?<after>;.*)?$" $before$after;
  }}
  server {{
    listen 127.0.0.80:{port} reuseport backlog=4096;
    proxy_http_version 1.1;
    location / {{
      auth_request /_calgate/verdict;
      auth_request_set $calgate_user $upstream_http_qvuser;
      auth_request_set $calgate_cookie $upstream_http_set_cookie;
      add_header Set-Cookie $calgate_cookie;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header QVUSER $calgate_user; proxy_set_header Authorization "";
      proxy_set_header Cookie $other_cookies;
      proxy_pass http://backend;
    }}
    location = /_calgate/verdict {{
      internal;
      proxy_pass_request_body off; proxy_method GET;
      proxy_set_header Connection ""; proxy_set_header Content-Length ""; proxy_set_header Host $http_host;
      proxy_set_header X-Calgate-Secret "{secret}"; proxy_set_header X-Forwarded-Method $request_method;
      proxy_set_header X-Forwarded-Uri $request_uri; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_pass http://calgate/_calgate/auth;
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    name: str
    origin: str
    pids: tuple[int, ...]  # of its parent processes: their children count as well
    cookies: tuple[str, ...]  # of its sessions


@dataclass(frozen=True, slots=True)
class Testbed:
    """What all proxies share: a folder for their files, the backend, the domain and a user's ticket."""

    folder: Path
    backend: Backend
    lab: labs.Lab
    ticket: dict[str, str]

    def folder_of(self, name: str) -> Path:
        """Makes a folder for one proxy."""
        folder = self.folder / re.sub(r"\W+", "-", name)
        folder.mkdir()
        folder.chmod(0o755)
        return folder


@contextlib.contextmanager
def testbed() -> Iterator[Testbed]:
    """Starts a domain, enters its namespaces and starts the backend there. Exits where the lab cannot run."""
    reason = labs.missing()
    if reason:
        raise SystemExit(f"this benchmark needs the lab's domain: {reason}")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        here = Path(name)
        here.chmod(0o755)
        (here / "lab").mkdir()
        lab = labs.start(here / "lab")
        stack.callback(lab.do, "down")
        stack.enter_context(lab.entered())
        os.environ["KRB5_CONFIG"] = str(lab.folder / "krb5.conf")
        backend = stack.enter_context(servers.backend(here / "backend"))
        yield Testbed(here, backend, lab, lab.ticket("bob", here))


def _cores(workers: int) -> str:
    return servers.PROXY if workers == 1 else servers.BOTH


@contextlib.contextmanager
def nginx(testbed: Testbed, name: str = "nginx", *, workers: int = 1, tls: bool = False) -> Iterator[Proxy]:
    """Starts nginx as a bare proxy: no sign-in, no rules; with TLS on both sides or on neither."""
    folder = testbed.folder_of(f"{name} {workers}")
    port = free_port()
    certificate = testbed.backend.sign("nginx") if tls else None
    template = BARE if certificate is None else BARE_TLS
    http = template.format(port=port, backend=testbed.backend, connections=CONNECTIONS, certificate=certificate)
    with servers.nginx(folder, http, port, cores=_cores(workers), workers=workers) as pid:
        yield Proxy(name, f"{'https' if tls else 'http'}://127.0.0.1:{port}", (pid,), ())


@contextlib.contextmanager
def apache(testbed: Testbed, name: str = "Apache", *, workers: int = 1, access: bool = False) -> Iterator[Proxy]:
    """Starts the stack that would be run instead, with its threads in one process or in two."""
    folder = testbed.folder_of(f"{name} {workers}")
    port = free_port()
    keytab = folder / "http.keytab"
    keytab.write_bytes(testbed.lab.keytab.read_bytes())
    subprocess.run(["chown", "-R", "www-data", str(folder)], check=True)
    config = folder / "apache.conf"
    template = (Path(__file__).parent / "apache.conf").read_text()
    text = template.format(
        folder=folder, port=port, modules=MODULES, ca=testbed.lab.ca, keytab=keytab, backend=testbed.backend,
        session_key=base64.b64encode(os.urandom(32)).decode(), bind_password=labs.SERVICE_PASSWORD, servers=workers,
        threads=1024 * workers, access=f"CustomLog {folder}/access.log combined" if access else "",
    )  # fmt: skip
    config.write_text(text)
    words = ["apache2", "-DFOREGROUND", "-f", str(config)]
    with servers.process(words, port, folder / "out.log", cores=_cores(workers), host=labs.ADDRESS) as pid:
        origin = f"http://{labs.HOST}:{port}"
        yield Proxy(name, origin, (pid,), (_sign_in(origin, testbed.ticket, "apache_session"),))


@contextlib.contextmanager
def calgate(
    testbed: Testbed,
    name: str = "calgate",
    *,
    workers: int = 1,
    access: bool = False,
    listen: str = "",
    more: str = "",
    tls: bool = False,
    sessions: int = 1,
    python: str = servers.PYTHON,
) -> Iterator[Proxy]:
    """Starts the gateway with its private store, and signs in once for each of `sessions`.

    `tls`: on both sides; `python` may be the interpreter of another checkout.
    """
    folder = testbed.folder_of(f"{name} {workers}")
    port = free_port()
    settings = folder / "calgate.toml"
    backend = testbed.backend
    if tls:
        certificate = backend.sign(labs.HOST)
        listen += f'tls = {{ certificate = "{certificate.certificate}", key = "{certificate.key}" }}'
    settings.write_text(
        SETTINGS.format(
            folder=folder, port=port, keytab=testbed.lab.keytab, ca=testbed.lab.ca, backend=backend.port,
            second=backend.second, sockets=backend.sockets,
            upstream=f"https://127.0.0.1:{backend.tls}" if tls else f"http://127.0.0.1:{backend.port}",
            upstream_ca=f'upstream_ca = "{backend.ca}"' if tls else "",
            # every session is bob's, who stands for many users; another checkout may not have the setting
            per_user="connections_per_user = 1000" if python == servers.PYTHON else "",
            access=str(access).lower(), bind_password=labs.SERVICE_PASSWORD, workers=workers, listen=listen,
        )
        + more
    )  # fmt: skip
    words = [python, "-m", "calgate", "run", "-c", str(settings)]
    with servers.process(words, port, folder / "calgate.log", cores=_cores(workers), host=labs.ADDRESS) as pid:
        origin = f"{'https' if tls else 'http'}://{labs.HOST}:{port}"
        cookies = [_sign_in(origin, testbed.ticket, "(?:__Host-)?calgate") for _ in range(sessions)]
        yield Proxy(name, origin, (pid,), tuple(cookies))


@contextlib.contextmanager
def nginx_with_forward_auth(testbed: Testbed, name: str = "nginx with forward-auth") -> Iterator[Proxy]:
    """Starts nginx that forwards by itself and sends each request to a gateway first; the work of both counts."""
    folder = testbed.folder_of(name)
    port = free_port()
    listen, more = 'trusted_proxies = ["127.0.0.0/8"]', f'[forward_auth]\nsecret = "{SECRET}"\n'
    with calgate(testbed, "calgate behind forward-auth", listen=listen, more=more, sessions=0) as gate:
        gate_port = int(gate.origin.rpartition(":")[2])
        http = FORWARD_AUTH.format(
            port=port, gate=gate_port, backend=testbed.backend, connections=CONNECTIONS, secret=SECRET
        )
        with servers.nginx(folder, http, port, cores=servers.PROXY, host=labs.ADDRESS) as pid:
            origin = f"http://{labs.HOST}:{port}"
            yield Proxy(name, origin, (pid, *gate.pids), (_sign_in(origin, testbed.ticket, "calgate"),))


def _sign_in(origin: str, ticket: dict[str, str], name: str) -> str:
    """Signs in by Kerberos and returns the session cookie; retries, since the proxy may still be starting."""
    words = [
        "curl",
        "-sS",
        "-i",
        "-k",
        "--negotiate",
        "-u",
        ":",
        "--retry",
        "20",
        "--retry-delay",
        "1",
        "--retry-all-errors",
    ]
    said = subprocess.run(
        [*words, "-f", f"{origin}/1k"], capture_output=True, timeout=60, check=False, env={**os.environ, **ticket}
    )
    found = re.findall(rf"(?im)^set-cookie: ({name}=[^;\r]+)", said.stdout.decode("latin-1"))
    if not found:
        raise RuntimeError(f"no sign-in at {origin}: {said.stderr.decode()} {said.stdout[:300]!r}")
    # a session whose cookie never came back is kept for a minute only, and the load may begin later
    back = ["curl", "-sS", "-k", "-f", "-o", "/dev/null", "-b", found[-1], f"{origin}/1k"]
    subprocess.run(back, check=True, timeout=60)
    return str(found[-1])
