"""`calgate check` of `[password]` on a real domain: its KDCs, a keytab of its own, and a sign-in."""

from pathlib import Path

import pytest

from calgate_negotiate.keytab import read
from support import keytabs
from support.check_settings import STRICT_GUARD, Write, findings, report, write
from support.domain import DOMAIN, HOST, Lab

__all__ = ["write"]  # a fixture

REALM = DOMAIN.upper()
OFFERED = f'ntlm = "domain"\nntlm_from = ["10.0.0.0/8"]\noffer_to = ["10.0.0.0/8"]\n{STRICT_GUARD}'


@pytest.fixture
def protected(domain: Lab, write: Write) -> Write:
    """Writes settings with TLS and the form, which no dialog of a browser precedes."""
    tls = domain.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'

    def make(password: str = "", **more: str) -> Path:
        return write(**{"listen": listen, "negotiate": OFFERED, "password": f"[password]\n{password}"} | more)

    return make


async def test_check_of_a_healthy_form_has_no_warning_and_names_its_kdc(protected: Write) -> None:
    found = await findings(protected())
    assert [one for one in found if one.level != "ok"] == []
    assert [one.what for one in found if one.subject == f"KDC of {REALM}"] == ["it responds"]


async def test_check_signs_in_by_the_forms_own_keytab(protected: Write, domain: Lab) -> None:
    (found,) = [one for one in await findings(protected(f'keytab = "{domain.keytab}"')) if one.subject == "password"]
    assert (found.level, "accepted from end to end: CORP\\alice" in found.what) == ("ok", True)


async def test_check_reports_a_keytab_that_the_kdc_does_not_know(protected: Write, tmp_path: Path) -> None:
    version = max(key.version for key in read(tmp_path / "own.keytab"))
    file = keytabs.write(tmp_path / "other.keytab", keytabs.entry(f"HTTP/{HOST}", version))
    file.chmod(0o600)
    text = "a KDC that does not know the key in the keytab accepted corp\\alice"
    assert (await report(protected(f'keytab = "{file}"'))).only("fail", "password", text) == []
    file.write_bytes(b"")
    assert (await report(protected(f'keytab = "{file}"'))).only("fail", "keytab", "not a keytab") == ["password"]


async def test_check_reports_a_realm_without_a_kdc(protected: Write, domain: Lab) -> None:
    realms = f'keytab = "{domain.keytab}"\nrealms = {{ CORP = "{REALM}", LOST = "LOST.EXAMPLE" }}'
    found = await report(protected(realms))
    assert found.only("fail", "KDC of LOST.EXAMPLE", "open the firewall to port 88") == ["password"]


async def test_check_leaves_the_kdc_untried_where_the_domain_controller_is_away(protected: Write, domain: Lab) -> None:
    domain.do("dc", "stop")
    try:
        found = await report(protected())
    finally:
        domain.do("dc", "start")
    assert [one.level for one in found.wrong] == ["fail"]
    assert f"KDC of {REALM}" in found.untried
