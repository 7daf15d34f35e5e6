"""`calgate config init`: domain controllers from the DNS, a first file without faults, and the remaining steps."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calgate import config
from calgate.cli import main
from support.dns_server import dns_server

DOMAIN = {
    "_ldap._tcp.dc._msdcs.corp.example": [
        "10 0 389 far.corp.example.",
        "0 10 389 dc1.corp.example.",
        "0 90 389 DC2.corp.example.",
    ],
    "_kerberos._tcp.corp.example": ["0 100 88 dc1.corp.example."],
    "_ldap._tcp.dc._msdcs.bare.example": ["0 100 389 dc.bare.example."],
}
OPTIONS = (
    *("--host", "bi.corp.example", "--upstreams", "http://qv1.corp.example http://qv2.corp.example/"),
    *("--group", "CORP\\Analysts", "--reader", "svc@corp.example", "--named", "5", "--session", "2"),
)
ANSWERS = "BI.corp.example\nqv1\nhttp://qv1\nCORP\\Analysts\nsvc@corp.example\n0\n2\n"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def dns() -> Iterator[str]:
    with dns_server(DOMAIN) as address:
        yield address


def init(dns: str, folder: Path, *words: str, domain: str = "corp.example", answers: str | None = None) -> Result:
    file = folder / "calgate.toml"
    return CliRunner().invoke(main, ["config", "init", domain, "--dns", dns, "-c", str(file), *words], input=answers)


def test_file_has_no_fault_once_the_steps_that_remain_are_done(dns: str, tmp_path: Path) -> None:
    done = init(dns, tmp_path, *OPTIONS)
    assert done.exit_code == 0, done.output
    file = tmp_path / "calgate.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    for name in ("bi.corp.example.pem", "bi.corp.example.key", "http.keytab", "ad-ca.pem", "ldap.secret"):
        assert str(tmp_path / name) in done.output
        (tmp_path / name).write_text("x", encoding="utf-8")
    settings = config.read(file)
    text = file.read_text(encoding="utf-8")
    assert 'servers = ["ldaps://dc2.corp.example", "ldaps://dc1.corp.example", "ldaps://far.corp.example"]' in text
    assert 'base = "DC=corp,DC=example"' in text
    assert [str(upstream) for upstream in settings.core.routes[0].upstreams] == [
        "http://qv1.corp.example",
        "http://qv2.corp.example",
    ]
    assert "HTTP/bi.corp.example@CORP.EXAMPLE" in done.output
    assert "default_realm = CORP.EXAMPLE and rdns = false" in done.output
    assert "its KDC" not in done.output, "the DNS names one"
    assert "chgrp calgate bi.corp.example.pem bi.corp.example.key http.keytab ad-ca.pem ldap.secret &&" in done.output
    assert "/*" not in done.output, "a pattern would change files that are not the gateway's"
    assert "enforce = false" in text, "a first file denies nobody for lack of a CAL"
    assert f"calgate check -c {file}" in done.output


def test_what_no_option_gives_is_asked_for_until_it_can_be_right(dns: str, tmp_path: Path) -> None:
    done = init(dns, tmp_path, answers=ANSWERS)
    assert done.exit_code == 0, done.output
    assert "'qv1' is not the address of a server" in done.output
    text = (tmp_path / "calgate.toml").read_text(encoding="utf-8")
    assert 'host = "bi.corp.example"' in text
    assert "[licenses.qlikview.session]\nin_license = 2" in text
    assert "named" not in text


def test_step_whose_file_is_there_is_done(dns: str, tmp_path: Path) -> None:
    (tmp_path / "http.keytab").write_text("x", encoding="utf-8")
    done = init(dns, tmp_path, *OPTIONS, domain="bare.example")
    assert "a keytab with the keys of HTTP/bi.corp.example: done" in done.output
    assert "the DNS has no SRV record _kerberos._tcp.bare.example" in done.output


def test_existing_file_is_never_replaced(dns: str, tmp_path: Path) -> None:
    file = tmp_path / "calgate.toml"
    file.write_text("mine", encoding="utf-8")
    done = init(dns, tmp_path, *OPTIONS)
    assert (done.exit_code, file.read_text(encoding="utf-8")) == (1, "mine")
    assert "never replaced" in done.output


def test_folder_that_is_not_there_is_told_before_anything_is_asked(dns: str, tmp_path: Path) -> None:
    done = init(dns, tmp_path / "new", answers="")
    assert (done.exit_code, "bar" in done.output) == (1, False)
    assert f"there is no folder {tmp_path}/new; make it, or give another file with -c" in done.output


def test_folder_that_cannot_be_written_is_told_before_anything_is_asked(
    dns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests run as root
    done = init(dns, tmp_path, answers="")
    assert (done.exit_code, "bar" in done.output) == (1, False)
    assert f"this user cannot write into {tmp_path}; run the command as root" in done.output


def test_without_a_terminal_the_options_are_named(dns: str, tmp_path: Path) -> None:
    done = init(dns, tmp_path, "--host", "bi.corp.example", answers="")
    assert done.exit_code == 1
    assert "there is no terminal to ask on" in done.output
    assert "--upstreams, --group, --reader, --named and --session" in done.output
    assert list(tmp_path.iterdir()) == []


def test_dangling_link_is_not_written_through(dns: str, tmp_path: Path) -> None:
    (tmp_path / "calgate.toml").symlink_to(tmp_path / "elsewhere")
    assert init(dns, tmp_path, *OPTIONS).exit_code == 1
    assert not (tmp_path / "elsewhere").exists()


def test_domain_without_domain_controllers_leaves_no_file(dns: str, tmp_path: Path) -> None:
    done = init(dns, tmp_path, *OPTIONS, domain="nowhere.example")
    assert done.exit_code == 1
    assert "no SRV record _ldap._tcp.dc._msdcs.nowhere.example" in done.output
    assert list(tmp_path.iterdir()) == []


def test_dns_server_that_does_not_respond_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calgate.commands.domain_dns._WITHIN", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        done = init(f"127.0.0.1:{silent.getsockname()[1]}", tmp_path, *OPTIONS)
    assert done.exit_code == 1
    assert "no DNS server responds" in done.output


@pytest.mark.parametrize("domain", ["corp", "10.0.0.1", "corp..example", "corp.example/x", "-c"])
def test_word_that_is_no_domain_is_refused(dns: str, tmp_path: Path, domain: str) -> None:
    assert init(dns, tmp_path, *OPTIONS, domain=domain).exit_code == 2
