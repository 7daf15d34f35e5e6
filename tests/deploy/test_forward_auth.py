"""nginx and Caddy that forward themselves and ask the gateway first, by the examples in `deploy/forward-auth/`."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.proxies import Site, replaced, running
from support.gateway_process import DocumentServer, Reply, curl, document_server, gateway, write_settings
from support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Path(__file__).parents[2] / "deploy" / "forward-auth"
LISTEN = 'trusted_proxies = ["127.0.0.1/32"]'
MORE = '[forward_auth]\nsecret = "CHANGE-ME"'


@dataclass
class Asking:
    """A proxy that asks, and the document server that it forwards to."""

    site: Site
    documents: DocumentServer

    async def get(self, path: str, *options: str, session: str = "") -> Reply:
        return await curl(f"{self.site.url}{path}", "-k", "-b", session, *options)

    async def session(self, user: str) -> str:
        """Begun past the proxy, from an address that is not trusted; under the name that https demands."""
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


@pytest_asyncio.fixture(params=[nginx, caddy], ids=["nginx", "caddy"], scope="module", loop_scope="module")
async def asking(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> AsyncIterator[Asking]:
    tmp_path = tmp_path_factory.mktemp(request.param.__name__)
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"needs {request.param.__name__}")
    async with document_server() as documents:
        settings = write_settings(tmp_path, documents.port, listen=LISTEN, more=MORE)
        async with gateway(settings) as gate:
            port = free_port()
            site = Site(gate, f"https://127.0.0.1:{port}")
            async with running(request.param(tmp_path, certificate, port, gate.port, documents.port), site):
                yield Asking(site, documents)


async def test_a_session_is_let_through_under_its_own_name_whatever_the_client_claims(asking: Asking) -> None:
    session = await asking.session("alice")
    asking.documents.seen.clear()
    spoofed = ("-H", "QVUSER: DEMO\\boss", "-H", "X-Forwarded-Uri: /portal", "-H", "Authorization: Basic eA==")
    for sent, kept in (
        (f"a=1; {session}; b=2", ["a=1; b=2"]),
        (f"{session}; b=2", ["b=2"]),
        (f"a=1; {session}", ["a=1"]),
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


async def test_a_stranger_gets_the_challenge_and_the_helpful_page(asking: Asking) -> None:
    asking.documents.seen.clear()
    reply = await asking.get("/docs/sales", "-H", "Accept: text/html")
    assert reply.status == 401
    assert reply.values("www-authenticate")
    assert b"Sign in to continue" in reply.body
    assert asking.documents.seen == []


async def test_who_gets_no_cal_gets_no_further(asking: Asking) -> None:
    for user in ("alice", "bob"):
        assert (await asking.get("/docs/sales", session=await asking.session(user))).status == 200
    session = await asking.session("carol")
    asking.documents.seen.clear()
    assert (await asking.get("/docs/sales", session=session)).status == 403
    assert asking.documents.seen == []


async def test_nobody_asks_for_a_verdict_from_outside(asking: Asking) -> None:
    session = await asking.session("alice")
    for path in ("/_calgate/auth", "/_calgate/verdict"):
        fields = ("-H", "X-Forwarded-Uri: /docs/sales", "-H", "X-Forwarded-Method: GET")
        assert (await asking.get(path, *fields, session=session)).status in (403, 404)


async def test_signing_out_works_through_it(asking: Asking) -> None:
    session = await asking.session("alice")
    assert (await asking.get("/_calgate/sign-out", "-X", "POST", session=session)).status == 303
    assert (await asking.get("/portal", session=session)).status == 401
