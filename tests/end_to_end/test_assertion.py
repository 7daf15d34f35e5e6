"""Signed assertions through the whole program: the header, and the keys that everybody can fetch."""

import re
from pathlib import Path

import jwt

from support.gateway_process import DocumentServer, calgate, cookie_of, curl, gateway, write_settings


async def test_document_server_verifies_who_the_user_is_with_the_published_keys(
    server: DocumentServer, tmp_path: Path
) -> None:
    key = tmp_path / "assertion.pem"
    code, number, _ = await calgate("keys", "new", str(key))
    assert code == 0
    file = write_settings(tmp_path, server.port)
    issuer = '"https://bi.demo.example", audience = "https://portal"'
    sign_on = f'sign_on = {{ plugin = "assertion", keys = ["{key}"], issuer = {issuer} }}\n'
    file.write_text(re.sub(r"^sign_on = .*\n", lambda _: sign_on, file.read_text(), flags=re.MULTILINE))
    async with gateway(file) as gate:
        reply = await curl(f"{gate.url}/_calgate/keys")
        assert (reply.status, reply.values("cache-control")) == (200, ["public, max-age=300"])
        (published,) = jwt.PyJWKSet.from_dict(reply.json).keys
        assert published.key_id == number.strip()
        assert (await curl(f"{gate.url}/_calgate/keys", "-X", "POST")).status == 405
        cookie = await cookie_of(gate, "alice")
        await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", "x-calgate-assertion: forged")
        (token,) = server.seen[-1].values("X-Calgate-Assertion")
        said = jwt.decode(token, published.key, ["ES256"], audience="https://portal", issuer="https://bi.demo.example")
        assert said["preferred_username"] == "DEMO\\alice"
