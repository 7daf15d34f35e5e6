"""`calgate check` of a gateway with every feature: its warnings and failures, and the checks it left untried."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio

from calgate import config
from calgate.commands import checks as checking
from calgate.plugin.checks import Finding
from support.domain import BASE, DOMAIN, HOST, PASSWORD, SERVICE_PASSWORD, Lab
from support.domain_gateway import SETTINGS
from support.gateway_process import document_server

STRICT_GUARD = '[negotiate.guard]\naccount = { failures = 4, within = "31m", wait = "31m" }'
LDAPS = f"ldaps://dc1.{DOMAIN}"
ALICE = ("alice", PASSWORD)
Write = Callable[..., Path]


@pytest_asyncio.fixture
async def write(domain: Lab, tmp_path: Path) -> AsyncIterator[Write]:
    """Writes settings of a gateway with every feature, in front of a document server that responds."""
    (tmp_path / "secret").write_text(SERVICE_PASSWORD)
    keytab = tmp_path / "own.keytab"
    keytab.write_bytes(domain.keytab.read_bytes())
    keytab.chmod(0o600)
    async with document_server() as server:

        def make(**more: str) -> Path:
            values = {
                "folder": str(tmp_path),
                "port": "18443",
                "listen": "",
                "store": "",
                "session": "",
                "keytab": str(keytab),
                "negotiate": f'ntlm = "domain"\n{STRICT_GUARD}',
                "servers": f'"ldaps://dc1.{DOMAIN}"',
                "ca": str(domain.ca),
                "ldap": "",
                "domain": DOMAIN,
                "base": BASE,
                "upstream": str(server.port),
                "password": "",
            } | more
            file = tmp_path / "calgate.toml"
            file.write_text(SETTINGS.format(**values).replace('path = "/"', f'host = "{HOST}"\npath = "/"'))
            return file

        yield make


async def findings(file: Path, login: tuple[str, str] | None = ALICE) -> list[Finding]:
    """Returns all findings about the settings file."""
    return [finding async for finding in checking.check(config.read(file), (), login)]


class Report:
    """The findings of a check that are not "ok"."""

    def __init__(self, found: list[Finding]) -> None:
        self.wrong = [f for f in found if f.level in ("warn", "fail")]
        self.untried = [f.subject for f in found if f.level == "untried"]

    def only(self, level: str, subject: str, *words: str) -> list[str]:
        """Asserts that the only warning or failure has these words; returns the subjects that were left untried."""
        assert [(f.level, f.subject) for f in self.wrong] == [(level, subject)], self.wrong
        line = f"{self.wrong[0].what} → {self.wrong[0].remedy}"
        for word in words:
            assert word in line, line
        return self.untried


async def report(file: Path, login: tuple[str, str] | None = ALICE) -> Report:
    """Checks everything that the file names, with a sign-in as `login`."""
    return Report(await findings(file, login))
