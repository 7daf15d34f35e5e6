"""Guessing through the gateway never locks an account of the domain."""

import asyncio
from pathlib import Path

import pytest

from domain.front import front
from domain.test_gateway import ready
from lab import PASSWORD, Lab
from whole.rig import calgate, curl


async def test_a_stranger_can_neither_lock_an_account_nor_block_kerberos(
    domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The domain locks at five wrong passwords; thirty are tried through the gateway, ten at a time."""
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
