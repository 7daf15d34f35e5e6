"""`calgate check` where there is no domain: the store, document servers, certificate, and tokens."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from calgate import check as checking
from calgate import config
from calgate.cli import main
from calgate.contract import Finding
from certificates import Authority
from servers import Server
from whole.rig import document_server, write_settings


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[int]:
    async with document_server() as server:
        yield server.port


async def findings(file: Path) -> list[Finding]:
    return [finding async for finding in checking.check(config.read(file))]


async def wrong(file: Path) -> list[tuple[str, str]]:
    return [(f.level, f.subject) for f in await findings(file) if f.level in ("warn", "fail")]


async def test_all_is_well_with_a_store_that_keeps_what_it_is_given(
    server: Server, upstream: int, tmp_path: Path
) -> None:
    file = write_settings(tmp_path, upstream, store=f'url = "{server.url}"')
    assert await wrong(file) == [("warn", "settings")]  # NTLM alone is unwise
    assert any(finding.subject == "store" and "answers" in finding.what for finding in await findings(file))


async def test_a_store_that_forgets_is_warned_about(upstream: int, tmp_path: Path) -> None:
    forgetful = Server(tmp_path / "redis", maxmemory_policy="allkeys-lru", maxmemory="100mb").start()
    try:
        found = await findings(write_settings(tmp_path, upstream, store=f'url = "{forgetful.url}"'))
        remedies = [finding.remedy for finding in found if finding.subject == "store" and finding.level == "warn"]
        assert remedies == ["appendonly yes", "maxmemory-policy noeviction"]
    finally:
        forgetful.stop()


async def test_a_certificate_that_ends_soon_is_warned_about(upstream: int, tmp_path: Path) -> None:
    signed = Authority(tmp_path, days=3).sign("bi.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    file = write_settings(tmp_path, upstream, listen=tls)
    assert ("warn", "certificate") in await wrong(file)


@pytest.mark.parametrize(
    ("token", "code", "told"),
    [
        (base64.b64encode(b"NTLMSSP\0\1\0\0\0" + bytes(28)).decode(), 0, "NTLM"),
        ("Negotiate " + base64.b64encode(b"NTLMSSP\0\1\0\0\0" + bytes(28)).decode(), 0, "NTLM"),
        ("not base64!", 1, "not base64"),
        (base64.b64encode(b"garbage").decode(), 1, "neither a Negotiate nor an NTLM token"),
    ],
)
def test_a_token_is_explained_without_a_settings_file(token: str, code: int, told: str) -> None:
    result = CliRunner().invoke(main, ["check", "--token", token, "--json"])
    assert result.exit_code == code
    assert any(told in row["subject"] + row["what"] for row in json.loads(result.output))
