"""Two clients take two Session CALs; the client is fixed when a browser signs in."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Gateway,
    NtlmClient,
    Reply,
    calgate,
    curl,
    gateway,
    has_status,
    write_settings,
)
from support.waiting import until

FIREFOX = ("-A", "Mozilla/5.0")


async def clients(settings: Path) -> list[str]:
    """Returns the client of every Session CAL that is in use."""
    _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
    return [holder["client"] for holder in json.loads(out)["holders"]]


async def sign_in(gate: Gateway, address: str) -> str:
    """Signs alice in with another browser; returns its session cookie."""
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


async def test_laptop_that_changes_its_address_keeps_its_cal(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port, license="session = { in_license = 9 }")
    async with gateway(settings) as gate:
        cookie = await sign_in(gate, "127.0.0.1")
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            assert await open_document(gate, cookie, address) == 200
        assert await clients(settings) == ["127.0.0.1"]


async def test_program_without_a_cookie_is_its_address_whatever_is_set(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port, license='client = "browser"\nsession = { in_license = 9 }')
    async with gateway(settings) as gate:
        for _ in range(3):
            assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        assert await clients(settings) == ["127.0.0.1"]


BY_BROWSER = 'client = "browser"\nsession = { in_license = 9 }'
OFFICE = ("-A", "Mozilla/4.0 (compatible; ms-office; MSOffice 16)")


def jar(reply: Reply) -> dict[str, str]:
    """Returns the cookies that a response sets."""
    return dict(one.partition(";")[0].split("=", 1) for one in reply.values("set-cookie"))


def sent(cookies: Mapping[str, str]) -> tuple[str, str]:
    return ("-H", "Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()))


async def open_tab(gate: Gateway, ready: asyncio.Barrier) -> None:
    """Opens a document on a connection that is there before any tab has signed in, by NTLM."""
    client = NtlmClient("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)

    async def ask(token: str) -> str:
        lines = ["GET /docs/sales HTTP/1.1", "Host: gate", "User-Agent: Mozilla/5.0", f"Authorization: NTLM {token}"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
        return head

    challenge = await ask(client.first())
    await ready.wait()
    assert (await ask(client.second(challenge))).startswith("HTTP/1.1 200 ")
    writer.close()


async def test_five_tabs_that_are_restored_at_once_are_one_browser(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, license=BY_BROWSER)) as gate:
        ready = asyncio.Barrier(5)
        await asyncio.gather(*(open_tab(gate, ready) for _ in range(5)))
        assert len(await clients(gate.settings)) == 1


async def test_browser_keeps_its_cal_when_its_session_ends_and_it_signs_in_again(
    server: DocumentServer, tmp_path: Path
) -> None:
    license = 'client = "browser"\nsession = { in_license = 1 }'
    settings = write_settings(tmp_path, server.port, license=license, session='lifetime = "1s"\nidle = "1s"')
    async with gateway(settings) as gate:
        first = await curl(f"{gate.url}/docs/sales", *FIREFOX, user="alice")
        cookies = jar(first)
        assert (first.status, set(cookies)) == (200, {"calgate", "calgate-browser"})
        await until(lambda: has_status(curl(f"{gate.url}/portal", *FIREFOX, *sent(cookies)), 401), every=0.1)
        again = await curl(f"{gate.url}/docs/sales", *FIREFOX, *sent(cookies), user="alice")
        assert again.status == 200, "its own old CAL does not deny it"
        assert "calgate-browser" not in jar(again)
        restarted = {"calgate-browser": cookies["calgate-browser"]}
        assert (await curl(f"{gate.url}/docs/sales", *FIREFOX, *sent(restarted), user="alice")).status == 200
        assert len(await clients(settings)) == 1
        assert all("calgate" not in line for seen in server.seen for line in seen.values("cookie"))


@pytest.mark.parametrize("first", ["Office", "browser"])
async def test_office_that_fetches_a_link_shares_the_cal_of_the_browser(
    first: str, server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_settings(tmp_path, server.port, license=BY_BROWSER)) as gate:
        for agent in (OFFICE, FIREFOX) if first == "Office" else (FIREFOX, OFFICE):
            assert (await curl(f"{gate.url}/docs/sales", *agent, user="alice")).status == 200
        assert len(await clients(gate.settings)) == 1


async def test_cal_is_released_at_sign_out_of_the_browsers_last_session(server: DocumentServer, tmp_path: Path) -> None:
    license = 'client = "browser"\nsession = { in_license = 1, minimum = "0s" }'
    async with gateway(write_settings(tmp_path, server.port, license=license)) as gate:
        cookies = jar(await curl(f"{gate.url}/docs/sales", *FIREFOX, user="alice"))
        assert (await curl(f"{gate.url}/docs/sales", *FIREFOX, user="bob")).status == 403
        out = await curl(f"{gate.url}/_calgate/sign-out", "-X", "POST", *FIREFOX, *sent(cookies))
        assert out.status == 303
        assert (await curl(f"{gate.url}/docs/sales", *FIREFOX, user="bob")).status == 200
