"""`calgate check` of NTLM, the guard and the binding certificate: each breakage gives its own line and no other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calgate.plugin.checks import CheckContext
from calgate_negotiate import winbind
from calgate_negotiate.check import check as check_negotiate
from calgate_negotiate.settings import Config
from support.certificates import Authority
from support.check_settings import WISE_GUARD, Told, Write, told, write
from support.domain import HOST, Lab

__all__ = ["write"]  # a fixture

NOBODY = 65_534


async def test_a_winbindd_that_is_stopped_is_told(domain: Lab, write: Write) -> None:
    domain.do("winbindd", "stop")
    try:
        assert (await told(write())).only("fail", "winbindd", "systemctl start winbind") == []
    finally:
        domain.do("winbindd", "start")


async def test_a_machine_that_the_domain_no_longer_trusts_is_told(domain: Lab, write: Write) -> None:
    domain.samba_tool("user", "disable", "GWHOST$")
    try:
        said = await told(write())
        assert said.only("fail", "winbindd", "the domain does not trust this machine", "net ads join") == []
    finally:
        domain.samba_tool("user", "enable", "GWHOST$")
        domain.do("winbindd", "stop")
        domain.do("winbindd", "start")


@contextmanager
def _as_nobody() -> Iterator[None]:
    """This process's rights are those of a user who is in no group."""
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


async def _ntlm_alone() -> Told:
    survey = CheckContext(services=None, hosts=())  # type: ignore[arg-type]
    return Told([finding async for finding in check_negotiate(Config(ntlm="domain"), survey)])


async def test_a_gateway_that_may_not_use_winbindds_privileged_pipe_is_told() -> None:
    with _as_nobody():
        said = await _ntlm_alone()
    assert said.only("fail", "winbindd", "may the gateway's user use its pipe", "add the gateway's user to") == []


async def test_a_winbindd_that_finds_no_domain_controller_is_told_where_no_directory_tells_it(domain: Lab) -> None:
    domain.do("dc", "stop")
    try:
        said = await _ntlm_alone()
    finally:
        domain.do("dc", "start")
    assert said.only("fail", "winbindd", "no domain controller answers it", "wbinfo --ping-dc") == []


async def test_winbinds_library_that_is_not_installed_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winbind, "LIBRARY", "libnowhere.so.0")
    assert (await told(write())).only("fail", "winbindd", "install winbind and join this machine") == []


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ("account = { failures = 5 }", "failures = 4"),
        ("account = { failures = 4 }", 'within = "30m", wait = "30m"'),
    ],
)
async def test_a_guard_that_is_laxer_than_the_domain_is_warned_about(write: Write, guard: str, words: str) -> None:
    assert (await told(write(negotiate=f'ntlm = "domain"\n[negotiate.guard]\n{guard}'))).only(
        "warn", "guard", words
    ) == []


# ---------------------------------------------------------------- channel binding


def _bound_to(file: Path) -> str:
    return f'ntlm = "domain"\nbinding_certificate = "{file}"\n{WISE_GUARD}'


async def test_a_terminators_certificate_for_another_name_is_warned_about(write: Write, tmp_path: Path) -> None:
    other = Authority(tmp_path).sign("other.example").certificate
    said = await told(write(negotiate=_bound_to(other)))
    assert said.only("warn", "binding certificate", f"is not for {HOST}") == []


async def test_a_terminators_certificate_that_has_expired_is_told(write: Write, tmp_path: Path) -> None:
    old = Authority(tmp_path, days=0).sign(HOST).certificate
    said = await told(write(negotiate=_bound_to(old)))
    assert said.only("fail", "binding certificate", "has expired", "copy the terminator's") == []


async def test_a_terminators_certificate_that_is_none_is_told(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    said = await told(write(negotiate=_bound_to(tmp_path / "empty.pem")))
    assert said.only("fail", "binding certificate", "is not a certificate", "give the terminator's, as PEM") == []
