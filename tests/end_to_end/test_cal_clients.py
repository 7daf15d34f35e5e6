"""What makes two Session CALs: the client, which is fixed when a browser signs in."""

import json
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Gateway, calgate, curl, gateway, write_settings

FIREFOX = ("-A", "Mozilla/5.0")


async def clients(settings: Path) -> list[str]:
    """Of every Session CAL that is out."""
    _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
    return [holder["client"] for holder in json.loads(out)["holders"]]


async def sign_in(gate: Gateway, address: str) -> str:
    """Alice signs in with another browser; answers its cookie."""
    reply = await curl(f"{gate.url}/portal", *FIREFOX, "--interface", address, user="alice")
    assert reply.status == 200
    return next(c for c in reply.values("set-cookie") if "calgate=" in c).partition(";")[0]


async def open_document(gate: Gateway, cookie: str, address: str) -> int:
    words = (*FIREFOX, "--interface", address, "-H", f"Cookie: {cookie}")
    return (await curl(f"{gate.url}/docs/sales", *words)).status


@pytest.mark.parametrize(("client", "cals"), [("address", 2), ("browser", 3), ("user", 1)])
async def test_two_browsers_of_one_machine_and_one_of_another_are_as_many_clients_as_is_set(
    client: str, cals: int, server: DocumentServer, tmp_path: Path
) -> None:
    license = f'client = "{client}"\nsession = {{ in_license = 9 }}'
    async with gateway(write_settings(tmp_path, server.port, license=license)) as gate:
        for address in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
            assert await open_document(gate, await sign_in(gate, address), address) == 200
        assert len(await clients(gate.settings)) == cals


async def test_a_laptop_that_changes_its_address_keeps_its_cal(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port, license="session = { in_license = 9 }")
    async with gateway(settings) as gate:
        cookie = await sign_in(gate, "127.0.0.1")
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            assert await open_document(gate, cookie, address) == 200
        assert await clients(settings) == ["127.0.0.1"]


async def test_a_program_without_a_cookie_is_its_address_whatever_is_set(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, license='client = "browser"\nsession = { in_license = 9 }')
    async with gateway(settings) as gate:
        for _ in range(3):
            assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        assert await clients(settings) == ["127.0.0.1"]
