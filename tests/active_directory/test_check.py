"""`calgate check` on the real domain: a healthy one gives no warning, each breakage its own line and no other."""

import json
from pathlib import Path

import pytest

from calgate import config
from calgate.commands import checks as checking
from support.certificates import Authority
from support.check_settings import ALICE, LDAPS, Told, Write, findings, told, write
from support.domain import DOMAIN, HOST, PASSWORD, Lab
from support.gateway_process import calgate
from support.ports import free_port

__all__ = ["write"]  # a fixture


async def test_a_healthy_domain_gives_no_warning_and_a_ticket_is_taken_from_end_to_end(write: Write) -> None:
    found = await findings(write())
    assert [f for f in found if f.level != "ok"] == []
    told = {f.subject: f.what for f in found}
    assert {"keytab", "clock", "DNS", "SPN", "ticket", "winbindd", "guard", "groups", "access", "store"} <= set(told)
    assert "CORP\\alice" in told["ticket"]
    assert f"HTTP/{HOST} is held by gateway" in told["SPN"]


async def test_what_was_not_asked_for_is_a_note_and_no_warning(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace(f'host = "{HOST}"\n', ""))
    found = await findings(file, None)
    assert [(f.level, f.subject, f.remedy) for f in found if f.level != "ok"] == [
        ("note", "SPN", "give --host NAME"),
        ("note", "ticket", "give --as USER to try one from end to end"),
    ]


async def test_the_command_prints_a_table_or_json_and_exits_1_when_something_fails(write: Write) -> None:
    file = write()
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    assert (code, errors) == (0, "")
    assert {row["level"] for row in json.loads(out)} <= {"ok", "note"}
    code, out, _ = await calgate("check", "-c", str(write(upstream="1")))
    assert code == 1
    assert "FAILS" in out
    assert "start the document server" in out


async def test_what_was_left_untried_is_no_failure_of_its_own_in_json_and_has_its_mark_in_the_table(
    write: Write, tmp_path: Path
) -> None:
    file = write(ca=str(Authority(tmp_path, "Another CA").file))
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    assert (code, errors) == (1, "")
    levels = [row["level"] for row in json.loads(out)]
    assert (levels.count("fail"), levels.count("untried"), levels.count("warn")) == (1, 4, 0)
    code, out, _ = await calgate("check", "-c", str(file))
    assert (code, out.count("FAILS"), out.count("not tried")) == (1, 1, 4)


# ---------------------------------------------------------------- the directory

_WITHOUT_DIRECTORY = ["clock", "SPN", "ticket", "guard", "access"]


async def test_a_certificate_of_another_authority_is_told(write: Write, tmp_path: Path) -> None:
    said = await told(write(ca=str(Authority(tmp_path, "Another CA").file)))
    assert said.only("fail", f"{LDAPS}:636", "certificate is not accepted", "check ldap.ca") == _WITHOUT_DIRECTORY


async def test_what_is_wrong_with_every_server_alike_is_told_once(write: Write, tmp_path: Path) -> None:
    """By name and by address it is the same server here, and either stands in its certificate."""
    by_address = "ldaps://127.0.0.53"
    said = await told(write(servers=f'"{LDAPS}", "{by_address}"', ca=str(Authority(tmp_path, "Another CA").file)))
    assert said.only("fail", f"{LDAPS}:636, {by_address}:636", "check ldap.ca") == _WITHOUT_DIRECTORY


async def test_a_file_that_holds_no_authority_is_told(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    assert (await told(write(ca=str(tmp_path / "empty.pem")))).only("fail", "start", "give the CA's certificate") == []


async def test_a_domain_controller_that_is_off_is_told_once_though_all_depends_on_it(domain: Lab, write: Write) -> None:
    domain.do("dc", "stop")
    try:
        said = await told(write())
    finally:
        domain.do("dc", "start")
    untried = said.only("fail", f"{LDAPS}:636", "check the name, the port, and the firewall")
    assert untried == ["clock", "SPN", "ticket", "winbindd", "guard", "access"]


async def test_a_domain_controller_that_goes_off_while_it_is_asked_is_told_once(domain: Lab, write: Write) -> None:
    found = []
    try:
        async for finding in checking.check(config.read(write()), (), ALICE):
            found.append(finding)
            if finding.subject == "keytab":  # the directory has been found well, and is compared with next
                domain.do("dc", "stop")
    finally:
        domain.do("dc", "start")
    said = Told(found)
    untried = said.only(
        "fail", "directory", "no longer answers, asked about clock", "look after the domain controllers"
    )
    assert untried == ["SPN", "ticket", "winbindd", "guard", "access"]


async def test_one_server_of_two_that_is_off_is_told_and_the_other_is_asked(write: Write) -> None:
    off = f"ldaps://dc1.{DOMAIN}:{free_port()}"
    said = await told(write(servers=f'"{off}", "{LDAPS}"'))
    assert said.only("fail", off, "check the name, the port, and the firewall") == []


async def test_a_base_that_is_no_domain_is_told(write: Write) -> None:
    said = await told(write(base="OU=nowhere,DC=corp,DC=example,DC=test"))
    assert said.only("fail", f"{LDAPS}:636", "is not a domain's DN") == _WITHOUT_DIRECTORY


async def test_a_wrong_password_of_ours_is_told_and_tried_once(domain: Lab, write: Write, tmp_path: Path) -> None:
    file = write()
    (tmp_path / "secret").write_text("wrong")
    said = await told(file)
    assert said.only("fail", f"{LDAPS}:636", "refuses ldap.bind's user or password") == _WITHOUT_DIRECTORY
    assert "badPwdCount: 1\n" in domain.samba_tool("user", "show", "gateway", "--attributes=badPwdCount")


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (("disabled", PASSWORD), "is disabled → look at the account"),
        (("nobody", PASSWORD), "is not found below"),
    ],
)
async def test_somebody_who_may_not_or_cannot_sign_in_is_told(write: Write, login: tuple[str, str], words: str) -> None:
    assert (await told(write(), login)).only("fail", "groups", words) == ["ticket"]


async def test_a_group_that_is_not_there_is_told(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace("app-users", "ap-users"))
    assert (await told(file)).only("fail", "access", "no directory has the group CORP\\ap-users") == []


# ---------------------------------------------------------------- the rest of the file


async def test_our_certificate_for_another_name_is_told(write: Write, tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("other.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    assert (await told(write(listen=tls))).only("fail", "certificate", f"is not for {HOST}") == []


async def test_a_document_server_that_is_off_is_told(write: Write) -> None:
    assert (await told(write(upstream="1"))).only("fail", "http://127.0.0.1:1", "start the document server") == []


async def test_a_store_that_is_off_is_told(write: Write, tmp_path: Path) -> None:
    said = await told(write(store=f'url = "unix://{tmp_path}/nowhere"'))
    assert said.only("fail", "store", "start it, or correct [store]") == []
