"""`calgate check` of Kerberos: each fault of a real domain has one line and no other."""

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
from support.check_settings import ALICE, Write, report, write
from support.domain import BASE, DOMAIN, HOST, OLD_HOST, SERVICE_PASSWORD, Lab, run

__all__ = ["write"]  # a fixture


def _version(keytab: Path) -> int:
    return max(int(line.split()[0]) for line in run("klist", "-k", str(keytab)).splitlines() if HOST in line)


def _also_for(file: Path, host: str) -> Path:
    """Gives the route another host name."""
    file.write_text(file.read_text().replace(f'host = "{HOST}"', f'host = "{host}"'))
    return file


# ---------------------------------------------------------------- the keytab


@pytest.mark.parametrize(
    ("entry", "subject", "words"),
    [
        ((f"HTTP/{HOST}", 1, keytabs.AES256), "SPN", "export the keytab again"),
        ((f"HTTP/{HOST}", 0, keytabs.RC4), "keytab", "only rc4 → allow AES for the account that holds the SPN"),
        ((f"host/{HOST}", 0, keytabs.AES256), "keytab", "has no HTTP/ key, but host/"),
    ],
)
async def test_check_reports_an_unsuitable_keytab(
    write: Write, tmp_path: Path, entry: tuple[str, int, int], subject: str, words: str
) -> None:
    principal, older, enctype = entry
    file = tmp_path / "bad.keytab"
    keytabs.write(file, keytabs.entry(principal, _version(tmp_path / "own.keytab") - older, enctype)).chmod(0o600)
    assert (await report(write(keytab=str(file)))).only("fail", subject, words) == ["ticket"]


async def test_check_reports_a_keytab_with_an_old_key_of_the_same_version(write: Write, tmp_path: Path) -> None:
    """The version is right and the key is not: only a ticket shows that."""
    file = tmp_path / "bad.keytab"
    keytabs.write(file, keytabs.entry(f"HTTP/{HOST}", _version(tmp_path / "own.keytab"))).chmod(0o600)
    assert (await report(write(keytab=str(file)))).only("fail", "ticket", f"for HTTP/{HOST}: Kerberos:") == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"no keytab", "not a keytab"),
        (b"\x05\x02\0\0\0\x40short", "in the middle of an entry"),
        (None, "cannot be read"),
    ],
)
async def test_check_reports_an_unreadable_keytab(
    write: Write, tmp_path: Path, content: bytes | None, fault: str
) -> None:
    file = tmp_path / "bad.keytab"
    if content is not None:
        file.write_bytes(content)
    assert (await report(write(keytab=str(file)))).only("fail", "keytab", fault, "export") == ["ticket"]


async def test_check_reports_a_missing_kerberos_library(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calgate_negotiate.kerberos", None)
    words = ("python-gssapi cannot be imported", "pip install -r deploy/requirements-kerberos.txt")
    assert (await report(write())).only("fail", "keytab", *words) == ["ticket"]


async def test_check_warns_about_a_world_readable_keytab(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own.keytab").chmod(0o644)
    assert (await report(write())).only("warn", "keytab", "chmod o= ") == []


async def test_check_warns_about_rc4_keys(write: Write, tmp_path: Path) -> None:
    own = tmp_path / "own.keytab"
    rc4 = keytabs.entry(f"HTTP/{HOST}", _version(own), keytabs.RC4)
    own.write_bytes(own.read_bytes() + rc4)
    assert (await report(write())).only("warn", "keytab", "RC4 is obsolete") == []


# ---------------------------------------------------------------- SPNs


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


async def test_check_reports_a_duplicate_spn(domain: Lab, write: Write) -> None:
    """Samba refuses to create a duplicate, as Windows has since 2012 R2; older duplicates still exist."""
    partition = domain.folder / "dc/private/sam.ldb.d/DC=CORP,DC=EXAMPLE,DC=TEST.ldb"
    change = f"dn: CN=bob,CN=Users,{BASE}\nchangetype: modify\nadd: servicePrincipalName\n"
    run("ldbmodify", "-H", str(partition), stdin=f"{change}servicePrincipalName: HTTP/{HOST}\n")
    try:
        found = await report(write())
        assert found.only("fail", "SPN", "is held by bob, gateway, so the KDC issues no ticket") == ["ticket"]
    finally:
        domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "bob")


async def test_check_reports_a_missing_spn(domain: Lab, write: Write) -> None:
    domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "gateway")
    try:
        assert (await report(write())).only("fail", "SPN", f"setspn -S HTTP/{HOST} ACCOUNT") == ["ticket"]
    finally:
        domain.samba_tool("spn", "add", f"HTTP/{HOST}", "gateway")


async def test_check_reports_a_service_account_without_aes(domain: Lab, write: Write) -> None:
    _encryption_types(domain, "gateway", 4)
    try:
        assert (await report(write())).only("fail", "SPN", "does not allow AES → allow AES for the account") == [
            "ticket"
        ]
    finally:
        _encryption_types(domain, "gateway", 24)


async def test_check_reports_a_disabled_service_account(
    domain: Lab, write: Write, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostbyaddr", lambda address: (OLD_HOST, [], [address]))
    domain.samba_tool("user", "disable", other.name)
    file = _also_for(write(keytab=str(other.keytab)), OLD_HOST)
    assert (await report(file)).only("fail", "SPN", "is disabled → enable the account") == ["ticket"]


# ---------------------------------------------------------------- names, clocks, tickets


async def test_check_reports_a_host_that_is_not_in_the_dns(write: Write) -> None:
    found = await report(_also_for(write(), f"nowhere.{DOMAIN}"))
    assert found.only("fail", "DNS", "add it to the DNS") == ["SPN", "ticket"]


async def test_check_warns_about_another_name_of_the_address(write: Write, other: Other) -> None:
    """Both names have the same address; the lab's hosts file lists the gateway's first."""
    found = await report(_also_for(write(keytab=str(other.keytab)), OLD_HOST))
    assert found.only("warn", "DNS", f"whose name is {HOST}", f"hold HTTP/{HOST} too, or correct the PTR") == []


async def test_check_reports_unreachable_kdcs(
    domain: Lab, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "krb5.conf"
    settings.write_text((domain.folder / "krb5.conf").read_text().replace("127.0.0.53:88", "127.0.0.53:1"))
    monkeypatch.setenv("KRB5_CONFIG", str(settings))
    assert (await report(write())).only("fail", "ticket", "the KDC gives no ticket", "krb5.conf") == []


async def test_check_reports_a_wrong_password_of_the_trial_user(write: Write) -> None:
    assert (await report(write(), ("carol", "wrong"))).only("fail", "ticket", "check the name and the password") == []


@pytest.mark.parametrize(
    ("ahead", "level", "expected"),
    [
        (0, "ok", "agrees"),
        (90, "warn", "9[01] s ahead of the domain controller"),
        (-600, "fail", "(599|600) s behind the domain controller: no ticket is accepted"),
        (600, "fail", "60[01] s ahead of the domain controller: no ticket is accepted"),
    ],
)
async def test_check_reports_a_clock_that_differs_from_the_domains(
    write: Write, ahead: float, level: str, expected: str
) -> None:
    """The directory is real, this machine's clock is not. A domain controller returns whole seconds."""
    settings = config.read(write())
    section = settings.plugins["negotiate"]
    assert isinstance(section, Config)
    async with open_services(settings) as (_, plugins):
        assert isinstance(plugins.services.directory, Directories)
        (registry,) = plugins.services.directory.members
        assert isinstance(registry, DomainInfo)
        context = CheckContext(plugins.services, (HOST,), registry, ALICE, now=lambda: time.time() + ahead)
        found = [finding async for finding in check_negotiate(section, context)]
    (clock,) = [finding for finding in found if finding.subject == "clock"]
    assert (clock.level, "chrony" in clock.remedy) == (level, level != "ok")
    assert re.search(expected, clock.what)
    assert [f for f in found if f is not clock and f.level in ("warn", "fail")] == []
    assert [f.subject for f in found if f.level == "untried"] == (["ticket"] if level == "fail" else [])
