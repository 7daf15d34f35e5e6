"""nginx, Caddy, HAProxy and Traefik that forward by themselves and request a verdict from the gateway first.

They run with the examples in `deploy/forward-auth/`. HAProxy has a stand-in for the Lua script that the example loads;
Traefik is not here, so its middlewares are carried out in Python.
"""

import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from deploy.proxies import Site, replaced, running
from support import keytabs
from support.gateway_process import DocumentServer, Gateway, Reply, curl, document_server, gateway, write_settings
from support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Path(__file__).parents[2] / "deploy" / "forward-auth"
LISTEN = 'trusted_proxies = ["127.0.0.1/32"]'
HAS_KERBEROS = find_spec("gssapi") is not None
MORE = '[forward_auth]\nsecret = "CHANGE-ME"'


@dataclass
class Asking:
    """A proxy that requests verdicts, and the document server that it forwards to."""

    site: Site
    documents: DocumentServer

    async def get(self, path: str, *options: str, session: str = "") -> Reply:
        return await curl(f"{self.site.url}{path}", "-k", "-b", session, *options)

    async def session(self, user: str) -> str:
        """Begins a session without the proxy, from an untrusted address; returns its cookie as https names it."""
        direct = await curl(f"{self.site.gate.url}/portal", "--interface", "127.0.0.2", user=user)
        return "__Host-" + direct.values("set-cookie")[0].partition(";")[0]


def nginx(folder: Path, certificate: Path, port: int, gate: int, upstream: int) -> list[str]:
    asks = replaced(EXAMPLES / "calgate-asks.conf", {})
    (folder / "asks.conf").write_text(asks, encoding="utf-8")
    text = replaced(
        EXAMPLES / "nginx.conf",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "127.0.0.1:8080": f"127.0.0.1:{gate}",
            "127.0.0.1:9000": f"127.0.0.1:{upstream}",
            "/etc/nginx/docs.pem": str(certificate),
            "/etc/nginx/docs.key": str(certificate),
            "/etc/nginx/calgate-asks.conf": f"{folder}/asks.conf",
        },
    )
    kinds = ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    file = folder / "nginx.conf"
    head = f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
    file.write_text(f"{head} events {{}} http {{ access_log off; {places} {text} }}", encoding="utf-8")
    return ["nginx", "-c", str(file), "-p", str(folder)]


def caddy(folder: Path, certificate: Path, port: int, gate: int, upstream: int) -> list[str]:
    site = f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {certificate}\n"
    text = replaced(
        EXAMPLES / "Caddyfile",
        {
            "docs.corp.example {\n": site,
            "127.0.0.1:8080": f"127.0.0.1:{gate}",
            "127.0.0.1:9000": f"127.0.0.1:{upstream}",
            "{$CALGATE_SECRET}": "CHANGE-ME",
        },
    )
    options = f"{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {folder}/caddy\n}}\n"
    file = folder / "Caddyfile"
    file.write_text(options + text, encoding="utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def haproxy(folder: Path, certificate: Path, port: int, gate: int, upstream: int) -> list[str]:
    text = replaced(
        EXAMPLES / "haproxy.cfg",
        {
            "    lua-prepend-path /usr/local/share/haproxy/?/http.lua\n": "",
            "/usr/local/share/haproxy/auth-request.lua": str(Path(__file__).with_name("auth-request.lua")),
            "bind :443 ": f"bind 127.0.0.1:{port} ",
            "/etc/haproxy/docs.pem": str(certificate),
            "127.0.0.1:8080": f"127.0.0.1:{gate}",
            "127.0.0.1:9000": f"127.0.0.1:{upstream}",
        },
    )
    file = folder / "haproxy.cfg"
    file.write_text(text.replace("global\n", "global\n    maxconn 200\n"), encoding="utf-8")
    return ["haproxy", "-db", "-f", str(file)]


@pytest_asyncio.fixture(
    params=[nginx, caddy, haproxy], ids=["nginx", "caddy", "haproxy"], scope="module", loop_scope="module"
)
async def asking(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> AsyncIterator[Asking]:
    tmp_path = tmp_path_factory.mktemp(request.param.__name__)
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"needs {request.param.__name__}")
    async with document_server() as documents:
        settings = write_settings(tmp_path, documents.port, listen=LISTEN, more=MORE)
        if HAS_KERBEROS:
            keytab = keytabs.write(tmp_path / "http.keytab", keytabs.entry("HTTP/docs.corp.example"))
            text = settings.read_text(encoding="utf-8")
            settings.write_text(text.replace("[negotiate]", f'[negotiate]\nkeytab = "{keytab}"'), encoding="utf-8")
        async with gateway(settings) as gate:
            port = free_port()
            site = Site(gate, f"https://127.0.0.1:{port}")
            async with running(request.param(tmp_path, certificate, port, gate.port, documents.port), site):
                yield Asking(site, documents)


async def test_session_is_forwarded_under_its_own_user_whatever_the_client_claims(asking: Asking) -> None:
    session = await asking.session("alice")
    asking.documents.seen.clear()
    spoofed = ("-H", "QVUSER: DEMO\\boss", "-H", "X-Forwarded-Uri: /portal", "-H", "Authorization: Basic eA==")
    for sent, kept in (
        (f"a=1; {session}; b=2", ["a=1; b=2"]),
        (f"{session}; b=2", ["b=2"]),
        (f"a=1; {session}", ["a=1"]),
        (f"{session}; a=1; {session}", ["a=1"]),
        (f"a=1;{session};b=2", ["a=1; b=2"]),
        ("", []),
    ):
        reply = await asking.get("/docs/sales", *spoofed, session=sent or session)
        assert reply.status == 200
        assert [value for value in asking.documents.seen[-1].values("Cookie") if value] == kept
    seen = asking.documents.seen[-1]
    assert seen.values("QVUSER") == ["DEMO\\alice"]
    assert seen.values("Authorization") == []
    assert seen.values("X-Calgate-Secret") == []
    assert asking.site.gate.decisions("CAL")[-1]["document"] == "sales"


async def test_stranger_gets_the_challenge_and_the_page(asking: Asking) -> None:
    asking.documents.seen.clear()
    reply = await asking.get("/docs/sales", "-H", "Accept: text/html")
    assert reply.status == 401
    offered = {"Negotiate"} if HAS_KERBEROS else set()  # never NTLM, which a proxy's connections cannot carry
    assert set(reply.values("www-authenticate")) == offered
    assert b"Sign in to continue" in reply.body
    assert asking.documents.seen == []


async def test_request_without_a_cal_is_not_forwarded(asking: Asking) -> None:
    for user in ("alice", "bob"):
        assert (await asking.get("/docs/sales", session=await asking.session(user))).status == 200
    session = await asking.session("carol")
    asking.documents.seen.clear()
    assert (await asking.get("/docs/sales", session=session)).status == 403
    assert asking.documents.seen == []


async def test_verdict_is_refused_to_clients_of_the_proxy(asking: Asking) -> None:
    session = await asking.session("alice")
    for path in ("/_calgate/auth", "/_calgate/verdict"):
        fields = ("-H", "X-Forwarded-Uri: /docs/sales", "-H", "X-Forwarded-Method: GET")
        assert (await asking.get(path, *fields, session=session)).status in (403, 404)


async def test_sign_out_works_through_the_proxy(asking: Asking) -> None:
    session = await asking.session("alice")
    assert (await asking.get("/_calgate/sign-out", "-X", "POST", session=session)).status == 303
    assert (await asking.get("/portal", session=session)).status == 401


# ---------------------------------------------------------------- Traefik


class Traefik:
    """Carries out the middlewares of the example as Traefik 3 does (pkg/middlewares/headers, pkg/middlewares/auth)."""

    def __init__(self, gate: Gateway) -> None:
        self._gate = gate
        self._http = yaml.safe_load((EXAMPLES / "traefik.yaml").read_text(encoding="utf-8"))["http"]

    async def forwarded(self, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        """Returns the status of the verdict, and the headers that the document server gets, by lower-case name."""
        request = {name.lower(): value for name, value in headers.items()}
        status = 0
        for name in self._http["routers"]["docs"]["middlewares"]:
            ((kind, options),) = self._http["middlewares"][name].items()
            if kind == "headers":
                self._set(request, options["customRequestHeaders"])
            else:
                status = await self._ask(request, options)
        return status, request

    def _set(self, request: dict[str, str], custom: Mapping[str, str]) -> None:
        for name, value in custom.items():
            request.pop(name.lower(), None)
            if value:
                request[name.lower()] = value

    async def _ask(self, request: dict[str, str], options: Mapping[str, object]) -> int:
        described = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/docs/sales", "X-Forwarded-Host": "127.0.0.1"}
        sent = {**request, **described, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        words = [word for name, value in sent.items() for word in ("-H", f"{name}: {value}")]
        verdict = await curl(f"{self._gate.url}/_calgate/auth", *words)
        names = options["authResponseHeaders"]
        assert isinstance(names, list)
        for name in names:
            request.pop(name.lower(), None)
            if values := verdict.values(name):
                request[name.lower()] = values[0]
        return verdict.status


async def test_document_server_behind_traefik_gets_the_user_and_no_session(tmp_path: Path) -> None:
    async with document_server() as documents:
        settings = write_settings(tmp_path, documents.port, listen=LISTEN, more=MORE)
        async with gateway(settings) as gate:
            traefik = Traefik(gate)
            session = await Asking(Site(gate, gate.url), documents).session("alice")
            for sent, kept in (
                (f"a=1; {session}; b=2", "a=1; b=2"),
                (f"{session}; a=1; {session}", "a=1"),
                (session, None),
            ):
                spoofed = {"QVUSER": "DEMO\\boss", "X-Calgate-Secret": "x", "Authorization": "Basic eA=="}
                status, headers = await traefik.forwarded({"Cookie": sent, **spoofed})
                assert status == 200
                assert headers.get("cookie") == kept
                assert headers["qvuser"] == "DEMO\\alice"
                assert not {"x-calgate-secret", "authorization"} & set(headers)
            assert (await traefik.forwarded({"Cookie": "a=1"}))[0] == 401
