"""The guard in front of a real domain: guessing never locks an account."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from active_directory.test_gateway import ready
from support.domain import HOST, PASSWORD, Lab
from support.domain_gateway import Front, front
from support.gateway_process import calgate, curl
from support.handshakes import ntlm_client
from support.redis_servers import Server


async def test_guessing_neither_locks_an_account_nor_blocks_kerberos(
    domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The domain locks after five failures; thirty guesses go through the gateway, ten at a time."""
    async with front(domain, tmp_path, negotiate='ntlm = "domain"') as running:
        await ready(running)

        async def guess(spelling: str) -> int:
            return (await curl(f"{running.url}/docs/Sales", user=spelling, password="guess")).status

        for spelling in ("CORP\\guessed", "corp.example.test\\GUESSED", "CORP\\Guessed"):
            statuses = await asyncio.gather(*(guess(spelling) for _ in range(10)))
            assert set(statuses) <= {401, 429}
        reply = await curl(f"{running.url}/docs/Sales", user="CORP\\guessed", password=PASSWORD)
        assert (reply.status, reply.json["code"]) == (429, "too-many-sign-ins")
        assert reply.values("retry-after")
        words = ("user", "show", "guessed", "--attributes=badPwdCount,msDS-User-Account-Control-Computed")
        shown = domain.samba_tool(*words)
        assert "badPwdCount: 3" in shown
        assert "Computed: 0" in shown, "not locked"
        for name, value in domain.ticket("guessed", tmp_path).items():
            monkeypatch.setenv(name, value)
        by_ticket = await curl(f"{running.url}/portal", "--negotiate", "-u", ":")
        assert by_ticket.status == 403, "Kerberos is never blocked: known, and in none of the groups"
        await calgate("sign-ins", "lift", "CORP\\guessed", "-c", str(running.gate.settings))
        lifted = await curl(f"{running.url}/portal", user="CORP\\guessed", password=PASSWORD)
        assert lifted.status == 403


async def guess_and_hang_up(running: Front, user: str) -> None:
    """Sends a wrong response on a connection of its own, and aborts the connection before the verdict."""
    reader, writer = await asyncio.open_connection("127.0.0.80", running.gate.port)
    client = ntlm_client(user, "guess")

    def send(token: bytes) -> None:
        credentials = base64.b64encode(token).decode()
        head = (
            f"GET /docs/Sales HTTP/1.1\r\nHost: {HOST}:{running.gate.port}\r\nAuthorization: NTLM {credentials}\r\n\r\n"
        )
        writer.write(head.encode())

    send(client.step() or b"")
    head = await reader.readuntil(b"\r\n\r\n")
    challenge = re.search(rb"(?i)www-authenticate: NTLM (\S+)", head)
    if challenge is not None:  # otherwise the guard refused the attempt
        send(client.step(base64.b64decode(challenge.group(1))) or b"")
        await asyncio.sleep(0.005)
    writer.transport.abort()


@pytest.fixture
def hasty(domain: Lab) -> Iterator[str]:
    """An account that no other test guesses at."""
    domain.samba_tool("user", "create", "hasty", PASSWORD)
    yield "hasty"
    domain.samba_tool("user", "delete", "hasty")


@pytest.mark.usefixtures("hasty")
async def test_guesses_are_counted_when_their_connections_are_aborted(domain: Lab, tmp_path: Path) -> None:
    """Twenty-five guesses, of which the domain sees as many as of patient ones: three."""
    async with front(domain, tmp_path, negotiate='ntlm = "domain"') as running:
        await ready(running)
        for _ in range(25):
            await guess_and_hang_up(running, "CORP\\hasty")
        for _ in range(100):
            _, out, _ = await calgate("sign-ins", "blocked", "--json", "-c", str(running.gate.settings))
            if json.loads(out):
                break
        assert [(block["account"], block["failures"]) for block in json.loads(out)] == [("corp\\hasty", 3)]
        assert "badPwdCount: 3" in domain.samba_tool("user", "show", "hasty", "--attributes=badPwdCount")


async def test_account_with_any_blanks_in_its_name_is_counted_as_one(domain: Lab, tmp_path: Path) -> None:
    """The directory finds `Mary Ann` under any number of blanks."""
    domain.samba_tool("user", "create", "Mary Ann", PASSWORD)
    try:
        async with front(domain, tmp_path, negotiate='ntlm = "domain"') as running:
            await ready(running)
            for blanks in (" ", "  ", "   "):
                for _ in range(3):
                    await curl(f"{running.url}/portal", user=f"CORP\\Mary{blanks}Ann", password="guess")
        assert "badPwdCount: 3" in domain.samba_tool("user", "show", "Mary Ann", "--attributes=badPwdCount")
    finally:
        domain.samba_tool("user", "delete", "Mary Ann")


async def test_two_gateways_on_one_store_count_and_lift_together(domain: Lab, tmp_path: Path, server: Server) -> None:
    """Switching between gateways gains no attempt; a stranger has three."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    more = {"negotiate": 'ntlm = "domain"', "store": f'url = "{server.url}"'}
    async with front(domain, folders[0], **more) as one, front(domain, folders[1], **more) as two:
        await asyncio.gather(ready(one), ready(two))

        async def ask(running: Front, password: str) -> int:
            return (await curl(f"{running.url}/portal", user="CORP\\guessed", password=password)).status

        assert [await ask(running, "guess") for running in (one, two, one, two, one)] == [401, 401, 401, 429, 429]
        assert [await ask(running, PASSWORD) for running in (one, two)] == [429, 429]
        code, out, _ = await calgate("sign-ins", "blocked", "--json", "-c", str(two.gate.settings))
        assert (code, json.loads(out)[0]["account"]) == (0, "corp\\guessed")
        await calgate("sign-ins", "lift", "CORP\\guessed", "-c", str(one.gate.settings))
        assert [await ask(running, PASSWORD) for running in (two, one)] == [403, 403], (
            "known, and in none of the groups"
        )
