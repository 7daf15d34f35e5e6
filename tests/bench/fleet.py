"""The sides of the data plane's comparison, each in front of the same backend and signed in to."""

import base64
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import sides
from bench.sides import Backend
from support import domain as labs
from support.ports import free_port

MODULES = Path("/usr/lib/apache2/modules")
CONNECTIONS = "keepalive 64; keepalive_requests 100000000;"
SECRET = "asked by the proxy of this benchmark"

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
upstreams = ["http://127.0.0.1:{backend}"]
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
# deploy/forward-auth/nginx.conf without TLS, with kept connections to both
ASKING = """
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
class Side:
    """One proxy under load."""

    name: str
    origin: str
    pids: tuple[int, ...]  # of its parents: their children are its own as well
    cookie: str


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the sides stand: a folder for their files, the backend, the domain and somebody's ticket."""

    folder: Path
    backend: Backend
    lab: labs.Lab
    ticket: dict[str, str]

    def make(self, name: str) -> Path:
        """A folder of one side's own."""
        folder = self.folder / re.sub(r"\W+", "-", name)
        folder.mkdir()
        folder.chmod(0o755)
        return folder


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """A domain of its own, entered, and the backend in it. Ends the program where there can be none."""
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
        backend = stack.enter_context(sides.backend(here / "backend"))
        yield Ground(here, backend, lab, lab.ticket("bob", here))


def _cores(workers: int) -> str:
    return sides.SIDE if workers == 1 else sides.BOTH


@contextlib.contextmanager
def nginx(ground: Ground, name: str = "nginx", *, workers: int = 1) -> Iterator[Side]:
    """A bare proxy: no sign-in, no rules."""
    folder = ground.make(f"{name} {workers}")
    port = free_port()
    http = BARE.format(port=port, backend=ground.backend, connections=CONNECTIONS)
    with sides.nginx(folder, http, port, cores=_cores(workers), workers=workers) as pid:
        yield Side(name, f"http://127.0.0.1:{port}", (pid,), "")


@contextlib.contextmanager
def apache(ground: Ground, name: str = "Apache", *, workers: int = 1, access: bool = False) -> Iterator[Side]:
    """The stack that would be run instead; its threads are of one process, or of two."""
    folder = ground.make(f"{name} {workers}")
    port = free_port()
    keytab = folder / "http.keytab"
    keytab.write_bytes(ground.lab.keytab.read_bytes())
    subprocess.run(["chown", "-R", "www-data", str(folder)], check=True)
    config = folder / "apache.conf"
    template = (Path(__file__).parent / "apache.conf").read_text()
    text = template.format(
        folder=folder, port=port, modules=MODULES, ca=ground.lab.ca, keytab=keytab, backend=ground.backend,
        session_key=base64.b64encode(os.urandom(32)).decode(), bind_password=labs.SERVICE_PASSWORD, servers=workers,
        threads=1024 * workers, access=f"CustomLog {folder}/access.log combined" if access else "",
    )  # fmt: skip
    config.write_text(text)
    words = ["apache2", "-DFOREGROUND", "-f", str(config)]
    with sides.process(words, port, folder / "out.log", cores=_cores(workers), host=labs.ADDRESS) as pid:
        origin = f"http://{labs.HOST}:{port}"
        yield Side(name, origin, (pid,), _sign_in(origin, ground.ticket, "apache_session"))


@contextlib.contextmanager
def calgate(
    ground: Ground, name: str = "calgate", *, workers: int = 1, access: bool = False, listen: str = "", more: str = ""
) -> Iterator[Side]:
    """The gateway, with its private store."""
    folder = ground.make(f"{name} {workers}")
    port = free_port()
    settings = folder / "calgate.toml"
    settings.write_text(
        SETTINGS.format(
            folder=folder, port=port, keytab=ground.lab.keytab, ca=ground.lab.ca, backend=ground.backend.port,
            sockets=ground.backend.sockets, access=str(access).lower(), bind_password=labs.SERVICE_PASSWORD,
            workers=workers, listen=listen,
        )
        + more
    )  # fmt: skip
    words = [sides.PYTHON, "-m", "calgate", "run", "-c", str(settings)]
    with sides.process(words, port, folder / "calgate.log", cores=_cores(workers), host=labs.ADDRESS) as pid:
        origin = f"http://{labs.HOST}:{port}"
        yield Side(name, origin, (pid,), "" if listen else _sign_in(origin, ground.ticket, "calgate"))


@contextlib.contextmanager
def asking_nginx(ground: Ground, name: str = "nginx with forward-auth") -> Iterator[Side]:
    """nginx forwards, and asks a gateway about each request; the work of both counts."""
    folder = ground.make(name)
    port = free_port()
    listen, more = 'trusted_proxies = ["127.0.0.0/8"]', f'[forward_auth]\nsecret = "{SECRET}"\n'
    with calgate(ground, "calgate that is asked", listen=listen, more=more) as gate:
        asked = int(gate.origin.rpartition(":")[2])
        http = ASKING.format(port=port, gate=asked, backend=ground.backend, connections=CONNECTIONS, secret=SECRET)
        with sides.nginx(folder, http, port, cores=sides.SIDE, host=labs.ADDRESS) as pid:
            origin = f"http://{labs.HOST}:{port}"
            yield Side(name, origin, (pid, *gate.pids), _sign_in(origin, ground.ticket, "calgate"))


def _sign_in(origin: str, ticket: dict[str, str], name: str) -> str:
    """The session cookie of a sign-in by Kerberos; tries for a while, since the side may still be starting."""
    words = ["curl", "-sS", "-i", "--negotiate", "-u", ":", "--retry", "20", "--retry-delay", "1", "--retry-all-errors"]
    said = subprocess.run(
        [*words, "-f", f"{origin}/1k"], capture_output=True, timeout=60, check=False, env={**os.environ, **ticket}
    )
    found = re.findall(rf"(?im)^set-cookie: ({name}=[^;\r]+)", said.stdout.decode("latin-1"))
    if not found:
        raise RuntimeError(f"no sign-in at {origin}: {said.stderr.decode()} {said.stdout[:300]!r}")
    # a session whose cookie never came back is kept for a minute only, and a side may wait longer for its turn
    back = ["curl", "-sS", "-f", "-o", "/dev/null", "-b", found[-1], f"{origin}/1k"]
    subprocess.run(back, check=True, timeout=60)
    return str(found[-1])
