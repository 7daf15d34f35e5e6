"""`calgate check` on the real domain: a healthy one gives no warning, each breakage its own line and no other."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import calgate_ldap
import keytabs
from calgate import check as checking
from calgate import config
from calgate.contract import Finding, Registry, Survey
from calgate.desk import opened
from calgate.plugins import Directories
from calgate_negotiate.check import check as check_negotiate
from calgate_negotiate.settings import Config
from certificates import Authority
from domain.front import SETTINGS
from lab import BASE, DOMAIN, HOST, PASSWORD, SERVICE_PASSWORD, Lab, run
from whole.rig import calgate, document_server

WISE_GUARD = '[negotiate.guard]\naccount = { failures = 4, within = "31m", wait = "31m" }'
Write = Callable[..., Path]


@pytest_asyncio.fixture
async def write(domain: Lab, tmp_path: Path) -> AsyncIterator[Write]:
    """Settings of a gateway that has all there is, in front of a document server that answers."""
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
                "negotiate": f'ntlm = "domain"\n{WISE_GUARD}',
                "servers": f'"ldaps://dc1.{DOMAIN}"',
                "ca": str(domain.ca),
                "ldap": "",
                "domain": DOMAIN,
                "base": BASE,
                "upstream": str(server.port),
            } | more
            file = tmp_path / "calgate.toml"
            file.write_text(SETTINGS.format(**values).replace('path = "/"', f'host = "{HOST}"\npath = "/"'))
            return file

        yield make


async def findings(file: Path, login: tuple[str, str] | None = None) -> list[Finding]:
    return [finding async for finding in checking.check(config.read(file), (), login)]


async def wrong(file: Path) -> list[tuple[str, str, str]]:
    """Level, subject and words of everything that is not fine."""
    return [(f.level, f.subject, f"{f.what} → {f.remedy}") for f in await findings(file) if f.level in ("warn", "fail")]


async def test_a_healthy_domain_gives_no_warning_and_a_ticket_is_taken_from_end_to_end(write: Write) -> None:
    found = await findings(write(), ("alice", PASSWORD))
    assert [f for f in found if f.level != "ok"] == []
    told = {f.subject: f.what for f in found}
    assert {"keytab", "clock", "DNS", "SPN", "ticket", "winbindd", "guard", "groups", "access", "store"} <= set(told)
    assert "CORP\\alice" in told["ticket"]
    assert f"HTTP/{HOST} is held by gateway" in told["SPN"]


async def test_the_command_prints_a_table_or_json_and_exits_1_when_something_fails(write: Write) -> None:
    file = write()
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    assert (code, errors) == (0, "")
    assert {row["level"] for row in json.loads(out)} <= {"ok", "note"}
    code, out, _ = await calgate("check", "-c", str(write(upstream="1")))
    assert code == 1
    assert "FAILS" in out
    assert "start the document server" in out


def _version(keytab: Path) -> int:
    return max(int(line.split()[0]) for line in run("klist", "-k", str(keytab)).splitlines() if HOST in line)


@pytest.mark.parametrize(
    ("entry", "level", "subject", "told"),
    [
        ((f"HTTP/{HOST}", 1, keytabs.AES256), "fail", "SPN", "export the keytab anew"),
        ((f"HTTP/{HOST}", 0, keytabs.RC4), "fail", "keytab", "only rc4 → allow AES for the account that holds the SPN"),
        ((f"host/{HOST}", 0, keytabs.AES256), "fail", "keytab", "holds no HTTP/ key, but host/"),
    ],
)
async def test_a_keytab_that_does_not_fit_is_told(
    write: Write, tmp_path: Path, entry: tuple[str, int, int], level: str, subject: str, told: str
) -> None:
    principal, older, enctype = entry
    file = tmp_path / "bad.keytab"
    keytabs.write(file, keytabs.entry(principal, _version(tmp_path / "own.keytab") - older, enctype)).chmod(0o600)
    first, *others = await wrong(write(keytab=str(file)))
    assert first[:2] == (level, subject)
    assert told in first[2]
    assert [other[1] for other in others] in ([], ["SPN"] if subject == "keytab" and "no HTTP" in first[2] else [])


async def test_a_keytab_that_everybody_may_read_is_warned_about(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own.keytab").chmod(0o644)
    (found,) = await wrong(write())
    assert found[:2] == ("warn", "keytab")
    assert "chmod o= " in found[2]


async def test_rc4_beside_aes_is_warned_about(write: Write, tmp_path: Path) -> None:
    own = tmp_path / "own.keytab"
    rc4 = keytabs.entry(f"HTTP/{HOST}", _version(own), keytabs.RC4)
    own.write_bytes(own.read_bytes() + rc4)
    (found,) = await wrong(write())
    assert found[:2] == ("warn", "keytab")
    assert "RC4 is at its end" in found[2]


async def test_an_spn_that_two_accounts_hold_is_told(domain: Lab, write: Write) -> None:
    """Samba refuses to make a duplicate, as Windows has done since 2012 R2; older ones are still about."""
    partition = domain.folder / "dc/private/sam.ldb.d/DC=CORP,DC=EXAMPLE,DC=TEST.ldb"
    change = f"dn: CN=bob,CN=Users,{BASE}\nchangetype: modify\nadd: servicePrincipalName\n"
    run("ldbmodify", "-H", str(partition), stdin=f"{change}servicePrincipalName: HTTP/{HOST}\n")
    try:
        (found,) = await wrong(write())
        assert found[:2] == ("fail", "SPN")
        assert "is held by bob, gateway: the KDC gives no ticket then" in found[2]
    finally:
        domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "bob")


async def test_an_spn_that_nobody_holds_is_told(domain: Lab, write: Write) -> None:
    domain.samba_tool("spn", "delete", f"HTTP/{HOST}", "gateway")
    try:
        (found,) = await wrong(write())
        assert found[:2] == ("fail", "SPN")
        assert f"setspn -S HTTP/{HOST} ACCOUNT" in found[2]
    finally:
        domain.samba_tool("spn", "add", f"HTTP/{HOST}", "gateway")


async def test_a_host_that_is_not_in_the_dns_is_told(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace(f'host = "{HOST}"', f'host = "nowhere.{DOMAIN}"'))
    found = await wrong(file)
    assert {one[1] for one in found} == {"DNS", "SPN"}
    assert "add it to the DNS" in found[0][2]


async def test_a_certificate_of_another_authority_is_told(write: Write, tmp_path: Path) -> None:
    found = await wrong(write(ca=str(Authority(tmp_path, "Another CA").file)))
    assert found[0][:2] == ("fail", f"ldaps://dc1.{DOMAIN}:636")
    assert "check ldap.ca" in found[0][2]
    assert all("certificate is not accepted" in one[2] for one in found)


async def test_a_wrong_password_of_ours_is_told_and_tried_once(domain: Lab, write: Write, tmp_path: Path) -> None:
    file = write()
    (tmp_path / "secret").write_text("wrong")
    section = config.read(file).plugins["ldap"]
    assert isinstance(section, calgate_ldap.Config)
    survey = Survey(services=None, hosts=())  # type: ignore[arg-type]
    (found,) = [finding async for finding in calgate_ldap.check(section, survey)]
    assert found.level == "fail"
    assert "refuses ldap.bind's user or password" in found.what


async def test_a_winbindd_that_is_stopped_is_told(domain: Lab, write: Write) -> None:
    domain.do("winbindd", "stop")
    try:
        (found,) = await wrong(write())
        assert found[:2] == ("fail", "winbindd")
        assert "systemctl start winbind" in found[2]
    finally:
        domain.do("winbindd", "start")


async def test_a_guard_that_is_laxer_than_the_domain_is_warned_about(write: Write) -> None:
    for guard, told in (
        ("account = { failures = 5 }", "failures = 4"),
        ("account = { failures = 4 }", 'within = "30m", wait = "30m"'),
    ):
        (found,) = await wrong(write(negotiate=f'ntlm = "domain"\n[negotiate.guard]\n{guard}'))
        assert found[:2] == ("warn", "guard")
        assert told in found[2]


async def test_a_terminators_certificate_for_another_name_is_warned_about(write: Write, tmp_path: Path) -> None:
    other = Authority(tmp_path).sign("other.example").certificate
    negotiate = f'ntlm = "domain"\nbinding_certificate = "{other}"\n{WISE_GUARD}'
    (found,) = await wrong(write(negotiate=negotiate))
    assert found[:2] == ("warn", "binding certificate")
    assert f"is not for {HOST}" in found[2]


async def test_our_certificate_for_another_name_is_told(write: Write, tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("other.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    (found,) = await wrong(write(listen=tls))
    assert found[:2] == ("fail", "certificate")


async def test_a_group_that_is_not_there_is_told(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace("app-users", "ap-users"))
    (found,) = await wrong(file)
    assert found[:2] == ("fail", "access")
    assert "no directory has the group CORP\\ap-users" in found[2]


async def test_a_document_server_that_is_off_is_told(write: Write) -> None:
    (found,) = await wrong(write(upstream="1"))
    assert found[:2] == ("fail", "http://127.0.0.1:1")


async def test_a_store_that_is_off_is_told(write: Write, tmp_path: Path) -> None:
    found = await wrong(write(store=f'url = "unix://{tmp_path}/nowhere"'))
    assert [one[:2] for one in found] == [("fail", "store")]


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
    async with opened(settings) as (_, cast):
        assert isinstance(cast.services.directory, Directories)
        (registry,) = cast.services.directory.members
        assert isinstance(registry, Registry)
        survey = Survey(cast.services, (HOST,), registry, now=lambda: time.time() + ahead)
        found = [finding async for finding in check_negotiate(section, survey)]
    (clock,) = [finding for finding in found if finding.subject == "clock"]
    assert (clock.level, "chrony" in clock.remedy) == (level, level != "ok")
    assert re.search(told, clock.what)
    assert [f for f in found if f is not clock and f.level in ("warn", "fail")] == []
