"""Rules that name networks, for a session that moves from one to another."""

from pathlib import Path

from support.gateway_process import DocumentServer, curl, gateway, write_settings


async def test_session_is_judged_again_when_it_moves_to_another_network(server: DocumentServer, tmp_path: Path) -> None:
    file = write_settings(tmp_path, server.port)
    text = file.read_text()
    office = 'name = "app users"\nnetworks = ["127.0.0.2/32"]\n'
    assert 'name = "app users"\n' in text
    file.write_text(text.replace('name = "app users"\n', office))
    async with gateway(file) as gate:
        inside = await curl(f"{gate.url}/portal", "--interface", "127.0.0.2", user="alice")
        assert inside.status == 200
        cookie = inside.values("set-cookie")[0].partition(";")[0]
        for address, status in (("127.0.0.2", 200), ("127.0.0.3", 403), ("127.0.0.2", 200)):
            reply = await curl(f"{gate.url}/portal", "--interface", address, "-H", f"Cookie: {cookie}")
            assert reply.status == status, address
