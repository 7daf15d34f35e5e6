"""nginx and HAProxy in front of a gateway, with the examples in `deploy/proxy/`."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate.demo import serve
from deploy.proxies import Site, replaced, running
from support.gateway_process import curl, gateway, write_settings
from support.ports import free_port
from support.redis_servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Path(__file__).parents[2] / "deploy" / "proxy"


def nginx(folder: Path, certificate: Path, port: int, gate: int) -> list[str]:
    text = replaced(
        EXAMPLES / "nginx.conf",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen 80": f"listen 127.0.0.1:{free_port()}",
            "server 127.0.0.1:8080": f"server 127.0.0.1:{gate}",
            "/etc/nginx/bi.pem": str(certificate),
            "/etc/nginx/bi.key": str(certificate),
        },
    )
    places = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    )
    file = folder / "nginx.conf"
    head = f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
    file.write_text(f"{head} events {{}} http {{ access_log off; {places} {text} }}", encoding="utf-8")
    return ["nginx", "-c", str(file), "-p", str(folder)]


def haproxy(folder: Path, certificate: Path, port: int, gate: int) -> list[str]:
    text = replaced(
        EXAMPLES / "haproxy.cfg",
        {
            "maxconn 20000": "maxconn 200",  # what the test may open
            "bind :443 ": f"bind 127.0.0.1:{port} ",
            "bind :8443": f"bind 127.0.0.1:{free_port()}",
            "10.0.0.11:8080": f"127.0.0.1:{gate}",
            "10.0.0.12:8080": f"127.0.0.1:{gate}",
            "/etc/haproxy/bi.pem": str(certificate),
        },
    )
    file = folder / "haproxy.cfg"
    file.write_text(text, encoding="utf-8")
    return ["haproxy", "-db", "-f", str(file)]


def haproxy_through(folder: Path, port: int, gate: int) -> list[str]:
    text = replaced(
        EXAMPLES / "haproxy.cfg",
        {
            "maxconn 20000": "maxconn 200",
            "bind :443 ssl crt /etc/haproxy/bi.pem alpn http/1.1": f"bind 127.0.0.1:{free_port()}",
            "bind :8443": f"bind 127.0.0.1:{port}",
            "10.0.0.11:443": f"127.0.0.1:{gate}",
            "10.0.0.12:443": f"127.0.0.1:{gate}",
        },
    )
    file = folder / "haproxy.cfg"
    file.write_text(text, encoding="utf-8")
    return ["haproxy", "-db", "-f", str(file)]


@pytest_asyncio.fixture(params=[nginx, haproxy], ids=["nginx", "haproxy"], scope="module", loop_scope="module")
async def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> AsyncIterator[Site]:
    tmp_path = tmp_path_factory.mktemp(request.param.__name__)
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"needs {request.param.__name__}")
    async with serve() as upstream:
        settings = write_settings(
            tmp_path, int(upstream.rpartition(":")[2]), listen='trusted_proxies = ["127.0.0.1/32"]'
        )
        async with gateway(settings) as gate:
            port = free_port()
            site = Site(gate, f"https://127.0.0.1:{port}")
            async with running(request.param(tmp_path, certificate, port, gate.port), site):
                yield site


async def cookie(site: Site) -> str:
    """Begins a session without the proxy, from an untrusted address; returns its cookie as https names it."""
    direct = await curl(f"{site.gate.url}/portal", "--interface", "127.0.0.2", user="alice")
    (pair,) = [value.partition(";")[0] for value in direct.values("set-cookie")]
    return f"__Host-{pair}"


async def test_ntlm_is_refused_behind_a_proxy_and_a_claimed_address_ignored(site: Site) -> None:
    reply = await curl(f"{site.url}/", "-k", "-H", "X-Forwarded-For: 203.0.113.9", user="alice")
    assert (reply.status, reply.json["code"]) == (401, "ntlm-behind-proxy")
    assert site.gate.decisions("sign-in failed")[-1]["address"] == "127.0.0.1"


async def test_session_and_headers_as_large_as_a_big_ticket_are_forwarded(site: Site) -> None:
    headers = {"Cookie": await cookie(site), "X-Large": "x" * 32_000}
    async with site.session as client, client.get(f"{site.url}/", headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.text()).startswith("AccessPoint for DEMO\\alice")


async def test_post_is_accepted_from_the_sites_own_origin_only(site: Site) -> None:
    body = '<update mark="" view="Sales.qvw"/>'
    for origin, status in ((site.url, 200), ("https://evil.example", 403)):
        headers = {"Cookie": await cookie(site), "Origin": origin}
        async with (
            site.session as client,
            client.post(f"{site.url}/QvAJAXZfc/QvsViewClient.aspx", data=body, headers=headers) as answer,
        ):
            assert answer.status == status, origin


async def test_download_is_streamed_and_websocket_carries_both_ways(site: Site) -> None:
    headers = {"Cookie": await cookie(site)}
    async with site.session as client:
        async with asyncio.timeout(5), client.get(f"{site.url}/export.csv", headers=headers) as answer:
            assert await answer.content.readline() == b"row,value\r\n"
            assert await answer.content.readline() == b"0,0.0000\r\n"
        async with client.ws_connect(f"{site.url}/live", headers={**headers, "Origin": site.url}) as socket:
            await socket.send_str("hello")
            heard = [await socket.receive_str(timeout=5) for _ in range(2)]
            assert "echo hello" in heard


async def test_cookie_of_plain_http_is_refused_over_https(site: Site) -> None:
    pair = (await cookie(site)).removeprefix("__Host-")
    async with site.session as client, client.get(f"{site.url}/", headers={"Cookie": pair}) as answer:
        assert answer.status == 401


async def test_ntlm_works_through_a_tcp_balancer_with_the_proxy_protocol(tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    listen = 'trusted_proxies = ["127.0.0.1/32"]\nproxy_protocol = true'
    async with serve() as upstream:
        settings = write_settings(tmp_path, int(upstream.rpartition(":")[2]), listen=listen)
        async with gateway(settings) as gate:
            port = free_port()
            site = Site(gate, f"http://127.0.0.1:{port}")
            async with running(haproxy_through(tmp_path, port, gate.port), site):
                reply = await curl(f"{site.url}/", "--interface", "127.0.0.9", user="alice")
                assert reply.body.startswith(b"AccessPoint for DEMO\\alice")
                assert gate.decisions("signed in")[-1]["address"] == "127.0.0.9"


async def test_haproxy_keeps_the_gateway_while_the_store_is_away(tmp_path: Path, certificate: Path) -> None:
    """A health check that fails with the store takes every gateway out at once, and with them grace and our pages."""
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    store = Server(tmp_path / "redis").start()
    async with serve() as upstream:
        listen, section = 'trusted_proxies = ["127.0.0.1/32"]', f'url = "{store.url}"'
        port = int(upstream.rpartition(":")[2])
        async with gateway(write_settings(tmp_path, port, listen=listen, store=section)) as gate:
            site = Site(gate, f"https://127.0.0.1:{free_port()}")
            async with running(haproxy(tmp_path, certificate, int(site.url.rpartition(":")[2]), gate.port), site):
                signed_in = {"Cookie": await cookie(site)}
                async with site.session as client:
                    async with client.get(f"{site.url}/", headers=signed_in) as response:
                        assert response.status == 200
                    store.stop()
                    await asyncio.sleep(8)  # HAProxy takes a server out after three failed checks, two seconds apart
                    async with client.get(f"{site.url}/", headers=signed_in) as response:
                        assert response.status == 200, "known sessions have grace"
                    async with client.get(f"{site.url}/_calgate/health") as response:
                        assert (response.status, (await response.json())["degraded"]) == (200, ["store"])
