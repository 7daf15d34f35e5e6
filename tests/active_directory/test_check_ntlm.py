"""`calgate check` of NTLM, the guard and the binding certificate: each fault has one line and no other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calgate.plugin.checks import CheckContext
from calgate_negotiate import wbclient
from calgate_negotiate.check import check as check_negotiate
from calgate_negotiate.settings import Config
from support.certificates import Authority
from support.check_settings import STRICT_GUARD, Report, Write, report, write
from support.domain import HOST, Lab

__all__ = ["write"]  # a fixture

NOBODY = 65_534


async def test_check_reports_a_stopped_winbindd(domain: Lab, write: Write) -> None:
    domain.do("winbindd", "stop")
    try:
        assert (await report(write())).only("fail", "winbindd", "systemctl start winbind") == []
    finally:
        domain.do("winbindd", "start")


async def test_check_reports_a_broken_trust(domain: Lab, write: Write) -> None:
    domain.samba_tool("user", "disable", "GWHOST$")
    try:
        found = await report(write())
        assert found.only("fail", "winbindd", "the domain does not trust this machine", "net ads join") == []
    finally:
        domain.samba_tool("user", "enable", "GWHOST$")
        domain.do("winbindd", "stop")
        domain.do("winbindd", "start")


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Runs with the rights of a user in no group."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


async def _ntlm_alone() -> Report:
    context = CheckContext(services=None, hosts=())  # type: ignore[arg-type]
    return Report([finding async for finding in check_negotiate(Config(ntlm="domain"), context)])


async def test_check_reports_a_gateway_without_access_to_the_privileged_pipe() -> None:
    with _as_nobody():
        found = await _ntlm_alone()
    assert (
        found.only("fail", "winbindd", "that the gateway's user is in winbindd_priv", "add the gateway's user to") == []
    )


async def test_check_reports_a_winbindd_without_a_domain_controller(domain: Lab) -> None:
    domain.do("dc", "stop")
    try:
        found = await _ntlm_alone()
    finally:
        domain.do("dc", "start")
    assert found.only("fail", "winbindd", "no domain controller responds to it", "wbinfo --ping-dc") == []


async def test_check_reports_a_missing_winbind_library(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wbclient, "LIBRARY", "libnowhere.so.0")
    assert (await report(write())).only("fail", "winbindd", "install winbind and join the domain") == []


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ("account = { failures = 5 }", "failures = 4"),
        ("account = { failures = 4 }", 'within = "30m", wait = "30m"'),
    ],
)
async def test_check_warns_about_a_guard_laxer_than_the_domain(write: Write, guard: str, words: str) -> None:
    assert (await report(write(negotiate=f'ntlm = "domain"\n[negotiate.guard]\n{guard}'))).only(
        "warn", "guard", words
    ) == []


# ---------------------------------------------------------------- channel binding


def _bound_to(file: Path) -> str:
    return f'ntlm = "domain"\nbinding_certificate = "{file}"\n{STRICT_GUARD}'


async def test_check_warns_about_a_binding_certificate_for_another_name(write: Write, tmp_path: Path) -> None:
    other = Authority(tmp_path).sign("other.example").certificate
    found = await report(write(negotiate=_bound_to(other)))
    assert found.only("warn", "binding certificate", f"is not for {HOST}") == []


async def test_check_reports_an_expired_binding_certificate(write: Write, tmp_path: Path) -> None:
    old = Authority(tmp_path, days=0).sign(HOST).certificate
    found = await report(write(negotiate=_bound_to(old)))
    assert found.only("fail", "binding certificate", "has expired", "copy the TLS terminator's") == []


async def test_check_reports_an_unreadable_binding_certificate(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    found = await report(write(negotiate=_bound_to(tmp_path / "empty.pem")))
    assert (
        found.only(
            "fail", "binding certificate", "is not a certificate", "give the TLS terminator's certificate, as PEM"
        )
        == []
    )
