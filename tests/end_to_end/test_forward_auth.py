"""Forward-auth: another proxy forwards, and asks the gateway first."""

import re
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Gateway, Reply, calgate, cookie_of, curl, gateway, write_settings

TRUSTED = 'trusted_proxies = ["127.0.0.1/32"]'
SECRET = '[forward_auth]\nsecret = "open sesame"'
ASKED = {
    "X-Calgate-Secret": "open sesame",
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Uri": "/docs/sales",
    "X-Forwarded-Host": "bi.demo.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-For": "198.51.100.7",
}


async def ask(gate: Gateway, cookie: str = "", **changes: str | None) -> Reply:
    fields = ASKED | {name.replace("_", "-"): value for name, value in changes.items()}
    options = [word for name, value in fields.items() if value is not None for word in ("-H", f"{name}: {value}")]
    return await curl(f"{gate.url}/_calgate/auth", *options, "-H", f"Cookie: {cookie}")


async def session(server: DocumentServer, folder: Path) -> str:
    """A session made at a gateway without a proxy in front, on the same store."""
    direct = folder / "direct"
    direct.mkdir()
    file = write_settings(direct, server.port)
    file.write_text(file.read_text().replace(f"{direct}/state", f"{folder}/state"))
    async with gateway(file) as gate:
        return await cookie_of(gate, "bob")


async def test_signed_in_request_is_admitted_with_its_user_and_cal(server: DocumentServer, tmp_path: Path) -> None:
    cookie = await session(server, tmp_path)
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        reply = await ask(gate, f"first=1; {cookie}; other=2")
        assert reply.status == 200
        assert reply.values("cookie") == ["first=1; other=2"], "what the proxy must forward, without the session"
        assert reply.values("x-calgate-user") == ["DEMO\\bob"]
        assert reply.values("qvuser") == ["DEMO\\bob"]
        assert reply.values("x-calgate-cal") == ["session"]
        _, out, _ = await calgate("cals", "list", "-c", str(gate.settings), "--json")
        assert "DEMO\\\\bob" in out
        assert server.seen == [server.seen[0]], "the document server is the other proxy's to ask"
        refused = await ask(gate, cookie, X_Forwarded_Uri="/a/../b")
        assert refused.status == 400


async def test_ntlm_is_neither_offered_nor_accepted_behind_a_proxy(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        reply = await ask(gate)
        assert reply.status == 401
        assert reply.values("www-authenticate") == [], "a password box that could never succeed"
        ntlm = await ask(gate, Authorization="NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==")
        assert ntlm.json["code"] == "ntlm-behind-proxy"


@pytest.mark.parametrize("secret", [None, "", "open", "open sesame "])
async def test_verdict_needs_the_shared_secret(server: DocumentServer, tmp_path: Path, secret: str | None) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        reply = await ask(gate, X_Calgate_Secret=f'"{secret}"' if secret == "open sesame " else secret)
        assert (reply.status, reply.values("www-authenticate")) == (403, [])


async def test_verdict_is_refused_to_other_peers_and_where_forward_auth_is_not_set_up(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_settings(tmp_path, server.port, more=SECRET)) as gate:
        assert (await ask(gate)).status == 403
    other = tmp_path / "other"
    other.mkdir()
    async with gateway(write_settings(other, server.port, listen=TRUSTED)) as gate:
        assert (await ask(gate, X_Calgate_Secret="")).status == 403


async def test_incomplete_description_is_a_bad_request(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        assert (await ask(gate, X_Forwarded_Uri=None)).status == 400
        assert (await ask(gate, X_Forwarded_Method=None)).status == 400
        twice = [word for name, value in ASKED.items() for word in ("-H", f"{name}: {value}")]
        for more in ("x-forwarded-uri: /public", "X-Forwarded-Host: other", "X-Forwarded-Method: GET"):
            reply = await curl(f"{gate.url}/_calgate/auth", *twice, "-H", more)
            assert (reply.status, reply.json["code"]) == (400, "bad-request"), more


async def test_methods_and_websockets_are_refused_as_they_are_without_the_proxy(
    server: DocumentServer, tmp_path: Path
) -> None:
    """A proxy takes Upgrade off, since it is a hop-by-hop header; Sec-WebSocket-Key stays."""
    cookie = await session(server, tmp_path)
    methods = TRUSTED + '\nmethods = ["GET", "POST"]'
    async with gateway(write_settings(tmp_path, server.port, listen=methods, more=SECRET)) as gate:
        assert (await ask(gate, cookie, X_Forwarded_Method="DELETE")).json["code"] == "method-not-allowed"
        assert (await ask(gate, cookie, X_Forwarded_Method="get")).json["code"] == "method-not-allowed"
        websocket = {"Sec_WebSocket_Key": "MDAwMDAwMDAwMDAwMDAwMA==", "X_Forwarded_Uri": "/live"}
        foreign = await ask(gate, cookie, **websocket, Origin="http://evil.example")
        assert foreign.json["code"] == "cross-site"
        assert (await ask(gate, cookie, **websocket, Origin="http://bi.demo.example")).status == 200


async def test_request_whose_body_names_the_document_is_refused_where_the_proxy_keeps_it_back(
    server: DocumentServer, tmp_path: Path
) -> None:
    cookie = await session(server, tmp_path)
    file = write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)
    text = re.sub(r"^(opens|uses|polls) = .*\n", "", file.read_text(), flags=re.MULTILINE)
    file.write_text(text.replace('license = "demo"\n', 'license = "demo"\ndialect = "qlikview"\n'))
    async with gateway(file) as gate:
        call = "/QvAJAXZfc/QvsViewClient.aspx?cmd=open"
        refused = await ask(gate, cookie, X_Forwarded_Method="POST", X_Forwarded_Uri=call)
        assert (refused.status, refused.values("x-calgate-cal")) == (403, [])
        code, out, _ = await calgate("cals", "list", "-c", str(file), "--json")
        assert (code, "bob" in out) == (0, False)
