"""Routes without sign-in, and routes that pass the application's own Authorization header."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    cookie_of,
    curl,
    document_server,
    gateway,
    raw,
    write_settings,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = """
[[routes]]
path = "/public"
upstreams = ["http://127.0.0.1:{port}"]
sign_in = "off"
authorization = "pass"
opens = '^/public/docs/(?P<document>[^?/]+)$'

[[routes]]
path = "/app"
upstreams = ["http://127.0.0.1:{port}"]
authorization = "pass"

[[access]]
name = "welcome"
documents = ["welcome"]
anonymous = true

[[access]]
name = "everybody"
everybody = true

[[routes]]
"""
LISTEN = 'trusted_proxies = ["127.0.0.1/32"]'
SECRET = '[forward_auth]\nsecret = "open sesame"'


def settings_with_routes(folder: Path, port: int, *, listen: str = "", more: str = "") -> Path:
    file = write_settings(folder, port, listen=listen, more=more)
    file.write_text(file.read_text().replace("[[routes]]\n", ROUTES.format(port=port), 1))
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server() -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest.fixture
def server(shared_server: DocumentServer) -> DocumentServer:
    shared_server.seen.clear()
    return shared_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(shared_server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(settings_with_routes(tmp_path_factory.mktemp("public"), shared_server.port)) as running:
        yield running


async def test_public_route_needs_no_sign_in_and_challenges_nobody(gate: Gateway, server: DocumentServer) -> None:
    reply = await curl(f"{gate.url}/public/health")
    assert reply.status == 200
    assert reply.values("set-cookie") == []
    assert server.seen[-1].path == "/public/health"
    refused = await curl(f"{gate.url}/public/docs/secret")
    assert refused.status == 403
    assert refused.values("www-authenticate") == []


async def test_session_cookie_on_a_public_route_identifies_nobody(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    claims = ("-H", "QVUSER: DEMO\\alice", "-H", "Qvuser: DEMO\\bob", "-H", "X-Remote-User: alice")
    await curl(f"{gate.url}/public/page", "-H", f"Cookie: {cookie}; app=1", *claims)
    seen = server.seen[-1]
    assert seen.values("cookie") == ["app=1"], "the gateway's cookie stays here"
    assert seen.values("qvuser") == []
    assert seen.values("x-remote-user") == []
    assert (await curl(f"{gate.url}/public/docs/secret", "-H", f"Cookie: {cookie}")).status == 403


async def test_document_on_a_public_route_needs_a_rule_for_anonymous_requests(
    gate: Gateway, server: DocumentServer
) -> None:
    assert (await curl(f"{gate.url}/public/docs/welcome")).status == 200
    refused = await curl(f"{gate.url}/public/docs/secret")
    assert refused.status == 403
    assert [exchange.path for exchange in server.seen] == ["/public/docs/welcome"]


async def test_cookie_that_the_document_server_gave_a_user_is_not_theirs_on_a_public_route(
    gate: Gateway, server: DocumentServer
) -> None:
    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: AccessPointSession=alices; Path=/"])

    cookie = await cookie_of(gate, "alice")
    server.behaviour = set_cookie
    try:
        await curl(f"{gate.url}/app/page", "-H", f"Cookie: {cookie}")
    finally:
        server.behaviour = Exchange.answer
    server.seen.clear()
    await curl(f"{gate.url}/public/page", "-H", f"Cookie: {cookie}; AccessPointSession=alices; theme=dark")
    assert server.seen[-1].values("cookie") == ["theme=dark"]


async def test_post_of_a_webhook_passes_and_one_of_another_sites_page_does_not(
    gate: Gateway, server: DocumentServer
) -> None:
    url = f"{gate.url}/public/hook"
    assert (await curl(url, "-X", "POST", "-d", "event=1")).status == 200
    assert server.seen[-1].body == b"event=1"
    for origin in ("https://evil.example", "null"):
        refused = await curl(url, "-X", "POST", "-d", "event=1", "-H", f"Origin: {origin}")
        assert refused.status == 403
    assert len(server.seen) == 1
    upgrade = (
        b"GET /public/ws HTTP/1.1\r\nHost: g\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await raw(gate.port, upgrade, within=1)).startswith(b"HTTP/1.1 403 ")


async def test_form_of_a_client_that_has_signed_in_by_ntlm_arrives_whole_on_a_public_route(
    gate: Gateway, server: DocumentServer
) -> None:
    """Internet Explorer holds the form back on every path of a server that it has signed in to (KB 251404)."""
    assert (await curl(f"{gate.url}/public/form", "-d", "a=1", user="alice")).status == 200
    assert [seen.body for seen in server.seen] == [b"a=1"]
    wrong = await curl(f"{gate.url}/public/form", "-d", "a=2", user="alice", password="wrong")
    assert (wrong.status, server.seen[-1].body) == (200, b"a=2"), "nobody has to sign in here"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


async def test_authorization_of_the_application_is_forwarded_where_the_cookie_signs_in(
    gate: Gateway, server: DocumentServer
) -> None:
    cookie = await cookie_of(gate, "alice")
    for value in ("Bearer of-the-app", basic("app:secret")):
        server.seen.clear()
        reply = await curl(f"{gate.url}/app/api", "-H", f"Cookie: {cookie}", "-H", f"Authorization: {value}")
        assert reply.status == 200
        assert server.seen[-1].values("authorization") == [value]
    server.seen.clear()
    reply = await curl(f"{gate.url}/app/api", "-H", "Authorization: Bearer of-the-app")
    assert reply.status == 401, "it is no sign-in here"
    await curl(f"{gate.url}/other", "-H", f"Cookie: {cookie}", "-H", "Authorization: Bearer of-the-app")
    assert server.seen[-1].values("authorization") == [], "another route strips it"


async def test_credentials_of_connections_and_tokens_of_ours_are_never_forwarded(
    gate: Gateway, server: DocumentServer
) -> None:
    for value in (
        "Negotiate YII=",
        "negotiate\tYII=",
        "negotiate\tYII= x",
        "NTLM TlRMTVNTUAABAAAA",
        "Basic " + "Y2FsZ2F0ZV94OnE=",
    ):
        await curl(f"{gate.url}/public/api", "-H", f"Authorization: {value}")
        assert server.seen[-1].values("authorization") == [], value


async def test_forward_auth_admits_a_public_route_without_a_user(server: DocumentServer, tmp_path: Path) -> None:
    file = settings_with_routes(tmp_path, server.port, listen=LISTEN, more=SECRET)
    async with gateway(file) as gate:
        described = ["X-Calgate-Secret: open sesame", "X-Forwarded-Method: GET", "X-Forwarded-Host: bi.demo.example"]
        options = [word for line in described for word in ("-H", line)]
        reply = await curl(f"{gate.url}/_calgate/auth", *options, "-H", "X-Forwarded-Uri: /public/page")
        assert reply.status == 200
        assert reply.values("x-calgate-user") == [""]
        refused = await curl(f"{gate.url}/_calgate/auth", *options, "-H", "X-Forwarded-Uri: /public/docs/secret")
        assert refused.status == 403
        assert refused.values("www-authenticate") == []
        challenged = await curl(f"{gate.url}/_calgate/auth", *options, "-H", "X-Forwarded-Uri: /app/page")
        assert challenged.status == 401
    _, out, _ = await calgate("check", "-c", str(file))
    assert 'is public (sign_in = "off")' in " ".join(out.split())


@pytest.mark.parametrize("extra", ["", 'sign_on = { headers = { X-A = "{account}" } }'], ids=["license", "sign_on"])
async def test_license_or_sign_on_on_a_public_route_is_a_fault(tmp_path: Path, extra: str) -> None:
    file = write_settings(tmp_path, 1, route='sign_in = "off"')
    if not extra:
        file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("sign_on =")))
    code, _, err = await calgate("config", "validate", "-c", str(file))
    assert code == 2
    assert 'sign_in = "off" leaves no user' in err
