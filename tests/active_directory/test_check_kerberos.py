"""`calgate check` of what a ticket needs: each breakage of the real domain gives its own line and no other."""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from calgate import config
from calgate.commands.context import open_services
from calgate.plugin.checks import CheckContext, DomainInfo
from calgate.plugin_loader import Directories
from calgate_negotiate.check import check as check_negotiate
from calgate_negotiate.settings import Config
from support import keytabs
from support.check_settings import ALICE, Write, told, write
from support.domain import BASE, DOMAIN, HOST, OLD_HOST, SERVICE_PASSWORD, Lab, run

__all__ = ["write"]  # a fixture


def _version(keytab: Path) -> int:
    return max(int(line.split()[0]) for line in run("klist", "-k", str(keytab)).splitlines() if HOST in line)


def _also_for(file: Path, host: str) -> Path:
    """The route is for another name."""
    file.write_text(file.read_text().replace(f'host = "{HOST}"', f'host = "{host}"'))
    return file


# ---------------------------------------------------------------- the keytab


@pytest.mark.parametrize(
    ("entry", "subject", "words"),
    [
        ((f"HTTP/{HOST}", 1, keytabs.AES256), "SPN", "export the keytab anew"),
        ((f"HTTP/{HOST}", 0, keytabs.RC4), "keytab", "only rc4 → allow AES for the account that holds the SPN"),
        ((f"host/{HOST}", 0, keytabs.AES256), "keytab", "holds no HTTP/ key, but host/"),
    ],
)
async def test_a_keytab_that_does_not_fit_is_told(
    write: Write, tmp_path: Path, entry: tuple[str, int, int], subject: str, words: str
) -> None:
    principal, older, enctype = entry
    file = tmp_path / "bad.keytab"
    keytabs.write(file, keytabs.entry(principal, _version(tmp_path / "own.keytab") - older, enctype)).chmod(0o600)
    assert (await told(write(keytab=str(file)))).only("fail", subject, words) == ["ticket"]


async def test_an_old_keytab_that_was_forgotten_when_the_password_changed_is_told_of_by_its_key(
    write: Write, tmp_path: Path
) -> None:
    """The version fits and the key is another: only a ticket shows that."""
    file = tmp_path / "bad.keytab"
    keytabs.write(file, keytabs.entry(f"HTTP/{HOST}", _version(tmp_path / "own.keytab"))).chmod(0o600)
    assert (await told(write(keytab=str(file)))).only("fail", "ticket", f"for HTTP/{HOST}: Kerberos:") == []


@pytest.mark.parametrize("content", [b"no keytab", b"\x05\x02\0\0\0\x40short", None])
async def test_a_keytab_that_cannot_be_read_is_told(write: Write, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "bad.keytab"
    if content is not None:
        file.write_bytes(content)
    assert (await told(write(keytab=str(file)))).only("fail", "keytab", "cannot be read", "export") == ["ticket"]


async def test_a_library_that_is_not_installed_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calgate_negotiate.kerberos", None)
    words = ("needs python-gssapi", "pip install -r deploy/requirements-kerberos.txt")
    assert (await told(write())).only("fail", "keytab", *words) == ["ticket"]


async def test_a_keytab_that_everybody_may_read_is_warned_about(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own.keytab").chmod(0o644)
    assert (await told(write())).only("warn", "keytab", "chmod o= ") == []


async def test_rc4_beside_aes_is_warned_about(write: Write, tmp_path: Path) -> None:
    own = tmp_path / "own.keytab"
    rc4 = keytabs.entry(f"HTTP/{HOST}", _version(own), keytabs.RC4)
    own.write_bytes(own.read_bytes() + rc4)
    assert (await told(write())).only("warn", "keytab", "RC4 is at its end") == []


# ---------------------------------------------------------------- who holds the name


def _encryption_types(domain: Lab, account: str, types: int) -> None:
    attribute = "msDS-SupportedEncryptionTypes"
    change = f"dn: CN={account},CN=Users,{BASE}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {types}\n"
    run("ldbmodify", "-H", str(domain.folder / "dc/private/sam.ldb"), stdin=change)


@dataclass(frozen=True, slots=True)
class Other:
    """Another account that holds the SPN of another name, and its keytab."""

    name: str
    keytab: Path


@pytest.fixture
def other(domain: Lab, tmp_path: Path) -> Iterator[Other]:
    domain.samba_tool("user", "create", "other-service", SERVICE_PASSWORD)
    domain.samba_tool("spn", "add", f"HTTP/{OLD_HOST}", "other-service")
    _encryption_types(domain, "other-service", 24)
    domain.samba_tool("user", "setpassword", "other-service", f"--newpassword={SERVICE_PASSWORD}")
    keytab = tmp_path / "other.keytab"
    words = ("exportkeytab", str(keytab), "-s", str(domain.samba), f"--principal=HTTP/{OLD_HOST}")
    run("samba-tool", "domain", *words)
    keytab.chmod(0o600)
    yield Other("other-service", keytab)
    domain.samba_tool("user", "delete", "other-service")


async def test_an_spn_that_two_accounts_hold_is_told(domain: Lab, write: Write) -> None:
    """Samba refuses to make a duplicate, as Windows has done since 2012 R2; older ones are still about."""
    partition = domain.folder / "dc/private/sam.ldb.d/DC=CORP,DC=EXAMPLE,DC=TEST.ldb"
    change = f"dn: CN=bob,CN=Users,{BASE}\nchangetype: modify\nadd: servicePrincipalName\n"
    run("ldbmodify", "-H", str(partition), stdin=f"{change}servicePrincipalName: HTTP/{HOST}\n")
    try:
        said = await told(write())
        assert said.only("fail", "SPN", "is held by bob, gateway: the KDC gives no ticket then") == ["ticket"]
    finally:
        domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "bob")


async def test_an_spn_that_nobody_holds_is_told(domain: Lab, write: Write) -> None:
    domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "gateway")
    try:
        assert (await told(write())).only("fail", "SPN", f"setspn -S HTTP/{HOST} ACCOUNT") == ["ticket"]
    finally:
        domain.samba_tool("spn", "add", f"HTTP/{HOST}", "gateway")


async def test_an_account_that_holds_the_spn_and_takes_no_aes_is_told(domain: Lab, write: Write) -> None:
    _encryption_types(domain, "gateway", 4)
    try:
        assert (await told(write())).only("fail", "SPN", "takes no AES → allow AES for the account") == ["ticket"]
    finally:
        _encryption_types(domain, "gateway", 24)


async def test_an_account_that_holds_the_spn_and_is_disabled_is_told(
    domain: Lab, write: Write, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostbyaddr", lambda address: (OLD_HOST, [], [address]))
    domain.samba_tool("user", "disable", other.name)
    file = _also_for(write(keytab=str(other.keytab)), OLD_HOST)
    assert (await told(file)).only("fail", "SPN", "is disabled → enable the account") == ["ticket"]


# ---------------------------------------------------------------- names, clocks, tickets


async def test_a_host_that_is_not_in_the_dns_is_told(write: Write) -> None:
    said = await told(_also_for(write(), f"nowhere.{DOMAIN}"))
    assert said.only("fail", "DNS", "add it to the DNS") == ["SPN", "ticket"]


async def test_an_address_that_is_called_otherwise_is_warned_about(write: Write, other: Other) -> None:
    """The lab's hosts file names the gateway first for the address that both names have."""
    said = await told(_also_for(write(keytab=str(other.keytab)), OLD_HOST))
    assert said.only("warn", "DNS", f"which is called {HOST}", f"hold HTTP/{HOST} too, or correct the PTR") == []


async def test_kdcs_that_cannot_be_found_are_told(
    domain: Lab, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "krb5.conf"
    settings.write_text((domain.folder / "krb5.conf").read_text().replace("127.0.0.53:88", "127.0.0.53:1"))
    monkeypatch.setenv("KRB5_CONFIG", str(settings))
    assert (await told(write())).only("fail", "ticket", "the KDC gives no ticket", "krb5.conf") == []


async def test_a_wrong_password_of_the_one_who_tries_is_told(write: Write) -> None:
    assert (await told(write(), ("carol", "wrong"))).only("fail", "ticket", "check the name and the password") == []


@pytest.mark.parametrize(
    ("ahead", "level", "told"),
    [
        (0, "ok", "agrees"),
        (90, "warn", "9[01] s ahead of the domain controller"),
        (-600, "fail", "(599|600) s behind the domain controller: no ticket is taken"),
        (600, "fail", "60[01] s ahead of the domain controller: no ticket is taken"),
    ],
)
async def test_a_clock_that_is_not_the_domains_is_told_and_nothing_else(
    write: Write, ahead: float, level: str, told: str
) -> None:
    """The directory is the real one; it is this machine's clock that is another. It tells whole seconds."""
    settings = config.read(write())
    section = settings.plugins["negotiate"]
    assert isinstance(section, Config)
    async with open_services(settings) as (_, cast):
        assert isinstance(cast.services.directory, Directories)
        (registry,) = cast.services.directory.members
        assert isinstance(registry, DomainInfo)
        survey = CheckContext(cast.services, (HOST,), registry, ALICE, now=lambda: time.time() + ahead)
        found = [finding async for finding in check_negotiate(section, survey)]
    (clock,) = [finding for finding in found if finding.subject == "clock"]
    assert (clock.level, "chrony" in clock.remedy) == (level, level != "ok")
    assert re.search(told, clock.what)
    assert [f for f in found if f is not clock and f.level in ("warn", "fail")] == []
    assert [f.subject for f in found if f.level == "untried"] == (["ticket"] if level == "fail" else [])
