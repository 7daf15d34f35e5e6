"""Forward-auth: another proxy forwards, and asks the gateway first."""

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


async def test_a_signed_in_request_is_admitted_with_who_it_is_and_its_cal(
    server: DocumentServer, tmp_path: Path
) -> None:
    cookie = await session(server, tmp_path)
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        reply = await ask(gate, cookie)
        assert reply.status == 200
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
async def test_only_the_shared_secret_opens_it(server: DocumentServer, tmp_path: Path, secret: str | None) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        reply = await ask(gate, X_Calgate_Secret=f'"{secret}"' if secret == "open sesame " else secret)
        assert (reply.status, reply.values("www-authenticate")) == (403, [])


async def test_it_is_closed_to_whom_is_no_trusted_proxy_and_where_it_is_not_set_up(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_settings(tmp_path, server.port, more=SECRET)) as gate:
        assert (await ask(gate)).status == 403
    other = tmp_path / "other"
    other.mkdir()
    async with gateway(write_settings(other, server.port, listen=TRUSTED)) as gate:
        assert (await ask(gate, X_Calgate_Secret="")).status == 403


async def test_half_a_description_is_a_bad_request(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen=TRUSTED, more=SECRET)) as gate:
        assert (await ask(gate, X_Forwarded_Uri=None)).status == 400
        assert (await ask(gate, X_Forwarded_Method=None)).status == 400
